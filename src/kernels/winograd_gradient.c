/* The gradient of a kernel by Winograd's algorithm takes the output's gradient as the kernel, in tiles: F(3x3, 4x4),
 * F(4x4, 3x3), F(5x5, 2x2), F(2x2, 5x5) and F(3x3, 2x2), on the points of winograd.c. There the inputs' transform and
 * the way back are; here is that of the tiles, in the precision of their type and at the speed of the other two. */
#include "kernels/families.h"

#define MAX_ALPHA 6
#define MAX_SIDE 5
#define ROOT2 1.41421356237309504880

/* One column of G g: `weight_column` of winograd_weights.c for `side` numbers, even and odd powers apart. */
INLINE void gradient_6(int side, const vec *g, vec *out, int stride, int out_stride) {
  vec third = vec_set((real)(1.0 / 3)), root = vec_set((real)(ROOT2 / 3)), half_root = vec_set((real)(ROOT2 / 6));
  vec minus_2 = vec_set((real)-2), half = vec_set((real)0.5), g0 = g[0], last = g[(side - 1) * stride];
  vec even = minus_2 * g0, odd = root * g[stride], even2 = half * g0, odd2 = half_root * g[stride];
  if (side == 3 || side == 4) even = vec_fma(minus_2, g0, -g[2 * stride]), even2 = vec_fma(half, g0, g[2 * stride]);
  if (side == 5) {
    even = vec_fma(minus_2, g0, -vec_fma(half, last, g[2 * stride]));
    even2 = vec_fma(half, g0, vec_fma(vec_set((real)2), last, g[2 * stride]));
  }
  if (side >= 4) odd = vec_fma(half_root, g[3 * stride], odd), odd2 = vec_fma(root, g[3 * stride], odd2);
  even = even * third, even2 = even2 * third;
  out[0] = g0;
  out[out_stride] = even - odd;
  out[2 * out_stride] = even + odd;
  out[3 * out_stride] = even2 + odd2;
  out[4 * out_stride] = even2 - odd2;
  out[5 * out_stride] = last;
}

INLINE void gradient_4(const vec *g, vec *out, int stride, int out_stride) {
  vec half = vec_set((real)0.5), sum = g[0] + g[stride], difference = g[0] - g[stride];
  out[0] = g[0];
  out[out_stride] = half * sum;
  out[2 * out_stride] = half * difference;
  out[3 * out_stride] = g[stride];
}

INLINE void gradient_1d(int alpha, int side, const vec *g, vec *out, int stride, int out_stride) {
  if (alpha == 6)
    gradient_6(side, g, out, stride, out_stride);
  else
    gradient_4(g, out, stride, out_stride);
}

/* U = G g G^T of one tile and vector of channels. The sums of a column are unrolled, the columns are not: registers do
 * not hold a tile anyway. */
INLINE void transform_gradient(int alpha, int side, const kernel_winograd *job, const real *strip, real *to) {
  vec g[MAX_SIDE], u[MAX_ALPHA], t[MAX_ALPHA * MAX_SIDE];
#pragma GCC unroll 1
  for (int j = 0; j < side; j++) {
#pragma GCC unroll 5
    for (int i = 0; i < side; i++)
      g[i] = vec_load(strip + i * job->pitch + j * job->pixel);
    gradient_1d(alpha, side, g, t + j, 1, side);
  }
#pragma GCC unroll 1
  for (int i = 0; i < alpha; i++) {
    gradient_1d(alpha, side, t + i * side, u, 1, 1);
#pragma GCC unroll 6
    for (int j = 0; j < alpha; j++, to += job->element_stride)
      vec_store(to, u[j]);
  }
}

INLINE void transform_gradients(int alpha, int side, const kernel_winograd *job, const real *strip, real *to) {
  for (int64_t tile = 0; tile < job->tiles; tile++, strip += side * job->pixel, to += job->tile_stride)
    for (int64_t v = 0; v < job->vectors; v++)
      transform_gradient(alpha, side, job, strip + v * LANES, to + v * LANES);
}

void NAME(winograd_gradient)(const kernel_winograd *job, const void *strip, void *to) {
  switch (job->alpha * 10 + job->m) {
  case 42: transform_gradients(4, 2, job, strip, to); break;
  case 62: transform_gradients(6, 2, job, strip, to); break;
  case 63: transform_gradients(6, 3, job, strip, to); break;
  case 64: transform_gradients(6, 4, job, strip, to); break;
  case 65: transform_gradients(6, 5, job, strip, to); break;
  }
}
