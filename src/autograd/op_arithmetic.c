/* add, mul, sum and mean with their gradients. */
#include "autograd/node.h"
#include "base/error.h"

/* The gradient of an input that was broadcast and converted before it was used; NULL for NULL. */
static fonio_tensor *to_input(fonio_tensor *gradient, const autograd_shape *input) {
  fonio_tensor *sum = gradient ? autograd_sum_to(gradient, input) : NULL;
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

/* Each factor is there when the other one has a gradient. Like torch, takes out both, the second first, whatever this
 * pass wants of them. */
static fonio_status take_factors(autograd_node *node, fonio_tensor *factors[2]) {
  for (int i = 1; i >= 0; i--) {
    if (!autograd_node_needs(node, 1 - i)) continue;
    factors[i] = autograd_saved_tensor(node, i);
    if (!factors[i]) return fonio_last_status();
  }
  return FONIO_OK;
}

static fonio_status mul_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  fonio_tensor *factors[2] = {NULL, NULL};
  fonio_status status = take_factors(node, factors);
  for (int i = 0; !status && i < 2; i++) {
    if (!wanted[i]) continue;
    fonio_tensor *product = tensor_mul(gradient, factors[1 - i]);
    gradients[i] = to_input(product, &node->shapes[i]);
    fonio_tensor_release(product);
    if (!gradients[i]) status = fonio_last_status();
  }
  fonio_tensor_release(factors[0]);
  fonio_tensor_release(factors[1]);
  return status;
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

/* value / count, where `value` has no dimensions, all over a shape. */
static fonio_tensor *share_of(const fonio_tensor *value, int64_t count, int ndim, const int64_t *sizes) {
  double number = tensor_read_element(value->dtype, tensor_at_offset(value));
  return fonio_tensor_full(value->dtype, number / (double)count, ndim, sizes);
}

static fonio_status mean_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                               fonio_tensor **gradients) {
  (void)wanted;
  const int64_t *count = node->attributes;
  gradients[0] = share_of(gradient, *count, node->shapes[0].ndim, node->shapes[0].sizes);
  return gradients[0] ? FONIO_OK : fonio_last_status();
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
  fonio_tensor *mean = sum ? share_of(sum, tensor->numel, FONIO_SCALAR) : NULL;
  fonio_tensor_release(sum);
  return autograd_record(mean, &mean_operation, 1, &tensor, &tensor->numel, sizeof tensor->numel);
}
