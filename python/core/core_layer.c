/* What fonio.nn.Conv2d and LazyConv2d are made of: the library's layer, which keeps plans and packed weights from call
 * to call; and nn.init. */
#include <string.h>

#include "core.h"

typedef struct layer_object {
  PyObject_HEAD fonio_conv2d *layer;
} layer_object;

static PyTypeObject *layer_type;

static fonio_conv2d *layer_of(PyObject *object) {
  return ((layer_object *)object)->layer;
}

static void layer_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  if (layer_of(self)) fonio_module_release(&layer_of(self)->base);
  freefunc give = (freefunc)(uintptr_t)PyType_GetSlot(type, Py_tp_free);
  give(self);
  Py_DECREF((PyObject *)type);
}

/* ---- Making one ---- */

static bool read_two(PyObject *pair, int64_t *values) {
  return PyArg_ParseTuple(pair, "LL", &values[0], &values[1]);
}

static bool read_padding(PyObject *padding, fonio_conv2d_options *options) {
  if (PyUnicode_Check(padding)) return (options->padding_name = PyUnicode_AsUTF8AndSize(padding, NULL)) != NULL;
  int64_t *sides = options->padding_sides;
  if (PyTuple_Size(padding) == 4) return PyArg_ParseTuple(padding, "LLLL", &sides[0], &sides[1], &sides[2], &sides[3]);
  return read_two(padding, options->padding);
}

/* layer(lazy, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, dtype):
 * pairs are tuples of two, `padding` also of four, or a name. Draws weight and bias. */
static PyObject *layer(PyObject *module, PyObject *arguments) {
  (void)module;
  fonio_conv2d_options options = fonio_conv2d_options_default();
  PyObject *kernel_size, *stride, *padding, *dilation;
  int lazy, bias, dtype;
  long long in_channels, out_channels, groups;
  if (!PyArg_ParseTuple(arguments, "pLLO!O!OO!Lpsi", &lazy, &in_channels, &out_channels, &PyTuple_Type, &kernel_size,
                        &PyTuple_Type, &stride, &padding, &PyTuple_Type, &dilation, &groups, &bias,
                        &options.padding_mode, &dtype) ||
      !read_two(kernel_size, options.kernel_size) || !read_two(stride, options.stride) ||
      !read_padding(padding, &options) || !read_two(dilation, options.dilation))
    return NULL;
  if (!lazy) options.in_channels = in_channels;
  options.out_channels = out_channels;
  options.groups = groups;
  options.bias = bias;
  options.dtype = (fonio_dtype)dtype;
  fonio_conv2d *made = lazy ? fonio_lazy_conv2d_new_with(&options) : fonio_conv2d_new_with(&options);
  if (!made) return core_raise();
  layer_object *object = PyErr_Occurred() ? NULL : (layer_object *)PyType_GenericAlloc(layer_type, 0);
  if (!object) return fonio_module_release(&made->base), NULL;
  object->layer = made;
  return (PyObject *)object;
}

/* ---- What it does ---- */

static PyObject *parameter_of(fonio_tensor *tensor) {
  if (tensor) return core_tensor_new(fonio_tensor_retain(tensor));
  Py_RETURN_NONE;
}

static PyObject *get_weight(PyObject *self, void *unused) {
  (void)unused;
  return parameter_of(fonio_conv2d_weight(layer_of(self)));
}

static PyObject *get_bias(PyObject *self, void *unused) {
  (void)unused;
  return parameter_of(fonio_conv2d_bias(layer_of(self)));
}

static PyObject *get_in_channels(PyObject *self, void *unused) {
  (void)unused;
  return PyLong_FromLongLong(fonio_conv2d_get_options(layer_of(self))->in_channels);
}

/* Makes the layer's parameters the ones given, which somebody may have put in their place. */
static bool hold(fonio_conv2d *conv, fonio_tensor *weight, fonio_tensor *bias) {
  if (fonio_conv2d_weight(conv) != weight && core_failed(fonio_conv2d_set_weight(conv, weight))) return false;
  return fonio_conv2d_bias(conv) == bias || !core_failed(fonio_conv2d_set_bias(conv, bias));
}

/* forward(input, weight, bias or None) */
static PyObject *forward(PyObject *self, PyObject *arguments) {
  PyObject *input, *weight, *bias;
  if (!PyArg_ParseTuple(arguments, "O!O!O", core_tensor_type, &input, core_tensor_type, &weight, &bias)) return NULL;
  if (!hold(layer_of(self), core_tensor_of(weight), bias != Py_None ? core_tensor_of(bias) : NULL)) return NULL;
  fonio_conv2d *conv = layer_of(self);
  fonio_tensor *given = core_tensor_hold(input), *made;
  PyThreadState *state = PyEval_SaveThread();
  made = fonio_conv2d_forward(conv, given);
  PyEval_RestoreThread(state);
  fonio_tensor_release(given);
  return core_tensor_new(made);
}

static PyMethodDef methods[] = {
    {"forward", forward, METH_VARARGS, NULL},
    {0},
};

static PyGetSetDef properties[] = {
    {"weight", get_weight, NULL, NULL, NULL},
    {"bias", get_bias, NULL, NULL, NULL},
    {"in_channels", get_in_channels, NULL, NULL, NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)(uintptr_t)layer_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "fonio._core.Layer",
    .basicsize = sizeof(layer_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

bool core_add_layer(PyObject *module) {
  layer_type = (PyTypeObject *)PyType_FromSpec(&spec);
  return layer_type && PyModule_AddType(module, layer_type) == 0;
}

/* ---- nn.init ---- */

/* init(name, tensor, a, b, mode or None, nonlinearity or None) */
static PyObject *init(PyObject *module, PyObject *arguments) {
  (void)module;
  const char *name, *mode, *nonlinearity;
  PyObject *object;
  double a, b;
  if (!PyArg_ParseTuple(arguments, "sO!ddzz", &name, core_tensor_type, &object, &a, &b, &mode, &nonlinearity))
    return NULL;
  fonio_tensor *tensor = core_tensor_of(object);
  fonio_status status = FONIO_VALUE_ERROR;
  if (strcmp(name, "uniform") == 0)
    status = fonio_init_uniform(tensor, a, b);
  else if (strcmp(name, "normal") == 0)
    status = fonio_init_normal(tensor, a, b);
  else if (strcmp(name, "constant") == 0)
    status = fonio_init_constant(tensor, a);
  else if (strcmp(name, "dirac") == 0)
    status = fonio_init_dirac(tensor, (int64_t)a);
  else if (strcmp(name, "xavier_uniform") == 0)
    status = fonio_init_xavier_uniform(tensor, a);
  else if (strcmp(name, "xavier_normal") == 0)
    status = fonio_init_xavier_normal(tensor, a);
  else if (strcmp(name, "kaiming_uniform") == 0)
    status = fonio_init_kaiming_uniform(tensor, a, mode, nonlinearity);
  else if (strcmp(name, "kaiming_normal") == 0)
    status = fonio_init_kaiming_normal(tensor, a, mode, nonlinearity);
  else
    fonio_fail(status, "there is no way to initialise called %s", name);
  if (core_failed(status)) return NULL;
  Py_RETURN_NONE;
}

static PyObject *calculate_gain(PyObject *module, PyObject *arguments) {
  (void)module;
  const char *nonlinearity;
  double a, gain;
  if (!PyArg_ParseTuple(arguments, "sd", &nonlinearity, &a)) return NULL;
  return core_failed(fonio_init_calculate_gain(nonlinearity, a, &gain)) ? NULL : PyFloat_FromDouble(gain);
}

PyMethodDef core_layer_functions[] = {
    {"layer", layer, METH_VARARGS, NULL},
    {"init", init, METH_VARARGS, NULL},
    {"calculate_gain", calculate_gain, METH_VARARGS, NULL},
    {0},
};
