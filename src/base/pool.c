/* One caller at a time owns the pool; another that comes meanwhile works alone. The owner puts up its job, lays out
 * tickets for as many workers as may take part, and works itself. A worker that takes a ticket claims pieces until none
 * is left, and departs. The owner then withdraws the tickets that are left and waits for those who took one, so it
 * never waits for a worker that has not begun. */
#include "base/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

/* How long a thread looks for what it waits for before it sleeps: about what waking up costs. */
#define SPIN_NS 30000
/* A worker looks this long while calls come as close together, if every thread has a core: a virtual core that sleeps
 * may be given to others, and comes back late. */
#define LONG_SPIN_NS 400000
/* A call that takes this much longer than one thread would have taken is one too slow: a thread lost its core. */
#define SLOW_NS 100000
/* One such call is forgiven after this many good ones, if they saved what it cost. The pool begins as if it had been
 * through that many, which saved so much: first calls are slow for reasons of their own. */
#define GOOD_CALLS 100
#define FIRST_SAVED_NS 5000000
/* Otherwise fewer threads work together for a while, doubled where the calls since the last slow one saved little. */
#define FIRST_PAUSE_NS 50000000
#define LONGEST_PAUSE_NS 1600000000

#define TICKETS 255u

static struct {
  pthread_mutex_t owner;
  /* The owner's: */
  pthread_t threads[THREADS_MAX];
  int workers;
  bool cannot_start_more;
  int64_t good_calls, saved; /* since the last slow call; nanoseconds */
  int64_t pause;
  /* The owner's, and theirs who hold a ticket: */
  job *job;
  int slots;
  /* Everyone's. The low bits of `tickets` (TICKETS) tell how many are left; the others change with every job, so that
   * a worker can wait for the next one. */
  _Alignas(64) _Atomic uint32_t tickets;
  _Atomic uint32_t sleepers;
  _Atomic uint32_t lookers; /* awake, and without work */
  _Atomic int core;         /* that the owner began on */
  _Atomic bool stop;
  _Alignas(64) _Atomic uint32_t departed;
  _Atomic bool owner_sleeps;
  /* At most `limit` threads before the time `paused_until`. */
  _Atomic int limit;
  _Atomic int64_t paused_until;
  _Atomic int64_t missed; /* when short work last found nobody awake */
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .good_calls = GOOD_CALLS, .saved = FIRST_SAVED_NS};

/* ---- Waiting ---- */

/* A moment, to a thread that has looked for so long. Later moments are offered to whoever wants the core. */
static void relax(int64_t looked) {
  if (looked > SPIN_NS) {
    sched_yield();
    return;
  }
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

/* ---- Workers ---- */

/* Sleeps on any core but the owner's. Linux in a virtual machine, where an idle core may look taken, else wakes a
 * worker on the core of its waker, where the two would take turns. */
static void sleep_apart(uint32_t tickets) {
  cpu_set_t all, others;
  bool known = sched_getaffinity(0, sizeof all, &all) == 0;
  if (known) {
    others = all;
    CPU_CLR((size_t)atomic_load(&pool.core), &others);
    sched_setaffinity(0, sizeof others, &others); /* fails where there is but one */
  }
  sleep_while(&pool.tickets, tickets);
  if (known) sched_setaffinity(0, sizeof all, &all);
}

/* Whether there are tickets, or the pool stops, within `spin`. Returns for how long it looked, and the tickets that it
 * saw last. */
static bool look_for_tickets(int64_t spin, int64_t *waited, uint32_t *tickets) {
  int64_t began = clock_ns();
  bool found = false;
  atomic_fetch_add(&pool.lookers, 1);
  for (*waited = 0; !found && *waited < spin; *waited = clock_ns() - began) {
    relax(*waited);
    *tickets = atomic_load(&pool.tickets);
    /* `stop` is set before `tickets` changes for it, and read after: whoever sleeps on these tickets will be woken. */
    found = *tickets & TICKETS || atomic_load(&pool.stop);
  }
  atomic_fetch_sub(&pool.lookers, 1);
  return found;
}

/* Waits until there are tickets, or the pool stops: awake for a while, then asleep. Returns for how long; `last` is
 * what it returned before. */
static int64_t wait_for_tickets(bool has_core, int64_t last) {
  int64_t began = clock_ns(), waited;
  uint32_t tickets;
  if (look_for_tickets(has_core && last < LONG_SPIN_NS ? LONG_SPIN_NS : SPIN_NS, &waited, &tickets)) return waited;
  atomic_fetch_add(&pool.sleepers, 1);
  if (has_core)
    sleep_apart(tickets);
  else
    sleep_while(&pool.tickets, tickets);
  atomic_fetch_sub(&pool.sleepers, 1);
  return clock_ns() - began;
}

static void take_part(int slot) {
  job_help(pool.job, slot);
  atomic_fetch_add(&pool.departed, 1);
  if (atomic_load(&pool.owner_sleeps)) wake(&pool.departed, 1);
}

/* `has_core`: of its own; or NULL. */
static void *worker(void *has_core) {
  int64_t waited = 0;
  while (!atomic_load(&pool.stop)) {
    uint32_t tickets = atomic_load(&pool.tickets), left = tickets & TICKETS;
    if (left == 0)
      waited = wait_for_tickets(has_core, waited);
    else if (atomic_compare_exchange_strong(&pool.tickets, &tickets, tickets - 1))
      take_part(pool.slots - (int)left);
  }
  return NULL;
}

/* `count` tickets for a new job, and up to `sleepers` are woken. */
static void lay_out_tickets(uint32_t count, int sleepers) {
  uint32_t next_job = (atomic_load(&pool.tickets) | TICKETS) + 1;
  atomic_store(&pool.tickets, next_job + count);
  if (sleepers > 0 && atomic_load(&pool.sleepers)) wake(&pool.tickets, sleepers);
}

/* ---- Start and stop ---- */

static void stop_workers(void) {
  atomic_store(&pool.stop, true);
  lay_out_tickets(0, THREADS_MAX);
  while (pool.workers > 0)
    pthread_join(pool.threads[--pool.workers], NULL);
  atomic_store(&pool.stop, false);
  atomic_store(&pool.paused_until, 0);
  pool.good_calls = GOOD_CALLS;
  pool.saved = FIRST_SAVED_NS;
  pool.pause = 0;
  pool.cannot_start_more = false;
}

void pool_stop(void) {
  pthread_mutex_lock(&pool.owner);
  stop_workers();
  pthread_mutex_unlock(&pool.owner);
}

/* At the end of the process, or when the library is unloaded. */
static void stop_at_exit(void) {
  if (pthread_mutex_trylock(&pool.owner)) return;
  stop_workers();
  pthread_mutex_unlock(&pool.owner);
}

/* A child has only the thread that forked: it begins with an empty pool that nobody owns. */
static void begin_anew(void) {
  pool.owner = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  pool.workers = 0;
  pool.cannot_start_more = false;
  atomic_store(&pool.tickets, 0);
  atomic_store(&pool.sleepers, 0);
  atomic_store(&pool.lookers, 0);
  atomic_store(&pool.owner_sleeps, false);
  atomic_store(&pool.stop, false);
}

static bool watched;

static void watch(void) {
  watched = pthread_atfork(NULL, NULL, begin_anew) == 0 && atexit(stop_at_exit) == 0;
}

void pool_watch_process(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch);
}

/* Until there are `wanted`, or no more can be started. The host's signals are none of the workers' business, except for
 * those that a thread brings upon itself. */
static void start_workers(int wanted) {
  if (pool.workers >= wanted || pool.cannot_start_more || !watched) return;
  int cores = threads_cores();
  sigset_t blocked, before;
  sigfillset(&blocked);
  const int own[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
  for (size_t i = 0; i < sizeof own / sizeof *own; i++)
    sigdelset(&blocked, own[i]);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  while (pool.workers < wanted && !pool.cannot_start_more)
    if (pthread_create(&pool.threads[pool.workers], NULL, worker, pool.workers < cores - 1 ? &pool : NULL))
      pool.cannot_start_more = true;
    else
      pool.workers++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- Whether it pays ---- */

static void pause_threads(int64_t now, bool paid) {
  pool.pause = paid || !pool.pause ? FIRST_PAUSE_NS : 2 * pool.pause;
  if (pool.pause > LONGEST_PAUSE_NS) pool.pause = LONGEST_PAUSE_NS;
  atomic_store(&pool.limit, pool.slots / 2);
  atomic_store(&pool.paused_until, now + pool.pause);
}

/* A call that began and ended then; one thread would have taken `alone` in its place. */
static void judge(int64_t began, int64_t ended, int64_t alone) {
  int64_t saved = alone - (ended - began);
  if (saved >= -SLOW_NS) {
    pool.good_calls++;
    pool.saved += saved;
    return;
  }
  bool paid = pool.saved >= -2 * saved;
  if (pool.good_calls < GOOD_CALLS || !paid) pause_threads(ended, paid);
  pool.good_calls = pool.saved = 0;
}

int pool_limit(int threads) {
  int limit = atomic_load(&pool.limit);
  return threads > limit && clock_ns() < atomic_load(&pool.paused_until) ? limit : threads;
}

/* Short work that comes again within the time for which a woken worker looks for it is worth waking one. */
bool pool_is_awake(void) {
  if (atomic_load(&pool.lookers)) return true;
  int64_t now = clock_ns(), last = atomic_exchange(&pool.missed, now);
  if (now - last > SPIN_NS || pthread_mutex_trylock(&pool.owner)) return false;
  start_workers(1);
  lay_out_tickets(0, 1);
  pthread_mutex_unlock(&pool.owner);
  return false;
}

/* ---- The owner's work ---- */

/* What the owner's own claims took; the longest may be the one during which it lost its core. */
typedef struct pace {
  int64_t claims, total, longest;
} pace;

static pace work_at(job *j, int64_t began) {
  pace p = {0, 0, 0};
  for (; job_claim(j, 0); p.claims++) {
    int64_t took = clock_ns() - began - p.total;
    p.total += took;
    if (took > p.longest) p.longest = took;
  }
  return p;
}

/* A worker that kept its core is done within a claim. */
static void wait_for(uint32_t workers, int64_t claim) {
  int64_t began = clock_ns(), waited = 0;
  uint32_t departed;
  for (; (departed = atomic_load(&pool.departed)) != workers; waited = clock_ns() - began)
    if (waited < claim || waited < SPIN_NS) {
      relax(waited);
    } else {
      atomic_store(&pool.owner_sleeps, true);
      sleep_while(&pool.departed, departed);
    }
  atomic_store(&pool.owner_sleeps, false);
}

static void work_together(void) {
  uint32_t workers = (uint32_t)pool.slots - 1;
  atomic_store(&pool.departed, 0);
  atomic_store(&pool.core, sched_getcpu());
  lay_out_tickets(workers, (int)workers - (int)atomic_load(&pool.lookers));
  int64_t began = clock_ns();
  pace p = work_at(pool.job, began);
  uint32_t began_too = workers - (atomic_fetch_and(&pool.tickets, ~TICKETS) & TICKETS);
  wait_for(began_too, p.longest);
  if (p.claims == 0 || began_too == 0) return; /* nothing to judge by, or nobody to judge */
  int64_t usual = p.claims > 1 ? (p.total - p.longest) / (p.claims - 1) : p.total;
  judge(began, clock_ns(), usual * job_claims(pool.job));
}

bool pool_work(job *j, int slots) {
  if (pthread_mutex_trylock(&pool.owner)) return false;
  start_workers(slots - 1);
  bool has_workers = pool.workers > 0;
  if (has_workers) {
    pool.job = j;
    pool.slots = slots <= pool.workers ? slots : pool.workers + 1;
    work_together();
  }
  pthread_mutex_unlock(&pool.owner);
  return has_workers;
}
