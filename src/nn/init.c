/* torch.nn.init: the formulas as Python computes them, in double and in its order, so that the bounds are the same. */
#include "nn/init.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "tensor/tensor.h"
#include "tensor/text.h"

/* ---- Drawing: gradients are off ---- */

fonio_status fonio_init_uniform(fonio_tensor *tensor, double a, double b) {
  bool before = fonio_set_grad_enabled(false);
  fonio_status status = fonio_tensor_uniform(tensor, a, b);
  fonio_set_grad_enabled(before);
  return status;
}

fonio_status fonio_init_normal(fonio_tensor *tensor, double mean, double std) {
  bool before = fonio_set_grad_enabled(false);
  fonio_status status = fonio_tensor_normal(tensor, mean, std);
  fonio_set_grad_enabled(before);
  return status;
}

fonio_status fonio_init_constant(fonio_tensor *tensor, double value) {
  bool before = fonio_set_grad_enabled(false);
  fonio_status status = fonio_tensor_fill(tensor, value);
  fonio_set_grad_enabled(before);
  return status;
}

fonio_status fonio_init_ones(fonio_tensor *tensor) {
  return fonio_init_constant(tensor, 1);
}

fonio_status fonio_init_zeros(fonio_tensor *tensor) {
  return fonio_init_constant(tensor, 0);
}

/* ---- Fans and gains ---- */

bool init_fans(const fonio_tensor *tensor, double *fan_in, double *fan_out) {
  double field = 1;
  for (int i = 2; i < tensor->ndim; i++)
    field *= (double)tensor->shape[i];
  *fan_in = tensor->ndim > 1 ? (double)tensor->shape[1] * field : 0;
  *fan_out = tensor->ndim > 1 ? (double)tensor->shape[0] * field : 0;
  if (tensor->ndim < 2)
    fail(FONIO_VALUE_ERROR, "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions");
  return tensor->ndim > 1;
}

/* torch names the mode in small letters. */
static void fail_mode(const char *mode) {
  text_buffer text = {0};
  for (; *mode; mode++)
    text_repeat(&text, (char)tolower((unsigned char)*mode), 1);
  const char *name = text_take(&text);
  if (name) fail(FONIO_VALUE_ERROR, "Mode %s not supported, please use one of ['fan_in', 'fan_out']", name);
  text_drop(&text);
}

/* The one that `mode` names, torch's _calculate_correct_fan. */
static bool correct_fan(const fonio_tensor *tensor, const char *mode, double *fan) {
  double fan_in, fan_out;
  bool out = mode && strcasecmp(mode, "fan_out") == 0;
  bool known = !mode || out || strcasecmp(mode, "fan_in") == 0;
  if (!known) fail_mode(mode);
  known = known && init_fans(tensor, &fan_in, &fan_out);
  if (known) *fan = out ? fan_out : fan_in;
  return known;
}

/* Python's a ** 2 is libm's pow, whose last bit is not always that of a * a; compilers make the one of the other. */
static double square(double a) {
  volatile double two = 2;
  return pow(a, two);
}

static bool is_linear(const char *name) {
  static const char *const names[] = {"linear",           "conv1d",           "conv2d",           "conv3d", "sigmoid",
                                      "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", NULL};
  for (int i = 0; names[i]; i++)
    if (strcmp(name, names[i]) == 0) return true;
  return false;
}

fonio_status fonio_init_calculate_gain(const char *nonlinearity, double a, double *gain) {
  const char *name = nonlinearity ? nonlinearity : "leaky_relu";
  if (!gain) return fail_given_null("fonio_init_calculate_gain");
  if (is_linear(name))
    *gain = 1;
  else if (strcmp(name, "tanh") == 0)
    *gain = 5.0 / 3;
  else if (strcmp(name, "relu") == 0)
    *gain = sqrt(2);
  else if (strcmp(name, "leaky_relu") == 0)
    *gain = sqrt(2 / (1 + square(a)));
  else if (strcmp(name, "selu") == 0)
    *gain = 3.0 / 4;
  else
    return fail(FONIO_VALUE_ERROR, "Unsupported nonlinearity %s", name);
  return FONIO_OK;
}

/* ---- Xavier, Kaiming ---- */

static bool xavier_std(const fonio_tensor *tensor, double gain, double *std) {
  double fan_in, fan_out;
  if (!init_fans(tensor, &fan_in, &fan_out)) return false;
  *std = gain * sqrt(2 / (fan_in + fan_out));
  if (fan_in + fan_out == 0) fail(FONIO_VALUE_ERROR, "float division by zero");
  return fan_in + fan_out > 0;
}

fonio_status fonio_init_xavier_uniform(fonio_tensor *tensor, double gain) {
  double std;
  if (!tensor) return fail_given_null("fonio_init_xavier_uniform");
  if (!xavier_std(tensor, gain, &std)) return fonio_last_status();
  double bound = sqrt(3) * std;
  return fonio_init_uniform(tensor, -bound, bound);
}

fonio_status fonio_init_xavier_normal(fonio_tensor *tensor, double gain) {
  double std;
  if (!tensor) return fail_given_null("fonio_init_xavier_normal");
  if (!xavier_std(tensor, gain, &std)) return fonio_last_status();
  return fonio_init_normal(tensor, 0, std);
}

static bool is_no_op(const fonio_tensor *tensor) {
  if (tensor->numel > 0) return false;
  warn("Initializing zero-element tensors is a no-op");
  return true;
}

static bool kaiming_std(const fonio_tensor *tensor, double a, const char *mode, const char *nonlinearity, double *std) {
  double fan, gain;
  if (!correct_fan(tensor, mode, &fan) || fonio_init_calculate_gain(nonlinearity, a, &gain)) return false;
  *std = gain / sqrt(fan);
  return true;
}

fonio_status fonio_init_kaiming_uniform(fonio_tensor *tensor, double a, const char *mode, const char *nonlinearity) {
  double std;
  if (!tensor) return fail_given_null("fonio_init_kaiming_uniform");
  if (is_no_op(tensor)) return FONIO_OK;
  if (!kaiming_std(tensor, a, mode, nonlinearity, &std)) return fonio_last_status();
  double bound = sqrt(3) * std;
  return fonio_init_uniform(tensor, -bound, bound);
}

fonio_status fonio_init_kaiming_normal(fonio_tensor *tensor, double a, const char *mode, const char *nonlinearity) {
  double std;
  if (!tensor) return fail_given_null("fonio_init_kaiming_normal");
  if (is_no_op(tensor)) return FONIO_OK;
  if (!kaiming_std(tensor, a, mode, nonlinearity, &std)) return fonio_last_status();
  return fonio_init_normal(tensor, 0, std);
}

/* ---- Dirac ---- */

static fonio_status check_dirac(const fonio_tensor *tensor, int64_t groups) {
  if (tensor->ndim < 3 || tensor->ndim > 5)
    return fail(FONIO_VALUE_ERROR, "Only tensors with 3, 4, or 5 dimensions are supported");
  if (groups == 0) return fail(FONIO_VALUE_ERROR, "integer modulo by zero");
  if (tensor->shape[0] % groups != 0) return fail(FONIO_VALUE_ERROR, "dim 0 must be divisible by groups");
  return FONIO_OK;
}

/* The kernel's middle, from the first tap in elements. */
static fonio_status find_middle(const fonio_tensor *tensor, int64_t *middle) {
  *middle = 0;
  for (int i = 2; i < tensor->ndim; i++) {
    if (tensor->shape[i] == 0)
      return fail(FONIO_INDEX_ERROR, "index 0 is out of bounds for dimension %d with size 0", i);
    *middle += tensor->shape[i] / 2 * tensor->strides[i];
  }
  return FONIO_OK;
}

/* Ones in the middle of the kernels that lead from channel `i` of each group to input `i`. */
static fonio_status set_ones(fonio_tensor *tensor, int64_t groups) {
  int64_t outputs = tensor->shape[0] / groups, middle;
  int64_t count = outputs < tensor->shape[1] ? outputs : tensor->shape[1];
  if (groups < 0 || count == 0) return FONIO_OK;
  if (find_middle(tensor, &middle)) return fonio_last_status();
  char *first = tensor_at_offset(tensor);
  for (int64_t group = 0; group < groups; group++)
    for (int64_t i = 0; i < count; i++) {
      int64_t place = (group * outputs + i) * tensor->strides[0] + i * tensor->strides[1] + middle;
      tensor_write_element(tensor->dtype, first + place * (int64_t)fonio_dtype_bytes(tensor->dtype), 1);
    }
  tensor_touch(tensor);
  return FONIO_OK;
}

fonio_status fonio_init_dirac(fonio_tensor *tensor, int64_t groups) {
  if (!tensor) return fail_given_null("fonio_init_dirac");
  fonio_status status = check_dirac(tensor, groups);
  if (!status) status = fonio_init_zeros(tensor);
  return status ? status : set_ones(tensor, groups);
}

/* ---- Layers ---- */

/* torch draws the weight in the order of its dimensions, whatever its strides. */
static fonio_status draw_weight(fonio_tensor *weight) {
  if (fonio_tensor_is_contiguous(weight)) return fonio_init_kaiming_uniform(weight, sqrt(5), NULL, NULL);
  fonio_tensor *drawn = fonio_tensor_empty(weight->dtype, weight->ndim, weight->shape);
  if (!drawn) return fonio_last_status();
  fonio_status status = fonio_init_kaiming_uniform(drawn, sqrt(5), NULL, NULL);
  if (!status) status = tensor_copy(weight, drawn);
  fonio_tensor_release(drawn);
  return status;
}

fonio_status init_layer(fonio_tensor *weight, fonio_tensor *bias) {
  if (weight->kind == TENSOR_UNINITIALIZED) return FONIO_OK;
  fonio_status status = draw_weight(weight);
  double fan_in, fan_out;
  if (status || !bias) return status;
  if (!init_fans(weight, &fan_in, &fan_out)) return fonio_last_status();
  double bound = fan_in > 0 ? 1 / sqrt(fan_in) : 0;
  return fonio_init_uniform(bias, 0 - bound, bound);
}
