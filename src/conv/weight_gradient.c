/* What the algorithms for a weight's gradient have in common. */
#include "conv/weight_gradient.h"

#include <string.h>

#include "base/cpu.h"

/* ---- How much at once ---- */

int64_t conv_gradient_width(const fonio_conv_plan *plan, bool by_lane, int64_t count) {
  int64_t most = plan->kernels->gradient_vectors, vectors = 1;
  if (by_lane) most = conv_min(most, 2);
  while (vectors < most && vectors * plan->kernels->lanes < count)
    vectors *= 2;
  return vectors * plan->kernels->lanes;
}

int64_t conv_gradient_near(void) {
  return conv_min(cpu_cache_sizes()->l2_bytes / 3, 1 << 18);
}

/* A multiply-add takes half a cycle, or waits for the one before in the same sum, or for its operands. */
double conv_gradient_cycles(int64_t rows, int64_t vectors, bool by_lane) {
  int64_t most = vectors == 1 ? 8 : 6, tiles = conv_ceil_div(rows, most);
  double of_tile = (double)rows / (double)tiles, sums = of_tile * (double)vectors / 1.9;
  double loads = by_lane ? of_tile * (double)vectors : of_tile;
  double load = (loads + (double)vectors) / 1.9, wait = 4.2;
  double longest = sums > load ? sums : load;
  return (double)tiles * (longest > wait ? longest : wait);
}

/* ---- Pieces ---- */

void conv_gradient_prepare(fonio_conv_plan *plan, conv_sums sums, int64_t workspace_bytes) {
  plan->sums = sums;
  plan->workspace_bytes = workspace_bytes + (sums.parts > 1 ? 0 : sums.bytes);
  plan->shared_bytes = sums.parts > 1 ? sums.blocks * sums.parts * sums.bytes : 0;
}

int64_t conv_gradient_pieces(const fonio_conv_plan *plan) {
  return plan->sums.blocks * plan->sums.parts;
}

int64_t conv_gradient_last_pieces(const fonio_conv_plan *plan) {
  return plan->sums.parts > 1 ? plan->sums.blocks : 0;
}

char *conv_gradient_results(const conv_run *run, int64_t block, int64_t part, void *workspace) {
  const conv_sums *s = &run->plan->sums;
  if (s->parts > 1) return (char *)run->shared + (block * s->parts + part) * s->bytes;
  return (char *)workspace + run->plan->workspace_bytes - s->bytes;
}

void conv_gradient_add_parts(const conv_run *run, int64_t block) {
  const kernel_table *k = run->plan->kernels;
  int64_t vectors = run->plan->sums.bytes / (k->lanes * conv_element_bytes(run->plan));
  for (int64_t part = 1; part < run->plan->sums.parts; part++)
    k->gradient_add(vectors, conv_gradient_results(run, block, 0, NULL), conv_gradient_results(run, block, part, NULL));
}

gradient_block conv_gradient_block(const conv_run *run, int64_t block, int64_t in_channels, int64_t out_channels) {
  const kernel_conv *g = &run->plan->geometry;
  int64_t in = conv_take(&block, conv_ceil_div(g->in_channels, in_channels)) * in_channels;
  int64_t out = conv_take(&block, conv_ceil_div(g->out_channels, out_channels)) * out_channels;
  return (gradient_block){
      .group = block,
      .in_channel = in,
      .in_channels = conv_min(in_channels, g->in_channels - in),
      .out_channel = out,
      .out_channels = conv_min(out_channels, g->out_channels - out),
      .weight = run->buffers->grad_weight,
      .bias = run->buffers->grad_bias && in == 0,
  };
}

char *conv_gradient_weight(const conv_run *run, const gradient_block *block) {
  const int64_t *strides = run->plan->problem.weight_strides;
  return (char *)run->buffers->grad_weight + conv_weight_offset(run->plan, block->group) +
         (block->out_channel * strides[0] + block->in_channel * strides[1]) * conv_element_bytes(run->plan);
}

/* ---- What goes in and what comes out ---- */

void conv_gradient_turn(const gradient_turn *job, const void *from, char *to) {
  static const int64_t first_row[1] = {0};
  const kernel_table *k = job->plan->kernels;
  kernel_strip strip = {.rows = 1, .columns = job->pixels, .step = {1, 1}, .pixel = job->width};
  kernel_conv conv = {
      .in_channels = job->channels,
      .rows = first_row,
      .padded_height = 1,
      .in_width = job->pixels,
      .input_strides = {job->channel_stride, 0, job->pixel_stride},
  };
  for (int64_t lane = 0; lane < job->width; lane += k->lanes)
    k->gather_strip(&conv, &strip, lane, from, to + lane * conv_element_bytes(job->plan));
}

void conv_gradient_store(const gradient_store *job, const char *sums, char *to) {
  const kernel_table *k = job->plan->kernels;
  kernel_conv conv = {
      .out_channels = job->lanes,
      .out_height = 1,
      .out_width = job->count,
      .output_strides = {job->out_stride, 0, job->stride},
  };
  kernel_strip strip = {.rows = 1, .columns = job->count, .step = {1, 1}, .pixel = job->pixel};
  for (int64_t lane = 0; lane < job->lanes; lane += k->lanes)
    k->scatter_strip(&conv, &strip, lane, sums + lane * conv_element_bytes(job->plan), to);
}

void conv_gradient_store_biases(const conv_run *run, int64_t channel, int64_t apart, int64_t count, const char *from) {
  int64_t bytes = conv_element_bytes(run->plan), stride = run->plan->problem.bias_stride * bytes;
  for (int64_t i = 0; i < count; i++)
    memcpy((char *)run->buffers->grad_bias + (channel + i * apart) * stride, from + i * bytes, (size_t)bytes);
}
