/* max_pool2d and avg_pool2d with their gradients. */
#include "autograd/node.h"
#include "base/error.h"
#include "tensor/pool.h"

fonio_pool2d_args fonio_pool2d_args_default(void) {
  return FONIO_WITH_DEFAULTS(fonio_pool2d_args, FONIO_POOL2D_DEFAULTS, .struct_bytes = sizeof(fonio_pool2d_args));
}

/* Pairs resolved: the second may be as the first, and the stride as the kernel. */
static fonio_status window_of(pool_window *window, const fonio_tensor *image, const fonio_pool2d_args *args) {
  if (args->struct_bytes != sizeof *args)
    return fail(FONIO_VALUE_ERROR, "fonio_pool2d_args: struct_bytes is %zu, not %zu", args->struct_bytes, sizeof *args);
  if (args->kernel_size[0] == FONIO_BOTH) return fail(FONIO_TYPE_ERROR, "a pool needs a kernel_size");
  *window = (pool_window){.count_include_pad = args->count_include_pad, .divisor = args->divisor_override};
  for (int i = 0; i < 2; i++) {
    window->kernel[i] = args->kernel_size[args->kernel_size[i] == FONIO_BOTH ? 0 : i];
    window->stride[i] =
        args->stride[0] == FONIO_BOTH ? window->kernel[i] : args->stride[args->stride[i] == FONIO_BOTH ? 0 : i];
    window->padding[i] = args->padding[args->padding[i] == FONIO_BOTH ? 0 : i];
    window->dilation[i] = args->dilation[args->dilation[i] == FONIO_BOTH ? 0 : i];
  }
  return pool_resolve(window, image, args->ceil_mode);
}

/* ---- max_pool2d: what was largest has the gradient ---- */

static const autograd_operation scatter_operation, gather_operation;

/* `places` are saved as they are: nobody else can see them. */
static fonio_tensor *record_at(fonio_tensor *result, const autograd_operation *operation, fonio_tensor *input,
                               fonio_tensor *places) {
  result = autograd_record(result, operation, 1, &input, NULL, 0);
  autograd_save(result, 0, places);
  return result;
}

static fonio_status scatter_back(autograd_node *node, fonio_tensor *gradient, const autograd_operation *operation,
                                 fonio_tensor **gradients) {
  fonio_tensor *places = autograd_saved_tensor(node, 0);
  if (!places) return fonio_last_status();
  gradients[0] = record_at(pool_scatter(gradient, places, node->shapes[0].sizes), operation, gradient, places);
  fonio_tensor_release(places);
  return autograd_made(gradients[0]);
}

static fonio_status max_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  (void)wanted;
  return scatter_back(node, gradient, &scatter_operation, gradients);
}

static fonio_status scatter_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                  fonio_tensor **gradients) {
  (void)wanted;
  fonio_tensor *places = autograd_saved_tensor(node, 0);
  if (!places) return fonio_last_status();
  gradients[0] = record_at(pool_gather(gradient, places), &gather_operation, gradient, places);
  fonio_tensor_release(places);
  return autograd_made(gradients[0]);
}

static const autograd_operation max_operation = {"MaxPool2DWithIndicesBackward0", false, max_apply};
static const autograd_operation scatter_operation = {"MaxPool2DWithIndicesBackwardBackward0", false, scatter_apply};
static const autograd_operation gather_operation = {"ViewBackward0", false, max_apply};

fonio_tensor *fonio_tensor_max_pool2d_with(fonio_tensor *input, const fonio_pool2d_args *args) {
  if (!input || !args) return fail_given_null("fonio_tensor_max_pool2d"), NULL;
  pool_window window;
  fonio_tensor *values, *places;
  if (window_of(&window, input, args) || pool_max(&window, input, &values, &places)) return NULL;
  values = record_at(values, &max_operation, input, places);
  fonio_tensor_release(places);
  return values;
}

/* ---- avg_pool2d: all of a window share the gradient ---- */

static const autograd_operation spread_operation;

static fonio_status mean_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                               fonio_tensor **gradients) {
  (void)wanted;
  const pool_window *window = node->attributes;
  gradients[0] = autograd_record(pool_spread(window, gradient, node->shapes[0].sizes), &spread_operation, 1, &gradient,
                                 window, sizeof *window);
  return autograd_made(gradients[0]);
}

static const autograd_operation mean_operation = {"AvgPool2DBackward0", false, mean_apply};

static fonio_tensor *mean_of(const pool_window *window, fonio_tensor *input) {
  return autograd_record(pool_mean(window, input), &mean_operation, 1, &input, window, sizeof *window);
}

static fonio_status spread_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                 fonio_tensor **gradients) {
  (void)wanted;
  gradients[0] = mean_of(node->attributes, gradient);
  return autograd_made(gradients[0]);
}

static const autograd_operation spread_operation = {"AvgPool2DBackwardBackward0", false, spread_apply};

fonio_tensor *fonio_tensor_avg_pool2d_with(fonio_tensor *input, const fonio_pool2d_args *args) {
  if (!input || !args) return fail_given_null("fonio_tensor_avg_pool2d"), NULL;
  pool_window window;
  if (args->dilation[0] != 1 || (args->dilation[1] != 1 && args->dilation[1] != FONIO_BOTH))
    return fail_null(FONIO_TYPE_ERROR, "avg_pool2d() has no dilation");
  return window_of(&window, input, args) ? NULL : mean_of(&window, input);
}
