/* Sums whose rounding error grows with the logarithm of their length, in an order that depends on sizes and strides
 * only. */
#include "base/error.h"
#include "tensor/storage.h"
#include "tensor/walk.h"

#define LANES 16
#define BLOCK 512

#define REAL float
#define NAMED(name) name##_f32
#include "tensor/sum.inc"

#define REAL double
#define NAMED(name) name##_f64
#include "tensor/sum.inc"

static fonio_status check_dtype(fonio_dtype dtype) {
  if (dtype == FONIO_FLOAT32 || dtype == FONIO_FLOAT64) return FONIO_OK;
  return fail(FONIO_NOT_IMPLEMENTED, "\"sum_cpu\" not implemented for '%s'", fonio_dtype_scalar_name(dtype));
}

fonio_tensor *tensor_sum(const fonio_tensor *tensor) {
  if (check_dtype(tensor->dtype)) return NULL;
  fonio_tensor *result = fonio_tensor_empty(tensor->dtype, FONIO_SCALAR);
  if (!result) return NULL;
  const fonio_tensor *operands[] = {tensor};
  tensor_walk walk = walk_over(tensor->ndim, tensor->shape, 1, operands);
  if (tensor->dtype == FONIO_FLOAT32)
    sum_all_f32(&walk, tensor, tensor_at_offset(result));
  else
    sum_all_f64(&walk, tensor, tensor_at_offset(result));
  return result;
}

/* The sums in double, which for long float sums of many rows keeps what float would lose. */
static fonio_tensor *sums_in_double(const fonio_tensor *tensor, int ndim, const int64_t *shape) {
  fonio_tensor *sums = fonio_tensor_zeros(FONIO_FLOAT64, ndim, shape);
  if (!sums) return NULL;
  const fonio_tensor *operands[] = {tensor, sums};
  tensor_walk walk = walk_over(tensor->ndim, tensor->shape, 2, operands);
  if (tensor->dtype == FONIO_FLOAT32)
    sum_rows_to_f32(&walk, tensor, sums);
  else
    sum_rows_to_f64(&walk, tensor, sums);
  return sums;
}

/* Whether `shape` can be broadcast to the tensor's. */
static bool broadcasts_to(const fonio_tensor *tensor, int ndim, const int64_t *shape) {
  if (ndim > tensor->ndim) return false;
  for (int i = 0; i < ndim; i++)
    if (shape[i] != 1 && shape[i] != tensor->shape[tensor->ndim - ndim + i]) return false;
  return true;
}

fonio_tensor *tensor_sum_to(const fonio_tensor *tensor, int ndim, const int64_t *shape) {
  if (check_dtype(tensor->dtype)) return NULL;
  if (!broadcasts_to(tensor, ndim, shape))
    return fail_null(FONIO_RUNTIME_ERROR, "size {%s} is not expandable to size {%s}.", shape_to_text(ndim, shape).text,
                     shape_to_text(tensor->ndim, tensor->shape).text);
  fonio_tensor *sums = sums_in_double(tensor, ndim, shape);
  if (!sums || tensor->dtype == FONIO_FLOAT64) return sums;
  fonio_tensor *result = tensor_convert(sums, FONIO_FLOAT32);
  fonio_tensor_release(sums);
  return result;
}
