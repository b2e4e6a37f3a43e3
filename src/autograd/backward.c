/* tensor.backward() and torch.autograd.grad(). */
#include <string.h>

#include "autograd/pass.h"
#include "base/error.h"
#include "base/shape.h"
#include "tensor/copy.h"
#include "tensor/layout.h"
#include "tensor/storage.h"

/* ---- The gradient to start from ---- */

static fonio_status check_given(const fonio_tensor *output, const fonio_tensor *given) {
  if (!tensor_same_shape(output, given))
    return fail(FONIO_RUNTIME_ERROR,
                "Mismatch in shape: grad_output[0] has a shape of torch.Size(%s) and output[0] has a shape of "
                "torch.Size(%s).",
                shape_to_text(given->ndim, given->shape).text, shape_to_text(output->ndim, output->shape).text);
  bool complex = fonio_dtype_is_complex(output->dtype) || fonio_dtype_is_complex(given->dtype);
  if (complex && output->dtype != given->dtype)
    return fail(FONIO_RUNTIME_ERROR,
                "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in "
                "dtype: grad_output[0] has a dtype of torch.%s and output[0] has a dtype of torch.%s.",
                fonio_dtype_name(given->dtype), fonio_dtype_name(output->dtype));
  return FONIO_OK;
}

static fonio_status check_implicit(const fonio_tensor *output) {
  if (!output->requires_grad) return FONIO_OK;
  if (output->numel != 1) return fail(FONIO_RUNTIME_ERROR, "grad can be implicitly created only for scalar outputs");
  if (!fonio_dtype_is_floating_point(output->dtype))
    return fail(FONIO_RUNTIME_ERROR, "grad can be implicitly created only for real scalar outputs but got torch.%s",
                fonio_dtype_name(output->dtype));
  return FONIO_OK;
}

static fonio_status check_output(const fonio_tensor *output, const fonio_tensor *given) {
  fonio_status status = given ? check_given(output, given) : check_implicit(output);
  if (!status && !output->requires_grad)
    status = fail(FONIO_RUNTIME_ERROR, "element 0 of tensors does not require grad and does not have a grad_fn");
  return status;
}

/* The gradient of `output` with respect to itself, in its dtype. */
static fonio_tensor *first_gradient(const fonio_tensor *output, fonio_tensor *given) {
  if (!given) return fonio_tensor_ones(output->dtype, output->ndim, output->shape);
  return fonio_tensor_to(given, output->dtype);
}

static fonio_status run_from(autograd_pass *pass, const fonio_tensor *output, fonio_tensor *given, bool retain_graph) {
  fonio_tensor *gradient = first_gradient(output, given);
  return gradient ? pass_run(pass, output, gradient, retain_graph) : fonio_last_status();
}

/* ---- Into .grad ----
 *
 * First all is made that can fail, then all is put in place, under one lock: another thread may be adding to the same
 * leaves. */

/* The strides that torch gives to a leaf's .grad: the leaf's own if it is dense, otherwise contiguous ones. */
static bool grad_strides(const fonio_tensor *leaf, int64_t strides[FONIO_MAX_DIMS]) {
  if (!layout_is_dense(leaf)) return shape_contiguous_strides(leaf->ndim, leaf->shape, strides);
  memcpy(strides, leaf->strides, sizeof leaf->strides);
  return true;
}

static bool has_strides(const fonio_tensor *tensor, const int64_t *strides) {
  for (int i = 0; i < tensor->ndim; i++)
    if (tensor->shape[i] > 1 && tensor->strides[i] != strides[i]) return false;
  return true;
}

/* `gradient` itself if it can become the leaf's .grad without anyone else seeing it, otherwise a copy; with
 * create_graph always a copy, as in torch. */
static fonio_tensor *first_grad(const fonio_tensor *leaf, fonio_tensor *gradient) {
  int64_t strides[FONIO_MAX_DIMS];
  if (!grad_strides(leaf, strides)) return fail_null(FONIO_RUNTIME_ERROR, "Stride calculation overflowed");
  bool own = !fonio_grad_enabled() && atomic_load(&gradient->references) == 1 &&
             atomic_load(&gradient->storage->references) == 1;
  if (own && has_strides(gradient, strides)) return fonio_tensor_retain(gradient);
  fonio_tensor *copy = tensor_empty_strided(leaf->dtype, leaf->ndim, leaf->shape, strides);
  if (copy) copy_values(copy, gradient);
  return autograd_record_grad(copy, gradient);
}

/* Makes sure that nothing but the adding is left to do. A gradient that lies in the memory of .grad is copied: it is
 * read while .grad is written. What the copy replaces may be released under the lock: it has no history, or the caller
 * holds it, too. */
static fonio_status prepare_addition(pass_target *target) {
  const fonio_tensor *grad = target->keeper->grad;
  fonio_status status = tensor_check_accumulate(grad);
  if (status || grad->storage != target->gradient->storage) return status;
  fonio_tensor *copy = tensor_copy_contiguous(target->gradient);
  if (!copy) return fonio_last_status();
  fonio_tensor_release(target->gradient);
  target->gradient = copy;
  return FONIO_OK;
}

static fonio_status prepare(pass_target *target) {
  fonio_tensor *keeper = target->keeper;
  if (target->leaf && keeper->grad && !fonio_grad_enabled()) return prepare_addition(target);
  if (keeper->grad)
    target->result = fonio_tensor_add(keeper->grad, target->gradient);
  else if (target->leaf)
    target->result = first_grad(keeper, target->gradient);
  else
    target->result = autograd_record_grad(tensor_copy_contiguous(target->gradient), target->gradient);
  return target->result ? FONIO_OK : fonio_last_status();
}

static void put(pass_target *target) {
  if (!target->result) {
    tensor_accumulate(target->keeper->grad, target->gradient);
    return;
  }
  fonio_tensor *before = target->keeper->grad;
  target->keeper->grad = target->result;
  target->result = before; /* released with the pass, when the lock is free */
}

static fonio_status commit(autograd_pass *pass) {
  fonio_status status = FONIO_OK;
  autograd_lock();
  for (int64_t i = 0; !status && i < pass->count; i++)
    if (pass->targets[i].keeper) status = prepare(&pass->targets[i]);
  for (int64_t i = 0; !status && i < pass->count; i++)
    if (pass->targets[i].keeper) put(&pass->targets[i]);
  autograd_unlock();
  return status;
}

/* ---- backward ---- */

/* A leaf that no longer requires a gradient gets none, as in torch. */
static void collect_leaves(autograd_pass *pass) {
  for (int64_t i = 0; i < pass->count; i++) {
    pass_target *target = &pass->targets[i];
    if (target->leaf && target->gradient && target->leaf->requires_grad)
      target->keeper = fonio_tensor_retain(target->leaf);
  }
}

static fonio_status run_to_all(autograd_pass *pass, fonio_tensor *tensor, fonio_tensor *gradient, bool retain_graph) {
  fonio_status status = pass_begin(pass, tensor);
  if (status) return status;
  pass_want_all(pass);
  status = run_from(pass, tensor, gradient, retain_graph);
  if (status) return status;
  collect_leaves(pass);
  return commit(pass);
}

/* Once in a process, as torch does. */
static void warn_of_cycle(void) {
  static _Atomic bool warned;
  if (atomic_exchange(&warned, true)) return;
  warn("Using backward() with create_graph=True will create a reference cycle between the parameter and its gradient "
       "which can cause a memory leak. We recommend using autograd.grad when creating the graph to avoid this. If you "
       "have to use this function, make sure to reset the .grad fields of your parameters to None after use to break "
       "the cycle and avoid the leak.");
}

fonio_status fonio_tensor_backward_with(fonio_tensor *tensor, fonio_tensor *gradient, bool retain_graph,
                                        bool create_graph) {
  if (!tensor) return fail_given_null("fonio_tensor_backward");
  fonio_status status = check_output(tensor, gradient);
  if (status) return status;
  if (create_graph) warn_of_cycle();
  autograd_pass pass;
  bool before = fonio_set_grad_enabled(create_graph);
  status = run_to_all(&pass, tensor, gradient, retain_graph);
  fonio_set_grad_enabled(before);
  pass_end(&pass);
  return status;
}

fonio_status fonio_tensor_backward(fonio_tensor *tensor) {
  return fonio_tensor_backward_with(tensor, NULL, false, false);
}

/* ---- grad ---- */

static fonio_status check_inputs(int count, fonio_tensor *const *inputs) {
  for (int i = 0; i < count; i++)
    if (!inputs[i]->requires_grad)
      return fail(FONIO_RUNTIME_ERROR, "One of the differentiated Tensors does not require grad");
  return FONIO_OK;
}

static fonio_status check_used(const autograd_pass *pass, int count, fonio_tensor *const *inputs) {
  for (int i = 0; i < count; i++) {
    const pass_target *target = pass_find(pass, inputs[i]);
    if (!target || !target->gradient)
      return fail(FONIO_RUNTIME_ERROR,
                  "The differentiated Tensor at index %d appears to not have been used in the graph. Set "
                  "allow_unused=True if this is the desired behavior.",
                  i);
  }
  return FONIO_OK;
}

static fonio_status run_to(autograd_pass *pass, fonio_tensor *output, int count, fonio_tensor *const *inputs,
                           fonio_tensor *grad_output, bool retain_graph, bool allow_unused) {
  fonio_status status = pass_begin(pass, output);
  if (status) return status;
  for (int i = 0; i < count; i++) {
    pass_target *target = pass_find(pass, inputs[i]);
    if (target) target->asked = true;
  }
  pass_want_asked(pass);
  status = run_from(pass, output, grad_output, retain_graph);
  if (!status && !allow_unused) status = check_used(pass, count, inputs);
  return status ? status : commit(pass);
}

fonio_status fonio_grad(fonio_tensor *output, int count, fonio_tensor *const *inputs, fonio_tensor *grad_output,
                        bool retain_graph, bool create_graph, bool allow_unused, fonio_tensor **grads) {
  if (!output || (count > 0 && (!inputs || !grads))) return fail_given_null("fonio_grad");
  for (int i = 0; i < count; i++)
    if (!inputs[i]) return fail_given_null("fonio_grad");
  if (count <= 0) return fail(FONIO_RUNTIME_ERROR, "`inputs` argument to `grad()` cannot be empty.");
  fonio_status status = check_output(output, grad_output);
  if (!status) status = check_inputs(count, inputs);
  if (status) return status;
  autograd_pass pass;
  bool before = fonio_set_grad_enabled(create_graph);
  status = run_to(&pass, output, count, inputs, grad_output, retain_graph, allow_unused);
  fonio_set_grad_enabled(before);
  for (int i = 0; !status && i < count; i++) {
    const pass_target *target = pass_find(&pass, inputs[i]);
    grads[i] = target && target->gradient ? fonio_tensor_retain(target->gradient) : NULL;
  }
  pass_end(&pass);
  return status;
}
