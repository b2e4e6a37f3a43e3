/* Python's rules for dimensions and indices, with torch's texts. */
#ifndef TENSOR_INDEX_H
#define TENSOR_INDEX_H

#include "tensor/tensor.h"

/* `dim`, which may count from the end, as 0 ... ndim - 1; -1 after fail(). */
int index_wrap_dim(int64_t dim, int ndim);

/* Fails unless tensor[index] exists, `count` numbers for the first dimensions, each of which may count from the end. */
fonio_status index_check(const fonio_tensor *tensor, int count, const int64_t *index);

#endif
