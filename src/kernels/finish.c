/* The last step of an output: a residual added, then an activation, in place. And the way back through it. */
#include "kernels/families.h"
#include "kernels/functions.h"

INLINE vec vec_clamp(vec x, real low, real high) {
  x = vec_select(x < vec_set(low), vec_set(low), x);
  return vec_select(x > vec_set(high), vec_set(high), x);
}

/* 1 / (1 + exp(-v)) times `x`; exp never overflows. */
INLINE vec times_sigmoid(vec x, vec v) {
  vec e = exp_of_minus(vec_abs(v));
  return vec_select(v < vec_zero(), x * e, x) / (1 + e);
}

INLINE vec gelu_tanh(vec x) {
  const vec linear = vec_set((real)1.5957691216057308), cubic = vec_set((real)0.07135481627260025);
  return times_sigmoid(x, x * vec_fma(cubic, x * x, linear));
}

/* `kind` comes as a constant. Comparisons are such that NaN stays. */
INLINE vec activate(fonio_activation kind, vec x, vec slope) {
  switch (kind) {
  case FONIO_NO_ACTIVATION: return x;
  case FONIO_RELU: return vec_select(x < vec_zero(), vec_zero(), x);
  case FONIO_RELU6: return vec_clamp(x, 0, 6);
  case FONIO_LEAKY_RELU:
  case FONIO_PRELU: return vec_select(x > vec_zero(), x, x * slope);
  case FONIO_SILU: return times_sigmoid(x, x);
  case FONIO_HARDSWISH: return x * vec_clamp(x + 3, 0, 6) / 6;
  case FONIO_SIGMOID: return times_sigmoid(vec_set(1), x);
  case FONIO_TANH: return tanh_of(x);
  case FONIO_GELU: return x * normal_of(x);
  case FONIO_GELU_TANH: return gelu_tanh(x);
  }
  return x;
}

/* Whole vectors of columns that lie side by side, in the output, the residual and the slopes. `kind` comes as a
 * constant. */
INLINE void finish_row(fonio_activation kind, int64_t columns, real *output, const real *residual, const real *slopes,
                       bool one_slope) {
  vec slope = kind == FONIO_PRELU && one_slope ? vec_set(*slopes) : vec_zero();
  for (int64_t j = 0; j < columns; j += LANES) {
    vec x = vec_load(output + j);
    if (residual) x += vec_load(residual + j);
    if (kind == FONIO_PRELU && !one_slope) slope = vec_load(slopes + j);
    vec_store(output + j, activate(kind, x, slope));
  }
}

INLINE void finish_rows(fonio_activation kind, const kernel_finish *job, real *output, const real *residual) {
  const real *slopes = job->slopes;
  for (int64_t i = 0; i < job->rows; i++, output += job->strides[0]) {
    finish_row(kind, job->columns, output, residual, slopes, job->slope_strides[1] == 0);
    if (residual) residual += job->strides[0];
    if (kind == FONIO_PRELU) slopes += job->slope_strides[0];
  }
}

static void finish_dense(const kernel_finish *job, real *output, const real *residual) {
  switch (job->activation) {
  case FONIO_NO_ACTIVATION: finish_rows(FONIO_NO_ACTIVATION, job, output, residual); break;
  case FONIO_RELU: finish_rows(FONIO_RELU, job, output, residual); break;
  case FONIO_RELU6: finish_rows(FONIO_RELU6, job, output, residual); break;
  case FONIO_LEAKY_RELU:
  case FONIO_PRELU: finish_rows(FONIO_PRELU, job, output, residual); break;
  case FONIO_SILU: finish_rows(FONIO_SILU, job, output, residual); break;
  case FONIO_HARDSWISH: finish_rows(FONIO_HARDSWISH, job, output, residual); break;
  case FONIO_SIGMOID: finish_rows(FONIO_SIGMOID, job, output, residual); break;
  case FONIO_TANH: finish_rows(FONIO_TANH, job, output, residual); break;
  case FONIO_GELU: finish_rows(FONIO_GELU, job, output, residual); break;
  case FONIO_GELU_TANH: finish_rows(FONIO_GELU_TANH, job, output, residual); break;
  }
}

/* What does not lie side by side, or does not fill a vector, passes through here. */
#define CHUNK (8 * LANES)

static void gather(const real *from, int64_t stride, int64_t n, real *to) {
  if (stride == 1 && n < LANES)
    vec_store(to, vec_load_part(from, n));
  else
    for (int64_t i = 0; i < n; i++)
      to[i] = from[i * stride];
}

static void scatter(const real *from, int64_t stride, int64_t n, real *to) {
  if (stride == 1 && n < LANES)
    vec_store_part(to, vec_load(from), n);
  else
    for (int64_t i = 0; i < n; i++)
      to[i * stride] = from[i];
}

/* From column `first` on. What lies behind the last column in a chunk is computed with, but goes nowhere. */
static void finish_apart(const kernel_finish *job, int64_t first, real *output, const real *residual) {
  real values[CHUNK] = {0}, rest[CHUNK] = {0}, slopes[CHUNK] = {0};
  kernel_finish part = {job->activation, 1, 0, {0, 1}, job->slopes ? slopes : NULL, {0, 1}};
  for (int64_t i = 0; i < job->rows; i++)
    for (int64_t j = first; j < job->columns; j += CHUNK) {
      int64_t at = i * job->strides[0] + j * job->strides[1];
      int64_t n = job->columns - j < CHUNK ? job->columns - j : CHUNK;
      gather(output + at, job->strides[1], n, values);
      if (residual) gather(residual + at, job->strides[1], n, rest);
      if (job->slopes)
        gather((const real *)job->slopes + i * job->slope_strides[0] + j * job->slope_strides[1], job->slope_strides[1],
               n, slopes);
      part.columns = (n + LANES - 1) / LANES * LANES;
      finish_dense(&part, values, residual ? rest : NULL);
      scatter(values, job->strides[1], n, output + at);
    }
}

void NAME(finish)(const kernel_finish *job, void *output, const void *residual) {
  kernel_finish whole = *job;
  bool slopes_dense = job->slope_strides[1] == 0 || job->slope_strides[1] == 1;
  whole.columns = job->strides[1] == 1 && slopes_dense ? job->columns - job->columns % LANES : 0;
  if (whole.columns > 0) finish_dense(&whole, output, residual);
  if (whole.columns < job->columns) finish_apart(job, whole.columns, output, residual);
}

/* ---- The way back ---- */

/* What comes to the number that `y` was made of, with torch's bits. `kind` comes as a constant. NaN stays. */
INLINE vec derived(fonio_activation kind, vec y, vec g, vec slope) {
  switch (kind) {
  case FONIO_RELU: return vec_select(y <= vec_zero(), vec_zero(), g);
  case FONIO_RELU6: return vec_select(y >= vec_set(6), vec_zero(), vec_select(y <= vec_zero(), vec_zero(), g));
  case FONIO_SIGMOID: return g * (1 - y) * y;
  case FONIO_TANH: return g * vec_fma(-y, y, vec_set(1));
  default: return vec_select(y > vec_zero(), g, g * slope);
  }
}

INLINE void derive_all(fonio_activation kind, int64_t n, vec slope, const real *y, const real *g, real *to) {
  for (int64_t j = 0; j < n; j += LANES)
    vec_store(to + j, derived(kind, vec_load(y + j), vec_load(g + j), slope));
}

/* Whole vectors. */
static void derive_dense(const kernel_finish *job, int64_t n, const real *y, const real *g, real *to) {
  vec slope = vec_set(*(const real *)job->slopes);
  switch (job->activation) {
  case FONIO_RELU: derive_all(FONIO_RELU, n, slope, y, g, to); break;
  case FONIO_RELU6: derive_all(FONIO_RELU6, n, slope, y, g, to); break;
  case FONIO_SIGMOID: derive_all(FONIO_SIGMOID, n, slope, y, g, to); break;
  case FONIO_TANH: derive_all(FONIO_TANH, n, slope, y, g, to); break;
  default: derive_all(FONIO_LEAKY_RELU, n, slope, y, g, to); break;
  }
}

void NAME(derive)(const kernel_finish *job, const void *output, const void *grad_output, void *grad_sum) {
  const real *y = output, *g = grad_output;
  real ys[CHUNK] = {0}, gs[CHUNK] = {0}, *to = grad_sum;
  int64_t step = job->strides[1], j = step == 1 ? job->columns - job->columns % LANES : 0;
  derive_dense(job, j, y, g, to);
  for (int64_t n; j < job->columns; j += n) {
    n = job->columns - j < CHUNK ? job->columns - j : CHUNK;
    gather(y + j * step, step, n, ys);
    gather(g + j * step, step, n, gs);
    derive_dense(job, CHUNK, ys, gs, gs);
    scatter(gs, step, n, to + j * step);
  }
}
