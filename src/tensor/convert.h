/* Elements of any dtype, converted as torch converts them. */
#ifndef TENSOR_CONVERT_H
#define TENSOR_CONVERT_H

#include "tensor/tensor.h"

/* Converts a row of `count` elements; steps in elements. The rows do not overlap. */
void convert_row(int64_t count, fonio_dtype from_dtype, const void *from, int64_t from_step, fonio_dtype to_dtype,
                 void *to, int64_t to_step);

#endif
