/* An allocator that runs out: each call is made again and again, failing at its first, second, third ... block, until
 * it succeeds. Included after cmocka.h. */
#ifndef TESTS_UNIT_FAILING_H
#define TESTS_UNIT_FAILING_H

#include <stdlib.h>

#include "tensors.h"

static int failing_blocks_left; /* before each block fails; negative: never */

static inline void *failing_allocate(size_t alignment, size_t bytes, void *user) {
  void *pointer = NULL;
  (void)user;
  if (failing_blocks_left == 0) return NULL;
  failing_blocks_left -= failing_blocks_left > 0;
  return posix_memalign(&pointer, alignment, bytes) ? NULL : pointer;
}

static inline void failing_release(void *pointer, void *user) {
  (void)user;
  free(pointer);
}

static inline int failing_set_up(void **state) {
  (void)state;
  failing_blocks_left = -1;
  return fonio_set_allocator(&(fonio_allocator){failing_allocate, failing_release, NULL});
}

static inline int failing_tear_down(void **state) {
  int lost = nothing_is_lost(state);
  return lost ? lost : (int)fonio_set_allocator(NULL);
}

/* `work` returns whether it succeeded; what it leaves behind `clean` takes away. Every failure must be for lack of
 * memory and keep no block, `clean` done. Returns how many blocks a success takes. */
static inline int fails_until_it_succeeds(bool work(void *user), void clean(void *user), void *user) {
  int64_t before = fonio_live_allocations();
  for (int blocks = 0;; blocks++) {
    failing_blocks_left = blocks;
    fonio_clear_error();
    bool done = work(user);
    bool ran_out = failing_blocks_left == 0;
    failing_blocks_left = -1;
    if (!done) assert_int_equal(fonio_last_status(), FONIO_NO_MEMORY);
    if (done) assert_true(ran_out);
    clean(user);
    assert_int_equal(fonio_live_allocations(), before);
    if (done) return blocks;
  }
}

#endif
