/* Gradients: the tape that operations leave, and the ways back along it.
 *
 * A graph lives as long as a tensor that came of it: the result holds the leaves and what its gradient needs, and
 * nothing holds the result. Threads may go back along different graphs at once, or along the same one; what they add to
 * the .grad of a leaf that they share is never lost. Reading a .grad while another thread adds to it is not safe. */
#ifndef FONIO_AUTOGRAD_H
#define FONIO_AUTOGRAD_H

#include <fonio/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

/* tensor.requires_grad. */
FONIO_API bool fonio_tensor_requires_grad(const fonio_tensor *tensor);

/* tensor.requires_grad_(requires_grad), on a leaf of a floating-point dtype; FONIO_RUNTIME_ERROR with torch's texts. */
FONIO_API fonio_status fonio_tensor_set_requires_grad(fonio_tensor *tensor, bool requires_grad);

/* tensor.is_leaf. */
FONIO_API bool fonio_tensor_is_leaf(const fonio_tensor *tensor);

/* The name of tensor.grad_fn as torch prints it, such as "ConvolutionBackward0"; NULL for a leaf. Static text. */
FONIO_API const char *fonio_tensor_grad_fn_name(const fonio_tensor *tensor);

/* tensor.grad, borrowed; NULL when there is none. Warns as torch does when the tensor is neither a leaf nor keeps its
 * gradient. */
FONIO_API fonio_tensor *fonio_tensor_grad(const fonio_tensor *tensor);

/* tensor.grad = grad (retained; without its history, if it has one); NULL clears it. Shape and dtype must be the
 * tensor's. */
FONIO_API fonio_status fonio_tensor_set_grad(fonio_tensor *tensor, fonio_tensor *grad);

/* tensor.retain_grad(): keep the gradient of a tensor that is no leaf, too. */
FONIO_API fonio_status fonio_tensor_retain_grad(fonio_tensor *tensor);

/* tensor.register_hook(hook): while a backward or fonio_grad runs, calls hook(gradient, &changed, user) with the whole
 * gradient of the tensor before it goes anywhere. `gradient` is borrowed and must not be written to; a new tensor in
 * `changed` (NULL until then), of the same dtype and shape, takes its place, also for the next hook: they run in the
 * order in which they were registered. A status other than FONIO_OK ends the way back with it. `handle` (or NULL) is
 * for removing; a hook goes with its tensor, or, if that is no leaf, with what was made from it. FONIO_RUNTIME_ERROR
 * with torch's texts. Hooks may be registered and removed by any thread, but the tensor is not to be released
 * meanwhile. */
typedef fonio_status (*fonio_gradient_hook)(fonio_tensor *gradient, fonio_tensor **changed, void *user);
FONIO_API fonio_status fonio_tensor_register_hook(fonio_tensor *tensor, fonio_gradient_hook hook, void *user,
                                                  int64_t *handle);

/* handle.remove(), of a hook of this tensor. One that is gone is ignored, as in torch. */
FONIO_API fonio_status fonio_tensor_remove_hook(fonio_tensor *tensor, int64_t handle);

/* tensor.detach(): a new tensor over the same storage without a history. */
FONIO_NEW fonio_tensor *fonio_tensor_detach(fonio_tensor *tensor);

/* Whether operations of this thread record their history: torch.is_grad_enabled(). */
FONIO_API bool fonio_grad_enabled(void);

/* torch.set_grad_enabled(enabled) for this thread; returns what was set before:
 *   bool before = fonio_set_grad_enabled(false);  ...  fonio_set_grad_enabled(before);      // with torch.no_grad(): */
FONIO_API bool fonio_set_grad_enabled(bool enabled);

/* tensor.backward(gradient, retain_graph, create_graph): adds to the .grad of every leaf that `tensor` came from.
 * `gradient` NULL: 1, for a tensor of one element. Without `retain_graph` the graph's saved tensors are freed (torch
 * retains it with `create_graph` unless told otherwise). With `create_graph` the way back is recorded like any
 * operation: a .grad then has a history, which leads to the leaf itself; that they hold each other ends, as torch warns
 * (once in a process), only with fonio_tensor_set_grad(leaf, NULL). fonio_grad makes no such cycle, but for tensors
 * that keep their gradient. On failure no .grad is changed. FONIO_RUNTIME_ERROR with torch's texts. */
FONIO_API fonio_status fonio_tensor_backward_with(fonio_tensor *tensor, fonio_tensor *gradient, bool retain_graph,
                                                  bool create_graph);

/* tensor.backward(). */
FONIO_API fonio_status fonio_tensor_backward(fonio_tensor *tensor);

/* torch.autograd.grad(output, inputs, grad_output, retain_graph, create_graph, allow_unused): writes `count` new
 * tensors to `grads` (the caller releases each), NULL for an unused input where that is allowed. As in torch they may
 * share memory with each other and with `grad_output`. With `create_graph` they have a history of their own, so that
 * gradients can be taken of them in turn, as often as one likes. No leaf's .grad changes. On failure `grads` is
 * untouched. */
FONIO_API fonio_status fonio_grad(fonio_tensor *output, int count, fonio_tensor *const *inputs,
                                  fonio_tensor *grad_output, bool retain_graph, bool create_graph, bool allow_unused,
                                  fonio_tensor **grads);

/* torch.autograd.gradcheck: compares the gradients of `function` at `inputs` (float64; those that require a gradient
 * are checked) with central differences of step `eps`, within atol + rtol * |numeric|. `function(inputs, count, user)`
 * returns a new tensor; while it runs, an element of an input may differ by `eps`. torch's defaults: eps 1e-6, atol
 * 1e-5, rtol 1e-3. FONIO_RUNTIME_ERROR, with the place and both numbers, when they differ; FONIO_VALUE_ERROR when no
 * input requires a gradient; the status of `function` when it returns NULL. */
typedef fonio_tensor *(*fonio_gradcheck_function)(fonio_tensor *const *inputs, int count, void *user);
FONIO_API fonio_status fonio_gradcheck(fonio_gradcheck_function function, void *user, int count,
                                       fonio_tensor *const *inputs, double eps, double atol, double rtol);

/* torch.autograd.gradgradcheck: the same for the gradients of `function` with respect to each of these inputs, as
 * functions of the inputs and of `grad_output`, the gradient of what `function` returns. `grad_output` NULL: drawn from
 * the default generator, as torch does, and checked like an input; one that is given is checked if it requires a
 * gradient. */
FONIO_API fonio_status fonio_gradgradcheck(fonio_gradcheck_function function, void *user, int count,
                                           fonio_tensor *const *inputs, fonio_tensor *grad_output, double eps,
                                           double atol, double rtol);

#ifdef __cplusplus
}
#endif

#endif
