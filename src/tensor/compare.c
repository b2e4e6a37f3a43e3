/* Two tensors side by side: equal, identical, close, how far apart. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "tensor/convert.h"
#include "tensor/walk.h"

#define RUN 256

/* What comparing up to RUN pairs of elements tells. */
typedef struct comparison {
  int64_t count;
  double difference[RUN]; /* |a - b| */
  double scale[RUN];      /* |b| */
  bool same[RUN];         /* a == b */
  bool nan[RUN];          /* both are */
} comparison;

/* Elements of either tensor in the type that they are compared in. */
typedef union wide_elements {
  int64_t integer[RUN];
  double real[2 * RUN];
  char any[16 * RUN];
} wide_elements;

static bool is_whole(fonio_dtype dtype) {
  return !fonio_dtype_is_floating_point(dtype) && !fonio_dtype_is_complex(dtype);
}

/* Elements of `dtype` in the type `in`. An integer beside a float is rounded to the float's dtype `beside`, as torch
 * promotes it. */
static void widen(int64_t count, fonio_dtype dtype, const char *row, int64_t step, fonio_dtype beside, fonio_dtype in,
                  wide_elements *to) {
  if (!is_whole(dtype) || is_whole(beside)) {
    convert_row(count, dtype, row, step, in, to, 1);
    return;
  }
  wide_elements rounded;
  convert_row(count, dtype, row, step, beside, &rounded, 1);
  convert_row(count, beside, &rounded, 1, in, to, 1);
}

static void compare_integers(const int64_t *a, const int64_t *b, bool a_unsigned, bool b_unsigned, comparison *result) {
  for (int64_t i = 0; i < result->count; i++) {
    bool alike = a_unsigned == b_unsigned || (a[i] >= 0 && b[i] >= 0);
    bool larger = a_unsigned && b_unsigned ? (uint64_t)a[i] > (uint64_t)b[i] : a[i] > b[i];
    double value = b_unsigned ? (double)(uint64_t)b[i] : (double)b[i];
    result->difference[i] = (double)(larger ? (uint64_t)a[i] - (uint64_t)b[i] : (uint64_t)b[i] - (uint64_t)a[i]);
    if (!alike) result->difference[i] = fabs((a_unsigned ? (double)(uint64_t)a[i] : (double)a[i]) - value);
    result->scale[i] = fabs(value);
    result->same[i] = alike && a[i] == b[i];
    result->nan[i] = false;
  }
}

static void compare_reals(const double *a, const double *b, comparison *result) {
  for (int64_t i = 0; i < result->count; i++) {
    result->difference[i] = fabs(a[i] - b[i]);
    result->scale[i] = fabs(b[i]);
    result->same[i] = a[i] == b[i];
    result->nan[i] = isnan(a[i]) && isnan(b[i]);
  }
}

static void compare_complex(const double *a, const double *b, comparison *result) {
  for (int64_t i = 0; i < result->count; i++, a += 2, b += 2) {
    double real = a[0] - b[0], imaginary = a[1] - b[1];
    result->difference[i] = isnan(real) || isnan(imaginary) ? (double)NAN : hypot(real, imaginary);
    result->scale[i] = hypot(b[0], b[1]);
    result->same[i] = a[0] == b[0] && a[1] == b[1];
    result->nan[i] = (isnan(a[0]) || isnan(a[1])) && (isnan(b[0]) || isnan(b[1]));
  }
}

/* Compares a run of rows of the two dtypes. */
static void compare_run(fonio_dtype a_dtype, const char *a, int64_t a_step, fonio_dtype b_dtype, const char *b,
                        int64_t b_step, comparison *result) {
  wide_elements wide_a, wide_b;
  bool complex = fonio_dtype_is_complex(a_dtype) || fonio_dtype_is_complex(b_dtype);
  bool whole = is_whole(a_dtype) && is_whole(b_dtype);
  fonio_dtype in = complex ? FONIO_COMPLEX128 : whole ? FONIO_INT64 : FONIO_FLOAT64;
  widen(result->count, a_dtype, a, a_step, b_dtype, in, &wide_a);
  widen(result->count, b_dtype, b, b_step, a_dtype, in, &wide_b);
  if (complex)
    compare_complex(wide_a.real, wide_b.real, result);
  else if (whole)
    compare_integers(wide_a.integer, wide_b.integer, a_dtype == FONIO_UINT64, b_dtype == FONIO_UINT64, result);
  else
    compare_reals(wide_a.real, wide_b.real, result);
}

/* Shows every run of pairs to `look`, until it returns false. */
typedef bool look_function(const comparison *run, void *user);

static bool look_at_row(const tensor_walk *walk, const fonio_tensor *a, const fonio_tensor *b, look_function *look,
                        void *user) {
  const char *row_a = walk_row(walk, 0, a), *row_b = walk_row(walk, 1, b);
  int64_t step_a = walk->step[0] * (int64_t)fonio_dtype_bytes(a->dtype);
  int64_t step_b = walk->step[1] * (int64_t)fonio_dtype_bytes(b->dtype);
  comparison run;
  for (int64_t i = 0; i < walk->row; i += RUN) {
    run.count = walk->row - i < RUN ? walk->row - i : RUN;
    compare_run(a->dtype, row_a + i * step_a, walk->step[0], b->dtype, row_b + i * step_b, walk->step[1], &run);
    if (!look(&run, user)) return false;
  }
  return true;
}

static void look_at_pairs(int ndim, const int64_t *shape, const fonio_tensor *a, const fonio_tensor *b,
                          look_function *look, void *user) {
  const fonio_tensor *operands[] = {a, b};
  tensor_walk walk = walk_over(ndim, shape, 2, operands);
  if (walk.row == 0) return;
  while (look_at_row(&walk, a, b, look, user) && walk_next(&walk))
    continue;
}

static bool look_if_equal(const comparison *run, void *user) {
  bool *equal = user;
  for (int64_t i = 0; i < run->count; i++)
    *equal = *equal && run->same[i];
  return *equal;
}

fonio_status fonio_tensor_equal(const fonio_tensor *a, const fonio_tensor *b, bool *equal) {
  if (!a || !b || !equal) return fail_given_null("fonio_tensor_equal");
  bool result = tensor_same_shape(a, b);
  if (result) look_at_pairs(a->ndim, a->shape, a, b, look_if_equal, &result);
  *equal = result;
  return FONIO_OK;
}

static bool identical_rows(const tensor_walk *walk, size_t bytes, const char *a, const char *b) {
  if (walk->step[0] == 1 && walk->step[1] == 1) return memcmp(a, b, (size_t)walk->row * bytes) == 0;
  int64_t step_a = walk->step[0] * (int64_t)bytes, step_b = walk->step[1] * (int64_t)bytes;
  for (int64_t i = 0; i < walk->row; i++)
    if (memcmp(a + i * step_a, b + i * step_b, bytes) != 0) return false;
  return true;
}

static bool identical_values(const fonio_tensor *a, const fonio_tensor *b) {
  const fonio_tensor *operands[] = {a, b};
  tensor_walk walk = walk_over(a->ndim, a->shape, 2, operands);
  if (walk.row == 0) return true;
  do
    if (!identical_rows(&walk, fonio_dtype_bytes(a->dtype), walk_row(&walk, 0, a), walk_row(&walk, 1, b))) return false;
  while (walk_next(&walk));
  return true;
}

fonio_status fonio_tensor_identical(const fonio_tensor *a, const fonio_tensor *b, bool *identical) {
  if (!a || !b || !identical) return fail_given_null("fonio_tensor_identical");
  *identical = a->dtype == b->dtype && tensor_same_shape(a, b) && identical_values(a, b);
  return FONIO_OK;
}

typedef struct closeness {
  double rtol, atol;
  bool equal_nan, close;
} closeness;

static bool look_if_close(const comparison *run, void *user) {
  closeness *state = user;
  for (int64_t i = 0; i < run->count && state->close; i++) {
    /* An infinite difference is never close, however large the tolerance. */
    bool within = isfinite(run->difference[i]) && run->difference[i] <= state->atol + state->rtol * run->scale[i];
    state->close = run->same[i] || within || (state->equal_nan && run->nan[i]);
  }
  return state->close;
}

static fonio_status check_tolerance(const char *name, double tolerance) {
  if (tolerance >= 0) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR, "%s must be greater than or equal to zero, but got %g", name, tolerance);
}

fonio_status fonio_tensor_allclose(const fonio_tensor *a, const fonio_tensor *b, double rtol, double atol,
                                   bool equal_nan, bool *close) {
  if (!a || !b || !close) return fail_given_null("fonio_tensor_allclose");
  int64_t shape[FONIO_MAX_DIMS];
  if (a->dtype != b->dtype)
    return fail(FONIO_RUNTIME_ERROR, "%s did not match %s", fonio_dtype_scalar_name(a->dtype),
                fonio_dtype_scalar_name(b->dtype));
  if (check_tolerance("rtol", rtol) || check_tolerance("atol", atol)) return fonio_last_status();
  int ndim = tensor_broadcast_shape(a, b, shape);
  if (ndim < 0) return fonio_last_status();
  closeness state = {rtol, atol, equal_nan, true};
  look_at_pairs(ndim, shape, a, b, look_if_close, &state);
  *close = state.close;
  return FONIO_OK;
}

static bool look_for_largest(const comparison *run, void *user) {
  double *largest = user;
  for (int64_t i = 0; i < run->count; i++)
    if (run->difference[i] > *largest || isnan(run->difference[i])) *largest = run->difference[i];
  return !isnan(*largest);
}

fonio_status fonio_tensor_max_difference(const fonio_tensor *a, const fonio_tensor *b, double *difference) {
  if (!a || !b || !difference) return fail_given_null("fonio_tensor_max_difference");
  if (!tensor_same_shape(a, b))
    return fail(FONIO_RUNTIME_ERROR, "the difference of two tensors needs one shape, not %s and %s",
                shape_to_text(a->ndim, a->shape).text, shape_to_text(b->ndim, b->shape).text);
  double largest = 0;
  look_at_pairs(a->ndim, a->shape, a, b, look_for_largest, &largest);
  *difference = largest;
  return FONIO_OK;
}
