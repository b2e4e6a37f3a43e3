/* How tensors come to be over a storage, and how they go. */
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "tensor/storage.h"

fonio_status tensor_check_shape(fonio_dtype dtype, int ndim, const int64_t *shape) {
  if ((unsigned)dtype >= FONIO_DTYPE_COUNT) return fail(FONIO_VALUE_ERROR, "%d is not a dtype", (int)dtype);
  if (ndim < 0 || ndim > FONIO_MAX_DIMS)
    return fail(FONIO_VALUE_ERROR, "a tensor has 0 to %d dimensions, not %d", FONIO_MAX_DIMS, ndim);
  if (ndim > 0 && !shape) return fail(FONIO_TYPE_ERROR, "a tensor of %d dimensions needs a shape, which is NULL", ndim);
  for (int i = 0; i < ndim; i++)
    if (shape[i] < 0)
      return fail(FONIO_RUNTIME_ERROR, "Trying to create tensor with negative dimension %lld: %s", (long long)shape[i],
                  shape_to_text(ndim, shape).text);
  return FONIO_OK;
}

static bool span_fits(fonio_dtype dtype, int ndim, const int64_t *shape, const int64_t *strides, int64_t *bytes) {
  int64_t last = 0;
  for (int i = 0; i < ndim; i++) {
    int64_t reach;
    if (!checked_mul(shape[i] - 1, strides[i], &reach) || !checked_add(last, reach, &last)) return false;
  }
  return checked_add(last, 1, &last) && checked_mul(last, (int64_t)fonio_dtype_bytes(dtype), bytes);
}

bool tensor_span_bytes(fonio_dtype dtype, int ndim, const int64_t *shape, const int64_t *strides, int64_t *bytes) {
  *bytes = 0;
  for (int i = 0; i < ndim; i++)
    if (shape[i] == 0) return true;
  if (span_fits(dtype, ndim, shape, strides, bytes)) return true;
  fail(FONIO_RUNTIME_ERROR, "Storage size calculation overflowed with sizes=%s", shape_to_text(ndim, shape).text);
  return false;
}

static int64_t product(int ndim, const int64_t *shape) {
  int64_t numel = 0;
  bool fits = checked_product(ndim, shape, &numel);
  return fits ? numel : 0;
}

fonio_tensor *tensor_over(tensor_storage *storage, fonio_dtype dtype, int ndim, const int64_t *shape,
                          const int64_t *strides, int64_t offset) {
  fonio_tensor *tensor = memory_take_zeroed(sizeof *tensor);
  if (!tensor) {
    storage_release(storage);
    return NULL;
  }
  atomic_init(&tensor->references, 1);
  tensor->storage = storage;
  tensor->offset = offset;
  tensor->dtype = dtype;
  tensor->ndim = ndim;
  tensor->numel = product(ndim, shape);
  for (int i = 0; i < ndim; i++) {
    tensor->shape[i] = shape[i];
    tensor->strides[i] = strides[i];
  }
  return tensor;
}

fonio_tensor *tensor_empty_strided(fonio_dtype dtype, int ndim, const int64_t *shape, const int64_t *strides) {
  int64_t bytes;
  if (!tensor_span_bytes(dtype, ndim, shape, strides, &bytes)) return NULL;
  tensor_storage *storage = storage_new(bytes);
  return storage ? tensor_over(storage, dtype, ndim, shape, strides, 0) : NULL;
}

fonio_tensor *tensor_view(const fonio_tensor *tensor, int ndim, const int64_t *shape, const int64_t *strides,
                          int64_t offset) {
  return tensor_over(storage_retain(tensor->storage), tensor->dtype, ndim, shape, strides, offset);
}

fonio_tensor *fonio_tensor_retain(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_retain"), NULL;
  atomic_fetch_add_explicit(&tensor->references, 1, memory_order_relaxed);
  return tensor;
}

void tensor_hooks_release(tensor_hook *list) {
  while (list) {
    tensor_hook *next = list->next;
    memory_give(list);
    list = next;
  }
}

void fonio_tensor_release(fonio_tensor *tensor) {
  if (!tensor || atomic_fetch_sub_explicit(&tensor->references, 1, memory_order_acq_rel) != 1) return;
  fonio_tensor_release(tensor->grad);
  tensor_hooks_release(tensor->hooks);
  if (tensor->node) tensor->history->release(tensor->node);
  storage_release(tensor->storage);
  memory_give(tensor);
}
