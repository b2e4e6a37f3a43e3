/* The sums of a weight's gradient: a matrix product whose sum runs over output pixels. Rows are weights of one output
 * channel: an input channel and a tap, which together are an offset into the input. Columns are output channels, in
 * vector lanes. The gradient of the output comes packed, pixel by pixel; the input is read where it lies, an element
 * for all lanes, or for each lane one of its own. */
#include "kernels/families.h"

/* Sums of the largest tile: a multiply-add waits four cycles for the one before in its sum, and two begin in a cycle.
 * In wide panels sums take all registers but those for the panel's vectors and the input; offsets take a general
 * register each. */
#define MOST_ROWS 8
#define MOST_SUMS (7 * GRADIENT_VECTORS > 16 ? 28 : 12)

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

#define TILE(rows, vectors)                                                                                            \
  static void tile_##rows##x##vectors(const kernel_gradient *job, const int64_t *offsets, real *sums) {                \
    gradient_tile(false, rows, vectors, job, offsets, sums);                                                           \
  }                                                                                                                    \
  static void lanes_##rows##x##vectors(const kernel_gradient *job, const int64_t *offsets, real *sums) {               \
    gradient_tile(true, rows, vectors, job, offsets, sums);                                                            \
  }
#define TILES_OF(vectors)                                                                                              \
  TILE(1, vectors)                                                                                                     \
  TILE(2, vectors) TILE(3, vectors) TILE(4, vectors) TILE(5, vectors) TILE(6, vectors)
#define NAMES_OF(kind, vectors)                                                                                        \
  kind##_1x##vectors, kind##_2x##vectors, kind##_3x##vectors, kind##_4x##vectors, kind##_5x##vectors, kind##_6x##vectors

TILES_OF(1)
TILE(7, 1)
TILE(8, 1)
TILES_OF(2)
#if GRADIENT_VECTORS == 4
TILE(7, 2)
TILE(8, 2)
TILES_OF(3)
TILE(7, 3)
TILE(8, 3)
TILES_OF(4)
TILE(7, 4)
#endif

/* [by_lane][vectors - 1][rows - 1] */
static const tile_function tiles[2][GRADIENT_VECTORS][MOST_ROWS] = {
#if GRADIENT_VECTORS == 4
    {{NAMES_OF(tile, 1), tile_7x1, tile_8x1},
     {NAMES_OF(tile, 2), tile_7x2, tile_8x2},
     {NAMES_OF(tile, 3), tile_7x3, tile_8x3},
     {NAMES_OF(tile, 4), tile_7x4}},
    {{NAMES_OF(lanes, 1), lanes_7x1, lanes_8x1},
     {NAMES_OF(lanes, 2), lanes_7x2, lanes_8x2},
     {NAMES_OF(lanes, 3), lanes_7x3, lanes_8x3},
     {NAMES_OF(lanes, 4), lanes_7x4}},
#else
    {{NAMES_OF(tile, 1), tile_7x1, tile_8x1}, {NAMES_OF(tile, 2)}},
    {{NAMES_OF(lanes, 1), lanes_7x1, lanes_8x1}, {NAMES_OF(lanes, 2)}},
#endif
};

/* Tiles of nearly the same number of rows: a small one keeps the multipliers waiting. */
void NAME(gradient_sums)(const kernel_gradient *job) {
  int64_t most_rows = least(MOST_ROWS, MOST_SUMS / job->vectors), count = (job->rows + most_rows - 1) / most_rows;
  const tile_function *of_width = tiles[job->by_lane][job->vectors - 1];
  for (int64_t i = 0; i < count; i++) {
    int64_t first = job->rows * i / count, end = job->rows * (i + 1) / count;
    of_width[end - first - 1](job, job->offsets + first, (real *)job->sums + first * job->vectors * LANES);
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
