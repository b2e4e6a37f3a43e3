/* AVX-512 (F, BW, DQ, VL): 512 bits, 32 registers.
 *
 * Where the compiler is not told of AVX-512 (the build with FONIO_EMULATE_AVX512), the same words are made of AVX2's,
 * half by half: the kernels' AVX-512 shapes can then be tested on a processor without it. */
#include <immintrin.h>

#define LANES (64 / REAL_BYTES)
typedef real vec __attribute__((vector_size(64)));

/* And half a vector. */
typedef real vec_half __attribute__((vector_size(32)));
#if defined(KERNEL_DTYPE_f32)
INLINE vec_half half_set(real x) {
  return (vec_half)_mm256_set1_ps(x);
}
INLINE vec_half half_fma(vec_half a, vec_half b, vec_half c) {
  return (vec_half)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
#else
INLINE vec_half half_set(real x) {
  return (vec_half)_mm256_set1_pd(x);
}
INLINE vec_half half_fma(vec_half a, vec_half b, vec_half c) {
  return (vec_half)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#endif

#if !defined(__AVX512F__)

typedef union two_halves {
  vec whole;
#if defined(KERNEL_DTYPE_f32)
  __m256 half[2];
#else
  __m256d half[2];
#endif
} two_halves;

INLINE vec vec_set(real x) {
  return x - (vec){0};
}
INLINE vec vec_fma(vec a, vec b, vec c) {
  two_halves x = {a}, y = {b}, z = {c};
  for (int i = 0; i < 2; i++)
#if defined(KERNEL_DTYPE_f32)
    z.half[i] = _mm256_fmadd_ps(x.half[i], y.half[i], z.half[i]);
#else
    z.half[i] = _mm256_fmadd_pd(x.half[i], y.half[i], z.half[i]);
#endif
  return z.whole;
}
INLINE vec vec_load_part(const real *p, int64_t n) {
  vec v = vec_set(0);
  memcpy(&v, p, (size_t)n * sizeof(real));
  return v;
}
INLINE void vec_store_part(real *p, vec v, int64_t n) {
  memcpy(p, &v, (size_t)n * sizeof(real));
}

/* Lanes [from, end), touching no other memory; the others are zero. */
INLINE vec_half half_load_lanes(const real *p, int64_t from, int64_t end) {
  vec_half v = {0};
  for (int64_t i = from; i < end; i++)
    v[i] = p[i];
  return v;
}
INLINE void half_store_part(real *p, vec_half v, int64_t n) {
  memcpy(p, &v, (size_t)n * sizeof(real));
}
#if defined(KERNEL_DTYPE_f32)
/* From element n on, 0 to 4 or 12, and so many of the next vector. */
INLINE vec vec_follow(vec v, vec next, int n) {
  vec moved;
  for (int i = 0; i < LANES; i++)
    moved[i] = i + n < LANES ? v[i + n] : next[i + n - LANES];
  return moved;
}
/* Four elements, over and over. */
INLINE vec vec_fours(const real *p) {
  vec v;
  for (int i = 0; i < LANES; i++)
    v[i] = p[i % 4];
  return v;
}
/* By one or two elements, up or down; zeros follow. */
INLINE vec_half half_move(vec_half v, int by) {
  vec_half moved = {0};
  for (int i = 0; i < LANES / 2; i++)
    if (i + by >= 0 && i + by < LANES / 2) moved[i] = v[i + by];
  return moved;
}
#endif

#else

#define VEC_MASKS
typedef uint16_t vec_lanes;

typedef uint64_t vec_window;

INLINE vec_window vec_window_of(int64_t from, int64_t end) {
  return (((vec_window)1 << end) - 1) & ~(((vec_window)1 << from) - 1);
}
INLINE vec_lanes vec_lanes_at(vec_window w, int64_t at) {
  return (vec_lanes)(w >> at);
}

#if defined(KERNEL_DTYPE_f32)

INLINE vec vec_set(real x) {
  return (vec)_mm512_set1_ps(x);
}
INLINE vec vec_fma(vec a, vec b, vec c) {
  return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
INLINE vec vec_load_lanes(const real *p, vec_lanes lanes) {
  return (vec)_mm512_maskz_loadu_ps((__mmask16)lanes, p);
}
/* Those lanes from p, the others as they are. */
INLINE vec vec_put_lanes(vec v, const real *p, vec_lanes lanes) {
  return (vec)_mm512_mask_loadu_ps((__m512)v, (__mmask16)lanes, p);
}
INLINE vec vec_join_lanes(const real *a, const real *b, vec_lanes lanes) {
  __m512 low = _mm512_castps256_ps512(_mm256_maskz_loadu_ps((__mmask8)lanes, a));
  return (vec)_mm512_insertf32x8(low, _mm256_maskz_loadu_ps((__mmask8)lanes, b), 1);
}
INLINE void vec_store_lanes(real *p, vec v, vec_lanes lanes) {
  _mm512_mask_storeu_ps(p, (__mmask16)lanes, (__m512)v);
}

/* Lanes [from, end), touching no other memory; the others are zero. */
INLINE vec_half half_load_lanes(const real *p, int64_t from, int64_t end) {
  return (vec_half)_mm256_maskz_loadu_ps((__mmask8)((1u << end) - (1u << from)), p);
}
/* gcc would store half of a vector by the instruction that extracts it, which faults at lanes that are masked out. */
INLINE void half_store_part(real *p, vec_half v, int64_t n) {
  __asm__("" : "+v"(v));
  _mm256_mask_storeu_ps(p, (__mmask8)((1u << n) - 1), (__m256)v);
}
/* From element n on, 0 to 4 or 12, and so many of the next vector. */
INLINE vec vec_follow(vec v, vec next, int n) {
  __m512i low = (__m512i)v, high = (__m512i)next;
  if (n == 1) return (vec)_mm512_alignr_epi32(high, low, 1);
  if (n == 2) return (vec)_mm512_alignr_epi32(high, low, 2);
  if (n == 3) return (vec)_mm512_alignr_epi32(high, low, 3);
  if (n == 12) return (vec)_mm512_alignr_epi32(high, low, 12);
  return n == 4 ? (vec)_mm512_alignr_epi32(high, low, 4) : v;
}
/* Four elements, over and over. */
INLINE vec vec_fours(const real *p) {
  return (vec)_mm512_broadcast_f32x4(_mm_loadu_ps(p));
}
/* By one or two elements, up or down; zeros follow. */
INLINE vec_half half_move(vec_half v, int by) {
  __m256i zero = _mm256_setzero_si256(), from = (__m256i)v;
  if (by == -2) return (vec_half)_mm256_alignr_epi32(from, zero, 6);
  if (by == -1) return (vec_half)_mm256_alignr_epi32(from, zero, 7);
  if (by == 1) return (vec_half)_mm256_alignr_epi32(zero, from, 1);
  return by == 2 ? (vec_half)_mm256_alignr_epi32(zero, from, 2) : v;
}

#else

INLINE vec vec_set(real x) {
  return (vec)_mm512_set1_pd(x);
}
INLINE vec vec_fma(vec a, vec b, vec c) {
  return (vec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
INLINE vec vec_load_lanes(const real *p, vec_lanes lanes) {
  return (vec)_mm512_maskz_loadu_pd((__mmask8)lanes, p);
}
INLINE vec vec_join_lanes(const real *a, const real *b, vec_lanes lanes) {
  __m512d low = _mm512_castpd256_pd512(_mm256_maskz_loadu_pd((__mmask8)lanes, a));
  return (vec)_mm512_insertf64x4(low, _mm256_maskz_loadu_pd((__mmask8)lanes, b), 1);
}
INLINE void vec_store_lanes(real *p, vec v, vec_lanes lanes) {
  _mm512_mask_storeu_pd(p, (__mmask8)lanes, (__m512d)v);
}

#endif

INLINE vec vec_load_part(const real *p, int64_t n) {
  return vec_load_lanes(p, (vec_lanes)((1u << n) - 1));
}
INLINE void vec_store_part(real *p, vec v, int64_t n) {
  vec_store_lanes(p, v, (vec_lanes)((1u << n) - 1));
}
#endif
