/* All memory of the library comes from here: counted, aligned, from the host's allocator if it set one. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include "fonio/base.h"

/* One cache line, and one AVX-512 vector. */
#define MEMORY_ALIGNMENT 64

/* `bytes` bytes (at least 0), aligned to MEMORY_ALIGNMENT. NULL after fail(FONIO_NO_MEMORY). */
void *memory_take(int64_t bytes);

/* The same, all zero. */
void *memory_take_zeroed(int64_t bytes);

/* Copies a text; NULL after fail(FONIO_NO_MEMORY). */
char *memory_copy_text(const char *text);

/* Gives memory back; NULL is ignored. */
void memory_give(void *pointer);

#endif
