/* One lane: plain C. fma() rounds once whatever the processor has, so the bits are those of every other instruction
 * set. */
#include <math.h>

#define LANES 1
typedef real vec __attribute__((vector_size(REAL_BYTES)));

INLINE vec vec_set(real x) {
  return (vec){x};
}

INLINE vec vec_fma(vec a, vec b, vec c) {
#if defined(KERNEL_DTYPE_f32)
  return (vec){fmaf(a[0], b[0], c[0])};
#else
  return (vec){fma(a[0], b[0], c[0])};
#endif
}

INLINE vec vec_load_part(const real *p, int64_t n) {
  return n > 0 ? (vec){p[0]} : (vec){0};
}

INLINE void vec_store_part(real *p, vec v, int64_t n) {
  if (n > 0) p[0] = v[0];
}
