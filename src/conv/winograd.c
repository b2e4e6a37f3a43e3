/* Winograd's algorithm for small kernels: F(4x4, 3x3) and its relatives, which share the points that they stand on.
 * Tiles of 6 x 6 inputs give 4 x 4 outputs of a kernel of 3 x 3, 2 x 2 outputs of one of 5 x 5; tiles of 4 x 4 inputs 2
 * x 2 outputs of one of 3 x 3. For a kernel of one row or column the tiles are lines: 6 inputs give 4 outputs of 3
 * taps. A longer kernel falls into parts of 3 or 4 taps along an axis, over as many times the input channels; the tiles
 * of the second part lie so many pixels further.
 *
 * A dilated convolution is dilation^2 undilated ones on interleaved images. One with a stride is one of stride 1 on as
 * many interleaved images, which are so many times the input channels, with kernels of which each has every stride-th
 * row and column: 3 x 3 or 4 x 4 of stride 2 are 2 x 2. Where the channels are few, they and the phases of the stride
 * share vectors (joined.h).
 *
 * A part or phase that has one tap less than another along an axis is zero in some elements of the tiles, which leave
 * it out: 49 products instead of 64 for 3 x 3 of stride 2.
 *
 * One piece of work: a block of tiles of one image and group, of all its interleaved images, and a block of output
 * channels. Its inputs are transformed into V[element][tile][channel], each element is one matrix product M = V U, and
 * M is transformed back, all in a workspace that a core's caches hold. Channels are the vector lanes; images of either
 * layout come and go through strips. */
#include <string.h>

#include "base/cpu.h"
#include "conv/joined.h"
#include "conv/plan.h"
#include "conv/tile_lines.h"

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

/* Beyond 2.5 times the error of a plain sum: F(5x5, 2x2), and F(4x4, 3x3) where the kernel leaves many of the taps
 * empty, which is nearly the same. */
static bool applicable4(const fonio_conv_problem *p) {
  if (is_single(p, 0) || is_single(p, 1)) return is_single(p, 0) != is_single(p, 1) && applicable(p, 6, 2, 4);
  if (!applicable(p, 6, 3, 5)) return false;
  int64_t taps = taps_of(p, 6), there = p->kernel_height * p->kernel_width;
  int64_t all = taps * taps * parts_along(p, 0, 6) * parts_along(p, 1, 6);
  return taps == 3 ? 5 * there >= 4 * all : 2 * there >= all;
}

static bool applicable2(const fonio_conv_problem *p) {
  return !is_single(p, 0) && !is_single(p, 1) && applicable(p, 4, 2, 3);
}

/* The numbers that follow from a plan. */
typedef struct winograd {
  kernel_winograd_axis axes[2];
  int alpha, m;                  /* inputs and outputs along a side of a tile, or along a line */
  int elements;                  /* of a tile */
  bool line;                     /* along one of the axes there is nothing to transform */
  int64_t parts;                 /* of the kernel */
  tile_axis lines[2];            /* of tiles */
  int64_t rows, columns;         /* of tiles, in all interleaved images */
  int64_t terms;                 /* of the sums, at the most: the input channels of the group, once for each part */
  int64_t products;              /* terms of the sums of all elements of a tile */
  int64_t in_pitch, out_pitch;   /* of a row of V and of M: one tile's terms, or channels */
  int64_t in_stride, out_stride; /* from one element to the next */
  int64_t out_channels;          /* of the group, rounded up to whole vectors */
  int64_t pass; /* channels that are transformed together: a cache line of them, so that lines of V are written whole */
  bool joined;  /* few channels under a stride: all terms are transformed together, channel by channel */
  int64_t pixel;             /* of a strip of the inputs */
  bool whole;                /* blocks are whole rows of tiles, and strips go through all interleaved columns */
  int64_t in_step, out_step; /* pixels of a strip from one column of a tile to the next */
  int64_t run_tiles;
  int64_t strip_pitch, strip_margin; /* tiles may begin a column before their strip */
  int64_t v_elements, m_elements, strip_elements;
} winograd;

/* Columns of a strip, about. It stays in the second-level cache; shorter ones would stay in the first, but the rows of
 * a vector's channels lie in as many pages, which takes the longer the less is read of each at once. */
#define RUN_COLUMNS 192

/* Longer ones go through all interleaved columns, where these have no more tiles. */
#define MOST_WHOLE 64

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

/* A part has all of the taps, or one less. */
static kernel_winograd_axis axis_of(const fonio_conv_problem *p, int axis, int alpha) {
  int64_t taps = taps_of(p, alpha), parts = parts_along(p, axis, alpha);
  if (is_single(p, axis)) return (kernel_winograd_axis){1, 1, parts, parts, p->stride[axis]};
  int64_t full = kernel_along(p, axis) - parts * (taps - 1);
  return (kernel_winograd_axis){alpha, alpha + 1 - (int)taps, parts, full > 0 ? full : parts, p->stride[axis]};
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
  int64_t cycles = blocks * 6000 + runs * (400 + 500 * (w->terms + w->out_channels) / k->lanes);
  int64_t half_tile = conv_max(1, w->products * w->out_channels / (2 * k->lanes));
  return tiles / block * time_of_block(k, block) + time_of_block(k, tiles % block) + cycles / half_tile;
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

/* Tiles of a block at the most, so that there is work for several threads: a third of them. A few are cut in two, or
 * not at all where the channels can be cut instead: each block makes the weights pass. */
static int64_t tiles_to_share(const kernel_table *k, int64_t tiles, bool can_cut) {
  if (tiles > 3 * k->rows_tile_rows) return conv_ceil_div(tiles, 3);
  return can_cut ? tiles : conv_max(conv_ceil_div(tiles, 2), k->rows_tile_rows);
}

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
  int64_t tiles = w.rows * w.columns, images = plan->problem.groups;
  int64_t sums = conv_min(far ? 64 : INT64_MAX, w.out_channels), a_tile = w.elements * (w.terms + sums) * bytes;
  /* The phases of a stride are many terms, but the workspace grows with the channels only. */
  int64_t channels = plan->geometry.in_channels + plan->geometry.out_channels;
  int64_t a_padded_tile = w.elements * (w.in_pitch + conv_round_up(sums, w.pass)) * bytes;
  int64_t most = conv_max(8, 8192 * (w.terms + w.out_channels) / a_tile);
  most = conv_min(most, conv_max(1, ((1 << 19) + 8192 * channels) / a_padded_tile));
  int64_t near = conv_max(caches->l2_bytes * 3 / 4 / a_tile, k->lanes * bytes * 3 / 4);
  near = conv_min(near, tiles_to_share(k, tiles, w.out_channels >= 4 * panel));
  int64_t block = far ? conv_even_pairs(tiles, most) : best_block(k, &w, conv_min(conv_min(most, near), tiles));
  /* Of one image, as all that the choice looks at. Two threads would share three or five blocks unevenly: one more, of
   * whole tiles of the product if that will do. */
  int64_t blocks = conv_ceil_div(tiles, block) * images;
  if (blocks == 3 || blocks == 5) {
    int64_t even = conv_even_pairs(tiles, block), whole = conv_round_up(even, k->rows_tile_rows);
    bool better = whole * blocks < tiles && time_of_blocks(k, &w, whole) < time_of_blocks(k, &w, even);
    block = better ? whole : even;
  }
  /* Whole rows share strips of all interleaved images. */
  if (plan->problem.dilation[1] > 1 && block > w.columns) block -= block % w.columns;
  plan->blocks.pixels = block;
  /* Few tiles and many channels: cut the output channels, too, so that there is work for several threads. */
  int64_t parts = 1;
  while (parts < 8 && blocks * parts < 3 && w.out_channels / (parts * 2) >= (blocks == 1 ? panel : 2 * panel))
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
  double vectors = (double)(w.in_pitch + w.out_channels) / lanes;
  bool phases = w.parts > 1; /* many terms for few products, and strips of which each serves for less */
  double transforms = tiles * vectors * (w.line ? 35 : alpha == 6 ? 170 : w.joined ? 55 : phases ? 100 : 80);
  int64_t weights = bytes_of_weights(plan, &w);
  /* Bytes in the time of two vectors' products, which wide vectors make longer. */
  double wide = lanes * (double)fonio_dtype_bytes(plan->problem.dtype) > 32 ? 2 : 1;
  double rate = wide * (weights <= cpu_cache_sizes()->l2_bytes / 2 ? 20 : are_far(weights) ? 5 : 12);
  double streamed = (double)(weights * conv_ceil_div(w.rows * w.columns, probe.blocks.pixels)) / rate;
  double longer = products > streamed ? products : streamed, shorter = products + streamed - longer;
  double both = phases ? longer + shorter / 4 : longer;
  return (double)plan->problem.groups * (both + transforms) + 2000;
}

static double cost4(const fonio_conv_plan *plan) {
  return cost_of(plan, 6);
}

static double cost2(const fonio_conv_plan *plan) {
  return cost_of(plan, 4);
}

/* As the phases of the stride are packed: one beyond the kernel leaves as many as one of its size. */
static bool packs_alike(const fonio_conv_problem *a, const fonio_conv_problem *b) {
  return conv_min(a->stride[0], a->kernel_height) == conv_min(b->stride[0], a->kernel_height) &&
         conv_min(a->stride[1], a->kernel_width) == conv_min(b->stride[1], a->kernel_width);
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

/* Tiles of a block, in parts for the tiles of the product: nearly equal ones, the first `more` of which have one more
 * than `least`. */
typedef struct tile_range {
  int64_t from, to;
  int parts, least, more;
} tile_range;

/* An element that tiles need, and which: those of ranges[rows][columns], with perhaps a few others. */
typedef struct tile_element {
  int index, rows, columns;
  int64_t first_term, terms, weights; /* of its sums, and where their weights begin */
} tile_element;

typedef struct winograd_work {
  const conv_run *run;
  const fonio_conv_plan *plan;
  int64_t image, group;
  winograd numbers;
  int64_t bytes; /* of an element */
  const char *input, *weights, *bias;
  char *output, *v, *m, *strip;
  int64_t first_tile, tiles; /* counted row by row */
  int64_t groups[10];        /* where the tiles of each group begin in V and M, and where the last one ends */
  tile_range ranges[3][3];   /* of the rows and columns of tiles that leave out at most so many points */
  tile_element elements[36];
  int elements_needed;
} winograd_work;

/* Tiles of rows and columns with so many points left out lie together, so that those that need an element do so, too,
 * or nearly: where an axis has lines of two kinds, as most do, these lie in the order of right edge, middle, bottom,
 * corner. */
static const int group_of[3][3] = {{2, 1, 0}, {3, 5, 7}, {4, 6, 8}};

/* The most points that a line may leave out, and need an element in row (or column) i of a tile. */
static int most_cut(int alpha, int i) {
  return i == alpha - 1 ? 0 : i == 0 ? 1 : 2;
}

/* Tiles side by side, in the image as in the block, with the same points left out. */
typedef struct tile_part {
  tile_line line; /* of the first one */
  int64_t tiles, to;
} tile_part;

/* Tiles of the block side by side in one row of tiles, over one strip. */
typedef struct tile_run {
  tile_line row;
  int64_t tile, tiles; /* in the block */
  int count;
  tile_part parts[MOST_WHOLE];
  int64_t next[9]; /* of each group, behind those of the run */
} tile_run;

static void begin_runs(const winograd_work *w, tile_run *run) {
  run->tile = run->tiles = 0;
  memcpy(run->next, w->groups, sizeof run->next);
}

/* Goes on to the next run of the block; whether there is one. */
static bool next_run(const winograd_work *w, tile_run *run) {
  const winograd *n = &w->numbers;
  run->tile += run->tiles;
  if (run->tile == w->tiles) return false;
  int64_t tile = w->first_tile + run->tile, column = tile % n->columns;
  int64_t most = conv_min(conv_min(n->columns - column, w->tiles - run->tile), n->run_tiles);
  run->row = conv_tile_line(&n->lines[0], tile / n->columns);
  run->tiles = run->count = 0;
  while (run->tiles < most) {
    tile_line line = conv_tile_line(&n->lines[1], column + run->tiles);
    if (run->count && line.phase != run->parts[0].line.phase && !n->whole) break;
    int64_t *to = &run->next[group_of[run->row.cut][line.cut]], tiles = conv_min(line.alike, most - run->tiles);
    run->parts[run->count++] = (tile_part){line, tiles, *to};
    run->tiles += tiles, *to += tiles;
  }
  return true;
}

/* From the first tile to the last one of the groups that leave out at most so many points. */
static tile_range range_of(const winograd_work *w, int rows, int columns) {
  tile_range range = {.from = w->tiles};
  for (int i = 0; i <= rows; i++)
    for (int j = 0; j <= columns; j++) {
      const int64_t *group = &w->groups[group_of[i][j]];
      if (group[0] == group[1]) continue;
      range.from = conv_min(range.from, group[0]);
      range.to = conv_max(range.to, group[1]);
    }
  if (range.to == 0) return range;
  int tiles = (int)(range.to - range.from), most = w->plan->kernels->rows_tile_rows;
  range.parts = (tiles + most - 1) / most;
  range.least = tiles / range.parts;
  range.more = tiles % range.parts;
  return range;
}

static void find_elements(winograd_work *w) {
  const winograd *n = &w->numbers;
  int64_t in_channels = w->plan->geometry.in_channels, weights = 0;
  w->elements_needed = 0;
  for (int i = 0; i < 9; i++)
    w->ranges[i / 3][i % 3] = range_of(w, i / 3, i % 3);
  const int height = n->axes[0].alpha, width = n->axes[1].alpha;
  for (int i = 0; i < height; i++)
    for (int j = 0; j < width; j++) {
      int rows = most_cut(height, i), columns = most_cut(width, j);
      kernel_winograd_range parts = kernel_winograd_parts(n->axes, i, j);
      int64_t terms = (parts.to - parts.from) * in_channels;
      if (w->ranges[rows][columns].parts > 0)
        w->elements[w->elements_needed++] =
            (tile_element){i * width + j, rows, columns, parts.from * in_channels, terms, weights};
      weights += terms * n->out_channels;
    }
}

/* The places of the groups: a run through all tiles counts them. */
static void place_groups(winograd_work *w) {
  memset(w->groups, 0, sizeof w->groups);
  tile_run run;
  begin_runs(w, &run);
  while (next_run(w, &run))
    continue;
  for (int g = 0; g < 9; g++)
    w->groups[g + 1] = w->groups[g] + run.next[g];
}

/* Pixel of the strip where a part begins; there are `step` pixels between its columns. */
static int64_t place_of(const tile_run *run, const tile_part *part, int64_t step) {
  const tile_line *line = &part->line, *first = &run->parts[0].line;
  return line->phase - first->phase + (line->start - first->start - first->first) * step;
}

/* Columns of the strip up to the last one that a part reads. */
static int64_t columns_read(const winograd *n, const tile_run *run) {
  int64_t columns = 0, more = n->joined ? 0 : n->out_step * kernel_winograd_tap(&n->axes[1], n->axes[1].parts - 1);
  for (int i = 0; i < run->count; i++) {
    const tile_part *part = &run->parts[i];
    int64_t last = part->tiles * n->axes[1].m + n->axes[1].alpha - n->axes[1].m - (part->line.cut > 0) - 1;
    columns = conv_max(columns, place_of(run, part, n->in_step) + last * n->in_step + 1);
  }
  return columns + more;
}

/* Or writes. */
static int64_t columns_written(const winograd *n, const tile_run *run) {
  int64_t columns = 0;
  for (int i = 0; i < run->count; i++) {
    const tile_part *part = &run->parts[i];
    int64_t last = (part->tiles - 1) * n->axes[1].m + part->line.first + part->line.count - 1;
    columns = conv_max(columns, place_of(run, part, n->out_step) + last * n->out_step + 1);
  }
  return columns;
}

/* The strip of the inputs, of one part of rows and all parts of columns. */
static kernel_strip input_strip(const winograd_work *w, const tile_run *run, int64_t part) {
  const fonio_conv_problem *p = &w->plan->problem;
  const winograd *n = &w->numbers;
  const tile_line *row = &run->row, *column = &run->parts[0].line;
  int64_t apart[2] = {p->stride[0] * p->dilation[0], p->stride[1] * p->dilation[1]};
  return (kernel_strip){
      .row =
          row->phase + kernel_winograd_tap(&n->axes[0], part) * p->dilation[0] + (row->start + row->first) * apart[0],
      .column = column->phase + (column->start + column->first) * apart[1],
      .rows = n->axes[0].alpha - row->cut,
      .columns = columns_read(n, run),
      .step = {apart[0], apart[1] / n->in_step},
      .pixel = n->pixel,
      .pitch = n->strip_pitch,
  };
}

static kernel_strip output_strip(const winograd_work *w, const tile_run *run) {
  const int64_t *dilation = w->plan->geometry.dilation;
  const winograd *n = &w->numbers;
  const tile_line *row = &run->row, *column = &run->parts[0].line;
  return (kernel_strip){
      .row = row->phase + (row->start + row->first) * dilation[0],
      .column = column->phase + (column->start + column->first) * dilation[1],
      .rows = row->count,
      .columns = columns_written(n, run),
      .step = {dilation[0], dilation[1] / n->out_step},
      .pixel = n->pass,
      .pitch = n->strip_pitch,
  };
}

/* The transforms of all parts of a strip's inputs, from an element of its pixels to one of V's rows. */
static void transform_parts(const winograd_work *w, const tile_run *run, kernel_winograd *job, int64_t from,
                            int64_t to) {
  const winograd *n = &w->numbers;
  for (int i = 0; i < run->count; i++) {
    const tile_part *part = &run->parts[i];
    job->tiles = part->tiles;
    w->plan->kernels->winograd_input(job, w->strip + w->bytes * (from + place_of(run, part, n->in_step) * n->pixel),
                                     w->v + w->bytes * (to + part->to * n->in_pitch));
  }
}

/* A pass over `channels` channels from `channel` on, part by part. */
static void transform_pass(const winograd_work *w, const tile_run *run, kernel_winograd *job, int64_t channel,
                           int64_t channels) {
  const winograd *n = &w->numbers;
  const kernel_table *k = w->plan->kernels;
  char *first_row = w->strip + w->bytes * run->row.first * n->strip_pitch;
  job->vectors = conv_ceil_div(channels, k->lanes);
  for (int64_t place = 0, row = -1; place < n->parts; place++) {
    int64_t part[2];
    kernel_winograd_part(n->axes, place, part);
    kernel_strip strip = input_strip(w, run, part[0]);
    for (int64_t v = 0; v < job->vectors * k->lanes && part[0] != row; v += k->lanes)
      k->gather_strip(&w->plan->geometry, &strip, channel + v, w->input, first_row + w->bytes * v);
    row = part[0];
    transform_parts(w, run, job, kernel_winograd_tap(&n->axes[1], part[1]) * n->out_step * n->pass,
                    place * w->plan->geometry.in_channels + channel);
  }
}

/* Where tiles are lines: along which axis. */
static int64_t step_of(const winograd *n, const kernel_winograd *job) {
  return !n->line ? 0 : n->axes[1].alpha > 1 ? job->pixel : job->pitch;
}

/* Vectors that are not whole are written whole, and what is too much is overwritten by what follows: the channels that
 * are left over come first. */
static void transform_inputs(const winograd_work *w, const tile_run *run) {
  const winograd *n = &w->numbers;
  int64_t in_channels = w->plan->geometry.in_channels;
  kernel_winograd job = {.alpha = n->alpha,
                         .m = n->m,
                         .pixel = n->pixel * n->in_step,
                         .pitch = n->strip_pitch,
                         .element_stride = n->in_stride,
                         .tile_stride = n->in_pitch};
  job.step = step_of(n, &job);
  if (n->joined) {
    kernel_strip strip = input_strip(w, run, 0);
    const int64_t parts[2] = {n->axes[0].parts, n->axes[1].parts};
    conv_gather_joined(&w->plan->geometry, &strip, parts, w->bytes, w->input,
                       w->strip + w->bytes * run->row.first * n->strip_pitch);
    job.vectors = conv_ceil_div(n->terms, w->plan->kernels->lanes);
    transform_parts(w, run, &job, 0, 0);
    return;
  }
  for (int64_t end = in_channels, channel; end > 0; end = channel) {
    channel = (end - 1) / n->pass * n->pass;
    transform_pass(w, run, &job, channel, end - channel);
  }
}

/* The transforms of all parts of a run, from M on. Tiles that begin earlier come first: what they write before their
 * first output belongs to others. */
static void transform_back(const winograd_work *w, const tile_run *run, kernel_winograd *job, const char *m,
                           const double *biases) {
  const winograd *n = &w->numbers;
  for (int first = 1; first >= 0; first--)
    for (int i = 0; i < run->count; i++) {
      const tile_part *part = &run->parts[i];
      if (part->line.first != first) continue;
      job->tiles = part->tiles;
      w->plan->kernels->winograd_output(job, m + w->bytes * part->to * n->out_pitch, biases,
                                        w->strip + w->bytes * place_of(run, part, n->out_step) * n->pass);
    }
}

/* Of output channels [from, to), whose sums are in M. */
static void transform_outputs(const winograd_work *w, const tile_run *run, int64_t from, int64_t to) {
  const winograd *n = &w->numbers;
  const kernel_table *k = w->plan->kernels;
  kernel_strip strip = output_strip(w, run);
  kernel_winograd job = {.alpha = n->alpha,
                         .m = n->m,
                         .pixel = n->pass * n->out_step,
                         .pitch = strip.pitch,
                         .element_stride = n->out_stride,
                         .tile_stride = n->out_pitch};
  const char *first_row = w->strip + w->bytes * run->row.first * n->strip_pitch;
  job.step = step_of(n, &job);
  for (int64_t channel = from; channel < to; channel += n->pass) {
    int64_t out_channels = w->plan->geometry.out_channels;
    int64_t channels = conv_min(out_channels - channel, conv_min(to - channel, n->pass));
    double biases[64] = {0};
    conv_copy_biases(w->plan, w->bias, channel, channels, biases);
    job.vectors = conv_ceil_div(conv_min(to - channel, n->pass), k->lanes);
    transform_back(w, run, &job, w->m + w->bytes * (channel - from), biases);
    for (int64_t v = 0; v < job.vectors * k->lanes; v += k->lanes)
      k->scatter_strip(&w->plan->geometry, &strip, channel + v, first_row + w->bytes * v, w->output);
    conv_finish(w->run, w->image, w->group * out_channels + channel, channels, &strip);
  }
}

/* One block of columns of one element's product: `terms` input channels from `first` on. */
static void multiply_panel(const winograd_work *w, const tile_range *range, const char *v, const char *u, char *m,
                           int64_t columns, int64_t first, int64_t terms, int64_t ahead) {
  const kernel_table *k = w->plan->kernels;
  const int64_t vectors = conv_ceil_div(columns, k->lanes), pitch = w->bytes * w->numbers.in_pitch;
  const void *rows[16];
  kernel_rows job = {1, terms, rows, u, w->numbers.out_pitch, k->lanes, NULL, first > 0, ahead};
  v += w->bytes * first + range->from * pitch;
  m += w->bytes * range->from * w->numbers.out_pitch;
  for (int part = 0; part < range->parts; part++, job.ahead = 0) {
    int64_t count = range->least + (part < range->more);
    for (int64_t i = 0; i < count; i++, v += pitch)
      rows[i] = v;
    k->rows_tiles[(count - 1) * k->rows_tile_vectors + vectors - 1](&job, m);
    m += w->bytes * count * w->numbers.out_pitch;
  }
}

/* One element of M, of output channels [from, to). Behind its last panel comes the first one of `next`. */
static void multiply_element(const winograd_work *w, const tile_element *element, const tile_element *next,
                             int64_t from, int64_t to) {
  const winograd *n = &w->numbers;
  const conv_blocks *b = &w->plan->blocks;
  const tile_range *tiles = &w->ranges[element->rows][element->columns];
  int64_t count = element->terms, most = conv_even(count, b->terms);
  const char *v = w->v + w->bytes * (element->index * n->in_stride + element->first_term);
  for (int64_t c = from; c < to; c += b->panel)
    for (int64_t term = 0; term < count; term += most) {
      int64_t columns = conv_min(b->panel, to - c), terms = conv_min(most, count - term);
      int64_t at = element->weights + c * count + term * columns;
      bool last = c + columns == to && term + terms == count;
      int64_t ahead = last ? next->weights + from * next->terms - at : terms * columns;
      multiply_panel(w, tiles, v, w->weights + w->bytes * at,
                     w->m + w->bytes * (element->index * n->out_stride + c - from), columns, term, terms, ahead);
    }
}

/* M of output channels [from, to). */
static void multiply(const winograd_work *w, int64_t from, int64_t to) {
  for (int i = 0; i < w->elements_needed; i++)
    multiply_element(w, &w->elements[i], &w->elements[conv_min(i + 1, w->elements_needed - 1)], from, to);
}

/* Of the runs that begin in tiles [from, to). */
static void transform_all_inputs(const winograd_work *w, int64_t from, int64_t to) {
  tile_run run;
  begin_runs(w, &run);
  while (next_run(w, &run))
    if (run.tile >= from && run.tile < to) transform_inputs(w, &run);
}

/* From V to output channels [from, end). */
static void compute_channels(const winograd_work *w, int64_t from, int64_t end) {
  for (int64_t to; from < conv_min(end, w->numbers.out_channels); from = to) {
    to = conv_min(from + w->plan->blocks.sums, conv_min(end, w->numbers.out_channels));
    multiply(w, from, to);
    tile_run run;
    begin_runs(w, &run);
    while (next_run(w, &run))
      transform_outputs(w, &run, from, to);
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
  int64_t group = conv_take(&block, plan->problem.groups), image = block;
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype);
  char *v = shares(plan, &n) ? run->shared : workspace, *m = workspace;
  if (v == m) m += conv_round_up(n.v_elements * bytes, 64);
  winograd_work w = {
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
      .strip = m + conv_round_up(n.m_elements * bytes, 64) + n.strip_margin * bytes,
      .first_tile = tile,
      .tiles = tiles,
  };
  place_groups(&w);
  find_elements(&w);
  return w;
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
    .needs = "3 to 8 rows and columns of the kernel, or one of them and 2 to 12 of the other; with a stride up to 5, "
             "or 4, for "
             "each phase of it, and no dilation",
    .cost = cost4,
    .prepare = prepare,
    .packing = 0.32,
    .packs_alike = packs_alike,
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
    .packs_alike = packs_alike,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
    .last_pieces = last_pieces,
    .run_last = run_last,
};
