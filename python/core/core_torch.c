/* Arrays of a library with DLPack's C interface, which is torch: what they keep beside their numbers. */
#include "core.h"

/* A method or attribute's name, made once. */
static PyObject *name_of(PyObject **kept, const char *text) {
  if (!*kept) *kept = PyUnicode_InternFromString(text);
  return *kept;
}

/* Takes over a reference; false for NULL, too, whose exception goes. */
static bool is_true(PyObject *object) {
  bool is = object && PyObject_IsTrue(object) == 1;
  Py_XDECREF(object);
  PyErr_Clear();
  return is;
}

static bool records_gradients(void) {
  static PyObject *is_grad_enabled;
  if (!is_grad_enabled) {
    PyObject *torch = PyImport_ImportModule("torch");
    is_grad_enabled = torch ? PyObject_GetAttrString(torch, "is_grad_enabled") : NULL;
    Py_XDECREF(torch);
  }
  return is_true(is_grad_enabled ? PyObject_CallNoArgs(is_grad_enabled) : NULL);
}

/* Whether forward-mode derivatives are going on and the tensor carries one. */
static bool has_tangent(PyObject *object) {
  static PyObject *forward_ad, *current_level;
  if (!forward_ad && !(forward_ad = PyImport_ImportModule("torch.autograd.forward_ad"))) PyErr_Clear();
  PyObject *level = forward_ad ? PyObject_GetAttr(forward_ad, name_of(&current_level, "_current_level")) : NULL;
  bool is_on = level && PyLong_AsLong(level) >= 0;
  Py_XDECREF(level);
  PyObject *two = is_on ? PyObject_CallMethod(forward_ad, "unpack_dual", "O", object) : NULL;
  bool has = two && PyTuple_Check(two) && PyTuple_GetItem(two, 1) != Py_None;
  Py_XDECREF(two);
  PyErr_Clear();
  return has;
}

/* A tensor whose gradient would be lost is refused where torch would record one. */
bool core_refuse_gradient(PyObject *object, const char *name) {
  static PyObject *requires_grad;
  const char *what = NULL;
  if (has_tangent(object))
    what = "has a tangent";
  else if (is_true(PyObject_GetAttr(object, name_of(&requires_grad, "requires_grad"))) && records_gradients())
    what = "requires grad";
  if (!what) return true;
  PyErr_Format(PyExc_RuntimeError,
               "%s: this function does not record gradients, and the tensor %s. Use fonio.torch.conv2d, "
               "tensor.detach(), or torch.no_grad()",
               name, what);
  return false;
}

/* The imaginary part of a conjugate waits to be negated, of which DLPack does not tell. A new reference. */
static PyObject *resolve_negative(PyObject *object) {
  static PyObject *is_neg;
  if (is_true(PyObject_CallMethodObjArgs(object, name_of(&is_neg, "is_neg"), NULL)))
    return PyObject_CallMethod(object, "resolve_neg", NULL);
  Py_INCREF(object);
  return object;
}

/* DLPack may give any stride to a dimension of one element, and torch does, but goes by the true ones where it decides
 * on the layout of a result: torch is asked. */
static bool ask_for_strides(core_array *array) {
  static PyObject *stride;
  PyObject *strides = PyObject_CallMethodObjArgs(array->object, name_of(&stride, "stride"), NULL);
  for (int i = 0; i < array->ndim && strides && PyTuple_Check(strides); i++)
    array->strides[i] = PyLong_AsLongLong(PyTuple_GetItem(strides, i));
  Py_XDECREF(strides);
  return !PyErr_Occurred();
}

/* Where channels do not lie next to each other, no stride of a dimension of one element makes torch see channels_last:
 * one without gaps then does. */
static void complete_strides(core_array *array) {
  int64_t next = 1;
  for (int i = 3; i >= 0; i--) {
    if (array->shape[i] == 1) array->strides[i] = next;
    next = array->strides[i] * array->shape[i];
  }
}

static bool read_true_strides(core_array *array) {
  bool one = false;
  const int64_t *shape = array->shape, *strides = array->strides;
  for (int i = 0; i < array->ndim; i++)
    one |= shape[i] == 1;
  if (!one || array->ndim < 3) return true;
  if (array->ndim > 4 || array->ndim == 3 || shape[1] < 2 || shape[2] * shape[3] < 2 ||
      strides[1] < strides[shape[3] > 1 ? 3 : 2])
    return ask_for_strides(array);
  complete_strides(array);
  return true;
}

/* Whether what looks like an address is but the place of a view in a storage that has no memory (fake, functional,
 * freed). Only one as low as no memory lies on most systems is worth asking for. */
static bool is_offset(const core_array *array) {
  static PyObject *storage_offset;
  uintptr_t address = (uintptr_t)array->data;
  if (address >> 44) return false;
  PyObject *offset = PyObject_CallMethodObjArgs(array->object, name_of(&storage_offset, "storage_offset"), NULL);
  long long elements = offset ? PyLong_AsLongLong(offset) : 0;
  Py_XDECREF(offset);
  PyErr_Clear();
  return elements > 0 && (uintptr_t)elements * fonio_dtype_bytes(array->dtype) == address;
}

bool core_take_exchange(core_array *array, PyObject *object, const char *name) {
  dlpack_tensor seen;
  PyObject *resolved = resolve_negative(object);
  if (!resolved) return false;
  array->read_only = resolved != object; /* a copy, in which nobody would look for a result */
  Py_DECREF(array->object);
  array->object = resolved;
  if (array->exchange->look(resolved, &seen) || !core_read_dlpack(array, &seen, name)) return false;
  if (is_offset(array)) array->data = NULL;
  return core_has_memory(array, name) && read_true_strides(array);
}

void core_note_write(PyObject *tensor) {
  PyObject *graph = PyImport_ImportModule("torch.autograd.graph");
  PyObject *done = graph ? PyObject_CallMethod(graph, "increment_version", "O", tensor) : NULL;
  /* A tensor of torch.inference_mode() counts no writes, and says so. */
  PyErr_Clear();
  Py_XDECREF(graph);
  Py_XDECREF(done);
}
