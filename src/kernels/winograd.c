/* Winograd's minimal filtering F(m x m, r x r): a tile of m x m outputs from alpha x alpha inputs, alpha = m + r - 1,
 * with alpha^2 multiplications instead of m^2 r^2 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
 * 2015).
 *
 * alpha = 6 stands on the points 0, +-1/sqrt(2), +-sqrt(2) and infinity, with less than half the rounding error of the
 * usual 0, +-1, +-2; alpha = 4 stands on 0, +-1 and infinity. The transform of the inputs knows the points alone: it is
 * the same for F(4, 3), F(3, 4), F(2, 5) and F(5, 2). The rows of the matrices are written out as sums; weights are
 * transformed in double and rounded once. */
#include <math.h>
#include <string.h>

#include "kernels/families.h"

#define MAX_ALPHA 6
#define MAX_M 5
#define MAX_TAPS 5

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

void NAME(winograd_input)(const kernel_winograd *job, const void *strip, void *to) {
  if (job->alpha == 6)
    transform_inputs(6, job, strip, to);
  else
    transform_inputs(4, job, strip, to);
}

void NAME(winograd_output)(const kernel_winograd *job, const void *from, const void *bias, void *strip) {
  switch (job->alpha * 10 + job->m) {
  case 42: transform_outputs(4, 2, job, from, bias, strip); break;
  case 43: transform_outputs(4, 3, job, from, bias, strip); break;
  case 62: transform_outputs(6, 2, job, from, bias, strip); break;
  case 63: transform_outputs(6, 3, job, from, bias, strip); break;
  case 64: transform_outputs(6, 4, job, from, bias, strip); break;
  case 65: transform_outputs(6, 5, job, from, bias, strip); break;
  }
}

/* ---- Weights: U = G g G^T in double, a vector of output channels at a time ---- */

/* As many doubles as a vector holds: wider ones pass through memory word by word. */
#define WIDE_LANES (LANES == 1 ? 1 : LANES * (int)sizeof(real) / 8)
typedef double wide __attribute__((vector_size(WIDE_LANES * 8)));
typedef real narrow __attribute__((vector_size(WIDE_LANES * sizeof(real))));

/* Columns of G g, r numbers to alpha: at a point p the sum of p^i g[i], over the derivative there of x (x^2 - 1/2)
 * (x^2 - 2), or of x (x^2 - 1) with its sign at 0 changed; at infinity the last of the numbers. Points p and -p share
 * the sums of even and of odd powers. Both matrices as a number, its step and the step from column to column. */
typedef struct wide_columns {
  wide *numbers;
  int step, next;
} wide_columns;

INLINE void weight_columns(int alpha, int r, int count, wide_columns g, wide_columns out) {
  static const double points[2][2] = {{1}, {ROOT2 / 2, ROOT2}}, factors[2][2] = {{0.5}, {-2.0 / 3, 1.0 / 6}};
  const wide zero = {0};
  for (int column = 0; column < count; column++, g.numbers += g.next, out.numbers += out.next) {
    wide x[MAX_TAPS];
#pragma GCC unroll 5
    for (int j = 0; j < alpha - 1; j++)
      x[j] = j < 2 || j < r ? g.numbers[j * g.step] : zero;
    out.numbers[0] = x[0];
#pragma GCC unroll 2
    for (int i = 0; i < alpha / 2 - 1; i++) {
      double square = points[alpha == 6][i] * points[alpha == 6][i], factor = factors[alpha == 6][i];
      wide even = x[2], odd = x[1];
      if (alpha == 6) even = even + square * x[4], odd = odd + square * x[3];
      even = (x[0] + square * even) * factor;
      odd = odd * (points[alpha == 6][i] * factor);
      out.numbers[(2 * i + 1) * out.step] = even + odd;
      out.numbers[(2 * i + 2) * out.step] = even - odd;
    }
    out.numbers[(alpha - 1) * out.step] = g.numbers[(r - 1) * g.step];
  }
}

static __attribute__((noinline)) void weight_columns_4(int r, int count, wide_columns g, wide_columns out) {
  weight_columns(4, r, count, g, out);
}

static __attribute__((noinline)) void weight_columns_6(int r, int count, wide_columns g, wide_columns out) {
  weight_columns(6, r, count, g, out);
}

/* U = G g G^T. */
INLINE void transform_weight(int alpha, int r, wide *g, wide *u) {
  wide t[MAX_ALPHA * MAX_TAPS];
  void (*columns)(int, int, wide_columns, wide_columns) = alpha == 6 ? weight_columns_6 : weight_columns_4;
  columns(r, r, (wide_columns){g, r, 1}, (wide_columns){t, r, 1});
  columns(r, alpha, (wide_columns){t, 1, r}, (wide_columns){u, 1, alpha});
}

INLINE wide across_channels(const real *weight, const int64_t *offsets) {
  narrow values = {0};
#pragma GCC unroll 16
  for (int i = 0; i < WIDE_LANES; i++)
    values[i] = weight[offsets[i]];
  return __builtin_convertvector(values, wide);
}

/* The taps of one phase of the stride: every stride-th row and column of a kernel from a first one on, with zeros where
 * the kernel has ended. */
static void take_taps(const kernel_conv *conv, const real *weight, const int64_t *offsets, int r, int64_t row,
                      int64_t column, wide *g) {
  const int64_t *strides = conv->weight_strides;
  for (int i = 0; i < r; i++)
    for (int j = 0; j < r; j++) {
      int64_t y = row + i * conv->stride[0], x = column + j * conv->stride[1];
      bool there = y < conv->kernel_height && x < conv->kernel_width;
      g[i * r + j] = there ? across_channels(weight + y * strides[2] + x * strides[3], offsets) : (wide){0};
    }
}

/* All elements of one input channel and phase, `element` apart in `to`. Adds NaN to `not_finite` where a tap is not
 * finite. */
static void pack_taps(int alpha, int r, wide *g, int64_t element, real *to, wide *not_finite) {
  wide u[MAX_ALPHA * MAX_ALPHA];
  for (int i = 0; i < r * r; i++)
    *not_finite += g[i] * 0;
  transform_weight(alpha, r, g, u);
  for (int e = 0; e < alpha * alpha; e++) {
    narrow values = __builtin_convertvector(u[e], narrow);
    memcpy(to + e * element, &values, sizeof values);
  }
}

/* One phase of one input channel: `width` output channels. */
static void pack_phase(const kernel_winograd_weights *job, const kernel_conv *conv, const real *weight,
                       const int64_t *offsets, int64_t width, int64_t phase, int64_t element, real *to,
                       wide *not_finite) {
  int r = job->alpha + 1 - job->m;
  for (int64_t k = 0; k < width; k += WIDE_LANES) {
    wide g[MAX_TAPS * MAX_TAPS];
    take_taps(conv, weight, offsets + k, r, phase / job->phases[1], phase % job->phases[1], g);
    pack_taps(job->alpha, r, g, element, to + k, not_finite);
  }
}

/* Elements of a block that are transformed before they are written. One by one they would go in turns to as many places
 * as a tile has elements, which fall into the same sets of the caches. */
#define NEAR (512 / REAL_BYTES)

/* `count` input channels of one phase. */
static void pack_terms(const kernel_winograd_weights *job, const kernel_conv *conv, const real *weight,
                       const int64_t *offsets, int64_t width, int64_t phase, int64_t count, int64_t element, real *to,
                       wide *not_finite) {
  real near[MAX_ALPHA * MAX_ALPHA * NEAR];
  for (int64_t c = 0; c < count; c++)
    pack_phase(job, conv, weight + c * conv->weight_strides[1], offsets, width, phase, NEAR, near + c * width,
               not_finite);
  for (int e = 0; e < job->alpha * job->alpha; e++)
    memcpy(to + e * element, near + e * NEAR, (size_t)(count * width) * sizeof(real));
}

bool NAME(winograd_weights)(const kernel_winograd_weights *job, const kernel_conv *conv, const void *weight,
                            void *packed) {
  const int64_t *strides = conv->weight_strides;
  int64_t phases = job->phases[0] * job->phases[1], terms = phases * conv->in_channels;
  int64_t widest = ROWS_TILE_VECTORS * LANES, out_channels = (conv->out_channels + LANES - 1) / LANES * LANES;
  int64_t offsets[ROWS_TILE_VECTORS * LANES];
  wide not_finite = {0};
  /* Blocks of output channels, narrower at the end; the last channel stands for those that are missing, whose results
   * nobody reads. */
  for (int64_t first = 0; first < out_channels; first += widest) {
    int64_t width = least(out_channels - first, widest);
    for (int64_t i = 0; i < width; i++)
      offsets[i] = least(first + i, conv->out_channels - 1) * strides[0];
    for (int64_t from = 0, pass; from < conv->in_channels; from += pass) {
      pass = least(conv->in_channels - from, job->pass);
      for (int64_t i = 0, count; i < phases * pass; i += count) {
        int64_t phase = i / pass, c = i % pass;
        count = least(NEAR / width, pass - c);
        pack_terms(job, conv, (const real *)weight + (from + c) * strides[1], offsets, width, phase, count,
                   out_channels * terms, (real *)packed + first * terms + (from * phases + i) * width, &not_finite);
      }
    }
  }
  bool finite = true;
  for (int i = 0; i < WIDE_LANES; i++)
    finite &= not_finite[i] == 0;
  return finite;
}
