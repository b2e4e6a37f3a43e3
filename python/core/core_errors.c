/* The library's failures and warnings as Python's. */
#include "core.h"

static PyObject *exception_of(fonio_status status) {
  switch (status) {
  case FONIO_NO_MEMORY: return PyExc_MemoryError;
  case FONIO_VALUE_ERROR: return PyExc_ValueError;
  case FONIO_TYPE_ERROR: return PyExc_TypeError;
  case FONIO_INDEX_ERROR: return PyExc_IndexError;
  case FONIO_KEY_ERROR: return PyExc_KeyError;
  case FONIO_NOT_IMPLEMENTED: return PyExc_NotImplementedError;
  case FONIO_IO_ERROR: return PyExc_OSError;
  case FONIO_OK:
  case FONIO_RUNTIME_ERROR: break;
  }
  return PyExc_RuntimeError;
}

PyObject *core_raise(void) {
  /* A warning that is to be an error came first. */
  if (!PyErr_Occurred()) PyErr_SetString(exception_of(fonio_last_status()), fonio_last_error());
  fonio_clear_error();
  return NULL;
}

bool core_failed(fonio_status status) {
  if (status != FONIO_OK) core_raise();
  return status != FONIO_OK || PyErr_Occurred();
}

/* Comes on a thread that made a call, which may have given the interpreter away meanwhile. A warning that is to be an
 * error stays set until the call is back. */
static void warn(const char *message, void *user) {
  (void)user;
  PyGILState_STATE state = PyGILState_Ensure();
  if (!PyErr_Occurred()) PyErr_WarnEx(PyExc_UserWarning, message, 1);
  PyGILState_Release(state);
}

void core_take_warnings(void) {
  fonio_set_warning_handler(warn, NULL);
}
