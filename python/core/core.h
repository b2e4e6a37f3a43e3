/* What the files of the extension share. fonio._core is a thin door: it turns Python's arguments into those of the
 * public C interface, and failures into exceptions. Everything that needs no speed is Python, in python/fonio/.
 *
 * Python's limited interface of 3.11 only, so that one binary serves every later Python. */
#ifndef CORE_H
#define CORE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <fonio.h>

#include "dlpack.h"

/* ---- Failures: core_errors.c ---- */

/* Raises the exception that this thread's last failure is named after, with its text. Returns NULL. */
PyObject *core_raise(void);

/* Raises it unless `status` is FONIO_OK. True where an exception is set, also by a warning that is to be an error. */
bool core_failed(fonio_status status);

/* Sends the library's warnings to Python's. */
void core_take_warnings(void);

/* ---- Arrays of any library: core_array.c ---- */

typedef enum core_kind {
  CORE_NO_ARRAY,
  CORE_TENSOR,   /* fonio.Tensor */
  CORE_NUMPY,    /* numpy.ndarray, through the buffer protocol */
  CORE_MASKED,   /* numpy.ma.MaskedArray, which is refused */
  CORE_BUFFER,   /* another object with a buffer */
  CORE_EXCHANGE, /* a type with DLPack's C interface: torch's */
  CORE_DLPACK    /* an object with __dlpack__ */
} core_kind;

enum { CORE_MAX_DIMS = 8 };

/* An array while a call looks at it. */
typedef struct core_array {
  core_kind kind;
  bool read_only;
  fonio_dtype dtype;
  int ndim;
  int64_t shape[CORE_MAX_DIMS], strides[CORE_MAX_DIMS]; /* in elements */
  char *data;
  const dlpack_exchange *exchange; /* of CORE_EXCHANGE */
  PyObject *object;                /* a reference of one's own */
  Py_buffer buffer;                /* held, where `buffer.obj` is set */
  dlpack_managed *managed;         /* held, unless NULL */
  dlpack_versioned *versioned;     /* held, unless NULL */
} core_array;

/* What kind of array the object is, by its type; CORE_NO_ARRAY without an exception. */
core_kind core_kind_of(PyObject *object, const dlpack_exchange **exchange);

/* Looks at an array; `name` is for messages. False with an exception, also where a gradient would be lost. Given back
 * by core_array_drop, which may be called on zeros, too. */
bool core_array_take(core_array *array, PyObject *object, const char *name);

/* The same for callers that have taken care of gradients. */
bool core_array_look(core_array *array, PyObject *object, const char *name);
void core_array_drop(core_array *array);

/* Whether an array of this shape has no elements. */
bool core_is_empty(int ndim, const int64_t *shape);

/* Whether its elements lie anywhere, which it has to: those of tensors that only stand for others (fake, functional,
 * freed) do not. */
bool core_has_memory(const core_array *array, const char *name);

/* The library's view of it. */
fonio_array core_array_view(const core_array *array);

/* Reads what DLPack tells of an array, whose owner keeps it alive. False with an exception. */
bool core_read_dlpack(core_array *array, const dlpack_tensor *tensor, const char *name);

/* Looks at an array of CORE_EXCHANGE; refuses one whose gradient torch would record: core_torch.c. */
bool core_take_exchange(core_array *array, PyObject *object, const char *name);
bool core_refuse_gradient(PyObject *object, const char *name);

/* Tells torch that a tensor was written to, so that a gradient which needs what it held is refused. */
void core_note_write(PyObject *tensor);

/* Dtypes as DLPack and as Python's struct module name them: core_dtype.c. False with an exception, for which `name` is.
 */
dlpack_type core_dlpack_type(fonio_dtype dtype);
bool core_dtype_of_dlpack(const char *name, dlpack_type type, fonio_dtype *dtype);
bool core_dtype_of_format(const char *name, const char *format, Py_ssize_t bytes, fonio_dtype *dtype);

/* A new array of the kind of `like`: `data` is where its elements lie, in order or with the channels last. It is given
 * out by core_array_finish, once it is filled, which takes the reference over. NULL with an exception. Some libraries
 * know no layouts: core_array_keeps_layout is false for them, and `channels_last` must be. */
bool core_array_keeps_layout(const core_array *like);
PyObject *core_array_new(const core_array *like, fonio_dtype dtype, int ndim, const int64_t *shape, bool channels_last,
                         void **data);
PyObject *core_array_finish(const core_array *like, PyObject *made, int ndim, bool channels_last);

/* `data` itself. An array without elements may have no address, and none is read; but NULL would say that there is no
 * array. */
void *core_address(void *data);

/* core_overlap.c: whether the bytes of two arrays may be the same; whether two elements of one may. */
bool core_arrays_overlap(const core_array *a, const core_array *b);
bool core_array_overlaps_itself(const core_array *array);

/* ---- fonio.Tensor: core_tensor.c ---- */

extern PyTypeObject *core_tensor_type;

/* A Tensor for a reference, which is taken over; NULL gives the exception of the failure that it came from. */
PyObject *core_tensor_new(fonio_tensor *tensor);

/* The tensor of a Tensor, borrowed. */
fonio_tensor *core_tensor_of(PyObject *object);

PyObject *core_tensor_dlpack(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *core_tensor_dlpack_device(PyObject *self, PyObject *unused);
PyObject *core_tensor_adopt(PyObject *type, PyObject *other);
PyObject *core_tensor_assign(PyObject *self, PyObject *other);
PyObject *core_set_tensor_class(PyObject *module, PyObject *type);

/* The same with a reference of one's own, for a call that gives the interpreter's lock away: meanwhile the object may
 * come to stand for another tensor. */
fonio_tensor *core_tensor_hold(PyObject *object);

/* The tensor of an argument, borrowed; NULL with a TypeError for another object. */
fonio_tensor *core_tensor_argument(PyObject *object);

bool core_add_tensor(PyObject *module);

/* ---- core_methods.c, core_properties.c, core_create.c, core_layer.c ---- */

extern PyMethodDef core_tensor_methods[], core_create_functions[], core_layer_functions[];

/* ---- core_train.c ---- */

extern PyMethodDef core_train_functions[];
extern PyGetSetDef core_tensor_properties[];

bool core_add_layer(PyObject *module);

/* ---- Arguments: core_arguments.c ---- */

/* A function's parameters: their names, of which the first `positional` may be given by place. */
typedef struct core_signature {
  const char *function;
  int positional, required, count;
  const char *names[12];
  PyObject *interned[12]; /* made when first needed */
} core_signature;

/* Puts the arguments of a vectorcall into `values`, by parameter: NULL where none was given. False with a TypeError. */
bool core_bind(core_signature *signature, PyObject *const *arguments, Py_ssize_t count, PyObject *names,
               PyObject **values);

/* Raises the TypeError that torch's parser raises for these arguments. Returns NULL. */
PyObject *core_raise_combination(const core_signature *signature, PyObject *const *values);

/* The geometry of a convolution: stride, padding, dilation, groups, padding_mode. */
typedef struct core_geometry {
  fonio_conv2d_args args;
  int64_t padding_kind, mode_kind; /* the names as numbers, for the key of the cache; -1: a name that is refused */
} core_geometry;

/* Reads them from five arguments in this order, NULL for the default. False with an exception; where that would be
 * torch's TypeError for a wrong type, `*mistyped` is set and no exception. */
bool core_read_geometry(core_geometry *geometry, PyObject *const *values, bool *mistyped);

/* Reads sizes (a tuple or list of 1 to 8 ints). False with an exception. */
bool core_read_sizes(PyObject *object, const char *function, const char *name, int *ndim, int64_t *sizes);

/* ---- Plans: core_plans.c ---- */

enum { CORE_KEY_WORDS = 64 };

/* All that a plan depends on. */
typedef struct core_key {
  int count;
  int64_t words[CORE_KEY_WORDS];
} core_key;

void core_key_add(core_key *key, int64_t word);
void core_key_add_array(core_key *key, const core_array *array); /* NULL: none */
void core_key_add_geometry(core_key *key, const core_geometry *geometry);

typedef struct core_plan {
  int64_t users;
  fonio_conv_plan *plan;
} core_plan;

/* The plan of the key, with one more user; NULL if there is none. */
core_plan *core_plan_find(const core_key *key);

/* Makes the plan of a problem and keeps it under the key; `options` but for their size. NULL with an exception. */
core_plan *core_plan_make(const core_key *key, const fonio_conv_problem *problem, fonio_conv_plan_options options);

void core_plan_drop(core_plan *plan);

/* fonio._core.plan_count() and clear_plans(): how many are kept; forgets them. */
PyObject *core_plan_count(PyObject *module, PyObject *unused);
PyObject *core_clear_plans(PyObject *module, PyObject *unused);

/* ---- Weights that are kept: core_kept.c ---- */

/* keep(): a capsule for one weight of a layer in the orders in which algorithms read it. The layer is to take a new one
 * when the weight changes. */
PyObject *core_keep(PyObject *module, PyObject *unused);
PyObject *core_kept_count(PyObject *module, PyObject *object);
bool core_is_kept(PyObject *object);

/* The weight as the plan reads it, packed in the first call; NULL where it cannot be kept. It lives as long as the
 * capsule. False with an exception. */
bool core_kept_weight(PyObject *kept, const fonio_conv_plan *plan, const void *weight,
                      const fonio_conv_packed **packed);

/* ---- The functions: core_conv2d.c, core_gradient.c ---- */

PyObject *core_conv2d(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names);
PyObject *core_layer_conv2d(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *core_explain(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names);
PyObject *core_explain_layer(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *core_conv2d_input(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names);
PyObject *core_conv2d_weight(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names);
PyObject *core_conv2d_backward(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names);

#endif
