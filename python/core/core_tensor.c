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

PyObject *core_tensor_new(fonio_tensor *tensor) {
  if (!tensor) return core_raise();
  PyTypeObject *type = tensor_class ? (PyTypeObject *)tensor_class : core_tensor_type;
  tensor_object *object = (tensor_object *)PyType_GenericAlloc(type, 0);
  if (!object) return fonio_tensor_release(tensor), NULL;
  object->tensor = tensor;
  return (PyObject *)object;
}

static void tensor_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  fonio_tensor_release(core_tensor_of(self));
  freefunc give = (freefunc)PyType_GetSlot(type, Py_tp_free);
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
static PyObject *tensor_dlpack(PyObject *self, PyObject *arguments, PyObject *keywords) {
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

static PyObject *tensor_dlpack_device(PyObject *self, PyObject *unused) {
  (void)self, (void)unused;
  return Py_BuildValue("ii", DLPACK_CPU, 0);
}

/* ---- The type ---- */

static PyMethodDef methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))tensor_dlpack, METH_VARARGS | METH_KEYWORDS, NULL},
    {"__dlpack_device__", tensor_dlpack_device, METH_NOARGS, NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_methods, methods},
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
