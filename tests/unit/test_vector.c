/* The input gradient of one pixel: bit for bit that of the plain loops, with arrays that end where the memory does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fenced.h"

static void run(const fonio_conv_problem *p, const char *algorithm, fonio_conv_buffers b, fenced grad_input) {
  fonio_conv_plan_options options = {.direction = FONIO_CONV_INPUT_GRADIENT, .algorithm = algorithm};
  fonio_conv_plan *plan = fonio_conv_plan_new(p, &options);
  if (!plan) fail_msg("%s: %s", algorithm, fonio_last_error());
  memset(grad_input.data, 0xA5, grad_input.bytes);
  b.grad_input = grad_input.data;
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
  fonio_conv_plan_release(plan);
}

static void check(const char *text) {
  fonio_conv_problem p;
  if (fonio_conv_problem_parse(&p, text) != FONIO_OK) fail_msg("%s: %s", text, fonio_last_error());
  fenced w = fenced_random(p.out_channels * p.in_channels, p.dtype);
  fenced grad_output = fenced_random(p.batch * p.out_channels, p.dtype);
  fenced expected = fenced_random(p.batch * p.in_channels, p.dtype), got = fenced_new(expected.bytes);
  fonio_conv_buffers b = {.weight = w.data, .grad_output = grad_output.data};
  run(&p, "reference_input_gradient", b, expected);
  run(&p, "vector", b, got);
  if (memcmp(expected.data, got.data, got.bytes) != 0) fail_msg("vector differs from the plain loops: %s", text);
  fenced_free(w), fenced_free(grad_output), fenced_free(expected), fenced_free(got);
}

static void sizes(void **state) {
  (void)state;
  static const int in_channels[] = {64, 65, 79, 96, 127}, out_channels[] = {1, 7, 8, 9, 50};
  char text[100];
  for (int i = 0; i < 5; i++)
    for (int j = 0; j < 5; j++)
      for (int k = 0; k < 4; k++) {
        snprintf(text, sizeof text, "n%dc%dh1w1k%dr1s1t%sl%s", 1 + k, in_channels[i], out_channels[j],
                 k % 2 ? "f64" : "f32", k / 2 ? "nhwc" : "nchw");
        check(text);
      }
}

/* More than one piece. */
static void many(void **state) {
  (void)state;
  check("n2c1030h1w1k3001r1s1");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sizes),
      cmocka_unit_test(many),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
