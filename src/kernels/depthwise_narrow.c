/* Depthwise convolution of the last maps of most networks, of 7 rows no wider than half a vector of AVX-512, whose
 * multiply-adds of half vectors are as quick, two at a time. All sums of a plane are in registers; a row of the image
 * is loaded once, behind as many zeros as there are no columns, and moved there from tap to tap. */
#include "kernels/families.h"

#if DEPTHWISE_NARROW
#define ROWS DEPTHWISE_NARROW

typedef struct rows_of {
  int64_t apart, columns;
} rows_of;

/* A row; with a stride its even and its odd columns. */
INLINE void load_row(int stride, const real *from, int64_t columns, vec_half row[2]) {
  const vec_mask deal = {0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15};
  row[0] = half_load_part(from, least(columns, LANES / 2));
  if (stride == 1) return;
  vec all = vec_permute(vec_load_part(from, columns), deal);
  memcpy(row, &all, sizeof all);
}

/* Inlined with constants: one plane, padded by half a kernel. `in` and `out`: rows so far apart, with so many columns.
 */
INLINE void sum_plane(int kernel, int stride, rows_of in, rows_of out, const real *image, const real *weights, real add,
                      real *to) {
  vec_half sum[ROWS], taps[9];
#pragma GCC unroll 8
  for (int j = 0; j < ROWS; j++)
    sum[j] = half_set(0);
#pragma GCC unroll 9
  for (int i = 0; i < 9; i++)
    taps[i] = half_set(kernel == 3 ? weights[i] : 0);
  int before = kernel / 2;
#pragma GCC unroll 16
  for (int i = 0; i < ROWS * stride; i++, image += in.apart) {
    vec_half row[2];
    load_row(stride, image, in.columns, row);
#pragma GCC unroll 5
    for (int s = 0; s < kernel; s++) {
      bool odd = stride == 2 && (s - before) % 2 != 0;
      vec_half x = half_move(row[odd], (s - before - odd) / stride);
#pragma GCC unroll 8
      for (int j = 0; j < ROWS; j++) {
        int r = i + before - j * stride;
        if (r < 0 || r >= kernel) continue;
        sum[j] = half_fma(kernel == 3 ? taps[r * kernel + s] : half_set(weights[r * kernel + s]), x, sum[j]);
      }
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < ROWS; j++, to += out.apart)
    half_store_part(to, sum[j] + half_set(add), out.columns);
}

#define PLANES(name, kernel, stride)                                                                                   \
  static __attribute__((noinline, aligned(64))) void name(const kernel_conv *conv, const kernel_depthwise *job,        \
                                                          const real *image, const real *weights, const real *bias,    \
                                                          real *to) {                                                  \
    rows_of in = {conv->input_strides[1], conv->in_width}, out = {conv->output_strides[1], conv->out_width};           \
    for (int64_t i = 0; i < job->planes; i++, weights += (kernel) * (kernel))                                          \
      sum_plane(kernel, stride, in, out, image + i * job->in_plane, weights,                                           \
                (bias ? bias[i * job->bias_step] : 0) + (real)0, to + i * job->out_plane);                             \
  }
PLANES(planes_3, 3, 1)
PLANES(planes_3_2, 3, 2)
PLANES(planes_5, 5, 1)
PLANES(planes_5_2, 5, 2)

void NAME(depthwise_narrow)(const kernel_conv *conv, const kernel_depthwise *job, const void *image,
                            const void *weights, const void *bias, void *output) {
  if (conv->kernel_height == 3)
    (conv->stride[1] == 1 ? planes_3 : planes_3_2)(conv, job, image, weights, bias, output);
  else
    (conv->stride[1] == 1 ? planes_5 : planes_5_2)(conv, job, image, weights, bias, output);
}
#endif
