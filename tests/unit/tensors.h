/* Tensors in tests: made in one line, compared in one line. Included after cmocka.h. */
#ifndef TESTS_UNIT_TENSORS_H
#define TESTS_UNIT_TENSORS_H

#include "fonio.h"

#define COUNT_OF(...) (sizeof((double[]){__VA_ARGS__}) / sizeof(double))

/* float64, 1-D, of these numbers. */
#define LINE(...) line_of((int64_t)COUNT_OF(__VA_ARGS__), (double[]){__VA_ARGS__})

/* Every element, in order, exactly. */
#define ASSERT_VALUES(tensor, ...) assert_values((tensor), (int64_t)COUNT_OF(__VA_ARGS__), (double[]){__VA_ARGS__})

#define ASSERT_SIZES(sizes, ...)                                                                                       \
  assert_memory_equal((sizes), ((const int64_t[]){__VA_ARGS__}), sizeof((const int64_t[]){__VA_ARGS__}))

static inline fonio_tensor *line_of(int64_t count, const double *numbers) {
  fonio_tensor *tensor = fonio_tensor_from_data(FONIO_FLOAT64, numbers, 1, &count);
  assert_non_null(tensor);
  return tensor;
}

static inline fonio_tensor *requiring_grad(fonio_tensor *tensor) {
  assert_int_equal(fonio_tensor_set_requires_grad(tensor, true), FONIO_OK);
  return tensor;
}

/* start, start + 1, ... in a shape. */
static inline fonio_tensor *counting(fonio_dtype dtype, double start, int ndim, const int64_t *shape) {
  int64_t count = 1;
  for (int i = 0; i < ndim; i++)
    count *= shape[i];
  fonio_tensor *line = fonio_tensor_arange(dtype, start, start + (double)count, 1);
  fonio_tensor *tensor = fonio_tensor_reshape(line, ndim, shape);
  fonio_tensor_release(line);
  assert_non_null(tensor);
  return tensor;
}

/* The element at place `place` in the order of the dimensions. */
static inline double value_at(const fonio_tensor *tensor, int64_t place) {
  int64_t index[FONIO_MAX_DIMS];
  double value = 0;
  assert_non_null(tensor);
  for (int i = fonio_tensor_ndim(tensor) - 1; i >= 0; i--) {
    index[i] = place % fonio_tensor_shape(tensor)[i];
    place /= fonio_tensor_shape(tensor)[i];
  }
  assert_int_equal(fonio_tensor_at(tensor, fonio_tensor_ndim(tensor), index, &value), FONIO_OK);
  return value;
}

static inline void assert_values(const fonio_tensor *tensor, int64_t count, const double *expected) {
  assert_int_equal(fonio_tensor_numel(tensor), count);
  for (int64_t i = 0; i < count; i++)
    if (value_at(tensor, i) != expected[i])
      fail_msg("element %d is %.17g, not %.17g", (int)i, value_at(tensor, i), expected[i]);
}

static inline void assert_fails(fonio_status status, fonio_status expected, const char *text) {
  assert_int_equal(status, expected);
  assert_string_equal(fonio_last_error(), text);
}

/* For functions that return a pointer. */
static inline void assert_null_fails(const void *pointer, fonio_status expected, const char *text) {
  assert_null(pointer);
  assert_fails(fonio_last_status(), expected, text);
}

static inline void release_all(int count, fonio_tensor **tensors) {
  for (int i = 0; i < count; i++)
    fonio_tensor_release(tensors[i]);
}

/* Releases each of the tensors named. */
#define RELEASE(...)                                                                                                   \
  release_all((int)(sizeof((fonio_tensor *[]){__VA_ARGS__}) / sizeof(fonio_tensor *)), (fonio_tensor *[]){__VA_ARGS__})

/* A teardown that finds what a test has lost, and blames no later test for it. */
static inline int nothing_is_lost(void **state) {
  static int64_t lost_before;
  int64_t lost = fonio_live_allocations() - lost_before;
  (void)state;
  lost_before += lost;
  if (lost != 0) print_error("%lld blocks of memory are lost\n", (long long)lost);
  return lost == 0 ? 0 : -1;
}

#endif
