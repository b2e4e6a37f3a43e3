/* The output of a convolution: its sizes, and the memory format that torch gives it. */
#include "conv/problem.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/shape.h"

fonio_status problem_output_shape(const problem_call *call, const padded_input *padded, int64_t shape[4]) {
  int64_t reach[2], elements, bytes;
  fonio_status status = problem_kernel_reach(call, reach);
  if (status) return status;
  shape[0] = padded->shape[0];
  shape[1] = padded->shape[1] == 0 ? 0 : call->weight->shape[0]; /* torch: no channels in, none out */
  for (int i = 0; i < 2; i++)
    shape[2 + i] = (padded->shape[2 + i] + 2 * padded->padding[i] - reach[i] - 1) / call->args.stride[i] + 1;
  if (!checked_product(4, shape, &elements) ||
      !checked_mul(elements, (int64_t)fonio_dtype_bytes(call->input->dtype), &bytes))
    return fail(FONIO_RUNTIME_ERROR, "Storage size calculation overflowed with sizes=%s", shape_to_text(4, shape).text);
  return FONIO_OK;
}

/* torch's convolutions write channels_last when the input or the weight reads so. */
fonio_status problem_output_strides(const problem_call *call, const padded_input *padded, const int64_t shape[4],
                                    int64_t strides[4]) {
  (void)padded;
  bool channels_last = shape_suggests_channels_last(call->input_shape, call->input_strides) ||
                       shape_suggests_channels_last(call->weight->shape, call->weight_strides);
  bool fits = channels_last ? shape_channels_last_strides(shape, strides) : shape_contiguous_strides(4, shape, strides);
  if (!fits) return fail(FONIO_RUNTIME_ERROR, "Stride calculation overflowed");
  return FONIO_OK;
}
