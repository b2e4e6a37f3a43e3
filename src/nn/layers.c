/* nn.ReLU, nn.Flatten, nn.MaxPool2d and nn.AvgPool2d. */
#include <stdio.h>

#include "base/error.h"
#include "nn/module.h"

/* ---- ReLU ---- */

static fonio_tensor *relu_forward(fonio_module *module, fonio_tensor *input) {
  (void)module;
  return fonio_tensor_relu(input);
}

static const fonio_module_class relu_class = FONIO_MODULE_CLASS(fonio_relu, .name = "ReLU", .forward = relu_forward);

fonio_relu *fonio_relu_new(void) {
  return fonio_module_new(&relu_class);
}

/* ---- Flatten ---- */

typedef struct flatten_layer {
  union {
    fonio_module base;
    fonio_flatten flatten;
  };
  int start_dim, end_dim;
} flatten_layer;

static fonio_tensor *flatten_forward(fonio_module *module, fonio_tensor *input) {
  const flatten_layer *layer = (flatten_layer *)module;
  return fonio_tensor_flatten(input, layer->start_dim, layer->end_dim);
}

static size_t flatten_repr(const fonio_module *module, char *text, size_t bytes) {
  const flatten_layer *layer = (const flatten_layer *)module;
  return (size_t)snprintf(text, bytes, "start_dim=%d, end_dim=%d", layer->start_dim, layer->end_dim);
}

static const fonio_module_class flatten_class =
    FONIO_MODULE_CLASS(flatten_layer, .name = "Flatten", .forward = flatten_forward, .extra_repr = flatten_repr);

fonio_flatten *fonio_flatten_new(int start_dim, int end_dim) {
  flatten_layer *layer = fonio_module_new(&flatten_class);
  if (!layer) return NULL;
  layer->start_dim = start_dim;
  layer->end_dim = end_dim;
  return &layer->flatten;
}

/* ---- Pooling ---- */

typedef struct pool_layer {
  union {
    fonio_module base;
    fonio_pool2d pool;
  };
  fonio_pool2d_args args;
} pool_layer;

static fonio_tensor *max_forward(fonio_module *module, fonio_tensor *input) {
  return fonio_tensor_max_pool2d_with(input, &((pool_layer *)module)->args);
}

static fonio_tensor *avg_forward(fonio_module *module, fonio_tensor *input) {
  return fonio_tensor_avg_pool2d_with(input, &((pool_layer *)module)->args);
}

typedef struct pair_text {
  char text[48];
} pair_text;

/* One number where one was given. */
static pair_text pair_for(const int64_t pair[2]) {
  pair_text result;
  if (pair[1] == FONIO_BOTH)
    snprintf(result.text, sizeof result.text, "%lld", (long long)pair[0]);
  else
    snprintf(result.text, sizeof result.text, "(%lld, %lld)", (long long)pair[0], (long long)pair[1]);
  return result;
}

static const int64_t *stride_of(const fonio_pool2d_args *args) {
  return args->stride[0] == FONIO_BOTH ? args->kernel_size : args->stride;
}

static size_t avg_repr(const fonio_module *module, char *text, size_t bytes) {
  const fonio_pool2d_args *args = &((const pool_layer *)module)->args;
  return (size_t)snprintf(text, bytes, "kernel_size=%s, stride=%s, padding=%s", pair_for(args->kernel_size).text,
                          pair_for(stride_of(args)).text, pair_for(args->padding).text);
}

static size_t max_repr(const fonio_module *module, char *text, size_t bytes) {
  const fonio_pool2d_args *args = &((const pool_layer *)module)->args;
  return (size_t)snprintf(text, bytes, "kernel_size=%s, stride=%s, padding=%s, dilation=%s, ceil_mode=%s",
                          pair_for(args->kernel_size).text, pair_for(stride_of(args)).text,
                          pair_for(args->padding).text, pair_for(args->dilation).text,
                          args->ceil_mode ? "True" : "False");
}

static const fonio_module_class max_class =
    FONIO_MODULE_CLASS(pool_layer, .name = "MaxPool2d", .forward = max_forward, .extra_repr = max_repr);
static const fonio_module_class avg_class =
    FONIO_MODULE_CLASS(pool_layer, .name = "AvgPool2d", .forward = avg_forward, .extra_repr = avg_repr);

static fonio_pool2d *pool_new(const fonio_module_class *type, const fonio_pool2d_args *args) {
  if (!args) return fail_given_null("fonio_pool2d_new_with"), NULL;
  if (args->struct_bytes == sizeof *args && args->kernel_size[0] == FONIO_BOTH)
    return fail_null(FONIO_TYPE_ERROR, "%s.__init__() missing 1 required positional argument: 'kernel_size'",
                     type->name);
  pool_layer *layer = fonio_module_new(type);
  if (!layer) return NULL;
  layer->args = *args;
  return &layer->pool;
}

fonio_pool2d *fonio_max_pool2d_new_with(const fonio_pool2d_args *args) {
  return pool_new(&max_class, args);
}

fonio_pool2d *fonio_avg_pool2d_new_with(const fonio_pool2d_args *args) {
  return pool_new(&avg_class, args);
}
