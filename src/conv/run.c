/* A run of a plan: its arrays checked, its pieces shared among threads. */
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/threads.h"
#include "conv/plan.h"
#include "conv/text.h"

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
    if (!b->weight && !b->packed)
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
    return fail(FONIO_VALUE_ERROR, "the packed weights were made for another algorithm or another convolution");
  int64_t least = fonio_conv_plan_workspace_bytes(plan, 1);
  if (b->workspace && b->workspace_bytes < least)
    return fail(FONIO_VALUE_ERROR, "the convolution needs a workspace of %lld bytes, but got %lld", (long long)least,
                (long long)b->workspace_bytes);
  return FONIO_OK;
}

/* The pieces of a run, each with the workspace of the thread that does it. */
typedef struct shared_run {
  const conv_run *run;
  char *workspace; /* of the first thread; or NULL */
  int64_t slot_bytes;
} shared_run;

static void run_piece(void *context, int64_t piece, int slot) {
  const shared_run *s = context;
  s->run->plan->algorithm->run_piece(s->run, piece, s->workspace ? s->workspace + slot * s->slot_bytes : NULL);
}

static void run_last(void *context, int64_t piece, int slot) {
  const shared_run *s = context;
  s->run->plan->algorithm->run_last(s->run, piece, s->workspace ? s->workspace + slot * s->slot_bytes : NULL);
}

/* How many threads take part: as many as the workspace holds, where it is the caller's. */
static int threads_of_run(const fonio_conv_plan *plan, const fonio_conv_buffers *b) {
  int threads = threads_wanted(plan->pieces, plan->cycles);
  int64_t bytes = conv_slot_bytes(plan);
  if (!b->workspace || bytes == 0) return threads;
  return (int)conv_min(threads, (b->workspace_bytes - conv_shared_bytes(plan)) / bytes);
}

/* What a run turned out to be, for the log. */
typedef struct run_report {
  const char *algorithm;
  int threads; /* at the most */
} run_report;

static void run_pieces(const conv_run *run, void *workspace, int threads, run_report *report) {
  const fonio_conv_plan *plan = run->plan;
  conv_run with_shared = *run;
  with_shared.shared = workspace;
  shared_run shared = {&with_shared, workspace ? (char *)workspace + conv_shared_bytes(plan) : NULL,
                       conv_slot_bytes(plan)};
  *report = (run_report){plan->algorithm->name, threads};
  threads_parallel_for(plan->pieces, plan->cycles, threads, run_piece, &shared);
  if (plan->algorithm->run_last)
    threads_parallel_for(plan->algorithm->last_pieces(plan), plan->cycles, threads, run_last, &shared);
}

/* Weights that are not finite must not meet the zeros of the padding (0 * inf is nan): the plain loops leave padding
 * out. */
static void run_plain(const fonio_conv_plan *plan, const fonio_conv_buffers *buffers, const void *plain,
                      run_report *report) {
  fonio_conv_plan with_plain;
  fonio_conv_buffers b = *buffers;
  bool forward = plan->direction == FONIO_CONV_FORWARD;
  conv_plan_other(plan, forward ? &conv_reference_forward : &conv_reference_input_gradient, &with_plain);
  if (plain) {
    kernel_conv *g = &with_plain.geometry;
    g->weight_strides[3] = 1;
    g->weight_strides[2] = g->kernel_width;
    g->weight_strides[1] = g->kernel_width * g->kernel_height;
    g->weight_strides[0] = g->weight_strides[1] * g->in_channels;
    memcpy(with_plain.problem.weight_strides, g->weight_strides, sizeof g->weight_strides);
    with_plain.weight_group_stride = g->out_channels * g->weight_strides[0];
    b.weight = plain;
  }
  conv_run run = {&with_plain, &b, NULL, NULL};
  run_pieces(&run, NULL, threads_of_run(&with_plain, buffers), report);
}

/* Whether weights may meet zeros that are not there. The edge of grad_output is one in nearly all input gradients. */
static bool has_zeros(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  bool pads = p->padding_mode == FONIO_ZEROS && conv_pads(p);
  return pads || plan->direction == FONIO_CONV_INPUT_GRADIENT;
}

static void run_with(const fonio_conv_plan *plan, const fonio_conv_buffers *b, const void *packed, void *workspace,
                     int threads, run_report *report) {
  conv_run run = {plan, b, packed, NULL};
  run_pieces(&run, workspace, threads, report);
}

/* ---- Memory to pack in ---- */

/* The system clears what it gives, which takes nearly as long as packing, so some is kept from run to run: the same for
 * all plans, because what one layer has packed is of no use once the next one comes, and memory that was just used is
 * still in a cache. */
#define MOST_SPARE (1 << 24)
enum { SPARES = 4 };

typedef struct spare {
  _Alignas(MEMORY_ALIGNMENT) int64_t bytes;
  _Alignas(MEMORY_ALIGNMENT) char data[];
} spare;

static _Atomic(spare *) spares[SPARES];

static spare *take_spare(int64_t bytes) {
  for (int i = 0; i < SPARES; i++) {
    spare *kept = atomic_exchange(&spares[i], NULL);
    if (kept && kept->bytes >= bytes) return kept;
    memory_give(kept);
  }
  spare *made = memory_take(bytes + (int64_t)sizeof *made);
  if (made) made->bytes = bytes;
  return made;
}

static void give_spare(spare *used) {
  for (int i = 0; used && i < SPARES && used->bytes <= MOST_SPARE; i++)
    used = atomic_exchange(&spares[i], used);
  memory_give(used);
}

void conv_drop_spares(void) {
  for (int i = 0; i < SPARES; i++)
    memory_give(atomic_exchange(&spares[i], NULL));
}

/* ---- The run ---- */

static fonio_status run_plan(const fonio_conv_plan *plan, const fonio_conv_buffers *buffers, run_report *report) {
  fonio_status status = check_buffers(plan, buffers);
  if (status) return status;
  const fonio_conv_packed *packed = buffers->packed;
  if (packed && !packed->finite && (has_zeros(plan) || !plan->algorithm->pack)) {
    run_plain(plan, buffers, packed->plain, report);
    return FONIO_OK;
  }
  int threads = threads_of_run(plan, buffers);
  void *own = NULL;
  spare *room = NULL;
  bool takes = !buffers->workspace && plan->workspace_bytes, packs = plan->packed_bytes && !packed;
  if ((takes && !(own = memory_take(fonio_conv_plan_workspace_bytes(plan, threads)))) ||
      (packs && !(room = take_spare(plan->packed_bytes)))) {
    memory_give(own);
    return FONIO_NO_MEMORY;
  }
  if (packs && !plan->algorithm->pack(plan, buffers->weight, room->data) && has_zeros(plan))
    run_plain(plan, buffers, NULL, report);
  else
    run_with(plan, buffers,
             packed  ? packed->data
             : packs ? room->data
                     : NULL,
             takes ? own : buffers->workspace, threads, report);
  give_spare(room);
  memory_give(own);
  return FONIO_OK;
}

/* ---- The log ---- */

/* Weights that are packed for this run only count, and are named. */
static fonio_status run_and_log(const fonio_conv_plan *plan, const fonio_conv_buffers *buffers) {
  run_report report;
  double start = clock_seconds();
  fonio_status status = run_plan(plan, buffers, &report);
  if (status) return status;
  double took = clock_seconds() - start, gflop = conv_gflop(plan) * (double)plan->problem.batch;
  char line[512];
  conv_text out = {line, sizeof line, fonio_conv_problem_print(&plan->asked, line, sizeof line)};
  conv_put(&out, " %s %s%s %d thread%s %.3f ms %.1f GFLOP/s", conv_direction_name(plan->direction), report.algorithm,
           plan->packed_bytes && !buffers->packed ? " packing" : "", report.threads, report.threads == 1 ? "" : "s",
           took * 1e3, gflop / (took > 1e-9 ? took : 1e-9));
  log_line(line);
  return FONIO_OK;
}

fonio_status fonio_conv_plan_run(const fonio_conv_plan *plan, const fonio_conv_buffers *buffers) {
  if (!plan || !buffers) return fail_given_null("fonio_conv_plan_run");
  run_report report;
  return log_is_on() ? run_and_log(plan, buffers) : run_plan(plan, buffers, &report);
}
