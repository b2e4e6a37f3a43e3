/* How the sums of a weight's gradient are cut: kernels/order.h. */
#include "conv/plan.h"

/* Pixels of a block, about: so few that a panel of them stays in the first-level cache, so many that starting and
 * storing the sums counts little. */
#define BLOCK_PIXELS 256
/* Columns of a block, at most: a block of several rows reads fewer rows of the input for each of its own. */
#define BLOCK_COLUMNS 128

/* Parts that threads can share, and what they take of memory at the most: for few weights only, as others have pieces
 * enough. Depends on neither threads nor instruction set, like all of the order. */
enum { MOST_PARTS = 16, PART_PRODUCTS = 1 << 21, PARTS_BYTES = 1 << 19 };

static int64_t parts_of(const fonio_conv_plan *plan, int64_t blocks) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  double taps = (double)(g->in_channels * p->groups) * (double)p->kernel_height * (double)p->kernel_width;
  double room = taps * (double)conv_round_up(g->out_channels, 16) * (double)fonio_dtype_bytes(p->dtype);
  double products = taps * (double)g->out_channels * (double)(p->out_height * p->out_width) * (double)p->batch;
  double parts = (double)conv_max(1, conv_min(MOST_PARTS, blocks));
  if (parts > products / PART_PRODUCTS) parts = products / PART_PRODUCTS;
  if (parts > PARTS_BYTES / (room + 1)) parts = PARTS_BYTES / (room + 1);
  return parts < 1 ? 1 : (int64_t)parts;
}

kernel_order conv_order(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t height = conv_max(1, p->out_height), width = conv_max(1, p->out_width);
  kernel_order o = {
      .batch = p->batch,
      .images = 1,
      .input_image = p->input_strides[0],
      .output_image = p->output_strides[0],
      .out_height = p->out_height,
      .out_width = p->out_width,
  };
  o.across = conv_ceil_div(width, BLOCK_COLUMNS);
  o.columns = conv_ceil_div(width, o.across);
  o.down = conv_ceil_div(height, conv_max(1, BLOCK_PIXELS / o.columns));
  o.rows = conv_ceil_div(height, o.down);
  if (o.across * o.down == 1) o.images = conv_max(1, conv_min(p->batch, BLOCK_PIXELS / (height * width)));
  o.across = conv_ceil_div(width, o.columns);
  o.down = conv_ceil_div(height, o.rows);
  o.blocks = conv_ceil_div(p->batch, o.images) * o.down * o.across;
  o.parts = parts_of(plan, o.blocks);
  return o;
}
