#include "autograd/pass.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tensor/layout.h"

/* ---- The targets ---- */

static const void *key_of(const pass_target *target) {
  return target->node ? (const void *)target->node : target->leaf;
}

/* Where `key` is, or the free place where it belongs. */
static int64_t *place_of(const autograd_pass *pass, const void *key) {
  uint64_t mask = (uint64_t)pass->capacity * 2 - 1;
  uint64_t place = ((uint64_t)(uintptr_t)key >> 6) * 0x9e3779b97f4a7c15u >> 20;
  for (;; place++) {
    int64_t *found = &pass->places[place & mask];
    if (*found == 0 || key_of(&pass->targets[*found - 1]) == key) return found;
  }
}

static void fill_places(autograd_pass *pass) {
  memset(pass->places, 0, (size_t)pass->capacity * 2 * sizeof *pass->places);
  for (int64_t i = 0; i < pass->count; i++)
    *place_of(pass, key_of(&pass->targets[i])) = i + 1;
}

static fonio_status grow(autograd_pass *pass) {
  int64_t capacity = pass->capacity ? pass->capacity * 2 : 16;
  pass_target *targets = memory_take(capacity * (int64_t)sizeof *targets);
  int64_t *places = targets ? memory_take(capacity * 2 * (int64_t)sizeof *places) : NULL;
  if (!places) {
    memory_give(targets);
    return FONIO_NO_MEMORY;
  }
  if (pass->count) memcpy(targets, pass->targets, (size_t)pass->count * sizeof *targets);
  memory_give(pass->targets);
  memory_give(pass->places);
  *pass = (autograd_pass){targets, pass->count, capacity, places};
  fill_places(pass);
  return FONIO_OK;
}

static fonio_status add(autograd_pass *pass, autograd_edge edge) {
  pass_target target = {.node = edge.node, .leaf = edge.leaf};
  if (!key_of(&target)) return FONIO_OK;
  if (pass->count == pass->capacity && grow(pass)) return FONIO_NO_MEMORY;
  int64_t *place = place_of(pass, key_of(&target));
  if (*place) return FONIO_OK;
  pass->targets[pass->count++] = target;
  *place = pass->count;
  return FONIO_OK;
}

static pass_target *find(const autograd_pass *pass, const void *key) {
  int64_t place = key ? *place_of(pass, key) : 0;
  return place ? &pass->targets[place - 1] : NULL;
}

static pass_target *target_of_edge(const autograd_pass *pass, autograd_edge edge) {
  return find(pass, edge.node ? (const void *)edge.node : edge.leaf);
}

pass_target *pass_find(const autograd_pass *pass, const fonio_tensor *tensor) {
  return find(pass, tensor->node ? tensor->node : tensor);
}

/* ---- The order ---- */

/* A node is made after those that it came from: sorted by age, the graph is sorted. */
static int by_age(const void *a, const void *b) {
  const pass_target *first = a, *second = b;
  uint64_t age = first->node ? first->node->sequence : 0, other = second->node ? second->node->sequence : 0;
  return (age > other) - (age < other);
}

fonio_status pass_begin(autograd_pass *pass, const fonio_tensor *output) {
  *pass = (autograd_pass){0};
  autograd_edge start = {output->node, output->node ? NULL : (fonio_tensor *)(uintptr_t)output};
  fonio_status status = add(pass, start);
  for (int64_t i = 0; !status && i < pass->count; i++) {
    const autograd_node *node = pass->targets[i].node;
    for (int j = 0; node && !status && j < node->inputs; j++)
      status = add(pass, node->edges[j]);
  }
  if (status) return status;
  qsort(pass->targets, (size_t)pass->count, sizeof *pass->targets, by_age);
  fill_places(pass);
  return FONIO_OK;
}

void pass_end(autograd_pass *pass) {
  for (int64_t i = 0; i < pass->count; i++) {
    fonio_tensor_release(pass->targets[i].gradient);
    fonio_tensor_release(pass->targets[i].result);
    fonio_tensor_release(pass->targets[i].keeper);
  }
  memory_give(pass->targets);
  memory_give(pass->places);
}

void pass_want_all(autograd_pass *pass) {
  for (int64_t i = 0; i < pass->count; i++) {
    pass_target *target = &pass->targets[i];
    target->wanted = true;
    target->leads = target->node;
  }
}

void pass_want_asked(autograd_pass *pass) {
  for (int64_t i = 0; i < pass->count; i++) {
    pass_target *target = &pass->targets[i];
    for (int j = 0; target->node && j < target->node->inputs; j++) {
      const pass_target *next = target_of_edge(pass, target->node->edges[j]);
      target->leads = target->leads || (next && next->wanted);
    }
    target->wanted = target->asked || target->leads;
  }
}

/* ---- The way back ---- */

/* Whether nobody else can see the tensor's memory, nor any part of it twice. */
static bool is_own(const fonio_tensor *tensor) {
  return atomic_load(&tensor->references) == 1 && atomic_load(&tensor->storage->references) == 1 &&
         layout_is_dense(tensor);
}

/* Adds `gradient` (taken over, also on failure) to what has reached the target. */
static fonio_status add_gradient(pass_target *target, fonio_tensor *gradient) {
  fonio_tensor *before = target->gradient, *sum = before;
  fonio_status status = FONIO_OK;
  if (!before) {
    target->gradient = gradient;
    return FONIO_OK;
  }
  if (fonio_grad_enabled() || !is_own(before))
    sum = fonio_tensor_add(before, gradient);
  else if (!(status = tensor_check_accumulate(before)))
    tensor_accumulate(before, gradient);
  fonio_tensor_release(gradient);
  if (!sum) return fonio_last_status();
  if (sum != before) fonio_tensor_release(before);
  target->gradient = sum;
  return status;
}

static fonio_status apply(autograd_pass *pass, pass_target *from) {
  autograd_node *node = from->node;
  fonio_tensor *gradients[AUTOGRAD_MOST_INPUTS] = {NULL};
  pass_target *to[AUTOGRAD_MOST_INPUTS] = {NULL};
  bool wanted[AUTOGRAD_MOST_INPUTS] = {false};
  for (int i = 0; i < node->inputs; i++) {
    to[i] = target_of_edge(pass, node->edges[i]);
    wanted[i] = to[i] && to[i]->wanted;
  }
  fonio_status status = node->operation->apply(node, from->gradient, wanted, gradients);
  for (int i = 0; i < node->inputs; i++)
    if (status || !wanted[i])
      fonio_tensor_release(gradients[i]);
    else
      status = add_gradient(to[i], gradients[i]);
  return status;
}

static fonio_status visit(autograd_pass *pass, pass_target *target, bool retain_graph) {
  if (!target->gradient) return FONIO_OK;
  fonio_status status =
      autograd_run_hooks(target->node ? &target->node->hooks : &target->leaf->hooks, &target->gradient);
  if (status || !target->node) return status;
  target->keeper = autograd_node_output(target->node);
  status = target->leads ? apply(pass, target) : FONIO_OK;
  if (status) return status;
  if (target->leads && !retain_graph) autograd_node_free_saved(target->node);
  if (target->asked || target->keeper) return FONIO_OK;
  fonio_tensor_release(target->gradient);
  target->gradient = NULL;
  return FONIO_OK;
}

fonio_status pass_run(autograd_pass *pass, const fonio_tensor *output, fonio_tensor *gradient, bool retain_graph) {
  pass_find(pass, output)->gradient = gradient;
  fonio_status status = FONIO_OK;
  for (int64_t i = pass->count - 1; !status && i >= 0; i--)
    status = visit(pass, &pass->targets[i], retain_graph);
  return status;
}
