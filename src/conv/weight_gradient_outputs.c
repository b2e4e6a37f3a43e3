/* Gradients of weight and bias with output channels in the lanes: how the problem is cut into pieces, and what they
 * cost. Two algorithms, which differ in what lies in the lanes of a vector: the output channels of one group, or one
 * channel of each of several groups, for groups so small that their channels would not fill a vector. Depthwise
 * convolution is the latter at its smallest.
 *
 * The loops of a piece, outermost first; the order of the sums is that of kernels/order.h:
 *   block of output pixels: the rows of the input that it reads are copied, padded, unless they can be read in place
 *     panel of output channels: its gradients are turned to lie pixel by pixel, and stay in the first-level cache
 *       some weights: one tile in registers */
#include "conv/weight_gradient_outputs.h"

#include "conv/patch.h"

/* ---- What is read ---- */

int64_t conv_gradient_reach(const fonio_conv_plan *plan, const gradient_numbers *n, int axis, int64_t outputs,
                            int64_t taps) {
  const kernel_conv *g = &plan->geometry;
  return ((outputs - 1) * g->stride[axis] + (taps - 1) * g->dilation[axis]) / n->skip[axis] + 1;
}

static bool copies(const gradient_numbers *n) {
  return n->source == SOURCE_PLANES || n->source == SOURCE_PIXELS;
}

/* Elements of the copy for a full block of pixels. */
static int64_t elements_of_copy(const fonio_conv_plan *plan, const gradient_numbers *n) {
  if (!copies(n)) return 0;
  int64_t pixels = conv_gradient_reach(plan, n, 0, n->order.rows, n->kernel_rows) * n->pitch;
  return n->order.images * pixels * (n->source == SOURCE_PLANES ? n->channels : 1);
}

/* Channels lie side by side, and pixels so far from each other that those of a block fall on the same places of the
 * cache. */
static bool lie_apart(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t step = p->input_strides[3] * p->stride[1];
  return p->input_strides[1] == 1 && plan->geometry.in_channels > 1 && step * conv_element_bytes(plan) % 4096 == 0;
}

/* The share of the products that meet no zeros of the padding. */
static double share_inside(const fonio_conv_plan *plan) {
  if (plan->problem.padding_mode != FONIO_ZEROS) return 1;
  return conv_share_inside(plan, 0) * conv_share_inside(plan, 1);
}

/* In place where there is no padding, or much of it; lanes of groups need the channels of all of them side by side. */
static gradient_source source_of(const fonio_conv_plan *plan, const gradient_numbers *n) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  if (n->by_lane) {
    bool side_by_side = g->in_channels == 1 && p->input_strides[1] == 1 && p->groups % n->width == 0;
    return side_by_side && !conv_pads(p) ? SOURCE_IMAGE : SOURCE_PIXELS;
  }
  if (!conv_pads(p) && !lie_apart(plan)) return SOURCE_IMAGE;
  if (share_inside(plan) < 0.7 && !lie_apart(plan)) return SOURCE_INSIDE;
  return p->input_strides[1] == 1 && g->in_channels > 1 ? SOURCE_PIXELS : SOURCE_PLANES;
}

/* Elements of a pixel of the copy: no large power of two, so that what is read at once does not fall on the same places
 * of the cache. Where there are few, rows are copied as they are. */
static int64_t pixel_of_copy(const fonio_conv_plan *plan, const gradient_numbers *n) {
  int64_t line = 64 / conv_element_bytes(plan), lanes = plan->kernels->lanes;
  if (n->by_lane) return n->channels * n->width;
  if (n->channels < 2 * lanes) return n->channels;
  int64_t pixel = conv_round_up(n->channels, lanes);
  return pixel % (4 * line) == 0 ? pixel + line : pixel;
}

/* Rows of planes are an odd number of cache lines long. */
static void lay_out_copy(const fonio_conv_plan *plan, gradient_numbers *n) {
  int64_t line = 64 / conv_element_bytes(plan);
  n->skip[0] = copies(n) && n->kernel_rows == 1 ? plan->geometry.stride[0] : 1;
  n->skip[1] = copies(n) && plan->geometry.kernel_width == 1 ? plan->geometry.stride[1] : 1;
  n->pixel = pixel_of_copy(plan, n);
  n->pitch = conv_gradient_reach(plan, n, 1, n->order.columns, plan->geometry.kernel_width);
  if (n->source == SOURCE_PLANES)
    n->pitch = conv_round_up(n->pitch, line) + (conv_round_up(n->pitch, line) / line % 2 == 0 ? line : 0);
  else
    n->pitch *= n->pixel;
}

/* ---- How much at once ---- */

/* Weights of a piece for one output channel: so many that turning the output's gradient counts little. */
#define PIECE_ROWS 576

/* Nearly equal blocks of at most `most`, at least 1. */
static int64_t even(int64_t all, int64_t most) {
  return conv_ceil_div(all, conv_ceil_div(all, conv_max(1, most)));
}

/* Weights of a piece for one output channel. */
static int64_t weights_of_piece(const fonio_conv_plan *plan, const gradient_numbers *n) {
  return n->channels * n->kernel_rows * plan->problem.kernel_width;
}

/* Halves the block of weights until it fits: channels first, then kernel rows. */
static void fit_rows(const fonio_conv_plan *plan, gradient_numbers *n) {
  const kernel_conv *g = &plan->geometry;
  n->kernel_rows = g->kernel_height;
  n->channels = even(g->in_channels, PIECE_ROWS / (g->kernel_height * g->kernel_width));
  for (;;) {
    lay_out_copy(plan, n);
    bool fits = elements_of_copy(plan, n) * conv_element_bytes(plan) <= conv_gradient_near() &&
                (weights_of_piece(plan, n) <= PIECE_ROWS || n->channels * n->kernel_rows == 1);
    if (fits || n->channels * n->kernel_rows == 1) return;
    if (n->channels > 1)
      n->channels = even(g->in_channels, n->channels - 1);
    else
      n->kernel_rows = even(g->kernel_height, n->kernel_rows - 1);
  }
}

static void fit_panels(const fonio_conv_plan *plan, gradient_numbers *n, int64_t panels) {
  int64_t rows = weights_of_piece(plan, n), pixels = plan->problem.out_height * plan->problem.out_width;
  int64_t most = conv_max(1, conv_gradient_near() / (rows * n->width * conv_element_bytes(plan)));
  int64_t others = n->outer * n->channel_blocks * n->row_blocks * n->order.parts;
  double products = (double)plan->problem.batch * (double)pixels * (double)(rows * n->width);
  int64_t worth = products < GRADIENT_PIECE_PRODUCTS ? (int64_t)(GRADIENT_PIECE_PRODUCTS / (products + 1)) + 1 : 1;
  int64_t spread = conv_max(n->deal_output ? 4 : 2, panels * others / GRADIENT_PIECES_ENOUGH);
  n->panels = even(panels, conv_min(most, conv_max(worth, spread)));
  n->panel_blocks = conv_ceil_div(panels, n->panels);
}

/* Panels are turned at once where channels lie side by side, so that memory is read in its order. */
static void lay_out(const fonio_conv_plan *plan, gradient_numbers *n) {
  int64_t bytes = conv_element_bytes(plan), rows = weights_of_piece(plan, n);
  int64_t pixels = n->order.images * n->order.rows * n->order.columns;
  n->kept = !n->deal_output ? 1 : n->by_lane ? n->panels : conv_min(n->panels, 4);
  n->panel = conv_round_up(rows * (int64_t)sizeof(int64_t), 64);
  n->copy = n->panel + conv_round_up(n->kept * pixels * n->width * bytes, 64);
  n->workspace_bytes = n->copy + conv_round_up(elements_of_copy(plan, n) * bytes, 64);
  n->sums = conv_round_up(n->panels * n->width * bytes, 64);
  n->result_bytes = conv_round_up(n->sums + n->panels * rows * n->width * bytes, 64);
}

gradient_numbers conv_gradient_numbers(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  gradient_numbers n = {.by_lane = plan->algorithm == &conv_groups_weight_gradient, .order = conv_order(plan)};
  n.all_lanes = n.by_lane ? plan->problem.groups : g->out_channels;
  n.width = conv_gradient_width(plan, n.by_lane, n.all_lanes);
  n.lane_panels = conv_ceil_div(n.all_lanes, n.width);
  n.source = source_of(plan, &n);
  n.deal_input = plan->problem.input_strides[1] == 1;
  n.deal_output = plan->problem.output_strides[1] == 1;
  fit_rows(plan, &n);
  n.channel_blocks = conv_ceil_div(g->in_channels, n.channels);
  n.row_blocks = conv_ceil_div(g->kernel_height, n.kernel_rows);
  n.outer = n.by_lane ? n.lane_panels : plan->problem.groups;
  fit_panels(plan, &n, n.by_lane ? g->out_channels : n.lane_panels);
  lay_out(plan, &n);
  return n;
}

/* ---- The two algorithms ---- */

/* What the least piece takes: a row of taps of one channel. */
static bool fits(const fonio_conv_problem *p, int64_t lanes) {
  if (p->batch == 0 || p->in_channels == 0 || p->out_channels == 0) return false;
  int64_t columns = conv_min(p->out_width, 256), rows = 256 / columns;
  int64_t reach = (columns - 1) * p->stride[1] + (p->kernel_width - 1) * p->dilation[1] + 1;
  return p->kernel_width <= 1024 && reach <= (1 << 16) / rows / lanes;
}

static bool channels_applicable(const fonio_conv_problem *p) {
  return fits(p, 1);
}

static bool groups_applicable(const fonio_conv_problem *p) {
  return p->groups > 1 && fits(p, 16);
}

/* Of a panel, the last of which may be narrower than the others. */
static double cycles_of_pixel(const fonio_conv_plan *plan, const gradient_numbers *n) {
  int64_t rows = weights_of_piece(plan, n), lanes = plan->kernels->lanes, others = n->lane_panels - 1;
  int64_t last = conv_gradient_width(plan, n->by_lane, n->all_lanes - others * n->width);
  double all = (double)others * conv_gradient_cycles(rows, n->width / lanes, n->by_lane);
  return (all + conv_gradient_cycles(rows, last / lanes, n->by_lane)) / (double)n->lane_panels;
}

static int64_t blocks_of(const gradient_numbers *n) {
  return n->outer * n->panel_blocks * n->channel_blocks * n->row_blocks;
}

static double cost(const fonio_conv_plan *plan) {
  gradient_numbers n = conv_gradient_numbers(plan);
  const fonio_conv_problem *p = &plan->problem;
  double pixels = (double)(p->out_height * p->out_width), rows = (double)weights_of_piece(plan, &n);
  double pieces = (double)blocks_of(&n);
  double of_pixel = cycles_of_pixel(plan, &n), share = n.source == SOURCE_INSIDE ? share_inside(plan) : 1;
  double per_block = (double)(n.order.images * n.order.rows * n.order.columns);
  double tiles = rows * (double)n.width / plan->kernels->lanes / 12, lines = pixels / (double)n.order.columns;
  double sums = pixels * of_pixel * share + tiles * (lines * 8 + pixels / per_block * 40);
  double copied = pixels / per_block * (double)elements_of_copy(plan, &n) * (n.source == SOURCE_PLANES ? 0.3 : 0.45);
  double turned = pixels * (double)n.width * (p->output_strides[1] == 1 ? 0.25 : 0.45);
  double stored = rows * (double)n.width / (double)conv_min(p->batch, 8);
  return pieces * ((double)n.panels * (sums + turned + stored) + copied) + 300;
}

static void prepare(fonio_conv_plan *plan) {
  gradient_numbers n = conv_gradient_numbers(plan);
  int64_t channels = n.width * n.panels;
  plan->blocks = (conv_blocks){
      .panel = n.width,
      .terms = weights_of_piece(plan, &n),
      .channels = n.by_lane ? channels : conv_min(channels, plan->geometry.out_channels),
      .pixels = n.order.images * n.order.rows * n.order.columns,
      .rows = n.order.rows,
  };
  conv_gradient_prepare(plan, (conv_sums){blocks_of(&n), n.order.parts, n.result_bytes}, n.workspace_bytes);
}

const conv_algorithm conv_channels_weight_gradient = {
    .name = "channels_weight_gradient",
    .direction = FONIO_CONV_WEIGHT_GRADIENT,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = channels_applicable,
    .needs = "images and channels, and kernel rows that reach over few pixels",
    .cost = cost,
    .prepare = prepare,
    .pieces = conv_gradient_pieces,
    .run_piece = conv_gradient_run_piece,
    .last_pieces = conv_gradient_last_pieces,
    .run_last = conv_gradient_run_last,
};

const conv_algorithm conv_groups_weight_gradient = {
    .name = "groups_weight_gradient",
    .direction = FONIO_CONV_WEIGHT_GRADIENT,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = groups_applicable,
    .needs = "images, several groups, and kernel rows that reach over few pixels",
    .cost = cost,
    .prepare = prepare,
    .pieces = conv_gradient_pieces,
    .run_piece = conv_gradient_run_piece,
    .last_pieces = conv_gradient_last_pieces,
    .run_last = conv_gradient_run_last,
};
