/* Patches of an output whose pixels see the same taps inside of the image: where much of what the taps read is padding,
 * as with a large dilation, the others are left out. */
#ifndef CONV_PATCH_H
#define CONV_PATCH_H

#include "conv/plan.h"

typedef struct conv_patch {
  int64_t row, rows, column, columns; /* of the output */
} conv_patch;

/* Whether what the tap (a row of the kernel, or with axis 1 a column) reads for that output row (column) is no zero of
 * the padding. */
bool conv_is_inside(const fonio_conv_plan *plan, int axis, int64_t output, int64_t tap);

/* Of `count` output rows (or, with axis 1, columns) from `first` on those at which the tap reads no zero of the
 * padding. */
typedef struct conv_range {
  int64_t first, count;
} conv_range;
conv_range conv_range_inside(const fonio_conv_plan *plan, int axis, int64_t tap, int64_t first, int64_t count);

/* The share of output rows (axis 0) or columns (1) times taps whose source is not the padding: with a large dilation
 * most of it may be. */
double conv_share_inside(const fonio_conv_plan *plan, int axis);

/* The most pixels of a patch: their sums stay in the second-level cache, beside the weights. */
int64_t conv_patch_pixels(const fonio_conv_plan *plan);

/* The next patch, column by column; false: there is none. Begins with an empty one. */
bool conv_patch_next(const fonio_conv_plan *plan, conv_patch *patch);

/* The share of the products that is left; 1 where patches are not worth it. */
double conv_patch_share(const fonio_conv_plan *plan);

#endif
