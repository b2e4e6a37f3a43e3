#include "base/shape.h"

#include "base/checked.h"

bool shape_contiguous_strides(int ndim, const int64_t *shape, int64_t *strides) {
  int64_t stride = 1;
  for (int i = ndim - 1; i >= 0; i--) {
    strides[i] = stride;
    if (!checked_mul(stride, shape[i] > 1 ? shape[i] : 1, &stride)) return false;
  }
  return true;
}

/* The dimensions of (N, C, H, W) from the fastest to the slowest, channels_last. */
static const int channels_last_order[4] = {1, 3, 2, 0};

bool shape_channels_last_strides(const int64_t shape[4], int64_t strides[4]) {
  int64_t stride = 1;
  for (int i = 0; i < 4; i++) {
    int dim = channels_last_order[i];
    strides[dim] = stride;
    /* Unlike in contiguous strides, torch lets a size of 0 through. */
    if (!checked_mul(stride, shape[dim], &stride)) return false;
  }
  return true;
}

bool shape_is_contiguous(int ndim, const int64_t *shape, const int64_t *strides) {
  for (int i = 0; i < ndim; i++)
    if (shape[i] == 0) return true;
  int64_t expected = 1;
  for (int i = ndim - 1; i >= 0; i--) {
    if (shape[i] == 1) continue;
    if (strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

bool shape_is_channels_last(const int64_t shape[4], const int64_t strides[4]) {
  int64_t expected = 1;
  for (int i = 0; i < 4; i++) {
    int dim = channels_last_order[i];
    if (shape[dim] == 1) continue;
    if (strides[dim] != expected) return false;
    expected *= shape[dim];
  }
  return true;
}

bool shape_suggests_channels_last(const int64_t shape[4], const int64_t strides[4]) {
  int64_t least = 0;
  /* Equal channel strides are ambiguous (all sizes 1): torch then says NCHW. */
  if (strides[1] == 0) return false;
  for (int i = 0; i < 4; i++) {
    int dim = channels_last_order[i];
    if (shape[dim] == 0) return false;
    if (strides[dim] < least) return false;
    /* N111 is taken as NCHW, where both readings would fit. */
    if (dim == 0 && least == strides[1]) return false;
    least = strides[dim];
    if (shape[dim] > 1) least *= shape[dim];
  }
  return true;
}
