/* conv2d as the layers call it. */
#ifndef AUTOGRAD_CONV2D_H
#define AUTOGRAD_CONV2D_H

#include "conv/cache.h"
#include "fonio/ops.h"

/* fonio_tensor_conv2d_with that keeps plans and packed weights in a cache; NULL: keeps nothing. */
fonio_tensor *autograd_conv2d(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias,
                              const fonio_conv2d_args *args, conv_cache *cache);

/* Gives `result`, the activation that `problem` names of `sum`, its history. On failure, which is
 * when a gradient is required that does not follow from the result, `result` is released. */
fonio_tensor *autograd_record_activation(fonio_tensor *result, const fonio_conv_problem *problem, fonio_tensor *sum);

#endif
