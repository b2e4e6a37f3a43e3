/* fonio.Tensor: a reference to one of the library's tensors. What can be said in Python is said in fonio/_tensor.py. */
#include <string.h>

#include "core.h"

typedef struct tensor_object {
  PyObject_HEAD fonio_tensor *tensor;
} tensor_object;

PyTypeObject *core_tensor_type;

/* What Python calls a Tensor: a class that inherits from the type here, once fonio/_tensor.py has said so. */
static PyObject *tensor_class;

fonio_tensor *core_tensor_of(PyObject *object) {
  return ((tensor_object *)object)->tensor;
}

fonio_tensor *core_tensor_hold(PyObject *object) {
  return fonio_tensor_retain(core_tensor_of(object));
}

PyObject *core_tensor_new(fonio_tensor *tensor) {
  if (!tensor) return core_raise();
  PyTypeObject *type = tensor_class ? (PyTypeObject *)tensor_class : core_tensor_type;
  tensor_object *object = (tensor_object *)PyType_GenericAlloc(type, 0);
  if (!object) return fonio_tensor_release(tensor), NULL;
  object->tensor = tensor;
  return (PyObject *)object;
}

/* Tensor._adopt(tensor): an object of this class for the same tensor. */
PyObject *core_tensor_adopt(PyObject *type, PyObject *other) {
  if (!PyObject_TypeCheck(other, core_tensor_type))
    return PyErr_Format(PyExc_TypeError, "expected a Tensor, but got %R", Py_TYPE(other));
  tensor_object *object = (tensor_object *)PyType_GenericAlloc((PyTypeObject *)type, 0);
  if (object) object->tensor = fonio_tensor_retain(core_tensor_of(other));
  return (PyObject *)object;
}

/* tensor._assign(other): the object stands for the other's tensor from now on. */
PyObject *core_tensor_assign(PyObject *self, PyObject *other) {
  if (!PyObject_TypeCheck(other, core_tensor_type))
    return PyErr_Format(PyExc_TypeError, "expected a Tensor, but got %R", Py_TYPE(other));
  fonio_tensor *before = core_tensor_of(self);
  ((tensor_object *)self)->tensor = fonio_tensor_retain(core_tensor_of(other));
  fonio_tensor_release(before);
  Py_RETURN_NONE;
}

/* set_tensor_class(class): what the functions here make. */
PyObject *core_set_tensor_class(PyObject *module, PyObject *type) {
  (void)module;
  Py_INCREF(type);
  Py_XDECREF(tensor_class);
  tensor_class = type;
  Py_RETURN_NONE;
}

static void tensor_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  fonio_tensor_release(core_tensor_of(self));
  freefunc give = (freefunc)(uintptr_t)PyType_GetSlot(type, Py_tp_free);
  give(self);
  Py_DECREF((PyObject *)type);
}

/* ---- DLPack ---- */

/* A tensor that another library holds, with what it reads of it. */
typedef struct export {
  dlpack_versioned versioned;
  dlpack_managed managed;
  fonio_tensor *tensor;
}
export;

/* Called on any thread, with or without the interpreter's lock. */
static void release_export(export *given) {
  fonio_tensor_release(given->tensor);
  fonio_memory_give(given);
}

static void release_versioned(dlpack_versioned *given) {
  release_export(given->owner);
}

static void release_managed(dlpack_managed *given) {
  release_export(given->owner);
}

static export *export_new(fonio_tensor *tensor) {
  export *given = fonio_memory_take(sizeof *given);
  if (!given) return core_raise(), NULL;
  dlpack_tensor seen = {
      .data = fonio_tensor_data(tensor),
      .device = {DLPACK_CPU, 0},
      .ndim = fonio_tensor_ndim(tensor),
      .dtype = core_dlpack_type(fonio_tensor_dtype(tensor)),
      .shape = (int64_t *)(uintptr_t)fonio_tensor_shape(tensor),
      .strides = (int64_t *)(uintptr_t)fonio_tensor_strides(tensor),
  };
  *given = (export){.tensor = fonio_tensor_retain(tensor)};
  given->versioned = (dlpack_versioned){
      .version = {DLPACK_MAJOR, DLPACK_MINOR}, .owner = given, .deleter = release_versioned, .tensor = seen};
  given->managed = (dlpack_managed){.tensor = seen, .owner = given, .deleter = release_managed};
  return given;
}

/* A capsule that nobody took gives its tensor back itself. */
static void drop_capsule(PyObject *capsule) {
  static const char *const names[] = {"dltensor_versioned", "dltensor"};
  for (int i = 0; i < 2; i++) {
    if (!PyCapsule_IsValid(capsule, names[i])) continue;
    void *given = PyCapsule_GetPointer(capsule, names[i]);
    release_export(i == 0 ? ((dlpack_versioned *)given)->owner : ((dlpack_managed *)given)->owner);
  }
}

/* __dlpack__(*, stream=None, max_version=None, dl_device=None, copy=None) */
PyObject *core_tensor_dlpack(PyObject *self, PyObject *arguments, PyObject *keywords) {
  static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
  PyObject *stream = Py_None, *version = Py_None, *device = Py_None, *copy = Py_None;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|$OOOO:__dlpack__", names, &stream, &version, &device, &copy))
    return NULL;
  fonio_tensor *tensor = core_tensor_of(self);
  if (fonio_tensor_requires_grad(tensor))
    return PyErr_SetString(PyExc_BufferError, "Can't export tensors that require gradient, use tensor.detach()"), NULL;
  long major = 0;
  if (version != Py_None) major = PyLong_AsLong(PyTuple_Check(version) ? PyTuple_GetItem(version, 0) : version);
  if (PyErr_Occurred()) return NULL;
  bool copies = copy != Py_None && PyObject_IsTrue(copy);
  fonio_tensor *source = copies ? fonio_tensor_clone(tensor) : fonio_tensor_retain(tensor);
  export *given = source ? export_new(source) : (export *)core_raise();
  fonio_tensor_release(source);
  if (!given) return NULL;
  return major >= 1 ? PyCapsule_New(&given->versioned, "dltensor_versioned", drop_capsule)
                    : PyCapsule_New(&given->managed, "dltensor", drop_capsule);
}

PyObject *core_tensor_dlpack_device(PyObject *self, PyObject *unused) {
  (void)self, (void)unused;
  return Py_BuildValue("ii", DLPACK_CPU, 0);
}

/* ---- The buffer protocol: memoryview(tensor), numpy.asarray(tensor) ---- */

/* The formats of Python's struct module. */
static const char *const formats[FONIO_DTYPE_COUNT] = {
    [FONIO_FLOAT32] = "f", [FONIO_FLOAT64] = "d",     [FONIO_FLOAT16] = "e", [FONIO_COMPLEX64] = "Zf",
    [FONIO_INT8] = "b",    [FONIO_INT16] = "h",       [FONIO_INT32] = "i",   [FONIO_INT64] = "q",
    [FONIO_UINT8] = "B",   [FONIO_UINT16] = "H",      [FONIO_UINT32] = "I",  [FONIO_UINT64] = "Q",
    [FONIO_BOOL] = "?",    [FONIO_COMPLEX128] = "Zd",
};

static int fail_buffer(const char *text) {
  PyErr_SetString(PyExc_BufferError, text);
  return -1;
}

/* What a buffer needs besides the tensor's memory, and the tensor itself: its object may come to stand for another. */
typedef struct lent {
  fonio_tensor *tensor;
  Py_ssize_t shape[CORE_MAX_DIMS], strides[CORE_MAX_DIMS];
} lent;

static int get_buffer(PyObject *self, Py_buffer *view, int flags) {
  fonio_tensor *tensor = core_tensor_of(self);
  const char *format = formats[fonio_tensor_dtype(tensor)];
  int ndim = fonio_tensor_ndim(tensor);
  view->obj = NULL;
  if (fonio_tensor_requires_grad(tensor)) return fail_buffer("the tensor requires grad: use tensor.detach()");
  if (!format) return fail_buffer("Python has no format for this dtype");
  if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES && !fonio_tensor_is_contiguous(tensor))
    return fail_buffer("the tensor is not contiguous");
  lent *given = fonio_memory_take(sizeof *given);
  if (!given) return core_raise(), -1;
  given->tensor = fonio_tensor_retain(tensor);
  Py_ssize_t bytes = (Py_ssize_t)fonio_dtype_bytes(fonio_tensor_dtype(tensor));
  for (int i = 0; i < ndim; i++) {
    given->shape[i] = fonio_tensor_shape(tensor)[i];
    given->strides[i] = fonio_tensor_strides(tensor)[i] * bytes;
  }
  *view = (Py_buffer){.buf = core_address(fonio_tensor_data(tensor)),
                      .obj = self,
                      .len = fonio_tensor_numel(tensor) * bytes,
                      .itemsize = bytes,
                      .ndim = ndim,
                      .format = flags & PyBUF_FORMAT ? (char *)(uintptr_t)format : NULL,
                      .shape = flags & PyBUF_ND ? given->shape : NULL,
                      .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? given->strides : NULL,
                      .internal = given};
  Py_INCREF(self);
  return 0;
}

static void release_buffer(PyObject *self, Py_buffer *view) {
  (void)self;
  lent *given = view->internal;
  fonio_tensor_release(given->tensor);
  fonio_memory_give(given);
}

/* ---- The type ---- */

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)(uintptr_t)tensor_dealloc},
    {Py_tp_methods, core_tensor_methods},
    {Py_tp_getset, core_tensor_properties},
    {Py_bf_getbuffer, (void *)(uintptr_t)get_buffer},
    {Py_bf_releasebuffer, (void *)(uintptr_t)release_buffer},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "fonio._core.Tensor",
    .basicsize = sizeof(tensor_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

bool core_add_tensor(PyObject *module) {
  core_tensor_type = (PyTypeObject *)PyType_FromSpec(&spec);
  return core_tensor_type && PyModule_AddType(module, core_tensor_type) == 0;
}
