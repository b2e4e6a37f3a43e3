/* fonio_conv_problem_init: from arrays and arguments to a problem with all its numbers resolved. */
#include "conv/problem.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/shape.h"

#include <string.h>

fonio_conv2d_args fonio_conv2d_args_default(void) {
  return FONIO_CONV2D_ARGS();
}

static void resolve_pair(int64_t pair[2]) {
  if (pair[1] == FONIO_BOTH) pair[1] = pair[0];
}

/* torch's constructor refuses an unknown mode before any forward. */
static fonio_status read_mode(const char *name, fonio_padding_mode *mode) {
  static const char *const names[] = {"zeros", "reflect", "replicate", "circular"};
  for (int i = 0; i < 4; i++)
    if (strcmp(name ? name : "zeros", names[i]) == 0) {
      *mode = (fonio_padding_mode)i;
      return FONIO_OK;
    }
  return fail(FONIO_VALUE_ERROR,
              "padding_mode must be one of {'zeros', 'reflect', 'replicate', 'circular'}, but got padding_mode='%s'",
              name);
}

static fonio_status read_args(problem_call *call, const fonio_conv2d_args *args) {
  call->args = args ? *args : fonio_conv2d_args_default();
  if (call->args.struct_bytes != sizeof call->args)
    return fail(FONIO_VALUE_ERROR,
                "fonio_conv2d_args of %zu bytes: start from FONIO_CONV2D_ARGS or fonio_conv2d_args_default()",
                call->args.struct_bytes);
  resolve_pair(call->args.stride);
  resolve_pair(call->args.padding);
  resolve_pair(call->args.dilation);
  if (call->args.padding_sides[0] != FONIO_BOTH && call->args.padding_name)
    return fail(FONIO_VALUE_ERROR, "padding_name and padding_sides cannot both be given");
  call->by_name = call->args.padding_name != NULL;
  return read_mode(call->args.padding_mode, &call->mode);
}

/* What no torch tensor can be, but a description by hand can. */
static fonio_status check_array(const char *name, const fonio_array *array) {
  if (fonio_dtype_bytes(array->dtype) == 0)
    return fail(FONIO_VALUE_ERROR, "%s: %d is no dtype", name, (int)array->dtype);
  if (array->ndim < 0) return fail(FONIO_VALUE_ERROR, "%s: %d dimensions", name, array->ndim);
  if (array->ndim > 0 && !array->shape) return fail(FONIO_TYPE_ERROR, "%s: its shape is NULL", name);
  for (int i = 0; i < array->ndim; i++)
    if (array->shape[i] < 0)
      return fail(FONIO_RUNTIME_ERROR, "Trying to create tensor with negative dimension %lld: %s",
                  (long long)array->shape[i], shape_to_text(array->ndim, array->shape).text);
  return FONIO_OK;
}

static fonio_status check_arrays(const problem_call *call) {
  fonio_status status = check_array("input", call->input);
  if (!status) status = check_array("weight", call->weight);
  if (!status && call->bias) status = check_array("bias", call->bias);
  return status;
}

/* Whether the bytes from the first element to every other can be counted in 64 bits: then no arithmetic on addresses
 * can overflow later. */
static bool can_be_addressed(const fonio_array *array, const int64_t *strides) {
  int64_t reach = (int64_t)fonio_dtype_bytes(array->dtype);
  for (int i = 0; i < array->ndim; i++) {
    int64_t part;
    if (array->shape[i] == 0) return true;
    if (strides[i] == INT64_MIN ||
        !checked_mul(array->shape[i] - 1, strides[i] < 0 ? -strides[i] : strides[i], &part) ||
        !checked_mul(part, (int64_t)fonio_dtype_bytes(array->dtype), &part) || !checked_add(reach, part, &reach))
      return false;
  }
  return true;
}

static fonio_status read_strides(const char *name, const fonio_array *array, int64_t *strides) {
  bool fits = true;
  if (array->strides)
    memcpy(strides, array->strides, (size_t)array->ndim * sizeof *strides);
  else
    fits = shape_contiguous_strides(array->ndim, array->shape, strides);
  if (fits && can_be_addressed(array, strides)) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR, "%s of size %s is larger than memory can be", name,
              shape_to_text(array->ndim, array->shape).text);
}

/* torch: batchify. An unbatched image gets the strides that unsqueeze(0) gives it. */
static fonio_status read_input(problem_call *call) {
  const fonio_array *input = call->input;
  if (input->ndim != 3 && input->ndim != 4)
    return fail(FONIO_RUNTIME_ERROR,
                "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: %s",
                shape_to_text(input->ndim, input->shape).text);
  call->batched = input->ndim == 4;
  int first = call->batched ? 0 : 1;
  call->input_shape[0] = 1;
  memcpy(call->input_shape + first, input->shape, (size_t)input->ndim * sizeof(int64_t));
  fonio_status status = read_strides("input", input, call->input_strides + first);
  if (!status && !call->batched && !checked_mul(call->input_shape[1], call->input_strides[1], &call->input_strides[0]))
    status = fail(FONIO_RUNTIME_ERROR, "input of size %s is larger than memory can be",
                  shape_to_text(input->ndim, input->shape).text);
  return status;
}

/* conv2d looks at the dtype of the bias first, but only where the padding is given in numbers; after the padding of a
 * mode, which is a step of its own. */
static fonio_status check(problem_call *call, padded_input *padded) {
  bool pads_first = call->mode != FONIO_ZEROS;
  fonio_status status = check_arrays(call);
  if (!status && pads_first) status = problem_check_padding_input(call);
  if (!status && !pads_first && !call->by_name) status = problem_check_bias_dtype(call);
  if (!status) status = read_input(call);
  if (!status && !pads_first) status = problem_check_complex_dtype(call);
  if (!status) status = problem_resolve_padding(call, padded);
  if (!status && pads_first) status = problem_check_bias_dtype(call);
  if (!status && pads_first) status = problem_check_complex_dtype(call);
  if (!status) status = problem_check_convolution(call, padded);
  if (!status) status = problem_check_dtypes(call);
  if (!status) status = read_strides("weight", call->weight, call->weight_strides);
  return status;
}

static void fill_in(fonio_conv_problem *problem, const problem_call *call, const int64_t output_shape[4]) {
  const int64_t *in = call->input_shape;
  *problem = (fonio_conv_problem){.struct_bytes = sizeof *problem,
                                  .dtype = call->input->dtype,
                                  .batch = in[0],
                                  .in_channels = in[1],
                                  .in_height = in[2],
                                  .in_width = in[3],
                                  .out_channels = output_shape[1],
                                  .out_height = output_shape[2],
                                  .out_width = output_shape[3],
                                  .kernel_height = call->weight->shape[2],
                                  .kernel_width = call->weight->shape[3],
                                  .padding_mode = call->mode,
                                  .groups = call->args.groups,
                                  .has_bias = call->bias != NULL,
                                  .batched = call->batched,
                                  .bias_stride = call->bias && call->bias->strides ? call->bias->strides[0] : 1};
  memcpy(problem->stride, call->args.stride, sizeof problem->stride);
  memcpy(problem->dilation, call->args.dilation, sizeof problem->dilation);
  memcpy(problem->padding, call->padding, sizeof problem->padding);
  memcpy(problem->input_strides, call->input_strides, sizeof problem->input_strides);
  memcpy(problem->weight_strides, call->weight_strides, sizeof problem->weight_strides);
}

fonio_status fonio_conv_problem_init(fonio_conv_problem *problem, const fonio_array *input, const fonio_array *weight,
                                     const fonio_array *bias, const fonio_conv2d_args *args) {
  if (!problem || !input || !weight) return fail_given_null("fonio_conv_problem_init");
  problem_call call = {.input = input, .weight = weight, .bias = bias};
  padded_input padded;
  int64_t output_shape[4], output_strides[4];
  fonio_status status = read_args(&call, args);
  if (!status) status = check(&call, &padded);
  if (!status) status = problem_output_shape(&call, &padded, output_shape);
  if (!status) status = problem_output_strides(&call, &padded, output_shape, output_strides);
  if (status) return status;
  fill_in(problem, &call, output_shape);
  memcpy(problem->output_strides, output_strides, sizeof output_strides);
  return FONIO_OK;
}
