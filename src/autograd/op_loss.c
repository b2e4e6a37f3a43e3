/* log_softmax and the losses, with their gradients. */
#include "autograd/node.h"
#include "base/error.h"
#include "tensor/index.h"

/* ---- log_softmax ---- */

/* gradient - exp(result) * sum of the gradient, along the dimension. */
static fonio_tensor *softmax_formula(fonio_tensor *gradient, fonio_tensor *result, int64_t dim) {
  fonio_tensor *sum = fonio_tensor_sum_dims(gradient, gradient->ndim > 0, &dim, true);
  fonio_tensor *shares = fonio_tensor_exp(result);
  fonio_tensor *product = fonio_tensor_mul(shares, sum);
  fonio_tensor *difference = fonio_tensor_sub(gradient, product);
  fonio_tensor_release(product);
  fonio_tensor_release(shares);
  fonio_tensor_release(sum);
  return difference;
}

/* The gradients of a gradient of log_softmax: of the gradient that it came from, and of the result. */
static fonio_tensor *gradient_of_result(fonio_tensor *above, fonio_tensor *gradient, fonio_tensor *result,
                                        int64_t dim) {
  fonio_tensor *sum = fonio_tensor_sum_dims(gradient, gradient->ndim > 0, &dim, true),
               *negative = fonio_tensor_neg(sum);
  fonio_tensor *shares = fonio_tensor_exp(result), *product = fonio_tensor_mul(negative, shares);
  fonio_tensor *slope = fonio_tensor_mul(product, above);
  fonio_tensor_release(product);
  fonio_tensor_release(shares);
  fonio_tensor_release(negative);
  fonio_tensor_release(sum);
  return slope;
}

static fonio_tensor *gradient_of_gradient(fonio_tensor *above, fonio_tensor *result, int64_t dim) {
  fonio_tensor *shares = fonio_tensor_exp(result), *product = fonio_tensor_mul(above, shares);
  fonio_tensor *sum = fonio_tensor_sum_dims(product, above->ndim > 0, &dim, true);
  fonio_tensor *difference = fonio_tensor_sub(above, sum);
  fonio_tensor_release(sum);
  fonio_tensor_release(product);
  fonio_tensor_release(shares);
  return difference;
}

/* The inputs, and what is saved: the gradient, the result. */
static fonio_status softmax_gradient_apply(autograd_node *node, fonio_tensor *above, const bool *wanted,
                                           fonio_tensor **gradients) {
  int64_t dim = *(const int64_t *)node->attributes;
  fonio_tensor *gradient = autograd_saved_tensor(node, 0);
  fonio_tensor *result = gradient ? autograd_saved_tensor(node, 1) : NULL;
  fonio_status status = result ? FONIO_OK : fonio_last_status();
  if (!status && wanted[0]) {
    gradients[0] = gradient_of_gradient(above, result, dim);
    status = autograd_made(gradients[0]);
  }
  if (!status && wanted[1]) {
    gradients[1] = gradient_of_result(above, gradient, result, dim);
    status = autograd_made(gradients[1]);
  }
  fonio_tensor_release(result);
  fonio_tensor_release(gradient);
  return status;
}

static const autograd_operation softmax_gradient_operation = {"LogSoftmaxBackwardDataBackward0", false,
                                                              softmax_gradient_apply};

static fonio_tensor *softmax_gradient(fonio_tensor *gradient, fonio_tensor *result, int64_t dim) {
  bool before = fonio_set_grad_enabled(false);
  fonio_tensor *made = softmax_formula(gradient, result, dim), *inputs[] = {gradient, result};
  fonio_set_grad_enabled(before);
  made = autograd_record(made, &softmax_gradient_operation, 2, inputs, &dim, sizeof dim);
  autograd_save(made, 0, gradient);
  autograd_save(made, 1, result);
  return made;
}

static fonio_status softmax_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                  fonio_tensor **gradients) {
  (void)wanted;
  fonio_tensor *result = autograd_saved_tensor(node, 0);
  if (!result) return fonio_last_status();
  gradients[0] = softmax_gradient(gradient, result, *(const int64_t *)node->attributes);
  fonio_tensor_release(result);
  return autograd_made(gradients[0]);
}

static const autograd_operation softmax_operation = {"LogSoftmaxBackward0", false, softmax_apply};

fonio_tensor *fonio_tensor_log_softmax(fonio_tensor *tensor, int dim) {
  if (!tensor) return fail_given_null("fonio_tensor_log_softmax"), NULL;
  int64_t along = index_wrap_dim(dim, tensor->ndim > 0 ? tensor->ndim : 1);
  if (along < 0) return NULL;
  fonio_tensor *result = tensor_log_softmax(tensor, (int)along);
  return autograd_save_result(autograd_record(result, &softmax_operation, 1, &tensor, &along, sizeof along), 0);
}

/* ---- mse_loss ---- */

static fonio_tensor *reduced(fonio_tensor *tensor, fonio_reduction reduction) {
  if (reduction == FONIO_REDUCTION_MEAN) return fonio_tensor_mean(tensor);
  return reduction == FONIO_REDUCTION_SUM ? fonio_tensor_sum(tensor) : fonio_tensor_retain(tensor);
}

static fonio_status check_reduction(fonio_reduction reduction) {
  if ((unsigned)reduction <= FONIO_REDUCTION_SUM) return FONIO_OK;
  return fail(FONIO_VALUE_ERROR, "%d is not a valid value for reduction", (int)reduction);
}

typedef struct mse {
  fonio_reduction reduction;
  double factor; /* 2, or 2 over the number of elements */
} mse;

/* factor * (input - target) * gradient, the gradient of the input; that of the target is its negative. */
static fonio_tensor *mse_slope(fonio_tensor *gradient, fonio_tensor *input, fonio_tensor *target, double factor) {
  fonio_tensor *difference = fonio_tensor_sub(input, target);
  fonio_tensor *scaled = autograd_mul_number(difference, factor);
  fonio_tensor *slope = fonio_tensor_mul(scaled, gradient);
  fonio_tensor_release(scaled);
  fonio_tensor_release(difference);
  return slope;
}

static fonio_status mse_gradients(const autograd_node *node, fonio_tensor *slope, const bool *wanted,
                                  fonio_tensor **gradients) {
  if (!slope) return fonio_last_status();
  if (wanted[0]) gradients[0] = autograd_to_input(slope, &node->shapes[0]);
  if (wanted[0] && !gradients[0]) return fonio_last_status();
  if (!wanted[1]) return FONIO_OK;
  fonio_tensor *negative = fonio_tensor_neg(slope);
  gradients[1] = autograd_to_input(negative, &node->shapes[1]);
  fonio_tensor_release(negative);
  return autograd_made(gradients[1]);
}

static fonio_status mse_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  const mse *of = node->attributes;
  fonio_tensor *input = autograd_saved_tensor(node, 0);
  fonio_tensor *target = input ? autograd_saved_tensor(node, 1) : NULL;
  fonio_status status = target ? FONIO_OK : fonio_last_status();
  fonio_tensor *slope = status ? NULL : mse_slope(gradient, input, target, of->factor);
  if (!status) status = mse_gradients(node, slope, wanted, gradients);
  fonio_tensor_release(slope);
  fonio_tensor_release(target);
  fonio_tensor_release(input);
  return status;
}

static const autograd_operation mse_operation = {"MseLossBackward0", false, mse_apply};

fonio_tensor *fonio_tensor_mse_loss(fonio_tensor *input, fonio_tensor *target, fonio_reduction reduction) {
  if (!input || !target) return fail_given_null("fonio_tensor_mse_loss"), NULL;
  if (check_reduction(reduction)) return NULL;
  bool before = fonio_set_grad_enabled(false);
  fonio_tensor *difference = fonio_tensor_sub(input, target), *square = fonio_tensor_mul(difference, difference);
  fonio_tensor *loss = square ? reduced(square, reduction) : NULL, *inputs[] = {input, target};
  fonio_set_grad_enabled(before);
  bool mean = reduction == FONIO_REDUCTION_MEAN;
  mse of = {reduction, mean && square ? 2 / (double)square->numel : 2};
  fonio_tensor_release(square);
  fonio_tensor_release(difference);
  loss = autograd_record(loss, &mse_operation, 2, inputs, &of, sizeof of);
  autograd_save(loss, 0, input);
  autograd_save(loss, 1, target);
  return loss;
}
