/* Windows over images: the largest value in each, or the mean. */
#ifndef TENSOR_POOL_H
#define TENSOR_POOL_H

#include "tensor/tensor.h"

typedef struct pool_window {
  int64_t kernel[2], stride[2], padding[2], dilation[2]; /* (vertical, horizontal) */
  int64_t in[2], out[2];                                 /* the image's size, and the result's */
  bool count_include_pad;                                /* of a mean: what lies in the padding counts */
  int64_t divisor;                                       /* of a mean: in place of the count; 0: none */
} pool_window;

/* Works out the sizes; fails with torch's texts for images (C, H, W) or (N, C, H, W) that cannot be pooled. */
fonio_status pool_resolve(pool_window *window, const fonio_tensor *image, bool ceil_mode);

/* New tensors of the result's shape and torch's layout: the largest values, and the places in their planes where they
 * were found (integers as large as a value). */
fonio_status pool_max(const pool_window *window, const fonio_tensor *image, fonio_tensor **values,
                      fonio_tensor **places);

/* The values of `image` at these places, in the places' shape; and the other way: `values` added up at their places of
 * an image of that shape. */
fonio_tensor *pool_gather(const fonio_tensor *image, const fonio_tensor *places);
fonio_tensor *pool_scatter(const fonio_tensor *values, const fonio_tensor *places, const int64_t *shape);

/* The means; and the other way: each value, divided, added to all of its window, in an image of that shape. */
fonio_tensor *pool_mean(const pool_window *window, const fonio_tensor *image);
fonio_tensor *pool_spread(const pool_window *window, const fonio_tensor *values, const int64_t *shape);

#endif
