/* Direct convolution of few input channels in channels_last: a vector holds output channels, and the rows of the image
 * that a block of output pixels needs are copied once, padded, into a strip where the pixels of an output row are
 * evenly spaced and all taps lie at the same places, seen from each of them. Where there is no padding, the image
 * itself is such a strip. For two vectors of output channels at a time, all rows of the block are computed, tile by
 * tile of pixels. */
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "conv/rows.h"

/* The block of output pixels of a piece. */
typedef struct block_size {
  int64_t rows, columns;
} block_size;

static int64_t reach(int64_t outputs, int64_t stride, int64_t kernel, int64_t dilation) {
  return (outputs - 1) * stride + (kernel - 1) * dilation + 1;
}

/* The strip of a block. */
static block_size strip_of(const fonio_conv_problem *p, block_size b) {
  return (block_size){reach(b.rows, p->stride[0], p->kernel_height, p->dilation[0]),
                      reach(b.columns, p->stride[1], p->kernel_width, p->dilation[1])};
}

static int64_t strip_elements(const fonio_conv_problem *p, block_size b) {
  block_size strip = strip_of(p, b);
  return strip.rows * strip.columns * p->in_channels;
}

/* Elements of a strip, at the most, and the columns of a block that may have one as large. */
enum { MOST_ELEMENTS = 1 << 15, FEW_COLUMNS = 32, MOST_COLUMNS = 512 };

/* More channels are as well served by "rows", and their larger kernels better by Winograd's algorithm. */
static bool applicable(const fonio_conv_problem *p) {
  bool few = p->in_channels < 8 || p->kernel_height * p->kernel_width == 1;
  const kernel_table *k = kernel_table_for(p->dtype, cpu_isa_in_use());
  bool in_whole_pixels = p->input_strides[1] == 1 && p->input_strides[3] == p->in_channels;
  return few && p->groups == 1 && in_whole_pixels && p->output_strides[1] == 1 &&
         p->out_channels % (2 * k->lanes) == 0 && k->rows_few && p->out_width >= k->rows_tile_rows &&
         strip_elements(p, (block_size){1, FEW_COLUMNS}) < MOST_ELEMENTS;
}

/* Rows of a block: their strip stays in the first-level cache, but such blocks as are cut across have one. */
static block_size size_of_block(const fonio_conv_problem *p) {
  int64_t near = cpu_cache_sizes()->l1_bytes * 3 / 4 / (int64_t)fonio_dtype_bytes(p->dtype);
  block_size b = {1, conv_even(p->out_width, MOST_COLUMNS)};
  while (b.columns > FEW_COLUMNS && strip_elements(p, b) > MOST_ELEMENTS)
    b.columns = conv_ceil_div(b.columns, 2);
  while (b.rows < p->out_height && strip_elements(p, (block_size){b.rows + 1, b.columns}) <= near)
    b.rows++;
  b.rows = conv_even_pairs(p->out_height, b.rows);
  return b;
}

static double cost(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  block_size b = size_of_block(p);
  const kernel_table *k = plan->kernels;
  int64_t terms = p->in_channels * p->kernel_height * p->kernel_width;
  double rows = (double)p->out_height * (double)p->out_width / (double)b.columns;
  double tiles = rows * (double)conv_ceil_div(b.columns, k->rows_tile_rows);
  double sums = tiles * (double)(p->out_channels / k->lanes) * ((double)(terms * k->rows_tile_rows) / 1.93 + 6);
  double copies = conv_pads(p) ? rows / (double)b.rows * (double)strip_elements(p, b) : 0;
  return sums + copies * (k->lanes > 8 ? 0.1 : 0.15) + 300;
}

static void prepare(fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  conv_blocks *b = &plan->blocks;
  block_size size = size_of_block(p);
  int64_t bytes = conv_element_bytes(plan), terms = p->in_channels * p->kernel_height * p->kernel_width;
  b->terms = terms;
  b->rows = size.rows;
  b->pixels = size.rows * size.columns;
  plan->packed_bytes = p->out_channels * terms * bytes;
  plan->workspace_bytes = conv_round_up(terms * (int64_t)sizeof(int64_t), MEMORY_ALIGNMENT) +
                          (conv_pads(p) ? strip_elements(p, size) * bytes : 0);
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return plan->kernels->pack_columns(&plan->geometry, weight, packed);
}

/* ---- One piece ---- */

/* A padded row from a column on. What lies in the image is copied as it is. */
static void copy_row(const kernel_conv *g, int64_t pixel, const char *row, int64_t column, int64_t columns, char *to) {
  for (int64_t i = 0, count; i < columns; i += count, to += count * pixel) {
    int64_t inside = column + i - g->image_column, from = g->columns[column + i];
    count = inside >= 0 && inside < g->in_width ? conv_min(columns - i, g->in_width - inside) : 1;
    if (from < 0)
      memset(to, 0, (size_t)pixel);
    else
      memcpy(to, row + from * pixel, (size_t)(count * pixel));
  }
}

static void copy_strip(const kernel_conv *g, int64_t bytes, const char *input, int64_t row, int64_t column,
                       block_size strip, char *to) {
  int64_t pixel = g->in_channels * bytes, pitch = strip.columns * pixel;
  for (int64_t i = 0; i < strip.rows; i++, to += pitch) {
    int64_t from = g->rows[row + i];
    if (from < 0)
      memset(to, 0, (size_t)pitch);
    else
      copy_row(g, pixel, input + from * g->input_strides[1] * bytes, column, strip.columns, to);
  }
}

/* In the order of the sum; rows are `pitch` apart. */
static void find_offsets(const kernel_conv *g, int64_t pitch, int64_t *offsets) {
  for (int64_t r = 0; r < g->kernel_height; r++)
    for (int64_t s = 0; s < g->kernel_width; s++)
      for (int64_t c = 0; c < g->in_channels; c++)
        *offsets++ = r * g->dilation[0] * pitch + s * g->dilation[1] * g->in_channels + c;
}

/* All output channels of a block, whose input begins at `input`. Those of a packed panel of weights are taken two
 * vectors at a time. */
static void run_channels(const fonio_conv_plan *plan, const conv_run *run, kernel_rows_few job, int64_t rows,
                         int64_t pitch, const char *input, char *output) {
  const kernel_conv *g = &plan->geometry;
  const kernel_table *k = plan->kernels;
  int64_t bytes = conv_element_bytes(plan), few = 2 * k->lanes, panel = k->rows_tile_vectors * k->lanes;
  char biases[2 * MEMORY_ALIGNMENT];
  if (run->buffers->bias) job.bias = biases;
  for (int64_t channel = 0; channel < g->out_channels; channel += few) {
    int64_t first = channel / panel * panel; /* of its panel */
    job.weight_step = conv_min(panel, g->out_channels - first);
    job.weights = conv_at(run->packed, bytes * (first * job.terms + channel - first));
    conv_copy_biases(plan, run->buffers->bias, channel, few, biases);
    for (int64_t i = 0; i < rows; i++)
      k->rows_few(&job, input + bytes * i * g->stride[0] * pitch,
                  output + bytes * (i * g->output_strides[1] + channel));
  }
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * conv_rows_blocks_down(plan) * conv_rows_blocks_across(plan);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const kernel_conv *g = &plan->geometry;
  int64_t bytes = conv_element_bytes(plan), blocks = conv_rows_blocks_across(plan), across = conv_take(&piece, blocks);
  int64_t row = conv_take(&piece, conv_rows_blocks_down(plan)) * plan->blocks.rows,
          column = g->out_width * across / blocks;
  block_size b = {conv_min(plan->blocks.rows, g->out_height - row), g->out_width * (across + 1) / blocks - column};
  const char *input = conv_at(run->buffers->input, conv_input_offset(plan, piece, 0));
  char *output = (char *)run->buffers->output + conv_output_offset(plan, piece, 0);
  int64_t first_row = row * g->stride[0], first_column = column * g->stride[1], pitch = g->input_strides[1];
  if (!conv_pads(&plan->problem)) {
    input += bytes * (first_row * pitch + first_column * g->in_channels);
  } else {
    block_size size = strip_of(&plan->problem, b);
    char *strip = (char *)workspace + conv_round_up(plan->blocks.terms * (int64_t)sizeof(int64_t), MEMORY_ALIGNMENT);
    copy_strip(g, bytes, input, first_row, first_column, size, strip);
    input = strip;
    pitch = size.columns * g->in_channels;
  }
  find_offsets(g, pitch, workspace);
  kernel_rows_few job = {
      .pixels = b.columns,
      .step = g->stride[1] * g->in_channels,
      .out_step = g->output_strides[2],
      .terms = plan->blocks.terms,
      .offsets = workspace,
  };
  run_channels(plan, run, job, b.rows, pitch, input,
               output + bytes * (row * g->output_strides[1] + column * g->output_strides[2]));
  conv_finish(run, piece, 0, g->out_channels,
              &(kernel_strip){.row = row, .column = column, .rows = b.rows, .columns = b.columns, .step = {1, 1}});
}

const conv_algorithm conv_rows_few_forward = {
    .name = "rows_few",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "few input channels, pairs of vectors of output channels, the channels and pixels of a row side by side",
    .cost = cost,
    .prepare = prepare,
    .packing = 0.5,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
