/* Text written piece by piece into a buffer that may be too small: it is cut, its length counted in full. */
#ifndef CONV_TEXT_H
#define CONV_TEXT_H

#include <stddef.h>

typedef struct conv_text {
  char *text;
  size_t bytes, length;
} conv_text;

void conv_put(conv_text *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
