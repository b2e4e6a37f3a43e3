/* How random numbers get into a tensor. */
#include "tensor/number.h"
#include "tensor/random.h"
#include "tensor/small_float.h"
#include "tensor/walk.h"

/* One row: of complex elements that lie apart, each is a row of two numbers. */
static void fill_row(fonio_generator *generator, random_filler *fill, const void *how, fonio_dtype dtype, void *row,
                     int64_t step, int64_t count) {
  fonio_dtype part = number_dtype(dtype);
  if (part == dtype) {
    fill(generator, how, part, row, step, count);
  } else if (step == 1) {
    fill(generator, how, part, row, 1, 2 * count);
  } else {
    int64_t step_bytes = step * (int64_t)fonio_dtype_bytes(dtype);
    for (int64_t i = 0; i < count; i++)
      fill(generator, how, part, (char *)row + i * step_bytes, 1, 2);
  }
}

fonio_status random_fill(fonio_tensor *tensor, fonio_generator *generator, random_filler *fill, const void *how) {
  tensor_walk walk = walk_in_order(tensor);
  if (walk.row == 0) return FONIO_OK;
  if (tensor_check_not_expanded(tensor) != FONIO_OK) return FONIO_RUNTIME_ERROR;
  pthread_mutex_lock(&generator->lock);
  do
    fill_row(generator, fill, how, tensor->dtype, walk_row(&walk, 0, tensor), walk.step[0], walk.row);
  while (walk_next(&walk));
  pthread_mutex_unlock(&generator->lock);
  return FONIO_OK;
}

void random_write(fonio_dtype dtype, void *row, int64_t index, double value) {
  switch (dtype) {
  case FONIO_FLOAT64: ((double *)row)[index] = value; break;
  case FONIO_FLOAT32: ((float *)row)[index] = (float)value; break;
  case FONIO_FLOAT16: ((uint16_t *)row)[index] = half_from_float((float)value); break;
  default: ((uint16_t *)row)[index] = bfloat16_from_float((float)value);
  }
}
