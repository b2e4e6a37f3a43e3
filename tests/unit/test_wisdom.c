/* Planning by measuring, and the wisdom that it leaves. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"

static int forget(void **state) {
  (void)state;
  fonio_conv_wisdom_forget();
  fonio_clear_error();
  assert_int_equal(fonio_live_allocations(), 0);
  return 0;
}

static fonio_conv_plan *plan_of(const char *text, bool measure) {
  fonio_conv_problem problem;
  assert_int_equal(fonio_conv_problem_parse(&problem, text), FONIO_OK);
  fonio_conv_plan *plan = fonio_conv_plan_new(&problem, &(fonio_conv_plan_options){.measure = measure});
  assert_non_null(plan);
  return plan;
}

static char *wisdom(void) {
  size_t length = fonio_conv_wisdom_print(NULL, 0);
  char *text = malloc(length + 1);
  assert_int_equal(fonio_conv_wisdom_print(text, length + 1), length);
  assert_int_equal(strlen(text), length);
  return text;
}

static void assert_wisdom(const char *expected) {
  char *text = wisdom();
  assert_string_equal(text, expected);
  free(text);
}

static void assert_takes(const char *problem, const char *algorithm) {
  fonio_conv_plan *plan = plan_of(problem, false);
  assert_string_equal(fonio_conv_plan_algorithm(plan), algorithm);
  fonio_conv_plan_release(plan);
}

/* ---- Measuring ---- */

static bool is_strict(const char *algorithm) {
  return strncmp(algorithm, "winograd", 8) != 0;
}

/* What is measured has the bits of what the model takes, and is remembered: for all batches, and once. */
static void measures_and_remembers(void **state) {
  (void)state;
  static const char *const problems[] = {"n2c5h9w8k7r3s3p1", "n1c8h9w9k8r3s3p1g8", "n1c4h6w6k8r1s1tf64lnhwc",
                                         "c3h12w12k6r5s5u2p2mreflect", "n1c32h16w16k32r3s3p1z1arelu"};
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
    fonio_conv_wisdom_forget();
    fonio_conv_plan *model = plan_of(problems[i], false), *measured = plan_of(problems[i], true);
    const char *algorithm = fonio_conv_plan_algorithm(measured);
    if (is_strict(fonio_conv_plan_algorithm(model)))
      assert_true(is_strict(algorithm));
    else
      assert_string_equal(algorithm, fonio_conv_plan_algorithm(model));
    assert_non_null(strstr(fonio_conv_plan_explain(measured), "  <- taken: the fastest when measured"));
    assert_takes(problems[i], algorithm);
    fonio_conv_plan *again = plan_of(problems[i], true);
    assert_non_null(strstr(fonio_conv_plan_explain(again), "  <- taken: by wisdom"));
    fonio_conv_plan_release(again);
    fonio_conv_plan_release(model);
    fonio_conv_plan_release(measured);
  }
}

static void measures_nothing_where_there_is_nothing(void **state) {
  (void)state;
  fonio_conv_plan *plan = plan_of("n0c3h8w8k4r3s3", true);
  assert_string_equal(fonio_conv_plan_algorithm(plan), "reference");
  fonio_conv_plan_release(plan);
  assert_wisdom("fonio wisdom 1\n");
}

/* Arrays whose strides no string can tell are measured, but not remembered; some lie backwards. */
static void measures_any_strides(void **state) {
  (void)state;
  static const int64_t strides[][3] = {{80, 12, 2}, {-80, 12, 2}, {80, -12, 2}, {-80, -12, -2}};
  for (size_t i = 0; i < sizeof strides / sizeof *strides; i++) {
    fonio_conv_problem problem;
    assert_int_equal(fonio_conv_problem_parse(&problem, "n1c4h6w6k8r3s3"), FONIO_OK);
    memcpy(problem.input_strides + 1, strides[i], sizeof *strides);
    if (i > 1) problem.output_strides[2] = -4, problem.output_strides[1] = -16;
    fonio_conv_plan *plan = fonio_conv_plan_new(&problem, &(fonio_conv_plan_options){.measure = true});
    assert_non_null(plan);
    fonio_conv_plan_release(plan);
    assert_wisdom("fonio wisdom 1\n");
  }
}

/* ---- Text ---- */

static char *line_for(const char *rest) {
  char *text = malloc(256);
  snprintf(text, 256, "fonio wisdom 1\n%s %s\n", fonio_isa(), rest);
  return text;
}

static void takes_what_it_is_told(void **state) {
  (void)state;
  char *text = line_for("default n1c4h6w6k8r3s3 reference");
  assert_int_equal(fonio_conv_wisdom_parse(text), FONIO_OK);
  assert_wisdom(text);
  assert_takes("n7c4h6w6k8r3s3b0arelu", "reference");
  assert_int_equal(fonio_conv_wisdom_parse(text), FONIO_OK);
  assert_wisdom(text);
  fonio_conv_wisdom_forget();
  fonio_conv_plan *plan = plan_of("n1c4h6w6k8r3s3", false);
  assert_string_not_equal(fonio_conv_plan_algorithm(plan), "reference");
  fonio_conv_plan_release(plan);
  free(text);
}

/* The newer line for the same problem counts; what cannot be done, or is for another accuracy, does not. */
static void passes_over_what_does_not_fit(void **state) {
  (void)state;
  static const char *const lines[] = {"default n1c4h6w6k8r3s3 winograd4", "strict n1c4h6w6k8r3s3 reference",
                                      "default n1c4h6w6k8r3s3 depthwise_planes"};
  fonio_conv_plan *plan = plan_of("n1c4h6w6k8r3s3", false);
  for (int i = 0; i < 3; i++) {
    char *text = line_for(lines[i]);
    assert_int_equal(fonio_conv_wisdom_parse(text), FONIO_OK);
    free(text);
    if (i > 0) assert_takes("n1c4h6w6k8r3s3", i == 1 ? "winograd4" : fonio_conv_plan_algorithm(plan));
  }
  fonio_conv_plan_release(plan);
  fonio_conv_problem problem;
  assert_int_equal(fonio_conv_problem_parse(&problem, "n1c4h6w6k8r3s3"), FONIO_OK);
  plan = fonio_conv_plan_new(&problem, &(fonio_conv_plan_options){.accuracy = FONIO_ACCURACY_STRICT});
  assert_string_equal(fonio_conv_plan_algorithm(plan), "reference");
  fonio_conv_plan_release(plan);
}

static void refuses_other_text(void **state) {
  (void)state;
  static const struct {
    const char *text, *words;
  } cases[] = {
      {"", "this is no wisdom: its first line is not 'fonio wisdom 1'"},
      {"fonio wisdom 2\n", "this is no wisdom"},
      {"fonio wisdom 1\navx2 default n1c4h6w6k8r3s3 packed\navx2 default n1c4h6w6k8r3s3\n", "line 3 of the wisdom"},
      {"fonio wisdom 1\n\navx2 default n1c4h6w6k8r3s3 packed more", "line 3 of the wisdom is not an instruction set"},
      {"fonio wisdom 1\navx2 exact n1c4h6w6k8r3s3 packed", "line 2 of the wisdom: no accuracy 'exact'"},
      {"fonio wisdom 1\navx2 strict n1c4h6w6k8r3s3 best", "line 2 of the wisdom: no algorithm 'best'"},
      {"fonio wisdom 1\navx2 strict n1c4h6w6k8r3s3 reference_input_gradient", "line 2 of the wisdom: no algorithm"},
      {"fonio wisdom 1\navx2 strict c4 packed", "problem string"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(fonio_conv_wisdom_parse(cases[i].text), FONIO_VALUE_ERROR);
    assert_non_null(strstr(fonio_last_error(), cases[i].words));
    assert_wisdom("fonio wisdom 1\n");
  }
  fonio_clear_error();
  assert_int_equal(fonio_conv_wisdom_parse(NULL), FONIO_TYPE_ERROR);
  char cut[8];
  assert_int_equal(fonio_conv_wisdom_print(cut, sizeof cut), 15);
  assert_string_equal(cut, "fonio w");
}

/* ---- No memory; forks and threads ---- */

typedef struct measuring {
  fonio_conv_problem problem;
  fonio_conv_plan *plan;
} measuring;

static bool measure(void *user) {
  measuring *m = user;
  m->plan = fonio_conv_plan_new(&m->problem, &(fonio_conv_plan_options){.measure = true});
  return m->plan != NULL;
}

static void release_and_forget(void *user) {
  measuring *m = user;
  fonio_conv_plan_release(m->plan);
  fonio_conv_wisdom_forget();
}

static void tells_when_memory_ends(void **state) {
  measuring m;
  assert_int_equal(fonio_conv_problem_parse(&m.problem, "n1c4h6w6k8r3s3"), FONIO_OK);
  assert_int_equal(failing_set_up(state), FONIO_OK);
  assert_true(fails_until_it_succeeds(measure, release_and_forget, &m) >= 6);
  assert_int_equal(fonio_set_allocator(NULL), FONIO_OK);
}

static void *write_and_read(void *context) {
  char *text = line_for(context);
  for (int i = 0; i < 200; i++) {
    if (fonio_conv_wisdom_parse(text)) return text;
    fonio_conv_plan_release(plan_of("n1c4h6w6k8r3s3", false));
  }
  free(text);
  return NULL;
}

static void serves_threads_and_children(void **state) {
  (void)state;
  static char *const lines[] = {"default n1c4h6w6k8r3s3 reference", "default n1c4h6w6k9r3s3 packed"};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, write_and_read, lines[i]), 0);
  for (int i = 0; i < 10; i++) {
    pid_t child = fork();
    assert_true(child >= 0);
    /* Killed where all is well: at its end valgrind would look for what the other threads have lost. */
    if (child == 0) _exit(fonio_conv_wisdom_print(NULL, 0) >= 15 ? raise(SIGKILL) : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
  }
  for (int i = 0; i < 2; i++) {
    void *failed;
    assert_int_equal(pthread_join(threads[i], &failed), 0);
    assert_null(failed);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(measures_and_remembers, forget),
      cmocka_unit_test_teardown(measures_nothing_where_there_is_nothing, forget),
      cmocka_unit_test_teardown(measures_any_strides, forget),
      cmocka_unit_test_teardown(takes_what_it_is_told, forget),
      cmocka_unit_test_teardown(passes_over_what_does_not_fit, forget),
      cmocka_unit_test_teardown(refuses_other_text, forget),
      cmocka_unit_test_teardown(tells_when_memory_ends, forget),
      cmocka_unit_test_teardown(serves_threads_and_children, forget),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
