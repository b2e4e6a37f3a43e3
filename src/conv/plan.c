/* Plans: an algorithm chosen for a problem, its tables made. */
#include "conv/plan.h"
#include "conv/problem.h"
#include "conv/wisdom.h"

#include <string.h>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/memory.h"

/* Plans that there are: with the last one goes what runs keep to pack in. */
static _Atomic int64_t plans;

static fonio_conv_plan *new_plan(const fonio_conv_problem *problem) {
  fonio_conv_plan *plan = memory_take_zeroed(sizeof *plan);
  if (!plan) return NULL;
  atomic_fetch_add_explicit(&plans, 1, memory_order_relaxed);
  plan->references = 1;
  plan->asked = plan->problem = *problem;
  return plan;
}

bool conv_is_empty(const fonio_conv_problem *p) {
  return p->batch == 0 || p->in_channels == 0 || p->out_channels == 0;
}

bool conv_can_do(const conv_algorithm *algorithm, const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  return algorithm->direction == plan->direction && !(algorithm->pack && conv_is_empty(p)) && algorithm->applicable(p);
}

double conv_packing_cost(const fonio_conv_plan *plan) {
  /* Costs count the time of two vectors' products as a cycle, which wide vectors make longer. */
  double wide = plan->kernels->lanes * (double)fonio_dtype_bytes(plan->problem.dtype) > 32 ? 2 : 1;
  /* What the third-level cache does not hold goes to memory and comes back. */
  double way = plan->packed_bytes > conv_min(cpu_cache_sizes()->l3_bytes * 3 / 8, 12 << 20) ? 2 : 1;
  /* An input gradient's output channels lie side by side where there is one tap, vectors are dealt out of those that
   * lie four apart, and others are picked one by one. */
  int64_t apart = plan->problem.weight_strides[0];
  double turned = !plan->part || apart == 4 ? 1 : apart == 1 ? 0.8 : 1.3;
  return plan->packings * plan->algorithm->packing * turned * way / wide * (double)plan->packed_bytes;
}

/* What follows from the algorithm. Returns the cycles that an image is expected to take. */
static double take(fonio_conv_plan *plan, const conv_algorithm *algorithm, const char *why) {
  plan->algorithm = algorithm;
  plan->why = why;
  algorithm->prepare(plan);
  plan->pieces = algorithm->pieces(plan);
  double cycles = algorithm->cost(plan);
  plan->cycles = cycles * (double)plan->problem.batch;
  return cycles;
}

/* What a thread may need beside packed weights, whatever the image: very wide rows and far apart taps would make some
 * algorithms ask for more. */
static bool is_bounded(const fonio_conv_plan *plan) {
  double channels = (double)plan->problem.in_channels + (double)plan->problem.out_channels;
  return (double)fonio_conv_plan_workspace_bytes(plan, 1) <= (1 << 20) + (1 << 13) * channels;
}

bool conv_may_take(const conv_algorithm *algorithm, const fonio_conv_plan *plan) {
  fonio_conv_plan other;
  if (!conv_can_do(algorithm, plan)) return false;
  conv_plan_other(plan, algorithm, &other);
  return is_bounded(&other);
}

/* The algorithm of that name. */
static fonio_status take_named(fonio_conv_plan *plan, const char *name) {
  for (int i = 0; conv_algorithms[i]; i++)
    if (strcmp(conv_algorithms[i]->name, name) == 0) {
      if (!conv_may_take(conv_algorithms[i], plan))
        return fail(FONIO_VALUE_ERROR, "the algorithm '%s' cannot do this problem", name);
      take(plan, conv_algorithms[i], "asked for by name");
      return FONIO_OK;
    }
  return fail(FONIO_VALUE_ERROR, "there is no algorithm '%s'", name);
}

/* The cheapest one that can do it and is exact enough; of those that pack weights, if `packing`. The first of those
 * that cost the same but for rounding, which a batch changes. What is dear without its packing is not prepared, which
 * takes longer than to tell the cost. */
static void take_cheapest(fonio_conv_plan *plan, bool packing) {
  const fonio_conv_plan open = *plan;
  const char *why = plan->packings > 0 ? "taken: the fewest, packing counted" : "taken: the fewest";
  double least = 0;
  for (int i = 0; conv_algorithms[i]; i++) {
    const conv_algorithm *algorithm = conv_algorithms[i];
    if (!conv_can_do(algorithm, &open) || algorithm->accuracy > open.accuracy || (packing && !algorithm->pack))
      continue;
    fonio_conv_plan candidate = open;
    candidate.algorithm = algorithm;
    if (plan->algorithm && algorithm->cost(&candidate) >= least * (1 - 1e-9)) continue;
    double cycles = take(&candidate, algorithm, why) + conv_packing_cost(&candidate);
    if ((plan->algorithm && cycles >= least * (1 - 1e-9)) || !is_bounded(&candidate)) continue;
    *plan = candidate;
    least = cycles;
  }
}

/* The one that is remembered, or the cheapest; to measure, the fastest of those that give the same bits. */
static fonio_status choose(fonio_conv_plan *plan, bool measure) {
  const fonio_conv_plan open = *plan;
  const conv_algorithm *algorithm = conv_wisdom_find(plan);
  if (algorithm) return take(plan, algorithm, "taken: by wisdom"), FONIO_OK;
  take_cheapest(plan, false);
  if (!measure || plan->direction != FONIO_CONV_FORWARD || !plan->algorithm->pack) return FONIO_OK;
  conv_measured measured;
  fonio_status status = conv_measure(plan, &algorithm, &measured);
  if (status) return status;
  *plan = open;
  take(plan, algorithm, "taken: the fastest when measured");
  plan->measured = measured;
  return conv_wisdom_keep(plan);
}

void conv_plan_other(const fonio_conv_plan *plan, const conv_algorithm *algorithm, fonio_conv_plan *other) {
  *other = (fonio_conv_plan){
      .asked = plan->asked,
      .problem = plan->problem,
      .part = plan->part,
      .direction = plan->direction,
      .accuracy = plan->accuracy,
      .packings = plan->packings,
      .kernels = kernel_table_for(plan->problem.dtype, cpu_isa_in_use()),
      .geometry = plan->geometry,
      .tables = plan->tables,
      .weight_group_stride = plan->weight_group_stride,
      .phases = plan->phases,
      .folds = plan->folds,
      .image_parts = plan->image_parts,
      .fold_count = plan->fold_count,
      .shuffle = plan->shuffle,
      .columns = plan->columns,
  };
  take(other, algorithm, NULL);
}

static fonio_status fill_plan(fonio_conv_plan *plan, const fonio_conv_plan_options *options) {
  plan->kernels = kernel_table_for(plan->problem.dtype, cpu_isa_in_use());
  plan->accuracy = options->accuracy ? options->accuracy : fonio_get_accuracy();
  plan->weight_group_stride = plan->problem.out_channels / plan->problem.groups * plan->problem.weight_strides[0];
  fonio_status status = conv_geometry_init(plan);
  if (!status && plan->direction == FONIO_CONV_INPUT_GRADIENT) status = conv_phases_init(plan);
  if (!status && plan->direction == FONIO_CONV_INPUT_GRADIENT) status = conv_shuffle_init(plan);
  if (!status && plan->direction == FONIO_CONV_INPUT_GRADIENT) status = conv_columns_init(plan);
  if (status) return status;
  return options->algorithm ? take_named(plan, options->algorithm) : choose(plan, options->measure);
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
 * so serves as well. One within the kernel stays, of which the order of packed weights may tell: they serve all images.
 */
static void shorten_stride(fonio_conv_problem *p, int axis) {
  int64_t size = axis ? p->in_width : p->in_height, kernel = axis ? p->kernel_width : p->kernel_height;
  int64_t steps = size + p->padding[2 * axis] + p->padding[2 * axis + 1] - p->dilation[axis] * (kernel - 1);
  p->stride[axis] = conv_min(p->stride[axis], conv_max(steps, kernel));
}

/* A kernel of one tap sees no rows: where those of a small image follow each other without a gap, they are taken for
 * one long one. (The index maps grow with the width, so a large image is left as it is.) */
static void join_rows(fonio_conv_problem *p) {
  bool one_tap = p->kernel_height * p->kernel_width * p->stride[0] * p->stride[1] == 1;
  bool joined = p->input_strides[2] == p->in_width * p->input_strides[3] &&
                p->output_strides[2] == p->out_width * p->output_strides[3];
  if (!one_tap || conv_pads(p) || !joined || p->in_height == 0 || p->in_width > 4096 / p->in_height) return;
  p->in_width = p->out_width = p->in_width * p->in_height;
  p->in_height = p->out_height = 1;
}

fonio_conv_plan *fonio_conv_plan_new(const fonio_conv_problem *problem, const fonio_conv_plan_options *options) {
  if (!problem) return fail_given_null("fonio_conv_plan_new"), NULL;
  fonio_conv_plan_options o = read_options(options);
  return conv_plan_new(problem, o, o.weight_changes || o.direction == FONIO_CONV_INPUT_GRADIENT);
}

fonio_conv_plan *conv_plan_new(const fonio_conv_problem *problem, fonio_conv_plan_options o, double packings) {
  if ((unsigned)o.accuracy > FONIO_ACCURACY_FAST)
    return fail_null(FONIO_VALUE_ERROR, "there is no accuracy %d", (int)o.accuracy);
  if ((unsigned)o.direction > FONIO_CONV_WEIGHT_GRADIENT)
    return fail_null(FONIO_VALUE_ERROR, "there is no direction %d of a convolution", (int)o.direction);
  if (problem->dtype != FONIO_FLOAT32 && problem->dtype != FONIO_FLOAT64)
    return fail_null(FONIO_NOT_IMPLEMENTED, "conv2d of %s is not implemented", fonio_dtype_name(problem->dtype));
  if (conv_problem_check(problem) || conv_finish_check(problem, o.direction)) return NULL;
  fonio_conv_plan *plan = new_plan(problem);
  if (!plan) return NULL;
  plan->direction = o.direction;
  plan->packings = packings;
  for (int axis = 0; axis < 2; axis++)
    shorten_stride(&plan->problem, axis);
  if (o.direction == FONIO_CONV_FORWARD) join_rows(&plan->problem);
  if (fill_plan(plan, &o)) {
    fonio_conv_plan_release(plan);
    return NULL;
  }
  return plan;
}

fonio_conv_plan *conv_plan_part(const fonio_conv_plan *whole, const fonio_conv_problem *problem,
                                int64_t weight_group_stride, const conv_algorithm *algorithm) {
  fonio_conv_plan *plan = new_plan(problem);
  if (!plan) return NULL;
  join_rows(&plan->problem);
  plan->part = true;
  plan->accuracy = whole->accuracy;
  plan->packings = whole->packings;
  plan->kernels = kernel_table_for(problem->dtype, cpu_isa_in_use());
  plan->weight_group_stride = weight_group_stride;
  if (conv_geometry_init(plan)) {
    fonio_conv_plan_release(plan);
    return NULL;
  }
  if (algorithm && conv_can_do(algorithm, plan))
    take(plan, algorithm, NULL);
  else
    take_cheapest(plan, true);
  return plan;
}

/* Plans never change, but for their count. */
fonio_conv_plan *conv_plan_retain(const fonio_conv_plan *plan) {
  fonio_conv_plan *counted = (fonio_conv_plan *)plan;
  atomic_fetch_add_explicit(&counted->references, 1, memory_order_relaxed);
  return counted;
}

void fonio_conv_plan_release(fonio_conv_plan *plan) {
  if (!plan || atomic_fetch_sub_explicit(&plan->references, 1, memory_order_acq_rel) != 1) return;
  conv_parts_release(plan);
  memory_give(plan->explanation);
  memory_give(plan->tables);
  memory_give(plan);
  if (atomic_fetch_sub_explicit(&plans, 1, memory_order_acq_rel) == 1) conv_drop_spares();
}

const fonio_conv_problem *fonio_conv_plan_problem(const fonio_conv_plan *plan) {
  return plan ? &plan->asked : NULL;
}

const char *fonio_conv_plan_algorithm(const fonio_conv_plan *plan) {
  return plan ? plan->algorithm->name : NULL;
}

int64_t conv_slot_bytes(const fonio_conv_plan *plan) {
  return conv_round_up(plan->workspace_bytes, MEMORY_ALIGNMENT);
}

int64_t conv_shared_bytes(const fonio_conv_plan *plan) {
  return conv_round_up(plan->shared_bytes, MEMORY_ALIGNMENT);
}

int64_t fonio_conv_plan_workspace_bytes(const fonio_conv_plan *plan, int threads) {
  int64_t bytes;
  if (!plan) return 0;
  bool fits = checked_mul(conv_slot_bytes(plan), conv_max(1, threads), &bytes) &&
              checked_add(bytes, conv_shared_bytes(plan), &bytes);
  return fits ? bytes : INT64_MAX;
}
