/* The other tile of a matrix product: rows of a stay where they are in memory, each behind a pointer, their elements
 * broadcast; columns of b, packed, in vector lanes. For pixels whose channels lie side by side: rows are pixels,
 * columns are output channels. */
#include "kernels/families.h"

/* Inlined with constant `rows` and `vectors`, so that the sums and the row pointers live in registers. `last`: lanes of
 * the last vector that c has. */
INLINE void rows_tile(int rows, int vectors, const kernel_rows *job, void *c_void) {
  real *restrict c = c_void;
  vec sum[ROWS_TILE_ROWS][ROWS_TILE_VECTORS];
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      const real *from = c + m * job->c_stride + v * LANES;
      sum[m][v] = !job->accumulate ? vec_zero() : v == vectors - 1 ? vec_load_part(from, job->last) : vec_load(from);
    }
  const real *restrict b = job->b;
  for (int64_t segment = 0; segment < job->segments; segment++) {
    const real *a[ROWS_TILE_ROWS];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
      a[m] = job->rows[segment * ROWS_TILE_ROWS + m];
    for (int64_t term = 0; term < job->terms; term++, b += vectors * LANES) {
      vec columns[ROWS_TILE_VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++)
        columns[v] = vec_load(b + v * LANES);
#pragma GCC unroll 8
      for (int m = 0; m < rows; m++) {
        vec x = vec_set(a[m][term]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
          sum[m][v] = vec_fma(x, columns[v], sum[m][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    bool whole = v < vectors - 1 || job->last == LANES;
    const real *bias = (const real *)job->bias + v * LANES;
    vec add = !job->bias ? vec_zero() : whole ? vec_load(bias) : vec_load_part(bias, job->last);
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++) {
      vec result = job->bias ? sum[m][v] + add : sum[m][v];
      real *to = c + m * job->c_stride + v * LANES;
      if (whole)
        vec_store(to, result);
      else
        vec_store_part(to, result, job->last);
    }
  }
}

#define TILE(rows, vectors)                                                                                            \
  static void rows_tile_##rows##x##vectors(const kernel_rows *job, void *c) {                                          \
    rows_tile(rows, vectors, job, c);                                                                                  \
  }
#if ROWS_TILE_VECTORS == 4
#define TILES_OF(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3) TILE(rows, 4)
#define NAMES_OF(rows) rows_tile_##rows##x1, rows_tile_##rows##x2, rows_tile_##rows##x3, rows_tile_##rows##x4
#else
#define TILES_OF(rows) TILE(rows, 1) TILE(rows, 2)
#define NAMES_OF(rows) rows_tile_##rows##x1, rows_tile_##rows##x2
#endif

TILES_OF(1)
TILES_OF(2)
TILES_OF(3)
TILES_OF(4)
TILES_OF(5)
TILES_OF(6)
#if ROWS_TILE_ROWS == 7
TILES_OF(7)
#endif

const kernel_rows_tile NAME(rows_tiles)[ROWS_TILE_ROWS * ROWS_TILE_VECTORS] = {
    NAMES_OF(1), NAMES_OF(2), NAMES_OF(3), NAMES_OF(4), NAMES_OF(5), NAMES_OF(6),
#if ROWS_TILE_ROWS == 7
    NAMES_OF(7),
#endif
};
