/* Arrays of other libraries, looked at where they lie: NumPy's and everything with a buffer through Python's buffer
 * protocol, torch's through DLPack's C interface, the others through __dlpack__. */
#include <string.h>

#include "core.h"

/* ---- What kind of array a type is ---- */

typedef struct kind_entry {
  PyTypeObject *type; /* a reference, so that no other type gets this address */
  core_kind kind;
  const dlpack_exchange *exchange;
} kind_entry;

/* Some types, found again by their address. When it is full, types that come later are looked at in each call. */
enum { KINDS = 32 };
static kind_entry kinds[KINDS];
static int kind_count;

static bool has(PyObject *object, const char *name) {
  PyObject *found = PyObject_GetAttrString(object, name);
  if (!found) PyErr_Clear();
  Py_XDECREF(found);
  return found != NULL;
}

/* DLPack's C interface of a type, of a version that is known here; NULL if it has none. */
static const dlpack_exchange *exchange_of(PyTypeObject *type) {
  PyObject *capsule = PyObject_GetAttrString((PyObject *)type, "__dlpack_c_exchange_api__");
  const dlpack_exchange *exchange = capsule ? PyCapsule_GetPointer(capsule, "dlpack_exchange_api") : NULL;
  Py_XDECREF(capsule);
  PyErr_Clear();
  bool known = exchange && exchange->header.version.major == DLPACK_MAJOR && exchange->look;
  return known ? exchange : NULL;
}

/* A class of NumPy's and what inherits from it, without importing NumPy. */
static bool is_numpys(PyTypeObject *type, const char *module, const char *name) {
  PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
  PyObject *numpy = PyDict_GetItemString(modules, module);
  PyObject *array = numpy ? PyObject_GetAttrString(numpy, name) : NULL;
  int inherits = array ? PyObject_IsSubclass((PyObject *)type, array) : 0;
  Py_XDECREF(array);
  PyErr_Clear();
  return inherits == 1;
}

static kind_entry look_at_type(PyObject *object) {
  kind_entry entry = {.type = Py_TYPE(object)};
  if (PyObject_TypeCheck(object, core_tensor_type))
    entry.kind = CORE_TENSOR;
  else if (is_numpys(entry.type, "numpy.ma", "MaskedArray"))
    entry.kind = CORE_MASKED;
  else if (is_numpys(entry.type, "numpy", "ndarray"))
    entry.kind = CORE_NUMPY;
  else if ((entry.exchange = exchange_of(entry.type)))
    entry.kind = CORE_EXCHANGE;
  else if (has((PyObject *)entry.type, "__dlpack__"))
    entry.kind = CORE_DLPACK;
  else if (PyObject_CheckBuffer(object) && !PyBytes_Check(object))
    entry.kind = CORE_BUFFER;
  return entry;
}

core_kind core_kind_of(PyObject *object, const dlpack_exchange **exchange) {
  kind_entry found = {0};
  for (int i = 0; i < kind_count && !found.type; i++)
    if (kinds[i].type == Py_TYPE(object)) found = kinds[i];
  if (!found.type) {
    found = look_at_type(object);
    if (kind_count < KINDS) {
      Py_INCREF((PyObject *)found.type);
      kinds[kind_count++] = found;
    }
  }
  if (exchange) *exchange = found.exchange;
  return found.kind;
}

/* ---- Taking an array in ---- */

static bool fail_ndim(const char *name, int ndim) {
  PyErr_Format(PyExc_ValueError, "%s: an array has at most %d dimensions here, not %d", name, CORE_MAX_DIMS, ndim);
  return false;
}

bool core_is_empty(int ndim, const int64_t *shape) {
  for (int i = 0; i < ndim; i++)
    if (shape[i] == 0) return true;
  return false;
}

bool core_has_memory(const core_array *array, const char *name) {
  if (array->data || core_is_empty(array->ndim, array->shape)) return true;
  PyErr_Format(PyExc_RuntimeError, "%s: the array has no memory", name);
  return false;
}

/* Strides in bytes as strides in elements. One that does not matter may be anything. */
static bool count_elements(core_array *array, const char *name, Py_ssize_t item_bytes, const Py_ssize_t *byte_strides) {
  bool empty = core_is_empty(array->ndim, array->shape);
  for (int i = 0; i < array->ndim; i++) {
    array->strides[i] = byte_strides[i] / item_bytes;
    if (byte_strides[i] % item_bytes == 0 || array->shape[i] < 2 || empty) continue;
    PyErr_Format(PyExc_ValueError,
                 "%s: given numpy array strides not a multiple of the element byte size. Copy required; try with "
                 "numpy.ascontiguousarray",
                 name);
    return false;
  }
  return true;
}

static bool is_aligned(const core_array *array, const char *name) {
  size_t bytes = fonio_dtype_bytes(array->dtype);
  size_t unit = fonio_dtype_is_complex(array->dtype) ? bytes / 2 : bytes;
  if ((uintptr_t)array->data % unit == 0) return true;
  PyErr_Format(PyExc_ValueError,
               "%s: the elements do not lie at multiples of their size. Copy required; try with "
               "numpy.array",
               name);
  return false;
}

/* Arrays of ctypes have no strides, which stands for those without gaps. */
static bool take_buffer(core_array *array, PyObject *object, const char *name) {
  if (PyObject_GetBuffer(object, &array->buffer, PyBUF_STRIDES | PyBUF_FORMAT)) return false;
  const Py_buffer *buffer = &array->buffer;
  if (buffer->ndim > CORE_MAX_DIMS) return fail_ndim(name, buffer->ndim);
  array->read_only = buffer->readonly;
  array->ndim = buffer->ndim;
  array->data = buffer->buf;
  Py_ssize_t strides[CORE_MAX_DIMS], next = buffer->itemsize;
  for (int i = buffer->ndim - 1; i >= 0; i--) {
    array->shape[i] = buffer->shape[i];
    strides[i] = buffer->strides ? buffer->strides[i] : next;
    next *= buffer->shape[i];
  }
  return core_dtype_of_format(name, buffer->format, buffer->itemsize, &array->dtype) &&
         count_elements(array, name, buffer->itemsize, strides) && is_aligned(array, name) &&
         core_has_memory(array, name);
}

/* An array is read while the call lasts: its owner keeps it alive. */
bool core_read_dlpack(core_array *array, const dlpack_tensor *tensor, const char *name) {
  if (tensor->ndim > CORE_MAX_DIMS) return fail_ndim(name, tensor->ndim);
  int device = tensor->device.type;
  if (device != DLPACK_CPU && device != DLPACK_CUDA_HOST && device != DLPACK_ROCM_HOST) {
    PyErr_Format(PyExc_RuntimeError,
                 "%s: Fonio computes on the CPU, and this array is on another device "
                 "(DLPack's type %d)",
                 name, device);
    return false;
  }
  if (!core_dtype_of_dlpack(name, tensor->dtype, &array->dtype)) return false;
  array->ndim = tensor->ndim;
  array->data = tensor->data ? (char *)tensor->data + tensor->byte_offset : NULL;
  uint64_t contiguous = 1;
  for (int i = tensor->ndim - 1; i >= 0; i--) {
    array->shape[i] = tensor->shape[i];
    array->strides[i] = tensor->strides ? tensor->strides[i] : (int64_t)contiguous;
    contiguous *= tensor->shape[i] > 0 ? (uint64_t)tensor->shape[i] : 1;
  }
  return is_aligned(array, name) && core_has_memory(array, name);
}

/* __dlpack__ of version 1, or for a library that does not know of versions without arguments. */
static PyObject *dlpack_capsule(PyObject *object) {
  PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
  PyObject *keywords = Py_BuildValue("{s(ii)}", "max_version", DLPACK_MAJOR, DLPACK_MINOR);
  PyObject *none = PyTuple_New(0);
  PyObject *capsule = method && keywords && none ? PyObject_Call(method, none, keywords) : NULL;
  if (!capsule && method && PyErr_ExceptionMatches(PyExc_TypeError)) {
    PyErr_Clear();
    capsule = PyObject_CallObject(method, NULL);
  }
  Py_XDECREF(method);
  Py_XDECREF(keywords);
  Py_XDECREF(none);
  return capsule;
}

static bool take_dlpack(core_array *array, PyObject *object, const char *name) {
  PyObject *capsule = dlpack_capsule(object);
  if (!capsule) return false;
  const dlpack_tensor *tensor = NULL;
  if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
    array->versioned = PyCapsule_GetPointer(capsule, "dltensor_versioned");
    PyCapsule_SetName(capsule, "used_dltensor_versioned");
    tensor = &array->versioned->tensor;
    array->read_only = array->versioned->flags & (DLPACK_READ_ONLY | DLPACK_IS_COPIED);
  } else if (PyCapsule_IsValid(capsule, "dltensor")) {
    array->managed = PyCapsule_GetPointer(capsule, "dltensor");
    PyCapsule_SetName(capsule, "used_dltensor");
    tensor = &array->managed->tensor;
    /* It cannot say so, and JAX's must not be written to. */
    array->read_only = true;
  } else
    PyErr_Format(PyExc_BufferError, "%s: __dlpack__() gave no capsule that is known", name);
  Py_DECREF(capsule);
  if (array->versioned && array->versioned->version.major != DLPACK_MAJOR) {
    PyErr_Format(PyExc_BufferError, "%s: __dlpack__() gave a version that is not known", name);
    return false;
  }
  return tensor && core_read_dlpack(array, tensor, name);
}

static bool take_tensor(core_array *array, PyObject *object) {
  const fonio_tensor *tensor = core_tensor_of(object);
  array->dtype = fonio_tensor_dtype(tensor);
  array->ndim = fonio_tensor_ndim(tensor);
  memcpy(array->shape, fonio_tensor_shape(tensor), (size_t)array->ndim * sizeof *array->shape);
  memcpy(array->strides, fonio_tensor_strides(tensor), (size_t)array->ndim * sizeof *array->strides);
  array->data = (char *)(uintptr_t)fonio_tensor_const_data(tensor);
  array->read_only = true; /* writes to a tensor go through the tape */
  return true;
}

bool core_array_take(core_array *array, PyObject *object, const char *name) {
  *array = (core_array){0};
  bool records = core_kind_of(object, NULL) == CORE_EXCHANGE;
  return (!records || core_refuse_gradient(object, name)) && core_array_look(array, object, name);
}

bool core_array_look(core_array *array, PyObject *object, const char *name) {
  *array = (core_array){0};
  array->kind = core_kind_of(object, &array->exchange);
  Py_INCREF(object);
  array->object = object;
  switch (array->kind) {
  case CORE_TENSOR: return take_tensor(array, object);
  case CORE_NUMPY:
  case CORE_BUFFER: return take_buffer(array, object, name);
  case CORE_EXCHANGE: return core_take_exchange(array, object, name);
  case CORE_DLPACK: return take_dlpack(array, object, name);
  case CORE_MASKED:
    return PyErr_Format(PyExc_TypeError, "%s: masks are not looked at. Use numpy.ma.filled", name), false;
  case CORE_NO_ARRAY: break;
  }
  PyErr_Format(PyExc_TypeError, "%s is no array", name);
  return false;
}

/* What owns the memory may run Python to give it back, which must not meet the exception that a call ends with. */
static void give_back(core_array *array) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (array->managed && array->managed->deleter) array->managed->deleter(array->managed);
  if (array->versioned && array->versioned->deleter) array->versioned->deleter(array->versioned);
  PyErr_Restore(type, value, traceback);
}

void core_array_drop(core_array *array) {
  if (array->buffer.obj) PyBuffer_Release(&array->buffer);
  if (array->managed || array->versioned) give_back(array);
  Py_XDECREF(array->object);
  *array = (core_array){0};
}

fonio_array core_array_view(const core_array *array) {
  return (fonio_array){.dtype = array->dtype, .ndim = array->ndim, .shape = array->shape, .strides = array->strides};
}

void *core_address(void *data) {
  static char nowhere[64];
  return data ? data : nowhere;
}
