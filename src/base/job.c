#include "base/job.h"

/* Shorter pieces are claimed several at a time, some 10 microseconds of work, so that claiming costs nothing beside it;
 * or less, so that each thread has some claims and they end together. */
#define CLAIMED_CYCLES 30000.0
#define CLAIMS 4

void job_init(job *j, int64_t pieces, double cost, int slots, threads_work work, void *context) {
  j->work = work;
  j->context = context;
  j->pieces = pieces;
  double at_once = CLAIMED_CYCLES / cost * (double)pieces;
  int64_t most = pieces / slots / CLAIMS;
  j->at_once = at_once <= 1 || most <= 1 ? 1 : at_once < (double)most ? (int64_t)at_once : most;
  fegetenv(&j->floating_point);
  atomic_init(&j->next, 0);
}

bool job_claim(job *j, int slot) {
  int64_t first = atomic_fetch_add_explicit(&j->next, j->at_once, memory_order_relaxed);
  if (first >= j->pieces) return false;
  int64_t end = j->pieces - first < j->at_once ? j->pieces : first + j->at_once;
  for (int64_t piece = first; piece < end; piece++)
    j->work(j->context, piece, slot);
  return true;
}

void job_help(job *j, int slot) {
  /* Rounding and the treatment of tiny numbers are settings of a thread, and the result must not depend on which one
   * does a piece. */
  fenv_t own;
  fegetenv(&own);
  fesetenv(&j->floating_point);
  while (job_claim(j, slot))
    ;
  fesetenv(&own);
}

int64_t job_claims(const job *j) {
  return (j->pieces + j->at_once - 1) / j->at_once;
}
