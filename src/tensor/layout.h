/* Which strides torch gives to a result. */
#ifndef TENSOR_LAYOUT_H
#define TENSOR_LAYOUT_H

#include "tensor/tensor.h"

/* Whether the elements fill their span of memory without gaps and without sharing: is_non_overlapping_and_dense(). */
bool layout_is_dense(const fonio_tensor *tensor);

/* torch.empty_like: the tensor's own strides if it is dense, otherwise dense ones in its order. False: they do not fit.
 */
bool layout_like(const fonio_tensor *tensor, int64_t strides[FONIO_MAX_DIMS]);

/* The strides of an elementwise result of `a` and `b`, broadcast to `shape`, as torch's TensorIterator picks them. */
bool layout_of_both(const fonio_tensor *a, const fonio_tensor *b, int ndim, const int64_t *shape,
                    int64_t strides[FONIO_MAX_DIMS]);

#endif
