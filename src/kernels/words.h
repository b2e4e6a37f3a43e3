/* The words that kernels are written in. A kernel source is compiled once for each dtype and instruction set (the build
 * says which by KERNEL_DTYPE_... and KERNEL_ISA_...), and sees:
 *
 *   real, LANES, vec             the element, how many a vector holds, the vector
 *   NAME(x)                      x with the dtype and the instruction set behind it: x__f32_avx2
 *   vec_load, vec_store          any address; ..._part: the first n lanes only, touching no memory beyond them
 *   vec_load_lanes(p, lanes)     those lanes only, touching no other memory; the others are zero
 *   vec_store_lanes(p, v, lanes) stores those lanes only, with AVX-512
 *   vec_join_lanes(a, b, lanes)  the same for each half of a vec_join
 *   vec_lanes_at(w, at)          a vector's lanes that begin at element `at` of w = vec_window_of(from, end), which are
 *                                elements [from, end) of 32, and lie within it
 *   vec_stream                   stores past the caches, at an aligned address; after all of them vec_stream_end
 *   vec_set                      all lanes the same
 *   vec_keep                     the same vector, in a register: gcc would load what serves several multiply-adds anew
 *                                for each of them
 *   vec_fma(a, b, c)             a * b + c, rounded once; the only way to multiply and add
 *   vec_select(mask, a, b)       a where a comparison holds, else b
 *   vec_permute(v, from)         lane by lane the element of v with that number
 *   vec_even, vec_odd            every second of the 2 * LANES elements of two vectors
 *   vec_even_quick, ..._odd_...  the same in an order of their own, which vec_settle puts right
 *   vec_even_near, vec_odd_near  with 16 lanes: in another order, for which nothing crosses a quarter of a vector
 *   vec_deal(p, &even, &odd)     2 * LANES elements, dealt out
 *   vec_zip_low, vec_zip_high    the elements of two vectors in turns: the first half of them, and the second
 *   vec_deal_four(from, to)      4 * LANES elements of four vectors, every fourth to the same one
 *   vec_join(a, b)               half a vector from each of two addresses
 *   vec_store_halves(a, b, v)    to each of them half of one
 *   vec_load_transposed          LANES x LANES elements; ..._halves: LANES / 2 x LANES
 *
 * and + - * / and comparisons on vectors, lane by lane. Contraction is off: `a * b + c` would round twice. */
#ifndef KERNELS_WORDS_H
#define KERNELS_WORDS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))

#define JOIN4(a, b, c, d) a##b##c##d
#define NAME_OF(name, dtype, isa) JOIN4(name##__, dtype, _, isa)
#define NAME(name) NAME_OF(name, KERNEL_DTYPE, KERNEL_ISA)

#if defined(KERNEL_DTYPE_f32)
typedef float real;
typedef int32_t real_bits;
#define REAL_BYTES 4
#elif defined(KERNEL_DTYPE_f64)
typedef double real;
typedef int64_t real_bits;
#define REAL_BYTES 8
#else
#error "the build must name the dtype: KERNEL_DTYPE_f32 or KERNEL_DTYPE_f64"
#endif

#if defined(KERNEL_ISA_avx512)
#include "kernels/words_avx512.h"
#elif defined(KERNEL_ISA_avx2)
#include "kernels/words_avx2.h"
#elif defined(KERNEL_ISA_neon)
#include "kernels/words_neon.h"
#elif defined(KERNEL_ISA_scalar)
#include "kernels/words_scalar.h"
#else
#error "the build must name the instruction set: KERNEL_ISA_scalar, ..."
#endif

/* Positions and counts. */
INLINE int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

INLINE int64_t most(int64_t a, int64_t b) {
  return a > b ? a : b;
}

INLINE int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

/* A vector at any address. */
typedef vec vec_unaligned __attribute__((aligned(REAL_BYTES), may_alias));

INLINE vec vec_load(const real *p) {
  return *(const vec_unaligned *)p;
}

INLINE void vec_store(real *p, vec v) {
  *(vec_unaligned *)p = v;
}

/* A load that crosses a cache line takes as long as two multiply-adds. */
INLINE vec vec_keep(vec v) {
#if defined(KERNEL_ISA_avx2) || defined(__AVX512F__)
  __asm__("" : "+v"(v));
#endif
  return v;
}

INLINE void vec_stream(real *p, vec v) {
#if defined(__AVX512F__) && LANES * REAL_BYTES == 64
  _mm512_stream_si512((__m512i *)(void *)p, (__m512i)v);
#elif defined(__AVX__) && LANES * REAL_BYTES == 32
  _mm256_stream_si256((__m256i *)(void *)p, (__m256i)v);
#else
  vec_store(p, v);
#endif
}

INLINE void vec_stream_end(void) {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

INLINE vec vec_zero(void) {
  return vec_set(0);
}

/* What comparisons give: all bits of a lane, or none. */
typedef real_bits vec_mask __attribute__((vector_size(LANES * REAL_BYTES)));

INLINE vec vec_permute(vec v, vec_mask from) {
#if defined(__AVX512F__) && LANES == 16
  return (vec)_mm512_permutexvar_ps((__m512i)from, (__m512)v);
#elif defined(__AVX512F__) && LANES == 8
  return (vec)_mm512_permutexvar_pd((__m512i)from, (__m512d)v);
#elif defined(KERNEL_ISA_avx2) && REAL_BYTES == 4
  return (vec)_mm256_permutevar8x32_ps((__m256)v, (__m256i)from);
#elif defined(KERNEL_ISA_avx2)
  vec_mask low = from * 2; /* in halves of elements */
  return (vec)_mm256_permutevar8x32_ps((__m256)v, (__m256i)(low | ((low + 1) << 32)));
#else
  vec moved;
  for (int i = 0; i < LANES; i++)
    moved[i] = v[from[i]];
  return moved;
#endif
}

INLINE vec vec_select(vec_mask mask, vec a, vec b) {
  return (vec)((mask & (vec_mask)a) | (~mask & (vec_mask)b));
}

#if LANES == 1
INLINE vec vec_join(const real *a, const real *b) {
  (void)b;
  return vec_load(a);
}

INLINE void vec_store_halves(real *low, real *high, vec v) {
  (void)high;
  vec_store(low, v);
}
#else
typedef real vec_half __attribute__((vector_size(LANES * REAL_BYTES / 2)));
typedef vec_half vec_half_unaligned __attribute__((aligned(REAL_BYTES), may_alias));

INLINE vec vec_join(const real *a, const real *b) {
  vec_half low = *(const vec_half_unaligned *)a, high = *(const vec_half_unaligned *)b;
#if LANES == 2
  return __builtin_shufflevector(low, high, 0, 1);
#elif LANES == 4
  return __builtin_shufflevector(low, high, 0, 1, 2, 3);
#elif LANES == 8
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
#else
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
}

INLINE void vec_store_halves(real *low, real *high, vec v) {
  vec_half halves[2];
  memcpy(halves, &v, sizeof v);
  *(vec_half_unaligned *)low = halves[0];
  *(vec_half_unaligned *)high = halves[1];
}
#endif

/* Without masks: lane by lane. */
#if !defined(VEC_MASKS)
typedef struct vec_lanes {
  int64_t from, end;
} vec_lanes;

typedef vec_lanes vec_window;

INLINE vec_window vec_window_of(int64_t from, int64_t end) {
  return (vec_window){from, end};
}

INLINE vec_lanes vec_lanes_at(vec_window w, int64_t at) {
  return (vec_lanes){clamp(w.from - at, 0, LANES), clamp(w.end - at, 0, LANES)};
}

INLINE vec vec_load_lanes(const real *p, vec_lanes lanes) {
  vec v = vec_zero();
  for (int64_t i = lanes.from; i < lanes.end; i++)
    v[i] = p[i];
  return v;
}

INLINE vec vec_join_lanes(const real *a, const real *b, vec_lanes lanes) {
  vec v = vec_zero();
  for (int64_t i = lanes.from; i < lanes.end && i < LANES / 2; i++)
    v[i] = a[i], v[LANES / 2 + i] = b[i];
  return v;
}
#endif

/* Shuffles of two vectors, written once for every width: mask numbers count the lanes of a, then those of b. */
#if LANES == 1
INLINE vec vec_even(vec a, vec b) {
  (void)b;
  return a;
}
INLINE vec vec_odd(vec a, vec b) {
  (void)a;
  return b;
}
#elif LANES == 2
#define vec_even(a, b) __builtin_shufflevector(a, b, 0, 2)
#define vec_odd(a, b) __builtin_shufflevector(a, b, 1, 3)
#elif LANES == 4
#define vec_even(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define vec_odd(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#elif LANES == 8
#define vec_even(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define vec_odd(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#elif LANES == 16
#define vec_even(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define vec_odd(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#endif

/* And back. */
#if LANES == 1
INLINE vec vec_zip_low(vec a, vec b) {
  (void)b;
  return a;
}
INLINE vec vec_zip_high(vec a, vec b) {
  (void)a;
  return b;
}
#elif LANES == 2
#define vec_zip_low(a, b) __builtin_shufflevector(a, b, 0, 2)
#define vec_zip_high(a, b) __builtin_shufflevector(a, b, 1, 3)
#elif LANES == 4
#define vec_zip_low(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define vec_zip_high(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#elif LANES == 8
#define vec_zip_low(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define vec_zip_high(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif LANES == 16
#define vec_zip_low(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define vec_zip_high(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#endif

/* AVX2 shuffles quickly only within the halves of a vector. */
#if defined(KERNEL_ISA_avx2) && LANES == 8
#define vec_even_quick(a, b) __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14)
#define vec_odd_quick(a, b) __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15)
#define vec_settle(v) __builtin_shufflevector(v, v, 0, 1, 4, 5, 2, 3, 6, 7)
#elif defined(KERNEL_ISA_avx2) && LANES == 4
#define vec_even_quick(a, b) __builtin_shufflevector(a, b, 0, 4, 2, 6)
#define vec_odd_quick(a, b) __builtin_shufflevector(a, b, 1, 5, 3, 7)
#define vec_settle(v) __builtin_shufflevector(v, v, 0, 2, 1, 3)
#else
#define vec_even_quick(a, b) vec_even(a, b)
#define vec_odd_quick(a, b) vec_odd(a, b)
#define vec_settle(v) (v)
#endif

#if LANES == 16
#define vec_even_near(a, b) __builtin_shufflevector(a, b, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30)
#define vec_odd_near(a, b) __builtin_shufflevector(a, b, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31)
#endif

/* Within halves AVX2 deals in order what is loaded as the first and third, the second and fourth quarter. */
INLINE void vec_deal(const real *p, vec *even, vec *odd) {
#if defined(KERNEL_ISA_avx2)
  vec a = vec_join(p, p + LANES), b = vec_join(p + LANES / 2, p + LANES + LANES / 2);
  *even = vec_even_quick(a, b);
  *odd = vec_odd_quick(a, b);
#else
  vec a = vec_load(p), b = vec_load(p + LANES);
  *even = vec_even(a, b);
  *odd = vec_odd(a, b);
#endif
}

INLINE void vec_deal_four(const vec from[4], vec to[4]) {
  vec even_low = vec_even(from[0], from[1]), even_high = vec_even(from[2], from[3]);
  vec odd_low = vec_odd(from[0], from[1]), odd_high = vec_odd(from[2], from[3]);
  to[0] = vec_even(even_low, even_high);
  to[1] = vec_even(odd_low, odd_high);
  to[2] = vec_odd(even_low, even_high);
  to[3] = vec_odd(odd_low, odd_high);
}

/* One step of the transposition of a square: blocks of `s` x `s` elements change places across the diagonal. Row i and
 * row i + s, for each i whose bit s is clear. */
#if LANES == 2
#define SWAP_LOW_1(a, b) __builtin_shufflevector(a, b, 0, 2)
#define SWAP_HIGH_1(a, b) __builtin_shufflevector(a, b, 1, 3)
#elif LANES == 4
#define SWAP_LOW_1(a, b) __builtin_shufflevector(a, b, 0, 4, 2, 6)
#define SWAP_HIGH_1(a, b) __builtin_shufflevector(a, b, 1, 5, 3, 7)
#define SWAP_LOW_2(a, b) __builtin_shufflevector(a, b, 0, 1, 4, 5)
#define SWAP_HIGH_2(a, b) __builtin_shufflevector(a, b, 2, 3, 6, 7)
#elif LANES == 8
#define SWAP_LOW_1(a, b) __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14)
#define SWAP_HIGH_1(a, b) __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15)
#define SWAP_LOW_2(a, b) __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define SWAP_HIGH_2(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define SWAP_LOW_4(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define SWAP_HIGH_4(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#elif LANES == 16
#define SWAP_LOW_1(a, b) __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#define SWAP_HIGH_1(a, b) __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)
#define SWAP_LOW_2(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define SWAP_HIGH_2(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define SWAP_LOW_4(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define SWAP_HIGH_4(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
#define SWAP_LOW_8(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define SWAP_HIGH_8(a, b) __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
#endif

#define TRANSPOSE_STEP(rows, s)                                                                                        \
  _Pragma("GCC unroll 16")                                                                                             \
  for (int i = 0; i < LANES; i++)                                                                                      \
    if (!(i & s)) {                                                                                                    \
      vec low = SWAP_LOW_##s(rows[i], rows[i + s]), high = SWAP_HIGH_##s(rows[i], rows[i + s]);                        \
      rows[i] = low, rows[i + s] = high;                                                                               \
    }

/* Four floats of four rows, in each quarter or half of a vector: pairs of rows are interleaved, then pairs of pairs. */
#if REAL_BYTES == 4 && LANES >= 8
#if LANES == 8
#define PAIRS_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define PAIRS_HIGH(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#else
#define PAIRS_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define PAIRS_HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#endif
INLINE void transpose_fours(vec rows[LANES]) {
#pragma GCC unroll 4
  for (int i = 0; i < LANES; i += 4) {
    vec a = PAIRS_LOW(rows[i], rows[i + 1]), b = PAIRS_HIGH(rows[i], rows[i + 1]);
    vec c = PAIRS_LOW(rows[i + 2], rows[i + 3]), d = PAIRS_HIGH(rows[i + 2], rows[i + 3]);
    rows[i] = SWAP_LOW_2(a, c), rows[i + 1] = SWAP_HIGH_2(a, c);
    rows[i + 2] = SWAP_LOW_2(b, d), rows[i + 3] = SWAP_HIGH_2(b, d);
  }
}
#endif

/* The steps after the first one. */
INLINE void transpose_halves(vec rows[LANES]) {
#if REAL_BYTES == 4 && LANES >= 8
#if LANES == 16
  TRANSPOSE_STEP(rows, 4)
#endif
  transpose_fours(rows);
#else
#if LANES >= 8
  TRANSPOSE_STEP(rows, 2)
#endif
#if LANES >= 4
  TRANSPOSE_STEP(rows, 1)
#endif
#endif
  (void)rows;
}

/* LANES x LANES elements, from rows `stride` apart: the first step is made by loading halves of rows. */
INLINE void vec_load_transposed(vec rows[LANES], const real *from, int64_t stride) {
#if LANES == 1
  rows[0] = vec_load(from);
  (void)stride;
#else
#pragma GCC unroll 16
  for (int i = 0; i < LANES / 2; i++) {
    const real *low = from + i * stride, *high = from + (i + LANES / 2) * stride;
    rows[i] = vec_join(low, high);
    rows[i + LANES / 2] = vec_join(low + LANES / 2, high + LANES / 2);
  }
#endif
  transpose_halves(rows);
}

/* Half as many rows: row i becomes elements i and i + LANES / 2 of all rows, in a half each. */
INLINE void vec_load_transposed_halves(vec rows[LANES], const real *from, int64_t stride) {
#pragma GCC unroll 8
  for (int i = 0; i < LANES / 2; i++)
    rows[i] = vec_load(from + i * stride);
  transpose_halves(rows);
}

#endif
