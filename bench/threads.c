/* What a second thread gains, and what it costs where another process has taken a core.
 *
 *   build/bench/threads [problem string] [seconds]
 *
 * One thread and all of them (FONIO_NUM_THREADS) take turns: first on their own, then beside a process that spins on
 * one core. A line tells the mean, the median and the 99th percentile of a call. */
#include <fonio.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LAYER "n1c128h28w28k128r3s3p1"
#define TURN_SECONDS 0.4
#define PAUSE_SECONDS 0.06 /* before each turn */
enum { ONE, ALL, WAYS };

typedef struct sample {
  double *times;
  int count, room;
} sample;

static double seconds_now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void *ones(const fonio_conv_problem *p, int64_t elements) {
  fonio_tensor *tensor = fonio_tensor_ones(p->dtype, FONIO_SHAPE(elements));
  return tensor ? fonio_tensor_data(tensor) : NULL;
}

/* What a run needs, kept until the program ends; `threads` take part because its workspace holds no more. */
static fonio_conv_buffers buffers_for(const fonio_conv_plan *plan, int threads) {
  const fonio_conv_problem *p = fonio_conv_plan_problem(plan);
  int64_t taps = p->in_channels / p->groups * p->kernel_height * p->kernel_width;
  const void *weight = ones(p, p->out_channels * taps);
  int64_t bytes = fonio_conv_plan_workspace_bytes(plan, threads);
  return (fonio_conv_buffers){
      .input = ones(p, p->batch * p->in_channels * p->in_height * p->in_width),
      .weight = weight,
      .packed = fonio_conv_plan_pack(plan, weight),
      .bias = ones(p, p->out_channels),
      .output = ones(p, p->batch * p->out_channels * p->out_height * p->out_width),
      .workspace = fonio_memory_take((size_t)bytes),
      .workspace_bytes = bytes,
  };
}

static void call_for(double seconds, const fonio_conv_plan *plan, const fonio_conv_buffers *buffers, sample *s) {
  nanosleep(&(struct timespec){0, (long)(1e9 * PAUSE_SECONDS)}, NULL);
  double start = seconds_now(), end = start + seconds, now;
  for (; start < end && s->count < s->room; start = now) {
    fonio_conv_plan_run(plan, buffers);
    now = seconds_now();
    s->times[s->count++] = now - start;
  }
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Mean, median, 99th percentile. */
static void figures(sample *s, double result[3]) {
  qsort(s->times, (size_t)s->count, sizeof *s->times, compare);
  result[0] = 0;
  for (int i = 0; i < s->count; i++)
    result[0] += s->times[i] / s->count;
  result[1] = s->times[s->count / 2];
  result[2] = s->times[(int)(0.99 * s->count)];
}

static void compare_threads(const char *title, double seconds, const fonio_conv_plan *plan,
                            const fonio_conv_buffers buffers[WAYS]) {
  double result[WAYS][3];
  sample samples[WAYS];
  for (int way = 0; way < WAYS; way++) {
    samples[way] = (sample){.room = (int)(seconds * 1e5) + 1};
    samples[way].times = malloc((size_t)samples[way].room * sizeof(double));
    call_for(0.05, plan, &buffers[way], &samples[way]);
    samples[way].count = 0;
  }
  for (double left = seconds; left > 0; left -= TURN_SECONDS)
    for (int way = 0; way < WAYS; way++)
      call_for(TURN_SECONDS, plan, &buffers[way], &samples[way]);
  for (int way = 0; way < WAYS; way++) {
    figures(&samples[way], result[way]);
    printf("%-24s %8d %9.3f %9.3f %9.3f   (%d calls)\n", way ? "" : title, way == ONE ? 1 : fonio_num_threads(),
           1e3 * result[way][0], 1e3 * result[way][1], 1e3 * result[way][2], samples[way].count);
    free(samples[way].times);
  }
  printf("%-24s %8s %9.2f %9.2f %9.2f\n", "", "gain", result[ONE][0] / result[ALL][0], result[ONE][1] / result[ALL][1],
         result[ONE][2] / result[ALL][2]);
}

/* A process that takes the last core that this one may use. It ends with this one at the latest. */
static pid_t spinning_process(void) {
  pid_t child = fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  cpu_set_t may, last;
  CPU_ZERO(&last);
  if (sched_getaffinity(0, sizeof may, &may) == 0)
    for (size_t core = CPU_SETSIZE; CPU_COUNT(&last) == 0 && core-- > 0;)
      if (CPU_ISSET(core, &may)) CPU_SET(core, &last);
  sched_setaffinity(0, sizeof last, &last);
  for (volatile unsigned turns = 0;; turns++)
    ;
}

int main(int argc, char **argv) {
  const char *text = argc > 1 ? argv[1] : LAYER;
  double seconds = argc > 2 ? atof(argv[2]) : 3;
  fonio_conv_problem problem;
  fonio_conv_plan *plan = NULL;
  if (fonio_conv_problem_parse(&problem, text) == FONIO_OK) plan = fonio_conv_plan_new(&problem, NULL);
  if (plan) {
    const fonio_conv_buffers buffers[WAYS] = {buffers_for(plan, 1), buffers_for(plan, fonio_num_threads())};
    printf("%s with %s, %s\n", text, fonio_conv_plan_algorithm(plan), fonio_isa());
    printf("%-24s %8s %9s %9s %9s\n", "milliseconds", "threads", "mean", "median", "99 %");
    compare_threads("quiet", seconds, plan, buffers);
    pid_t spinning = spinning_process();
    compare_threads("beside a busy process", seconds, plan, buffers);
    if (spinning > 0) kill(spinning, SIGKILL), waitpid(spinning, NULL, 0);
  }
  if (fonio_last_status() != FONIO_OK) fprintf(stderr, "threads: %s\n", fonio_last_error());
  return fonio_last_status() != FONIO_OK;
}
