/* module(input): forward, and the hooks around it. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "nn/module.h"

/* ---- Registering ---- */

static fonio_status add_hook(fonio_module *module, module_hook hook, int64_t *handle) {
  module_state *state = module->state;
  if (module_make_room((void **)&state->hooks, state->hook_count, &state->hook_room, sizeof hook))
    return fonio_last_status();
  hook.handle = ++state->last_handle;
  state->hooks[state->hook_count++] = hook;
  if (handle) *handle = hook.handle;
  return FONIO_OK;
}

fonio_status fonio_module_add_forward_pre_hook(fonio_module *module, fonio_forward_pre_hook hook, void *user,
                                               int64_t *handle) {
  if (!module || !hook) return fail_given_null("fonio_module_add_forward_pre_hook");
  return add_hook(module, (module_hook){.pre = hook, .user = user}, handle);
}

fonio_status fonio_module_add_forward_hook(fonio_module *module, fonio_forward_hook hook, void *user, int64_t *handle) {
  if (!module || !hook) return fail_given_null("fonio_module_add_forward_hook");
  return add_hook(module, (module_hook){.post = hook, .user = user}, handle);
}

fonio_status fonio_module_remove_hook(fonio_module *module, int64_t handle) {
  if (!module) return fail_given_null("fonio_module_remove_hook");
  module_state *state = module->state;
  for (int64_t i = 0; i < state->hook_count; i++) {
    if (state->hooks[i].handle != handle) continue;
    state->hook_count--;
    memmove(&state->hooks[i], &state->hooks[i + 1], (size_t)(state->hook_count - i) * sizeof *state->hooks);
    return FONIO_OK;
  }
  return FONIO_OK;
}

/* ---- Running ---- */

static fonio_tensor *run(fonio_module *module, fonio_tensor *input) {
  const fonio_module_class *type = module->state->type;
  if (!type->forward)
    return fail_null(FONIO_NOT_IMPLEMENTED, "Module [%s] is missing the required \"forward\" function", type->name);
  return type->forward(module, input);
}

/* Puts what a hook made of `*tensor` in its place. */
static fonio_status take_change(fonio_status status, fonio_tensor **tensor, fonio_tensor *changed) {
  if (!changed) return status;
  fonio_tensor_release(*tensor);
  *tensor = changed;
  return status;
}

static fonio_status run_pre_hooks(fonio_module *module, const module_hook *hooks, int64_t count, fonio_tensor **input) {
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < count; i++) {
    fonio_tensor *changed = NULL;
    if (hooks[i].pre) status = hooks[i].pre(module, *input, &changed, hooks[i].user);
    status = take_change(status, input, changed);
  }
  return status;
}

static fonio_status run_hooks(fonio_module *module, const module_hook *hooks, int64_t count, fonio_tensor *input,
                              fonio_tensor **output) {
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < count; i++) {
    fonio_tensor *changed = NULL;
    if (hooks[i].post) status = hooks[i].post(module, input, *output, &changed, hooks[i].user);
    status = take_change(status, output, changed);
  }
  return status;
}

/* The hooks are those of the beginning, whatever a hook adds or removes. */
static fonio_tensor *run_between_hooks(fonio_module *module, const module_hook *hooks, int64_t count,
                                       fonio_tensor *input) {
  fonio_tensor *output = NULL;
  input = fonio_tensor_retain(input);
  if (!run_pre_hooks(module, hooks, count, &input)) output = run(module, input);
  if (output && run_hooks(module, hooks, count, input, &output)) {
    fonio_tensor_release(output);
    output = NULL;
  }
  fonio_tensor_release(input);
  return output;
}

static fonio_tensor *run_with_hooks(fonio_module *module, fonio_tensor *input) {
  int64_t count = module->state->hook_count, bytes = count * (int64_t)sizeof(module_hook);
  if (count == 0) return run(module, input);
  module_hook *hooks = memory_take(bytes);
  if (!hooks) return NULL;
  memcpy(hooks, module->state->hooks, (size_t)bytes);
  fonio_tensor *output = run_between_hooks(module, hooks, count, input);
  memory_give(hooks);
  return output;
}

/* How many forwards this thread is in: a module that runs itself fails before the stack ends. */
static _Thread_local int depth;

fonio_tensor *fonio_module_forward(fonio_module *module, fonio_tensor *input) {
  if (!module || !input) return fail_given_null("fonio_module_forward"), NULL;
  if (depth >= MODULE_MOST_DEPTH) return module_fail_depth(), NULL;
  depth++;
  fonio_tensor *output = run_with_hooks(module, input);
  depth--;
  return output;
}
