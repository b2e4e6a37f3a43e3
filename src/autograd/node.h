/* The tape: a node for each operation that remembers how its result came about, and the way from there to its inputs.
 *
 * A tensor owns its node, a node owns the nodes of its inputs and the leaves among them, and the tensors that its
 * gradient needs. Nothing owns the other way round, so that there are no cycles: with the last tensor of a graph all of
 * it goes. */
#ifndef AUTOGRAD_NODE_H
#define AUTOGRAD_NODE_H

#include "fonio/autograd.h"
#include "tensor/tensor.h"

#define AUTOGRAD_MOST_INPUTS 3
#define AUTOGRAD_MOST_SAVED 3

typedef struct autograd_node autograd_node;

/* Where the gradient of an input goes: to the node that made the input or, when it is a leaf, to the leaf. Both NULL:
 * it needs none. */
typedef struct autograd_edge {
  autograd_node *node;
  fonio_tensor *leaf;
} autograd_edge;

/* What an input was. */
typedef struct autograd_shape {
  fonio_dtype dtype;
  int ndim;
  int64_t sizes[FONIO_MAX_DIMS];
} autograd_shape;

/* A kind of operation: one that makes one tensor. */
typedef struct autograd_operation {
  const char *name; /* as torch prints it in grad_fn=<...> */
  bool is_view;     /* its result shares the storage of its first input */

  /* From the gradient of the result to those of the inputs: writes a tensor that the caller releases to gradients[i]
   * for each i that is wanted. On failure what was written before is released by the caller, too. It is made of
   * operations: where gradients are on (create_graph), it is recorded in turn. */
  fonio_status (*apply)(autograd_node *node, fonio_tensor *gradient, const bool *wanted, fonio_tensor **gradients);
} autograd_operation;

typedef struct autograd_saved {
  fonio_tensor *tensor;
  int64_t version; /* of its storage when it was saved */
  bool is_result;  /* the node's own: saved without a history, which would lead back to the node */
} autograd_saved;

struct autograd_node {
  _Atomic int64_t references;
  const autograd_operation *operation;
  uint64_t sequence; /* larger than that of every node below: it sorts the graph */
  int inputs;
  autograd_edge edges[AUTOGRAD_MOST_INPUTS];
  autograd_shape shapes[AUTOGRAD_MOST_INPUTS];
  autograd_saved saved[AUTOGRAD_MOST_SAVED]; /* the lock guards them */
  bool freed;                                /* so does it this: a backward has given them back */
  fonio_tensor *output; /* the node's tensor while it keeps its gradient; not owned; the lock guards it */
  tensor_hook *hooks;   /* of the node's tensor; so does it guard these */
  autograd_node *next_doomed;
  const void *attributes; /* the operation's own numbers, behind the node in one block */
};

/* ---- Making: for the operations ---- */

/* Gives `result`, new and without a history, its history: that `operation` made it from `inputs`. Nothing is noted when
 * gradients are off or no input requires one. The attributes are copied. Returns `result`; NULL for NULL; on failure
 * `result` is released. */
fonio_tensor *autograd_record(fonio_tensor *result, const autograd_operation *operation, int inputs,
                              fonio_tensor *const *tensors, const void *attributes, int64_t attribute_bytes);

/* Whether input `input` of the node, or of the one that made `result` (may be NULL), requires a gradient. */
bool autograd_node_needs(const autograd_node *node, int input);
bool autograd_needs(const fonio_tensor *result, int input);

/* Saves `tensor` (retained) in place `place` for the gradient of `result`; without a history (or `result`) does
 * nothing. */
void autograd_save(fonio_tensor *result, int place, fonio_tensor *tensor);

/* The same for `result` itself (NULL: does nothing). Returns it; on failure it is released. */
fonio_tensor *autograd_save_result(fonio_tensor *result, int place);

/* The saved tensor, retained; NULL after fail() with torch's text when a backward has freed it, or when its memory has
 * been written to since. */
fonio_tensor *autograd_saved_tensor(autograd_node *node, int place);

/* ---- Operations that gradients are made of ---- */

/* The gradient of an input of that shape that was broadcast: summed, or `gradient` itself, retained, where it has the
 * shape already. */
fonio_tensor *autograd_sum_to(fonio_tensor *gradient, const autograd_shape *shape);

/* The same where the input was also converted before it was used; NULL for NULL. */
fonio_tensor *autograd_to_input(fonio_tensor *gradient, const autograd_shape *input);

/* tensor * number and tensor / number, which widen nothing. NULL for NULL. */
fonio_tensor *autograd_mul_number(fonio_tensor *tensor, double number);
fonio_tensor *autograd_div_number(fonio_tensor *tensor, double number);

/* `tensor` where not `mask` <= 0, else 0. */
fonio_tensor *autograd_where_positive(fonio_tensor *tensor, fonio_tensor *mask);

/* Notes that `copy` (NULL: does nothing), which becomes a .grad, is a copy of `gradient`. As autograd_record. */
fonio_tensor *autograd_record_grad(fonio_tensor *copy, fonio_tensor *gradient);

/* What an operation's `apply` returns for the one gradient that it has made: a failure when it is NULL. */
static inline fonio_status autograd_made(const fonio_tensor *gradient) {
  return gradient ? FONIO_OK : fonio_last_status();
}

/* ---- For writing in place ---- */

/* Fails with torch's texts where a write would have to be in a history, or would change a leaf that requires a
 * gradient. */
fonio_status autograd_check_writable(const fonio_tensor *tensor);

/* ---- For the way back ---- */

/* Gives the saved tensors back; afterwards the node cannot be passed again, if it had any. */
void autograd_node_free_saved(autograd_node *node);

/* Makes the node hand its gradient to `tensor`, which it made. */
void autograd_node_keep_output(autograd_node *node, fonio_tensor *tensor);

/* The tensor that keeps the node's gradient, retained; NULL if there is none (any more). */
fonio_tensor *autograd_node_output(autograd_node *node);

/* Calls the hooks of a list with the gradient, which they may replace. */
fonio_status autograd_run_hooks(tensor_hook *const *list, fonio_tensor **gradient);

/* One lock for what several threads may touch in graphs that they share: saved tensors, .grad, and hooks. Nothing is
 * released while it is held: releasing a tensor may take it. */
void autograd_lock(void);
void autograd_unlock(void);

#endif
