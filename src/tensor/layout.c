#include "tensor/layout.h"

#include <string.h>

#include "base/checked.h"
#include "base/shape.h"

bool layout_is_dense(const fonio_tensor *tensor) {
  if (fonio_tensor_is_contiguous(tensor)) return true;
  bool used[FONIO_MAX_DIMS] = {false};
  int64_t expected = 1;
  for (int found = 0; found < tensor->ndim; found++) {
    int next = -1;
    for (int i = 0; i < tensor->ndim; i++) {
      bool candidate = !used[i] && tensor->shape[i] > 1;
      if (candidate && (next < 0 || tensor->strides[i] < tensor->strides[next])) next = i;
    }
    if (next < 0) return true;
    if (tensor->strides[next] != expected) return false;
    expected *= tensor->shape[next];
    used[next] = true;
  }
  return true;
}

/* Up to two operands' strides over one shape. */
typedef struct strides_of {
  int operands;
  const int64_t *shape;
  int64_t strides[2][FONIO_MAX_DIMS];
} strides_of;

/* Torch's should_swap: 1 when dimension `a` belongs outside of `b`, -1 when inside, 0 when no operand tells. */
static int compare(const strides_of *of, int a, int b) {
  for (int i = 0; i < of->operands; i++) {
    int64_t of_a = of->strides[i][a], of_b = of->strides[i][b];
    if (of_a == 0 || of_b == 0) continue;
    if (of_a != of_b) return of_a > of_b ? 1 : -1;
    if (of->shape[a] > of->shape[b]) return 1;
  }
  return 0;
}

/* Torch's insertion sort, step for step: what cannot be compared stays, so the result depends on the steps. */
static void sort_dims(const strides_of *of, int ndim, int *order) {
  for (int i = 0; i < ndim; i++)
    order[i] = ndim - 1 - i;
  for (int i = 1; i < ndim; i++) {
    int moving = i;
    for (int j = i - 1; j >= 0; j--) {
      int comparison = compare(of, order[j], order[moving]);
      if (comparison < 0) break;
      if (comparison == 0) continue;
      int dim = order[j];
      order[j] = order[moving];
      order[moving] = dim;
      moving = j;
    }
  }
}

/* Dense strides in the order that the operands suggest. A size of 0 counts as 1, but in a TensorIterator only when that
 * is the order of the dimensions. */
static bool dense_in_order(const strides_of *of, int ndim, bool as_iterator, int64_t *strides) {
  int order[FONIO_MAX_DIMS];
  int64_t stride = 1;
  bool reordered = false;
  sort_dims(of, ndim, order);
  for (int i = 0; i < ndim; i++)
    reordered = reordered || order[i] != ndim - 1 - i;
  for (int i = 0; i < ndim; i++) {
    int64_t size = of->shape[order[i]];
    strides[order[i]] = stride;
    if (!checked_mul(stride, size == 0 && !(as_iterator && reordered) ? 1 : size, &stride)) return false;
  }
  return true;
}

bool layout_like(const fonio_tensor *tensor, int64_t strides[FONIO_MAX_DIMS]) {
  strides_of of = {.operands = 1, .shape = tensor->shape};
  memcpy(of.strides[0], tensor->strides, sizeof of.strides[0]);
  if (!layout_is_dense(tensor)) return dense_in_order(&of, tensor->ndim, false, strides);
  memcpy(strides, tensor->strides, sizeof tensor->strides);
  return true;
}

static bool same_sizes(int ndim, const int64_t *a, const int64_t *b) {
  return ndim == 0 || memcmp(a, b, (size_t)ndim * sizeof *a) == 0;
}

/* Torch's short cuts for two of one shape; false when they do not apply. */
static bool layout_at_once(const fonio_tensor *a, const fonio_tensor *b, int64_t *strides) {
  if (a->ndim != b->ndim || !same_sizes(a->ndim, a->shape, b->shape)) return false;
  if (fonio_tensor_is_contiguous(a) && fonio_tensor_is_contiguous(b))
    return shape_contiguous_strides(a->ndim, a->shape, strides);
  if (fonio_tensor_is_channels_last(a) && fonio_tensor_is_channels_last(b))
    return shape_channels_last_strides(a->shape, strides);
  if (!layout_is_dense(a) || !layout_is_dense(b) || !same_sizes(a->ndim, a->strides, b->strides)) return false;
  memcpy(strides, a->strides, sizeof a->strides);
  return true;
}

bool layout_of_both(const fonio_tensor *a, const fonio_tensor *b, int ndim, const int64_t *shape,
                    int64_t strides[FONIO_MAX_DIMS]) {
  if (layout_at_once(a, b, strides)) return true;
  const fonio_tensor *tensors[] = {a, b};
  strides_of of = {.operands = 2, .shape = shape};
  for (int i = 0; i < 2; i++) {
    int missing = ndim - tensors[i]->ndim;
    for (int dim = missing; dim < ndim; dim++) {
      bool stretched = tensors[i]->shape[dim - missing] == 1 && shape[dim] != 1;
      of.strides[i][dim] = stretched ? 0 : tensors[i]->strides[dim - missing];
    }
  }
  return dense_in_order(&of, ndim, true, strides);
}
