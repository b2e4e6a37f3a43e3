#include "autograd/node.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void autograd_lock(void) {
  pthread_mutex_lock(&lock);
}

void autograd_unlock(void) {
  pthread_mutex_unlock(&lock);
}

/* ---- Life ---- */

static autograd_node *node_retain(autograd_node *node) {
  atomic_fetch_add_explicit(&node->references, 1, memory_order_relaxed);
  return node;
}

/* The nodes of this thread that are about to go. A graph can be deep: if each node released the next from within, the
 * stack would grow with it. */
static _Thread_local autograd_node *doomed;
static _Thread_local bool burying;

static void node_release(autograd_node *node);

static void bury(autograd_node *node) {
  for (int i = 0; i < AUTOGRAD_MOST_SAVED; i++)
    fonio_tensor_release(node->saved[i].tensor);
  for (int i = 0; i < node->inputs; i++) {
    node_release(node->edges[i].node);
    fonio_tensor_release(node->edges[i].leaf);
  }
  tensor_hooks_release(node->hooks);
  memory_give(node);
}

static void node_release(autograd_node *node) {
  if (!node || atomic_fetch_sub_explicit(&node->references, 1, memory_order_acq_rel) != 1) return;
  node->next_doomed = doomed;
  doomed = node;
  if (burying) return;
  burying = true;
  while (doomed) {
    autograd_node *next = doomed;
    doomed = next->next_doomed;
    bury(next);
  }
  burying = false;
}

/* The tensor of the node goes. Only the tensor's owner ever sets `output`, so that looking at it needs no lock here. */
static void release_of_tensor(void *pointer) {
  autograd_node *node = pointer;
  if (node->output) {
    autograd_lock();
    node->output = NULL;
    autograd_unlock();
  }
  node_release(node);
}

static const char *name_of_node(const void *node) {
  return ((const autograd_node *)node)->operation->name;
}

static const tensor_history history = {release_of_tensor, name_of_node};

/* Of a second tensor with the node's history. */
static void release_of_second(void *node) {
  node_release(node);
}

static const tensor_history second_history = {release_of_second, name_of_node};

/* ---- Making ---- */

static bool is_recorded(const fonio_tensor *result, int inputs, fonio_tensor *const *tensors) {
  bool differentiable = fonio_dtype_is_floating_point(result->dtype) || fonio_dtype_is_complex(result->dtype);
  if (!differentiable || !fonio_grad_enabled()) return false;
  for (int i = 0; i < inputs; i++)
    if (tensors[i] && tensors[i]->requires_grad) return true;
  return false;
}

static autograd_edge edge_to(fonio_tensor *tensor) {
  autograd_edge edge = {NULL, NULL};
  if (!tensor || !tensor->requires_grad) return edge;
  if (tensor->node)
    edge.node = node_retain(tensor->node);
  else
    edge.leaf = fonio_tensor_retain(tensor);
  return edge;
}

static autograd_shape shape_of(const fonio_tensor *tensor) {
  autograd_shape shape = {0};
  if (!tensor) return shape;
  shape.dtype = tensor->dtype;
  shape.ndim = tensor->ndim;
  memcpy(shape.sizes, tensor->shape, sizeof shape.sizes);
  return shape;
}

static autograd_node *node_new(const autograd_operation *operation, int inputs, fonio_tensor *const *tensors,
                               const void *attributes, int64_t attribute_bytes) {
  static _Atomic uint64_t last_sequence;
  autograd_node *node = memory_take_zeroed((int64_t)sizeof *node + attribute_bytes);
  if (!node) return NULL;
  atomic_init(&node->references, 1);
  node->operation = operation;
  node->sequence = atomic_fetch_add(&last_sequence, 1) + 1;
  node->inputs = inputs;
  for (int i = 0; i < inputs; i++) {
    node->edges[i] = edge_to(tensors[i]);
    node->shapes[i] = shape_of(tensors[i]);
  }
  if (attribute_bytes > 0) memcpy(node + 1, attributes, (size_t)attribute_bytes);
  node->attributes = node + 1;
  return node;
}

fonio_tensor *autograd_record(fonio_tensor *result, const autograd_operation *operation, int inputs,
                              fonio_tensor *const *tensors, const void *attributes, int64_t attribute_bytes) {
  if (!result || !is_recorded(result, inputs, tensors)) return result;
  result->node = node_new(operation, inputs, tensors, attributes, attribute_bytes);
  if (!result->node) {
    fonio_tensor_release(result);
    return NULL;
  }
  result->history = &history;
  result->requires_grad = true;
  return result;
}

bool autograd_node_needs(const autograd_node *node, int input) {
  return node->edges[input].node || node->edges[input].leaf;
}

bool autograd_needs(const fonio_tensor *result, int input) {
  return result && result->node && autograd_node_needs(result->node, input);
}

/* ---- What an operation saves for its gradient ---- */

void autograd_save(fonio_tensor *result, int place, fonio_tensor *tensor) {
  if (!result || !result->node) return;
  autograd_node *node = result->node;
  node->saved[place] = (autograd_saved){fonio_tensor_retain(tensor), fonio_tensor_version(tensor), false};
}

fonio_tensor *autograd_save_result(fonio_tensor *result, int place) {
  if (!result || !result->node) return result;
  autograd_node *node = result->node;
  fonio_tensor *saved = fonio_tensor_detach(result);
  node->saved[place] = (autograd_saved){saved, fonio_tensor_version(saved), true};
  if (saved) return result;
  fonio_tensor_release(result);
  return NULL;
}

/* The node's result once more: a new tensor with its history. */
static fonio_tensor *result_of(autograd_node *node, fonio_tensor *saved) {
  fonio_tensor *result = fonio_tensor_detach(saved);
  if (!result) return NULL;
  result->node = node_retain(node);
  result->history = &second_history;
  result->requires_grad = true;
  return result;
}

static void fail_freed(void) {
  fail(FONIO_RUNTIME_ERROR,
       "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
       "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
       "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access "
       "saved tensors after calling backward.");
}

/* The name of what made a tensor as torch's message has it: "Sum" for SumBackward0, "Sum1" for SumBackward1. Of a view
 * that was written to it has only strides left. */
static void put_maker(const autograd_node *node, char *text, size_t bytes) {
  const char *name = node->operation->is_view ? "AsStrided" : node->operation->name, *end = NULL;
  for (const char *at = strstr(name, "Backward"); at; at = strstr(at + 1, "Backward"))
    end = at;
  const char *number = end && strcmp(end, "Backward0") != 0 ? end + strlen("Backward") : "";
  snprintf(text, bytes, "%.*s%s", end ? (int)(end - name) : (int)strlen(name), name, number);
}

static void fail_modified(const autograd_node *node, const fonio_tensor *tensor, int64_t expected) {
  char maker[64] = "";
  if (node) put_maker(node, maker, sizeof maker);
  fail(FONIO_RUNTIME_ERROR,
       "one of the variables needed for gradient computation has been modified by an inplace operation: "
       "[torch.%sTensor %s]%s%s%s is at version %lld; expected version %lld instead. Hint: enable anomaly detection "
       "to find the operation that failed to compute its gradient, with "
       "torch.autograd.set_detect_anomaly(True, check_nan=False).",
       fonio_dtype_scalar_name(tensor->dtype), shape_to_text(tensor->ndim, tensor->shape).text,
       node ? ", which is output 0 of " : "", maker, node ? "," : "", (long long)fonio_tensor_version(tensor),
       (long long)expected);
}

fonio_tensor *autograd_saved_tensor(autograd_node *node, int place) {
  autograd_lock();
  autograd_saved saved = node->saved[place];
  bool freed = node->freed;
  if (!freed) saved.tensor = fonio_tensor_retain(saved.tensor);
  autograd_unlock();
  if (freed) return fail_freed(), NULL;
  fonio_tensor *tensor = NULL;
  if (fonio_tensor_version(saved.tensor) != saved.version)
    fail_modified(saved.is_result ? node : saved.tensor->node, saved.tensor, saved.version);
  else
    tensor = saved.is_result ? result_of(node, saved.tensor) : fonio_tensor_retain(saved.tensor);
  fonio_tensor_release(saved.tensor);
  return tensor;
}

void autograd_node_free_saved(autograd_node *node) {
  autograd_saved saved[AUTOGRAD_MOST_SAVED];
  autograd_lock();
  memcpy(saved, node->saved, sizeof saved);
  memset(node->saved, 0, sizeof node->saved);
  for (int i = 0; i < AUTOGRAD_MOST_SAVED; i++)
    node->freed = node->freed || saved[i].tensor;
  autograd_unlock();
  for (int i = 0; i < AUTOGRAD_MOST_SAVED; i++)
    fonio_tensor_release(saved[i].tensor);
}

/* ---- A tensor that keeps its gradient though it is no leaf ---- */

void autograd_node_keep_output(autograd_node *node, fonio_tensor *tensor) {
  autograd_lock();
  node->output = tensor;
  autograd_unlock();
}

fonio_tensor *autograd_node_output(autograd_node *node) {
  autograd_lock();
  fonio_tensor *tensor = node->output;
  /* The last reference may be gone and the tensor on its way to release_of_tensor(), where it waits for the lock. */
  int64_t references = tensor ? atomic_load(&tensor->references) : 0;
  while (references > 0 && !atomic_compare_exchange_weak(&tensor->references, &references, references + 1))
    continue;
  autograd_unlock();
  return references > 0 ? tensor : NULL;
}
