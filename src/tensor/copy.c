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
    copy_1_row(count, to, to_step, from, from_step);
  else if (bytes == 2)
    copy_2_row(count, to, to_step, from, from_step);
  else if (bytes == 4)
    copy_4_row(count, to, to_step, from, from_step);
  else if (bytes == 8)
    copy_8_row(count, to, to_step, from, from_step);
  else
    copy_16_row(count, to, to_step, from, from_step);
}

static void copy_plane(int64_t rows, int64_t columns, size_t bytes, void *to, int64_t to_stride, const void *from,
                       int64_t from_stride) {
  if (bytes == 1)
    copy_1_plane(rows, columns, to, to_stride, from, from_stride);
  else if (bytes == 2)
    copy_2_plane(rows, columns, to, to_stride, from, from_stride);
  else if (bytes == 4)
    copy_4_plane(rows, columns, to, to_stride, from, from_stride);
  else if (bytes == 8)
    copy_8_plane(rows, columns, to, to_stride, from, from_stride);
  else
    copy_16_plane(rows, columns, to, to_stride, from, from_stride);
}

/* The dimension along which the source is contiguous, when the target is along the row but the source is not; else -1.
 */
static int plane_dim(const tensor_walk *walk) {
  if (walk->step[0] != 1 || walk->step[1] <= 1) return -1;
  for (int i = walk->ndim - 1; i >= 0; i--)
    if (walk->strides[1][i] == 1 && walk->shape[i] >= 8) return i;
  return -1;
}

static void copy_planes(tensor_walk *walk, int dim, fonio_tensor *tensor, const fonio_tensor *source) {
  int64_t strides[WALK_MOST];
  int64_t rows = walk_take_dim(walk, dim, strides);
  do
    copy_plane(rows, walk->row, fonio_dtype_bytes(tensor->dtype), walk_row(walk, 0, tensor), strides[0],
               walk_row(walk, 1, source), walk->step[1]);
  while (walk_next(walk));
}

static void copy_rows(tensor_walk *walk, fonio_tensor *tensor, const fonio_tensor *source) {
  do
    copy_row(walk->row, fonio_dtype_bytes(tensor->dtype), walk_row(walk, 0, tensor), walk->step[0],
             walk_row(walk, 1, source), walk->step[1]);
  while (walk_next(walk));
}

static void convert_rows(tensor_walk *walk, fonio_tensor *tensor, const fonio_tensor *source) {
  do
    convert_row(walk->row, source->dtype, walk_row(walk, 1, source), walk->step[1], tensor->dtype,
                walk_row(walk, 0, tensor), walk->step[0]);
  while (walk_next(walk));
}

void copy_values(fonio_tensor *tensor, const fonio_tensor *source) {
  const fonio_tensor *operands[] = {tensor, source};
  tensor_walk walk = walk_over(tensor->ndim, tensor->shape, 2, operands);
  if (walk.row == 0) return;
  int dim = plane_dim(&walk);
  if (tensor->dtype != source->dtype)
    convert_rows(&walk, tensor, source);
  else if (dim >= 0)
    copy_planes(&walk, dim, tensor, source);
  else
    copy_rows(&walk, tensor, source);
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

/* torch.empty_like in any dtype. */
static fonio_tensor *empty_like(const fonio_tensor *tensor, fonio_dtype dtype) {
  int64_t strides[FONIO_MAX_DIMS];
  if (tensor_check_shape(dtype, tensor->ndim, tensor->shape)) return NULL;
  if (!layout_like(tensor, strides))
    return fail_null(FONIO_RUNTIME_ERROR, "Storage size calculation overflowed with sizes=%s",
                     shape_to_text(tensor->ndim, tensor->shape).text);
  return tensor_empty_strided(dtype, tensor->ndim, tensor->shape, strides);
}

fonio_tensor *tensor_convert(const fonio_tensor *tensor, fonio_dtype dtype) {
  fonio_tensor *copy = empty_like(tensor, dtype);
  if (copy) copy_values(copy, tensor);
  return copy;
}

fonio_tensor *tensor_zeros_like(const fonio_tensor *tensor) {
  fonio_tensor *zeros = empty_like(tensor, tensor->dtype);
  if (zeros) memset(zeros->storage->data, 0, (size_t)zeros->storage->bytes);
  return zeros;
}

fonio_tensor *tensor_clone(const fonio_tensor *tensor) {
  return tensor_convert(tensor, tensor->dtype);
}
