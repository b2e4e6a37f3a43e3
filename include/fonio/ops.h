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

/* tensor.sum() and tensor.mean(): of all elements, a tensor with no dimensions. */
FONIO_NEW fonio_tensor *fonio_tensor_sum(fonio_tensor *tensor);
FONIO_NEW fonio_tensor *fonio_tensor_mean(fonio_tensor *tensor);

/* tensor.sum(dims, keepdim) and tensor.mean(dims, keepdim): over `count` dimensions, negative from the end; 0: over
 * all. They go, or have one element. Float32 is added up in double precision. FONIO_INDEX_ERROR, FONIO_RUNTIME_ERROR
 * with torch's texts. */
FONIO_NEW fonio_tensor *fonio_tensor_sum_dims(fonio_tensor *tensor, int count, const int64_t *dims, bool keepdim);
FONIO_NEW fonio_tensor *fonio_tensor_mean_dims(fonio_tensor *tensor, int count, const int64_t *dims, bool keepdim);

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
