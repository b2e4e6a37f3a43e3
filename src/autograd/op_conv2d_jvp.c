/* conv2d's derivative along tangents: it is linear in the image and in the weight, so it is convolutions again. */
#include "autograd/node.h"
#include "base/error.h"

static fonio_status check_tangent(const fonio_tensor *of, const fonio_tensor *tangent) {
  if (!tangent) return FONIO_OK;
  if (!of) return fail(FONIO_VALUE_ERROR, "a tangent of the bias needs a bias");
  if (tensor_same_shape(of, tangent)) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR,
              "Trying to set a forward gradient that has a different size than that of the original Tensor, this is "
              "not supported. Tensor is of size %s while the given forward gradient is of size %s.",
              shape_to_text(of->ndim, of->shape).text, shape_to_text(tangent->ndim, tangent->shape).text);
}

/* Of zeros where neither the image nor the weight has a tangent. */
static fonio_tensor *along_bias(const fonio_tensor *input, const fonio_tensor *weight, const fonio_conv2d_args *args,
                                fonio_tensor *tangent) {
  fonio_tensor *image = fonio_tensor_zeros(input->dtype, input->ndim, input->shape);
  fonio_tensor *kernels = image ? fonio_tensor_zeros(weight->dtype, weight->ndim, weight->shape) : NULL;
  fonio_tensor *result = kernels ? fonio_tensor_conv2d_with(image, kernels, tangent, args) : NULL;
  fonio_tensor_release(kernels);
  fonio_tensor_release(image);
  return result;
}

fonio_tensor *fonio_tensor_conv2d_jvp_with(fonio_tensor *input, fonio_tensor *weight, fonio_tensor *bias,
                                           const fonio_conv2d_args *args, fonio_tensor *input_tangent,
                                           fonio_tensor *weight_tangent, fonio_tensor *bias_tangent) {
  if (!input || !weight) return fail_given_null("fonio_tensor_conv2d_jvp"), NULL;
  if (check_tangent(input, input_tangent) || check_tangent(weight, weight_tangent) || check_tangent(bias, bias_tangent))
    return NULL;
  if (!input_tangent && !weight_tangent) return along_bias(input, weight, args, bias_tangent);
  if (!input_tangent) return fonio_tensor_conv2d_with(input, weight_tangent, bias_tangent, args);
  fonio_tensor *first = fonio_tensor_conv2d_with(input_tangent, weight, bias_tangent, args);
  if (!first || !weight_tangent) return first;
  fonio_tensor *second = fonio_tensor_conv2d_with(input, weight_tangent, NULL, args);
  fonio_tensor *sum = second ? fonio_tensor_add(first, second) : NULL;
  fonio_tensor_release(second);
  fonio_tensor_release(first);
  return sum;
}
