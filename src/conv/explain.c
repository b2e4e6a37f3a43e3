/* A plan explained: what each algorithm would take, and why the one is taken. */
#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "base/error.h"
#include "base/memory.h"
#include "conv/parts.h"
#include "conv/text.h"

double conv_gflop(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  return 2e-9 * (double)p->out_channels * (double)(p->out_height * p->out_width) * (double)plan->geometry.in_channels *
         (double)(p->kernel_height * p->kernel_width);
}

const char *conv_direction_name(fonio_conv_direction direction) {
  static const char *const names[] = {"forward", "input gradient", "weight gradient"};
  return names[direction];
}

/* Two multiply-adds of whole vectors in a cycle: what the processors at hand do at the most. */
static double least_cycles(const fonio_conv_plan *plan) {
  return conv_gflop(plan) * 1e9 / (4 * kernel_table_for(plan->problem.dtype, cpu_isa_in_use())->lanes);
}

static double bytes_of_arrays(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  double input = (double)p->in_channels * (double)p->in_height * (double)p->in_width;
  double output = (double)p->out_channels * (double)p->out_height * (double)p->out_width;
  double weight = (double)p->out_channels * (double)(plan->geometry.in_channels * p->kernel_height * p->kernel_width);
  return (input + output * (p->has_residual ? 2 : 1) + weight) * (double)conv_element_bytes(plan);
}

/* To read and write the arrays once, in the nearest cache that holds them, at what cores usually do. */
static double cycles_of_moves(const fonio_conv_plan *plan) {
  const cpu_caches *caches = cpu_cache_sizes();
  double bytes = bytes_of_arrays(plan);
  if (bytes <= (double)caches->l1_bytes) return bytes / 64;
  if (bytes <= (double)caches->l2_bytes) return bytes / 32;
  return bytes / (bytes <= (double)caches->l3_bytes ? 16 : 6);
}

static double attainable_cycles(const fonio_conv_plan *plan) {
  return fmax(least_cycles(plan), cycles_of_moves(plan));
}

static void put_head(conv_text *out, const fonio_conv_plan *plan) {
  bool room = out->length < out->bytes;
  out->length += fonio_conv_problem_print(&plan->asked, room ? out->text + out->length : NULL,
                                          room ? out->bytes - out->length : 0);
  conv_put(out, ": %s, accuracy %s, %s\n", conv_direction_name(plan->direction), conv_accuracy_name(plan->accuracy),
           fonio_isa());
  conv_put(
      out,
      "one image: %.4g GFLOP and %.4g MB; on one core at least some %.0f cycles for the plain sums, %.0f to read and "
      "write the arrays\n",
      conv_gflop(plan), bytes_of_arrays(plan) / 1e6, least_cycles(plan), cycles_of_moves(plan));
}

/* What was reached. */
static void put_measured(conv_text *out, const conv_measured *m) {
  if (m->taken <= 0) return;
  conv_put(out,
           "measured: %.4g ms, where this core needs %.4g for multiply-adds and %.4g to read and write the arrays: "
           "%.0f%% of "
           "the attainable\n",
           1e3 * m->taken, 1e3 * m->multiply_adds, 1e3 * m->moves, 100 * fmax(m->multiply_adds, m->moves) / m->taken);
}

/* Why an algorithm cannot be taken; NULL: it can. */
static const char *obstacle(const fonio_conv_plan *plan, const conv_algorithm *algorithm) {
  if (algorithm->pack && conv_is_empty(&plan->problem)) return "images and channels";
  if (!conv_can_do(algorithm, plan)) return algorithm->needs;
  if (!conv_may_take(algorithm, plan)) return "more workspace than a thread may have";
  return NULL;
}

static double cycles_of_image(const fonio_conv_plan *plan) {
  return plan->problem.batch > 0 ? plan->cycles / (double)plan->problem.batch : 0;
}

static void put_algorithm(conv_text *out, const fonio_conv_plan *plan, const conv_algorithm *algorithm) {
  const char *lacks = obstacle(plan, algorithm);
  conv_put(out, "  %-16s ", algorithm->name);
  if (lacks) {
    conv_put(out, "needs %s\n", lacks);
    return;
  }
  fonio_conv_plan other;
  conv_plan_other(plan, algorithm, &other);
  double cycles = cycles_of_image(&other);
  conv_put(out, "%.0f cycles (%.0f%% of the attainable), workspace %lld bytes, packed weights %lld bytes", cycles,
           cycles > 0 ? 100 * attainable_cycles(plan) / cycles : 0,
           (long long)(other.workspace_bytes + other.shared_bytes), (long long)other.packed_bytes);
  if (algorithm->accuracy > plan->accuracy) conv_put(out, "; not exact enough");
  if (algorithm == plan->algorithm) conv_put(out, "  <- %s", plan->why);
  conv_put(out, "\n");
}

static void put_block(conv_text *out, const char *name, int64_t number) {
  if (number > 0) conv_put(out, " %s %lld", name, (long long)number);
}

static void put_blocks(conv_text *out, const fonio_conv_plan *plan) {
  const conv_blocks *b = &plan->blocks;
  conv_put(out, "%s in blocks of", plan->algorithm->name);
  put_block(out, "panel", b->panel);
  put_block(out, "terms", b->terms);
  put_block(out, "channels", b->channels);
  put_block(out, "pixels", b->pixels);
  put_block(out, "rows", b->rows);
  conv_put(out, ": %lld pieces\n", (long long)plan->pieces);
}

/* The convolutions that an input gradient is made of; of those with the same taps, the first. */
static void put_parts(conv_text *out, const conv_parts *parts) {
  for (int64_t i = 0; i < parts->count; i++) {
    const fonio_conv_plan *part = parts->list[i].plan;
    if (!parts->list[i].packs) continue;
    const fonio_conv_problem *p = &part->problem;
    conv_put(out, "%lld x %lld pixels of %lld x %lld taps by ", (long long)p->out_height, (long long)p->out_width,
             (long long)p->kernel_height, (long long)p->kernel_width);
    put_blocks(out, part);
  }
}

/* Returns the length; `text` may be NULL to count. */
static size_t explain(const fonio_conv_plan *plan, char *text, size_t bytes) {
  conv_text out = {text, bytes, 0};
  put_head(&out, plan);
  put_measured(&out, &plan->measured);
  for (int i = 0; conv_algorithms[i]; i++)
    if (conv_algorithms[i]->direction == plan->direction) put_algorithm(&out, plan, conv_algorithms[i]);
  put_parts(&out, conv_parts_of(plan));
  bool blocks = plan->algorithm->pack || plan->workspace_bytes > 0;
  if (blocks && plan->direction != FONIO_CONV_INPUT_GRADIENT) put_blocks(&out, plan);
  return out.length;
}

const char *fonio_conv_plan_explain(const fonio_conv_plan *plan) {
  if (!plan) return fail_given_null("fonio_conv_plan_explain"), NULL;
  char *_Atomic *place = &((fonio_conv_plan *)plan)->explanation, *known = atomic_load(place);
  if (known) return known;
  size_t bytes = explain(plan, NULL, 0) + 1;
  char *text = memory_take((int64_t)bytes);
  if (!text) return NULL;
  explain(plan, text, bytes);
  /* Another thread may have come first: its text stays. */
  if (atomic_compare_exchange_strong(place, &known, text)) return text;
  memory_give(text);
  return known;
}
