/* What the files of the algorithm "rows" share: rows.c cuts a convolution into blocks and turns them, rows_sum.c does
 * the sum of one block; and "rows_groups". */
#ifndef CONV_ROWS_H
#define CONV_ROWS_H

#include "conv/plan.h"

/* The numbers that follow from a problem. */
typedef struct rows_numbers {
  int64_t taps, terms;  /* of the sum */
  int64_t in_channels;  /* of the group; as they lie in a pixel of the block, where the input is turned */
  int64_t out_channels; /* of the group, in whole vectors */
  int64_t panel;        /* output channels of a full panel */
  bool windows;         /* are turned as pixels, see rows.c */
  bool turn_input, turn_output;
  int64_t step[2];   /* between the rows and columns that are turned: a kernel of one tap skips what the stride skips */
  int64_t stride[2]; /* between output pixels in the turned block */
} rows_numbers;

/* One piece of work. */
typedef struct rows_work {
  const fonio_conv_plan *plan;
  rows_numbers n;
  int64_t bytes; /* of an element */
  const char *input, *weights, *bias;
  char *output;
  char *turned_input, *turned_output; /* in the workspace */
  int64_t turned_pitch;               /* elements from one pixel of the turned output to the next */
  const char *zeros;
  const void **pointers;                            /* [tile][segment][rows_tile_rows] */
  int64_t row, rows, column, columns;               /* the block of output pixels */
  int64_t tiles, tile_pixels, longer_tiles;         /* that it is cut into: the first ones have a pixel more */
  int64_t inside[2];                                /* columns of the block that no padding of columns touches */
  int64_t first_output, outputs;                    /* the output channels */
  int64_t first_tap, taps, first_channel, channels; /* the part of the sum */
  bool join;                                        /* the taps of a kernel row are taken together */
} rows_work;

/* A tile: some pixels of the block, one after the other. */
typedef struct rows_tile {
  int64_t number, first, count;
  int64_t row, column; /* of the first one */
  bool inside;         /* no column of a window lies in the padding, and all pixels are of one row */
  bool join;           /* the taps of a kernel row are taken together */
} rows_tile;

/* Blocks of a row of them, and such rows. */
static inline int64_t conv_rows_blocks_across(const fonio_conv_plan *plan) {
  return conv_ceil_div(plan->problem.out_width, plan->blocks.pixels / plan->blocks.rows);
}

static inline int64_t conv_rows_blocks_down(const fonio_conv_plan *plan) {
  return conv_ceil_div(plan->problem.out_height, plan->blocks.rows);
}

/* Cuts the block into tiles, and goes through them: as long as `number` is below w->tiles. */
void conv_rows_cut(rows_work *w);
rows_tile conv_rows_first_tile(const rows_work *w);
void conv_rows_next_tile(const rows_work *w, rows_tile *tile);

/* The pointers of one tile, tap by tap or, where taps are joined, kernel row by kernel row. Returns whether all lie in
 * the padding. */
bool conv_rows_look_up(const rows_work *w, const rows_tile *tile, const void **pointers);

/* Input rows or columns, as they are turned, under `outputs` rows or columns of output. */
int64_t conv_rows_reach(const fonio_conv_plan *plan, const rows_numbers *n, int axis, int64_t outputs);

/* Whether the taps of a kernel row are taken together; see rows_sum.c. */
bool conv_rows_join_taps(const fonio_conv_plan *plan, const rows_numbers *n);

/* Whether whole tiles are a vector and a half of a panel of so many output channels, with as many terms at once. */
bool conv_rows_take_half(const fonio_conv_plan *plan, const rows_numbers *n, int64_t terms, int64_t columns);

/* All of the sum for the piece's block and output channels. */
void conv_rows_sum(rows_work *w);

#endif
