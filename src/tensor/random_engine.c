/* The Mersenne Twister mt19937 of Matsumoto and Nishimura ("Mersenne Twister: a 623-dimensionally equidistributed
 * uniform pseudo-random number generator", 1998) with their initialisation of 2002, and the generators that hold its
 * state. */
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/random.h"

/* The seed of a new torch.Generator(). */
#define DEFAULT_SEED 67280421310721u

static void set_seed(fonio_generator *generator, uint64_t seed) {
  generator->seed = seed;
  generator->has_normal = false;
  generator->used = RANDOM_WORDS;
  uint32_t word = (uint32_t)seed;
  generator->words[0] = word;
  for (uint32_t i = 1; i < RANDOM_WORDS; i++)
    generator->words[i] = word = 1812433253u * (word ^ word >> 30) + i;
}

/* Word i comes from the top bit of word i, the other bits of i + 1, and i + 397; round the end, from new words. */
static inline uint32_t new_word(uint32_t word, uint32_t next, uint32_t far) {
  uint32_t joined = (word & 0x80000000u) | (next & 0x7fffffffu);
  return far ^ joined >> 1 ^ (joined & 1 ? 0x9908b0dfu : 0);
}

void random_renew(fonio_generator *generator) {
  uint32_t *words = generator->words;
  for (int i = 0; i < 227; i++)
    words[i] = new_word(words[i], words[i + 1], words[i + 397]);
  for (int i = 227; i < 623; i++)
    words[i] = new_word(words[i], words[i + 1], words[i - 227]);
  words[623] = new_word(words[623], words[0], words[396]);
  generator->used = 0;
}

/* A seed by chance. Where the system has no entropy to give, the time and the process must do. */
static uint64_t seed_by_chance(void) {
  uint64_t seed;
  if (getentropy(&seed, sizeof seed) == 0) return seed;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000007u ^ (uint64_t)now.tv_nsec << 20 ^ (uint64_t)getpid();
}

static fonio_generator default_generator = {.lock = PTHREAD_MUTEX_INITIALIZER};
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void seed_default(void) {
  set_seed(&default_generator, seed_by_chance());
}

fonio_generator *fonio_generator_default(void) {
  pthread_once(&once, seed_default);
  return &default_generator;
}

fonio_generator *fonio_generator_new(void) {
  fonio_generator *generator = memory_take(sizeof *generator);
  if (!generator) return NULL;
  pthread_mutex_init(&generator->lock, NULL);
  set_seed(generator, DEFAULT_SEED);
  return generator;
}

void fonio_generator_release(fonio_generator *generator) {
  if (!generator || generator == &default_generator) return;
  pthread_mutex_destroy(&generator->lock);
  memory_give(generator);
}

fonio_status fonio_generator_manual_seed(fonio_generator *generator, uint64_t seed) {
  if (!generator) return fail_given_null("fonio_generator_manual_seed");
  pthread_mutex_lock(&generator->lock);
  set_seed(generator, seed);
  pthread_mutex_unlock(&generator->lock);
  return FONIO_OK;
}

uint64_t fonio_generator_seed(fonio_generator *generator) {
  uint64_t seed = seed_by_chance();
  return fonio_generator_manual_seed(generator, seed) == FONIO_OK ? seed : 0;
}

uint64_t fonio_generator_initial_seed(fonio_generator *generator) {
  if (!generator) return fail_given_null("fonio_generator_initial_seed"), 0;
  pthread_mutex_lock(&generator->lock);
  uint64_t seed = generator->seed;
  pthread_mutex_unlock(&generator->lock);
  return seed;
}

void fonio_manual_seed(uint64_t seed) {
  fonio_generator_manual_seed(fonio_generator_default(), seed);
}

uint64_t fonio_seed(void) {
  return fonio_generator_seed(fonio_generator_default());
}

uint64_t fonio_initial_seed(void) {
  return fonio_generator_initial_seed(fonio_generator_default());
}
