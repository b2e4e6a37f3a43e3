/* Depthwise convolution of channels_last: vector lanes are channels; taps of a pixel are pointers, to zeros for the
 * padding. */
#include "kernels/families.h"

INLINE int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

/* Up to KERNEL_DEPTHWISE_PIXELS pixels x one vector of channels. */
INLINE void pixels_tile(int pixels, int64_t taps, const void *const *pointers, int64_t channel, int64_t lanes,
                        int64_t channels, const real *weights, vec bias, bool add, real *to, int64_t pixel_stride) {
  vec sum[KERNEL_DEPTHWISE_PIXELS];
#pragma GCC unroll 4
  for (int p = 0; p < pixels; p++)
    sum[p] = vec_zero();
  for (int64_t tap = 0; tap < taps; tap++, pointers += KERNEL_DEPTHWISE_PIXELS, weights += channels) {
    vec w = lanes == LANES ? vec_load(weights) : vec_load_part(weights, lanes);
#pragma GCC unroll 4
    for (int p = 0; p < pixels; p++) {
      const real *x = (const real *)pointers[p] + channel;
      sum[p] = vec_fma(w, lanes == LANES ? vec_load(x) : vec_load_part(x, lanes), sum[p]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < pixels; p++) {
    vec result = add ? sum[p] + bias : sum[p];
    if (lanes == LANES)
      vec_store(to + p * pixel_stride, result);
    else
      vec_store_part(to + p * pixel_stride, result, lanes);
  }
}

void NAME(depthwise_pixels)(int64_t pixels, int64_t taps, const void *const *pointers, int64_t channels,
                            const void *weights, const void *bias, void *output, int64_t pixel_stride) {
  for (int64_t c = 0; c < channels; c += LANES) {
    int64_t lanes = clamp(channels - c, 0, LANES);
    const real *w = (const real *)weights + c, *b = (const real *)bias + c;
    vec add = bias ? vec_load_part(b, lanes) : vec_zero();
    real *to = (real *)output + c;
    if (pixels == KERNEL_DEPTHWISE_PIXELS && lanes == LANES)
      pixels_tile(KERNEL_DEPTHWISE_PIXELS, taps, pointers, c, LANES, channels, w, add, bias != NULL, to, pixel_stride);
    else
      for (int64_t p = 0; p < pixels; p++)
        pixels_tile(1, taps, pointers + p, c, lanes, channels, w, add, bias != NULL, to + p * pixel_stride,
                    pixel_stride);
  }
}
