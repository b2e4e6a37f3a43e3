/* Each operation: its gradient beside differences, its name in grad_fn, its values, its refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tensors.h"

/* ---- Gradients beside differences ---- */

typedef fonio_tensor *operation(fonio_tensor *x, fonio_tensor *w);

/* The operation, with every element of the result weighted differently, so that no two can be mixed up. */
static fonio_tensor *weighted(fonio_tensor *const *inputs, int count, void *user) {
  operation *apply = *(operation **)user;
  fonio_tensor *result = apply(inputs[0], inputs[count - 1]);
  assert_non_null(result);
  fonio_tensor *weights = counting(FONIO_FLOAT64, 1, fonio_tensor_ndim(result), fonio_tensor_shape(result));
  fonio_tensor *product = fonio_tensor_mul(result, weights);
  RELEASE(result, weights);
  return product;
}

static fonio_tensor *times_itself(fonio_tensor *const *inputs, int count, void *user) {
  fonio_tensor *once = weighted(inputs, count, user), *twice = fonio_tensor_mul(once, once);
  fonio_tensor_release(once);
  return twice;
}

static void check(operation *apply, fonio_tensor *x, fonio_tensor *w) {
  fonio_tensor *inputs[] = {x, w};
  if (fonio_gradcheck(weighted, &apply, w ? 2 : 1, inputs, 1e-6, 1e-5, 1e-3) != FONIO_OK)
    fail_msg("%s", fonio_last_error());
  if (fonio_gradcheck(times_itself, &apply, w ? 2 : 1, inputs, 1e-6, 1e-5, 1e-3) != FONIO_OK)
    fail_msg("%s", fonio_last_error());
}

static void assert_name(operation *apply, fonio_tensor *x, fonio_tensor *w, const char *name) {
  fonio_tensor *result = apply(x, w);
  assert_string_equal(fonio_tensor_grad_fn_name(result), name);
  RELEASE(result);
}

/* Values near 1 in a shape, requiring a gradient. */
static fonio_tensor *input(int ndim, const int64_t *shape) {
  fonio_tensor *count = counting(FONIO_FLOAT64, -3, ndim, shape),
               *scale = fonio_tensor_full(FONIO_FLOAT64, 0.3, FONIO_SCALAR);
  fonio_tensor *tensor = fonio_tensor_mul(count, scale);
  RELEASE(count, scale);
  return requiring_grad(tensor);
}

static fonio_tensor *add(fonio_tensor *x, fonio_tensor *w) {
  return fonio_tensor_add(x, w);
}

static fonio_tensor *mul(fonio_tensor *x, fonio_tensor *w) {
  return fonio_tensor_mul(x, w);
}

static void add_and_mul_with_broadcasting(void **state) {
  (void)state;
  fonio_tensor *x = input(FONIO_SHAPE(2, 3)), *same = input(FONIO_SHAPE(2, 3)), *row = input(FONIO_SHAPE(3));
  fonio_tensor *column = input(FONIO_SHAPE(2, 1)), *scalar = input(FONIO_SCALAR), *more = input(FONIO_SHAPE(2, 1, 3));
  fonio_tensor *others[] = {same, row, column, scalar, more, x};
  for (int i = 0; i < 6; i++) {
    check(add, x, others[i]);
    check(mul, others[i], x);
  }
  assert_name(add, x, row, "AddBackward0");
  assert_name(mul, x, row, "MulBackward0");
  release_all(6, others);
}

/* A gradient comes back in the dtype of its input. */
static void add_and_mul_of_two_dtypes(void **state) {
  (void)state;
  fonio_tensor *single = requiring_grad(fonio_tensor_full(FONIO_FLOAT32, 2, FONIO_SHAPE(3)));
  fonio_tensor *wide = requiring_grad(LINE(1, 2, 3)),
               *scalar = requiring_grad(fonio_tensor_full(FONIO_FLOAT64, 3, FONIO_SCALAR));
  fonio_tensor *product = fonio_tensor_mul(single, wide), *kept = fonio_tensor_mul(single, scalar);
  fonio_tensor *sum = fonio_tensor_add(product, kept), *y = fonio_tensor_sum(sum);
  assert_int_equal(fonio_tensor_dtype(product), FONIO_FLOAT64);
  assert_int_equal(fonio_tensor_dtype(kept), FONIO_FLOAT32);
  assert_int_equal(fonio_tensor_backward(y), FONIO_OK);
  assert_int_equal(fonio_tensor_dtype(fonio_tensor_grad(single)), FONIO_FLOAT32);
  assert_int_equal(fonio_tensor_dtype(fonio_tensor_grad(scalar)), FONIO_FLOAT64);
  ASSERT_VALUES(fonio_tensor_grad(single), 4, 5, 6);
  ASSERT_VALUES(fonio_tensor_grad(wide), 2, 2, 2);
  ASSERT_VALUES(fonio_tensor_grad(scalar), 6);
  RELEASE(single, wide, scalar, product, kept, sum, y);
}

static fonio_tensor *sum_of(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_sum(x);
}

static fonio_tensor *mean_of(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_mean(x);
}

static void sum_and_mean(void **state) {
  (void)state;
  fonio_tensor *x = input(FONIO_SHAPE(2, 3)), *scalar = input(FONIO_SCALAR);
  check(sum_of, x, NULL);
  check(mean_of, x, NULL);
  check(sum_of, scalar, NULL);
  check(mean_of, scalar, NULL);
  assert_name(sum_of, x, NULL, "SumBackward0");
  assert_name(mean_of, x, NULL, "MeanBackward0");
  RELEASE(x, scalar);
}

static void sum_and_mean_of_nothing(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(0, 2)));
  fonio_tensor *sum = fonio_tensor_sum(x), *mean = fonio_tensor_mean(x);
  assert_true(value_at(sum, 0) == 0);
  assert_true(value_at(mean, 0) != value_at(mean, 0));
  assert_int_equal(fonio_tensor_backward(sum), FONIO_OK);
  assert_int_equal(fonio_tensor_backward(mean), FONIO_OK);
  ASSERT_SIZES(fonio_tensor_shape(fonio_tensor_grad(x)), 0, 2);
  RELEASE(x, sum, mean);
}

static void mean_of_whole_numbers_is_refused(void **state) {
  (void)state;
  fonio_tensor *whole = fonio_tensor_ones(FONIO_INT64, FONIO_SHAPE(3));
  assert_null_fails(fonio_tensor_mean(whole), FONIO_RUNTIME_ERROR,
                    "mean(): could not infer output dtype. Input dtype must be either a floating point or complex "
                    "dtype. Got: Long");
  RELEASE(whole);
}

/* ---- Views ---- */

static fonio_tensor *select_last(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_select(x, -1, -1);
}

static fonio_tensor *select_middle(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_select(x, 1, 2);
}

static fonio_tensor *index_two(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_index(x, FONIO_SHAPE(1, -2));
}

static fonio_tensor *index_none(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_index(x, 0, NULL);
}

static fonio_tensor *every_other(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_slice(x, 1, -3, 9, 2);
}

static fonio_tensor *turned(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_permute(x, FONIO_SHAPE(2, 0, -2));
}

static fonio_tensor *stretched(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_expand(x, FONIO_SHAPE(2, 3, -1));
}

static void views(void **state) {
  (void)state;
  fonio_tensor *x = input(FONIO_SHAPE(2, 3, 2)), *column = input(FONIO_SHAPE(3, 1));
  operation *const operations[] = {select_last, select_middle, index_two, index_none, every_other, turned};
  const char *const names[] = {"SelectBackward0", "SelectBackward0", "SelectBackward0",
                               "AliasBackward0",  "SliceBackward0",  "PermuteBackward0"};
  for (int i = 0; i < 6; i++) {
    check(operations[i], x, NULL);
    assert_name(operations[i], x, NULL, names[i]);
  }
  check(stretched, column, NULL);
  assert_name(stretched, column, NULL, "ExpandBackward0");
  RELEASE(x, column);
}

static fonio_tensor *flat(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_reshape(x, FONIO_SHAPE(-1));
}

static fonio_tensor *flat_copy(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  fonio_tensor *turn = fonio_tensor_permute(x, FONIO_SHAPE(2, 1, 0)),
               *line = fonio_tensor_reshape(turn, FONIO_SHAPE(12));
  fonio_tensor_release(turn);
  return line;
}

static fonio_tensor *apart(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  fonio_tensor *part = fonio_tensor_slice(x, 2, 0, 1, 1), *square = fonio_tensor_reshape(part, FONIO_SHAPE(2, 3));
  fonio_tensor_release(part);
  return square;
}

static void reshapes(void **state) {
  (void)state;
  fonio_tensor *x = input(FONIO_SHAPE(2, 3, 2));
  operation *const operations[] = {flat, flat_copy, apart};
  const char *const names[] = {"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"};
  for (int i = 0; i < 3; i++) {
    check(operations[i], x, NULL);
    assert_name(operations[i], x, NULL, names[i]);
  }
  RELEASE(x);
}

static void index_refuses_in_torchs_words(void **state) {
  (void)state;
  fonio_tensor *x = input(FONIO_SHAPE(2, 3)), *scalar = input(FONIO_SCALAR);
  assert_null_fails(fonio_tensor_index(x, FONIO_SHAPE(5)), FONIO_INDEX_ERROR,
                    "index 5 is out of bounds for dimension 0 with size 2");
  assert_null_fails(fonio_tensor_index(x, FONIO_SHAPE(0, -9)), FONIO_INDEX_ERROR,
                    "index -9 is out of bounds for dimension 1 with size 3");
  assert_null_fails(fonio_tensor_index(x, FONIO_SHAPE(7, 0, 0)), FONIO_INDEX_ERROR,
                    "too many indices for tensor of dimension 2");
  assert_null_fails(fonio_tensor_index(scalar, FONIO_SHAPE(0)), FONIO_INDEX_ERROR,
                    "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to "
                    "convert a 0-dim tensor to a number");
  RELEASE(x, scalar);
}

/* ---- Copies ---- */

static fonio_tensor *clone_of(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_clone(x);
}

static fonio_tensor *straightened(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  fonio_tensor *turn = fonio_tensor_permute(x, FONIO_SHAPE(3, 2, 1, 0)), *straight = fonio_tensor_contiguous(turn);
  fonio_tensor_release(turn);
  return straight;
}

static fonio_tensor *channels_last_of(fonio_tensor *x, fonio_tensor *w) {
  (void)w;
  return fonio_tensor_channels_last(x);
}

static void copies(void **state) {
  (void)state;
  fonio_tensor *x = input(FONIO_SHAPE(2, 3, 1, 2));
  operation *const operations[] = {clone_of, straightened, channels_last_of};
  for (int i = 0; i < 3; i++) {
    check(operations[i], x, NULL);
    assert_name(operations[i], x, NULL, "CloneBackward0");
  }
  RELEASE(x);
}

static void what_is_so_already_is_not_copied(void **state) {
  (void)state;
  fonio_tensor *x = input(FONIO_SHAPE(2, 3, 1, 2)), *last = fonio_tensor_channels_last(x);
  fonio_tensor *same[] = {fonio_tensor_contiguous(x), fonio_tensor_to(x, FONIO_FLOAT64),
                          fonio_tensor_channels_last(last)};
  assert_ptr_equal(same[0], x);
  assert_ptr_equal(same[1], x);
  assert_ptr_equal(same[2], last);
  release_all(3, same);
  RELEASE(x, last);
}

static void conversions(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *single = fonio_tensor_to(x, FONIO_FLOAT32),
               *y = fonio_tensor_sum(single);
  assert_string_equal(fonio_tensor_grad_fn_name(single), "ToCopyBackward0");
  assert_int_equal(fonio_tensor_backward(y), FONIO_OK);
  assert_int_equal(fonio_tensor_dtype(fonio_tensor_grad(x)), FONIO_FLOAT64);
  ASSERT_VALUES(fonio_tensor_grad(x), 1, 1);
  RELEASE(x, single, y);
}

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(add_and_mul_with_broadcasting),
      TEST(add_and_mul_of_two_dtypes),
      TEST(sum_and_mean),
      TEST(sum_and_mean_of_nothing),
      TEST(mean_of_whole_numbers_is_refused),
      TEST(views),
      TEST(reshapes),
      TEST(index_refuses_in_torchs_words),
      TEST(copies),
      TEST(what_is_so_already_is_not_copied),
      TEST(conversions),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
