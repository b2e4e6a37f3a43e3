/* Failures: a status and a message for the calling thread. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "fonio/base.h"

/* Notes a failure and returns its status, so that a check is one line:
 *   if (groups <= 0) return fail(FONIO_VALUE_ERROR, "groups must be a positive integer"); */
fonio_status fail(fonio_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for functions that return a pointer. */
#define fail_null(...) (fail(__VA_ARGS__), (void *)0)

/* For a function that was given NULL: the status of the failure that the NULL came from, message kept; if there was
 * none, a TypeError that names the function. */
fonio_status fail_given_null(const char *function);

/* Gives a warning to the handler. */
void warn(const char *message);

/* Shapes and lists in messages, as Python prints them: "[1, 3, 8, 8]". */
typedef struct shape_text {
  char text[256];
} shape_text;
shape_text shape_to_text(int ndim, const int64_t *sizes);

#endif
