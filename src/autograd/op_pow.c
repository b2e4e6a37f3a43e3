/* pow with its gradients, in torch's three kinds: of a tensor by a number, by a tensor, and of a number by a tensor. */
#include <math.h>

#include "autograd/node.h"
#include "base/error.h"

/* ---- tensor ** number ---- */

/* gradient * (exponent * tensor ** (exponent - 1)), in torch's order; nothing for an exponent of 0. */
static fonio_tensor *gradient_of_pow(fonio_tensor *gradient, fonio_tensor *tensor, double exponent) {
  if (exponent == 0) return fonio_tensor_zeros(tensor->dtype, tensor->ndim, tensor->shape);
  fonio_tensor *power = fonio_tensor_pow(tensor, exponent - 1);
  fonio_tensor *slope = autograd_mul_number(power, exponent);
  fonio_tensor *result = fonio_tensor_mul(gradient, slope);
  fonio_tensor_release(slope);
  fonio_tensor_release(power);
  return result;
}

static fonio_status pow_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  (void)wanted;
  fonio_tensor *tensor = autograd_saved_tensor(node, 0);
  if (!tensor) return fonio_last_status();
  gradients[0] = gradient_of_pow(gradient, tensor, *(const double *)node->attributes);
  fonio_tensor_release(tensor);
  return autograd_made(gradients[0]);
}

static const autograd_operation pow_operation = {"PowBackward0", false, pow_apply};

fonio_tensor *fonio_tensor_pow(fonio_tensor *tensor, double exponent) {
  if (!tensor) return fail_given_null("fonio_tensor_pow"), NULL;
  fonio_tensor *result = tensor_pow(tensor, exponent);
  result = autograd_record(result, &pow_operation, 1, &tensor, &exponent, sizeof exponent);
  autograd_save(result, 0, tensor);
  return result;
}

/* ---- Zero where torch has it ---- */

static fonio_tensor *where_not_zero(fonio_tensor *mask, fonio_tensor *tensor);

static fonio_status where_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                fonio_tensor **gradients) {
  (void)wanted;
  fonio_tensor *mask = autograd_saved_tensor(node, 0);
  if (!mask) return fonio_last_status();
  gradients[0] = where_not_zero(mask, gradient);
  fonio_tensor_release(mask);
  return autograd_made(gradients[0]);
}

static const autograd_operation where_operation = {"WhereBackward0", false, where_apply};

/* `tensor` where `mask`, which is broadcast to it, is not 0, else 0. NULL for NULL. */
static fonio_tensor *where_not_zero(fonio_tensor *mask, fonio_tensor *tensor) {
  if (!mask || !tensor) return NULL;
  fonio_tensor *result = tensor_where_not_zero(mask, tensor);
  result = autograd_record(result, &where_operation, 1, &tensor, NULL, 0);
  autograd_save(result, 0, mask);
  return result;
}

/* ---- tensor ** tensor ---- */

enum { BASE, EXPONENT, RESULT };

static const autograd_operation pow_tensor_operation;

/* gradient * (exponent * base ** (exponent - 1)); 0 for an exponent of 0. */
static fonio_tensor *gradient_of_base(fonio_tensor *gradient, fonio_tensor *base, fonio_tensor *exponent) {
  fonio_tensor *one = fonio_tensor_ones(exponent->dtype, FONIO_SCALAR);
  fonio_tensor *less = one ? fonio_tensor_sub(exponent, one) : NULL;
  fonio_tensor *power = less ? fonio_tensor_pow_tensor(base, less) : NULL;
  fonio_tensor *slope = power ? fonio_tensor_mul(exponent, power) : NULL;
  fonio_tensor *product = slope ? fonio_tensor_mul(gradient, slope) : NULL;
  fonio_tensor *mask = product ? tensor_neg(exponent) : NULL; /* a new one, as in torch: its strides count */
  fonio_tensor *result = where_not_zero(mask, product);
  fonio_tensor_release(mask);
  fonio_tensor_release(product);
  fonio_tensor_release(slope);
  fonio_tensor_release(power);
  fonio_tensor_release(less);
  fonio_tensor_release(one);
  return result;
}

/* `slope`, result * log(base), but 0 where a base of 0 has an exponent of at least 0. */
static fonio_tensor *without_powers_of_zero(fonio_tensor *slope, fonio_tensor *base, fonio_tensor *exponent) {
  fonio_tensor *bases = base ? tensor_clone(base) : NULL;
  fonio_tensor *exponents = bases ? tensor_clone(exponent) : NULL;
  fonio_tensor *mask = exponents ? tensor_not_power_of_zero(bases, exponents) : NULL;
  fonio_tensor *result = where_not_zero(mask, slope);
  fonio_tensor_release(mask);
  fonio_tensor_release(exponents);
  fonio_tensor_release(bases);
  return result;
}

/* gradient * (result * log(base)), with that exception. */
static fonio_tensor *gradient_of_exponent(fonio_tensor *gradient, fonio_tensor *base, fonio_tensor *exponent,
                                          fonio_tensor *result) {
  fonio_tensor *wide = fonio_tensor_to(base, result->dtype);
  fonio_tensor *logarithm = wide ? fonio_tensor_log(wide) : NULL;
  fonio_tensor *slope = logarithm ? fonio_tensor_mul(result, logarithm) : NULL;
  fonio_tensor *without = without_powers_of_zero(slope, wide, exponent);
  fonio_tensor *product = without ? fonio_tensor_mul(gradient, without) : NULL;
  fonio_tensor_release(without);
  fonio_tensor_release(slope);
  fonio_tensor_release(logarithm);
  fonio_tensor_release(wide);
  return product;
}

/* Like torch, takes out all that was saved, whatever this pass wants of it. There is no base where it is a number. */
static fonio_status take_saved(autograd_node *node, fonio_tensor *saved[3]) {
  bool has_base = node->operation == &pow_tensor_operation;
  saved[EXPONENT] = autograd_saved_tensor(node, EXPONENT);
  saved[BASE] = saved[EXPONENT] && has_base ? autograd_saved_tensor(node, BASE) : NULL;
  saved[RESULT] = saved[EXPONENT] && (saved[BASE] || !has_base) ? autograd_saved_tensor(node, RESULT) : NULL;
  return autograd_made(saved[RESULT]);
}

static void release_saved(fonio_tensor *saved[3]) {
  for (int i = 0; i < 3; i++)
    fonio_tensor_release(saved[i]);
}

static fonio_status pow_tensor_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                     fonio_tensor **gradients) {
  fonio_tensor *saved[3] = {NULL};
  fonio_status status = take_saved(node, saved);
  for (int i = 0; !status && i < 2; i++) {
    if (!wanted[i]) continue;
    fonio_tensor *whole = i == BASE ? gradient_of_base(gradient, saved[BASE], saved[EXPONENT])
                                    : gradient_of_exponent(gradient, saved[BASE], saved[EXPONENT], saved[RESULT]);
    gradients[i] = autograd_to_input(whole, &node->shapes[i]);
    fonio_tensor_release(whole);
    status = autograd_made(gradients[i]);
  }
  release_saved(saved);
  return status;
}

static const autograd_operation pow_tensor_operation = {"PowBackward1", false, pow_tensor_apply};

fonio_tensor *fonio_tensor_pow_tensor(fonio_tensor *base, fonio_tensor *exponent) {
  if (!base || !exponent) return fail_given_null("fonio_tensor_pow_tensor"), NULL;
  fonio_tensor *inputs[] = {base, exponent};
  fonio_tensor *result = tensor_pow_tensor(base, exponent);
  result = autograd_record(result, &pow_tensor_operation, 2, inputs, NULL, 0);
  autograd_save(result, BASE, base);
  autograd_save(result, EXPONENT, exponent);
  return autograd_save_result(result, RESULT);
}

/* ---- number ** tensor ---- */

/* gradient * (result * log(base)); with a base of 0 as above. */
static fonio_tensor *gradient_over_number(fonio_tensor *gradient, double base, fonio_tensor *exponent,
                                          fonio_tensor *result) {
  fonio_tensor *slope = autograd_mul_number(result, log(base));
  if (slope && base == 0) {
    fonio_tensor *zero = fonio_tensor_zeros(exponent->dtype, FONIO_SCALAR);
    fonio_tensor *without = without_powers_of_zero(slope, zero, exponent);
    fonio_tensor_release(zero);
    fonio_tensor_release(slope);
    slope = without;
  }
  fonio_tensor *product = slope ? fonio_tensor_mul(gradient, slope) : NULL;
  fonio_tensor_release(slope);
  return product;
}

static fonio_status number_pow_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                     fonio_tensor **gradients) {
  (void)wanted;
  fonio_tensor *saved[3] = {NULL};
  fonio_status status = take_saved(node, saved);
  if (!status) {
    double base = *(const double *)node->attributes;
    gradients[0] = gradient_over_number(gradient, base, saved[EXPONENT], saved[RESULT]);
    status = autograd_made(gradients[0]);
  }
  release_saved(saved);
  return status;
}

static const autograd_operation number_pow_operation = {"PowBackward2", false, number_pow_apply};

fonio_tensor *fonio_number_pow_tensor(double base, fonio_tensor *exponent) {
  if (!exponent) return fail_given_null("fonio_number_pow_tensor"), NULL;
  fonio_tensor *result = tensor_number_pow(base, exponent);
  result = autograd_record(result, &number_pow_operation, 1, &exponent, &base, sizeof base);
  autograd_save(result, EXPONENT, exponent);
  return autograd_save_result(result, RESULT);
}
