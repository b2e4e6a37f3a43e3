/* What the files of Winograd's algorithm share: winograd_plan.c has the numbers that follow from a problem, the blocks
 * and what they cost, winograd.c does a piece of work. */
#ifndef CONV_WINOGRAD_H
#define CONV_WINOGRAD_H

#include "conv/plan.h"
#include "conv/tile_lines.h"

/* The numbers that follow from a plan. */
typedef struct winograd {
  kernel_winograd_axis axes[2];
  int alpha, m;                  /* inputs and outputs along a side of a tile, or along a line */
  int elements;                  /* of a tile */
  bool line;                     /* along one of the axes there is nothing to transform */
  int64_t parts;                 /* of the kernel */
  tile_axis lines[2];            /* of tiles */
  int64_t rows, columns;         /* of tiles, in all interleaved images */
  int64_t terms;                 /* of the sums, at the most: the input channels of the group, once for each part */
  int64_t products;              /* terms of the sums of all elements of a tile */
  int64_t in_pitch, out_pitch;   /* of a row of V and of M: one tile's terms, or channels */
  int64_t in_stride, out_stride; /* from one element to the next */
  int64_t out_channels;          /* of the group, rounded up to whole vectors */
  int64_t pass; /* channels that are transformed together: a cache line of them, so that lines of V are written whole */
  bool joined;  /* few channels under a stride: all terms are transformed together, channel by channel */
  int64_t pixel;             /* of a strip of the inputs */
  bool whole;                /* blocks are whole rows of tiles, and strips go through all interleaved columns */
  int64_t in_step, out_step; /* pixels of a strip from one column of a tile to the next */
  int64_t run_tiles;
  int64_t strip_pitch, strip_margin; /* tiles may begin a column before their strip */
  int64_t v_elements, m_elements, strip_elements;
} winograd;

/* Longer ones go through all interleaved columns, where these have no more tiles. */
#define MOST_WHOLE 64

winograd conv_winograd_numbers(const fonio_conv_plan *plan);

int64_t conv_winograd_blocks_of_tiles(const fonio_conv_plan *plan, const winograd *w);
int64_t conv_winograd_blocks_of_channels(const fonio_conv_plan *plan, const winograd *w);

/* Whether all blocks of channels share one V, which pieces of work make before: the last ones are then the products. */
bool conv_winograd_shares(const fonio_conv_plan *plan, const winograd *w);

/* The mean square of the errors of tiles of 6 inputs, to that of a plain sum. */
double conv_winograd_error(const fonio_conv_problem *p, const kernel_winograd_axis axes[2]);

/* What a conv_algorithm asks for, of tiles of 6 x 6 inputs and of 4 x 4. */
bool conv_winograd4_applicable(const fonio_conv_problem *p);
bool conv_winograd2_applicable(const fonio_conv_problem *p);
double conv_winograd4_cost(const fonio_conv_plan *plan);
double conv_winograd2_cost(const fonio_conv_plan *plan);
void conv_winograd_prepare(fonio_conv_plan *plan);
bool conv_winograd_packs_alike(const fonio_conv_problem *a, const fonio_conv_problem *b);
bool conv_winograd_pack(const fonio_conv_plan *plan, const void *weight, void *packed);

#endif
