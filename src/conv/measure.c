/* Planning by measuring: the algorithms that give the same bits, timed on arrays of the problem's shape. */
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "conv/wisdom.h"

/* An algorithm so much slower than the best, as the model has it, is not worth the time. */
#define HOPELESS 4.0

/* Rounds in which all candidates take turns, because clocks drift, and the time of each turn in seconds. */
enum { ROUNDS = 5 };
#define TURN 2e-3

/* ---- Arrays ---- */

/* Elements of an array's memory, and those of them that lie before the array's first one, as strides may be negative.
 */
typedef struct span {
  int64_t elements, before;
} span;

static bool find_span(int dims, const int64_t *shape, const int64_t *strides, span *s) {
  *s = (span){1, 0};
  for (int i = 0; i < dims; i++) {
    int64_t step;
    if (!checked_mul(shape[i] - 1, strides[i], &step) || step == INT64_MIN) return false;
    if (!checked_add(s->elements, step < 0 ? -step : step, &s->elements)) return false;
    if (step < 0) s->before -= step;
  }
  return true;
}

enum { INPUT, WEIGHT, BIAS, OUTPUT, RESIDUAL, PRELU, ARRAYS };

/* Bytes of the block of memory that an array takes; `first`: those before its first element. */
typedef struct range {
  int64_t begin, first, bytes;
} range;

/* The arrays of one image, as bytes of one block of memory. */
typedef struct arrays {
  char *memory;
  int64_t bytes;
  range ranges[ARRAYS];
  fonio_conv_buffers buffers;
} arrays;

static bool measure_arrays(const fonio_conv_plan *plan, arrays *a) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  const int64_t input[] = {p->in_channels, p->in_height, p->in_width};
  const int64_t weight[] = {p->out_channels, g->in_channels, p->kernel_height, p->kernel_width};
  const int64_t output[] = {p->out_channels, p->out_height, p->out_width};
  int64_t item = (int64_t)fonio_dtype_bytes(p->dtype), taken;
  span spans[ARRAYS];
  if (!find_span(3, input, p->input_strides + 1, &spans[INPUT]) ||
      !find_span(4, weight, p->weight_strides, &spans[WEIGHT]) ||
      !find_span(1, &p->out_channels, &p->bias_stride, &spans[BIAS]) ||
      !find_span(3, output, p->output_strides + 1, &spans[OUTPUT]) ||
      !find_span(1, &p->out_channels, &p->prelu_stride, &spans[PRELU]))
    return false;
  spans[RESIDUAL] = p->has_residual ? spans[OUTPUT] : (span){0, 0};
  a->bytes = 0;
  for (int i = 0; i < ARRAYS; i++) {
    range *r = &a->ranges[i];
    r->begin = a->bytes;
    if (!checked_mul(spans[i].elements, item, &r->bytes) || !checked_add(r->bytes, MEMORY_ALIGNMENT - 1, &taken) ||
        !checked_add(a->bytes, taken & -(int64_t)MEMORY_ALIGNMENT, &a->bytes))
      return false;
    r->first = spans[i].before * item;
  }
  return true;
}

static char *first_of(const arrays *a, int array) {
  return a->memory + a->ranges[array].begin + a->ranges[array].first;
}

static fonio_status take_arrays(const fonio_conv_plan *plan, arrays *a) {
  if (!measure_arrays(plan, a)) a->bytes = INT64_MAX;
  a->memory = memory_take(a->bytes);
  if (!a->memory) return FONIO_NO_MEMORY;
  memset(a->memory, 0x3f, (size_t)a->bytes); /* small numbers above 0, in float32 and in float64 */
  a->buffers = (fonio_conv_buffers){
      .input = first_of(a, INPUT),
      .weight = first_of(a, WEIGHT),
      .bias = plan->problem.has_bias ? first_of(a, BIAS) : NULL,
      .residual = plan->problem.has_residual ? first_of(a, RESIDUAL) : NULL,
      .prelu = first_of(a, PRELU),
      .output = first_of(a, OUTPUT),
  };
  return FONIO_OK;
}

/* ---- Candidates ---- */

enum { MOST_CANDIDATES = 16 };

typedef struct candidate {
  fonio_conv_plan plan; /* borrows its tables */
  void *packed;         /* with the workspace after it */
  double seconds;       /* the shortest run; 0: none yet */
} candidate;

/* All strict algorithms have the same arithmetic, each other one its own. */
static bool same_bits(const conv_algorithm *a, const conv_algorithm *b) {
  return a == b || (a->accuracy == FONIO_ACCURACY_STRICT && b->accuracy == FONIO_ACCURACY_STRICT);
}

static fonio_status prepare_candidate(candidate *c, const arrays *a) {
  c->seconds = 0;
  int64_t bytes;
  if (!checked_add(conv_round_up(c->plan.packed_bytes, MEMORY_ALIGNMENT), fonio_conv_plan_workspace_bytes(&c->plan, 1),
                   &bytes))
    bytes = INT64_MAX;
  c->packed = memory_take(bytes);
  if (!c->packed) return FONIO_NO_MEMORY;
  if (c->plan.packed_bytes) c->plan.algorithm->pack(&c->plan, a->buffers.weight, c->packed);
  return FONIO_OK;
}

static void run_once(const candidate *c, const arrays *a) {
  char *workspace = (char *)c->packed + conv_round_up(c->plan.packed_bytes, MEMORY_ALIGNMENT);
  conv_run run = {&c->plan, &a->buffers, c->packed, workspace};
  workspace += conv_shared_bytes(&c->plan);
  for (int64_t piece = 0; piece < c->plan.pieces; piece++)
    c->plan.algorithm->run_piece(&run, piece, workspace);
  for (int64_t piece = 0; c->plan.algorithm->run_last && piece < c->plan.algorithm->last_pieces(&c->plan); piece++)
    c->plan.algorithm->run_last(&run, piece, workspace);
}

/* One turn: a run to warm the caches, then at least one that counts. */
static void time_turn(candidate *c, const arrays *a) {
  run_once(c, a);
  double start = clock_seconds(), before = start, now;
  do {
    run_once(c, a);
    now = clock_seconds();
    if (c->seconds == 0 || now - before < c->seconds) c->seconds = now - before;
    before = now;
  } while (now - start < TURN);
}

static const candidate *time_all(candidate *candidates, int count, const arrays *a) {
  const candidate *fastest = candidates;
  for (int round = 0; round < ROUNDS; round++)
    for (int i = 0; i < count; i++)
      time_turn(&candidates[i], a);
  for (int i = 1; i < count; i++)
    if (candidates[i].seconds < fastest->seconds) fastest = &candidates[i];
  return fastest;
}

/* ---- The least that this core needs ---- */

static double least_of(double least, double start) {
  double took = clock_seconds() - start;
  return least == 0 || took < least ? took : least;
}

/* Some 100 microseconds in each round. */
enum { SUM_ROUNDS = 25000 };

static double seconds_of_sums(const fonio_conv_plan *plan) {
  _Alignas(MEMORY_ALIGNMENT) char out[MEMORY_ALIGNMENT];
  double least = 0, count = 0;
  for (int round = 0; round < ROUNDS; round++) {
    double start = clock_seconds();
    count = (double)plan->kernels->multiply_adds(SUM_ROUNDS, out);
    least = least_of(least, start);
  }
  return least * conv_gflop(plan) * 1e9 / 2 / count;
}

/* Reads all of it: no byte is 0. */
static void read_range(const arrays *a, int array) {
  const void *volatile found = memchr(a->memory + a->ranges[array].begin, 0, (size_t)a->ranges[array].bytes);
  (void)found;
}

/* From whichever cache they fit in. */
static double seconds_of_moves(arrays *a) {
  const range *output = &a->ranges[OUTPUT];
  double least = 0;
  for (int round = 0; round < ROUNDS; round++) {
    double start = clock_seconds();
    read_range(a, INPUT);
    read_range(a, WEIGHT);
    if (a->buffers.residual) read_range(a, RESIDUAL);
    memset(a->memory + output->begin, 0x3f, (size_t)output->bytes);
    least = least_of(least, start);
  }
  return least;
}

/* The candidates that are there when memory ends are given back by the caller. */
static fonio_status prepare_all(const fonio_conv_plan *one, const arrays *a, candidate *candidates, int *count) {
  double least = one->algorithm->cost(one);
  for (int i = 0; conv_algorithms[i] && *count < MOST_CANDIDATES; i++) {
    candidate *c = &candidates[*count];
    if (!conv_may_take(conv_algorithms[i], one) || !same_bits(conv_algorithms[i], one->algorithm)) continue;
    conv_plan_other(one, conv_algorithms[i], &c->plan);
    if (c->plan.algorithm != one->algorithm && c->plan.cycles > HOPELESS * least) continue;
    if (prepare_candidate(c, a)) return FONIO_NO_MEMORY;
    ++*count;
  }
  return FONIO_OK;
}

fonio_status conv_measure(const fonio_conv_plan *plan, const conv_algorithm **fastest, conv_measured *measured) {
  fonio_conv_plan one = *plan;
  one.problem.batch = 1;
  arrays a;
  int count = 0;
  if (take_arrays(&one, &a)) return FONIO_NO_MEMORY;
  candidate *candidates = memory_take(MOST_CANDIDATES * (int64_t)sizeof *candidates);
  fonio_status status = candidates ? prepare_all(&one, &a, candidates, &count) : FONIO_NO_MEMORY;
  if (!status) {
    const candidate *best = time_all(candidates, count, &a);
    *fastest = best->plan.algorithm;
    *measured = (conv_measured){best->seconds, seconds_of_sums(&one), seconds_of_moves(&a)};
  }
  for (int i = 0; i < count; i++)
    memory_give(candidates[i].packed);
  memory_give(candidates);
  memory_give(a.memory);
  return status;
}
