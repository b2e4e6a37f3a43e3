/* The tensor as the rooms of the library see it: its fields, and the raw operations that know of no gradients. What the
 * public interface offers as operations with gradients (fonio/ops.h) autograd builds on these. */
#ifndef TENSOR_TENSOR_H
#define TENSOR_TENSOR_H

#include <stdatomic.h>

#include "fonio/tensor.h"

/* Memory that several tensors share: the library's own, or a host's with a release callback. */
typedef struct tensor_storage {
  _Atomic int64_t references;
  int64_t number; /* no other storage of this process ever has it */
  void *data;
  int64_t bytes;
  void (*release)(void *data, void *user); /* a host's; NULL with owned == false: nothing to call */
  void *user;
  bool owned;              /* `data` comes from base/memory.h */
  _Atomic int64_t version; /* counts the writes that the library saw */
  _Atomic bool escaped;    /* a writable pointer has left the library: values may change unseen */
} tensor_storage;

/* What hangs on a tensor for autograd: a node of the graph behind an opaque pointer, so that this room need not know
 * it. */
typedef struct tensor_history {
  void (*release)(void *node);           /* gives back one reference to the node */
  const char *(*name)(const void *node); /* as torch prints it in grad_fn=<...> */
} tensor_history;

/* What is called with a gradient: in a list, in the order in which they came. */
typedef struct tensor_hook {
  struct tensor_hook *next;
  int64_t number;
  fonio_status (*function)(fonio_tensor *gradient, fonio_tensor **changed, void *user);
  void *user;
} tensor_hook;

void tensor_hooks_release(tensor_hook *list);

/* torch's class of a tensor: torch.Tensor, torch.nn.Parameter, UninitializedParameter. */
typedef enum tensor_kind { TENSOR_PLAIN, TENSOR_PARAMETER, TENSOR_UNINITIALIZED } tensor_kind;

struct fonio_tensor {
  _Atomic int64_t references;
  tensor_storage *storage;
  int64_t offset; /* in elements */
  fonio_dtype dtype;
  int ndim;
  int64_t numel;
  int64_t shape[FONIO_MAX_DIMS];
  int64_t strides[FONIO_MAX_DIMS];
  tensor_kind kind; /* of this tensor alone: what is made from it is plain */

  bool requires_grad;            /* of a leaf, as set; of others, true */
  bool retains_grad;             /* keep .grad though not a leaf */
  fonio_tensor *grad;            /* owned; or NULL */
  tensor_hook *hooks;            /* of a leaf; the lock of autograd guards them */
  void *node;                    /* owned through `history`; NULL: a leaf */
  const tensor_history *history; /* set whenever `node` is */
};

/* The first element. Without any, the offset may be any number. */
static inline void *tensor_at_offset(const fonio_tensor *tensor) {
  if (tensor->numel == 0) return tensor->storage->data;
  return (char *)tensor->storage->data + (size_t)tensor->offset * fonio_dtype_bytes(tensor->dtype);
}

static inline bool tensor_same_shape(const fonio_tensor *a, const fonio_tensor *b) {
  bool same = a->ndim == b->ndim;
  for (int i = 0; same && i < a->ndim; i++)
    same = a->shape[i] == b->shape[i];
  return same;
}

/* ---- Raw operations: new tensors without a history, or NULL after fail() with torch's text ---- */

/* A tensor over the same storage with other sizes, strides and offset. The caller vouches that every element lies
 * inside. */
fonio_tensor *tensor_view(const fonio_tensor *tensor, int ndim, const int64_t *shape, const int64_t *strides,
                          int64_t offset);

fonio_tensor *tensor_select(const fonio_tensor *tensor, int dim, int64_t index);
fonio_tensor *tensor_slice(const fonio_tensor *tensor, int dim, int64_t start, int64_t end, int64_t step);
fonio_tensor *tensor_permute(const fonio_tensor *tensor, int ndim, const int64_t *order);
fonio_tensor *tensor_expand(const fonio_tensor *tensor, int ndim, const int64_t *shape);

/* torch.reshape: a view where the strides allow it, otherwise a contiguous copy. */
fonio_tensor *tensor_reshape(const fonio_tensor *tensor, int ndim, const int64_t *shape);

/* Copies, whatever the strides. */
fonio_tensor *tensor_clone(const fonio_tensor *tensor); /* torch's strides for a clone: kept when dense */
fonio_tensor *tensor_copy_contiguous(const fonio_tensor *tensor);
fonio_tensor *tensor_copy_channels_last(const fonio_tensor *tensor); /* 4 dimensions */
fonio_tensor *tensor_convert(const fonio_tensor *tensor, fonio_dtype dtype);
fonio_tensor *tensor_zeros_like(const fonio_tensor *tensor); /* strides as in a clone */

/* The shape of a and b broadcast against each other, torch's text on failure. Returns ndim, or -1. */
int tensor_broadcast_shape(const fonio_tensor *a, const fonio_tensor *b, int64_t shape[FONIO_MAX_DIMS]);

/* Elementwise in the promoted dtype (float32 or float64), broadcasting. */
fonio_tensor *tensor_add(const fonio_tensor *a, const fonio_tensor *b);
fonio_tensor *tensor_sub(const fonio_tensor *a, const fonio_tensor *b);
fonio_tensor *tensor_mul(const fonio_tensor *a, const fonio_tensor *b);
fonio_tensor *tensor_div(const fonio_tensor *a, const fonio_tensor *b);

fonio_tensor *tensor_pow_tensor(const fonio_tensor *base, const fonio_tensor *exponent);
fonio_tensor *tensor_number_pow(double base, const fonio_tensor *exponent); /* contiguous, as torch's */

/* `b` where not `a` <= 0, else 0: the gradient of relu. And `b` where `a` is not 0, else 0. */
fonio_tensor *tensor_where_positive(const fonio_tensor *a, const fonio_tensor *b);
fonio_tensor *tensor_where_not_zero(const fonio_tensor *a, const fonio_tensor *b);

/* 0 where `base` is 0 and `exponent` at least 0, else 1. */
fonio_tensor *tensor_not_power_of_zero(const fonio_tensor *base, const fonio_tensor *exponent);

/* Elementwise in the tensor's dtype (float32 or float64); torch's strides. */
fonio_tensor *tensor_neg(const fonio_tensor *tensor);
fonio_tensor *tensor_relu(const fonio_tensor *tensor);
fonio_tensor *tensor_exp(const fonio_tensor *tensor);
fonio_tensor *tensor_log(const fonio_tensor *tensor);
fonio_tensor *tensor_pow(const fonio_tensor *tensor, double exponent);

/* torch.log_softmax along `dim`, which is in range; contiguous. */
fonio_tensor *tensor_log_softmax(const fonio_tensor *tensor, int dim);

/* Sum of all elements, pairwise, in the tensor's dtype: no dimensions. */
fonio_tensor *tensor_sum(const fonio_tensor *tensor);

/* Sums `tensor` down to `shape`, which was broadcast up to the tensor's shape: the gradient of a broadcast. */
fonio_tensor *tensor_sum_to(const fonio_tensor *tensor, int ndim, const int64_t *shape);

/* tensor.copy_(source), with torch's texts; counts as a write. */
fonio_status tensor_copy(fonio_tensor *tensor, const fonio_tensor *source);

/* Fails with torch's text when elements of the tensor share their memory, so that they cannot all be written. */
fonio_status tensor_check_not_expanded(const fonio_tensor *tensor);

/* Whether something can be added to `target` in place: its dtype is computed in, and it is not expanded. */
fonio_status tensor_check_accumulate(const fonio_tensor *target);

/* target += source, of the same shape and dtype, after that check. Takes no memory and cannot fail; counts as a write.
 */
void tensor_accumulate(fonio_tensor *target, const fonio_tensor *source);

/* Notes a write through the library. */
static inline void tensor_touch(fonio_tensor *tensor) {
  atomic_fetch_add(&tensor->storage->version, 1);
}

/* One element at an address, to and from double (complex: the real part). */
double tensor_read_element(fonio_dtype dtype, const void *element);
void tensor_write_element(fonio_dtype dtype, void *element, double value);

#endif
