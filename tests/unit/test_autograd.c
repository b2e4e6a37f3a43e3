/* The tape: what is recorded, what comes back, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fonio.h"

/* ---- Helpers ---- */

static fonio_tensor *leaf(int ndim, const int64_t *shape, double start) {
  int64_t count = 1;
  for (int i = 0; i < ndim; i++) count *= shape[i];
  fonio_tensor *line = fonio_tensor_arange(FONIO_FLOAT64, start, start + (double)count, 1);
  fonio_tensor *tensor = fonio_tensor_reshape(line, ndim, shape);
  fonio_tensor_release(line);
  assert_non_null(tensor);
  assert_int_equal(fonio_tensor_set_requires_grad(tensor, true), FONIO_OK);
  return tensor;
}

static double at(const fonio_tensor *tensor, int64_t i) {
  double value = 0;
  assert_non_null(tensor);
  if (fonio_tensor_ndim(tensor) == 0)
    assert_int_equal(fonio_tensor_item(tensor, &value), FONIO_OK);
  else
    assert_int_equal(fonio_tensor_at(tensor, 1, &i, &value), FONIO_OK);
  return value;
}

static void assert_values(const fonio_tensor *tensor, int64_t count, const double *expected) {
  for (int64_t i = 0; i < count; i++) assert_true(at(tensor, i) == expected[i]);
}

#define ASSERT_VALUES(tensor, ...)                                                                                     \
  assert_values(tensor, (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (double[]){__VA_ARGS__})

static void assert_fails(fonio_status status, fonio_status expected, const char *text) {
  assert_int_equal(status, expected);
  assert_string_equal(fonio_last_error(), text);
}

static void mul_then_sum(void **state) {
  (void)state;
  fonio_tensor *x = leaf(FONIO_SHAPE(3), 1), *w = leaf(FONIO_SHAPE(3), 10);
  fonio_tensor *product = fonio_tensor_mul(x, w), *y = fonio_tensor_sum(product);
  assert_string_equal(fonio_tensor_grad_fn_name(y), "SumBackward0");
  assert_int_equal(fonio_tensor_backward(y), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 10, 11, 12);
  ASSERT_VALUES(fonio_tensor_grad(w), 1, 2, 3);
  fonio_tensor_release(product);
  fonio_tensor_release(y);
  fonio_tensor_release(x);
  fonio_tensor_release(w);
  assert_int_equal(fonio_live_allocations(), 0);
}

int main(void) {
  (void)assert_fails;
  const struct CMUnitTest tests[] = {cmocka_unit_test(mul_then_sum)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
