/* What the algorithms for a weight's gradient have in common: matrix products whose sum runs over output pixels.
 *
 * A piece of work is a block of weights and a part of the sums. Its results are a block of memory, biases and sums in
 * the algorithm's own order: at the end of the workspace, or, where there are several parts, in the shared workspace,
 * where they stay until the last pieces come to add them up and store them. */
#ifndef CONV_WEIGHT_GRADIENT_H
#define CONV_WEIGHT_GRADIENT_H

#include "conv/plan.h"

/* ---- How much at once ---- */

/* Lanes of a panel that has to hold `count`, if one can; `by_lane`: each lane has an input of its own. */
int64_t conv_gradient_width(const fonio_conv_plan *plan, bool by_lane, int64_t count);

/* Bytes of what should stay in the second-level cache: what is copied, and the sums. */
int64_t conv_gradient_near(void);

/* Cycles that the products of one pixel of a panel take, at the least. */
double conv_gradient_cycles(int64_t rows, int64_t vectors, bool by_lane);

/* Multiply-adds that make a piece worth handing to a thread, and pieces that are enough. */
enum { GRADIENT_PIECE_PRODUCTS = 1 << 21, GRADIENT_PIECES_ENOUGH = 16 };

/* So many elements and no more than a cache line or two beyond: an odd number of lines, so that what lies so far apart
 * does not fall on the same places of the cache. */
static inline int64_t conv_gradient_odd_lines(int64_t elements, int64_t bytes) {
  return (conv_ceil_div(elements * bytes, 64) | 1) * 64 / bytes;
}

/* ---- Pieces ---- */

/* Fills in the plan's sums and workspaces: `workspace_bytes` are those of a piece, without its results. */
void conv_gradient_prepare(fonio_conv_plan *plan, conv_sums sums, int64_t workspace_bytes);

/* The algorithms' `pieces` and `last_pieces`. A piece's number is that of its block, then that of its part: the blocks
 * of a part follow each other, as they read the same pixels. */
int64_t conv_gradient_pieces(const fonio_conv_plan *plan);
int64_t conv_gradient_last_pieces(const fonio_conv_plan *plan);

/* Where the results of a piece lie. */
char *conv_gradient_results(const conv_run *run, int64_t block, int64_t part, void *workspace);

/* Adds the results of all others to those of the first part. */
void conv_gradient_add_parts(const conv_run *run, int64_t block);

/* Blocks of so many input and output channels of a group, number by number. */
typedef struct gradient_block {
  int64_t group;
  int64_t in_channel, in_channels, out_channel, out_channels; /* of the group */
  bool weight, bias;                                          /* what there is to compute */
} gradient_block;

gradient_block conv_gradient_block(const conv_run *run, int64_t block, int64_t in_channels, int64_t out_channels);

/* The gradient of the block's first weight. */
char *conv_gradient_weight(const conv_run *run, const gradient_block *block);

/* ---- What goes in and what comes out ---- */

/* Pixels that lie evenly spaced, turned: the channels of each side by side. */
typedef struct gradient_turn {
  const fonio_conv_plan *plan;
  int64_t channels, channel_stride;
  int64_t pixels, pixel_stride;
  int64_t width; /* elements from one turned pixel to the next: whole vectors, zeros where there is no channel */
} gradient_turn;

void conv_gradient_turn(const gradient_turn *job, const void *from, char *to);

/* What of a gradient's sums is stored together: of `lanes` output channels, which lie side by side in the sums, `count`
 * weights evenly spaced. */
typedef struct gradient_store {
  const fonio_conv_plan *plan;
  int64_t lanes, out_stride;    /* of the weight, between output channels */
  int64_t pixel, count, stride; /* between weights: of the sums, how many, of the weight */
} gradient_store;

void conv_gradient_store(const gradient_store *job, const char *sums, char *to);

/* The biases of `count` channels, counted through all groups, from `channel` on, `apart` from each other. */
void conv_gradient_store_biases(const conv_run *run, int64_t channel, int64_t apart, int64_t count, const char *from);

#endif
