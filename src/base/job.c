#include "base/job.h"

/* Shorter pieces are claimed several at a time, some 10 microseconds of work, so that claiming costs nothing beside it;
 * or less, so that each thread has some claims and they end together. */
#define CLAIMED_CYCLES 30000.0
#define CLAIMS 4

/* Claims are counted in half a word. */
#define MOST_CLAIMS (INT64_C(1) << 31)

static int64_t pieces_at_once(int64_t pieces, double cost, int slots) {
  double at_once = CLAIMED_CYCLES / cost * (double)pieces;
  int64_t most = pieces / slots / CLAIMS, least = pieces / MOST_CLAIMS + 1;
  if (at_once < (double)most) most = (int64_t)at_once;
  return most > least ? most : least;
}

void job_init(job *j, int64_t pieces, double cost, int slots, threads_work work, void *context) {
  j->work = work;
  j->context = context;
  j->pieces = pieces;
  j->at_once = pieces_at_once(pieces, cost, slots);
  j->slots = slots;
  fegetenv(&j->floating_point);
  uint64_t claims = (uint64_t)job_claims(j), from = 0, to;
  for (int slot = 0; slot < slots; slot++, from = to) {
    to = claims * ((uint64_t)slot + 1) / (uint64_t)slots;
    atomic_init(&j->left[slot], from << 32 | to);
  }
}

/* Takes the first claim of a part, or the last one; -1: none is left. */
static int64_t take(_Atomic uint64_t *part, bool first) {
  uint64_t left = atomic_load_explicit(part, memory_order_relaxed), from, to;
  do {
    from = left >> 32, to = left & UINT32_MAX;
    if (from == to) return -1;
  } while (!atomic_compare_exchange_weak_explicit(part, &left, first ? left + (UINT64_C(1) << 32) : left - 1,
                                                  memory_order_relaxed, memory_order_relaxed));
  return (int64_t)(first ? from : to - 1);
}

bool job_claim(job *j, int slot) {
  int64_t claim = take(&j->left[slot], true);
  for (int i = 1; i < j->slots && claim < 0; i++)
    claim = take(&j->left[(slot + i) % j->slots], false);
  if (claim < 0) return false;
  int64_t first = claim * j->at_once;
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
