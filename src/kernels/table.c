/* Which tables this build has. Compiled once. */
#include "kernels/kernels.h"

extern const kernel_table kernel_table__f32_scalar, kernel_table__f64_scalar;
#if defined(FONIO_HAVE_NEON)
extern const kernel_table kernel_table__f32_neon, kernel_table__f64_neon;
#endif
#if defined(FONIO_HAVE_AVX2)
extern const kernel_table kernel_table__f32_avx2, kernel_table__f64_avx2;
#endif
#if defined(FONIO_HAVE_AVX512)
extern const kernel_table kernel_table__f32_avx512, kernel_table__f64_avx512;
#endif

static const kernel_table *const tables[2][ISA_COUNT] = {
    {
        [ISA_SCALAR] = &kernel_table__f32_scalar,
#if defined(FONIO_HAVE_NEON)
        [ISA_NEON] = &kernel_table__f32_neon,
#endif
#if defined(FONIO_HAVE_AVX2)
        [ISA_AVX2] = &kernel_table__f32_avx2,
#endif
#if defined(FONIO_HAVE_AVX512)
        [ISA_AVX512] = &kernel_table__f32_avx512,
#endif
    },
    {
        [ISA_SCALAR] = &kernel_table__f64_scalar,
#if defined(FONIO_HAVE_NEON)
        [ISA_NEON] = &kernel_table__f64_neon,
#endif
#if defined(FONIO_HAVE_AVX2)
        [ISA_AVX2] = &kernel_table__f64_avx2,
#endif
#if defined(FONIO_HAVE_AVX512)
        [ISA_AVX512] = &kernel_table__f64_avx512,
#endif
    },
};

const kernel_table *kernel_table_for(fonio_dtype dtype, cpu_isa isa) {
  const kernel_table *const *of_dtype = tables[dtype == FONIO_FLOAT64];
  while (!of_dtype[isa])
    isa--;
  return of_dtype[isa];
}
