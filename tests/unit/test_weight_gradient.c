/* Gradients of weight and bias: every strict algorithm has the plain loops' bits, on problems of every shape that has a
 * path of its own and on random ones, with arrays that end where the memory does. Those of the others are near them,
 * and Winograd's error is that of its class. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "fenced.h"
#include "kernels/kernels.h"

/* ---- A problem ---- */

typedef struct gradients {
  fonio_conv_problem problem;
  fenced input, grad_output, grad_weight[2], grad_bias[2];
} gradients;

static gradients gradients_of(const char *text) {
  gradients g;
  fonio_conv_problem *p = &g.problem;
  if (fonio_conv_problem_parse(p, text)) fail_msg("%s: %s", text, fonio_last_error());
  size_t bytes = fonio_dtype_bytes(p->dtype);
  g.input = fenced_random(p->batch * p->in_channels * p->in_height * p->in_width, p->dtype);
  g.grad_output = fenced_random(p->batch * p->out_channels * p->out_height * p->out_width, p->dtype);
  for (int i = 0; i < 2; i++) {
    g.grad_weight[i] = fenced_new(
        (size_t)(p->out_channels * (p->in_channels / p->groups) * p->kernel_height * p->kernel_width) * bytes);
    g.grad_bias[i] = fenced_new((size_t)p->out_channels * bytes);
  }
  return g;
}

static void gradients_free(gradients g) {
  fenced_free(g.input);
  fenced_free(g.grad_output);
  for (int i = 0; i < 2; i++) {
    fenced_free(g.grad_weight[i]);
    fenced_free(g.grad_bias[i]);
  }
}

/* False where the algorithm cannot do the problem. */
static bool run(gradients *g, const char *algorithm, int to, bool weight, bool bias) {
  fonio_conv_plan *plan = fonio_conv_plan_new(
      &g->problem, &(fonio_conv_plan_options){.algorithm = algorithm, .direction = FONIO_CONV_WEIGHT_GRADIENT});
  if (!plan) return false;
  memset(g->grad_weight[to].data, 0xA5, g->grad_weight[to].bytes);
  memset(g->grad_bias[to].data, 0xA5, g->grad_bias[to].bytes);
  fonio_conv_buffers b = {.input = g->input.data, .grad_output = g->grad_output.data};
  if (weight) b.grad_weight = g->grad_weight[to].data;
  if (bias) b.grad_bias = g->grad_bias[to].data;
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
  fonio_conv_plan_release(plan);
  return true;
}

static void assert_same(fenced a, fenced b, const char *text, const char *algorithm, const char *what) {
  if (memcmp(a.data, b.data, a.bytes) != 0)
    fail_msg("%s: the gradient of the %s by %s has other bits than the plain loops'", text, what, algorithm);
}

/* How many algorithms did it. */
static int check(gradients *g, const char *text) {
  static const char *const algorithms[] = {"channels_weight_gradient", "groups_weight_gradient",
                                           "inputs_weight_gradient"};
  assert_true(run(g, "reference_weight_gradient", 0, true, true));
  int count = 0;
  for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++) {
    if (!run(g, algorithms[i], 1, true, true)) continue;
    assert_same(g->grad_weight[0], g->grad_weight[1], text, algorithms[i], "weight");
    assert_same(g->grad_bias[0], g->grad_bias[1], text, algorithms[i], "bias");
    count++;
  }
  return count;
}

static void check_problem(const char *text, int at_least) {
  gradients g = gradients_of(text);
  if (check(&g, text) < at_least) fail_msg("%s: too few algorithms", text);
  gradients_free(g);
}

static double get(fenced f, fonio_dtype dtype, size_t i) {
  return dtype == FONIO_FLOAT32 ? (double)((float *)(void *)f.data)[i] : ((double *)(void *)f.data)[i];
}

/* Weights' or biases' of `got` by an algorithm whose bits are its own. */
static void assert_near(const gradients *g, fenced exact, fenced got, const char *text) {
  fonio_dtype dtype = g->problem.dtype;
  double largest = 0, error = 0;
  for (size_t i = 0; i < exact.bytes / fonio_dtype_bytes(dtype); i++) {
    largest = fmax(largest, fabs(get(exact, dtype, i)));
    error = fmax(error, fabs(get(got, dtype, i) - get(exact, dtype, i)));
  }
  if (!(error <= 200 * (dtype == FONIO_FLOAT32 ? 0x1p-24 : 0x1p-53) * (largest + 1)))
    fail_msg("%s: the gradient is off by %g of %g", text, error, largest);
}

static void check_near(const char *text, const char *algorithm) {
  gradients g = gradients_of(text);
  assert_true(run(&g, "reference_weight_gradient", 0, true, true));
  if (!run(&g, algorithm, 1, true, true)) fail_msg("%s: %s", text, fonio_last_error());
  assert_near(&g, g.grad_weight[0], g.grad_weight[1], text);
  assert_near(&g, g.grad_bias[0], g.grad_bias[1], text);
  gradients_free(g);
}

static void check_winograd(const char *text) {
  check_near(text, "winograd_weight_gradient");
}

/* ---- Tests ---- */

static void paths(void **unused) {
  (void)unused;
  static const char *const channels[] = {
      "n2c3h20w21k17r3s3p1",
      "n1c3h40w39k20r4s4u2p1tf64",
      "n3c7h9w10k33r3s3p1lnhwc",
      "n2c5h12w13k8r5s3u2,3p2,1d1,2",
      "n1c40h7w7k24r1s1",
      "n2c1024h5w6k20r1s1lnhwc",
      "n1c512h5w6k9r2s2tf64lnhwc",
      "n1c40h7w7k24r1s1u2lnhwc",
      "n9c6h5w6k5r3s3p2,1,0,1",
      "n2c3h4w300k9r1s7p0,3",
      "n1c2h5w150k20r2s4u1,2lnhwc",
      "n2c4h11w9k6r3s3p3d2mreflect",
      "n1c4h8w9k6r3s3p1mcircular",
      "n1c5h8w9k6r3s3p2mreplicatelnhwc",
      "n1c70h9w8k5r3s3p1",
      "n1c1h40w40k3r30s29p3",
      "c3h9w9k4r3s3p1",
      "n1c3h1w1k4r1s1",
      "n3c6h30w31k64r7s7u2p3b0",
      "n2c9h6w5k100r3s3p1tf64lnhwc",
      "n4c8h40w40k16r3s3p1",
      "n1c33h32w32k3r3s3p1",
      "n2c20h13w11k40r3s3p6,6,5,7d6",
      "n3c7h4w5k9r5s3u2,1p4,1d2,1lnhwctf64",
      "n1c9h20w40k70r3s3p15d15b0",
      "n2c20h20w200k3r5s5p2mreflect",
      "n1c40h70w20k4r3s2u2,1p1d2,3lnhwc",
      "n1c64h1w1k50r1s1",
      "n2c32h5w4k300r1s1tf64",
      /* Sums that begin where the weight lies: of several blocks and images, and of pixels that are all padding. */
      "n3c96h7w7k560r1s1",
      "n1c32h1w1k20r1s1u2p1",
      /* Rows of an image taken for one: lanes that are not whole, several blocks of pixels. */
      "n2c35h7w7k20r1s1",
      "n2c48h40w20k20r1s1",
  };
  for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
    check_problem(channels[i], 1);
  static const char *const groups[] = {
      "n2c20h9w10k20r3s3p1g20",
      "n1c16h12w13k16r5s5p2g16lnhwc",
      "n2c7h9w9k14r3s3p1g7",
      "n1c24h8w9k16r3s3p1g8",
      "n1c24h8w9k16r3s3p1g8lnhwc",
      "n2c64h6w7k64r1s1g16tf64",
      "n1c32h9w9k32r3s3g32lnhwc",
      "n1c33h15w14k33r7s7u2p3g33",
      "n1c12h8w8k18r2s3p1,0d2g6mreflectlnhwc",
      "n20c24h40w40k24r3s3p1g24lnhwc",
      "n3c21h5w289k14r3s3u1,3p0,0,1,1d2,1g7mcirculartf64lnhwc",
  };
  for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
    check_problem(groups[i], 2);
}

/* Short problem strings, some of which are refused: those do not count. */
static void random_problems(void **unused) {
  (void)unused;
  uint64_t seed = (uint64_t)time(NULL);
  print_message("seed %llu\n", (unsigned long long)seed);
  draw_state = seed;
  for (int done = 0; done < 150;) {
    static const char *const modes[] = {"", "", "mreflect", "mreplicate", "mcircular"}, *const types[] = {"", "tf64"},
                             *const layouts[] = {"", "lnhwc"};
    int64_t groups = draw_from(0, 2) ? 1 : draw_from(2, 19), in = draw_from(1, groups > 1 ? 3 : 20);
    int64_t out = draw_from(1, groups > 1 ? 3 : 40);
    char text[200];
    snprintf(text, sizeof text, "n%dc%dh%dw%dk%dr%ds%du%d,%dp%d,%d,%d,%dd%d,%dg%d%s%s%s", (int)draw_from(1, 4),
             (int)(in * groups), (int)draw_from(1, 14), (int)draw_from(1, draw_from(0, 5) ? 20 : 300),
             (int)(out * groups), (int)draw_from(1, 4), (int)draw_from(1, 4), (int)draw_from(1, 3),
             (int)draw_from(1, 3), (int)draw_from(0, 2), (int)draw_from(0, 2), (int)draw_from(0, 2),
             (int)draw_from(0, 2), (int)draw_from(1, 2), (int)draw_from(1, 2), (int)groups, modes[draw() % 5],
             types[draw() % 2], layouts[draw() % 2]);
    fonio_conv_problem p;
    if (fonio_conv_problem_parse(&p, text)) continue;
    gradients g = gradients_of(text);
    assert_true(check(&g, text) >= 1);
    gradients_free(g);
    done++;
  }
}

/* An image expanded from one element: all of its strides are 0. */
static void input_of_one_element(void **unused) {
  (void)unused;
  static const char *const problems[] = {"n2c3h9w9k10r3s3p1", "n1c20h7w7k24r1s1", "n2c12h7w6k12r3s3p1g12",
                                         "n1c16h30w30k16r3s3p1tf64", "n1c8h20w20k3r5s5p2mreflect"};
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
    gradients g = gradients_of(problems[i]);
    fenced_free(g.input);
    g.input = fenced_random(1, g.problem.dtype);
    memset(g.problem.input_strides, 0, sizeof g.problem.input_strides);
    assert_true(check(&g, problems[i]) >= 1);
    if (run(&g, "winograd_weight_gradient", 1, true, false))
      assert_near(&g, g.grad_weight[0], g.grad_weight[1], problems[i]);
    gradients_free(g);
  }
}

/* Where padding is zeros, what is not finite meets none of them. */
static void not_finite(void **unused) {
  (void)unused;
  static const char *const problems[] = {"n2c3h9w9k10r3s3p1", "n2c12h7w6k12r3s3p1g12lnhwc", "n1c4h9w9k5r3s3p2lnhwc",
                                         "n1c3h9w9k5r3s3p1mreflect", "n1c20h9w9k24r3s3p5d5"};
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
    gradients g = gradients_of(problems[i]);
    fenced_set(g.grad_output, FONIO_FLOAT32, 3, (double)INFINITY);
    assert_true(check(&g, problems[i]) >= 1);
    size_t finite = 0;
    for (size_t w = 0; w < g.grad_weight[0].bytes / sizeof(float); w++)
      finite += isfinite(((float *)(void *)g.grad_weight[0].data)[w]) != 0;
    assert_true(finite > 0);
    gradients_free(g);
  }
}

/* Whether the instruction set has planes_weight_gradient. */
static bool has_planes(void) {
  return kernel_table_for(FONIO_FLOAT32, cpu_isa_in_use())->plane_gradient != NULL;
}

/* Columns in lanes: less padding than half the kernel, more, none, on one side; less and more than a vector and half of
 * one; rows and columns that no output reads; several outputs of a channel, images and pieces. */
static void planes_are_near(void **unused) {
  (void)unused;
  static const char *const problems[] = {
      "n2c37h20w21k37r3s3p1g37",     "n1c18h9w7k18r3s3p1g18",        "n1c5h33w40k5r3s3u2p1g5",
      "n3c4h17w18k8r3s3g4",          "n1c3h12w13k3r3s3u2g3",         "n2c17h14w15k34r3s3u2p0,1g17",
      "n1c3h15w16k3r3s3p2,1,0,3g3",  "n1c3h16w34k3r3s3u2p2,0,3,2g3", "n1c6h1w1k6r3s3p2g6",
      "n1c3h9w30k3r3s3p5,4,6,7g3",   "n1c2h31w32k2r3s3u2p6,5,4,7g2", "n1c600h16w17k600r3s3p1g600",
      "n1c4h5w64k4r3s3u2p0,1,1,0g4", "n1c4h6w47k4r3s3p1,1,2,2g4",    "n40c2h8w8k2r3s3u2p1g2",
  };
  for (size_t i = 0; i < sizeof problems / sizeof *problems && has_planes(); i++)
    check_near(problems[i], "planes_weight_gradient");
}

/* What the zeros beside the image and beside grad_output meet is left out, like the channels that are finite. */
static void planes_leave_out_zeros(void **unused) {
  (void)unused;
  static const char *const problems[] = {"n2c20h9w7k20r3s3p1g20", "n1c12h17w40k12r3s3u2p1g12", "n2c3h9w18k3r3s3g3"};
  for (size_t i = 0; i < 2 * sizeof problems / sizeof *problems && has_planes(); i++) {
    gradients g = gradients_of(problems[i / 2]);
    fenced_set(i % 2 ? g.input : g.grad_output, FONIO_FLOAT32, 3, (double)INFINITY);
    assert_true(run(&g, "reference_weight_gradient", 0, true, true));
    assert_true(run(&g, "planes_weight_gradient", 1, true, true));
    float *expected = (float *)(void *)g.grad_weight[0].data, *got = (float *)(void *)g.grad_weight[1].data;
    assert_memory_equal(expected, got, 9 * sizeof(float));
    for (size_t w = 9; w < g.grad_weight[0].bytes / sizeof(float); w++)
      assert_true(fabsf(expected[w] - got[w]) < 1e-4f);
    gradients_free(g);
  }
}

/* Blocks of channels and parts of the tiles; then random problems, large enough to be taken. */
static void winograd_is_near(void **unused) {
  (void)unused;
  check_winograd("n2c32h30w31k32r3s3p1");
  check_winograd("n1c110h18w19k100r3s3p1lnhwc");
  check_winograd("n9c5h8w7k110r3s3p1tf64");
  check_winograd("n1c150h9w8k150r3s3p1lnhwc");
  check_winograd("n2c21h30w31k33r4s4p1,2,0,3");
  check_winograd("n1c100h34w35k20r5s5p2tf64");
  check_winograd("n2c40h50w52k34r4s4u2p1");
  check_winograd("n1c6h40w41k9r2s2p1lnhwctf64");
  uint64_t seed = (uint64_t)time(NULL);
  print_message("seed %llu\n", (unsigned long long)seed);
  draw_state = seed;
  for (int done = 0; done < 40; done++) {
    static const char *const modes[] = {"", "", "mreflect", "mreplicate", "mcircular"}, *const types[] = {"", "tf64"},
                             *const layouts[] = {"", "lnhwc"};
    int groups = draw_from(0, 3) ? 1 : 2, kernel = (int)draw_from(2, 6), stride = kernel == 6 ? 2 : 1;
    if (kernel == 6) kernel = 4;
    int dilation = kernel != 3 || draw_from(0, 3) ? 1 : 2, size = kernel == 3 ? 23 : stride == 2 ? 44 : 30;
    char text[200];
    int length = snprintf(text, sizeof text, "n%dc%dh%dw%dk%dr%ds%du%dp%d,%d,%d,%dd%dg%d%s%s%s", (int)draw_from(1, 3),
                          groups * (int)draw_from(1, 20), (int)draw_from(size, size + 10), (int)draw_from(size, 80),
                          groups * (int)draw_from(1, 20), kernel, kernel, stride, (int)draw_from(0, 3),
                          (int)draw_from(0, 3), (int)draw_from(0, 3), (int)draw_from(0, 3), dilation, groups,
                          modes[draw() % 5], types[draw() % 2], layouts[draw() % 2]);
    assert_true(length < (int)sizeof text);
    check_winograd(text);
  }
}

/* Where sums are short, plain ones are too exact to follow. */
static void winograd_leaves_short_sums(void **unused) {
  (void)unused;
  static const char *const problems[] = {
      "n1c8h5w5k8r3s3p1",   "n1c8h4w4k8r3s3p1", "n1c8h14w14k8r4s4p1",   "n1c8h18w18k8r5s5p2",   "n1c8h18w18k8r4s4u2p1",
      "n3c8h40w40k8r3s3u2", "n3c8h40w40k8r3s4", "n3c8h40w40k8r4s4u2,1", "n3c8h40w40k8r4s4u2d2",
  };
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
    gradients g = gradients_of(problems[i]);
    assert_false(run(&g, "winograd_weight_gradient", 1, true, true));
    gradients_free(g);
  }
}

/* About normal, from uniform numbers; `cut` off below 0, as a ReLU leaves them. */
static void make_normal(fenced f, bool cut) {
  for (size_t i = 0; i < f.bytes / sizeof(float); i++) {
    double sum = 0;
    for (int j = 0; j < 6; j++)
      sum += (double)(int32_t)draw() * 0x1p-31;
    ((float *)(void *)f.data)[i] = cut && sum < 0 ? 0 : (float)sum;
  }
}

/* The gradient of one weight as one chain, in float32 and in float64; one image follows the other. */
static void sum_up(const gradients *g, int64_t out, int64_t in, int64_t tap, float *plain, double *truth) {
  const fonio_conv_problem *p = &g->problem;
  *plain = 0, *truth = 0;
  for (int64_t n = 0; n < p->batch; n++)
    for (int64_t y = 0; y < p->out_height; y++)
      for (int64_t x = 0; x < p->out_width; x++) {
        int64_t row = y * p->stride[0] + tap / p->kernel_width * p->dilation[0] - p->padding[0];
        int64_t column = x * p->stride[1] + tap % p->kernel_width * p->dilation[1] - p->padding[2];
        if (row < 0 || row >= p->in_height || column < 0 || column >= p->in_width) continue;
        int64_t from = ((n * p->in_channels + in) * p->in_height + row) * p->in_width + column;
        int64_t above = ((n * p->out_channels + out) * p->out_height + y) * p->out_width + x;
        float a = ((float *)(void *)g->input.data)[from], b = ((float *)(void *)g->grad_output.data)[above];
        *plain = fmaf(a, b, *plain);
        *truth += (double)a * (double)b;
      }
}

/* At most 2.5 times the rms error of one chain of multiply-adds. */
static void errors_are_those_of_the_class(void **unused) {
  (void)unused;
  static const char *const problems[] = {
      "n1c16h20w20k16r3s3p1",   "n2c16h14w14k16r3s3p1", "n8c16h7w7k16r3s3p1",   "n1c16h25w25k16r4s4p1",
      "n5c16h13w13k16r4s4p1",   "n1c16h26w26k16r5s5p2", "n2c16h20w20k16r5s5p2", "n1c16h36w36k16r4s4u2p1",
      "n25c16h10w8k16r4s4u2p1", "n1c16h14w14k16r3s3p1", "n1c16h7w7k16r3s3p1",   "n18c16h2w2k16r3s3p1",
      "n8c16h6w6k16r3s3p2",     "n24c16h6w6k16r3s3p2",
  };
  draw_state = 7;
  for (size_t i = 0; i < 2 * sizeof problems / sizeof *problems; i++) {
    gradients g = gradients_of(problems[i / 2]);
    make_normal(g.input, i % 2);
    make_normal(g.grad_output, false);
    assert_true(run(&g, "winograd_weight_gradient", 1, true, false));
    double of_plain = 0, of_winograd = 0;
    int64_t taps = g.problem.kernel_height * g.problem.kernel_width;
    for (int64_t w = 0; w < 16 * 16 * taps; w++) {
      float plain;
      double truth, got = get(g.grad_weight[1], FONIO_FLOAT32, (size_t)w);
      sum_up(&g, w / taps / 16, w / taps % 16, w % taps, &plain, &truth);
      of_plain += ((double)plain - truth) * ((double)plain - truth);
      of_winograd += (got - truth) * (got - truth);
    }
    if (!(of_winograd <= 2.5 * 2.5 * of_plain))
      fail_msg("%s: %g times the error of plain sums", problems[i / 2], sqrt(of_winograd / of_plain));
    gradients_free(g);
  }
}

/* One of the two gradients may be left out: the other one does not change. */
static void either_alone(void **unused) {
  (void)unused;
  static const char *const problems[] = {"n2c3h9w9k10r3s3p1", "n2c12h7w6k12r3s3p1g12lnhwc", "n1c64h40w40k64r3s3p1"};
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
    gradients g = gradients_of(problems[i]);
    /* The last one may be Winograd's, whose bits are its own. */
    assert_true(run(&g, i < 2 ? "reference_weight_gradient" : NULL, 0, true, true));
    assert_true(run(&g, NULL, 1, true, false));
    assert_same(g.grad_weight[0], g.grad_weight[1], problems[i], "the planner's choice", "weight alone");
    assert_true(run(&g, NULL, 1, false, true));
    assert_same(g.grad_bias[0], g.grad_bias[1], problems[i], "the planner's choice", "bias alone");
    gradients_free(g);
  }
}

/* Sums over no images are zero, by whatever the planner takes. */
static void batches_may_be_empty(void **unused) {
  (void)unused;
  static const char *const problems[] = {"n0c3h9w9k3r3s3p1g3", "n0c3h9w9k6r5s5u2g3", "n0c3h9w9k4r3s3p1",
                                         "n0c3h9w9k4r1s1"};
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
    gradients g = gradients_of(problems[i]);
    assert_true(run(&g, NULL, 0, true, true));
    for (size_t w = 0; w < g.grad_weight[0].bytes; w++)
      assert_int_equal(g.grad_weight[0].data[w], 0);
    for (size_t k = 0; k < g.grad_bias[0].bytes; k++)
      assert_int_equal(g.grad_bias[0].data[k], 0);
    gradients_free(g);
  }
}

static double dot(fenced a, fenced b) {
  double sum = 0;
  for (size_t i = 0; i < a.bytes / sizeof(double); i++)
    sum += ((double *)(void *)a.data)[i] * ((double *)(void *)b.data)[i];
  return sum;
}

/* <conv2d(x, w), g> is <w, gradient of w>, whatever the planner takes. */
static void is_the_adjoint(void **unused) {
  (void)unused;
  static const char *const problems[] = {
      "n2c16h20w21k24r3s3p1b0tf64",    "n2c3h40w41k20r7s7u2p3b0tf64lnhwc",
      "n3c24h17w18k24r5s5p2g24b0tf64", "n2c32h15w16k32r3s3d2p2mreflectg8b0tf64",
      "n1c40h12w13k30r1s1u2b0tf64",
  };
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
    gradients g = gradients_of(problems[i]);
    fenced weight = fenced_random((int64_t)(g.grad_weight[0].bytes / sizeof(double)), FONIO_FLOAT64);
    fenced output = fenced_new(g.grad_output.bytes);
    fonio_conv_plan *forward = fonio_conv_plan_new(&g.problem, NULL);
    fonio_conv_buffers b = {.input = g.input.data, .weight = weight.data, .output = output.data};
    assert_int_equal(fonio_conv_plan_run(forward, &b), FONIO_OK);
    fonio_conv_plan_release(forward);
    assert_true(run(&g, NULL, 0, true, false));
    double there = dot(output, g.grad_output), back = dot(weight, g.grad_weight[0]);
    double size = sqrt(dot(output, output) * dot(g.grad_output, g.grad_output));
    if (!(fabs(there - back) <= 1e-12 * size)) fail_msg("%s: %.17g there, %.17g back", problems[i], there, back);
    fenced_free(weight);
    fenced_free(output);
    gradients_free(g);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(paths),
      cmocka_unit_test(random_problems),
      cmocka_unit_test(input_of_one_element),
      cmocka_unit_test(not_finite),
      cmocka_unit_test(planes_are_near),
      cmocka_unit_test(planes_leave_out_zeros),
      cmocka_unit_test(either_alone),
      cmocka_unit_test(batches_may_be_empty),
      cmocka_unit_test(is_the_adjoint),
      cmocka_unit_test(winograd_is_near),
      cmocka_unit_test(winograd_leaves_short_sums),
      cmocka_unit_test(errors_are_those_of_the_class),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
