/* The checks of torch's at::convolution (check_shape_forward and what follows it), in its order and words. */
#include "conv/problem.h"

#include "base/checked.h"
#include "base/error.h"

static fonio_status check_rank(const problem_call *call) {
  int ndim = call->weight->ndim;
  if (ndim < 3) return fail(FONIO_RUNTIME_ERROR, "weight should have at least three dimensions");
  if (call->args.groups <= 0) return fail(FONIO_RUNTIME_ERROR, "non-positive groups is not supported");
  /* Two numbers for a weight that is not an image: torch notices it at the stride. */
  if (ndim != 4)
    return fail(FONIO_RUNTIME_ERROR,
                "expected stride to be a single integer value or a list of %d values to match the convolution "
                "dimensions, but got stride=%s",
                ndim - 2, shape_to_text(2, call->args.stride).text);
  return FONIO_OK;
}

static fonio_status check_signs(const problem_call *call, const padded_input *padded) {
  const int64_t *stride = call->args.stride, *dilation = call->args.dilation;
  if (padded->padding[0] < 0 || padded->padding[1] < 0)
    return fail(FONIO_RUNTIME_ERROR, "negative padding is not supported");
  if (stride[0] <= 0 || stride[1] <= 0) return fail(FONIO_RUNTIME_ERROR, "non-positive stride is not supported");
  if (dilation[0] < 0 || dilation[1] < 0) return fail(FONIO_RUNTIME_ERROR, "dilation should be greater than zero");
  return FONIO_OK;
}

static fonio_status check_weight(const problem_call *call) {
  long long groups = call->args.groups;
  const int64_t *shape = call->weight->shape;
  if (shape[0] < groups)
    return fail(
        FONIO_RUNTIME_ERROR,
        "Given groups=%lld, expected weight to be at least %lld at dimension 0, but got weight of size %s instead",
        groups, groups, shape_to_text(4, shape).text);
  if (shape[0] % groups != 0)
    return fail(
        FONIO_RUNTIME_ERROR,
        "Given groups=%lld, expected weight to be divisible by %lld at dimension 0, but got weight of size [%s] "
        "instead",
        groups, groups, shape_to_text(4, shape).text);
  return FONIO_OK;
}

static fonio_status check_channels(const problem_call *call, const padded_input *padded) {
  const int64_t *shape = call->weight->shape;
  int64_t expected;
  if (!checked_mul(shape[1], call->args.groups, &expected)) expected = INT64_MAX;
  if (padded->shape[1] == expected) return FONIO_OK;
  return fail(
      FONIO_RUNTIME_ERROR,
      "Given groups=%lld, weight of size %s, expected input%s to have %lld channels, but got %lld channels instead",
      (long long)call->args.groups, shape_to_text(4, shape).text, shape_to_text(4, padded->shape).text,
      (long long)expected, (long long)padded->shape[1]);
}

static fonio_status check_bias(const problem_call *call) {
  const fonio_array *bias = call->bias;
  const int64_t *shape = call->weight->shape;
  if (!bias || (bias->ndim == 1 && bias->shape[0] == shape[0])) return FONIO_OK;
  return fail(
      FONIO_RUNTIME_ERROR,
      "Given weight of size %s, expected bias to be 1-dimensional with %lld elements, but got bias of size %s instead",
      shape_to_text(4, shape).text, (long long)shape[0], shape_to_text(bias->ndim, bias->shape).text);
}

static fonio_status check_sizes(const problem_call *call, const padded_input *padded) {
  int64_t reach[2], size[2];
  for (int i = 0; i < 2; i++) {
    int64_t padding = padded->padding[i];
    if (padding > INT64_MAX / 2)
      return fail(FONIO_RUNTIME_ERROR,
                  "Given padding=%lld at dimension %d , expected padding to be at most 4611686018427387903",
                  (long long)padding, i);
    if (!checked_add(padded->shape[2 + i], 2 * padding, &size[i]))
      return fail(FONIO_RUNTIME_ERROR, "padding %s is too large for an input of size %s",
                  shape_to_text(2, padded->padding).text, shape_to_text(4, padded->shape).text);
  }
  fonio_status status = problem_kernel_reach(call, reach);
  if (status) return status;
  if (size[0] > reach[0] && size[1] > reach[1]) return FONIO_OK;
  return fail(
      FONIO_RUNTIME_ERROR,
      "Calculated padded input size per channel: (%lld x %lld). Kernel size: (%lld x %lld). Kernel size can't be "
      "greater than actual input size",
      (long long)size[0], (long long)size[1], (long long)reach[0] + 1, (long long)reach[1] + 1);
}

/* What torch leaves to its back ends. A batch of 0 and 0 channels are no fault. */
static fonio_status check_empty(const problem_call *call, const padded_input *padded) {
  const int64_t *in = padded->shape, *kernel = call->weight->shape + 2, *dilation = call->args.dilation;
  if (in[0] != 0 && in[1] != 0 && (in[2] == 0 || in[3] == 0))
    return fail(FONIO_RUNTIME_ERROR, "Only zero batch or zero channel inputs are supported, but got input shape: %s",
                shape_to_text(4, in).text);
  if (kernel[0] == 0 || kernel[1] == 0)
    return fail(FONIO_RUNTIME_ERROR,
                "kernel size should be greater than zero, but got kernel_height: %lld kernel_width: %lld",
                (long long)kernel[0], (long long)kernel[1]);
  if (dilation[0] == 0 || dilation[1] == 0)
    return fail(FONIO_RUNTIME_ERROR, "dilation should be greater than zero, but got %s",
                shape_to_text(2, dilation).text);
  return FONIO_OK;
}

fonio_status problem_check_convolution(const problem_call *call, const padded_input *padded) {
  fonio_status status = check_rank(call);
  if (!status) status = check_signs(call, padded);
  if (!status) status = check_weight(call);
  if (!status) status = check_channels(call, padded);
  if (!status) status = check_bias(call);
  if (!status) status = check_sizes(call, padded);
  if (!status) status = check_empty(call, padded);
  return status;
}
