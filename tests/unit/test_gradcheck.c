/* fonio_gradcheck: that it finds wrong gradients, and tells what it was given wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "autograd/node.h"
#include "tensors.h"

static fonio_status check(fonio_gradcheck_function function, int count, fonio_tensor *const *inputs, void *user) {
  return fonio_gradcheck(function, user, count, inputs, 1e-6, 1e-5, 1e-3);
}

/* ---- Right ones ---- */

static fonio_tensor *product(fonio_tensor *const *inputs, int count, void *user) {
  (void)user;
  return fonio_tensor_mul(inputs[0], inputs[count - 1]);
}

static void right_gradients_pass_and_inputs_stay(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 0.1, 3)), *w = requiring_grad(LINE(0.7, 5, 1e-300)), *inputs[] = {x, w};
  assert_int_equal(check(product, 2, inputs, NULL), FONIO_OK);
  ASSERT_VALUES(x, 1, 0.1, 3);
  ASSERT_VALUES(w, 0.7, 5, 1e-300);
  assert_null(fonio_tensor_grad(x));
  RELEASE(x, w);
}

static void one_input_twice_and_inputs_without_a_gradient(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *plain = LINE(3, 4), *twice[] = {x, x}, *one[] = {plain, x};
  assert_int_equal(check(product, 2, twice, NULL), FONIO_OK);
  assert_int_equal(check(product, 2, one, NULL), FONIO_OK);
  RELEASE(x, plain);
}

static fonio_tensor *first_only(fonio_tensor *const *inputs, int count, void *user) {
  (void)count, (void)user;
  return fonio_tensor_mul(inputs[0], inputs[0]);
}

static void an_unused_input_has_gradient_zero(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *unused = requiring_grad(LINE(3, 4)), *inputs[] = {x, unused};
  assert_int_equal(check(first_only, 2, inputs, NULL), FONIO_OK);
  RELEASE(x, unused);
}

static void strided_and_empty_inputs(void **state) {
  (void)state;
  fonio_tensor *base = counting(FONIO_FLOAT64, 1, FONIO_SHAPE(2, 4));
  fonio_tensor *part = requiring_grad(fonio_tensor_slice(base, 1, 1, 4, 2));
  fonio_tensor *empty = requiring_grad(fonio_tensor_zeros(FONIO_FLOAT64, FONIO_SHAPE(0)));
  assert_int_equal(check(first_only, 1, &part, NULL), FONIO_OK);
  assert_int_equal(check(first_only, 1, &empty, NULL), FONIO_OK);
  ASSERT_VALUES(base, 1, 2, 3, 4, 5, 6, 7, 8);
  RELEASE(base, part, empty);
}

/* ---- Wrong ones ---- */

static fonio_tensor *half_forgotten(fonio_tensor *const *inputs, int count, void *user) {
  (void)count, (void)user;
  fonio_tensor *constant = fonio_tensor_detach(inputs[0]), *square = fonio_tensor_mul(inputs[0], constant);
  fonio_tensor_release(constant);
  return square;
}

static void a_wrong_gradient_is_found_with_its_place(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(counting(FONIO_FLOAT64, 0, FONIO_SHAPE(2, 2))), *plain = LINE(1);
  fonio_tensor *inputs[] = {x, plain};
  assert_int_equal(check(half_forgotten, 2, inputs, NULL), FONIO_RUNTIME_ERROR);
  const char *text = fonio_last_error();
  assert_non_null(strstr(text, "Jacobian mismatch for output 0 with respect to input 0,\nnumerical: "));
  assert_non_null(strstr(text, "analytical: 1, for element [0, 1] of the output and element [0, 1] of the input"));
  ASSERT_VALUES(x, 0, 1, 2, 3);
  RELEASE(x, plain);
}

static fonio_tensor *forgotten(fonio_tensor *const *inputs, int count, void *user) {
  (void)count, (void)user;
  return fonio_tensor_detach(inputs[0]);
}

static void a_lost_gradient_is_found(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2));
  assert_fails(check(forgotten, 1, &x, NULL), FONIO_RUNTIME_ERROR,
               "Numerical gradient for function expected to be zero");
  RELEASE(x);
}

/* An operation y = x whose gradient is scale * grad_output + shift, and the shift grows with each pass by `growth`. */
typedef struct mistake {
  double scale, shift, growth;
} mistake;

static fonio_status mistaken_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                   fonio_tensor **gradients) {
  (void)wanted;
  mistake *m = *(mistake *const *)node->attributes;
  fonio_tensor *scale = fonio_tensor_full(FONIO_FLOAT64, m->scale, FONIO_SCALAR);
  fonio_tensor *shift = fonio_tensor_full(FONIO_FLOAT64, m->shift, FONIO_SCALAR);
  fonio_tensor *scaled = tensor_mul(gradient, scale);
  gradients[0] = tensor_add(scaled, shift);
  m->shift += m->growth;
  RELEASE(scale, shift, scaled);
  return FONIO_OK;
}

static fonio_tensor *mistaken(fonio_tensor *const *inputs, int count, void *user) {
  (void)count;
  static const autograd_operation operation = {"MistakenBackward0", false, mistaken_apply};
  mistake *m = user;
  return autograd_record(tensor_clone(inputs[0]), &operation, 1, inputs, &m, sizeof m);
}

static void small_mistakes_are_found(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2));
  mistake none = {1, 0, 0}, scaled = {1.002, 0, 0}, within = {1.0009, 0, 0};
  assert_int_equal(check(mistaken, 1, &x, &none), FONIO_OK);
  assert_int_equal(check(mistaken, 1, &x, &within), FONIO_OK);
  assert_int_equal(check(mistaken, 1, &x, &scaled), FONIO_RUNTIME_ERROR);
  assert_non_null(strstr(fonio_last_error(), "Jacobian mismatch"));
  RELEASE(x);
}

static void a_gradient_that_differs_each_time_is_found(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2));
  mistake growing = {1, 0, 1e-9};
  assert_int_equal(check(mistaken, 1, &x, &growing), FONIO_RUNTIME_ERROR);
  assert_non_null(strstr(fonio_last_error(), "Backward is not reentrant"));
  RELEASE(x);
}

static void a_gradient_from_nothing_is_found(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2));
  mistake shifted = {1, 1e-7, 0};
  assert_fails(check(mistaken, 1, &x, &shifted), FONIO_RUNTIME_ERROR, "backward not multiplied by grad_output");
  RELEASE(x);
}

/* ---- Wrong questions ---- */

static void some_input_must_require_a_gradient(void **state) {
  (void)state;
  const char *text = "gradcheck expects at least one input tensor to require gradient, but none of them have "
                     "requires_grad=True.";
  fonio_tensor *plain = LINE(1, 2);
  assert_fails(check(first_only, 1, &plain, NULL), FONIO_VALUE_ERROR, text);
  assert_fails(check(first_only, 0, NULL, NULL), FONIO_VALUE_ERROR, text);
  RELEASE(plain);
}

static void expanded_inputs_are_refused(void **state) {
  (void)state;
  fonio_tensor *one = LINE(1), *wide = requiring_grad(fonio_tensor_expand(one, FONIO_SHAPE(3)));
  assert_fails(
      check(first_only, 1, &wide, NULL), FONIO_RUNTIME_ERROR,
      "The 0th input has a dimension with stride 0. gradcheck only supports inputs that are non-overlapping to "
      "be able to compute the numerical gradients correctly. You should call .contiguous on the input before "
      "passing it to gradcheck.");
  RELEASE(one, wide);
}

static void keep_warning(const char *message, void *user) {
  snprintf(user, 300, "%s", message);
}

static void single_precision_is_warned_of(void **state) {
  (void)state;
  char warning[300] = "";
  fonio_tensor *x = requiring_grad(fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(2)));
  fonio_set_warning_handler(keep_warning, warning);
  assert_int_equal(check(first_only, 1, &x, NULL), FONIO_RUNTIME_ERROR);
  fonio_set_warning_handler(NULL, NULL);
  assert_string_equal(warning, "Input #0 requires gradient and is not a double precision floating point or complex. "
                               "This check will likely fail if all the inputs are not of double precision floating "
                               "point or complex. ");
  RELEASE(x);
}

static fonio_tensor *whole(fonio_tensor *const *inputs, int count, void *user) {
  (void)count, (void)user;
  return fonio_tensor_to(inputs[0], FONIO_INT64);
}

static void whole_numbers_have_nothing_to_check(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2));
  assert_int_equal(check(whole, 1, &x, NULL), FONIO_OK);
  RELEASE(x);
}

static fonio_tensor *growing(fonio_tensor *const *inputs, int count, void *user) {
  (void)inputs, (void)count;
  int64_t size = ++*(int *)user;
  fonio_tensor *ones = fonio_tensor_ones(FONIO_FLOAT64, 1, &size), *y = fonio_tensor_sum(inputs[0]);
  fonio_tensor *result = fonio_tensor_mul(ones, y);
  RELEASE(ones, y);
  return result;
}

static void the_output_must_keep_its_shape(void **state) {
  (void)state;
  int size = 0;
  fonio_tensor *x = requiring_grad(LINE(1, 2));
  assert_int_equal(check(growing, 1, &x, &size), FONIO_RUNTIME_ERROR);
  assert_non_null(strstr(fonio_last_error(), "Expected `func` to return outputs with the same shape"));
  ASSERT_VALUES(x, 1, 2);
  RELEASE(x);
}

static fonio_tensor *failing(fonio_tensor *const *inputs, int count, void *user) {
  (void)count;
  return ++*(int *)user > 3 ? fonio_tensor_select(inputs[0], 0, 9) : fonio_tensor_sum(inputs[0]);
}

static void a_failure_of_the_function_is_passed_on(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2));
  for (int calls = 3; calls >= 1; calls--) {
    int made = calls;
    assert_fails(check(failing, 1, &x, &made), FONIO_INDEX_ERROR,
                 "select(): index 9 out of range for tensor of size [2] at dimension 0");
    ASSERT_VALUES(x, 1, 2);
  }
  RELEASE(x);
}

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(right_gradients_pass_and_inputs_stay),
      TEST(one_input_twice_and_inputs_without_a_gradient),
      TEST(an_unused_input_has_gradient_zero),
      TEST(strided_and_empty_inputs),
      TEST(a_wrong_gradient_is_found_with_its_place),
      TEST(a_lost_gradient_is_found),
      TEST(small_mistakes_are_found),
      TEST(a_gradient_that_differs_each_time_is_found),
      TEST(a_gradient_from_nothing_is_found),
      TEST(some_input_must_require_a_gradient),
      TEST(expanded_inputs_are_refused),
      TEST(single_precision_is_warned_of),
      TEST(whole_numbers_have_nothing_to_check),
      TEST(the_output_must_keep_its_shape),
      TEST(a_failure_of_the_function_is_passed_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
