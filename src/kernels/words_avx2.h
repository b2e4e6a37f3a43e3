/* AVX2 and FMA: 256 bits, 16 registers. */
#include <immintrin.h>

#define LANES (32 / REAL_BYTES)
typedef real vec __attribute__((vector_size(32)));

/* The first n lanes on: loaded from the middle of ones and zeros. */
INLINE __m256i lanes_on(int64_t n) {
  static const real_bits mask[2 * LANES] = {
#if defined(KERNEL_DTYPE_f32)
    -1,
    -1,
    -1,
    -1,
    -1,
    -1,
    -1,
    -1
#else
    -1,
    -1,
    -1,
    -1
#endif
  };
  return _mm256_loadu_si256((const __m256i *)(const void *)(mask + LANES - n));
}

#if defined(KERNEL_DTYPE_f32)
INLINE vec vec_set(real x) {
  return (vec)_mm256_set1_ps(x);
}
INLINE vec vec_fma(vec a, vec b, vec c) {
  return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
INLINE vec vec_load_part(const real *p, int64_t n) {
  return (vec)_mm256_maskload_ps(p, lanes_on(n));
}
#else
INLINE vec vec_set(real x) {
  return (vec)_mm256_set1_pd(x);
}
INLINE vec vec_fma(vec a, vec b, vec c) {
  return (vec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
INLINE vec vec_load_part(const real *p, int64_t n) {
  return (vec)_mm256_maskload_pd(p, lanes_on(n));
}
#endif

#define VEC_MASKS
typedef __m256i vec_lanes;

/* Where in ones and zeros the elements before `from` and those before `end` begin. */
typedef struct vec_window {
  const real_bits *from, *end;
} vec_window;

INLINE vec_window vec_window_of(int64_t from, int64_t end) {
#define EIGHT_ONES -1, -1, -1, -1, -1, -1, -1, -1
  static const real_bits mask[64] = {EIGHT_ONES, EIGHT_ONES, EIGHT_ONES, EIGHT_ONES};
  return (vec_window){mask + 32 - from, mask + 32 - end};
}
INLINE vec_lanes vec_lanes_at(vec_window w, int64_t at) {
  return _mm256_andnot_si256(_mm256_loadu_si256((const __m256i *)(const void *)(w.from + at)),
                             _mm256_loadu_si256((const __m256i *)(const void *)(w.end + at)));
}

INLINE vec vec_load_lanes(const real *p, vec_lanes lanes) {
#if defined(KERNEL_DTYPE_f32)
  return (vec)_mm256_maskload_ps(p, lanes);
#else
  return (vec)_mm256_maskload_pd(p, lanes);
#endif
}

INLINE vec vec_join_lanes(const real *a, const real *b, vec_lanes lanes) {
  __m128i half = _mm256_castsi256_si128(lanes);
#if defined(KERNEL_DTYPE_f32)
  return (vec)_mm256_set_m128(_mm_maskload_ps(b, half), _mm_maskload_ps(a, half));
#else
  return (vec)_mm256_set_m128d(_mm_maskload_pd(b, half), _mm_maskload_pd(a, half));
#endif
}

/* In pieces: masked stores are slow on some processors. */
#if defined(KERNEL_DTYPE_f32)
INLINE void vec_store_part(real *p, vec v, int64_t n) {
  __m128 rest = _mm256_castps256_ps128((__m256)v);
  if (n >= 4) {
    _mm_storeu_ps(p, rest);
    rest = _mm256_extractf128_ps((__m256)v, 1);
    p += 4;
    n -= 4;
  }
  if (n >= 4) _mm_storeu_ps(p, rest);
  if (n & 2) {
    _mm_storel_pi((__m64 *)(void *)p, rest);
    rest = _mm_movehl_ps(rest, rest);
    p += 2;
  }
  if (n & 1) _mm_store_ss(p, rest);
}
#else
INLINE void vec_store_part(real *p, vec v, int64_t n) {
  __m128d rest = _mm256_castpd256_pd128((__m256d)v);
  if (n >= 2) {
    _mm_storeu_pd(p, rest);
    rest = _mm256_extractf128_pd((__m256d)v, 1);
    p += 2;
    n -= 2;
  }
  if (n >= 2) _mm_storeu_pd(p, rest);
  if (n & 1) _mm_store_sd(p, rest);
}
#endif
