/* Tiles of pixels behind pointers, as rows.c has them, where a vector of output channels covers several groups: each
 * lane multiplies an input channel of its own group, which is moved there from among the channels of the pixel. */
#include "kernels/families.h"

/* Pixels beyond the last one are the same again. */
void NAME(rows_groups)(const kernel_rows_groups *job, void *output) {
  vec sum[ROWS_TILE_ROWS];
  vec_mask first; /* the first channel of each lane's group: as many as divide the lanes are a power of two */
#pragma GCC unroll 16
  for (int l = 0; l < LANES; l++)
    first[l] = l;
  first &= -(real_bits)job->channels;
#pragma GCC unroll 8
  for (int m = 0; m < ROWS_TILE_ROWS; m++)
    sum[m] = vec_zero();
  const real *weights = job->weights;
  for (int64_t tap = 0; tap < job->taps; tap++) {
    const void *const *at = job->rows + tap * ROWS_TILE_ROWS;
    vec pixel[ROWS_TILE_ROWS];
#pragma GCC unroll 8
    for (int m = 0; m < ROWS_TILE_ROWS; m++)
      pixel[m] = vec_load((const real *)at[m] + job->channel);
    vec_mask from = first;
    for (int64_t c = 0; c < job->channels; c++, weights += LANES, from += 1) {
      vec weight = vec_load(weights);
#pragma GCC unroll 8
      for (int m = 0; m < ROWS_TILE_ROWS; m++)
        sum[m] = vec_fma(vec_permute(pixel[m], from), weight, sum[m]);
    }
  }
  real *out = output;
  vec add = (job->bias ? vec_load(job->bias) : vec_zero()) + vec_zero();
#pragma GCC unroll 8
  for (int m = 0; m < ROWS_TILE_ROWS; m++) {
    vec_store(out, sum[m] + add);
    out += m + 1 < job->pixels ? job->out_stride : 0;
  }
}
