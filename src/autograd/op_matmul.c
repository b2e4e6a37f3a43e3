/* Products of matrices, with their gradients. A matrix that is multiplied is an image one pixel high, whose rows are
 * the pixels and whose columns the channels; the other one is 1x1 kernels: the convolution's engine does the rest. */
#include <stddef.h>
#include <string.h>

#include "autograd/node.h"
#include "base/error.h"
#include "conv/plan.h"
#include "tensor/copy.h"

/* A host's memory without elements may be at NULL, which the convolution takes for a missing array. */
static void *data_of(const fonio_tensor *tensor) {
  static max_align_t nothing;
  return tensor->numel ? tensor_at_offset(tensor) : &nothing;
}

/* Sums in one order whatever else is multiplied along with a row. */
static fonio_status run(const fonio_conv_problem *problem, const fonio_conv_buffers *buffers) {
  fonio_conv_plan_options options = {
      .struct_bytes = sizeof options, .direction = FONIO_CONV_FORWARD, .accuracy = FONIO_ACCURACY_STRICT};
  fonio_conv_plan *plan = fonio_conv_plan_new(problem, &options);
  fonio_status status = plan ? fonio_conv_plan_run(plan, buffers) : fonio_last_status();
  fonio_conv_plan_release(plan);
  return status;
}

/* result (n, m) = a (n, k) times b (k, m), plus a row `bias` (m) or NULL; none of the sizes is 0. */
static fonio_status multiply(const fonio_tensor *a, const fonio_tensor *b, const fonio_tensor *bias,
                             fonio_tensor *result) {
  int64_t n = a->shape[0], k = a->shape[1], m = b->shape[1];
  fonio_array image = {a->dtype, 4, (int64_t[]){1, k, 1, n}, (int64_t[]){n * k, a->strides[1], n * k, a->strides[0]}};
  fonio_array kernels = {b->dtype, 4, (int64_t[]){m, k, 1, 1}, (int64_t[]){b->strides[1], b->strides[0], 1, 1}};
  fonio_array row = {a->dtype, 1, &m, bias ? bias->strides : NULL};
  fonio_conv_problem problem;
  fonio_status status = fonio_conv_problem_init(&problem, &image, &kernels, bias ? &row : NULL, NULL);
  if (status) return status;
  memcpy(problem.output_strides, (int64_t[]){n * m, 1, n * m, m}, sizeof problem.output_strides);
  fonio_conv_buffers buffers = {
      .input = data_of(a), .weight = data_of(b), .bias = bias ? data_of(bias) : NULL, .output = data_of(result)};
  return run(&problem, &buffers);
}

/* a times b, plus `bias` broadcast (or NULL): a new tensor without a history. */
static fonio_tensor *product(const fonio_tensor *a, const fonio_tensor *b, const fonio_tensor *bias) {
  fonio_tensor *result = fonio_tensor_empty(a->dtype, FONIO_SHAPE(a->shape[0], b->shape[1]));
  if (!result || result->numel == 0) return result;
  fonio_status status = FONIO_OK;
  if (a->shape[1] > 0)
    status = multiply(a, b, bias, result);
  else if (bias)
    copy_values(result, bias);
  else
    fill_values(result, 0);
  if (!status) return result;
  fonio_tensor_release(result);
  return NULL;
}

static fonio_status check_shapes(const fonio_tensor *a, const fonio_tensor *b) {
  if (a->ndim != 2) return fail(FONIO_RUNTIME_ERROR, "self must be a matrix");
  if (b->ndim != 2) return fail(FONIO_RUNTIME_ERROR, "mat2 must be a matrix");
  if (a->shape[1] != b->shape[0])
    return fail(FONIO_RUNTIME_ERROR, "mat1 and mat2 shapes cannot be multiplied (%lldx%lld and %lldx%lld)",
                (long long)a->shape[0], (long long)a->shape[1], (long long)b->shape[0], (long long)b->shape[1]);
  if (a->dtype != b->dtype)
    return fail(FONIO_RUNTIME_ERROR, "expected m1 and m2 to have the same dtype, but got: %s != %s",
                fonio_dtype_cpp_name(a->dtype), fonio_dtype_cpp_name(b->dtype));
  if (a->dtype == FONIO_FLOAT32 || a->dtype == FONIO_FLOAT64) return FONIO_OK;
  return fail(FONIO_NOT_IMPLEMENTED, "\"addmm_impl_cpu_\" not implemented for '%s'", fonio_dtype_scalar_name(a->dtype));
}

/* Operations: a.t(), a.t() times b, a times b.t(). */
static fonio_tensor *transposed(fonio_tensor *matrix) {
  return fonio_tensor_permute(matrix, FONIO_SHAPE(1, 0));
}

static fonio_tensor *mm_of_transposed(fonio_tensor *a, fonio_tensor *b) {
  fonio_tensor *turned = transposed(a), *result = fonio_tensor_mm(turned, b);
  fonio_tensor_release(turned);
  return result;
}

static fonio_tensor *mm_by_transposed(fonio_tensor *a, fonio_tensor *b) {
  fonio_tensor *turned = transposed(b), *result = fonio_tensor_mm(a, turned);
  fonio_tensor_release(turned);
  return result;
}

/* ---- mm ---- */

enum { A, B };

static fonio_status mm_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                             fonio_tensor **gradients) {
  fonio_status status = FONIO_OK;
  for (int i = A; !status && i <= B; i++) {
    if (!wanted[i]) continue;
    fonio_tensor *other = autograd_saved_tensor(node, B - i);
    if (!other) return fonio_last_status();
    gradients[i] = i == A ? mm_by_transposed(gradient, other) : mm_of_transposed(other, gradient);
    fonio_tensor_release(other);
    status = autograd_made(gradients[i]);
  }
  return status;
}

static const autograd_operation mm_operation = {"MmBackward0", false, mm_apply};

fonio_tensor *fonio_tensor_mm(fonio_tensor *a, fonio_tensor *b) {
  if (!a || !b) return fail_given_null("fonio_tensor_mm"), NULL;
  if (check_shapes(a, b)) return NULL;
  fonio_tensor *inputs[] = {a, b};
  fonio_tensor *result = autograd_record(product(a, b, NULL), &mm_operation, 2, inputs, NULL, 0);
  if (autograd_needs(result, B)) autograd_save(result, A, a);
  if (autograd_needs(result, A)) autograd_save(result, B, b);
  return result;
}

/* ---- linear ---- */

enum { INPUT, WEIGHT, BIAS };

/* The places of the saved tensors are those of the inputs. */
static fonio_status linear_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                 fonio_tensor **gradients) {
  fonio_status status = FONIO_OK;
  for (int i = INPUT; !status && i <= WEIGHT; i++) {
    if (!wanted[i]) continue;
    fonio_tensor *other = autograd_saved_tensor(node, WEIGHT - i);
    if (!other) return fonio_last_status();
    gradients[i] = i == INPUT ? fonio_tensor_mm(gradient, other) : mm_of_transposed(gradient, other);
    fonio_tensor_release(other);
    status = autograd_made(gradients[i]);
  }
  if (status || !wanted[BIAS]) return status;
  gradients[BIAS] = autograd_sum_to(gradient, &node->shapes[BIAS]);
  return autograd_made(gradients[BIAS]);
}

static const autograd_operation linear_operation = {"AddmmBackward0", false, linear_apply};
static const autograd_operation linear_without_bias_operation = {"MmBackward0", false, linear_apply};

/* The bias as a row for each row of the result: a view. */
static fonio_tensor *rows_of_bias(const fonio_tensor *bias, const fonio_tensor *input, const fonio_tensor *weight) {
  if (bias->dtype != input->dtype)
    return fail_null(FONIO_RUNTIME_ERROR, "self and mat2 must have the same dtype, but got %s and %s",
                     fonio_dtype_scalar_name(bias->dtype), fonio_dtype_scalar_name(input->dtype));
  if (bias->ndim > 1) return fail_null(FONIO_VALUE_ERROR, "linear(): the bias has 1 dimension, not %d", bias->ndim);
  return tensor_expand(bias, FONIO_SHAPE(input->shape[0], weight->shape[0]));
}

static fonio_tensor *linear_product(const fonio_tensor *input, const fonio_tensor *weight, const fonio_tensor *bias) {
  fonio_tensor *turned = tensor_permute(weight, weight->ndim, (int64_t[]){1, 0});
  fonio_tensor *rows = NULL, *row = NULL, *result = NULL;
  fonio_status status = turned ? check_shapes(input, turned) : fonio_last_status();
  if (!status && bias) {
    rows = rows_of_bias(bias, input, weight);
    row = rows && input->shape[0] > 0 ? tensor_select(rows, 0, 0) : NULL;
  }
  if (!status && (!bias || rows)) result = product(input, turned, row);
  fonio_tensor_release(row);
  fonio_tensor_release(rows);
  fonio_tensor_release(turned);
  return result;
}

/* Of an input of two dimensions. */
static fonio_tensor *linear(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias) {
  if (weight->ndim != 2)
    return fail_null(FONIO_RUNTIME_ERROR, "linear(): the weight has 2 dimensions, not %d", weight->ndim);
  fonio_tensor *inputs[] = {input, weight, bias};
  const autograd_operation *operation = bias ? &linear_operation : &linear_without_bias_operation;
  fonio_tensor *result = autograd_record(linear_product(input, weight, bias), operation, 3, inputs, NULL, 0);
  if (autograd_needs(result, WEIGHT)) autograd_save(result, INPUT, input);
  if (autograd_needs(result, INPUT)) autograd_save(result, WEIGHT, weight);
  return result;
}

fonio_tensor *fonio_tensor_linear(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias) {
  if (!input || !weight) return fail_given_null("fonio_tensor_linear"), NULL;
  if (input->ndim == 2) return linear(input, weight, bias);
  if (input->ndim == 0)
    return fail_null(FONIO_RUNTIME_ERROR, "both arguments to linear need to be at least 1D, but they are 0D and %dD",
                     weight->ndim);
  int64_t shape[FONIO_MAX_DIMS];
  memcpy(shape, input->shape, sizeof shape);
  int64_t columns = shape[input->ndim - 1], rows = columns > 0 ? input->numel / columns : 0;
  fonio_tensor *flat = fonio_tensor_reshape(input, FONIO_SHAPE(rows, columns));
  fonio_tensor *product = flat ? linear(flat, weight, bias) : NULL;
  if (product) shape[input->ndim - 1] = weight->shape[0];
  fonio_tensor *result = product ? fonio_tensor_reshape(product, input->ndim, shape) : NULL;
  fonio_tensor_release(product);
  fonio_tensor_release(flat);
  return result;
}
