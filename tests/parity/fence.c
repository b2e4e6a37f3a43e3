/* A malloc that catches whoever leaves his block, for test_fence.py to preload. From fence_on(true) on, a block ends
 * where a page ends, with nothing mapped behind it, and begins full of bytes that make no usual number. The bytes
 * beside it, up to where its pages begin and in what alignment leaves free behind it, are looked at when it is
 * released; its addresses are not used again. Needs glibc. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *block);

enum { PAGE = 4096, BESIDE = 0xC5, WITHIN = 0xA7 };

/* Smaller blocks are Python's own, mostly, and far too many. */
#define LEAST_BYTES 48

/* Addresses that nobody else uses. */
#define FIRST UINT64_C(0x100000000000)
#define LAST UINT64_C(0x300000000000)

static _Atomic bool on;
static _Atomic uint64_t next = FIRST;
static _Atomic long fenced;

/* In front of a block. */
typedef struct place {
  uint64_t first, end, bytes; /* of its pages, and its own */
} place;

void fence_on(bool yes) {
  atomic_store(&on, yes);
}

long fence_blocks(void) {
  return atomic_load(&fenced);
}

static bool is_fenced(const void *block) {
  return (uint64_t)block >= FIRST && (uint64_t)block < LAST;
}

static bool to_fence(size_t bytes) {
  return atomic_load(&on) && bytes >= LEAST_BYTES && bytes < LAST - FIRST;
}

static void *take(size_t alignment, size_t bytes) {
  if (alignment < sizeof(void *)) alignment = sizeof(void *);
  uint64_t pages = (bytes + alignment + sizeof(place) + PAGE - 1) / PAGE * PAGE;
  uint64_t first = atomic_fetch_add(&next, pages + PAGE), block = (first + pages - bytes) / alignment * alignment;
  void *wanted = (void *)(uintptr_t)first;
  if (first + pages >= LAST ||
      mmap(wanted, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != wanted)
    return __libc_memalign(alignment, bytes);
  memset(wanted, BESIDE, pages);
  place at = {first, first + pages, bytes};
  memcpy((char *)(uintptr_t)block - sizeof at, &at, sizeof at);
  memset((void *)(uintptr_t)block, WITHIN, bytes);
  atomic_fetch_add(&fenced, 1);
  return (void *)(uintptr_t)block;
}

static void fail(const char *message) {
  if (write(STDERR_FILENO, message, strlen(message)) < 0) _exit(1);
  abort();
}

static void expect_untouched(uint64_t from, uint64_t to, const char *message) {
  for (const unsigned char *byte = (const unsigned char *)(uintptr_t)from; from < to; from++)
    if (*byte++ != BESIDE) fail(message);
}

static place place_of(const void *block) {
  place at;
  memcpy(&at, (const char *)block - sizeof at, sizeof at);
  uint64_t own = (uint64_t)block;
  if (at.first % PAGE || at.end % PAGE || at.first < FIRST || at.first + sizeof at > own || at.end < own + at.bytes)
    fail("fence: written before a block\n");
  expect_untouched(at.first, own - sizeof at, "fence: written before a block\n");
  expect_untouched(own + at.bytes, at.end, "fence: written behind a block\n");
  return at;
}

void free(void *block) {
  if (!is_fenced(block)) {
    __libc_free(block);
    return;
  }
  place at = place_of(block);
  munmap((void *)(uintptr_t)at.first, at.end - at.first);
}

void *malloc(size_t bytes) {
  return to_fence(bytes) ? take(2 * sizeof(void *), bytes) : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t each) {
  size_t bytes;
  if (__builtin_mul_overflow(count, each, &bytes) || !to_fence(bytes)) return __libc_calloc(count, each);
  return memset(take(2 * sizeof(void *), bytes), 0, bytes);
}

void *realloc(void *block, size_t bytes) {
  if (!is_fenced(block)) return block ? __libc_realloc(block, bytes) : malloc(bytes);
  size_t before = place_of(block).bytes;
  void *moved = malloc(bytes);
  if (moved) {
    memcpy(moved, block, before < bytes ? before : bytes);
    free(block);
  }
  return moved;
}

void *memalign(size_t alignment, size_t bytes) {
  return to_fence(bytes) ? take(alignment, bytes) : __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
  return memalign(alignment, bytes);
}

int posix_memalign(void **block, size_t alignment, size_t bytes) {
  void *taken = memalign(alignment, bytes);
  if (!taken) return ENOMEM;
  *block = taken;
  return 0;
}
