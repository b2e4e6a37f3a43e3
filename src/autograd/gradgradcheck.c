/* torch.autograd.gradgradcheck: the gradients that a function's gradients have in turn. */
#include "autograd/node.h"
#include "base/error.h"
#include "base/memory.h"

/* The function whose gradients are checked: the gradient of one input of another. */
typedef struct first_gradient {
  fonio_gradcheck_function function;
  void *user;
  int count; /* inputs of `function`; the gradient of its output comes behind them */
  int which;
} first_gradient;

/* Takes `output` over. Of an input that is not used the gradient is 0. */
static fonio_tensor *gradient_from(fonio_tensor *output, fonio_tensor *input, fonio_tensor *grad_output) {
  fonio_tensor *grad = NULL;
  if (!output) return fail_given_null("fonio_gradgradcheck"), NULL;
  fonio_status status = fonio_grad(output, 1, &input, grad_output, true, true, true, &grad);
  fonio_tensor_release(output);
  if (status || grad) return grad;
  return fonio_tensor_zeros(input->dtype, input->ndim, input->shape);
}

static fonio_tensor *call_gradient(fonio_tensor *const *inputs, int count, void *user) {
  const first_gradient *first = user;
  fonio_tensor *output = first->function(inputs, first->count, first->user);
  return gradient_from(output, inputs[first->which], inputs[count - 1]);
}

/* As torch, random and requiring a gradient, where none is given. */
static fonio_tensor *gradient_for(const first_gradient *first, fonio_tensor *const *inputs, fonio_tensor *given) {
  if (given) return fonio_tensor_retain(given);
  fonio_tensor *output = first->function(inputs, first->count, first->user);
  if (!output) return fail_given_null("fonio_gradgradcheck"), NULL;
  fonio_tensor *drawn = fonio_tensor_randn(output->dtype, output->ndim, output->shape);
  fonio_tensor_release(output);
  if (!drawn || !fonio_tensor_set_requires_grad(drawn, true)) return drawn;
  fonio_tensor_release(drawn);
  return NULL;
}

static fonio_status check_each(first_gradient *first, fonio_tensor *const *all, double eps, double atol, double rtol) {
  fonio_status status = FONIO_OK;
  for (first->which = 0; !status && first->which < first->count; first->which++)
    if (fonio_tensor_requires_grad(all[first->which]))
      status = fonio_gradcheck(call_gradient, first, first->count + 1, all, eps, atol, rtol);
  return status;
}

fonio_status fonio_gradgradcheck(fonio_gradcheck_function function, void *user, int count, fonio_tensor *const *inputs,
                                 fonio_tensor *grad_output, double eps, double atol, double rtol) {
  if (!function || (count > 0 && !inputs)) return fail_given_null("fonio_gradgradcheck");
  first_gradient first = {.function = function, .user = user, .count = count > 0 ? count : 0};
  fonio_tensor **all = memory_take((first.count + 1) * (int64_t)sizeof *all);
  if (!all) return FONIO_NO_MEMORY;
  for (int i = 0; i < first.count; i++)
    all[i] = inputs[i];
  all[first.count] = gradient_for(&first, inputs, grad_output);
  fonio_status status = all[first.count] ? check_each(&first, all, eps, atol, rtol) : fonio_last_status();
  fonio_tensor_release(all[first.count]);
  memory_give(all);
  return status;
}
