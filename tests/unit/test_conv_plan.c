/* Every algorithm of the forward convolution and of its input gradient against the plain loops, on random problems: the
 * direct ones bit for bit. Around each output lie canaries. */
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
static double random_scale = 1e-6;

static int64_t pick(int64_t low, int64_t high) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return low + (int64_t)((random_state >> 33) % (uint64_t)(high - low + 1));
}

/* A random problem string; the sizes are such that no check refuses it. */
static void random_problem(char *text, size_t bytes) {
  int64_t groups = pick(0, 3) ? 1 : pick(2, 5), c = groups * pick(1, pick(0, 3) ? 9 : 70),
          k = groups * pick(1, pick(0, 3) ? 9 : 70);
  if (pick(0, 5) == 0) groups = c = pick(1, 40), k = c * pick(1, 2); /* depthwise */
  int64_t r = pick(1, 5), s = pick(0, 2) ? r : pick(1, 5), d = pick(0, 3) ? 1 : pick(2, 3);
  int64_t h = d * (r - 1) + pick(1, 30), w = d * (s - 1) + pick(1, 30);
  static const char *const modes[] = {"zeros", "zeros", "reflect", "replicate", "circular"};
  static const char *const dtypes[] = {"f32", "f64"}, *const layouts[] = {"nchw", "nhwc"};
  int64_t p[4];
  for (int i = 0; i < 4; i++)
    p[i] = pick(0, i < 2 ? r / 2 : s / 2);
  snprintf(text, bytes, "n%dc%dh%dw%dk%dr%ds%du%d,%dp%d,%d,%d,%dd%dg%dm%sb%dt%sl%s", (int)pick(1, 2), (int)c, (int)h,
           (int)w, (int)k, (int)r, (int)s, (int)pick(1, 3), (int)pick(1, 3), (int)p[0], (int)p[1], (int)p[2], (int)p[3],
           (int)d, (int)groups, modes[pick(0, 4)], (int)pick(0, 1), dtypes[pick(0, 1)], layouts[pick(0, 1)]);
}

static double element(const void *array, fonio_dtype dtype, int64_t i) {
  return dtype == FONIO_FLOAT32 ? (double)((const float *)array)[i] : ((const double *)array)[i];
}

static void *random_array(int64_t elements, fonio_dtype dtype) {
  void *array = malloc((size_t)(elements ? elements : 1) * fonio_dtype_bytes(dtype));
  for (int64_t i = 0; i < elements; i++) {
    double x = (double)pick(-1000000, 1000000) * random_scale;
    if (dtype == FONIO_FLOAT32)
      ((float *)array)[i] = (float)x;
    else
      ((double *)array)[i] = x;
  }
  return array;
}

/* The first element of an image whose rows or columns may lie backwards in the memory from `array` on. */
static void *first_pixel(void *array, const fonio_conv_problem *p, const int64_t strides[4]) {
  bool image = strides == p->input_strides;
  int64_t rows = image ? p->in_height : p->out_height, columns = image ? p->in_width : p->out_width, first = 0;
  if (strides[2] < 0) first -= (rows - 1) * strides[2];
  if (strides[3] < 0) first -= (columns - 1) * strides[3];
  return (char *)array + first * (int64_t)fonio_dtype_bytes(p->dtype);
}

enum { CANARY_BYTES = 256, CANARY = 0xA5 };

/* Runs one plan into a fresh array between two canaries; the caller frees the result's block. */
static char *run(const fonio_conv_problem *p, const fonio_conv_plan_options *options, fonio_conv_buffers b,
                 size_t bytes, bool prepacked) {
  const char *algorithm = options->algorithm;
  fonio_conv_plan *plan = fonio_conv_plan_new(p, options);
  if (!plan) return NULL;
  char *block = malloc(bytes + 2 * CANARY_BYTES);
  memset(block, CANARY, bytes + 2 * CANARY_BYTES);
  b.output = first_pixel(block + CANARY_BYTES, p, p->output_strides);
  b.grad_input = first_pixel(block + CANARY_BYTES, p, p->input_strides);
  fonio_conv_packed *packed = prepacked ? fonio_conv_plan_pack(plan, b.weight) : NULL;
  b.packed = packed;
  if (packed) b.weight = NULL;
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
  for (size_t i = 0; i < CANARY_BYTES; i++)
    if ((unsigned char)block[i] != CANARY || (unsigned char)block[CANARY_BYTES + bytes + i] != CANARY)
      fail_msg("%s wrote outside of its output", algorithm);
  fonio_conv_packed_release(packed);
  fonio_conv_plan_release(plan);
  return block;
}

/* Winograd's tiles share their error: a bound for the whole array. The direct algorithms owe the same bits. */
static void compare(const char *algorithm, const char *problem, const char *expected, const char *got, size_t bytes,
                    const fonio_conv_problem *p, bool exact) {
  if (exact) {
    if (memcmp(expected, got, bytes + 2 * CANARY_BYTES) != 0)
      fail_msg("%s differs from the plain loops: %s", algorithm, problem);
    return;
  }
  double largest = 0, error = 0, epsilon = p->dtype == FONIO_FLOAT32 ? 0x1p-24 : 0x1p-53;
  for (int64_t i = 0; i < (int64_t)(bytes / fonio_dtype_bytes(p->dtype)); i++) {
    largest = fmax(largest, fabs(element(expected + CANARY_BYTES, p->dtype, i)));
    error = fmax(error, fabs(element(expected + CANARY_BYTES, p->dtype, i) - element(got + CANARY_BYTES, p->dtype, i)));
  }
  if (!(error <= 200 * epsilon * (largest + 1)))
    fail_msg("%s is off by %g of %g: %s", algorithm, error, largest, problem);
}

static void check_parsed(fonio_conv_problem p, const char *text) {
  int64_t outputs = p.batch * p.out_channels * p.out_height * p.out_width;
  void *x = random_array(p.batch * p.in_channels * p.in_height * p.in_width, p.dtype);
  void *w = random_array(p.out_channels * (p.in_channels / p.groups) * p.kernel_height * p.kernel_width, p.dtype);
  void *bias = random_array(p.out_channels, p.dtype);
  fonio_conv_buffers b = {.input = first_pixel(x, &p, p.input_strides), .weight = w, .bias = p.has_bias ? bias : NULL};
  size_t bytes = (size_t)outputs * fonio_dtype_bytes(p.dtype);
  char *expected = run(&p, &(fonio_conv_plan_options){.algorithm = "reference"}, b, bytes, false);
  assert_non_null(expected);
  const char *algorithm;
  for (int i = 0; (algorithm = fonio_conv_algorithm_name(i)); i++) {
    char *got = run(&p, &(fonio_conv_plan_options){.algorithm = algorithm}, b, bytes, i % 2);
    if (got) compare(algorithm, text, expected, got, bytes, &p, strncmp(algorithm, "winograd", 8) != 0);
    free(got);
  }
  free(expected), free(x), free(w), free(bias);
}

static void check_problem(const char *text) {
  fonio_conv_problem p;
  if (fonio_conv_problem_parse(&p, text) != FONIO_OK) fail_msg("%s: %s", text, fonio_last_error());
  check_parsed(p, text);
}

/* In the class `strict` all algorithms have the same bits; `columns` is not in it. */
static void check_parsed_input_gradient(fonio_conv_problem p, const char *text) {
  void *w = random_array(p.out_channels * (p.in_channels / p.groups) * p.kernel_height * p.kernel_width, p.dtype);
  void *g = random_array(p.batch * p.out_channels * p.out_height * p.out_width, p.dtype);
  fonio_conv_buffers b = {.weight = w, .grad_output = first_pixel(g, &p, p.output_strides)};
  size_t bytes = (size_t)(p.batch * p.in_channels * p.in_height * p.in_width) * fonio_dtype_bytes(p.dtype);
  fonio_conv_plan_options options = {.direction = FONIO_CONV_INPUT_GRADIENT, .algorithm = "reference_input_gradient"};
  char *expected = run(&p, &options, b, bytes, pick(0, 1));
  for (int i = 0; i < 5; i++) {
    options.algorithm = i == 4 ? "columns" : i % 2 ? "phases" : "shuffle";
    options.accuracy = i < 2 ? FONIO_ACCURACY_STRICT : FONIO_ACCURACY_DEFAULT;
    char *got = run(&p, &options, b, bytes, pick(0, 1));
    if (got) compare(options.algorithm, text, expected, got, bytes, &p, i < 2);
    free(got);
  }
  free(expected), free(w), free(g);
}

static void check_input_gradient(const char *text) {
  fonio_conv_problem p;
  if (fonio_conv_problem_parse(&p, text) != FONIO_OK) fail_msg("%s: %s", text, fonio_last_error());
  check_parsed_input_gradient(p, text);
}

static void algorithms_agree_with_the_plain_loops(void **state) {
  (void)state;
  const char *seed = getenv("FONIO_TEST_SEED");
  random_state = seed ? strtoull(seed, NULL, 0) : 20260101;
  print_message("isa %s, FONIO_TEST_SEED=%llu\n", fonio_isa(), (unsigned long long)random_state);
  for (int i = 0, n = test_cases(600); i < n; i++) {
    char text[256];
    random_problem(text, sizeof text);
    check_problem(text);
    if (i % 2) check_input_gradient(text);
  }
  assert_int_equal(fonio_live_allocations(), 0);
}

/* Where all products underflow, a sum may come to -0, which a zero of the padding would change. */
static void sums_may_shrink_to_nothing(void **state) {
  (void)state;
  random_state = 11;
  random_scale = 1e-29;
  for (int i = 0, n = test_cases(100); i < n; i++) {
    char text[256];
    random_problem(text, sizeof text);
    check_problem(text);
    if (i % 4 == 0) check_input_gradient(text);
  }
  random_scale = 1e-6;
}

/* Output channels near each other, with all taps of one in a vector; taps that share a number, as expanded weights have
 * them. */
static void weights_may_lie_in_any_order(void **state) {
  (void)state;
  static const int64_t strides[][4] = {{9, 297, 3, 1}, {9, 297, 1, 3}, {1, 33, 528, 1584}, {2, 66, 0, 1},
                                       {9, 297, 1, 1}, {1, 0, 0, 0},   {144, 9, 3, 1},     {144, 9, 1, 3}};
  for (size_t i = 0; i < sizeof strides / sizeof *strides; i++) {
    const char *text = "n1c16h6w7k33r3s3p1";
    fonio_conv_problem p;
    assert_int_equal(fonio_conv_problem_parse(&p, text), FONIO_OK);
    memcpy(p.weight_strides, strides[i], sizeof p.weight_strides);
    check_parsed(p, text);
  }
}

/* Mirrored images and outputs, as NumPy has them: strides below 0. */
static void images_may_lie_backwards(void **state) {
  (void)state;
  static const char *const problems[] = {"n2c5h9w12k18r3s3p1",
                                         "n1c3h12w40k20r3s4u2p1,0mreflect",
                                         "n1c40h12w13k40r3s3",
                                         "n2c6h9w30k6r3s3p1g6",
                                         "n1c4h7w20k9r1s1",
                                         "n1c8h9w9k8r3s3p2mcircularg2tf64",
                                         "n2c6h9w10k6r5s5p2g6tf64lnhwc",
                                         "n2c4h28w7k4r3s3p1g4mreflect",
                                         "n1c3h9w10k40r3s3p6d6lnhwc"};
  for (size_t i = 0; i < 3 * sizeof problems / sizeof *problems; i++) {
    const char *text = problems[i / 3];
    fonio_conv_problem p;
    assert_int_equal(fonio_conv_problem_parse(&p, text), FONIO_OK);
    for (int axis = 2; axis < 4; axis++)
      if (i % 3 != (size_t)axis - 2) p.input_strides[axis] *= -1; /* either one, or both */
    check_parsed(p, text);
    check_parsed_input_gradient(p, text);
    fonio_conv_problem_parse(&p, text);
    for (int axis = 2; axis < 4; axis++)
      if (i % 3 != (size_t)axis - 2) p.output_strides[axis] *= -1;
    check_parsed(p, text);
    check_parsed_input_gradient(p, text);
  }
}

/* A stride along which there is one element may be anything, also what would fit a dense array. */
static void strides_of_one_element_say_nothing(void **state) {
  (void)state;
  static const char *const problems[] = {"n1c4h9w1k5r1s1tf64",  "n1c4h40w1k5r1s1",       "n1c4h1w40k5r1s1",
                                         "n1c40h33w1k7r1s1",    "n1c3h1w70k8r1s1",       "n1c1h20w1k1r3s3p1",
                                         "n1c6h20w1k6r3s3p1g6", "n1c3h1w30k20r3s3p1",    "n1c3h30w1k20r3s3p1",
                                         "n1c64h1w1k32r1s1",    "n1c8h16w2k8r3s2",       "n1c20h1w9k20r5s5p2g20",
                                         "n1c64h16w1k64r3s3p1", "n1c4h9w1k5r1s1u2,1",    "n1c1h9w9k1r3s3",
                                         "n1c8h8w1k8r1s1lnhwc", "n1c33h1w20k5r1s1lnhwc", "n1c8h1w8k8r7s7p3g8lnhwc"};
  static const int64_t odd[] = {45, 1, 3, 640};
  for (size_t i = 0; i < sizeof odd / sizeof *odd * (sizeof problems / sizeof *problems); i++) {
    const char *text = problems[i / (sizeof odd / sizeof *odd)];
    fonio_conv_problem p;
    for (int gradient = 0; gradient < 2; gradient++) {
      assert_int_equal(fonio_conv_problem_parse(&p, text), FONIO_OK);
      const int64_t in[] = {p.batch, p.in_channels, p.in_height, p.in_width};
      const int64_t out[] = {p.batch, p.out_channels, p.out_height, p.out_width};
      for (int axis = 0; axis < 4; axis++) {
        if (in[axis] == 1) p.input_strides[axis] = odd[(i + (size_t)axis) % 4];
        if (out[axis] == 1) p.output_strides[axis] = odd[i % 4];
      }
      if (gradient)
        check_parsed_input_gradient(p, text);
      else
        check_parsed(p, text);
    }
  }
}

/* Sizes around every block boundary, which small random problems seldom reach. */
static void large_sums_are_cut_and_joined(void **state) {
  (void)state;
  random_state = 7;
  check_problem("n1c300h5w7k70r3s3p1");
  check_problem("n1c530h9w9k300r1s1");
  check_problem("n2c128h14w14k33r3s3p1lnhwc");
  check_problem("n1c700h3w3k17r3s3p1tf64");
  check_problem("n1c64h30w31k48r3s3p1");
  check_problem("n1c70h23w50k40r3s3p0");
  check_problem("n1c700h14w14k20r1s1");
  check_problem("n1c3h20w140k24r4s4u4");
  check_problem("n2c5h23w81k7r3s9u4p2,0");
  check_problem("n1c70h9w36k9r2s4u4");
  check_problem("n2c2h30w300k9r5s7u3,4p3");
  check_problem("n2c40h20w33k20r3s3p1lnhwc");
  check_problem("n2c33h9w40k3r5s5p2mreflectlnhwc");
  check_problem("n1c1h30w5k6r3s3tf64lnhwc");
  check_problem("n1c3h70w70k40r32s32u32lnhwc");
  check_problem("n1c1h265w265k64r1s1lnhwc");
  check_problem("n2c32h13w14k32r3s3p1g8lnhwc");
  check_problem("n1c64h9w70k64r3s5u2,1p1,2d2,1g8mreflectlnhwc");
  check_problem("n1c32h5w151k32r3s3p1g16tf64lnhwc");
  check_problem("n2c3h37w30k32r3s3u2p1lnhwc");
  check_problem("n1c3h13w1100k96r5s3p2,1,3,0lnhwc");
  check_problem("n1c7h40w33k64r3s4u1,2p3d2,3mreflectlnhwc");
  check_problem("n2c2h9w15k64r2s2u2p0,1lnhwc");
  check_problem("n1c20h9w70k32r1s1b0lnhwc");
  check_problem("n1c30h14w28k60r1s1g3lnhwc");
  check_problem("n2c12h14w7k88r3s3p1lnhwc");
  check_problem("n1c9h15w20k24r2s1b0lnhwc");
  check_problem("n2c3h50w67k70r5s6u5,7");
  check_problem("n1c6h64w71k66r2s3u4,7d2,3g2");
  check_problem("n1c9h30w300k3r7s7p3mreflect");
  check_problem("n2c5h12w90k2r3s6p1,1,4,2mcircular");
  check_problem("n1c6h9w530k3r5s5p2mreplicate");
  check_input_gradient("n1c70h5w7k300r3s3p1");
  check_input_gradient("n1c300h9w9k530r1s1u2");
  check_input_gradient("n2c70h27w24k130r1s1u2p2");
  check_input_gradient("n1c128h14w27k256r1s1u2g2");
  check_input_gradient("n1c64h21w12k96r1s3u2,1p0,1");
  check_input_gradient("n1c150h12w13k70r2s2u2");
  check_input_gradient("n2c224h25w6k36r1s1u1,2g4"); /* the rows between which zeros lie are one long row */
  check_input_gradient("n2c33h14w15k128r3s3p1u2lnhwc");
  check_input_gradient("n1c3h50w49k64r4s4u2p1");
  check_input_gradient("n2c3h219w224k16r7s7u2p3");
  check_input_gradient("n1c1030h17w17k64r3s3p12d12");
  check_input_gradient("n1c1h240w240k64r3s3tf64");
  check_input_gradient("n1c2h150w300k20r5s3u1,3p4,0d3,2");
  check_input_gradient("n1c64h29w41k64r3s3p3g64");
  check_input_gradient("n1c64h29w41k64r5s5u2p6g64lnhwc");
  check_input_gradient("n2c700h9w11k3r3s3p4mreflect");
  check_input_gradient("n2c96h31w33k96r3s3u2p1g96");
  check_input_gradient("n1c3h40w300k64r6s4u3,4p2,1lnhwc");
  check_input_gradient("n2c2h90w700k5r4s4u2p1tf64");
  check_input_gradient("n1c3000h4w30k2r3s3u2,1p2,3mreplicatelnhwc");
  check_input_gradient("n2c5h3w2k4r3s4u2p17,8,9,30mcircular");
}

static double dot(const void *a, const void *b, int64_t elements) {
  double sum = 0;
  for (int64_t i = 0; i < elements; i++)
    sum += ((const double *)a)[i] * ((const double *)b)[i];
  return sum;
}

/* <conv(x, w), g> is <x, gradient(g, w)>: the one linear map is the other's transpose. */
static void check_adjoint(const char *text) {
  fonio_conv_problem p;
  if (fonio_conv_problem_parse(&p, text) != FONIO_OK) fail_msg("%s: %s", text, fonio_last_error());
  int64_t inputs = p.batch * p.in_channels * p.in_height * p.in_width;
  int64_t outputs = p.batch * p.out_channels * p.out_height * p.out_width;
  void *x = random_array(inputs, p.dtype), *g = random_array(outputs, p.dtype);
  void *w = random_array(p.out_channels * (p.in_channels / p.groups) * p.kernel_height * p.kernel_width, p.dtype);
  char *y = run(&p, &(fonio_conv_plan_options){.accuracy = FONIO_ACCURACY_UNSET},
                (fonio_conv_buffers){.input = x, .weight = w}, (size_t)outputs * sizeof(double), false);
  char *gx = run(&p, &(fonio_conv_plan_options){.direction = FONIO_CONV_INPUT_GRADIENT},
                 (fonio_conv_buffers){.weight = w, .grad_output = g}, (size_t)inputs * sizeof(double), false);
  double one = dot(y + CANARY_BYTES, g, outputs), other = dot(x, gx + CANARY_BYTES, inputs);
  double size = sqrt(dot(y + CANARY_BYTES, y + CANARY_BYTES, outputs) * dot(g, g, outputs));
  if (!(fabs(one - other) <= 1e-12 * size)) fail_msg("%s: %.17g is not %.17g", text, one, other);
  free(x), free(g), free(w), free(y), free(gx);
}

static void the_input_gradient_is_the_transpose(void **state) {
  (void)state;
  random_state = 5;
  for (int i = 0, n = test_cases(40); i < n; i++) {
    char text[256];
    random_problem(text, sizeof text);
    char *end = strrchr(text, 'b'); /* what follows: bias, dtype, layout */
    bool channels_last = strstr(end, "nhwc");
    strcpy(end, channels_last ? "b0tf64lnhwc" : "b0tf64");
    check_adjoint(text);
  }
}

/* 0 * inf is nan: where weights are not finite, padding must be left out rather than multiplied. */
static void padding_is_never_multiplied(void **state) {
  (void)state;
  fonio_conv_problem p;
  assert_int_equal(fonio_conv_problem_parse(&p, "n1c1h3w3k1r3s3p1b0"), FONIO_OK);
  float x[9], w[9] = {INFINITY, 0, 0, 0, 1, 0, 0, 0, 0}, y[9];
  for (int i = 0; i < 9; i++)
    x[i] = 1;
  fonio_conv_plan *plan = fonio_conv_plan_new(&p, NULL);
  for (int prepacked = 0; prepacked < 2; prepacked++) {
    fonio_conv_packed *packed = prepacked ? fonio_conv_plan_pack(plan, w) : NULL;
    fonio_conv_buffers b = {.input = x, .weight = prepacked ? NULL : w, .packed = packed, .output = y};
    assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
    for (int i = 0; i < 9; i++)
      assert_true(i / 3 == 0 || i % 3 == 0 ? y[i] == 1 : isinf(y[i]));
    fonio_conv_packed_release(packed);
  }
  fonio_conv_plan_release(plan);
}

/* So in the gradient, where most pixels of the image lie under some taps beyond the edge of the output's gradient. */
static void no_zeros_are_multiplied_in_a_gradient(void **state) {
  (void)state;
  fonio_conv_problem p;
  assert_int_equal(fonio_conv_problem_parse(&p, "n1c1h3w3k1r3s3p1b0"), FONIO_OK);
  float g[9], w[9] = {INFINITY, 0, 0, 0, 1, 0, 0, 0, 0}, x[9];
  for (int i = 0; i < 9; i++)
    g[i] = 1;
  fonio_conv_plan_options options = {.direction = FONIO_CONV_INPUT_GRADIENT, .algorithm = "phases"};
  fonio_conv_plan *plan = fonio_conv_plan_new(&p, &options);
  for (int prepacked = 0; prepacked < 2; prepacked++) {
    fonio_conv_packed *packed = prepacked ? fonio_conv_plan_pack(plan, w) : NULL;
    fonio_conv_buffers b = {.weight = prepacked ? NULL : w, .packed = packed, .grad_output = g, .grad_input = x};
    assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
    for (int i = 0; i < 9; i++)
      assert_true(i / 3 == 2 || i % 3 == 2 ? x[i] == 1 : isinf(x[i]));
    fonio_conv_packed_release(packed);
  }
  fonio_conv_plan_release(plan);
}

/* Packed weights serve the plans of all sizes with the same taps by the same algorithms, and no other. */
static void packed_taps_are_told_apart(void **state) {
  (void)state;
  static const struct {
    const char *problem;
    bool fits;
  } others[] = {{"n2c4h9w12k8r3s3u2p1", true},    {"n1c4h9w9k8r3s3u2p1d2", false}, {"n1c4h9w9k8r3s3p1", false},
                {"n1c4h9w9k8r3s3u3p1", false},    {"n1c4h1w9k8r3s3u2p1", false},   {"n1c4h9w12k8r3s2u2p1", false},
                {"n1c4h9w9k8r3s3u2p1tf64", false}};
  fonio_conv_problem p;
  fonio_conv_plan_options options = {.direction = FONIO_CONV_INPUT_GRADIENT, .algorithm = "phases"};
  assert_int_equal(fonio_conv_problem_parse(&p, "n1c4h9w12k8r3s3u2p1"), FONIO_OK);
  fonio_conv_plan *plan = fonio_conv_plan_new(&p, &options);
  double w[288] = {0}, g[4096] = {0}, x[8192];
  fonio_conv_packed *packed = fonio_conv_plan_pack(plan, w);
  fonio_conv_plan_release(plan);
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    assert_int_equal(fonio_conv_problem_parse(&p, others[i].problem), FONIO_OK);
    plan = fonio_conv_plan_new(&p, &options);
    fonio_conv_buffers b = {.packed = packed, .grad_output = g, .grad_input = x};
    if (fonio_conv_plan_run(plan, &b) != (others[i].fits ? FONIO_OK : FONIO_VALUE_ERROR))
      fail_msg("%s", others[i].problem);
    fonio_conv_plan_release(plan);
  }
  fonio_conv_packed_release(packed);
}

/* Whether a run takes what was packed by a plan for another problem. */
static bool serves(const char *algorithm, fonio_conv_direction direction, const char *packed_for, const char *text) {
  fonio_conv_problem a, b;
  fonio_conv_plan_options options = {.direction = direction, .algorithm = algorithm};
  assert_int_equal(fonio_conv_problem_parse(&a, packed_for), FONIO_OK);
  assert_int_equal(fonio_conv_problem_parse(&b, text), FONIO_OK);
  fonio_conv_plan *by = fonio_conv_plan_new(&a, &options), *plan = fonio_conv_plan_new(&b, &options);
  float w[1024] = {0}, *x = calloc(1 << 14, sizeof *x), *y = calloc(1 << 14, sizeof *y);
  fonio_conv_packed *packed = fonio_conv_plan_pack(by, w);
  assert_non_null(packed);
  fonio_conv_buffers buffers = {.input = x, .grad_output = x, .packed = packed, .output = y, .grad_input = y};
  fonio_status status = fonio_conv_plan_run(plan, &buffers);
  assert_true(status == FONIO_OK || status == FONIO_VALUE_ERROR);
  fonio_conv_packed_release(packed);
  fonio_conv_plan_release(by);
  fonio_conv_plan_release(plan);
  free(x), free(y);
  return status == FONIO_OK;
}

/* Where the order of packed weights tells of the stride, or of where the padding begins; and where no tap of an image
 * meets a pixel, so that nothing is packed. */
static void what_was_packed_otherwise_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *algorithm;
    fonio_conv_direction direction;
    const char *packed_for, *problem;
    bool serves;
  } cases[] = {
      {"winograd2", FONIO_CONV_FORWARD, "c8h9w9k8r3s3u1,2p1b0", "c8h9w9k8r3s3u2,1p1b0", false},
      {"winograd2", FONIO_CONV_FORWARD, "c8h9w9k8r3s3u2,1p1b0", "c8h2w9k8r3s3u2,1p1b0", true},
      {"depthwise_pairs", FONIO_CONV_INPUT_GRADIENT, "c8h9w9k8r3s3u2psameg8", "c8h10w9k8r3s3u2psameg8", false},
      {"depthwise_pairs", FONIO_CONV_INPUT_GRADIENT, "c8h9w9k8r3s3u2p1g8", "c8h10w9k8r3s3u2p1d2g8", false},
      {"depthwise_pairs", FONIO_CONV_INPUT_GRADIENT, "c8h9w9k8r3s3u2p1g8", "c8h10w20k8r3s3u2p3g8", true},
      {"phases", FONIO_CONV_INPUT_GRADIENT, "c4h1w9k8r1s1u2p1", "c4h9w9k8r1s1u2p1", false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    if (serves(cases[i].algorithm, cases[i].direction, cases[i].packed_for, cases[i].problem) != cases[i].serves)
      fail_msg("%s packed for %s, run for %s", cases[i].algorithm, cases[i].packed_for, cases[i].problem);
}

/* The algorithm that a direction of the problem is planned with, for a batch. */
static const char *chosen(const char *text, int batch, fonio_conv_direction direction) {
  char with_batch[256];
  snprintf(with_batch, sizeof with_batch, "n%d%s", batch, strchr(text, 'c'));
  fonio_conv_problem p;
  assert_int_equal(fonio_conv_problem_parse(&p, with_batch), FONIO_OK);
  fonio_conv_plan *plan = fonio_conv_plan_new(&p, &(fonio_conv_plan_options){.direction = direction});
  assert_non_null(plan);
  const char *algorithm = fonio_conv_plan_algorithm(plan);
  fonio_conv_plan_release(plan);
  return algorithm;
}

static void the_choice_looks_at_one_image(void **state) {
  (void)state;
  static const char *const texts[] = {"c144h3w15k765r3s3p1",  "c332h47w47k9r4s4u2p1lnhwc", "c495h54w54k42r3s3u2p1",
                                      "c431h53w53k5r5s5u2p1", "c70h47w24k599r6s6u3p2tf64", "c353h33w16k488r9s9u3p4",
                                      "c9h18w12k6r2s1u2lnhwc"};
  enum { WRITTEN = sizeof texts / sizeof *texts };
  for (int i = 0; i < WRITTEN + test_cases(500); i++) {
    char text[256];
    if (i < WRITTEN)
      snprintf(text, sizeof text, "%s", texts[i]);
    else
      random_problem(text, sizeof text);
    for (fonio_conv_direction direction = FONIO_CONV_FORWARD; direction <= FONIO_CONV_INPUT_GRADIENT; direction++)
      for (int batch = 2; batch <= 5; batch++)
        if (strcmp(chosen(text, 1, direction), chosen(text, batch, direction)) != 0)
          fail_msg("%s is done otherwise in a batch of %d", text, batch);
  }
}

/* With a weight packed by a plan for another image, if `by` is not NULL. */
static void run_packed(const fonio_conv_plan *plan, const fonio_conv_plan *by, const float *x, const float *w,
                       float *y) {
  fonio_conv_packed *packed = fonio_conv_plan_pack(by, w);
  assert_non_null(packed);
  fonio_conv_buffers b = {.input = x, .packed = packed, .output = y};
  if (fonio_conv_plan_run(plan, &b) != FONIO_OK)
    fail_msg("%.60s, packed for %.60s: %s", fonio_conv_plan_explain(plan), fonio_conv_plan_explain(by),
             fonio_last_error());
  fonio_conv_packed_release(packed);
}

static bool packed_for_both(const char *algorithm, const char *small, const char *large) {
  fonio_conv_problem a, b;
  assert_int_equal(fonio_conv_problem_parse(&a, small), FONIO_OK);
  assert_int_equal(fonio_conv_problem_parse(&b, large), FONIO_OK);
  fonio_conv_plan_options options = {.algorithm = algorithm};
  fonio_conv_plan *one = fonio_conv_plan_new(&a, &options), *other = fonio_conv_plan_new(&b, &options);
  bool both = one && other;
  if (both) {
    int64_t results = b.out_channels * b.out_height * b.out_width;
    float *x = random_array(b.in_channels * b.in_height * b.in_width, FONIO_FLOAT32);
    float *w =
        random_array(b.out_channels * b.in_channels / b.groups * b.kernel_height * b.kernel_width, FONIO_FLOAT32);
    float *y = calloc((size_t)results, sizeof *y), *z = calloc((size_t)results, sizeof *z);
    run_packed(other, other, x, w, y);
    run_packed(other, one, x, w, z);
    if (memcmp(y, z, (size_t)results * sizeof *y) != 0)
      fail_msg("%s packed for %s differs: %s", algorithm, small, large);
    run_packed(one, other, x, w, z);
    free(x), free(w), free(y), free(z);
  }
  fonio_conv_plan_release(one);
  fonio_conv_plan_release(other);
  return both;
}

/* As a layer that keeps its weight packed wants it, whatever images come. */
static void packed_weights_serve_every_image(void **state) {
  (void)state;
  static const char *const images[][2] = {
      {"c8h3w3k8r3s3p1g8b0", "c8h16w40k8r3s3p1g8b0"},
      {"c20h5w4k20r3s3u2p1g20b0", "c20h33w70k20r3s3u2p1g20b0"},
      {"c16h5w5k40r3s3p1b0", "c16h40w40k40r3s3p1b0"},
      {"c70h2w2k30r1s1b0", "c70h40w64k30r1s1b0"},
      {"c9h9w9k33r5s5u2p2b0", "c9h60w60k33r5s5u2p2b0"},
      {"c8h9w9k8r3s3p2d2b0", "c8h60w61k8r3s3p2d2b0"},
      {"c3h8w8k20r7s7u2p3b0", "c3h100w90k20r7s7u2p3b0"},
      {"c12h7w7k24r3s3p1g3b0", "c12h40w30k24r3s3p1g3b0"},
      {"c16h9w9k16r3s3p6d6b0", "c16h33w33k16r3s3p6d6b0"},
      {"c32h3w3k32r3s3p1g8b0lnhwc", "c32h31w40k32r3s3p1g8b0lnhwc"},
      {"c3h8w15k32r3s3u2p1b0lnhwc", "c3h64w61k32r3s3u2p1b0lnhwc"},
      {"c8h1w3k8r3s3u2p1b0", "c8h20w21k8r3s3u2p1b0"},
      {"c8h3w9k8r3s9u5,3b0", "c8h20w21k8r3s9u5,3b0"},
      {"c9h6w11k9r5s5u2p2g9b0", "c9h14w14k9r5s5u2p2g9b0"},
  };
  static const char *const algorithms[] = {"packed",      "rows",      "shifted",          "depthwise_planes",
                                           "winograd2",   "winograd4", "depthwise_pixels", "depthwise_turned",
                                           "rows_groups", "rows_few",  "depthwise_fours"};
  int did = 0;
  for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
    for (size_t j = 0; j < sizeof algorithms / sizeof algorithms[0]; j++)
      did += packed_for_both(algorithms[j], images[i][0], images[i][1]);
  assert_true(did > 30);
}

static void bad_calls_are_refused(void **state) {
  (void)state;
  fonio_conv_problem p;
  assert_int_equal(fonio_conv_problem_parse(&p, "n1c4h5w5k8r3s3"), FONIO_OK);
  assert_null(fonio_conv_plan_new(&p, &(fonio_conv_plan_options){.algorithm = "magic"}));
  assert_int_equal(fonio_last_status(), FONIO_VALUE_ERROR);
  assert_string_equal(fonio_last_error(), "there is no algorithm 'magic'");
  fonio_conv_plan *plan = fonio_conv_plan_new(&p, NULL);
  float x[100] = {0}, w[288] = {0}, y[72];
  memset(y, 1, sizeof y);
  float before[72];
  memcpy(before, y, sizeof y);
  assert_int_equal(fonio_conv_plan_run(plan, &(fonio_conv_buffers){.input = x, .weight = w, .output = y}),
                   FONIO_VALUE_ERROR);
  assert_string_equal(fonio_last_error(), "the convolution needs its bias, which is NULL");
  fonio_conv_problem other;
  assert_int_equal(fonio_conv_problem_parse(&other, "n1c4h5w5k9r3s3"), FONIO_OK);
  fonio_conv_plan *another = fonio_conv_plan_new(&other, NULL);
  float w2[324] = {0}, bias[9] = {0};
  fonio_conv_packed *packed = fonio_conv_plan_pack(another, w2);
  fonio_conv_buffers b = {.input = x, .packed = packed, .bias = bias, .output = y};
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_VALUE_ERROR);
  assert_memory_equal(y, before, sizeof y);
  fonio_conv_packed_release(packed);
  fonio_conv_plan_release(another);
  fonio_conv_plan_release(plan);
  assert_int_equal(fonio_live_allocations(), 0);
}

/* A host may fill in a problem by hand: what no array can have is refused before it is looked at. */
static void impossible_problems_are_refused(void **state) {
  (void)state;
  fonio_conv_problem good, p = {0};
  assert_int_equal(fonio_conv_problem_parse(&good, "n1c4h9w9k6r3s3p1g2"), FONIO_OK);
  assert_null(fonio_conv_plan_new(&p, NULL));
  int64_t *const fields[] = {&p.batch,        &p.in_height,        &p.out_height,        &p.out_channels,
                             &p.groups,       &p.stride[0],        &p.dilation[1],       &p.padding[0],
                             &p.kernel_width, &p.input_strides[1], &p.weight_strides[0], &p.output_strides[3]};
  const int64_t values[] = {INT64_MIN, -5, 1000, INT64_MAX / 2, INT64_MAX};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
      bool any_stride = fields[i] >= p.input_strides && (values[j] == -5 || values[j] == 1000);
      bool any_count = (fields[i] == &p.batch || fields[i] == &p.out_channels) && values[j] == 1000;
      p = good;
      *fields[i] = values[j];
      fonio_conv_plan *plan = fonio_conv_plan_new(&p, NULL);
      if (any_stride || any_count)
        assert_non_null(plan);
      else
        assert_null(plan);
      fonio_conv_plan_release(plan);
    }
  p = good;
  p.padding_mode = (fonio_padding_mode)9;
  assert_null(fonio_conv_plan_new(&p, NULL));
  assert_int_equal(fonio_last_status(), FONIO_VALUE_ERROR);
  assert_string_equal(fonio_last_error(),
                      "the problem was not made by fonio_conv_problem_init: its padding mode cannot be");
  assert_int_equal(fonio_live_allocations(), 0);
}

/* However a plan computes it: the layer's cache finds plans by the problem that was asked. */
static void a_plan_keeps_the_problem_as_asked(void **state) {
  (void)state;
  fonio_conv_problem p;
  assert_int_equal(fonio_conv_problem_parse(&p, "n1c2h3w4k2r3s3u2,5"), FONIO_OK);
  fonio_conv_plan *plan = fonio_conv_plan_new(&p, NULL);
  assert_memory_equal(fonio_conv_plan_problem(plan), &p, sizeof p);
  fonio_conv_plan_release(plan);
}

/* An image without pixels, of which padding that is not PyTorch's alone makes an output; more channels than 32 bits
 * count; none. */
static void extreme_sizes_have_plans(void **state) {
  (void)state;
  static const char *const problems[] = {"n1c15h6w0k15r7s3u4,2p4,3,6,5d1,3g15lnhwc", "n1c2h0w6k3r1s1u2p1,2,0,1",
                                         "n2c4h0w0k4r3s3u2,3p3,4,3,4g4", "n1c1h1w8k8589934593r3s2u1,4p3,3,4,2",
                                         "n1c0h9w9k16r3s3u2"};
  for (size_t i = 0; i < 3 * sizeof problems / sizeof *problems; i++) {
    fonio_conv_problem p;
    assert_int_equal(fonio_conv_problem_parse(&p, problems[i / 3]), FONIO_OK);
    fonio_conv_plan_options options = {.direction = (fonio_conv_direction)(i % 3)};
    fonio_conv_plan *plan = fonio_conv_plan_new(&p, &options);
    assert_non_null(plan);
    fonio_conv_plan_release(plan);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(algorithms_agree_with_the_plain_loops),
      cmocka_unit_test(sums_may_shrink_to_nothing),
      cmocka_unit_test(large_sums_are_cut_and_joined),
      cmocka_unit_test(weights_may_lie_in_any_order),
      cmocka_unit_test(images_may_lie_backwards),
      cmocka_unit_test(strides_of_one_element_say_nothing),
      cmocka_unit_test(the_input_gradient_is_the_transpose),
      cmocka_unit_test(padding_is_never_multiplied),
      cmocka_unit_test(no_zeros_are_multiplied_in_a_gradient),
      cmocka_unit_test(packed_taps_are_told_apart),
      cmocka_unit_test(what_was_packed_otherwise_is_refused),
      cmocka_unit_test(the_choice_looks_at_one_image),
      cmocka_unit_test(packed_weights_serve_every_image),
      cmocka_unit_test(bad_calls_are_refused),
      cmocka_unit_test(impossible_problems_are_refused),
      cmocka_unit_test(a_plan_keeps_the_problem_as_asked),
      cmocka_unit_test(extreme_sizes_have_plans),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
