/* The library's own threads. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/job.h"

/* Does all of `j` with at most `slots` threads, at least 2, the calling one among them. False, with nothing done, where
 * the threads are busy with another caller's work or none can be started. */
bool pool_work(job *j, int slots);

/* How many of `threads` should work together now: fewer for a while after working together did not pay. */
int pool_limit(int threads);

/* Whether a thread is awake and can take part at once. Where that is asked again and again, one is woken for next time.
 */
bool pool_is_awake(void);

/* Ends the threads, and forgets that any was late; waits for the work that they are at. They start again when needed.
 */
void pool_stop(void);

/* Makes forks and the end of the process safe. Has to come before the other functions. */
void pool_watch_process(void);

#endif
