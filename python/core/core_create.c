/* New tensors, random numbers, whether gradients are recorded, how tensors are printed: what fonio/_functions.py calls.
 */
#include <string.h>

#include "core.h"

/* Reads `(dtype, sizes)` and more, which `format` tells. */
static bool read_shape(PyObject *sizes, int *ndim, int64_t *shape) {
  return core_read_sizes(sizes, "size", "size", ndim, shape);
}

static PyObject *filled(PyObject *arguments, fonio_tensor *(*function)(fonio_dtype, int, const int64_t *)) {
  int dtype, ndim;
  int64_t shape[CORE_MAX_DIMS];
  PyObject *sizes;
  if (!PyArg_ParseTuple(arguments, "iO", &dtype, &sizes) || !read_shape(sizes, &ndim, shape)) return NULL;
  return core_tensor_new(function((fonio_dtype)dtype, ndim, shape));
}

static PyObject *empty(PyObject *module, PyObject *arguments) {
  (void)module;
  return filled(arguments, fonio_tensor_empty);
}

static PyObject *zeros(PyObject *module, PyObject *arguments) {
  (void)module;
  return filled(arguments, fonio_tensor_zeros);
}

static PyObject *ones(PyObject *module, PyObject *arguments) {
  (void)module;
  return filled(arguments, fonio_tensor_ones);
}

static PyObject *rand_(PyObject *module, PyObject *arguments) {
  (void)module;
  return filled(arguments, fonio_tensor_rand);
}

static PyObject *randn(PyObject *module, PyObject *arguments) {
  (void)module;
  return filled(arguments, fonio_tensor_randn);
}

static PyObject *full(PyObject *module, PyObject *arguments) {
  (void)module;
  int dtype, ndim;
  int64_t shape[CORE_MAX_DIMS];
  double value;
  PyObject *sizes;
  if (!PyArg_ParseTuple(arguments, "iOd", &dtype, &sizes, &value) || !read_shape(sizes, &ndim, shape)) return NULL;
  return core_tensor_new(fonio_tensor_full((fonio_dtype)dtype, value, ndim, shape));
}

static PyObject *arange(PyObject *module, PyObject *arguments) {
  (void)module;
  int dtype;
  double start, end, step;
  if (!PyArg_ParseTuple(arguments, "iddd", &dtype, &start, &end, &step)) return NULL;
  return core_tensor_new(fonio_tensor_arange((fonio_dtype)dtype, start, end, step));
}

static PyObject *randint(PyObject *module, PyObject *arguments) {
  (void)module;
  int dtype, ndim;
  int64_t shape[CORE_MAX_DIMS];
  long long low, high;
  PyObject *sizes;
  if (!PyArg_ParseTuple(arguments, "iOLL", &dtype, &sizes, &low, &high) || !read_shape(sizes, &ndim, shape))
    return NULL;
  return core_tensor_new(fonio_tensor_randint((fonio_dtype)dtype, low, high, ndim, shape));
}

static PyObject *randperm(PyObject *module, PyObject *arguments) {
  (void)module;
  int dtype;
  long long count;
  if (!PyArg_ParseTuple(arguments, "iL", &dtype, &count)) return NULL;
  return core_tensor_new(fonio_tensor_randperm((fonio_dtype)dtype, count));
}

/* ---- Over the memory of another array ---- */

static void give_back(void *data, void *user) {
  (void)data;
  core_array *array = user;
  if (!Py_IsInitialized()) return; /* the process ends: what is left of it goes with it */
  PyGILState_STATE state = PyGILState_Ensure();
  core_array_drop(array);
  PyGILState_Release(state);
  fonio_memory_give(array);
}

/* wrap(array): a tensor over the memory of an array of any library; (tensor, whether the array is read-only). */
static PyObject *wrap(PyObject *module, PyObject *object) {
  (void)module;
  core_array *array = fonio_memory_take(sizeof *array);
  if (!array) return core_raise();
  if (core_array_take(array, object, "from_numpy()")) {
    bool read_only = array->read_only;
    fonio_tensor *tensor = fonio_tensor_wrap(array->dtype, core_address(array->data), array->ndim, array->shape,
                                             array->strides, give_back, array);
    if (tensor) return Py_BuildValue("NN", core_tensor_new(tensor), PyBool_FromLong(read_only));
    core_raise();
  }
  core_array_drop(array);
  fonio_memory_give(array);
  return NULL;
}

static PyObject *is_array(PyObject *module, PyObject *object) {
  (void)module;
  return PyBool_FromLong(core_kind_of(object, NULL) != CORE_NO_ARRAY);
}

static PyObject *parameter(PyObject *module, PyObject *arguments) {
  (void)module;
  PyObject *data;
  int requires_grad;
  if (!PyArg_ParseTuple(arguments, "O!p", core_tensor_type, &data, &requires_grad)) return NULL;
  return core_tensor_new(fonio_parameter_new(core_tensor_of(data), requires_grad));
}

/* ---- The default generator ---- */

static PyObject *manual_seed(PyObject *module, PyObject *seed) {
  (void)module;
  unsigned long long bits = PyLong_AsUnsignedLongLongMask(seed);
  if (PyErr_Occurred()) return NULL;
  fonio_manual_seed(bits);
  Py_RETURN_NONE;
}

static PyObject *seed(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyLong_FromUnsignedLongLong(fonio_seed());
}

static PyObject *initial_seed(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyLong_FromUnsignedLongLong(fonio_initial_seed());
}

/* ---- Gradients ---- */

static PyObject *is_grad_enabled(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyBool_FromLong(fonio_grad_enabled());
}

static PyObject *set_grad_enabled(PyObject *module, PyObject *enabled) {
  (void)module;
  return PyBool_FromLong(fonio_set_grad_enabled(PyObject_IsTrue(enabled) == 1));
}

enum { MOST_INPUTS = 64 };

static PyObject *tensors_of(Py_ssize_t count, fonio_tensor **grads) {
  PyObject *made = PyTuple_New(count);
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *one = grads[i] ? core_tensor_new(grads[i]) : Py_None;
    if (one == Py_None) Py_INCREF(one);
    if (!made || !one || PyTuple_SetItem(made, i, one)) Py_CLEAR(made);
  }
  return made;
}

/* grad(output, (inputs), grad_output or None, retain_graph, create_graph, allow_unused) */
static PyObject *grad(PyObject *module, PyObject *arguments) {
  (void)module;
  PyObject *output, *given, *grad_output;
  int retain_graph, create_graph, allow_unused;
  fonio_tensor *inputs[MOST_INPUTS], *grads[MOST_INPUTS];
  if (!PyArg_ParseTuple(arguments, "O!O!Oppp", core_tensor_type, &output, &PyTuple_Type, &given, &grad_output,
                        &retain_graph, &create_graph, &allow_unused))
    return NULL;
  Py_ssize_t count = PyTuple_Size(given);
  if (count > MOST_INPUTS) return PyErr_Format(PyExc_ValueError, "at most %d inputs", MOST_INPUTS);
  for (Py_ssize_t i = 0; i < count; i++)
    inputs[i] = core_tensor_hold(PyTuple_GetItem(given, i));
  fonio_tensor *from = core_tensor_hold(output), *above = grad_output != Py_None ? core_tensor_hold(grad_output) : NULL;
  fonio_status status;
  PyThreadState *state = PyEval_SaveThread();
  status = fonio_grad(from, (int)count, inputs, above, retain_graph, create_graph, allow_unused, grads);
  PyEval_RestoreThread(state);
  for (Py_ssize_t i = 0; i < count; i++)
    fonio_tensor_release(inputs[i]);
  fonio_tensor_release(from);
  fonio_tensor_release(above);
  return core_failed(status) ? NULL : tensors_of(count, grads);
}

/* ---- Printing ---- */

/* set_printoptions(precision, threshold, edgeitems, linewidth, profile or None, sci_mode): -1 leaves one as it is. */
static PyObject *set_printoptions(PyObject *module, PyObject *arguments) {
  (void)module;
  fonio_printoptions options = fonio_printoptions_default();
  long long precision, edgeitems, linewidth;
  if (!PyArg_ParseTuple(arguments, "LdLLzi", &precision, &options.threshold, &edgeitems, &linewidth, &options.profile,
                        &options.sci_mode))
    return NULL;
  options.precision = precision;
  options.edgeitems = edgeitems;
  options.linewidth = linewidth;
  if (core_failed(fonio_set_printoptions_with(&options))) return NULL;
  Py_RETURN_NONE;
}

PyMethodDef core_create_functions[] = {
    {"empty", empty, METH_VARARGS, NULL},
    {"zeros", zeros, METH_VARARGS, NULL},
    {"ones", ones, METH_VARARGS, NULL},
    {"rand", rand_, METH_VARARGS, NULL},
    {"randn", randn, METH_VARARGS, NULL},
    {"full", full, METH_VARARGS, NULL},
    {"arange", arange, METH_VARARGS, NULL},
    {"randint", randint, METH_VARARGS, NULL},
    {"randperm", randperm, METH_VARARGS, NULL},
    {"wrap", wrap, METH_O, NULL},
    {"is_array", is_array, METH_O, NULL},
    {"parameter", parameter, METH_VARARGS, NULL},
    {"manual_seed", manual_seed, METH_O, NULL},
    {"seed", seed, METH_NOARGS, NULL},
    {"initial_seed", initial_seed, METH_NOARGS, NULL},
    {"is_grad_enabled", is_grad_enabled, METH_NOARGS, NULL},
    {"set_grad_enabled", set_grad_enabled, METH_O, NULL},
    {"grad", grad, METH_VARARGS, NULL},
    {"set_printoptions", set_printoptions, METH_VARARGS, NULL},
    {0},
};
