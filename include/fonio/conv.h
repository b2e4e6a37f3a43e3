/* A convolution on raw pointers: describe it, plan it, run it as often as you like. Nothing here knows of tensors, so
 * that a host with arrays of its own can use it; fonio_tensor_conv2d (ops.h) and the layer stand on it.
 *
 *   fonio_conv_problem problem;                     // what is asked: checked with PyTorch's conditions and messages
 *   fonio_conv_problem_init(&problem, &input, &weight, &bias, NULL);
 *   fonio_conv_plan *plan = fonio_conv_plan_new(&problem, NULL);          // how: an algorithm, chosen once
 *   fonio_conv_plan_run(plan, &(fonio_conv_buffers){.input = x, .weight = w, .bias = b, .output = y});
 *   fonio_conv_plan_release(plan);
 *
 * Sizes and strides are counted in elements. Images are (N, C, H, W), weights (out_channels, in_channels / groups, kH,
 * kW), whatever the strides lay out in memory. */
#ifndef FONIO_CONV_H
#define FONIO_CONV_H

#include <fonio/activation.h>
#include <fonio/dtype.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The arguments ---- */

/* The arguments of torch.nn.functional.conv2d, with nn.Conv2d's padding_mode. FONIO_CONV2D_ARGS gives the defaults. */
typedef struct fonio_conv2d_args {
  size_t struct_bytes;      /* sizeof(fonio_conv2d_args): FONIO_CONV2D_ARGS sets it */
  int64_t stride[2];        /* (vertical, horizontal), at least 1; the second FONIO_BOTH: as the first */
  int64_t padding[2];       /* on both sides, (vertical, horizontal), at least 0; the second FONIO_BOTH: as the first */
  int64_t padding_sides[4]; /* (top, bottom, left, right) in place of `padding`; the first FONIO_BOTH: not given */
  /* In place of `padding`: "valid", "same" (PyTorch's rule; with a stride TensorFlow's, the odd pixel at the bottom /
   * right), "same_lower" (the odd pixel at the top / left); or NULL. */
  const char *padding_name;
  const char *padding_mode; /* "zeros", "reflect", "replicate" or "circular"; NULL is "zeros" */
  int64_t dilation[2];      /* (vertical, horizontal), at least 1; the second FONIO_BOTH: as the first */
  int64_t groups;           /* at least 1 */
} fonio_conv2d_args;

/* PyTorch's defaults, for C++ and for other languages. */
FONIO_API fonio_conv2d_args fonio_conv2d_args_default(void);

/* The defaults with what is named in `...` put over them: FONIO_CONV2D_ARGS(.stride = 2, .padding = {1, 0}). C only. */
#define FONIO_CONV2D_ARGS(...) FONIO_WITH_DEFAULTS(fonio_conv2d_args, FONIO_CONV2D_DEFAULTS, __VA_ARGS__)

#define FONIO_CONV2D_DEFAULTS                                                                                          \
  .stride = {1, FONIO_BOTH}, .padding = {0, FONIO_BOTH},                                                               \
  .padding_sides = {FONIO_BOTH, FONIO_BOTH, FONIO_BOTH, FONIO_BOTH}, .dilation = {1, FONIO_BOTH}, .groups = 1

/* ---- The problem ---- */

typedef enum fonio_padding_mode {
  FONIO_ZEROS = 0,
  FONIO_REFLECT = 1,
  FONIO_REPLICATE = 2,
  FONIO_CIRCULAR = 3
} fonio_padding_mode;

/* What a convolution needs to know of an array. */
typedef struct fonio_array {
  fonio_dtype dtype;
  int ndim;
  const int64_t *shape;   /* `ndim` sizes */
  const int64_t *strides; /* `ndim` strides, any; NULL: contiguous, the last dimension fastest */
} fonio_array;

/* One convolution, all its numbers resolved. Filled in by fonio_conv_problem_init or fonio_conv_problem_parse; a host
 * may then change the strides of the output, and ask for a residual and an activation, which fonio_conv_problem_init
 * leaves out. Plain data: copy it freely.
 *
 * The output is activation(conv2d(input, weight) + bias + residual), each step rounded as if it were made alone: the
 * bits are those of the convolution followed by output.add_(residual) and the activation, but the output passes through
 * memory once. */
typedef struct fonio_conv_problem {
  size_t struct_bytes;
  fonio_dtype dtype; /* of input, weight, bias and output: FONIO_FLOAT32 or FONIO_FLOAT64 */
  int64_t batch, in_channels, in_height, in_width;
  int64_t out_channels, out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride[2], dilation[2];
  int64_t padding[4]; /* top, bottom, left, right: each at least 0 */
  fonio_padding_mode padding_mode;
  int64_t groups;
  bool has_bias;
  bool has_residual; /* an array like the output, with its strides, is added before the activation */
  fonio_activation activation;
  double slope;             /* of FONIO_LEAKY_RELU: its negative_slope */
  int64_t prelu_stride;     /* between the slopes of FONIO_PRELU, one for each output channel; 0: one slope for all */
  bool batched;             /* false: the input came without a batch dimension, (C, H, W), and so goes the output */
  int64_t input_strides[4]; /* for (N, C, H, W); also when unbatched */
  int64_t weight_strides[4];
  int64_t bias_stride;
  int64_t output_strides[4]; /* for (N, K, outH, outW): contiguous or channels_last, as PyTorch decides it */
} fonio_conv_problem;

/* Checks the arguments of a convolution as torch.nn.functional.conv2d does (with a padding_mode: as nn.Conv2d's forward
 * does), in its order and with its messages, and resolves them into `problem`. `bias` may be NULL. `args` NULL: the
 * defaults.
 *
 * Beyond PyTorch: "same" with a stride, "same_lower", four sides, and circular padding that wraps more than once.
 * As in PyTorch a batch of 0 is allowed; an input with 0 channels gives an output with 0 channels.
 *
 * May warn (once in a process) as PyTorch does where "same" needs an uneven padding. Thread-safe.
 * FONIO_RUNTIME_ERROR, FONIO_VALUE_ERROR, FONIO_TYPE_ERROR, FONIO_NOT_IMPLEMENTED (a dtype that PyTorch takes and Fonio
 * not yet); `problem` is then untouched. */
FONIO_API fonio_status fonio_conv_problem_init(fonio_conv_problem *problem, const fonio_array *input,
                                               const fonio_array *weight, const fonio_array *bias,
                                               const fonio_conv2d_args *args);

/* Reads a problem string, the one-line name of a problem that tests, benchmarks and failure reports share, such as
 *
 *   n1c3h256w256k64r4s4u2p1            an image 3 x 256 x 256, 64 kernels of 4 x 4, stride 2, padding 1
 *   n2c8h9w9k6r3s3u2,1p1,0,2,1d1g2mreflectb0tf64lnhwc
 *   n1c64h56w56k64r3s3p1z1arelu        a residual is added, then relu
 *
 * n batch (0: unbatched is `n` left out), c h w the input, k out_channels, r s kernel height and width, u stride, p
 * padding (one number, a pair, four sides top,bottom,left,right, or same, same_lower, valid), d dilation, g groups, m
 * padding mode, b0 without a bias, z1 with a residual, a an activation (relu, relu6, leaky_relu and its slope, prelu
 * and how many slopes it has, silu, hardswish, sigmoid, tanh, gelu, gelu_tanh), t f32 or f64, l nchw or nhwc. c h w k r
 * s are required, the rest has PyTorch's defaults. The arrays are taken to be contiguous in that layout.
 * FONIO_VALUE_ERROR says where the text is wrong; otherwise the errors of fonio_conv_problem_init. */
FONIO_API fonio_status fonio_conv_problem_parse(fonio_conv_problem *problem, const char *text);

/* Writes the problem string of `problem` into `text` (always ended by a 0; cut where `text_bytes` is too small) and
 * returns its length without the 0, as snprintf does. Strides other than the two layouts are named `lstrided`, which
 * fonio_conv_problem_parse refuses. */
FONIO_API size_t fonio_conv_problem_print(const fonio_conv_problem *problem, char *text, size_t text_bytes);

/* ---- The plan ---- */

typedef enum fonio_conv_direction {
  FONIO_CONV_FORWARD = 0,        /* input, weight, bias -> output */
  FONIO_CONV_INPUT_GRADIENT = 1, /* grad_output, weight -> grad_input */
  FONIO_CONV_WEIGHT_GRADIENT = 2 /* input, grad_output -> grad_weight, grad_bias */
} fonio_conv_direction;

/* How exact results must be. The errors that were measured are in docs/numerics.md. */
typedef enum fonio_accuracy {
  FONIO_ACCURACY_UNSET = 0, /* in options: what is set for the process */
  /* Each output one chain of fused multiply-adds in one order: the same bits on every processor. */
  FONIO_ACCURACY_STRICT = 1,
  /* Any algorithm whose rms error is at most 2.5 times that of a plain float32 sum, from 32 input channels on. */
  FONIO_ACCURACY_DEFAULT = 2,
  FONIO_ACCURACY_FAST = 3 /* any algorithm */
} fonio_accuracy;

/* Sets the accuracy for plans made from now on, in the whole process; FONIO_ACCURACY_UNSET goes back to the
 * environment's FONIO_ACCURACY ("strict", "default" or "fast"), without which it is FONIO_ACCURACY_DEFAULT.
 * FONIO_VALUE_ERROR for another number. Thread-safe. */
FONIO_API fonio_status fonio_set_accuracy(fonio_accuracy accuracy);

/* What is set: never FONIO_ACCURACY_UNSET. */
FONIO_API fonio_accuracy fonio_get_accuracy(void);

/* Options of a plan; NULL or zeros are the defaults. */
typedef struct fonio_conv_plan_options {
  size_t struct_bytes;
  fonio_conv_direction direction;
  const char *algorithm;   /* the name of one from the list, such as "reference"; NULL: the planner chooses */
  fonio_accuracy accuracy; /* for the planner's choice */
  /* Forward: times the algorithms that give the same bits as the one that the model takes, for some 10 ms each, takes
   * the fastest, and remembers it (see Wisdom). A plan whose algorithm is remembered is not measured again. */
  bool measure;
  /* Between runs, which get no packed weight: what packing takes counts in the choice, as it always does for the input
   * gradient. fonio_tensor_conv2d leaves it out, so that it gives the bits of a layer, which packs once. */
  bool weight_changes;
} fonio_conv_plan_options;

/* A convolution with its algorithm chosen and its tables made. Immutable, so that many threads may run one plan at
 * once. */
typedef struct fonio_conv_plan fonio_conv_plan;

/* Weights in the order in which an algorithm reads them. Immutable; shared by the plans of every image size. */
typedef struct fonio_conv_packed fonio_conv_packed;

/* The arrays of one run, each with the strides that the problem gives (gradients: those of the array they belong to).
 * Outputs must not overlap inputs. */
typedef struct fonio_conv_buffers {
  const void *input;
  const void *weight;              /* may be NULL when `packed` is given */
  const fonio_conv_packed *packed; /* from fonio_conv_plan_pack of a plan with the same weights; or NULL */
  const void *bias;                /* NULL when the problem has none */
  const void *residual;            /* with the output's strides; NULL when the problem has none */
  const void *prelu;               /* the slopes of FONIO_PRELU */
  void *output;
  const void *grad_output;
  void *grad_input;
  void *grad_weight; /* either of these two may be NULL: not asked for */
  void *grad_bias;
  void *workspace;         /* aligned to 64; NULL: the call takes its own, for as many threads as take part */
  int64_t workspace_bytes; /* of `workspace`: as many threads take part as it holds, at least one must fit */
} fonio_conv_buffers;

/* Plans `problem`. The choice depends on the geometry of one image only, never on the batch (but for the weight's
 * gradient, a sum over the batch) or on the number of threads. The caller releases the plan. NULL on FONIO_NO_MEMORY,
 * FONIO_VALUE_ERROR (no such algorithm, or one that cannot do this problem; no such activation), FONIO_NOT_IMPLEMENTED
 * (a gradient with a residual or an activation). */
FONIO_NEW fonio_conv_plan *fonio_conv_plan_new(const fonio_conv_problem *problem,
                                               const fonio_conv_plan_options *options);

/* Releases a plan; NULL is ignored. */
FONIO_API void fonio_conv_plan_release(fonio_conv_plan *plan);

/* The problem of a plan, borrowed. */
FONIO_API const fonio_conv_problem *fonio_conv_plan_problem(const fonio_conv_plan *plan);

/* The name of the plan's algorithm, static text. */
FONIO_API const char *fonio_conv_plan_algorithm(const fonio_conv_plan *plan);

/* Why the plan is as it is, in some lines of text: the problem string; how many cycles a core needs at least, for the
 * plain sums (at two multiply-adds a cycle) and to read and write the arrays once; of a plan that was measured, what it
 * took and which share of the attainable that is, on this core; each algorithm with the cycles that it is expected to
 * take, their share of the attainable and the memory that it wants, or what it lacks; the blocks of the one that is
 * taken. Winograd's algorithm may pass 100 %. For people to read: the words may change. Made when first asked for, and
 * belongs to the plan. NULL on FONIO_NO_MEMORY. Thread-safe. */
FONIO_API const char *fonio_conv_plan_explain(const fonio_conv_plan *plan);

/* The bytes of workspace that a run by at most `threads` threads needs beyond packed weights: at most 1 MiB and 8 KiB
 * for each channel in and out, for each thread, whatever the batch, height and width. */
FONIO_API int64_t fonio_conv_plan_workspace_bytes(const fonio_conv_plan *plan, int threads);

/* Packs a weight for this plan and all others of the same algorithm, weight shape, stride, padding and dilation,
 * whatever the image. The caller releases it. The weight may be changed or freed afterwards; the packed copy then still
 * holds the old values. NULL on FONIO_NO_MEMORY. */
FONIO_NEW fonio_conv_packed *fonio_conv_plan_pack(const fonio_conv_plan *plan, const void *weight);

/* Releases a packed weight; NULL is ignored. */
FONIO_API void fonio_conv_packed_release(fonio_conv_packed *packed);

/* Runs a plan. Results do not depend on what else is in the batch, on the addresses of the buffers or on the number of
 * threads. FONIO_VALUE_ERROR (a needed buffer is NULL, `packed` belongs to another algorithm or weight, the workspace
 * is too small), FONIO_NO_MEMORY (only when a workspace or packed weight has to be taken); the outputs are then
 * untouched. */
FONIO_API fonio_status fonio_conv_plan_run(const fonio_conv_plan *plan, const fonio_conv_buffers *buffers);

/* What comes to conv2d(input, weight) + bias + residual, grad_sum, of what comes to the activation of that,
 * grad_output: the grad_output of the plans of both gradients, whose problem has neither residual nor activation, and
 * the gradient of the residual. As torch.ops.aten.threshold_backward(grad_output, output, 0) and the like, with their
 * bits. All three arrays are like the output of `problem`, with its strides, and belong to the caller; `grad_sum` may
 * be one of the other two. The derivative follows from `output`, the result of the forward run, so that the sum before
 * need not be kept: for FONIO_RELU, RELU6, SIGMOID, TANH and LEAKY_RELU with a slope of at least 0; without an
 * activation grad_output is copied. Takes no memory. Thread-safe. FONIO_NOT_IMPLEMENTED for the other activations,
 * FONIO_VALUE_ERROR for a problem that fonio_conv_problem_init cannot have made, FONIO_TYPE_ERROR for NULL; `grad_sum`
 * is then untouched. */
FONIO_API fonio_status fonio_conv_activation_gradient(const fonio_conv_problem *problem, const void *output,
                                                      const void *grad_output, void *grad_sum);

/* The i-th algorithm's name, or NULL past the last: to list them. */
FONIO_API const char *fonio_conv_algorithm_name(int index);

/* ---- Wisdom: what measuring has found, for later plans of the process and for other processes ----
 *
 * Every forward plan, a layer's too, takes the algorithm that is remembered for its problem, instruction set and
 * accuracy, whatever its batch, bias, residual and activation. As text:
 *
 *   fonio wisdom 1
 *   avx2 default n1c64h56w56k256r1s1 shifted
 *
 * a first line, then on each line an instruction set, an accuracy, a problem string and an algorithm. A line may be
 * written by hand, and may then change the bits of a result; measuring alone does not. Algorithms that cannot do the
 * problem, or are not exact enough, are passed over. All of this is thread-safe. */

/* Writes all wisdom of the process into `text` (always ended by a 0; cut where `text_bytes` is too small) and returns
 * its length without the 0, as snprintf does. */
FONIO_API size_t fonio_conv_wisdom_print(char *text, size_t text_bytes);

/* Adds wisdom to that of the process; its lines take the place of those for the same problem. FONIO_VALUE_ERROR, with
 * the line, for text that is no wisdom, FONIO_NO_MEMORY; nothing is added then. */
FONIO_API fonio_status fonio_conv_wisdom_parse(const char *text);

/* Forgets all wisdom. */
FONIO_API void fonio_conv_wisdom_forget(void);

#ifdef __cplusplus
}
#endif

#endif
