/* nn.Conv2d in C: the arguments, what it holds, running, gradients, state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tensors.h"

static void assert_text(const fonio_conv2d *conv, const char *expected) {
  char *text = fonio_module_to_text(&conv->base);
  assert_non_null(text);
  assert_string_equal(text, expected);
  fonio_text_release(text);
}

/* ---- Arguments ---- */

static void a_number_stands_for_a_pair(void **state) {
  (void)state;
  fonio_conv2d *conv =
      fonio_conv2d_new(.in_channels = 3, .out_channels = 64, .kernel_size = 4, .stride = 2, .padding = 1);
  assert_text(conv, "Conv2d(3, 64, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))");
  ASSERT_SIZES(fonio_tensor_shape(fonio_conv2d_weight(conv)), 64, 3, 4, 4);
  ASSERT_SIZES(fonio_tensor_shape(fonio_conv2d_bias(conv)), 64);
  assert_true(fonio_tensor_requires_grad(fonio_conv2d_weight(conv)));
  fonio_module_release(&conv->base);
}

static void every_argument_is_heard(void **state) {
  (void)state;
  fonio_conv2d *conv = fonio_conv2d_new(.in_channels = 4, .out_channels = 6, .kernel_size = {3, 5}, .stride = {1, 2},
                                        .padding = {3, 0}, .dilation = {2, 1}, .groups = 2, .bias = false,
                                        .padding_mode = "circular", .dtype = FONIO_FLOAT64);
  assert_text(conv, "Conv2d(4, 6, kernel_size=(3, 5), stride=(1, 2), padding=(3, 0), dilation=(2, 1), groups=2, "
                    "bias=False, padding_mode=circular)");
  assert_int_equal(fonio_tensor_dtype(fonio_conv2d_weight(conv)), FONIO_FLOAT64);
  ASSERT_SIZES(fonio_tensor_shape(fonio_conv2d_weight(conv)), 6, 2, 3, 5);
  assert_null(fonio_conv2d_bias(conv));
  ASSERT_SIZES(fonio_conv2d_get_options(conv)->dilation, 2, 1);
  fonio_module_release(&conv->base);
}

static void options_are_copied(void **state) {
  (void)state;
  char mode[] = "replicate", padding[] = "same";
  fonio_conv2d_options options = fonio_conv2d_options_default();
  options.in_channels = options.out_channels = options.kernel_size[0] = 1;
  options.padding_mode = mode;
  options.padding_name = padding;
  fonio_conv2d *conv = fonio_conv2d_new_with(&options);
  memset(mode, 'x', sizeof mode - 1);
  memset(padding, 'x', sizeof padding - 1);
  assert_text(conv, "Conv2d(1, 1, kernel_size=(1, 1), stride=(1, 1), padding=same, padding_mode=replicate)");
  fonio_module_release(&conv->base);
}

static void options_must_start_from_the_defaults(void **state) {
  (void)state;
  fonio_conv2d_options options = {.in_channels = 1, .out_channels = 1, .kernel_size = {1, 1}};
  assert_null_fails(fonio_conv2d_new_with(&options), FONIO_VALUE_ERROR,
                    "fonio_conv2d_options of 0 bytes: start from fonio_conv2d_options_default()");
}

static void zeros_are_not_defaults(void **state) {
  (void)state;
  fonio_conv2d *conv = fonio_conv2d_new(.in_channels = 1, .out_channels = 1, .kernel_size = 1, .stride = 0);
  assert_text(conv, "Conv2d(1, 1, kernel_size=(1, 1), stride=(0, 0))");
  fonio_module_release(&conv->base);
  assert_null_fails(fonio_conv2d_new(.in_channels = 1, .out_channels = 1, .kernel_size = 1, .groups = 0),
                    FONIO_VALUE_ERROR, "groups must be a positive integer");
}

/* ---- Running ---- */

static void forward_is_conv2d_with_the_layers_arguments(void **state) {
  (void)state;
  fonio_conv2d *conv =
      fonio_conv2d_new(.in_channels = 2, .out_channels = 4, .kernel_size = {2, 3}, .stride = {2, 1},
                       .padding_sides = {1, 0, 2, 1}, .dilation = {1, 2}, .groups = 2, .padding_mode = "reflect");
  fonio_tensor *x = counting(FONIO_FLOAT32, -3, FONIO_SHAPE(2, 2, 6, 7)), *y = fonio_conv2d_forward(conv, x);
  fonio_tensor *expected =
      fonio_tensor_conv2d(x, fonio_conv2d_weight(conv), fonio_conv2d_bias(conv), .stride = {2, 1},
                          .padding_sides = {1, 0, 2, 1}, .dilation = {1, 2}, .groups = 2, .padding_mode = "reflect");
  bool identical = false;
  assert_int_equal(fonio_tensor_identical(y, expected, &identical), FONIO_OK);
  assert_true(identical);
  RELEASE(x, y, expected);
  fonio_module_release(&conv->base);
}

static void gradients_reach_the_parameters(void **state) {
  (void)state;
  fonio_conv2d *conv = fonio_conv2d_new(.in_channels = 1, .out_channels = 1, .kernel_size = 2);
  fonio_tensor *x = counting(FONIO_FLOAT32, 1, FONIO_SHAPE(1, 1, 3, 3)), *y = fonio_conv2d_forward(conv, x);
  fonio_tensor *sum = fonio_tensor_sum(y);
  assert_int_equal(fonio_tensor_backward(sum), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(fonio_conv2d_weight(conv)), 12, 16, 24, 28);
  ASSERT_VALUES(fonio_tensor_grad(fonio_conv2d_bias(conv)), 4);
  assert_int_equal(fonio_module_zero_grad(&conv->base), FONIO_OK);
  assert_null(fonio_tensor_grad(fonio_conv2d_weight(conv)));
  RELEASE(x, y, sum);
  fonio_module_release(&conv->base);
}

static void frozen_parameters_get_none(void **state) {
  (void)state;
  fonio_conv2d *conv = fonio_conv2d_new(.in_channels = 1, .out_channels = 1, .kernel_size = 1);
  fonio_tensor *x = counting(FONIO_FLOAT32, 1, FONIO_SHAPE(1, 1, 2, 2));
  assert_int_equal(fonio_module_set_requires_grad(&conv->base, false), FONIO_OK);
  fonio_tensor *y = fonio_conv2d_forward(conv, x);
  assert_false(fonio_tensor_requires_grad(y));
  RELEASE(x, y);
  fonio_module_release(&conv->base);
}

/* ---- What it holds ---- */

static void parameters_can_be_set(void **state) {
  (void)state;
  fonio_conv2d *conv = fonio_conv2d_new(.in_channels = 1, .out_channels = 1, .kernel_size = 1);
  fonio_tensor *data = fonio_tensor_full(FONIO_FLOAT32, 3, FONIO_SHAPE(1, 1, 1, 1));
  fonio_tensor *weight = fonio_parameter_new(data, true),
               *x = fonio_tensor_full(FONIO_FLOAT32, 5, FONIO_SHAPE(1, 1, 1));
  assert_int_equal(fonio_conv2d_set_weight(conv, weight), FONIO_OK);
  assert_int_equal(fonio_conv2d_set_bias(conv, NULL), FONIO_OK);
  assert_int_equal(fonio_conv2d_set_bias(conv, NULL), FONIO_OK);
  assert_int_equal(fonio_conv2d_set_weight(conv, data), FONIO_TYPE_ERROR);
  fonio_tensor *y = fonio_conv2d_forward(conv, x);
  ASSERT_VALUES(y, 15);
  assert_text(conv, "Conv2d(1, 1, kernel_size=(1, 1), stride=(1, 1), bias=False)");
  RELEASE(data, weight, x, y);
  fonio_module_release(&conv->base);
}

static void a_conversion_keeps_the_tensor_and_its_gradient(void **state) {
  (void)state;
  fonio_conv2d *conv = fonio_conv2d_new(.in_channels = 1, .out_channels = 1, .kernel_size = 2);
  fonio_tensor *weight = fonio_tensor_retain(fonio_conv2d_weight(conv));
  fonio_tensor *grad = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(1, 1, 2, 2));
  double before = value_at(weight, 3);
  fonio_tensor_set_grad(weight, grad);
  assert_int_equal(fonio_module_to(&conv->base, FONIO_FLOAT64), FONIO_OK);
  assert_ptr_equal(fonio_conv2d_weight(conv), weight);
  assert_int_equal(fonio_tensor_dtype(weight), FONIO_FLOAT64);
  assert_int_equal(fonio_tensor_dtype(fonio_tensor_grad(weight)), FONIO_FLOAT64);
  assert_true(fonio_tensor_requires_grad(weight) && value_at(weight, 3) == before);
  ASSERT_VALUES(fonio_tensor_grad(weight), 1, 1, 1, 1);
  fonio_module_release(&conv->base);
  RELEASE(weight, grad);
}

/* ---- State ---- */

static fonio_dict *dict_of(const char *name, fonio_tensor *tensor) {
  fonio_dict *dict = fonio_dict_new();
  assert_int_equal(fonio_dict_set(dict, name, tensor), FONIO_OK);
  return dict;
}

static void keys_come_back(void **state) {
  (void)state;
  fonio_conv2d *conv = fonio_conv2d_new(.in_channels = 1, .out_channels = 1, .kernel_size = 1);
  fonio_tensor *two = fonio_tensor_full(FONIO_FLOAT64, 2, FONIO_SHAPE(1, 1, 1, 1));
  fonio_dict *dict = dict_of("weight", two);
  fonio_dict_set(dict, "steps", two);
  fonio_incompatible_keys *keys = NULL;
  assert_fails(fonio_module_load_state_dict(&conv->base, dict, true, &keys), FONIO_RUNTIME_ERROR,
               "Error(s) in loading state_dict for Conv2d:\n\tMissing key(s) in state_dict: \"bias\". \n\tUnexpected "
               "key(s) in state_dict: \"steps\". ");
  assert_null(keys);
  assert_int_equal(fonio_module_load_state_dict(&conv->base, dict, false, &keys), FONIO_OK);
  assert_int_equal(keys->missing_count, 1);
  assert_string_equal(keys->missing[0], "bias");
  assert_int_equal(keys->unexpected_count, 1);
  assert_string_equal(keys->unexpected[0], "steps");
  ASSERT_VALUES(fonio_conv2d_weight(conv), 2);
  assert_int_equal(fonio_tensor_dtype(fonio_conv2d_weight(conv)), FONIO_FLOAT32);
  fonio_incompatible_keys_release(keys);
  fonio_dict_release(dict);
  RELEASE(two);
  fonio_module_release(&conv->base);
}

static void a_state_outlives_its_layer(void **state) {
  (void)state;
  fonio_manual_seed(1);
  fonio_conv2d *conv = fonio_conv2d_new(.in_channels = 1, .out_channels = 1, .kernel_size = 1);
  double weight = value_at(fonio_conv2d_weight(conv), 0);
  fonio_dict *dict = fonio_module_state_dict(&conv->base);
  fonio_module_release(&conv->base);
  assert_true(value_at(fonio_dict_get(dict, "weight"), 0) == weight);
  assert_false(fonio_tensor_requires_grad(fonio_dict_get(dict, "weight")));
  assert_false(fonio_tensor_is_parameter(fonio_dict_get(dict, "weight")));
  fonio_dict_release(dict);
}

/* ---- Lazy ---- */

static void a_lazy_layer_becomes_a_conv2d(void **state) {
  (void)state;
  fonio_conv2d *conv = fonio_lazy_conv2d_new(.out_channels = 2, .kernel_size = 1, .bias = false);
  fonio_tensor *weight = fonio_conv2d_weight(conv), *x = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(1, 3, 2, 2));
  char *text = fonio_tensor_to_text(weight);
  assert_string_equal(text, "<UninitializedParameter>");
  fonio_text_release(text);
  fonio_manual_seed(7);
  fonio_tensor *first = fonio_conv2d_forward(conv, x), *second = fonio_conv2d_forward(conv, x);
  assert_ptr_equal(fonio_conv2d_weight(conv), weight);
  ASSERT_SIZES(fonio_tensor_shape(weight), 2, 3, 1, 1);
  assert_text(conv, "Conv2d(3, 2, kernel_size=(1, 1), stride=(1, 1), bias=False)");
  bool equal = false;
  fonio_tensor_equal(first, second, &equal);
  assert_true(equal);
  RELEASE(x, first, second);
  fonio_module_release(&conv->base);
}

static void a_lazy_layer_stays_so_when_its_input_will_not_do(void **state) {
  (void)state;
  fonio_conv2d *conv = fonio_lazy_conv2d_new(.out_channels = 2, .kernel_size = 1, .groups = 2);
  fonio_tensor *flat = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(3, 4));
  fonio_tensor *odd = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(3, 4, 4));
  assert_null_fails(fonio_conv2d_forward(conv, flat), FONIO_RUNTIME_ERROR,
                    "Expected 3D (unbatched) or 4D (batched) input to LazyConv2d, but got input of size: "
                    "torch.Size([3, 4])");
  assert_null_fails(fonio_conv2d_forward(conv, odd), FONIO_VALUE_ERROR, "in_channels must be divisible by groups");
  assert_string_equal(fonio_module_type(&conv->base)->name, "LazyConv2d");
  assert_null_fails(fonio_lazy_conv2d_new(.in_channels = 3, .out_channels = 2, .kernel_size = 1), FONIO_TYPE_ERROR,
                    "LazyConv2d.__init__() got an unexpected keyword argument 'in_channels'");
  RELEASE(flat, odd);
  fonio_module_release(&conv->base);
}

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_number_stands_for_a_pair),
      TEST(every_argument_is_heard),
      TEST(options_are_copied),
      TEST(options_must_start_from_the_defaults),
      TEST(zeros_are_not_defaults),
      TEST(forward_is_conv2d_with_the_layers_arguments),
      TEST(gradients_reach_the_parameters),
      TEST(frozen_parameters_get_none),
      TEST(parameters_can_be_set),
      TEST(a_conversion_keeps_the_tensor_and_its_gradient),
      TEST(keys_come_back),
      TEST(a_state_outlives_its_layer),
      TEST(a_lazy_layer_becomes_a_conv2d),
      TEST(a_lazy_layer_stays_so_when_its_input_will_not_do),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
