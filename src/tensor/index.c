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

fonio_status index_check(const fonio_tensor *tensor, int count, const int64_t *index) {
  if (count < 0) return fail(FONIO_VALUE_ERROR, "an index has 0 or more numbers, not %d", count);
  if (count == 1 && tensor->ndim == 0 && index[0] == 0)
    return fail(FONIO_INDEX_ERROR, "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or "
                                   "`tensor.item<T>()` in C++ to convert a 0-dim tensor to a number");
  if (count > 1 && count > tensor->ndim)
    return fail(FONIO_INDEX_ERROR, "too many indices for tensor of dimension %d", tensor->ndim);
  for (int i = 0; i < count; i++) {
    /* torch: any other index of a tensor without dimensions meets a dimension of size 0. */
    int64_t size = i < tensor->ndim ? tensor->shape[i] : 0;
    if (index[i] < -size || index[i] >= size)
      return fail(FONIO_INDEX_ERROR, "index %lld is out of bounds for dimension %d with size %lld", (long long)index[i],
                  i, (long long)size);
  }
  return FONIO_OK;
}
