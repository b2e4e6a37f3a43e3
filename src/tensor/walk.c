#include "tensor/walk.h"

#define SHORT_ROW 8

/* Whether dimension `a` should lie outside of dimension `b`: larger strides outside, the first operand's before the
 * others'. Strides are equal only where elements overlap: torch then has the larger size outside. */
static bool outside(const tensor_walk *walk, int a, int b) {
  for (int i = 0; i < walk->operands; i++)
    if (walk->strides[i][a] != walk->strides[i][b]) return walk->strides[i][a] > walk->strides[i][b];
  return walk->shape[a] >= walk->shape[b];
}

static void swap(tensor_walk *walk, int a, int b) {
  int64_t size = walk->shape[a];
  walk->shape[a] = walk->shape[b];
  walk->shape[b] = size;
  for (int i = 0; i < walk->operands; i++) {
    int64_t stride = walk->strides[i][a];
    walk->strides[i][a] = walk->strides[i][b];
    walk->strides[i][b] = stride;
  }
}

static void sort(tensor_walk *walk) {
  for (int i = 1; i < walk->ndim; i++)
    for (int j = i; j > 0 && !outside(walk, j - 1, j); j--)
      swap(walk, j - 1, j);
}

/* Whether a step along `outer` is for every operand what a whole run along `inner` is. */
static bool joins(const tensor_walk *walk, int outer, int inner) {
  for (int i = 0; i < walk->operands; i++)
    if (walk->strides[i][outer] != walk->strides[i][inner] * walk->shape[inner]) return false;
  return true;
}

static void join(tensor_walk *walk) {
  int kept = 0;
  for (int dim = 1; dim < walk->ndim; dim++) {
    bool joined = joins(walk, kept, dim);
    if (joined)
      walk->shape[kept] *= walk->shape[dim];
    else
      walk->shape[++kept] = walk->shape[dim];
    for (int i = 0; i < walk->operands; i++)
      walk->strides[i][kept] = walk->strides[i][dim];
  }
  if (walk->ndim > 0) walk->ndim = kept + 1;
}

/* Exchanges a row of a few elements with the longest other dimension: each row costs more than an element. */
static void avoid_short_rows(tensor_walk *walk) {
  int last = walk->ndim - 1, longest = last;
  for (int i = 0; i < last; i++)
    if (walk->shape[i] > walk->shape[longest]) longest = i;
  if (walk->shape[last] < SHORT_ROW && walk->shape[longest] >= SHORT_ROW * walk->shape[last]) swap(walk, last, longest);
}

static void add_dim(tensor_walk *walk, int from_end, int64_t size, const fonio_tensor *const *tensors) {
  int dim = walk->ndim++;
  walk->shape[dim] = size;
  for (int i = 0; i < walk->operands; i++) {
    int own = tensors[i]->ndim - from_end;
    walk->strides[i][dim] = own < 0 || tensors[i]->shape[own] == 1 ? 0 : tensors[i]->strides[own];
  }
}

/* The dimensions in the order of memory, as few as may be. */
static tensor_walk in_order(int ndim, const int64_t *shape, int operands, const fonio_tensor *const *tensors) {
  tensor_walk walk = {.operands = operands, .row = 1};
  for (int i = 0; i < ndim; i++) {
    if (shape[i] == 0) walk.row = 0;
    if (shape[i] != 1) add_dim(&walk, ndim - i, shape[i], tensors);
  }
  if (walk.row == 0) walk.ndim = 0;
  sort(&walk);
  join(&walk);
  return walk;
}

/* Makes the last dimension the row. */
static tensor_walk with_row(tensor_walk walk) {
  if (walk.ndim == 0) return walk;
  int last = --walk.ndim;
  walk.row = walk.shape[last];
  for (int i = 0; i < walk.operands; i++)
    walk.step[i] = walk.strides[i][last];
  return walk;
}

tensor_walk walk_over(int ndim, const int64_t *shape, int operands, const fonio_tensor *const *tensors) {
  tensor_walk walk = in_order(ndim, shape, operands, tensors);
  if (walk.ndim > 0) avoid_short_rows(&walk);
  return with_row(walk);
}

tensor_walk walk_in_order(const fonio_tensor *tensor) {
  return with_row(in_order(tensor->ndim, tensor->shape, 1, &tensor));
}

int64_t walk_take_dim(tensor_walk *walk, int dim, int64_t strides[WALK_MOST]) {
  int64_t size = walk->shape[dim];
  int last = --walk->ndim;
  for (int i = 0; i < walk->operands; i++)
    strides[i] = walk->strides[i][dim];
  for (int i = dim; i < last; i++)
    swap(walk, i, i + 1);
  return size;
}

bool walk_next(tensor_walk *walk) {
  for (int dim = walk->ndim - 1; dim >= 0; dim--) {
    walk->index[dim]++;
    for (int i = 0; i < walk->operands; i++)
      walk->position[i] += walk->strides[i][dim];
    if (walk->index[dim] < walk->shape[dim]) return true;
    for (int i = 0; i < walk->operands; i++)
      walk->position[i] -= walk->strides[i][dim] * walk->shape[dim];
    walk->index[dim] = 0;
  }
  return false;
}
