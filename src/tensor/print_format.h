/* How the numbers of one tensor are printed: all to the same width, which the shown ones decide. */
#ifndef TENSOR_PRINT_FORMAT_H
#define TENSOR_PRINT_FORMAT_H

#include "tensor/print.h"
#include "tensor/text.h"

/* "%.<digits>f" of the largest double: a sign, 309 digits, the point, the digits behind it. */
#define PRINT_NUMBER_BYTES (PRINT_MOST_DIGITS + 320)

typedef struct print_format {
  fonio_dtype dtype; /* of a number: of a complex tensor, that of its parts */
  int precision;
  bool scientific, whole; /* 1.0000e+00; 1. in place of 1.0000 */
  int64_t width;
  double least, most; /* of the absolute values that are neither 0 nor infinite; 0 before the first */
} print_format;

/* A format is found in two passes over the numbers that will be shown: */
print_format print_format_start(fonio_dtype dtype, int precision);
void print_format_look(print_format *format, const void *number);  /* first each of them, */
void print_format_decide(print_format *format, int sci_mode);      /* then this once, */
void print_format_widen(print_format *format, const void *number); /* then each again. */

/* The number's text without padding; its length. */
int print_number(const print_format *format, const void *number, char text[PRINT_NUMBER_BYTES]);

#endif
