#include <string.h>

#include "tensor/copy.h"
#include "tensor/walk.h"

/* Repeats the first element over a row: what is done so far is copied behind itself. */
static void repeat(int64_t count, size_t bytes, char *row) {
  size_t all = (size_t)count * bytes;
  for (size_t done = bytes; done < all; done *= 2)
    memcpy(row + done, row, done < all - done ? done : all - done);
}

static void fill_row(int64_t count, size_t bytes, const void *element, char *row, int64_t step) {
  if (step == 1 && count > 0) {
    memcpy(row, element, bytes);
    repeat(count, bytes, row);
  } else {
    for (int64_t i = 0; i < count; i++)
      memcpy(row + i * step * (int64_t)bytes, element, bytes);
  }
}

void fill_values(fonio_tensor *tensor, double value) {
  char element[16];
  tensor_write_element(tensor->dtype, element, value);
  const fonio_tensor *operands[] = {tensor};
  tensor_walk walk = walk_over(tensor->ndim, tensor->shape, 1, operands);
  if (walk.row == 0) return;
  do
    fill_row(walk.row, fonio_dtype_bytes(tensor->dtype), element, walk_row(&walk, 0, tensor), walk.step[0]);
  while (walk_next(&walk));
}
