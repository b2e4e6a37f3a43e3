/* Python's rules for dimensions and indices, with torch's texts. */
#ifndef TENSOR_INDEX_H
#define TENSOR_INDEX_H

#include <stdint.h>

/* `dim`, which may count from the end, as 0 ... ndim - 1; -1 after fail(). */
int index_wrap_dim(int64_t dim, int ndim);

#endif
