/* Arm's Advanced SIMD: 128 bits, 32 registers. */
#include <arm_neon.h>

#define LANES (16 / REAL_BYTES)
typedef real vec __attribute__((vector_size(16)));

#if defined(KERNEL_DTYPE_f32)
INLINE vec vec_set(real x) {
  return (vec)vdupq_n_f32(x);
}
INLINE vec vec_fma(vec a, vec b, vec c) {
  return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
INLINE vec vec_set(real x) {
  return (vec)vdupq_n_f64(x);
}
INLINE vec vec_fma(vec a, vec b, vec c) {
  return (vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#endif

/* No masks here: lane by lane. */
INLINE vec vec_load_part(const real *p, int64_t n) {
  vec v = vec_set(0);
  for (int64_t i = 0; i < n; i++)
    v[i] = p[i];
  return v;
}

INLINE void vec_store_part(real *p, vec v, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    p[i] = v[i];
}
