/* What a layer keeps of its weight, in a capsule: the weight packed. Algorithms read it in different orders, and which
 * one a call takes depends on the size of its image: each order is made when it is first needed. */
#include <string.h>

#include "core.h"

enum { ORDERS = 4 };

/* What an order depends on, beside the values. */
typedef struct order_key {
  const char *algorithm;
  int64_t numbers[10]; /* dtype, channels, kernel, groups, strides */
} order_key;

typedef struct order {
  order_key key;
  fonio_conv_packed *packed;
} order;

typedef struct kept_weight {
  int count;
  order orders[ORDERS]; /* only added to: a call on another thread may be reading one */
} kept_weight;

static const char capsule_name[] = "fonio._core.kept";

static order_key key_of(const fonio_conv_plan *plan) {
  const fonio_conv_problem *problem = fonio_conv_plan_problem(plan);
  const int64_t *strides = problem->weight_strides;
  return (order_key){
      .algorithm = fonio_conv_plan_algorithm(plan),
      .numbers = {problem->dtype, problem->out_channels, problem->in_channels, problem->kernel_height,
                  problem->kernel_width, problem->groups, strides[0], strides[1], strides[2], strides[3]},
  };
}

static bool same(const order_key *a, const order_key *b) {
  return a->algorithm == b->algorithm && memcmp(a->numbers, b->numbers, sizeof a->numbers) == 0;
}

static const fonio_conv_packed *find(const kept_weight *kept, const order_key *key) {
  for (int i = 0; i < kept->count; i++)
    if (same(&kept->orders[i].key, key)) return kept->orders[i].packed;
  return NULL;
}

/* Adds a packed weight, which is taken over. Another thread may have been quicker, or there may be no room. */
static const fonio_conv_packed *add(kept_weight *kept, const order_key *key, fonio_conv_packed *packed) {
  const fonio_conv_packed *there = find(kept, key);
  if (there || kept->count == ORDERS) {
    fonio_conv_packed_release(packed);
    return there;
  }
  kept->orders[kept->count++] = (order){.key = *key, .packed = packed};
  return packed;
}

bool core_kept_weight(PyObject *object, const fonio_conv_plan *plan, const void *weight,
                      const fonio_conv_packed **packed) {
  kept_weight *kept = PyCapsule_GetPointer(object, capsule_name);
  order_key key = key_of(plan);
  *packed = find(kept, &key);
  if (*packed || kept->count == ORDERS) return true;
  fonio_conv_packed *made;
  Py_BEGIN_ALLOW_THREADS made = fonio_conv_plan_pack(plan, weight);
  Py_END_ALLOW_THREADS if (!made) return core_raise(), false;
  *packed = add(kept, &key, made);
  return true;
}

bool core_is_kept(PyObject *object) {
  return PyCapsule_IsValid(object, capsule_name);
}

static void drop(PyObject *capsule) {
  kept_weight *kept = PyCapsule_GetPointer(capsule, capsule_name);
  for (int i = 0; i < kept->count; i++)
    fonio_conv_packed_release(kept->orders[i].packed);
  fonio_memory_give(kept);
}

PyObject *core_keep(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  kept_weight *kept = fonio_memory_take(sizeof *kept);
  if (!kept) return core_raise();
  kept->count = 0;
  PyObject *capsule = PyCapsule_New(kept, capsule_name, drop);
  if (!capsule) fonio_memory_give(kept);
  return capsule;
}

PyObject *core_kept_count(PyObject *module, PyObject *object) {
  (void)module;
  kept_weight *kept = PyCapsule_GetPointer(object, capsule_name);
  return kept ? PyLong_FromLong(kept->count) : NULL;
}
