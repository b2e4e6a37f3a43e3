/* Making tensors: the storage below them, and the checks that every creation shares. */
#ifndef TENSOR_STORAGE_H
#define TENSOR_STORAGE_H

#include "tensor/tensor.h"

/* New storage of the library's own, one reference; the bytes are not set. */
tensor_storage *storage_new(int64_t bytes);

/* New storage over a host's memory. */
tensor_storage *storage_wrap(void *data, int64_t bytes);

tensor_storage *storage_retain(tensor_storage *storage);

/* Gives one reference back; the last one takes the memory along. */
void storage_release(tensor_storage *storage);

/* Fails with torch's texts unless the dtype, the number of dimensions and the sizes are ones that a tensor may have. */
fonio_status tensor_check_shape(fonio_dtype dtype, int ndim, const int64_t *shape);

/* The bytes that elements at these strides span, from the first to the last; false after fail(). */
bool tensor_span_bytes(fonio_dtype dtype, int ndim, const int64_t *shape, const int64_t *strides, int64_t *bytes);

/* A tensor over `storage`, whose reference it takes, also when it fails. Everything was checked before. */
fonio_tensor *tensor_over(tensor_storage *storage, fonio_dtype dtype, int ndim, const int64_t *shape,
                          const int64_t *strides, int64_t offset);

/* A tensor over new storage with these strides, which leave no gaps; the elements are not set. */
fonio_tensor *tensor_empty_strided(fonio_dtype dtype, int ndim, const int64_t *shape, const int64_t *strides);

#endif
