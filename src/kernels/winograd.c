/* Winograd's minimal filtering F(m x m, 3 x 3), m = 2 and 4: a tile of m x m outputs from (m+2) x (m+2) inputs with
 * (m+2)^2 multiplications instead of 9 m^2 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
 *
 * F(4) stands on the points 0, +-1/sqrt(2), +-sqrt(2) and infinity, with less than half the rounding error of the usual
 * 0, +-1, +-2. F(2) stands on 0, +-1 and infinity. The rows of the matrices are written out as sums; weights are
 * transformed in double and rounded once. */
#include <math.h>

#include "kernels/families.h"

#define MAX_ALPHA 6

#define ROOT2 1.41421356237309504880

/* One column of B^T d: `stride` apart in, `out_stride` apart out. */
INLINE void input_4(const vec *d, vec *out, int stride, int out_stride) {
  vec d0 = d[0], d1 = d[stride], d2 = d[2 * stride], d3 = d[3 * stride], d4 = d[4 * stride], d5 = d[5 * stride];
  vec minus_5_2 = vec_set((real)-2.5), root2 = vec_set((real)ROOT2), half_root2 = vec_set((real)(ROOT2 / 2));
  vec even = vec_fma(vec_set(-2), d2, d4), odd = vec_fma(vec_set(-2), d1, d3) * half_root2;
  vec even2 = vec_fma(vec_set((real)-0.5), d2, d4), odd2 = vec_fma(vec_set((real)-0.5), d1, d3) * root2;
  out[0] = vec_fma(minus_5_2, d2, d0 + d4);
  out[out_stride] = even + odd;
  out[2 * out_stride] = even - odd;
  out[3 * out_stride] = even2 + odd2;
  out[4 * out_stride] = even2 - odd2;
  out[5 * out_stride] = vec_fma(minus_5_2, d3, d1 + d5);
}

INLINE void input_2(const vec *d, vec *out, int stride, int out_stride) {
  vec d0 = d[0], d1 = d[stride], d2 = d[2 * stride], d3 = d[3 * stride];
  out[0] = d0 - d2;
  out[out_stride] = d1 + d2;
  out[2 * out_stride] = d2 - d1;
  out[3 * out_stride] = d3 - d1;
}

/* One column of A^T m. */
INLINE void output_4(const vec *m, vec *out, int stride, int out_stride) {
  vec root2 = vec_set((real)ROOT2), half_root2 = vec_set((real)(ROOT2 / 2));
  vec sum = m[stride] + m[2 * stride], difference = m[stride] - m[2 * stride];
  vec sum2 = m[3 * stride] + m[4 * stride], difference2 = m[3 * stride] - m[4 * stride];
  out[0] = m[0] + sum + sum2;
  out[out_stride] = vec_fma(half_root2, difference, root2 * difference2);
  out[2 * out_stride] = vec_fma(vec_set((real)0.5), sum, sum2 + sum2);
  out[3 * out_stride] =
      vec_fma(half_root2, vec_fma(vec_set(4), difference2, difference * vec_set((real)0.5)), m[5 * stride]);
}

INLINE void output_2(const vec *m, vec *out, int stride, int out_stride) {
  out[0] = m[0] + m[stride] + m[2 * stride];
  out[out_stride] = m[stride] - m[2 * stride] + m[3 * stride];
}

/* V = B^T d B of one tile and vector of channels; alpha = m + 2 is a constant where this is inlined. */
INLINE void transform_input(int m, const kernel_winograd *job, const real *strip, real *to) {
  int alpha = m + 2;
  int64_t pitch = job->pitch, pixel = job->pixel, element_stride = job->element_stride;
  vec d[MAX_ALPHA], t[MAX_ALPHA * MAX_ALPHA];
#pragma GCC unroll 6
  for (int j = 0; j < alpha; j++) {
#pragma GCC unroll 6
    for (int i = 0; i < alpha; i++)
      d[i] = vec_load(strip + i * pitch + j * pixel);
    if (m == 4)
      input_4(d, t + j * alpha, 1, 1);
    else
      input_2(d, t + j * alpha, 1, 1);
  }
#pragma GCC unroll 6
  for (int i = 0; i < alpha; i++) {
    if (m == 4)
      input_4(t + i, d, alpha, 1);
    else
      input_2(t + i, d, alpha, 1);
#pragma GCC unroll 6
    for (int j = 0; j < alpha; j++)
      vec_store(to + (i * alpha + j) * element_stride, d[j]);
  }
}

/* Y = A^T M A of one tile and vector of channels, plus the bias. */
INLINE void transform_output(int m, const kernel_winograd *job, const real *from, vec bias, real *strip) {
  int alpha = m + 2;
  int64_t pitch = job->pitch, pixel = job->pixel, element_stride = job->element_stride;
  vec d[MAX_ALPHA], t[4 * MAX_ALPHA], y[4];
#pragma GCC unroll 6
  for (int i = 0; i < alpha; i++) {
#pragma GCC unroll 6
    for (int j = 0; j < alpha; j++)
      d[j] = vec_load(from + (i * alpha + j) * element_stride);
    if (m == 4)
      output_4(d, t + i, 1, alpha);
    else
      output_2(d, t + i, 1, alpha);
  }
#pragma GCC unroll 4
  for (int j = 0; j < m; j++) {
    if (m == 4)
      output_4(t + j * alpha, y, 1, 1);
    else
      output_2(t + j * alpha, y, 1, 1);
#pragma GCC unroll 4
    for (int i = 0; i < m; i++)
      vec_store(strip + i * pitch + j * pixel, y[i] + bias);
  }
}

INLINE void transform_inputs(int m, const kernel_winograd *job, const real *strip, real *to) {
  for (int64_t tile = 0; tile < job->tiles; tile++, strip += m * job->pixel, to += job->tile_stride)
    for (int64_t v = 0; v < job->vectors; v++)
      transform_input(m, job, strip + v * LANES, to + v * LANES);
}

INLINE void transform_outputs(int m, const kernel_winograd *job, const real *from, const real *bias, real *strip) {
  for (int64_t tile = 0; tile < job->tiles; tile++, strip += m * job->pixel, from += job->tile_stride)
    for (int64_t v = 0; v < job->vectors; v++)
      transform_output(m, job, from + v * LANES, vec_load(bias + v * LANES), strip + v * LANES);
}

void NAME(winograd_input)(int m, const kernel_winograd *job, const void *strip, void *to) {
  if (m == 4)
    transform_inputs(4, job, strip, to);
  else
    transform_inputs(2, job, strip, to);
}

void NAME(winograd_output)(int m, const kernel_winograd *job, const void *from, const void *bias, void *strip) {
  if (m == 4)
    transform_outputs(4, job, from, bias, strip);
  else
    transform_outputs(2, job, from, bias, strip);
}

/* ---- Weights: U = G g G^T in double, a vector of output channels at a time ---- */

typedef double wide __attribute__((vector_size(LANES * 8)));

/* One column of G g, three numbers to m + 2. */
INLINE void weight_1d(int m, const wide *g, int stride, wide *out, int out_stride) {
  wide g0 = g[0], g1 = g[stride], g2 = g[2 * stride];
  if (m == 2) {
    out[0] = g0;
    out[out_stride] = (g0 + g1 + g2) * 0.5;
    out[2 * out_stride] = (g0 - g1 + g2) * 0.5;
    out[3 * out_stride] = g2;
    return;
  }
  /* Point p: (g0 + p g1 + p^2 g2) over the derivative of x (x^2 - 1/2) (x^2 - 2) at p: -3/2 at +-1/sqrt(2), 6 at
   * +-sqrt(2). */
  wide near = (g0 + g2 * 0.5) * (-2.0 / 3), far = (g0 + g2 * 2) * (1.0 / 6);
  wide near1 = g1 * (-ROOT2 / 3), far1 = g1 * (ROOT2 / 6);
  out[0] = g0;
  out[out_stride] = near + near1;
  out[2 * out_stride] = near - near1;
  out[3 * out_stride] = far + far1;
  out[4 * out_stride] = far - far1;
  out[5 * out_stride] = g2;
}

INLINE void transform_weight(int m, const wide g[9], wide *u) {
  int alpha = m + 2;
  wide t[MAX_ALPHA * 3];
#pragma GCC unroll 3
  for (int j = 0; j < 3; j++)
    weight_1d(m, g + j, 3, t + j, 3);
#pragma GCC unroll 6
  for (int i = 0; i < alpha; i++)
    weight_1d(m, t + 3 * i, 1, u + alpha * i, 1);
}

/* A vector of output channels; the last one stands for those that are missing, whose results nobody reads. */
INLINE vec across_channels(const real *weight, const int64_t *offsets) {
  vec values = vec_zero();
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++)
    values[i] = weight[offsets[i]];
  return values;
}

/* The kernels of one input channel and a vector of output channels; `element_stride` apart in `to`. Adds NaN to
 * `not_finite` where they are not finite. */
INLINE void transform_vector(int m, const kernel_conv *conv, const real *weight, const int64_t *offsets, real *to,
                             int64_t element_stride, wide *not_finite) {
  const int64_t *strides = conv->weight_strides;
  wide g[9], u[MAX_ALPHA * MAX_ALPHA];
#pragma GCC unroll 9
  for (int i = 0; i < 9; i++) {
    vec values = across_channels(weight + i / 3 * strides[2] + i % 3 * strides[3], offsets);
    g[i] = __builtin_convertvector(values, wide);
    *not_finite += g[i] * 0;
  }
  transform_weight(m, g, u);
  for (int e = 0; e < (m + 2) * (m + 2); e++)
    vec_store(to + e * element_stride, __builtin_convertvector(u[e], vec));
}

/* Blocks of output channels, as wide as the products' tiles, narrower at the end; in a block, one input channel after
 * the other. */
INLINE bool transform_weights(int m, const kernel_conv *conv, const real *weight, real *packed) {
  int64_t in_channels = conv->in_channels, out_channels = (conv->out_channels + LANES - 1) / LANES * LANES;
  int64_t offsets[ROWS_TILE_VECTORS * LANES];
  wide not_finite = {0};
  for (int64_t first = 0; first < out_channels; first += ROWS_TILE_VECTORS * LANES) {
    int64_t block = least(ROWS_TILE_VECTORS * LANES, out_channels - first);
    for (int64_t i = 0; i < block; i++)
      offsets[i] = least(first + i, conv->out_channels - 1) * conv->weight_strides[0];
    for (int64_t c = 0; c < in_channels; c++)
      for (int64_t k = 0; k < block; k += LANES)
        transform_vector(m, conv, weight + c * conv->weight_strides[1], offsets + k,
                         packed + first * in_channels + c * block + k, out_channels * in_channels, &not_finite);
  }
  bool finite = true;
  for (int i = 0; i < LANES; i++)
    finite &= not_finite[i] == 0;
  return finite;
}

bool NAME(winograd_weights)(int m, const kernel_conv *conv, const void *weight, void *packed) {
  return m == 4 ? transform_weights(4, conv, weight, packed) : transform_weights(2, conv, weight, packed);
}
