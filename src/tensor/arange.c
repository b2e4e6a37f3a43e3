/* torch.arange, to the bit: torch computes it in groups of one vector register, whose first value is rounded before the
 * others are counted from it. What is left over after pairs of groups counts from the start. */
#include <float.h>
#include <math.h>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/convert.h"
#include "tensor/storage.h"

#define RUN 256 /* integers that are worked out at a time */

static fonio_status check_bounds(double start, double end, double step) {
  if (!(step > 0 || step < 0)) return fail(FONIO_RUNTIME_ERROR, "step must be nonzero");
  if (!isfinite(start) || !isfinite(end)) return fail(FONIO_RUNTIME_ERROR, "unsupported range: %g -> %g", start, end);
  if (step > 0 ? end < start : end > start)
    return fail(FONIO_RUNTIME_ERROR, "upper bound and lower bound inconsistent with step sign");
  return FONIO_OK;
}

static fonio_status to_int64(double value, int64_t *result) {
  if (!(value >= -0x1p63 && value < 0x1p63))
    return fail(FONIO_RUNTIME_ERROR, "value cannot be converted to type int64_t without overflow");
  *result = (int64_t)value;
  return FONIO_OK;
}

static fonio_status fail_size(void) {
  return fail(FONIO_RUNTIME_ERROR, "invalid size, possible overflow?");
}

/* int64 counts in integers: all three are cut first. */
static fonio_status integer_size(double start, double end, double step, int64_t *size) {
  int64_t from = 0, to = 0, by = 0, range = 0;
  if (to_int64(start, &from) || to_int64(end, &to) || to_int64(step, &by)) return fonio_last_status();
  if (by == 0) return fail(FONIO_VALUE_ERROR, "step must be nonzero");
  bool fits = checked_add(to, by > 0 ? by - 1 : by + 1, &range) && !__builtin_sub_overflow(range, from, &range);
  if (!fits || range / by < 0) return fail_size();
  *size = range / by;
  return FONIO_OK;
}

static fonio_status size_of(fonio_dtype dtype, double start, double end, double step, int64_t *size) {
  if (check_bounds(start, end, step)) return fonio_last_status();
  if (dtype == FONIO_INT64) return integer_size(start, end, step, size);
  double count = ceil((end - start) / step);
  if (!(count >= 0 && count < 0x1p63)) return fail_size();
  *size = (int64_t)count;
  return FONIO_OK;
}

static fonio_status fill_integers(fonio_tensor *tensor, double start, double step) {
  int64_t from = 0, by = 0;
  if (to_int64(start, &from) || to_int64(step, &by)) return fonio_last_status();
  int64_t values[RUN], bytes = (int64_t)fonio_dtype_bytes(tensor->dtype);
  for (int64_t done = 0; done < tensor->numel; done += RUN) {
    int64_t count = tensor->numel - done < RUN ? tensor->numel - done : RUN;
    for (int64_t i = 0; i < count; i++)
      values[i] = (int64_t)((uint64_t)from + (uint64_t)(done + i) * (uint64_t)by);
    convert_row(count, FONIO_INT64, values, 1, tensor->dtype, (char *)tensor->storage->data + done * bytes, 1);
  }
  return FONIO_OK;
}

/* How many elements of the dtype torch takes at once: 32 bytes. */
static int64_t group_size(fonio_dtype dtype) {
  return 32 / (int64_t)fonio_dtype_bytes(dtype);
}

/* start + index * step in the type that torch counts in, float for the 16-bit types, with one rounding as compiled
 * there. */
static double term(fonio_dtype dtype, double start, int64_t index, double step) {
  if (fonio_dtype_bytes(dtype) == 2) return (double)fmaf((float)index, (float)step, (float)start);
  return fma((double)index, step, start);
}

/* The same where torch rounds the product, too: within a group of bfloat16. */
static double term_in_two_steps(double base, int64_t index, double step) {
  float product = (float)index * (float)step;
  return (double)((float)base + product);
}

static void fill_group(fonio_dtype dtype, double start, int64_t index, double step, char *elements) {
  double base, values[16];
  tensor_write_element(dtype, elements, term(dtype, start, index, step));
  base = tensor_read_element(dtype, elements);
  for (int64_t i = 0; i < group_size(dtype); i++)
    values[i] = dtype == FONIO_BFLOAT16 ? term_in_two_steps(base, i, step) : term(dtype, base, i, step);
  convert_row(group_size(dtype), FONIO_FLOAT64, values, 1, dtype, elements, 1);
}

static fonio_status fill_reals(fonio_tensor *tensor, double start, double step) {
  fonio_dtype dtype = tensor->dtype;
  int64_t bytes = (int64_t)fonio_dtype_bytes(dtype), group = group_size(dtype), index = 0;
  bool in_float = bytes == 2;
  if (in_float && (fabs(start) > (double)FLT_MAX || (isfinite(step) && fabs(step) > (double)FLT_MAX)))
    return fail(FONIO_RUNTIME_ERROR, "value cannot be converted to type float without overflow");
  char *elements = tensor->storage->data;
  for (; index < tensor->numel / (2 * group) * (2 * group); index += group)
    fill_group(dtype, start, index, step, elements + index * bytes);
  for (; index < tensor->numel; index++)
    tensor_write_element(dtype, elements + index * bytes, term(dtype, start, index, step));
  return FONIO_OK;
}

static bool counts_in_integers(fonio_dtype dtype) {
  return (dtype >= FONIO_INT8 && dtype <= FONIO_INT64) || dtype == FONIO_UINT8;
}

static bool counts_in_reals(fonio_dtype dtype) {
  return fonio_dtype_is_floating_point(dtype) && fonio_dtype_bytes(dtype) > 1;
}

fonio_tensor *fonio_tensor_arange(fonio_dtype dtype, double start, double end, double step) {
  int64_t size = 0;
  if (tensor_check_shape(dtype, FONIO_SCALAR)) return NULL;
  if (!counts_in_integers(dtype) && !counts_in_reals(dtype))
    return fail_null(FONIO_NOT_IMPLEMENTED, "\"arange_cpu\" not implemented for '%s'", fonio_dtype_scalar_name(dtype));
  if (size_of(dtype, start, end, step, &size)) return NULL;
  fonio_tensor *tensor = fonio_tensor_empty(dtype, FONIO_SHAPE(size));
  if (!tensor) return NULL;
  fonio_status status =
      counts_in_integers(dtype) ? fill_integers(tensor, start, step) : fill_reals(tensor, start, step);
  if (status == FONIO_OK) return tensor;
  fonio_tensor_release(tensor);
  return NULL;
}
