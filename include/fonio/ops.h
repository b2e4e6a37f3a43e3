/* Operations on tensors that gradients flow through. Each returns a new tensor that the caller releases, or NULL with
 * the status and text that PyTorch would raise. When gradients are enabled (autograd.h) and an argument requires one,
 * the result remembers how it came about. */
#ifndef FONIO_OPS_H
#define FONIO_OPS_H

#include <fonio/conv.h>
#include <fonio/random.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Convolution ---- */

/* torch.nn.functional.conv2d(input, weight, bias, ...), with nn.Conv2d's padding_mode. `input` is (N, C, H, W) or (C,
 * H, W), `weight` (out_channels, C / groups, kH, kW), `bias` (out_channels) or NULL; any strides. `args` NULL: the
 * defaults. The output is channels_last where torch's would be. Checks and messages: fonio_conv_problem_init. */
FONIO_NEW fonio_tensor *fonio_tensor_conv2d_with(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias,
                                                 const fonio_conv2d_args *args);

/* The same with keyword arguments: fonio_tensor_conv2d(x, w, NULL, .stride = 2, .padding = 1). C only. */
#define fonio_tensor_conv2d(...) fonio_tensor_conv2d_keywords_(__VA_ARGS__, .struct_bytes = sizeof(fonio_conv2d_args))

/* Its step in between: ISO C wants at least one argument for `...`, so that a call without keywords needs one more. */
#define fonio_tensor_conv2d_keywords_(input, weight, bias, ...)                                                        \
  __extension__({                                                                                                      \
    fonio_conv2d_args fonio_args_ = FONIO_CONV2D_ARGS(__VA_ARGS__);                                                    \
    fonio_tensor_conv2d_with((input), (weight), (bias), &fonio_args_);                                                 \
  })

/* The same with an activation over the result, in one run, as torch.relu(torch.conv2d(...)): `slope` is the
 * negative_slope of FONIO_LEAKY_RELU. FONIO_VALUE_ERROR for FONIO_PRELU, whose slopes are an array: for plans (conv.h).
 * Gradients flow through FONIO_RELU, RELU6, LEAKY_RELU with a slope of at least 0, SIGMOID and TANH, whose derivatives
 * follow from the result, so that the sum before is never stored. FONIO_NOT_IMPLEMENTED for another one where a
 * gradient is required. */
FONIO_NEW fonio_tensor *fonio_tensor_conv2d_activated_with(fonio_tensor *input, fonio_tensor *weight,
                                                           fonio_tensor *bias, const fonio_conv2d_args *args,
                                                           fonio_activation activation, double slope);

/* The derivative of conv2d's result along tangents, forward-mode: what torch.func.jvp gives as the second of its
 * two. A tangent has the shape and dtype of what it belongs to; NULL stands for zeros. Gradients flow through it. */
FONIO_NEW fonio_tensor *fonio_tensor_conv2d_jvp_with(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias,
                                                     const fonio_conv2d_args *args, fonio_tensor *input_tangent,
                                                     fonio_tensor *weight_tangent, fonio_tensor *bias_tangent);

/* ---- Arithmetic: floating-point dtypes, torch's broadcasting and type promotion between float32 and float64 ---- */

/* torch.add(a, b), sub, mul and div. FONIO_RUNTIME_ERROR with torch's text for shapes that cannot be broadcast. A
 * number beside a tensor is a tensor with no dimensions: fonio_tensor_full(dtype, 2, FONIO_SCALAR). */
FONIO_NEW fonio_tensor *fonio_tensor_add(fonio_tensor *a, fonio_tensor *b);
FONIO_NEW fonio_tensor *fonio_tensor_sub(fonio_tensor *a, fonio_tensor *b);
FONIO_NEW fonio_tensor *fonio_tensor_mul(fonio_tensor *a, fonio_tensor *b);
FONIO_NEW fonio_tensor *fonio_tensor_div(fonio_tensor *a, fonio_tensor *b);

/* torch.neg, exp, log and relu, elementwise. */
FONIO_NEW fonio_tensor *fonio_tensor_neg(fonio_tensor *tensor);
FONIO_NEW fonio_tensor *fonio_tensor_exp(fonio_tensor *tensor);
FONIO_NEW fonio_tensor *fonio_tensor_log(fonio_tensor *tensor);
FONIO_NEW fonio_tensor *fonio_tensor_relu(fonio_tensor *tensor);

/* torch.pow(tensor, exponent), with one number for all elements. */
FONIO_NEW fonio_tensor *fonio_tensor_pow(fonio_tensor *tensor, double exponent);

/* torch.pow(base, exponent), of two tensors and of a number by a tensor. As in torch the gradient of the base is 0
 * where the exponent is 0, and that of the exponent where the base is 0 and the exponent is not negative. */
FONIO_NEW fonio_tensor *fonio_tensor_pow_tensor(fonio_tensor *base, fonio_tensor *exponent);
FONIO_NEW fonio_tensor *fonio_number_pow_tensor(double base, fonio_tensor *exponent);

/* tensor.sum() and tensor.mean(): of all elements, a tensor with no dimensions. */
FONIO_NEW fonio_tensor *fonio_tensor_sum(fonio_tensor *tensor);
FONIO_NEW fonio_tensor *fonio_tensor_mean(fonio_tensor *tensor);

/* tensor.sum(dims, keepdim) and tensor.mean(dims, keepdim): over `count` dimensions, negative from the end; 0: over
 * all. They go, or have one element. Float32 is added up in double precision. FONIO_INDEX_ERROR, FONIO_RUNTIME_ERROR
 * with torch's texts. */
FONIO_NEW fonio_tensor *fonio_tensor_sum_dims(fonio_tensor *tensor, int count, const int64_t *dims, bool keepdim);
FONIO_NEW fonio_tensor *fonio_tensor_mean_dims(fonio_tensor *tensor, int count, const int64_t *dims, bool keepdim);

/* ---- Matrices ---- */

/* torch.mm(a, b): (n, k) times (k, m), any strides, of one dtype. Each element is one sum in the order of k: it does
 * not depend on the other rows and columns. */
FONIO_NEW fonio_tensor *fonio_tensor_mm(fonio_tensor *a, fonio_tensor *b);

/* torch.nn.functional.linear(input, weight, bias): `input` (..., k), `weight` (m, k), `bias` (m) or NULL; a result
 * (..., m). */
FONIO_NEW fonio_tensor *fonio_tensor_linear(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias);

/* ---- Pooling ---- */

/* The arguments of torch.nn.functional.max_pool2d and avg_pool2d. kernel_size must be given. Of each pair, the second
 * may be FONIO_BOTH: as the first. */
typedef struct fonio_pool2d_args {
  size_t struct_bytes;      /* sizeof(fonio_pool2d_args): FONIO_POOL2D_ARGS sets it */
  int64_t kernel_size[2];   /* (height, width) */
  int64_t stride[2];        /* (vertical, horizontal); the first FONIO_BOTH: as kernel_size */
  int64_t padding[2];       /* on both sides, (vertical, horizontal): of -infinity, or for a mean of zeros */
  int64_t dilation[2];      /* of max_pool2d only */
  bool ceil_mode;           /* a last window may reach beyond the padding */
  bool count_include_pad;   /* of avg_pool2d only: zeros of the padding count */
  int64_t divisor_override; /* of avg_pool2d only: what sums are divided by; 0: how many elements there are */
} fonio_pool2d_args;

#define FONIO_POOL2D_DEFAULTS                                                                                          \
  .kernel_size = {FONIO_BOTH, FONIO_BOTH}, .stride = {FONIO_BOTH, FONIO_BOTH}, .padding = {0, FONIO_BOTH},             \
  .dilation = {1, FONIO_BOTH}, .count_include_pad = true

/* The defaults, for C++ and for other languages. */
FONIO_API fonio_pool2d_args fonio_pool2d_args_default(void);

/* torch.nn.functional.max_pool2d and avg_pool2d of images (C, H, W) or (N, C, H, W), any strides; channels_last where
 * torch's result is. FONIO_RUNTIME_ERROR with torch's texts. */
FONIO_NEW fonio_tensor *fonio_tensor_max_pool2d_with(fonio_tensor *input, const fonio_pool2d_args *args);
FONIO_NEW fonio_tensor *fonio_tensor_avg_pool2d_with(fonio_tensor *input, const fonio_pool2d_args *args);

/* The same with keyword arguments: fonio_tensor_max_pool2d(x, .kernel_size = 2). C only. */
#define fonio_tensor_max_pool2d(input, ...) fonio_tensor_pool2d_keywords_(max, input, __VA_ARGS__)
#define fonio_tensor_avg_pool2d(input, ...) fonio_tensor_pool2d_keywords_(avg, input, __VA_ARGS__)
#define fonio_tensor_pool2d_keywords_(kind, input, ...)                                                                \
  __extension__({                                                                                                      \
    fonio_pool2d_args fonio_pool_ = FONIO_WITH_DEFAULTS(fonio_pool2d_args, FONIO_POOL2D_DEFAULTS, __VA_ARGS__);        \
    fonio_tensor_##kind##_pool2d_with((input), &fonio_pool_);                                                          \
  })

/* ---- Losses ---- */

/* torch.nn.functional.log_softmax(tensor, dim). FONIO_INDEX_ERROR with torch's text. */
FONIO_NEW fonio_tensor *fonio_tensor_log_softmax(fonio_tensor *tensor, int dim);

/* torch's `reduction` of a loss: none, the mean or the sum of its elements. */
typedef enum fonio_reduction {
  FONIO_REDUCTION_NONE = 0,
  FONIO_REDUCTION_MEAN = 1,
  FONIO_REDUCTION_SUM = 2
} fonio_reduction;

/* torch.nn.functional.mse_loss(input, target, reduction), of one shape. */
FONIO_NEW fonio_tensor *fonio_tensor_mse_loss(fonio_tensor *input, fonio_tensor *target, fonio_reduction reduction);

/* torch.nn.functional.nll_loss(input, target, ignore_index=ignore_index, reduction=reduction): `input` (C), (N, C) or
 * (N, C, ...) of log-probabilities, `target` of class numbers in the shape without C, int64 or uint8. Where the target
 * is `ignore_index` (torch's default: -100) there is no loss. FONIO_INDEX_ERROR for another target outside of the
 * classes, FONIO_VALUE_ERROR, FONIO_RUNTIME_ERROR with torch's texts. */
FONIO_NEW fonio_tensor *fonio_tensor_nll_loss(fonio_tensor *input, fonio_tensor *target, int64_t ignore_index,
                                              fonio_reduction reduction);

/* torch.nn.functional.cross_entropy(input, target, ...): nll_loss of log_softmax over the classes, mixed with
 * `label_smoothing` (0 to 1; torch's default: 0) parts of the mean over all classes. */
FONIO_NEW fonio_tensor *fonio_tensor_cross_entropy(fonio_tensor *input, fonio_tensor *target, int64_t ignore_index,
                                                   fonio_reduction reduction, double label_smoothing);

/* ---- Views: they share the storage ---- */

/* tensor[index] along `dim`, which goes: tensor.select(dim, index). FONIO_INDEX_ERROR with torch's texts. */
FONIO_NEW fonio_tensor *fonio_tensor_select(fonio_tensor *tensor, int dim, int64_t index);

/* tensor[i, j, ...]: selects the first dimensions, one after the other. */
FONIO_NEW fonio_tensor *fonio_tensor_index(fonio_tensor *tensor, int count, const int64_t *index);

/* tensor[start:end:step] along `dim`, with Python's rules for negative and too large bounds; step at least 1. */
FONIO_NEW fonio_tensor *fonio_tensor_slice(fonio_tensor *tensor, int dim, int64_t start, int64_t end, int64_t step);

/* tensor.permute(order). */
FONIO_NEW fonio_tensor *fonio_tensor_permute(fonio_tensor *tensor, int ndim, const int64_t *order);

/* tensor.expand(shape): -1 keeps a size; repeated elements have stride 0. */
FONIO_NEW fonio_tensor *fonio_tensor_expand(fonio_tensor *tensor, int ndim, const int64_t *shape);

/* tensor.reshape(shape): one size may be -1. A view where the strides allow it, otherwise a copy. */
FONIO_NEW fonio_tensor *fonio_tensor_reshape(fonio_tensor *tensor, int ndim, const int64_t *shape);

/* torch.flatten(tensor, start_dim, end_dim): these dimensions become one; negative from the end. */
FONIO_NEW fonio_tensor *fonio_tensor_flatten(fonio_tensor *tensor, int start_dim, int end_dim);

/* ---- Copies ---- */

/* tensor.contiguous(): the tensor itself (one more reference) when it is contiguous already, otherwise a copy. */
FONIO_NEW fonio_tensor *fonio_tensor_contiguous(fonio_tensor *tensor);

/* tensor.contiguous(memory_format=torch.channels_last). */
FONIO_NEW fonio_tensor *fonio_tensor_channels_last(fonio_tensor *tensor);

/* tensor.clone(): keeps the strides of a dense tensor, as torch does. */
FONIO_NEW fonio_tensor *fonio_tensor_clone(fonio_tensor *tensor);

/* tensor.to(dtype): the tensor itself (one more reference) when it has that dtype already. */
FONIO_NEW fonio_tensor *fonio_tensor_to(fonio_tensor *tensor, fonio_dtype dtype);

/* ---- In place ----
 *
 * A leaf that requires a gradient, or a view of one, may be written to only where gradients are off (autograd.h):
 * FONIO_RUNTIME_ERROR with torch's texts. FONIO_NOT_IMPLEMENTED where torch would note the write in the history of
 * `tensor`. */

/* tensor.fill_(value). */
FONIO_API fonio_status fonio_tensor_fill(fonio_tensor *tensor, double value);

/* tensor.copy_(source): copies with conversion and broadcasting. Overlapping memory is allowed. FONIO_RUNTIME_ERROR
 * with torch's text when `source` cannot be broadcast. */
FONIO_API fonio_status fonio_tensor_copy(fonio_tensor *tensor, const fonio_tensor *source);

/* ---- Random numbers in place ----
 *
 * Any strides. The numbers are drawn in torch's order, which is that of the memory: the dimension with the smallest
 * stride runs fastest, whatever its place in the shape. On failure nothing is drawn and the tensor is as it was. The
 * failures of fonio_tensor_fill, and FONIO_RUNTIME_ERROR with torch's texts when elements share their memory by a
 * stride of 0, FONIO_NOT_IMPLEMENTED for a dtype that torch does not draw in. */

/* tensor.uniform_(from, to): x * (to - from) + from with one rounding, x uniform in [0, 1); a result equal to `to`
 * becomes `from`. The bits of torch on AVX2 and AVX-512. FONIO_RUNTIME_ERROR with torch's texts for bounds that are out
 * of order or too large. */
FONIO_API fonio_status fonio_tensor_uniform(fonio_tensor *tensor, double from, double to);

/* tensor.normal_(mean, std), by Box and Muller. Contiguous tensors of 16 numbers and more take torch's vector path, in
 * float32 and the half types with its bits on AVX2 and AVX-512. Other tensors, and float64, go through libm's log,
 * log1p, sin and cos: the bits of a torch that uses the same libm, otherwise a few units of float64's last place from
 * them. FONIO_RUNTIME_ERROR for std < 0. */
FONIO_API fonio_status fonio_tensor_normal(fonio_tensor *tensor, double mean, double std);

/* tensor.random_(from, to): whole numbers in [from, to); torch's bits. FONIO_RUNTIME_ERROR as fonio_tensor_randint. */
FONIO_API fonio_status fonio_tensor_random(fonio_tensor *tensor, int64_t from, int64_t to);

/* The same three with torch's `generator=generator`. */
FONIO_API fonio_status fonio_generator_uniform(fonio_generator *generator, fonio_tensor *tensor, double from,
                                               double to);
FONIO_API fonio_status fonio_generator_normal(fonio_generator *generator, fonio_tensor *tensor, double mean,
                                              double std);
FONIO_API fonio_status fonio_generator_random(fonio_generator *generator, fonio_tensor *tensor, int64_t from,
                                              int64_t to);

#ifdef __cplusplus
}
#endif

#endif
