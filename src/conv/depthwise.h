/* Depthwise convolution: groups == in_channels. What its algorithms share: depthwise_planes.c for NCHW,
 * depthwise_pixels.c for channels_last, depthwise_turned.c for small planes, which are turned into pixels,
 * depthwise_fours.c for the smallest with a stride, depthwise_pairs.c for the input gradient with a stride. */
#ifndef CONV_DEPTHWISE_H
#define CONV_DEPTHWISE_H

#include "conv/plan.h"

static inline bool conv_is_depthwise(const fonio_conv_problem *p) {
  return p->groups == p->in_channels && p->groups > 1;
}

static inline int64_t conv_depthwise_taps(const fonio_conv_plan *plan) {
  return plan->problem.kernel_height * plan->problem.kernel_width;
}

static inline double conv_depthwise_products(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  return (double)p->out_channels * (double)p->out_height * (double)p->out_width * (double)conv_depthwise_taps(plan);
}

/* How far the kernel reaches from its first row or column. */
static inline int64_t conv_depthwise_reach(const kernel_conv *g, int dimension) {
  return ((dimension ? g->kernel_width : g->kernel_height) - 1) * g->dilation[dimension];
}

/* Padded input rows under so many rows of output. */
static inline int64_t conv_depthwise_input_rows(const fonio_conv_plan *plan, int64_t rows) {
  return (rows - 1) * plan->geometry.stride[0] + conv_depthwise_reach(&plan->geometry, 0) + 1;
}

/* Those of `kernels`, or where half a vector of AVX-512 holds a row of so many columns, those of half vectors: they are
 * as quick. */
const kernel_table *conv_depthwise_kernels(const kernel_table *kernels, fonio_dtype dtype, int64_t columns);

/* The weights as [block of channels][tap][channel of the block], the last block filled up with zeros; returns whether
 * all are finite. */
bool conv_depthwise_pack(const fonio_conv_plan *plan, const void *weight, int64_t block, void *packed);

/* `count` of its taps from number `place` on, which lie at from[i], in elements from the channel's first weight. */
bool conv_depthwise_pack_taps(const fonio_conv_plan *plan, const void *weight, int64_t block, int64_t place,
                              int64_t count, const int64_t *from, void *packed);

/* Some output rows over pixels whose channels lie side by side: the image's, or such as were turned. */
typedef struct depthwise_rows {
  const kernel_conv *conv; /* with the strides of `output` */
  int64_t first, count;    /* output rows */
  int64_t channels;        /* as many as the weights have, tap by tap */
  const void *weights, *bias;
  void *output;      /* row 0 */
  const void *zeros; /* a pixel of them */
  /* Room for a list for each kernel row, and for a pointer to each pixel of the padded input rows. */
  const void ***rows, **pointers;
} depthwise_rows;

/* Fills in the pointers: `input` is row 0 of the image, its rows and columns so many bytes apart. */
void conv_depthwise_point(const fonio_conv_plan *plan, const depthwise_rows *job, const char *input, int64_t row_bytes,
                          int64_t column_bytes);

void conv_depthwise_run(const fonio_conv_plan *plan, const depthwise_rows *job);

#endif
