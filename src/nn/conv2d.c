/* nn.Conv2d. */
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

static fonio_status add_parameters(conv2d_layer *layer) {
  int64_t shape[4];
  conv2d_weight_shape(&layer->options, shape);
  fonio_status status = module_new_parameter(&layer->base, layer->options.dtype, "weight", TENSOR_PARAMETER, 4, shape);
  if (!status && layer->options.bias)
    status = module_new_parameter(&layer->base, layer->options.dtype, "bias", TENSOR_PARAMETER, 1, shape);
  return status ? status : fonio_conv2d_reset_parameters(&layer->conv);
}

fonio_conv2d *fonio_conv2d_new_with(const fonio_conv2d_options *options) {
  conv2d_layer *layer = conv2d_layer_new(options, false);
  if (!layer || !add_parameters(layer)) return layer ? &layer->conv : NULL;
  fonio_module_release(&layer->base);
  return NULL;
}

fonio_status fonio_conv2d_reset_parameters(fonio_conv2d *conv) {
  if (!conv) return fail_given_null("fonio_conv2d_reset_parameters");
  return init_layer(fonio_conv2d_weight(conv), fonio_conv2d_bias(conv));
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
