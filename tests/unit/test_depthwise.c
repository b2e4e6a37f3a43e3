/* Depthwise convolution: every shape of it that has a path of its own, bit for bit against the plain loops, with inputs
 * and outputs that end where the memory does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases.h"
#include "fenced.h"

static int gradients; /* that depthwise_pairs did */

/* False where the algorithm cannot do the problem. */
static bool run(const fonio_conv_problem *p, const char *algorithm, fonio_conv_buffers b, fenced output) {
  fonio_conv_plan *plan = fonio_conv_plan_new(p, &(fonio_conv_plan_options){.algorithm = algorithm});
  if (!plan) return false;
  memset(output.data, 0xA5, output.bytes);
  b.output = output.data;
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
  fonio_conv_plan_release(plan);
  return true;
}

/* False where the algorithm cannot do the problem. */
static bool run_input_gradient(const fonio_conv_problem *p, const char *algorithm, fonio_conv_buffers b,
                               fenced grad_input) {
  fonio_conv_plan_options options = {.direction = FONIO_CONV_INPUT_GRADIENT, .algorithm = algorithm};
  fonio_conv_plan *plan = fonio_conv_plan_new(p, &options);
  if (!plan) return false;
  memset(grad_input.data, 0xA5, grad_input.bytes);
  b.grad_input = grad_input.data;
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
  fonio_conv_plan_release(plan);
  return true;
}

/* The algorithm that depthwise convolution has of its own, beside the plain loops. */
static void check_input_gradient(const fonio_conv_problem *p, const char *text, const void *weight,
                                 const void *grad_output) {
  fenced got = fenced_random(p->batch * p->in_channels * p->in_height * p->in_width, p->dtype);
  fenced expected = fenced_new(got.bytes);
  fonio_conv_buffers b = {.weight = weight, .grad_output = grad_output};
  if (run_input_gradient(p, "depthwise_pairs", b, got)) {
    assert_true(run_input_gradient(p, "reference_input_gradient", b, expected));
    gradients++;
    if (memcmp(expected.data, got.data, got.bytes) != 0)
      fail_msg("depthwise_pairs differs from the plain loops: %s", text);
  }
  fenced_free(got), fenced_free(expected);
}

/* How many of the depthwise algorithms did it, all with the plain loops' bits. */
static int check(const char *text) {
  fonio_conv_problem p;
  if (fonio_conv_problem_parse(&p, text) != FONIO_OK) fail_msg("%s: %s", text, fonio_last_error());
  fenced x = fenced_random(p.batch * p.in_channels * p.in_height * p.in_width, p.dtype);
  fenced w = fenced_random(p.out_channels * p.kernel_height * p.kernel_width, p.dtype);
  fenced bias = fenced_random(p.out_channels, p.dtype);
  fenced expected = fenced_random(p.batch * p.out_channels * p.out_height * p.out_width, p.dtype);
  fenced got = fenced_new(expected.bytes);
  fonio_conv_buffers b = {.input = x.data, .weight = w.data, .bias = p.has_bias ? bias.data : NULL};
  assert_true(run(&p, "reference", b, expected));
  static const char *const algorithms[] = {"depthwise_planes", "depthwise_pixels", "depthwise_turned",
                                           "depthwise_fours"};
  int did = 0;
  for (int i = 0; i < 4; i++) {
    if (!run(&p, algorithms[i], b, got)) continue;
    did++;
    if (memcmp(expected.data, got.data, expected.bytes) != 0)
      fail_msg("%s differs from the plain loops: %s", algorithms[i], text);
  }
  check_input_gradient(&p, text, w.data, expected.data);
  fenced_free(x), fenced_free(w), fenced_free(bias), fenced_free(expected), fenced_free(got);
  return did;
}

static const char *const modes[] = {"zeros", "reflect", "replicate", "circular"};
static const char *const dtypes[] = {"f32", "f64"}, *const layouts[] = {"nchw", "nhwc"};

/* Whether the next of many cases is left out: none is, but where fewer are asked for, all but every fifth, which still
 * meets every value of every argument. */
static bool left_out(void) {
  static int met;
  return test_fewer_cases() && met++ % 5;
}

/* Kernel sizes, strides, dilations, padding modes, dtypes, layouts, one or two outputs of each channel. */
static void kernels(void **state) {
  (void)state;
  static const int sizes[][2] = {{1, 1}, {2, 2}, {3, 3}, {5, 5}, {7, 7}, {4, 6}, {9, 3}, {1, 7}, {7, 1}, {11, 11}};
  for (int k = 0; k < 10; k++)
    for (int stride = 1; stride <= 3; stride++)
      for (int dilation = 1; dilation <= 2; dilation++)
        for (int i = 0; i < 32; i++) {
          int r = sizes[k][0], s = sizes[k][1], c = 3 + 7 * (i / 2 % 2), h = 8 + i, w = 9 + 3 * k;
          if ((r - 1) * dilation >= h || (s - 1) * dilation >= w || left_out()) continue;
          char text[256];
          snprintf(text, sizeof text, "n1c%dh%dw%dk%dr%ds%du%dp%d,%dd%dg%dm%sb%dt%sl%s", c, h, w, c * (1 + i / 16), r,
                   s, stride, r / 2, s / 2, dilation, c, modes[i / 4 % 4], i % 3 == 0, dtypes[i / 2 % 2],
                   layouts[i % 2]);
          assert_true(check(text) > 0 || (i % 2 && i >= 16));
        }
}

/* Widths and heights around every number of lanes and of rows in a band, padded and not. */
static void sizes(void **state) {
  (void)state;
  for (int w = 1; w <= 70; w++)
    for (int i = 0; i < 24; i++) {
      if (left_out()) continue;
      static const int kernel[] = {3, 5, 7};
      int k = kernel[i % 3], stride = 1 + i / 3 % 2, padded = i / 6 % 2, size = padded ? w : w + k - 1;
      int c = 1 + (w + i) % 9 + (w + i) % 9 / 8 * 30, h = padded ? 1 + w % 13 : k + w % 13;
      char text[256];
      snprintf(text, sizeof text, "n2c%dh%dw%dk%dr%ds%du%dp%dg%db1t%sl%s", c + 1, h, size, c + 1, k, k, stride,
               padded ? k / 2 : 0, c + 1, dtypes[i / 12], layouts[(w + i) % 2]);
      assert_true(check(text) > 0);
    }
  assert_true(gradients > (test_fewer_cases() ? 60 : 300));
}

/* The last maps of networks, of 7 rows, whose sums are all kept in registers where they are no wider than half a
 * vector; and such as have a row or columns too many for that. */
static void last_maps(void **state) {
  (void)state;
  for (int w = 1; w <= 18; w++)
    for (int i = 0; i < 24; i++) {
      int k = 3 + 2 * (i % 2), stride = 1 + i / 2 % 2, h = 7 * stride + i / 4 % 3 - 1, more = i / 12 * (w % 3 + 1);
      int c = 3 + w % 6;
      if (left_out()) continue;
      char text[256];
      snprintf(text, sizeof text, "n2c%dh%dw%dk%dr%ds%du%dp%d,%d,%d,%dg%db%d", c, h, w, c, k, k, stride, k / 2, k / 2,
               k / 2, k / 2 + more, c, i % 3 > 0);
      assert_true(check(text) > 0);
    }
}

/* Padding wider than the image, kernels wider than what they see, rows so long that they are cut, many blocks of rows.
 */
static void extremes(void **state) {
  (void)state;
  check("n1c2h3w3k2r3s3p9,9g2");
  check("n1c2h1w1k2r3s3p1g2");
  check("n1c3h20w100k3r3s80p1,60g3");
  check("n1c2h31w31k2r31s31p15g2");
  check("n1c2h9w1500k4r5s5p2g2");
  check("n1c2h9w1500k2r5s5u2p2g2tf64");
  check("n1c2h300w5k2r3s3p1g2");
  check("n1c2h300w40k2r7s7p3g2mreflect");
  check("n1c5h12w300k5r3s3p1g5mcircular");
  check("n1c2h40w40k2r3s3u4p1g2");
  check("n2c3h300w90k3r3s3u2p1g3");
  check("n1c2h33w30k2r4s6u3,2p2,1,0,5d2,3g2");
  check("n1c2h9w8k2r1s1u5,2g2");
  check("n1c2h5w6k2r3s3u2p9,9g2");
  check("n1c2h37w24k2r7s7p3g2");
  check("n1c2h600w41k2r5s5u2p2g2");
  check("n1c2h9w40k2r5s5u2p0,0,1,2g2");
  check("n1c2h9w19k2r5s5u2p2,2,0,2g2");
  check("n1c2h9w18k2r5s5u2p2,2,1,2g2");
  check("n1c2h9w70k2r5s5u2p2,0,0,0g2");
  check("n1c2h11w60k4r5s5u2p1,9,2,1g2b1");
  check("n1c20h9w23k20r3s17p1,8g20lnhwc");
  check("n2c35h7w7k35r7s7p3g35b1");
  check("n1c35h7w7k35r7s7p3g35mcircularlnhwc");
  check("n1c35h9w7k35r7s7p3g35mreflectlnhwc");
  check("n1c35h7w7k35r7s7p3g35mreplicate");
  check("n2c21h14w14k21r3s3p1g21b1");
  check("n1c5h11w16k5r3s3p1g5");
  check("n1c35h4w7k35r7s7p2,3g35lnhwc");
  check("n3c450h2w15k450r5s5u2p2g450b1");
  check("n1c18h40w9k18r3s3u2p1g18b1");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(kernels),
      cmocka_unit_test(sizes),
      cmocka_unit_test(last_maps),
      cmocka_unit_test(extremes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
