/* The tile of a matrix product that everything packed ends in: rows of a in scalars, columns of b in vector lanes, sums
 * in registers. */
#include "kernels/families.h"

/* Inlined with constant `rows` and `vectors`, so that every loop over them unrolls and `sum` lives in registers. */
INLINE void tile(int rows, int vectors, int64_t terms, const real *restrict a, const real *restrict b, int64_t b_stride,
                 real *restrict c, int64_t c_stride, const real *restrict bias, bool accumulate) {
  static const real zeros[TILE_ROWS];
  vec sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      sum[m][v] = accumulate ? vec_load(c + m * c_stride + v * LANES) : vec_zero();
  for (int64_t term = 0; term < terms; term++, a += rows, b += b_stride) {
    vec pixels[TILE_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      pixels[v] = vec_load(b + v * LANES);
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++) {
      vec weight = vec_set(a[m]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++)
        sum[m][v] = vec_fma(weight, pixels[v], sum[m][v]);
    }
  }
  /* As if c were another pointer: the compiler would find all addresses at the beginning, and lose them to the stack.
   */
  __asm__("" : "+r"(c));
  if (!bias) bias = zeros;
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++, c += c_stride) {
    vec add = vec_set(bias[m] + (real)0);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      vec_store(c + v * LANES, sum[m][v] + add);
  }
}

#define TILE(rows, vectors)                                                                                            \
  static void tile_##rows##x##vectors(int64_t terms, const void *a, const void *b, int64_t b_stride, void *c,          \
                                      int64_t c_stride, const void *bias, bool accumulate) {                           \
    tile(rows, vectors, terms, a, b, b_stride, c, c_stride, bias, accumulate);                                         \
  }
#define TILES_OF(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3)
#define NAMES_OF(rows) tile_##rows##x1, tile_##rows##x2, tile_##rows##x3

TILES_OF(1)
TILES_OF(2)
#if TILE_ROWS >= 4
TILES_OF(3)
TILES_OF(4)
#endif
#if TILE_ROWS == 8
TILES_OF(8)
#endif

const kernel_tile NAME(tiles)[TILE_ROWS * TILE_VECTORS] = {
    NAMES_OF(1),
    NAMES_OF(2),
#if TILE_ROWS >= 4
    NAMES_OF(3),
    NAMES_OF(4),
#endif
#if TILE_ROWS == 8
    [7 * TILE_VECTORS] = NAMES_OF(8),
#endif
};

#if defined(KERNEL_ISA_avx512)
/* Of half a vector, which takes half the time where the processor does a whole one in two steps. */
void NAME(half_tile)(int64_t terms, const void *a_at, const void *b_at, int64_t b_stride, void *c_at, int64_t c_stride,
                     const void *bias_at, bool accumulate) {
  const real *restrict a = a_at, *restrict b = b_at, *restrict bias = bias_at;
  real *restrict c = c_at;
  vec_half sum[TILE_ROWS];
#pragma GCC unroll 8
  for (int m = 0; m < TILE_ROWS; m++)
    sum[m] = accumulate ? (vec_half) * (const vec_half_unaligned *)(c + m * c_stride) : half_set(0);
  for (int64_t term = 0; term < terms; term++, a += TILE_ROWS, b += b_stride) {
    vec_half pixels = *(const vec_half_unaligned *)b;
#pragma GCC unroll 8
    for (int m = 0; m < TILE_ROWS; m++)
      sum[m] = half_fma(half_set(a[m]), pixels, sum[m]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < TILE_ROWS; m++)
    *(vec_half_unaligned *)(c + m * c_stride) = sum[m] + half_set((bias ? bias[m] : 0) + (real)0);
}
#endif
