/* Children: how they are added, owned and found. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "nn/module.h"

/* ---- Names ---- */

static int64_t find_child(const fonio_module *module, const char *name) {
  const module_state *state = module->state;
  for (int64_t i = 0; i < state->child_count; i++)
    if (strcmp(state->children[i].name, name) == 0) return i;
  return -1;
}

static bool is_taken(const fonio_module *module, const char *name) {
  return find_child(module, name) >= 0 || fonio_dict_get(module->state->parameters, name) ||
         fonio_dict_get(module->state->buffers, name);
}

fonio_status module_check_name(const fonio_module *module, const char *kind, const char *name, bool known) {
  bool of_module = strcmp(kind, "module") == 0;
  if (strchr(name, '.'))
    return fail(FONIO_KEY_ERROR, "%s name can't contain \".\"%s%s", kind, of_module ? ", got: " : "",
                of_module ? name : "");
  if (!*name) return fail(FONIO_KEY_ERROR, "%s name can't be empty string \"\"", kind);
  if (!known && is_taken(module, name)) return fail(FONIO_KEY_ERROR, "attribute '%s' already exists", name);
  return FONIO_OK;
}

/* ---- Adding ---- */

/* Fails when `module` is `other` or stands below it: it would own itself. */
static fonio_status check_apart(const fonio_module *module, const fonio_module *other, int depth) {
  const module_state *state = other->state;
  if (module == other) return fail(FONIO_VALUE_ERROR, "a module cannot be added to itself or to what is below it");
  if (depth == MODULE_MOST_DEPTH) return module_fail_depth();
  for (int64_t i = 0; i < state->child_count; i++)
    if (check_apart(module, state->children[i].module, depth + 1)) return fonio_last_status();
  for (const fonio_module *orphan = state->orphans; orphan; orphan = orphan->state->next)
    if (check_apart(module, orphan, depth + 1)) return fonio_last_status();
  return FONIO_OK;
}

static fonio_status append_child(module_state *state, const char *name, fonio_module *child) {
  char *copy = memory_copy_text(name);
  if (!copy) return FONIO_NO_MEMORY;
  fonio_status status =
      module_make_room((void **)&state->children, state->child_count, &state->child_room, sizeof *state->children);
  if (status)
    memory_give(copy);
  else
    state->children[state->child_count++] = (module_child){copy, child};
  return status;
}

static fonio_status add_child(fonio_module *module, const char *name, fonio_module *child) {
  int64_t place = find_child(module, name);
  if (module_check_name(module, "module", name, place >= 0)) return fonio_last_status();
  if (place < 0) return append_child(module->state, name, child);
  fonio_module *before = module->state->children[place].module;
  module->state->children[place].module = child;
  fonio_module_release(before);
  return FONIO_OK;
}

/* Holds a child whose adding failed, so that the caller's pointer to it stays good: without taking memory. */
static void hold_orphan(fonio_module *module, fonio_module *child) {
  if (child->state->orphaned) {
    fonio_module_release(child);
    return;
  }
  child->state->orphaned = true;
  child->state->next = module->state->orphans;
  module->state->orphans = child;
}

fonio_status fonio_module_add_child(fonio_module *module, const char *name, fonio_module *child) {
  if (!module || !child) {
    fonio_status status = fail_given_null("fonio_module_add");
    fonio_module_release(child);
    return status;
  }
  if (check_apart(module, child, 1)) return fonio_last_status();
  fonio_status status = name ? add_child(module, name, child) : fail_given_null("fonio_module_add");
  if (status) hold_orphan(module, child);
  return status;
}

/* ---- By place ---- */

int64_t fonio_module_child_count(const fonio_module *module) {
  return module ? module->state->child_count : 0;
}

const char *fonio_module_child_name_at(const fonio_module *module, int64_t index) {
  return index >= 0 && index < fonio_module_child_count(module) ? module->state->children[index].name : NULL;
}

fonio_module *fonio_module_child_at(const fonio_module *module, int64_t index) {
  return index >= 0 && index < fonio_module_child_count(module) ? module->state->children[index].module : NULL;
}

/* ---- By path ---- */

fonio_module *module_child_named(const fonio_module *module, const char *name, size_t length) {
  for (int64_t i = 0; i < module->state->child_count; i++) {
    const module_child *child = &module->state->children[i];
    if (strncmp(child->name, name, length) == 0 && !child->name[length]) return child->module;
  }
  return NULL;
}

/* torch tells apart what is nothing and what is no module. */
static fonio_module *fail_no_module(const fonio_module *module, const char *name, size_t length) {
  text_buffer text = {0};
  text_add_bytes(&text, name, length);
  const char *item = text_take(&text);
  if (item && is_taken(module, item))
    fail(FONIO_KEY_ERROR, "`%s` is not an nn.Module", item);
  else if (item)
    fail(FONIO_KEY_ERROR, "%s has no attribute `%s`", module->state->type->name, item);
  text_drop(&text);
  return NULL;
}

/* The module under the `length` first bytes of `path`. */
static fonio_module *find_module(fonio_module *module, const char *path, size_t length) {
  const char *end = path + length;
  while (module && length > 0 && path <= end) {
    size_t item = 0;
    while (path + item < end && path[item] != '.')
      item++;
    fonio_module *child = module_child_named(module, path, item);
    module = child ? child : fail_no_module(module, path, item);
    path += item + 1;
  }
  return module;
}

fonio_module *fonio_module_get_submodule(fonio_module *module, const char *path) {
  if (!module || !path) return fail_given_null("fonio_module_get_submodule"), NULL;
  return find_module(module, path, strlen(path));
}

fonio_tensor *fonio_module_get_parameter(fonio_module *module, const char *path) {
  if (!module || !path) return fail_given_null("fonio_module_get_parameter"), NULL;
  const char *dot = strrchr(path, '.'), *name = dot ? dot + 1 : path;
  module = find_module(module, path, dot ? (size_t)(dot - path) : 0);
  if (!module) return NULL;
  fonio_tensor *parameter = fonio_dict_get(module->state->parameters, name);
  if (parameter) return parameter;
  if (is_taken(module, name)) return fail_null(FONIO_KEY_ERROR, "`%s` is not an nn.Parameter", name);
  return fail_null(FONIO_KEY_ERROR, "%s has no attribute `%s`", module->state->type->name, name);
}
