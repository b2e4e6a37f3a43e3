/* The library's own threads.
 *
 * One caller at a time owns the pool; another that comes meanwhile works alone. The owner writes down its job, lays out
 * tickets for as many workers as may take part, and works itself. A worker that takes a ticket claims pieces until none
 * is left, and departs. The owner then withdraws the tickets that are left and waits for those who took one, so it
 * never waits for a worker that has not begun. */
#include "base/threads.h"

#include <fenv.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"

/* Work that takes one core less than 20 microseconds (at 3 GHz) is done before a sleeping worker is up. */
#define SHARED_CYCLES 60000.0
/* Shorter pieces are claimed several at a time, so that claiming costs nothing beside the work. */
#define CLAIMED_CYCLES 30000.0
/* How long a thread looks for what it waits for before it sleeps: about what waking up costs. */
#define SPIN_NS 30000
/* A worker that keeps the owner waiting this long, and this many times longer than a piece takes, has lost its core. */
#define LATE_NS 200000
#define LATE_PIECES 4
/* How long fewer threads are used then; doubled each time that it happens soon again. */
#define FIRST_PAUSE_NS 50000000
#define LONGEST_PAUSE_NS 1600000000

typedef struct job {
  threads_work work;
  void *context;
  int64_t pieces, claimed_at_once;
  fenv_t floating_point;
  _Atomic int64_t next;
} job;

static struct {
  pthread_mutex_t owner;
  /* The owner's: */
  pthread_t threads[THREADS_MAX];
  int workers;
  bool cannot_start_more;
  int64_t pause;
  job job;
  int slots; /* of the job */
  /* Everyone's. In its low 8 bits `tickets` holds how many more workers may take part; the bits above change with every
   * job, so that a worker can wait for the next one. */
  _Alignas(64) _Atomic uint32_t tickets;
  _Atomic uint32_t sleepers;
  _Atomic bool stop;
  _Alignas(64) _Atomic uint32_t departed;
  _Atomic bool owner_sleeps;
  /* At most `limit` threads before the time `paused_until`. */
  _Atomic int limit;
  _Atomic int64_t paused_until;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER};

#define TICKET_BITS 255u

/* The host's threads in place of these. Function and user belong together, so a lock guards the pair. */
static pthread_mutex_t host_lock = PTHREAD_MUTEX_INITIALIZER;
static fonio_parallel_for host_function;
static void *host_user;

/* ---- Time and sleep ---- */

static int64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Sleeps while *word is `value`; may also return for no reason. */
static void sleep_while(_Atomic uint32_t *word, uint32_t value) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word, int threads) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, threads, NULL, NULL, 0);
}

/* ---- What every thread of a job does ---- */

/* Claims and does pieces until none is left; returns how often it claimed. */
static int64_t work_on(job *j, int slot) {
  /* Copied, because the cache line goes to and fro with `next`. */
  const threads_work work = j->work;
  void *const context = j->context;
  const int64_t pieces = j->pieces, at_once = j->claimed_at_once;
  int64_t claims = 0;
  for (;; claims++) {
    int64_t first = atomic_fetch_add_explicit(&j->next, at_once, memory_order_relaxed);
    if (first >= pieces) return claims;
    int64_t end = pieces - first < at_once ? pieces : first + at_once;
    for (int64_t piece = first; piece < end; piece++)
      work(context, piece, slot);
  }
}

/* The same on a thread that is not the caller's: rounding and the treatment of tiny numbers are settings of a thread,
 * and the result must not depend on which one did a piece. */
static void help_with(job *j, int slot) {
  fenv_t own;
  fegetenv(&own);
  fesetenv(&j->floating_point);
  work_on(j, slot);
  fesetenv(&own);
}

static void describe(job *j, int64_t pieces, double cost, threads_work work, void *context) {
  j->work = work;
  j->context = context;
  j->pieces = pieces;
  double at_once = CLAIMED_CYCLES / cost * (double)pieces;
  j->claimed_at_once = at_once <= 1 ? 1 : at_once < (double)pieces ? (int64_t)at_once : pieces;
  fegetenv(&j->floating_point);
  atomic_store_explicit(&j->next, 0, memory_order_relaxed);
}

/* ---- Workers ---- */

/* Waits until there are tickets, or the pool stops: awake for a while, then asleep. */
static void wait_for_tickets(void) {
  uint32_t tickets;
  int64_t deadline = now_ns() + SPIN_NS;
  do {
    relax();
    tickets = atomic_load(&pool.tickets);
    /* `stop` is set before `tickets` changes for it, so it is read after: whoever sleeps on these tickets is woken. */
    if (tickets & TICKET_BITS || atomic_load(&pool.stop)) return;
  } while (now_ns() < deadline);
  atomic_fetch_add(&pool.sleepers, 1);
  sleep_while(&pool.tickets, tickets);
  atomic_fetch_sub(&pool.sleepers, 1);
}

static void take_part(int slot) {
  help_with(&pool.job, slot);
  atomic_fetch_add(&pool.departed, 1);
  if (atomic_load(&pool.owner_sleeps)) wake(&pool.departed, 1);
}

static void *worker(void *unused) {
  while (!atomic_load(&pool.stop)) {
    uint32_t tickets = atomic_load(&pool.tickets), left = tickets & TICKET_BITS;
    if (left == 0)
      wait_for_tickets();
    else if (atomic_compare_exchange_strong(&pool.tickets, &tickets, tickets - 1))
      take_part(pool.slots - (int)left);
  }
  return unused;
}

/* Changes `tickets` to `count` of a new job, and wakes whoever sleeps. */
static void lay_out_tickets(uint32_t count) {
  uint32_t next_job = (atomic_load(&pool.tickets) | TICKET_BITS) + 1;
  atomic_store(&pool.tickets, next_job + count);
  if (atomic_load(&pool.sleepers)) wake(&pool.tickets, count ? (int)count : THREADS_MAX);
}

/* ---- Start and stop; the owner's ---- */

/* A child has only the thread that forked: it begins with an empty pool and locks that nobody holds. */
static void begin_anew(void) {
  host_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  pool.owner = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  pool.workers = 0;
  pool.cannot_start_more = false;
  atomic_store(&pool.tickets, 0);
  atomic_store(&pool.sleepers, 0);
  atomic_store(&pool.owner_sleeps, false);
  atomic_store(&pool.stop, false);
}

static void stop_workers(void) {
  atomic_store(&pool.stop, true);
  lay_out_tickets(0);
  while (pool.workers > 0)
    pthread_join(pool.threads[--pool.workers], NULL);
  atomic_store(&pool.stop, false);
  pool.cannot_start_more = false;
}

static void stop_at_exit(void) {
  if (pthread_mutex_trylock(&pool.owner)) return;
  stop_workers();
  pthread_mutex_unlock(&pool.owner);
}

static bool watched;

static void watch(void) {
  watched = pthread_atfork(NULL, NULL, begin_anew) == 0 && atexit(stop_at_exit) == 0;
}

/* Has to come before any lock is taken that a child would find locked. */
static void watch_process(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch);
}

/* Until there are `wanted`, or no more can be started. The host's signals are none of the workers' business, except for
 * those that a thread brings upon itself. */
static void start_workers(int wanted) {
  if (pool.workers >= wanted || pool.cannot_start_more || !watched) return;
  sigset_t blocked, before;
  sigfillset(&blocked);
  const int own[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
  for (size_t i = 0; i < sizeof own / sizeof *own; i++)
    sigdelset(&blocked, own[i]);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  while (pool.workers < wanted && !pool.cannot_start_more)
    if (pthread_create(&pool.threads[pool.workers], NULL, worker, NULL))
      pool.cannot_start_more = true;
    else
      pool.workers++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- The owner of a job ---- */

/* After a worker was late. */
static void pause_threads(int64_t now) {
  bool again = now - atomic_load(&pool.paused_until) < 8 * pool.pause;
  pool.pause = !again ? FIRST_PAUSE_NS : 2 * pool.pause < LONGEST_PAUSE_NS ? 2 * pool.pause : LONGEST_PAUSE_NS;
  atomic_store(&pool.limit, pool.slots / 2);
  atomic_store(&pool.paused_until, now + pool.pause);
}

static void wait_for(uint32_t workers) {
  int64_t deadline = now_ns() + SPIN_NS;
  uint32_t departed;
  while ((departed = atomic_load(&pool.departed)) != workers)
    if (now_ns() < deadline) {
      relax();
    } else {
      atomic_store(&pool.owner_sleeps, true);
      sleep_while(&pool.departed, departed);
    }
  atomic_store(&pool.owner_sleeps, false);
}

static void work_with_workers(void) {
  atomic_store(&pool.departed, 0);
  lay_out_tickets((uint32_t)pool.slots - 1);
  int64_t began = now_ns();
  int64_t claims = work_on(&pool.job, 0);
  uint32_t left = atomic_fetch_and(&pool.tickets, ~TICKET_BITS) & TICKET_BITS;
  int64_t finished = now_ns();
  wait_for((uint32_t)pool.slots - 1 - left);
  int64_t waited = now_ns() - finished;
  if (claims > 0 && waited > LATE_NS && waited > LATE_PIECES * (finished - began) / claims)
    pause_threads(finished + waited);
}

/* ---- The work ---- */

static int most(int64_t threads) {
  return threads < THREADS_MAX ? (int)threads : THREADS_MAX;
}

/* Whether the pool could be had, and did it. */
static bool done_by_pool(int64_t pieces, double cost, int slots, threads_work work, void *context) {
  if (pthread_mutex_trylock(&pool.owner)) return false;
  start_workers(slots - 1);
  bool has_workers = pool.workers > 0;
  if (has_workers) {
    pool.slots = slots <= pool.workers ? slots : pool.workers + 1;
    describe(&pool.job, pieces, cost, work, context);
    work_with_workers();
  }
  pthread_mutex_unlock(&pool.owner);
  return has_workers;
}

static void host_task(void *context, int index) {
  help_with(context, index);
}

static bool done_by_host(int64_t pieces, double cost, int slots, threads_work work, void *context) {
  pthread_mutex_lock(&host_lock);
  fonio_parallel_for function = host_function;
  void *user = host_user;
  pthread_mutex_unlock(&host_lock);
  if (!function) return false;
  job j;
  describe(&j, pieces, cost, work, context);
  function(slots, host_task, &j, user);
  /* Nothing is left unless the host broke its word and left out tasks. */
  work_on(&j, 0);
  return true;
}

void threads_parallel_for(int64_t pieces, double cost, int slots, threads_work work, void *context) {
  slots = most(pieces < slots ? pieces : slots);
  if (slots > 1) {
    watch_process();
    if (done_by_host(pieces, cost, slots, work, context) || done_by_pool(pieces, cost, slots, work, context)) return;
  }
  for (int64_t piece = 0; piece < pieces; piece++)
    work(context, piece, 0);
}

int threads_wanted(int64_t pieces, double cost) {
  double worth = cost / (SHARED_CYCLES / 2);
  if (pieces < 2 || worth < 2) return 1;
  int64_t threads = fonio_num_threads();
  if (threads > pieces) threads = pieces;
  if ((double)threads > worth) threads = (int64_t)worth;
  if (threads > 1 && now_ns() < atomic_load(&pool.paused_until)) {
    int limit = atomic_load(&pool.limit);
    if (threads > limit) threads = limit;
  }
  return (int)threads;
}

/* ---- Settings ---- */

static _Atomic int number_of_threads; /* 0: not known yet */

static int cores_of_process(void) {
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
  int found = most(wanted >= 1 && *end == 0 ? wanted : cores_of_process());
  /* Another thread may have come first, or have set a number meanwhile: that one holds. */
  return atomic_compare_exchange_strong(&number_of_threads, &threads, found) ? found : threads;
}

fonio_status fonio_set_num_threads(int threads) {
  if (threads < 1) return fail(FONIO_RUNTIME_ERROR, "set_num_threads expects a positive integer");
  watch_process();
  pthread_mutex_lock(&pool.owner);
  atomic_store(&number_of_threads, most(threads));
  atomic_store(&pool.paused_until, 0);
  stop_workers();
  pthread_mutex_unlock(&pool.owner);
  return FONIO_OK;
}

void fonio_set_parallel_for(fonio_parallel_for function, void *user) {
  watch_process();
  pthread_mutex_lock(&host_lock);
  host_function = function;
  host_user = user;
  pthread_mutex_unlock(&host_lock);
}
