/* torch.autograd.gradcheck: the gradients that the tape gives beside those that central differences give. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/node.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"

/* One check. The Jacobian has a row for each element of the output, and in each row first the elements of the first
 * input that is checked, then of the next. */
typedef struct check {
  fonio_gradcheck_function function;
  void *user;
  int count;
  fonio_tensor *const *inputs;
  double eps, atol, rtol;

  fonio_tensor **checked; /* the inputs that require a gradient, `checked_count` of them; borrowed */
  int checked_count;
  fonio_tensor *output;
  int64_t rows, columns;
  double *jacobian;      /* as the tape gives it */
  double *row;           /* one more row */
  double *below, *above; /* outputs on either side of an input's element; then, in `above`, their difference */
  fonio_tensor **grads;
  bool is_reentrant;  /* the same gradient came both times */
  bool is_multiplied; /* no gradient came from none */
} check;

static fonio_tensor *call(const check *c) {
  fonio_tensor *output = c->function(c->inputs, c->count, c->user);
  return output ? output : (fail_given_null("fonio_gradcheck"), NULL);
}

/* ---- What it is asked of ---- */

static fonio_status check_input(const fonio_tensor *input, int number) {
  char text[256];
  for (int i = 0; i < input->ndim; i++)
    if (input->strides[i] == 0 && input->shape[i] > 1)
      return fail(FONIO_RUNTIME_ERROR,
                  "The %dth input has a dimension with stride 0. gradcheck only supports inputs that are "
                  "non-overlapping to be able to compute the numerical gradients correctly. You should call "
                  ".contiguous on the input before passing it to gradcheck.",
                  number);
  if (input->dtype == FONIO_FLOAT64) return FONIO_OK;
  snprintf(text, sizeof text,
           "Input #%d requires gradient and is not a double precision floating point or complex. This check will "
           "likely fail if all the inputs are not of double precision floating point or complex. ",
           number);
  warn(text);
  return FONIO_OK;
}

static fonio_status check_inputs(check *c) {
  for (int i = 0; i < c->count; i++) {
    if (!c->inputs[i]) return fail_given_null("fonio_gradcheck");
    if (!c->inputs[i]->requires_grad) continue;
    fonio_status status = check_input(c->inputs[i], i);
    if (status) return status;
    c->checked[c->checked_count++] = c->inputs[i];
    if (!checked_add(c->columns, c->inputs[i]->numel, &c->columns)) c->columns = INT64_MAX;
  }
  if (c->checked_count > 0) return FONIO_OK;
  return fail(FONIO_VALUE_ERROR, "gradcheck expects at least one input tensor to require gradient, but none of them "
                                 "have requires_grad=True.");
}

/* Memory for `a * b` numbers, all zero. */
static double *take_numbers(int64_t a, int64_t b) {
  int64_t numbers, bytes;
  bool fits = checked_mul(a, b, &numbers) && checked_mul(numbers, sizeof(double), &bytes);
  return memory_take_zeroed(fits ? bytes : INT64_MAX);
}

static fonio_status take_memory(check *c) {
  c->jacobian = take_numbers(c->rows, c->columns);
  c->row = c->jacobian ? take_numbers(1, c->columns) : NULL;
  c->below = c->row ? take_numbers(1, c->rows) : NULL;
  c->above = c->below ? take_numbers(1, c->rows) : NULL;
  return c->above ? FONIO_OK : FONIO_NO_MEMORY;
}

/* ---- By the tape ---- */

/* The elements of `tensor` in order, as doubles. */
static fonio_status read_elements(const fonio_tensor *tensor, double *values) {
  fonio_tensor *copy = tensor_copy_contiguous(tensor);
  if (!copy) return fonio_last_status();
  const char *element = tensor_at_offset(copy);
  for (int64_t i = 0; i < copy->numel; i++)
    values[i] = tensor_read_element(copy->dtype, element + (size_t)i * fonio_dtype_bytes(copy->dtype));
  fonio_tensor_release(copy);
  return FONIO_OK;
}

/* The gradients of all inputs for one gradient of the output. */
static fonio_status go_back(const check *c, fonio_tensor *grad_output, double *row) {
  fonio_status status = fonio_grad(c->output, c->checked_count, c->checked, grad_output, true, false, true, c->grads);
  if (status) return status;
  memset(row, 0, (size_t)c->columns * sizeof *row);
  for (int i = 0; i < c->checked_count; i++) {
    if (!status && c->grads[i]) status = read_elements(c->grads[i], row);
    row += c->checked[i]->numel;
    fonio_tensor_release(c->grads[i]);
  }
  return status;
}

#define NO_ELEMENT (-1)

/* A gradient of the output that is 1 at one element and 0 elsewhere. */
static fonio_tensor *unit_gradient(const check *c, int64_t element) {
  fonio_tensor *unit = fonio_tensor_zeros(c->output->dtype, c->output->ndim, c->output->shape);
  if (unit && element != NO_ELEMENT) {
    size_t bytes = fonio_dtype_bytes(unit->dtype);
    tensor_write_element(unit->dtype, (char *)tensor_at_offset(unit) + (size_t)element * bytes, 1);
  }
  return unit;
}

/* Goes back twice: the same gradient must come both times. */
static fonio_status fill_row(check *c, int64_t element, double *row) {
  fonio_tensor *unit = unit_gradient(c, element);
  if (!unit) return fonio_last_status();
  fonio_status status = go_back(c, unit, row);
  if (!status) status = go_back(c, unit, c->row);
  if (!status && memcmp(row, c->row, (size_t)c->columns * sizeof *row) != 0) c->is_reentrant = false;
  fonio_tensor_release(unit);
  return status;
}

/* All that the tape has to say, before any input is touched: that would spoil what the graph has saved. */
static fonio_status fill_jacobian(check *c) {
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < c->rows; i++)
    status = fill_row(c, i, c->jacobian + i * c->columns);
  if (!status) status = fill_row(c, NO_ELEMENT, c->row);
  for (int64_t i = 0; !status && i < c->columns; i++)
    c->is_multiplied = c->is_multiplied && c->row[i] == 0;
  return status;
}

/* ---- By differences ---- */

static shape_text index_text(const fonio_tensor *tensor, int64_t element) {
  int64_t index[FONIO_MAX_DIMS];
  for (int i = tensor->ndim - 1; i >= 0; element /= tensor->shape[i--])
    index[i] = element % tensor->shape[i];
  return shape_to_text(tensor->ndim, index);
}

static void *element_of(const fonio_tensor *tensor, int64_t element) {
  int64_t offset = 0;
  for (int i = tensor->ndim - 1; i >= 0; element /= tensor->shape[i--])
    offset += element % tensor->shape[i] * tensor->strides[i];
  return (char *)tensor_at_offset(tensor) + offset * (int64_t)fonio_dtype_bytes(tensor->dtype);
}

/* The output where one element of an input is `value`; the input is left so. */
static fonio_status call_at(const check *c, fonio_tensor *input, void *element, double value, double *outputs) {
  tensor_write_element(input->dtype, element, value);
  tensor_touch(input);
  fonio_tensor *output = call(c);
  if (!output) return fonio_last_status();
  bool same = output->dtype == c->output->dtype && tensor_same_shape(output, c->output);
  fonio_status status = same ? read_elements(output, outputs)
                             : fail(FONIO_RUNTIME_ERROR,
                                    "Expected `func` to return outputs with the same shape and dtype when inputs are "
                                    "perturbed by %g, but got: shapes %s and %s.",
                                    c->eps, shape_to_text(c->output->ndim, c->output->shape).text,
                                    shape_to_text(output->ndim, output->shape).text);
  fonio_tensor_release(output);
  return status;
}

/* A column of the Jacobian, into `above`. */
static fonio_status difference(const check *c, fonio_tensor *input, int64_t element) {
  void *place = element_of(input, element);
  double value = tensor_read_element(input->dtype, place);
  fonio_status status = call_at(c, input, place, value - c->eps, c->below);
  if (!status) status = call_at(c, input, place, value + c->eps, c->above);
  tensor_write_element(input->dtype, place, value);
  tensor_touch(input);
  for (int64_t i = 0; !status && i < c->rows; i++)
    c->above[i] = (c->above[i] - c->below[i]) / (2 * c->eps);
  return status;
}

static bool is_close(const check *c, double analytical, double numerical) {
  return analytical == numerical || fabs(analytical - numerical) <= c->atol + c->rtol * fabs(numerical);
}

static fonio_status compare_column(const check *c, int input, int64_t element, const double *analytical) {
  for (int64_t i = 0; i < c->rows; i++) {
    double expected = c->above[i], got = analytical[i * c->columns];
    if (!c->output->requires_grad && expected != 0)
      return fail(FONIO_RUNTIME_ERROR, "Numerical gradient for function expected to be zero");
    if (!is_close(c, got, expected))
      return fail(FONIO_RUNTIME_ERROR,
                  "Jacobian mismatch for output 0 with respect to input %d,\nnumerical: %.10g, analytical: %.10g, for "
                  "element %s of the output and element %s of the input",
                  input, expected, got, index_text(c->output, i).text, index_text(c->checked[input], element).text);
  }
  return FONIO_OK;
}

static fonio_status compare(const check *c) {
  fonio_status status = FONIO_OK;
  const double *column = c->jacobian;
  for (int i = 0; !status && i < c->checked_count; i++)
    for (int64_t j = 0; !status && j < c->checked[i]->numel; j++, column++) {
      status = difference(c, c->checked[i], j);
      if (!status) status = compare_column(c, i, j, column);
    }
  return status;
}

/* ---- Both ---- */

static fonio_status check_output(check *c) {
  c->output = call(c);
  if (!c->output) return fonio_last_status();
  c->rows = c->output->numel;
  if (!fonio_dtype_is_floating_point(c->output->dtype)) return FONIO_OK;
  fonio_status status = take_memory(c);
  if (!status && c->output->requires_grad) status = fill_jacobian(c);
  if (!status) status = compare(c);
  if (status) return status;
  if (!c->is_reentrant)
    return fail(FONIO_RUNTIME_ERROR,
                "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times "
                "gives different values, although analytical gradient matches numerical gradient."
                "The tolerance for nondeterminism was 0.0.");
  return c->is_multiplied ? FONIO_OK : fail(FONIO_RUNTIME_ERROR, "backward not multiplied by grad_output");
}

fonio_status fonio_gradcheck(fonio_gradcheck_function function, void *user, int count, fonio_tensor *const *inputs,
                             double eps, double atol, double rtol) {
  if (!function || (count > 0 && !inputs)) return fail_given_null("fonio_gradcheck");
  check c = {.function = function,
             .user = user,
             .inputs = inputs,
             .eps = eps,
             .atol = atol,
             .rtol = rtol,
             .is_reentrant = true,
             .is_multiplied = true};
  c.count = count > 0 ? count : 0;
  int64_t list_bytes = c.count * (int64_t)sizeof(fonio_tensor *);
  c.checked = memory_take(list_bytes);
  c.grads = c.checked ? memory_take(list_bytes) : NULL;
  fonio_status status = c.grads ? check_inputs(&c) : FONIO_NO_MEMORY;
  if (!status) status = check_output(&c);
  fonio_tensor_release(c.output);
  memory_give(c.above);
  memory_give(c.below);
  memory_give(c.row);
  memory_give(c.jacobian);
  memory_give(c.grads);
  memory_give(c.checked);
  return status;
}
