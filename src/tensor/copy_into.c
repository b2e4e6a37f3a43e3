/* tensor.copy_(source): what has to be checked, and memory that the two share. */
#include "base/error.h"
#include "tensor/copy.h"
#include "tensor/layout.h"
#include "tensor/storage.h"

static fonio_status check_fits(const fonio_tensor *tensor, const fonio_tensor *source) {
  int64_t shape[FONIO_MAX_DIMS];
  int ndim = tensor_broadcast_shape(tensor, source, shape);
  if (ndim < 0) return fonio_last_status();
  bool same = ndim == tensor->ndim;
  for (int i = 0; same && i < ndim; i++)
    same = shape[i] == tensor->shape[i];
  if (same) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR, "output with shape %s doesn't match the broadcast shape %s",
              shape_to_text(tensor->ndim, tensor->shape).text, shape_to_text(ndim, shape).text);
}

/* As in torch, only what is plain to see is refused. */
fonio_status tensor_check_not_expanded(const fonio_tensor *tensor) {
  if (layout_is_dense(tensor)) return FONIO_OK;
  for (int i = 0; i < tensor->ndim; i++)
    if (tensor->shape[i] > 1 && tensor->strides[i] == 0)
      return fail(FONIO_RUNTIME_ERROR,
                  "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                  "location. Please clone() the tensor before performing the operation.");
  return FONIO_OK;
}

/* Whether the spans of memory that the two lie in touch. */
static bool overlap(const fonio_tensor *a, const fonio_tensor *b) {
  int64_t a_bytes = 0, b_bytes = 0;
  tensor_span_bytes(a->dtype, a->ndim, a->shape, a->strides, &a_bytes);
  tensor_span_bytes(b->dtype, b->ndim, b->shape, b->strides, &b_bytes);
  uintptr_t a_start = (uintptr_t)tensor_at_offset(a), b_start = (uintptr_t)tensor_at_offset(b);
  return a_start < b_start + (uintptr_t)b_bytes && b_start < a_start + (uintptr_t)a_bytes;
}

static void warn_of_lost_imaginary_parts(const fonio_tensor *tensor, const fonio_tensor *source) {
  static atomic_flag warned = ATOMIC_FLAG_INIT;
  if (!fonio_dtype_is_complex(source->dtype) || fonio_dtype_is_complex(tensor->dtype)) return;
  if (!atomic_flag_test_and_set(&warned)) warn("Casting complex values to real discards the imaginary part");
}

static fonio_status copy_through_another(fonio_tensor *tensor, const fonio_tensor *source) {
  fonio_tensor *between = tensor_copy_contiguous(source);
  if (!between) return fonio_last_status();
  copy_values(tensor, between);
  fonio_tensor_release(between);
  return FONIO_OK;
}

fonio_status tensor_copy(fonio_tensor *tensor, const fonio_tensor *source) {
  if (tensor == source) return FONIO_OK;
  if (tensor_check_not_expanded(tensor) || check_fits(tensor, source)) return fonio_last_status();
  if (overlap(tensor, source)) {
    if (copy_through_another(tensor, source)) return fonio_last_status();
  } else {
    copy_values(tensor, source);
  }
  warn_of_lost_imaginary_parts(tensor, source);
  tensor_touch(tensor);
  return FONIO_OK;
}
