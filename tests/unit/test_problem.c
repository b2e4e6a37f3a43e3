/* fonio_conv_problem_init: what it resolves, what it refuses, and that it leaves the problem alone then. The full
 * comparison with PyTorch is tests/parity. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fonio/conv.h"

#define SIZES(...) ((const int64_t[]){__VA_ARGS__})

static const fonio_array input = {FONIO_FLOAT32, 4, SIZES(2, 3, 8, 9), NULL};
static const fonio_array weight = {FONIO_FLOAT32, 4, SIZES(6, 3, 3, 4), NULL};
static const fonio_array bias = {FONIO_FLOAT32, 1, SIZES(6), NULL};

static fonio_conv_problem resolved(fonio_conv2d_args args) {
  fonio_conv_problem problem;
  assert_int_equal(fonio_conv_problem_init(&problem, &input, &weight, &bias, &args), FONIO_OK);
  return problem;
}

static void assert_sizes(const int64_t *got, const int64_t *expected, size_t count) {
  assert_memory_equal(got, expected, count * sizeof *got);
}

static void resolves_the_defaults(void **state) {
  (void)state;
  fonio_conv_problem problem;
  assert_int_equal(fonio_conv_problem_init(&problem, &input, &weight, NULL, NULL), FONIO_OK);
  assert_int_equal(problem.out_height, 6);
  assert_int_equal(problem.out_width, 6);
  assert_false(problem.has_bias);
  assert_true(problem.batched);
  assert_sizes(problem.stride, SIZES(1, 1), 2);
  assert_sizes(problem.padding, SIZES(0, 0, 0, 0), 4);
  assert_sizes(problem.input_strides, SIZES(216, 72, 9, 1), 4);
  assert_sizes(problem.output_strides, SIZES(216, 36, 6, 1), 4);
}

static void resolves_pairs_and_sides(void **state) {
  (void)state;
  fonio_conv_problem problem = resolved(FONIO_CONV2D_ARGS(.stride = 2, .padding = {1, 0}, .dilation = {1, 2}));
  assert_sizes(problem.stride, SIZES(2, 2), 2);
  assert_sizes(problem.dilation, SIZES(1, 2), 2);
  assert_sizes(problem.padding, SIZES(1, 1, 0, 0), 4);
  problem = resolved(FONIO_CONV2D_ARGS(.padding_sides = {1, 2, 3, 4}, .padding_mode = "replicate"));
  assert_sizes(problem.padding, SIZES(1, 2, 3, 4), 4);
  assert_int_equal(problem.padding_mode, FONIO_REPLICATE);
  assert_int_equal(problem.out_height, 9);
  assert_int_equal(problem.out_width, 13);
}

static void same_puts_the_odd_pixel_last_or_first(void **state) {
  (void)state;
  fonio_conv_problem problem = resolved(FONIO_CONV2D_ARGS(.padding_name = "same", .stride = {3, 2}));
  assert_sizes(problem.padding, SIZES(0, 1, 1, 2), 4);
  assert_int_equal(problem.out_height, 3);
  assert_int_equal(problem.out_width, 5);
  problem = resolved(FONIO_CONV2D_ARGS(.padding_name = "same_lower", .stride = {3, 2}));
  assert_sizes(problem.padding, SIZES(1, 0, 2, 1), 4);
}

static int warnings;
static void count_warning(const char *message, void *user) {
  (void)user;
  assert_non_null(strstr(message, "Using padding='same' with even kernel lengths"));
  warnings++;
}

static void warns_once_of_an_uneven_same(void **state) {
  (void)state;
  fonio_set_warning_handler(count_warning, NULL);
  resolved(FONIO_CONV2D_ARGS(.padding_name = "same", .stride = 2));
  assert_int_equal(warnings, 0);
  resolved(FONIO_CONV2D_ARGS(.padding_name = "same"));
  resolved(FONIO_CONV2D_ARGS(.padding_name = "same"));
  fonio_set_warning_handler(NULL, NULL);
  assert_int_equal(warnings, 1);
}

static void keeps_the_strides_of_an_unbatched_image(void **state) {
  (void)state;
  fonio_array image = {FONIO_FLOAT32, 3, SIZES(3, 8, 9), SIZES(1, 27, 3)};
  fonio_conv_problem problem;
  assert_int_equal(fonio_conv_problem_init(&problem, &image, &weight, NULL, NULL), FONIO_OK);
  assert_false(problem.batched);
  assert_int_equal(problem.batch, 1);
  assert_sizes(problem.input_strides, SIZES(3, 1, 27, 3), 4);
}

static void refused(const fonio_array *x, const fonio_array *w, const fonio_array *b, fonio_conv2d_args args,
                    fonio_status status, const char *text) {
  fonio_conv_problem problem, before;
  memset(&problem, 0x5a, sizeof problem);
  before = problem;
  assert_int_equal(fonio_conv_problem_init(&problem, x, w, b, &args), status);
  assert_string_equal(fonio_last_error(), text);
  assert_memory_equal(&problem, &before, sizeof problem);
}

static void refuses_what_torch_refuses(void **state) {
  (void)state;
  fonio_array flat = {FONIO_FLOAT32, 2, SIZES(8, 9), NULL}, ints = {FONIO_INT32, 4, input.shape, NULL};
  refused(&flat, &weight, NULL, FONIO_CONV2D_ARGS(), FONIO_RUNTIME_ERROR,
          "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: [8, 9]");
  refused(&input, &weight, NULL, FONIO_CONV2D_ARGS(.groups = 4), FONIO_RUNTIME_ERROR,
          "Given groups=4, expected weight to be divisible by 4 at dimension 0, but got weight of size [[6, 3, 3, 4]] "
          "instead");
  refused(&input, &weight, NULL, FONIO_CONV2D_ARGS(.padding_name = "full"), FONIO_RUNTIME_ERROR,
          "Invalid padding string: 'full'");
  refused(&ints, &weight, NULL, FONIO_CONV2D_ARGS(), FONIO_RUNTIME_ERROR, "expected scalar type Int but found Float");
  refused(
      &ints, &ints, NULL, FONIO_CONV2D_ARGS(.groups = 2), FONIO_RUNTIME_ERROR,
      "Given groups=2, weight of size [2, 3, 8, 9], expected input[2, 3, 8, 9] to have 6 channels, but got 3 channels "
      "instead");
}

static void refuses_what_no_torch_call_can_say(void **state) {
  (void)state;
  fonio_conv2d_args other = fonio_conv2d_args_default();
  other.struct_bytes = 8;
  refused(&input, &weight, NULL, other, FONIO_VALUE_ERROR,
          "fonio_conv2d_args of 8 bytes: start from FONIO_CONV2D_ARGS or fonio_conv2d_args_default()");
  fonio_array wrong = input;
  wrong.dtype = (fonio_dtype)99;
  refused(&wrong, &weight, NULL, FONIO_CONV2D_ARGS(), FONIO_VALUE_ERROR, "input: 99 is no dtype");
  assert_int_not_equal(fonio_conv_problem_init(NULL, &input, &weight, NULL, NULL), FONIO_OK);
}

/* ---- Problem strings ---- */

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
                                      "n3c0h5w6k2r2s3g2"};
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
      {"c3h8w8k4r3s3x", "problem string 'c3h8w8k4r3s3x': expected one of the letters nchwkrsupdgmbtl at 'x'"},
      {"c3c3", "problem string 'c3c3': expected each letter once at 'c3'"},
      {"c3p1,2,3k", "problem string 'c3p1,2,3k': expected one, two or four numbers at '1,2,3k'"},
      {"c3u1,2,3", "problem string 'c3u1,2,3': expected one of the letters nchwkrsupdgmbtl at ',3'"},
      {"c3pfull", "problem string 'c3pfull': expected a number at 'full'"},
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
  assert_int_equal(fonio_conv_problem_parse(&problem, "c3h2w8k4r3s3"), FONIO_RUNTIME_ERROR);
  assert_string_equal(fonio_last_error(), "Calculated padded input size per channel: (2 x 8). Kernel size: (3 x 3). "
                                          "Kernel size can't be greater than actual input size");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(resolves_the_defaults),
      cmocka_unit_test(resolves_pairs_and_sides),
      cmocka_unit_test(same_puts_the_odd_pixel_last_or_first),
      cmocka_unit_test(warns_once_of_an_uneven_same),
      cmocka_unit_test(keeps_the_strides_of_an_unbatched_image),
      cmocka_unit_test(refuses_what_torch_refuses),
      cmocka_unit_test(refuses_what_no_torch_call_can_say),
      cmocka_unit_test(strings_come_back_as_they_were),
      cmocka_unit_test(a_string_says_all_of_a_problem),
      cmocka_unit_test(names_of_paddings_are_read),
      cmocka_unit_test(other_strides_are_named_and_refused),
      cmocka_unit_test(a_short_buffer_cuts),
      cmocka_unit_test(wrong_strings_say_where),
      cmocka_unit_test(strings_of_impossible_problems_get_torch_s_words),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
