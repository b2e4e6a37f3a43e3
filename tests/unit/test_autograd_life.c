/* How long graphs live, how deep they may be, several threads on them, and what is left when memory runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <cmocka.h>

#include "tensors.h"

/* ---- Who holds what ---- */

static void the_result_holds_its_leaves(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = requiring_grad(LINE(3, 4)), *y = fonio_tensor_mul(x, w);
  RELEASE(x, w);
  fonio_tensor *sum = fonio_tensor_sum(y);
  fonio_tensor_release(y);
  assert_int_equal(fonio_tensor_backward(sum), FONIO_OK);
  RELEASE(sum);
}

static void nothing_holds_the_result(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2));
  int64_t before = fonio_live_allocations();
  fonio_tensor *y = fonio_tensor_mul(x, x), *z = fonio_tensor_mul(y, x);
  assert_int_equal(fonio_tensor_retain_grad(y), FONIO_OK);
  RELEASE(z, y);
  assert_int_equal(fonio_live_allocations(), before);
  RELEASE(x);
}

static void freed(void *data, void *user) {
  (void)data;
  ++*(int *)user;
}

/* A tensor over memory of the test's own, which tells when it is let go. */
static fonio_tensor *watched(double *numbers, int *releases) {
  return fonio_tensor_wrap(FONIO_FLOAT64, numbers, FONIO_SHAPE(2), NULL, freed, releases);
}

static void saved_tensors_go_when_backward_has_passed(void **state) {
  (void)state;
  double numbers[2] = {3, 4};
  int releases = 0;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = watched(numbers, &releases), *y = fonio_tensor_mul(x, w);
  fonio_tensor *sum = fonio_tensor_sum(y);
  fonio_tensor_release(w);
  assert_int_equal(fonio_tensor_backward_with(sum, NULL, true, false), FONIO_OK);
  assert_int_equal(releases, 0);
  assert_int_equal(fonio_tensor_backward(sum), FONIO_OK);
  assert_int_equal(releases, 1);
  RELEASE(x, y, sum);
}

static void saved_tensors_go_with_the_last_result(void **state) {
  (void)state;
  double numbers[2] = {3, 4};
  int releases = 0;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = watched(numbers, &releases), *y = fonio_tensor_mul(x, w);
  fonio_tensor_release(w);
  assert_int_equal(releases, 0);
  fonio_tensor_release(y);
  assert_int_equal(releases, 1);
  RELEASE(x);
}

static void nothing_is_saved_that_no_gradient_needs(void **state) {
  (void)state;
  double numbers[2] = {3, 4};
  int releases = 0;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = watched(numbers, &releases);
  fonio_tensor *sum = fonio_tensor_add(x, w), *mean = fonio_tensor_mean(sum);
  fonio_tensor_release(w);
  assert_int_equal(releases, 1);
  RELEASE(x, sum, mean);
}

/* ---- Deep graphs, on a small stack ---- */

#define DEEP 50000

static void *go_deep(void *unused) {
  (void)unused;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *half = LINE(0.5, 0.5), *y = fonio_tensor_retain(x);
  for (int i = 0; i < DEEP; i++) {
    fonio_tensor *more = i % 2 ? fonio_tensor_mul(y, half) : fonio_tensor_add(y, y);
    fonio_tensor_release(y);
    y = more;
  }
  fonio_tensor *sum = fonio_tensor_sum(y);
  fonio_status status = fonio_tensor_backward(sum);
  bool right = status == FONIO_OK && value_at(fonio_tensor_grad(x), 0) == 1;
  RELEASE(x, half, y, sum);
  return right ? (void *)1 : NULL;
}

/* Products of two that both require a gradient hold each other's tensors: released, these would release one another. */
static void *go_deep_through_saved_tensors(void *unused) {
  (void)unused;
  fonio_tensor *y = requiring_grad(LINE(1, 1));
  for (int i = 0; i < DEEP; i++) {
    fonio_tensor *square = fonio_tensor_mul(y, y);
    fonio_tensor_release(y);
    y = square;
  }
  fonio_tensor_release(y);
  return (void *)1;
}

static void run_on_a_small_stack(void *(*function)(void *)) {
  pthread_attr_t attributes;
  pthread_t thread;
  void *right = NULL;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 1 << 18);
  assert_int_equal(pthread_create(&thread, &attributes, function, NULL), 0);
  pthread_join(thread, &right);
  pthread_attr_destroy(&attributes);
  assert_non_null(right);
}

static void depth_does_not_matter(void **state) {
  (void)state;
  run_on_a_small_stack(go_deep);
  run_on_a_small_stack(go_deep_through_saved_tensors);
}

/* A sum over a wide graph: one leaf, used many times. */
static void width_does_not_matter(void **state) {
  (void)state;
  enum { WIDE = 2000 };
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *total = fonio_tensor_sum(x);
  for (int i = 1; i < WIDE; i++) {
    fonio_tensor *one = fonio_tensor_index(x, FONIO_SHAPE(i % 2)), *more = fonio_tensor_add(total, one);
    RELEASE(total, one);
    total = more;
  }
  assert_int_equal(fonio_tensor_backward(total), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 1 + WIDE / 2 - 1, 1 + WIDE / 2);
  RELEASE(x, total);
}

/* ---- Threads ---- */

enum { THREADS = 4, ROUNDS = 300 };

typedef void round_function(fonio_tensor *shared);

typedef struct crew {
  round_function *round;
  fonio_tensor *shared;
} crew;

static void *work(void *pointer) {
  const crew *c = pointer;
  for (int i = 0; i < ROUNDS; i++)
    c->round(c->shared);
  return NULL;
}

static void run_crew(round_function *round, fonio_tensor *shared) {
  pthread_t threads[THREADS];
  crew c = {round, shared};
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, work, &c), 0);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
}

static void own_graph(fonio_tensor *x) {
  fonio_tensor *y = fonio_tensor_add(x, x), *sum = fonio_tensor_sum(y);
  (void)!fonio_tensor_backward(sum);
  RELEASE(y, sum);
}

static void threads_with_graphs_of_their_own_share_a_leaf(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2));
  run_crew(own_graph, x);
  ASSERT_VALUES(fonio_tensor_grad(x), 2.0 * THREADS * ROUNDS, 2.0 * THREADS * ROUNDS);
  RELEASE(x);
}

static void kept_graph(fonio_tensor *sum) {
  (void)!fonio_tensor_backward_with(sum, NULL, true, false);
}

static void threads_share_a_graph(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_mul(x, x), *sum = fonio_tensor_sum(y);
  assert_int_equal(fonio_tensor_retain_grad(y), FONIO_OK);
  run_crew(kept_graph, sum);
  ASSERT_VALUES(fonio_tensor_grad(y), THREADS * ROUNDS, THREADS * ROUNDS);
  ASSERT_VALUES(fonio_tensor_grad(x), 2.0 * THREADS * ROUNDS, 4.0 * THREADS * ROUNDS);
  RELEASE(x, y, sum);
}

/* One of them frees what is saved; the others find it there or find it gone. */
static _Atomic int passed, found_gone;

static void freeing_graph(fonio_tensor *sum) {
  fonio_status status = fonio_tensor_backward(sum);
  if (status == FONIO_OK) passed++;
  if (status == FONIO_RUNTIME_ERROR) found_gone++;
}

static void threads_race_to_free_a_graph(void **state) {
  (void)state;
  for (int i = 0; i < 20; i++) {
    fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_mul(x, x), *z = fonio_tensor_mul(y, x);
    fonio_tensor *sum = fonio_tensor_sum(z);
    passed = found_gone = 0;
    run_crew(freeing_graph, sum);
    assert_int_equal(passed + found_gone, THREADS * ROUNDS);
    ASSERT_VALUES(fonio_tensor_grad(x), 3 * passed, 12 * passed);
    RELEASE(x, y, z, sum);
  }
}

/* A tensor that keeps its gradient goes in one thread while another passes its node. */
static void *drop(void *tensor) {
  fonio_tensor_release(tensor);
  return NULL;
}

static void a_keeper_may_go_meanwhile(void **state) {
  (void)state;
  for (int i = 0; i < 200; i++) {
    fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_add(x, x), *sum = fonio_tensor_sum(y);
    pthread_t thread;
    assert_int_equal(fonio_tensor_retain_grad(y), FONIO_OK);
    assert_int_equal(pthread_create(&thread, NULL, drop, y), 0);
    assert_int_equal(fonio_tensor_backward(sum), FONIO_OK);
    pthread_join(thread, NULL);
    ASSERT_VALUES(fonio_tensor_grad(x), 2, 2);
    RELEASE(x, sum);
  }
}

static void *off_here(void *unused) {
  (void)unused;
  bool before = fonio_set_grad_enabled(false);
  return before ? (void *)1 : NULL;
}

static void each_thread_has_its_own_mode(void **state) {
  (void)state;
  pthread_t thread;
  void *was_on = NULL;
  fonio_set_grad_enabled(false);
  assert_int_equal(pthread_create(&thread, NULL, off_here, NULL), 0);
  pthread_join(thread, &was_on);
  assert_non_null(was_on);
  fonio_set_grad_enabled(true);
  assert_int_equal(pthread_create(&thread, NULL, off_here, NULL), 0);
  pthread_join(thread, &was_on);
  assert_true(fonio_grad_enabled());
}

/* ---- No memory ----
 *
 * Every allocation of a scenario fails in turn, once or from then on: nothing is lost, and no .grad has changed. */

static _Atomic int64_t until_failure = INT64_MAX; /* allocations that are still granted */
static bool fails_for_ever;

static void *allocate(size_t alignment, size_t bytes, void *user) {
  (void)user;
  int64_t left = until_failure--;
  if (left == 0 || (left < 0 && fails_for_ever)) return NULL;
  void *pointer = NULL;
  return posix_memalign(&pointer, alignment, bytes) ? NULL : pointer;
}

static void give_back(void *pointer, void *user) {
  (void)user;
  free(pointer);
}

static const fonio_allocator scarce = {allocate, give_back, NULL};

typedef struct leaves {
  fonio_tensor *image, *weight, *bias, *scale; /* scale: float32, and it has a .grad already */
} leaves;

/* Through every operation: a tensor of one element. */
static fonio_tensor *network(const leaves *l, fonio_tensor **inner) {
  fonio_tensor *last = fonio_tensor_channels_last(l->image);
  fonio_tensor *y = fonio_tensor_conv2d(last, l->weight, l->bias, .padding = 1, .padding_mode = "reflect");
  fonio_tensor *scaled = fonio_tensor_mul(y, l->scale), *both = fonio_tensor_add(scaled, y);
  fonio_tensor *turned = fonio_tensor_permute(both, FONIO_SHAPE(1, 0, 3, 2)), *copy = fonio_tensor_contiguous(turned);
  fonio_tensor *line = fonio_tensor_reshape(turned, FONIO_SHAPE(-1)), *part = fonio_tensor_slice(line, 0, 1, 9, 2);
  fonio_tensor *one = fonio_tensor_index(copy, FONIO_SHAPE(1, 0, 2)),
               *wide = fonio_tensor_expand(one, FONIO_SHAPE(2, -1));
  fonio_tensor *single = fonio_tensor_to(wide, FONIO_FLOAT32), *clone = fonio_tensor_clone(single);
  fonio_tensor *mean = fonio_tensor_mean(clone), *sum = fonio_tensor_sum(part), *result = fonio_tensor_add(mean, sum);
  RELEASE(last, scaled, both, turned, copy, line, part, one, wide, single, clone, mean, sum);
  *inner = y;
  return result;
}

static fonio_status go_back(const leaves *l) {
  fonio_tensor *inner, *result = network(l, &inner);
  fonio_status status = fonio_tensor_retain_grad(inner);
  if (!status) status = fonio_tensor_backward(result);
  if (!status)
    assert_non_null(fonio_tensor_grad(inner));
  else if (inner)
    assert_null(fonio_tensor_grad(inner));
  RELEASE(inner, result);
  return status;
}

static fonio_status ask_for_gradients(const leaves *l) {
  fonio_tensor *inner, *result = network(l, &inner), *grads[3] = {NULL};
  fonio_tensor *inputs[] = {l->weight, inner, l->scale};
  fonio_status status = fonio_grad(result, 3, inputs, NULL, true, false, false, grads);
  for (int i = 0; i < 3; i++)
    assert_int_equal(grads[i] != NULL, status == FONIO_OK);
  release_all(3, grads);
  RELEASE(inner, result);
  return status;
}

static fonio_tensor *squared(fonio_tensor *const *inputs, int count, void *user) {
  (void)count, (void)user;
  return fonio_tensor_mul(inputs[0], inputs[0]);
}

static fonio_status check_gradients(const leaves *l) {
  fonio_status status = fonio_gradcheck(squared, NULL, 1, &l->bias, 1e-6, 1e-5, 1e-3);
  ASSERT_VALUES(l->bias, 1, 2);
  return status;
}

static leaves make_leaves(void) {
  leaves l = {
      .image = requiring_grad(counting(FONIO_FLOAT64, 0, FONIO_SHAPE(1, 2, 3, 3))),
      .weight = requiring_grad(counting(FONIO_FLOAT64, 1, FONIO_SHAPE(2, 2, 3, 3))),
      .bias = requiring_grad(LINE(1, 2)),
      .scale = requiring_grad(fonio_tensor_full(FONIO_FLOAT32, 2, FONIO_SHAPE(2, 1, 1))),
  };
  fonio_tensor *grad = fonio_tensor_full(FONIO_FLOAT32, 7, FONIO_SHAPE(2, 1, 1));
  assert_int_equal(fonio_tensor_set_grad(l.scale, grad), FONIO_OK);
  RELEASE(grad);
  return l;
}

static void assert_grads_untouched(const leaves *l) {
  ASSERT_VALUES(fonio_tensor_grad(l->scale), 7, 7);
  assert_null(fonio_tensor_grad(l->image));
  assert_null(fonio_tensor_grad(l->weight));
  assert_null(fonio_tensor_grad(l->bias));
}

static void fail_each_allocation(fonio_status (*scenario)(const leaves *), bool for_ever) {
  leaves l = make_leaves();
  int64_t before = fonio_live_allocations(), failed = 0;
  fonio_status status;
  fails_for_ever = for_ever;
  do {
    until_failure = failed;
    status = scenario(&l);
    bool granted_all = until_failure >= 0;
    until_failure = INT64_MAX;
    assert_int_equal(status == FONIO_OK, granted_all);
    if (granted_all) break;
    assert_int_equal(status, FONIO_NO_MEMORY);
    assert_grads_untouched(&l);
    assert_int_equal(fonio_live_allocations(), before);
  } while (++failed < 100000);
  assert_in_range(failed, 10, 99999);
  assert_int_equal(status, FONIO_OK);
  RELEASE(l.image, l.weight, l.bias, l.scale);
}

static void without_memory_nothing_is_lost(void **state) {
  (void)state;
  for (int for_ever = 0; for_ever < 2; for_ever++) {
    fail_each_allocation(go_back, for_ever);
    fail_each_allocation(ask_for_gradients, for_ever);
    fail_each_allocation(check_gradients, for_ever);
  }
}

static int use_scarce_memory(void **state) {
  (void)state;
  return fonio_set_allocator(&scarce);
}

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(the_result_holds_its_leaves),
      TEST(nothing_holds_the_result),
      TEST(saved_tensors_go_when_backward_has_passed),
      TEST(saved_tensors_go_with_the_last_result),
      TEST(nothing_is_saved_that_no_gradient_needs),
      TEST(depth_does_not_matter),
      TEST(width_does_not_matter),
      TEST(threads_with_graphs_of_their_own_share_a_leaf),
      TEST(threads_share_a_graph),
      TEST(threads_race_to_free_a_graph),
      TEST(a_keeper_may_go_meanwhile),
      TEST(each_thread_has_its_own_mode),
      TEST(without_memory_nothing_is_lost),
  };
  return cmocka_run_group_tests(tests, use_scarce_memory, NULL);
}
