/* Of one tensor, elementwise. */
#include <math.h>

#include "base/error.h"
#include "tensor/layout.h"
#include "tensor/storage.h"
#include "tensor/walk.h"

#define REAL float
#define NAMED(name) name##_f32
#define LIBM(name) name##f
#include "tensor/elementwise.inc"
#undef REAL
#undef NAMED
#undef LIBM

#define REAL double
#define NAMED(name) name##_f64
#define LIBM(name) name
#include "tensor/elementwise.inc"

typedef void row_function(int64_t count, void *to, int64_t to_step, const void *from, int64_t step, double parameter);

typedef struct unary {
  const char *name; /* in torch's refusal */
  row_function *f32, *f64;
} unary;

static const unary negative = {"neg_cpu", neg_row_f32, neg_row_f64};
static const unary relu = {"clamp_min_scalar_cpu", relu_row_f32, relu_row_f64};
static const unary exponential = {"exp_vml_cpu", exp_row_f32, exp_row_f64};
static const unary logarithm = {"log_vml_cpu", log_row_f32, log_row_f64};
static const unary power = {"pow", pow_row_f32, pow_row_f64};

static void apply(row_function *row, fonio_tensor *result, const fonio_tensor *tensor, double parameter) {
  const fonio_tensor *operands[] = {result, tensor};
  tensor_walk walk = walk_over(result->ndim, result->shape, 2, operands);
  if (walk.row == 0) return;
  do
    row(walk.row, walk_row(&walk, 0, result), walk.step[0], walk_row(&walk, 1, tensor), walk.step[1], parameter);
  while (walk_next(&walk));
}

static fonio_tensor *elementwise(const unary *operation, const fonio_tensor *tensor, double parameter) {
  int64_t strides[FONIO_MAX_DIMS];
  if (tensor->dtype != FONIO_FLOAT32 && tensor->dtype != FONIO_FLOAT64)
    return fail_null(FONIO_NOT_IMPLEMENTED, "\"%s\" not implemented for '%s'", operation->name,
                     fonio_dtype_scalar_name(tensor->dtype));
  if (!layout_of_both(tensor, tensor, tensor->ndim, tensor->shape, strides))
    return fail_null(FONIO_RUNTIME_ERROR, "Stride calculation overflowed");
  fonio_tensor *result = tensor_empty_strided(tensor->dtype, tensor->ndim, tensor->shape, strides);
  if (result) apply(tensor->dtype == FONIO_FLOAT32 ? operation->f32 : operation->f64, result, tensor, parameter);
  return result;
}

fonio_tensor *tensor_neg(const fonio_tensor *tensor) {
  return elementwise(&negative, tensor, 0);
}

fonio_tensor *tensor_relu(const fonio_tensor *tensor) {
  return elementwise(&relu, tensor, 0);
}

fonio_tensor *tensor_exp(const fonio_tensor *tensor) {
  return elementwise(&exponential, tensor, 0);
}

fonio_tensor *tensor_log(const fonio_tensor *tensor) {
  return elementwise(&logarithm, tensor, 0);
}

fonio_tensor *tensor_pow(const fonio_tensor *tensor, double exponent) {
  return elementwise(&power, tensor, exponent);
}
