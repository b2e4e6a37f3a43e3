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

/* Through memory: masked stores are slow on some processors. */
INLINE void vec_store_part(real *p, vec v, int64_t n) {
  real lanes[LANES];
  memcpy(lanes, &v, sizeof v);
  for (int64_t i = 0; i < n; i++)
    p[i] = lanes[i];
}
