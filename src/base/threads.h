/* Work cut into pieces, done by several threads at once. */
#ifndef BASE_THREADS_H
#define BASE_THREADS_H

#include "fonio/base.h"

/* The most threads that ever work together, the caller among them. */
#define THREADS_MAX 256

/* Does the piece `piece`. `slot` is the number of the thread among those that work together, from 0 on: what has that
 * number (a workspace) belongs to the thread while the piece is done. */
typedef void (*threads_work)(void *context, int64_t piece, int slot);

/* How many cores the process may use. */
int threads_cores(void);

/* How many threads should share `pieces` pieces for which one core would need `cost` cycles in all: at least 1, and no
 * more than fonio_num_threads(). 1 where the work is too short to share, and for a while after a core was lost. The
 * answer may be another one from call to call: short work is shared only where a worker happens to be awake. */
int threads_wanted(int64_t pieces, double cost);

/* Calls work(context, piece, slot) once for each piece from 0 to `pieces` - 1, at most `slots` of them at once, and
 * returns when all are done. Which thread does which piece, and in what order, is chance: no piece may depend on
 * another. The calling thread works too; it works alone where the threads are busy with another caller's work, and
 * where they cannot be started. Every thread computes under the caller's floating-point settings. */
void threads_parallel_for(int64_t pieces, double cost, int slots, threads_work work, void *context);

#endif
