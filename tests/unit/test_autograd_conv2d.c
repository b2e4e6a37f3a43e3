/* conv2d on tensors: values, formats, gradients and what they need. Its gradients beside differences:
 * test_gradcheck_conv2d.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tensors.h"

static fonio_tensor *image(int64_t batch, int64_t channels) {
  return counting(FONIO_FLOAT32, 0, FONIO_SHAPE(batch, channels, 3, 3));
}

static fonio_tensor *kernels(int64_t out_channels, int64_t channels) {
  return counting(FONIO_FLOAT32, 1, FONIO_SHAPE(out_channels, channels, 2, 2));
}

static fonio_tensor *backward_of_sum(fonio_tensor *y) {
  fonio_tensor *sum = fonio_tensor_sum(y);
  assert_int_equal(fonio_tensor_backward(sum), FONIO_OK);
  RELEASE(sum);
  return y;
}

static void values_and_gradients(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(image(1, 1)), *w = requiring_grad(kernels(1, 1));
  fonio_tensor *b = requiring_grad(fonio_tensor_full(FONIO_FLOAT32, 100, FONIO_SHAPE(1)));
  fonio_tensor *y = backward_of_sum(fonio_tensor_conv2d(x, w, b));
  assert_string_equal(fonio_tensor_grad_fn_name(y), "ConvolutionBackward0");
  ASSERT_VALUES(y, 127, 137, 157, 167);
  ASSERT_VALUES(fonio_tensor_grad(x), 1, 3, 2, 4, 10, 6, 3, 7, 4);
  ASSERT_VALUES(fonio_tensor_grad(w), 8, 12, 20, 24);
  ASSERT_VALUES(fonio_tensor_grad(b), 4);
  RELEASE(x, w, b, y);
}

static void an_unbatched_image_stays_unbatched(void **state) {
  (void)state;
  fonio_tensor *four = image(1, 2), *x = requiring_grad(fonio_tensor_reshape(four, FONIO_SHAPE(2, 3, 3)));
  fonio_tensor *w = requiring_grad(kernels(3, 2)), *y = backward_of_sum(fonio_tensor_conv2d(x, w, NULL));
  assert_string_equal(fonio_tensor_grad_fn_name(y), "SqueezeBackward1");
  assert_int_equal(fonio_tensor_ndim(y), 3);
  ASSERT_SIZES(fonio_tensor_shape(y), 3, 2, 2);
  ASSERT_SIZES(fonio_tensor_shape(fonio_tensor_grad(x)), 2, 3, 3);
  ASSERT_SIZES(fonio_tensor_shape(fonio_tensor_grad(w)), 3, 2, 2, 2);
  RELEASE(four, x, w, y);
}

static void channels_last_stays_channels_last(void **state) {
  (void)state;
  fonio_tensor *plain = image(2, 2), *x = requiring_grad(fonio_tensor_channels_last(plain));
  fonio_tensor *w = requiring_grad(kernels(3, 2)), *y = backward_of_sum(fonio_tensor_conv2d(x, w, NULL));
  fonio_tensor *expected = fonio_tensor_conv2d(plain, w, NULL);
  bool equal = false;
  assert_true(fonio_tensor_is_channels_last(y));
  assert_false(fonio_tensor_is_channels_last(expected));
  assert_int_equal(fonio_tensor_equal(y, expected, &equal), FONIO_OK);
  assert_true(equal);
  ASSERT_SIZES(fonio_tensor_strides(fonio_tensor_grad(x)), 18, 1, 6, 2);
  ASSERT_SIZES(fonio_tensor_strides(fonio_tensor_grad(w)), 8, 4, 2, 1);
  RELEASE(plain, x, w, y, expected);
}

/* The gradient of a part of a picture has no gaps, whatever the part had. */
static void gradients_are_dense(void **state) {
  (void)state;
  fonio_tensor *wide = counting(FONIO_FLOAT32, 0, FONIO_SHAPE(1, 1, 3, 6)), *grads[2];
  fonio_tensor *x = requiring_grad(fonio_tensor_slice(wide, 3, 0, 6, 2)), *w = requiring_grad(kernels(1, 1));
  fonio_tensor *y = fonio_tensor_conv2d(x, w, NULL), *sum = fonio_tensor_sum(y), *inputs[] = {x, w};
  assert_int_equal(fonio_grad(sum, 2, inputs, NULL, false, false, false, grads), FONIO_OK);
  assert_true(fonio_tensor_is_contiguous(grads[0]));
  ASSERT_VALUES(grads[0], 1, 3, 2, 4, 10, 6, 3, 7, 4);
  ASSERT_VALUES(grads[1], 2 * 8, 2 * 12, 2 * 20, 2 * 24);
  release_all(2, grads);
  RELEASE(wide, x, w, y, sum);
}

static void each_gradient_comes_alone(void **state) {
  (void)state;
  const double first[3] = {1 + 5, 8, 4};
  for (int which = 0; which < 3; which++) {
    fonio_tensor *inputs[] = {image(1, 1), kernels(2, 1), fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(2))};
    requiring_grad(inputs[which]);
    fonio_tensor *y = backward_of_sum(fonio_tensor_conv2d(inputs[0], inputs[1], inputs[2]));
    for (int i = 0; i < 3; i++)
      assert_int_equal(fonio_tensor_grad(inputs[i]) != NULL, i == which);
    assert_true(value_at(fonio_tensor_grad(inputs[which]), 0) == first[which]);
    release_all(3, inputs);
    RELEASE(y);
  }
}

static void freed(void *data, void *user) {
  (void)data;
  ++*(int *)user;
}

/* Without a gradient of the weight nobody needs the image again: it is not held, which is what fills the memory of a
 * large network. */
static void the_image_is_saved_only_for_the_weight(void **state) {
  (void)state;
  float numbers[9] = {0};
  for (int with_weight = 0; with_weight < 2; with_weight++) {
    int releases = 0;
    fonio_tensor *x = fonio_tensor_wrap(FONIO_FLOAT32, numbers, FONIO_SHAPE(1, 1, 3, 3), NULL, freed, &releases);
    fonio_tensor *w = kernels(1, 1), *b = requiring_grad(fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(1)));
    if (with_weight) requiring_grad(w);
    fonio_tensor *y = fonio_tensor_conv2d(x, w, b), *sum = fonio_tensor_sum(y);
    fonio_tensor_release(x);
    assert_int_equal(releases, with_weight ? 0 : 1);
    assert_int_equal(fonio_tensor_backward(sum), FONIO_OK);
    ASSERT_VALUES(fonio_tensor_grad(b), 4);
    assert_int_equal(releases, 1);
    RELEASE(w, b, y, sum);
  }
}

static void no_images_and_no_channels(void **state) {
  (void)state;
  for (int64_t batch = 0; batch < 2; batch++) {
    int64_t channels = 1 - batch;
    fonio_tensor *x = requiring_grad(image(batch, channels)), *w = requiring_grad(kernels(3, channels));
    fonio_tensor *b = requiring_grad(fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(3)));
    fonio_tensor *y = backward_of_sum(fonio_tensor_conv2d(x, w, b));
    ASSERT_SIZES(fonio_tensor_shape(y), batch, channels ? 3 : 0, 2, 2);
    ASSERT_SIZES(fonio_tensor_shape(fonio_tensor_grad(x)), batch, channels, 3, 3);
    ASSERT_SIZES(fonio_tensor_shape(fonio_tensor_grad(w)), 3, channels, 2, 2);
    for (int64_t i = 0; i < 12 * channels; i++)
      assert_true(value_at(fonio_tensor_grad(w), i) == 0);
    ASSERT_VALUES(fonio_tensor_grad(b), 0, 0, 0);
    RELEASE(x, w, b, y);
  }
}

/* torch saves both, and complains when either was written to. Fonio saves the image only where it is needed. */
static void saved_tensors_must_not_change(void **state) {
  (void)state;
  for (int which = 0; which < 2; which++) {
    fonio_tensor *inputs[] = {image(1, 1), requiring_grad(kernels(1, 1))};
    fonio_tensor *y = fonio_tensor_conv2d(inputs[0], inputs[1], NULL), *sum = fonio_tensor_sum(y);
    fonio_set_grad_enabled(false);
    assert_int_equal(fonio_tensor_fill(inputs[which], 1), FONIO_OK);
    fonio_set_grad_enabled(true);
    assert_int_equal(fonio_tensor_backward(sum), FONIO_RUNTIME_ERROR);
    assert_non_null(strstr(fonio_last_error(), which ? "[torch.FloatTensor [1, 1, 2, 2]] is at version 1"
                                                     : "[torch.FloatTensor [1, 1, 3, 3]] is at version 1"));
    release_all(2, inputs);
    RELEASE(y, sum);
  }
}

static void a_second_time_is_refused(void **state) {
  (void)state;
  fonio_tensor *x = image(1, 1), *w = kernels(1, 1),
               *b = requiring_grad(fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(1)));
  fonio_tensor *y = fonio_tensor_conv2d(x, w, b), *sum = fonio_tensor_sum(y);
  assert_int_equal(fonio_tensor_backward(sum), FONIO_OK);
  assert_int_equal(fonio_tensor_backward(sum), FONIO_RUNTIME_ERROR);
  assert_non_null(strstr(fonio_last_error(), "Trying to backward through the graph a second time"));
  RELEASE(x, w, b, y, sum);
}

static void bad_arguments_come_with_torchs_text(void **state) {
  (void)state;
  fonio_tensor *x = image(1, 3), *w = kernels(1, 4);
  assert_null_fails(fonio_tensor_conv2d(x, w, NULL), FONIO_RUNTIME_ERROR,
                    "Given groups=1, weight of size [1, 4, 2, 2], expected input[1, 3, 3, 3] to have 4 channels, but "
                    "got 3 channels instead");
  fonio_clear_error();
  assert_null_fails(fonio_tensor_conv2d(x, NULL, NULL), FONIO_TYPE_ERROR,
                    "fonio_tensor_conv2d() was given NULL where it needs an object");
  RELEASE(x, w);
}

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(values_and_gradients),
      TEST(an_unbatched_image_stays_unbatched),
      TEST(channels_last_stays_channels_last),
      TEST(gradients_are_dense),
      TEST(each_gradient_comes_alone),
      TEST(the_image_is_saved_only_for_the_weight),
      TEST(no_images_and_no_channels),
      TEST(saved_tensors_must_not_change),
      TEST(a_second_time_is_refused),
      TEST(bad_arguments_come_with_torchs_text),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
