/* add, mul, sum and mean with their gradients. */
#include "autograd/node.h"
#include "base/error.h"

/* ---- The gradient of an input that was broadcast and converted before it was used ---- */

static bool has_shape(const fonio_tensor *tensor, const autograd_shape *shape) {
  bool same = tensor->ndim == shape->ndim;
  for (int i = 0; same && i < shape->ndim; i++)
    same = tensor->shape[i] == shape->sizes[i];
  return same;
}

static fonio_tensor *to_shape(fonio_tensor *gradient, const autograd_shape *shape) {
  return has_shape(gradient, shape) ? fonio_tensor_retain(gradient)
                                    : tensor_sum_to(gradient, shape->ndim, shape->sizes);
}

/* NULL for NULL. */
static fonio_tensor *to_input(fonio_tensor *gradient, const autograd_shape *input) {
  fonio_tensor *sum = gradient ? to_shape(gradient, input) : NULL;
  if (!sum || sum->dtype == input->dtype) return sum;
  fonio_tensor *converted = tensor_convert(sum, input->dtype);
  fonio_tensor_release(sum);
  return converted;
}

/* ---- add ---- */

static fonio_status add_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  for (int i = 0; i < 2; i++) {
    if (!wanted[i]) continue;
    gradients[i] = to_input(gradient, &node->shapes[i]);
    if (!gradients[i]) return fonio_last_status();
  }
  return FONIO_OK;
}

static const autograd_operation add_operation = {"AddBackward0", false, add_apply};

fonio_tensor *fonio_tensor_add(fonio_tensor *a, fonio_tensor *b) {
  if (!a || !b) return fail_given_null("fonio_tensor_add"), NULL;
  fonio_tensor *inputs[] = {a, b};
  return autograd_record(tensor_add(a, b), &add_operation, 2, inputs, NULL, 0);
}

/* ---- mul: the gradient of each factor is the other times the gradient ---- */

static fonio_tensor *mul_gradient(autograd_node *node, fonio_tensor *gradient, int i) {
  fonio_tensor *other = autograd_saved_tensor(node, 1 - i);
  fonio_tensor *product = other ? tensor_mul(gradient, other) : NULL;
  fonio_tensor_release(other);
  fonio_tensor *result = to_input(product, &node->shapes[i]);
  fonio_tensor_release(product);
  return result;
}

static fonio_status mul_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  for (int i = 0; i < 2; i++) {
    if (!wanted[i]) continue;
    gradients[i] = mul_gradient(node, gradient, i);
    if (!gradients[i]) return fonio_last_status();
  }
  return FONIO_OK;
}

static const autograd_operation mul_operation = {"MulBackward0", false, mul_apply};

fonio_tensor *fonio_tensor_mul(fonio_tensor *a, fonio_tensor *b) {
  if (!a || !b) return fail_given_null("fonio_tensor_mul"), NULL;
  fonio_tensor *inputs[] = {a, b};
  fonio_tensor *result = autograd_record(tensor_mul(a, b), &mul_operation, 2, inputs, NULL, 0);
  if (autograd_needs(result, 1)) autograd_save(result, 0, a);
  if (autograd_needs(result, 0)) autograd_save(result, 1, b);
  return result;
}

/* ---- sum and mean: every element has the same gradient ---- */

static fonio_status sum_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  (void)wanted;
  gradients[0] = tensor_expand(gradient, node->shapes[0].ndim, node->shapes[0].sizes);
  return gradients[0] ? FONIO_OK : fonio_last_status();
}

static const autograd_operation sum_operation = {"SumBackward0", false, sum_apply};

fonio_tensor *fonio_tensor_sum(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_sum"), NULL;
  return autograd_record(tensor_sum(tensor), &sum_operation, 1, &tensor, NULL, 0);
}

/* value / count, of no dimensions. */
static fonio_tensor *divided(const fonio_tensor *value, int64_t count) {
  double number = tensor_read_element(value->dtype, tensor_at_offset(value));
  return fonio_tensor_full(value->dtype, number / (double)count, FONIO_SCALAR);
}

static fonio_status mean_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                               fonio_tensor **gradients) {
  fonio_tensor *share = divided(gradient, *(const int64_t *)node->attributes);
  if (!share) return fonio_last_status();
  fonio_status status = sum_apply(node, share, wanted, gradients);
  fonio_tensor_release(share);
  return status;
}

static const autograd_operation mean_operation = {"MeanBackward0", false, mean_apply};

fonio_tensor *fonio_tensor_mean(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_mean"), NULL;
  if (!fonio_dtype_is_floating_point(tensor->dtype) && !fonio_dtype_is_complex(tensor->dtype))
    return fail_null(FONIO_RUNTIME_ERROR,
                     "mean(): could not infer output dtype. Input dtype must be either a floating point or complex "
                     "dtype. Got: %s",
                     fonio_dtype_scalar_name(tensor->dtype));
  fonio_tensor *sum = tensor_sum(tensor);
  fonio_tensor *mean = sum ? divided(sum, tensor->numel) : NULL;
  fonio_tensor_release(sum);
  return autograd_record(mean, &mean_operation, 1, &tensor, &tensor->numel, sizeof tensor->numel);
}
