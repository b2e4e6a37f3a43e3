/* Copies with their gradients, which pass through. */
#include "autograd/node.h"
#include "base/error.h"

static fonio_status clone_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                fonio_tensor **gradients) {
  (void)node, (void)wanted;
  gradients[0] = fonio_tensor_retain(gradient);
  return FONIO_OK;
}

static const autograd_operation clone_operation = {"CloneBackward0", false, clone_apply};
static const autograd_operation grad_operation = {"CopyBackwards", false, clone_apply};

fonio_tensor *fonio_tensor_clone(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_clone"), NULL;
  return autograd_record(tensor_clone(tensor), &clone_operation, 1, &tensor, NULL, 0);
}

fonio_tensor *fonio_tensor_contiguous(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_contiguous"), NULL;
  if (fonio_tensor_is_contiguous(tensor)) return fonio_tensor_retain(tensor);
  return autograd_record(tensor_copy_contiguous(tensor), &clone_operation, 1, &tensor, NULL, 0);
}

fonio_tensor *fonio_tensor_channels_last(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_channels_last"), NULL;
  if (fonio_tensor_is_channels_last(tensor)) return fonio_tensor_retain(tensor);
  return autograd_record(tensor_copy_channels_last(tensor), &clone_operation, 1, &tensor, NULL, 0);
}

static fonio_status to_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                             fonio_tensor **gradients) {
  (void)wanted;
  gradients[0] = fonio_tensor_to(gradient, node->shapes[0].dtype);
  return autograd_made(gradients[0]);
}

static const autograd_operation to_operation = {"ToCopyBackward0", false, to_apply};

fonio_tensor *fonio_tensor_to(fonio_tensor *tensor, fonio_dtype dtype) {
  if (!tensor) return fail_given_null("fonio_tensor_to"), NULL;
  if (tensor->dtype == dtype) return fonio_tensor_retain(tensor);
  return autograd_record(tensor_convert(tensor, dtype), &to_operation, 1, &tensor, NULL, 0);
}

fonio_tensor *autograd_record_grad(fonio_tensor *copy, fonio_tensor *gradient) {
  return autograd_record(copy, &grad_operation, 1, &gradient, NULL, 0);
}
