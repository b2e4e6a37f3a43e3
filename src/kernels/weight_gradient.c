/* The sums of a weight's gradient: a matrix product whose sum runs over output pixels. Rows are weights of one output
 * channel: an input channel and a tap, which together are an offset into the input. Columns are output channels, in
 * vector lanes. The gradient of the output comes packed, pixel by pixel; the input is read where it lies, an element
 * for all lanes, or for each lane one of its own. (Or input and output change places: a product does not mind.) */
#include "kernels/families.h"

/* A multiply-add waits four cycles for the one before in its sum, and two begin in a cycle: eight sums at least. At the
 * most they take all registers but those for the panel's vectors and the input; offsets take a general register each.
 */
#define MOST_ROWS 8

/* Whether a tile leaves out what lies at its sums where they begin: of the widest panels; others find zeros there. */
INLINE bool begins(bool by_lane, int64_t vectors) {
  return !by_lane && vectors == GRADIENT_VECTORS;
}

/* Inlined with constants, so that sums and offsets live in registers. */
INLINE void gradient_tile(bool by_lane, int rows, int vectors, const kernel_gradient *job, const int64_t *offsets,
                          real *sums) {
  static const real zeros[GRADIENT_VECTORS * LANES];
  vec sum[MOST_ROWS][GRADIENT_VECTORS];
  int64_t offset[MOST_ROWS];
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++) {
    offset[m] = offsets[m];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      sum[m][v] = vec_zero();
  }
  const real *restrict g = job->panel;
  for (int64_t image = 0; image < job->images; image++, g += job->panel_image_gap)
    for (int64_t segment = 0; segment < job->segments; segment++, g += job->panel_segment_gap) {
      const real *restrict x = (const real *)job->input + image * job->image_step + segment * job->segment_step;
      for (int64_t term = 0; term < job->terms; term++, x += job->term_step, g += vectors * LANES) {
        vec columns[GRADIENT_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
          columns[v] = vec_load(g + v * LANES);
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
          for (int v = 0; v < vectors; v++)
            sum[m][v] =
                vec_fma(by_lane ? vec_load(x + offset[m] + v * LANES) : vec_set(x[offset[m]]), columns[v], sum[m][v]);
      }
    }
  bool begin = begins(by_lane, vectors) && job->begin;
  int64_t sum_step = job->sum_step, before_step = begin ? 0 : sum_step;
  const real *before = begin ? zeros : sums;
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++, sums += sum_step, before += before_step)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      vec_store(sums + v * LANES, vec_load(before + v * LANES) + sum[m][v]);
}

typedef void (*tile_function)(const kernel_gradient *job, const int64_t *offsets, real *sums);

#define TILE(kind, by_lane, rows, vectors)                                                                             \
  static void kind##_##rows##x##vectors(const kernel_gradient *job, const int64_t *offsets, real *sums) {              \
    gradient_tile(by_lane, rows, vectors, job, offsets, sums);                                                         \
  }
/* For doubles, which few need, the library is kept small: three, five and seven rows are put together of others. */
#if defined(KERNEL_DTYPE_f64)
#define ODD_TILE(kind, by_lane, rows, vectors)
#define ODD_NAME(kind, rows, vectors) NULL
#else
#define ODD_TILE(kind, by_lane, rows, vectors) TILE(kind, by_lane, rows, vectors)
#define ODD_NAME(kind, rows, vectors) kind##_##rows##x##vectors
#endif
#define TILES_4(kind, by_lane, vectors)                                                                                \
  TILE(kind, by_lane, 1, vectors)                                                                                      \
  TILE(kind, by_lane, 2, vectors) ODD_TILE(kind, by_lane, 3, vectors) TILE(kind, by_lane, 4, vectors)
#define TILES_6(kind, by_lane, vectors)                                                                                \
  TILES_4(kind, by_lane, vectors) ODD_TILE(kind, by_lane, 5, vectors) TILE(kind, by_lane, 6, vectors)
#define TILES_8(kind, by_lane, vectors)                                                                                \
  TILES_6(kind, by_lane, vectors) ODD_TILE(kind, by_lane, 7, vectors) TILE(kind, by_lane, 8, vectors)
#define NAMES_4(kind, vectors) kind##_1x##vectors, kind##_2x##vectors, ODD_NAME(kind, 3, vectors), kind##_4x##vectors
#define NAMES_6(kind, vectors) NAMES_4(kind, vectors), ODD_NAME(kind, 5, vectors), kind##_6x##vectors
#define NAMES_8(kind, vectors) NAMES_6(kind, vectors), ODD_NAME(kind, 7, vectors), kind##_8x##vectors

/* How many rows the tiles of 1, 2 and 4 vectors have at the most. */
#if LANES > 1
static const int most_rows[] = {8, 6, 0, 6};
TILES_8(channels, false, 1)
TILES_6(channels, false, 2)
TILES_8(groups, true, 1)
TILES_6(groups, true, 2)
#if GRADIENT_VECTORS == 4
TILES_6(channels, false, 4)
#endif
static const tile_function of_channels[][8] = {
    {NAMES_8(channels, 1)},
    {NAMES_6(channels, 2)},
#if GRADIENT_VECTORS == 4
    {0},
    {NAMES_6(channels, 4)},
#endif
};
static const tile_function of_groups[][8] = {{NAMES_8(groups, 1)}, {NAMES_6(groups, 2)}};
#else
/* A vector of one lane: the two kinds are one. */
static const int most_rows[] = {4};
TILES_4(channels, false, 1)
static const tile_function of_channels[][8] = {{NAMES_4(channels, 1)}};
#define of_groups of_channels
#endif

static void sum_rows(const kernel_gradient *job, tile_function tile, int64_t first, int64_t rows) {
  real *sums = (real *)job->sums + first * job->sum_step;
  bool clear = job->begin && !begins(job->by_lane, job->vectors);
  for (int64_t m = 0; clear && m < rows; m++)
    memset(sums + m * job->sum_step, 0, (size_t)job->vectors * sizeof(vec));
  tile(job, job->offsets + first, sums);
}

/* Tiles of nearly the same number of rows: a small one keeps the multipliers waiting. */
void NAME(gradient_sums)(const kernel_gradient *job) {
  const tile_function *tiles = job->by_lane ? of_groups[job->vectors - 1] : of_channels[job->vectors - 1];
  int64_t most = most_rows[job->vectors - 1], count = (job->rows + most - 1) / most;
  for (int64_t i = 0; i < count; i++) {
    int64_t end = job->rows * (i + 1) / count;
    for (int64_t first = job->rows * i / count, rows; first < end; first += rows) {
      rows = end - first;
      while (!tiles[rows - 1])
        rows--;
      sum_rows(job, tiles[rows - 1], first, rows);
    }
  }
}

/* Four chains of additions for each lane: kernels/order.h. */
void NAME(gradient_biases)(int64_t pixels, int64_t vectors, const void *panel, void *biases) {
  for (int64_t v = 0; v < vectors; v++) {
    vec sums[4] = {vec_zero(), vec_zero(), vec_zero(), vec_zero()};
    const real *g = (const real *)panel + v * LANES;
    int64_t step = vectors * LANES, i = 0;
    for (; i + 4 <= pixels; i += 4, g += 4 * step)
#pragma GCC unroll 4
      for (int chain = 0; chain < 4; chain++)
        sums[chain] += vec_load(g + chain * step);
    for (int chain = 0; i < pixels; i++, chain++, g += step)
      sums[chain] += vec_load(g);
    real *to = (real *)biases + v * LANES;
    vec_store(to, vec_load(to) + ((sums[0] + sums[1]) + (sums[2] + sums[3])));
  }
}

void NAME(gradient_add)(int64_t vectors, void *sums, const void *more) {
  for (int64_t i = 0; i < vectors; i++) {
    real *to = (real *)sums + i * LANES;
    vec_store(to, vec_load(to) + vec_load((const real *)more + i * LANES));
  }
}

/* What is not finite times 0 is not a number. */
bool NAME(gradient_finite)(int64_t vectors, const void *panel) {
  const real *g = panel;
  vec sums[4] = {vec_zero(), vec_zero(), vec_zero(), vec_zero()};
  for (; vectors >= 4; vectors -= 4, g += 4 * LANES)
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
      sums[i] = vec_fma(vec_load(g + i * LANES), vec_zero(), sums[i]);
  for (; vectors > 0; vectors--, g += LANES)
    sums[0] = vec_fma(vec_load(g), vec_zero(), sums[0]);
  real lanes[LANES], sum = 0;
  vec_store(lanes, (sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (int i = 0; i < LANES; i++)
    sum += lanes[i];
  return sum == 0;
}

/* ---- Pixels whose channels lie side by side ---- */

/* A vector of lanes of one pixel out of `apart` vectors: the first of each `apart` elements for the first row, and so
 * on. */
INLINE void deal(int64_t apart, const real *from, int64_t row_stride, real *to) {
  if (apart == 1) {
    vec_store(to, vec_load(from));
  } else if (apart == 2) {
    vec a = vec_load(from), b = vec_load(from + LANES);
    vec_store(to, vec_even(a, b));
    vec_store(to + row_stride, vec_odd(a, b));
  } else {
    vec four[4], dealt[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
      four[i] = vec_load(from + i * LANES);
    vec_deal_four(four, dealt);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
      vec_store(to + i * row_stride, dealt[i]);
  }
}

/* Lanes [lane, the width) of one pixel, one by one. */
static void deal_rest(const kernel_dealing *job, int64_t lane, const real *from, real *to) {
  for (; lane < job->width; lane++)
    for (int64_t row = 0; row < job->rows; row++)
      to[row * job->row_stride + lane] = lane < job->lanes ? from[lane * job->apart + row] : 0;
}

/* Evenly spaced pixels, vector by vector. `apart` is a constant here: 0 for numbers that have no vectors of their own.
 */
INLINE void deal_pixels(int64_t apart, const kernel_dealing *job, int64_t count, const real *from, int64_t step,
                        real *to, int64_t pixel) {
  int64_t lane = 0;
  for (; apart > 0 && lane + LANES <= job->lanes; lane += LANES)
    for (int64_t i = 0; i < count; i++)
      deal(apart, from + i * step + lane * apart, job->row_stride, to + i * pixel + lane);
  for (; apart == 1 && lane + LANES <= job->width; lane += LANES)
    for (int64_t i = 0; i < count; i++)
      vec_store(to + i * pixel + lane, vec_load_part(from + i * step + lane, clamp(job->lanes - lane, 0, LANES)));
  for (int64_t i = 0; i < count && lane < job->width; i++)
    deal_rest(job, lane, from + i * step, to + i * pixel);
}

/* Some pixels at a time: each vector of their channels is a pass over them. */
enum { DEAL_PIXELS = 16 };

static void deal_inside(const kernel_dealing *job, int64_t count, const real *from, int64_t step, real *to,
                        int64_t pixel) {
  bool dense = job->rows == 1 && job->lanes == job->width && step == job->width && pixel == job->width;
  if (dense) {
    memcpy(to, from, (size_t)(count * pixel) * sizeof(real));
    return;
  }
  bool whole = job->rows == job->apart && LANES > 1;
  for (; count > 0; count -= DEAL_PIXELS, from += DEAL_PIXELS * step, to += DEAL_PIXELS * pixel) {
    int64_t some = least(count, DEAL_PIXELS);
    if (whole && job->apart == 1)
      deal_pixels(1, job, some, from, step, to, pixel);
    else if (whole && job->apart == 2)
      deal_pixels(2, job, some, from, step, to, pixel);
    else if (whole && job->apart == 4)
      deal_pixels(4, job, some, from, step, to, pixel);
    else
      deal_pixels(0, job, some, from, step, to, pixel);
  }
}

/* Columns [from, to) through the index map; all of a row that lies outside. */
static void deal_edge(const kernel_conv *conv, const kernel_strip *strip, const kernel_dealing *job, const real *row,
                      int64_t from, int64_t to, real *strip_row) {
  for (int64_t j = from; j < to; j++) {
    int64_t column = row ? conv->columns[strip->column + j * strip->step[1]] : -1;
    real *at = strip_row + j * strip->pixel;
    if (column >= 0)
      deal_inside(job, 1, row + column * conv->input_strides[2], 0, at, 0);
    else
      for (int64_t i = 0; i < job->rows; i++)
        memset(at + i * job->row_stride, 0, (size_t)job->width * sizeof(real));
  }
}

void NAME(gradient_deal)(const kernel_conv *conv, const kernel_strip *strip, const kernel_dealing *job,
                         const void *input, void *to) {
  int64_t step = strip->step[1], before = conv->image_column - strip->column, end = before + conv->in_width;
  int64_t first = clamp(before > 0 ? (before + step - 1) / step : 0, 0, strip->columns);
  int64_t behind = clamp(end > 0 ? (end + step - 1) / step : 0, first, strip->columns);
  for (int64_t i = 0; i < strip->rows; i++) {
    int64_t at = conv->rows[strip->row + i * strip->step[0]];
    const real *row = at < 0 ? NULL : (const real *)input + at * conv->input_strides[1];
    real *strip_row = (real *)to + i * strip->pitch;
    deal_edge(conv, strip, job, row, 0, row ? first : strip->columns, strip_row);
    if (!row) continue;
    deal_inside(job, behind - first, row + (first * step - before) * conv->input_strides[2],
                step * conv->input_strides[2], strip_row + first * strip->pixel, strip->pixel);
    deal_edge(conv, strip, job, row, behind, strip->columns, strip_row);
  }
}
