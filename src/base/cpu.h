/* What the processor can do. */
#ifndef BASE_CPU_H
#define BASE_CPU_H

/* The instruction sets that kernels are compiled for, from the least to the most. A build holds those of its own
 * architecture. */
typedef enum cpu_isa { ISA_SCALAR, ISA_NEON, ISA_AVX2, ISA_AVX512, ISA_COUNT } cpu_isa;

/* The one in use: the best of processor and build, lowered by the environment's FONIO_ISA. Found once. */
cpu_isa cpu_isa_in_use(void);

const char *cpu_isa_name(cpu_isa isa);

/* Sizes of the caches of one core, in bytes, as the system tells them (the last level: as shared); plain guesses where
 * it does not. */
typedef struct cpu_caches {
  long l1_bytes, l2_bytes, l3_bytes;
} cpu_caches;
const cpu_caches *cpu_cache_sizes(void);

#endif
