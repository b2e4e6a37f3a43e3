/* Patches of an output whose pixels see the same taps inside of the image. */
#include "conv/patch.h"

#include "base/cpu.h"

bool conv_is_inside(const fonio_conv_plan *plan, int axis, int64_t output, int64_t tap) {
  const kernel_conv *g = &plan->geometry;
  return (axis == 0 ? g->rows : g->columns)[output * g->stride[axis] + tap * g->dilation[axis]] >= 0;
}

static int64_t taps_of(const fonio_conv_plan *plan, int axis) {
  return axis == 0 ? plan->geometry.kernel_height : plan->geometry.kernel_width;
}

static int64_t outputs_of(const fonio_conv_plan *plan, int axis) {
  return axis == 0 ? plan->geometry.out_height : plan->geometry.out_width;
}

static int64_t taps_inside(const fonio_conv_plan *plan, int axis, int64_t output) {
  int64_t count = 0;
  for (int64_t tap = 0; tap < taps_of(plan, axis); tap++)
    count += conv_is_inside(plan, axis, output, tap);
  return count;
}

conv_range conv_range_inside(const fonio_conv_plan *plan, int axis, int64_t tap, int64_t first, int64_t count) {
  const kernel_conv *g = &plan->geometry;
  if (plan->problem.padding_mode != FONIO_ZEROS) return (conv_range){first, count};
  int64_t image = (axis ? g->image_column : g->image_row) - tap * g->dilation[axis], stride = g->stride[axis];
  int64_t from = conv_max(first, conv_ceil_div(conv_max(0, image), stride));
  int64_t end = conv_max(0, image + (axis ? g->in_width : g->in_height));
  return (conv_range){from, conv_max(0, conv_min(first + count, conv_ceil_div(end, stride)) - from)};
}

double conv_share_inside(const fonio_conv_plan *plan, int axis) {
  int64_t inside = 0, outputs = outputs_of(plan, axis), taps = taps_of(plan, axis);
  for (int64_t tap = 0; tap < taps; tap++)
    inside += conv_range_inside(plan, axis, tap, 0, outputs).count;
  return (double)inside / ((double)outputs * (double)taps);
}

/* How many output rows (or columns) from `from` on see the same taps inside; of many, nearly equal parts of at most
 * `most`. */
static int64_t alike(const fonio_conv_plan *plan, int axis, int64_t from, int64_t most) {
  int64_t to = from + 1, end = conv_min(outputs_of(plan, axis), from + 2 * most);
  for (bool same = true; to < end && same; to += same)
    for (int64_t tap = 0; tap < taps_of(plan, axis); tap++)
      same &= conv_is_inside(plan, axis, from, tap) == conv_is_inside(plan, axis, to, tap);
  return conv_even(to - from, most);
}

int64_t conv_patch_pixels(const fonio_conv_plan *plan) {
  int64_t panel = plan->kernels->lanes * plan->kernels->tile_vectors;
  int64_t bytes = plan->geometry.out_channels * conv_element_bytes(plan);
  return conv_max(1, cpu_cache_sizes()->l2_bytes / 3 / (bytes * panel)) * panel;
}

bool conv_patch_next(const fonio_conv_plan *plan, conv_patch *p) {
  int64_t most = conv_patch_pixels(plan);
  p->row += p->rows;
  if (p->columns == 0 || p->row == plan->geometry.out_height) {
    p->row = 0;
    p->column += p->columns;
    if (p->column == plan->geometry.out_width) return false;
    p->columns = alike(plan, 1, p->column, most);
  }
  p->rows = alike(plan, 0, p->row, conv_max(1, most / p->columns));
  return true;
}

/* Products are made of whole vectors of pixels. */
double conv_patch_share(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  double all = (double)(p->kernel_height * p->kernel_width) * (double)(p->out_height * p->out_width), products = 0;
  if (plan->geometry.in_channels < 64 || conv_share_inside(plan, 0) * conv_share_inside(plan, 1) > 0.9) return 1;
  for (conv_patch patch = {0}; conv_patch_next(plan, &patch);)
    products += (double)(conv_round_up(patch.rows * patch.columns, plan->kernels->lanes) *
                         taps_inside(plan, 0, patch.row) * taps_inside(plan, 1, patch.column));
  return products < 0.9 * all ? products / all : 1;
}
