/* Winograd's algorithm (winograd.c): the parts that a kernel falls into, the numbers that follow, the blocks of work
 * and what they cost. */
#include "base/cpu.h"
#include "conv/winograd.h"

static int64_t kernel_along(const fonio_conv_problem *p, int axis) {
  return axis ? p->kernel_width : p->kernel_height;
}

/* Whether each phase of the stride has a single tap along the axis. */
static bool is_single(const fonio_conv_problem *p, int axis) {
  return kernel_along(p, axis) <= p->stride[axis];
}

/* Parts of the kernel: the phases of a stride, or where tiles of 6 are too short for it, some of 3 or 4 taps. (Along
 * both axes 5 taps in two parts would not be exact enough.) */
static int64_t parts_along(const fonio_conv_problem *p, int axis, int alpha) {
  int64_t kernel = kernel_along(p, axis), most = is_single(p, 1 - axis) ? 4 : 5;
  if (p->stride[axis] > 1) return conv_min(p->stride[axis], kernel);
  return alpha == 6 && kernel > most ? conv_ceil_div(kernel, 4) : 1;
}

/* Of the largest part. */
static int64_t taps_along(const fonio_conv_problem *p, int axis, int alpha) {
  return conv_ceil_div(kernel_along(p, axis), parts_along(p, axis, alpha));
}

/* Of both axes; tiles are square. */
static int64_t taps_of(const fonio_conv_problem *p, int alpha) {
  return conv_max(taps_along(p, 0, alpha), taps_along(p, 1, alpha));
}

static bool applicable(const fonio_conv_problem *p, int alpha, int64_t least_taps, int64_t most_taps) {
  bool plain = p->stride[0] * p->stride[1] == 1 || p->dilation[0] * p->dilation[1] == 1;
  int64_t taps = taps_of(p, alpha);
  for (int axis = 0; axis < 2; axis++)
    plain = plain && (p->stride[axis] > 1 || parts_along(p, axis, alpha) <= (is_single(p, 1 - axis) ? 3 : 2));
  return plain && taps >= least_taps && taps <= most_taps;
}

/* A part has all of the taps, or one less. */
static kernel_winograd_axis axis_of(const fonio_conv_problem *p, int axis, int alpha) {
  int64_t taps = taps_of(p, alpha), parts = parts_along(p, axis, alpha);
  if (is_single(p, axis)) return (kernel_winograd_axis){1, 1, parts, parts, p->stride[axis]};
  int64_t full = kernel_along(p, axis) - parts * (taps - 1);
  return (kernel_winograd_axis){alpha, alpha + 1 - (int)taps, parts, full > 0 ? full : parts, p->stride[axis]};
}

/* Within 2.5 times the error of a plain sum. */
bool conv_winograd4_applicable(const fonio_conv_problem *p) {
  bool line = is_single(p, 0) || is_single(p, 1);
  if (line ? is_single(p, 0) == is_single(p, 1) || !applicable(p, 6, 2, 4) : !applicable(p, 6, 3, 5)) return false;
  kernel_winograd_axis axes[2] = {axis_of(p, 0, 6), axis_of(p, 1, 6)};
  return conv_winograd_error(p, axes) <= 2.5 * 2.5;
}

bool conv_winograd2_applicable(const fonio_conv_problem *p) {
  return !is_single(p, 0) && !is_single(p, 1) && applicable(p, 4, 2, 3);
}

/* Columns of a strip, about. It stays in the second-level cache; shorter ones would stay in the first, but the rows of
 * a vector's channels lie in as many pages, which takes the longer the less is read of each at once. */
#define RUN_COLUMNS 192

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

/* The kernel's parts, and the terms that come of them. */
static void find_terms(const fonio_conv_plan *plan, winograd *w) {
  int64_t in_channels = plan->geometry.in_channels;
  bool phases = true; /* all parts are */
  for (int i = 0; i < 2; i++) {
    w->axes[i] = axis_of(&plan->problem, i, w->alpha);
    phases = phases && (w->axes[i].parts == 1 || w->axes[i].step > 1);
  }
  w->elements = w->axes[0].alpha * w->axes[1].alpha;
  w->line = w->elements == w->alpha;
  w->parts = w->axes[0].parts * w->axes[1].parts;
  w->terms = in_channels * w->parts;
  w->joined = phases && w->parts > 1 && in_channels <= 4 && w->terms <= 64;
  for (int i = 0; w->joined && i < 2; i++)
    w->axes[i].full = w->axes[i].parts;
  /* At infinity the short ones have none. */
  w->products = in_channels;
  for (int i = 0; i < 2; i++)
    w->products *= w->axes[i].parts * (w->axes[i].alpha - 1) + w->axes[i].full;
}

/* Runs of tiles in a row and the strips under them. */
static void measure_strips(const fonio_conv_plan *plan, winograd *w) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_winograd_axis *axis = &w->axes[1];
  int64_t dilation = p->dilation[1], tiles = conv_min(plan->blocks.pixels, w->columns);
  w->whole = dilation > 1 && plan->blocks.pixels % w->columns == 0 && w->columns <= MOST_WHOLE;
  w->out_step = w->whole ? dilation : 1;
  w->in_step = w->joined ? 1 : w->out_step * axis->step;
  w->run_tiles =
      w->whole ? w->columns : conv_max(1, RUN_COLUMNS / (axis->m * (w->joined ? w->pixel / w->pass : w->in_step)));
  if (w->whole) tiles = w->lines[1].tiles[1];
  int64_t columns = conv_min(tiles, w->run_tiles) * axis->m + axis->alpha - axis->m;
  if (axis->step == 1) columns += kernel_winograd_tap(axis, axis->parts - 1);
  w->strip_margin = w->in_step * w->pixel;
  w->strip_pitch = columns * w->strip_margin + w->strip_margin;
  w->strip_elements = w->axes[0].alpha * w->strip_pitch + w->strip_margin;
}

static winograd numbers_of(const fonio_conv_plan *plan, int alpha) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  int64_t lanes = plan->kernels->lanes, tiles = plan->blocks.pixels;
  winograd w = {.alpha = alpha, .m = alpha + 1 - (int)taps_of(p, alpha)};
  find_terms(plan, &w);
  w.lines[0] = conv_tile_axis(g->out_height, g->dilation[0], w.axes[0].m);
  w.lines[1] = conv_tile_axis(g->out_width, g->dilation[1], w.axes[1].m);
  w.rows = w.lines[0].lines;
  w.columns = w.lines[1].lines;
  w.pass = conv_max(lanes, 64 / (int64_t)fonio_dtype_bytes(p->dtype));
  w.pixel = w.joined ? conv_round_up(w.terms, w.pass) : w.pass;
  w.in_pitch = w.joined ? w.pixel : conv_round_up(room_for_terms(plan, &w), w.pass);
  w.out_channels = conv_round_up(g->out_channels, lanes);
  w.out_pitch = conv_round_up(conv_min(plan->blocks.sums, w.out_channels), w.pass);
  w.in_stride = element_stride(&w, tiles, w.in_pitch);
  w.out_stride = element_stride(&w, tiles, w.out_pitch);
  w.v_elements = w.elements * w.in_stride;
  w.m_elements = w.elements * w.out_stride;
  measure_strips(plan, &w);
  return w;
}

static int alpha_of(const fonio_conv_plan *plan) {
  return plan->algorithm == &conv_winograd4_forward ? 6 : 4;
}

winograd conv_winograd_numbers(const fonio_conv_plan *plan) {
  return numbers_of(plan, alpha_of(plan));
}

/* Half tiles' time for the products of a block: tiles of rows take some time to begin, and few rows do not keep the
 * multipliers busy. The weights pass once. */
static int64_t time_of_block(const kernel_table *k, int64_t tiles) {
  int64_t parts = conv_ceil_div(tiles, k->rows_tile_rows);
  return tiles > 0 ? 2 * conv_max(tiles, parts * 8 / k->rows_tile_vectors) + parts + 2 : 0;
}

static int64_t images_of(const fonio_conv_plan *plan) {
  return plan->problem.batch * plan->problem.groups;
}

/* Time with blocks of so many; runs of tiles in a row, which share strips, end where a row or a block does. Cycles that
 * either takes whatever its length: the fewer the channels, the more that is beside the products. */
static int64_t time_of_blocks(const kernel_table *k, const winograd *w, int64_t block) {
  int64_t tiles = w->rows * w->columns, blocks = conv_ceil_div(tiles, block), runs = w->rows + blocks;
  if (block % w->columns == 0) runs -= blocks;
  if (w->columns % block == 0) runs -= w->rows;
  int64_t strips = 125 * w->axes[0].alpha * w->terms + 600 * w->axes[0].m * w->out_channels;
  int64_t cycles = blocks * 6000 + runs * (400 + strips / k->lanes);
  int64_t half_tile = conv_max(1, w->products * w->out_channels / (2 * k->lanes));
  return tiles / block * time_of_block(k, block) + time_of_block(k, tiles % block) + cycles / half_tile;
}

/* How much sooner than the other one of two threads is done. It looks at one image, as all that the choice does. One or
 * two blocks are cut by output channels, too; many come out even. */
static int64_t time_apart(const kernel_table *k, const winograd *w, int64_t groups, int64_t block) {
  int64_t tiles = w->rows * w->columns, blocks = tiles / block, ends[2] = {0, 0};
  int64_t pieces = groups * conv_ceil_div(tiles, block);
  if (pieces < 3 || pieces > 50) return 0;
  for (int64_t group = 0; group < groups; group++)
    for (int64_t i = 0; i <= blocks; i++)
      ends[ends[1] < ends[0]] += time_of_block(k, i < blocks ? block : tiles % block);
  return ends[0] > ends[1] ? ends[0] - ends[1] : ends[1] - ends[0];
}

/* Mostly as one thread likes it. */
static int64_t best_block(const kernel_table *k, const winograd *w, int64_t groups, int64_t most) {
  int64_t best = most, least = INT64_MAX;
  for (int64_t block = most; block >= (most + 1) / 2; block--) {
    int64_t time = 4 * groups * time_of_blocks(k, w, block) + time_apart(k, w, groups, block);
    if (time < least) least = time, best = block;
  }
  return best;
}

static int64_t bytes_of_weights(const fonio_conv_plan *plan, const winograd *w) {
  return w->products * w->out_channels * conv_element_bytes(plan);
}

/* Whether the third-level cache, which others use, too, hardly holds the weights from one pass to the next. */
static bool are_far(int64_t weights) {
  return weights > conv_min(cpu_cache_sizes()->l3_bytes * 3 / 8, 12 << 20);
}

/* Of a sum without a stop. A panel of their weights is more than the first-level cache holds, but comes from the second
 * one as fast as it is needed; to store the sums and to read them again would take longer. */
#define MOST_TERMS 512

/* Tiles of a block at the most, so that there is work for several threads: a third of them. A few are cut in two, or
 * not at all where the channels can be cut instead: each block makes the weights pass. */
static int64_t tiles_to_share(const kernel_table *k, int64_t tiles, bool can_cut) {
  if (tiles > 3 * k->rows_tile_rows) return conv_ceil_div(tiles, 3);
  return can_cut ? tiles : conv_max(conv_ceil_div(tiles, 2), k->rows_tile_rows);
}

/* The sums of so many output channels at once stay near, whatever V takes. */
#define MOST_SUMS 64

/* Blocks: so many tiles that the transformed weights, which pass once for each block, are worth their way, yet V and M
 * stay near. Far weights pass as seldom as possible. */
static void block_tiles(fonio_conv_plan *plan, int alpha) {
  const kernel_table *k = plan->kernels;
  const cpu_caches *caches = cpu_cache_sizes();
  int64_t bytes = conv_element_bytes(plan), panel = k->lanes * k->rows_tile_vectors;
  plan->blocks.pixels = 1;
  plan->blocks.channels = plan->blocks.sums = INT64_MAX / 2;
  winograd w = numbers_of(plan, alpha);
  int64_t tiles = w.rows * w.columns, groups = plan->problem.groups;
  int64_t sums = conv_min(MOST_SUMS, w.out_channels), a_tile = w.elements * (w.terms + sums) * bytes;
  /* The phases of a stride are many terms, but the workspace grows with the channels only. */
  int64_t channels = plan->geometry.in_channels + plan->geometry.out_channels;
  int64_t a_padded_tile = w.elements * (w.in_pitch + conv_round_up(sums, w.pass)) * bytes;
  int64_t most = conv_max(8, 8192 * (w.terms + w.out_channels) / a_tile);
  most = conv_min(most, conv_max(1, ((1 << 19) + 8192 * channels) / a_padded_tile));
  int64_t near = conv_max(caches->l2_bytes * 7 / 8 / a_tile, k->lanes * bytes * 3 / 4);
  near = conv_min(near, tiles_to_share(k, tiles, w.out_channels >= 4 * panel));
  int64_t block = are_far(bytes_of_weights(plan, &w))
                      ? conv_even_pairs(tiles, most)
                      : best_block(k, &w, groups, conv_min(conv_min(most, near), tiles));
  /* Whole rows share strips of all interleaved images. */
  if (plan->problem.dilation[1] > 1 && block > w.columns) block -= block % w.columns;
  plan->blocks.pixels = block;
  /* Few tiles and many channels: cut the output channels, too, so that there is work for several threads. */
  int64_t blocks = conv_ceil_div(tiles, block) * groups, parts = 1;
  while (parts < 8 && blocks * parts < 3 && w.out_channels / (parts * 2) >= (blocks == 1 ? panel : 2 * panel))
    parts *= 2;
  plan->blocks.channels = conv_round_up(conv_ceil_div(w.out_channels, parts), panel);
  plan->blocks.sums = conv_min(conv_round_up(sums, panel), plan->blocks.channels);
  plan->blocks.panel = panel;
  plan->blocks.terms = conv_even(w.terms, MOST_TERMS);
}

int64_t conv_winograd_blocks_of_tiles(const fonio_conv_plan *plan, const winograd *w) {
  return conv_ceil_div(w->rows * w->columns, plan->blocks.pixels);
}

int64_t conv_winograd_blocks_of_channels(const fonio_conv_plan *plan, const winograd *w) {
  return conv_ceil_div(w->out_channels, plan->blocks.channels);
}

bool conv_winograd_shares(const fonio_conv_plan *plan, const winograd *w) {
  return !plan->part && images_of(plan) * conv_winograd_blocks_of_tiles(plan, w) == 1 &&
         conv_winograd_blocks_of_channels(plan, w) > 1;
}

void conv_winograd_prepare(fonio_conv_plan *plan) {
  int64_t bytes = conv_element_bytes(plan);
  block_tiles(plan, alpha_of(plan));
  winograd w = conv_winograd_numbers(plan);
  plan->packed_bytes = plan->problem.groups * bytes_of_weights(plan, &w);
  plan->workspace_bytes = conv_round_up((w.v_elements + w.m_elements + w.strip_elements) * bytes, 64) + 4 * 64;
  if (!conv_winograd_shares(plan, &w)) return;
  plan->shared_bytes = conv_round_up(w.v_elements * bytes, 64);
  plan->workspace_bytes -= w.v_elements * bytes;
}

/* Products and transforms keep the core busy; meanwhile the transformed weights come in once for each block of tiles,
 * from beyond the second-level cache where they are too large for it. */
static double cost_of(const fonio_conv_plan *plan, int alpha) {
  fonio_conv_plan probe = *plan;
  block_tiles(&probe, alpha);
  winograd w = numbers_of(&probe, alpha);
  double lanes = plan->kernels->lanes, tiles = (double)(w.rows * w.columns);
  /* Tiles without those that each element does without. */
  double there =
      (double)(conv_tile_points(&w.lines[0], w.axes[0].alpha) * conv_tile_points(&w.lines[1], w.axes[1].alpha)) /
      w.elements;
  /* Each sum is stored and read again, which takes as long as a dozen products. */
  double products = there * (double)(w.products + 12 * w.elements) * (double)w.out_channels / (1.9 * lanes);
  /* Times count the products of two vectors, which take wide ones two cycles; of a transform, which waits for itself
   * and for memory, they make less. */
  double wide = lanes * (double)fonio_dtype_bytes(plan->problem.dtype) > 32 ? 2 : 1;
  bool phases = w.parts > 1; /* many terms for few products, and strips of which each serves for less */
  double vectors = (double)(w.in_pitch + w.out_channels) / lanes;
  double of_vector = w.line ? 35 : alpha == 6 ? 170 : w.joined ? 60 : phases ? 100 : 80;
  double transforms = tiles * vectors * of_vector;
  if (wide > 1 && !w.line && (w.joined || !phases)) transforms *= 0.6;
  int64_t weights = bytes_of_weights(plan, &w);
  /* Bytes in that time. */
  double rate = wide * (weights <= cpu_cache_sizes()->l2_bytes / 2 ? 20 : are_far(weights) ? 5 : 12);
  double streamed = (double)(weights * conv_ceil_div(w.rows * w.columns, probe.blocks.pixels)) / rate;
  double longer = products > streamed ? products : streamed, shorter = products + streamed - longer;
  double both = phases ? longer + shorter / 4 : longer;
  /* Joined phases are many short rows to fetch. */
  return (double)plan->problem.groups * (both + transforms) + 2000 + (w.joined ? 8000 / wide : 0);
}

double conv_winograd4_cost(const fonio_conv_plan *plan) {
  return cost_of(plan, 6);
}

double conv_winograd2_cost(const fonio_conv_plan *plan) {
  return cost_of(plan, 4);
}

/* As the phases of the stride are packed: one beyond the kernel leaves as many as one of its size. */
bool conv_winograd_packs_alike(const fonio_conv_problem *a, const fonio_conv_problem *b) {
  return conv_min(a->stride[0], a->kernel_height) == conv_min(b->stride[0], a->kernel_height) &&
         conv_min(a->stride[1], a->kernel_width) == conv_min(b->stride[1], a->kernel_width);
}

static bool pack_group(const fonio_conv_plan *plan, const void *weight, void *packed) {
  winograd w = conv_winograd_numbers(plan);
  kernel_winograd_weights job = {{w.axes[0], w.axes[1]}, w.joined, are_far(bytes_of_weights(plan, &w))};
  return plan->kernels->winograd_weights(&job, &plan->geometry, weight, packed);
}

bool conv_winograd_pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return conv_pack_groups(plan, weight, packed, pack_group);
}
