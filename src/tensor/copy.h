/* Writing into tensors, without checks and without counting it as a write: for tensors that are being made. */
#ifndef TENSOR_COPY_H
#define TENSOR_COPY_H

#include "tensor/tensor.h"

/* Sets every element to `value`, converted. */
void fill_values(fonio_tensor *tensor, double value);

/* Copies with conversion; `source` broadcasts to the tensor's shape, and no memory overlaps. */
void copy_values(fonio_tensor *tensor, const fonio_tensor *source);

#endif
