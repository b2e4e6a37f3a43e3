/* Copies between any strides and dtypes. */
#include "tensor/copy.h"

#include <string.h>

#include "base/error.h"
#include "tensor/convert.h"
#include "tensor/layout.h"
#include "tensor/storage.h"
#include "tensor/walk.h"

#define NAME copy_1
#define WORD uint8_t
#include "tensor/copy.inc"

#define NAME copy_2
#define WORD uint16_t
#include "tensor/copy.inc"

#define NAME copy_4
#define WORD uint32_t
#include "tensor/copy.inc"

#define NAME copy_8
#define WORD uint64_t
#include "tensor/copy.inc"

typedef struct word_16 {
  uint64_t parts[2];
} word_16;

#define NAME copy_16
#define WORD word_16
#include "tensor/copy.inc"

static void copy_row(int64_t count, size_t bytes, void *to, int64_t to_step, const void *from, int64_t from_step) {
  if (to_step == 1 && from_step == 1)
    memcpy(to, from, (size_t)count * bytes);
  else if (bytes == 1)
    copy_1(count, to, to_step, from, from_step);
  else if (bytes == 2)
    copy_2(count, to, to_step, from, from_step);
  else if (bytes == 4)
    copy_4(count, to, to_step, from, from_step);
  else if (bytes == 8)
    copy_8(count, to, to_step, from, from_step);
  else
    copy_16(count, to, to_step, from, from_step);
}

void copy_values(fonio_tensor *tensor, const fonio_tensor *source) {
  const fonio_tensor *operands[] = {tensor, source};
  tensor_walk walk = walk_over(tensor->ndim, tensor->shape, 2, operands);
  if (walk.row == 0) return;
  bool same = tensor->dtype == source->dtype;
  size_t bytes = fonio_dtype_bytes(tensor->dtype);
  do {
    void *to = walk_row(&walk, 0, tensor);
    const void *from = walk_row(&walk, 1, source);
    if (same)
      copy_row(walk.row, bytes, to, walk.step[0], from, walk.step[1]);
    else
      convert_row(walk.row, source->dtype, from, walk.step[1], tensor->dtype, to, walk.step[0]);
  } while (walk_next(&walk));
}

fonio_tensor *tensor_copy_contiguous(const fonio_tensor *tensor) {
  fonio_tensor *copy = fonio_tensor_empty(tensor->dtype, tensor->ndim, tensor->shape);
  if (copy) copy_values(copy, tensor);
  return copy;
}

fonio_tensor *tensor_copy_channels_last(const fonio_tensor *tensor) {
  if (tensor->ndim != 4) return fail_null(FONIO_RUNTIME_ERROR, "required rank 4 tensor to use channels_last format");
  fonio_tensor *copy = fonio_tensor_empty_channels_last(tensor->dtype, tensor->shape);
  if (copy) copy_values(copy, tensor);
  return copy;
}

fonio_tensor *tensor_convert(const fonio_tensor *tensor, fonio_dtype dtype) {
  int64_t strides[FONIO_MAX_DIMS];
  if (tensor_check_shape(dtype, tensor->ndim, tensor->shape)) return NULL;
  if (!layout_like(tensor, strides))
    return fail_null(FONIO_RUNTIME_ERROR, "Storage size calculation overflowed with sizes=%s",
                     shape_to_text(tensor->ndim, tensor->shape).text);
  fonio_tensor *copy = tensor_empty_strided(dtype, tensor->ndim, tensor->shape, strides);
  if (copy) copy_values(copy, tensor);
  return copy;
}

fonio_tensor *tensor_clone(const fonio_tensor *tensor) {
  return tensor_convert(tensor, tensor->dtype);
}
