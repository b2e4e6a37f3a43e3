/* What a plan takes for granted of its problem. fonio_conv_problem_init and _parse only make such problems; a host may
 * fill one in or change it by hand. */
#include "base/checked.h"
#include "base/error.h"
#include "conv/problem.h"

/* Whether an array's elements lie within an int64_t of each other. */
static bool span_fits(int ndim, const int64_t *shape, const int64_t *strides) {
  int64_t span = 0;
  for (int i = 0; i < ndim; i++) {
    int64_t reach;
    if (shape[i] < 2) continue;
    if (strides[i] == INT64_MIN || !checked_mul(shape[i] - 1, strides[i] < 0 ? -strides[i] : strides[i], &reach) ||
        !checked_add(span, reach, &span))
      return false;
  }
  return span < INT64_MAX / 16; /* in bytes, too */
}

/* One axis: whether `outputs` is what the other numbers give. */
static bool axis_is_right(int64_t size, int64_t outputs, int64_t kernel, int64_t stride, int64_t dilation,
                          const int64_t padding[2], fonio_padding_mode mode) {
  int64_t padded, window;
  if (size < 0 || kernel < 1 || stride < 1 || dilation < 1 || padding[0] < 0 || padding[1] < 0) return false;
  if (!checked_add(size, padding[0], &padded) || !checked_add(padded, padding[1], &padded)) return false;
  if (!checked_mul(dilation, kernel - 1, &window) || window >= padded) return false;
  bool pads = padding[0] + padding[1] > 0;
  if (pads && mode == FONIO_REFLECT && (padding[0] >= size || padding[1] >= size)) return false;
  if (pads && mode != FONIO_ZEROS && size < 1) return false;
  return outputs == (padded - window - 1) / stride + 1;
}

static bool arrays_fit(const fonio_conv_problem *p) {
  const int64_t input[4] = {p->batch, p->in_channels, p->in_height, p->in_width};
  const int64_t weight[4] = {p->out_channels, p->in_channels / p->groups, p->kernel_height, p->kernel_width};
  const int64_t output[4] = {p->batch, p->out_channels, p->out_height, p->out_width};
  return span_fits(4, input, p->input_strides) && span_fits(4, weight, p->weight_strides) &&
         span_fits(4, output, p->output_strides) && span_fits(1, &p->out_channels, &p->bias_stride);
}

fonio_status conv_problem_check(const fonio_conv_problem *p) {
  const char *wrong = NULL;
  if (p->struct_bytes != sizeof *p)
    wrong = "its struct_bytes";
  else if (p->batch < 0 || p->in_channels < 0 || p->out_channels < 0)
    wrong = "a negative size";
  else if (p->groups < 1 || p->in_channels % p->groups || p->out_channels % p->groups)
    wrong = "its groups";
  else if ((unsigned)p->padding_mode > FONIO_CIRCULAR)
    wrong = "its padding mode";
  else if (!axis_is_right(p->in_height, p->out_height, p->kernel_height, p->stride[0], p->dilation[0], p->padding,
                          p->padding_mode))
    wrong = "its heights, or what they follow from";
  else if (!axis_is_right(p->in_width, p->out_width, p->kernel_width, p->stride[1], p->dilation[1], p->padding + 2,
                          p->padding_mode))
    wrong = "its widths, or what they follow from";
  else if (!arrays_fit(p))
    wrong = "strides that reach too far";
  if (!wrong) return FONIO_OK;
  return fail(FONIO_VALUE_ERROR, "the problem was not made by fonio_conv_problem_init: %s cannot be", wrong);
}
