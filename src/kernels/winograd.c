/* Winograd's minimal filtering F(m x m, r x r): a tile of m x m outputs from alpha x alpha inputs, alpha = m + r - 1,
 * with alpha^2 multiplications instead of m^2 r^2 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
 * 2015).
 *
 * alpha = 6 stands on the points 0, +-1/sqrt(2), +-sqrt(2) and infinity, with less than half the rounding error of the
 * usual 0, +-1, +-2; alpha = 4 stands on 0, +-1 and infinity. The transform of the inputs knows the points alone: it is
 * the same for F(4, 3), F(3, 4), F(2, 5) and F(5, 2). The rows of the matrices are written out as sums. Weights:
 * winograd_weights.c. */
#include "kernels/families.h"

#define MAX_ALPHA 6
#define MAX_M 5

#define ROOT2 1.41421356237309504880

/* A tile's columns one by one, unless the registers hold a tile. */
#if defined(KERNEL_ISA_avx512) || defined(KERNEL_ISA_neon)
#define COLUMN_BY_COLUMN _Pragma("GCC unroll 6")
#else
#define COLUMN_BY_COLUMN _Pragma("GCC unroll 1")
#endif

/* One column of B^T d: `stride` apart in, `out_stride` apart out. */
INLINE void input_6(const vec *d, vec *out, int stride, int out_stride) {
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

INLINE void input_4(const vec *d, vec *out, int stride, int out_stride) {
  vec d0 = d[0], d1 = d[stride], d2 = d[2 * stride], d3 = d[3 * stride];
  out[0] = d0 - d2;
  out[out_stride] = d1 + d2;
  out[2 * out_stride] = d2 - d1;
  out[3 * out_stride] = d3 - d1;
}

/* One column of A^T M, for m outputs: output i is the sum of p^i times the element of each point p, and the last one
 * has that of infinity, too. */
INLINE void output_6(int m, const vec *from, vec *out, int stride, int out_stride) {
  vec root2 = vec_set((real)ROOT2), half_root2 = vec_set((real)(ROOT2 / 2)), half = vec_set((real)0.5);
  vec near = from[stride] + from[2 * stride], near_odd = from[stride] - from[2 * stride];
  vec far = from[3 * stride] + from[4 * stride], far_odd = from[3 * stride] - from[4 * stride];
  vec last = from[5 * stride];
  out[0] = from[0] + near + far;
  out[out_stride] = vec_fma(half_root2, near_odd, m == 2 ? vec_fma(root2, far_odd, last) : root2 * far_odd);
  if (m >= 3) out[2 * out_stride] = vec_fma(half, near, m == 3 ? far + far + last : far + far);
  vec four = vec_set(4), third_odd = m >= 4 ? vec_fma(four, far_odd, near_odd * half) : last;
  if (m == 4) out[3 * out_stride] = vec_fma(half_root2, third_odd, last);
  if (m == 5) out[3 * out_stride] = half_root2 * third_odd;
  if (m == 5) out[4 * out_stride] = vec_fma(four, far, vec_fma(vec_set((real)0.25), near, last));
}

INLINE void output_4(int m, const vec *from, vec *out, int stride, int out_stride) {
  vec sum = from[stride] + from[2 * stride], difference = from[stride] - from[2 * stride], last = from[3 * stride];
  out[0] = from[0] + sum;
  out[out_stride] = m == 2 ? difference + last : difference;
  if (m >= 3) out[2 * out_stride] = sum + last;
}

/* V = B^T d B of one tile and vector of channels; alpha is a constant where this is inlined. */
INLINE void transform_input(int alpha, const kernel_winograd *job, const real *strip, real *to) {
  int64_t pitch = job->pitch, pixel = job->pixel, element_stride = job->element_stride;
  vec d[MAX_ALPHA], t[MAX_ALPHA * MAX_ALPHA];
  COLUMN_BY_COLUMN
  for (int j = 0; j < alpha; j++) {
#pragma GCC unroll 6
    for (int i = 0; i < alpha; i++)
      d[i] = vec_load(strip + i * pitch + j * pixel);
    if (alpha == 6)
      input_6(d, t + j * alpha, 1, 1);
    else
      input_4(d, t + j * alpha, 1, 1);
  }
  COLUMN_BY_COLUMN
  for (int i = 0; i < alpha; i++) {
    if (alpha == 6)
      input_6(t + i, d, alpha, 1);
    else
      input_4(t + i, d, alpha, 1);
#pragma GCC unroll 6
    for (int j = 0; j < alpha; j++)
      vec_store(to + (i * alpha + j) * element_stride, d[j]);
  }
}

INLINE void output_1d(int alpha, int m, const vec *from, vec *out, int stride, int out_stride) {
  if (alpha == 6)
    output_6(m, from, out, stride, out_stride);
  else
    output_4(m, from, out, stride, out_stride);
}

/* Y = A^T M A of one tile and vector of channels, plus the bias. */
INLINE void transform_output(int alpha, int m, const kernel_winograd *job, const real *from, vec bias, real *strip) {
  int64_t pitch = job->pitch, pixel = job->pixel, element_stride = job->element_stride;
  vec d[MAX_ALPHA], t[MAX_M * MAX_ALPHA], y[MAX_M];
  COLUMN_BY_COLUMN
  for (int i = 0; i < alpha; i++) {
#pragma GCC unroll 6
    for (int j = 0; j < alpha; j++)
      d[j] = vec_load(from + (i * alpha + j) * element_stride);
    output_1d(alpha, m, d, t + i, 1, alpha);
  }
  COLUMN_BY_COLUMN
  for (int j = 0; j < m; j++) {
    output_1d(alpha, m, t + j * alpha, y, 1, 1);
#pragma GCC unroll 5
    for (int i = 0; i < m; i++)
      vec_store(strip + i * pitch + j * pixel, y[i] + bias);
  }
}

INLINE void transform_inputs(int alpha, const kernel_winograd *job, const real *strip, real *to) {
  for (int64_t tile = 0; tile < job->tiles; tile++, strip += job->m * job->pixel, to += job->tile_stride)
    for (int64_t v = 0; v < job->vectors; v++)
      transform_input(alpha, job, strip + v * LANES, to + v * LANES);
}

INLINE void transform_outputs(int alpha, int m, const kernel_winograd *job, const real *from, const real *bias,
                              real *strip) {
  for (int64_t tile = 0; tile < job->tiles; tile++, strip += m * job->pixel, from += job->tile_stride)
    for (int64_t v = 0; v < job->vectors; v++)
      transform_output(alpha, m, job, from + v * LANES, vec_load(bias + v * LANES), strip + v * LANES);
}

/* ---- Lines, of 6 inputs ---- */

/* From one line to the next, in the strip: lines of a row follow each other, those of columns lie side by side. */
INLINE int64_t next_line(const kernel_winograd *job) {
  return job->step == job->pixel ? job->m * job->pixel : job->pixel;
}

static void line_inputs(const kernel_winograd *job, const real *strip, real *to) {
  int64_t step = job->step, element_stride = job->element_stride;
  for (int64_t tile = 0; tile < job->tiles; tile++, strip += next_line(job), to += job->tile_stride)
    for (int64_t v = 0; v < job->vectors * LANES; v += LANES) {
      vec d[6], t[6];
#pragma GCC unroll 6
      for (int i = 0; i < 6; i++)
        d[i] = vec_load(strip + v + i * step);
      input_6(d, t, 1, 1);
#pragma GCC unroll 6
      for (int i = 0; i < 6; i++)
        vec_store(to + v + i * element_stride, t[i]);
    }
}

/* One code for all m: infinity is added to the last output. */
static void line_outputs(const kernel_winograd *job, const real *from, const real *bias, real *strip) {
  int64_t step = job->step, element_stride = job->element_stride;
  for (int64_t tile = 0; tile < job->tiles; tile++, strip += next_line(job), from += job->tile_stride)
    for (int64_t v = 0; v < job->vectors * LANES; v += LANES) {
      vec d[6], y[MAX_M], last = vec_load(from + v + 5 * element_stride);
#pragma GCC unroll 5
      for (int i = 0; i < 5; i++)
        d[i] = vec_load(from + v + i * element_stride);
      d[5] = vec_zero();
      output_6(MAX_M, d, y, 1, 1);
#pragma GCC unroll 5
      for (int i = 0; i < MAX_M; i++)
        if (i < job->m) vec_store(strip + v + i * step, (i + 1 < job->m ? y[i] : y[i] + last) + vec_load(bias + v));
    }
}

void NAME(winograd_input)(const kernel_winograd *job, const void *strip, void *to) {
  if (job->step)
    line_inputs(job, strip, to);
  else if (job->alpha == 6)
    transform_inputs(6, job, strip, to);
  else
    transform_inputs(4, job, strip, to);
}

void NAME(winograd_output)(const kernel_winograd *job, const void *from, const void *bias, void *strip) {
  switch (job->step ? 0 : job->alpha * 10 + job->m) {
  case 0: line_outputs(job, from, bias, strip); break;
  case 42: transform_outputs(4, 2, job, from, bias, strip); break;
  case 43: transform_outputs(4, 3, job, from, bias, strip); break;
  case 62: transform_outputs(6, 2, job, from, bias, strip); break;
  case 63: transform_outputs(6, 3, job, from, bias, strip); break;
  case 64: transform_outputs(6, 4, job, from, bias, strip); break;
  case 65: transform_outputs(6, 5, job, from, bias, strip); break;
  }
}
