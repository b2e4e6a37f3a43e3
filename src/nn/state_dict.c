/* state_dict and load_state_dict. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "nn/module.h"
#include "tensor/copy.h"
#include "tensor/storage.h"

/* ---- state_dict ---- */

static fonio_status save_tensor(fonio_dict *dict, const char *path, fonio_tensor *tensor) {
  bool uninitialized = tensor->kind == TENSOR_UNINITIALIZED;
  fonio_tensor *saved = uninitialized ? fonio_tensor_retain(tensor) : fonio_tensor_detach(tensor);
  fonio_status status = saved ? fonio_dict_set(dict, path, saved) : fonio_last_status();
  fonio_tensor_release(saved);
  return status;
}

static fonio_status save_members(fonio_dict *dict, const char *prefix, const fonio_dict *members) {
  text_buffer text = {0};
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < fonio_dict_size(members); i++) {
    const char *path = module_path(&text, prefix, fonio_dict_name_at(members, i));
    status = path ? save_tensor(dict, path, fonio_dict_tensor_at(members, i)) : FONIO_NO_MEMORY;
  }
  text_drop(&text);
  return status;
}

static fonio_status save_module(fonio_module *module, const char *prefix, void *dict) {
  fonio_status status = save_members(dict, prefix, module->state->parameters);
  return status ? status : save_members(dict, prefix, module->state->buffers);
}

fonio_dict *fonio_module_state_dict(fonio_module *module) {
  if (!module) return fail_given_null("fonio_module_state_dict"), NULL;
  fonio_dict *dict = fonio_dict_new();
  if (!dict || !module_walk(module, true, save_module, dict)) return dict;
  fonio_dict_release(dict);
  return NULL;
}

/* ---- load_state_dict: first all is looked at, then what fits is copied ---- */

/* Keys, each with its final 0 behind it. */
typedef struct key_list {
  text_buffer bytes;
  int64_t count;
} key_list;

/* What is to be copied. A parameter that has no data yet gets `fresh`. */
typedef struct load_item {
  fonio_tensor *to, *from, *fresh; /* `to` is the module's; the others are owned */
} load_item;

typedef struct load_run {
  const fonio_dict *dict;
  key_list missing, unexpected;
  text_buffer errors; /* sizes that differ, one line each */
  load_item *items;
  int64_t count, room;
} load_run;

static fonio_status add_key(key_list *keys, const char *key) {
  text_add_bytes(&keys->bytes, key, strlen(key) + 1);
  keys->count++;
  return keys->bytes.failed ? FONIO_NO_MEMORY : FONIO_OK;
}

static fonio_status add_mismatch(load_run *load, const char *key, const fonio_tensor *to, const fonio_tensor *from) {
  text_buffer *text = &load->errors;
  text_add(text, "\n\tsize mismatch for ");
  text_add(text, key);
  text_add(text, ": copying a param with shape ");
  text_add_size(text, from->ndim, from->shape);
  text_add(text, " from checkpoint, the shape in current model is ");
  text_add_size(text, to->ndim, to->shape);
  text_add(text, ".");
  return text->failed ? FONIO_NO_MEMORY : FONIO_OK;
}

/* A parameter whose elements share memory cannot be copied to; torch goes on with the others. */
static fonio_status add_copy_failure(load_run *load, const char *key, const fonio_tensor *to,
                                     const fonio_tensor *from) {
  text_buffer *text = &load->errors;
  text_add(text, "\n\tWhile copying the parameter named \"");
  text_add(text, key);
  text_add(text, "\", whose dimensions in the model are ");
  text_add_size(text, to->ndim, to->shape);
  text_add(text, " and whose dimensions in the checkpoint are ");
  text_add_size(text, from->ndim, from->shape);
  text_add(text, ", an exception occurred : (");
  text_add_quoted(text, fonio_last_error());
  text_add(text, ",).");
  return text->failed ? FONIO_NO_MEMORY : FONIO_OK;
}

/* Takes `from` over. */
static fonio_status add_item(load_run *load, fonio_tensor *to, fonio_tensor *from) {
  fonio_status status = from ? module_make_room((void **)&load->items, load->count, &load->room, sizeof *load->items)
                             : fonio_last_status();
  fonio_tensor *fresh = NULL;
  if (!status && to->kind == TENSOR_UNINITIALIZED) {
    fresh = fonio_tensor_empty(to->dtype, from->ndim, from->shape);
    if (!fresh) status = fonio_last_status();
  }
  if (status)
    fonio_tensor_release(from);
  else
    load->items[load->count++] = (load_item){to, from, fresh};
  return status;
}

/* One tensor of the module, and the one of that name in the dictionary. */
static fonio_status check_tensor(load_run *load, const char *key, fonio_tensor *to, fonio_tensor *from) {
  bool lazy = to->kind == TENSOR_UNINITIALIZED;
  if (from->kind == TENSOR_UNINITIALIZED)
    return lazy ? FONIO_OK
                : fail(FONIO_RUNTIME_ERROR,
                       "Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
                       "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. Call "
                       "`forward` to initialize the parameters before accessing their attributes.");
  /* Checkpoints of old releases have one element where there are now no dimensions. */
  if (!lazy && to->ndim == 0 && from->ndim == 1 && from->shape[0] == 1)
    return add_item(load, to, tensor_select(from, 0, 0));
  if (!lazy && !tensor_same_shape(to, from)) return add_mismatch(load, key, to, from);
  if (tensor_check_not_expanded(to)) return add_copy_failure(load, key, to, from);
  return add_item(load, to, fonio_tensor_retain(from));
}

static fonio_status check_members(load_run *load, const char *prefix, const fonio_dict *members) {
  text_buffer text = {0};
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < fonio_dict_size(members); i++) {
    const char *key = module_path(&text, prefix, fonio_dict_name_at(members, i));
    fonio_tensor *from = key ? fonio_dict_get(load->dict, key) : NULL;
    if (!key)
      status = FONIO_NO_MEMORY;
    else if (from)
      status = check_tensor(load, key, fonio_dict_tensor_at(members, i), from);
    else
      status = add_key(&load->missing, key);
  }
  text_drop(&text);
  return status;
}

/* ---- Unexpected keys ---- */

static const char extra_state[] = "_extra_state";

/* `name` is a key without the module's prefix: what follows a "." is the child's to judge. */
static bool is_expected(const fonio_module *module, const char *name) {
  const char *dot = strchr(name, '.');
  if (dot) return module_child_named(module, name, (size_t)(dot - name));
  return fonio_dict_get(module->state->parameters, name) || fonio_dict_get(module->state->buffers, name);
}

/* torch has a module's _extra_state before all else. */
static fonio_status find_unexpected(load_run *load, const char *prefix, const fonio_module *module) {
  size_t length = strlen(prefix);
  fonio_status status = FONIO_OK;
  for (int turn = 0; turn < 2; turn++)
    for (int64_t i = 0; !status && i < fonio_dict_size(load->dict); i++) {
      const char *key = fonio_dict_name_at(load->dict, i);
      if (strncmp(key, prefix, length) != 0) continue;
      bool extra = strcmp(key + length, extra_state) == 0;
      if (extra == (turn == 0) && (extra || !is_expected(module, key + length)))
        status = add_key(&load->unexpected, key);
    }
  return status;
}

static fonio_status check_module(fonio_module *module, const char *prefix, void *user) {
  load_run *load = user;
  fonio_status status = check_members(load, prefix, module->state->parameters);
  if (!status) status = check_members(load, prefix, module->state->buffers);
  return status ? status : find_unexpected(load, prefix, module);
}

/* ---- What comes of it ---- */

static bool same_memory(const fonio_tensor *a, const fonio_tensor *b) {
  bool same = a->storage == b->storage && a->offset == b->offset && a->dtype == b->dtype;
  for (int i = 0; same && i < a->ndim; i++)
    same = a->strides[i] == b->strides[i];
  return same;
}

static fonio_status copy_items(const load_run *load) {
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < load->count; i++) {
    const load_item *item = &load->items[i];
    if (item->fresh) {
      module_set_data(item->to, item->fresh);
      item->to->kind = TENSOR_PARAMETER;
    }
    if (!same_memory(item->to, item->from)) status = tensor_copy(item->to, item->from);
  }
  return status;
}

static void add_keys(text_buffer *text, const char *title, const key_list *keys) {
  const char *key = keys->bytes.bytes;
  if (keys->count == 0) return;
  text_add(text, "\n\t");
  text_add(text, title);
  for (int64_t i = 0; i < keys->count; i++, key += strlen(key) + 1) {
    text_add(text, i ? ", \"" : "\"");
    text_add(text, key);
    text_add(text, "\"");
  }
  text_add(text, ". ");
}

/* What torch finds fault with, one line each; given back to base/memory.h. NULL without memory. */
static char *faults_of(const load_run *load, bool strict) {
  text_buffer text = {0};
  if (strict) {
    add_keys(&text, "Missing key(s) in state_dict: ", &load->missing);
    add_keys(&text, "Unexpected key(s) in state_dict: ", &load->unexpected);
  }
  text_add_bytes(&text, load->errors.bytes, load->errors.length);
  return text_take(&text);
}

/* The struct, the pointers and the bytes in one block. */
static fonio_incompatible_keys *pack_keys(const key_list *missing, const key_list *unexpected) {
  int64_t count = missing->count + unexpected->count;
  size_t pointers = (size_t)count * sizeof(char *), first = missing->bytes.length, second = unexpected->bytes.length;
  fonio_incompatible_keys *keys = memory_take((int64_t)(sizeof *keys + pointers + first + second));
  if (!keys) return NULL;
  const char **pointer = (const char **)(keys + 1);
  char *bytes = (char *)(pointer + count);
  if (first) memcpy(bytes, missing->bytes.bytes, first);
  if (second) memcpy(bytes + first, unexpected->bytes.bytes, second);
  *keys = (fonio_incompatible_keys){missing->count, unexpected->count, pointer, pointer + missing->count};
  for (int64_t i = 0; i < count; i++, bytes += strlen(bytes) + 1)
    pointer[i] = bytes;
  return keys;
}

void fonio_incompatible_keys_release(fonio_incompatible_keys *keys) {
  memory_give(keys);
}

static void end(load_run *load) {
  for (int64_t i = 0; i < load->count; i++) {
    fonio_tensor_release(load->items[i].from);
    fonio_tensor_release(load->items[i].fresh);
  }
  memory_give(load->items);
  text_drop(&load->missing.bytes);
  text_drop(&load->unexpected.bytes);
  text_drop(&load->errors);
}

/* Copies, once all memory that is needed for it and for telling of it is there. */
static fonio_status finish(const load_run *load, const char *name, bool strict) {
  char *faults = faults_of(load, strict);
  if (!faults) return FONIO_NO_MEMORY;
  fonio_status status = copy_items(load);
  if (!status && *faults) status = fail(FONIO_RUNTIME_ERROR, "Error(s) in loading state_dict for %s:%s", name, faults);
  memory_give(faults);
  return status;
}

fonio_status fonio_module_load_state_dict(fonio_module *module, const fonio_dict *dict, bool strict,
                                          fonio_incompatible_keys **keys) {
  if (!module || !dict) return fail_given_null("fonio_module_load_state_dict");
  load_run load = {.dict = dict};
  fonio_incompatible_keys *packed = NULL;
  fonio_status status = module_walk(module, true, check_module, &load);
  if (!status && keys) packed = pack_keys(&load.missing, &load.unexpected);
  if (!status && keys && !packed) status = fonio_last_status();
  if (!status) status = finish(&load, module->state->type->name, strict);
  if (!status && keys) *keys = packed;
  if (status) fonio_incompatible_keys_release(packed);
  end(&load);
  return status;
}
