/* torch.rand, randn and randint: an empty tensor, filled. */
#include "base/error.h"
#include "tensor/random.h"

/* The tensor where filling it went well; otherwise it is given up. */
static fonio_tensor *if_filled(fonio_tensor *tensor, fonio_status status) {
  if (status == FONIO_OK) return tensor;
  fonio_tensor_release(tensor);
  return NULL;
}

fonio_tensor *fonio_tensor_rand(fonio_dtype dtype, int ndim, const int64_t *shape) {
  fonio_tensor *tensor = fonio_tensor_empty(dtype, ndim, shape);
  return tensor ? if_filled(tensor, random_uniform(fonio_generator_default(), tensor, 0, 1)) : NULL;
}

fonio_tensor *fonio_tensor_randn(fonio_dtype dtype, int ndim, const int64_t *shape) {
  fonio_tensor *tensor = fonio_tensor_empty(dtype, ndim, shape);
  return tensor ? if_filled(tensor, random_normal(fonio_generator_default(), tensor, 0, 1)) : NULL;
}

fonio_tensor *fonio_tensor_randint(fonio_dtype dtype, int64_t low, int64_t high, int ndim, const int64_t *shape) {
  fonio_tensor *tensor = fonio_tensor_empty(dtype, ndim, shape);
  return tensor ? if_filled(tensor, random_integers(fonio_generator_default(), tensor, low, high)) : NULL;
}
