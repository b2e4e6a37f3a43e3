/* One way back along a graph: every node that the output came from and every leaf, each with the gradient that has
 * reached it. It lives outside of the graph, so that several threads can go back along the same nodes at once. */
#ifndef AUTOGRAD_PASS_H
#define AUTOGRAD_PASS_H

#include "autograd/node.h"

typedef struct pass_target {
  autograd_node *node; /* a node, or else a leaf. Not retained: the output holds its whole graph */
  fonio_tensor *leaf;
  bool asked;             /* an input of fonio_grad */
  bool wanted;            /* its gradient is needed */
  bool leads;             /* a node from which the way goes on to something asked */
  fonio_tensor *gradient; /* the sum of what has come so far; NULL: nothing yet */
  fonio_tensor *keeper;   /* retained: the tensor of the node that keeps its gradient, or the leaf that collects it */
  fonio_tensor *result;   /* what becomes its .grad; NULL: `gradient` is added to the .grad that is there */
} pass_target;

typedef struct autograd_pass {
  pass_target *targets; /* leaves, then nodes in the order in which they were made */
  int64_t count, capacity;
  int64_t *places; /* a hash table of 2 * capacity: the target's number + 1; 0: free */
} autograd_pass;

/* Finds all that `output`, which requires a gradient, came from. On failure pass_end is still to be called. */
fonio_status pass_begin(autograd_pass *pass, const fonio_tensor *output);

void pass_end(autograd_pass *pass);

/* The target of a tensor that requires a gradient; NULL when the output did not come from it. */
pass_target *pass_find(const autograd_pass *pass, const fonio_tensor *tensor);

/* Marks what is wanted: all, or only what leads to the targets that are asked for. */
void pass_want_all(autograd_pass *pass);
void pass_want_asked(autograd_pass *pass);

/* Goes back from `output` with `gradient` (taken over, also on failure). Without `retain_graph` frees what the nodes on
 * the way have saved. Where gradients are on, the way is recorded. */
fonio_status pass_run(autograd_pass *pass, const fonio_tensor *output, fonio_tensor *gradient, bool retain_graph);

#endif
