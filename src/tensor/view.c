/* Views: other sizes and strides over the same storage. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/index.h"
#include "tensor/tensor.h"

/* The sizes and strides of a view while it is worked out. */
typedef struct layout {
  int ndim;
  int64_t shape[FONIO_MAX_DIMS], strides[FONIO_MAX_DIMS];
} layout;

static layout layout_of(const fonio_tensor *tensor) {
  layout result = {.ndim = tensor->ndim};
  memcpy(result.shape, tensor->shape, sizeof result.shape);
  memcpy(result.strides, tensor->strides, sizeof result.strides);
  return result;
}

/* A view that starts `steps` steps along `dim`. Only without elements can that lie outside of all memory. */
static fonio_tensor *view_from(const fonio_tensor *tensor, const layout *as, int dim, int64_t steps) {
  int64_t offset;
  if (!checked_mul(steps, tensor->strides[dim], &offset) || !checked_add(offset, tensor->offset, &offset))
    return fail_null(FONIO_RUNTIME_ERROR, "the storage offset of a view without elements does not fit");
  return tensor_view(tensor, as->ndim, as->shape, as->strides, offset);
}

fonio_tensor *tensor_select(const fonio_tensor *tensor, int dim, int64_t index) {
  if (tensor->ndim == 0) return fail_null(FONIO_INDEX_ERROR, "select() cannot be applied to a 0-dim tensor.");
  dim = index_wrap_dim(dim, tensor->ndim);
  if (dim < 0) return NULL;
  int64_t size = tensor->shape[dim];
  if (index < -size || index >= size)
    return fail_null(FONIO_INDEX_ERROR, "select(): index %lld out of range for tensor of size %s at dimension %d",
                     (long long)index, shape_to_text(tensor->ndim, tensor->shape).text, dim);
  if (index < 0) index += size;
  layout as = layout_of(tensor);
  as.ndim--;
  for (int i = dim; i < as.ndim; i++) {
    as.shape[i] = as.shape[i + 1];
    as.strides[i] = as.strides[i + 1];
  }
  return view_from(tensor, &as, dim, index);
}

/* A bound of a slice, by Python's rules: negative from the end, and never outside 0 ... size. */
static int64_t slice_bound(int64_t bound, int64_t size) {
  if (bound < 0) bound += size;
  return bound < 0 ? 0 : bound > size ? size : bound;
}

fonio_tensor *tensor_slice(const fonio_tensor *tensor, int dim, int64_t start, int64_t end, int64_t step) {
  if (tensor->ndim == 0) return fail_null(FONIO_INDEX_ERROR, "slice() cannot be applied to a 0-dim tensor.");
  dim = index_wrap_dim(dim, tensor->ndim);
  if (dim < 0) return NULL;
  if (step <= 0) return fail_null(FONIO_RUNTIME_ERROR, "slice step must be positive");
  layout as = layout_of(tensor);
  start = slice_bound(start, as.shape[dim]);
  end = slice_bound(end, as.shape[dim]);
  int64_t length = end > start ? end - start : 0;
  as.shape[dim] = length / step + (length % step != 0);
  if (!checked_mul(as.strides[dim], step, &as.strides[dim]))
    return fail_null(FONIO_RUNTIME_ERROR, "slice(): a stride of %lld elements, %lld apart, does not fit",
                     (long long)tensor->strides[dim], (long long)step);
  return view_from(tensor, &as, dim, start);
}

fonio_tensor *tensor_permute(const fonio_tensor *tensor, int ndim, const int64_t *order) {
  if (ndim != tensor->ndim)
    return fail_null(FONIO_RUNTIME_ERROR,
                     "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the "
                     "desired ordering of dimensions i.e. input.dim() = %d is not equal to len(dims) = %d",
                     tensor->ndim, ndim);
  layout as = {.ndim = ndim};
  bool seen[FONIO_MAX_DIMS] = {false};
  for (int i = 0; i < ndim; i++) {
    int dim = index_wrap_dim(order[i], ndim);
    if (dim < 0) return NULL;
    if (seen[dim]) return fail_null(FONIO_RUNTIME_ERROR, "permute(): duplicate dims are not allowed.");
    seen[dim] = true;
    as.shape[i] = tensor->shape[dim];
    as.strides[i] = tensor->strides[dim];
  }
  return tensor_view(tensor, as.ndim, as.shape, as.strides, tensor->offset);
}
