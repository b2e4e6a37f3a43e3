/* The numbers that elements consist of, and real numbers as text. */
#ifndef TENSOR_NUMBER_H
#define TENSOR_NUMBER_H

#include "fonio/dtype.h"

/* The dtype of the numbers in an element: of the two parts of a complex one, otherwise its own. */
fonio_dtype number_dtype(fonio_dtype dtype);

/* Writes `value` as "%.<precision><kind>" does, but with a point in every locale; kind 'e', 'f' or 'g'; NaN without a
 * sign, as Python and C++ have it. Returns the length, or what it would be if `bytes` were enough. */
int number_to_text(char *text, size_t bytes, char kind, int precision, double value);

/* As a C++ stream, and so torch's messages, shows a double. */
typedef struct number_text {
  char text[32];
} number_text;
number_text number_for_message(double value);

#endif
