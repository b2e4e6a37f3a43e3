/* What networks are trained with: linear layers, pooling and losses, under fonio/nn/functional.py; optimisers, under
 * fonio/optim.py; generators of random numbers. They take exactly what is passed on there. */
#include <string.h>

#include "core.h"

/* ---- Functions of tensors ---- */

enum { MOST_TENSORS = 3 };

/* One call, while the interpreter's lock is given away. */
typedef struct request {
  PyObject *objects[MOST_TENSORS];     /* borrowed; NULL or None: no tensor */
  fonio_tensor *tensors[MOST_TENSORS]; /* held */
  fonio_pool2d_args pool;
  long long ignore_index;
  int dim, reduction;
  double label_smoothing;
} request;

static bool hold(request *call) {
  for (int i = 0; i < MOST_TENSORS; i++) {
    if (!call->objects[i] || call->objects[i] == Py_None) continue;
    if (!core_tensor_argument(call->objects[i])) return false;
    call->tensors[i] = core_tensor_hold(call->objects[i]);
  }
  return true;
}

static PyObject *run(request *call, fonio_tensor *(*function)(const request *)) {
  fonio_tensor *made = NULL;
  bool held = hold(call);
  if (held) {
    PyThreadState *state = PyEval_SaveThread();
    made = function(call);
    PyEval_RestoreThread(state);
  }
  for (int i = 0; i < MOST_TENSORS; i++)
    fonio_tensor_release(call->tensors[i]);
  return held ? core_tensor_new(made) : NULL;
}

static fonio_tensor *run_linear(const request *call) {
  return fonio_tensor_linear(call->tensors[0], call->tensors[1], call->tensors[2]);
}

/* linear(input, weight, bias or None) */
static PyObject *linear(PyObject *module, PyObject *arguments) {
  (void)module;
  request call = {0};
  PyObject **objects = call.objects;
  if (!PyArg_ParseTuple(arguments, "OOO", &objects[0], &objects[1], &objects[2])) return NULL;
  return run(&call, run_linear);
}

static fonio_tensor *run_max_pool2d(const request *call) {
  return fonio_tensor_max_pool2d_with(call->tensors[0], &call->pool);
}

static fonio_tensor *run_avg_pool2d(const request *call) {
  return fonio_tensor_avg_pool2d_with(call->tensors[0], &call->pool);
}

/* pool2d(max, input, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override) */
static PyObject *pool2d(PyObject *module, PyObject *arguments) {
  (void)module;
  request call = {.pool = fonio_pool2d_args_default()};
  fonio_pool2d_args *pool = &call.pool;
  int max, ceil_mode, count_include_pad;
  long long numbers[8], divisor;
  if (!PyArg_ParseTuple(arguments, "pO(LL)(LL)(LL)(LL)ppL", &max, &call.objects[0], &numbers[0], &numbers[1],
                        &numbers[2], &numbers[3], &numbers[4], &numbers[5], &numbers[6], &numbers[7], &ceil_mode,
                        &count_include_pad, &divisor))
    return NULL;
  for (int i = 0; i < 2; i++) {
    pool->kernel_size[i] = numbers[i];
    pool->stride[i] = numbers[2 + i];
    pool->padding[i] = numbers[4 + i];
    pool->dilation[i] = numbers[6 + i];
  }
  pool->ceil_mode = ceil_mode;
  pool->count_include_pad = count_include_pad;
  pool->divisor_override = divisor;
  return run(&call, max ? run_max_pool2d : run_avg_pool2d);
}

static fonio_tensor *run_log_softmax(const request *call) {
  return fonio_tensor_log_softmax(call->tensors[0], call->dim);
}

/* log_softmax(input, dim) */
static PyObject *log_softmax(PyObject *module, PyObject *arguments) {
  (void)module;
  request call = {0};
  if (!PyArg_ParseTuple(arguments, "Oi", &call.objects[0], &call.dim)) return NULL;
  return run(&call, run_log_softmax);
}

static fonio_tensor *run_mse_loss(const request *call) {
  return fonio_tensor_mse_loss(call->tensors[0], call->tensors[1], (fonio_reduction)call->reduction);
}

/* mse_loss(input, target, reduction) */
static PyObject *mse_loss(PyObject *module, PyObject *arguments) {
  (void)module;
  request call = {0};
  if (!PyArg_ParseTuple(arguments, "OOi", &call.objects[0], &call.objects[1], &call.reduction)) return NULL;
  return run(&call, run_mse_loss);
}

static fonio_tensor *run_nll_loss(const request *call) {
  return fonio_tensor_nll_loss(call->tensors[0], call->tensors[1], call->ignore_index,
                               (fonio_reduction)call->reduction);
}

/* nll_loss(input, target, ignore_index, reduction) */
static PyObject *nll_loss(PyObject *module, PyObject *arguments) {
  (void)module;
  request call = {0};
  if (!PyArg_ParseTuple(arguments, "OOLi", &call.objects[0], &call.objects[1], &call.ignore_index, &call.reduction))
    return NULL;
  return run(&call, run_nll_loss);
}

static fonio_tensor *run_cross_entropy(const request *call) {
  return fonio_tensor_cross_entropy(call->tensors[0], call->tensors[1], call->ignore_index,
                                    (fonio_reduction)call->reduction, call->label_smoothing);
}

/* cross_entropy(input, target, ignore_index, reduction, label_smoothing) */
static PyObject *cross_entropy(PyObject *module, PyObject *arguments) {
  (void)module;
  request call = {0};
  if (!PyArg_ParseTuple(arguments, "OOLid", &call.objects[0], &call.objects[1], &call.ignore_index, &call.reduction,
                        &call.label_smoothing))
    return NULL;
  return run(&call, run_cross_entropy);
}

/* ---- Optimisers, in capsules ---- */

static const char optimizer_name[] = "fonio._core.optimizer";

static void drop_optimizer(PyObject *capsule) {
  fonio_optimizer_release(PyCapsule_GetPointer(capsule, optimizer_name));
}

static PyObject *capsule_of_optimizer(fonio_optimizer *made) {
  if (!made) return core_raise();
  PyObject *capsule = PyCapsule_New(made, optimizer_name, drop_optimizer);
  if (!capsule) fonio_optimizer_release(made);
  return capsule;
}

/* {"0": first, "1": second, ...}; NULL with an exception. */
static fonio_dict *dict_of(PyObject *tensors) {
  fonio_dict *dict = fonio_dict_new();
  if (!dict) return core_raise(), NULL;
  for (Py_ssize_t i = 0; i < PyTuple_Size(tensors); i++) {
    char name[24];
    PyOS_snprintf(name, sizeof name, "%zd", i);
    fonio_tensor *tensor = core_tensor_argument(PyTuple_GetItem(tensors, i));
    if (tensor && !core_failed(fonio_dict_set(dict, name, tensor))) continue;
    fonio_dict_release(dict);
    return NULL;
  }
  return dict;
}

/* sgd((parameters), lr, momentum, dampening, weight_decay, nesterov, maximize) */
static PyObject *sgd(PyObject *module, PyObject *arguments) {
  (void)module;
  fonio_sgd_options options = fonio_sgd_options_default();
  PyObject *tensors;
  int nesterov, maximize;
  if (!PyArg_ParseTuple(arguments, "O!ddddpp", &PyTuple_Type, &tensors, &options.lr, &options.momentum,
                        &options.dampening, &options.weight_decay, &nesterov, &maximize))
    return NULL;
  options.nesterov = nesterov;
  options.maximize = maximize;
  fonio_dict *parameters = dict_of(tensors);
  if (!parameters) return NULL;
  fonio_optimizer *made = fonio_sgd_new_with(parameters, &options);
  fonio_dict_release(parameters);
  return capsule_of_optimizer(made);
}

/* adam((parameters), lr, (beta1, beta2), eps, weight_decay, amsgrad, maximize, decoupled_weight_decay) */
static PyObject *adam(PyObject *module, PyObject *arguments) {
  (void)module;
  fonio_adam_options options = fonio_adam_options_default();
  PyObject *tensors;
  int amsgrad, maximize, decoupled;
  if (!PyArg_ParseTuple(arguments, "O!d(dd)ddppp", &PyTuple_Type, &tensors, &options.lr, &options.betas[0],
                        &options.betas[1], &options.eps, &options.weight_decay, &amsgrad, &maximize, &decoupled))
    return NULL;
  options.amsgrad = amsgrad;
  options.maximize = maximize;
  options.decoupled_weight_decay = decoupled;
  fonio_dict *parameters = dict_of(tensors);
  if (!parameters) return NULL;
  fonio_optimizer *made = fonio_adam_new_with(parameters, &options);
  fonio_dict_release(parameters);
  return capsule_of_optimizer(made);
}

/* optimizer_step(optimizer, lr) */
static PyObject *optimizer_step(PyObject *module, PyObject *arguments) {
  (void)module;
  PyObject *capsule;
  double lr;
  if (!PyArg_ParseTuple(arguments, "Od", &capsule, &lr)) return NULL;
  fonio_optimizer *optimizer = PyCapsule_GetPointer(capsule, optimizer_name);
  if (!optimizer || core_failed(fonio_optimizer_set_lr(optimizer, lr))) return NULL;
  fonio_status status;
  PyThreadState *state = PyEval_SaveThread();
  status = fonio_optimizer_step(optimizer);
  PyEval_RestoreThread(state);
  if (core_failed(status)) return NULL;
  Py_RETURN_NONE;
}

/* optimizer_state(optimizer): {"0.momentum_buffer": tensor, ...} */
static PyObject *optimizer_state(PyObject *module, PyObject *capsule) {
  (void)module;
  fonio_optimizer *optimizer = PyCapsule_GetPointer(capsule, optimizer_name);
  if (!optimizer) return NULL;
  fonio_dict *kept = fonio_optimizer_state_dict(optimizer);
  if (!kept) return core_raise();
  PyObject *state = PyDict_New();
  for (int64_t i = 0; state && i < fonio_dict_size(kept); i++) {
    PyObject *tensor = core_tensor_new(fonio_tensor_retain(fonio_dict_tensor_at(kept, i)));
    if (!tensor || PyDict_SetItemString(state, fonio_dict_name_at(kept, i), tensor)) Py_CLEAR(state);
    Py_XDECREF(tensor);
  }
  fonio_dict_release(kept);
  return state;
}

static bool add_all(fonio_dict *dict, PyObject *given) {
  PyObject *name, *tensor;
  Py_ssize_t place = 0;
  while (PyDict_Next(given, &place, &name, &tensor)) {
    const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
    if (!text || !core_tensor_argument(tensor)) return false;
    if (core_failed(fonio_dict_set(dict, text, core_tensor_of(tensor)))) return false;
  }
  return true;
}

/* optimizer_load(optimizer, state) */
static PyObject *optimizer_load(PyObject *module, PyObject *arguments) {
  (void)module;
  PyObject *capsule, *given;
  if (!PyArg_ParseTuple(arguments, "OO!", &capsule, &PyDict_Type, &given)) return NULL;
  fonio_optimizer *optimizer = PyCapsule_GetPointer(capsule, optimizer_name);
  if (!optimizer) return NULL;
  fonio_dict *dict = fonio_dict_new();
  if (!dict) return core_raise();
  bool done = add_all(dict, given) && !core_failed(fonio_optimizer_load_state_dict(optimizer, dict));
  fonio_dict_release(dict);
  if (!done) return NULL;
  Py_RETURN_NONE;
}

/* ---- Generators, in capsules ---- */

static const char generator_name[] = "fonio._core.generator";

static void drop_generator(PyObject *capsule) {
  fonio_generator_release(PyCapsule_GetPointer(capsule, generator_name));
}

/* generator(): as it is before it is seeded. */
static PyObject *generator(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fonio_generator *made = fonio_generator_new();
  if (!made) return core_raise();
  PyObject *capsule = PyCapsule_New(made, generator_name, drop_generator);
  if (!capsule) fonio_generator_release(made);
  return capsule;
}

/* generator_manual_seed(generator, seed) */
static PyObject *generator_manual_seed(PyObject *module, PyObject *arguments) {
  (void)module;
  PyObject *capsule;
  unsigned long long seed;
  if (!PyArg_ParseTuple(arguments, "OK", &capsule, &seed)) return NULL;
  fonio_generator *given = PyCapsule_GetPointer(capsule, generator_name);
  if (!given || core_failed(fonio_generator_manual_seed(given, seed))) return NULL;
  Py_RETURN_NONE;
}

static PyObject *generator_seed(PyObject *module, PyObject *capsule) {
  (void)module;
  fonio_generator *given = PyCapsule_GetPointer(capsule, generator_name);
  return given ? PyLong_FromUnsignedLongLong(fonio_generator_seed(given)) : NULL;
}

static PyObject *generator_initial_seed(PyObject *module, PyObject *capsule) {
  (void)module;
  fonio_generator *given = PyCapsule_GetPointer(capsule, generator_name);
  return given ? PyLong_FromUnsignedLongLong(fonio_generator_initial_seed(given)) : NULL;
}

/* generator_draw(generator, tensor, name, a, b): fills the tensor; uniform and normal take floats, random ints. */
static PyObject *generator_draw(PyObject *module, PyObject *arguments) {
  (void)module;
  PyObject *capsule, *object, *a, *b;
  const char *name;
  if (!PyArg_ParseTuple(arguments, "OO!sOO", &capsule, core_tensor_type, &object, &name, &a, &b)) return NULL;
  fonio_generator *given = PyCapsule_GetPointer(capsule, generator_name);
  if (!given) return NULL;
  fonio_tensor *tensor = core_tensor_of(object);
  bool whole = strcmp(name, "random") == 0;
  int64_t low = whole ? PyLong_AsLongLong(a) : 0, high = whole ? PyLong_AsLongLong(b) : 0;
  double first = whole ? 0 : PyFloat_AsDouble(a), second = whole ? 0 : PyFloat_AsDouble(b);
  if (PyErr_Occurred()) return NULL;
  fonio_status status = whole                         ? fonio_generator_random(given, tensor, low, high)
                        : strcmp(name, "normal") == 0 ? fonio_generator_normal(given, tensor, first, second)
                                                      : fonio_generator_uniform(given, tensor, first, second);
  if (core_failed(status)) return NULL;
  Py_RETURN_NONE;
}

/* generator_randperm(generator, dtype, n) */
static PyObject *generator_randperm(PyObject *module, PyObject *arguments) {
  (void)module;
  PyObject *capsule;
  int dtype;
  long long count;
  if (!PyArg_ParseTuple(arguments, "OiL", &capsule, &dtype, &count)) return NULL;
  fonio_generator *given = PyCapsule_GetPointer(capsule, generator_name);
  return given ? core_tensor_new(fonio_generator_randperm(given, (fonio_dtype)dtype, count)) : NULL;
}

PyMethodDef core_train_functions[] = {
    {"linear", linear, METH_VARARGS, NULL},
    {"pool2d", pool2d, METH_VARARGS, NULL},
    {"log_softmax", log_softmax, METH_VARARGS, NULL},
    {"mse_loss", mse_loss, METH_VARARGS, NULL},
    {"nll_loss", nll_loss, METH_VARARGS, NULL},
    {"cross_entropy", cross_entropy, METH_VARARGS, NULL},
    {"sgd", sgd, METH_VARARGS, NULL},
    {"adam", adam, METH_VARARGS, NULL},
    {"optimizer_step", optimizer_step, METH_VARARGS, NULL},
    {"optimizer_state", optimizer_state, METH_O, NULL},
    {"optimizer_load", optimizer_load, METH_VARARGS, NULL},
    {"generator", generator, METH_NOARGS, NULL},
    {"generator_manual_seed", generator_manual_seed, METH_VARARGS, NULL},
    {"generator_seed", generator_seed, METH_O, NULL},
    {"generator_initial_seed", generator_initial_seed, METH_O, NULL},
    {"generator_draw", generator_draw, METH_VARARGS, NULL},
    {"generator_randperm", generator_randperm, METH_VARARGS, NULL},
    {0},
};
