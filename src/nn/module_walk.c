/* Ways through a tree. */
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "nn/module.h"

const char *module_path(text_buffer *buffer, const char *prefix, const char *name) {
  buffer->length = 0;
  text_add(buffer, prefix);
  text_add(buffer, name);
  return text_take(buffer);
}

/* ---- From the top: modules() ---- */

typedef struct tree_walk {
  bool repeated;
  module_visitor visit;
  void *user;
  fonio_module **seen; /* of the modules with several references, those that were visited */
  int64_t seen_count, seen_room;
} tree_walk;

/* Only a module with several references can stand in several places. */
static fonio_status was_seen(tree_walk *walk, fonio_module *module, bool *seen) {
  *seen = false;
  if (walk->repeated || atomic_load(&module->state->references) == 1) return FONIO_OK;
  for (int64_t i = 0; i < walk->seen_count && !*seen; i++)
    *seen = walk->seen[i] == module;
  if (*seen) return FONIO_OK;
  fonio_status status =
      module_make_room((void **)&walk->seen, walk->seen_count, &walk->seen_room, sizeof(fonio_module *));
  if (!status) walk->seen[walk->seen_count++] = module;
  return status;
}

static fonio_status walk_from(tree_walk *walk, fonio_module *module, const char *prefix, int depth);

static fonio_status walk_children(tree_walk *walk, fonio_module *module, const char *prefix, int depth) {
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < module->state->child_count; i++) {
    text_buffer path = {0};
    text_add(&path, prefix);
    text_add(&path, module->state->children[i].name);
    text_add(&path, ".");
    const char *below = text_take(&path);
    status = below ? walk_from(walk, module->state->children[i].module, below, depth + 1) : FONIO_NO_MEMORY;
    text_drop(&path);
  }
  return status;
}

static fonio_status walk_from(tree_walk *walk, fonio_module *module, const char *prefix, int depth) {
  bool seen;
  fonio_status status = was_seen(walk, module, &seen);
  if (status || seen) return status;
  if (depth == MODULE_MOST_DEPTH) return module_fail_depth();
  status = walk->visit(module, prefix, walk->user);
  return status ? status : walk_children(walk, module, prefix, depth);
}

fonio_status module_walk(fonio_module *module, bool repeated, module_visitor visit, void *user) {
  tree_walk walk = {.repeated = repeated, .visit = visit, .user = user};
  fonio_status status = walk_from(&walk, module, "", 0);
  memory_give(walk.seen);
  return status;
}

typedef struct public_visit {
  fonio_module_visitor visit;
  void *user;
} public_visit;

/* A path has no "." behind it. */
static fonio_status visit_by_path(fonio_module *module, const char *prefix, void *user) {
  const public_visit *to = user;
  text_buffer text = {0};
  if (*prefix) text_add_bytes(&text, prefix, strlen(prefix) - 1);
  const char *path = text_take(&text);
  fonio_status status = path ? to->visit(module, path, to->user) : FONIO_NO_MEMORY;
  text_drop(&text);
  return status;
}

fonio_status fonio_module_visit(fonio_module *module, fonio_module_visitor visit, void *user) {
  if (!module || !visit) return fail_given_null("fonio_module_visit");
  return module_walk(module, false, visit_by_path, &(public_visit){visit, user});
}

/* ---- From below: apply() ---- */

/* children(): a child that has two names once. */
static bool has_come(const module_state *state, int64_t index) {
  for (int64_t i = 0; i < index; i++)
    if (state->children[i].module == state->children[index].module) return true;
  return false;
}

static fonio_status apply_from(fonio_module *module, fonio_module_function function, void *user, int depth) {
  fonio_status status = depth == MODULE_MOST_DEPTH ? module_fail_depth() : FONIO_OK;
  for (int64_t i = 0; !status && i < module->state->child_count; i++)
    if (!has_come(module->state, i)) status = apply_from(module->state->children[i].module, function, user, depth + 1);
  return status ? status : function(module, user);
}

fonio_status fonio_module_apply(fonio_module *module, fonio_module_function function, void *user) {
  if (!module || !function) return fail_given_null("fonio_module_apply");
  return apply_from(module, function, user, 0);
}
