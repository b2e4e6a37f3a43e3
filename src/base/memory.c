#include "base/memory.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"

/* Blocks of several such pages lie in them, where the system has them and asks to be asked: their first use costs a
 * fault for each page, and each miss of the TLB a walk. */
#define HUGE_PAGE ((size_t)2 << 20)

/* ---- Large blocks that were given back, for who takes next: the system clears each page of a new one when it is first
 * used, which took a training step longer than its arithmetic. AddressSanitizer is to see every block given back. */
enum { MOST_KEPT = 64, LEAST_BYTES = 1 << 16, MOST_BYTES = 1 << 26 };
#ifdef __SANITIZE_ADDRESS__
static const bool keeps = false;
#else
static const bool keeps = true;
#endif

static struct {
  atomic_flag taken; /* for a moment only: who finds it so does without, as after a fork in such a moment */
  bool watched;
  int count;
  size_t bytes;
  struct kept_block {
    void *pointer;
    size_t bytes;
  } blocks[MOST_KEPT]; /* in the order in which they came */
} kept = {.taken = ATOMIC_FLAG_INIT};

static bool take_kept(void) {
  return keeps && !atomic_flag_test_and_set_explicit(&kept.taken, memory_order_acquire);
}

static void give_kept(void) {
  atomic_flag_clear_explicit(&kept.taken, memory_order_release);
}

static void *remove_kept(int place) {
  void *pointer = kept.blocks[place].pointer;
  kept.bytes -= kept.blocks[place].bytes;
  kept.count--;
  memmove(&kept.blocks[place], &kept.blocks[place + 1], (size_t)(kept.count - place) * sizeof *kept.blocks);
  return pointer;
}

/* The smallest one that is large enough, and not twice so; or NULL. */
static void *find_kept(size_t bytes) {
  int best = -1;
  if (bytes < LEAST_BYTES || !take_kept()) return NULL;
  for (int i = 0; i < kept.count; i++) {
    size_t here = kept.blocks[i].bytes;
    if (here >= bytes && here / 2 < bytes && (best < 0 || here < kept.blocks[best].bytes)) best = i;
  }
  void *pointer = best < 0 ? NULL : remove_kept(best);
  give_kept();
  return pointer;
}

static void keep_none(void) {
  if (!take_kept()) return;
  while (kept.count)
    free(remove_kept(kept.count - 1));
  give_kept();
}

/* In place of those that nobody has asked for longest. */
static bool keep(void *pointer) {
  size_t bytes = malloc_usable_size(pointer);
  if (bytes < LEAST_BYTES || bytes > MOST_BYTES || !take_kept()) return false;
  if (!kept.watched) kept.watched = atexit(keep_none) == 0; /* which comes before the library is unloaded, too */
  while (kept.count == MOST_KEPT || kept.bytes + bytes > MOST_BYTES)
    free(remove_kept(0));
  kept.blocks[kept.count++] = (struct kept_block){pointer, bytes};
  kept.bytes += bytes;
  give_kept();
  return true;
}

/* ---- Allocators ---- */

static void *new_block(size_t alignment, size_t bytes) {
  void *pointer = NULL;
  bool large = bytes >= 2 * HUGE_PAGE;
  if (posix_memalign(&pointer, large ? HUGE_PAGE : alignment, bytes)) return NULL;
#ifdef MADV_HUGEPAGE
  if (large) madvise(pointer, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  return pointer;
}

static void *default_allocate(size_t alignment, size_t bytes, void *user) {
  (void)user;
  void *pointer = find_kept(bytes);
  if (!pointer) pointer = new_block(alignment, bytes);
  if (pointer) return pointer;
  keep_none();
  return new_block(alignment, bytes);
}

static void default_release(void *pointer, void *user) {
  (void)user;
  if (!keep(pointer)) free(pointer);
}

static const fonio_allocator default_allocator = {default_allocate, default_release, NULL};
static fonio_allocator allocator = {default_allocate, default_release, NULL};
static _Atomic int64_t live_allocations;

fonio_status fonio_set_allocator(const fonio_allocator *chosen) {
  if (atomic_load(&live_allocations) != 0)
    return fail(FONIO_RUNTIME_ERROR,
                "the allocator cannot be changed while %lld blocks of the library's memory are in use",
                (long long)atomic_load(&live_allocations));
  if (chosen && (!chosen->allocate || !chosen->release))
    return fail(FONIO_VALUE_ERROR, "an allocator needs both an allocate and a release function");
  keep_none();
  allocator = chosen ? *chosen : default_allocator;
  return FONIO_OK;
}

int64_t fonio_live_allocations(void) {
  return atomic_load(&live_allocations);
}

void *memory_take(int64_t bytes) {
  /* A block of 0 bytes still needs an address of its own; and PTRDIFF_MAX bounds what pointers can be subtracted over.
   */
  void *pointer = NULL;
  if (bytes >= 0 && bytes < INT64_MAX / 2)
    pointer = allocator.allocate(MEMORY_ALIGNMENT, bytes ? (size_t)bytes : 1, allocator.user);
  if (!pointer) return fail_null(FONIO_NO_MEMORY, "not enough memory: %lld bytes were asked for", (long long)bytes);
  atomic_fetch_add(&live_allocations, 1);
  return pointer;
}

void *memory_take_zeroed(int64_t bytes) {
  void *pointer = memory_take(bytes);
  if (pointer) memset(pointer, 0, (size_t)bytes);
  return pointer;
}

char *memory_copy_text(const char *text) {
  size_t bytes = strlen(text) + 1;
  char *copy = memory_take((int64_t)bytes);
  if (copy) memcpy(copy, text, bytes);
  return copy;
}

void memory_give(void *pointer) {
  if (!pointer) return;
  allocator.release(pointer, allocator.user);
  atomic_fetch_sub(&live_allocations, 1);
}

void *fonio_memory_take(size_t bytes) {
  return memory_take(bytes < INT64_MAX ? (int64_t)bytes : INT64_MAX);
}

void fonio_memory_give(void *pointer) {
  memory_give(pointer);
}
