/* nn.LazyConv2d: a Conv2d that takes its in_channels from the first input. */
#include "base/error.h"
#include "nn/conv2d.h"

static fonio_status get_in_channels(const fonio_tensor *input, int64_t *in_channels) {
  if (input->ndim != 3 && input->ndim != 4) {
    text_buffer text = {0};
    text_add_size(&text, input->ndim, input->shape);
    const char *size = text_take(&text);
    if (size)
      fail(FONIO_RUNTIME_ERROR,
           "Expected 3D (unbatched) or 4D (batched) input to LazyConv2d, but got input of size: %s", size);
    text_drop(&text);
    return fonio_last_status();
  }
  *in_channels = input->shape[input->ndim - 3];
  return FONIO_OK;
}

/* Gives an uninitialised parameter its data, not set yet. */
static fonio_status materialize(fonio_tensor *parameter, int ndim, const int64_t *shape) {
  fonio_tensor *data = fonio_tensor_empty(parameter->dtype, ndim, shape);
  if (!data) return fonio_last_status();
  module_set_data(parameter, data);
  parameter->kind = TENSOR_PARAMETER;
  fonio_tensor_release(data);
  return FONIO_OK;
}

static fonio_status materialize_both(fonio_tensor *weight, fonio_tensor *bias, const fonio_conv2d_options *options) {
  int64_t shape[4];
  conv2d_weight_shape(options, shape);
  fonio_status status = materialize(weight, 4, shape);
  return status || !bias ? status : materialize(bias, 1, shape);
}

/* A state dictionary may have brought either of them before. */
static fonio_status initialize(conv2d_layer *layer, const fonio_tensor *input) {
  fonio_tensor *weight = fonio_conv2d_weight(&layer->conv), *bias = fonio_conv2d_bias(&layer->conv);
  bool has_weight = weight->kind != TENSOR_UNINITIALIZED, has_bias = !bias || bias->kind != TENSOR_UNINITIALIZED;
  if (has_weight && has_bias) return FONIO_OK;
  fonio_conv2d_options *options = &layer->options;
  if (get_in_channels(input, &options->in_channels)) return fonio_last_status();
  if (options->in_channels % options->groups != 0)
    return fail(FONIO_VALUE_ERROR, "in_channels must be divisible by groups");
  if (has_weight) return fail(FONIO_RUNTIME_ERROR, "self.weight must be an UninitializedParameter");
  if (bias && has_bias) return fail(FONIO_RUNTIME_ERROR, "self.bias must be an UninitializedParameter");
  if (materialize_both(weight, bias, options)) return fonio_last_status();
  return options->in_channels ? fonio_conv2d_reset_parameters(&layer->conv) : FONIO_OK;
}

/* The first forward makes the layer a Conv2d. */
static fonio_status become_conv2d(fonio_module *module, fonio_tensor *input, fonio_tensor **changed, void *user) {
  conv2d_layer *layer = (conv2d_layer *)module;
  (void)changed, (void)user;
  fonio_status status = initialize(layer, input);
  if (status) return status;
  module->state->type = &conv2d_class;
  return fonio_module_remove_hook(module, layer->lazy_hook);
}

/* torch starts from a weight without channels, and so finds what is wrong with kernel_size and dtype. */
static fonio_status make_lazy(conv2d_layer *layer) {
  static const int64_t nothing[] = {0};
  const int64_t no_channels[] = {0, 0, layer->options.kernel_size[0], layer->options.kernel_size[1]};
  fonio_status status =
      module_new_parameter(&layer->base, layer->options.dtype, "weight", TENSOR_PARAMETER, 4, no_channels);
  if (!status)
    status = module_new_parameter(&layer->base, layer->options.dtype, "weight", TENSOR_UNINITIALIZED, 1, nothing);
  if (!status && layer->options.bias)
    status = module_new_parameter(&layer->base, layer->options.dtype, "bias", TENSOR_UNINITIALIZED, 1, nothing);
  if (!status) status = fonio_module_add_forward_pre_hook(&layer->base, become_conv2d, NULL, &layer->lazy_hook);
  return status;
}

fonio_conv2d *fonio_lazy_conv2d_new_with(const fonio_conv2d_options *options) {
  conv2d_layer *layer = conv2d_layer_new(options, true);
  if (!layer || !make_lazy(layer)) return layer ? &layer->conv : NULL;
  fonio_module_release(&layer->base);
  return NULL;
}
