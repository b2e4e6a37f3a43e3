/* What a tensor knows of gradients. */
#include "autograd/node.h"
#include "base/error.h"

bool fonio_tensor_requires_grad(const fonio_tensor *tensor) {
  return tensor && tensor->requires_grad;
}

bool fonio_tensor_is_leaf(const fonio_tensor *tensor) {
  return tensor && !tensor->node;
}

const char *fonio_tensor_grad_fn_name(const fonio_tensor *tensor) {
  return tensor && tensor->node ? tensor->history->name(tensor->node) : NULL;
}

fonio_status fonio_tensor_set_requires_grad(fonio_tensor *tensor, bool requires_grad) {
  if (!tensor) return fail_given_null("fonio_tensor_set_requires_grad");
  if (tensor->node && !requires_grad)
    return fail(FONIO_RUNTIME_ERROR,
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in "
                "a subgraph that doesn't require differentiation use var_no_grad = var.detach().");
  if (requires_grad && !fonio_dtype_is_floating_point(tensor->dtype) && !fonio_dtype_is_complex(tensor->dtype))
    return fail(FONIO_RUNTIME_ERROR, "only Tensors of floating point dtype can require gradients");
  tensor->requires_grad = requires_grad;
  return FONIO_OK;
}

fonio_tensor *fonio_tensor_detach(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_detach"), NULL;
  return tensor_view(tensor, tensor->ndim, tensor->shape, tensor->strides, tensor->offset);
}

/* ---- tensor.grad ---- */

fonio_tensor *fonio_tensor_grad(const fonio_tensor *tensor) {
  if (!tensor) return NULL;
  if (tensor->node && !tensor->retains_grad && !tensor->grad)
    warn("The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be "
         "populated during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf "
         "Tensor, use .retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure "
         "you access the leaf Tensor instead. See github.com/pytorch/pytorch/pull/30531 for more information.");
  return tensor->grad;
}

static fonio_status check_grad(const fonio_tensor *tensor, const fonio_tensor *grad) {
  if (grad == tensor) return fail(FONIO_RUNTIME_ERROR, "can't assign Variable as its own grad");
  if (grad->dtype != tensor->dtype)
    return fail(FONIO_RUNTIME_ERROR,
                "attempting to assign a gradient with dtype '%s' to a tensor with grad_dtype '%s'. The gradient must "
                "match the tensor's grad_dtype (defaults to the tensor's dtype). You can set the tensor's grad_dtype "
                "attribute with a specific dtype, or None to allow any dtype. Set grad_dtype with caution. Diverging "
                "the dtypes of a tensor and its gradient may break downstream systems that assume they match.",
                fonio_dtype_cpp_name(grad->dtype), fonio_dtype_scalar_name(tensor->dtype));
  if (!tensor_same_shape(tensor, grad))
    return fail(FONIO_RUNTIME_ERROR,
                "attempting to assign a gradient of size '%s' to a tensor of size '%s'. Please ensure that the "
                "gradient and the tensor are the same size",
                shape_to_text(grad->ndim, grad->shape).text, shape_to_text(tensor->ndim, tensor->shape).text);
  return FONIO_OK;
}

fonio_status fonio_tensor_set_grad(fonio_tensor *tensor, fonio_tensor *grad) {
  if (!tensor) return fail_given_null("fonio_tensor_set_grad");
  if (grad && check_grad(tensor, grad)) return fonio_last_status();
  fonio_tensor *kept = NULL;
  /* A history could lead back to `tensor`, which would then hold itself. */
  if (grad) kept = grad->node ? fonio_tensor_detach(grad) : fonio_tensor_retain(grad);
  if (grad && !kept) return fonio_last_status();
  autograd_lock();
  fonio_tensor *before = tensor->grad;
  tensor->grad = kept;
  autograd_unlock();
  fonio_tensor_release(before);
  return FONIO_OK;
}

fonio_status fonio_tensor_retain_grad(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_retain_grad");
  if (!tensor->requires_grad)
    return fail(FONIO_RUNTIME_ERROR, "can't retain_grad on Tensor that has requires_grad=False");
  if (!tensor->node) return FONIO_OK;
  tensor->retains_grad = true;
  autograd_node_keep_output(tensor->node, tensor);
  return FONIO_OK;
}
