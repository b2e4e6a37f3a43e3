/* add and mul with their gradients. */
#include "autograd/node.h"
#include "base/error.h"

fonio_tensor *autograd_to_input(fonio_tensor *gradient, const autograd_shape *input) {
  fonio_tensor *sum = gradient ? autograd_sum_to(gradient, input) : NULL;
  fonio_tensor *converted = sum ? fonio_tensor_to(sum, input->dtype) : NULL;
  fonio_tensor_release(sum);
  return converted;
}

/* ---- add ---- */

static fonio_status add_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  for (int i = 0; i < 2; i++) {
    if (!wanted[i]) continue;
    gradients[i] = autograd_to_input(gradient, &node->shapes[i]);
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
    fonio_tensor *product = fonio_tensor_mul(gradient, factors[1 - i]);
    gradients[i] = autograd_to_input(product, &node->shapes[i]);
    fonio_tensor_release(product);
    status = autograd_made(gradients[i]);
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

/* ---- sub ---- */

static fonio_status sub_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  fonio_tensor *negative = wanted[1] ? fonio_tensor_neg(gradient) : NULL;
  if (wanted[1]) gradients[1] = autograd_to_input(negative, &node->shapes[1]);
  fonio_tensor_release(negative);
  if (wanted[1] && !gradients[1]) return fonio_last_status();
  if (!wanted[0]) return FONIO_OK;
  gradients[0] = autograd_to_input(gradient, &node->shapes[0]);
  return autograd_made(gradients[0]);
}

static const autograd_operation sub_operation = {"SubBackward0", false, sub_apply};

fonio_tensor *fonio_tensor_sub(fonio_tensor *a, fonio_tensor *b) {
  if (!a || !b) return fail_given_null("fonio_tensor_sub"), NULL;
  fonio_tensor *inputs[] = {a, b};
  return autograd_record(tensor_sub(a, b), &sub_operation, 2, inputs, NULL, 0);
}

/* ---- neg ---- */

static fonio_status neg_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  (void)node, (void)wanted;
  gradients[0] = fonio_tensor_neg(gradient);
  return autograd_made(gradients[0]);
}

static const autograd_operation neg_operation = {"NegBackward0", false, neg_apply};

fonio_tensor *fonio_tensor_neg(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_neg"), NULL;
  return autograd_record(tensor_neg(tensor), &neg_operation, 1, &tensor, NULL, 0);
}

/* ---- div ---- */

/* -gradient * ((a / b) / b), in torch's order. */
static fonio_tensor *gradient_of_divisor(fonio_tensor *gradient, fonio_tensor *a, fonio_tensor *b) {
  fonio_tensor *quotient = fonio_tensor_div(a, b);
  fonio_tensor *slope = fonio_tensor_div(quotient, b);
  fonio_tensor *negative = fonio_tensor_neg(gradient);
  fonio_tensor *product = fonio_tensor_mul(negative, slope);
  fonio_tensor_release(negative);
  fonio_tensor_release(slope);
  fonio_tensor_release(quotient);
  return product;
}

/* `a` is there when b has a gradient. */
static fonio_status div_gradients(autograd_node *node, fonio_tensor *gradient, fonio_tensor *a, fonio_tensor *b,
                                  const bool *wanted, fonio_tensor **gradients) {
  for (int i = 0; i < 2; i++) {
    if (!wanted[i]) continue;
    fonio_tensor *whole = i == 0 ? fonio_tensor_div(gradient, b) : gradient_of_divisor(gradient, a, b);
    gradients[i] = autograd_to_input(whole, &node->shapes[i]);
    fonio_tensor_release(whole);
    if (!gradients[i]) return fonio_last_status();
  }
  return FONIO_OK;
}

static fonio_status div_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  fonio_tensor *b = autograd_saved_tensor(node, 1);
  if (!b) return fonio_last_status();
  bool saves_a = autograd_node_needs(node, 1);
  fonio_tensor *a = saves_a ? autograd_saved_tensor(node, 0) : NULL;
  fonio_status status = saves_a && !a ? fonio_last_status() : div_gradients(node, gradient, a, b, wanted, gradients);
  fonio_tensor_release(a);
  fonio_tensor_release(b);
  return status;
}

static const autograd_operation div_operation = {"DivBackward0", false, div_apply};

fonio_tensor *fonio_tensor_div(fonio_tensor *a, fonio_tensor *b) {
  if (!a || !b) return fail_given_null("fonio_tensor_div"), NULL;
  fonio_tensor *inputs[] = {a, b};
  fonio_tensor *result = autograd_record(tensor_div(a, b), &div_operation, 2, inputs, NULL, 0);
  if (autograd_needs(result, 1)) autograd_save(result, 0, a);
  autograd_save(result, 1, b);
  return result;
}

/* ---- By a number ---- */

typedef fonio_tensor *(*by_number)(const fonio_tensor *tensor, const fonio_tensor *number);

/* The number as torch sees one beside a tensor: it widens nothing, and has no gradient. */
static fonio_tensor *record_by_number(by_number compute, const autograd_operation *operation, fonio_tensor *tensor,
                                      double number) {
  if (!tensor) return fail_given_null("fonio_tensor"), NULL;
  fonio_tensor *other = fonio_tensor_full(tensor->dtype, number, FONIO_SCALAR);
  if (!other) return NULL;
  fonio_tensor *result = compute(tensor, other);
  fonio_tensor_release(other);
  return autograd_record(result, operation, 1, &tensor, &number, sizeof number);
}

static fonio_status mul_number_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                     fonio_tensor **gradients) {
  (void)wanted;
  gradients[0] = autograd_mul_number(gradient, *(const double *)node->attributes);
  return autograd_made(gradients[0]);
}

static const autograd_operation mul_number_operation = {"MulBackward1", false, mul_number_apply};

fonio_tensor *autograd_mul_number(fonio_tensor *tensor, double number) {
  return record_by_number(tensor_mul, &mul_number_operation, tensor, number);
}

static fonio_status div_number_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                     fonio_tensor **gradients) {
  (void)wanted;
  gradients[0] = autograd_div_number(gradient, *(const double *)node->attributes);
  return autograd_made(gradients[0]);
}

static const autograd_operation div_number_operation = {"DivBackward1", false, div_number_apply};

fonio_tensor *autograd_div_number(fonio_tensor *tensor, double number) {
  return record_by_number(tensor_div, &div_number_operation, tensor, number);
}
