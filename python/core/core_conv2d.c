/* fonio.conv2d: arrays in, an array of the caller's kind out. */
#include <string.h>

#include "core.h"

enum { INPUT, WEIGHT, BIAS, STRIDE, PADDING, DILATION, GROUPS, MODE, ACTIVATION, OUT, PARAMETERS };

static core_signature signature = {
    .function = "conv2d",
    .positional = 7,
    .required = 2,
    .count = PARAMETERS,
    .names = {"input", "weight", "bias", "stride", "padding", "dilation", "groups", "padding_mode", "activation",
              "out"},
};

/* One call, from its arguments to its result. */
typedef struct forward {
  core_array input, weight, bias, prelu, out;
  bool has_bias, has_out;
  core_geometry geometry;
  fonio_activation activation;
  double slope;
  PyObject *kept;                                                      /* borrowed; or NULL */
  bool (*take)(core_array *array, PyObject *object, const char *name); /* core_array_take or core_array_look */
} forward;

static void drop(forward *call) {
  core_array_drop(&call->input);
  core_array_drop(&call->weight);
  core_array_drop(&call->bias);
  core_array_drop(&call->prelu);
  core_array_drop(&call->out);
}

/* ---- The activation ---- */

static const struct {
  const char *name;
  fonio_activation activation;
} activations[] = {
    {"relu", FONIO_RELU}, {"relu6", FONIO_RELU6},         {"leaky_relu", FONIO_LEAKY_RELU}, {"prelu", FONIO_PRELU},
    {"silu", FONIO_SILU}, {"hardswish", FONIO_HARDSWISH}, {"sigmoid", FONIO_SIGMOID},       {"tanh", FONIO_TANH},
    {"gelu", FONIO_GELU}, {"gelu_tanh", FONIO_GELU_TANH},
};

static bool fail_activation(PyObject *given) {
  PyErr_Format(PyExc_ValueError,
               "activation must be one of relu, relu6, leaky_relu, silu, hardswish, sigmoid, tanh, gelu, gelu_tanh, or "
               "('leaky_relu', negative_slope) or ('prelu', slopes), but got %R",
               given);
  return false;
}

/* What goes with the name: a slope, or an array of them. torch's slope of leaky_relu where there is none. */
static bool read_slope(forward *call, PyObject *given, PyObject *slope) {
  if (call->activation == FONIO_PRELU)
    return slope ? call->take(&call->prelu, slope, "activation") : fail_activation(given);
  call->slope = 0.01;
  if (!slope) return true;
  if (call->activation != FONIO_LEAKY_RELU) return fail_activation(given);
  call->slope = PyFloat_AsDouble(slope);
  return !PyErr_Occurred();
}

static bool read_activation(forward *call, PyObject *given) {
  PyObject *name = given, *slope = NULL;
  if (!given) return true;
  if (PyTuple_Check(given) && PyTuple_Size(given) == 2) {
    name = PyTuple_GetItem(given, 0);
    slope = PyTuple_GetItem(given, 1);
  }
  if (!name || !PyUnicode_Check(name)) return fail_activation(given);
  for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
    if (PyUnicode_CompareWithASCIIString(name, activations[i].name) == 0) call->activation = activations[i].activation;
  return call->activation != FONIO_NO_ACTIVATION ? read_slope(call, given, slope) : fail_activation(given);
}

/* torch's prelu: one slope, or one for each channel. */
static bool check_prelu(const forward *call, int64_t channels) {
  const core_array *prelu = &call->prelu;
  if (prelu->dtype == call->input.dtype && prelu->ndim == 1 && (prelu->shape[0] == 1 || prelu->shape[0] == channels))
    return true;
  PyErr_Format(PyExc_RuntimeError,
               "the slopes of prelu must be 1 or %lld numbers of the input's dtype, one for each output channel",
               (long long)channels);
  return false;
}

/* ---- Arguments ---- */

/* None stands for an argument that is not given, where it may. */
static bool given(PyObject *value) {
  return value && value != Py_None;
}

/* Whether the three can be arrays at all. Where they are not, torch names the types of all arguments. */
static bool are_arrays(PyObject *const *values) {
  for (int i = INPUT; i <= BIAS; i++)
    if ((i < BIAS || given(values[i])) && core_kind_of(values[i], NULL) == CORE_NO_ARRAY) return false;
  return true;
}

static bool take_arrays(forward *call, PyObject *const *values) {
  call->has_bias = given(values[BIAS]);
  call->has_out = given(values[OUT]);
  return call->take(&call->input, values[INPUT], "conv2d(): argument 'input'") &&
         call->take(&call->weight, values[WEIGHT], "conv2d(): argument 'weight'") &&
         (!call->has_bias || call->take(&call->bias, values[BIAS], "conv2d(): argument 'bias'")) &&
         (!call->has_out || call->take(&call->out, values[OUT], "conv2d(): argument 'out'"));
}

static bool read_arguments(forward *call, PyObject *const *values) {
  bool mistyped = !are_arrays(values);
  if (mistyped || !core_read_geometry(&call->geometry, values + STRIDE, &mistyped)) {
    if (mistyped) core_raise_combination(&signature, values);
    return false;
  }
  return take_arrays(call, values) && read_activation(call, given(values[ACTIVATION]) ? values[ACTIVATION] : NULL);
}

/* ---- The plan ---- */

static void make_key(const forward *call, core_key *key) {
  key->count = 0;
  core_key_add(key, FONIO_CONV_FORWARD);
  core_key_add_geometry(key, &call->geometry);
  core_key_add_array(key, &call->input);
  core_key_add_array(key, &call->weight);
  core_key_add_array(key, call->has_bias ? &call->bias : NULL);
  core_key_add_array(key, call->has_out ? &call->out : NULL);
  core_key_add_array(key, call->activation == FONIO_PRELU ? &call->prelu : NULL);
  core_key_add(key, call->activation);
  core_key_add(key, call->kept != NULL);
  core_key_add(key, core_array_keeps_layout(&call->input));
  int64_t slope;
  memcpy(&slope, &call->slope, sizeof slope);
  core_key_add(key, slope);
}

static void set_strides(int64_t strides[4], const core_array *array) {
  int first = 4 - array->ndim;
  memcpy(strides + first, array->strides, (size_t)array->ndim * sizeof *strides);
  if (first == 1) strides[0] = 0;
}

static void set_contiguous(fonio_conv_problem *problem) {
  int64_t *strides = problem->output_strides;
  strides[3] = 1;
  strides[2] = problem->out_width;
  strides[1] = strides[2] * problem->out_height;
  strides[0] = strides[1] * problem->out_channels;
}

/* The output's sizes, as the caller sees them. */
static int output_shape(const fonio_conv_problem *problem, int64_t *shape) {
  const int64_t sizes[4] = {problem->batch, problem->out_channels, problem->out_height, problem->out_width};
  int first = problem->batched ? 0 : 1;
  memcpy(shape, sizes + first, (size_t)(4 - first) * sizeof *shape);
  return 4 - first;
}

static bool check_out(const forward *call, const fonio_conv_problem *problem) {
  const core_array *out = &call->out;
  int64_t shape[4];
  int ndim = output_shape(problem, shape);
  if (out->dtype != problem->dtype)
    return PyErr_Format(PyExc_RuntimeError, "Expected out tensor to have dtype %s, but got %s instead",
                        fonio_dtype_cpp_name(problem->dtype), fonio_dtype_cpp_name(out->dtype)),
           false;
  if (out->ndim == ndim && memcmp(out->shape, shape, (size_t)ndim * sizeof *shape) == 0) return true;
  PyErr_Format(PyExc_RuntimeError, "Expected out tensor to have %d dimensions and %lld x %lld x %lld x %lld elements",
               ndim, (long long)problem->batch, (long long)problem->out_channels, (long long)problem->out_height,
               (long long)problem->out_width);
  return false;
}

static bool make_problem(const forward *call, fonio_conv_problem *problem) {
  fonio_array input = core_array_view(&call->input), weight = core_array_view(&call->weight);
  fonio_array bias = core_array_view(&call->bias);
  const fonio_conv2d_args *args = &call->geometry.args;
  if (core_failed(fonio_conv_problem_init(problem, &input, &weight, call->has_bias ? &bias : NULL, args))) return false;
  if (call->has_out && !check_out(call, problem)) return false;
  if (call->activation == FONIO_PRELU && !check_prelu(call, problem->out_channels)) return false;
  problem->activation = call->activation;
  problem->slope = call->slope;
  problem->prelu_stride = call->activation == FONIO_PRELU && call->prelu.shape[0] > 1 ? call->prelu.strides[0] : 0;
  if (call->has_out)
    set_strides(problem->output_strides, &call->out);
  else if (!core_array_keeps_layout(&call->input))
    set_contiguous(problem);
  return true;
}

static bool has_key(const forward *call) {
  bool few = call->input.ndim <= 4 && call->weight.ndim <= 4 && call->bias.ndim <= 4 && call->out.ndim <= 4;
  return few && call->prelu.ndim <= 4 && call->geometry.padding_kind >= 0 && call->geometry.mode_kind >= 0;
}

/* A problem that is refused is never kept: a key is found for those only that were checked before. Where nothing is
 * kept of the weight, each call packs it, and the choice of the algorithm counts that. */
static core_plan *plan_of(const forward *call) {
  core_key key = {0};
  if (has_key(call)) {
    make_key(call, &key);
    core_plan *found = core_plan_find(&key);
    if (found) return found;
  }
  fonio_conv_problem problem;
  if (!make_problem(call, &problem)) return NULL;
  return core_plan_make(&key, &problem, (fonio_conv_plan_options){.weight_changes = !call->kept});
}

/* ---- Running ---- */

static bool run(const forward *call, const core_plan *plan, void *output) {
  fonio_conv_buffers buffers = {
      .input = core_address(call->input.data),
      .weight = core_address(call->weight.data),
      .bias = call->has_bias ? core_address(call->bias.data) : NULL,
      .prelu = call->activation == FONIO_PRELU ? core_address(call->prelu.data) : NULL,
      .output = output,
  };
  if (call->kept && !core_kept_weight(call->kept, plan->plan, buffers.weight, &buffers.packed)) return false;
  fonio_status status;
  PyThreadState *state = PyEval_SaveThread();
  status = fonio_conv_plan_run(plan->plan, &buffers);
  PyEval_RestoreThread(state);
  return !core_failed(status);
}

/* What is no part of a plan's key. */
static bool may_write_out(const forward *call) {
  const char *what = NULL;
  if (call->out.read_only) return PyErr_SetString(PyExc_ValueError, "output array is read-only"), false;
  if (core_array_overlaps_itself(&call->out)) what = "more than one element of the written-to tensor refers";
  if (core_arrays_overlap(&call->out, &call->input) || core_arrays_overlap(&call->out, &call->weight) ||
      (call->has_bias && core_arrays_overlap(&call->out, &call->bias)) ||
      (call->activation == FONIO_PRELU && core_arrays_overlap(&call->out, &call->prelu)))
    what = "some elements of the input tensor and the written-to tensor refer";
  if (what)
    PyErr_Format(
        PyExc_RuntimeError,
        "unsupported operation: %s to a single memory location. Please clone() the tensor before performing the "
        "operation.",
        what);
  return !what;
}

static PyObject *run_into_out(const forward *call, const core_plan *plan) {
  if (!may_write_out(call) || !run(call, plan, core_address(call->out.data))) return NULL;
  if (call->out.kind == CORE_EXCHANGE) core_note_write(call->out.object);
  Py_INCREF(call->out.object);
  return call->out.object;
}

static PyObject *run_into_new(const forward *call, const core_plan *plan) {
  const fonio_conv_problem *problem = fonio_conv_plan_problem(plan->plan);
  int64_t shape[4];
  int ndim = output_shape(problem, shape);
  bool channels_last =
      problem->output_strides[1] == 1 && problem->out_channels > 1 && problem->out_height * problem->out_width > 1;
  void *data = NULL;
  PyObject *made = core_array_new(&call->input, problem->dtype, ndim, shape, channels_last, &data);
  if (!made) return NULL;
  if (!run(call, plan, core_address(data))) {
    Py_DECREF(made);
    return NULL;
  }
  return core_array_finish(&call->input, made, ndim, channels_last);
}

/* ---- fonio.Tensor, whose gradients are recorded ---- */

static PyObject *run_on_tensors(PyObject *const *values) {
  core_geometry geometry;
  bool mistyped = core_kind_of(values[WEIGHT], NULL) != CORE_TENSOR ||
                  (given(values[BIAS]) && core_kind_of(values[BIAS], NULL) != CORE_TENSOR);
  forward call = {.take = core_array_take};
  if (given(values[ACTIVATION]) && !read_activation(&call, values[ACTIVATION])) return NULL;
  drop(&call);
  if (call.activation == FONIO_PRELU || given(values[OUT]))
    return PyErr_SetString(PyExc_NotImplementedError, "conv2d(): prelu and out are for arrays, not for Tensor"), NULL;
  if (mistyped || !core_read_geometry(&geometry, values + STRIDE, &mistyped))
    return mistyped ? core_raise_combination(&signature, values) : NULL;
  fonio_tensor *input = core_tensor_hold(values[INPUT]), *weight = core_tensor_hold(values[WEIGHT]);
  fonio_tensor *bias = given(values[BIAS]) ? core_tensor_hold(values[BIAS]) : NULL, *made;
  PyThreadState *state = PyEval_SaveThread();
  made = fonio_tensor_conv2d_activated_with(input, weight, bias, &geometry.args, call.activation, call.slope);
  PyEval_RestoreThread(state);
  fonio_tensor_release(input);
  fonio_tensor_release(weight);
  fonio_tensor_release(bias);
  return core_tensor_new(made);
}

static PyObject *run_on_arrays(PyObject *const *values, forward *call) {
  PyObject *made = NULL;
  core_plan *plan = read_arguments(call, values) ? plan_of(call) : NULL;
  if (plan) made = call->has_out ? run_into_out(call, plan) : run_into_new(call, plan);
  core_plan_drop(plan);
  drop(call);
  return made;
}

PyObject *core_conv2d(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
  (void)module;
  PyObject *values[PARAMETERS];
  if (!core_bind(&signature, arguments, count, names, values)) return NULL;
  if (core_kind_of(values[INPUT], NULL) == CORE_TENSOR) return run_on_tensors(values);
  return run_on_arrays(values, &(forward){.take = core_array_take});
}

/* layer_conv2d(input, weight, bias, (stride, padding, dilation, groups, padding_mode), activation, kept) */
enum { LAYER_GEOMETRY = 3, LAYER_ACTIVATION, LAYER_KEPT, LAYER_PARAMETERS };

/* Puts them into `values`, by parameter of conv2d, and what is kept into the call. */
static bool bind_layer(forward *call, PyObject *const *arguments, Py_ssize_t count, PyObject **values) {
  PyObject *geometry = count == LAYER_PARAMETERS ? arguments[LAYER_GEOMETRY] : NULL;
  if (!geometry || !PyTuple_Check(geometry) || PyTuple_Size(geometry) != MODE - STRIDE + 1)
    return PyErr_SetString(PyExc_TypeError, "layer_conv2d() takes 6 arguments, the fourth a tuple of 5"), false;
  call->kept = given(arguments[LAYER_KEPT]) ? arguments[LAYER_KEPT] : NULL;
  if (call->kept && !core_is_kept(call->kept))
    return PyErr_SetString(PyExc_TypeError, "layer_conv2d(): argument 6 must come from keep()"), false;
  memcpy(values, arguments, LAYER_GEOMETRY * sizeof *values);
  for (int i = STRIDE; i <= MODE; i++)
    values[i] = PyTuple_GetItem(geometry, i - STRIDE);
  values[ACTIVATION] = arguments[LAYER_ACTIVATION];
  return true;
}

PyObject *core_layer_conv2d(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  PyObject *values[PARAMETERS] = {NULL};
  forward call = {.take = core_array_look};
  return bind_layer(&call, arguments, count, values) ? run_on_arrays(values, &call) : NULL;
}

/* ---- Explaining ---- */

static PyObject *text_of(const fonio_conv_plan *plan) {
  const char *words = fonio_conv_plan_explain(plan);
  return words ? PyUnicode_FromString(words) : core_raise();
}

static PyObject *explain_string(PyObject *given_text) {
  fonio_conv_problem problem;
  const char *text = PyUnicode_AsUTF8AndSize(given_text, NULL);
  if (!text || core_failed(fonio_conv_problem_parse(&problem, text))) return NULL;
  fonio_conv_plan *plan = fonio_conv_plan_new(&problem, NULL);
  PyObject *words = plan ? text_of(plan) : core_raise();
  fonio_conv_plan_release(plan);
  return words;
}

static PyObject *explain_call(PyObject *const *values, forward *call) {
  PyObject *text = NULL;
  core_plan *plan = read_arguments(call, values) ? plan_of(call) : NULL;
  if (plan) text = text_of(plan->plan);
  core_plan_drop(plan);
  drop(call);
  return text;
}

/* explain_layer(...), with the arguments of layer_conv2d */
PyObject *core_explain_layer(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  PyObject *values[PARAMETERS] = {NULL};
  forward call = {.take = core_array_look};
  return bind_layer(&call, arguments, count, values) ? explain_call(values, &call) : NULL;
}

PyObject *core_explain(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
  (void)module;
  if (count == 1 && !names && PyUnicode_Check(arguments[0])) return explain_string(arguments[0]);
  PyObject *values[PARAMETERS];
  if (!core_bind(&signature, arguments, count, names, values)) return NULL;
  return explain_call(values, &(forward){.take = core_array_take});
}
