/* sum and mean with their gradients: every element that was added has the same. */
#include "autograd/node.h"
#include "base/checked.h"
#include "base/error.h"
#include "tensor/index.h"

/* The dimensions that are summed over. */
typedef struct reduction {
  bool reduced[FONIO_MAX_DIMS];
  int64_t count; /* elements in each sum */
} reduction;

/* Without dimensions given, as in torch, all. */
static fonio_status resolve(reduction *of, const fonio_tensor *tensor, int count, const int64_t *dims) {
  *of = (reduction){.count = 1};
  for (int i = 0; i < count; i++) {
    int dim = index_wrap_dim(dims[i], tensor->ndim > 0 ? tensor->ndim : 1);
    if (dim < 0) return fonio_last_status();
    if (of->reduced[dim]) return fail(FONIO_RUNTIME_ERROR, "dim %d appears multiple times in the list of dims", dim);
    of->reduced[dim] = true;
  }
  for (int i = 0; i < tensor->ndim; i++) {
    of->reduced[i] = of->reduced[i] || count == 0;
    if (of->reduced[i]) of->count *= tensor->shape[i];
  }
  return FONIO_OK;
}

/* The shape of the sums: where they are kept, dimensions that were summed over have one element. */
static int shape_of_sums(const reduction *of, int ndim, const int64_t *sizes, bool keepdim, int64_t *shape) {
  int kept = 0;
  for (int i = 0; i < ndim; i++)
    if (keepdim || !of->reduced[i]) shape[kept++] = of->reduced[i] ? 1 : sizes[i];
  return kept;
}

static fonio_tensor *sums(const reduction *of, const fonio_tensor *tensor, bool keepdim) {
  int64_t shape[FONIO_MAX_DIMS];
  shape_of_sums(of, tensor->ndim, tensor->shape, true, shape);
  fonio_tensor *kept = tensor_sum_to(tensor, tensor->ndim, shape);
  if (!kept || keepdim) return kept;
  fonio_tensor *result = tensor_reshape(kept, shape_of_sums(of, tensor->ndim, tensor->shape, false, shape), shape);
  fonio_tensor_release(kept);
  return result;
}

/* Takes `sum` (which may be NULL) over: a view without the dimensions of one element that it has kept beyond `shape`.
 */
static fonio_tensor *without_kept(fonio_tensor *sum, const autograd_shape *shape) {
  if (!sum || sum->ndim == shape->ndim) return sum;
  fonio_tensor *view = fonio_tensor_reshape(sum, shape->ndim, shape->sizes);
  fonio_tensor_release(sum);
  return view;
}

/* The gradient of what `spread` made: summed again where it was spread, and of the sums' shape. */
static fonio_status spread_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                 fonio_tensor **gradients) {
  (void)wanted;
  const reduction *of = node->attributes;
  autograd_shape kept;
  kept.ndim = shape_of_sums(of, gradient->ndim, gradient->shape, true, kept.sizes);
  gradients[0] = without_kept(autograd_sum_to(gradient, &kept), &node->shapes[0]);
  return autograd_made(gradients[0]);
}

static const autograd_operation spread_operation = {"ExpandBackward0", true, spread_apply};

/* The gradient of the sums, for each element that went into one: a view. Strides are torch's, of dimensions with one
 * element too: the order in which the next operation lays its result out may hang on them. */
static fonio_tensor *spread(const autograd_node *node, fonio_tensor *gradient) {
  const reduction *of = node->attributes;
  const autograd_shape *input = &node->shapes[0];
  bool keepdim = gradient->ndim == input->ndim;
  int64_t strides[FONIO_MAX_DIMS];
  for (int i = 0, from = 0; i < input->ndim; i++) {
    bool is_new = of->reduced[i] && !keepdim, is_last = from == gradient->ndim;
    strides[i] = is_last ? 1 : gradient->strides[from];
    if (is_new && !is_last && !checked_mul(gradient->shape[from], strides[i], &strides[i])) strides[i] = 1;
    if (of->reduced[i] && input->sizes[i] != 1) strides[i] = 0;
    if (!is_new) from++;
  }
  fonio_tensor *view = tensor_view(gradient, input->ndim, input->sizes, strides, gradient->offset);
  return autograd_record(view, &spread_operation, 1, &gradient, of, sizeof *of);
}

/* ---- sum ---- */

static fonio_status sum_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  (void)wanted;
  gradients[0] = spread(node, gradient);
  return autograd_made(gradients[0]);
}

static const autograd_operation sum_operation = {"SumBackward0", false, sum_apply};
static const autograd_operation sum_dims_operation = {"SumBackward1", false, sum_apply};

fonio_tensor *fonio_tensor_sum(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_sum"), NULL;
  reduction of;
  if (resolve(&of, tensor, 0, NULL)) return NULL;
  return autograd_record(tensor_sum(tensor), &sum_operation, 1, &tensor, &of, sizeof of);
}

fonio_tensor *fonio_tensor_sum_dims(fonio_tensor *tensor, int count, const int64_t *dims, bool keepdim) {
  if (!tensor || (count > 0 && !dims)) return fail_given_null("fonio_tensor_sum_dims"), NULL;
  reduction of;
  if (resolve(&of, tensor, count, dims)) return NULL;
  return autograd_record(sums(&of, tensor, keepdim), &sum_dims_operation, 1, &tensor, &of, sizeof of);
}

fonio_tensor *autograd_sum_to(fonio_tensor *gradient, const autograd_shape *shape) {
  int64_t dims[FONIO_MAX_DIMS];
  int count = 0, leading = gradient->ndim - shape->ndim;
  for (int i = 0; i < gradient->ndim; i++)
    if (i < leading || (shape->sizes[i - leading] == 1 && gradient->shape[i] != 1)) dims[count++] = i;
  if (count == 0) return fonio_tensor_retain(gradient);
  if (shape->ndim == 0) return fonio_tensor_sum(gradient);
  return without_kept(fonio_tensor_sum_dims(gradient, count, dims, true), shape);
}

/* ---- mean ---- */

static fonio_status check_mean(const fonio_tensor *tensor) {
  if (fonio_dtype_is_floating_point(tensor->dtype) || fonio_dtype_is_complex(tensor->dtype)) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR,
              "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
              "Got: %s",
              fonio_dtype_scalar_name(tensor->dtype));
}

/* Takes `sum` (which may be NULL) over. Torch divides in place: an empty one keeps its strides, which a quotient would
 * not. */
static fonio_tensor *share_of(fonio_tensor *sum, int64_t count) {
  if (sum && fonio_tensor_numel(sum) == 0) return sum;
  fonio_tensor *number = sum ? fonio_tensor_full(sum->dtype, (double)count, FONIO_SCALAR) : NULL;
  fonio_tensor *mean = number ? tensor_div(sum, number) : NULL;
  fonio_tensor_release(number);
  fonio_tensor_release(sum);
  return mean;
}

static fonio_status mean_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                               fonio_tensor **gradients) {
  (void)wanted;
  const reduction *of = node->attributes;
  fonio_tensor *all = spread(node, gradient);
  gradients[0] = autograd_div_number(all, (double)of->count);
  fonio_tensor_release(all);
  return autograd_made(gradients[0]);
}

static const autograd_operation mean_operation = {"MeanBackward0", false, mean_apply};
static const autograd_operation mean_dims_operation = {"MeanBackward1", false, mean_apply};

fonio_tensor *fonio_tensor_mean(fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_mean"), NULL;
  reduction of;
  if (check_mean(tensor) || resolve(&of, tensor, 0, NULL)) return NULL;
  return autograd_record(share_of(tensor_sum(tensor), of.count), &mean_operation, 1, &tensor, &of, sizeof of);
}

fonio_tensor *fonio_tensor_mean_dims(fonio_tensor *tensor, int count, const int64_t *dims, bool keepdim) {
  if (!tensor || (count > 0 && !dims)) return fail_given_null("fonio_tensor_mean_dims"), NULL;
  reduction of;
  if (check_mean(tensor) || resolve(&of, tensor, count, dims)) return NULL;
  fonio_tensor *mean = share_of(sums(&of, tensor, keepdim), of.count);
  return autograd_record(mean, &mean_dims_operation, 1, &tensor, &of, sizeof of);
}
