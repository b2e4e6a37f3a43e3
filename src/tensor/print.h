/* Printing, as the other rooms need it. */
#ifndef TENSOR_PRINT_H
#define TENSOR_PRINT_H

#include "fonio/print.h"

/* The text of a tensor after `prefix`: "Parameter containing:\n" for a parameter. The caller gives it back with
 * fonio_text_release. */
char *print_to_text(const char *prefix, const fonio_tensor *tensor);

/* Writes a text, which it releases, and a newline to stdout. NULL is a failure that was noted before: its status comes
 * back. */
fonio_status print_text(char *text);

/* The most digits after the point. */
#define PRINT_MOST_DIGITS 1000

#endif
