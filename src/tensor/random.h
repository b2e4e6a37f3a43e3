/* A generator as the random functions see it, and how they go through a tensor. */
#ifndef TENSOR_RANDOM_H
#define TENSOR_RANDOM_H

#include <pthread.h>

#include "fonio/random.h"

/* The words of the Mersenne Twister mt19937. */
#define RANDOM_WORDS 624

struct fonio_generator {
  pthread_mutex_t lock; /* held while a call draws its numbers, so that its draws are not mixed with another's */
  uint64_t seed;
  uint32_t words[RANDOM_WORDS];
  int used; /* how many of `words` have been given out */
  bool has_normal;
  double normal; /* the second number of Box and Muller's pair, for the next call */
};

/* Makes the next 624 words out of the last. */
void random_renew(fonio_generator *generator);

/* The next 32 bits: a word, tempered. The caller holds the lock. */
static inline uint32_t random_next(fonio_generator *generator) {
  if (generator->used == RANDOM_WORDS) random_renew(generator);
  uint32_t word = generator->words[generator->used++];
  word ^= word >> 11;
  word ^= word << 7 & 0x9d2c5680u;
  word ^= word << 15 & 0xefc60000u;
  return word ^ word >> 18;
}

/* The next 64 bits: two draws, the first in the upper half. */
static inline uint64_t random_next64(fonio_generator *generator) {
  uint64_t upper = random_next(generator);
  return upper << 32 | random_next(generator);
}

/* Uniform in [0, 1), with all the bits that the type holds. */
static inline float random_next_float(fonio_generator *generator) {
  return (float)(random_next(generator) & 0xffffff) * 0x1p-24f;
}

static inline double random_next_double(fonio_generator *generator) {
  return (double)(random_next64(generator) & 0x1fffffffffffff) * 0x1p-53;
}

/* Writes `count` numbers, `step` of them apart. `how` is the distribution's own. */
typedef void random_filler(fonio_generator *generator, const void *how, fonio_dtype dtype, void *row, int64_t step,
                           int64_t count);

/* Calls `fill` for all elements in the order in which torch visits them, under the generator's lock; complex elements
 * are two numbers each. FONIO_RUNTIME_ERROR when elements share their memory by a stride of 0. */
fonio_status random_fill(fonio_tensor *tensor, fonio_generator *generator, random_filler *fill, const void *how);

/* Writes number `index` of a row, converted as C++ does: to the half types by way of float. */
void random_write(fonio_dtype dtype, void *row, int64_t index, double value);

/* ---- What fonio_generator_uniform, _normal and _random stand on: without a look at gradients, and not counted as a
 * write ---- */

fonio_status random_uniform(fonio_generator *generator, fonio_tensor *tensor, double from, double to);
fonio_status random_normal(fonio_generator *generator, fonio_tensor *tensor, double mean, double std);
fonio_status random_integers(fonio_generator *generator, fonio_tensor *tensor, int64_t from, int64_t to);

#endif
