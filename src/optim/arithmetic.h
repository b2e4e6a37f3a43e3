/* What steps are made of, in place, each as torch rounds it: in float32, products and sums that torch fuses are
 * computed in double precision and rounded once. The tensors have one shape and one dtype. */
#ifndef OPTIM_ARITHMETIC_H
#define OPTIM_ARITHMETIC_H

#include "tensor/tensor.h"

typedef enum optim_operation {
  OPTIM_SCALE,  /* to = x * to */
  OPTIM_ADD,    /* to = to + x * a */
  OPTIM_LERP,   /* to = to + x * (a - to), x at most 0.5 */
  OPTIM_SQUARE, /* to = to + x * a * a */
  OPTIM_MOST,   /* to = max(to, a) */
  OPTIM_DIVIDE  /* to = to + x * a / (sqrt(b) / y + z) */
} optim_operation;

/* `a` and `b` may be NULL where the operation has none. */
void optim_apply(optim_operation operation, fonio_tensor *to, const fonio_tensor *a, const fonio_tensor *b, double x,
                 double y, double z);

#endif
