/* exp, log and relu with their gradients. */
#include "autograd/node.h"
#include "base/error.h"

typedef fonio_tensor *(*binary_function)(fonio_tensor *a, fonio_tensor *b);

/* gradient `operation` what was saved. */
static fonio_status with_saved(autograd_node *node, fonio_tensor *gradient, binary_function operation,
                               fonio_tensor **gradients) {
  fonio_tensor *saved = autograd_saved_tensor(node, 0);
  if (!saved) return fonio_last_status();
  gradients[0] = operation(gradient, saved);
  fonio_tensor_release(saved);
  return autograd_made(gradients[0]);
}

/* ---- exp ---- */

static fonio_status exp_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  (void)wanted;
  return with_saved(node, gradient, fonio_tensor_mul, gradients);
}

static const autograd_operation exp_operation = {"ExpBackward0", false, exp_apply};

fonio_tensor *fonio_tensor_exp(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_exp"), NULL;
  return autograd_save_result(autograd_record(tensor_exp(tensor), &exp_operation, 1, &tensor, NULL, 0), 0);
}

/* ---- log ---- */

static fonio_status log_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  (void)wanted;
  return with_saved(node, gradient, fonio_tensor_div, gradients);
}

static const autograd_operation log_operation = {"LogBackward0", false, log_apply};

fonio_tensor *fonio_tensor_log(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_log"), NULL;
  fonio_tensor *result = autograd_record(tensor_log(tensor), &log_operation, 1, &tensor, NULL, 0);
  autograd_save(result, 0, tensor);
  return result;
}

/* ---- relu ---- */

/* The values that chose what came through have a gradient, of zeros. */
static fonio_status where_positive_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                         fonio_tensor **gradients) {
  if (wanted[1]) gradients[1] = tensor_zeros_like(gradient);
  if (wanted[1] && !gradients[1]) return fonio_last_status();
  return wanted[0] ? with_saved(node, gradient, autograd_where_positive, gradients) : FONIO_OK;
}

static const autograd_operation where_positive_operation = {"ThresholdBackwardBackward0", false, where_positive_apply};

fonio_tensor *autograd_where_positive(fonio_tensor *gradient, fonio_tensor *result) {
  fonio_tensor *inputs[] = {gradient, result};
  fonio_tensor *through = tensor_where_positive(result, gradient);
  through = autograd_record(through, &where_positive_operation, 2, inputs, NULL, 0);
  if (autograd_needs(through, 0)) autograd_save(through, 0, result);
  return through;
}

static fonio_status relu_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                               fonio_tensor **gradients) {
  (void)wanted;
  return with_saved(node, gradient, autograd_where_positive, gradients);
}

static const autograd_operation relu_operation = {"ReluBackward0", false, relu_apply};

fonio_tensor *fonio_tensor_relu(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_relu"), NULL;
  return autograd_save_result(autograd_record(tensor_relu(tensor), &relu_operation, 1, &tensor, NULL, 0), 0);
}
