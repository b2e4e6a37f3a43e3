/* New arrays, of the kind of the caller's. */
#include <string.h>

#include "core.h"

/* A shape as it lies in memory: with the channels last, (N, H, W, C). */
static void memory_order(int ndim, const int64_t *shape, bool channels_last, int64_t *ordered) {
  memcpy(ordered, shape, (size_t)ndim * sizeof *shape);
  if (!channels_last) return;
  memmove(ordered + ndim - 3, shape + ndim - 2, 2 * sizeof *shape);
  ordered[ndim - 1] = shape[ndim - 3];
}

static PyObject *tuple_of(int ndim, const int64_t *sizes) {
  PyObject *tuple = PyTuple_New(ndim);
  for (int i = 0; tuple && i < ndim; i++) {
    PyObject *size = PyLong_FromLongLong(sizes[i]);
    if (!size || PyTuple_SetItem(tuple, i, size)) Py_CLEAR(tuple);
  }
  return tuple;
}

/* array.<method>(0, 3, 1, 2) of (N, H, W, C), or (2, 0, 1) of (H, W, C). Takes over the reference. */
static PyObject *with_channels_first(PyObject *array, const char *method, int ndim) {
  PyObject *turned = ndim == 4 ? PyObject_CallMethod(array, method, "iiii", 0, 3, 1, 2)
                               : PyObject_CallMethod(array, method, "iii", 2, 0, 1);
  Py_DECREF(array);
  return turned;
}

/* numpy.empty and the names of its dtypes, found once. */
static PyObject *numpy_empty, *numpy_dtypes[FONIO_DTYPE_COUNT];

static bool find_numpy(fonio_dtype dtype) {
  if (numpy_empty && numpy_dtypes[dtype]) return true;
  PyObject *numpy = PyImport_ImportModule("numpy");
  if (numpy && !numpy_empty) numpy_empty = PyObject_GetAttrString(numpy, "empty");
  if (numpy_empty) numpy_dtypes[dtype] = PyObject_CallMethod(numpy, "dtype", "s", fonio_dtype_name(dtype));
  Py_XDECREF(numpy);
  return numpy_empty && numpy_dtypes[dtype];
}

static PyObject *new_numpy(fonio_dtype dtype, int ndim, const int64_t *ordered, void **data) {
  if (!find_numpy(dtype)) return NULL;
  PyObject *shape = tuple_of(ndim, ordered);
  if (!shape) return NULL;
  PyObject *array = PyObject_CallFunctionObjArgs(numpy_empty, shape, numpy_dtypes[dtype], NULL);
  Py_DECREF(shape);
  Py_buffer buffer;
  if (!array || PyObject_GetBuffer(array, &buffer, PyBUF_STRIDES | PyBUF_WRITABLE)) {
    Py_XDECREF(array);
    return NULL;
  }
  *data = buffer.buf;
  PyBuffer_Release(&buffer);
  return array;
}

static void set_error(void *user, const char *kind, const char *message) {
  (void)user, (void)kind;
  PyErr_SetString(PyExc_RuntimeError, message);
}

/* Gives out what was allocated. With the channels last it gets the sizes and strides of an image while the other
 * library reads them: its tensor is then no view of another one, which autograd would have to know of. */
static PyObject *give(const dlpack_exchange *exchange, dlpack_versioned *made, bool channels_last) {
  dlpack_tensor *tensor = &made->tensor, whole = *tensor;
  int64_t shape[CORE_MAX_DIMS], strides[CORE_MAX_DIMS], *sizes = shape + tensor->ndim - 3;
  void *object = NULL;
  if (channels_last) {
    memcpy(shape, whole.shape, (size_t)whole.ndim * sizeof *shape);
    int64_t height = sizes[0], width = sizes[1], channels = sizes[2];
    const int64_t image[3] = {channels, height, width};
    const int64_t steps[4] = {height * width * channels, 1, width * channels, channels};
    memcpy(sizes, image, sizeof image);
    memcpy(strides, steps + 4 - whole.ndim, (size_t)whole.ndim * sizeof *strides);
    tensor->shape = shape;
    tensor->strides = strides;
  }
  if (exchange->give(made, &object)) return NULL;
  tensor->shape = whole.shape;
  tensor->strides = whole.strides;
  return object;
}

/* The other library's own memory, so that it can do with it all that it does. */
static PyObject *new_exchange(const dlpack_exchange *exchange, fonio_dtype dtype, int ndim, int64_t *ordered,
                              bool channels_last, void **data) {
  dlpack_tensor prototype = {
      .device = {DLPACK_CPU, 0}, .ndim = ndim, .dtype = core_dlpack_type(dtype), .shape = ordered};
  dlpack_versioned *made = NULL;
  if (exchange->allocate(&prototype, &made, NULL, set_error)) return NULL;
  *data = (char *)made->tensor.data + made->tensor.byte_offset;
  if (!*data && !core_is_empty(ndim, ordered)) {
    made->deleter(made);
    return PyErr_SetString(PyExc_RuntimeError, "the other library gives no memory, but a tensor that stands for one"),
           NULL;
  }
  return give(exchange, made, channels_last);
}

/* Memory of the library's own, which the other library takes over in core_array_finish. */
static PyObject *new_tensor(fonio_dtype dtype, int ndim, const int64_t *ordered, void **data) {
  fonio_tensor *tensor = fonio_tensor_empty(dtype, ndim, ordered);
  *data = fonio_tensor_data(tensor);
  return core_tensor_new(tensor);
}

/* array.__array_namespace__().from_dlpack(tensor). */
static PyObject *given_to(PyObject *like, PyObject *tensor) {
  PyObject *library = PyObject_CallMethod(like, "__array_namespace__", NULL);
  PyObject *made = library ? PyObject_CallMethod(library, "from_dlpack", "O", tensor) : NULL;
  Py_XDECREF(library);
  Py_DECREF(tensor);
  return made;
}

bool core_array_keeps_layout(const core_array *like) {
  return like->kind != CORE_DLPACK;
}

PyObject *core_array_new(const core_array *like, fonio_dtype dtype, int ndim, const int64_t *shape, bool channels_last,
                         void **data) {
  int64_t ordered[CORE_MAX_DIMS];
  memory_order(ndim, shape, channels_last, ordered);
  switch (like->kind) {
  case CORE_EXCHANGE: return new_exchange(like->exchange, dtype, ndim, ordered, channels_last, data);
  case CORE_TENSOR:
  case CORE_DLPACK: return new_tensor(dtype, ndim, ordered, data);
  case CORE_NO_ARRAY:
  case CORE_MASKED:
  case CORE_NUMPY:
  case CORE_BUFFER: break;
  }
  return new_numpy(dtype, ndim, ordered, data);
}

PyObject *core_array_finish(const core_array *like, PyObject *made, int ndim, bool channels_last) {
  if (channels_last && like->kind != CORE_EXCHANGE)
    made = with_channels_first(made, like->kind == CORE_TENSOR ? "permute" : "transpose", ndim);
  if (made && like->kind == CORE_DLPACK) return given_to(like->object, made);
  if (!made || like->kind != CORE_BUFFER) return made;
  PyObject *view = PyMemoryView_FromObject(made);
  Py_DECREF(made);
  return view;
}
