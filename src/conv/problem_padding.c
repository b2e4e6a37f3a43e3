/* Padding: from numbers, sides or a name to four sides, and the conditions of the padding modes. */
#include "conv/problem.h"

#include "base/checked.h"
#include "base/error.h"

#include <stdatomic.h>
#include <string.h>

/* nn.Conv2d pads with F.pad, which takes four numbers for images only. reflect and replicate need something to read. */
fonio_status problem_check_padding_input(const problem_call *call) {
  const fonio_array *input = call->input;
  if (input->ndim < 2)
    return fail(FONIO_RUNTIME_ERROR,
                "Padding length should be less than or equal to two times the input dimension but got padding length 4 "
                "and input of dimension %d",
                input->ndim);
  if (input->ndim != 3 && input->ndim != 4)
    return fail(FONIO_NOT_IMPLEMENTED, "Padding size 4 is not supported for %dD input tensor.", input->ndim);
  if (call->mode == FONIO_CIRCULAR) return FONIO_OK;
  for (int i = input->ndim - 3; i < input->ndim; i++)
    if (input->shape[i] == 0)
      return fail(FONIO_RUNTIME_ERROR,
                  "Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for "
                  "input, but got: %s",
                  shape_to_text(input->ndim, input->shape).text);
  return FONIO_OK;
}

fonio_status problem_kernel_reach(const problem_call *call, int64_t reach[2]) {
  for (int i = 0; i < 2; i++)
    if (!checked_mul(call->args.dilation[i], call->weight->shape[2 + i] - 1, &reach[i]) || reach[i] == INT64_MAX)
      return fail(FONIO_RUNTIME_ERROR, "dilation %s is too large for a weight of size %s",
                  shape_to_text(2, call->args.dilation).text, shape_to_text(4, call->weight->shape).text);
  return FONIO_OK;
}

/* What torch's convolution_same checks before it can compute a padding. */
static fonio_status check_same(const problem_call *call) {
  const fonio_array *weight = call->weight;
  if (weight->ndim < 3) return fail(FONIO_RUNTIME_ERROR, "weight should have at least three dimensions");
  if (call->args.groups <= 0) return fail(FONIO_RUNTIME_ERROR, "non-positive groups is not supported");
  if (weight->ndim != 4)
    return fail(
        FONIO_RUNTIME_ERROR,
        "Expected %d-dimensional input for %d-dimensional weight%s, but got 4-dimensional input of size %s instead",
        weight->ndim, weight->ndim, shape_to_text(weight->ndim, weight->shape).text,
        shape_to_text(4, call->input_shape).text);
  return FONIO_OK;
}

/* The pixels that "same" adds along one side: dilation * (kernel - 1) in PyTorch, which knows no strides here; with
 * one, TensorFlow's max((ceil(in / stride) - 1) * stride + dilation * (kernel - 1) + 1 - in, 0), which is the same for
 * a stride of 1. A stride or dilation that the checks are yet to refuse passes through. */
static int64_t same_total(int64_t size, int64_t kernel, int64_t stride, int64_t reach) {
  if (kernel == 0) return 0;
  if (stride <= 1 || reach < 0 || size == 0) return reach;
  int64_t last = (size - 1) / stride * stride;
  return reach > size - 1 - last ? reach - (size - 1 - last) : 0;
}

/* torch warns once in a process that it will copy the input. Only torch's own "same": what goes beyond it has no
 * warning to give. */
static void warn_uneven(const problem_call *call, bool lower) {
  static atomic_flag warned = ATOMIC_FLAG_INIT;
  bool torch_knows_it = !lower && call->mode == FONIO_ZEROS && call->args.stride[0] == 1 && call->args.stride[1] == 1;
  if (torch_knows_it && !atomic_flag_test_and_set(&warned))
    warn(
        "Using padding='same' with even kernel lengths and odd dilation may require a zero-padded copy of the input be "
        "created");
}

static fonio_status resolve_same(problem_call *call, bool lower) {
  int64_t reach[2];
  fonio_status status = check_same(call);
  if (!status) status = problem_kernel_reach(call, reach);
  if (status) return status;
  for (int i = 0; i < 2; i++) {
    int64_t total = same_total(call->input_shape[2 + i], call->weight->shape[2 + i], call->args.stride[i], reach[i]);
    call->padding[2 * i + lower] = total / 2;
    call->padding[2 * i + !lower] = total - total / 2;
  }
  if (call->padding[0] != call->padding[1] || call->padding[2] != call->padding[3]) warn_uneven(call, lower);
  return FONIO_OK;
}

static fonio_status resolve_name(problem_call *call) {
  const char *name = call->args.padding_name;
  if (strcmp(name, "valid") == 0) return FONIO_OK;
  if (strcmp(name, "same") == 0) return resolve_same(call, false);
  if (strcmp(name, "same_lower") == 0) return resolve_same(call, true);
  return fail(FONIO_RUNTIME_ERROR, "Invalid padding string: '%s'", name);
}

static fonio_status resolve_sides(problem_call *call) {
  if (call->by_name) return resolve_name(call);
  bool sides = call->args.padding_sides[0] != FONIO_BOTH;
  for (int i = 0; i < 4; i++)
    call->padding[i] = sides ? call->args.padding_sides[i] : call->args.padding[i / 2];
  return FONIO_OK;
}

/* reflect and circular need enough pixels to read. F.pad looks at the width first. Circular padding may wrap as often
 * as it likes, unless there is nothing to wrap. */
static fonio_status check_mode(const problem_call *call) {
  for (int i = 1; i >= 0; i--) {
    int64_t size = call->input_shape[2 + i], before = call->padding[2 * i], after = call->padding[2 * i + 1];
    if (before < 0 || after < 0) return fail(FONIO_RUNTIME_ERROR, "negative padding is not supported");
    if (call->mode == FONIO_REFLECT && (before >= size || after >= size))
      return fail(FONIO_RUNTIME_ERROR,
                  "Argument #%d: Padding size should be less than the corresponding input dimension, but got: padding "
                  "(%lld, %lld) at dimension %d of input %s",
                  i == 1 ? 4 : 6, (long long)before, (long long)after, call->input->ndim - 2 + i,
                  shape_to_text(call->input->ndim, call->input->shape).text);
    if (call->mode == FONIO_CIRCULAR && size == 0 && (before > 0 || after > 0))
      return fail(FONIO_RUNTIME_ERROR, "Padding value causes wrapping around more than once.");
  }
  return problem_check_padding_dtype(call);
}

static fonio_status fail_padding(const problem_call *call) {
  return fail(FONIO_RUNTIME_ERROR, "padding %s is too large for an input of size %s",
              shape_to_text(4, call->padding).text, shape_to_text(4, call->input_shape).text);
}

/* How much of the padding torch adds in a step of its own: all of it for a mode, the odd pixels for zeros. */
static fonio_status apply_padding(const problem_call *call, padded_input *padded) {
  memcpy(padded->shape, call->input_shape, sizeof padded->shape);
  for (int i = 0; i < 2; i++) {
    int64_t before = call->padding[2 * i], after = call->padding[2 * i + 1];
    int64_t shared = call->mode != FONIO_ZEROS ? 0 : before < after ? before : after;
    padded->padding[i] = shared;
    if (shared < 0) continue; /* refused by the checks of the convolution */
    if (!checked_add(padded->shape[2 + i], before - shared, &padded->shape[2 + i]) ||
        !checked_add(padded->shape[2 + i], after - shared, &padded->shape[2 + i]))
      return fail_padding(call);
  }
  return FONIO_OK;
}

fonio_status problem_resolve_padding(problem_call *call, padded_input *padded) {
  fonio_status status = resolve_sides(call);
  if (!status && call->mode != FONIO_ZEROS) status = check_mode(call);
  if (!status) status = apply_padding(call, padded);
  return status;
}
