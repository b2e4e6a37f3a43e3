#include "tensor/index.h"

#include "base/error.h"

int index_wrap_dim(int64_t dim, int ndim) {
  if (dim < -ndim || dim >= ndim) {
    fail(FONIO_INDEX_ERROR, "Dimension out of range (expected to be in range of [%d, %d], but got %lld)", -ndim,
         ndim - 1, (long long)dim);
    return -1;
  }
  return (int)(dim < 0 ? dim + ndim : dim);
}
