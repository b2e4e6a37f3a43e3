/* Python's arguments as C's, with torch's rules for what is taken and torch's words for what is not. */
#include <stdio.h>
#include <string.h>

#include "core.h"

/* ---- Which argument is which ---- */

static bool intern(core_signature *signature) {
  for (int i = 0; i < signature->count && !signature->interned[signature->count - 1]; i++)
    if (!signature->interned[i] && !(signature->interned[i] = PyUnicode_InternFromString(signature->names[i])))
      return false;
  return true;
}

/* Names in calls are interned as a rule: comparing addresses finds them. */
static int place_of(const core_signature *signature, PyObject *name) {
  for (int i = 0; i < signature->count; i++)
    if (signature->interned[i] == name) return i;
  for (int i = 0; i < signature->count; i++)
    if (PyUnicode_CompareWithASCIIString(name, signature->names[i]) == 0) return i;
  return -1;
}

static bool fail_call(const core_signature *signature, const char *what, PyObject *name) {
  PyErr_Format(PyExc_TypeError, "%s() got %s argument '%U'", signature->function, what, name);
  return false;
}

static bool bind_keywords(core_signature *signature, PyObject *const *arguments, PyObject *names, PyObject **values) {
  Py_ssize_t count = names ? PyTuple_Size(names) : 0;
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *name = PyTuple_GetItem(names, i);
    int place = place_of(signature, name);
    if (place < 0) return fail_call(signature, "an unexpected keyword", name);
    if (values[place]) return fail_call(signature, "multiple values for", name);
    values[place] = arguments[i];
  }
  return true;
}

bool core_bind(core_signature *signature, PyObject *const *arguments, Py_ssize_t count, PyObject *names,
               PyObject **values) {
  if (!intern(signature)) return false;
  if (count > signature->positional) {
    PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments (%zd given)", signature->function,
                 signature->positional, count);
    return false;
  }
  for (Py_ssize_t i = 0; i < signature->count; i++)
    values[i] = i < count ? arguments[i] : NULL;
  if (!bind_keywords(signature, arguments + count, names, values)) return false;
  for (int i = 0; i < signature->required; i++) {
    if (values[i]) continue;
    PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s' (pos %d)", signature->function,
                 signature->names[i], i + 1);
    return false;
  }
  return true;
}

PyObject *core_raise_combination(const core_signature *signature, PyObject *const *values) {
  PyObject *given = PyDict_New(), *texts = NULL;
  for (int i = 0; given && i < signature->count; i++)
    if (values[i] && PyDict_SetItemString(given, signature->names[i], values[i])) Py_CLEAR(given);
  if (given) texts = PyImport_ImportModule("fonio._texts");
  PyObject *text = texts ? PyObject_CallMethod(texts, "combination", "sO", signature->function, given) : NULL;
  if (text) PyErr_SetObject(PyExc_TypeError, text);
  Py_XDECREF(given);
  Py_XDECREF(texts);
  Py_XDECREF(text);
  return NULL;
}

/* ---- Numbers ---- */

/* An int, or what stands for one (__index__); torch takes no bool. False without an exception where it is neither. */
static bool read_int(PyObject *object, int64_t *value) {
  if (PyBool_Check(object)) return false;
  PyObject *number = PyNumber_Index(object);
  if (!number) return PyErr_Clear(), false;
  *value = PyLong_AsLongLong(number);
  Py_DECREF(number);
  if (*value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    PyErr_SetString(PyExc_ValueError, "Overflow when unpacking long long");
  }
  return true;
}

/* The items of a tuple or list, at most CORE_MAX_DIMS of them; -1 where one is no int, or there are too many. */
static int read_ints(PyObject *object, int64_t *values) {
  if (!PyTuple_Check(object) && !PyList_Check(object)) return -1;
  Py_ssize_t count = PySequence_Size(object);
  if (count > CORE_MAX_DIMS) return -1;
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *item = PyTuple_Check(object) ? PyTuple_GetItem(object, i) : PyList_GetItem(object, i);
    if (!item || !read_int(item, &values[i])) return -1;
  }
  return (int)count;
}

bool core_read_sizes(PyObject *object, const char *function, const char *name, int *ndim, int64_t *sizes) {
  *ndim = read_ints(object, sizes);
  if (*ndim < 0 && !PyErr_Occurred())
    PyErr_Format(PyExc_TypeError, "%s(): argument '%s' must be tuple of ints, of at most %d, not %R", function, name,
                 CORE_MAX_DIMS, object);
  return !PyErr_Occurred();
}

/* ---- The geometry of a convolution ---- */

static bool fail_count(const char *name, int count, const int64_t *values) {
  char text[256] = "";
  size_t used = 0;
  for (int i = 0; i < count && used < sizeof text; i++)
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%lld", i ? ", " : "", (long long)values[i]);
  PyErr_Format(
      PyExc_RuntimeError,
      "expected %s to be a single integer value or a list of 2 values to match the convolution dimensions, but "
      "got %s=[%s]",
      name, name, text);
  return false;
}

/* One number for both directions, or two; of `padding` also four. The number of those read, 0 where it is no such. */
static int read_numbers(PyObject *object, int64_t *values) {
  if (PyLong_Check(object) || !(PyTuple_Check(object) || PyList_Check(object)))
    return read_int(object, values) ? 1 : -1;
  return read_ints(object, values);
}

static bool read_pair(PyObject *object, const char *name, int64_t pair[2], bool *mistyped) {
  int64_t values[CORE_MAX_DIMS];
  if (!object) return true;
  int count = read_numbers(object, values);
  if (PyErr_Occurred()) return false;
  if (count < 0) return *mistyped = true, false;
  if (count != 1 && count != 2) return fail_count(name, count, values);
  pair[0] = values[0];
  pair[1] = values[count - 1];
  return true;
}

static bool read_padding(core_geometry *geometry, PyObject *object, bool *mistyped) {
  static const char *const names[] = {"valid", "same", "same_lower"};
  fonio_conv2d_args *args = &geometry->args;
  int64_t values[CORE_MAX_DIMS];
  if (!object) return true;
  if (PyUnicode_Check(object)) {
    geometry->padding_kind = -1;
    for (int i = 0; i < 3; i++)
      if (PyUnicode_CompareWithASCIIString(object, names[i]) == 0) geometry->padding_kind = i + 1;
    args->padding_name =
        geometry->padding_kind > 0 ? names[geometry->padding_kind - 1] : PyUnicode_AsUTF8AndSize(object, NULL);
    return args->padding_name != NULL;
  }
  int count = read_numbers(object, values);
  if (PyErr_Occurred()) return false;
  if (count < 0) return *mistyped = true, false;
  if (count != 1 && count != 2 && count != 4) return fail_count("padding", count, values);
  args->padding[0] = values[0];
  args->padding[1] = values[count > 1];
  if (count == 4) memcpy(args->padding_sides, values, sizeof args->padding_sides);
  return true;
}

static bool read_mode(core_geometry *geometry, PyObject *object, bool *mistyped) {
  static const char *const names[] = {"zeros", "reflect", "replicate", "circular"};
  if (!object) return true;
  if (!PyUnicode_Check(object)) return *mistyped = true, false;
  geometry->mode_kind = -1;
  for (int i = 0; i < 4; i++)
    if (PyUnicode_CompareWithASCIIString(object, names[i]) == 0) geometry->mode_kind = i;
  geometry->args.padding_mode =
      geometry->mode_kind >= 0 ? names[geometry->mode_kind] : PyUnicode_AsUTF8AndSize(object, NULL);
  return geometry->args.padding_mode != NULL;
}

static bool read_groups(core_geometry *geometry, PyObject *object, bool *mistyped) {
  if (!object) return true;
  if (!read_int(object, &geometry->args.groups)) return *mistyped = true, false;
  return !PyErr_Occurred();
}

bool core_read_geometry(core_geometry *geometry, PyObject *const *values, bool *mistyped) {
  *geometry = (core_geometry){.args = fonio_conv2d_args_default()};
  *mistyped = false;
  return read_pair(values[0], "stride", geometry->args.stride, mistyped) &&
         read_padding(geometry, values[1], mistyped) &&
         read_pair(values[2], "dilation", geometry->args.dilation, mistyped) &&
         read_groups(geometry, values[3], mistyped) && read_mode(geometry, values[4], mistyped);
}
