/* exp, tanh and the normal distribution in the words of the kernels. In float32 polynomials, fitted for the least
 * relative error, out of exact steps and explicit multiply-adds: the same bits on every instruction set. In float64 the
 * C library's functions, lane by lane. */
#ifndef KERNELS_FUNCTIONS_H
#define KERNELS_FUNCTIONS_H

#include <math.h>

#include "kernels/words.h"

INLINE vec vec_abs(vec x) {
  return (vec)((vec_mask)x & ~(vec_mask)vec_set(-0.0));
}

#if defined(KERNEL_DTYPE_f32)

typedef uint32_t vec_unsigned __attribute__((vector_size(LANES * REAL_BYTES)));

/* c[0] + c[1] x + ... + c[degree] x^degree. */
INLINE vec polynomial(int degree, const real *c, vec x) {
  vec sum = vec_set(c[degree]);
#pragma GCC unroll 16
  for (int i = degree - 1; i >= 0; i--)
    sum = vec_fma(sum, x, vec_set(c[i]));
  return sum;
}

/* NaN stays. */
INLINE vec vec_at_most(vec x, vec limit) {
#if defined(KERNEL_ISA_avx512) && defined(__AVX512F__)
  return (vec)_mm512_min_ps((__m512)limit, (__m512)x);
#elif defined(KERNEL_ISA_avx2)
  return (vec)_mm256_min_ps((__m256)limit, (__m256)x);
#else
  return vec_select(x > limit, limit, x);
#endif
}

/* Where it is added to a number from 0 to 2^22, what is left is a whole number, which the lowest bits then hold. */
#define ROUNDER 0x1.8p23f

/* y 2^-n, y about 1, n from 0 to 200; rounded once. `sum` is n + ROUNDER. */
INLINE vec divide_by_power(vec y, vec sum) {
#if defined(KERNEL_ISA_avx512) && defined(__AVX512F__)
  return (vec)_mm512_scalef_ps((__m512)y, (__m512)(vec_set(ROUNDER) - sum));
#else
  /* A product of two, each of which has an exponent of its own also where the result's is the least. */
  vec_unsigned exponent = (vec_unsigned)vec_set(ROUNDER) + 254 - (vec_unsigned)sum, half = exponent >> 1;
  return y * (vec)(half << 23) * (vec)((exponent - half) << 23);
#endif
}

/* exp(-x), x at least 0: with x = n ln 2 + r, |r| <= ln 2 / 2, it is 2^-n exp(-r). Where it would be less than the
 * least number, 0. */
INLINE vec exp_of_minus(vec x) {
  static const real c[] = {1, -1, 0x1.fffffcp-2f, -0x1.555492p-3f, 0x1.5558f2p-5f, -0x1.123a0ap-7f, 0x1.6a23f2p-10f};
  x = vec_at_most(x, vec_set(104));
  vec sum = vec_fma(x, vec_set(0x1.715476p0f), vec_set(ROUNDER)), minus_n = vec_set(ROUNDER) - sum;
  vec r = vec_fma(minus_n, vec_set(0x1.62e43p-1f), x); /* ln 2 in two parts */
  r = vec_fma(minus_n, vec_set(-0x1.05c61p-29f), r);
  return divide_by_power(polynomial(6, c, r), sum);
}

INLINE vec tanh_of(vec x) {
  static const real c[] = {-0x1.55553ep-2f, 0x1.1109aep-3f, -0x1.b898dep-5f, 0x1.54b8ap-6f, -0x1.825858p-8f};
  vec a = vec_abs(x), square = a * a, e = exp_of_minus(2 * a);
  vec small = vec_fma(a * square, polynomial(4, c, square), a), large = (1 - e) / (1 + e);
  vec_mask sign = (vec_mask)x & (vec_mask)vec_set(-0.0);
  return (vec)((vec_mask)vec_select(a < vec_set(0.6f), small, large) | sign);
}

/* The normal distribution function. At -a it is exp(-a^2 / 2) times a slow function, here a fraction. a^2 is not
 * rounded before it is taken apart into n 2 ln 2 + r: of 2 ln 2 in two parts the first one n times is exact. */
INLINE vec normal_of(vec x) {
  static const real c[] = {1, -0x1.fffff6p-2f, 0x1.fffdbep-4f, -0x1.555a7ap-6f, 0x1.573d3ap-9f, -0x1.0fa60ep-12f};
  static const real above[] = {0.5f, 0x1.c02dep-2f, 0x1.76531ep-3f, 0x1.4b9926p-5f, 0x1.0c421p-8f};
  static const real below[] = {1, 0x1.ac592p0f, 0x1.335a34p0f, 0x1.df7ef4p-2f, 0x1.9f9fcp-4f, 0x1.50352p-7f};
  vec a = vec_at_most(vec_abs(x), vec_set(15));
  vec sum = vec_fma(a * a, vec_set(0x1.715476p-1f), vec_set(ROUNDER)), minus_n = vec_set(ROUNDER) - sum;
  vec r = vec_fma(minus_n, vec_set(0x1.7f7d1cp-19f), vec_fma(a, a, minus_n * vec_set(0x1.62e4p0f)));
  vec tail = divide_by_power(polynomial(5, c, r) * (polynomial(4, above, a) / polynomial(5, below, a)), sum);
  return vec_select(x < vec_zero(), tail, 1 - tail);
}

#else

INLINE vec exp_of_minus(vec x) {
  for (int i = 0; i < LANES; i++)
    x[i] = exp(-x[i]);
  return x;
}

INLINE vec tanh_of(vec x) {
  for (int i = 0; i < LANES; i++)
    x[i] = tanh(x[i]);
  return x;
}

INLINE vec normal_of(vec x) {
  for (int i = 0; i < LANES; i++)
    x[i] = 0.5 * erfc(x[i] * -0x1.6a09e667f3bcdp-1);
  return x;
}

#endif

#endif
