/* Printing: the kinds of tensors, options, values, and what is left when memory runs out. The full comparison with
 * torch is tests/print/test_print.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fonio/autograd.h"
#include "fonio/print.h"
#include "tensor/number.h"
#include "tensor/tensor.h"

static void assert_taken(char *text, const char *expected) {
  assert_non_null(text);
  assert_string_equal(text, expected);
  fonio_text_release(text);
}

/* The text of a tensor, which is released. */
static void assert_text(fonio_tensor *tensor, const char *expected) {
  assert_taken(fonio_tensor_to_text(tensor), expected);
  fonio_tensor_release(tensor);
}

static void elements(void **state) {
  (void)state;
  assert_text(fonio_tensor_from_data(FONIO_FLOAT32, (float[]){1, -0.5f, 1e-3f}, FONIO_SHAPE(3)),
              "tensor([ 1.0000, -0.5000,  0.0010])");
  assert_text(fonio_tensor_from_data(FONIO_FLOAT32, (float[]){1, 1e9f}, FONIO_SHAPE(2)),
              "tensor([1.0000e+00, 1.0000e+09])");
  assert_text(fonio_tensor_from_data(FONIO_FLOAT64, (double[]){2, -NAN, -INFINITY, 0}, FONIO_SHAPE(2, 2)),
              "tensor([[2., nan],\n        [-inf, 0.]], dtype=torch.float64)");
  assert_text(fonio_tensor_from_data(FONIO_COMPLEX64, (float[]){1, -2, 0.5f, 3}, FONIO_SHAPE(2)),
              "tensor([1.0000-2.j, 0.5000+3.j])");
  assert_text(fonio_tensor_from_data(FONIO_UINT64, (uint64_t[]){UINT64_MAX, 0}, FONIO_SHAPE(2)),
              "tensor([18446744073709551615,                    0], dtype=torch.uint64)");
  assert_text(fonio_tensor_from_data(FONIO_BOOL, (bool[]){true, false}, FONIO_SHAPE(2)), "tensor([ True, False])");
  assert_text(fonio_tensor_full(FONIO_INT64, -7, FONIO_SCALAR), "tensor(-7)");
  assert_text(fonio_tensor_zeros(FONIO_INT64, FONIO_SHAPE(2, 0)), "tensor([], size=(2, 0), dtype=torch.int64)");
}

static void summaries(void **state) {
  (void)state;
  assert_text(fonio_tensor_arange(FONIO_INT64, 0, 1001, 1), "tensor([   0,    1,    2,  ...,  998,  999, 1000])");
  fonio_tensor *tensor = fonio_tensor_zeros(FONIO_BOOL, FONIO_SHAPE(1, 400, 3));
  assert_text(tensor,
              "tensor([[[False, False, False],\n         [False, False, False],\n         [False, False, False],\n"
              "         ...,\n         [False, False, False],\n         [False, False, False],\n"
              "         [False, False, False]]])");
}

static void suffixes(void **state) {
  (void)state;
  fonio_tensor *leaf = fonio_tensor_ones(FONIO_FLOAT64, FONIO_SHAPE(1));
  assert_int_equal(fonio_tensor_set_requires_grad(leaf, true), FONIO_OK);
  fonio_tensor *sum = fonio_tensor_add(leaf, leaf);
  assert_text(sum, "tensor([2.], dtype=torch.float64, grad_fn=<AddBackward0>)");
  assert_text(leaf, "tensor([1.], dtype=torch.float64, requires_grad=True)");
}

static void parameters(void **state) {
  (void)state;
  fonio_tensor *tensor = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(11));
  tensor->requires_grad = true;
  tensor->kind = TENSOR_PARAMETER;
  assert_taken(fonio_tensor_to_text(tensor),
               "Parameter containing:\ntensor([1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1.], "
               "requires_grad=True)");
  tensor->kind = TENSOR_UNINITIALIZED;
  assert_text(tensor, "<UninitializedParameter>");
}

static void options(void **state) {
  (void)state;
  fonio_tensor *tensor = fonio_tensor_full(FONIO_FLOAT32, 0.125, FONIO_SHAPE(5));
  fonio_printoptions before = fonio_get_printoptions();
  assert_int_equal(fonio_set_printoptions(.precision = 1, .threshold = 4, .edgeitems = 1), FONIO_OK);
  assert_taken(fonio_tensor_to_text(tensor), "tensor([0.1,  ..., 0.1])");
  assert_int_equal(fonio_set_printoptions(.profile = "short"), FONIO_OK);
  assert_taken(fonio_tensor_to_text(tensor), "tensor([0.12, 0.12, 0.12, 0.12, 0.12])");
  assert_int_equal(fonio_set_printoptions(.sci_mode = 1, .linewidth = 30), FONIO_OK);
  assert_taken(fonio_tensor_to_text(tensor),
               "tensor([1.25e-01, 1.25e-01,\n        1.25e-01, 1.25e-01,\n        1.25e-01])");
  assert_int_equal(fonio_set_printoptions_with(&before), FONIO_OK);
  assert_text(tensor, "tensor([0.1250, 0.1250, 0.1250, 0.1250, 0.1250])");
  assert_int_equal(fonio_set_printoptions(.precision = -3), FONIO_VALUE_ERROR);
  assert_int_equal(fonio_set_printoptions_with(NULL), FONIO_VALUE_ERROR);
}

static void values(void **state) {
  (void)state;
  fonio_tensor *tensor = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(1, 64, 4, 4));
  assert_taken(fonio_tensor_size_to_text(tensor), "torch.Size([1, 64, 4, 4])");
  assert_string_equal(fonio_bool_to_text(true), "True");
  assert_string_equal(fonio_bool_to_text(false), "False");
  fonio_dict *dict = fonio_dict_new();
  assert_taken(fonio_dict_names_to_text(dict), "[]");
  const char *names[] = {"conv2d.weight", "it's", "\"", "'\"", "a\\b\n\t\r", "\x01\x7f", "\xc3\xa4"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    assert_int_equal(fonio_dict_set(dict, names[i], tensor), FONIO_OK);
  assert_taken(fonio_dict_names_to_text(dict),
               "['conv2d.weight', \"it's\", '\"', '\\'\"', 'a\\\\b\\n\\t\\r', '\\x01\\x7f', '\xc3\xa4']");
  fonio_dict_release(dict);
  fonio_tensor_release(tensor);
}

static void numbers_for_messages(void **state) {
  (void)state;
  assert_string_equal(number_for_message(0.1).text, "0.1");
  assert_string_equal(number_for_message(1e300).text, "1e+300");
  assert_string_equal(number_for_message(-1.0 / 3).text, "-0.333333");
  assert_string_equal(number_for_message(-NAN).text, "nan");
  char text[3];
  assert_int_equal(number_to_text(text, sizeof text, 'f', 2, 3.25), 4);
}

/* ---- Memory that runs out ---- */

static int blocks_left;

static void *allocate_few(size_t alignment, size_t bytes, void *user) {
  (void)user;
  void *pointer = NULL;
  return blocks_left-- > 0 && posix_memalign(&pointer, alignment, bytes) == 0 ? pointer : NULL;
}

static void release_all(void *pointer, void *user) {
  (void)user;
  free(pointer);
}

static char *names_of(fonio_tensor *tensor) {
  fonio_dict *dict = fonio_dict_new();
  fonio_dict_set(dict, "weight", tensor);
  char *text = fonio_dict_names_to_text(dict);
  fonio_dict_release(dict);
  return text;
}

static char *text_of(fonio_tensor *tensor) {
  return fonio_tensor_to_text(tensor);
}

static char *size_of(fonio_tensor *tensor) {
  return fonio_tensor_size_to_text(tensor);
}

/* With room for one block more each time, until it is enough: NULL with FONIO_NO_MEMORY before, and nothing lost. */
static void assert_survives(char *function(fonio_tensor *tensor), int64_t elements_of_tensor, int least) {
  const fonio_allocator few = {allocate_few, release_all, NULL};
  assert_int_equal(fonio_set_allocator(&few), FONIO_OK);
  char *text = NULL;
  int allowed = 0;
  for (; !text; allowed++) {
    blocks_left = 100;
    fonio_tensor *tensor = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(elements_of_tensor));
    tensor->requires_grad = true;
    blocks_left = allowed;
    fonio_clear_error();
    text = function(tensor);
    if (!text) assert_int_equal(fonio_last_status(), FONIO_NO_MEMORY);
    fonio_text_release(text);
    fonio_tensor_release(tensor);
    assert_int_equal(fonio_live_allocations(), 0);
  }
  assert_true(allowed > least);
  assert_int_equal(fonio_set_allocator(NULL), FONIO_OK);
}

static void memory_runs_out(void **state) {
  (void)state;
  assert_survives(text_of, 900, 4);
  assert_survives(size_of, 2, 1);
  assert_survives(names_of, 2, 3);
}

static void null_is_refused(void **state) {
  (void)state;
  assert_int_equal(fonio_print(NULL), FONIO_TYPE_ERROR);
  assert_string_equal(fonio_last_error(), "fonio_print() was given NULL where it needs an object");
  assert_null(fonio_tensor_to_text(NULL));
  assert_null(fonio_tensor_size_to_text(NULL));
  assert_null(fonio_dict_names_to_text(NULL));
  fonio_text_release(NULL);
}

static int forget_failures(void **state) {
  (void)state;
  fonio_clear_error();
  return 0;
}

static int nothing_is_left(void **state) {
  (void)state;
  assert_int_equal(fonio_live_allocations(), 0);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(elements, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(summaries, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(suffixes, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(parameters, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(options, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(values, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(numbers_for_messages, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(memory_runs_out, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(null_is_refused, forget_failures, nothing_is_left),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
