/* Work that several threads claim piece by piece: what the library's own threads and a host's do alike. Each thread
 * begins in a part of the pieces that is its own and the same from call to call, and then takes what the others have
 * left, from the far end: were two to do pieces that lie beside each other, each core's prefetching would fetch what
 * the other one writes. */
#ifndef BASE_JOB_H
#define BASE_JOB_H

#include <fenv.h>
#include <stdatomic.h>

#include "base/threads.h"

typedef struct job {
  threads_work work;
  void *context;
  int64_t pieces;
  int64_t at_once; /* pieces of one claim */
  int slots;
  fenv_t floating_point;
  _Atomic uint64_t left[THREADS_MAX]; /* claims of each slot's part: the first one, and behind the last one */
} job;

/* Fills in `j`. `cost`: cycles for all pieces; `slots`: how many threads may take part. */
void job_init(job *j, int64_t pieces, double cost, int slots, threads_work work, void *context);

/* Claims the next pieces and does them; false if none was left. */
bool job_claim(job *j, int slot);

/* Claims until none is left, under the floating-point settings of the thread that made the job. */
void job_help(job *j, int slot);

/* How many claims there are in all. */
int64_t job_claims(const job *j);

#endif
