#include "tensor/print_format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tensor/convert.h"
#include "tensor/number.h"

print_format print_format_start(fonio_dtype dtype, int precision) {
  return (print_format){.dtype = dtype, .precision = precision, .whole = true, .width = 1};
}

/* Whether a number has a say in how the others are printed; false for integers, which only have a width. */
static bool counts(const print_format *format, const void *number, double *value) {
  if (!fonio_dtype_is_floating_point(format->dtype)) return false;
  *value = tensor_read_element(format->dtype, number);
  return isfinite(*value) && *value != 0;
}

void print_format_look(print_format *format, const void *number) {
  double value;
  if (!counts(format, number, &value)) return;
  double size = fabs(value);
  if (format->most == 0 || size < format->least) format->least = size;
  if (size > format->most) format->most = size;
  if (value != ceil(value)) format->whole = false;
}

void print_format_decide(print_format *format, int sci_mode) {
  if (format->most == 0) return;
  bool uneven = format->most / format->least > 1000 || format->most > 1e8 || format->least < 1e-4;
  format->scientific = sci_mode == -1 ? uneven : sci_mode;
}

void print_format_widen(print_format *format, const void *number) {
  double value;
  char text[PRINT_NUMBER_BYTES];
  bool real = fonio_dtype_is_floating_point(format->dtype);
  if (real && !counts(format, number, &value)) return;
  int length = print_number(format, number, text);
  if (length > format->width) format->width = length;
}

static int print_real(const print_format *format, double value, char *text) {
  size_t bytes = PRINT_NUMBER_BYTES;
  if (format->scientific) return number_to_text(text, bytes, 'e', format->precision, value);
  if (!format->whole) return number_to_text(text, bytes, 'f', format->precision, value);
  int length = number_to_text(text, bytes, 'f', 0, value);
  if (!isfinite(value)) return length;
  text[length] = '.';
  text[length + 1] = 0;
  return length + 1;
}

static int print_integer(fonio_dtype dtype, const void *number, char *text) {
  int64_t value;
  convert_row(1, dtype, number, 1, FONIO_INT64, &value, 1);
  const char *format = dtype == FONIO_UINT64 ? "%llu" : "%lld";
  if (dtype == FONIO_BOOL) return snprintf(text, PRINT_NUMBER_BYTES, "%s", fonio_bool_to_text(value));
  return snprintf(text, PRINT_NUMBER_BYTES, format, (long long)value);
}

int print_number(const print_format *format, const void *number, char text[PRINT_NUMBER_BYTES]) {
  if (!fonio_dtype_is_floating_point(format->dtype)) return print_integer(format->dtype, number, text);
  return print_real(format, tensor_read_element(format->dtype, number), text);
}
