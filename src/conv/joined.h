/* Strips of few channels under a stride: the phases of the stride lie beside the channels, so that vectors are full. */
#ifndef CONV_JOINED_H
#define CONV_JOINED_H

#include "kernels/kernels.h"

/* Fills in the strip: pixel (i, j) begins at padded row and column (row + i * step[0], column + j * step[1]), and
 * has `phases` rows and columns of each channel, [phase of rows][channel][phase of columns]. `bytes` of an element: 4
 * or 8. */
void conv_gather_joined(const kernel_conv *conv, const kernel_strip *strip, const int64_t phases[2], int64_t bytes,
                        const void *input, void *to);

#endif
