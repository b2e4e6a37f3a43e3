/* The order in which the gradients of weights and biases are summed up: one for the whole library, which follows from
 * the problem alone, so that the bits are the same whoever computes which part of it.
 *
 * The output pixels of all images are cut into blocks, numbered image by image, row by row: some columns of some rows,
 * or, where images are small, several whole ones. In a block each weight has one chain of fused multiply-adds from
 * zero, over its pixels row by row; each bias four chains of additions, that of pixel i being the (i mod 4)-th, which
 * are added as (0 + 1) + (2 + 3). Consecutive blocks make a part; the blocks of a part are added one after the other,
 * from zero, and so are the parts. Long sums lose less that way than in a single chain. */
#ifndef KERNELS_ORDER_H
#define KERNELS_ORDER_H

#include <stdint.h>

typedef struct kernel_order {
  int64_t batch;
  int64_t images, rows, columns;     /* of a full block; the last ones may be smaller */
  int64_t down, across;              /* blocks of an image, or of `images` together */
  int64_t blocks, parts;             /* in all */
  int64_t input_image, output_image; /* elements from one image to the next */
  int64_t out_height, out_width;
} kernel_order;

/* Some output pixels. */
typedef struct kernel_block {
  int64_t image, images, row, rows, column, columns;
} kernel_block;

static inline kernel_block kernel_block_at(const kernel_order *o, int64_t index) {
  int64_t across = index % o->across, down = index / o->across % o->down, images = index / o->across / o->down;
  kernel_block b = {images * o->images, o->images, down * o->rows, o->rows, across * o->columns, o->columns};
  if (b.images > o->batch - b.image) b.images = o->batch - b.image;
  if (b.rows > o->out_height - b.row) b.rows = o->out_height - b.row;
  if (b.columns > o->out_width - b.column) b.columns = o->out_width - b.column;
  return b;
}

/* The blocks of a part: [first, the next part's first). */
static inline int64_t kernel_first_block(const kernel_order *o, int64_t part) {
  return o->blocks / o->parts * part + o->blocks % o->parts * part / o->parts;
}

#endif
