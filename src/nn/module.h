/* A module as the library sees it: what hangs on fonio_module, and how a tree is gone through. */
#ifndef NN_MODULE_H
#define NN_MODULE_H

#include "fonio/nn.h"
#include "tensor/tensor.h"
#include "tensor/text.h"

typedef struct module_child {
  char *name;
  fonio_module *module;
} module_child;

typedef struct module_hook {
  int64_t handle;
  fonio_forward_pre_hook pre; /* one of the two */
  fonio_forward_hook post;
  void *user;
} module_hook;

typedef struct fonio_module_state {
  _Atomic int64_t references;
  const fonio_module_class *type;
  bool training;
  fonio_dict *parameters, *buffers;
  module_child *children;
  int64_t child_count, child_room;
  module_hook *hooks; /* in the order in which they came, both kinds */
  int64_t hook_count, hook_room, last_handle;
  fonio_module *orphans; /* children whose adding failed: a list through `next` */
  fonio_module *next;    /* the next orphan of the same module; the next to go, while a tree is being released */
  bool orphaned;         /* in such a list */
} module_state;

/* How deep a tree may be: as Python's recursion. */
#define MODULE_MOST_DEPTH 1000

/* FONIO_RUNTIME_ERROR, in Python's words. */
fonio_status module_fail_depth(void);

/* Makes room for one more item in an array that grows. */
fonio_status module_make_room(void **items, int64_t count, int64_t *room, size_t item_bytes);

/* Fails with torch's texts unless `name` may name a `kind` ("parameter", "buffer", "module") of the module: `known`,
 * where it does so already. */
fonio_status module_check_name(const fonio_module *module, const char *kind, const char *name, bool known);

/* The child under the `length` first bytes of `name`; NULL if there is none. */
fonio_module *module_child_named(const fonio_module *module, const char *name, size_t length);

/* Calls `visit` for the module and all below it as fonio_module_visit does; but with `repeated` a module that stands in
 * several places is visited in each. `prefix` is its path with a "." behind it, or "". */
typedef fonio_status (*module_visitor)(fonio_module *module, const char *prefix, void *user);
fonio_status module_walk(fonio_module *module, bool repeated, module_visitor visit, void *user);

/* `prefix` and `name` in one text, valid until the next call with the same buffer; NULL without memory. */
const char *module_path(text_buffer *buffer, const char *prefix, const char *name);

/* Puts a new parameter of the kind under `name`; the elements are not set. */
fonio_status module_new_parameter(fonio_module *module, fonio_dtype dtype, const char *name, tensor_kind kind, int ndim,
                                  const int64_t *shape);

/* torch's ValueError for a use of a parameter that a lazy module has yet to initialise. */
fonio_status module_fail_uninitialized(const char *function);

/* torch's tensor.data = source: the same tensor over other data. */
void module_set_data(fonio_tensor *tensor, const fonio_tensor *source);

#endif
