/* torch.reshape: a view where the strides allow it. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/shape.h"
#include "tensor/tensor.h"

/* The place of the size that is to be worked out, or -1; -2 after fail(). */
static int place_to_infer(int ndim, const int64_t *asked) {
  int place = -1;
  for (int i = 0; i < ndim; i++) {
    if (asked[i] < -1) {
      fail(FONIO_RUNTIME_ERROR, "invalid shape dimension %lld at index %d of shape %s", (long long)asked[i], i,
           shape_to_text(ndim, asked).text);
      return -2;
    }
    if (asked[i] == -1 && place >= 0) {
      fail(FONIO_RUNTIME_ERROR, "only one dimension can be inferred");
      return -2;
    }
    if (asked[i] == -1) place = i;
  }
  return place;
}

/* The shape asked for, with a -1 worked out. */
static fonio_status infer_shape(int64_t numel, int ndim, const int64_t *asked, int64_t *shape) {
  int place = place_to_infer(ndim, asked);
  if (place == -2) return fonio_last_status();
  for (int i = 0; i < ndim; i++)
    shape[i] = i == place ? 1 : asked[i];
  int64_t others;
  bool fits = checked_product(ndim, shape, &others);
  bool divides = fits && (place < 0 ? others == numel : others == 0 ? numel == 0 : numel % others == 0);
  if (!divides)
    return fail(FONIO_RUNTIME_ERROR, "shape '%s' is invalid for input of size %lld", shape_to_text(ndim, asked).text,
                (long long)numel);
  if (place >= 0 && others == 0)
    return fail(FONIO_RUNTIME_ERROR,
                "cannot reshape tensor of 0 elements into shape %s because the unspecified dimension size -1 can be "
                "any value and is ambiguous",
                shape_to_text(ndim, asked).text);
  if (place >= 0) shape[place] = numel / others;
  return FONIO_OK;
}

/* The strides of a view with `shape`, which has as many elements; false when only a copy can have that shape. The
 * tensor's dimensions are taken from the last in groups that lie in memory without a gap; each group must be a product
 * of new sizes. */
static bool view_strides(const fonio_tensor *tensor, int ndim, const int64_t *shape, int64_t *strides) {
  int to = ndim - 1;
  int64_t group = 1, base = tensor->ndim > 0 ? tensor->strides[tensor->ndim - 1] : 1;
  for (int from = tensor->ndim - 1; from >= 0; from--) {
    group *= tensor->shape[from];
    bool joined = from > 0 && (tensor->shape[from - 1] == 1 || tensor->strides[from - 1] == group * base);
    if (joined) continue;
    int64_t covered = 1;
    for (; to >= 0 && (covered < group || shape[to] == 1); to--) {
      strides[to] = covered * base;
      covered *= shape[to];
    }
    if (covered != group) return false;
    group = 1;
    base = from > 0 ? tensor->strides[from - 1] : 1;
  }
  for (; to >= 0; to--)
    strides[to] = 1;
  return true;
}

static fonio_tensor *reshape_empty(const fonio_tensor *tensor, int ndim, const int64_t *shape) {
  int64_t strides[FONIO_MAX_DIMS];
  bool same = ndim == tensor->ndim && memcmp(shape, tensor->shape, (size_t)ndim * sizeof *shape) == 0;
  if (same) return tensor_view(tensor, ndim, shape, tensor->strides, tensor->offset);
  if (!shape_contiguous_strides(ndim, shape, strides))
    return fail_null(FONIO_RUNTIME_ERROR, "Stride calculation overflowed");
  return tensor_view(tensor, ndim, shape, strides, tensor->offset);
}

fonio_tensor *tensor_reshape(const fonio_tensor *tensor, int ndim, const int64_t *asked) {
  int64_t shape[FONIO_MAX_DIMS], strides[FONIO_MAX_DIMS];
  if (ndim < 0 || ndim > FONIO_MAX_DIMS)
    return fail_null(FONIO_VALUE_ERROR, "a tensor has 0 to %d dimensions, not %d", FONIO_MAX_DIMS, ndim);
  if (infer_shape(tensor->numel, ndim, asked, shape)) return NULL;
  if (tensor->numel == 0) return reshape_empty(tensor, ndim, shape);
  if (view_strides(tensor, ndim, shape, strides)) return tensor_view(tensor, ndim, shape, strides, tensor->offset);
  fonio_tensor *copy = tensor_copy_contiguous(tensor);
  if (!copy) return NULL;
  fonio_tensor *result = tensor_reshape(copy, ndim, shape);
  fonio_tensor_release(copy);
  return result;
}
