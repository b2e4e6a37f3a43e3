/* How modules come to be, are shared and go. */
#include "nn/module.h"

#include <stdatomic.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"

fonio_status module_fail_depth(void) {
  return fail(FONIO_RUNTIME_ERROR, "maximum recursion depth exceeded");
}

fonio_status module_make_room(void **items, int64_t count, int64_t *room, size_t item_bytes) {
  if (count < *room) return FONIO_OK;
  int64_t larger = *room > 0 ? *room : 2, bytes;
  if (!checked_mul(larger, 2, &larger) || !checked_mul(larger, (int64_t)item_bytes, &bytes)) bytes = INT64_MAX;
  void *moved = memory_take(bytes);
  if (!moved) return fonio_last_status();
  if (count > 0) memcpy(moved, *items, (size_t)count * item_bytes);
  memory_give(*items);
  *items = moved;
  *room = larger;
  return FONIO_OK;
}

static module_state *state_new(const fonio_module_class *type) {
  module_state *state = memory_take_zeroed(sizeof *state);
  if (!state) return NULL;
  state->type = type;
  state->training = true;
  atomic_init(&state->references, 1);
  state->parameters = fonio_dict_new();
  state->buffers = state->parameters ? fonio_dict_new() : NULL;
  if (state->buffers) return state;
  fonio_dict_release(state->parameters);
  memory_give(state);
  return NULL;
}

void *fonio_module_new(const fonio_module_class *type) {
  if (!type) return fail_given_null("fonio_module_new"), NULL;
  if (type->struct_bytes != sizeof *type || type->module_bytes < sizeof(fonio_module) || !type->name)
    return fail_null(FONIO_VALUE_ERROR, "fonio_module_class: fill it in with FONIO_MODULE_CLASS, and give it a name");
  fonio_module *module = memory_take_zeroed((int64_t)type->module_bytes);
  if (!module) return NULL;
  module->state = state_new(type);
  if (module->state) return module;
  memory_give(module);
  return NULL;
}

fonio_module *fonio_module_retain(fonio_module *module) {
  if (!module) return fail_given_null("fonio_module_retain"), NULL;
  atomic_fetch_add_explicit(&module->state->references, 1, memory_order_relaxed);
  return module;
}

/* Gives one reference back; a module that had no other joins the list of those to go. */
static void give_back(fonio_module *module, fonio_module **doomed) {
  if (atomic_fetch_sub_explicit(&module->state->references, 1, memory_order_acq_rel) != 1) return;
  module->state->next = *doomed;
  *doomed = module;
}

static void release_children(module_state *state, fonio_module **doomed) {
  for (int64_t i = 0; i < state->child_count; i++) {
    memory_give(state->children[i].name);
    give_back(state->children[i].module, doomed);
  }
  while (state->orphans) {
    fonio_module *orphan = state->orphans;
    state->orphans = orphan->state->next;
    orphan->state->orphaned = false;
    give_back(orphan, doomed);
  }
}

static void release_one(fonio_module *module, fonio_module **doomed) {
  module_state *state = module->state;
  if (state->type->release) state->type->release(module);
  release_children(state, doomed);
  memory_give(state->children);
  memory_give(state->hooks);
  fonio_dict_release(state->parameters);
  fonio_dict_release(state->buffers);
  memory_give(state);
  memory_give(module);
}

/* One after the other, so that a deep tree needs no deep stack. */
void fonio_module_release(fonio_module *module) {
  fonio_module *doomed = NULL;
  if (module) give_back(module, &doomed);
  while (doomed) {
    fonio_module *next = doomed;
    doomed = next->state->next;
    release_one(next, &doomed);
  }
}

const fonio_module_class *fonio_module_type(const fonio_module *module) {
  return module ? module->state->type : NULL;
}

bool fonio_module_training(const fonio_module *module) {
  return module && module->state->training;
}

static fonio_status set_training(fonio_module *module, void *mode) {
  module->state->training = *(bool *)mode;
  return FONIO_OK;
}

fonio_status fonio_module_train(fonio_module *module, bool mode) {
  return fonio_module_apply(module, set_training, &mode);
}
