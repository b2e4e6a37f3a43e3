/* Printing, as the other rooms need it. */
#ifndef TENSOR_PRINT_H
#define TENSOR_PRINT_H

#include "fonio/print.h"

/* Writes a text, which it releases, and a newline to stdout. NULL is a failure that was noted before: its status comes
 * back. */
fonio_status print_text(char *text);

/* The most digits after the point. */
#define PRINT_MOST_DIGITS 1000

#endif
