/* One piece of the gradient of the weight: weight_gradient_outputs.c. */
#include "conv/weight_gradient_outputs.h"

#include <string.h>

#include "conv/patch.h"

/* ---- The sums ---- */

static bool pads_with_zeros(const fonio_conv_problem *p) {
  return p->padding_mode == FONIO_ZEROS && conv_pads(p);
}

/* The gradient of the output has an Inf or a NaN here, which must not meet the zeros of the padding: the plain loops
 * leave padding out. */
static void add_plain(const gradient_work *w, int64_t channel, int64_t lanes, int64_t width, char *sums) {
  kernel_conv conv = w->plan->geometry;
  conv.out_channels = 1;
  conv.in_channels = w->channel.size;
  conv.kernel_height = w->kernel_row.size;
  conv.rows += w->first_row * conv.dilation[0];
  conv.weight_strides[1] = w->channel.place * width;
  conv.weight_strides[2] = w->kernel_row.place * width;
  conv.weight_strides[3] = w->kernel_column.place * width;
  for (int64_t i = 0; i < lanes; i++)
    w->plan->kernels->reference_block_gradient(
        &conv, &w->n->order, w->block, conv_gradient_input(w, 0, w->in_channel + i * w->in_lane),
        conv_gradient_grad_output(w, 0, channel + i * w->out_lane), sums + i * w->bytes);
}

static char *sums_of_panel(const gradient_work *w, int64_t panel) {
  return w->sums + panel * w->rows * w->n->width * w->bytes;
}

/* The products of one tap, without the pixels at which it reads zeros of the padding. */
static void add_tap(const gradient_work *w, int64_t row, int64_t column) {
  const kernel_conv *g = &w->plan->geometry;
  const kernel_block *b = &w->pixels;
  const int64_t *strides = w->plan->problem.input_strides;
  int64_t tap = w->first_row + row, width = w->job.sum_step;
  conv_range rows = conv_range_inside(w->plan, 0, tap, b->row, b->rows);
  conv_range columns = conv_range_inside(w->plan, 1, column, b->column, b->columns);
  if (rows.count == 0 || columns.count == 0) return;
  int64_t from_row = rows.first * g->stride[0] + tap * g->dilation[0] - g->image_row;
  int64_t from_column = columns.first * g->stride[1] + column * g->dilation[1] - g->image_column;
  kernel_gradient job = w->job;
  job.images = b->images;
  job.segments = rows.count;
  job.terms = columns.count;
  job.input = conv_at(conv_gradient_input(w, b->image, w->in_channel),
                      (from_row * strides[2] + from_column * strides[3]) * w->bytes);
  job.panel = conv_at(job.panel, ((rows.first - b->row) * b->columns + columns.first - b->column) * width * w->bytes);
  job.panel_segment_gap = (b->columns - columns.count) * width;
  job.panel_image_gap = (b->rows - rows.count) * b->columns * width;
  job.rows = w->channel.size;
  job.sums = (char *)job.sums + (row * w->kernel_row.place + column * w->kernel_column.place) * width * w->bytes;
  job.sum_step = w->channel.place * width;
  w->plan->kernels->gradient_sums(&job);
}

static void add_taps(const gradient_work *w) {
  for (int64_t row = 0; row < w->kernel_row.size; row++)
    for (int64_t column = 0; column < w->kernel_column.size; column++)
      add_tap(w, row, column);
}

/* Adds the sums over the block for one panel. */
static void add_panel(gradient_work *w, int64_t panel) {
  const char *turned = conv_gradient_turned_panel(w, panel);
  const kernel_table *k = w->plan->kernels;
  int64_t width = conv_gradient_width_of_panel(w, panel), vectors = width / k->lanes, pixels = conv_gradient_pixels(w);
  if (w->bias) k->gradient_biases(pixels, vectors, turned, w->biases + panel * w->n->width * w->bytes);
  if (!w->weight) return;
  w->job.panel = turned;
  w->job.vectors = vectors;
  w->job.sums = sums_of_panel(w, panel);
  w->job.sum_step = width;
  if (w->n->source == SOURCE_INSIDE)
    add_taps(w);
  else if (!w->careful || k->gradient_finite(pixels * vectors, turned))
    k->gradient_sums(&w->job);
  else
    add_plain(w, conv_gradient_channel_of_panel(w, panel), conv_gradient_lanes_of_panel(w, panel), width, w->job.sums);
}

static void add_block(gradient_work *w, int64_t block) {
  w->block = block;
  w->pixels = kernel_block_at(&w->n->order, block);
  if (w->weight) conv_gradient_read_input(w);
  for (int64_t panel = 0; panel < w->panels; panel++) {
    if (panel % w->kept == 0) conv_gradient_turn_panels(w, panel);
    add_panel(w, panel);
  }
}

static void add_blocks(gradient_work *w, int64_t part) {
  const kernel_order *order = &w->n->order;
  memset(w->biases, 0, (size_t)w->n->result_bytes);
  w->copied.rows = 0;
  for (int64_t block = kernel_first_block(order, part); block < kernel_first_block(order, part + 1); block++)
    add_block(w, block);
}

/* Whether nothing shows that the gradient of the output is not finite somewhere. */
static bool is_finite(const gradient_work *w) {
  const kernel_table *k = w->plan->kernels;
  bool finite = true;
  for (int64_t panel = 0; panel < w->panels; panel++)
    finite &= k->gradient_finite(w->rows * conv_gradient_width_of_panel(w, panel) / k->lanes, sums_of_panel(w, panel));
  return finite;
}

/* ---- The results ---- */

/* The sums of a panel lie in the order of its weights' dimensions, outermost first; inner ones without gaps between
 * them are one. */
static void store_panel(const gradient_work *w, int64_t panel) {
  weight_dimension one = {1, 0, 0}, d[3] = {w->channel, w->kernel_row, w->kernel_column};
  if (w->channel_last) d[0] = w->kernel_row, d[1] = w->kernel_column, d[2] = w->channel;
  for (int i = 1; i >= 0; i--) {
    if (d[2].size == 1)
      d[2] = d[i];
    else if (d[i].size == 1 || d[i].weight_stride == d[2].weight_stride * d[2].size)
      d[2].size *= d[i].size;
    else
      break;
    d[i] = one;
  }
  const int64_t *strides = w->plan->problem.weight_strides;
  int64_t channel = conv_gradient_channel_of_panel(w, panel), width = conv_gradient_width_of_panel(w, panel);
  char *to = (char *)w->run->buffers->grad_weight + w->bytes * channel * strides[0];
  to += w->bytes * (w->first_channel * strides[1] + w->first_row * strides[2]);
  gradient_store job = {
      w->plan, conv_gradient_lanes_of_panel(w, panel), w->out_lane * strides[0], width, d[2].size, d[2].weight_stride};
  for (int64_t i = 0; i < d[0].size; i++)
    for (int64_t j = 0; j < d[1].size; j++)
      conv_gradient_store(&job, sums_of_panel(w, panel) + (i * d[0].place + j * d[1].place) * width * w->bytes,
                          to + w->bytes * (i * d[0].weight_stride + j * d[1].weight_stride));
}

static void store(const gradient_work *w) {
  for (int64_t panel = 0; panel < w->panels; panel++) {
    if (w->weight) store_panel(w, panel);
    if (w->bias)
      conv_gradient_store_biases(w->run, conv_gradient_channel_of_panel(w, panel), w->out_lane,
                                 conv_gradient_lanes_of_panel(w, panel), w->biases + panel * w->n->width * w->bytes);
  }
}

/* ---- The piece ---- */

/* Which weights. */
static void find_weights(gradient_work *w, int64_t piece) {
  const gradient_numbers *n = w->n;
  const kernel_conv *g = &w->plan->geometry;
  w->first_channel = conv_take(&piece, n->channel_blocks) * n->channels;
  w->first_row = conv_take(&piece, n->row_blocks) * n->kernel_rows;
  int64_t panel = conv_take(&piece, n->panel_blocks) * n->panels;
  w->channel.size = conv_min(n->channels, g->in_channels - w->first_channel);
  w->kernel_row.size = conv_min(n->kernel_rows, g->kernel_height - w->first_row);
  w->kernel_column.size = g->kernel_width;
  int64_t group = n->by_lane ? piece * n->width : piece;
  w->in_channel = group * g->in_channels + w->first_channel;
  w->in_lane = n->by_lane ? g->in_channels : 0;
  w->out_lane = n->by_lane ? g->out_channels : 1;
  w->panel_step = n->by_lane ? 1 : n->width;
  w->out_channel = group * g->out_channels + panel * w->panel_step;
  w->lanes = n->by_lane ? conv_min(n->width, n->all_lanes - group) : g->out_channels - panel * n->width;
  w->panels = conv_min(n->panels, (n->by_lane ? g->out_channels : n->lane_panels) - panel);
  w->kept = conv_min(n->kept, w->panels);
}

/* Weights whose channels lie side by side are taken tap by tap, others channel by channel. */
static void order_weights(gradient_work *w) {
  const int64_t *strides = w->plan->geometry.weight_strides;
  weight_dimension *c = &w->channel, *row = &w->kernel_row, *column = &w->kernel_column;
  w->channel_last = strides[1] == 1 && row->size * column->size > 1;
  w->rows = c->size * row->size * column->size;
  column->place = w->channel_last ? c->size : 1;
  row->place = column->place * column->size;
  c->place = w->channel_last ? 1 : row->size * column->size;
  c->weight_stride = strides[1];
  row->weight_stride = strides[2];
  column->weight_stride = strides[3];
}

/* What the work on a block of weights begins with. */
static gradient_work work_on(const conv_run *run, const gradient_numbers *n, int64_t block, char *results) {
  gradient_work w = {.run = run, .plan = run->plan, .n = n, .bytes = conv_element_bytes(run->plan)};
  find_weights(&w, block);
  order_weights(&w);
  w.biases = results;
  w.sums = results + n->sums;
  w.weight = run->buffers->grad_weight;
  w.bias = run->buffers->grad_bias && w.first_channel + w.first_row == 0;
  return w;
}

void conv_gradient_run_piece(const conv_run *run, int64_t piece, void *workspace) {
  gradient_numbers n = conv_gradient_numbers(run->plan);
  int64_t block = conv_take(&piece, run->plan->sums.blocks), part = piece;
  gradient_work w = work_on(run, &n, block, conv_gradient_results(run, block, part, workspace));
  w.offsets = workspace;
  w.panel = (char *)workspace + n.panel;
  w.copy = (char *)workspace + n.copy;
  w.job = (kernel_gradient){.by_lane = n.by_lane, .rows = w.rows, .offsets = w.offsets};
  if (!w.bias && !w.weight) return;
  add_blocks(&w, part);
  if (pads_with_zeros(&run->plan->problem) && n.source != SOURCE_INSIDE && !is_finite(&w)) {
    w.careful = true;
    add_blocks(&w, part);
  }
  if (n.order.parts == 1) store(&w);
}

void conv_gradient_run_last(const conv_run *run, int64_t block, void *workspace) {
  gradient_numbers n = conv_gradient_numbers(run->plan);
  gradient_work w = work_on(run, &n, block, conv_gradient_results(run, block, 0, workspace));
  if (!w.bias && !w.weight) return;
  conv_gradient_add_parts(run, block);
  store(&w);
}
