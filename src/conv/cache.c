/* The cache of a layer. Plans and packed weights are counted, so that the cache may let go of what a run still uses. */
#include "conv/cache.h"

#include <string.h>

#include "base/memory.h"

/* Image sizes and batches that a layer sees in turn, and the algorithms that serve them. */
enum { MOST_PLANS = 8, MOST_PACKED = 4 };

/* A weight that was packed, as it was then. */
typedef struct packed_weight {
  fonio_conv_packed *packed; /* NULL: an empty place */
  const void *data;
  int64_t strides[4];
  conv_weight_state state;
  int64_t used;
} packed_weight;

typedef struct used_plan {
  fonio_conv_plan *plan; /* NULL: an empty place */
  int64_t used;
} used_plan;

struct conv_cache {
  atomic_flag taken;
  int64_t clock; /* counts the uses */
  used_plan plans[MOST_PLANS];
  packed_weight weights[MOST_PACKED];
};

conv_cache *conv_cache_new(void) {
  conv_cache *cache = memory_take_zeroed(sizeof *cache);
  if (cache) atomic_flag_clear(&cache->taken);
  return cache;
}

void conv_cache_release(conv_cache *cache) {
  if (!cache) return;
  for (int i = 0; i < MOST_PLANS; i++)
    fonio_conv_plan_release(cache->plans[i].plan);
  for (int i = 0; i < MOST_PACKED; i++)
    fonio_conv_packed_release(cache->weights[i].packed);
  memory_give(cache);
}

/* Held for a moment only. A thread that has lost its core with it, or that a fork has left behind, must not keep others
 * waiting: they do without the cache. */
static bool take(conv_cache *cache) {
  for (int tries = 0; tries < 500; tries++)
    if (!atomic_flag_test_and_set_explicit(&cache->taken, memory_order_acquire)) return true;
  return false;
}

static void give(conv_cache *cache) {
  atomic_flag_clear_explicit(&cache->taken, memory_order_release);
}

/* ---- What is what ---- */

/* Field by field: between them lie bytes that are never set. */
static bool same_problem(const fonio_conv_problem *a, const fonio_conv_problem *b) {
  static const size_t sizes = offsetof(fonio_conv_problem, batch),
                      sizes_end = offsetof(fonio_conv_problem, padding_mode),
                      strides = offsetof(fonio_conv_problem, input_strides);
  return memcmp((const char *)a + sizes, (const char *)b + sizes, sizes_end - sizes) == 0 &&
         memcmp((const char *)a + strides, (const char *)b + strides, sizeof *a - strides) == 0 &&
         a->dtype == b->dtype && a->padding_mode == b->padding_mode && a->groups == b->groups &&
         a->has_bias == b->has_bias && a->batched == b->batched && a->has_residual == b->has_residual &&
         a->activation == b->activation && memcmp(&a->slope, &b->slope, sizeof a->slope) == 0 &&
         a->prelu_stride == b->prelu_stride;
}

static bool serves(const fonio_conv_plan *plan, const fonio_conv_problem *problem,
                   const fonio_conv_plan_options *options) {
  return plan && plan->direction == options->direction && plan->accuracy == options->accuracy &&
         same_problem(&plan->asked, problem);
}

/* Whether it may be the same weight; where that is not watched, its values have to tell. */
static bool same_state(const packed_weight *known, const packed_weight *weight) {
  return known->data == weight->data && known->state.memory == weight->state.memory &&
         (!weight->state.watched || known->state.version == weight->state.version) &&
         memcmp(known->strides, weight->strides, sizeof weight->strides) == 0;
}

/* ---- Finding and keeping: outside of these, what is found or kept is counted, and so stays ---- */

static fonio_conv_plan *find_plan(conv_cache *cache, const fonio_conv_problem *problem,
                                  const fonio_conv_plan_options *options) {
  fonio_conv_plan *found = NULL;
  if (!take(cache)) return NULL;
  for (int i = 0; !found && i < MOST_PLANS; i++)
    if (serves(cache->plans[i].plan, problem, options)) {
      cache->plans[i].used = ++cache->clock;
      found = conv_plan_retain(cache->plans[i].plan);
    }
  give(cache);
  return found;
}

/* In an empty place, or in that of the plan used longest ago. */
static void keep_plan(conv_cache *cache, fonio_conv_plan *plan) {
  used_plan *place = cache->plans;
  if (!take(cache)) return;
  for (int i = 1; i < MOST_PLANS; i++)
    if (place->plan && (!cache->plans[i].plan || cache->plans[i].used < place->used)) place = &cache->plans[i];
  fonio_conv_plan *before = place->plan;
  *place = (used_plan){conv_plan_retain(plan), ++cache->clock};
  give(cache);
  fonio_conv_plan_release(before);
}

static fonio_conv_packed *find_packed(conv_cache *cache, const fonio_conv_plan *plan, const packed_weight *weight) {
  fonio_conv_packed *found = NULL;
  if (!take(cache)) return NULL;
  for (int i = 0; !found && i < MOST_PACKED; i++) {
    packed_weight *known = &cache->weights[i];
    if (!known->packed || !same_state(known, weight) || !conv_packed_fits(plan, known->packed)) continue;
    known->used = ++cache->clock;
    found = conv_packed_retain(known->packed);
  }
  give(cache);
  return found;
}

/* Whether it will not be used again: the weight has changed since, or this one takes its place. */
static bool is_outdated(const packed_weight *known, const packed_weight *weight, const fonio_conv_plan *plan) {
  return known->packed && (!same_state(known, weight) || conv_packed_fits(plan, known->packed));
}

/* The place for it; what is left over goes to `gone`. */
static packed_weight *make_place(conv_cache *cache, const packed_weight *weight, const fonio_conv_plan *plan,
                                 fonio_conv_packed *gone[MOST_PACKED]) {
  packed_weight *places = cache->weights, *place = places;
  for (int i = 0; i < MOST_PACKED; i++)
    if (is_outdated(&places[i], weight, plan)) {
      gone[i] = places[i].packed;
      places[i].packed = NULL;
    }
  for (int i = 1; i < MOST_PACKED; i++)
    if (place->packed && (!places[i].packed || places[i].used < place->used)) place = &places[i];
  if (place->packed) gone[place - places] = place->packed;
  return place;
}

static void keep_packed(conv_cache *cache, const packed_weight *weight, const fonio_conv_plan *plan) {
  fonio_conv_packed *gone[MOST_PACKED] = {NULL};
  if (!take(cache)) return;
  packed_weight *place = make_place(cache, weight, plan, gone);
  *place = *weight;
  place->used = ++cache->clock;
  conv_packed_retain(place->packed);
  give(cache);
  for (int i = 0; i < MOST_PACKED; i++)
    fonio_conv_packed_release(gone[i]);
}

/* ---- Running ---- */

/* A layer packs once, and a training step for a batch of images: for 8, be it said, whatever the batch. */
static fonio_conv_plan *plan_of(const fonio_conv_problem *problem, const fonio_conv_plan_options *options) {
  return conv_plan_new(problem, *options, options->direction == FONIO_CONV_INPUT_GRADIENT ? 0.125 : 0);
}

static fonio_conv_plan *plan_for(conv_cache *cache, const fonio_conv_problem *problem,
                                 const fonio_conv_plan_options *options) {
  fonio_conv_plan *plan = find_plan(cache, problem, options);
  if (plan) return plan;
  plan = plan_of(problem, options);
  if (plan) keep_plan(cache, plan);
  return plan;
}

/* The weight as it is now, packed. */
static fonio_conv_packed *packed_for(conv_cache *cache, const fonio_conv_plan *plan, packed_weight weight) {
  bool watched = weight.state.watched;
  fonio_conv_packed *found = find_packed(cache, plan, &weight);
  if (found && (watched || conv_packed_holds(found, plan, weight.data))) return found;
  fonio_conv_packed_release(found);
  weight.packed = conv_pack(plan, weight.data, !watched);
  if (weight.packed) keep_packed(cache, &weight, plan);
  return weight.packed;
}

static fonio_status run_plan(conv_cache *cache, const fonio_conv_plan *plan, const conv_weight_state *state,
                             const fonio_conv_buffers *buffers) {
  if (!cache || !plan->packed_bytes) return fonio_conv_plan_run(plan, buffers);
  packed_weight weight = {.data = buffers->weight, .state = *state};
  memcpy(weight.strides, plan->problem.weight_strides, sizeof weight.strides);
  fonio_conv_buffers with_packed = *buffers;
  fonio_conv_packed *packed = packed_for(cache, plan, weight);
  if (!packed) return FONIO_NO_MEMORY;
  with_packed.packed = packed;
  fonio_status status = fonio_conv_plan_run(plan, &with_packed);
  fonio_conv_packed_release(packed);
  return status;
}

fonio_status conv_cache_run(conv_cache *cache, const fonio_conv_problem *problem, fonio_conv_direction direction,
                            const conv_weight_state *state, const fonio_conv_buffers *buffers) {
  fonio_conv_plan_options options = {
      .struct_bytes = sizeof options,
      .direction = direction,
      .accuracy = fonio_get_accuracy(),
  };
  fonio_conv_plan *plan = cache ? plan_for(cache, problem, &options) : plan_of(problem, &options);
  if (!plan) return fonio_last_status();
  fonio_status status = run_plan(cache, plan, state, buffers);
  fonio_conv_plan_release(plan);
  return status;
}
