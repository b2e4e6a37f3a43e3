#include "base/cpu.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fonio/base.h"

static const char *const isa_names[ISA_COUNT] = {"scalar", "neon", "avx2", "avx512"};

const char *cpu_isa_name(cpu_isa isa) {
  return isa_names[isa];
}

static cpu_isa best_of_processor(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#if defined(FONIO_EMULATE_AVX512)
  avx512 = avx2;
#endif
  return avx512 ? ISA_AVX512 : avx2 ? ISA_AVX2 : ISA_SCALAR;
#elif defined(__aarch64__)
  return ISA_NEON;
#else
  return ISA_SCALAR;
#endif
}

static cpu_isa isa_in_use;
static cpu_caches caches;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static long cache_bytes(int name, long otherwise) {
  long bytes = sysconf(name);
  return bytes > 0 ? bytes : otherwise;
}

static void look(void) {
  isa_in_use = best_of_processor();
  const char *wanted = getenv("FONIO_ISA");
  for (int isa = 0; wanted && isa < ISA_COUNT; isa++)
    if (strcmp(wanted, isa_names[isa]) == 0 && isa < (int)isa_in_use && isa != ISA_NEON) isa_in_use = (cpu_isa)isa;
  caches.l1_bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
  caches.l2_bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 512 << 10);
  caches.l3_bytes = cache_bytes(_SC_LEVEL3_CACHE_SIZE, 4 << 20);
}

cpu_isa cpu_isa_in_use(void) {
  pthread_once(&once, look);
  return isa_in_use;
}

const cpu_caches *cpu_cache_sizes(void) {
  pthread_once(&once, look);
  return &caches;
}

const char *fonio_isa(void) {
  return isa_names[cpu_isa_in_use()];
}
