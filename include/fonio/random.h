/* Random numbers: the generator of torch's CPU, draw for draw. The same seed and the same calls give the numbers that
 * PyTorch gives, whatever the instruction set. */
#ifndef FONIO_RANDOM_H
#define FONIO_RANDOM_H

#include <fonio/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The default generator: one for the whole process, seeded by chance when it is first used ---- */

/* torch.manual_seed(seed). A negative seed of torch's is 2^64 more here, which is what C's conversion makes of it:
 * (uint64_t)-1. */
FONIO_API void fonio_manual_seed(uint64_t seed);

/* torch.seed(): seeds by chance and returns that seed. */
FONIO_API uint64_t fonio_seed(void);

/* torch.initial_seed(): the seed that was set last. */
FONIO_API uint64_t fonio_initial_seed(void);

/* ---- Generators of one's own: torch.Generator ----
 *
 * Each call holds the generator's lock until it has drawn all its numbers: threads may share a generator. */

typedef struct fonio_generator fonio_generator;

/* torch.Generator(): seeded with 67280421310721. */
FONIO_NEW fonio_generator *fonio_generator_new(void);

/* NULL and the default generator are ignored. Not while another thread draws from it. */
FONIO_API void fonio_generator_release(fonio_generator *generator);

/* torch.default_generator: what the functions that name no generator draw from. Borrowed. */
FONIO_API fonio_generator *fonio_generator_default(void);

/* generator.manual_seed(seed), generator.seed(), generator.initial_seed(). The last two give 0 for NULL. */
FONIO_API fonio_status fonio_generator_manual_seed(fonio_generator *generator, uint64_t seed);
FONIO_API uint64_t fonio_generator_seed(fonio_generator *generator);
FONIO_API uint64_t fonio_generator_initial_seed(fonio_generator *generator);

/* ---- New tensors ----
 *
 * Failures: those of fonio_tensor_empty; FONIO_NOT_IMPLEMENTED with torch's text for a dtype that torch does not draw
 * in. */

/* torch.rand(shape, dtype=dtype): uniform in [0, 1). A floating-point or complex dtype; torch's bits. */
FONIO_NEW fonio_tensor *fonio_tensor_rand(fonio_dtype dtype, int ndim, const int64_t *shape);

/* torch.randn(shape, dtype=dtype): normal, mean 0, standard deviation 1 (complex: of both parts together). What is said
 * of the bits at fonio_tensor_normal holds here. */
FONIO_NEW fonio_tensor *fonio_tensor_randn(fonio_dtype dtype, int ndim, const int64_t *shape);

/* torch.randint(low, high, shape, dtype=dtype): whole numbers in [low, high); torch's bits. FONIO_RUNTIME_ERROR with
 * torch's texts when the range is empty or does not fit the dtype. torch's default dtype is int64. */
FONIO_NEW fonio_tensor *fonio_tensor_randint(fonio_dtype dtype, int64_t low, int64_t high, int ndim,
                                             const int64_t *shape);

/* torch.randperm(n, dtype=dtype): 0 ... n - 1 in random order; torch's bits. torch's default dtype is int64. */
FONIO_NEW fonio_tensor *fonio_tensor_randperm(fonio_dtype dtype, int64_t n);

/* torch.randperm(n, generator=generator, dtype=dtype). */
FONIO_NEW fonio_tensor *fonio_generator_randperm(fonio_generator *generator, fonio_dtype dtype, int64_t n);

#ifdef __cplusplus
}
#endif

#endif
