/* nn.Linear. */
#include <stdio.h>

#include "base/error.h"
#include "nn/init.h"
#include "nn/module.h"

typedef struct linear_layer {
  union {
    fonio_module base;
    fonio_linear linear;
  };
  fonio_linear_options options;
} linear_layer;

fonio_linear_options fonio_linear_options_default(void) {
  return FONIO_WITH_DEFAULTS(fonio_linear_options, FONIO_LINEAR_DEFAULTS, .struct_bytes = sizeof(fonio_linear_options));
}

static fonio_tensor *forward(fonio_module *module, fonio_tensor *input) {
  const fonio_linear *linear = (fonio_linear *)module;
  return fonio_tensor_linear(input, fonio_linear_weight(linear), fonio_linear_bias(linear));
}

static size_t extra_repr(const fonio_module *module, char *text, size_t bytes) {
  const linear_layer *layer = (const linear_layer *)module;
  return (size_t)snprintf(text, bytes, "in_features=%lld, out_features=%lld, bias=%s",
                          (long long)layer->options.in_features, (long long)layer->options.out_features,
                          fonio_linear_bias(&layer->linear) ? "True" : "False");
}

static const fonio_module_class linear_class =
    FONIO_MODULE_CLASS(linear_layer, .name = "Linear", .forward = forward, .extra_repr = extra_repr);

static fonio_status check(const fonio_linear_options *options) {
  if (options->struct_bytes != sizeof *options)
    return fail(FONIO_VALUE_ERROR, "fonio_linear_options of %zu bytes: start from fonio_linear_options_default()",
                options->struct_bytes);
  bool in = options->in_features != FONIO_BOTH, out = options->out_features != FONIO_BOTH;
  if (in && out) return FONIO_OK;
  if (!in && !out)
    return fail(FONIO_TYPE_ERROR,
                "Linear.__init__() missing 2 required positional arguments: 'in_features' and 'out_features'");
  return fail(FONIO_TYPE_ERROR, "Linear.__init__() missing 1 required positional argument: '%s'",
              in ? "out_features" : "in_features");
}

static fonio_status add_parameters(linear_layer *layer) {
  const fonio_linear_options *o = &layer->options;
  fonio_status status = module_new_parameter(&layer->base, o->dtype, "weight", TENSOR_PARAMETER,
                                             FONIO_SHAPE(o->out_features, o->in_features));
  if (!status && o->bias)
    status = module_new_parameter(&layer->base, o->dtype, "bias", TENSOR_PARAMETER, FONIO_SHAPE(o->out_features));
  return status ? status : fonio_linear_reset_parameters(&layer->linear);
}

fonio_linear *fonio_linear_new_with(const fonio_linear_options *options) {
  if (!options) return fail_given_null("fonio_linear_new_with"), NULL;
  if (check(options)) return NULL;
  linear_layer *layer = fonio_module_new(&linear_class);
  if (!layer) return NULL;
  layer->options = *options;
  if (!add_parameters(layer)) return &layer->linear;
  fonio_module_release(&layer->base);
  return NULL;
}

fonio_tensor *fonio_linear_weight(const fonio_linear *linear) {
  return linear ? fonio_dict_get(linear->base.state->parameters, "weight") : NULL;
}

fonio_tensor *fonio_linear_bias(const fonio_linear *linear) {
  return linear ? fonio_dict_get(linear->base.state->parameters, "bias") : NULL;
}

fonio_status fonio_linear_reset_parameters(fonio_linear *linear) {
  if (!linear) return fail_given_null("fonio_linear_reset_parameters");
  return init_layer(fonio_linear_weight(linear), fonio_linear_bias(linear));
}
