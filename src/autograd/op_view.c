/* Views with their gradients: the gradient of a view is laid into zeros, or goes back to the shape that it came from.
 */
#include <string.h>

#include "autograd/node.h"
#include "base/error.h"
#include "tensor/copy.h"
#include "tensor/index.h"

/* ---- select and slice: a part ---- */

typedef struct part {
  int dim;
  int64_t start, end, step;
} part;

/* Lays `gradient` into zeros of the input's shape, where `view` of them shows; takes `view` over. */
static fonio_tensor *lay_into(fonio_tensor *zeros, fonio_tensor *view, const fonio_tensor *gradient) {
  if (!view) {
    fonio_tensor_release(zeros);
    return NULL;
  }
  copy_values(view, gradient);
  fonio_tensor_release(view);
  return zeros;
}

static fonio_tensor *zeros_of(const autograd_shape *shape) {
  return fonio_tensor_zeros(shape->dtype, shape->ndim, shape->sizes);
}

/* The gradient of what was laid into zeros is what shows there of the gradient of all. */
static fonio_status laid_select_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                      fonio_tensor **gradients) {
  (void)wanted;
  const part *from = node->attributes;
  gradients[0] = fonio_tensor_select(gradient, from->dim, from->start);
  return autograd_made(gradients[0]);
}

static const autograd_operation laid_select_operation = {"SelectBackwardBackward0", false, laid_select_apply};

static fonio_status select_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                 fonio_tensor **gradients) {
  (void)wanted;
  const part *from = node->attributes;
  fonio_tensor *zeros = zeros_of(&node->shapes[0]);
  fonio_tensor *laid = lay_into(zeros, zeros ? tensor_select(zeros, from->dim, from->start) : NULL, gradient);
  gradients[0] = autograd_record(laid, &laid_select_operation, 1, &gradient, from, sizeof *from);
  return autograd_made(gradients[0]);
}

static const autograd_operation select_operation = {"SelectBackward0", true, select_apply};

fonio_tensor *fonio_tensor_select(fonio_tensor *tensor, int dim, int64_t index) {
  if (!tensor) return fail_given_null("fonio_tensor_select"), NULL;
  part from = {.dim = dim, .start = index};
  return autograd_record(tensor_select(tensor, dim, index), &select_operation, 1, &tensor, &from, sizeof from);
}

static fonio_status laid_slice_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                     fonio_tensor **gradients) {
  (void)wanted;
  const part *from = node->attributes;
  gradients[0] = fonio_tensor_slice(gradient, from->dim, from->start, from->end, from->step);
  return autograd_made(gradients[0]);
}

static const autograd_operation laid_slice_operation = {"SliceBackwardBackward0", false, laid_slice_apply};

static fonio_status slice_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                fonio_tensor **gradients) {
  (void)wanted;
  const part *from = node->attributes;
  fonio_tensor *zeros = zeros_of(&node->shapes[0]);
  fonio_tensor *view = zeros ? tensor_slice(zeros, from->dim, from->start, from->end, from->step) : NULL;
  gradients[0] =
      autograd_record(lay_into(zeros, view, gradient), &laid_slice_operation, 1, &gradient, from, sizeof *from);
  return autograd_made(gradients[0]);
}

static const autograd_operation slice_operation = {"SliceBackward0", true, slice_apply};

fonio_tensor *fonio_tensor_slice(fonio_tensor *tensor, int dim, int64_t start, int64_t end, int64_t step) {
  if (!tensor) return fail_given_null("fonio_tensor_slice"), NULL;
  part from = {dim, start, end, step};
  return autograd_record(tensor_slice(tensor, dim, start, end, step), &slice_operation, 1, &tensor, &from, sizeof from);
}

/* ---- index ---- */

static fonio_status alias_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                fonio_tensor **gradients) {
  (void)node, (void)wanted;
  gradients[0] = fonio_tensor_retain(gradient);
  return FONIO_OK;
}

static const autograd_operation alias_operation = {"AliasBackward0", true, alias_apply};

fonio_tensor *fonio_tensor_index(fonio_tensor *tensor, int count, const int64_t *index) {
  if (!tensor || (count > 0 && !index)) return fail_given_null("fonio_tensor_index"), NULL;
  if (index_check(tensor, count, index)) return NULL;
  if (count == 0) return autograd_record(fonio_tensor_detach(tensor), &alias_operation, 1, &tensor, NULL, 0);
  fonio_tensor *result = fonio_tensor_select(tensor, 0, index[0]);
  for (int i = 1; result && i < count; i++) {
    fonio_tensor *part_of = result;
    result = fonio_tensor_select(part_of, 0, index[i]);
    fonio_tensor_release(part_of);
  }
  return result;
}

/* ---- permute, expand, reshape, flatten: all elements ---- */

static fonio_status permute_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                  fonio_tensor **gradients) {
  (void)wanted;
  const int64_t *order = node->attributes;
  int64_t back[FONIO_MAX_DIMS] = {0};
  for (int i = 0; i < gradient->ndim; i++)
    back[order[i] < 0 ? order[i] + gradient->ndim : order[i]] = i;
  gradients[0] = fonio_tensor_permute(gradient, gradient->ndim, back);
  return autograd_made(gradients[0]);
}

static const autograd_operation permute_operation = {"PermuteBackward0", true, permute_apply};

fonio_tensor *fonio_tensor_permute(fonio_tensor *tensor, int ndim, const int64_t *order) {
  if (!tensor || (ndim > 0 && !order)) return fail_given_null("fonio_tensor_permute"), NULL;
  return autograd_record(tensor_permute(tensor, ndim, order), &permute_operation, 1, &tensor, order,
                         tensor->ndim * (int64_t)sizeof *order);
}

static fonio_status expand_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                 fonio_tensor **gradients) {
  (void)wanted;
  /* Of a scalar torch sums also where nothing was expanded, which the next grad_fn tells. */
  const autograd_shape *shape = &node->shapes[0];
  gradients[0] = shape->ndim == 0 ? fonio_tensor_sum(gradient) : autograd_sum_to(gradient, shape);
  return autograd_made(gradients[0]);
}

static const autograd_operation expand_operation = {"ExpandBackward0", true, expand_apply};

fonio_tensor *fonio_tensor_expand(fonio_tensor *tensor, int ndim, const int64_t *shape) {
  if (!tensor || (ndim > 0 && !shape)) return fail_given_null("fonio_tensor_expand"), NULL;
  return autograd_record(tensor_expand(tensor, ndim, shape), &expand_operation, 1, &tensor, NULL, 0);
}

static fonio_status reshape_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                  fonio_tensor **gradients) {
  (void)wanted;
  gradients[0] = fonio_tensor_reshape(gradient, node->shapes[0].ndim, node->shapes[0].sizes);
  return autograd_made(gradients[0]);
}

/* torch reshapes in one of three ways, and grad_fn tells which. */
static const autograd_operation view_operation = {"ViewBackward0", true, reshape_apply};
static const autograd_operation reshape_alias_operation = {"ReshapeAliasBackward0", true, reshape_apply};
static const autograd_operation unsafe_view_operation = {"UnsafeViewBackward0", false, reshape_apply};

fonio_tensor *fonio_tensor_reshape(fonio_tensor *tensor, int ndim, const int64_t *shape) {
  if (!tensor || (ndim > 0 && !shape)) return fail_given_null("fonio_tensor_reshape"), NULL;
  fonio_tensor *result = tensor_reshape(tensor, ndim, shape);
  bool copied = result && result->storage != tensor->storage;
  const autograd_operation *operation = copied                               ? &unsafe_view_operation
                                        : fonio_tensor_is_contiguous(tensor) ? &view_operation
                                                                             : &reshape_alias_operation;
  return autograd_record(result, operation, 1, &tensor, NULL, 0);
}

fonio_tensor *fonio_tensor_flatten(fonio_tensor *tensor, int start_dim, int end_dim) {
  if (!tensor) return fail_given_null("fonio_tensor_flatten"), NULL;
  int64_t shape[FONIO_MAX_DIMS];
  int ndim = 0, start = index_wrap_dim(start_dim, tensor->ndim > 0 ? tensor->ndim : 1);
  int end = start < 0 ? -1 : index_wrap_dim(end_dim, tensor->ndim > 0 ? tensor->ndim : 1);
  if (end < 0) return NULL;
  if (start > end)
    return fail_null(FONIO_RUNTIME_ERROR, "flatten() has invalid args: start_dim cannot come after end_dim");
  if (tensor->ndim == 0) return fonio_tensor_reshape(tensor, FONIO_SHAPE(1));
  if (start == end) return fonio_tensor_retain(tensor);
  for (int i = 0; i < tensor->ndim; i++)
    if (i > start && i <= end)
      shape[ndim - 1] *= tensor->shape[i];
    else
      shape[ndim++] = tensor->shape[i];
  return fonio_tensor_reshape(tensor, ndim, shape);
}
