/* Of two tensors, elementwise. */
#include <math.h>

#include "base/error.h"
#include "tensor/layout.h"
#include "tensor/storage.h"
#include "tensor/walk.h"

#define OPERATION(x, y) ((x) + (y))
#define NAME add_row_f32
#define REAL float
#include "tensor/arithmetic.inc"
#define NAME add_row_f64
#define REAL double
#include "tensor/arithmetic.inc"
#undef OPERATION

#define OPERATION(x, y) ((x) - (y))
#define NAME sub_row_f32
#define REAL float
#include "tensor/arithmetic.inc"
#define NAME sub_row_f64
#define REAL double
#include "tensor/arithmetic.inc"
#undef OPERATION

#define OPERATION(x, y) ((x) * (y))
#define NAME mul_row_f32
#define REAL float
#include "tensor/arithmetic.inc"
#define NAME mul_row_f64
#define REAL double
#include "tensor/arithmetic.inc"
#undef OPERATION

#define OPERATION(x, y) ((x) / (y))
#define NAME div_row_f32
#define REAL float
#include "tensor/arithmetic.inc"
#define NAME div_row_f64
#define REAL double
#include "tensor/arithmetic.inc"
#undef OPERATION

#define OPERATION(x, y) ((x) <= 0 ? 0 : (y))
#define NAME threshold_row_f32
#define REAL float
#include "tensor/arithmetic.inc"
#define NAME threshold_row_f64
#define REAL double
#include "tensor/arithmetic.inc"
#undef OPERATION

#define ANY_STEP
#define OPERATION(x, y) ((x) == 0 ? 0 : (y))
#define NAME where_not_zero_row_f32
#define REAL float
#include "tensor/arithmetic.inc"
#define NAME where_not_zero_row_f64
#define REAL double
#include "tensor/arithmetic.inc"
#undef OPERATION

#define OPERATION(x, y) ((x) == 0 && (y) >= 0 ? 0 : 1)
#define NAME not_power_of_zero_row_f32
#define REAL float
#include "tensor/arithmetic.inc"
#define NAME not_power_of_zero_row_f64
#define REAL double
#include "tensor/arithmetic.inc"
#undef OPERATION

#define OPERATION powf
#define NAME pow_row_f32
#define REAL float
#include "tensor/arithmetic.inc"
#undef OPERATION
#define OPERATION pow
#define NAME pow_row_f64
#define REAL double
#include "tensor/arithmetic.inc"
#undef OPERATION

typedef void row_function(int64_t count, void *to, const int64_t *step, const void *a, const void *b);

typedef struct binary {
  const char *name;
  row_function *f32, *f64;
} binary;

static const binary addition = {"add", add_row_f32, add_row_f64};
static const binary difference = {"sub", sub_row_f32, sub_row_f64};
static const binary product = {"mul", mul_row_f32, mul_row_f64};
static const binary quotient = {"div_true", div_row_f32, div_row_f64};
static const binary threshold = {"threshold_backward", threshold_row_f32, threshold_row_f64};
static const binary where_not_zero = {"where", where_not_zero_row_f32, where_not_zero_row_f64};
static const binary not_power_of_zero = {"pow", not_power_of_zero_row_f32, not_power_of_zero_row_f64};
static const binary power = {"pow", pow_row_f32, pow_row_f64};

static fonio_status check_dtype(const binary *operation, fonio_dtype dtype) {
  if (dtype == FONIO_FLOAT32 || dtype == FONIO_FLOAT64) return FONIO_OK;
  return fail(FONIO_NOT_IMPLEMENTED, "\"%s\" not implemented for '%s'", operation->name,
              fonio_dtype_scalar_name(dtype));
}

/* A tensor without dimensions does not widen one that has some. */
static fonio_dtype promoted(const fonio_tensor *a, const fonio_tensor *b) {
  if (a->ndim > 0 && b->ndim == 0) return a->dtype;
  if (b->ndim > 0 && a->ndim == 0) return b->dtype;
  return a->dtype == b->dtype ? a->dtype : FONIO_FLOAT64;
}

/* `result` = a operation b, all of one dtype. */
static void apply(const binary *operation, fonio_tensor *result, const fonio_tensor *a, const fonio_tensor *b) {
  const fonio_tensor *operands[] = {result, a, b};
  tensor_walk walk = walk_over(result->ndim, result->shape, 3, operands);
  row_function *row = result->dtype == FONIO_FLOAT32 ? operation->f32 : operation->f64;
  if (walk.row == 0) return;
  do
    row(walk.row, walk_row(&walk, 0, result), walk.step, walk_row(&walk, 1, a), walk_row(&walk, 2, b));
  while (walk_next(&walk));
}

/* a operation b, of one dtype. */
static fonio_tensor *combine(const binary *operation, const fonio_tensor *a, const fonio_tensor *b) {
  int64_t shape[FONIO_MAX_DIMS], strides[FONIO_MAX_DIMS];
  int ndim = tensor_broadcast_shape(a, b, shape);
  if (ndim < 0) return NULL;
  if (!layout_of_both(a, b, ndim, shape, strides))
    return fail_null(FONIO_RUNTIME_ERROR, "Storage size calculation overflowed with sizes=%s",
                     shape_to_text(ndim, shape).text);
  fonio_tensor *result = tensor_empty_strided(a->dtype, ndim, shape, strides);
  if (result) apply(operation, result, a, b);
  return result;
}

/* Like torch, converts the one of another dtype before the strides of the result are worked out. */
static fonio_tensor *elementwise(const binary *operation, const fonio_tensor *a, const fonio_tensor *b) {
  if (check_dtype(operation, a->dtype) || check_dtype(operation, b->dtype)) return NULL;
  fonio_dtype dtype = promoted(a, b);
  if (a->dtype == dtype && b->dtype == dtype) return combine(operation, a, b);
  fonio_tensor *converted = tensor_convert(a->dtype == dtype ? b : a, dtype);
  if (!converted) return NULL;
  fonio_tensor *result = a->dtype == dtype ? combine(operation, a, converted) : combine(operation, converted, b);
  fonio_tensor_release(converted);
  return result;
}

fonio_tensor *tensor_add(const fonio_tensor *a, const fonio_tensor *b) {
  return elementwise(&addition, a, b);
}

fonio_tensor *tensor_sub(const fonio_tensor *a, const fonio_tensor *b) {
  return elementwise(&difference, a, b);
}

fonio_tensor *tensor_mul(const fonio_tensor *a, const fonio_tensor *b) {
  return elementwise(&product, a, b);
}

fonio_tensor *tensor_div(const fonio_tensor *a, const fonio_tensor *b) {
  return elementwise(&quotient, a, b);
}

fonio_tensor *tensor_where_positive(const fonio_tensor *a, const fonio_tensor *b) {
  return elementwise(&threshold, a, b);
}

fonio_tensor *tensor_where_not_zero(const fonio_tensor *a, const fonio_tensor *b) {
  return elementwise(&where_not_zero, a, b);
}

fonio_tensor *tensor_not_power_of_zero(const fonio_tensor *base, const fonio_tensor *exponent) {
  return elementwise(&not_power_of_zero, base, exponent);
}

fonio_tensor *tensor_pow_tensor(const fonio_tensor *base, const fonio_tensor *exponent) {
  return elementwise(&power, base, exponent);
}

fonio_tensor *tensor_number_pow(double base, const fonio_tensor *exponent) {
  if (check_dtype(&power, exponent->dtype)) return NULL;
  fonio_tensor *result = fonio_tensor_full(exponent->dtype, base, exponent->ndim, exponent->shape);
  if (result) apply(&power, result, result, exponent);
  return result;
}

fonio_status tensor_check_accumulate(const fonio_tensor *target) {
  fonio_status status = check_dtype(&addition, target->dtype);
  return status ? status : tensor_check_not_expanded(target);
}

void tensor_accumulate(fonio_tensor *target, const fonio_tensor *source) {
  apply(&addition, target, target, source);
  tensor_touch(target);
}
