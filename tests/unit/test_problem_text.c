/* Problem strings: read, written, refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fonio/conv.h"

#define SIZES(...) ((const int64_t[]){__VA_ARGS__})

static void assert_sizes(const int64_t *got, const int64_t *expected, size_t count) {
  assert_memory_equal(got, expected, count * sizeof *got);
}

static fonio_conv_problem parsed(const char *text) {
  fonio_conv_problem problem;
  if (fonio_conv_problem_parse(&problem, text)) fail_msg("%s", fonio_last_error());
  return problem;
}

static void assert_prints(const fonio_conv_problem *problem, const char *expected) {
  char text[256];
  assert_int_equal(fonio_conv_problem_print(problem, text, sizeof text), strlen(expected));
  assert_string_equal(text, expected);
}

static void strings_come_back_as_they_were(void **state) {
  (void)state;
  static const char *const texts[] = {"n1c3h256w256k64r4s4u2p1",
                                      "n2c8h9w9k6r3s3u2,1p1,0,2,1d1,2g2mreflectb0tf64lnhwc",
                                      "c3h8w8k4r3s3",
                                      "n0c3h8w8k4r3s3",
                                      "n1c4h5w5k4r1s1g4mcircular",
                                      "n2c4h5w6k8r2s3p9,7mreplicate",
                                      "n3c0h5w6k2r2s3g2",
                                      "c3h8w8k4r3s3b0z1arelutf64",
                                      "c3h8w8k4r3s3arelu6lnhwc",
                                      "c3h8w8k4r3s3aleaky_relu",
                                      "c3h8w8k4r3s3aleaky_relu-0.1tf64",
                                      "c3h8w8k4r3s3aleaky_relu1.5e-07",
                                      "c3h8w8k4r3s3aprelu",
                                      "c3h8w8k4r3s3aprelu4",
                                      "c3h8w8k4r3s3z1asilu",
                                      "c3h8w8k4r3s3ahardswish",
                                      "c3h8w8k4r3s3asigmoid",
                                      "c3h8w8k4r3s3atanhtf64",
                                      "c3h8w8k4r3s3agelu",
                                      "c3h8w8k4r3s3agelu_tanh"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    fonio_conv_problem problem = parsed(texts[i]);
    assert_prints(&problem, texts[i]);
  }
}

static void a_string_says_all_of_a_problem(void **state) {
  (void)state;
  fonio_conv_problem problem = parsed("n2c8h9w10k6r3s4u2,1p1,0,2,1d1,2g2mreflectb0tf64lnhwc");
  assert_int_equal(problem.dtype, FONIO_FLOAT64);
  assert_int_equal(problem.padding_mode, FONIO_REFLECT);
  assert_int_equal(problem.groups, 2);
  assert_false(problem.has_bias);
  assert_sizes(problem.stride, SIZES(2, 1), 2);
  assert_sizes(problem.dilation, SIZES(1, 2), 2);
  assert_sizes(problem.padding, SIZES(1, 0, 2, 1), 4);
  assert_sizes(problem.input_strides, SIZES(720, 1, 80, 8), 4);
  assert_sizes(problem.weight_strides, SIZES(48, 1, 16, 4), 4);
  assert_sizes(problem.output_strides, SIZES(168, 1, 42, 6), 4);
}

static void what_follows_is_read(void **state) {
  (void)state;
  fonio_conv_problem problem = parsed("c3h8w8k4r3s3");
  assert_false(problem.has_residual);
  assert_int_equal(problem.activation, FONIO_NO_ACTIVATION);
  problem = parsed("c3h8w8k4r3s3z1aleaky_relu");
  assert_true(problem.has_residual);
  assert_int_equal(problem.activation, FONIO_LEAKY_RELU);
  assert_true(problem.slope == 0.01);
  problem = parsed("aleaky_relu.25c3h8w8k4r3s3");
  assert_true(problem.slope == 0.25);
  problem = parsed("c3h8w8k4r3s3aprelu1");
  assert_int_equal(problem.activation, FONIO_PRELU);
  assert_int_equal(problem.prelu_stride, 0);
  problem = parsed("aprelu4c3h8w8k4r3s3");
  assert_int_equal(problem.prelu_stride, 1);
}

static void names_of_paddings_are_read(void **state) {
  (void)state;
  fonio_conv_problem problem = parsed("c3h8w8k4r2s4psamelnchw");
  assert_sizes(problem.padding, SIZES(0, 1, 1, 2), 4);
  problem = parsed("psame_lowerc3h8w8k4r2s4b1");
  assert_sizes(problem.padding, SIZES(1, 0, 2, 1), 4);
  problem = parsed("c3h8w8k4r2s4pvalid");
  assert_sizes(problem.padding, SIZES(0, 0, 0, 0), 4);
}

static void other_strides_are_named_and_refused(void **state) {
  (void)state;
  fonio_conv_problem problem = parsed("c3h8w8k4r2s4");
  problem.output_strides[2]++;
  assert_prints(&problem, "c3h8w8k4r2s4lstrided");
  assert_int_equal(fonio_conv_problem_parse(&problem, "c3h8w8k4r2s4lstrided"), FONIO_VALUE_ERROR);
}

static void what_no_problem_can_be_is_printed_too(void **state) {
  (void)state;
  fonio_conv_problem problem = {.dtype = (fonio_dtype)77, .padding_mode = (fonio_padding_mode)9};
  assert_prints(&problem, "c0h0w0k0r0s0u0d0g0m?b0t?");
}

static void a_short_buffer_cuts(void **state) {
  (void)state;
  fonio_conv_problem problem = parsed("n1c3h256w256k64r4s4u2p1");
  char text[8] = "?????";
  assert_int_equal(fonio_conv_problem_print(&problem, text, 6), 23);
  assert_string_equal(text, "n1c3h");
  assert_int_equal(fonio_conv_problem_print(&problem, text, 1), 23);
  assert_string_equal(text, "");
  assert_int_equal(fonio_conv_problem_print(&problem, NULL, 0), 23);
}

static void wrong_strings_say_where(void **state) {
  (void)state;
  static const char *const wrong[][2] = {
      {"", "problem string '': 'c' is missing; c, h, w, k, r and s are needed"},
      {"c3h8w8k4r3", "problem string 'c3h8w8k4r3': 's' is missing; c, h, w, k, r and s are needed"},
      {"c3h8w8k4r3s", "problem string 'c3h8w8k4r3s': expected a number at ''"},
      {"c3h8w8k4r3s3x", "problem string 'c3h8w8k4r3s3x': expected one of the letters nchwkrsupdgmbzatl at 'x'"},
      {"c3c3", "problem string 'c3c3': expected each letter once at 'c3'"},
      {"c3p1,2,3k", "problem string 'c3p1,2,3k': expected one, two or four numbers at '1,2,3k'"},
      {"c3u1,2,3", "problem string 'c3u1,2,3': expected one of the letters nchwkrsupdgmbzatl at ',3'"},
      {"c3pfull", "problem string 'c3pfull': expected a number at 'full'"},
      {"c3z2", "problem string 'c3z2': expected 0 or 1 at '2'"},
      {"c3asoftmax", "problem string 'c3asoftmax': expected an activation at 'softmax'"},
      {"c3arelu7", "problem string 'c3arelu7': expected one of the letters nchwkrsupdgmbzatl at '7'"},
      {"c3b2", "problem string 'c3b2': expected 0 or 1 at '2'"},
      {"c3tf16", "problem string 'c3tf16': expected f32 or f64 at 'f16'"},
      {"c9223372036854775808", "problem string 'c9223372036854775808': expected a number that fits 64 bits at "
                               "'9223372036854775808'"}};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    fonio_conv_problem problem, before;
    memset(&problem, 0x5a, sizeof problem);
    before = problem;
    assert_int_equal(fonio_conv_problem_parse(&problem, wrong[i][0]), FONIO_VALUE_ERROR);
    assert_string_equal(fonio_last_error(), wrong[i][1]);
    assert_memory_equal(&problem, &before, sizeof problem);
  }
}

static void strings_of_impossible_problems_get_torch_s_words(void **state) {
  (void)state;
  fonio_conv_problem problem;
  assert_int_equal(fonio_conv_problem_parse(&problem, "c3h8w8k4r3s3g0"), FONIO_RUNTIME_ERROR);
  assert_string_equal(fonio_last_error(), "non-positive groups is not supported");
  assert_int_equal(fonio_conv_problem_parse(&problem, "c3h8w8k4r3s3aprelu3"), FONIO_RUNTIME_ERROR);
  assert_string_equal(fonio_last_error(), "Mismatch of parameter numbers and input channel size. Found parameter "
                                          "numbers = 3 and channel size = 4.");
  assert_int_equal(fonio_conv_problem_parse(&problem, "c3h2w8k4r3s3"), FONIO_RUNTIME_ERROR);
  assert_string_equal(fonio_last_error(), "Calculated padded input size per channel: (2 x 8). Kernel size: (3 x 3). "
                                          "Kernel size can't be greater than actual input size");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(strings_come_back_as_they_were),
      cmocka_unit_test(a_string_says_all_of_a_problem),
      cmocka_unit_test(what_follows_is_read),
      cmocka_unit_test(names_of_paddings_are_read),
      cmocka_unit_test(other_strides_are_named_and_refused),
      cmocka_unit_test(what_no_problem_can_be_is_printed_too),
      cmocka_unit_test(a_short_buffer_cuts),
      cmocka_unit_test(wrong_strings_say_where),
      cmocka_unit_test(strings_of_impossible_problems_get_torch_s_words),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
