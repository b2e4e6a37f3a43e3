/* conv2d on tensors: the convolution brings checks and plans, the tensors arrays and history. */
#include <stddef.h>
#include <string.h>

#include "autograd/conv2d.h"
#include "autograd/node.h"
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

/* ---- Gradients ---- */

/* A tensor for the gradient of the input or the weight, and its strides: the array's own if it is dense, otherwise
 * those of the output's memory format. */
static fonio_tensor *empty_gradient(const autograd_node *node, int place, int64_t strides[4]) {
  const convolution *conv = node->attributes;
  const autograd_shape *shape = &node->shapes[place];
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

/* The problem with the strides that the output's gradient came with. */
static fonio_conv_problem problem_for(const autograd_node *node, const fonio_tensor *gradient) {
  const convolution *conv = node->attributes;
  fonio_conv_problem problem = conv->problem;
  int first = 4 - gradient->ndim;
  problem.output_strides[0] = 0;
  memcpy(problem.output_strides + first, gradient->strides, (size_t)gradient->ndim * sizeof(int64_t));
  return problem;
}

static fonio_status input_gradient(const autograd_node *node, const fonio_tensor *gradient, const fonio_tensor *weight,
                                   fonio_tensor **gradients) {
  fonio_conv_problem problem = problem_for(node, gradient);
  gradients[INPUT] = empty_gradient(node, INPUT, problem.input_strides);
  if (!gradients[INPUT]) return fonio_last_status();
  fonio_conv_buffers buffers = {
      .weight = data_of(weight),
      .grad_output = data_of(gradient),
      .grad_input = data_of(gradients[INPUT]),
  };
  return conv_cache_run(NULL, &problem, FONIO_CONV_INPUT_GRADIENT, NULL, &buffers);
}

/* `input` is NULL when only the bias has a gradient. */
static fonio_status weight_gradient(const autograd_node *node, const fonio_tensor *gradient, const fonio_tensor *input,
                                    const bool *wanted, fonio_tensor **gradients) {
  fonio_conv_problem problem = problem_for(node, gradient);
  fonio_conv_buffers buffers = {.input = input ? data_of(input) : NULL, .grad_output = data_of(gradient)};
  if (wanted[WEIGHT]) {
    gradients[WEIGHT] = empty_gradient(node, WEIGHT, problem.weight_strides);
    if (!gradients[WEIGHT]) return fonio_last_status();
    buffers.grad_weight = data_of(gradients[WEIGHT]);
  }
  if (wanted[BIAS]) {
    /* Zeros, because with no input channels there are no output channels either, though the bias has elements. */
    gradients[BIAS] = fonio_tensor_zeros(problem.dtype, node->shapes[BIAS].ndim, node->shapes[BIAS].sizes);
    if (!gradients[BIAS]) return fonio_last_status();
    buffers.grad_bias = data_of(gradients[BIAS]);
    problem.bias_stride = 1;
  }
  return conv_cache_run(NULL, &problem, FONIO_CONV_WEIGHT_GRADIENT, NULL, &buffers);
}

static fonio_status gradients_of(const autograd_node *node, const fonio_tensor *gradient, const fonio_tensor *input,
                                 const fonio_tensor *weight, const bool *wanted, fonio_tensor **gradients) {
  fonio_status status = FONIO_OK;
  if (wanted[INPUT]) status = input_gradient(node, gradient, weight, gradients);
  if (!status && (wanted[WEIGHT] || wanted[BIAS])) status = weight_gradient(node, gradient, input, wanted, gradients);
  return status;
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

static fonio_tensor *forward(const fonio_conv_problem *problem, const fonio_tensor *input, const fonio_tensor *weight,
                             const fonio_tensor *bias, conv_cache *cache) {
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

static convolution describe(const fonio_conv_problem *problem, const fonio_tensor *input, const fonio_tensor *weight) {
  const int64_t sizes[4] = {problem->batch, problem->out_channels, problem->out_height, problem->out_width};
  return (convolution){
      .problem = *problem,
      .channels_last = shape_suggests_channels_last(sizes, problem->output_strides),
      .is_dense = {layout_is_dense(input), layout_is_dense(weight)},
  };
}

fonio_tensor *autograd_conv2d(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias,
                              const fonio_conv2d_args *args, conv_cache *cache) {
  if (!input || !weight) return fail_given_null("fonio_tensor_conv2d"), NULL;
  fonio_array arrays[] = {array_of(input), array_of(weight), bias ? array_of(bias) : (fonio_array){0}};
  fonio_conv_problem problem;
  if (fonio_conv_problem_init(&problem, &arrays[INPUT], &arrays[WEIGHT], bias ? &arrays[BIAS] : NULL, args))
    return NULL;
  convolution conv = describe(&problem, input, weight);
  fonio_tensor *inputs[] = {input, weight, bias};
  fonio_tensor *result =
      autograd_record(forward(&problem, input, weight, bias, cache),
                      problem.batched ? &conv2d_operation : &unbatched_operation, 3, inputs, &conv, sizeof conv);
  if (autograd_needs(result, WEIGHT)) autograd_save(result, INPUT, input);
  autograd_save(result, WEIGHT, weight);
  return result;
}

/* A function has no place to keep anything in. */
fonio_tensor *fonio_tensor_conv2d_with(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias,
                                       const fonio_conv2d_args *args) {
  return autograd_conv2d(input, weight, bias, args, NULL);
}
