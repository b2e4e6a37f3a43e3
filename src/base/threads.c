#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/pool.h"

/* Work that takes one core less than 20 microseconds (at 3 GHz) is done before a sleeping worker is up. */
#define SHARED_CYCLES 60000.0
/* Shorter work than that, down to this, is shared with a worker that is awake. */
#define SHORT_CYCLES 20000.0

static int at_most(int64_t threads) {
  return threads < THREADS_MAX ? (int)threads : THREADS_MAX;
}

/* ---- How many ---- */

static _Atomic int number_of_threads; /* 0: not known yet */

int threads_cores(void) {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return CPU_COUNT(&cores);
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? (int)online : 1;
}

int fonio_num_threads(void) {
  int threads = atomic_load(&number_of_threads);
  if (threads) return threads;
  const char *text = getenv("FONIO_NUM_THREADS");
  char *end = NULL;
  long wanted = text ? strtol(text, &end, 10) : 0;
  int found = at_most(wanted >= 1 && *end == 0 ? wanted : threads_cores());
  /* Another thread may have come first, or have set a number meanwhile: that one holds. */
  return atomic_compare_exchange_strong(&number_of_threads, &threads, found) ? found : threads;
}

/* ---- Whose ---- */

/* Function and user belong together, so a lock guards the pair. */
static pthread_mutex_t host_lock = PTHREAD_MUTEX_INITIALIZER;
static fonio_parallel_for host_function;
static void *host_user;

static void unlock_in_child(void) {
  host_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

static void watch(void) {
  pthread_atfork(NULL, NULL, unlock_in_child);
  pool_watch_process();
}

/* Has to come before a lock is taken that a child would find locked. */
static void watch_process(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch);
}

fonio_status fonio_set_num_threads(int threads) {
  if (threads < 1) return fail(FONIO_RUNTIME_ERROR, "set_num_threads expects a positive integer");
  watch_process();
  atomic_store(&number_of_threads, at_most(threads));
  pool_stop();
  return FONIO_OK;
}

void fonio_set_parallel_for(fonio_parallel_for function, void *user) {
  watch_process();
  pthread_mutex_lock(&host_lock);
  host_function = function;
  host_user = user;
  pthread_mutex_unlock(&host_lock);
  pool_stop();
}

static void host_task(void *context, int index) {
  job_help(context, index);
}

static fonio_parallel_for host_parallel_for(void **user) {
  pthread_mutex_lock(&host_lock);
  fonio_parallel_for function = host_function;
  *user = host_user;
  pthread_mutex_unlock(&host_lock);
  return function;
}

/* False if the host has no function for it. */
static bool host_work(job *j, int slots) {
  void *user;
  fonio_parallel_for function = host_parallel_for(&user);
  if (!function) return false;
  function(slots, host_task, j, user);
  /* Nothing is left now, unless the host broke its word and left out all the tasks. */
  while (job_claim(j, 0))
    ;
  return true;
}

/* ---- The work ---- */

int threads_wanted(int64_t pieces, double cost) {
  int64_t threads = fonio_num_threads();
  if (threads > pieces) threads = pieces;
  if (threads < 2 || cost < SHORT_CYCLES) return 1;
  double worth = cost / (SHARED_CYCLES / 2);
  bool is_short = worth < 2;
  if (is_short || (double)threads > worth) threads = is_short ? 2 : (int64_t)worth;
  threads = pool_limit((int)threads);
  if (!is_short || threads < 2) return (int)threads;
  watch_process();
  void *user;
  return !host_parallel_for(&user) && pool_is_awake() ? 2 : 1;
}

void threads_parallel_for(int64_t pieces, double cost, int slots, threads_work work, void *context) {
  slots = at_most(pieces < slots ? pieces : slots);
  if (slots > 1) {
    watch_process();
    job j;
    job_init(&j, pieces, cost, slots, work, context);
    if (host_work(&j, slots) || pool_work(&j, slots)) return;
  }
  for (int64_t piece = 0; piece < pieces; piece++)
    work(context, piece, 0);
}
