/* Tensors: how they come and go, who owns what, views, and every failure. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tensors.h"

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)

/* ---- Life ---- */

static void references_are_counted(void **state) {
  (void)state;
  fonio_tensor *tensor = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(2, 3));
  assert_ptr_equal(fonio_tensor_retain(tensor), tensor);
  fonio_tensor_release(tensor);
  assert_int_not_equal(fonio_live_allocations(), 0);
  fonio_tensor_release(tensor);
  fonio_tensor_release(NULL);
}

static void views_keep_the_storage(void **state) {
  (void)state;
  fonio_tensor *tensor = counting(FONIO_INT32, 0, FONIO_SHAPE(3, 4));
  fonio_tensor *row = fonio_tensor_select(tensor, 0, 1), *part = fonio_tensor_slice(row, 0, 1, 4, 2);
  fonio_tensor_release(tensor);
  fonio_tensor_release(row);
  assert_true(value_at(part, 0) == 5 && value_at(part, 1) == 7);
  assert_int_equal(fonio_tensor_storage_offset(part), 5);
  fonio_tensor_release(part);
}

static void *retain_and_release(void *tensor) {
  for (int i = 0; i < 20000; i++) {
    fonio_tensor_release(fonio_tensor_retain(tensor));
    fonio_tensor_release(fonio_tensor_select(tensor, 0, 0));
  }
  return NULL;
}

static void counting_is_safe_between_threads(void **state) {
  (void)state;
  fonio_tensor *tensor = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(2, 3));
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, retain_and_release, tensor), 0);
  for (int i = 0; i < 4; i++)
    pthread_join(threads[i], NULL);
  assert_int_equal(fonio_live_allocations(), 3);
  fonio_tensor_release(tensor);
}

/* ---- Memory of the host ---- */

typedef struct host {
  float data[12];
  int releases;
} host;

static void note_release(void *data, void *user) {
  host *owner = user;
  assert_ptr_equal(data, owner->data);
  owner->releases++;
}

static void wrapped_memory_is_the_hosts(void **state) {
  (void)state;
  host owner = {.data = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}};
  const int64_t strides[] = {1, 3};
  fonio_tensor *tensor = fonio_tensor_wrap(FONIO_FLOAT32, owner.data, FONIO_SHAPE(3, 4), strides, note_release, &owner);
  assert_ptr_equal(fonio_tensor_const_data(tensor), owner.data);
  assert_true(value_at(tensor, 9) == 5);
  owner.data[5] = 50;
  assert_true(value_at(tensor, 9) == 50);
  fonio_tensor *view = fonio_tensor_select(tensor, 1, -1);
  fonio_tensor_release(tensor);
  assert_int_equal(owner.releases, 0);
  assert_int_equal(fonio_tensor_fill(view, 7), FONIO_OK);
  assert_true(owner.data[9] == 7 && owner.data[8] == 8);
  fonio_tensor_release(view);
  assert_int_equal(owner.releases, 1);
}

static void wrap_without_a_release(void **state) {
  (void)state;
  double data[6] = {0};
  fonio_tensor *tensor = fonio_tensor_wrap(FONIO_FLOAT64, data, FONIO_SHAPE(2, 3), NULL, NULL, NULL);
  ASSERT_SIZES(fonio_tensor_strides(tensor), 3, 1);
  fonio_tensor_release(tensor);
  fonio_tensor *empty = fonio_tensor_wrap(FONIO_FLOAT64, NULL, FONIO_SHAPE(2, 0), NULL, NULL, NULL);
  assert_int_equal(fonio_tensor_numel(empty), 0);
  assert_null(fonio_tensor_const_data(empty));
  fonio_tensor_release(empty);
}

static void wrap_that_fails_leaves_the_memory_alone(void **state) {
  (void)state;
  host owner = {.releases = 0};
  const int64_t negative[] = {4, -1}, huge[] = {INT64_MAX, 1};
  assert_null(fonio_tensor_wrap(FONIO_FLOAT32, owner.data, FONIO_SHAPE(3, 4), negative, note_release, &owner));
  assert_fails(fonio_last_status(), FONIO_RUNTIME_ERROR,
               "as_strided: Negative strides are not supported at the moment, got strides: [4, -1]");
  assert_null(fonio_tensor_wrap(FONIO_FLOAT32, owner.data, FONIO_SHAPE(3, 4), huge, note_release, &owner));
  assert_fails(fonio_last_status(), FONIO_RUNTIME_ERROR, "Storage size calculation overflowed with sizes=[3, 4]");
  assert_null(fonio_tensor_wrap(FONIO_FLOAT32, owner.data, FONIO_SHAPE(-3, 4), NULL, note_release, &owner));
  assert_fails(fonio_last_status(), FONIO_RUNTIME_ERROR, "Trying to create tensor with negative dimension -3: [-3, 4]");
  assert_null(fonio_tensor_wrap((fonio_dtype)99, owner.data, FONIO_SHAPE(3, 4), NULL, note_release, &owner));
  assert_fails(fonio_last_status(), FONIO_VALUE_ERROR, "99 is not a dtype");
  fonio_clear_error();
  assert_null(fonio_tensor_wrap(FONIO_FLOAT32, NULL, FONIO_SHAPE(3, 4), NULL, note_release, &owner));
  assert_fails(fonio_last_status(), FONIO_TYPE_ERROR, "fonio_tensor_wrap() was given NULL where it needs an object");
  assert_int_equal(owner.releases, 0);
}

/* ---- NULL ---- */

static void null_has_properties(void **state) {
  (void)state;
  fonio_clear_error();
  assert_int_equal(fonio_tensor_dtype(NULL), FONIO_FLOAT32);
  assert_int_equal(fonio_tensor_ndim(NULL), 0);
  assert_null(fonio_tensor_shape(NULL));
  assert_null(fonio_tensor_strides(NULL));
  assert_int_equal(fonio_tensor_size(NULL, 0), 0);
  assert_int_equal(fonio_tensor_numel(NULL), 0);
  assert_int_equal(fonio_tensor_storage_offset(NULL), 0);
  assert_false(fonio_tensor_is_contiguous(NULL));
  assert_false(fonio_tensor_is_channels_last(NULL));
  assert_int_equal(fonio_tensor_version(NULL), 0);
  assert_null(fonio_tensor_data(NULL));
  assert_null(fonio_tensor_const_data(NULL));
  assert_string_equal(fonio_last_error(), "");
}

static void null_passes_through_chains(void **state) {
  (void)state;
  bool answer = true;
  double value = 3;
  int64_t whole = 4;
  fonio_tensor *none = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(2, -3));
  const char *text = "zeros: Dimension size must be non-negative.";
  assert_null(none);
  assert_null(fonio_tensor_retain(none));
  assert_null(fonio_tensor_reshape(fonio_tensor_permute(none, FONIO_SHAPE(1, 0)), FONIO_SHAPE(6)));
  assert_int_equal(fonio_tensor_item(none, &value), FONIO_RUNTIME_ERROR);
  assert_int_equal(fonio_tensor_item_int64(none, &whole), FONIO_RUNTIME_ERROR);
  assert_int_equal(fonio_tensor_at(none, FONIO_SHAPE(0), &value), FONIO_RUNTIME_ERROR);
  assert_int_equal(fonio_tensor_equal(none, none, &answer), FONIO_RUNTIME_ERROR);
  assert_int_equal(fonio_tensor_identical(none, none, &answer), FONIO_RUNTIME_ERROR);
  assert_int_equal(fonio_tensor_allclose(none, none, 0, 0, false, &answer), FONIO_RUNTIME_ERROR);
  assert_int_equal(fonio_tensor_max_difference(none, none, &value), FONIO_RUNTIME_ERROR);
  assert_fails(fonio_last_status(), FONIO_RUNTIME_ERROR, text);
  assert_true(answer && value == 3 && whole == 4);
}

static void null_arguments_are_named(void **state) {
  (void)state;
  fonio_clear_error();
  fonio_tensor *tensor = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(1));
  assert_int_equal(fonio_tensor_item(tensor, NULL), FONIO_TYPE_ERROR);
  assert_fails(fonio_last_status(), FONIO_TYPE_ERROR, "fonio_tensor_item() was given NULL where it needs an object");
  fonio_clear_error();
  assert_int_equal(fonio_tensor_at(tensor, 1, NULL, &(double){0}), FONIO_TYPE_ERROR);
  assert_fails(fonio_last_status(), FONIO_TYPE_ERROR, "fonio_tensor_at() was given NULL where it needs an object");
  fonio_clear_error();
  assert_null(fonio_tensor_from_data(FONIO_FLOAT32, NULL, FONIO_SHAPE(2)));
  assert_fails(fonio_last_status(), FONIO_TYPE_ERROR,
               "fonio_tensor_from_data() was given NULL where it needs an object");
  fonio_clear_error();
  assert_null(fonio_tensor_empty_channels_last(FONIO_FLOAT32, NULL));
  fonio_clear_error();
  assert_null(fonio_tensor_zeros(FONIO_FLOAT32, 2, NULL));
  assert_fails(fonio_last_status(), FONIO_TYPE_ERROR, "a tensor of 2 dimensions needs a shape, which is NULL");
  fonio_tensor_release(tensor);
}

/* ---- Failures leave everything as it was ---- */

static void views_that_cannot_be(void **state) {
  (void)state;
  fonio_tensor *t = counting(FONIO_FLOAT32, 0, FONIO_SHAPE(2, 3)),
               *scalar = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SCALAR);
  int64_t before = fonio_live_allocations();
  assert_null_fails(fonio_tensor_select(t, 2, 0), FONIO_INDEX_ERROR,
                    "Dimension out of range (expected to be in range of [-2, 1], but got 2)");
  assert_null_fails(fonio_tensor_select(t, 1, -4), FONIO_INDEX_ERROR,
                    "select(): index -4 out of range for tensor of size [2, 3] at dimension 1");
  assert_null_fails(fonio_tensor_select(scalar, 0, 0), FONIO_INDEX_ERROR,
                    "select() cannot be applied to a 0-dim tensor.");
  assert_null_fails(fonio_tensor_slice(t, 0, 0, 1, 0), FONIO_RUNTIME_ERROR, "slice step must be positive");
  assert_null_fails(fonio_tensor_slice(scalar, 0, 0, 1, 1), FONIO_INDEX_ERROR,
                    "slice() cannot be applied to a 0-dim tensor.");
  assert_null_fails(fonio_tensor_permute(t, FONIO_SHAPE(1, 1)), FONIO_RUNTIME_ERROR,
                    "permute(): duplicate dims are not allowed.");
  assert_null_fails(fonio_tensor_reshape(t, FONIO_SHAPE(4, -1)), FONIO_RUNTIME_ERROR,
                    "shape '[4, -1]' is invalid for input of size 6");
  assert_null_fails(fonio_tensor_reshape(t, -1, NULL), FONIO_VALUE_ERROR, "a tensor has 0 to 8 dimensions, not -1");
  assert_null_fails(fonio_tensor_zeros(FONIO_FLOAT32, INT32_MAX, (int64_t[]){1}), FONIO_VALUE_ERROR,
                    "a tensor has 0 to 8 dimensions, not 2147483647");
  assert_null_fails(fonio_tensor_index(t, -1, NULL), FONIO_VALUE_ERROR, "an index has 0 or more numbers, not -1");
  assert_null_fails(
      fonio_tensor_expand(t, FONIO_SHAPE(2, 2, 4)), FONIO_RUNTIME_ERROR,
      "The expanded size of the tensor (4) must match the existing size (3) at non-singleton dimension 2.  "
      "Target sizes: [2, 2, 4].  Tensor sizes: [2, 3]");
  assert_null_fails(fonio_tensor_expand(t, FONIO_SHAPE(1, 1, 1, 1, 1, 1, 1, 2, 3)), FONIO_VALUE_ERROR,
                    "a tensor has 0 to 8 dimensions, not 9");
  assert_null_fails(fonio_tensor_channels_last(t), FONIO_RUNTIME_ERROR,
                    "required rank 4 tensor to use channels_last format");
  assert_null_fails(fonio_tensor_to(t, (fonio_dtype)-1), FONIO_VALUE_ERROR, "-1 is not a dtype");
  assert_int_equal(fonio_tensor_size(t, -3), -1);
  assert_fails(fonio_last_status(), FONIO_INDEX_ERROR,
               "Dimension out of range (expected to be in range of [-2, 1], but got -3)");
  assert_int_equal(fonio_live_allocations(), before);
  fonio_tensor_release(t);
  fonio_tensor_release(scalar);
}

static void views_without_elements_stay_inside_all_numbers(void **state) {
  (void)state;
  const int64_t strides[] = {INT64_MAX / 2, 1};
  fonio_tensor *empty = fonio_tensor_wrap(FONIO_FLOAT32, NULL, FONIO_SHAPE(5, 0), strides, NULL, NULL);
  assert_null(fonio_tensor_select(empty, 0, 4));
  assert_fails(fonio_last_status(), FONIO_RUNTIME_ERROR, "the storage offset of a view without elements does not fit");
  assert_null(fonio_tensor_slice(empty, 0, 0, 5, 4));
  assert_int_equal(fonio_last_status(), FONIO_RUNTIME_ERROR);
  double value = 3;
  assert_int_equal(fonio_tensor_at(empty, FONIO_SHAPE(4), &value), FONIO_RUNTIME_ERROR);
  assert_fails(fonio_last_status(), FONIO_RUNTIME_ERROR, "a Tensor with 0 elements cannot be converted to Scalar");
  fonio_tensor *first = fonio_tensor_select(empty, 0, 2);
  assert_null(fonio_tensor_const_data(first));
  fonio_tensor_release(first);
  fonio_tensor_release(empty);
}

static void outputs_stay_as_they_were(void **state) {
  (void)state;
  double value = 3;
  bool answer = true;
  fonio_tensor *two = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(2));
  fonio_tensor *three = fonio_tensor_ones(FONIO_FLOAT64, FONIO_SHAPE(3));
  assert_int_equal(fonio_tensor_item(two, &value), FONIO_RUNTIME_ERROR);
  assert_int_equal(fonio_tensor_at(two, FONIO_SHAPE(2), &value), FONIO_INDEX_ERROR);
  assert_fails(fonio_last_status(), FONIO_INDEX_ERROR, "index 2 is out of bounds for dimension 0 with size 2");
  assert_int_equal(fonio_tensor_max_difference(two, three, &value), FONIO_RUNTIME_ERROR);
  assert_int_equal(fonio_tensor_allclose(two, three, 0, 0, false, &answer), FONIO_RUNTIME_ERROR);
  assert_int_equal(fonio_tensor_copy(two, three), FONIO_RUNTIME_ERROR);
  assert_true(value == 3 && answer);
  assert_int_equal(fonio_tensor_version(two), 0);
  fonio_tensor_release(two);
  fonio_tensor_release(three);
}

static void writes_are_counted(void **state) {
  (void)state;
  fonio_tensor *tensor = counting(FONIO_FLOAT32, 0, FONIO_SHAPE(2, 3)), *row = fonio_tensor_select(tensor, 0, 0);
  assert_int_equal(fonio_tensor_fill(row, 1), FONIO_OK);
  assert_int_equal(fonio_tensor_copy(tensor, row), FONIO_OK);
  assert_int_equal(fonio_tensor_version(tensor), 2);
  assert_int_equal(fonio_tensor_version(row), 2);
  fonio_tensor_release(tensor);
  fonio_tensor_release(row);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(references_are_counted),
      TEST(views_keep_the_storage),
      TEST(counting_is_safe_between_threads),
      TEST(wrapped_memory_is_the_hosts),
      TEST(wrap_without_a_release),
      TEST(wrap_that_fails_leaves_the_memory_alone),
      TEST(null_has_properties),
      TEST(null_passes_through_chains),
      TEST(null_arguments_are_named),
      TEST(views_that_cannot_be),
      TEST(views_without_elements_stay_inside_all_numbers),
      TEST(outputs_stay_as_they_were),
      TEST(writes_are_counted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
