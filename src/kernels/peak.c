/* A yardstick: as many multiply-adds as the processor does. */
#include "kernels/families.h"

/* Enough that none waits for the one before it in the same sum. */
#define SUMS 12

int64_t NAME(multiply_adds)(int64_t rounds, void *out) {
  real *to = out;
  vec x = vec_set((real)0.5), y = vec_set((real)0.25), sums[SUMS];
#pragma GCC unroll 12
  for (int i = 0; i < SUMS; i++)
    sums[i] = vec_zero();
  for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++)
      sums[i] = vec_fma(x, y, sums[i]);
  }
#pragma GCC unroll 12
  for (int i = 1; i < SUMS; i++)
    sums[0] += sums[i];
  vec_store(to, sums[0]);
  return rounds * SUMS * LANES;
}
