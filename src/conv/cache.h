/* What a layer keeps from one call to the next: plans, and packed weights, which the plans of all image sizes share. */
#ifndef CONV_CACHE_H
#define CONV_CACHE_H

#include "conv/plan.h"

typedef struct conv_cache conv_cache;

/* What tells whether a weight is still the one that was packed. */
typedef struct conv_weight_state {
  int64_t memory;  /* the number of the memory that it lies in: no other memory ever had it */
  int64_t version; /* counts the writes to that memory */
  bool watched;    /* every write is counted; false: only the values can tell */
} conv_weight_state;

conv_cache *conv_cache_new(void);

/* NULL is ignored. */
void conv_cache_release(conv_cache *cache);

/* Runs the plan for `problem`, made anew or found in the cache; so is the packed weight, except where it is no longer
 * what `buffers->weight` holds. `state` is read before any of the values. Without a cache (NULL) nothing is kept, and
 * `state` may be NULL. Many threads may do so at once: one that finds the cache taken does without it.
 * FONIO_NO_MEMORY; the output is then untouched. */
fonio_status conv_cache_run(conv_cache *cache, const fonio_conv_problem *problem, fonio_conv_direction direction,
                            const conv_weight_state *state, const fonio_conv_buffers *buffers);

#endif
