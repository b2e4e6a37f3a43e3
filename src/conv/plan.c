/* Plans: an algorithm chosen for a problem, its tables made, and its runs. */
#include "conv/plan.h"
#include "conv/problem.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"

/* ---- Making ---- */

/* Without images or channels there is nothing to compute, to pack or to divide by: that is left to the plain loops. */
static bool can_do(const conv_algorithm *algorithm, const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  bool empty = p->batch == 0 || p->in_channels == 0 || p->out_channels == 0;
  return algorithm->direction == plan->direction && (!empty || !algorithm->pack) && algorithm->applicable(p);
}

/* The algorithm of that name. */
static fonio_status take_named(fonio_conv_plan *plan, const char *name) {
  for (int i = 0; conv_algorithms[i]; i++)
    if (strcmp(conv_algorithms[i]->name, name) == 0) {
      if (!can_do(conv_algorithms[i], plan))
        return fail(FONIO_VALUE_ERROR, "the algorithm '%s' cannot do this problem", name);
      plan->algorithm = conv_algorithms[i];
      return FONIO_OK;
    }
  return fail(FONIO_VALUE_ERROR, "there is no algorithm '%s'", name);
}

/* The cheapest one that can do it and is exact enough. */
static void choose(fonio_conv_plan *plan) {
  double least = 0;
  for (int i = 0; conv_algorithms[i]; i++) {
    if (!can_do(conv_algorithms[i], plan) || conv_algorithms[i]->accuracy > plan->accuracy) continue;
    double cost = conv_algorithms[i]->cost(plan);
    if (plan->algorithm && cost >= least) continue;
    plan->algorithm = conv_algorithms[i];
    least = cost;
  }
}

/* What follows from the algorithm. */
static void take_algorithm(fonio_conv_plan *plan, const conv_algorithm *algorithm) {
  plan->algorithm = algorithm;
  algorithm->prepare(plan);
  plan->pieces = algorithm->pieces(plan);
  plan->cycles = algorithm->cost(plan) * (double)plan->problem.batch;
}

static fonio_status fill_plan(fonio_conv_plan *plan, const char *algorithm, fonio_accuracy accuracy) {
  plan->kernels = kernel_table_for(plan->problem.dtype, cpu_isa_in_use());
  plan->accuracy = accuracy ? accuracy : fonio_get_accuracy();
  fonio_status status = conv_geometry_init(plan);
  if (status) return status;
  if (!algorithm)
    choose(plan);
  else if ((status = take_named(plan, algorithm)))
    return status;
  take_algorithm(plan, plan->algorithm);
  return FONIO_OK;
}

/* The options that the caller knew of when it was compiled; without struct_bytes, all. */
static fonio_conv_plan_options read_options(const fonio_conv_plan_options *options) {
  fonio_conv_plan_options known = {0};
  if (!options) return known;
  size_t bytes = options->struct_bytes && options->struct_bytes < sizeof known ? options->struct_bytes : sizeof known;
  memcpy(&known, options, bytes);
  return known;
}

/* A stride that steps over all of the image may be so large that products with it do not fit: the least one that does
 * so serves as well. */
static void shorten_stride(fonio_conv_problem *p, int axis) {
  int64_t size = axis ? p->in_width : p->in_height, kernel = axis ? p->kernel_width : p->kernel_height;
  int64_t steps = size + p->padding[2 * axis] + p->padding[2 * axis + 1] - p->dilation[axis] * (kernel - 1);
  p->stride[axis] = conv_min(p->stride[axis], steps);
}

fonio_conv_plan *fonio_conv_plan_new(const fonio_conv_problem *problem, const fonio_conv_plan_options *options) {
  if (!problem) return fail_given_null("fonio_conv_plan_new"), NULL;
  fonio_conv_plan_options o = read_options(options);
  if ((unsigned)o.accuracy > FONIO_ACCURACY_FAST)
    return fail_null(FONIO_VALUE_ERROR, "there is no accuracy %d", (int)o.accuracy);
  if ((unsigned)o.direction > FONIO_CONV_WEIGHT_GRADIENT)
    return fail_null(FONIO_VALUE_ERROR, "there is no direction %d of a convolution", (int)o.direction);
  if (problem->dtype != FONIO_FLOAT32 && problem->dtype != FONIO_FLOAT64)
    return fail_null(FONIO_NOT_IMPLEMENTED, "conv2d of %s is not implemented", fonio_dtype_name(problem->dtype));
  if (conv_problem_check(problem) || conv_finish_check(problem, o.direction)) return NULL;
  fonio_conv_plan *plan = memory_take_zeroed(sizeof *plan);
  if (!plan) return NULL;
  plan->references = 1;
  plan->problem = *problem;
  plan->direction = o.direction;
  for (int axis = 0; axis < 2; axis++)
    shorten_stride(&plan->problem, axis);
  if (fill_plan(plan, o.algorithm, o.accuracy)) {
    fonio_conv_plan_release(plan);
    return NULL;
  }
  return plan;
}

fonio_conv_plan *conv_plan_retain(fonio_conv_plan *plan) {
  atomic_fetch_add_explicit(&plan->references, 1, memory_order_relaxed);
  return plan;
}

void fonio_conv_plan_release(fonio_conv_plan *plan) {
  if (!plan || atomic_fetch_sub_explicit(&plan->references, 1, memory_order_acq_rel) != 1) return;
  memory_give(plan->tables);
  memory_give(plan);
}

const fonio_conv_problem *fonio_conv_plan_problem(const fonio_conv_plan *plan) {
  return plan ? &plan->problem : NULL;
}

const char *fonio_conv_plan_algorithm(const fonio_conv_plan *plan) {
  return plan ? plan->algorithm->name : NULL;
}

/* Workspace of one thread: whole cache lines, so that threads do not write to the same one. */
static int64_t slot_bytes(const fonio_conv_plan *plan) {
  return conv_round_up(plan->workspace_bytes, MEMORY_ALIGNMENT);
}

int64_t fonio_conv_plan_workspace_bytes(const fonio_conv_plan *plan, int threads) {
  int64_t bytes;
  if (!plan) return 0;
  return checked_mul(slot_bytes(plan), conv_max(1, threads), &bytes) ? bytes : INT64_MAX;
}

/* ---- Running ---- */

static fonio_status check_buffers(const fonio_conv_plan *plan, const fonio_conv_buffers *b) {
  const char *missing = NULL;
  switch (plan->direction) {
  case FONIO_CONV_FORWARD:
    if (!b->input)
      missing = "input";
    else if (!b->weight && !b->packed)
      missing = "weight";
    else if (plan->problem.has_bias && !b->bias)
      missing = "bias";
    else if (plan->problem.has_residual && !b->residual)
      missing = "residual";
    else if (plan->problem.activation == FONIO_PRELU && !b->prelu)
      missing = "prelu";
    else if (!b->output)
      missing = "output";
    break;
  case FONIO_CONV_INPUT_GRADIENT:
    if (!b->weight)
      missing = "weight";
    else if (!b->grad_output)
      missing = "grad_output";
    else if (!b->grad_input)
      missing = "grad_input";
    break;
  case FONIO_CONV_WEIGHT_GRADIENT:
    if (!b->input && b->grad_weight)
      missing = "input";
    else if (!b->grad_output)
      missing = "grad_output";
    break;
  }
  if (missing) return fail(FONIO_VALUE_ERROR, "the convolution needs its %s, which is NULL", missing);
  if (b->packed && !conv_packed_fits(plan, b->packed))
    return fail(FONIO_VALUE_ERROR, "the packed weights were made for another algorithm or another weight shape");
  if (b->workspace && b->workspace_bytes < slot_bytes(plan))
    return fail(FONIO_VALUE_ERROR, "the convolution needs a workspace of %lld bytes, but got %lld",
                (long long)slot_bytes(plan), (long long)b->workspace_bytes);
  return FONIO_OK;
}

/* Zeros in an array of four dimensions and any strides. */
static void clear(void *array, const int64_t shape[4], const int64_t strides[4], int64_t bytes) {
  for (int64_t i = 0; i < shape[0]; i++)
    for (int64_t j = 0; j < shape[1]; j++)
      for (int64_t k = 0; k < shape[2]; k++)
        for (int64_t l = 0; l < shape[3]; l++)
          memset((char *)array + bytes * (i * strides[0] + j * strides[1] + k * strides[2] + l * strides[3]), 0,
                 (size_t)bytes);
}

/* Gradients add up from zero. */
static void clear_gradients(const fonio_conv_plan *plan, const fonio_conv_buffers *b) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t bytes = (int64_t)fonio_dtype_bytes(p->dtype);
  const int64_t input[4] = {p->batch, p->in_channels, p->in_height, p->in_width};
  const int64_t weight[4] = {p->out_channels, plan->geometry.in_channels, p->kernel_height, p->kernel_width};
  const int64_t bias[4] = {1, 1, 1, p->out_channels}, bias_strides[4] = {0, 0, 0, p->bias_stride};
  if (plan->direction == FONIO_CONV_INPUT_GRADIENT) clear(b->grad_input, input, p->input_strides, bytes);
  if (plan->direction != FONIO_CONV_WEIGHT_GRADIENT) return;
  if (b->grad_weight) clear(b->grad_weight, weight, p->weight_strides, bytes);
  if (b->grad_bias) clear(b->grad_bias, bias, bias_strides, bytes);
}

/* The pieces of a run, each with the workspace of the thread that does it. */
typedef struct shared_run {
  const conv_run *run;
  char *workspace;
  int64_t slot_bytes;
} shared_run;

static void run_piece(void *context, int64_t piece, int slot) {
  const shared_run *s = context;
  s->run->plan->algorithm->run_piece(s->run, piece, s->workspace ? s->workspace + slot * s->slot_bytes : NULL);
}

/* How many threads take part: as many as the workspace holds, where it is the caller's. */
static int threads_of_run(const fonio_conv_plan *plan, const fonio_conv_buffers *b) {
  int threads = threads_wanted(plan->pieces, plan->cycles);
  int64_t bytes = slot_bytes(plan);
  return b->workspace && bytes ? (int)conv_min(threads, b->workspace_bytes / bytes) : threads;
}

static void run_pieces(const conv_run *run, void *workspace, int threads) {
  shared_run shared = {run, workspace, slot_bytes(run->plan)};
  threads_parallel_for(run->plan->pieces, run->plan->cycles, threads, run_piece, &shared);
}

/* Weights that are not finite must not meet the zeros of the padding (0 * inf is nan): the plain loops leave padding
 * out. */
static void run_plain(const fonio_conv_plan *plan, const fonio_conv_buffers *buffers, const void *plain) {
  fonio_conv_plan with_plain = *plan;
  fonio_conv_buffers b = *buffers;
  if (plain) {
    kernel_conv *g = &with_plain.geometry;
    g->weight_strides[3] = 1;
    g->weight_strides[2] = g->kernel_width;
    g->weight_strides[1] = g->kernel_width * g->kernel_height;
    g->weight_strides[0] = g->weight_strides[1] * g->in_channels;
    memcpy(with_plain.problem.weight_strides, g->weight_strides, sizeof g->weight_strides);
    b.weight = plain;
  }
  take_algorithm(&with_plain, &conv_reference_forward);
  conv_run run = {&with_plain, &b, NULL};
  run_pieces(&run, NULL, threads_of_run(plan, buffers));
}

static bool pads_with_zeros(const fonio_conv_problem *p) {
  return p->padding_mode == FONIO_ZEROS && (p->padding[0] | p->padding[1] | p->padding[2] | p->padding[3]) != 0;
}

static void run_with(const fonio_conv_plan *plan, const fonio_conv_buffers *b, const void *packed, void *workspace,
                     int threads) {
  conv_run run = {plan, b, packed};
  clear_gradients(plan, b);
  run_pieces(&run, workspace, threads);
}

/* Packs the weights for this run only, beside the workspace. */
static fonio_status pack_and_run(const fonio_conv_plan *plan, const fonio_conv_buffers *b) {
  int threads = threads_of_run(plan, b);
  int64_t workspace_bytes = b->workspace ? 0 : fonio_conv_plan_workspace_bytes(plan, threads), bytes;
  if (!checked_add(workspace_bytes, plan->packed_bytes, &bytes)) bytes = INT64_MAX;
  char *memory = memory_take(bytes);
  if (!memory) return FONIO_NO_MEMORY;
  void *packed = memory + workspace_bytes;
  if (!plan->algorithm->pack(plan, b->weight, packed) && pads_with_zeros(&plan->problem))
    run_plain(plan, b, NULL);
  else
    run_with(plan, b, packed, b->workspace ? b->workspace : memory, threads);
  memory_give(memory);
  return FONIO_OK;
}

fonio_status fonio_conv_plan_run(const fonio_conv_plan *plan, const fonio_conv_buffers *buffers) {
  if (!plan || !buffers) return fail_given_null("fonio_conv_plan_run");
  fonio_status status = check_buffers(plan, buffers);
  if (status) return status;
  const fonio_conv_packed *packed = buffers->packed;
  if (packed && !packed->finite && pads_with_zeros(&plan->problem)) {
    run_plain(plan, buffers, packed->plain);
    return FONIO_OK;
  }
  if (plan->packed_bytes && !packed) return pack_and_run(plan, buffers);
  int threads = threads_of_run(plan, buffers);
  void *own = NULL;
  if (!buffers->workspace && plan->workspace_bytes &&
      !(own = memory_take(fonio_conv_plan_workspace_bytes(plan, threads))))
    return FONIO_NO_MEMORY;
  run_with(plan, buffers, packed ? packed->data : NULL, own ? own : buffers->workspace, threads);
  memory_give(own);
  return FONIO_OK;
}
