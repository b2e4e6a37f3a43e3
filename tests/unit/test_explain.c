/* What a plan tells of itself, and the log of runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "failing.h"
#include "fonio.h"

static fonio_conv_plan *plan_of(const char *text, const fonio_conv_plan_options *options) {
  fonio_conv_problem p;
  if (fonio_conv_problem_parse(&p, text)) fail_msg("%s: %s", text, fonio_last_error());
  fonio_conv_plan *plan = fonio_conv_plan_new(&p, options);
  if (!plan) fail_msg("%s: %s", text, fonio_last_error());
  return plan;
}

/* The line of an explanation that begins with `  name `, or "". */
static const char *line_about(const char *text, const char *name) {
  static char line[512];
  char start[64];
  snprintf(start, sizeof start, "\n  %s ", name);
  const char *found = strstr(text, start);
  snprintf(line, sizeof line, "%.*s", found ? (int)strcspn(found + 1, "\n") : 0, found ? found + 1 : "");
  return line;
}

static void assert_contains(const char *text, const char *part) {
  if (!strstr(text, part)) fail_msg("'%s' is not in '%s'", part, text);
}

static void a_plan_is_explained(void **state) {
  (void)state;
  fonio_conv_plan *plan = plan_of("n2c64h30w30k64r3s3p1arelu", NULL);
  const char *text = fonio_conv_plan_explain(plan), *name;
  assert_non_null(text);
  assert_ptr_equal(text, fonio_conv_plan_explain(plan));
  assert_memory_equal(text, "n2c64h30w30k64r3s3p1arelu: forward, accuracy default, ", 54);
  assert_contains(text, fonio_isa());
  assert_contains(text, "one image: 0.06636 GFLOP");
  assert_contains(line_about(text, fonio_conv_plan_algorithm(plan)), "  <- taken: the fewest");
  assert_contains(line_about(text, "depthwise_planes"), "needs as many groups as input channels");
  assert_contains(text, " pieces\n");
  int forward = 0;
  for (int i = 0; (name = fonio_conv_algorithm_name(i)); i++)
    forward += *line_about(text, name) != 0;
  assert_true(forward >= 5);
  assert_string_equal(line_about(text, "reference_input_gradient"), "");
  fonio_conv_plan_release(plan);
}

/* The one taken is the cheapest of those that are allowed. */
static void the_fewest_cycles_are_taken(void **state) {
  (void)state;
  static const char *const problems[] = {"n1c64h30w30k64r3s3p1", "n1c3h40w40k16r5s5u2", "n1c32h20w20k32r3s3g32lnhwc",
                                         "n1c64h20w20k128r1s1tf64"};
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
    for (int accuracy = FONIO_ACCURACY_STRICT; accuracy <= FONIO_ACCURACY_FAST; accuracy++) {
      fonio_conv_plan *plan = plan_of(problems[i], &(fonio_conv_plan_options){.accuracy = (fonio_accuracy)accuracy});
      const char *text = fonio_conv_plan_explain(plan), *name;
      double taken = strtod(line_about(text, fonio_conv_plan_algorithm(plan)) + 19, NULL);
      for (int j = 0; (name = fonio_conv_algorithm_name(j)); j++) {
        const char *line = line_about(text, name);
        if (*line && !strstr(line, "needs") && !strstr(line, "not exact enough"))
          assert_true(strtod(line + 19, NULL) >= taken && taken > 0);
      }
      fonio_conv_plan_release(plan);
    }
}

static void what_is_not_exact_enough_is_named(void **state) {
  (void)state;
  fonio_conv_plan *plan =
      plan_of("n1c64h30w30k64r3s3p1", &(fonio_conv_plan_options){.accuracy = FONIO_ACCURACY_STRICT});
  const char *text = fonio_conv_plan_explain(plan);
  assert_contains(text, "accuracy strict");
  assert_contains(line_about(text, "winograd4"), "; not exact enough");
  assert_null(strstr(line_about(text, "packed"), "not exact"));
  fonio_conv_plan_release(plan);
}

static void an_algorithm_asked_for_is_named(void **state) {
  (void)state;
  fonio_conv_plan *plan = plan_of("n1c8h9w9k8r3s3", &(fonio_conv_plan_options){.algorithm = "reference"});
  assert_contains(line_about(fonio_conv_plan_explain(plan), "reference"), "  <- asked for by name");
  fonio_conv_plan_release(plan);
  plan = plan_of("n1c8h9w9k8r3s3", &(fonio_conv_plan_options){.direction = FONIO_CONV_WEIGHT_GRADIENT});
  assert_contains(fonio_conv_plan_explain(plan), "n1c8h9w9k8r3s3: weight gradient");
  fonio_conv_plan_release(plan);
  plan = plan_of("n1c8h9w9k8r3s3u2",
                 &(fonio_conv_plan_options){.direction = FONIO_CONV_INPUT_GRADIENT, .algorithm = "phases"});
  assert_contains(fonio_conv_plan_explain(plan), "2 x 2 taps by ");
  fonio_conv_plan_release(plan);
  plan = plan_of("n0c8h9w9k8r3s3", NULL);
  assert_contains(line_about(fonio_conv_plan_explain(plan), "packed"), "needs images and channels");
  fonio_conv_plan_release(plan);
  plan = plan_of("n1c0h4w7k1r4s4p2", &(fonio_conv_plan_options){.direction = FONIO_CONV_INPUT_GRADIENT});
  assert_contains(line_about(fonio_conv_plan_explain(plan), "columns"), "needs images and channels");
  fonio_conv_plan_release(plan);
}

/* What was reached is known of a plan that was measured: not of one that wisdom or the model has chosen. */
static void what_was_reached_is_told(void **state) {
  (void)state;
  const fonio_conv_plan_options measure = {.measure = true};
  static const char *const problems[] = {"n2c8h17w19k8r3s3p1arelu", "n1c8h17w19k8r3s3z1tf64", "n1c70h9w9k70r1s1lnhwc"};
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
    fonio_conv_plan *plan = plan_of(problems[i], &measure);
    const char *measured = strstr(fonio_conv_plan_explain(plan), "\nmeasured: ");
    assert_non_null(measured);
    double taken, sums, moves, share;
    assert_int_equal(sscanf(measured,
                            " measured: %lf ms, where this core needs %lf for multiply-adds and %lf to read and "
                            "write the arrays: %lf%% of the attainable\n",
                            &taken, &sums, &moves, &share),
                     4);
    assert_true(taken > 0 && sums > 0 && moves > 0 && share >= 0);
    fonio_conv_plan_release(plan);
    plan = plan_of(problems[i], NULL);
    assert_null(strstr(fonio_conv_plan_explain(plan), "measured: "));
    fonio_conv_plan_release(plan);
  }
  fonio_conv_wisdom_forget();
}

static void explaining_may_run_out_of_memory(void **state) {
  (void)state;
  fonio_conv_plan *plan = plan_of("n1c8h9w9k8r3s3", NULL);
  failing_blocks_left = 0;
  fonio_clear_error();
  assert_null(fonio_conv_plan_explain(plan));
  assert_int_equal(fonio_last_status(), FONIO_NO_MEMORY);
  failing_blocks_left = -1;
  assert_non_null(fonio_conv_plan_explain(plan));
  fonio_conv_plan_release(plan);
  fonio_clear_error();
  assert_null(fonio_conv_plan_explain(NULL));
  assert_string_equal(fonio_last_error(), "fonio_conv_plan_explain() was given NULL where it needs an object");
}

/* ---- The log ---- */

static void run(const char *text, fonio_conv_direction direction, float first_weight) {
  float x[200] = {0}, w[200] = {first_weight}, bias[8] = {0}, y[200], z[200];
  fonio_conv_plan *plan = plan_of(text, &(fonio_conv_plan_options){.direction = direction, .algorithm = NULL});
  fonio_conv_buffers b = {.input = x, .weight = w, .bias = bias, .output = y, .grad_output = x, .grad_input = z};
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
  fonio_conv_plan_release(plan);
}

typedef struct heard {
  int lines;
  char last[512];
} heard;

static void hear(const char *line, void *user) {
  heard *h = user;
  h->lines++;
  snprintf(h->last, sizeof h->last, "%s", line);
}

static void a_handler_hears_of_each_run(void **state) {
  (void)state;
  heard h = {0};
  fonio_set_log_handler(hear, &h);
  run("n2c3h5w5k4r3s3", FONIO_CONV_FORWARD, 0);
  assert_int_equal(h.lines, 1);
  char problem[64], algorithm[64];
  int threads;
  double milliseconds, speed;
  assert_int_equal(sscanf(h.last, "%63s forward %63s packing %d thread %lf ms %lf GFLOP/s", problem, algorithm,
                          &threads, &milliseconds, &speed),
                   5);
  assert_string_equal(problem, "n2c3h5w5k4r3s3");
  assert_int_equal(threads, 1);
  /* 2 images of 4 * 9 sums of 27 products. Both numbers come rounded. */
  double gflop = 2 * 4 * 9 * 27 * 2e-9, least = (milliseconds - 0.0005) * 1e-3;
  assert_true(speed + 0.05 >= gflop / ((milliseconds + 0.0005) * 1e-3));
  assert_true(least <= 0 || speed - 0.05 <= gflop / least);
  run("n2c3h5w5k4r3s3", FONIO_CONV_INPUT_GRADIENT, 0);
  assert_int_equal(sscanf(h.last, "n2c3h5w5k4r3s3 input gradient %63s packing %d thread", algorithm, &threads), 2);
  assert_int_equal(threads, 1);
  run("n1c3h5w5k4r3s3p1", FONIO_CONV_FORWARD, (float)(1 / 0.0));
  assert_memory_equal(h.last, "n1c3h5w5k4r3s3p1 forward reference packing ", 43);
  assert_int_equal(h.lines, 3);
  fonio_set_log_handler(NULL, NULL);
  run("n2c3h5w5k4r3s3", FONIO_CONV_FORWARD, 0);
  assert_int_equal(h.lines, 3);
}

static void a_run_that_fails_is_not_logged(void **state) {
  (void)state;
  heard h = {0};
  fonio_set_log_handler(hear, &h);
  fonio_conv_plan *plan = plan_of("n2c3h5w5k4r3s3", NULL);
  assert_int_equal(fonio_conv_plan_run(plan, &(fonio_conv_buffers){0}), FONIO_VALUE_ERROR);
  fonio_conv_plan_release(plan);
  assert_int_equal(h.lines, 0);
  fonio_set_log_handler(NULL, NULL);
}

/* What a run writes to stderr where FONIO_VERBOSE is `verbose`. */
static void stderr_of_run(const char *verbose, char *text, size_t bytes) {
  FILE *file = tmpfile();
  fflush(stderr);
  int before = dup(STDERR_FILENO);
  dup2(fileno(file), STDERR_FILENO);
  if (verbose)
    setenv("FONIO_VERBOSE", verbose, 1);
  else
    unsetenv("FONIO_VERBOSE");
  fonio_set_log_handler(NULL, NULL);
  run("n2c3h5w5k4r3s3", FONIO_CONV_FORWARD, 0);
  fflush(stderr);
  dup2(before, STDERR_FILENO);
  close(before);
  rewind(file);
  text[fread(text, 1, bytes - 1, file)] = 0;
  fclose(file);
}

static void the_environment_asks_for_the_log(void **state) {
  (void)state;
  char text[512];
  stderr_of_run("1", text, sizeof text);
  assert_memory_equal(text, "fonio: n2c3h5w5k4r3s3 forward ", 30);
  assert_int_equal(text[strlen(text) - 1], '\n');
  static const char *const silent[] = {"0", "", NULL};
  for (int i = 0; i < 3; i++) {
    stderr_of_run(silent[i], text, sizeof text);
    assert_string_equal(text, "");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_plan_is_explained),
      cmocka_unit_test(the_fewest_cycles_are_taken),
      cmocka_unit_test(what_is_not_exact_enough_is_named),
      cmocka_unit_test(an_algorithm_asked_for_is_named),
      cmocka_unit_test(what_was_reached_is_told),
      cmocka_unit_test_setup_teardown(explaining_may_run_out_of_memory, failing_set_up, failing_tear_down),
      cmocka_unit_test(a_handler_hears_of_each_run),
      cmocka_unit_test(a_run_that_fails_is_not_logged),
      cmocka_unit_test(the_environment_asks_for_the_log),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
