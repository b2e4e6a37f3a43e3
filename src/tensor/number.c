#include "tensor/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

fonio_dtype number_dtype(fonio_dtype dtype) {
  switch (dtype) {
  case FONIO_COMPLEX32: return FONIO_FLOAT16;
  case FONIO_COMPLEX64: return FONIO_FLOAT32;
  case FONIO_COMPLEX128: return FONIO_FLOAT64;
  default: return dtype;
  }
}

/* The decimal point of the locale is what is neither a digit, a sign nor a letter; it may be several bytes. Returns the
 * new length. */
static int use_point(char *text, int length) {
  char *end = text + length, *point = text;
  while (point < end && strchr("0123456789+-e", *point))
    point++;
  if (point == end) return length;
  char *rest = point;
  while (rest < end && !strchr("0123456789e", *rest))
    rest++;
  *point = '.';
  memmove(point + 1, rest, (size_t)(end - rest) + 1);
  return length - (int)(rest - point) + 1;
}

static int write_finite(char *text, size_t bytes, char kind, int precision, double value) {
  switch (kind) {
  case 'e': return snprintf(text, bytes, "%.*e", precision, value);
  case 'f': return snprintf(text, bytes, "%.*f", precision, value);
  default: return snprintf(text, bytes, "%.*g", precision, value);
  }
}

int number_to_text(char *text, size_t bytes, char kind, int precision, double value) {
  if (!isfinite(value)) return snprintf(text, bytes, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
  int length = write_finite(text, bytes, kind, precision, value);
  return (size_t)length < bytes ? use_point(text, length) : length;
}

number_text number_for_message(double value) {
  number_text number;
  number_to_text(number.text, sizeof number.text, 'g', 6, value);
  return number;
}
