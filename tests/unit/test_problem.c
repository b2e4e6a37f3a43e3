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

/* ---- Sizes beyond 64 bits ---- */

#define HUGE_SIZE ((int64_t)1 << 62)

static void sizes_beyond_64_bits_are_refused(void **state) {
  (void)state;
  fonio_array many = {FONIO_FLOAT32, 4, SIZES(HUGE_SIZE, 3, 8, 9), NULL};
  fonio_array spread = {FONIO_FLOAT32, 4, SIZES(2, 3, 8, 9), SIZES(HUGE_SIZE, 72, 9, 1)};
  fonio_array image = {FONIO_FLOAT32, 3, SIZES(3, 8, 9), SIZES(INT64_MAX, 9, 1)};
  const char *too_large = "input of size [2, 3, 8, 9] is larger than memory can be";
  refused(&many, &weight, NULL, FONIO_CONV2D_ARGS(), FONIO_RUNTIME_ERROR,
          "input of size [4611686018427387904, 3, 8, 9] is larger than memory can be");
  refused(&spread, &weight, NULL, FONIO_CONV2D_ARGS(), FONIO_RUNTIME_ERROR, too_large);
  refused(&image, &weight, NULL, FONIO_CONV2D_ARGS(), FONIO_RUNTIME_ERROR,
          "input of size [3, 8, 9] is larger than memory can be");
  spread.strides = SIZES(INT64_MIN, 72, 9, 1);
  refused(&spread, &weight, NULL, FONIO_CONV2D_ARGS(), FONIO_RUNTIME_ERROR, too_large);
}

static void numbers_beyond_64_bits_are_refused(void **state) {
  (void)state;
  refused(&input, &weight, NULL, FONIO_CONV2D_ARGS(.padding = HUGE_SIZE), FONIO_RUNTIME_ERROR,
          "Given padding=4611686018427387904 at dimension 0 , expected padding to be at most 4611686018427387903");
  refused(&input, &weight, NULL, FONIO_CONV2D_ARGS(.padding = {0, HUGE_SIZE - 1}), FONIO_RUNTIME_ERROR,
          "padding [0, 4611686018427387903] is too large for an input of size [2, 3, 8, 9]");
  refused(&input, &weight, NULL, FONIO_CONV2D_ARGS(.padding = HUGE_SIZE / 2), FONIO_RUNTIME_ERROR,
          "Storage size calculation overflowed with sizes=[2, 6, 4611686018427387910, 4611686018427387910]");
  refused(&input, &weight, NULL, FONIO_CONV2D_ARGS(.padding_sides = {1, INT64_MAX, 0, 0}), FONIO_RUNTIME_ERROR,
          "padding [1, 9223372036854775807, 0, 0] is too large for an input of size [2, 3, 8, 9]");
  refused(&input, &weight, NULL, FONIO_CONV2D_ARGS(.dilation = {1, INT64_MAX}), FONIO_RUNTIME_ERROR,
          "dilation [1, 9223372036854775807] is too large for a weight of size [6, 3, 3, 4]");
  const fonio_array two_taps = {FONIO_FLOAT32, 4, (const int64_t[]){6, 3, 2, 2}, NULL};
  refused(&input, &two_taps, NULL, FONIO_CONV2D_ARGS(.dilation = {1, INT64_MAX}), FONIO_RUNTIME_ERROR,
          "dilation [1, 9223372036854775807] is too large for a weight of size [6, 3, 2, 2]");
  refused(
      &input, &weight, NULL, FONIO_CONV2D_ARGS(.padding = HUGE_SIZE, .padding_mode = "circular"), FONIO_RUNTIME_ERROR,
      "padding [4611686018427387904, 4611686018427387904, 4611686018427387904, 4611686018427387904] is too large for "
      "an input of size [2, 3, 8, 9]");
}

static void large_numbers_that_fit_are_taken(void **state) {
  (void)state;
  fonio_conv_problem problem = resolved(FONIO_CONV2D_ARGS(.stride = INT64_MAX));
  assert_int_equal(problem.out_height, 1);
  problem = resolved(FONIO_CONV2D_ARGS(.stride = HUGE_SIZE, .padding = {HUGE_SIZE / 2, 0}));
  assert_int_equal(problem.out_height, 2);
  problem = resolved(FONIO_CONV2D_ARGS(.padding_name = "same", .stride = {HUGE_SIZE, 1}));
  assert_sizes(problem.padding, SIZES(0, 0, 1, 2), 4);
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
      cmocka_unit_test(sizes_beyond_64_bits_are_refused),
      cmocka_unit_test(numbers_beyond_64_bits_are_refused),
      cmocka_unit_test(large_numbers_that_fit_are_taken),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
