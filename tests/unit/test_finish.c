/* What follows a convolution in the same run, residual and activation: every algorithm against the same steps made one
 * after the other, bit for bit; every instruction set against plain C; the activations against long doubles. */
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
#include "kernels/kernels.h"

static uint64_t random_state = 1;

static int64_t pick(int64_t low, int64_t high) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return low + (int64_t)((random_state >> 33) % (uint64_t)(high - low + 1));
}

static double element(const void *array, fonio_dtype dtype, int64_t i) {
  return dtype == FONIO_FLOAT32 ? (double)((const float *)array)[i] : ((const double *)array)[i];
}

static void set_element(void *array, fonio_dtype dtype, int64_t i, double value) {
  if (dtype == FONIO_FLOAT32)
    ((float *)array)[i] = (float)value;
  else
    ((double *)array)[i] = value;
}

static void *random_array(int64_t elements, fonio_dtype dtype, double scale) {
  void *array = malloc((size_t)(elements + 1) * fonio_dtype_bytes(dtype));
  for (int64_t i = 0; i < elements; i++)
    set_element(array, dtype, i, (double)pick(-1000000, 1000000) * 1e-6 * scale);
  return array;
}

/* ---- The activations by themselves ---- */

static void finish(cpu_isa isa, fonio_dtype dtype, fonio_activation activation, int64_t n, const void *slopes,
                   void *values) {
  kernel_finish job = {activation, 1, n, {n, 1}, slopes, {0, 0}};
  kernel_table_for(dtype, isa)->finish(&job, values, NULL);
}

static long double exact(fonio_activation activation, long double x) {
  long double v = 2 * sqrtl(2 / acosl(-1)) * (x + 0.044715L * x * x * x);
  switch (activation) {
  case FONIO_RELU: return x < 0 ? 0 : x;
  case FONIO_RELU6: return x < 0 ? 0 : x > 6 ? 6 : x;
  case FONIO_LEAKY_RELU: return x > 0 ? x : x * 0.25L;
  case FONIO_SILU: return x / (1 + expl(-x));
  case FONIO_HARDSWISH: return x * fminl(fmaxl(x + 3, 0), 6) / 6;
  case FONIO_SIGMOID: return 1 / (1 + expl(-x));
  case FONIO_TANH: return tanhl(x);
  case FONIO_GELU: return x / 2 * erfcl(-x * sqrtl(0.5L));
  case FONIO_GELU_TANH: return x / (1 + expl(-v));
  default: return x;
  }
}

/* The bounds that fonio/activation.h promises. */
static bool is_close(fonio_activation activation, fonio_dtype dtype, double x, double got) {
  long double wanted = exact(activation, x), error = fabsl((long double)got - wanted);
  int digits = dtype == FONIO_FLOAT32 ? 24 : 53;
  long double least = dtype == FONIO_FLOAT32 ? 1e-43L : 1e-320L, bound = 6 * ldexpl(1, ilogbl(wanted) + 1 - digits);
  if (wanted == 0 || bound < least) bound = least;
  if (activation == FONIO_GELU && dtype == FONIO_FLOAT64) bound *= 1 + x * x / 2; /* erfc of a rounded number */
  if (activation == FONIO_GELU_TANH) bound += fabsl(x) * (dtype == FONIO_FLOAT32 ? 1e-8L : 4e-17L);
  return error <= bound;
}

enum { VALUES = 64 };

/* Numbers of all sizes that are met: from 1e-30 to 1e30, many of them about 1. */
static void fill(fonio_dtype dtype, void *values) {
  for (int i = 0; i < VALUES; i++) {
    double size = pick(0, 3) ? (double)pick(0, 20000000) * 1e-6 : exp((double)pick(-69, 69));
    set_element(values, dtype, i, pick(0, 1) ? size : -size);
  }
}

static void activations_are_as_exact_as_promised(void **state) {
  (void)state;
  for (int activation = FONIO_RELU; activation <= FONIO_GELU_TANH; activation++)
    for (int i = 0; i < test_cases(4000); i++) {
      double before[VALUES], after[VALUES], slope[1];
      fonio_dtype dtype = i % 2 ? FONIO_FLOAT64 : FONIO_FLOAT32;
      if (activation == FONIO_PRELU) continue;
      set_element(slope, dtype, 0, 0.25);
      fill(dtype, before);
      memcpy(after, before, sizeof after);
      finish(cpu_isa_in_use(), dtype, (fonio_activation)activation, VALUES, slope, after);
      for (int j = 0; j < VALUES; j++)
        if (!is_close((fonio_activation)activation, dtype, element(before, dtype, j), element(after, dtype, j)))
          fail_msg("activation %d of %.9g is %.9g, not %.9Lg", activation, element(before, dtype, j),
                   element(after, dtype, j), exact((fonio_activation)activation, element(before, dtype, j)));
    }
}

static bool same_bits(const void *a, const void *b, fonio_dtype dtype, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    double x = element(a, dtype, i), y = element(b, dtype, i);
    if (isnan(x) ? !isnan(y) : memcmp(&x, &y, sizeof x) != 0) return false;
  }
  return true;
}

static void every_instruction_set_gives_the_same_bits(void **state) {
  (void)state;
  static const double odd[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e-45, -1e-45, 3e38,   -3e38,
                               0.6, -0.6, -103.97,  -104,      15,  -15,   88.8,   -87.33, 0x1p-126};
  enum { ODD = sizeof odd / sizeof *odd };
  for (int isa = ISA_NEON; isa <= (int)cpu_isa_in_use(); isa++)
    for (int activation = FONIO_NO_ACTIVATION; activation <= FONIO_GELU_TANH; activation++)
      for (int i = 0; i < test_cases(400); i++) {
        double ours[VALUES], plain[VALUES], slope[1];
        fonio_dtype dtype = i % 2 ? FONIO_FLOAT64 : FONIO_FLOAT32;
        set_element(slope, dtype, 0, -0.3);
        fill(dtype, ours);
        for (int j = 0; j < ODD; j++)
          set_element(ours, dtype, j, odd[j]);
        memcpy(plain, ours, sizeof plain);
        finish((cpu_isa)isa, dtype, (fonio_activation)activation, VALUES - i % 9, slope, ours);
        finish(ISA_SCALAR, dtype, (fonio_activation)activation, VALUES - i % 9, slope, plain);
        if (!same_bits(ours, plain, dtype, VALUES))
          fail_msg("activation %d differs on %s", activation, cpu_isa_name(isa));
      }
}

static void odd_numbers_go_where_torch_sends_them(void **state) {
  (void)state;
  static const struct {
    fonio_activation activation;
    double of_minus_zero, of_infinity, of_minus_infinity;
  } odd[] = {
      {FONIO_RELU, -0.0, INFINITY, 0},
      {FONIO_RELU6, -0.0, 6, 0},
      {FONIO_LEAKY_RELU, -0.0, INFINITY, -INFINITY},
      {FONIO_SILU, -0.0, INFINITY, NAN},
      {FONIO_HARDSWISH, -0.0, INFINITY, NAN},
      {FONIO_SIGMOID, 0.5, 1, 0},
      {FONIO_TANH, -0.0, 1, -1},
      {FONIO_GELU, -0.0, INFINITY, NAN},
      {FONIO_GELU_TANH, -0.0, INFINITY, NAN},
  };
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
    for (int dtype = FONIO_FLOAT32; dtype <= FONIO_FLOAT64; dtype++) {
      double values[4], wanted[4], slope[1];
      const double from[] = {-0.0, INFINITY, -INFINITY, NAN};
      const double to[] = {odd[i].of_minus_zero, odd[i].of_infinity, odd[i].of_minus_infinity, NAN};
      set_element(slope, (fonio_dtype)dtype, 0, 0.01);
      for (int j = 0; j < 4; j++) {
        set_element(values, (fonio_dtype)dtype, j, from[j]);
        set_element(wanted, (fonio_dtype)dtype, j, to[j]);
      }
      finish(cpu_isa_in_use(), (fonio_dtype)dtype, odd[i].activation, 4, slope, values);
      if (!same_bits(values, wanted, (fonio_dtype)dtype, 4)) fail_msg("activation %d", (int)odd[i].activation);
    }
}

/* ---- Behind a convolution ---- */

static const char *const activations[] = {"",       "arelu",     "arelu6",     "aleaky_relu", "aleaky_relu-1.5",
                                          "aprelu", "asilu",     "ahardswish", "asigmoid",    "atanh",
                                          "agelu",  "agelu_tanh"};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };

/* A random problem with something to follow; its output may be strided in any order. */
static void random_problem(fonio_conv_problem *p, char *text, size_t bytes) {
  int64_t groups = pick(0, 2) ? 1 : pick(2, 4), c = groups * pick(1, 20), k = groups * pick(1, pick(0, 3) ? 9 : 70);
  if (pick(0, 4) == 0) groups = c = pick(2, 40), k = c * pick(1, 2);
  int64_t r = pick(0, 1) ? 3 : pick(1, 5), u = pick(0, 1) ? 1 : pick(1, 3), d = pick(0, 3) ? 1 : pick(2, 3);
  const char *activation = activations[pick(0, ACTIVATIONS - 1)];
  char slopes[16] = "";
  if (strcmp(activation, "aprelu") == 0 && pick(0, 1)) snprintf(slopes, sizeof slopes, "%d", (int)k);
  snprintf(text, bytes, "n%dc%dh%dw%dk%dr%ds%du%dp%dd%dg%db%dz%d%s%st%sl%s", (int)pick(1, 2), (int)c,
           (int)(d * r + pick(0, 30)), (int)(d * r + pick(0, 30)), (int)k, (int)r, (int)r, (int)u, (int)pick(0, 1),
           (int)d, (int)groups, (int)pick(0, 1), (int)pick(0, 1), activation, slopes, pick(0, 2) ? "f32" : "f64",
           pick(0, 1) ? "nchw" : "nhwc");
  if (fonio_conv_problem_parse(p, text)) fail_msg("%s: %s", text, fonio_last_error());
}

/* Gaps between the rows, or between everything, or rows and columns the other way round. Returns the elements that the
 * output reaches over. */
static int64_t stretch(fonio_conv_problem *p) {
  int64_t *s = p->output_strides;
  int64_t way = pick(0, 4);
  if (way == 1) /* one more between rows */
    s[3] = 1, s[2] = p->out_width + 1, s[1] = s[2] * p->out_height, s[0] = s[1] * p->out_channels;
  if (way == 2) /* every second */
    for (int i = 0; i < 4; i++)
      s[i] *= 2;
  if (way == 3) /* columns of rows */
    s[2] = 1, s[3] = p->out_height, s[1] = p->out_height * p->out_width, s[0] = s[1] * p->out_channels;
  const int64_t sizes[] = {p->batch, p->out_channels, p->out_height, p->out_width};
  int64_t elements = 1;
  for (int i = 0; i < 4; i++)
    elements += (sizes[i] - 1) * s[i];
  return elements;
}

static void *run(const fonio_conv_problem *p, const char *algorithm, const fonio_conv_buffers *b, int64_t elements) {
  fonio_conv_plan *plan = fonio_conv_plan_new(p, &(fonio_conv_plan_options){.algorithm = algorithm});
  if (!plan) return NULL;
  fonio_conv_buffers here = *b;
  here.output = malloc((size_t)elements * fonio_dtype_bytes(p->dtype));
  memset(here.output, 0x7b, (size_t)elements * fonio_dtype_bytes(p->dtype));
  assert_int_equal(fonio_conv_plan_run(plan, &here), FONIO_OK);
  fonio_conv_plan_release(plan);
  return here.output;
}

/* One element as it comes out of the steps made one after the other. */
static void step_by_step(const fonio_conv_problem *p, const fonio_conv_buffers *b, void *output, int64_t channel,
                         int64_t at) {
  double slope[1], value[1], x = element(output, p->dtype, at);
  set_element(value, p->dtype, 0, p->has_residual ? x + element(b->residual, p->dtype, at) : x);
  double number = p->activation == FONIO_PRELU ? element(b->prelu, p->dtype, channel * p->prelu_stride) : p->slope;
  set_element(slope, p->dtype, 0, number);
  finish(ISA_SCALAR, p->dtype, p->activation, 1, slope, value);
  set_element(output, p->dtype, at, element(value, p->dtype, 0));
}

static void follow(const fonio_conv_problem *p, const fonio_conv_buffers *b, void *output) {
  const int64_t *s = p->output_strides;
  for (int64_t n = 0; n < p->batch; n++)
    for (int64_t k = 0; k < p->out_channels; k++)
      for (int64_t i = 0; i < p->out_height; i++)
        for (int64_t j = 0; j < p->out_width; j++)
          step_by_step(p, b, output, k, n * s[0] + k * s[1] + i * s[2] + j * s[3]);
}

static void check_problem(const fonio_conv_problem *p, const char *text, int64_t elements) {
  fonio_conv_problem alone = *p;
  alone.has_residual = false;
  alone.activation = FONIO_NO_ACTIVATION;
  fonio_conv_buffers b = {
      .input = random_array(p->batch * p->in_channels * p->in_height * p->in_width, p->dtype, 1),
      .weight =
          random_array(p->out_channels * p->in_channels / p->groups * p->kernel_height * p->kernel_width, p->dtype, 1),
      .bias = random_array(p->out_channels, p->dtype, 1),
      .residual = random_array(elements, p->dtype, 5),
      .prelu = random_array(p->out_channels, p->dtype, 2),
  };
  if (!p->has_bias) free((void *)(uintptr_t)b.bias), b.bias = NULL;
  const char *algorithm;
  for (int i = 0; (algorithm = fonio_conv_algorithm_name(i)); i++) {
    void *expected = run(&alone, algorithm, &b, elements);
    if (!expected) continue;
    follow(p, &b, expected);
    void *got = run(p, algorithm, &b, elements);
    if (memcmp(expected, got, (size_t)elements * fonio_dtype_bytes(p->dtype)) != 0)
      fail_msg("%s is not the same as step by step: %s, strides of the output %d %d %d %d", algorithm, text,
               (int)p->output_strides[0], (int)p->output_strides[1], (int)p->output_strides[2],
               (int)p->output_strides[3]);
    free(expected), free(got);
  }
  free((void *)(uintptr_t)b.input), free((void *)(uintptr_t)b.weight), free((void *)(uintptr_t)b.bias);
  free((void *)(uintptr_t)b.residual), free((void *)(uintptr_t)b.prelu);
}

static void algorithms_finish_as_if_step_by_step(void **state) {
  (void)state;
  const char *seed = getenv("FONIO_TEST_SEED");
  random_state = seed ? strtoull(seed, NULL, 0) : 20260102;
  print_message("isa %s, FONIO_TEST_SEED=%llu\n", fonio_isa(), (unsigned long long)random_state);
  for (int i = 0; i < test_cases(400); i++) {
    char text[256];
    fonio_conv_problem p;
    random_problem(&p, text, sizeof text);
    int64_t elements = stretch(&p);
    check_problem(&p, text, elements);
  }
  assert_int_equal(fonio_live_allocations(), 0);
}

/* Weights that are not finite go through the plain loops. */
static void what_follows_comes_also_after_the_plain_loops(void **state) {
  (void)state;
  fonio_conv_problem p;
  assert_int_equal(fonio_conv_problem_parse(&p, "n1c1h3w3k1r3s3p1b0z1arelu"), FONIO_OK);
  float x[9], w[9] = {INFINITY, 0, 0, 0, 1, 0, 0, 0, 0}, y[9], residual[9] = {0, -2, -2, -2};
  for (int i = 0; i < 9; i++)
    x[i] = 1;
  fonio_conv_plan *plan = fonio_conv_plan_new(&p, NULL);
  fonio_conv_buffers b = {.input = x, .weight = w, .residual = residual, .output = y};
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
  const float wanted[9] = {1, 0, 0, 0, INFINITY, INFINITY, 1, INFINITY, INFINITY};
  assert_memory_equal(y, wanted, sizeof wanted);
  fonio_conv_plan_release(plan);
}

static void assert_refused(const fonio_conv_problem *p, fonio_conv_direction direction, fonio_status status,
                           const char *message) {
  assert_null(fonio_conv_plan_new(p, &(fonio_conv_plan_options){.direction = direction}));
  assert_int_equal(fonio_last_status(), status);
  assert_string_equal(fonio_last_error(), message);
}

static void bad_calls_are_refused(void **state) {
  (void)state;
  fonio_conv_problem p;
  float x[100] = {0}, w[288] = {0}, bias[8] = {0}, y[72] = {0};
  assert_int_equal(fonio_conv_problem_parse(&p, "n1c4h5w5k8r3s3z1aprelu"), FONIO_OK);
  static const char message[] = "gradients of a convolution with a residual or an activation are not implemented: take "
                                "what comes to the sum from fonio_conv_activation_gradient, and those of the problem "
                                "without the two";
  assert_refused(&p, FONIO_CONV_INPUT_GRADIENT, FONIO_NOT_IMPLEMENTED, message);
  assert_refused(&p, FONIO_CONV_WEIGHT_GRADIENT, FONIO_NOT_IMPLEMENTED, message);
  fonio_conv_plan *plan = fonio_conv_plan_new(&p, NULL);
  fonio_conv_buffers b = {.input = x, .weight = w, .bias = bias, .output = y};
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_VALUE_ERROR);
  assert_string_equal(fonio_last_error(), "the convolution needs its residual, which is NULL");
  b.residual = y;
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_VALUE_ERROR);
  assert_string_equal(fonio_last_error(), "the convolution needs its prelu, which is NULL");
  fonio_conv_plan_release(plan);
  p.activation = (fonio_activation)11;
  assert_refused(&p, FONIO_CONV_FORWARD, FONIO_VALUE_ERROR, "there is no activation 11");
  assert_int_equal(fonio_live_allocations(), 0);
}

/* ---- The way back ---- */

static long double derivative(const fonio_conv_problem *p, long double y) {
  switch (p->activation) {
  case FONIO_RELU: return y > 0;
  case FONIO_RELU6: return y > 0 && y < 6;
  case FONIO_LEAKY_RELU: return y > 0 ? 1 : p->slope;
  case FONIO_SIGMOID: return (1 - y) * y;
  case FONIO_TANH: return 1 - y * y;
  default: return 1;
  }
}

/* What lies between the elements must stay. */
static void check_derivative(const fonio_conv_problem *p, int64_t elements, const void *y, const void *g,
                             const void *got) {
  const int64_t *s = p->output_strides;
  long double epsilon = p->dtype == FONIO_FLOAT32 ? 0x1p-23L : 0x1p-52L;
  char *seen = calloc((size_t)elements, 1);
  for (int64_t i = 0; i < p->batch * p->out_channels * p->out_height * p->out_width; i++) {
    int64_t column = i % p->out_width, row = i / p->out_width % p->out_height, plane = i / p->out_width / p->out_height;
    int64_t at = plane / p->out_channels * s[0] + plane % p->out_channels * s[1] + row * s[2] + column * s[3];
    long double wanted = element(g, p->dtype, at) * derivative(p, element(y, p->dtype, at));
    assert_true(fabsl(element(got, p->dtype, at) - wanted) <=
                4 * epsilon * fabsl((long double)element(g, p->dtype, at)));
    seen[at] = 1;
  }
  for (int64_t i = 0; i < elements; i++)
    assert_true(seen[i] || element(got, p->dtype, i) == 5);
  free(seen);
}

static void derivatives_follow_from_the_output(void **state) {
  (void)state;
  static const char *const kinds[] = {"", "arelu", "arelu6", "aleaky_relu0.25", "asigmoid", "atanh"};
  for (int i = 0; i < 300; i++) {
    char text[128];
    fonio_conv_problem p;
    snprintf(text, sizeof text, "n%dc1h%dw%dk%dr1s1%st%sl%s", (int)pick(1, 2), (int)pick(1, 40), (int)pick(1, 40),
             (int)pick(1, 70), kinds[i % 6], pick(0, 1) ? "f32" : "f64", pick(0, 1) ? "nchw" : "nhwc");
    assert_int_equal(fonio_conv_problem_parse(&p, text), FONIO_OK);
    int64_t elements = stretch(&p);
    size_t bytes = (size_t)elements * fonio_dtype_bytes(p.dtype);
    void *y = random_array(elements, p.dtype, p.activation == FONIO_RELU6 ? 8 : 1),
         *g = random_array(elements, p.dtype, 3);
    for (int64_t j = 0; j < elements; j += pick(1, 5))
      set_element(y, p.dtype, j, p.activation == FONIO_RELU6 && pick(0, 1) ? 6 : 0);
    void *got = random_array(elements, p.dtype, 1), *in_place = malloc(bytes);
    for (int64_t j = 0; j < elements; j++)
      set_element(got, p.dtype, j, 5);
    assert_int_equal(fonio_conv_activation_gradient(&p, y, g, got), FONIO_OK);
    check_derivative(&p, elements, y, g, got);
    memcpy(in_place, g, bytes);
    assert_int_equal(fonio_conv_activation_gradient(&p, y, in_place, in_place), FONIO_OK);
    for (int64_t j = 0; j < elements; j++)
      if (element(got, p.dtype, j) != 5) assert_true(element(got, p.dtype, j) == element(in_place, p.dtype, j));
    free(y), free(g), free(got), free(in_place);
  }
}

static void derivatives_that_do_not_are_refused(void **state) {
  (void)state;
  static const char *const kinds[] = {"prelu", "silu", "hardswish", "gelu", "gelu_tanh", "leaky_relu-0.5"};
  fonio_conv_problem p;
  float y[4] = {0}, g[4] = {1, 2, 3, 4};
  char text[64], message[128];
  for (int i = 0; i < 6; i++) {
    snprintf(text, sizeof text, "n1c1h2w2k1r1s1a%s", kinds[i]);
    snprintf(message, sizeof message, "the output of %s does not tell its derivative: that needs the sum before it",
             kinds[i]);
    assert_int_equal(fonio_conv_problem_parse(&p, text), FONIO_OK);
    assert_int_equal(fonio_conv_activation_gradient(&p, y, g, g), FONIO_NOT_IMPLEMENTED);
    assert_string_equal(fonio_last_error(), message);
  }
  assert_int_equal(fonio_conv_activation_gradient(&p, NULL, g, g), fonio_last_status());
  assert_true(g[3] == 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(activations_are_as_exact_as_promised),
      cmocka_unit_test(every_instruction_set_gives_the_same_bits),
      cmocka_unit_test(odd_numbers_go_where_torch_sends_them),
      cmocka_unit_test(algorithms_finish_as_if_step_by_step),
      cmocka_unit_test(what_follows_comes_also_after_the_plain_loops),
      cmocka_unit_test(bad_calls_are_refused),
      cmocka_unit_test(derivatives_follow_from_the_output),
      cmocka_unit_test(derivatives_that_do_not_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
