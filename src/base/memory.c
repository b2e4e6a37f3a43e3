#include "base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"

/* Blocks of several such pages lie in them, where the system has them and asks to be asked: their first use costs a
 * fault for each page, and each miss of the TLB a walk. */
#define HUGE_PAGE ((size_t)2 << 20)

static void *default_allocate(size_t alignment, size_t bytes, void *user) {
  (void)user;
  void *pointer = NULL;
  bool large = bytes >= 2 * HUGE_PAGE;
  if (posix_memalign(&pointer, large ? HUGE_PAGE : alignment, bytes)) return NULL;
#ifdef MADV_HUGEPAGE
  if (large) madvise(pointer, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  return pointer;
}

static void default_release(void *pointer, void *user) {
  (void)user;
  free(pointer);
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
