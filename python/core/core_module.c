/* The module fonio._core, and the settings of the library. */
#include <string.h>

#include "core.h"
#include "core_docs.h"

/* ---- Settings ---- */

static PyObject *set_num_threads(PyObject *module, PyObject *given) {
  (void)module;
  if (!PyLong_Check(given) || PyBool_Check(given))
    return PyErr_Format(PyExc_TypeError, "set_num_threads expects an int, but got %R", Py_TYPE(given));
  int over;
  long long threads = PyLong_AsLongLongAndOverflow(given, &over);
  if (over || threads > 256 || threads < 1) threads = over > 0 || threads > 256 ? 256 : 0;
  fonio_status status;
  PyThreadState *state = PyEval_SaveThread();
  status = fonio_set_num_threads((int)threads);
  PyEval_RestoreThread(state);
  if (core_failed(status)) return NULL;
  Py_RETURN_NONE;
}

static PyObject *get_num_threads(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyLong_FromLong(fonio_num_threads());
}

static const char *const accuracies[] = {
    [FONIO_ACCURACY_STRICT] = "strict", [FONIO_ACCURACY_DEFAULT] = "default", [FONIO_ACCURACY_FAST] = "fast"};

static PyObject *set_accuracy(PyObject *module, PyObject *given) {
  (void)module;
  int accuracy = given == Py_None ? FONIO_ACCURACY_UNSET : -1;
  for (int i = FONIO_ACCURACY_STRICT; i <= FONIO_ACCURACY_FAST && PyUnicode_Check(given); i++)
    if (PyUnicode_CompareWithASCIIString(given, accuracies[i]) == 0) accuracy = i;
  if (accuracy < 0)
    return PyErr_Format(PyExc_ValueError, "accuracy must be 'strict', 'default', 'fast' or None, but got %R", given);
  if (core_failed(fonio_set_accuracy((fonio_accuracy)accuracy))) return NULL;
  Py_RETURN_NONE;
}

static PyObject *get_accuracy(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyUnicode_FromString(accuracies[fonio_get_accuracy()]);
}

static PyObject *live_allocations(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyLong_FromLongLong(fonio_live_allocations());
}

/* What fonio.show_config() tells: the instruction set and the algorithms. */
static PyObject *config(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  PyObject *algorithms = PyList_New(0);
  for (int i = 0; algorithms && fonio_conv_algorithm_name(i); i++) {
    PyObject *name = PyUnicode_FromString(fonio_conv_algorithm_name(i));
    if (!name || PyList_Append(algorithms, name)) Py_CLEAR(algorithms);
    Py_XDECREF(name);
  }
  return algorithms ? Py_BuildValue("{sssN}", "isa", fonio_isa(), "algorithms", algorithms) : NULL;
}

/* ---- The module ---- */

static PyMethodDef functions[] = {
    {"conv2d", (PyCFunction)(void (*)(void))core_conv2d, METH_FASTCALL | METH_KEYWORDS, conv2d_doc},
    {"conv2d_input", (PyCFunction)(void (*)(void))core_conv2d_input, METH_FASTCALL | METH_KEYWORDS, conv2d_input_doc},
    {"conv2d_weight", (PyCFunction)(void (*)(void))core_conv2d_weight, METH_FASTCALL | METH_KEYWORDS,
     conv2d_weight_doc},
    {"conv2d_backward", (PyCFunction)(void (*)(void))core_conv2d_backward, METH_FASTCALL | METH_KEYWORDS,
     conv2d_backward_doc},
    {"layer_conv2d", (PyCFunction)(void (*)(void))core_layer_conv2d, METH_FASTCALL, layer_conv2d_doc},
    {"keep", core_keep, METH_NOARGS, keep_doc},
    {"kept_count", core_kept_count, METH_O, kept_count_doc},
    {"explain", (PyCFunction)(void (*)(void))core_explain, METH_FASTCALL | METH_KEYWORDS, explain_doc},
    {"explain_layer", (PyCFunction)(void (*)(void))core_explain_layer, METH_FASTCALL, explain_layer_doc},
    {"plan_count", core_plan_count, METH_NOARGS, plan_count_doc},
    {"clear_plans", core_clear_plans, METH_NOARGS, clear_plans_doc},
    {"set_num_threads", set_num_threads, METH_O, set_num_threads_doc},
    {"get_num_threads", get_num_threads, METH_NOARGS, get_num_threads_doc},
    {"set_accuracy", set_accuracy, METH_O, set_accuracy_doc},
    {"get_accuracy", get_accuracy, METH_NOARGS, get_accuracy_doc},
    {"live_allocations", live_allocations, METH_NOARGS, live_allocations_doc},
    {"set_tensor_class", core_set_tensor_class, METH_O, set_tensor_class_doc},
    {"config", config, METH_NOARGS, config_doc},
    {0},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "fonio._core", .m_doc = "The door from Python to the library.",
    .m_size = -1,          .m_methods = functions,
};

PyMODINIT_FUNC PyInit__core(void) {
  PyObject *module = PyModule_Create(&definition);
  if (!module || !core_add_tensor(module) || !core_add_layer(module) ||
      PyModule_AddFunctions(module, core_create_functions) || PyModule_AddFunctions(module, core_layer_functions) ||
      PyModule_AddFunctions(module, core_train_functions) ||
      PyModule_AddStringConstant(module, "version", fonio_version())) {
    Py_XDECREF(module);
    return NULL;
  }
  core_take_warnings();
  return module;
}
