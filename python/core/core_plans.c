/* The plans of functional calls, kept from call to call: at most so many, the one that was not used for longest makes
 * room. Only the interpreter's lock is needed, since nothing here gives it away. Weights are never kept: the next call
 * may find other values in the same place. */
#include <string.h>

#include "core.h"

enum { SETS = 64, WAYS = 4 };

typedef struct slot {
  core_key key;
  core_plan *plan; /* NULL: empty */
  int64_t used;
} slot;

static slot slots[SETS][WAYS];
static int64_t clock_now;

void core_key_add(core_key *key, int64_t word) {
  key->words[key->count++] = word;
}

void core_key_add_array(core_key *key, const core_array *array) {
  if (!array) {
    core_key_add(key, -1);
    return;
  }
  core_key_add(key, (int64_t)array->dtype << 8 | array->ndim);
  for (int i = 0; i < array->ndim; i++) {
    core_key_add(key, array->shape[i]);
    core_key_add(key, array->strides[i]);
  }
}

void core_key_add_geometry(core_key *key, const core_geometry *geometry) {
  const fonio_conv2d_args *args = &geometry->args;
  core_key_add(key, geometry->padding_kind << 8 | geometry->mode_kind);
  for (int i = 0; i < 2; i++) {
    core_key_add(key, args->stride[i]);
    core_key_add(key, args->padding[i]);
    core_key_add(key, args->dilation[i]);
  }
  for (int i = 0; i < 4; i++)
    core_key_add(key, args->padding_sides[i]);
  core_key_add(key, args->groups);
  core_key_add(key, fonio_get_accuracy());
}

static slot *set_of(const core_key *key) {
  uint64_t hash = 0;
  for (int i = 0; i < key->count; i++)
    hash = (hash ^ (uint64_t)key->words[i]) * 0x9e3779b97f4a7c15u;
  return slots[hash >> 58];
}

static bool same(const core_key *a, const core_key *b) {
  return a->count == b->count && memcmp(a->words, b->words, (size_t)a->count * sizeof *a->words) == 0;
}

static slot *slot_of(slot *set, const core_key *key) {
  for (int i = 0; i < WAYS; i++)
    if (set[i].plan && same(&set[i].key, key)) return &set[i];
  return NULL;
}

/* The slot that a new plan may have: an empty one, or the one that was not used for longest. */
static slot *slot_for_new(slot *set) {
  slot *oldest = &set[0];
  for (int i = 0; i < WAYS; i++)
    if (!set[i].plan || (oldest->plan && set[i].used < oldest->used)) oldest = &set[i];
  return oldest;
}

static core_plan *use(slot *found) {
  found->used = ++clock_now;
  found->plan->users++;
  return found->plan;
}

core_plan *core_plan_find(const core_key *key) {
  slot *found = slot_of(set_of(key), key);
  return found ? use(found) : NULL;
}

core_plan *core_plan_make(const core_key *key, const fonio_conv_problem *problem, fonio_conv_plan_options options) {
  options.struct_bytes = sizeof options;
  fonio_conv_plan *made = fonio_conv_plan_new(problem, &options);
  if (!made) return core_raise(), NULL;
  core_plan *plan = fonio_memory_take(sizeof *plan);
  if (!plan) {
    fonio_conv_plan_release(made);
    return core_raise(), NULL;
  }
  *plan = (core_plan){.users = 1, .plan = made};
  slot *place = slot_for_new(set_of(key));
  core_plan_drop(place->plan);
  place->key = *key;
  place->plan = plan;
  return use(place);
}

void core_plan_drop(core_plan *plan) {
  if (!plan || --plan->users > 0) return;
  fonio_conv_plan_release(plan->plan);
  fonio_memory_give(plan);
}

PyObject *core_plan_count(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  long count = 0;
  for (int i = 0; i < SETS * WAYS; i++)
    count += slots[i / WAYS][i % WAYS].plan != NULL;
  return PyLong_FromLong(count);
}

PyObject *core_clear_plans(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  for (int i = 0; i < SETS * WAYS; i++) {
    slot *place = &slots[i / WAYS][i % WAYS];
    core_plan_drop(place->plan);
    place->plan = NULL;
  }
  Py_RETURN_NONE;
}
