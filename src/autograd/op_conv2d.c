/* conv2d on tensors: the convolution brings checks and plans, the tensors arrays and history. */
#include <stddef.h>
#include <string.h>

#include "autograd/conv2d.h"
#include "autograd/node.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/shape.h"
#include "tensor/layout.h"
#include "tensor/storage.h"

/* The inputs, and the places of what is saved. */
enum { INPUT, WEIGHT, BIAS };

/* What the gradient needs to know beside the saved tensors. */
typedef struct convolution {
  fonio_conv_problem problem;
  bool channels_last; /* the output is */
  bool is_dense[2];   /* input, weight */
} convolution;

static fonio_array array_of(const fonio_tensor *tensor) {
  return (fonio_array){tensor->dtype, tensor->ndim, tensor->shape, tensor->strides};
}

/* A host's memory without elements may be at NULL, which the convolution takes for a missing array. */
static void *data_of(const fonio_tensor *tensor) {
  static max_align_t nothing;
  return tensor->numel ? tensor_at_offset(tensor) : &nothing;
}

/* ---- Gradients ----
 *
 * Each is an operation, whose own gradients are convolutions again: all three are linear in each of two arrays. */

/* An array's strides for (N, C, H, W), also when unbatched. */
static void take_strides(const fonio_tensor *tensor, int64_t strides[4]) {
  strides[0] = 0;
  memcpy(strides + 4 - tensor->ndim, tensor->strides, (size_t)tensor->ndim * sizeof *strides);
}

/* A tensor for the gradient of the input or the weight, and its strides: the array's own if it is dense, otherwise
 * those of the output's memory format. */
static fonio_tensor *empty_gradient(const convolution *conv, int place, const autograd_shape *shape,
                                    int64_t strides[4]) {
  int first = 4 - shape->ndim;
  int64_t sizes[4] = {1};
  memcpy(sizes + first, shape->sizes, (size_t)shape->ndim * sizeof *sizes);
  if (!conv->is_dense[place]) {
    bool fits =
        conv->channels_last ? shape_channels_last_strides(sizes, strides) : shape_contiguous_strides(4, sizes, strides);
    if (!fits) return fail_null(FONIO_RUNTIME_ERROR, "Stride calculation overflowed");
  }
  return tensor_empty_strided(shape->dtype, shape->ndim, sizes + first, strides + first);
}

static const autograd_operation input_gradient_operation, unbatched_input_gradient_operation;
static const autograd_operation weight_gradient_operation, bias_gradient_operation;

/* The gradient of an input of that shape. */
static fonio_tensor *input_gradient(const convolution *conv, fonio_tensor *gradient, fonio_tensor *weight,
                                    const autograd_shape *input) {
  fonio_conv_problem problem = conv->problem;
  take_strides(gradient, problem.output_strides);
  take_strides(weight, problem.weight_strides);
  fonio_tensor *result = empty_gradient(conv, INPUT, input, problem.input_strides);
  if (!result) return NULL;
  fonio_conv_buffers buffers = {
      .weight = data_of(weight), .grad_output = data_of(gradient), .grad_input = data_of(result)};
  if (conv_cache_run(NULL, &problem, FONIO_CONV_INPUT_GRADIENT, NULL, &buffers)) {
    fonio_tensor_release(result);
    return NULL;
  }
  fonio_tensor *inputs[] = {gradient, weight};
  const autograd_operation *operation =
      problem.batched ? &input_gradient_operation : &unbatched_input_gradient_operation;
  result = autograd_record(result, operation, 2, inputs, conv, sizeof *conv);
  if (autograd_needs(result, 1)) autograd_save(result, 0, gradient);
  if (autograd_needs(result, 0)) autograd_save(result, 1, weight);
  return result;
}

/* Notes how the gradient of a weight, or of a bias, came about; NULL for NULL. */
static fonio_tensor *record_weight_gradient(const convolution *conv, fonio_tensor *result, fonio_tensor *gradient,
                                            fonio_tensor *input) {
  fonio_tensor *inputs[] = {gradient, input};
  result = autograd_record(result, &weight_gradient_operation, 2, inputs, conv, sizeof *conv);
  if (autograd_needs(result, 1)) autograd_save(result, 0, gradient);
  if (autograd_needs(result, 0)) autograd_save(result, 1, input);
  return result;
}

static fonio_tensor *record_bias_gradient(fonio_tensor *result, fonio_tensor *gradient) {
  return autograd_record(result, &bias_gradient_operation, 1, &gradient, NULL, 0);
}

/* The gradients of a weight and of a bias of these shapes, or of one of them: the other is NULL. `input` is NULL when
 * only the bias has a gradient. What is written on failure, the caller releases. */
static fonio_status weight_gradients(const convolution *conv, fonio_tensor *gradient, fonio_tensor *input,
                                     const autograd_shape *weight, const autograd_shape *bias,
                                     fonio_tensor **gradients) {
  fonio_conv_problem problem = conv->problem;
  fonio_conv_buffers buffers = {.input = input ? data_of(input) : NULL, .grad_output = data_of(gradient)};
  take_strides(gradient, problem.output_strides);
  if (input) take_strides(input, problem.input_strides);
  if (weight) {
    gradients[WEIGHT] = empty_gradient(conv, WEIGHT, weight, problem.weight_strides);
    if (!gradients[WEIGHT]) return fonio_last_status();
    buffers.grad_weight = data_of(gradients[WEIGHT]);
  }
  if (bias) {
    /* Zeros, because with no input channels there are no output channels either, though the bias has elements. */
    gradients[BIAS] = fonio_tensor_zeros(problem.dtype, bias->ndim, bias->sizes);
    if (!gradients[BIAS]) return fonio_last_status();
    buffers.grad_bias = data_of(gradients[BIAS]);
    problem.bias_stride = 1;
  }
  fonio_status status = conv_cache_run(NULL, &problem, FONIO_CONV_WEIGHT_GRADIENT, NULL, &buffers);
  if (!status && weight) {
    gradients[WEIGHT] = record_weight_gradient(conv, gradients[WEIGHT], gradient, input);
    status = autograd_made(gradients[WEIGHT]);
  }
  if (!status && bias) {
    gradients[BIAS] = record_bias_gradient(gradients[BIAS], gradient);
    status = autograd_made(gradients[BIAS]);
  }
  return status;
}

static fonio_status gradients_of(const autograd_node *node, fonio_tensor *gradient, fonio_tensor *input,
                                 fonio_tensor *weight, const bool *wanted, fonio_tensor **gradients) {
  const convolution *conv = node->attributes;
  if (wanted[INPUT]) {
    gradients[INPUT] = input_gradient(conv, gradient, weight, &node->shapes[INPUT]);
    if (!gradients[INPUT]) return fonio_last_status();
  }
  if (!wanted[WEIGHT] && !wanted[BIAS]) return FONIO_OK;
  return weight_gradients(conv, gradient, input, wanted[WEIGHT] ? &node->shapes[WEIGHT] : NULL,
                          wanted[BIAS] ? &node->shapes[BIAS] : NULL, gradients);
}

/* As in torch, what was saved is checked even where this pass does not need it. */
static fonio_status conv2d_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                 fonio_tensor **gradients) {
  bool saves_input = autograd_node_needs(node, WEIGHT);
  fonio_tensor *input = saves_input ? autograd_saved_tensor(node, INPUT) : NULL;
  if (saves_input && !input) return fonio_last_status();
  fonio_tensor *weight = autograd_saved_tensor(node, WEIGHT);
  fonio_status status = weight ? gradients_of(node, gradient, input, weight, wanted, gradients) : fonio_last_status();
  fonio_tensor_release(weight);
  fonio_tensor_release(input);
  return status;
}

/* torch takes the batch off an unbatched image's result in an operation of its own. */
static const autograd_operation conv2d_operation = {"ConvolutionBackward0", false, conv2d_apply};
static const autograd_operation unbatched_operation = {"SqueezeBackward1", false, conv2d_apply};

/* ---- Forward ---- */

static fonio_tensor *empty_output(const fonio_conv_problem *problem) {
  const int64_t sizes[4] = {problem->batch, problem->out_channels, problem->out_height, problem->out_width};
  int first = problem->batched ? 0 : 1;
  return tensor_empty_strided(problem->dtype, 4 - first, sizes + first, problem->output_strides + first);
}

/* Before its values: what is written meanwhile must not pass for what was read. */
static conv_weight_state state_of(const fonio_tensor *weight) {
  tensor_storage *storage = weight->storage;
  return (conv_weight_state){storage->number, atomic_load(&storage->version), !atomic_load(&storage->escaped)};
}

static fonio_tensor *run_forward(const fonio_conv_problem *problem, const fonio_tensor *input,
                                 const fonio_tensor *weight, const fonio_tensor *bias, conv_cache *cache) {
  fonio_tensor *output = empty_output(problem);
  if (!output) return NULL;
  fonio_conv_buffers buffers = {
      .input = data_of(input),
      .weight = data_of(weight),
      .bias = bias ? data_of(bias) : NULL,
      .output = data_of(output),
  };
  conv_weight_state state = state_of(weight);
  if (!conv_cache_run(cache, problem, FONIO_CONV_FORWARD, &state, &buffers)) return output;
  fonio_tensor_release(output);
  return NULL;
}

/* Notes that `result` (NULL: does nothing) is the convolution `conv` of these arrays. */
static fonio_tensor *record(const convolution *conv, fonio_tensor *result, fonio_tensor *input, fonio_tensor *weight,
                            fonio_tensor *bias) {
  const autograd_operation *operation = conv->problem.batched ? &conv2d_operation : &unbatched_operation;
  fonio_tensor *inputs[] = {input, weight, bias};
  result = autograd_record(result, operation, 3, inputs, conv, sizeof *conv);
  if (autograd_needs(result, WEIGHT)) autograd_save(result, INPUT, input);
  autograd_save(result, WEIGHT, weight);
  return result;
}

/* The convolution `conv` of these arrays, which have the strides that it says. */
static fonio_tensor *forward(const convolution *conv, fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias,
                             conv_cache *cache) {
  return record(conv, run_forward(&conv->problem, input, weight, bias, cache), input, weight, bias);
}

static convolution describe(const fonio_conv_problem *problem, const fonio_tensor *input, const fonio_tensor *weight) {
  const int64_t sizes[4] = {problem->batch, problem->out_channels, problem->out_height, problem->out_width};
  return (convolution){
      .problem = *problem,
      .channels_last = shape_suggests_channels_last(sizes, problem->output_strides),
      .is_dense = {layout_is_dense(input), layout_is_dense(weight)},
  };
}

static fonio_status prepare(convolution *conv, const fonio_tensor *input, const fonio_tensor *weight,
                            const fonio_tensor *bias, const fonio_conv2d_args *args) {
  if (!input || !weight) return fail_given_null("fonio_tensor_conv2d");
  fonio_array arrays[] = {array_of(input), array_of(weight), bias ? array_of(bias) : (fonio_array){0}};
  fonio_conv_problem problem;
  fonio_status status =
      fonio_conv_problem_init(&problem, &arrays[INPUT], &arrays[WEIGHT], bias ? &arrays[BIAS] : NULL, args);
  if (!status) *conv = describe(&problem, input, weight);
  return status;
}

fonio_tensor *autograd_conv2d(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias,
                              const fonio_conv2d_args *args, conv_cache *cache) {
  convolution conv;
  return prepare(&conv, input, weight, bias, args) ? NULL : forward(&conv, input, weight, bias, cache);
}

/* The history is that of a convolution and an activation. Of the sum in between, which is stored nowhere, only its
 * place in the history is there: a tensor over the result's memory stands in for it. */
fonio_tensor *fonio_tensor_conv2d_activated_with(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias,
                                                 const fonio_conv2d_args *args, fonio_activation activation,
                                                 double slope) {
  convolution conv;
  if (prepare(&conv, input, weight, bias, args)) return NULL;
  fonio_conv_problem problem = conv.problem;
  problem.activation = activation;
  problem.slope = slope;
  fonio_tensor *result = run_forward(&problem, input, weight, bias, NULL);
  if (activation == FONIO_NO_ACTIVATION) return record(&conv, result, input, weight, bias);
  fonio_tensor *sum = record(&conv, result ? fonio_tensor_detach(result) : NULL, input, weight, bias);
  if (sum)
    result = autograd_record_activation(result, &problem, sum);
  else
    fonio_tensor_release(result), result = NULL;
  fonio_tensor_release(sum);
  return result;
}

/* A function has no place to keep anything in. */
fonio_tensor *fonio_tensor_conv2d_with(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias,
                                       const fonio_conv2d_args *args) {
  return autograd_conv2d(input, weight, bias, args, NULL);
}

/* ---- Gradients of the gradients ---- */

/* The same convolution, of arrays of the same shapes: the gradient of a gradient with respect to the output's. */
static fonio_tensor *forward_again(const convolution *conv, fonio_tensor *input, fonio_tensor *weight) {
  convolution again = *conv;
  take_strides(input, again.problem.input_strides);
  take_strides(weight, again.problem.weight_strides);
  again.problem.has_bias = false;
  return forward(&again, input, weight, NULL, NULL);
}

/* Takes out what was saved of the two arrays that a gradient was made of; each is there when the other has one. */
static fonio_status take_saved(autograd_node *node, fonio_tensor *saved[2]) {
  for (int i = 0; i < 2; i++) {
    if (!autograd_node_needs(node, 1 - i)) continue;
    saved[i] = autograd_saved_tensor(node, i);
    if (!saved[i]) return fonio_last_status();
  }
  return FONIO_OK;
}

/* `gradient` belongs to the gradient of the input: an image, like the input. */
static fonio_status input_gradient_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                         fonio_tensor **gradients) {
  const convolution *conv = node->attributes;
  fonio_tensor *saved[2] = {NULL, NULL}, *made[3] = {NULL, NULL, NULL};
  fonio_status status = take_saved(node, saved);
  if (!status && wanted[0]) {
    gradients[0] = forward_again(conv, gradient, saved[1]);
    status = autograd_made(gradients[0]);
  }
  if (!status && wanted[1]) status = weight_gradients(conv, saved[0], gradient, &node->shapes[1], NULL, made);
  gradients[1] = made[WEIGHT];
  fonio_tensor_release(saved[0]);
  fonio_tensor_release(saved[1]);
  return status;
}

/* `gradient` belongs to the gradient of the weight: kernels, like the weight. */
static fonio_status weight_gradient_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                          fonio_tensor **gradients) {
  const convolution *conv = node->attributes;
  fonio_tensor *saved[2] = {NULL, NULL};
  fonio_status status = take_saved(node, saved);
  if (!status && wanted[0]) {
    gradients[0] = forward_again(conv, saved[1], gradient);
    status = autograd_made(gradients[0]);
  }
  if (!status && wanted[1]) {
    gradients[1] = input_gradient(conv, saved[0], gradient, &node->shapes[1]);
    status = autograd_made(gradients[1]);
  }
  fonio_tensor_release(saved[0]);
  fonio_tensor_release(saved[1]);
  return status;
}

/* The bias was added to every pixel of its channel. Without pixels there may be no channels either. */
static fonio_status bias_gradient_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                        fonio_tensor **gradients) {
  (void)wanted;
  const autograd_shape *output = &node->shapes[0];
  int64_t numel;
  if (checked_product(output->ndim, output->sizes, &numel) && numel == 0) {
    gradients[0] = fonio_tensor_zeros(output->dtype, output->ndim, output->sizes);
    return autograd_made(gradients[0]);
  }
  fonio_tensor *column = fonio_tensor_reshape(gradient, FONIO_SHAPE(-1, 1, 1));
  gradients[0] = fonio_tensor_expand(column, output->ndim, output->sizes);
  fonio_tensor_release(column);
  return autograd_made(gradients[0]);
}

static const autograd_operation input_gradient_operation = {"ConvolutionBackwardBackward0", false,
                                                            input_gradient_apply};
static const autograd_operation unbatched_input_gradient_operation = {"SqueezeBackward1", false, input_gradient_apply};
static const autograd_operation weight_gradient_operation = {"ConvolutionBackwardBackward0", false,
                                                             weight_gradient_apply};
static const autograd_operation bias_gradient_operation = {"ConvolutionBackwardBackward0", false, bias_gradient_apply};
