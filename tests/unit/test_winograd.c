/* Winograd's algorithm in all its sizes: against the plain loops, on kernels, strides, dilations and channels around
 * every boundary of its blocks; and its error, which the class `default` bounds. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases.h"
#include "fonio.h"

static uint64_t random_state;

static int pick(int low, int high) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return low + (int)((random_state >> 33) % (uint64_t)(high - low + 1));
}

/* About normal: a sum of uniform numbers. `cut`: without what is below 0, as a ReLU leaves it. */
static double number(bool cut) {
  double sum = 0;
  for (int i = 0; i < 6; i++)
    sum += pick(-1000000, 1000000) * 1e-6;
  return cut && sum < 0 ? 0 : (double)(float)sum;
}

static void *array_of(int64_t elements, fonio_dtype dtype) {
  return calloc((size_t)(elements ? elements : 1), fonio_dtype_bytes(dtype));
}

static void set(void *array, fonio_dtype dtype, int64_t i, double x) {
  if (dtype == FONIO_FLOAT32)
    ((float *)array)[i] = (float)x;
  else
    ((double *)array)[i] = x;
}

static double get(const void *array, fonio_dtype dtype, int64_t i) {
  return dtype == FONIO_FLOAT32 ? (double)((const float *)array)[i] : ((const double *)array)[i];
}

static int64_t inputs_of(const fonio_conv_problem *p) {
  return p->batch * p->in_channels * p->in_height * p->in_width;
}

static int64_t weights_of(const fonio_conv_problem *p) {
  return p->out_channels * (p->in_channels / p->groups) * p->kernel_height * p->kernel_width;
}

static int64_t outputs_of(const fonio_conv_problem *p) {
  return p->batch * p->out_channels * p->out_height * p->out_width;
}

/* The output of an algorithm for these numbers, taken as elements of the problem's dtype; NULL: it cannot do it. */
static void *output_of(const fonio_conv_problem *p, const char *algorithm, const double *x, const double *w) {
  fonio_conv_plan_options options = {.struct_bytes = sizeof options, .algorithm = algorithm};
  fonio_conv_plan *plan = fonio_conv_plan_new(p, &options);
  if (!plan) return NULL;
  void *input = array_of(inputs_of(p), p->dtype), *weight = array_of(weights_of(p), p->dtype);
  void *bias = array_of(p->out_channels, p->dtype), *output = array_of(outputs_of(p), p->dtype);
  for (int64_t i = 0; i < inputs_of(p); i++)
    set(input, p->dtype, i, x[i]);
  for (int64_t i = 0; i < weights_of(p); i++)
    set(weight, p->dtype, i, w[i]);
  for (int64_t i = 0; i < p->out_channels; i++)
    set(bias, p->dtype, i, (double)i);
  fonio_conv_buffers b = {.input = input, .weight = weight, .bias = p->has_bias ? bias : NULL, .output = output};
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
  fonio_conv_plan_release(plan);
  free(input), free(weight), free(bias);
  return output;
}

/* ---- Results ---- */

static int check(const char *text) {
  fonio_conv_problem p;
  if (fonio_conv_problem_parse(&p, text) != FONIO_OK) fail_msg("%s: %s", text, fonio_last_error());
  double *x = array_of(inputs_of(&p), FONIO_FLOAT64), *w = array_of(weights_of(&p), FONIO_FLOAT64);
  for (int64_t i = 0; i < inputs_of(&p); i++)
    x[i] = number(false);
  for (int64_t i = 0; i < weights_of(&p); i++)
    w[i] = number(false);
  void *expected = output_of(&p, "reference", x, w);
  int did = 0;
  for (int i = 0; i < 2; i++) {
    const char *algorithm = i ? "winograd4" : "winograd2";
    void *got = output_of(&p, algorithm, x, w);
    if (!got) continue;
    double largest = 0, error = 0, epsilon = p.dtype == FONIO_FLOAT32 ? 0x1p-24 : 0x1p-53;
    for (int64_t j = 0; j < outputs_of(&p); j++) {
      double value = get(expected, p.dtype, j);
      largest = fmax(largest, fabs(value));
      error = fmax(error, fabs(value - get(got, p.dtype, j)));
    }
    if (!(error <= 200 * epsilon * (largest + 1)))
      fail_msg("%s is off by %g of %g: %s", algorithm, error, largest, text);
    did++;
    free(got);
  }
  free(x), free(w), free(expected);
  return did;
}

/* A row or column of a kernel: up to five taps to a phase of the stride, up to nine without one; or a single tap. */
static int kernel_under(int stride) {
  if (pick(0, 4) == 0) return pick(1, stride);
  return stride + pick(1, pick(1, stride > 1 ? 4 * stride : 8));
}

/* Channels around whole vectors and cache lines of them; all modes and layouts. */
static void kernels_and_strides(void **state) {
  (void)state;
  static const char *const modes[] = {"zeros", "reflect", "replicate", "circular"};
  static const char *const dtypes[] = {"f32", "f64"}, *const layouts[] = {"nchw", "nhwc"};
  const char *seed = getenv("FONIO_TEST_SEED");
  random_state = seed ? strtoull(seed, NULL, 0) : 20260102;
  print_message("isa %s, FONIO_TEST_SEED=%llu\n", fonio_isa(), (unsigned long long)random_state);
  int did = 0;
  for (int i = 0; i < 300; i++) {
    int u = pick(1, 4), v = pick(0, 2) ? u : pick(1, 4), d = u * v == 1 ? pick(1, 3) : 1, g = pick(0, 3) ? 1 : 2;
    int r = kernel_under(u), s = kernel_under(v), c = pick(1, pick(0, 1) ? 8 : 40);
    int h = pick(1, 30) + d * (r - 1), w = pick(1, 30) + d * (s - 1);
    char text[256];
    snprintf(text, sizeof text, "n%dc%dh%dw%dk%dr%ds%du%d,%dp%d,%d,%d,%dd%dg%dm%sb%dt%sl%s", pick(1, 2), g * c, h, w,
             g * pick(1, 20), r, s, u, v, pick(0, r / 2), pick(0, r / 2), pick(0, s / 2), pick(0, s / 2), d, g,
             modes[pick(0, 3)], pick(0, 1), dtypes[pick(0, 1)], layouts[pick(0, 1)]);
    did += check(text);
  }
  assert_in_range(did, 200, 600);
}

/* Images that a dilation interleaves: shorter than a tile, of two lengths, fewer than the dilation; in blocks of whole
 * rows of tiles and in others. */
static void interleaved_images(void **state) {
  (void)state;
  static const char *const problems[] = {
      "n2c9h33w33k20r3s3p12d12", "n1c9h3w40k5r3s3p5d5",  "n1c9h23w5k5r3s3p9d9lnhwc", "n1c5h70w69k9r3s3p2d2tf64",
      "n1c3h9w300k4r3s3p30d30",  "n1c4h40w40k4r4s4p6d6", "n1c4h50w31k4r5s5p12d7g2",  "n1c600h30w30k40r3s3p3d3",
  };
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
    check(problems[i]);
}

/* So many weights that they are packed past the caches. */
static void many_weights(void **state) {
  (void)state;
  assert_int_equal(check("n1c520h5w4k500r3s3p1"), 2);
}

/* What it must leave alone: kernels of one tap, dilated ones with a stride, large ones; and where one of the two would
 * be beyond its class. */
static void others_are_not_done(void **state) {
  (void)state;
  static const char *const problems[] = {"n1c8h9w9k8r1s1",     "n1c8h9w9k8r2s2u2",    "n1c8h9w9k8r3s3d2u2",
                                         "n1c8h13w13k8r1s13",  "n1c8h13w13k8r9s9",    "n1c8h9w9k8r1s3d2u2",
                                         "n1c8h13w13k8r2s9u1", "n1c8h13w13k8r12s12u2"};
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
    assert_int_equal(check(problems[i]), 0);
  assert_int_equal(check("n1c8h9w9k8r2s3"), 1);
  assert_int_equal(check("n1c8h9w9k8r1s3"), 1);
  assert_int_equal(check("n1c8h13w13k8r12s1"), 1);
  assert_int_equal(check("n1c8h13w13k8r8s8"), 1);
  assert_int_equal(check("n1c8h9w9k8r3s3u2"), 1);
  assert_int_equal(check("n1c8h9w9k8r3s3"), 2);
  assert_int_equal(check("n1c8h9w9k8r5s5u2"), 2);
}

/* Where much of what the taps read is padding, plain sums are short, and F(4x4) is not exact enough: the fewer channels
 * there are, and where the outermost outputs are those of a tile. */
static void small_maps_are_left(void **state) {
  (void)state;
  assert_int_equal(check("n1c32h8w8k8r3s3p1"), 1);
  assert_int_equal(check("n1c64h4w4k8r3s3p1"), 1);
  assert_int_equal(check("n1c32h16w16k8r3s3p2d2"), 1);
  assert_int_equal(check("n1c32h8w8k8r3s3p1mreflect"), 2);
  assert_int_equal(check("n1c32h7w7k8r3s3p1"), 2);
  assert_int_equal(check("n1c64h8w8k8r3s3p1"), 2);
  assert_int_equal(check("n1c32h16w16k8r3s3p1"), 2);
}

/* One image, whose transformed inputs all blocks of output channels share, and the same one twice in a batch, where
 * each block makes its own: the same bits, whether one thread or three. */
static void shared_inputs_change_nothing(void **state) {
  (void)state;
  static const char *const algorithms[] = {"winograd2", "winograd4"}, *const dtypes[] = {"f32", "f64"};
  for (int i = 0; i < 8; i++) {
    char text[64];
    snprintf(text, sizeof text, "n2c100h%dw5k520r3s3p1t%s", i & 2 ? 8 : 6, dtypes[i & 1]);
    fonio_conv_problem one, two;
    assert_int_equal(fonio_conv_problem_parse(&two, text), FONIO_OK);
    text[1] = '1';
    assert_int_equal(fonio_conv_problem_parse(&one, text), FONIO_OK);
    double *x = array_of(inputs_of(&two), FONIO_FLOAT64), *w = array_of(weights_of(&two), FONIO_FLOAT64);
    for (int64_t j = 0; j < inputs_of(&two); j++)
      x[j] = j < inputs_of(&one) ? number(false) : x[j - inputs_of(&one)];
    for (int64_t j = 0; j < weights_of(&two); j++)
      w[j] = number(false);
    size_t bytes = (size_t)outputs_of(&one) * fonio_dtype_bytes(one.dtype);
    char *twice = output_of(&two, algorithms[i / 4], x, w);
    assert_memory_equal(twice, twice + bytes, bytes);
    for (int threads = 1; threads <= 3; threads += 2) {
      assert_int_equal(fonio_set_num_threads(threads), FONIO_OK);
      void *once = output_of(&one, algorithms[i / 4], x, w);
      assert_memory_equal(once, twice, bytes);
      free(once);
    }
    free(x), free(w), free(twice);
    check(text);
  }
}

/* ---- Errors ---- */

/* Squares of the errors of an algorithm and of plain sums. */
typedef struct errors {
  double squares, plain;
} errors;

static double squares_of(const fonio_conv_problem *p, void *got, const double *truth) {
  double squares = 0;
  for (int64_t i = 0; i < outputs_of(p); i++)
    squares += (get(got, p->dtype, i) - truth[i]) * (get(got, p->dtype, i) - truth[i]);
  free(got);
  return squares;
}

/* Of one image and kernel; returns whether the algorithm can do it. */
static bool add_errors(const char *algorithm, const char *text, bool cut, errors *to) {
  fonio_conv_problem p, exact;
  if (fonio_conv_problem_parse(&p, text) != FONIO_OK) fail_msg("%s: %s", text, fonio_last_error());
  char in_double[128];
  snprintf(in_double, sizeof in_double, "%stf64", text);
  assert_int_equal(fonio_conv_problem_parse(&exact, in_double), FONIO_OK);
  double *x = array_of(inputs_of(&p), FONIO_FLOAT64), *w = array_of(weights_of(&p), FONIO_FLOAT64);
  for (int64_t i = 0; i < inputs_of(&p); i++)
    x[i] = number(cut);
  for (int64_t i = 0; i < weights_of(&p); i++)
    w[i] = number(false);
  double *got = output_of(&p, algorithm, x, w);
  if (got) {
    double *truth = output_of(&exact, "packed", x, w);
    to->squares += squares_of(&p, got, truth);
    to->plain += squares_of(&p, output_of(&p, "packed", x, w), truth);
    free(truth);
  }
  free(x), free(w);
  return got != NULL;
}

static void compare_errors(const char *algorithm, const char *text, bool cut) {
  errors one = {0};
  assert_true(add_errors(algorithm, text, cut, &one));
  if (!(one.squares <= 2.5 * 2.5 * one.plain))
    fail_msg("%s: %s has %g times the error of plain sums", text, algorithm, sqrt(one.squares / one.plain));
}

/* At most 2.5 times the rms error of one chain of multiply-adds, from 32 channels on. */
static void errors_are_those_of_the_class(void **state) {
  (void)state;
  static const struct {
    const char *algorithm, *problem;
  } cases[] = {
      {"winograd4", "n1c32h14w14k16r3s3p1b0"},   {"winograd2", "n1c32h14w14k16r3s3p1b0"},
      {"winograd4", "n1c32h14w14k16r4s4p1b0"},   {"winograd4", "n1c32h12w12k16r5s5p2b0"},
      {"winograd2", "n1c32h16w16k16r4s4u2p1b0"}, {"winograd2", "n1c32h16w16k16r3s3u2p1b0"},
      {"winograd2", "n1c32h16w16k16r5s5u2p2b0"}, {"winograd4", "n1c32h16w16k16r7s7u2p3b0"},
      {"winograd4", "n1c32h15w14k16r3s5p1b0"},   {"winograd4", "n1c32h28w28k16r6s6u2p2b0"},
      {"winograd4", "n1c32h13w7k16r3s3p1b0"},    {"winograd4", "n1c64h33w33k16r3s3p12d12b0"},
      {"winograd4", "n1c32h15w28k16r7s7p3b0"},   {"winograd4", "n1c32h15w28k16r6s6p3b0"},
      {"winograd4", "n1c32h15w28k16r1s7p0,3b0"}, {"winograd4", "n1c32h28w15k16r7s1p3,0b0"},
      {"winograd4", "n1c32h15w28k16r1s3p0,1b0"}, {"winograd4", "n1c32h28w28k16r2s1b0"},
      {"winograd4", "n1c32h15w28k16r1s5p0,2b0"}, {"winograd4", "n1c32h28w28k16r1s9b0"},
      {"winograd4", "n1c32h28w55k16r1s3u1,2b0"}, {"winograd4", "n1c32h15w28k16r3s7b0"},
  };
  random_state = 3;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int cut = 0; cut < 2; cut++)
      compare_errors(cases[i].algorithm, cases[i].problem, cut);
}

/* The same in the mean of many images and kernels, on maps so small that padding tells: where F(4x4) is done at all. */
static void errors_of_small_maps(void **state) {
  (void)state;
  static const char *const kernels[] = {"r3s3p1", "r3s3p2", "r4s4p2", "r5s5p2", "r6s6p3", "r6s6u2p2", "r7s7u2p3"};
  random_state = 5;
  int step = test_fewer_cases() ? 5 : 1;
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
    for (int size = 3; size <= 13; size += step) {
      char text[64];
      snprintf(text, sizeof text, "n1c32h%dw%dk32%sb0", size, size, kernels[i]);
      errors mean = {0};
      for (int sample = 0; sample < 12 && add_errors("winograd4", text, true, &mean); sample++)
        ;
      if (!(mean.squares <= 2.5 * 2.5 * mean.plain))
        fail_msg("%s has %g times the error of plain sums", text, sqrt(mean.squares / mean.plain));
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(kernels_and_strides), cmocka_unit_test(many_weights),
      cmocka_unit_test(interleaved_images),  cmocka_unit_test(shared_inputs_change_nothing),
      cmocka_unit_test(others_are_not_done), cmocka_unit_test(errors_are_those_of_the_class),
      cmocka_unit_test(small_maps_are_left), cmocka_unit_test(errors_of_small_maps),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
