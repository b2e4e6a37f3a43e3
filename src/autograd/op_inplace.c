/* Writing into tensors: what gradients forbid. */
#include "autograd/node.h"
#include "base/error.h"
#include "tensor/copy.h"

/* Whether the tensor is a view of a leaf that requires a gradient, or a view of such a view. */
static bool is_view_of_leaf(const autograd_node *node) {
  while (node && node->operation->is_view) {
    if (node->edges[0].leaf) return true;
    node = node->edges[0].node;
  }
  return false;
}

fonio_status autograd_check_writable(const fonio_tensor *tensor) {
  if (!tensor->requires_grad || !fonio_grad_enabled()) return FONIO_OK;
  if (!tensor->node)
    return fail(FONIO_RUNTIME_ERROR, "a leaf Variable that requires grad is being used in an in-place operation.");
  if (is_view_of_leaf(tensor->node))
    return fail(FONIO_RUNTIME_ERROR,
                "a view of a leaf Variable that requires grad is being used in an in-place operation.");
  return fail(FONIO_NOT_IMPLEMENTED, "an in-place operation on a tensor with a history (%s) is not implemented",
              fonio_tensor_grad_fn_name(tensor));
}

/* Whether the copy would have to be in the history of `tensor`. */
static fonio_status check_source(const fonio_tensor *tensor, const fonio_tensor *source) {
  if (!source->requires_grad || !fonio_grad_enabled() || !fonio_dtype_is_floating_point(tensor->dtype)) return FONIO_OK;
  return fail(FONIO_NOT_IMPLEMENTED, "copying a tensor that requires a gradient into another is not implemented");
}

fonio_status fonio_tensor_fill(fonio_tensor *tensor, double value) {
  if (!tensor) return fail_given_null("fonio_tensor_fill");
  fonio_status status = autograd_check_writable(tensor);
  if (status) return status;
  fill_values(tensor, value);
  tensor_touch(tensor);
  return FONIO_OK;
}

fonio_status fonio_tensor_copy(fonio_tensor *tensor, const fonio_tensor *source) {
  if (!tensor || !source) return fail_given_null("fonio_tensor_copy");
  fonio_status status = autograd_check_writable(tensor);
  if (!status) status = check_source(tensor, source);
  return status ? status : tensor_copy(tensor, source);
}
