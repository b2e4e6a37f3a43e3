/* What fonio.Tensor is made of: one function of the library behind each. They take exactly what fonio/_tensor.py passes
 * on. */
#include <string.h>

#include "core.h"

static PyObject *none_or_failure(fonio_status status) {
  if (core_failed(status)) return NULL;
  Py_RETURN_NONE;
}

fonio_tensor *core_tensor_argument(PyObject *object) {
  if (PyObject_TypeCheck(object, core_tensor_type)) return core_tensor_of(object);
  PyErr_Format(PyExc_TypeError, "expected a Tensor, but got %R", Py_TYPE(object));
  return NULL;
}

/* ---- Values ---- */

static PyObject *item(PyObject *self, PyObject *unused) {
  (void)unused;
  const fonio_tensor *tensor = core_tensor_of(self);
  fonio_dtype dtype = fonio_tensor_dtype(tensor);
  double number;
  if (fonio_dtype_is_floating_point(dtype) || fonio_dtype_is_complex(dtype))
    return core_failed(fonio_tensor_item(tensor, &number)) ? NULL : PyFloat_FromDouble(number);
  int64_t whole;
  if (core_failed(fonio_tensor_item_int64(tensor, &whole))) return NULL;
  if (dtype == FONIO_BOOL) return PyBool_FromLong(whole != 0);
  return dtype == FONIO_UINT64 ? PyLong_FromUnsignedLongLong((uint64_t)whole) : PyLong_FromLongLong(whole);
}

static PyObject *text(PyObject *self, PyObject *unused) {
  (void)unused;
  char *words = fonio_tensor_to_text(core_tensor_of(self));
  if (!words) return core_raise();
  PyObject *string = PyUnicode_FromString(words);
  fonio_text_release(words);
  return string;
}

static PyObject *numel(PyObject *self, PyObject *unused) {
  (void)unused;
  return PyLong_FromLongLong(fonio_tensor_numel(core_tensor_of(self)));
}

static PyObject *storage_offset(PyObject *self, PyObject *unused) {
  (void)unused;
  return PyLong_FromLongLong(fonio_tensor_storage_offset(core_tensor_of(self)));
}

static PyObject *data_ptr(PyObject *self, PyObject *unused) {
  (void)unused;
  return PyLong_FromVoidPtr(fonio_tensor_data(core_tensor_of(self)));
}

static PyObject *is_contiguous(PyObject *self, PyObject *unused) {
  (void)unused;
  return PyBool_FromLong(fonio_tensor_is_contiguous(core_tensor_of(self)));
}

static PyObject *is_channels_last(PyObject *self, PyObject *unused) {
  (void)unused;
  return PyBool_FromLong(fonio_tensor_is_channels_last(core_tensor_of(self)));
}

static PyObject *equal(PyObject *self, PyObject *other) {
  fonio_tensor *given = core_tensor_argument(other);
  bool same;
  if (!given || core_failed(fonio_tensor_equal(core_tensor_of(self), given, &same))) return NULL;
  return PyBool_FromLong(same);
}

static PyObject *allclose(PyObject *self, PyObject *arguments) {
  PyObject *other;
  double rtol, atol;
  int equal_nan;
  bool close;
  if (!PyArg_ParseTuple(arguments, "Oddp", &other, &rtol, &atol, &equal_nan)) return NULL;
  fonio_tensor *given = core_tensor_argument(other);
  if (!given || core_failed(fonio_tensor_allclose(core_tensor_of(self), given, rtol, atol, equal_nan, &close)))
    return NULL;
  return PyBool_FromLong(close);
}

/* ---- A tensor from a tensor ---- */

static PyObject *apply(PyObject *self, fonio_tensor *(*function)(fonio_tensor *)) {
  fonio_tensor *tensor = core_tensor_hold(self), *made;
  PyThreadState *state = PyEval_SaveThread();
  made = function(tensor);
  PyEval_RestoreThread(state);
  fonio_tensor_release(tensor);
  return core_tensor_new(made);
}

static PyObject *sum(PyObject *self, PyObject *unused) {
  (void)unused;
  return apply(self, fonio_tensor_sum);
}

static PyObject *mean(PyObject *self, PyObject *unused) {
  (void)unused;
  return apply(self, fonio_tensor_mean);
}

static PyObject *neg(PyObject *self, PyObject *unused) {
  (void)unused;
  return apply(self, fonio_tensor_neg);
}

static PyObject *exp_(PyObject *self, PyObject *unused) {
  (void)unused;
  return apply(self, fonio_tensor_exp);
}

static PyObject *log_(PyObject *self, PyObject *unused) {
  (void)unused;
  return apply(self, fonio_tensor_log);
}

static PyObject *relu(PyObject *self, PyObject *unused) {
  (void)unused;
  return apply(self, fonio_tensor_relu);
}

static PyObject *contiguous(PyObject *self, PyObject *unused) {
  (void)unused;
  return apply(self, fonio_tensor_contiguous);
}

static PyObject *channels_last(PyObject *self, PyObject *unused) {
  (void)unused;
  return apply(self, fonio_tensor_channels_last);
}

static PyObject *clone(PyObject *self, PyObject *unused) {
  (void)unused;
  return apply(self, fonio_tensor_clone);
}

static PyObject *detach(PyObject *self, PyObject *unused) {
  (void)unused;
  return apply(self, fonio_tensor_detach);
}

static PyObject *to(PyObject *self, PyObject *number) {
  long dtype = PyLong_AsLong(number);
  if (PyErr_Occurred()) return NULL;
  fonio_tensor *tensor = core_tensor_hold(self), *made;
  PyThreadState *state = PyEval_SaveThread();
  made = fonio_tensor_to(tensor, (fonio_dtype)dtype);
  PyEval_RestoreThread(state);
  fonio_tensor_release(tensor);
  return core_tensor_new(made);
}

static PyObject *apply_two(PyObject *self, PyObject *other, fonio_tensor *(*function)(fonio_tensor *, fonio_tensor *)) {
  if (!core_tensor_argument(other)) return NULL;
  fonio_tensor *tensor = core_tensor_hold(self), *given = core_tensor_hold(other), *made;
  PyThreadState *state = PyEval_SaveThread();
  made = function(tensor, given);
  PyEval_RestoreThread(state);
  fonio_tensor_release(given);
  fonio_tensor_release(tensor);
  return core_tensor_new(made);
}

static PyObject *add(PyObject *self, PyObject *other) {
  return apply_two(self, other, fonio_tensor_add);
}

static PyObject *sub(PyObject *self, PyObject *other) {
  return apply_two(self, other, fonio_tensor_sub);
}

static PyObject *mul(PyObject *self, PyObject *other) {
  return apply_two(self, other, fonio_tensor_mul);
}

static PyObject *div_(PyObject *self, PyObject *other) {
  return apply_two(self, other, fonio_tensor_div);
}

static PyObject *apply_number(PyObject *self, PyObject *other, fonio_tensor *(*function)(fonio_tensor *, double)) {
  double number = PyFloat_AsDouble(other);
  if (PyErr_Occurred()) return NULL;
  fonio_tensor *tensor = core_tensor_hold(self), *made;
  PyThreadState *state = PyEval_SaveThread();
  made = function(tensor, number);
  PyEval_RestoreThread(state);
  fonio_tensor_release(tensor);
  return core_tensor_new(made);
}

static PyObject *pow_(PyObject *self, PyObject *exponent) {
  return apply_number(self, exponent, fonio_tensor_pow);
}

static PyObject *pow_tensor(PyObject *self, PyObject *exponent) {
  return apply_two(self, exponent, fonio_tensor_pow_tensor);
}

static fonio_tensor *to_the_power(fonio_tensor *exponent, double base) {
  return fonio_number_pow_tensor(base, exponent);
}

static PyObject *rpow(PyObject *self, PyObject *base) {
  return apply_number(self, base, to_the_power);
}

/* function(dims, keepdim) */
static PyObject *over_dims(PyObject *self, PyObject *arguments,
                           fonio_tensor *(*function)(fonio_tensor *, int, const int64_t *, bool)) {
  PyObject *given;
  int keepdim, count;
  int64_t dims[CORE_MAX_DIMS];
  if (!PyArg_ParseTuple(arguments, "Op", &given, &keepdim) || !core_read_sizes(given, "sum", "dim", &count, dims))
    return NULL;
  fonio_tensor *tensor = core_tensor_hold(self), *made;
  PyThreadState *state = PyEval_SaveThread();
  made = function(tensor, count, dims, keepdim);
  PyEval_RestoreThread(state);
  fonio_tensor_release(tensor);
  return core_tensor_new(made);
}

static PyObject *sum_dims(PyObject *self, PyObject *arguments) {
  return over_dims(self, arguments, fonio_tensor_sum_dims);
}

static PyObject *mean_dims(PyObject *self, PyObject *arguments) {
  return over_dims(self, arguments, fonio_tensor_mean_dims);
}

/* ---- Views ---- */

static PyObject *select_(PyObject *self, PyObject *arguments) {
  int dim;
  long long index;
  if (!PyArg_ParseTuple(arguments, "iL", &dim, &index)) return NULL;
  return core_tensor_new(fonio_tensor_select(core_tensor_of(self), dim, index));
}

static PyObject *slice(PyObject *self, PyObject *arguments) {
  int dim;
  long long start, end, step;
  if (!PyArg_ParseTuple(arguments, "iLLL", &dim, &start, &end, &step)) return NULL;
  return core_tensor_new(fonio_tensor_slice(core_tensor_of(self), dim, start, end, step));
}

static PyObject *with_sizes(PyObject *self, PyObject *sizes, const char *name,
                            fonio_tensor *(*function)(fonio_tensor *, int, const int64_t *)) {
  int ndim;
  int64_t values[CORE_MAX_DIMS];
  if (!core_read_sizes(sizes, name, "size", &ndim, values)) return NULL;
  return core_tensor_new(function(core_tensor_of(self), ndim, values));
}

static PyObject *permute(PyObject *self, PyObject *order) {
  return with_sizes(self, order, "permute", fonio_tensor_permute);
}

static PyObject *expand(PyObject *self, PyObject *sizes) {
  return with_sizes(self, sizes, "expand", fonio_tensor_expand);
}

static PyObject *reshape(PyObject *self, PyObject *sizes) {
  return with_sizes(self, sizes, "reshape", fonio_tensor_reshape);
}

/* ---- In place ---- */

static PyObject *fill(PyObject *self, PyObject *value) {
  double number = PyFloat_AsDouble(value);
  if (PyErr_Occurred()) return NULL;
  return none_or_failure(fonio_tensor_fill(core_tensor_of(self), number));
}

static PyObject *copy(PyObject *self, PyObject *source) {
  if (!core_tensor_argument(source)) return NULL;
  fonio_tensor *tensor = core_tensor_hold(self), *given = core_tensor_hold(source);
  fonio_status status;
  PyThreadState *state = PyEval_SaveThread();
  status = fonio_tensor_copy(tensor, given);
  PyEval_RestoreThread(state);
  fonio_tensor_release(given);
  fonio_tensor_release(tensor);
  return none_or_failure(status);
}

static PyObject *uniform(PyObject *self, PyObject *arguments) {
  double from, to_;
  if (!PyArg_ParseTuple(arguments, "dd", &from, &to_)) return NULL;
  return none_or_failure(fonio_tensor_uniform(core_tensor_of(self), from, to_));
}

static PyObject *normal(PyObject *self, PyObject *arguments) {
  double mean_, std;
  if (!PyArg_ParseTuple(arguments, "dd", &mean_, &std)) return NULL;
  return none_or_failure(fonio_tensor_normal(core_tensor_of(self), mean_, std));
}

static PyObject *random_(PyObject *self, PyObject *arguments) {
  long long from, to_;
  if (!PyArg_ParseTuple(arguments, "LL", &from, &to_)) return NULL;
  return none_or_failure(fonio_tensor_random(core_tensor_of(self), from, to_));
}

/* ---- Gradients ---- */

static PyObject *retain_grad(PyObject *self, PyObject *unused) {
  (void)unused;
  return none_or_failure(fonio_tensor_retain_grad(core_tensor_of(self)));
}

static PyObject *backward(PyObject *self, PyObject *arguments) {
  PyObject *gradient;
  int retain_graph, create_graph;
  if (!PyArg_ParseTuple(arguments, "Opp", &gradient, &retain_graph, &create_graph)) return NULL;
  if (gradient != Py_None && !core_tensor_argument(gradient)) return NULL;
  fonio_tensor *tensor = core_tensor_hold(self), *given = gradient != Py_None ? core_tensor_hold(gradient) : NULL;
  fonio_status status;
  PyThreadState *state = PyEval_SaveThread();
  status = fonio_tensor_backward_with(tensor, given, retain_graph, create_graph);
  PyEval_RestoreThread(state);
  fonio_tensor_release(given);
  fonio_tensor_release(tensor);
  return none_or_failure(status);
}

PyMethodDef core_tensor_methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))core_tensor_dlpack, METH_VARARGS | METH_KEYWORDS, NULL},
    {"__dlpack_device__", core_tensor_dlpack_device, METH_NOARGS, NULL},
    {"_adopt", core_tensor_adopt, METH_O | METH_CLASS, NULL},
    {"_assign", core_tensor_assign, METH_O, NULL},
    {"_item", item, METH_NOARGS, NULL},
    {"_text", text, METH_NOARGS, NULL},
    {"numel", numel, METH_NOARGS, "The number of elements."},
    {"storage_offset", storage_offset, METH_NOARGS, "Where in its memory the first element lies, in elements."},
    {"data_ptr", data_ptr, METH_NOARGS, "The address of the first element."},
    {"_is_contiguous", is_contiguous, METH_NOARGS, NULL},
    {"_is_channels_last", is_channels_last, METH_NOARGS, NULL},
    {"equal", equal, METH_O, "Whether the other tensor has the same shape and the same values."},
    {"_allclose", allclose, METH_VARARGS, NULL},
    {"_sum", sum, METH_NOARGS, NULL},
    {"_mean", mean, METH_NOARGS, NULL},
    {"_contiguous", contiguous, METH_NOARGS, NULL},
    {"_channels_last", channels_last, METH_NOARGS, NULL},
    {"clone", clone, METH_NOARGS, "A copy, through which gradients flow."},
    {"detach", detach, METH_NOARGS, "A tensor over the same memory, without a history."},
    {"_to", to, METH_O, NULL},
    {"_add", add, METH_O, NULL},
    {"_sub", sub, METH_O, NULL},
    {"_mul", mul, METH_O, NULL},
    {"_div", div_, METH_O, NULL},
    {"_pow", pow_, METH_O, NULL},
    {"_pow_tensor", pow_tensor, METH_O, NULL},
    {"_rpow", rpow, METH_O, NULL},
    {"_neg", neg, METH_NOARGS, NULL},
    {"exp", exp_, METH_NOARGS, "e to the power of each element."},
    {"log", log_, METH_NOARGS, "The natural logarithm of each element."},
    {"relu", relu, METH_NOARGS, "Each element, or 0 where it is less."},
    {"_sum_dims", sum_dims, METH_VARARGS, NULL},
    {"_mean_dims", mean_dims, METH_VARARGS, NULL},
    {"_select", select_, METH_VARARGS, NULL},
    {"_slice", slice, METH_VARARGS, NULL},
    {"_permute", permute, METH_O, NULL},
    {"_expand", expand, METH_O, NULL},
    {"_reshape", reshape, METH_O, NULL},
    {"_fill", fill, METH_O, NULL},
    {"_copy", copy, METH_O, NULL},
    {"_uniform", uniform, METH_VARARGS, NULL},
    {"_normal", normal, METH_VARARGS, NULL},
    {"_random", random_, METH_VARARGS, NULL},
    {"retain_grad", retain_grad, METH_NOARGS, "Keeps the gradient of a tensor that is no leaf, too."},
    {"_backward", backward, METH_VARARGS, NULL},
    {0},
};
