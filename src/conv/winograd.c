/* Winograd's algorithm for small kernels: F(4x4, 3x3) and its relatives, which share the points that they stand on.
 * Tiles of 6 x 6 inputs give 4 x 4 outputs of a kernel of 3 x 3, 2 x 2 outputs of one of 5 x 5; tiles of 4 x 4 inputs 2
 * x 2 outputs of one of 3 x 3.
 *
 * A dilated convolution is dilation^2 undilated ones on interleaved images. One with a stride is one of stride 1 on as
 * many interleaved images, which are so many times the input channels, with kernels of which each has every stride-th
 * row and column: 3 x 3 or 4 x 4 of stride 2 are 2 x 2. A phase that has one tap less than another along an axis is
 * zero in some elements of the tiles, which leave it out: 49 products instead of 64 for 3 x 3. Where the channels are
 * few, they and the phases of the stride share vectors (joined.h).
 *
 * One piece of work: a block of tiles of one image, group and interleaved image, and a block of output channels. Its
 * inputs are transformed into V[element][tile][channel], each element is one matrix product M = V U, and M is
 * transformed back, all in a workspace that a core's caches hold. Channels are the vector lanes; images of either
 * layout come and go through strips. */
#include "base/cpu.h"
#include "conv/joined.h"
#include "conv/plan.h"

/* Rows (or columns) of the kernel that one phase of the stride has. */
static int64_t taps_along(const fonio_conv_problem *p, int axis) {
  return conv_ceil_div(axis ? p->kernel_width : p->kernel_height, p->stride[axis]);
}

/* Of both axes; tiles are square. */
static int64_t taps_of(const fonio_conv_problem *p) {
  return conv_max(taps_along(p, 0), taps_along(p, 1));
}

static bool applicable(const fonio_conv_problem *p, int64_t least_taps, int64_t most_taps) {
  bool plain = p->stride[0] * p->stride[1] == 1 || p->dilation[0] * p->dilation[1] == 1;
  return plain && taps_along(p, 0) > 1 && taps_along(p, 1) > 1 && taps_of(p) >= least_taps && taps_of(p) <= most_taps;
}

/* Beyond 2.5 times the error of a plain sum: F(5x5, 2x2), and F(4x4, 3x3) where the kernel leaves many of the taps
 * empty, which is nearly the same. */
static bool applicable4(const fonio_conv_problem *p) {
  if (!applicable(p, 3, 5)) return false;
  int64_t all = taps_of(p) * taps_of(p) * p->stride[0] * p->stride[1], there = p->kernel_height * p->kernel_width;
  return taps_of(p) == 3 ? 5 * there >= 4 * all : 2 * there >= all;
}

static bool applicable2(const fonio_conv_problem *p) {
  return applicable(p, 2, 3);
}

/* The numbers that follow from a plan. */
typedef struct winograd {
  kernel_winograd_axis axes[2];
  int alpha, m;                  /* inputs and outputs along a side of a tile */
  int elements;                  /* alpha^2 */
  int64_t parts;                 /* of the kernel: one for each phase of the stride */
  int64_t rows, columns;         /* tiles of the largest interleaved image */
  int64_t terms;                 /* of the sums, at the most: the input channels of the group, once for each part */
  int64_t products;              /* terms of the sums of all elements of a tile */
  int64_t in_pitch, out_pitch;   /* of a row of V and of M: one tile's terms, or channels */
  int64_t in_stride, out_stride; /* from one element to the next */
  int64_t out_channels;          /* of the group, rounded up to whole vectors */
  int64_t pass; /* channels that are transformed together: a cache line of them, so that lines of V are written whole */
  bool joined;  /* few channels under a stride: all terms are transformed together, channel by channel */
  int64_t pixel; /* of a strip of the inputs */
  int64_t run_tiles;
  int64_t strip_pitch;
  int64_t v_elements, m_elements, strip_elements;
} winograd;

/* Columns of a strip, about. It stays in the second-level cache; shorter ones would stay in the first, but the rows of
 * a vector's channels lie in as many pages, which takes the longer the less is read of each at once. */
#define RUN_COLUMNS 192

/* Of the strip under so many tiles. */
static int64_t strip_columns(const winograd *w, int64_t tiles) {
  const kernel_winograd_axis *axis = &w->axes[1];
  int64_t columns = tiles * w->m + w->alpha - w->m;
  return w->joined ? columns : (columns - 1) * axis->step + kernel_winograd_tap(axis, axis->parts - 1) + 1;
}

/* Where the channels that are transformed last begin, they are written as whole vectors. */
static int64_t room_for_terms(const fonio_conv_plan *plan, const winograd *w) {
  int64_t channels = plan->geometry.in_channels, last = channels - (channels - 1) / w->pass * w->pass;
  return w->terms - last + conv_round_up(last, plan->kernels->lanes);
}

/* From one element of V or M to the next: an odd number of cache lines, so that the elements of a tile, which are
 * written and read together, do not fall into the same sets of a cache. */
static int64_t element_stride(const winograd *w, int64_t tiles, int64_t pitch) {
  return (tiles * pitch / w->pass | 1) * w->pass;
}

/* A phase of the stride has all of the taps, or one less. */
static kernel_winograd_axis axis_of(const fonio_conv_problem *p, int axis, int alpha, int64_t taps) {
  int64_t kernel = axis ? p->kernel_width : p->kernel_height, parts = conv_min(p->stride[axis], kernel);
  int64_t full = kernel - parts * (taps - 1);
  return (kernel_winograd_axis){alpha, alpha + 1 - (int)taps, parts, full > 0 ? full : parts, p->stride[axis]};
}

/* Terms of the sum of an element. */
static int64_t terms_of(const winograd *w, int64_t in_channels, int element) {
  kernel_winograd_range parts = kernel_winograd_parts(w->axes, element / w->alpha, element % w->alpha);
  return (parts.to - parts.from) * in_channels;
}

/* The kernel's parts, and the terms that come of them. */
static void find_terms(const fonio_conv_plan *plan, winograd *w) {
  int64_t in_channels = plan->geometry.in_channels, taps = taps_of(&plan->problem);
  for (int i = 0; i < 2; i++)
    w->axes[i] = axis_of(&plan->problem, i, w->alpha, taps);
  w->parts = w->axes[0].parts * w->axes[1].parts;
  w->terms = in_channels * w->parts;
  w->joined = w->parts > 1 && in_channels <= 4 && w->terms <= 64;
  for (int i = 0; w->joined && i < 2; i++)
    w->axes[i].full = w->axes[i].parts;
  for (int e = 0; e < w->elements; e++)
    w->products += terms_of(w, in_channels, e);
}

static winograd numbers_of(const fonio_conv_plan *plan, int alpha) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  int64_t lanes = plan->kernels->lanes, tiles = plan->blocks.pixels;
  winograd w = {.alpha = alpha, .m = alpha + 1 - (int)taps_of(p), .elements = alpha * alpha};
  find_terms(plan, &w);
  w.rows = conv_ceil_div(conv_ceil_div(g->out_height, g->dilation[0]), w.m);
  w.columns = conv_ceil_div(conv_ceil_div(g->out_width, g->dilation[1]), w.m);
  w.pass = conv_max(lanes, 64 / (int64_t)fonio_dtype_bytes(p->dtype));
  w.pixel = w.joined ? conv_round_up(w.terms, w.pass) : w.pass;
  w.in_pitch = w.joined ? w.pixel : conv_round_up(room_for_terms(plan, &w), w.pass);
  w.out_channels = conv_round_up(g->out_channels, lanes);
  w.out_pitch = conv_round_up(conv_min(plan->blocks.sums, w.out_channels), w.pass);
  w.in_stride = element_stride(&w, tiles, w.in_pitch);
  w.out_stride = element_stride(&w, tiles, w.out_pitch);
  w.run_tiles = conv_max(1, RUN_COLUMNS / (w.m * (w.joined ? w.pixel / w.pass : p->stride[1])));
  w.strip_pitch = strip_columns(&w, conv_min(conv_min(tiles, w.columns), w.run_tiles)) * w.pixel;
  w.v_elements = w.elements * w.in_stride;
  w.m_elements = w.elements * w.out_stride;
  w.strip_elements = alpha * w.strip_pitch;
  return w;
}

static int alpha_of(const fonio_conv_plan *plan) {
  return plan->algorithm == &conv_winograd4_forward ? 6 : 4;
}

/* Half tiles' time for the products of a block: tiles of rows take some time to begin, and few rows do not keep the
 * multipliers busy. The weights pass once. */
static int64_t time_of_block(const kernel_table *k, int64_t tiles) {
  int64_t parts = conv_ceil_div(tiles, k->rows_tile_rows);
  return tiles > 0 ? 2 * conv_max(tiles, parts * 8 / k->rows_tile_vectors) + parts + 2 : 0;
}

/* What an image consists of: interleaved ones of each group, to convolve one by one. */
static int64_t images_in_one(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  return p->groups * p->dilation[0] * p->dilation[1];
}

static int64_t images_of(const fonio_conv_plan *plan) {
  return plan->problem.batch * images_in_one(plan);
}

/* Time with blocks of so many; runs of tiles in a row, which share strips, end where a row or a block does. */
static int64_t time_of_blocks(const kernel_table *k, const winograd *w, int64_t block) {
  int64_t tiles = w->rows * w->columns, blocks = conv_ceil_div(tiles, block), runs = w->rows + blocks;
  if (block % w->columns == 0) runs -= blocks;
  if (w->columns % block == 0) runs -= w->rows;
  return tiles / block * time_of_block(k, block) + time_of_block(k, tiles % block) + runs;
}

static int64_t best_block(const kernel_table *k, const winograd *w, int64_t most) {
  int64_t best = most;
  for (int64_t block = most - 1; block >= (most + 1) / 2; block--)
    if (time_of_blocks(k, w, block) < time_of_blocks(k, w, best)) best = block;
  return best;
}

static int64_t bytes_of_weights(const fonio_conv_plan *plan, const winograd *w) {
  return w->products * w->out_channels * (int64_t)fonio_dtype_bytes(plan->problem.dtype);
}

/* Whether the third-level cache, which others use, too, hardly holds the weights from one pass to the next. */
static bool are_far(int64_t weights) {
  return weights > conv_min(cpu_cache_sizes()->l3_bytes * 3 / 8, 12 << 20);
}

/* Of a sum without a stop. A panel of their weights is more than the first-level cache holds, but comes from the second
 * one as fast as it is needed; to store the sums and to read them again would take longer. */
#define MOST_TERMS 512

/* Blocks: so many tiles that the transformed weights, which pass once for each block, are worth their way, yet V and M
 * stay near. Far weights pass as seldom as possible; then only the sums of a few channels stay near. */
static void block_tiles(fonio_conv_plan *plan, int alpha) {
  const kernel_table *k = plan->kernels;
  const cpu_caches *caches = cpu_cache_sizes();
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype), panel = k->lanes * k->rows_tile_vectors;
  plan->blocks.pixels = 1;
  plan->blocks.channels = plan->blocks.sums = INT64_MAX / 2;
  winograd w = numbers_of(plan, alpha);
  bool far = are_far(bytes_of_weights(plan, &w));
  int64_t tiles = w.rows * w.columns, images = images_in_one(plan);
  int64_t sums = conv_min(far ? 64 : INT64_MAX, w.out_channels), a_tile = w.elements * (w.terms + sums) * bytes;
  /* The phases of a stride are many terms, but the workspace grows with the channels only. */
  int64_t channels = plan->geometry.in_channels + plan->geometry.out_channels;
  int64_t most_bytes = conv_min(8192 * (w.terms + w.out_channels), (1 << 19) + 8192 * channels);
  int64_t most = conv_max(8, most_bytes / a_tile);
  int64_t near = conv_max(caches->l2_bytes * 3 / 4 / a_tile, k->lanes * bytes * 3 / 4);
  near = conv_min(near, conv_max(conv_ceil_div(tiles, 3), k->rows_tile_rows));
  int64_t block = far ? conv_even_pairs(tiles, most) : best_block(k, &w, conv_min(conv_min(most, near), tiles));
  /* Of one image, as all that the choice looks at. Two threads would share three or five blocks unevenly: one more, of
   * whole tiles of the product if that will do. */
  int64_t blocks = conv_ceil_div(tiles, block) * images;
  if (blocks == 3 || blocks == 5) {
    int64_t even = conv_even_pairs(tiles, block), whole = conv_round_up(even, k->rows_tile_rows);
    block = whole * blocks < tiles ? whole : even;
  }
  plan->blocks.pixels = block;
  /* Few tiles and many channels: cut the output channels, too, so that there is work for several threads. */
  int64_t parts = 1;
  while (parts < 8 && blocks * parts < 3 && w.out_channels / (parts * 2) >= 2 * panel)
    parts *= 2;
  plan->blocks.channels = conv_round_up(conv_ceil_div(w.out_channels, parts), panel);
  plan->blocks.sums = conv_min(conv_round_up(sums, panel), plan->blocks.channels);
  plan->blocks.panel = panel;
  plan->blocks.terms = conv_even(w.terms, MOST_TERMS);
}

static int64_t blocks_of_tiles(const fonio_conv_plan *plan, const winograd *w) {
  return conv_ceil_div(w->rows * w->columns, plan->blocks.pixels);
}

static int64_t blocks_of_channels(const fonio_conv_plan *plan, const winograd *w) {
  return conv_ceil_div(w->out_channels, plan->blocks.channels);
}

/* Whether all blocks of channels share one V, which pieces of work make before: the last ones are then the products. */
static bool shares(const fonio_conv_plan *plan, const winograd *w) {
  return !plan->part && images_of(plan) * blocks_of_tiles(plan, w) == 1 && blocks_of_channels(plan, w) > 1;
}

static void prepare(fonio_conv_plan *plan) {
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype);
  block_tiles(plan, alpha_of(plan));
  winograd w = numbers_of(plan, alpha_of(plan));
  plan->packed_bytes = plan->problem.groups * bytes_of_weights(plan, &w);
  plan->workspace_bytes = conv_round_up((w.v_elements + w.m_elements + w.strip_elements) * bytes, 64) + 4 * 64;
  if (!shares(plan, &w)) return;
  plan->shared_bytes = conv_round_up(w.v_elements * bytes, 64);
  plan->workspace_bytes -= w.v_elements * bytes;
}

/* Products and transforms keep the core busy; meanwhile the transformed weights come in once for each block of tiles,
 * from beyond the second-level cache where they are too large for it. */
static double cost_of(const fonio_conv_plan *plan, int alpha) {
  const kernel_conv *g = &plan->geometry;
  fonio_conv_plan probe = *plan;
  block_tiles(&probe, alpha);
  winograd w = numbers_of(&probe, alpha);
  double lanes = plan->kernels->lanes, images = (double)(g->dilation[0] * g->dilation[1]);
  double tiles = (double)(w.rows * w.columns);
  /* Each sum is stored and read again, which takes as long as a dozen products. */
  double products = tiles * (double)(w.products + 12 * w.elements) * (double)w.out_channels / (1.9 * lanes);
  double vectors = (double)(w.in_pitch + w.out_channels) / lanes;
  bool phases = w.parts > 1; /* many terms for few products, and strips of which each serves for less */
  double transforms = tiles * vectors * (alpha == 6 ? 170 : phases ? 100 : 80);
  int64_t weights = bytes_of_weights(plan, &w);
  /* Bytes in the time of two vectors' products, which wide vectors make longer. */
  double wide = lanes * (double)fonio_dtype_bytes(plan->problem.dtype) > 32 ? 2 : 1;
  double rate = wide * (weights <= cpu_cache_sizes()->l2_bytes / 2 ? 20 : are_far(weights) ? 5 : 12);
  double streamed = (double)(weights * conv_ceil_div(w.rows * w.columns, probe.blocks.pixels)) / rate;
  double longer = products > streamed ? products : streamed, shorter = products + streamed - longer;
  double both = phases ? longer + shorter / 4 : longer;
  return (double)plan->problem.groups * images * (both + transforms) + 2000;
}

static double cost4(const fonio_conv_plan *plan) {
  return cost_of(plan, 6);
}

static double cost2(const fonio_conv_plan *plan) {
  return cost_of(plan, 4);
}

static bool pack_group(const fonio_conv_plan *plan, const void *weight, void *packed) {
  winograd w = numbers_of(plan, alpha_of(plan));
  kernel_winograd_weights job = {{w.axes[0], w.axes[1]}, w.joined, are_far(bytes_of_weights(plan, &w))};
  return plan->kernels->winograd_weights(&job, &plan->geometry, weight, packed);
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return conv_pack_groups(plan, weight, packed, pack_group);
}

/* ---- One piece ---- */

typedef struct winograd_work {
  const conv_run *run;
  const fonio_conv_plan *plan;
  int64_t image, group;
  winograd numbers;
  int64_t bytes; /* of an element */
  const char *input, *weights, *bias;
  char *output, *v, *m, *strip;
  int64_t phase[2];          /* which interleaved image */
  int64_t first_tile, tiles; /* counted row by row */
  int64_t blocks;            /* of tiles, nearly equal ones: rows of one tile of the product */
} winograd_work;

/* Tiles of the block side by side in one row of tiles: the strip under them, and where they begin in the block. */
typedef struct tile_run {
  int64_t row, column, tiles, from;
} tile_run;

static tile_run run_at(const winograd_work *w, int64_t from) {
  int64_t tile = w->first_tile + from, columns = w->numbers.columns;
  int64_t tiles = conv_min(conv_min(columns - tile % columns, w->tiles - from), w->numbers.run_tiles);
  return (tile_run){tile / columns, tile % columns, tiles, from};
}

/* The strip of the inputs, of one part of rows and all parts of columns. */
static kernel_strip input_strip(const winograd_work *w, tile_run run, int64_t part) {
  const fonio_conv_problem *p = &w->plan->problem;
  const winograd *n = &w->numbers;
  return (kernel_strip){
      .row = w->phase[0] + kernel_winograd_tap(&n->axes[0], part) * p->dilation[0] +
             run.row * n->m * p->stride[0] * p->dilation[0],
      .column = w->phase[1] + run.column * n->m * p->stride[1] * p->dilation[1],
      .rows = n->alpha,
      .columns = strip_columns(n, run.tiles),
      .step = {p->stride[0] * p->dilation[0], n->joined ? p->stride[1] : p->dilation[1]},
      .pixel = n->pixel,
      .pitch = n->strip_pitch,
  };
}

static kernel_strip output_strip(const winograd_work *w, tile_run run) {
  const int64_t *dilation = w->plan->geometry.dilation;
  const winograd *n = &w->numbers;
  return (kernel_strip){
      .row = w->phase[0] + run.row * n->m * dilation[0],
      .column = w->phase[1] + run.column * n->m * dilation[1],
      .rows = n->m,
      .columns = run.tiles * n->m,
      .step = {dilation[0], dilation[1]},
      .pixel = n->pass,
      .pitch = n->strip_pitch,
  };
}

/* A pass over `channels` channels from `channel` on, part by part. */
static void transform_pass(const winograd_work *w, tile_run run, kernel_winograd *job, int64_t channel,
                           int64_t channels, char *to) {
  const winograd *n = &w->numbers;
  const kernel_table *k = w->plan->kernels;
  job->vectors = conv_ceil_div(channels, k->lanes);
  for (int64_t place = 0, row = -1; place < n->parts; place++) {
    int64_t part[2];
    kernel_winograd_part(n->axes, place, part);
    kernel_strip strip = input_strip(w, run, part[0]);
    for (int64_t v = 0; v < job->vectors * k->lanes && part[0] != row; v += k->lanes)
      k->gather_strip(&w->plan->geometry, &strip, channel + v, w->input, w->strip + w->bytes * v);
    row = part[0];
    k->winograd_input(job, w->strip + w->bytes * kernel_winograd_tap(&n->axes[1], part[1]) * n->pass,
                      to + w->bytes * (place * w->plan->geometry.in_channels + channel));
  }
}

/* Vectors that are not whole are written whole, and what is too much is overwritten by what follows: the channels that
 * are left over come first. */
static void transform_inputs(const winograd_work *w, tile_run run) {
  const winograd *n = &w->numbers;
  int64_t in_channels = w->plan->geometry.in_channels;
  kernel_winograd job = {.alpha = n->alpha,
                         .m = n->m,
                         .tiles = run.tiles,
                         .pixel = n->joined ? n->pixel : n->pass * n->axes[1].step,
                         .pitch = n->strip_pitch,
                         .element_stride = n->in_stride,
                         .tile_stride = n->in_pitch};
  char *to = w->v + w->bytes * run.from * n->in_pitch;
  if (n->joined) {
    kernel_strip strip = input_strip(w, run, 0);
    const int64_t parts[2] = {n->axes[0].parts, n->axes[1].parts};
    conv_gather_joined(&w->plan->geometry, &strip, parts, w->bytes, w->input, w->strip);
    job.vectors = conv_ceil_div(n->terms, w->plan->kernels->lanes);
    w->plan->kernels->winograd_input(&job, w->strip, to);
    return;
  }
  for (int64_t end = in_channels, channel; end > 0; end = channel) {
    channel = (end - 1) / n->pass * n->pass;
    transform_pass(w, run, &job, channel, end - channel, to);
  }
}

/* Of output channels [from, to), whose sums are in M. */
static void transform_outputs(const winograd_work *w, tile_run run, int64_t from, int64_t to) {
  const winograd *n = &w->numbers;
  const kernel_table *k = w->plan->kernels;
  kernel_strip strip = output_strip(w, run);
  kernel_winograd job = {.alpha = n->alpha,
                         .m = n->m,
                         .tiles = run.tiles,
                         .pixel = strip.pixel,
                         .pitch = strip.pitch,
                         .element_stride = n->out_stride,
                         .tile_stride = n->out_pitch};
  for (int64_t channel = from; channel < to; channel += n->pass) {
    int64_t out_channels = w->plan->geometry.out_channels;
    int64_t channels = conv_min(out_channels - channel, conv_min(to - channel, n->pass));
    double biases[64] = {0};
    conv_copy_biases(w->plan, w->bias, channel, channels, biases);
    job.vectors = conv_ceil_div(conv_min(to - channel, n->pass), k->lanes);
    k->winograd_output(&job, w->m + w->bytes * (run.from * n->out_pitch + channel - from), biases, w->strip);
    for (int64_t v = 0; v < job.vectors * k->lanes; v += k->lanes)
      k->scatter_strip(&w->plan->geometry, &strip, channel + v, w->strip + w->bytes * v, w->output);
    conv_finish(w->run, w->image, w->group * out_channels + channel, channels, &strip);
  }
}

/* One block of columns of one element's product: all tiles, `terms` input channels from `first` on. */
static void multiply_panel(const winograd_work *w, const char *v, const char *u, char *m, int64_t columns,
                           int64_t first, int64_t terms, int64_t ahead) {
  const kernel_table *k = w->plan->kernels;
  int64_t vectors = conv_ceil_div(columns, k->lanes), least = w->tiles / w->blocks, more = w->tiles % w->blocks;
  const void *rows[16];
  kernel_rows job = {1, terms, rows, u, w->numbers.out_pitch, k->lanes, NULL, first > 0, 0};
  for (int64_t block = 0, tile = 0; block < w->blocks; block++) {
    int64_t count = block < more ? least + 1 : least;
    job.ahead = block == 0 ? ahead : 0;
    for (int64_t i = 0; i < count; i++)
      rows[i] = v + w->bytes * ((tile + i) * w->numbers.in_pitch + first);
    k->rows_tiles[(count - 1) * k->rows_tile_vectors + vectors - 1](&job, m + w->bytes * tile * w->numbers.out_pitch);
    tile += count;
  }
}

/* One element's product, from the weights of it; those of the next one begin at `next`. */
static void multiply_element(const winograd_work *w, int e, const char *weights, const char *next, int64_t from,
                             int64_t to) {
  const winograd *n = &w->numbers;
  const conv_blocks *b = &w->plan->blocks;
  int64_t in_channels = w->plan->geometry.in_channels, count = terms_of(n, in_channels, e);
  int64_t most = conv_even(count, b->terms);
  int64_t first = kernel_winograd_parts(n->axes, e / n->alpha, e % n->alpha).from * in_channels;
  const char *v = w->v + w->bytes * (e * n->in_stride + first);
  for (int64_t c = from; c < to; c += b->panel)
    for (int64_t term = 0; term < count; term += most) {
      int64_t columns = conv_min(b->panel, to - c), terms = conv_min(most, count - term);
      const char *u = weights + w->bytes * (c * count + term * columns);
      bool last = c + columns == to && term + terms == count;
      int64_t ahead = last ? (next - u) / w->bytes : terms * columns;
      multiply_panel(w, v, u, w->m + w->bytes * (e * n->out_stride + c - from), columns, term, terms, ahead);
    }
}

/* M of output channels [from, to). Behind the last panel of an element comes the first one of the next. */
static void multiply(const winograd_work *w, int64_t from, int64_t to) {
  const winograd *n = &w->numbers;
  int64_t in_channels = w->plan->geometry.in_channels;
  const char *weights = w->weights, *next;
  for (int e = 0; e < n->elements; e++, weights = next) {
    int64_t after = e + 1 < n->elements ? terms_of(n, in_channels, e + 1) : 0;
    next = weights + w->bytes * terms_of(n, in_channels, e) * n->out_channels;
    multiply_element(w, e, weights, next + w->bytes * from * after, from, to);
  }
}

static void transform_all_inputs(const winograd_work *w, int64_t from, int64_t to) {
  for (; from < to; from += run_at(w, from).tiles)
    transform_inputs(w, run_at(w, from));
}

/* From V to output channels [from, end). */
static void compute_channels(const winograd_work *w, int64_t from, int64_t end) {
  for (int64_t to; from < conv_min(end, w->numbers.out_channels); from = to) {
    to = conv_min(from + w->plan->blocks.sums, conv_min(end, w->numbers.out_channels));
    multiply(w, from, to);
    for (int64_t tile = 0; tile < w->tiles; tile += run_at(w, tile).tiles)
      transform_outputs(w, run_at(w, tile), from, to);
  }
}

static int64_t pieces(const fonio_conv_plan *plan) {
  winograd w = numbers_of(plan, alpha_of(plan));
  if (shares(plan, &w)) return w.rows;
  return images_of(plan) * blocks_of_tiles(plan, &w) * blocks_of_channels(plan, &w);
}

static int64_t last_pieces(const fonio_conv_plan *plan) {
  winograd w = numbers_of(plan, alpha_of(plan));
  return shares(plan, &w) ? blocks_of_channels(plan, &w) : 0;
}

/* A block of tiles, counted through all images. */
static winograd_work block_at(const conv_run *run, int64_t block, char *workspace) {
  const fonio_conv_plan *plan = run->plan;
  winograd n = numbers_of(plan, alpha_of(plan));
  int64_t tile = conv_take(&block, blocks_of_tiles(plan, &n)) * plan->blocks.pixels;
  int64_t tiles = conv_min(plan->blocks.pixels, n.rows * n.columns - tile);
  int64_t across = conv_take(&block, plan->problem.dilation[1]), down = conv_take(&block, plan->problem.dilation[0]);
  int64_t group = conv_take(&block, plan->problem.groups), image = block;
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype);
  char *v = shares(plan, &n) ? run->shared : workspace, *m = workspace;
  if (v == m) m += conv_round_up(n.v_elements * bytes, 64);
  return (winograd_work){
      .run = run,
      .plan = plan,
      .image = image,
      .group = group,
      .numbers = n,
      .bytes = bytes,
      .input = conv_at(run->buffers->input, conv_input_offset(plan, image, group)),
      .weights = conv_at(run->packed, group * (plan->packed_bytes / plan->problem.groups)),
      .bias = conv_at(run->buffers->bias, conv_bias_offset(plan, group)),
      .output = (char *)run->buffers->output + conv_output_offset(plan, image, group),
      .v = v,
      .m = m,
      .strip = m + conv_round_up(n.m_elements * bytes, 64),
      .phase = {down, across},
      .first_tile = tile,
      .tiles = tiles,
      .blocks = conv_ceil_div(tiles, plan->kernels->rows_tile_rows),
  };
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  winograd n = numbers_of(plan, alpha_of(plan));
  if (shares(plan, &n)) {
    winograd_work w = block_at(run, 0, workspace);
    transform_all_inputs(&w, piece * n.columns, (piece + 1) * n.columns);
    return;
  }
  int64_t from = conv_take(&piece, blocks_of_channels(plan, &n)) * plan->blocks.channels;
  winograd_work w = block_at(run, piece, workspace);
  transform_all_inputs(&w, 0, w.tiles);
  compute_channels(&w, from, from + plan->blocks.channels);
}

static void run_last(const conv_run *run, int64_t piece, void *workspace) {
  winograd_work w = block_at(run, 0, workspace);
  int64_t channels = run->plan->blocks.channels;
  compute_channels(&w, piece * channels, (piece + 1) * channels);
}

const conv_algorithm conv_winograd4_forward = {
    .name = "winograd4",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_DEFAULT,
    .applicable = applicable4,
    .needs = "3 to 5 rows and columns of the kernel for each phase of the stride, no dilation with a stride",
    .cost = cost4,
    .prepare = prepare,
    .packing = 0.32,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
    .last_pieces = last_pieces,
    .run_last = run_last,
};

const conv_algorithm conv_winograd2_forward = {
    .name = "winograd2",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_DEFAULT,
    .applicable = applicable2,
    .needs = "2 or 3 rows and columns of the kernel for each phase of the stride, no dilation with a stride",
    .cost = cost2,
    .prepare = prepare,
    .packing = 0.32,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
    .last_pieces = last_pieces,
    .run_last = run_last,
};
