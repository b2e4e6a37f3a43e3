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

/* A new dimension in front of `inner` others; false after fail(). */
static bool expand_new(const fonio_tensor *tensor, int dim, int inner, int64_t *shape, int64_t *strides) {
  strides[0] = 0;
  if (tensor->ndim == 0) return true;
  if (shape[0] == -1) {
    fail(FONIO_RUNTIME_ERROR,
         "The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension %d", dim);
    return false;
  }
  /* A size of 1 is not stretched: torch gives it the stride that a dense tensor would have there. */
  if (shape[0] != 1 || inner == 0 || checked_mul(shape[1], strides[1], &strides[0])) return true;
  fail(FONIO_RUNTIME_ERROR, "Stride calculation overflowed");
  return false;
}

/* A dimension that the tensor has; false after fail(). */
static bool expand_own(const fonio_tensor *tensor, int own, int ndim, const int64_t *asked, int64_t *size,
                       int64_t *stride) {
  int dim = own + ndim - tensor->ndim;
  *size = asked[dim] == -1 ? tensor->shape[own] : asked[dim];
  *stride = *size == tensor->shape[own] ? tensor->strides[own] : 0;
  if (*size == tensor->shape[own] || tensor->shape[own] == 1) return true;
  fail(FONIO_RUNTIME_ERROR,
       "The expanded size of the tensor (%lld) must match the existing size (%lld) at non-singleton dimension %d.  "
       "Target sizes: %s.  Tensor sizes: %s",
       (long long)*size, (long long)tensor->shape[own], dim, shape_to_text(ndim, asked).text,
       shape_to_text(tensor->ndim, tensor->shape).text);
  return false;
}

/* The sizes and strides of `tensor` stretched to the shape asked for; false after fail(). */
static bool expand_all(const fonio_tensor *tensor, int ndim, const int64_t *asked, int64_t *shape, int64_t *strides) {
  int64_t numel;
  int new = ndim - tensor->ndim;
  for (int i = ndim - 1; i >= new; i--)
    if (!expand_own(tensor, i - new, ndim, asked, &shape[i], &strides[i])) return false;
  for (int i = new - 1; i >= 0; i--) {
    shape[i] = asked[i];
    if (!expand_new(tensor, i, ndim - 1 - i, shape + i, strides + i)) return false;
  }
  bool possible = checked_product(ndim, shape, &numel);
  for (int i = 0; i < ndim; i++)
    possible = possible && shape[i] >= 0;
  if (!possible) fail(FONIO_RUNTIME_ERROR, "numel: integer multiplication overflow");
  return possible;
}

fonio_tensor *tensor_expand(const fonio_tensor *tensor, int ndim, const int64_t *asked) {
  int64_t shape[FONIO_MAX_DIMS], strides[FONIO_MAX_DIMS];
  if (ndim > FONIO_MAX_DIMS)
    return fail_null(FONIO_VALUE_ERROR, "a tensor has 0 to %d dimensions, not %d", FONIO_MAX_DIMS, ndim);
  if (ndim < tensor->ndim)
    return fail_null(FONIO_RUNTIME_ERROR,
                     "expand(%s{%s}, size=%s): the number of sizes provided (%d) must be greater or equal to the "
                     "number of dimensions in the tensor (%d)",
                     type_in_expand(tensor->dtype).text, shape_to_text(tensor->ndim, tensor->shape).text,
                     shape_to_text(ndim, asked).text, ndim, tensor->ndim);
  if (!expand_all(tensor, ndim, asked, shape, strides)) return NULL;
  return tensor_view(tensor, ndim, shape, strides, tensor->offset);
}
