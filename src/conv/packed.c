/* Implicit matrix product over packed panels. Rows are output channels, columns are output pixels, the sum runs over
 * the taps. Weights are packed once, pixels panel by panel into a buffer that stays in the first-level cache; no im2col
 * buffer, no padded copy. Serves every problem.
 *
 * The loops, outermost first, after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008):
 *   block of output channels x part of the sum: weights that stay in the second-level cache
 *     panel of pixels: packed, stays in the first-level cache
 *       tile_rows output channels: one tile in registers */
#include <string.h>

#include "base/cpu.h"
#include "conv/plan.h"

static bool applicable(const fonio_conv_problem *problem) {
  (void)problem;
  return true;
}

static int64_t terms_of_sum(const fonio_conv_plan *plan) {
  return plan->geometry.in_channels * plan->problem.kernel_height * plan->problem.kernel_width;
}

static int64_t pixels_of_image(const fonio_conv_plan *plan) {
  return plan->problem.out_height * plan->problem.out_width;
}

/* Packing moves whole vectors where pixels lie side by side or every second one, otherwise each element for itself. */
static double cost(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  double lanes = plan->kernels->lanes, terms = (double)terms_of_sum(plan), channels = (double)g->out_channels;
  double rows = (double)conv_round_up(g->out_channels, 2);
  double pixels = (double)conv_round_up(pixels_of_image(plan), plan->kernels->lanes);
  int64_t step = g->stride[1] * g->input_strides[2];
  double pack = step == 1 ? 1.5 / lanes + 0.1 : step == 2 ? 4 / lanes + 0.1 : 1.5;
  double store = g->output_strides[2] == 1 ? 0 : 3 * channels;
  return (double)plan->problem.groups * pixels * (rows * terms / (1.9 * lanes) + pack * terms + store);
}

/* A piece should last long enough to be worth handing to a thread: some 50 microseconds. */
#define PIECE_PRODUCTS (1 << 22)

static void prepare(fonio_conv_plan *plan) {
  const cpu_caches *caches = cpu_cache_sizes();
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype), terms = terms_of_sum(plan);
  conv_blocks *b = &plan->blocks;
  b->panel = plan->kernels->lanes * plan->kernels->tile_vectors;
  /* At least 1: without channels there are no terms. */
  b->terms = conv_max(1, conv_min(terms, conv_max(16, caches->l1_bytes * 3 / 4 / (b->panel * bytes))));
  int64_t rows = plan->kernels->tile_rows;
  b->channels = conv_max(rows, caches->l2_bytes / 2 / (b->terms * bytes) / rows * rows);
  int64_t per_panel = b->panel * terms * plan->geometry.out_channels;
  b->pixels = b->panel * conv_max(1, PIECE_PRODUCTS / conv_max(1, per_panel));
  plan->packed_bytes = plan->problem.groups * plan->geometry.out_channels * terms * bytes;
  /* The panel, the vector that packing may write behind it, and one tile for outputs that cannot be written in place.
   */
  plan->workspace_bytes =
      conv_round_up((b->terms * b->panel + plan->kernels->lanes) * bytes, 64) + rows * b->panel * bytes;
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  int64_t group_bytes = plan->packed_bytes / plan->problem.groups;
  bool finite = true;
  for (int64_t group = 0; group < plan->problem.groups; group++)
    finite &= plan->kernels->pack_weights(&plan->geometry, conv_at(weight, conv_weight_offset(plan, group)),
                                          (char *)packed + group * group_bytes);
  return finite;
}

static int64_t pieces_of_image(const fonio_conv_plan *plan) {
  return conv_ceil_div(pixels_of_image(plan), plan->blocks.pixels);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * plan->problem.groups * pieces_of_image(plan);
}

/* What the inner loops work on: one image and group, one block of the sum. */
typedef struct panel_work {
  const fonio_conv_plan *plan;
  const char *input, *weights, *bias;
  char *output;
  char *panel, *scratch; /* in the workspace */
  int64_t bytes;         /* of an element */
  kernel_pixels part;
  int64_t width; /* of the panel: the pixels rounded up to whole vectors */
  bool last;     /* the sum ends with this part: add the bias */
} panel_work;

/* Moves a tile of outputs between memory of any strides and a scratch of `width` elements a row. */
static void move_tile(const panel_work *w, int64_t channel, int64_t rows, bool to_output) {
  const kernel_conv *g = &w->plan->geometry;
  for (int64_t m = 0; m < rows; m++)
    for (int64_t i = 0; i < w->part.pixels; i++) {
      int64_t pixel = w->part.first_pixel + i;
      char *out =
          w->output + w->bytes * ((channel + m) * g->output_strides[0] + pixel / g->out_width * g->output_strides[1] +
                                  pixel % g->out_width * g->output_strides[2]);
      char *in = w->scratch + w->bytes * (m * w->width + i);
      if (w->bytes == 4)
        memcpy(to_output ? out : in, to_output ? in : out, 4);
      else
        memcpy(to_output ? out : in, to_output ? in : out, 8);
    }
}

/* One tile: `rows` output channels from `channel` on. */
static void run_tile(const panel_work *w, int64_t channel, int64_t rows) {
  const fonio_conv_plan *plan = w->plan;
  const kernel_conv *g = &plan->geometry;
  const kernel_table *k = plan->kernels;
  kernel_tile tile = k->tiles[(rows - 1) * k->tile_vectors + w->width / k->lanes - 1];
  const char *weights = w->weights + w->bytes * (channel * terms_of_sum(plan) + w->part.first_term * rows);
  bool accumulate = w->part.first_term > 0;
  /* The kernel reads the biases of a tile side by side. */
  double biases[16];
  const void *bias = w->last && w->bias ? biases : NULL;
  if (bias) conv_copy_biases(plan, w->bias, channel, rows, biases);
  bool in_place = g->output_strides[2] == 1 && g->output_strides[1] == g->out_width && w->width == w->part.pixels;
  if (in_place) {
    void *c = w->output + w->bytes * (channel * g->output_strides[0] + w->part.first_pixel);
    tile(w->part.terms, weights, w->panel, w->width, c, g->output_strides[0], bias, accumulate);
  } else {
    if (accumulate) move_tile(w, channel, rows, false);
    tile(w->part.terms, weights, w->panel, w->width, w->scratch, w->width, bias, accumulate);
    move_tile(w, channel, rows, true);
  }
}

/* All panels of a piece, for one block of output channels and one part of the sum. */
static void run_block(panel_work *w, int64_t channel, int64_t channels, int64_t first_pixel, int64_t end_pixel) {
  const kernel_table *k = w->plan->kernels;
  for (int64_t pixel = first_pixel; pixel < end_pixel; pixel += w->plan->blocks.panel) {
    w->part.first_pixel = pixel;
    w->part.pixels = conv_min(w->plan->blocks.panel, end_pixel - pixel);
    w->width = conv_round_up(w->part.pixels, k->lanes);
    k->pack_pixels(&w->plan->geometry, &w->part, w->input, w->width, w->panel);
    for (int64_t m = channel; m < channel + channels; m += k->tile_rows)
      run_tile(w, m, conv_min(k->tile_rows, channel + channels - m));
  }
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const conv_blocks *b = &plan->blocks;
  int64_t per_image = pieces_of_image(plan), groups = plan->problem.groups;
  int64_t image = piece / per_image / groups, group = piece / per_image % groups;
  int64_t first_pixel = piece % per_image * b->pixels;
  int64_t end_pixel = conv_min(first_pixel + b->pixels, pixels_of_image(plan));
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype), terms = terms_of_sum(plan);
  panel_work w = {
      .plan = plan,
      .input = conv_at(run->buffers->input, conv_input_offset(plan, image, group)),
      .weights = conv_at(run->packed, group * (plan->packed_bytes / groups)),
      .bias = conv_at(run->buffers->bias, conv_bias_offset(plan, group)),
      .output = (char *)run->buffers->output + conv_output_offset(plan, image, group),
      .panel = workspace,
      .scratch = (char *)workspace + conv_round_up((b->terms * b->panel + plan->kernels->lanes) * bytes, 64),
      .bytes = bytes,
  };
  for (int64_t channel = 0; channel < plan->geometry.out_channels; channel += b->channels)
    for (int64_t term = 0; term < terms; term += b->terms) {
      w.part.first_term = term;
      w.part.terms = conv_min(b->terms, terms - term);
      w.last = term + w.part.terms == terms;
      run_block(&w, channel, conv_min(b->channels, plan->geometry.out_channels - channel), first_pixel, end_pixel);
    }
}

const conv_algorithm conv_packed_forward = {
    .name = "packed",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .cost = cost,
    .prepare = prepare,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
