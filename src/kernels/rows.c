/* The other tile of a matrix product: rows of a stay where they are in memory, each behind a pointer, their elements
 * broadcast; columns of b, packed, in vector lanes. For pixels whose channels lie side by side: rows are pixels,
 * columns are output channels. */
#include "kernels/families.h"

/* Vectors in a cache line. */
enum { LINE_VECTORS = 64 / (LANES * REAL_BYTES) };

/* Inlined with constant `rows` and `vectors`, so that the sums and the row pointers live in registers. All of c's
 * vectors are whole. */
INLINE void rows_tile(int rows, int vectors, const kernel_rows *job, real *restrict c) {
  vec sum[ROWS_TILE_ROWS][ROWS_TILE_VECTORS];
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      sum[m][v] = job->accumulate ? vec_load(c + m * job->c_stride + v * LANES) : vec_zero();
  const real *restrict b = job->b;
  for (int64_t segment = 0; segment < job->segments; segment++) {
    const real *a[ROWS_TILE_ROWS];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
      a[m] = job->rows[segment * ROWS_TILE_ROWS + m];
    for (int64_t term = 0; term < job->terms; term++, b += vectors * LANES) {
      vec columns[ROWS_TILE_VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v += LINE_VECTORS)
        __builtin_prefetch(b + job->ahead + v * LANES, 0, 2);
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
  __asm__("" : "+r"(c)); /* as in gemm.c */
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    vec add = (job->bias ? vec_load((const real *)job->bias + v * LANES) : vec_zero()) + vec_zero();
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
      vec_store(c + m * job->c_stride + v * LANES, sum[m][v] + add);
  }
}

/* A tile whose last vector is not whole: computed beside c and moved there. (Written into the tile itself, the partial
 * stores would make the compiler keep sums in memory.) */
static __attribute__((noinline)) void narrow_tile(int rows, int vectors, const kernel_rows *job, real *c) {
  int64_t width = vectors * LANES, columns = width - LANES + job->last;
  real whole[ROWS_TILE_ROWS * ROWS_TILE_VECTORS * LANES], bias[ROWS_TILE_VECTORS * LANES] = {0};
  kernel_rows beside = *job;
  beside.c_stride = width;
  beside.last = LANES;
  if (job->bias) beside.bias = memcpy(bias, job->bias, (size_t)columns * sizeof(real));
  for (int m = 0; m < rows && job->accumulate; m++)
    memcpy(whole + m * width, c + m * job->c_stride, (size_t)columns * sizeof(real));
  NAME(rows_tiles)[(rows - 1) * ROWS_TILE_VECTORS + vectors - 1](&beside, whole);
  for (int m = 0; m < rows; m++)
    memcpy(c + m * job->c_stride, whole + m * width, (size_t)columns * sizeof(real));
}

#define TILE(rows, vectors)                                                                                            \
  static void rows_tile_##rows##x##vectors(const kernel_rows *job, void *c) {                                          \
    if (job->last == LANES)                                                                                            \
      rows_tile(rows, vectors, job, c);                                                                                \
    else                                                                                                               \
      narrow_tile(rows, vectors, job, c);                                                                              \
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
#if ROWS_TILE_ROWS >= 6
TILES_OF(3)
TILES_OF(4)
TILES_OF(5)
TILES_OF(6)
#endif
#if ROWS_TILE_ROWS == 7
TILES_OF(7)
#endif

const kernel_rows_tile NAME(rows_tiles)[ROWS_TILE_ROWS * ROWS_TILE_VECTORS] = {
    NAMES_OF(1), NAMES_OF(2),
#if ROWS_TILE_ROWS >= 6
    NAMES_OF(3), NAMES_OF(4), NAMES_OF(5), NAMES_OF(6),
#endif
#if ROWS_TILE_ROWS == 7
    NAMES_OF(7),
#endif
};

#if ROWS_HALF
/* A whole tile's rows, and a vector and a half: a multiply-add of half a vector takes half the time where the processor
 * makes one of 512 bits of two. */
void NAME(rows_half)(const kernel_rows *job, void *to) {
  vec sum[ROWS_TILE_ROWS];
  vec_half rest[ROWS_TILE_ROWS];
#pragma GCC unroll 8
  for (int m = 0; m < ROWS_TILE_ROWS; m++) {
    sum[m] = vec_zero();
    rest[m] = half_set(0);
  }
  const real *b = job->b, *bias = job->bias;
  for (int64_t segment = 0; segment < job->segments; segment++) {
    const real *a[ROWS_TILE_ROWS];
#pragma GCC unroll 8
    for (int m = 0; m < ROWS_TILE_ROWS; m++)
      a[m] = job->rows[segment * ROWS_TILE_ROWS + m];
    for (int64_t term = 0; term < job->terms; term++, b += 2 * LANES) {
      vec columns = vec_load(b);
      vec_half last = *(const vec_half_unaligned *)(b + LANES);
#pragma GCC unroll 8
      for (int m = 0; m < ROWS_TILE_ROWS; m++)
        sum[m] = vec_fma(vec_set(a[m][term]), columns, sum[m]);
#pragma GCC unroll 8
      for (int m = 0; m < ROWS_TILE_ROWS; m++)
        rest[m] = half_fma(half_set(a[m][term]), last, rest[m]);
    }
  }
  vec add = (bias ? vec_load(bias) : vec_zero()) + vec_zero();
  vec_half add_rest = half_set(0);
  if (bias) add_rest += *(const vec_half_unaligned *)(bias + LANES);
  real *c = to;
#pragma GCC unroll 8
  for (int m = 0; m < ROWS_TILE_ROWS; m++, c += job->c_stride) {
    vec_store(c, sum[m] + add);
    half_store_part(c + LANES, rest[m] + add_rest, job->last);
  }
}
#endif
