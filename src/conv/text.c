#include "conv/text.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

void conv_put(conv_text *out, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  bool room = out->length < out->bytes;
  int length = vsnprintf(room ? out->text + out->length : NULL, room ? out->bytes - out->length : 0, format, arguments);
  va_end(arguments);
  out->length += (size_t)length;
}
