/* Direct convolution of groups that are smaller than a vector, in channels_last: a vector holds the output channels of
 * several groups, and what they read is as many input channels, side by side in each pixel. The loops, outermost first:
 *   a tile of pixels, whose pointers are looked up once for all channels
 *     vector of output channels: taps, input channels of the group, pixels of the tile */
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "conv/rows.h"

static bool side_by_side(const int64_t *strides) {
  return strides[1] == 1;
}

static bool applicable(const fonio_conv_problem *p) {
  int64_t lanes = kernel_table_for(p->dtype, cpu_isa_in_use())->lanes, channels = p->in_channels / p->groups;
  return p->groups > 1 && channels > 1 && p->in_channels == p->out_channels && lanes % channels == 0 &&
         p->in_channels % lanes == 0 && side_by_side(p->input_strides) && side_by_side(p->output_strides);
}

static rows_numbers numbers_of(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  int64_t taps = g->kernel_height * g->kernel_width;
  return (rows_numbers){
      .taps = taps,
      .terms = taps * g->in_channels,
      .in_channels = g->in_channels,
      .out_channels = plan->problem.out_channels,
      .panel = plan->kernels->lanes,
      .step = {1, 1},
      .stride = {g->stride[0], g->stride[1]},
  };
}

/* Moving a channel to its lanes takes two thirds of the time of its multiply-adds, a third of it beside them. */
static double cost(const fonio_conv_plan *plan) {
  rows_numbers n = numbers_of(plan);
  const fonio_conv_problem *p = &plan->problem;
  double pixels = (double)(p->out_height * p->out_width), vectors = (double)(n.out_channels / n.panel);
  double tiles = pixels / plan->kernels->rows_tile_rows, wide = plan->kernels->lanes > 8 ? 2 : 1;
  double sums = pixels * vectors * (double)n.terms / (plan->kernels->lanes > 8 ? 1.4 : 1.15);
  return sums + tiles * vectors * (12 + 4 * (double)n.taps) + 3 * pixels * (double)n.taps / wide + 300;
}

/* The pointers of a tile. */
static int64_t pointer_bytes(const fonio_conv_plan *plan) {
  int64_t taps = plan->geometry.kernel_height * plan->geometry.kernel_width;
  return plan->kernels->rows_tile_rows * taps * (int64_t)sizeof(void *);
}

/* In place of the channels of a pixel that lies in the padding. */
static int64_t zero_bytes(const fonio_conv_plan *plan) {
  return conv_round_up(plan->problem.in_channels * conv_element_bytes(plan), MEMORY_ALIGNMENT);
}

static void prepare(fonio_conv_plan *plan) {
  rows_numbers n = numbers_of(plan);
  const fonio_conv_problem *p = &plan->problem;
  conv_blocks *b = &plan->blocks;
  int64_t columns = conv_even(p->out_width, 128);
  bool whole = columns == p->out_width && p->output_strides[2] == p->output_strides[3] * p->out_width;
  b->panel = n.panel;
  b->terms = n.terms;
  b->rows = whole ? conv_even_pairs(p->out_height, conv_min(p->out_height, conv_max(1, 128 / columns))) : 1;
  b->pixels = b->rows * columns;
  plan->packed_bytes = n.out_channels * n.terms * (int64_t)fonio_dtype_bytes(p->dtype);
  plan->workspace_bytes = zero_bytes(plan) + pointer_bytes(plan);
}

/* [vector of output channels][tap][input channel of the group][lane]. Returns whether all are finite. */
static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  const kernel_conv *g = &plan->geometry;
  const int64_t *strides = g->weight_strides;
  int64_t bytes = conv_element_bytes(plan), lanes = plan->kernels->lanes;
  int64_t terms = g->kernel_height * g->kernel_width * g->in_channels;
  for (int64_t k = 0; k < plan->problem.out_channels; k++) {
    const char *from =
        conv_at(weight, bytes * (k / g->out_channels * plan->weight_group_stride + k % g->out_channels * strides[0]));
    char *to = (char *)packed + bytes * (k / lanes * lanes * terms + k % lanes);
    for (int64_t r = 0; r < g->kernel_height; r++)
      for (int64_t s = 0; s < g->kernel_width; s++)
        for (int64_t c = 0; c < g->in_channels; c++, to += bytes * lanes)
          memcpy(to, from + bytes * (c * strides[1] + r * strides[2] + s * strides[3]), (size_t)bytes);
  }
  return plan->kernels->gradient_finite(plan->problem.out_channels / lanes * terms, packed);
}

/* ---- One piece ---- */

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * conv_rows_blocks_down(plan) * conv_rows_blocks_across(plan);
}

/* The last pixel stands for those that a whole tile has more. */
static const void **look_up(const rows_work *w, const rows_tile *t) {
  int64_t most = w->plan->kernels->rows_tile_rows;
  const void **pointers = w->pointers;
  conv_rows_look_up(w, t, pointers);
  for (int64_t tap = 0; tap < w->taps; tap++)
    for (int64_t m = t->count; m < most; m++)
      pointers[tap * most + m] = pointers[tap * most + t->count - 1];
  return pointers;
}

/* All output channels of one tile. */
static void run_tile(const rows_work *w, const rows_tile *t) {
  const fonio_conv_plan *plan = w->plan;
  const kernel_conv *g = &plan->geometry;
  int64_t first = (w->row * g->out_width + w->column + t->first) * g->output_strides[2];
  if (w->rows == 1) first = w->row * g->output_strides[1] + (w->column + t->first) * g->output_strides[2];
  char biases[16 * sizeof(double)];
  kernel_rows_groups job = {
      .taps = w->n.taps,
      .channels = g->in_channels,
      .pixels = t->count,
      .rows = look_up(w, t),
      .bias = w->bias ? biases : NULL,
      .out_stride = g->output_strides[2],
  };
  for (; job.channel < w->n.out_channels; job.channel += w->n.panel) {
    job.weights = w->weights + w->bytes * job.channel * w->n.terms;
    conv_copy_biases(plan, w->bias, job.channel, w->n.panel, biases);
    plan->kernels->rows_groups(&job, w->output + w->bytes * (first + job.channel));
  }
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const conv_blocks *b = &plan->blocks;
  int64_t columns = b->pixels / b->rows;
  int64_t across = conv_take(&piece, conv_rows_blocks_across(plan)),
          down = conv_take(&piece, conv_rows_blocks_down(plan));
  rows_work w = {
      .plan = plan,
      .n = numbers_of(plan),
      .bytes = conv_element_bytes(plan),
      .input = conv_at(run->buffers->input, conv_input_offset(plan, piece, 0)),
      .weights = run->packed,
      .bias = run->buffers->bias,
      .output = (char *)run->buffers->output + conv_output_offset(plan, piece, 0),
      .zeros = memset(workspace, 0, (size_t)zero_bytes(plan)),
      .pointers = (void *)((char *)workspace + zero_bytes(plan)),
      .row = down * b->rows,
      .rows = conv_min(b->rows, plan->problem.out_height - down * b->rows),
      .column = across * columns,
      .columns = conv_min(columns, plan->problem.out_width - across * columns),
  };
  w.taps = w.n.taps;
  conv_rows_cut(&w);
  for (rows_tile t = conv_rows_first_tile(&w); t.number < w.tiles; conv_rows_next_tile(&w, &t))
    run_tile(&w, &t);
  conv_finish(run, piece, 0, w.n.out_channels,
              &(kernel_strip){.row = w.row, .column = w.column, .rows = w.rows, .columns = w.columns, .step = {1, 1}});
}

const conv_algorithm conv_rows_groups_forward = {
    .name = "rows_groups",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "groups of as many channels in as out, which share vectors, and the channels of a pixel side by side",
    .cost = cost,
    .prepare = prepare,
    .packing = 2,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
