/* The ordered dictionary. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "tensors.h"

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)
#define MANY 1000

typedef struct name_text {
  char text[16];
} name_text;

static name_text name_of(int i) {
  name_text name;
  snprintf(name.text, sizeof name.text, "layer.%d", i);
  return name;
}

static fonio_dict *dict_of(int count) {
  fonio_dict *dict = fonio_dict_new();
  for (int i = 0; i < count; i++) {
    fonio_tensor *tensor = fonio_tensor_full(FONIO_INT32, i, FONIO_SCALAR);
    assert_int_equal(fonio_dict_set(dict, name_of(i).text, tensor), FONIO_OK);
    fonio_tensor_release(tensor);
  }
  return dict;
}

static double value_of(const fonio_tensor *tensor) {
  double value = -1;
  assert_int_equal(fonio_tensor_item(tensor, &value), FONIO_OK);
  return value;
}

static void keeps_the_order(void **state) {
  (void)state;
  fonio_dict *dict = dict_of(MANY);
  assert_int_equal(fonio_dict_size(dict), MANY);
  for (int i = 0; i < MANY; i++) {
    assert_string_equal(fonio_dict_name_at(dict, i), name_of(i).text);
    assert_true(value_of(fonio_dict_tensor_at(dict, i)) == i);
    assert_ptr_equal(fonio_dict_get(dict, name_of(i).text), fonio_dict_tensor_at(dict, i));
  }
  fonio_dict_release(dict);
}

static void removal_keeps_the_order(void **state) {
  (void)state;
  fonio_dict *dict = dict_of(MANY);
  for (int i = 0; i < MANY; i++)
    if (i % 3 != 1) assert_int_equal(fonio_dict_remove(dict, name_of(i).text), FONIO_OK);
  assert_int_equal(fonio_dict_size(dict), MANY / 3);
  for (int i = 0; i < MANY; i++) {
    fonio_tensor *tensor = fonio_dict_get(dict, name_of(i).text);
    if (i % 3 == 1)
      assert_ptr_equal(tensor, fonio_dict_tensor_at(dict, i / 3));
    else
      assert_null(tensor);
  }
  fonio_dict_release(dict);
}

static void known_names_keep_their_place(void **state) {
  (void)state;
  fonio_dict *dict = dict_of(3);
  fonio_tensor *tensor = fonio_tensor_full(FONIO_INT32, 7, FONIO_SCALAR);
  assert_int_equal(fonio_dict_set(dict, "layer.1", tensor), FONIO_OK);
  assert_int_equal(fonio_dict_set(dict, "layer.1", tensor), FONIO_OK);
  assert_int_equal(fonio_dict_size(dict), 3);
  assert_ptr_equal(fonio_dict_tensor_at(dict, 1), tensor);
  assert_int_equal(fonio_dict_remove(dict, "layer.0"), FONIO_OK);
  assert_int_equal(fonio_dict_set(dict, "layer.0", tensor), FONIO_OK);
  assert_string_equal(fonio_dict_name_at(dict, 2), "layer.0");
  fonio_dict_release(dict);
  assert_true(value_of(tensor) == 7);
  fonio_tensor_release(tensor);
}

static void owns_name_and_tensor(void **state) {
  (void)state;
  char name[] = "weight";
  fonio_dict *dict = fonio_dict_new();
  fonio_tensor *tensor = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SCALAR);
  assert_int_equal(fonio_dict_set(dict, name, tensor), FONIO_OK);
  fonio_tensor_release(tensor);
  name[0] = 'W';
  assert_true(value_of(fonio_dict_get(dict, "weight")) == 1);
  assert_int_equal(fonio_dict_set(dict, "", fonio_dict_get(dict, "weight")), FONIO_OK);
  assert_ptr_equal(fonio_dict_get(dict, ""), fonio_dict_get(dict, "weight"));
  fonio_dict_release(dict);
}

static void asks_for_what_is_not_there(void **state) {
  (void)state;
  fonio_clear_error();
  fonio_dict *dict = dict_of(1);
  assert_null(fonio_dict_get(dict, "bias"));
  assert_null(fonio_dict_name_at(dict, 1));
  assert_null(fonio_dict_tensor_at(dict, -1));
  assert_string_equal(fonio_last_error(), "");
  assert_int_equal(fonio_dict_remove(dict, "bias"), FONIO_KEY_ERROR);
  assert_fails(fonio_last_status(), FONIO_KEY_ERROR, "'bias'");
  fonio_dict_release(dict);
}

static void null_is_no_dictionary(void **state) {
  (void)state;
  fonio_clear_error();
  fonio_dict *dict = dict_of(1);
  assert_int_equal(fonio_dict_size(NULL), 0);
  assert_null(fonio_dict_get(NULL, "a"));
  assert_null(fonio_dict_get(dict, NULL));
  assert_null(fonio_dict_name_at(NULL, 0));
  assert_null(fonio_dict_tensor_at(NULL, 0));
  assert_int_equal(fonio_dict_set(dict, "a", NULL), FONIO_TYPE_ERROR);
  assert_fails(fonio_last_status(), FONIO_TYPE_ERROR, "fonio_dict_set() was given NULL where it needs an object");
  fonio_clear_error();
  assert_int_equal(fonio_dict_set(dict, NULL, fonio_dict_tensor_at(dict, 0)), FONIO_TYPE_ERROR);
  assert_int_equal(fonio_dict_set(NULL, "a", fonio_dict_tensor_at(dict, 0)), FONIO_TYPE_ERROR);
  fonio_clear_error();
  assert_int_equal(fonio_dict_remove(NULL, "a"), FONIO_TYPE_ERROR);
  assert_fails(fonio_last_status(), FONIO_TYPE_ERROR, "fonio_dict_remove() was given NULL where it needs an object");
  assert_int_equal(fonio_dict_size(dict), 1);
  fonio_dict_release(dict);
  fonio_dict_release(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(keeps_the_order),      TEST(removal_keeps_the_order),    TEST(known_names_keep_their_place),
      TEST(owns_name_and_tensor), TEST(asks_for_what_is_not_there), TEST(null_is_no_dictionary),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
