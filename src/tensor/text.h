/* A text that grows. */
#ifndef TENSOR_TEXT_H
#define TENSOR_TEXT_H

#include "fonio/base.h"

typedef struct text_buffer {
  char *bytes; /* NULL before the first */
  size_t length, room;
  bool failed; /* for lack of memory: nothing more is added */
} text_buffer;

void text_add_bytes(text_buffer *text, const char *bytes, size_t count);
void text_add(text_buffer *text, const char *string);
void text_repeat(text_buffer *text, char byte, int64_t count);

/* "1, 64, 4, 4" */
void text_add_sizes(text_buffer *text, int ndim, const int64_t *sizes);

/* "torch.Size([1, 64, 4, 4])" */
void text_add_size(text_buffer *text, int ndim, const int64_t *sizes);

/* Python's repr of a string: in single quotes, unless those occur in it and double ones do not. */
void text_add_quoted(text_buffer *text, const char *string);

/* The finished text, which the caller gives back to base/memory.h; NULL when memory ran out on the way. */
char *text_take(text_buffer *text);

/* Gives up a text. */
void text_drop(text_buffer *text);

#endif
