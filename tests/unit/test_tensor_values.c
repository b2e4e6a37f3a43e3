/* Copies, conversions and arithmetic over random layouts, held against loops over single elements. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tensor/tensor.h"
#include "tensors.h"

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)
#define CASES 300

/* ---- Random tensors ---- */

static void assert_shape(const fonio_tensor *tensor, int ndim, const int64_t *shape) {
  assert_int_equal(fonio_tensor_ndim(tensor), ndim);
  for (int i = 0; i < ndim; i++)
    assert_int_equal(fonio_tensor_shape(tensor)[i], shape[i]);
}

static uint64_t random_state;

/* Below `limit`; the same numbers in every run. */
static int64_t random_below(int64_t limit) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (int64_t)((random_state >> 33) % (uint64_t)limit);
}

typedef struct index_of {
  int ndim;
  int64_t at[FONIO_MAX_DIMS];
} index_of;

/* The next index of a shape; false after the last. */
static bool next_index(const fonio_tensor *tensor, index_of *index) {
  for (int i = tensor->ndim - 1; i >= 0; i--) {
    if (++index->at[i] < tensor->shape[i]) return true;
    index->at[i] = 0;
  }
  return false;
}

static double element(const fonio_tensor *tensor, const index_of *index) {
  double value = 0;
  assert_int_equal(fonio_tensor_at(tensor, tensor->ndim, index->at, &value), FONIO_OK);
  return value;
}

/* Replaces a tensor by a view of it. */
static fonio_tensor *instead(fonio_tensor *tensor, fonio_tensor *view) {
  fonio_tensor_release(tensor);
  assert_non_null(view);
  return view;
}

/* `shape` in a random order in memory, with gaps here and there; values from -50 to 50 in quarters, none negative where
 * the dtype would wrap them to what a double cannot tell. */
static fonio_tensor *random_tensor(fonio_dtype dtype, int ndim, const int64_t *shape) {
  int64_t large[FONIO_MAX_DIMS], order[FONIO_MAX_DIMS], back[FONIO_MAX_DIMS], numel = 1;
  for (int i = 0; i < ndim; i++) {
    int64_t other = random_below(i + 1);
    order[i] = other == i ? i : order[other];
    order[other] = i;
  }
  for (int i = 0; i < ndim; i++) {
    large[i] = shape[order[i]] + (random_below(4) == 0);
    back[order[i]] = i;
    numel *= large[i];
  }
  bool wraps = dtype == FONIO_UINT32 || dtype == FONIO_UINT64;
  double *values = test_malloc((size_t)numel * sizeof *values + 1);
  for (int64_t i = 0; i < numel; i++)
    values[i] = (double)(random_below(401) - (wraps ? 0 : 200)) / 4;
  fonio_tensor *tensor = fonio_tensor_from_data(FONIO_FLOAT64, values, ndim, large);
  test_free(values);
  tensor = instead(tensor, fonio_tensor_to(tensor, dtype));
  tensor = instead(tensor, fonio_tensor_permute(tensor, ndim, back));
  for (int i = 0; i < ndim; i++)
    tensor = instead(tensor, fonio_tensor_slice(tensor, i, 0, shape[i], 1));
  assert_shape(tensor, ndim, shape);
  return tensor;
}

typedef struct shape_of {
  int ndim;
  int64_t sizes[FONIO_MAX_DIMS];
} shape_of;

static shape_of random_shape(void) {
  shape_of shape = {.ndim = (int)random_below(5)};
  for (int i = 0; i < shape.ndim; i++)
    shape.sizes[i] = random_below(20) == 0 ? random_below(300) : 1 + random_below(5);
  return shape;
}

/* A shape that broadcasts to `shape`: sizes made 1, dimensions left out. */
static shape_of narrower(const shape_of *shape) {
  int skipped = (int)random_below(shape->ndim + 1);
  shape_of result = {.ndim = shape->ndim - skipped};
  for (int i = 0; i < result.ndim; i++)
    result.sizes[i] = random_below(2) ? 1 : shape->sizes[i + skipped];
  return result;
}

/* The index in a tensor that is broadcast, of an index in the whole. */
static index_of narrow_index(const fonio_tensor *tensor, const index_of *index, int ndim) {
  index_of result = {.ndim = tensor->ndim};
  for (int i = 0; i < tensor->ndim; i++)
    result.at[i] = tensor->shape[i] == 1 ? 0 : index->at[ndim - tensor->ndim + i];
  return result;
}

static fonio_dtype random_dtype(void) {
  return (fonio_dtype)random_below(FONIO_DTYPE_COUNT);
}

/* What a quarter from -50 to 50 is in a dtype: every conversion of it is exact, or cut, or wraps. */
static double as_dtype(double value, fonio_dtype dtype) {
  char bytes[16];
  tensor_write_element(dtype, bytes, value);
  return tensor_read_element(dtype, bytes);
}

/* ---- Tests ---- */

static void copies(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    shape_of shape = random_shape(), from = narrower(&shape);
    fonio_tensor *target = random_tensor(random_dtype(), shape.ndim, shape.sizes);
    fonio_tensor *source = random_tensor(random_dtype(), from.ndim, from.sizes);
    assert_int_equal(fonio_tensor_copy(target, source), FONIO_OK);
    index_of index = {0};
    if (target->numel > 0) do {
        index_of narrow = narrow_index(source, &index, shape.ndim);
        assert_true(element(target, &index) == as_dtype(element(source, &narrow), target->dtype));
      } while (next_index(target, &index));
    fonio_tensor_release(target);
    fonio_tensor_release(source);
  }
}

static void layouts(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    int64_t shape[4];
    for (int dim = 0; dim < 4; dim++)
      shape[dim] = 1 + random_below(dim == 1 ? 40 : 20);
    fonio_tensor *tensor = random_tensor(random_dtype(), 4, shape);
    fonio_tensor *all[] = {fonio_tensor_contiguous(tensor), fonio_tensor_channels_last(tensor),
                           fonio_tensor_clone(tensor)};
    for (int k = 0; k < 3; k++) {
      bool identical = false;
      assert_int_equal(fonio_tensor_identical(tensor, all[k], &identical), FONIO_OK);
      assert_true(identical);
    }
    assert_true(fonio_tensor_is_contiguous(all[0]) && fonio_tensor_is_channels_last(all[1]));
    index_of index = {0};
    do
      assert_true(element(all[0], &index) == element(tensor, &index));
    while (next_index(tensor, &index));
    for (int k = 0; k < 3; k++)
      fonio_tensor_release(all[k]);
    fonio_tensor_release(tensor);
  }
}

static void arithmetic(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    shape_of shape = random_shape(), from = narrower(&shape);
    fonio_tensor *a = random_tensor((fonio_dtype)random_below(2), shape.ndim, shape.sizes);
    fonio_tensor *b = random_tensor((fonio_dtype)random_below(2), from.ndim, from.sizes);
    fonio_tensor *sum = tensor_add(b, a), *product = tensor_mul(a, b);
    assert_shape(sum, shape.ndim, shape.sizes);
    index_of index = {0};
    if (a->numel > 0) do {
        index_of narrow = narrow_index(b, &index, shape.ndim);
        assert_true(element(sum, &index) == element(a, &index) + element(b, &narrow));
        assert_true(element(product, &index) == element(a, &index) * element(b, &narrow));
      } while (next_index(a, &index));
    fonio_tensor_release(a);
    fonio_tensor_release(b);
    fonio_tensor_release(sum);
    fonio_tensor_release(product);
  }
}

/* Quarters below 50 add up exactly, whatever the order. */
static void sums(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    shape_of shape = random_shape(), to = narrower(&shape);
    fonio_tensor *tensor = random_tensor((fonio_dtype)random_below(2), shape.ndim, shape.sizes);
    fonio_tensor *expected = fonio_tensor_zeros(FONIO_FLOAT64, to.ndim, to.sizes);
    fonio_tensor *made = tensor_sum_to(tensor, to.ndim, to.sizes), *total = tensor_sum(tensor);
    double all = 0, difference = -1, item = 0;
    index_of index = {0};
    if (tensor->numel > 0) do {
        index_of narrow = narrow_index(expected, &index, shape.ndim);
        int64_t offset = 0;
        for (int k = 0; k < to.ndim; k++)
          offset += narrow.at[k] * expected->strides[k];
        ((double *)fonio_tensor_data(expected))[offset] += element(tensor, &index);
        all += element(tensor, &index);
      } while (next_index(tensor, &index));
    assert_int_equal(made->dtype, tensor->dtype);
    assert_shape(made, to.ndim, to.sizes);
    assert_int_equal(fonio_tensor_max_difference(made, expected, &difference), FONIO_OK);
    assert_true(difference == 0);
    assert_int_equal(fonio_tensor_item(total, &item), FONIO_OK);
    assert_true(item == all);
    fonio_tensor_release(tensor);
    fonio_tensor_release(expected);
    fonio_tensor_release(made);
    fonio_tensor_release(total);
  }
}

static void accumulation(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    shape_of shape = random_shape();
    fonio_dtype dtype = (fonio_dtype)random_below(2);
    fonio_tensor *target = random_tensor(dtype, shape.ndim, shape.sizes);
    fonio_tensor *source = random_tensor(dtype, shape.ndim, shape.sizes), *expected = tensor_add(target, source);
    bool equal = false;
    assert_int_equal(tensor_check_accumulate(target), FONIO_OK);
    tensor_accumulate(target, source);
    assert_int_equal(fonio_tensor_equal(target, expected, &equal), FONIO_OK);
    assert_true(equal);
    assert_int_equal(fonio_tensor_version(target), 1);
    fonio_tensor_release(target);
    fonio_tensor_release(source);
    fonio_tensor_release(expected);
  }
}

static void arithmetic_refuses(void **state) {
  (void)state;
  fonio_tensor *whole = counting(FONIO_INT64, 0, FONIO_SHAPE(2)),
               *real = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(3));
  fonio_tensor *two = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(2)), *wide = tensor_expand(two, FONIO_SHAPE(3, 2));
  assert_null(tensor_add(whole, two));
  assert_fails(fonio_last_status(), FONIO_NOT_IMPLEMENTED, "\"add\" not implemented for 'Long'");
  assert_null(tensor_sum(whole));
  assert_fails(fonio_last_status(), FONIO_NOT_IMPLEMENTED, "\"sum_cpu\" not implemented for 'Long'");
  assert_null(tensor_mul(two, real));
  assert_fails(fonio_last_status(), FONIO_RUNTIME_ERROR,
               "The size of tensor a (2) must match the size of tensor b (3) at non-singleton dimension 0");
  assert_null(tensor_sum_to(real, FONIO_SHAPE(2)));
  assert_fails(fonio_last_status(), FONIO_RUNTIME_ERROR, "size {[2]} is not expandable to size {[3]}.");
  assert_int_equal(tensor_check_accumulate(wide), FONIO_RUNTIME_ERROR);
  assert_int_equal(tensor_check_accumulate(whole), FONIO_NOT_IMPLEMENTED);
  fonio_tensor_release(whole);
  fonio_tensor_release(real);
  fonio_tensor_release(two);
  fonio_tensor_release(wide);
}

/* Every number of the small formats survives the way through double, and so does every NaN as a NaN. */
static void small_floats_come_back(void **state) {
  (void)state;
  static const fonio_dtype dtypes[] = {FONIO_FLOAT16, FONIO_BFLOAT16, FONIO_FLOAT8_E4M3FN, FONIO_FLOAT8_E5M2};
  for (int i = 0; i < 4; i++) {
    uint32_t count = fonio_dtype_bytes(dtypes[i]) == 2 ? 65536 : 256;
    for (uint32_t bits = 0; bits < count; bits++) {
      uint16_t given = (uint16_t)bits, back = 0;
      double value = tensor_read_element(dtypes[i], &given);
      tensor_write_element(dtypes[i], &back, value);
      if (isnan(value))
        assert_true(isnan(tensor_read_element(dtypes[i], &back)));
      else
        assert_int_equal(back, given);
    }
  }
}

static void numbers_that_do_not_fit_are_no_fault(void **state) {
  (void)state;
  static const double odd[] = {1e300, -1e300, INFINITY, -INFINITY, NAN, 0x1p63, -0x1p63, 0x1p64, 0x1p31, -0x1p31 - 1};
  char bytes[16];
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
    for (int dtype = 0; dtype < FONIO_DTYPE_COUNT; dtype++)
      tensor_write_element((fonio_dtype)dtype, bytes, odd[i]);
  assert_true(as_dtype(1e300, FONIO_FLOAT8_E4M3FN) == 448);
  assert_true(isinf(as_dtype(1e300, FONIO_FLOAT8_E5M2)));
  assert_true(isinf(as_dtype(65520, FONIO_FLOAT16)) && as_dtype(65519.9, FONIO_FLOAT16) == 65504);
  assert_true(as_dtype(0x1p63, FONIO_UINT64) == 0x1p63 && as_dtype(NAN, FONIO_BOOL) == 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(copies),
      TEST(layouts),
      TEST(arithmetic),
      TEST(sums),
      TEST(accumulation),
      TEST(arithmetic_refuses),
      TEST(small_floats_come_back),
      TEST(numbers_that_do_not_fit_are_no_fault),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
