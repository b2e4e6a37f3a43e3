/* How many of a test's cases are tried: as many as usual, or, where FONIO_TEST_COUNT is set, that many of 600. Fewer
 * where they are slow (valgrind), more where a failure is looked for. */
#ifndef TESTS_CASES_H
#define TESTS_CASES_H

#include <stdbool.h>
#include <stdlib.h>

static inline bool test_fewer_cases(void) {
  const char *count = getenv("FONIO_TEST_COUNT");
  return count && atoi(count) < 600;
}

static inline int test_cases(int usually) {
  const char *count = getenv("FONIO_TEST_COUNT");
  return count ? (int)((long long)usually * atoi(count) / 600) : usually;
}

#endif
