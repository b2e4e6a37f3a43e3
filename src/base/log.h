/* The log: what the library tells of its work, where someone wants to know. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "fonio/base.h"

/* Whether anyone reads it: one load, to be asked before anything is done for the log. */
bool log_is_on(void);

void log_line(const char *line);

#endif
