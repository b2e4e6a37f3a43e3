/* Broadcasting: sizes of 1 and missing dimensions stretch, with stride 0. */
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/tensor.h"

/* The size of dimension `dim` of `ndim` ones when the tensor's are aligned at the end. */
static int64_t aligned_size(const fonio_tensor *tensor, int ndim, int dim) {
  int own = dim - (ndim - tensor->ndim);
  return own < 0 ? 1 : tensor->shape[own];
}

int tensor_broadcast_shape(const fonio_tensor *a, const fonio_tensor *b, int64_t shape[FONIO_MAX_DIMS]) {
  int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
  int64_t result[FONIO_MAX_DIMS] = {0};
  for (int i = ndim - 1; i >= 0; i--) {
    int64_t of_a = aligned_size(a, ndim, i), of_b = aligned_size(b, ndim, i);
    if (of_a != of_b && of_a != 1 && of_b != 1) {
      fail(FONIO_RUNTIME_ERROR,
           "The size of tensor a (%lld) must match the size of tensor b (%lld) at non-singleton dimension %d",
           (long long)of_a, (long long)of_b, i);
      return -1;
    }
    result[i] = of_a == 1 ? of_b : of_a;
  }
  memcpy(shape, result, sizeof result);
  return ndim;
}

/* What torch calls the tensor's type there: the dtypes that it has had from its beginnings by other names than the
 * rest. */
typedef struct type_text {
  char text[48];
} type_text;

static type_text type_in_expand(fonio_dtype dtype) {
  const char *scalar = fonio_dtype_scalar_name(dtype);
  bool old = !fonio_dtype_is_complex(dtype) && !strpbrk(scalar, "_U1") && dtype != FONIO_BOOL;
  type_text result;
  snprintf(result.text, sizeof result.text, "%s%s%s", old ? "torch." : "CPU", scalar, old ? "Tensor" : "Type");
  return result;
}

/* The strides of `tensor` stretched to `shape`, whose negative sizes are filled in; false after fail(). */
static bool expand_dim(const fonio_tensor *tensor, int ndim, const int64_t *asked, int dim, int64_t *size,
                       int64_t *stride) {
  int own = dim - (ndim - tensor->ndim);
  *size = asked[dim];
  *stride = own < 0 ? 0 : tensor->strides[own];
  if (own < 0 && *size == -1 && tensor->ndim > 0) {
    fail(FONIO_RUNTIME_ERROR,
         "The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension %d", dim);
    return false;
  }
  if (own < 0) return true;
  if (*size == -1) *size = tensor->shape[own];
  if (*size == tensor->shape[own]) return true;
  *stride = 0;
  if (tensor->shape[own] == 1) return true;
  fail(FONIO_RUNTIME_ERROR,
       "The expanded size of the tensor (%lld) must match the existing size (%lld) at non-singleton dimension %d.  "
       "Target sizes: %s.  Tensor sizes: %s",
       (long long)*size, (long long)tensor->shape[own], dim, shape_to_text(ndim, asked).text,
       shape_to_text(tensor->ndim, tensor->shape).text);
  return false;
}

fonio_tensor *tensor_expand(const fonio_tensor *tensor, int ndim, const int64_t *asked) {
  int64_t shape[FONIO_MAX_DIMS], strides[FONIO_MAX_DIMS], numel;
  if (ndim > FONIO_MAX_DIMS)
    return fail_null(FONIO_VALUE_ERROR, "a tensor has 0 to %d dimensions, not %d", FONIO_MAX_DIMS, ndim);
  if (ndim < tensor->ndim)
    return fail_null(FONIO_RUNTIME_ERROR,
                     "expand(%s{%s}, size=%s): the number of sizes provided (%d) must be greater or equal to the "
                     "number of dimensions in the tensor (%d)",
                     type_in_expand(tensor->dtype).text, shape_to_text(tensor->ndim, tensor->shape).text,
                     shape_to_text(ndim, asked).text, ndim, tensor->ndim);
  for (int i = ndim - 1; i >= 0; i--)
    if (!expand_dim(tensor, ndim, asked, i, &shape[i], &strides[i])) return NULL;
  bool negative = false;
  for (int i = 0; i < ndim; i++)
    negative = negative || shape[i] < 0;
  if (negative || !checked_product(ndim, shape, &numel))
    return fail_null(FONIO_RUNTIME_ERROR, "numel: integer multiplication overflow");
  return tensor_view(tensor, ndim, shape, strides, tensor->offset);
}
