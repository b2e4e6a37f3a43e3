/* The sums of a weight's gradient: a matrix product whose sum runs over output pixels. Rows are weights of one output
 * channel: an input channel and a tap, which together are an offset into the input. Columns are output channels, in
 * vector lanes. The gradient of the output comes packed, pixel by pixel; the input is read where it lies, an element
 * for all lanes, or for each lane one of its own. */
#include "kernels/families.h"

/* A multiply-add waits four cycles for the one before in its sum, and two begin in a cycle: eight sums at least. At the
 * most they take all registers but those for the panel's vectors and the input; offsets take a general register each.
 */
#define MOST_ROWS 8

/* Inlined with constants, so that sums and offsets live in registers. */
INLINE void gradient_tile(bool by_lane, int rows, int vectors, const kernel_gradient *job, const int64_t *offsets,
                          real *restrict sums) {
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
  for (int64_t image = 0; image < job->images; image++)
    for (int64_t segment = 0; segment < job->segments; segment++) {
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
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      real *to = sums + (m * vectors + v) * LANES;
      vec_store(to, vec_load(to) + sum[m][v]);
    }
}

typedef void (*tile_function)(const kernel_gradient *job, const int64_t *offsets, real *sums);

#define TILE(kind, by_lane, rows, vectors)                                                                             \
  static void kind##_##rows##x##vectors(const kernel_gradient *job, const int64_t *offsets, real *sums) {              \
    gradient_tile(by_lane, rows, vectors, job, offsets, sums);                                                         \
  }
#define TILES_3(kind, by_lane, vectors)                                                                                \
  TILE(kind, by_lane, 1, vectors) TILE(kind, by_lane, 2, vectors) TILE(kind, by_lane, 3, vectors)
#define TILES_6(kind, by_lane, vectors)                                                                                \
  TILES_3(kind, by_lane, vectors)                                                                                      \
  TILE(kind, by_lane, 4, vectors) TILE(kind, by_lane, 5, vectors) TILE(kind, by_lane, 6, vectors)
#define TILES_7(kind, by_lane, vectors) TILES_6(kind, by_lane, vectors) TILE(kind, by_lane, 7, vectors)
#define TILES_8(kind, by_lane, vectors) TILES_7(kind, by_lane, vectors) TILE(kind, by_lane, 8, vectors)
#define NAMES_3(kind, vectors) kind##_1x##vectors, kind##_2x##vectors, kind##_3x##vectors
#define NAMES_6(kind, vectors) NAMES_3(kind, vectors), kind##_4x##vectors, kind##_5x##vectors, kind##_6x##vectors
#define NAMES_7(kind, vectors) NAMES_6(kind, vectors), kind##_7x##vectors
#define NAMES_8(kind, vectors) NAMES_7(kind, vectors), kind##_8x##vectors

/* How many rows the tiles of 1, 2 and 4 vectors have at the most. */
#if GRADIENT_VECTORS == 4
static const int most_rows[] = {8, 8, 0, 7};
TILES_8(channels, false, 1)
TILES_8(channels, false, 2)
TILES_7(channels, false, 4)
TILES_8(groups, true, 1)
TILES_8(groups, true, 2)
static const tile_function of_channels[][8] = {
    {NAMES_8(channels, 1)}, {NAMES_8(channels, 2)}, {0}, {NAMES_7(channels, 4)}};
static const tile_function of_groups[][8] = {{NAMES_8(groups, 1)}, {NAMES_8(groups, 2)}};
#elif LANES > 1
static const int most_rows[] = {8, 6};
TILES_8(channels, false, 1)
TILES_6(channels, false, 2)
TILES_8(groups, true, 1)
TILES_6(groups, true, 2)
static const tile_function of_channels[][8] = {{NAMES_8(channels, 1)}, {NAMES_6(channels, 2)}};
static const tile_function of_groups[][8] = {{NAMES_8(groups, 1)}, {NAMES_6(groups, 2)}};
#else
static const int most_rows[] = {3, 3};
TILES_3(channels, false, 1)
TILES_3(channels, false, 2)
TILES_3(groups, true, 1)
TILES_3(groups, true, 2)
static const tile_function of_channels[][8] = {{NAMES_3(channels, 1)}, {NAMES_3(channels, 2)}};
static const tile_function of_groups[][8] = {{NAMES_3(groups, 1)}, {NAMES_3(groups, 2)}};
#endif

/* Tiles of nearly the same number of rows: a small one keeps the multipliers waiting. */
void NAME(gradient_sums)(const kernel_gradient *job) {
  const tile_function *tiles = job->by_lane ? of_groups[job->vectors - 1] : of_channels[job->vectors - 1];
  int64_t most = most_rows[job->vectors - 1], count = (job->rows + most - 1) / most;
  for (int64_t i = 0; i < count; i++) {
    int64_t first = job->rows * i / count, end = job->rows * (i + 1) / count;
    tiles[end - first - 1](job, job->offsets + first, (real *)job->sums + first * job->vectors * LANES);
  }
}

/* Four chains of additions for each lane: kernels/order.h. */
bool NAME(gradient_panel)(int64_t pixels, int64_t vectors, const void *panel, void *bias) {
  vec not_finite = vec_zero();
  for (int64_t v = 0; v < vectors; v++) {
    vec sums[4] = {vec_zero(), vec_zero(), vec_zero(), vec_zero()};
    const real *g = (const real *)panel + v * LANES;
    for (int64_t i = 0; i < pixels; i += 4)
#pragma GCC unroll 4
      for (int64_t chain = 0; chain < 4; chain++)
        if (i + chain < pixels) {
          vec x = vec_load(g + (i + chain) * vectors * LANES);
          sums[chain] += x;
          not_finite = vec_fma(x, vec_zero(), not_finite);
        }
    if (!bias) continue;
    real *to = (real *)bias + v * LANES;
    vec_store(to, vec_load(to) + ((sums[0] + sums[1]) + (sums[2] + sums[3])));
  }
  real lanes[LANES], sum = 0;
  vec_store(lanes, not_finite);
  for (int i = 0; i < LANES; i++)
    sum += lanes[i];
  return sum == 0;
}
