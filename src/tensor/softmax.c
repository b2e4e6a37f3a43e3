/* The logarithm of softmax. */
#include <math.h>

#include "base/error.h"
#include "tensor/tensor.h"

#define REAL float
#define NAMED(name) name##_f32
#define LIBM(name) name##f
#include "tensor/softmax.inc"
#undef REAL
#undef NAMED
#undef LIBM

#define REAL double
#define NAMED(name) name##_f64
#define LIBM(name) name
#include "tensor/softmax.inc"

/* `from` is contiguous, and so is the result: the rows along `dim` lie `inner` elements apart. */
static void fill_rows(const fonio_tensor *from, fonio_tensor *to, int dim) {
  int64_t size = from->ndim > 0 ? from->shape[dim] : 1, inner = 1;
  for (int i = dim + 1; i < from->ndim; i++)
    inner *= from->shape[i];
  for (int64_t i = 0; i < from->numel / size; i++) {
    int64_t first = i / inner * inner * size + i % inner;
    if (from->dtype == FONIO_FLOAT32)
      log_softmax_row_f32(size, (const float *)tensor_at_offset(from) + first, inner,
                          (float *)tensor_at_offset(to) + first, inner);
    else
      log_softmax_row_f64(size, (const double *)tensor_at_offset(from) + first, inner,
                          (double *)tensor_at_offset(to) + first, inner);
  }
}

fonio_tensor *tensor_log_softmax(const fonio_tensor *tensor, int dim) {
  if (tensor->dtype != FONIO_FLOAT32 && tensor->dtype != FONIO_FLOAT64)
    return fail_null(FONIO_NOT_IMPLEMENTED, "\"log_softmax_lastdim_kernel_impl\" not implemented for '%s'",
                     fonio_dtype_scalar_name(tensor->dtype));
  fonio_tensor *from = tensor_copy_contiguous(tensor);
  fonio_tensor *to = from ? fonio_tensor_empty(tensor->dtype, tensor->ndim, tensor->shape) : NULL;
  if (to && to->numel > 0) fill_rows(from, to, dim);
  fonio_tensor_release(from);
  return to;
}
