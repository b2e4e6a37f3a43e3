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

/* exp(x), x at most 0: with x = n ln 2 + r, |r| <= ln 2 / 2, it is 2^n exp(r). Where it would be less than the least
 * number, 0. */
INLINE vec exp_of_negative(vec x) {
  static const real c[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.123a0ap-7f, 0x1.6a23f2p-10f};
  /* Adding it rounds to a whole number, which the lowest bits then hold. */
  const vec rounder = vec_set(0x1.8p23f);
  x = vec_select(x < vec_set(-104), vec_set(-104), x);
  vec sum = vec_fma(x, vec_set(0x1.715476p0f), rounder), n = sum - rounder;
  vec r = vec_fma(n, vec_set(-0x1.62e43p-1f), x); /* ln 2 in two parts */
  r = vec_fma(n, vec_set(0x1.05c61p-29f), r);
  vec y = 1 + vec_fma(r * r, polynomial(4, c, r), r);
  /* 2^n as a product of two, each of which has an exponent of its own also where the result's is the least. */
  vec_unsigned exponent = (vec_unsigned)sum - (vec_unsigned)rounder + 254, half = exponent >> 1;
  return y * (vec)(half << 23) * (vec)((exponent - half) << 23);
}

INLINE vec tanh_of(vec x) {
  static const real c[] = {-0x1.55553ep-2f, 0x1.1109aep-3f, -0x1.b898dep-5f, 0x1.54b8ap-6f, -0x1.825858p-8f};
  vec a = vec_abs(x), square = a * a, e = exp_of_negative(-2 * a);
  vec small = vec_fma(a * square, polynomial(4, c, square), a), large = (1 - e) / (1 + e);
  vec_mask sign = (vec_mask)x & (vec_mask)vec_set(-0.0);
  return (vec)((vec_mask)vec_select(a < vec_set(0.6f), small, large) | sign);
}

/* The normal distribution function at -a, a at least 1: exp(-a^2 / 2) times a slow function, here t times a polynomial
 * in t = 3 / (a + 3). */
INLINE vec normal_tail(vec a) {
  static const real c[] = {0x1.105238p-3f, 0x1.10e942p-3f,  0x1.d89acap-4f, 0x1.ac248p-4f,  -0x1.19660ap-8f,
                           0x1.e79abcp-4f, -0x1.20fbe8p-3f, 0x1.939942p-6f, 0x1.97ee68p-6f, -0x1.312582p-7f};
  a = vec_select(a > vec_set(15), vec_set(15), a);
  vec square = a * a, rest = vec_fma(a, a, -square); /* square + rest is a^2, exactly */
  vec e = exp_of_negative(square * vec_set(-0.5f)), t = 3 / (a + 3);
  e = vec_fma(e, rest * vec_set(-0.5f), e);
  return e * (t * polynomial(9, c, t));
}

/* The normal distribution function. */
INLINE vec normal_of(vec x) {
  static const real c[] = {0x1.988454p-2f,   -0x1.105826p-4f, 0x1.46cc3ep-7f,
                           -0x1.36d8aep-10f, 0x1.d9c17ap-14f, -0x1.f4d39p-18f};
  vec a = vec_abs(x), tail = normal_tail(a), middle = vec_fma(x, polynomial(5, c, x * x), vec_set(0.5f));
  return vec_select(a < vec_set(1), middle, vec_select(x < vec_zero(), tail, 1 - tail));
}

#else

INLINE vec exp_of_negative(vec x) {
  for (int i = 0; i < LANES; i++)
    x[i] = exp(x[i]);
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
