/* torch.empty, zeros, ones, full, tensor, from_blob. */
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "tensor/copy.h"
#include "tensor/storage.h"

/* Notes that the product of the sizes does not fit. */
static fonio_tensor *fail_too_large(int ndim, const int64_t *shape) {
  for (int i = 0; i < ndim; i++)
    if (shape[i] == 0) return fail_null(FONIO_RUNTIME_ERROR, "Stride calculation overflowed");
  return fail_null(FONIO_RUNTIME_ERROR, "Storage size calculation overflowed with sizes=%s",
                   shape_to_text(ndim, shape).text);
}

fonio_tensor *fonio_tensor_empty(fonio_dtype dtype, int ndim, const int64_t *shape) {
  int64_t strides[FONIO_MAX_DIMS];
  if (tensor_check_shape(dtype, ndim, shape)) return NULL;
  if (!shape_contiguous_strides(ndim, shape, strides)) return fail_too_large(ndim, shape);
  return tensor_empty_strided(dtype, ndim, shape, strides);
}

fonio_tensor *fonio_tensor_empty_channels_last(fonio_dtype dtype, const int64_t shape[4]) {
  int64_t strides[4];
  if (tensor_check_shape(dtype, 4, shape)) return NULL;
  if (!shape_channels_last_strides(shape, strides)) return fail_too_large(4, shape);
  return tensor_empty_strided(dtype, 4, shape, strides);
}

fonio_tensor *fonio_tensor_zeros(fonio_dtype dtype, int ndim, const int64_t *shape) {
  for (int i = 0; shape && ndim <= FONIO_MAX_DIMS && i < ndim; i++)
    if (shape[i] < 0) return fail_null(FONIO_RUNTIME_ERROR, "zeros: Dimension size must be non-negative.");
  fonio_tensor *tensor = fonio_tensor_empty(dtype, ndim, shape);
  if (tensor) memset(tensor->storage->data, 0, (size_t)tensor->storage->bytes);
  return tensor;
}

fonio_tensor *fonio_tensor_ones(fonio_dtype dtype, int ndim, const int64_t *shape) {
  return fonio_tensor_full(dtype, 1, ndim, shape);
}

fonio_tensor *fonio_tensor_full(fonio_dtype dtype, double value, int ndim, const int64_t *shape) {
  fonio_tensor *tensor = fonio_tensor_empty(dtype, ndim, shape);
  if (tensor) fill_values(tensor, value);
  return tensor;
}

fonio_tensor *fonio_tensor_from_data(fonio_dtype dtype, const void *data, int ndim, const int64_t *shape) {
  fonio_tensor *tensor = fonio_tensor_empty(dtype, ndim, shape);
  if (!tensor || tensor->numel == 0) return tensor;
  if (!data) {
    fonio_tensor_release(tensor);
    return fail_given_null("fonio_tensor_from_data"), NULL;
  }
  memcpy(tensor->storage->data, data, (size_t)tensor->storage->bytes);
  return tensor;
}

fonio_tensor *fonio_tensor_wrap(fonio_dtype dtype, void *data, int ndim, const int64_t *shape, const int64_t *strides,
                                void (*release)(void *data, void *user), void *user) {
  int64_t contiguous[FONIO_MAX_DIMS], bytes;
  if (tensor_check_shape(dtype, ndim, shape)) return NULL;
  if (!shape_contiguous_strides(ndim, shape, contiguous)) return fail_too_large(ndim, shape);
  if (!strides) strides = contiguous;
  for (int i = 0; i < ndim; i++)
    if (strides[i] < 0)
      return fail_null(FONIO_RUNTIME_ERROR,
                       "as_strided: Negative strides are not supported at the moment, got strides: %s",
                       shape_to_text(ndim, strides).text);
  if (!tensor_span_bytes(dtype, ndim, shape, strides, &bytes)) return NULL;
  if (!data && bytes > 0) return fail_given_null("fonio_tensor_wrap"), NULL;
  tensor_storage *storage = storage_wrap(data, bytes);
  fonio_tensor *tensor = storage ? tensor_over(storage, dtype, ndim, shape, strides, 0) : NULL;
  if (!tensor) return NULL;
  /* Only now: a failure above gives up the storage, and must not call the host. */
  storage->release = release;
  storage->user = user;
  return tensor;
}
