/* nll_loss and cross_entropy with their gradients. */
#include <string.h>

#include "autograd/node.h"
#include "base/error.h"
#include "tensor/storage.h"

/* What is looked up, and how much each counts. The input is seen as (batch, classes, inner). */
typedef struct lookup {
  fonio_reduction reduction;
  int64_t ignore_index, batch, classes, inner, counted;
} lookup;

/* ---- What it is asked of ---- */

static fonio_status check_dtypes(const fonio_tensor *input, const fonio_tensor *target) {
  if (target->dtype != FONIO_INT64 && target->dtype != FONIO_UINT8)
    return fail(FONIO_RUNTIME_ERROR, "expected target dtype to be Long or Byte, but got %s",
                fonio_dtype_scalar_name(target->dtype));
  if (input->dtype != FONIO_FLOAT32 && input->dtype != FONIO_FLOAT64)
    return fail(FONIO_NOT_IMPLEMENTED, "\"nll_loss_out_frame\" not implemented for '%s'",
                fonio_dtype_scalar_name(input->dtype));
  return FONIO_OK;
}

static fonio_status check_sizes(const fonio_tensor *input, const fonio_tensor *target) {
  int64_t expected[FONIO_MAX_DIMS] = {input->shape[0]};
  for (int i = 2; i < input->ndim; i++)
    expected[i - 1] = input->shape[i];
  bool fits = target->ndim == input->ndim - 1;
  for (int i = 0; fits && i < target->ndim; i++)
    fits = expected[i] == target->shape[i];
  if (fits) return FONIO_OK;
  if (input->ndim == 4)
    return fail(FONIO_RUNTIME_ERROR, "size mismatch (got input: %s , target: %s",
                shape_to_text(input->ndim, input->shape).text, shape_to_text(target->ndim, target->shape).text);
  return fail(FONIO_RUNTIME_ERROR, "Expected target size %s, got %s", shape_to_text(input->ndim - 1, expected).text,
              shape_to_text(target->ndim, target->shape).text);
}

/* More than (batch, classes). PyTorch looks at dtypes before sizes for four dimensions, and after them for others. */
static fonio_status check_spatial(const fonio_tensor *input, const fonio_tensor *target) {
  bool image = input->ndim == 4;
  if (image && target->ndim != 3)
    return fail(FONIO_RUNTIME_ERROR,
                "only batches of spatial targets supported (3D tensors) but got targets of dimension: %d",
                target->ndim);
  fonio_status status = image ? check_dtypes(input, target) : check_sizes(input, target);
  if (status == FONIO_OK) status = image ? check_sizes(input, target) : check_dtypes(input, target);
  if (status == FONIO_OK && target->dtype != FONIO_INT64)
    return fail(FONIO_RUNTIME_ERROR, "expected scalar type Long but found Byte");
  return status;
}

static fonio_status check_shapes(const fonio_tensor *input, const fonio_tensor *target) {
  if (input->ndim == 0) return fail(FONIO_VALUE_ERROR, "Expected 1 or more dimensions (got 0)");
  if (input->ndim == 1 && target->ndim == 1 && target->shape[0] != 1)
    return fail(FONIO_VALUE_ERROR, "For 1D input, 1D target must have size 1, but got target size: %lld",
                (long long)target->shape[0]);
  if (input->ndim > 1 && (target->ndim == 0 || input->shape[0] != target->shape[0]))
    return fail(FONIO_VALUE_ERROR, "Expected input batch_size (%lld) to match target batch_size (%lld).",
                (long long)input->shape[0], target->ndim > 0 ? (long long)target->shape[0] : 1);
  if (input->ndim > 2) return check_spatial(input, target);
  if (target->ndim > 1 || target->ndim < input->ndim - 1)
    return fail(FONIO_RUNTIME_ERROR, "0D or 1D target tensor expected, multi-target not supported");
  return check_dtypes(input, target);
}

/* The targets as int64, contiguous, each a class or ignored; counts those that are not. */
static fonio_tensor *take_targets(lookup *of, const fonio_tensor *target) {
  fonio_tensor *classes = tensor_convert(target, FONIO_INT64);
  fonio_tensor *targets = classes ? tensor_copy_contiguous(classes) : NULL;
  fonio_tensor_release(classes);
  const int64_t *numbers = targets ? tensor_at_offset(targets) : NULL;
  for (int64_t i = 0; targets && i < targets->numel; i++) {
    if (numbers[i] == of->ignore_index) continue;
    of->counted++;
    if (numbers[i] >= 0 && numbers[i] < of->classes) continue;
    fail(FONIO_INDEX_ERROR, "Target %lld is out of bounds.", (long long)numbers[i]);
    fonio_tensor_release(targets);
    return NULL;
  }
  return targets;
}

static lookup lookup_for(const fonio_tensor *input, int64_t ignore_index, fonio_reduction reduction) {
  lookup of = {.reduction = reduction, .ignore_index = ignore_index, .inner = 1};
  of.batch = input->ndim == 1 ? 1 : input->shape[0];
  of.classes = input->shape[input->ndim > 1];
  for (int i = 2; i < input->ndim; i++)
    of.inner *= input->shape[i];
  return of;
}

/* ---- Values ---- */

/* The place of target `i` in a contiguous input; -1: ignored. */
static int64_t place_of(const lookup *of, const int64_t *targets, int64_t i) {
  if (targets[i] == of->ignore_index) return -1;
  return (i / of->inner * of->classes + targets[i]) * of->inner + i % of->inner;
}

static void *element(const fonio_tensor *contiguous, int64_t place) {
  return (char *)tensor_at_offset(contiguous) + place * (int64_t)fonio_dtype_bytes(contiguous->dtype);
}

/* -1, or -1 over the number of targets. */
static double factor_of(const lookup *of) {
  return of->reduction == FONIO_REDUCTION_MEAN ? -1 / (double)of->counted : -1;
}

/* The losses, or their sum or mean. */
static fonio_tensor *gather(const lookup *of, const fonio_tensor *input, const fonio_tensor *targets) {
  bool each = of->reduction == FONIO_REDUCTION_NONE;
  fonio_tensor *from = tensor_copy_contiguous(input);
  fonio_tensor *loss = from ? fonio_tensor_zeros(input->dtype, each ? targets->ndim : 0, targets->shape) : NULL;
  double sum = 0;
  for (int64_t i = 0; loss && i < targets->numel; i++) {
    int64_t place = place_of(of, tensor_at_offset(targets), i);
    double value = place < 0 ? 0 : tensor_read_element(from->dtype, element(from, place));
    if (each) tensor_write_element(loss->dtype, element(loss, i), place < 0 ? 0 : -value);
    sum += value;
  }
  if (loss && !each) {
    double mean = of->reduction == FONIO_REDUCTION_MEAN ? sum / (double)of->counted : sum;
    tensor_write_element(loss->dtype, tensor_at_offset(loss), -mean);
  }
  fonio_tensor_release(from);
  return loss;
}

/* The gradient of an input of that shape. */
static fonio_tensor *scatter(const lookup *of, const fonio_tensor *gradient, const fonio_tensor *targets,
                             const autograd_shape *shape) {
  bool each = of->reduction == FONIO_REDUCTION_NONE;
  fonio_tensor *from = tensor_copy_contiguous(gradient);
  fonio_tensor *result = from ? fonio_tensor_zeros(shape->dtype, shape->ndim, shape->sizes) : NULL;
  for (int64_t i = 0; result && i < targets->numel; i++) {
    int64_t place = place_of(of, tensor_at_offset(targets), i);
    double value = tensor_read_element(from->dtype, element(from, each ? i : 0));
    if (place >= 0) tensor_write_element(result->dtype, element(result, place), value * factor_of(of));
  }
  fonio_tensor_release(from);
  return result;
}

/* ---- nll_loss: linear in the input, and its gradient in the loss's ---- */

static const autograd_operation scatter_operation;

static fonio_status nll_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                              fonio_tensor **gradients) {
  (void)wanted;
  const lookup *of = node->attributes;
  fonio_tensor *targets = autograd_saved_tensor(node, 0);
  if (!targets) return fonio_last_status();
  fonio_tensor *made = scatter(of, gradient, targets, &node->shapes[0]);
  gradients[0] = autograd_record(made, &scatter_operation, 1, &gradient, of, sizeof *of);
  autograd_save(gradients[0], 0, targets);
  fonio_tensor_release(targets);
  return autograd_made(gradients[0]);
}

static const autograd_operation nll_operation = {"NllLossBackward0", false, nll_apply};
static const autograd_operation nll2d_operation = {"NllLoss2DBackward0", false, nll_apply};
static const autograd_operation nll_list_operation = {"ViewBackward0", false, nll_apply};

/* torch sees all but (N, C) and (N, C, H, W) as the latter, and turns a list of losses back. */
static const autograd_operation *operation_for(const lookup *of, const fonio_tensor *input) {
  if (input->ndim <= 2) return &nll_operation;
  return input->ndim != 4 && of->reduction == FONIO_REDUCTION_NONE ? &nll_list_operation : &nll2d_operation;
}

/* The targets are those of take_targets. */
static fonio_tensor *nll(const lookup *of, fonio_tensor *input, fonio_tensor *targets) {
  fonio_tensor *loss = autograd_record(gather(of, input, targets), operation_for(of, input), 1, &input, of, sizeof *of);
  autograd_save(loss, 0, targets);
  return loss;
}

static fonio_status scatter_apply(autograd_node *node, fonio_tensor *gradient, const bool *wanted,
                                  fonio_tensor **gradients) {
  (void)wanted;
  fonio_tensor *targets = autograd_saved_tensor(node, 0);
  if (!targets) return fonio_last_status();
  gradients[0] = nll(node->attributes, gradient, targets);
  fonio_tensor_release(targets);
  return autograd_made(gradients[0]);
}

static const autograd_operation scatter_operation = {"NllLossBackwardBackward0", false, scatter_apply};

/* Checks a loss's arguments and takes its targets. */
static fonio_tensor *begin(lookup *of, const fonio_tensor *input, const fonio_tensor *target, int64_t ignore_index,
                           fonio_reduction reduction) {
  if ((unsigned)reduction > FONIO_REDUCTION_SUM)
    return fail_null(FONIO_VALUE_ERROR, "%d is not a valid value for reduction", (int)reduction);
  if (check_shapes(input, target)) return NULL;
  *of = lookup_for(input, ignore_index, reduction);
  return take_targets(of, target);
}

fonio_tensor *fonio_tensor_nll_loss(fonio_tensor *input, fonio_tensor *target, int64_t ignore_index,
                                    fonio_reduction reduction) {
  if (!input || !target) return fail_given_null("fonio_tensor_nll_loss"), NULL;
  lookup of;
  fonio_tensor *targets = begin(&of, input, target, ignore_index, reduction);
  fonio_tensor *loss = targets ? nll(&of, input, targets) : NULL;
  fonio_tensor_release(targets);
  return loss;
}

/* ---- cross_entropy ---- */

/* 1 where the target counts, 0 where it is ignored. */
static fonio_tensor *mask_of(const lookup *of, const fonio_tensor *targets, fonio_dtype dtype) {
  fonio_tensor *mask = fonio_tensor_ones(dtype, targets->ndim, targets->shape);
  for (int64_t i = 0; mask && i < targets->numel; i++)
    if (place_of(of, tensor_at_offset(targets), i) < 0) tensor_write_element(dtype, element(mask, i), 0);
  return mask;
}

/* The mean, sum or list of the sums over the classes of -logarithms. */
static fonio_tensor *smooth_loss(const lookup *of, fonio_tensor *logarithms, fonio_tensor *targets) {
  int64_t dim = logarithms->ndim > 1;
  fonio_tensor *sums = fonio_tensor_sum_dims(logarithms, 1, &dim, false), *negative = fonio_tensor_neg(sums);
  fonio_tensor *mask = mask_of(of, targets, logarithms->dtype);
  fonio_tensor *shaped = mask && negative ? fonio_tensor_reshape(mask, negative->ndim, negative->shape) : NULL;
  fonio_tensor *counted = shaped ? autograd_where_positive(negative, shaped) : NULL, *result = NULL;
  if (counted && of->reduction == FONIO_REDUCTION_NONE) result = fonio_tensor_retain(counted);
  if (counted && of->reduction != FONIO_REDUCTION_NONE) result = fonio_tensor_sum(counted);
  if (result && of->reduction == FONIO_REDUCTION_MEAN) {
    fonio_tensor *sum = result;
    result = autograd_div_number(sum, (double)of->counted);
    fonio_tensor_release(sum);
  }
  fonio_tensor_release(counted);
  fonio_tensor_release(shaped);
  fonio_tensor_release(mask);
  fonio_tensor_release(negative);
  fonio_tensor_release(sums);
  return result;
}

static fonio_tensor *mixed_loss(const lookup *of, fonio_tensor *logarithms, fonio_tensor *targets, double smoothing) {
  fonio_tensor *sharp = nll(of, logarithms, targets), *smooth = smooth_loss(of, logarithms, targets);
  fonio_tensor *first = autograd_mul_number(sharp, 1 - smoothing);
  fonio_tensor *second = autograd_mul_number(smooth, smoothing / (double)of->classes);
  fonio_tensor *loss = fonio_tensor_add(first, second);
  fonio_tensor_release(second);
  fonio_tensor_release(first);
  fonio_tensor_release(smooth);
  fonio_tensor_release(sharp);
  return loss;
}

fonio_tensor *fonio_tensor_cross_entropy(fonio_tensor *input, fonio_tensor *target, int64_t ignore_index,
                                         fonio_reduction reduction, double label_smoothing) {
  if (!input || !target) return fail_given_null("fonio_tensor_cross_entropy"), NULL;
  if (!(label_smoothing >= 0 && label_smoothing <= 1))
    return fail_null(FONIO_RUNTIME_ERROR, "label_smoothing must be between 0.0 and 1.0. Got: %g", label_smoothing);
  lookup of;
  fonio_tensor *targets = begin(&of, input, target, ignore_index, reduction);
  fonio_tensor *logarithms = targets ? fonio_tensor_log_softmax(input, input->ndim > 1) : NULL, *loss = NULL;
  if (logarithms)
    loss = label_smoothing > 0 ? mixed_loss(&of, logarithms, targets, label_smoothing) : nll(&of, logarithms, targets);
  fonio_tensor_release(logarithms);
  fonio_tensor_release(targets);
  return loss;
}
