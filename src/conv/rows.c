/* Direct convolution where the channels of a pixel lie side by side (channels_last): pixels are rows behind pointers,
 * output channels are vector lanes, nothing but the weights is packed.
 *
 * The loops, outermost first:
 *   part of the sum: some taps (or some channels of one), whose panel of weights stays in the first-level cache
 *     the pointers of all pixels of the piece, looked up once: to the image, or to zeros for the padding
 *     panel of output channels
 *       rows_tile_rows pixels: one tile in registers */
#include <string.h>

#include "base/cpu.h"
#include "conv/plan.h"

/* Pixels must be equally far apart in the output, across the ends of its rows. */
static bool applicable(const fonio_conv_problem *p) {
  bool flat = p->out_height == 1 || p->output_strides[2] == p->output_strides[3] * p->out_width;
  return (p->input_strides[1] == 1 || p->in_channels == p->groups) &&
         (p->output_strides[1] == 1 || p->out_channels == p->groups) && flat;
}

static int64_t taps_of(const fonio_conv_plan *plan) {
  return plan->geometry.kernel_height * plan->geometry.kernel_width;
}

static int64_t terms_of(const fonio_conv_plan *plan) {
  return taps_of(plan) * plan->geometry.in_channels;
}

/* Output channels, rounded up to whole vectors. */
static int64_t columns_of(const fonio_conv_plan *plan) {
  return conv_round_up(plan->geometry.out_channels, plan->kernels->lanes);
}

static int64_t pixels_of_image(const fonio_conv_plan *plan) {
  return plan->problem.out_height * plan->problem.out_width;
}

/* Few channels: the taps of a row of the kernel lie side by side in the image, too, so that a pixel away from the edges
 * offers all of them behind one pointer. Worth it where a tap alone is too short a loop, and simple where the sum is
 * not cut. */
static bool joins_taps(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  return g->kernel_width > 1 && g->dilation[1] == 1 && g->input_strides[2] == g->in_channels && g->in_channels < 32 &&
         terms_of(plan) <= plan->blocks.terms;
}

static double cost(const fonio_conv_plan *plan) {
  double tile_rows = plan->kernels->rows_tile_rows, vectors = (double)columns_of(plan) / plan->kernels->lanes;
  double tiles = (double)conv_ceil_div(pixels_of_image(plan), plan->kernels->rows_tile_rows);
  double tile = tile_rows * vectors * (double)terms_of(plan) / 2 + 20 * vectors + 10 * (double)taps_of(plan);
  return (double)plan->problem.groups * tiles * tile;
}

/* A piece should last long enough to be worth handing to a thread. */
#define PIECE_PRODUCTS (1 << 22)

static void prepare(fonio_conv_plan *plan) {
  conv_blocks *b = &plan->blocks;
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype), channels = plan->geometry.in_channels;
  int64_t rows = plan->kernels->rows_tile_rows;
  b->panel = (int64_t)plan->kernels->lanes * plan->kernels->rows_tile_vectors;
  int64_t terms = conv_max(16, cpu_cache_sizes()->l1_bytes / 2 / (b->panel * bytes));
  b->terms = terms < channels ? terms : conv_min(terms_of(plan), terms / channels * channels);
  int64_t tiles = PIECE_PRODUCTS / conv_max(1, terms_of(plan) * columns_of(plan) * rows);
  b->pixels = conv_min(conv_max(tiles, 8), 64) * rows;
  plan->packed_bytes = plan->problem.groups * columns_of(plan) * terms_of(plan) * bytes;
  int64_t segments = conv_max(1, b->terms / conv_max(1, channels));
  int64_t zeros = conv_round_up(plan->geometry.kernel_width * channels * bytes, 64);
  plan->workspace_bytes = zeros + b->pixels * segments * (int64_t)sizeof(void *);
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  int64_t group_bytes = plan->packed_bytes / plan->problem.groups;
  bool finite = true;
  for (int64_t group = 0; group < plan->problem.groups; group++)
    finite &= plan->kernels->pack_columns(&plan->geometry, conv_at(weight, conv_weight_offset(plan, group)),
                                          (char *)packed + group * group_bytes);
  return finite;
}

static int64_t pieces_of_image(const fonio_conv_plan *plan) {
  return conv_ceil_div(pixels_of_image(plan), plan->blocks.pixels);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * plan->problem.groups * pieces_of_image(plan);
}

typedef struct rows_work {
  const fonio_conv_plan *plan;
  int64_t bytes; /* of an element */
  const char *input, *weights, *bias;
  char *output;
  const char *zeros;
  const void **pointers; /* [tile][segment][rows_tile_rows] */
  int64_t first_pixel, pixels;
  int64_t first_tap, taps, first_channel, channels; /* the part of the sum */
  bool join;                                        /* see joins_taps */
} rows_work;

/* Tiles of nearly the same size: where tile `i` of `tiles` begins. */
static int64_t tile_start(const rows_work *w, int64_t i, int64_t tiles) {
  return w->pixels * i / tiles;
}

static int64_t tiles_of(const rows_work *w) {
  return conv_ceil_div(w->pixels, w->plan->kernels->rows_tile_rows);
}

static const char *address_of(const rows_work *w, int64_t pixel, int64_t tap) {
  const kernel_conv *g = &w->plan->geometry;
  int64_t r = tap / g->kernel_width, s = tap % g->kernel_width;
  int64_t row = g->rows[pixel / g->out_width * g->stride[0] + r * g->dilation[0]];
  int64_t column = g->columns[pixel % g->out_width * g->stride[1] + s * g->dilation[1]];
  if (row < 0 || column < 0) return w->zeros;
  return w->input +
         w->bytes * (row * g->input_strides[1] + column * g->input_strides[2] + w->first_channel * g->input_strides[0]);
}

/* Whether no column of the pixel's window lies in the padding. */
static bool undisturbed(const kernel_conv *g, int64_t pixel) {
  int64_t column = pixel % g->out_width, last = g->kernel_width - 1;
  return column >= g->interior[0] && column < g->interior[1] && column >= g->interior[2 * last] &&
         column < g->interior[2 * last + 1];
}

/* The pointers of one tile, tap by tap or, where `join`, kernel row by kernel row. */
static void look_up(const rows_work *w, const void **pointers, int64_t pixel, int64_t count, bool join) {
  int64_t step = join ? w->plan->geometry.kernel_width : 1;
  for (int64_t tap = w->first_tap; tap < w->first_tap + w->taps; tap += step) {
    for (int64_t i = 0; i < count; i++)
      pointers[i] = address_of(w, pixel + i, tap);
    pointers += w->plan->kernels->rows_tile_rows;
  }
}

static bool tile_joins(const rows_work *w, int64_t pixel, int64_t count) {
  bool all = w->join;
  for (int64_t i = 0; all && i < count; i++)
    all = undisturbed(&w->plan->geometry, pixel + i);
  return all;
}

/* All tiles of the piece times one panel of output channels. */
static void run_panel(const rows_work *w, int64_t channel, int64_t columns, bool last) {
  const fonio_conv_plan *plan = w->plan;
  const kernel_conv *g = &plan->geometry;
  const kernel_table *k = plan->kernels;
  int64_t vectors = conv_ceil_div(columns, k->lanes), width = vectors * k->lanes, tiles = tiles_of(w);
  int64_t term = w->first_tap * g->in_channels + w->first_channel;
  char biases[64 * sizeof(double)];
  if (last) conv_copy_biases(plan, w->bias, channel, columns, biases);
  kernel_rows job = {
      .b = w->weights + w->bytes * (channel * terms_of(plan) + term * width),
      .c_stride = g->output_strides[2],
      .last = columns - (vectors - 1) * k->lanes,
      .bias = last && w->bias ? biases : NULL,
      .accumulate = term > 0,
  };
  for (int64_t i = 0; i < tiles; i++) {
    int64_t from = tile_start(w, i, tiles), count = tile_start(w, i + 1, tiles) - from;
    bool join = tile_joins(w, w->first_pixel + from, count);
    job.segments = join ? g->kernel_height : w->taps;
    job.terms = join ? g->kernel_width * g->in_channels : w->channels;
    job.rows = w->pointers + i * w->taps * k->rows_tile_rows;
    char *c = w->output + w->bytes * ((w->first_pixel + from) * g->output_strides[2] + channel);
    k->rows_tiles[(count - 1) * k->rows_tile_vectors + vectors - 1](&job, c);
  }
}

/* One part of the sum for the whole piece. */
static void run_part(const rows_work *w, bool last) {
  int64_t out_channels = w->plan->geometry.out_channels, panel = w->plan->blocks.panel, tiles = tiles_of(w);
  for (int64_t i = 0; i < tiles; i++) {
    int64_t from = tile_start(w, i, tiles), count = tile_start(w, i + 1, tiles) - from;
    look_up(w, w->pointers + i * w->taps * w->plan->kernels->rows_tile_rows, w->first_pixel + from, count,
            tile_joins(w, w->first_pixel + from, count));
  }
  for (int64_t channel = 0; channel < out_channels; channel += panel)
    run_panel(w, channel, conv_min(panel, out_channels - channel), last);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const kernel_conv *g = &plan->geometry;
  int64_t per_image = pieces_of_image(plan), groups = plan->problem.groups;
  int64_t image = piece / per_image / groups, group = piece / per_image % groups;
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype);
  int64_t zeros = conv_round_up(g->kernel_width * g->in_channels * bytes, 64);
  rows_work w = {
      .plan = plan,
      .bytes = bytes,
      .input = conv_at(run->buffers->input, conv_input_offset(plan, image, group)),
      .weights = conv_at(run->packed, group * (plan->packed_bytes / groups)),
      .bias = conv_at(run->buffers->bias, conv_bias_offset(plan, group)),
      .output = (char *)run->buffers->output + conv_output_offset(plan, image, group),
      .zeros = memset(workspace, 0, (size_t)zeros),
      .pointers = (void *)((char *)workspace + zeros),
      .first_pixel = piece % per_image * plan->blocks.pixels,
      .join = joins_taps(plan),
  };
  w.pixels = conv_min(plan->blocks.pixels, pixels_of_image(plan) - w.first_pixel);
  int64_t terms = terms_of(plan);
  for (int64_t term = 0, next; term < terms; term = next) {
    w.first_tap = term / g->in_channels;
    w.first_channel = term % g->in_channels;
    w.channels = conv_min(plan->blocks.terms, g->in_channels - w.first_channel);
    w.taps = conv_max(1, conv_min(plan->blocks.terms / g->in_channels, taps_of(plan) - w.first_tap));
    next = term + w.taps * w.channels;
    run_part(&w, next == terms);
  }
}

const conv_algorithm conv_rows_forward = {
    .name = "rows",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .cost = cost,
    .prepare = prepare,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
