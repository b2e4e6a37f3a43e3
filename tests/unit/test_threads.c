/* The library's threads: every piece is done once, results never depend on how many threads take part, and forks, late
 * workers, failed starts and a host's own threads are dealt with. */
#include <dlfcn.h>
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cases.h"
#include "base/clock.h"
#include "base/threads.h"
#include "fonio/conv.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static int calls(void) {
  return test_cases(SANITIZED ? 200 : 1000);
}

/* ---- What the tests are made of ---- */

/* pthread_create of this program and of the library in it: fails when no start is left. */
static _Atomic int starts_left = INT32_MAX;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
  int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
  return atomic_fetch_sub(&starts_left, 1) > 0 ? real(thread, attributes, start, argument) : EAGAIN;
}

static void sleep_ms(int ms) {
  nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

static int threads_of_process(void) {
  int threads = 0;
  FILE *status = fopen("/proc/self/status", "r");
  for (char line[256]; fgets(line, sizeof line, status);)
    sscanf(line, "Threads: %d", &threads);
  fclose(status);
  return threads;
}

/* A thread that was joined is still counted for a moment. */
static bool process_has_threads(int threads) {
  for (int ms = 0; ms < 2000 && threads_of_process() != threads; ms++)
    sleep_ms(1);
  return threads_of_process() == threads;
}

static _Thread_local uint64_t random_state = 1;

static int pick(int low, int high) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return low + (int)((random_state >> 33) % (uint64_t)(high - low + 1));
}

static float *random_array(int64_t elements) {
  float *array = malloc((size_t)elements * sizeof *array + 1);
  for (int64_t i = 0; i < elements; i++)
    array[i] = (float)pick(-1000000, 1000000) * 1e-6f;
  return array;
}

/* A problem with the arrays of all three directions. */
typedef struct example {
  char text[200];
  fonio_conv_problem problem;
  fonio_conv_plan *plans[3];
  int64_t elements[4]; /* of input, weight, bias, output */
  float *input, *weight, *bias, *grad_output;
} example;

static example example_of(const char *text) {
  example e = {0};
  snprintf(e.text, sizeof e.text, "%s", text);
  if (fonio_conv_problem_parse(&e.problem, text)) fail_msg("%s: %s", text, fonio_last_error());
  const fonio_conv_problem *p = &e.problem;
  for (int direction = 0; direction < 3; direction++) {
    fonio_conv_plan_options options = {.struct_bytes = sizeof options, .direction = (fonio_conv_direction)direction};
    e.plans[direction] = fonio_conv_plan_new(p, &options);
    assert_non_null(e.plans[direction]);
  }
  e.elements[0] = p->batch * p->in_channels * p->in_height * p->in_width;
  e.elements[1] = p->out_channels * (p->in_channels / p->groups) * p->kernel_height * p->kernel_width;
  e.elements[2] = p->out_channels;
  e.elements[3] = p->batch * p->out_channels * p->out_height * p->out_width;
  e.input = random_array(e.elements[0]);
  e.weight = random_array(e.elements[1]);
  e.bias = random_array(e.elements[2]);
  e.grad_output = random_array(e.elements[3]);
  return e;
}

static void drop(example *e) {
  for (int direction = 0; direction < 3; direction++)
    fonio_conv_plan_release(e->plans[direction]);
  free(e->input);
  free(e->weight);
  free(e->bias);
  free(e->grad_output);
}

/* All that the example computes, one after the other; the caller frees it. */
static int64_t results_elements(const example *e) {
  return e->elements[3] + e->elements[0] + e->elements[1] + e->elements[2];
}

static float *results_of(const example *e) {
  float *results = calloc((size_t)results_elements(e) + 1, sizeof *results), *at = results;
  fonio_conv_buffers b = {.input = e->input, .weight = e->weight, .bias = e->bias, .grad_output = e->grad_output};
  b.output = at;
  b.grad_input = at += e->elements[3];
  b.grad_weight = at += e->elements[0];
  b.grad_bias = at + e->elements[1];
  for (int direction = 0; direction < 3; direction++)
    if (fonio_conv_plan_run(e->plans[direction], &b)) {
      free(results);
      return NULL;
    }
  return results;
}

static bool gives(const example *e, const float *expected) {
  float *results = results_of(e);
  bool same = results && memcmp(results, expected, (size_t)results_elements(e) * sizeof *results) == 0;
  free(results);
  return same;
}

/* Long enough to be shared, on every instruction set. */
static example middle_example(void) {
  return example_of("n2c16h20w20k32r3s3p1");
}

static float *results_of_one_thread(const example *e) {
  assert_int_equal(fonio_set_num_threads(1), FONIO_OK);
  float *expected = results_of(e);
  assert_non_null(expected);
  return expected;
}

/* ---- Pieces ---- */

enum { MOST_PIECES = 1000, LONG = 1000000 };

typedef struct tally {
  int slots;
  _Atomic int done[MOST_PIECES];
  _Atomic int busy[THREADS_MAX];
  _Atomic int faults;
} tally;

static void count_piece(void *context, int64_t piece, int slot) {
  tally *c = context;
  if (slot < 0 || slot >= c->slots || atomic_fetch_add(&c->busy[slot], 1) != 0) atomic_fetch_add(&c->faults, 1);
  atomic_fetch_add(&c->done[piece], 1);
  atomic_fetch_sub(&c->busy[slot], 1);
}

static bool each_piece_once(int pieces, double cost, int slots) {
  tally *c = calloc(1, sizeof *c);
  c->slots = slots;
  threads_parallel_for(pieces, cost, slots, count_piece, c);
  bool right = atomic_load(&c->faults) == 0;
  for (int i = 0; i < MOST_PIECES; i++)
    right &= atomic_load(&c->done[i]) == (i < pieces);
  free(c);
  return right;
}

static void does_each_piece_once(void **state) {
  (void)state;
  assert_int_equal(fonio_set_num_threads(16), FONIO_OK);
  for (int i = 0; i < calls(); i++) {
    int pieces = pick(0, pick(0, 1) ? 20 : MOST_PIECES), slots = pick(1, 16);
    double cost = pick(0, 2) ? (double)pieces * 1e6 : (double)pick(0, LONG);
    if (!each_piece_once(pieces, cost, slots)) fail_msg("%d pieces, cost %g, %d slots", pieces, cost, slots);
  }
}

static void nest_piece(void *context, int64_t piece, int slot) {
  (void)piece;
  (void)slot;
  if (!each_piece_once(50, LONG, 4)) atomic_fetch_add((_Atomic int *)context, 1);
}

static void work_may_share_work_of_its_own(void **state) {
  (void)state;
  _Atomic int faults = 0;
  fonio_set_num_threads(4);
  threads_parallel_for(20, 20.0 * LONG, 4, nest_piece, &faults);
  assert_int_equal(atomic_load(&faults), 0);
}

static void short_work_is_not_shared(void **state) {
  (void)state;
  fonio_set_num_threads(8);
  assert_int_equal(threads_wanted(1000, 59000), 1);
  assert_int_equal(threads_wanted(1000, 60000), 2);
  assert_int_equal(threads_wanted(1000, 1e9), 8);
  assert_int_equal(threads_wanted(3, 1e9), 3);
  assert_int_equal(threads_wanted(1, 1e9), 1);
  assert_int_equal(threads_wanted(0, 0), 1);
}

/* Whether it is shared in some call of many that follow each other closely. */
static bool is_shared_in_time(double cost) {
  for (int64_t end = clock_ns() + 1000000000; clock_ns() < end;)
    if (threads_wanted(2, cost) == 2) return true;
  return false;
}

static void short_work_that_comes_again_wakes_a_worker(void **state) {
  (void)state;
  fonio_set_num_threads(2);
  assert_int_equal(threads_wanted(2, 30000), 1);
  assert_true(is_shared_in_time(30000));
  assert_int_equal(threads_wanted(2, 19000), 1);
  fonio_set_num_threads(1);
  assert_int_equal(threads_wanted(2, 30000), 1);
}

/* ---- A host's own parallel_for ---- */

typedef struct host {
  int calls, most_tasks;
  _Atomic int faults;
} host;

static void count_call(host *h, int tasks) {
  h->calls++;
  if (h->most_tasks < tasks) h->most_tasks = tasks;
}

static void last_task_first(int tasks, void (*task)(void *context, int index), void *context, void *user) {
  count_call(user, tasks);
  for (int i = tasks - 1; i >= 0; i--)
    task(context, i);
}

static void no_task(int tasks, void (*task)(void *context, int index), void *context, void *user) {
  (void)task;
  (void)context;
  count_call(user, tasks);
}

typedef struct one_task {
  void (*task)(void *context, int index);
  void *context;
  int index;
  host *h;
  pthread_barrier_t *start;
} one_task;

/* A thread of the host has floating-point settings of its own, which it must find again. */
static void *run_one_task(void *context) {
  one_task *t = context;
  fesetround(FE_DOWNWARD);
  pthread_barrier_wait(t->start);
  t->task(t->context, t->index);
  if (fegetround() != FE_DOWNWARD) atomic_fetch_add(&t->h->faults, 1);
  return NULL;
}

/* All tasks begin at once, so that they really share the work. */
static void each_task_a_thread(int tasks, void (*task)(void *context, int index), void *context, void *user) {
  count_call(user, tasks);
  pthread_t threads[16];
  one_task each[16];
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, (unsigned)tasks);
  for (int i = 0; i < tasks; i++) {
    each[i] = (one_task){task, context, i, user, &start};
    assert_int_equal(pthread_create(&threads[i], NULL, run_one_task, &each[i]), 0);
  }
  for (int i = 0; i < tasks; i++)
    pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&start);
}

static void a_host_may_run_the_tasks(void **state) {
  (void)state;
  example e = middle_example();
  float *expected = results_of_one_thread(&e);
  fonio_set_num_threads(4);
  const fonio_parallel_for functions[] = {last_task_first, no_task, each_task_a_thread};
  for (int i = 0; i < 3; i++) {
    host h = {0};
    fonio_set_parallel_for(functions[i], &h);
    bool right = gives(&e, expected);
    fonio_set_parallel_for(NULL, NULL);
    assert_true(right);
    assert_true(h.calls > 0);
    assert_in_range(h.most_tasks, 2, 4);
    assert_int_equal(atomic_load(&h.faults), 0);
    int calls = h.calls;
    assert_true(gives(&e, expected));
    assert_int_equal(h.calls, calls);
  }
  free(expected);
  drop(&e);
}

/* ---- Same bits ---- */

static void random_problem(char *text, size_t bytes) {
  int groups = pick(0, 2) ? 1 : pick(2, 4);
  static const char *const layouts[] = {"nchw", "nhwc"}, *const modes[] = {"zeros", "zeros", "reflect", "circular"};
  int r = pick(1, 4), p = r / 2;
  snprintf(text, bytes, "n%dc%dh%dw%dk%dr%ds%du%dp%dg%dm%sl%s", pick(1, 5), groups * pick(1, 6), pick(5, 30),
           pick(5, 30), groups * pick(1, 12), r, r, pick(1, 2), p, groups, modes[pick(0, 3)], layouts[pick(0, 1)]);
}

static void results_do_not_depend_on_threads(void **state) {
  (void)state;
  const int threads[] = {2, 3, 4, 7, 8, 16};
  for (int i = 0; i < calls() / 25; i++) {
    char text[200];
    random_problem(text, sizeof text);
    example e = example_of(text);
    float *expected = results_of_one_thread(&e);
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
      fonio_set_num_threads(threads[t]);
      if (!gives(&e, expected)) fail_msg("%s differs with %d threads", text, threads[t]);
      host h = {0};
      fonio_set_parallel_for(each_task_a_thread, &h);
      bool right = gives(&e, expected);
      fonio_set_parallel_for(NULL, NULL);
      if (!right) fail_msg("%s differs with %d threads of the host", text, threads[t]);
    }
    free(expected);
    drop(&e);
  }
}

static void workers_compute_under_the_callers_settings(void **state) {
  (void)state;
  example e = middle_example();
  float *nearest = results_of_one_thread(&e);
  fesetround(FE_UPWARD);
  float *upward = results_of(&e);
  bool same = memcmp(nearest, upward, (size_t)results_elements(&e) * sizeof *upward) == 0;
  fonio_set_num_threads(4);
  bool right = true;
  for (int i = 0; i < (SANITIZED ? 2 : 5); i++) {
    fesetround(FE_UPWARD);
    right &= gives(&e, upward);
    fesetround(FE_TONEAREST);
    right &= gives(&e, nearest);
  }
  fesetround(FE_TONEAREST);
  assert_false(same);
  assert_true(right);
  free(nearest);
  free(upward);
  drop(&e);
}

/* Runs with a workspace of `bytes` bytes, and tells how many threads' parts of it were written to; -1 where what lies
 * behind it was, or the output is wrong. */
static int parts_written(const example *e, const float *expected, char *workspace, int64_t bytes, int parts) {
  const fonio_conv_plan *plan = e->plans[FONIO_CONV_FORWARD];
  int64_t one = fonio_conv_plan_workspace_bytes(plan, 1);
  size_t output_bytes = (size_t)e->elements[3] * sizeof(float);
  float *output = calloc(1, output_bytes);
  fonio_conv_buffers b = {.input = e->input, .weight = e->weight, .bias = e->bias, .output = output};
  b.workspace = workspace;
  b.workspace_bytes = bytes;
  memset(workspace, 0x5A, (size_t)(parts * one));
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_OK);
  bool right = memcmp(output, expected, output_bytes) == 0;
  free(output);
  int written = 0;
  for (int part = 0; part < parts; part++) {
    bool untouched = true;
    for (int64_t i = part * one; i < (part + 1) * one; i++)
      untouched &= workspace[i] == 0x5A;
    written += !untouched;
    right &= untouched || (part + 1) * one <= bytes;
  }
  return right ? written : -1;
}

static void as_many_take_part_as_the_workspace_holds(void **state) {
  (void)state;
  /* Large enough that a second thread begins before the first has done it all, even where they take turns. */
  example e = example_of("n8c16h28w28k32r3s3p1");
  const fonio_conv_plan *plan = e.plans[FONIO_CONV_FORWARD];
  float *expected = results_of_one_thread(&e);
  host h = {0};
  fonio_set_num_threads(4);
  fonio_set_parallel_for(each_task_a_thread, &h);
  int64_t one = fonio_conv_plan_workspace_bytes(plan, 1);
  assert_true(one > 0);
  assert_int_equal(fonio_conv_plan_workspace_bytes(plan, 0), one);
  assert_int_equal(fonio_conv_plan_workspace_bytes(plan, 3), 3 * one);
  assert_int_equal(fonio_conv_plan_workspace_bytes(NULL, 3), 0);
  char *workspace = aligned_alloc(64, (size_t)(4 * one));
  for (int64_t bytes = one; bytes <= 4 * one; bytes += one / 2) {
    int most = 0;
    /* On a busy machine it may take a while until two of them work at the same time. */
    for (int i = 0; i < 30 || (i < 3000 && bytes >= 2 * one && most < 2); i++) {
      int written = parts_written(&e, expected, workspace, bytes, 4);
      assert_in_range(written, 1, bytes / one);
      if (most < written) most = written;
    }
    if (bytes >= 2 * one) assert_true(most >= 2);
  }
  fonio_conv_buffers b = {.input = e.input, .weight = e.weight, .bias = e.bias, .output = expected};
  b.workspace = workspace;
  b.workspace_bytes = one - 1;
  assert_int_equal(fonio_conv_plan_run(plan, &b), FONIO_VALUE_ERROR);
  fonio_set_parallel_for(NULL, NULL);
  free(workspace);
  free(expected);
  drop(&e);
}

/* ---- Threads of the host ---- */

typedef struct host_thread {
  const example *e;
  const float *expected;
  int calls;
  pthread_barrier_t *start;
} host_thread;

static void *call_often(void *context) {
  host_thread *h = context;
  if (h->start) pthread_barrier_wait(h->start);
  for (int i = 0; i < h->calls; i++)
    if (!gives(h->e, h->expected)) return context;
  return NULL;
}

/* Whether `count` threads that call at once all get what is expected. */
static bool threads_agree(int count, host_thread h) {
  pthread_t threads[16];
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, (unsigned)count);
  h.start = &start;
  bool right = true;
  for (int i = 0; i < count; i++)
    if (pthread_create(&threads[i], NULL, call_often, &h)) return false;
  for (int i = 0; i < count; i++) {
    void *wrong;
    pthread_join(threads[i], &wrong);
    right &= !wrong;
  }
  pthread_barrier_destroy(&start);
  return right;
}

static void many_threads_may_run_one_plan(void **state) {
  (void)state;
  example e = example_of("n2c8h12w12k8r3s3p1");
  float *expected = results_of_one_thread(&e);
  fonio_set_num_threads(3);
  assert_true(threads_agree(8, (host_thread){&e, expected, calls() / 8, NULL}));
  free(expected);
  drop(&e);
}

static void *change_settings(void *context) {
  for (int i = 0; !atomic_load((_Atomic bool *)context); i++) {
    fonio_set_num_threads(1 + i % 5);
    sleep_ms(1);
  }
  return NULL;
}

static void threads_may_be_set_while_others_call(void **state) {
  (void)state;
  example e = middle_example();
  float *expected = results_of_one_thread(&e);
  _Atomic bool finished = false;
  pthread_t setter;
  assert_int_equal(pthread_create(&setter, NULL, change_settings, &finished), 0);
  assert_true(threads_agree(3, (host_thread){&e, expected, calls() / 50, NULL}));
  atomic_store(&finished, true);
  pthread_join(setter, NULL);
  free(expected);
  drop(&e);
}

/* ---- Start, stop and what can go wrong ---- */

static void threads_start_when_needed_and_can_be_ended(void **state) {
  (void)state;
  fonio_set_num_threads(1);
  sleep_ms(20);
  int before = threads_of_process(); /* a sanitizer may have one of its own */
  fonio_set_num_threads(5);
  assert_true(process_has_threads(before));
  int64_t allocations = fonio_live_allocations();
  assert_true(each_piece_once(100, 100.0 * LONG, 5));
  assert_true(process_has_threads(before + 4));
  assert_int_equal(fonio_live_allocations(), allocations);
  fonio_set_num_threads(1);
  assert_true(process_has_threads(before));
}

static void fewer_threads_where_none_can_be_started(void **state) {
  (void)state;
  example e = middle_example();
  float *expected = results_of_one_thread(&e);
  for (int starts = 0; starts < 4; starts++) {
    fonio_set_num_threads(6);
    atomic_store(&starts_left, starts);
    bool right = each_piece_once(100, 100.0 * LONG, 6) && gives(&e, expected);
    /* One failure is enough: it does not try again and again. */
    int attempts_after = atomic_load(&starts_left);
    right &= each_piece_once(100, 100.0 * LONG, 6);
    bool tried_again = atomic_load(&starts_left) != attempts_after;
    atomic_store(&starts_left, INT32_MAX);
    assert_true(right);
    assert_false(tried_again);
  }
  fonio_set_num_threads(6);
  assert_true(gives(&e, expected));
  free(expected);
  drop(&e);
}

static void piece_of_a_late_worker(void *context, int64_t piece, int slot) {
  (void)context;
  (void)piece;
  sleep_ms(slot == 0 ? 1 : 30);
}

static int64_t now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Work of `slots` threads with a late worker: whether `threads` may then work for `pause` ms, and after that all 8. */
static bool pauses(int slots, int threads, int pause) {
  threads_parallel_for(10, 1e9, slots, piece_of_a_late_worker, NULL);
  bool right = true;
  int64_t end = now_ms();
  do {
    int wanted = threads_wanted(100, 1e9);
    if (now_ms() < end + pause - 5) right &= wanted == threads;
    sleep_ms(10);
  } while (now_ms() < end + pause + 5);
  return right && threads_wanted(100, 1e9) == 8;
}

/* Tried a few times, because on a busy machine the caller itself may lose its core in the middle of it. */
static void a_late_worker_means_fewer_threads_for_a_while(void **state) {
  (void)state;
  bool seen = false;
  for (int attempt = 0; attempt < 10 && !seen; attempt++) {
    fonio_set_num_threads(8);
    assert_int_equal(threads_wanted(100, 1e9), 8);
    seen = pauses(2, 1, 50) && pauses(8, 4, 100) /* soon again: longer */ && pauses(2, 1, 200);
  }
  assert_true(seen);
}

static bool runs_in_valgrind(void) {
  const char *preloaded = getenv("LD_PRELOAD");
  return preloaded && strstr(preloaded, "vgpreload");
}

static void piece_of_a_good_call(void *context, int64_t piece, int slot) {
  (void)context;
  (void)piece;
  (void)slot;
  nanosleep(&(struct timespec){0, 300000}, NULL);
}

/* Tried a few times, because a busy machine may slow down one of the calls that are meant to be good. (valgrind runs
 * one thread at a time, and beside others' work may never have so many good ones in a row.) */
static void a_late_worker_is_forgiven_after_many_good_calls(void **state) {
  (void)state;
  if (runs_in_valgrind()) skip();
  int forgiven = 0;
  for (int attempt = 0; attempt < 60 && !forgiven; attempt++) {
    fonio_set_num_threads(8);
    for (int i = 0; i < 120; i++)
      threads_parallel_for(4, 1e6, 2, piece_of_a_good_call, NULL);
    threads_parallel_for(10, 1e9, 2, piece_of_a_late_worker, NULL);
    forgiven += threads_wanted(100, 1e9) == 8;
  }
  assert_int_equal(forgiven, 1);
  /* But not twice in a row. */
  threads_parallel_for(10, 1e9, 2, piece_of_a_late_worker, NULL);
  int64_t end = now_ms();
  int wanted = threads_wanted(100, 1e9);
  if (now_ms() < end + 45) assert_int_equal(wanted, 1);
}

static void piece_of_a_slow_worker(void *context, int64_t piece, int slot) {
  (void)context;
  (void)piece;
  sleep_ms(slot == 0 ? 1 : 4);
}

/* A first call is slow for reasons of its own. Tried a few times, as above. */
static void the_first_slow_call_is_forgiven(void **state) {
  (void)state;
  bool seen = false;
  for (int attempt = 0; attempt < 20 && !seen; attempt++) {
    fonio_set_num_threads(8);
    threads_parallel_for(2, 1e9, 2, piece_of_a_slow_worker, NULL);
    bool forgiven = threads_wanted(100, 1e9) == 8;
    threads_parallel_for(2, 1e9, 2, piece_of_a_slow_worker, NULL);
    seen = forgiven && threads_wanted(100, 1e9) == 1;
  }
  assert_true(seen);
}

static void a_wrong_number_is_refused(void **state) {
  (void)state;
  fonio_set_num_threads(3);
  const int wrong[] = {0, -1, INT32_MIN};
  for (int i = 0; i < 3; i++) {
    fonio_clear_error();
    assert_int_equal(fonio_set_num_threads(wrong[i]), FONIO_RUNTIME_ERROR);
    assert_string_equal(fonio_last_error(), "set_num_threads expects a positive integer");
    assert_int_equal(fonio_num_threads(), 3);
  }
  assert_int_equal(fonio_set_num_threads(INT32_MAX), FONIO_OK);
  assert_int_equal(fonio_num_threads(), THREADS_MAX);
}

/* What a fresh process with FONIO_NUM_THREADS=`value` says. */
static int threads_with_environment(const char *value) {
  if (value)
    setenv("FONIO_NUM_THREADS", value, 1);
  else
    unsetenv("FONIO_NUM_THREADS");
  char path[4096] = {0}, command[4200];
  assert_true(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
  snprintf(command, sizeof command, "'%s' --num-threads", path);
  FILE *output = popen(command, "r");
  int threads = 0;
  assert_int_equal(fscanf(output, "%d", &threads), 1);
  pclose(output);
  return threads;
}

static void environment_and_cores_give_the_first_number(void **state) {
  (void)state;
  cpu_set_t cores;
  assert_int_equal(sched_getaffinity(0, sizeof cores, &cores), 0);
  int all = CPU_COUNT(&cores);
  assert_int_equal(threads_with_environment(NULL), all);
  assert_int_equal(threads_with_environment("3"), 3);
  assert_int_equal(threads_with_environment("99999999999999999999"), THREADS_MAX);
  const char *wrong[] = {"", "0", "-2", "two", "3x"};
  for (int i = 0; i < 5; i++)
    assert_int_equal(threads_with_environment(wrong[i]), all);
  unsetenv("FONIO_NUM_THREADS");
}

/* A function of a library that was loaded; POSIX has it that pointers to functions and to data convert. */
#define LOADED(library, name) ((__typeof__(&name))(uintptr_t)dlsym(library, #name))

/* The shared library, beside which this program was built. */
static void *load_library(void) {
  char path[4200] = {0};
  assert_true(readlink("/proc/self/exe", path, 4096) > 0);
  for (int up = 0; up < 3; up++)
    *strrchr(path, '/') = 0;
  return dlopen(strcat(path, "/libfonio.so"), RTLD_NOW | RTLD_LOCAL);
}

static void threads_end_when_the_library_is_unloaded(void **state) {
  (void)state;
#if defined(__SANITIZE_THREAD__)
  skip(); /* it leaves what is to be done at unloading to the end of the process */
#endif
  example e = middle_example();
  float *output = calloc((size_t)e.elements[3], sizeof *output);
  fonio_conv_buffers b = {.input = e.input, .weight = e.weight, .bias = e.bias, .output = output};
  fonio_set_num_threads(1);
  sleep_ms(20);
  int before = threads_of_process();
  for (int i = 0; i < 3; i++) {
    void *library = load_library();
    if (!library) fail_msg("%s", dlerror());
    LOADED(library, fonio_set_num_threads)(2);
    fonio_conv_plan *plan = LOADED(library, fonio_conv_plan_new)(&e.problem, NULL);
    assert_int_equal(LOADED(library, fonio_conv_plan_run)(plan, &b), FONIO_OK);
    LOADED(library, fonio_conv_plan_release)(plan);
    assert_true(process_has_threads(before + 1));
    dlclose(library);
    assert_true(process_has_threads(before));
  }
  free(output);
  drop(&e);
}

/* ---- Forks ---- */

/* ThreadSanitizer allows no threads in the child of a process that has some, and valgrind takes what its parent's
 * threads held for lost. */
static bool children_are_sound(void) {
#if defined(__SANITIZE_THREAD__)
  return false;
#endif
  return !runs_in_valgrind();
}

/* Whether all `count` children end well within 20 seconds; those that do not are killed. */
static bool all_end_well(pid_t *children, int count) {
  int left = count;
  bool right = true;
  for (int ms = 0; left && ms < 20000; ms += 5) {
    for (int i = 0; i < count; i++) {
      int status;
      if (!children[i] || waitpid(children[i], &status, WNOHANG) == 0) continue;
      right &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
      children[i] = 0;
      left--;
    }
    if (left) sleep_ms(5);
  }
  for (int i = 0; i < count; i++)
    if (children[i]) {
      kill(children[i], SIGKILL);
      waitpid(children[i], NULL, 0);
    }
  return right && left == 0;
}

static void children_have_threads_of_their_own(void **state) {
  (void)state;
  if (!children_are_sound()) skip();
  example e = middle_example();
  float *expected = results_of_one_thread(&e);
  fonio_set_num_threads(3);
  assert_true(gives(&e, expected));
  pid_t children[100];
  for (int i = 0; i < 100; i++)
    if ((children[i] = fork()) == 0) {
      bool right = gives(&e, expected) && each_piece_once(100, 100.0 * LONG, 3) && process_has_threads(3);
      right &= fonio_set_num_threads(2) == FONIO_OK && gives(&e, expected);
      _exit(right ? 0 : 1);
    }
  assert_true(all_end_well(children, 100));
  assert_true(gives(&e, expected));
  free(expected);
  drop(&e);
}

/* AddressSanitizer's allocator may stay locked in a child, by a thread of the parent's. */
static bool memory_is_sound_in_children(void) {
#if defined(__SANITIZE_ADDRESS__)
  return false;
#endif
  return children_are_sound();
}

static void a_process_may_fork_while_others_call(void **state) {
  (void)state;
  if (!memory_is_sound_in_children()) skip();
  example e = middle_example();
  float *expected = results_of_one_thread(&e);
  fonio_set_num_threads(3);
  host_thread h = {&e, expected, calls() / 10, NULL};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, call_often, &h), 0);
  pid_t children[30];
  for (int i = 0; i < 30; i++) {
    if ((children[i] = fork()) == 0)
      _exit(gives(&e, expected) && fonio_set_num_threads(2) == FONIO_OK && gives(&e, expected) ? 0 : 1);
    sleep_ms(1);
  }
  assert_true(all_end_well(children, 30));
  for (int i = 0; i < 2; i++) {
    void *wrong;
    pthread_join(threads[i], &wrong);
    assert_null(wrong);
  }
  free(expected);
  drop(&e);
}

static void first_calls_may_come_at_once(void **state) {
  (void)state;
  char path[4096] = {0}, *const arguments[] = {path, "--first-calls", NULL};
  assert_true(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
  for (int i = 0; i < calls() / 100; i++) {
    pid_t children[4];
    for (int j = 0; j < 4; j++)
      assert_int_equal(posix_spawn(&children[j], path, NULL, NULL, arguments, environ), 0);
    assert_true(all_end_well(children, 4));
  }
}

static void *first_call(void *context) {
  pthread_barrier_wait(context);
  example e = middle_example();
  float *results = results_of(&e);
  drop(&e);
  return results;
}

static int first_calls(void) {
  setenv("FONIO_NUM_THREADS", "3", 1);
  enum { COUNT = 4 };
  pthread_t threads[COUNT];
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, COUNT);
  for (int i = 0; i < COUNT; i++)
    if (pthread_create(&threads[i], NULL, first_call, &start)) return 1;
  bool right = true;
  for (int i = 0; i < COUNT; i++) {
    void *results;
    pthread_join(threads[i], &results);
    right &= results != NULL;
    free(results);
  }
  return right && fonio_num_threads() == 3 && fonio_live_allocations() == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--num-threads") == 0) return printf("%d\n", fonio_num_threads()) < 0;
  if (argc > 1 && strcmp(argv[1], "--first-calls") == 0) return first_calls();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(does_each_piece_once),
      cmocka_unit_test(work_may_share_work_of_its_own),
      cmocka_unit_test(short_work_is_not_shared),
      cmocka_unit_test(short_work_that_comes_again_wakes_a_worker),
      cmocka_unit_test(results_do_not_depend_on_threads),
      cmocka_unit_test(workers_compute_under_the_callers_settings),
      cmocka_unit_test(as_many_take_part_as_the_workspace_holds),
      cmocka_unit_test(many_threads_may_run_one_plan),
      cmocka_unit_test(threads_may_be_set_while_others_call),
      cmocka_unit_test(a_host_may_run_the_tasks),
      cmocka_unit_test(threads_start_when_needed_and_can_be_ended),
      cmocka_unit_test(fewer_threads_where_none_can_be_started),
      cmocka_unit_test(a_late_worker_means_fewer_threads_for_a_while),
      cmocka_unit_test(a_late_worker_is_forgiven_after_many_good_calls),
      cmocka_unit_test(the_first_slow_call_is_forgiven),
      cmocka_unit_test(a_wrong_number_is_refused),
      cmocka_unit_test(environment_and_cores_give_the_first_number),
      cmocka_unit_test(threads_end_when_the_library_is_unloaded),
      cmocka_unit_test(children_have_threads_of_their_own),
      cmocka_unit_test(a_process_may_fork_while_others_call),
      cmocka_unit_test(first_calls_may_come_at_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
