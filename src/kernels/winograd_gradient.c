/* The gradient of a kernel of 3 x 3 by Winograd's algorithm takes the output's gradient as the kernel, in tiles of 4 x
 * 4: F(3x3, 4x4), on the points of winograd.c. There the inputs' transform and the way back are; here is that of the
 * tiles, in the precision of their type and at the speed of the other two. */
#include "kernels/families.h"

#define ROOT2 1.41421356237309504880

/* One column of G g: `weight_columns` of winograd.c for four numbers, even and odd powers apart. */
INLINE void gradient_4(const vec *g, vec *out, int stride, int out_stride) {
  vec g0 = g[0], g1 = g[stride], g2 = g[2 * stride], g3 = g[3 * stride];
  vec third = vec_set((real)(1.0 / 3)), root = vec_set((real)(ROOT2 / 3)), half_root = vec_set((real)(ROOT2 / 6));
  vec even = vec_fma(vec_set((real)-2), g0, -g2) * third, odd = -vec_fma(half_root, g3, root * g1);
  vec even2 = vec_fma(vec_set((real)0.5), g0, g2) * third, odd2 = vec_fma(root, g3, half_root * g1);
  out[0] = g0;
  out[out_stride] = even + odd;
  out[2 * out_stride] = even - odd;
  out[3 * out_stride] = even2 + odd2;
  out[4 * out_stride] = even2 - odd2;
  out[5 * out_stride] = g3;
}

/* U = G g G^T of one tile and vector of channels. The sums of a column are unrolled, the columns are not: registers do
 * not hold a tile anyway. */
INLINE void transform_gradient(const kernel_winograd *job, const real *strip, real *to) {
  vec g[4], u[6], t[6 * 4];
#pragma GCC unroll 1
  for (int j = 0; j < 4; j++) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
      g[i] = vec_load(strip + i * job->pitch + j * job->pixel);
    gradient_4(g, t + j, 1, 4);
  }
#pragma GCC unroll 1
  for (int i = 0; i < 6; i++) {
    gradient_4(t + i * 4, u, 1, 1);
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++, to += job->element_stride)
      vec_store(to, u[j]);
  }
}

void NAME(winograd_gradient)(const kernel_winograd *job, const void *strip, void *to) {
  for (int64_t tile = 0; tile < job->tiles; tile++)
    for (int64_t v = 0; v < job->vectors; v++)
      transform_gradient(job, (const real *)strip + tile * 4 * job->pixel + v * LANES,
                         (real *)to + tile * job->tile_stride + v * LANES);
}
