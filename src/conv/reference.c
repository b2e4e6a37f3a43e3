/* The plain loops as algorithms: the oracle of every other, and the last resort. */
#include "conv/plan.h"

static bool always(const fonio_conv_problem *problem) {
  (void)problem;
  return true;
}

/* About one multiply-add in 8 cycles. */
static double cost(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  return 8.0 * (double)p->out_channels * (double)p->out_height * (double)p->out_width *
         (double)plan->geometry.in_channels * (double)p->kernel_height * (double)p->kernel_width;
}

static void prepare(fonio_conv_plan *plan) {
  plan->packed_bytes = plan->workspace_bytes = 0;
}

static int64_t images_and_groups(const fonio_conv_plan *plan) {
  return plan->problem.batch * plan->problem.groups;
}

static void run_forward(const conv_run *run, int64_t piece, void *workspace) {
  (void)workspace;
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_buffers *b = run->buffers;
  int64_t image = piece / plan->problem.groups, group = piece % plan->problem.groups;
  plan->kernels->reference_forward(&plan->geometry, conv_at(b->input, conv_input_offset(plan, image, group)),
                                   conv_at(b->weight, conv_weight_offset(plan, group)),
                                   conv_at(b->bias, conv_bias_offset(plan, group)), plan->problem.bias_stride,
                                   (char *)b->output + conv_output_offset(plan, image, group));
  conv_finish_pixels(run, image, group * plan->geometry.out_channels, plan->geometry.out_channels, 0,
                     plan->problem.out_height * plan->problem.out_width);
}

static void run_input_gradient(const conv_run *run, int64_t piece, void *workspace) {
  (void)workspace;
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_buffers *b = run->buffers;
  int64_t image = piece / plan->problem.groups, group = piece % plan->problem.groups;
  plan->kernels->reference_input_gradient(&plan->geometry,
                                          conv_at(b->grad_output, conv_output_offset(plan, image, group)),
                                          conv_at(b->weight, conv_weight_offset(plan, group)),
                                          (char *)b->grad_input + conv_input_offset(plan, image, group));
}

/* A group is one piece, with all images. */
static int64_t groups(const fonio_conv_plan *plan) {
  return plan->problem.groups;
}

static void run_weight_gradient(const conv_run *run, int64_t group, void *workspace) {
  (void)workspace;
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_buffers *b = run->buffers;
  const void *grad_output = conv_at(b->grad_output, conv_output_offset(plan, 0, group));
  kernel_order order = conv_order(plan);
  if (b->grad_weight)
    plan->kernels->reference_weight_gradient(&plan->geometry, &order,
                                             conv_at(b->input, conv_input_offset(plan, 0, group)), grad_output,
                                             (char *)b->grad_weight + conv_weight_offset(plan, group));
  if (b->grad_bias)
    plan->kernels->reference_bias_gradient(&plan->geometry, &order, grad_output,
                                           (char *)b->grad_bias + conv_bias_offset(plan, group),
                                           plan->problem.bias_stride);
}

const conv_algorithm conv_reference_forward = {
    .name = "reference",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = always,
    .cost = cost,
    .prepare = prepare,
    .pieces = images_and_groups,
    .run_piece = run_forward,
};

const conv_algorithm conv_reference_input_gradient = {
    .name = "reference_input_gradient",
    .direction = FONIO_CONV_INPUT_GRADIENT,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = always,
    .cost = cost,
    .prepare = prepare,
    .pieces = images_and_groups,
    .run_piece = run_input_gradient,
};

const conv_algorithm conv_reference_weight_gradient = {
    .name = "reference_weight_gradient",
    .direction = FONIO_CONV_WEIGHT_GRADIENT,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = always,
    .cost = cost,
    .prepare = prepare,
    .pieces = groups,
    .run_piece = run_weight_gradient,
};
