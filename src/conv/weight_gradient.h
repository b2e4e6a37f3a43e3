/* The gradient of the weight as a matrix product whose sum runs over output pixels: how it is cut, and the work on one
 * piece. weight_gradient.c makes the choices, weight_gradient_run.c does the work. */
#ifndef CONV_WEIGHT_GRADIENT_H
#define CONV_WEIGHT_GRADIENT_H

#include "conv/plan.h"

/* What lies in the lanes of a vector. */
typedef enum gradient_lanes {
  LANES_OF_CHANNELS, /* the output channels of a group: an input is the same for all */
  LANES_OF_GROUPS    /* a channel of each group: each lane has an input of its own */
} gradient_lanes;

/* Where the inputs are read. */
typedef enum gradient_source {
  SOURCE_IMAGE,  /* in the image itself */
  SOURCE_INSIDE, /* there too, tap by tap: where a tap reads the zeros of the padding, it is left out */
  SOURCE_PLANES, /* in a padded copy of some rows, [image][channel][row][column] */
  SOURCE_PIXELS  /* in a padded copy of some rows, [image][row][column][channel] */
} gradient_source;

/* The numbers that follow from a problem. A piece of work is a block of weights, some input channels times some kernel
 * rows times some panels of output channels, and a part of the sums. */
typedef struct gradient_numbers {
  gradient_lanes lanes;
  gradient_source source;
  bool deal_input, deal_output; /* the channels of a pixel lie side by side, and are dealt out rather than turned */
  kernel_order order;
  int64_t width;                                    /* lanes of a panel */
  int64_t all_lanes;                                /* that panels divide: output channels of a group, or groups */
  int64_t lane_panels;                              /* that cover them */
  int64_t panels;                                   /* that share the inputs of a piece */
  int64_t channels;                                 /* input channels of a piece */
  int64_t kernel_rows;                              /* of a piece */
  int64_t outer;                                    /* problems beside each other: groups, or panels of groups */
  int64_t panel_blocks, channel_blocks, row_blocks; /* blocks of one of them */
  int64_t skip[2]; /* between the rows and columns of the copy: a kernel of one tap skips what the stride does */
  int64_t pitch;   /* elements of a row of the copy */
  int64_t pixel;   /* elements of a pixel of the copy */
} gradient_numbers;

/* Lanes of a panel that has to hold `count`, if one can. */
int64_t conv_gradient_width(const fonio_conv_plan *plan, gradient_lanes lanes, int64_t count);

/* Bytes of what should stay in the second-level cache: what is copied, and the sums. */
int64_t conv_gradient_near(void);

/* Cycles that the products of one pixel of a panel take, at the least. */
double conv_gradient_cycles(int64_t rows, int64_t vectors, bool by_lane);

gradient_numbers conv_gradient_numbers(const fonio_conv_plan *plan, gradient_lanes lanes);

/* Rows and columns of the copy under `outputs` rows or columns of output and so many taps. */
int64_t conv_gradient_reach(const fonio_conv_plan *plan, const gradient_numbers *n, int axis, int64_t outputs,
                            int64_t taps);

/* Elements of the copy for a full block of pixels. */
int64_t conv_gradient_copy(const fonio_conv_plan *plan, const gradient_numbers *n);

/* Weights of a piece for one output channel. */
static inline int64_t conv_gradient_rows(const fonio_conv_plan *plan, const gradient_numbers *n) {
  return n->channels * n->kernel_rows * plan->problem.kernel_width;
}

/* Panels that are turned at once: of channels that lie side by side several, so that memory is read in its order. */
static inline int64_t conv_gradient_kept(const gradient_numbers *n) {
  if (!n->deal_output) return 1;
  return n->lanes == LANES_OF_GROUPS ? n->panels : conv_min(n->panels, 4);
}

/* The workspace of a piece. Offsets in bytes. */
typedef struct gradient_layout {
  int64_t offsets, panel, copy, results, bytes;
  int64_t sums, result_bytes; /* of the results: biases, then the sums */
} gradient_layout;

gradient_layout conv_gradient_layout(const fonio_conv_plan *plan, const gradient_numbers *n);

/* Blocks of weights. Where the sums have several parts, those are pieces of their own: their results stay in the shared
 * workspace until the last one comes to add them. */
static inline int64_t conv_gradient_blocks(const gradient_numbers *n) {
  return n->outer * n->panel_blocks * n->channel_blocks * n->row_blocks;
}

/* What of a gradient's sums is stored together: of `lanes` output channels, which lie side by side in the sums, `count`
 * weights evenly spaced. */
typedef struct gradient_store {
  const fonio_conv_plan *plan;
  int64_t lanes, out_stride;    /* of the weight, between output channels */
  int64_t pixel, count, stride; /* between weights: of the sums, how many, of the weight */
} gradient_store;

/* Pixels that lie evenly spaced, turned: the channels of each side by side. */
typedef struct gradient_turn {
  const fonio_conv_plan *plan;
  int64_t channels, channel_stride;
  int64_t pixels, pixel_stride;
  int64_t width; /* elements from one turned pixel to the next: whole vectors, zeros where there is no channel */
} gradient_turn;

void conv_gradient_turn(const gradient_turn *job, const void *from, char *to);

void conv_gradient_store(const gradient_store *job, const char *sums, char *to);

/* Multiply-adds that make a piece worth handing to a thread, and pieces that are enough. */
enum { GRADIENT_PIECE_PRODUCTS = 1 << 21, GRADIENT_PIECES_ENOUGH = 16 };

/* The results of the parts of a block, where there are several: [block][part] in the shared workspace. */
typedef struct gradient_parts {
  int64_t parts, bytes; /* of the results of one */
} gradient_parts;

char *conv_gradient_results(const conv_run *run, gradient_parts p, int64_t block, int64_t part);

/* Adds the results of all others to those of the first part. */
void conv_gradient_add_parts(const conv_run *run, gradient_parts p, int64_t block);

/* So many elements and no more than a cache line or two beyond: an odd number of lines, so that what lies so far apart
 * does not fall on the same places of the cache. */
static inline int64_t conv_gradient_odd_lines(int64_t elements, int64_t bytes) {
  return (conv_ceil_div(elements * bytes, 64) | 1) * 64 / bytes;
}

void conv_gradient_run_last(const conv_run *run, const gradient_numbers *n, int64_t block);

void conv_gradient_run_piece(const conv_run *run, const gradient_numbers *n, int64_t piece, void *workspace);

#endif
