/* The derivative of the activation that a convolution ends with, from its output: what comes to the output is taken
 * back to the sum, in one pass, which may be in place. */
#include "conv/activation_gradient.h"

#include "base/cpu.h"
#include "base/error.h"
#include "base/threads.h"
#include "conv/activation_text.h"
#include "conv/plan.h"
#include "conv/problem.h"

/* Elements of a piece. */
#define PIECE_ELEMENTS (1 << 15)

typedef struct derivation {
  const fonio_conv_problem *problem;
  const char *output, *grad_output;
  char *grad_sum;
  const kernel_table *kernels;
  conv_slope slope;
  int64_t rows, blocks; /* of a piece; in an image */
} derivation;

/* Lines of a block: two dimensions of lines, then their elements. */
typedef struct block_lines {
  int64_t sizes[3], strides[3];
} block_lines;

/* Makes one line of those that follow each other without a gap. */
static void join_lines(block_lines *l) {
  for (int outer = 1; outer >= 0; outer--) {
    if (l->sizes[outer] > 1 && l->strides[outer] != l->sizes[2] * l->strides[2]) return;
    l->sizes[2] *= l->sizes[outer];
    l->sizes[outer] = 1;
  }
}

/* All channels of some rows of an image. The lines go along what lies side by side. */
static void run_piece(void *context, int64_t piece, int slot) {
  (void)slot;
  const derivation *d = context;
  const fonio_conv_problem *p = d->problem;
  const int64_t *s = p->output_strides, bytes = (int64_t)fonio_dtype_bytes(p->dtype);
  int64_t row = piece % d->blocks * d->rows, rows = conv_min(d->rows, p->out_height - row);
  block_lines l = {{p->out_channels, rows, p->out_width}, {s[1], s[2], s[3]}};
  if (s[1] == 1) l = (block_lines){{rows, p->out_width, p->out_channels}, {s[2], s[3], 1}};
  join_lines(&l);
  kernel_finish job = {p->activation, 1, l.sizes[2], {0, l.strides[2]}, &d->slope, {0, 0}};
  for (int64_t i = 0; i < l.sizes[0]; i++)
    for (int64_t j = 0; j < l.sizes[1]; j++) {
      int64_t at = (piece / d->blocks * s[0] + row * s[2] + i * l.strides[0] + j * l.strides[1]) * bytes;
      d->kernels->derive(&job, d->output + at, d->grad_output + at, d->grad_sum + at);
    }
}

fonio_status conv_activation_check(const fonio_conv_problem *p) {
  if (p->dtype != FONIO_FLOAT32 && p->dtype != FONIO_FLOAT64)
    return fail(FONIO_NOT_IMPLEMENTED, "conv2d of %s is not implemented", fonio_dtype_name(p->dtype));
  if (conv_problem_check(p) || conv_finish_check(p, FONIO_CONV_FORWARD)) return fonio_last_status();
  bool follows = p->activation <= FONIO_LEAKY_RELU || p->activation == FONIO_SIGMOID || p->activation == FONIO_TANH;
  if (follows && (p->activation != FONIO_LEAKY_RELU || p->slope >= 0)) return FONIO_OK;
  char name[64];
  activation_part_print(&(activation_part){p->activation, p->slope, 1}, name);
  return fail(FONIO_NOT_IMPLEMENTED, "the output of %s does not tell its derivative: that needs the sum before it",
              name);
}

fonio_status fonio_conv_activation_gradient(const fonio_conv_problem *problem, const void *output,
                                            const void *grad_output, void *grad_sum) {
  if (!problem || !output || !grad_output || !grad_sum) return fail_given_null("fonio_conv_activation_gradient");
  if (conv_activation_check(problem)) return fonio_last_status();
  fonio_conv_problem with_slope = *problem;
  if (problem->activation == FONIO_NO_ACTIVATION) with_slope.slope = 1; /* a leaky_relu that changes nothing */
  int64_t row = conv_max(1, problem->out_channels * problem->out_width);
  derivation d = {
      .problem = problem,
      .output = output,
      .grad_output = grad_output,
      .grad_sum = grad_sum,
      .kernels = kernel_table_for(problem->dtype, cpu_isa_in_use()),
      .slope = conv_slope_of(&with_slope),
      .rows = conv_max(1, PIECE_ELEMENTS / row),
  };
  d.blocks = conv_ceil_div(problem->out_height, d.rows);
  int64_t pieces = problem->batch * d.blocks;
  double cost = (double)problem->batch * (double)problem->out_height * (double)row / d.kernels->lanes;
  threads_parallel_for(pieces, cost, threads_wanted(pieces, cost), run_piece, &d);
  return FONIO_OK;
}
