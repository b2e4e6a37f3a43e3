/* The input gradient of one pixel by a kernel of one tap: a matrix times a vector, which takes as long as the weights
 * take to come in. So they are read as they are, once; to pack them would take several times as long. A piece is some
 * channels of one image. */
#include "base/cpu.h"
#include "conv/plan.h"

/* A piece should last long enough to be worth handing to a thread. */
#define PIECE_BYTES (5 << 19)

/* No fewer than the lanes of any vector. */
#define LEAST_CHANNELS 64

static bool applicable(const fonio_conv_problem *p) {
  bool one = p->in_height == 1 && p->in_width == 1 && p->kernel_height == 1 && p->kernel_width == 1;
  return one && !conv_pads(p) && p->groups == 1 && p->in_channels >= LEAST_CHANNELS && p->out_channels > 0 &&
         p->weight_strides[1] == 1;
}

static int64_t weight_bytes(const fonio_conv_problem *p) {
  return p->in_channels * p->out_channels * (int64_t)fonio_dtype_bytes(p->dtype);
}

static double cost(const fonio_conv_plan *plan) {
  return 300 + (double)weight_bytes(&plan->problem) / 24 + (double)plan->problem.in_channels;
}

static int64_t pieces_of_image(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  return conv_max(1, conv_min(p->in_channels / LEAST_CHANNELS, weight_bytes(p) / PIECE_BYTES));
}

static void prepare(fonio_conv_plan *plan) {
  plan->blocks.channels = conv_ceil_div(plan->problem.in_channels, pieces_of_image(plan));
  plan->workspace_bytes = plan->blocks.channels * conv_element_bytes(plan);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * pieces_of_image(plan);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_problem *p = &plan->problem;
  int64_t count = pieces_of_image(plan), part = conv_take(&piece, count), bytes = (int64_t)fonio_dtype_bytes(p->dtype);
  int64_t first = p->in_channels * part / count, end = p->in_channels * (part + 1) / count;
  kernel_vector job = {
      .rows = p->out_channels,
      .columns = end - first,
      .row_stride = p->weight_strides[0],
      .vector_stride = p->output_strides[1],
      .matrix = conv_at(run->buffers->weight, first * bytes),
      .vector = conv_at(run->buffers->grad_output, conv_output_offset(plan, piece, 0)),
  };
  plan->kernels->vector_sums(&job, workspace,
                             (char *)run->buffers->grad_input + conv_input_offset(plan, piece, 0) +
                                 first * p->input_strides[1] * bytes,
                             p->input_strides[1]);
}

const conv_algorithm conv_vector_input_gradient = {
    .name = "vector",
    .direction = FONIO_CONV_INPUT_GRADIENT,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "an image and a kernel of one pixel, 64 channels and more, and those of a weight side by side",
    .cost = cost,
    .prepare = prepare,
    .pieces = pieces,
    .run_piece = run_piece,
};
