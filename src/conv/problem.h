/* A convolution while its arguments are being checked: what fonio_conv_problem_init gathers, step by step, from arrays
 * and arguments. */
#ifndef CONV_PROBLEM_H
#define CONV_PROBLEM_H

#include "fonio/conv.h"

typedef struct problem_call {
  const fonio_array *input, *weight, *bias; /* bias may be NULL */
  fonio_conv2d_args args;                   /* pairs resolved */
  fonio_padding_mode mode;
  bool by_name; /* the padding is a name: torch checks in another order then */
  bool batched;
  int64_t input_shape[4]; /* with the batch dimension */
  int64_t input_strides[4];
  int64_t weight_strides[4];
  int64_t padding[4]; /* top, bottom, left, right, once resolved */
} problem_call;

/* The input as torch's convolution sees it: with a padding mode, or an uneven "same", torch pads in a step of its own
 * and convolves what comes out of that, so its texts and its choice of a memory format go by the padded sizes.
 * `padding` is what is left for the convolution. */
typedef struct padded_input {
  int64_t shape[4];
  int64_t padding[2];
} padded_input;

/* F.pad's checks that need no padding: rank and empty dimensions, for the modes other than zeros. */
fonio_status problem_check_padding_input(const problem_call *call);

/* That F.pad computes the dtype in this mode. */
fonio_status problem_check_padding_dtype(const problem_call *call);

/* That the bias has the input's dtype. */
fonio_status problem_check_bias_dtype(const problem_call *call);

/* That weight and bias have the dtype of a complex input: torch asks this before anything else of the convolution. */
fonio_status problem_check_complex_dtype(const problem_call *call);

/* That all dtypes are the same, and one that is computed: the last checks of all. */
fonio_status problem_check_dtypes(const problem_call *call);

/* Resolves call->padding, with the checks that torch makes before the convolution itself. */
fonio_status problem_resolve_padding(problem_call *call, padded_input *padded);

/* The checks of at::convolution, in its order. */
fonio_status problem_check_convolution(const problem_call *call, const padded_input *padded);

/* dilation * (kernel - 1): how far the kernel reaches from its first tap. */
fonio_status problem_kernel_reach(const problem_call *call, int64_t reach[2]);

/* The output's sizes, and its strides: contiguous or channels_last, as torch decides. */
fonio_status problem_output_shape(const problem_call *call, const padded_input *padded, int64_t shape[4]);
fonio_status problem_output_strides(const problem_call *call, const padded_input *padded, const int64_t shape[4],
                                    int64_t strides[4]);

/* Whether a plan can be made of a problem that a host may have changed by hand. FONIO_VALUE_ERROR. */
fonio_status conv_problem_check(const fonio_conv_problem *problem);

#endif
