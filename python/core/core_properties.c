/* The attributes of fonio.Tensor. */
#include "core.h"

static PyObject *tuple_of(int ndim, const int64_t *sizes) {
  PyObject *tuple = PyTuple_New(ndim);
  for (int i = 0; tuple && i < ndim; i++) {
    PyObject *size = PyLong_FromLongLong(sizes[i]);
    if (!size || PyTuple_SetItem(tuple, i, size)) Py_CLEAR(tuple);
  }
  return tuple;
}

static PyObject *get_dtype(PyObject *self, void *unused) {
  (void)unused;
  return PyLong_FromLong(fonio_tensor_dtype(core_tensor_of(self)));
}

static PyObject *get_ndim(PyObject *self, void *unused) {
  (void)unused;
  return PyLong_FromLong(fonio_tensor_ndim(core_tensor_of(self)));
}

static PyObject *get_sizes(PyObject *self, void *unused) {
  (void)unused;
  const fonio_tensor *tensor = core_tensor_of(self);
  return tuple_of(fonio_tensor_ndim(tensor), fonio_tensor_shape(tensor));
}

static PyObject *get_strides(PyObject *self, void *unused) {
  (void)unused;
  const fonio_tensor *tensor = core_tensor_of(self);
  return tuple_of(fonio_tensor_ndim(tensor), fonio_tensor_strides(tensor));
}

static PyObject *get_requires_grad(PyObject *self, void *unused) {
  (void)unused;
  return PyBool_FromLong(fonio_tensor_requires_grad(core_tensor_of(self)));
}

static int set_requires_grad(PyObject *self, PyObject *value, void *unused) {
  (void)unused;
  if (!value || !PyBool_Check(value)) return PyErr_SetString(PyExc_RuntimeError, "requires_grad must be a bool"), -1;
  return core_failed(fonio_tensor_set_requires_grad(core_tensor_of(self), value == Py_True)) ? -1 : 0;
}

static PyObject *get_is_leaf(PyObject *self, void *unused) {
  (void)unused;
  return PyBool_FromLong(fonio_tensor_is_leaf(core_tensor_of(self)));
}

static PyObject *get_version(PyObject *self, void *unused) {
  (void)unused;
  return PyLong_FromLongLong(fonio_tensor_version(core_tensor_of(self)));
}

static PyObject *get_grad_fn_name(PyObject *self, void *unused) {
  (void)unused;
  const char *name = fonio_tensor_grad_fn_name(core_tensor_of(self));
  if (name) return PyUnicode_FromString(name);
  Py_RETURN_NONE;
}

static PyObject *get_grad(PyObject *self, void *unused) {
  (void)unused;
  fonio_tensor *grad = fonio_tensor_grad(core_tensor_of(self));
  if (PyErr_Occurred()) return NULL;
  if (grad) return core_tensor_new(fonio_tensor_retain(grad));
  Py_RETURN_NONE;
}

static int set_grad(PyObject *self, PyObject *value, void *unused) {
  (void)unused;
  fonio_tensor *grad = NULL;
  if (value && value != Py_None && !(grad = core_tensor_argument(value))) {
    PyObject *name = PyType_GetName(Py_TYPE(value));
    PyErr_Format(PyExc_TypeError, "assigned grad expected to be a Tensor or None but got grad of type %S", name);
    Py_XDECREF(name);
    return -1;
  }
  return core_failed(fonio_tensor_set_grad(core_tensor_of(self), grad)) ? -1 : 0;
}

PyGetSetDef core_tensor_properties[] = {
    {"_dtype", get_dtype, NULL, NULL, NULL},
    {"ndim", get_ndim, NULL, "The number of dimensions.", NULL},
    {"_sizes", get_sizes, NULL, NULL, NULL},
    {"_strides", get_strides, NULL, NULL, NULL},
    {"requires_grad", get_requires_grad, set_requires_grad, "Whether gradients are recorded for this tensor.", NULL},
    {"is_leaf", get_is_leaf, NULL, "Whether the tensor is no result of a recorded operation.", NULL},
    {"_version", get_version, NULL, "How many writes through the library the memory has seen.", NULL},
    {"_grad_fn_name", get_grad_fn_name, NULL, NULL, NULL},
    {"grad", get_grad, set_grad, "What backward() added up for this tensor; None if nothing did.", NULL},
    {0},
};
