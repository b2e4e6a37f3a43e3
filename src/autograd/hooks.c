/* Hooks on gradients. Those of a leaf hang on the tensor, those of others on the node that made it. */
#include "autograd/node.h"
#include "base/error.h"
#include "base/memory.h"

static tensor_hook **hooks_of(fonio_tensor *tensor) {
  return tensor->node ? &((autograd_node *)tensor->node)->hooks : &tensor->hooks;
}

fonio_status fonio_tensor_register_hook(fonio_tensor *tensor, fonio_gradient_hook hook, void *user, int64_t *handle) {
  static int64_t last;
  if (!tensor || !hook) return fail_given_null("fonio_tensor_register_hook");
  if (!tensor->requires_grad)
    return fail(FONIO_RUNTIME_ERROR, "cannot register a hook on a tensor that doesn't require gradient");
  tensor_hook *made = memory_take(sizeof *made);
  if (!made) return FONIO_NO_MEMORY;
  autograd_lock();
  tensor_hook **end = hooks_of(tensor);
  while (*end)
    end = &(*end)->next;
  *made = (tensor_hook){NULL, ++last, hook, user};
  *end = made;
  if (handle) *handle = last;
  autograd_unlock();
  return FONIO_OK;
}

fonio_status fonio_tensor_remove_hook(fonio_tensor *tensor, int64_t handle) {
  if (!tensor) return fail_given_null("fonio_tensor_remove_hook");
  autograd_lock();
  tensor_hook **place = hooks_of(tensor);
  while (*place && (*place)->number != handle)
    place = &(*place)->next;
  tensor_hook *gone = *place;
  if (gone) *place = gone->next;
  autograd_unlock();
  memory_give(gone);
  return FONIO_OK;
}

/* ---- Running ---- */

/* The one after `hook`, copied, since it may be removed while it runs; false: there is none. */
static bool next_hook(tensor_hook *const *list, tensor_hook *hook) {
  autograd_lock();
  const tensor_hook *next = *list;
  while (next && next->number <= hook->number)
    next = next->next;
  if (next) *hook = *next;
  autograd_unlock();
  return next;
}

static fonio_status check_changed(const fonio_tensor *gradient, const fonio_tensor *changed) {
  if (changed->dtype != gradient->dtype)
    return fail(FONIO_RUNTIME_ERROR,
                "hook '<unknown>' has changed the type of value (was torch.%sTensor got torch.%sTensor)",
                fonio_dtype_scalar_name(gradient->dtype), fonio_dtype_scalar_name(changed->dtype));
  if (tensor_same_shape(gradient, changed)) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR, "hook '<unknown>' has changed the size of value");
}

fonio_status autograd_run_hooks(tensor_hook *const *list, fonio_tensor **gradient) {
  tensor_hook hook = {0};
  while (next_hook(list, &hook)) {
    fonio_tensor *changed = NULL;
    fonio_status status = hook.function(*gradient, &changed, hook.user);
    if (!status && changed) status = check_changed(*gradient, changed);
    fonio_tensor *gone = status ? changed : *gradient;
    if (!status && changed) *gradient = changed;
    if (status || changed) fonio_tensor_release(gone);
    if (status) return status;
  }
  return FONIO_OK;
}
