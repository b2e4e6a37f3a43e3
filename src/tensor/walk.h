/* A walk over the elements of up to three tensors side by side, as few and as long rows as their strides allow. */
#ifndef TENSOR_WALK_H
#define TENSOR_WALK_H

#include "tensor/tensor.h"

#define WALK_MOST 3

typedef struct tensor_walk {
  int operands, ndim; /* dimensions outside of the row */
  int64_t row;        /* elements in a row; 0: nothing to do */
  int64_t step[WALK_MOST];
  int64_t shape[FONIO_MAX_DIMS], index[FONIO_MAX_DIMS];
  int64_t strides[WALK_MOST][FONIO_MAX_DIMS];
  int64_t position[WALK_MOST]; /* of the row's first element, from the tensor's first */
} tensor_walk;

/* Sets out over `shape`, to which the tensors are broadcast. The first one's order in memory decides the order of the
 * walk, but for rows that would be short. */
tensor_walk walk_over(int ndim, const int64_t *shape, int operands, const fonio_tensor *const *tensors);

/* Sets out over one tensor in the very order in which torch visits the elements of a tensor that it fills. */
tensor_walk walk_in_order(const fonio_tensor *tensor);

/* Takes a dimension out of a walk that has not begun, for rows of rows: its size, and each operand's stride along it.
 */
int64_t walk_take_dim(tensor_walk *walk, int dim, int64_t strides[WALK_MOST]);

/* The next row; false after the last. */
bool walk_next(tensor_walk *walk);

/* The first element of the row in operand `operand`. */
static inline void *walk_row(const tensor_walk *walk, int operand, const fonio_tensor *tensor) {
  return (char *)tensor_at_offset(tensor) + walk->position[operand] * (int64_t)fonio_dtype_bytes(tensor->dtype);
}

#endif
