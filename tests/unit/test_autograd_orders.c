/* Gradients of gradients: create_graph, what it holds, and fonio_gradgradcheck. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tensors.h"

/* The gradient of the sum of `y` (released) with respect to x, with a history. */
static fonio_tensor *slope(fonio_tensor *y, fonio_tensor *x) {
  fonio_tensor *sum = fonio_tensor_sum(y), *grad = NULL;
  assert_int_equal(fonio_grad(sum, 1, &x, NULL, true, true, false, &grad), FONIO_OK);
  RELEASE(sum, y);
  return grad;
}

static void a_fourth_power_has_four_gradients(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, -2, 3)), *d = fonio_tensor_pow(x, 4);
  d = slope(d, x);
  ASSERT_VALUES(d, 4, -32, 108);
  assert_string_equal(fonio_tensor_grad_fn_name(d), "MulBackward0");
  d = slope(d, x);
  ASSERT_VALUES(d, 12, 48, 108);
  d = slope(d, x);
  ASSERT_VALUES(d, 24, -48, 72);
  d = slope(d, x);
  ASSERT_VALUES(d, 24, 24, 24);
  RELEASE(x, d);
}

static void without_create_graph_nothing_is_recorded(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_mul(x, x), *sum = fonio_tensor_sum(y), *grad;
  assert_int_equal(fonio_grad(sum, 1, &x, NULL, true, false, false, &grad), FONIO_OK);
  assert_false(fonio_tensor_requires_grad(grad));
  assert_true(fonio_grad_enabled());
  fonio_tensor_release(grad);
  fonio_set_grad_enabled(false);
  assert_int_equal(fonio_grad(sum, 1, &x, NULL, true, true, false, &grad), FONIO_OK);
  assert_true(fonio_tensor_requires_grad(grad));
  assert_false(fonio_set_grad_enabled(true));
  RELEASE(x, y, sum, grad);
}

static void count(const char *message, void *user) {
  assert_non_null(strstr(message, "create_graph=True will create a reference cycle"));
  ++*(int *)user;
}

static void a_grad_with_a_history_goes_when_it_is_cleared(void **state) {
  (void)state;
  int warnings = 0;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_mul(x, x), *sum = fonio_tensor_sum(y);
  fonio_set_warning_handler(count, &warnings);
  assert_int_equal(fonio_tensor_backward_with(sum, NULL, true, true), FONIO_OK);
  assert_string_equal(fonio_tensor_grad_fn_name(fonio_tensor_grad(x)), "CopyBackwards");
  assert_int_equal(fonio_tensor_backward_with(sum, NULL, true, true), FONIO_OK);
  assert_string_equal(fonio_tensor_grad_fn_name(fonio_tensor_grad(x)), "AddBackward0");
  fonio_set_warning_handler(NULL, NULL);
  assert_int_equal(warnings, 1);
  ASSERT_VALUES(fonio_tensor_grad(x), 4, 8);
  fonio_tensor *d = slope(fonio_tensor_retain(fonio_tensor_grad(x)), x);
  ASSERT_VALUES(d, 4, 4);
  assert_int_equal(fonio_tensor_set_grad(x, NULL), FONIO_OK);
  RELEASE(x, y, sum, d);
}

static void a_result_that_was_saved_is_watched(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(0, 0)), *y = fonio_tensor_exp(x), *sum = fonio_tensor_sum(y);
  fonio_set_grad_enabled(false);
  assert_int_equal(fonio_tensor_fill(y, 5), FONIO_OK);
  fonio_set_grad_enabled(true);
  assert_fails(fonio_tensor_backward(sum), FONIO_RUNTIME_ERROR,
               "one of the variables needed for gradient computation has been modified by an inplace operation: "
               "[torch.DoubleTensor [2]], which is output 0 of Exp, is at version 1; expected version 0 "
               "instead. Hint: enable anomaly detection to find the operation that failed to compute its gradient, "
               "with torch.autograd.set_detect_anomaly(True, check_nan=False).");
  RELEASE(x, y, sum);
}

static fonio_tensor *product_of_powers(fonio_tensor *const *inputs, int count, void *user) {
  (void)count, (void)user;
  fonio_tensor *power = fonio_tensor_pow(inputs[0], 3), *product = fonio_tensor_mul(power, inputs[1]);
  fonio_tensor_release(power);
  return product;
}

/* Right, but its gradient has no history of its own. */
static fonio_tensor *cut_off(fonio_tensor *const *inputs, int count, void *user) {
  (void)count, (void)user;
  fonio_tensor *fixed = fonio_tensor_detach(inputs[0]), *product = fonio_tensor_mul(fixed, inputs[0]);
  fonio_tensor_release(fixed);
  return product;
}

static void gradgradcheck_tells_right_from_wrong(void **state) {
  (void)state;
  fonio_tensor *inputs[] = {requiring_grad(LINE(1, -2)), requiring_grad(LINE(3))};
  fonio_manual_seed(0);
  assert_int_equal(fonio_gradgradcheck(product_of_powers, NULL, 2, inputs, NULL, 1e-6, 1e-5, 1e-3), FONIO_OK);
  assert_int_equal(fonio_gradgradcheck(cut_off, NULL, 1, inputs, NULL, 1e-6, 1e-5, 1e-3), FONIO_RUNTIME_ERROR);
  assert_non_null(strstr(fonio_last_error(), "Jacobian mismatch"));
  fonio_tensor *ones = LINE(1, 1);
  assert_int_equal(fonio_gradgradcheck(product_of_powers, NULL, 2, inputs, ones, 1e-6, 1e-5, 1e-3), FONIO_OK);
  RELEASE(inputs[0], inputs[1], ones);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(a_fourth_power_has_four_gradients, nothing_is_lost),
      cmocka_unit_test_teardown(without_create_graph_nothing_is_recorded, nothing_is_lost),
      cmocka_unit_test_teardown(a_grad_with_a_history_goes_when_it_is_cleared, nothing_is_lost),
      cmocka_unit_test_teardown(a_result_that_was_saved_is_watched, nothing_is_lost),
      cmocka_unit_test_teardown(gradgradcheck_tells_right_from_wrong, nothing_is_lost),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
