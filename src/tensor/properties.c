/* What a tensor tells about itself. */
#include "base/error.h"
#include "base/shape.h"
#include "tensor/index.h"
#include "tensor/tensor.h"

fonio_dtype fonio_tensor_dtype(const fonio_tensor *tensor) {
  return tensor ? tensor->dtype : FONIO_FLOAT32;
}

int fonio_tensor_ndim(const fonio_tensor *tensor) {
  return tensor ? tensor->ndim : 0;
}

const int64_t *fonio_tensor_shape(const fonio_tensor *tensor) {
  return tensor ? tensor->shape : NULL;
}

const int64_t *fonio_tensor_strides(const fonio_tensor *tensor) {
  return tensor ? tensor->strides : NULL;
}

int64_t fonio_tensor_size(const fonio_tensor *tensor, int dim) {
  if (!tensor) return 0;
  if (tensor->ndim == 0) {
    fail(FONIO_INDEX_ERROR, "Dimension specified as %d but tensor has no dimensions", dim);
    return -1;
  }
  dim = index_wrap_dim(dim, tensor->ndim);
  return dim < 0 ? -1 : tensor->shape[dim];
}

int64_t fonio_tensor_numel(const fonio_tensor *tensor) {
  return tensor ? tensor->numel : 0;
}

int64_t fonio_tensor_storage_offset(const fonio_tensor *tensor) {
  return tensor ? tensor->offset : 0;
}

bool fonio_tensor_is_contiguous(const fonio_tensor *tensor) {
  return tensor && shape_is_contiguous(tensor->ndim, tensor->shape, tensor->strides);
}

bool fonio_tensor_is_channels_last(const fonio_tensor *tensor) {
  return tensor && tensor->ndim == 4 && shape_is_channels_last(tensor->shape, tensor->strides);
}

int64_t fonio_tensor_version(const fonio_tensor *tensor) {
  return tensor ? atomic_load(&tensor->storage->version) : 0;
}

void *fonio_tensor_data(fonio_tensor *tensor) {
  if (!tensor) return NULL;
  atomic_store(&tensor->storage->escaped, true);
  return tensor_at_offset(tensor);
}

const void *fonio_tensor_const_data(const fonio_tensor *tensor) {
  return tensor ? tensor_at_offset(tensor) : NULL;
}
