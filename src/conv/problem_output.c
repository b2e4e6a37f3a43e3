/* The output of a convolution: its sizes, and the memory format that torch gives it. */
#include "conv/problem.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/shape.h"

#include <string.h>

static fonio_status fail_storage(const int64_t shape[4]) {
  return fail(FONIO_RUNTIME_ERROR, "Storage size calculation overflowed with sizes=%s", shape_to_text(4, shape).text);
}

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
    return fail_storage(shape);
  return FONIO_OK;
}

/* ---- The memory format ----
 *
 * torch asks of input and weight whether their strides read as channels_last, and writes channels_last where either
 * does. Who wants its very strides has to follow it further: it pads in a step of its own at times, makes both arrays
 * dense, asks again, and, where groups run one by one, once more of the first group's slices. Sizes of 1 make the
 * answers differ. */

typedef struct image {
  int64_t shape[4], strides[4];
} image;

static bool reads_channels_last(const image *array) {
  return shape_suggests_channels_last(array->shape, array->strides);
}

static fonio_status set_dense(image *array, bool channels_last) {
  bool fits = channels_last ? shape_channels_last_strides(array->shape, array->strides)
                            : shape_contiguous_strides(4, array->shape, array->strides);
  return fits ? FONIO_OK : fail_storage(array->shape);
}

/* tensor.contiguous(memory_format): strides that are dense already stay as they are. */
static fonio_status make_dense(image *array, bool channels_last) {
  bool dense = channels_last ? shape_is_channels_last(array->shape, array->strides)
                             : shape_is_contiguous(4, array->shape, array->strides);
  return dense ? FONIO_OK : set_dense(array, channels_last);
}

/* The input, padded where torch does that first: F.pad keeps channels_last, but not of an unbatched image and not when
 * circular. */
static fonio_status padded_image(const problem_call *call, const padded_input *padded, image *input) {
  memcpy(input->shape, padded->shape, sizeof input->shape);
  memcpy(input->strides, call->input_strides, sizeof input->strides);
  if (call->mode == FONIO_ZEROS && memcmp(padded->shape, call->input_shape, sizeof padded->shape) == 0) return FONIO_OK;
  bool kept = call->mode == FONIO_ZEROS || (call->mode != FONIO_CIRCULAR && call->batched);
  return set_dense(input, kept && shape_suggests_channels_last(call->input_shape, call->input_strides));
}

/* One group's slice of `array` along `dim`, made dense in the format of the whole. */
static fonio_status slice_group(image *array, int dim, int64_t groups) {
  bool channels_last = reads_channels_last(array);
  array->shape[dim] /= groups;
  return make_dense(array, channels_last);
}

/* Groups one by one, then put together by a cat that goes by what the first one looks like. */
static fonio_status grouped_format(image *input, image *weight, int64_t groups, const int64_t output_shape[4],
                                   bool *channels_last) {
  image output;
  memcpy(output.shape, output_shape, sizeof output.shape);
  output.shape[1] /= groups;
  fonio_status status = slice_group(input, 1, groups);
  if (!status) status = slice_group(weight, 0, groups);
  if (!status) status = set_dense(&output, reads_channels_last(input) || reads_channels_last(weight));
  if (!status) *channels_last = reads_channels_last(&output);
  return status;
}

static fonio_status output_format(const problem_call *call, const padded_input *padded, const int64_t shape[4],
                                  bool *channels_last) {
  image input, weight;
  memcpy(weight.shape, call->weight->shape, sizeof weight.shape);
  memcpy(weight.strides, call->weight_strides, sizeof weight.strides);
  fonio_status status = padded_image(call, padded, &input);
  if (status) return status;
  bool either = reads_channels_last(&input) || reads_channels_last(&weight);
  status = make_dense(&input, either);
  if (!status) status = make_dense(&weight, either);
  if (status) return status;
  *channels_last = reads_channels_last(&input) || reads_channels_last(&weight);
  /* oneDNN knows groups; it does not know float64. */
  bool one_by_one = call->args.groups > 1 && call->input->dtype != FONIO_FLOAT32;
  return one_by_one ? grouped_format(&input, &weight, call->args.groups, shape, channels_last) : FONIO_OK;
}

fonio_status problem_output_strides(const problem_call *call, const padded_input *padded, const int64_t shape[4],
                                    int64_t strides[4]) {
  bool channels_last = false;
  if (shape[0] > 0 && shape[1] > 0) { /* without elements: contiguous */
    fonio_status status = output_format(call, padded, shape, &channels_last);
    if (status) return status;
  }
  bool fits = channels_last ? shape_channels_last_strides(shape, strides) : shape_contiguous_strides(4, shape, strides);
  return fits ? FONIO_OK : fail(FONIO_RUNTIME_ERROR, "Stride calculation overflowed");
}
