/* Arrays of random numbers that end where the memory does. Included after cmocka.h. */
#ifndef TESTS_UNIT_FENCED_H
#define TESTS_UNIT_FENCED_H

#include <sys/mman.h>
#include <unistd.h>

#include "fonio.h"

/* Memory whose last byte is the last before a page that must not be touched. */
typedef struct fenced {
  char *base, *data;
  size_t map_bytes, bytes;
} fenced;

static inline fenced fenced_new(size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (bytes + page - 1) / page * page;
  fenced f = {.map_bytes = pages + 2 * page, .bytes = bytes};
  f.base = mmap(NULL, f.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(f.base != MAP_FAILED);
  if (pages) assert_int_equal(mprotect(f.base + page, pages, PROT_READ | PROT_WRITE), 0);
  f.data = f.base + page + pages - bytes;
  return f;
}

static inline void fenced_free(fenced f) {
  munmap(f.base, f.map_bytes);
}

static uint64_t draw_state = 1;

static inline uint32_t draw(void) {
  draw_state = draw_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(draw_state >> 32);
}

static inline int64_t draw_from(int64_t low, int64_t high) {
  return low + (int64_t)(draw() % (uint64_t)(high - low + 1));
}

static inline void fenced_set(fenced f, fonio_dtype dtype, int64_t i, double x) {
  if (dtype == FONIO_FLOAT32)
    ((float *)(void *)f.data)[i] = (float)x;
  else
    ((double *)(void *)f.data)[i] = x;
}

static inline fenced fenced_random(int64_t elements, fonio_dtype dtype) {
  fenced f = fenced_new((size_t)elements * fonio_dtype_bytes(dtype));
  for (int64_t i = 0; i < elements; i++)
    fenced_set(f, dtype, i, (double)(int32_t)draw() * 0x1p-31);
  return f;
}

#endif
