/* nn.Conv2d. */
#include <math.h>
#include <string.h>

#include "autograd/conv2d.h"
#include "base/error.h"
#include "nn/conv2d.h"
#include "nn/init.h"

/* ---- Making ---- */

conv2d_layer *conv2d_layer_new(const fonio_conv2d_options *given, bool lazy) {
  fonio_conv2d_options resolved;
  if (!given) return fail_given_null("fonio_conv2d_new_with"), NULL;
  if (conv2d_resolve(given, lazy, &resolved)) return NULL;
  conv2d_layer *layer = fonio_module_new(lazy ? &conv2d_lazy_class : &conv2d_class);
  if (!layer) return NULL;
  layer->options = resolved;
  layer->cache = conv_cache_new();
  if (layer->cache) return layer;
  fonio_module_release(&layer->base);
  return NULL;
}

void conv2d_release(fonio_module *module) {
  conv_cache_release(((conv2d_layer *)module)->cache);
}

void conv2d_weight_shape(const fonio_conv2d_options *options, int64_t shape[4]) {
  shape[0] = options->out_channels;
  shape[1] = options->in_channels / options->groups;
  shape[2] = options->kernel_size[0];
  shape[3] = options->kernel_size[1];
}

fonio_status conv2d_add_parameter(conv2d_layer *layer, const char *name, tensor_kind kind, int ndim,
                                  const int64_t *shape) {
  fonio_tensor *data = fonio_tensor_empty(layer->options.dtype, ndim, shape);
  fonio_tensor *parameter = data ? fonio_parameter_new(data, true) : NULL;
  fonio_tensor_release(data);
  if (!parameter) return fonio_last_status();
  parameter->kind = kind;
  fonio_status status = fonio_module_set_parameter(&layer->base, name, parameter);
  fonio_tensor_release(parameter);
  return status;
}

static fonio_status add_parameters(conv2d_layer *layer) {
  int64_t shape[4];
  conv2d_weight_shape(&layer->options, shape);
  fonio_status status = conv2d_add_parameter(layer, "weight", TENSOR_PARAMETER, 4, shape);
  if (!status && layer->options.bias) status = conv2d_add_parameter(layer, "bias", TENSOR_PARAMETER, 1, shape);
  return status ? status : fonio_conv2d_reset_parameters(&layer->conv);
}

fonio_conv2d *fonio_conv2d_new_with(const fonio_conv2d_options *options) {
  conv2d_layer *layer = conv2d_layer_new(options, false);
  if (!layer || !add_parameters(layer)) return layer ? &layer->conv : NULL;
  fonio_module_release(&layer->base);
  return NULL;
}

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

fonio_status fonio_conv2d_reset_parameters(fonio_conv2d *conv) {
  if (!conv) return fail_given_null("fonio_conv2d_reset_parameters");
  fonio_tensor *weight = fonio_conv2d_weight(conv), *bias = fonio_conv2d_bias(conv);
  if (weight->kind == TENSOR_UNINITIALIZED) return FONIO_OK;
  fonio_status status = draw_weight(weight);
  double fan_in, fan_out;
  if (status || !bias) return status;
  if (!init_fans(weight, &fan_in, &fan_out)) return fonio_last_status();
  double bound = fan_in > 0 ? 1 / sqrt(fan_in) : 0;
  return fonio_init_uniform(bias, 0 - bound, bound);
}

/* ---- Running ---- */

static fonio_tensor *forward(fonio_module *module, fonio_tensor *input) {
  const fonio_conv2d *conv = (fonio_conv2d *)module;
  const fonio_conv2d_options *options = fonio_conv2d_get_options(conv);
  fonio_conv2d_args args = fonio_conv2d_args_default();
  memcpy(args.stride, options->stride, sizeof args.stride);
  memcpy(args.padding, options->padding, sizeof args.padding);
  memcpy(args.padding_sides, options->padding_sides, sizeof args.padding_sides);
  memcpy(args.dilation, options->dilation, sizeof args.dilation);
  args.padding_name = options->padding_name;
  args.padding_mode = options->padding_mode;
  args.groups = options->groups;
  return autograd_conv2d(input, fonio_conv2d_weight(conv), fonio_conv2d_bias(conv), &args,
                         ((conv2d_layer *)module)->cache);
}

fonio_tensor *fonio_conv2d_forward(fonio_conv2d *conv, fonio_tensor *input) {
  if (!conv) return fail_given_null("fonio_conv2d_forward"), NULL;
  return fonio_module_forward(&conv->base, input);
}

/* ---- What it holds ---- */

fonio_tensor *fonio_conv2d_weight(const fonio_conv2d *conv) {
  return conv ? fonio_dict_get(conv->base.state->parameters, "weight") : NULL;
}

fonio_tensor *fonio_conv2d_bias(const fonio_conv2d *conv) {
  return conv ? fonio_dict_get(conv->base.state->parameters, "bias") : NULL;
}

fonio_status fonio_conv2d_set_weight(fonio_conv2d *conv, fonio_tensor *weight) {
  if (!conv) return fail_given_null("fonio_conv2d_set_weight");
  return fonio_module_set_parameter(&conv->base, "weight", weight);
}

fonio_status fonio_conv2d_set_bias(fonio_conv2d *conv, fonio_tensor *bias) {
  if (!conv) return fail_given_null("fonio_conv2d_set_bias");
  if (bias) return fonio_module_set_parameter(&conv->base, "bias", bias);
  return fonio_conv2d_bias(conv) ? fonio_dict_remove(conv->base.state->parameters, "bias") : FONIO_OK;
}

const fonio_conv2d_options *fonio_conv2d_get_options(const fonio_conv2d *conv) {
  return conv ? &((const conv2d_layer *)conv)->options : NULL;
}

fonio_conv2d *fonio_conv2d_of_module(fonio_module *module) {
  const fonio_module_class *type = fonio_module_type(module);
  return type == &conv2d_class || type == &conv2d_lazy_class ? (fonio_conv2d *)module : NULL;
}

const fonio_module_class conv2d_class = FONIO_MODULE_CLASS(conv2d_layer, .name = "Conv2d", .forward = forward,
                                                           .extra_repr = conv2d_extra_repr, .release = conv2d_release);

/* A hook makes it a Conv2d before its first forward. */
const fonio_module_class conv2d_lazy_class = FONIO_MODULE_CLASS(
    conv2d_layer, .name = "LazyConv2d", .forward = forward, .extra_repr = conv2d_extra_repr, .release = conv2d_release);
