/* The last step of an output: a residual added, then an activation, in place. */
#include "kernels/families.h"
#include "kernels/functions.h"

INLINE vec clamp(vec x, real low, real high) {
  x = vec_select(x < vec_set(low), vec_set(low), x);
  return vec_select(x > vec_set(high), vec_set(high), x);
}

/* 1 / (1 + exp(-v)) times `x`; exp never overflows. */
INLINE vec times_sigmoid(vec x, vec v) {
  vec e = exp_of_negative(-vec_abs(v));
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
  case FONIO_RELU6: return clamp(x, 0, 6);
  case FONIO_LEAKY_RELU:
  case FONIO_PRELU: return vec_select(x > vec_zero(), x, x * slope);
  case FONIO_SILU: return times_sigmoid(x, x);
  case FONIO_HARDSWISH: return x * clamp(x + 3, 0, 6) / 6;
  case FONIO_SIGMOID: return times_sigmoid(vec_set(1), x);
  case FONIO_TANH: return tanh_of(x);
  case FONIO_GELU: return x * normal_of(x);
  case FONIO_GELU_TANH: return gelu_tanh(x);
  }
  return x;
}

/* Results on their way through the functions: some vectors side by side, whatever the strides outside. */
#define CHUNK (8 * LANES)

/* `n` elements, `stride` apart; zeros up to the end of the last vector. */
static void load_chunk(const real *from, int64_t stride, int64_t n, real *chunk) {
  int64_t whole = stride == 1 ? n / LANES * LANES : 0;
  for (int64_t i = 0; i < whole; i += LANES)
    vec_store(chunk + i, vec_load(from + i));
  for (int64_t i = whole; i < (n + LANES - 1) / LANES * LANES; i++)
    chunk[i] = i < n ? from[i * stride] : 0;
}

static void store_chunk(const real *chunk, int64_t stride, int64_t n, real *to) {
  int64_t whole = stride == 1 ? n / LANES * LANES : 0;
  for (int64_t i = 0; i < whole; i += LANES)
    vec_store(to + i, vec_load(chunk + i));
  for (int64_t i = whole; i < n; i++)
    to[i * stride] = chunk[i];
}

static void add_chunk(const real *from, int64_t stride, int64_t n, real *chunk) {
  real more[CHUNK];
  load_chunk(from, stride, n, more);
  for (int64_t i = 0; i < n; i += LANES)
    vec_store(chunk + i, vec_load(chunk + i) + vec_load(more + i));
}

INLINE void activate_all(fonio_activation kind, int64_t n, const real *slopes, real *chunk) {
  for (int64_t i = 0; i < n; i += LANES)
    vec_store(chunk + i, activate(kind, vec_load(chunk + i), slopes ? vec_load(slopes + i) : vec_zero()));
}

static void activate_chunk(fonio_activation kind, int64_t n, const real *slopes, real *chunk) {
  switch (kind) {
  case FONIO_NO_ACTIVATION: break;
  case FONIO_RELU: activate_all(FONIO_RELU, n, NULL, chunk); break;
  case FONIO_RELU6: activate_all(FONIO_RELU6, n, NULL, chunk); break;
  case FONIO_LEAKY_RELU:
  case FONIO_PRELU: activate_all(FONIO_PRELU, n, slopes, chunk); break;
  case FONIO_SILU: activate_all(FONIO_SILU, n, NULL, chunk); break;
  case FONIO_HARDSWISH: activate_all(FONIO_HARDSWISH, n, NULL, chunk); break;
  case FONIO_SIGMOID: activate_all(FONIO_SIGMOID, n, NULL, chunk); break;
  case FONIO_TANH: activate_all(FONIO_TANH, n, NULL, chunk); break;
  case FONIO_GELU: activate_all(FONIO_GELU, n, NULL, chunk); break;
  case FONIO_GELU_TANH: activate_all(FONIO_GELU_TANH, n, NULL, chunk); break;
  }
}

void NAME(finish)(const kernel_finish *job, void *output, const void *residual) {
  real chunk[CHUNK], slopes[CHUNK] = {0};
  int64_t stride = job->strides[1];
  for (int64_t i = 0; i < job->rows; i++)
    for (int64_t j = 0, n; j < job->columns; j += n) {
      int64_t at = i * job->strides[0] + j * stride;
      n = job->columns - j < CHUNK ? job->columns - j : CHUNK;
      load_chunk((const real *)output + at, stride, n, chunk);
      if (residual) add_chunk((const real *)residual + at, stride, n, chunk);
      if (job->slopes)
        load_chunk((const real *)job->slopes + i * job->slope_strides[0] + j * job->slope_strides[1],
                   job->slope_strides[1], n, slopes);
      activate_chunk(job->activation, n, slopes, chunk);
      store_chunk(chunk, stride, n, (real *)output + at);
    }
}
