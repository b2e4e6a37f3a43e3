/* Rows of pixels whose channels lie side by side, output channels in vector lanes, as in rows.c; but the pixels are
 * evenly spaced, and the terms of the sum lie at the same places seen from each of them. Short sums then go without
 * pointers, of which each tile would need its own, and in one loop, whose end is foreseen. */
#include "kernels/families.h"

#if ROWS_FEW
/* What a tile writes: fetched while its sums take their time, as a short sum ends before it would come. */
INLINE void fetch_output(const real *output, int64_t step) {
#pragma GCC unroll 8
  for (int m = 0; m < ROWS_TILE_ROWS; m++, output += step) {
    __builtin_prefetch(output, 1);
    if (LANES * REAL_BYTES == 64) __builtin_prefetch(output + LANES, 1);
  }
}

/* The last tile overlaps the one before where the pixels do not fill it. */
void NAME(rows_few)(const kernel_rows_few *job, const void *input, void *output) {
  const real *bias = job->bias;
  for (int64_t i = 0; i < job->pixels; i += ROWS_TILE_ROWS) {
    int64_t first = least(i, job->pixels - ROWS_TILE_ROWS);
    vec sum[ROWS_TILE_ROWS][2];
    const real *pixel[ROWS_TILE_ROWS], *weights = job->weights;
#pragma GCC unroll 8
    for (int m = 0; m < ROWS_TILE_ROWS; m++) {
      pixel[m] = (const real *)input + (first + m) * job->step;
      sum[m][0] = sum[m][1] = vec_zero();
    }
    fetch_output((const real *)output + first * job->out_step, job->out_step);
    const int64_t *offset = job->offsets, *end = offset + job->terms;
    for (; offset < end; offset++, weights += job->weight_step) {
      vec low = vec_load(weights), high = vec_load(weights + LANES);
#pragma GCC unroll 8
      for (int m = 0; m < ROWS_TILE_ROWS; m++) {
        vec x = vec_set(pixel[m][*offset]);
        sum[m][0] = vec_fma(x, low, sum[m][0]);
        sum[m][1] = vec_fma(x, high, sum[m][1]);
      }
    }
    vec low = (bias ? vec_load(bias) : vec_zero()) + vec_zero();
    vec high = (bias ? vec_load(bias + LANES) : vec_zero()) + vec_zero();
    real *to = (real *)output + first * job->out_step;
#pragma GCC unroll 8
    for (int m = 0; m < ROWS_TILE_ROWS; m++, to += job->out_step) {
      vec_store(to, sum[m][0] + low);
      vec_store(to + LANES, sum[m][1] + high);
    }
  }
}
#endif
