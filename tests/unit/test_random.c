/* Random numbers: a few of torch's by heart, what threads and failures do. The full comparison with torch is
 * tests/parity/test_random.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <string.h>
#include <cmocka.h>

#include "fonio/autograd.h"
#include "fonio/random.h"

static void assert_floats(fonio_tensor *tensor, int count, const float *expected) {
  assert_non_null(tensor);
  assert_int_equal(fonio_tensor_numel(tensor), count);
  assert_memory_equal(fonio_tensor_const_data(tensor), expected, (size_t)count * sizeof *expected);
  fonio_tensor_release(tensor);
}

static void assert_integers(fonio_tensor *tensor, int count, const int64_t *expected) {
  assert_non_null(tensor);
  assert_int_equal(fonio_tensor_numel(tensor), count);
  assert_memory_equal(fonio_tensor_const_data(tensor), expected, (size_t)count * sizeof *expected);
  fonio_tensor_release(tensor);
}

static float one_more(void) {
  fonio_tensor *tensor = fonio_tensor_rand(FONIO_FLOAT32, FONIO_SHAPE(1));
  float value = *(const float *)fonio_tensor_const_data(tensor);
  fonio_tensor_release(tensor);
  return value;
}

static void draws_the_numbers_of_torch(void **state) {
  (void)state;
  fonio_manual_seed(0);
  assert_floats(fonio_tensor_rand(FONIO_FLOAT32, FONIO_SHAPE(2, 2)), 4,
                (float[]){0x1.fc2abp-2f, 0x1.89545ep-1f, 0x1.6a675p-4f, 0x1.0e66p-3f});
  fonio_manual_seed((uint64_t)-1);
  assert_floats(fonio_tensor_rand(FONIO_FLOAT32, FONIO_SHAPE(2)), 2, (float[]){0x1.fcd346p-1f, 0x1.248244p-1f});
  fonio_manual_seed(((uint64_t)1 << 40) + 7);
  assert_floats(fonio_tensor_rand(FONIO_FLOAT32, FONIO_SHAPE(2)), 2, (float[]){0x1.11e15ep-1f, 0x1.97262p-3f});
  fonio_manual_seed(0);
  fonio_tensor_release(fonio_tensor_rand(FONIO_FLOAT32, FONIO_SHAPE(7, 100)));
  assert_true(one_more() == 0x1.105d84p-2f);
}

static void uniform_rounds_once(void **state) {
  (void)state;
  fonio_manual_seed(0);
  fonio_tensor *tensor = fonio_tensor_empty(FONIO_FLOAT32, FONIO_SHAPE(4));
  assert_int_equal(fonio_tensor_uniform(tensor, -0.3, 0.7), FONIO_OK);
  assert_int_equal(fonio_tensor_version(tensor), 1);
  assert_floats(tensor, 4, (float[]){0x1.91eef8p-3f, 0x1.df7588p-2f, -0x1.b132cp-3f, -0x1.580068p-3f});
}

static void normal_has_two_ways(void **state) {
  (void)state;
  fonio_manual_seed(0);
  assert_floats(fonio_tensor_randn(FONIO_FLOAT32, FONIO_SHAPE(16)), 16,
                (float[]){-0x1.20370ap+0f, -0x1.270114p+0f, -0x1.0097acp-2f, -0x1.bc4abap-2f, 0x1.b28a2ap-1f,
                          0x1.624f06p-1f, -0x1.4398dap-2f, -0x1.0ebf82p+1f, 0x1.4a027p-2f, -0x1.4369e8p+0f,
                          0x1.6661fep-2f, 0x1.3b8776p-2f, 0x1.eadeeep-4f, 0x1.3cd726p+0f, 0x1.1de51cp+0f,
                          -0x1.fa6cf8p-3f});
  fonio_manual_seed(0);
  fonio_tensor *tensor = fonio_tensor_randn(FONIO_FLOAT32, FONIO_SHAPE(17));
  assert_true(((const float *)fonio_tensor_const_data(tensor))[16] == 0x1.dd186p-1f);
  fonio_tensor_release(tensor);
  assert_true(one_more() == 0x1.144f4p-2f);
  /* One by one: an even count leaves nothing behind, an odd one a number for the next call. */
  fonio_manual_seed(1);
  fonio_tensor *both = fonio_tensor_randn(FONIO_FLOAT64, FONIO_SHAPE(2));
  fonio_manual_seed(1);
  fonio_tensor *first = fonio_tensor_randn(FONIO_FLOAT64, FONIO_SHAPE(1));
  fonio_tensor *second = fonio_tensor_randn(FONIO_FLOAT64, FONIO_SCALAR);
  const double *values = fonio_tensor_const_data(both);
  assert_true(*(const double *)fonio_tensor_const_data(first) == values[0]);
  assert_true(*(const double *)fonio_tensor_const_data(second) == values[1]);
  fonio_tensor_release(both);
  fonio_tensor_release(first);
  fonio_tensor_release(second);
}

static void whole_numbers(void **state) {
  (void)state;
  fonio_manual_seed(0);
  assert_integers(fonio_tensor_randint(FONIO_INT64, 0, 10, FONIO_SHAPE(8)), 8, (int64_t[]){4, 9, 3, 0, 3, 9, 7, 3});
  int64_t wide = (int64_t)1 << 40;
  assert_integers(fonio_tensor_randint(FONIO_INT64, -wide, wide, FONIO_SHAPE(2)), 2,
                  (int64_t[]){-1058178736429, 91845220082});
  fonio_manual_seed(0);
  assert_integers(fonio_tensor_randperm(FONIO_INT64, 10), 10, (int64_t[]){4, 1, 7, 5, 3, 9, 0, 8, 6, 2});
}

static void generators_are_apart(void **state) {
  (void)state;
  fonio_generator *generator = fonio_generator_new();
  assert_true(fonio_generator_initial_seed(generator) == 67280421310721u);
  fonio_tensor *tensor = fonio_tensor_empty(FONIO_FLOAT32, FONIO_SHAPE(2));
  one_more();
  assert_int_equal(fonio_generator_uniform(generator, tensor, 0, 1), FONIO_OK);
  assert_floats(tensor, 2, (float[]){0x1.11b5d8p-2f, 0x1.bebc08p-1f});
  assert_int_equal(fonio_generator_manual_seed(generator, 5), FONIO_OK);
  assert_true(fonio_generator_initial_seed(generator) == 5);
  uint64_t chosen = fonio_generator_seed(generator);
  assert_true(fonio_generator_initial_seed(generator) == chosen);
  assert_true(fonio_generator_seed(generator) != chosen);
  fonio_generator_release(generator);
  chosen = fonio_seed();
  assert_true(fonio_initial_seed() == chosen && fonio_generator_initial_seed(fonio_generator_default()) == chosen);
}

/* A permuted tensor with short rows in memory is filled in the order of memory all the same. */
static void strides_decide_the_order(void **state) {
  (void)state;
  float memory[60], expected[40];
  fonio_manual_seed(3);
  fonio_tensor *plain = fonio_tensor_rand(FONIO_FLOAT32, FONIO_SHAPE(40));
  memcpy(expected, fonio_tensor_const_data(plain), sizeof expected);
  fonio_tensor *permuted =
      fonio_tensor_wrap(FONIO_FLOAT32, memory, FONIO_SHAPE(2, 20), (const int64_t[]){1, 2}, NULL, NULL);
  fonio_manual_seed(3);
  assert_int_equal(fonio_tensor_uniform(permuted, 0, 1), FONIO_OK);
  assert_memory_equal(memory, expected, sizeof expected);
  fonio_tensor *padded =
      fonio_tensor_wrap(FONIO_FLOAT32, memory, FONIO_SHAPE(2, 20), (const int64_t[]){1, 3}, NULL, NULL);
  fonio_manual_seed(3);
  assert_int_equal(fonio_tensor_uniform(padded, 0, 1), FONIO_OK);
  for (int i = 0; i < 40; i++)
    assert_true(memory[i / 2 * 3 + i % 2] == expected[i]);
  fonio_tensor_release(plain);
  fonio_tensor_release(permuted);
  fonio_tensor_release(padded);
}

/* ---- Threads share a generator: the draws of one call stay together ---- */

enum { THREADS = 4, CALLS = 50, DRAWS = 1000 };

static void *draw_much(void *tensors) {
  for (int i = 0; i < CALLS; i++)
    ((fonio_tensor **)tensors)[i] = fonio_tensor_rand(FONIO_FLOAT32, FONIO_SHAPE(DRAWS));
  return NULL;
}

static void threads_take_turns(void **state) {
  (void)state;
  fonio_manual_seed(77);
  fonio_tensor *all = fonio_tensor_rand(FONIO_FLOAT32, FONIO_SHAPE(THREADS * CALLS, DRAWS));
  float next = one_more();
  fonio_manual_seed(77);
  pthread_t threads[THREADS];
  static fonio_tensor *drawn[THREADS * CALLS];
  for (int i = 0; i < THREADS; i++)
    pthread_create(&threads[i], NULL, draw_much, &drawn[i * CALLS]);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  assert_true(one_more() == next);
  const float *numbers = fonio_tensor_const_data(all);
  bool seen[THREADS * CALLS] = {false};
  for (int i = 0; i < THREADS * CALLS; i++) {
    const float *own = fonio_tensor_const_data(drawn[i]);
    int row = 0;
    while (row < THREADS * CALLS && (seen[row] || memcmp(own, numbers + row * DRAWS, DRAWS * sizeof *own) != 0))
      row++;
    assert_true(row < THREADS * CALLS);
    seen[row] = true;
    fonio_tensor_release(drawn[i]);
  }
  fonio_tensor_release(all);
}

/* ---- Failures ---- */

static void assert_refused(fonio_status status, fonio_status expected, const char *text) {
  assert_int_equal(status, expected);
  assert_string_equal(fonio_last_error(), text);
}

static void failures_draw_nothing(void **state) {
  (void)state;
  fonio_manual_seed(0);
  fonio_tensor *tensor = fonio_tensor_full(FONIO_FLOAT32, 3, FONIO_SHAPE(2));
  assert_refused(fonio_tensor_uniform(tensor, 1, 0.5), FONIO_RUNTIME_ERROR,
                 "uniform_ expects to return a [from, to) range, but found from=1 > to=0.5");
  assert_refused(fonio_tensor_normal(tensor, 0, -1), FONIO_RUNTIME_ERROR,
                 "normal expects std >= 0.0, but found std -1");
  assert_refused(fonio_tensor_random(tensor, 2, 2), FONIO_RUNTIME_ERROR,
                 "random_ expects 'from' to be less than 'to', but got from=2 >= to=2");
  assert_int_equal(fonio_tensor_version(tensor), 0);
  assert_floats(tensor, 2, (float[]){3, 3});
  assert_true(one_more() == 0x1.fc2abp-2f);
}

static void leaves_are_guarded(void **state) {
  (void)state;
  fonio_tensor *tensor = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(2));
  fonio_tensor_set_requires_grad(tensor, true);
  assert_refused(fonio_tensor_uniform(tensor, 2, 1), FONIO_RUNTIME_ERROR,
                 "a leaf Variable that requires grad is being used in an in-place operation.");
  bool before = fonio_set_grad_enabled(false);
  assert_int_equal(fonio_tensor_uniform(tensor, 1, 2), FONIO_OK);
  assert_int_equal(fonio_tensor_normal(tensor, 1, 2), FONIO_OK);
  assert_int_equal(fonio_tensor_random(tensor, 1, 2), FONIO_OK);
  fonio_set_grad_enabled(before);
  assert_floats(tensor, 2, (float[]){1, 1});
}

static void null_is_refused(void **state) {
  (void)state;
  fonio_generator *generator = fonio_generator_default();
  fonio_tensor *tensor = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SCALAR);
  fonio_status statuses[] = {fonio_tensor_uniform(NULL, 0, 1),
                             fonio_tensor_normal(NULL, 0, 1),
                             fonio_tensor_random(NULL, 0, 1),
                             fonio_generator_uniform(generator, NULL, 0, 1),
                             fonio_generator_normal(NULL, tensor, 0, 1),
                             fonio_generator_random(NULL, tensor, 0, 1),
                             fonio_generator_manual_seed(NULL, 0)};
  for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
    assert_int_equal(statuses[i], FONIO_TYPE_ERROR);
  assert_null(fonio_generator_randperm(NULL, FONIO_INT64, 3));
  assert_int_equal(fonio_generator_seed(NULL), 0);
  assert_int_equal(fonio_generator_initial_seed(NULL), 0);
  fonio_generator_release(NULL);
  fonio_tensor_release(tensor);
}

static int forget_failures(void **state) {
  (void)state;
  fonio_clear_error();
  return 0;
}

static int nothing_is_left(void **state) {
  (void)state;
  assert_int_equal(fonio_live_allocations(), 0);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(draws_the_numbers_of_torch, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(uniform_rounds_once, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(normal_has_two_ways, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(whole_numbers, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(strides_decide_the_order, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(generators_are_apart, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(threads_take_turns, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(failures_draw_nothing, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(leaves_are_guarded, forget_failures, nothing_is_left),
      cmocka_unit_test_setup_teardown(null_is_refused, forget_failures, nothing_is_left),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
