/* How the sums of a weight's gradient are cut: kernels/order.h. */
#include "conv/plan.h"

/* Pixels of a block, about: so few that a panel of them stays in the first-level cache, so many that starting and
 * storing the sums counts little. */
#define BLOCK_PIXELS 256
/* Columns of a block, at most: a block of several rows reads fewer rows of the input for each of its own. */
#define BLOCK_COLUMNS 128

kernel_order conv_order(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t height = conv_max(1, p->out_height), width = conv_max(1, p->out_width);
  kernel_order o = {
      .batch = p->batch,
      .images = 1,
      .parts = 1,
      .input_image = p->input_strides[0],
      .output_image = p->output_strides[0],
      .out_height = p->out_height,
      .out_width = p->out_width,
  };
  o.across = conv_ceil_div(width, BLOCK_COLUMNS);
  o.columns = conv_ceil_div(width, o.across);
  o.down = conv_ceil_div(height, conv_max(1, BLOCK_PIXELS / o.columns));
  o.rows = conv_ceil_div(height, o.down);
  if (o.across * o.down == 1) o.images = conv_max(1, BLOCK_PIXELS / (height * width));
  o.across = conv_ceil_div(width, o.columns);
  o.down = conv_ceil_div(height, o.rows);
  o.blocks = conv_ceil_div(p->batch, o.images) * o.down * o.across;
  return o;
}
