/* Arithmetic on sizes that notices when a result does not fit. Every product of sizes goes through here. */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* Each writes the result and returns true, or returns false when it does not fit an int64_t. */
static inline bool checked_add(int64_t a, int64_t b, int64_t *sum) {
  return !__builtin_add_overflow(a, b, sum);
}

static inline bool checked_mul(int64_t a, int64_t b, int64_t *product) {
  return !__builtin_mul_overflow(a, b, product);
}

/* The product of `count` sizes, each at least 0; 1 for none. A zero size makes it 0 whatever the others are. */
static inline bool checked_product(int count, const int64_t *sizes, int64_t *product) {
  int64_t result = 1;
  bool fits = true;
  for (int i = 0; i < count; i++) {
    if (sizes[i] == 0) {
      *product = 0;
      return true;
    }
    fits = fits && checked_mul(result, sizes[i], &result);
  }
  *product = result;
  return fits;
}

#endif
