/* fonio.conv2d_input, fonio.conv2d_weight and what stands behind both: the gradients of fonio.conv2d. */
#include <string.h>

#include "core.h"

enum { STRIDE = 3, PARAMETERS = 8 };

static core_signature input_signature = {
    .function = "conv2d_input",
    .positional = 7,
    .required = 3,
    .count = PARAMETERS,
    .names = {"input_size", "weight", "grad_output", "stride", "padding", "dilation", "groups", "padding_mode"},
};

static core_signature weight_signature = {
    .function = "conv2d_weight",
    .positional = 7,
    .required = 3,
    .count = PARAMETERS,
    .names = {"input", "weight_size", "grad_output", "stride", "padding", "dilation", "groups", "padding_mode"},
};

static core_signature backward_signature = {
    .function = "conv2d_backward",
    .positional = 9,
    .required = 3,
    .count = 9,
    .names = {"input", "weight", "grad_output", "stride", "padding", "dilation", "groups", "padding_mode", "mask"},
};

/* One call. Of `input` and `weight` only the sizes count where their gradient is asked for. */
typedef struct backward {
  core_array input, weight, grad_output;
  core_geometry geometry;
} backward;

static void drop(backward *call) {
  core_array_drop(&call->input);
  core_array_drop(&call->weight);
  core_array_drop(&call->grad_output);
}

/* ---- Sizes in place of an array ---- */

static bool is_channels_last(const core_array *array) {
  return array->ndim == 4 && array->strides[1] == 1 && array->shape[1] > 1 &&
         (array->shape[2] > 1 || array->shape[3] > 1);
}

/* Strides without gaps. Sizes that no memory has may come to any strides: they are refused later. */
static void set_dense(core_array *array, bool channels_last) {
  static const int in_order[4] = {3, 2, 1, 0}, channels_first[4] = {1, 3, 2, 0};
  uint64_t stride = 1;
  for (int i = 0; i < array->ndim; i++) {
    int dim = array->ndim != 4 ? array->ndim - 1 - i : channels_last ? channels_first[i] : in_order[i];
    array->strides[dim] = (int64_t)stride;
    stride *= array->shape[dim] > 0 ? (uint64_t)array->shape[dim] : 1;
  }
}

/* An array of these sizes without elements: of the dtype and, for images, of the layout of another one. */
static bool stand_in(core_array *array, PyObject *size, const char *function, const char *name, const core_array *like,
                     bool channels_last) {
  *array = (core_array){.kind = like->kind, .exchange = like->exchange, .dtype = like->dtype};
  if (!core_read_sizes(size, function, name, &array->ndim, array->shape)) return false;
  set_dense(array, channels_last);
  return true;
}

/* ---- The plan ---- */

static bool check_grad_output(const backward *call, const fonio_conv_problem *problem) {
  const int64_t sizes[4] = {problem->batch, problem->out_channels, problem->out_height, problem->out_width};
  const core_array *grad = &call->grad_output;
  int first = problem->batched ? 0 : 1;
  if (grad->ndim != call->input.ndim) {
    PyErr_Format(PyExc_RuntimeError,
                 "Expected input and grad_output to have the same number of dimensions, but got: %d and %d",
                 call->input.ndim, grad->ndim);
    return false;
  }
  if (grad->dtype != problem->dtype) {
    PyErr_Format(PyExc_RuntimeError, "expected scalar type %s but found %s", fonio_dtype_scalar_name(grad->dtype),
                 fonio_dtype_scalar_name(problem->dtype));
    return false;
  }
  if (memcmp(grad->shape, sizes + first, (size_t)grad->ndim * sizeof *sizes) == 0) return true;
  PyErr_Format(PyExc_RuntimeError, "Expected grad_output to have the sizes of the output, [%lld, %lld, %lld, %lld]%s",
               (long long)sizes[0], (long long)sizes[1], (long long)sizes[2], (long long)sizes[3],
               first ? " without its batch dimension" : "");
  return false;
}

static bool make_problem(const backward *call, fonio_conv_problem *problem) {
  fonio_array input = core_array_view(&call->input), weight = core_array_view(&call->weight);
  if (core_failed(fonio_conv_problem_init(problem, &input, &weight, NULL, &call->geometry.args))) return false;
  if (!check_grad_output(call, problem)) return false;
  int first = problem->batched ? 0 : 1;
  memcpy(problem->output_strides + first, call->grad_output.strides, (size_t)call->grad_output.ndim * sizeof(int64_t));
  if (first) problem->output_strides[0] = 0;
  /* A gradient of the bias has as many numbers as the output has channels, one after the other. */
  problem->has_bias = true;
  problem->bias_stride = 1;
  return true;
}

static core_plan *plan_of(const backward *call, fonio_conv_direction direction) {
  core_key key = {0};
  bool few = call->input.ndim <= 4 && call->weight.ndim <= 4 && call->grad_output.ndim <= 4;
  if (few && call->geometry.padding_kind >= 0 && call->geometry.mode_kind >= 0) {
    core_key_add(&key, direction);
    core_key_add_geometry(&key, &call->geometry);
    core_key_add_array(&key, &call->input);
    core_key_add_array(&key, &call->weight);
    core_key_add_array(&key, &call->grad_output);
    core_plan *found = core_plan_find(&key);
    if (found) return found;
  }
  fonio_conv_problem problem;
  if (!make_problem(call, &problem)) return NULL;
  return core_plan_make(&key, &problem, (fonio_conv_plan_options){.direction = direction});
}

/* ---- Running ---- */

/* The gradient of an array: one like it in sizes and, where it is dense, in layout. */
typedef struct gradient {
  const core_array *of;
  bool channels_last;
  PyObject *made;
  void *data;
} gradient;

static bool make_gradient(gradient *result, const core_array *like, const core_array *of) {
  result->of = of;
  result->channels_last = is_channels_last(of) && core_array_keeps_layout(like);
  result->made = core_array_new(like, of->dtype, of->ndim, of->shape, result->channels_last, &result->data);
  return result->made != NULL;
}

static bool run(const core_plan *plan, const fonio_conv_buffers *buffers) {
  fonio_status status;
  PyThreadState *state = PyEval_SaveThread();
  status = fonio_conv_plan_run(plan->plan, buffers);
  PyEval_RestoreThread(state);
  return !core_failed(status);
}

/* The gradient of the input, NULL with an exception. It is dense, whatever the strides of the input. */
static PyObject *input_gradient(backward *call) {
  const core_array *like = &call->grad_output;
  gradient result = {0};
  core_array input = call->input;
  backward dense = *call;
  set_dense(&dense.input, is_channels_last(&input) && core_array_keeps_layout(like));
  core_plan *plan = plan_of(&dense, FONIO_CONV_INPUT_GRADIENT);
  if (!plan) return NULL;
  bool done = make_gradient(&result, like, &dense.input) &&
              run(plan, &(fonio_conv_buffers){.weight = core_address(call->weight.data),
                                              .grad_output = core_address(call->grad_output.data),
                                              .grad_input = core_address(result.data)});
  core_plan_drop(plan);
  if (!done) return Py_XDECREF(result.made), NULL;
  return core_array_finish(like, result.made, input.ndim, result.channels_last);
}

/* The gradients of weight and bias, each where it is wanted: both NULL with an exception. */
static bool weight_gradient(backward *call, PyObject **weight, PyObject **bias) {
  const core_array *like = &call->grad_output;
  gradient result = {0}, sums = {0};
  backward dense = *call;
  set_dense(&dense.weight, is_channels_last(&call->weight) && core_array_keeps_layout(like));
  core_plan *plan = plan_of(&dense, FONIO_CONV_WEIGHT_GRADIENT);
  if (!plan) return false;
  core_array one = {.dtype = call->weight.dtype, .ndim = 1, .shape = {call->weight.shape[0]}, .strides = {1}};
  bool done = (!weight || make_gradient(&result, like, &dense.weight)) && (!bias || make_gradient(&sums, like, &one)) &&
              run(plan, &(fonio_conv_buffers){.input = core_address(call->input.data),
                                              .grad_output = core_address(call->grad_output.data),
                                              .grad_weight = weight ? core_address(result.data) : NULL,
                                              .grad_bias = bias ? core_address(sums.data) : NULL});
  /* torch's output has no channels where the input has none: there is nothing to sum up then. */
  if (done && bias && fonio_conv_plan_problem(plan->plan)->out_channels == 0)
    memset(sums.data, 0, (size_t)one.shape[0] * fonio_dtype_bytes(one.dtype));
  core_plan_drop(plan);
  if (!done) return Py_XDECREF(result.made), Py_XDECREF(sums.made), false;
  if (weight) *weight = core_array_finish(like, result.made, 4, result.channels_last);
  if (bias) *bias = core_array_finish(like, sums.made, 1, false);
  return (!weight || *weight) && (!bias || *bias);
}

/* ---- The functions ---- */

static bool bind(core_signature *signature, PyObject *const *arguments, Py_ssize_t count, PyObject *names,
                 PyObject **values, backward *call) {
  bool mistyped = false;
  if (!core_bind(signature, arguments, count, names, values)) return false;
  if (core_read_geometry(&call->geometry, values + STRIDE, &mistyped)) return true;
  if (mistyped) core_raise_combination(signature, values);
  return false;
}

static bool take(core_array *array, PyObject *object, const core_signature *signature, PyObject *const *values,
                 const char *name) {
  bool (*look)(core_array *, PyObject *, const char *) =
      signature == &backward_signature ? core_array_look : core_array_take;
  if (core_kind_of(object, NULL) != CORE_NO_ARRAY) return look(array, object, name);
  core_raise_combination(signature, values);
  return false;
}

PyObject *core_conv2d_input(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
  (void)module;
  PyObject *values[PARAMETERS], *made = NULL;
  backward call = {0};
  if (bind(&input_signature, arguments, count, names, values, &call) &&
      take(&call.weight, values[1], &input_signature, values, "conv2d_input(): argument 'weight'") &&
      take(&call.grad_output, values[2], &input_signature, values, "conv2d_input(): argument 'grad_output'") &&
      stand_in(&call.input, values[0], "conv2d_input", "input_size", &call.grad_output,
               is_channels_last(&call.grad_output) || is_channels_last(&call.weight)))
    made = input_gradient(&call);
  drop(&call);
  return made;
}

PyObject *core_conv2d_weight(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
  (void)module;
  PyObject *values[PARAMETERS], *made = NULL;
  backward call = {0};
  if (bind(&weight_signature, arguments, count, names, values, &call) &&
      take(&call.input, values[0], &weight_signature, values, "conv2d_weight(): argument 'input'") &&
      take(&call.grad_output, values[2], &weight_signature, values, "conv2d_weight(): argument 'grad_output'") &&
      stand_in(&call.weight, values[1], "conv2d_weight", "weight_size", &call.grad_output,
               is_channels_last(&call.input) || is_channels_last(&call.grad_output)))
    weight_gradient(&call, &made, NULL);
  drop(&call);
  return made;
}

/* The three of the mask: (grad_input, grad_weight, grad_bias), None where not asked for. */
static PyObject *gradients(backward *call, const int64_t *mask) {
  PyObject *made[3] = {NULL, NULL, NULL};
  bool done = !mask[0] || (made[0] = input_gradient(call));
  if (done && (mask[1] || mask[2])) done = weight_gradient(call, mask[1] ? &made[1] : NULL, mask[2] ? &made[2] : NULL);
  for (int i = 0; i < 3 && done; i++)
    if (!made[i]) Py_INCREF(made[i] = Py_None);
  PyObject *all = done ? PyTuple_Pack(3, made[0], made[1], made[2]) : NULL;
  for (int i = 0; i < 3; i++)
    Py_XDECREF(made[i]);
  return all;
}

static bool read_mask(PyObject *given, int64_t *mask) {
  mask[0] = mask[1] = mask[2] = 1;
  if (!given) return true;
  bool fits = PyTuple_Check(given) && PyTuple_Size(given) == 3;
  for (int i = 0; i < 3 && fits; i++)
    mask[i] = PyObject_IsTrue(PyTuple_GetItem(given, i)) == 1;
  if (!fits) PyErr_SetString(PyExc_TypeError, "conv2d_backward(): argument 'mask' must be a tuple of 3 bools");
  return fits;
}

PyObject *core_conv2d_backward(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
  (void)module;
  PyObject *values[9], *made = NULL;
  int64_t mask[3];
  backward call = {0};
  if (bind(&backward_signature, arguments, count, names, values, &call) && read_mask(values[8], mask) &&
      take(&call.input, values[0], &backward_signature, values, "conv2d_backward(): argument 'input'") &&
      take(&call.weight, values[1], &backward_signature, values, "conv2d_backward(): argument 'weight'") &&
      take(&call.grad_output, values[2], &backward_signature, values, "conv2d_backward(): argument 'grad_output'"))
    made = gradients(&call, mask);
  drop(&call);
  return made;
}
