/* AVX-512 (F, BW, DQ, VL): 512 bits, 32 registers. */
#include <immintrin.h>

#define LANES (64 / REAL_BYTES)
typedef real vec __attribute__((vector_size(64)));

#if defined(KERNEL_DTYPE_f32)
INLINE vec vec_set(real x) {
  return (vec)_mm512_set1_ps(x);
}
INLINE vec vec_fma(vec a, vec b, vec c) {
  return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
INLINE vec vec_load_part(const real *p, int64_t n) {
  return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void vec_store_part(real *p, vec v, int64_t n) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
#else
INLINE vec vec_set(real x) {
  return (vec)_mm512_set1_pd(x);
}
INLINE vec vec_fma(vec a, vec b, vec c) {
  return (vec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
INLINE vec vec_load_part(const real *p, int64_t n) {
  return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
INLINE void vec_store_part(real *p, vec v, int64_t n) {
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
}
#endif
