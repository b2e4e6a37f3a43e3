/* The activation of conv2d_activated with its gradients, which follow from its result: the sum before it is never
 * stored. */
#include <string.h>

#include "autograd/conv2d.h"
#include "autograd/node.h"
#include "conv/activation_gradient.h"
#include "tensor/storage.h"

static fonio_tensor *sum_gradient(const fonio_conv_problem *problem, fonio_tensor *gradient, fonio_tensor *result);

/* ---- The gradient's own gradients ---- */

/* What the derivative changes with the result: for sigmoid, (1 - y) y, by 1 - 2 y; for tanh, 1 - y^2, by -2 y. */
static fonio_tensor *second_derivative(fonio_activation activation, fonio_tensor *result) {
  fonio_tensor *twice = autograd_mul_number(result, -2);
  if (activation != FONIO_SIGMOID || !twice) return twice;
  fonio_tensor *one = fonio_tensor_ones(result->dtype, FONIO_SCALAR);
  fonio_tensor *sum = one ? fonio_tensor_add(twice, one) : NULL;
  fonio_tensor_release(one);
  fonio_tensor_release(twice);
  return sum;
}

/* To the result of the activation, `above` being the gradient of the gradient; zeros where it is made of lines. */
static fonio_tensor *to_result(const fonio_conv_problem *problem, fonio_tensor *above, fonio_tensor *gradient,
                               fonio_tensor *result) {
  if (problem->activation != FONIO_SIGMOID && problem->activation != FONIO_TANH) return tensor_zeros_like(above);
  fonio_tensor *slope = second_derivative(problem->activation, result);
  fonio_tensor *product = slope ? fonio_tensor_mul(above, gradient) : NULL;
  fonio_tensor *made = product ? fonio_tensor_mul(product, slope) : NULL;
  fonio_tensor_release(product);
  fonio_tensor_release(slope);
  return made;
}

static fonio_status sum_gradient_apply(autograd_node *node, fonio_tensor *above, const bool *wanted,
                                       fonio_tensor **gradients) {
  const fonio_conv_problem *problem = node->attributes;
  fonio_tensor *gradient = autograd_saved_tensor(node, 0);
  fonio_tensor *result = gradient ? autograd_saved_tensor(node, 1) : NULL;
  fonio_status status = autograd_made(result);
  if (!status && wanted[0]) {
    gradients[0] = sum_gradient(problem, above, result);
    status = autograd_made(gradients[0]);
  }
  if (!status && wanted[1]) {
    gradients[1] = to_result(problem, above, gradient, result);
    status = autograd_made(gradients[1]);
  }
  fonio_tensor_release(result);
  fonio_tensor_release(gradient);
  return status;
}

/* ---- The gradient ---- */

static bool same_strides(const fonio_tensor *a, const fonio_tensor *b) {
  return memcmp(a->strides, b->strides, (size_t)a->ndim * sizeof *a->strides) == 0;
}

/* The arrays of the convolution have one layout: a gradient of another one is copied first. */
static fonio_tensor *run(const fonio_conv_problem *problem, const fonio_tensor *gradient, const fonio_tensor *result) {
  fonio_tensor *made = tensor_empty_strided(result->dtype, result->ndim, result->shape, result->strides);
  if (!made || made->numel == 0) return made;
  const fonio_tensor *from = same_strides(gradient, made) ? gradient : made;
  fonio_status status = from == made ? tensor_copy(made, gradient) : FONIO_OK;
  if (!status)
    status = fonio_conv_activation_gradient(problem, tensor_at_offset(result), tensor_at_offset(from),
                                            tensor_at_offset(made));
  if (!status) return made;
  fonio_tensor_release(made);
  return NULL;
}

/* By fonio_activation, as torch calls them. */
static const autograd_operation sum_gradient_operations[] = {
    [FONIO_RELU] = {"ThresholdBackwardBackward0", false, sum_gradient_apply},
    [FONIO_RELU6] = {"HardtanhBackwardBackward0", false, sum_gradient_apply},
    [FONIO_LEAKY_RELU] = {"LeakyReluBackwardBackward0", false, sum_gradient_apply},
    [FONIO_SIGMOID] = {"SigmoidBackwardBackward0", false, sum_gradient_apply},
    [FONIO_TANH] = {"TanhBackwardBackward0", false, sum_gradient_apply},
};

static fonio_tensor *sum_gradient(const fonio_conv_problem *problem, fonio_tensor *gradient, fonio_tensor *result) {
  fonio_tensor *inputs[] = {gradient, result};
  fonio_tensor *made = autograd_record(run(problem, gradient, result), &sum_gradient_operations[problem->activation], 2,
                                       inputs, problem, sizeof *problem);
  autograd_save(made, 0, gradient);
  autograd_save(made, 1, result);
  return made;
}

static fonio_status activation_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                     fonio_tensor **gradients) {
  (void)wanted;
  fonio_tensor *result = autograd_saved_tensor(node, 0);
  if (!result) return fonio_last_status();
  gradients[0] = sum_gradient(node->attributes, gradient, result);
  fonio_tensor_release(result);
  return autograd_made(gradients[0]);
}

/* ---- Forward ---- */

static const autograd_operation activation_operations[] = {
    [FONIO_RELU] = {"ReluBackward0", false, activation_apply},
    [FONIO_RELU6] = {"HardtanhBackward0", false, activation_apply},
    [FONIO_LEAKY_RELU] = {"LeakyReluBackward0", false, activation_apply},
    [FONIO_SIGMOID] = {"SigmoidBackward0", false, activation_apply},
    [FONIO_TANH] = {"TanhBackward0", false, activation_apply},
};

fonio_tensor *autograd_record_activation(fonio_tensor *result, const fonio_conv_problem *problem, fonio_tensor *sum) {
  if (!sum->requires_grad) return result;
  if (conv_activation_check(problem)) {
    fonio_tensor_release(result);
    return NULL;
  }
  result = autograd_record(result, &activation_operations[problem->activation], 1, &sum, problem, sizeof *problem);
  return autograd_save_result(result, 0);
}
