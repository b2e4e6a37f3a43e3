/* Strides of the two memory formats, and the questions that are asked of strides: for tensors and for convolutions
 * alike. */
#ifndef BASE_SHAPE_H
#define BASE_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

/* Contiguous strides of a shape, the last dimension fastest; a size of 0 counts as 1, as in torch. False when a product
 * does not fit. */
bool shape_contiguous_strides(int ndim, const int64_t *shape, int64_t *strides);

/* channels_last strides of (N, C, H, W): in memory N, H, W, C. A size of 0 counts as it is, as in torch. */
bool shape_channels_last_strides(const int64_t shape[4], int64_t strides[4]);

/* tensor.is_contiguous(): sizes of 1 may have any stride; a tensor without elements is contiguous. */
bool shape_is_contiguous(int ndim, const int64_t *shape, const int64_t *strides);

/* tensor.is_contiguous(memory_format=torch.channels_last) of 4 dimensions. */
bool shape_is_channels_last(const int64_t shape[4], const int64_t strides[4]);

/* torch's is_channels_last_strides_2d: whether strides read as channels_last when a memory format has to be guessed.
 * Differs from the above: it accepts padded rows, refuses what reads as plain NCHW (such as N111), and does not need a
 * dense tensor. */
bool shape_suggests_channels_last(const int64_t shape[4], const int64_t strides[4]);

#endif
