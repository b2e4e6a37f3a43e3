/* The yardstick: how many multiply-adds the processor can do, and how fast each level of memory can be read and
 * written. A small shared library that the benchmark calls beside each layer, because the clock of a processor changes
 * with what it does and with what its neighbours do. x86-64 only: elsewhere nothing is measured and every figure is 0.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BENCH_API __attribute__((visibility("default")))

/* ---- One instruction set ---- */

typedef struct peak_set {
  const char *name;
  int register_bytes;
  void (*multiply_add_f32)(int64_t rounds);
  void (*multiply_add_f64)(int64_t rounds);
  void (*read)(char *at, int64_t bytes);
  void (*write)(char *at, int64_t bytes);
} peak_set;

#define SUMS 12

#ifdef __x86_64__
#define PEAK_CLOBBERS                                                                                                  \
  "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",     \
      "xmm13", "xmm14", "xmm15"

#define PEAK_NAME(what) what##_avx2
#define PEAK_TARGET "avx2,fma"
#define PEAK_REGISTER "ymm"
#define PEAK_BYTES 32
#include "peak.inc"

#define PEAK_NAME(what) what##_avx512
#define PEAK_TARGET "avx512f"
#define PEAK_REGISTER "zmm"
#define PEAK_BYTES 64
#include "peak.inc"

static const peak_set avx2 = {"avx2", 32, multiply_add_f32_avx2, multiply_add_f64_avx2, read_avx2, write_avx2};
static const peak_set avx512 = {"avx512",    64,          multiply_add_f32_avx512, multiply_add_f64_avx512,
                                read_avx512, write_avx512};

/* The instruction set of that name, or NULL where the processor has it not. */
static const peak_set *find_set(const char *name) {
  if (strcmp(name, "avx512") == 0 && __builtin_cpu_supports("avx512f")) return &avx512;
  if (strcmp(name, "avx2") == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2;
  return NULL;
}
#else
static const peak_set *find_set(const char *name) {
  (void)name;
  return NULL;
}
#endif

/* ---- Timing ---- */

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* One thread's share of a measurement. */
typedef struct peak_job {
  const peak_set *set;
  int element_bytes;
  double seconds;
  atomic_bool *start;
  double best; /* out: flop each second */
} peak_job;

/* Small pieces until the time is over; the best piece counts, since the others may have shared the core. */
static void *add_up(void *given) {
  peak_job *job = given;
  const int64_t rounds = 20000;
  void (*multiply_add)(int64_t) = job->element_bytes == 4 ? job->set->multiply_add_f32 : job->set->multiply_add_f64;
  double flop = 2.0 * SUMS * (double)rounds * job->set->register_bytes / job->element_bytes;
  while (!atomic_load(job->start))
    sched_yield();
  double end = now() + job->seconds, before;
  while ((before = now()) < end) {
    multiply_add(rounds);
    double rate = flop / (now() - before);
    if (rate > job->best) job->best = rate;
  }
  return NULL;
}

#define MOST_THREADS 256

/* The most floating-point operations a second (a multiply-add counts as two) of `threads` threads together, with
 * numbers of 4 or 8 bytes. 0 where the processor lacks `isa` ("avx2", "avx512") or a thread could not be had. */
BENCH_API double peak_flops(const char *isa, int element_bytes, int threads, double seconds) {
  const peak_set *set = find_set(isa);
  if (!set || threads < 1 || threads > MOST_THREADS) return 0;
  pthread_t ids[MOST_THREADS];
  peak_job jobs[MOST_THREADS];
  atomic_bool start = false;
  for (int i = 0; i < threads; i++)
    jobs[i] = (peak_job){.set = set, .element_bytes = element_bytes, .seconds = seconds, .start = &start};
  int made = 1;
  while (made < threads && pthread_create(&ids[made], NULL, add_up, &jobs[made]) == 0)
    made++;
  atomic_store(&start, true);
  add_up(&jobs[0]);
  double sum = jobs[0].best;
  for (int i = 1; i < made; i++) {
    pthread_join(ids[i], NULL);
    sum += jobs[i].best;
  }
  return made == threads ? sum : 0;
}

/* Bytes a second that one thread reads, or writes, over and over in `bytes` bytes of memory; the best of several
 * stretches. 0 where the processor lacks `isa` or there is not so much memory. */
BENCH_API double peak_bandwidth(const char *isa, bool write, int64_t bytes, double seconds) {
  const peak_set *set = find_set(isa);
  bytes = bytes / 512 * 512;
  if (!set || bytes <= 0) return 0;
  char *memory = aligned_alloc(4096, (size_t)(bytes + 4095) / 4096 * 4096);
  if (!memory) return 0;
  memset(memory, 0, (size_t)bytes);
  int64_t passes = 1 + (1 << 22) / bytes; /* enough for the clock */
  double best = 0, end = now() + seconds, before;
  while ((before = now()) < end) {
    for (int64_t i = 0; i < passes; i++)
      (write ? set->write : set->read)(memory, bytes);
    double rate = (double)passes * (double)bytes / (now() - before);
    if (rate > best) best = rate;
  }
  free(memory);
  return best;
}
