/* The geometry of a plan: index maps in place of a padded image, and the offsets of images and groups. */
#include <string.h>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "conv/plan.h"

/* The source of each padded position: padded position p stands for p - before of the image. */
static void fill_index_map(int64_t *map, int64_t positions, int64_t size, int64_t before, fonio_padding_mode mode) {
  for (int64_t p = 0; p < positions; p++) {
    int64_t i = p - before;
    bool outside = i < 0 || i >= size;
    if (outside && mode == FONIO_ZEROS) i = -1;
    if (outside && mode == FONIO_REFLECT) i = i < 0 ? -i : 2 * (size - 1) - i;
    if (outside && mode == FONIO_REPLICATE) i = i < 0 ? 0 : size - 1;
    if (outside && mode == FONIO_CIRCULAR) i = (i % size + size) % size;
    map[p] = i;
  }
}

/* For kernel column s: the output columns whose source lies on the image, not in the padding. */
static void find_interior(int64_t *interior, const fonio_conv_problem *p, int64_t s) {
  int64_t shift = p->padding[2] - s * p->dilation[1]; /* source = column * stride - shift */
  int64_t from = shift > 0 ? conv_ceil_div(shift, p->stride[1]) : 0;
  int64_t last = p->in_width - 1 + shift;
  int64_t to = last < 0 ? 0 : last / p->stride[1] + 1;
  interior[0] = conv_min(from, p->out_width);
  interior[1] = conv_max(interior[0], conv_min(to, p->out_width));
}

fonio_status conv_geometry_init(fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  kernel_conv *g = &plan->geometry;
  *g = (kernel_conv){
      .in_channels = p->in_channels / p->groups,
      .out_channels = p->out_channels / p->groups,
      .out_height = p->out_height,
      .out_width = p->out_width,
      .kernel_height = p->kernel_height,
      .kernel_width = p->kernel_width,
      .stride = {p->stride[0], p->stride[1]},
      .dilation = {p->dilation[0], p->dilation[1]},
      .input_strides = {p->input_strides[1], p->input_strides[2], p->input_strides[3]},
      .weight_strides = {p->weight_strides[0], p->weight_strides[1], p->weight_strides[2], p->weight_strides[3]},
      .output_strides = {p->output_strides[1], p->output_strides[2], p->output_strides[3]},
  };
  /* The problem's checks have made sure that the padded sizes fit. */
  int64_t rows = p->in_height + p->padding[0] + p->padding[1], columns = p->in_width + p->padding[2] + p->padding[3];
  if (p->batch == 0) rows = columns = 0; /* nothing will look at them, however wide the padding */
  int64_t entries, bytes;
  if (!checked_add(rows, columns, &entries) || !checked_add(entries, 2 * p->kernel_width, &entries) ||
      !checked_mul(entries, sizeof(int64_t), &bytes))
    bytes = INT64_MAX;
  plan->tables = memory_take(bytes);
  if (!plan->tables) return FONIO_NO_MEMORY;
  fill_index_map(plan->tables, rows, p->in_height, p->padding[0], p->padding_mode);
  fill_index_map(plan->tables + rows, columns, p->in_width, p->padding[2], p->padding_mode);
  int64_t *interior = plan->tables + rows + columns;
  for (int64_t s = 0; s < p->kernel_width; s++)
    find_interior(interior + 2 * s, p, s);
  g->padded_height = rows;
  g->padded_width = columns;
  g->image_row = p->padding[0];
  g->in_height = p->in_height;
  g->image_column = p->padding[2];
  g->in_width = p->in_width;
  g->rows = plan->tables;
  g->columns = plan->tables + rows;
  g->interior = interior;
  return FONIO_OK;
}

static int64_t to_bytes(const fonio_conv_plan *plan, int64_t elements) {
  return elements * conv_element_bytes(plan);
}

int64_t conv_terms_of_panel(const fonio_conv_plan *plan, int64_t panel) {
  const cpu_caches *caches = cpu_cache_sizes();
  return conv_max(16, conv_max(caches->l1_bytes * 3 / 4, caches->l2_bytes / 8) / to_bytes(plan, panel));
}

int64_t conv_input_offset(const fonio_conv_plan *plan, int64_t image, int64_t group) {
  const int64_t *strides = plan->problem.input_strides;
  return to_bytes(plan, image * strides[0] + group * plan->geometry.in_channels * strides[1]);
}

int64_t conv_output_offset(const fonio_conv_plan *plan, int64_t image, int64_t group) {
  const int64_t *strides = plan->problem.output_strides;
  return to_bytes(plan, image * strides[0] + group * plan->geometry.out_channels * strides[1]);
}

int64_t conv_weight_offset(const fonio_conv_plan *plan, int64_t group) {
  return to_bytes(plan, group * plan->weight_group_stride);
}

int64_t conv_bias_offset(const fonio_conv_plan *plan, int64_t group) {
  return to_bytes(plan, group * plan->geometry.out_channels * plan->problem.bias_stride);
}

void conv_copy_biases(const fonio_conv_plan *plan, const void *bias, int64_t channel, int64_t count, void *to) {
  size_t bytes = fonio_dtype_bytes(plan->problem.dtype);
  if (bias && plan->problem.bias_stride == 1) {
    memcpy(to, conv_at(bias, channel * (int64_t)bytes), (size_t)count * bytes);
    return;
  }
  for (int64_t i = 0; bias && i < count; i++)
    memcpy((char *)to + (size_t)i * bytes, conv_at(bias, (channel + i) * plan->problem.bias_stride * (int64_t)bytes),
           bytes);
}
