/* An ordered dictionary: the entries in order, and beside them a hash table that holds their places. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/tensor.h"

typedef struct entry {
  char *name;
  uint64_t hash;
  fonio_tensor *tensor;
} entry;

/* The table has twice as many slots as there is room for entries, so a search soon meets an empty one. */
struct fonio_dict {
  entry *entries;
  int64_t *slots; /* the place of an entry; -1: empty */
  int64_t size, room;
};

fonio_dict *fonio_dict_new(void) {
  return memory_take_zeroed(sizeof(fonio_dict));
}

static void release_entry(const entry *one) {
  memory_give(one->name);
  fonio_tensor_release(one->tensor);
}

void fonio_dict_release(fonio_dict *dict) {
  if (!dict) return;
  for (int64_t i = 0; i < dict->size; i++)
    release_entry(&dict->entries[i]);
  memory_give(dict->entries);
  memory_give(dict->slots);
  memory_give(dict);
}

/* FNV-1a. */
static uint64_t hash_of(const char *name) {
  uint64_t hash = 14695981039346656037u;
  for (; *name; name++)
    hash = (hash ^ (unsigned char)*name) * 1099511628211u;
  return hash;
}

/* The slot of `name`, or the empty one where it belongs. The table has room. */
static int64_t *find_slot(const fonio_dict *dict, uint64_t hash, const char *name) {
  uint64_t last = (uint64_t)dict->room * 2 - 1;
  for (uint64_t i = hash & last;; i = (i + 1) & last) {
    int64_t *slot = &dict->slots[i];
    if (*slot < 0) return slot;
    const entry *there = &dict->entries[*slot];
    if (there->hash == hash && strcmp(there->name, name) == 0) return slot;
  }
}

/* The place of `name` among the entries; -1 when it has none. */
static int64_t find(const fonio_dict *dict, const char *name) {
  return dict->size > 0 ? *find_slot(dict, hash_of(name), name) : -1;
}

/* Fills the table anew from the entries. */
static void fill_slots(fonio_dict *dict) {
  for (int64_t i = 0; i < dict->room * 2; i++)
    dict->slots[i] = -1;
  for (int64_t i = 0; i < dict->size; i++)
    *find_slot(dict, dict->entries[i].hash, dict->entries[i].name) = i;
}

static fonio_status make_room(fonio_dict *dict) {
  if (dict->size < dict->room) return FONIO_OK;
  int64_t room = dict->room > 0 ? dict->room * 2 : 8;
  entry *entries = memory_take(room * (int64_t)sizeof *entries);
  int64_t *slots = entries ? memory_take(room * 2 * (int64_t)sizeof *slots) : NULL;
  if (!slots) {
    memory_give(entries);
    return fonio_last_status();
  }
  if (dict->size > 0) memcpy(entries, dict->entries, (size_t)dict->size * sizeof *entries);
  memory_give(dict->entries);
  memory_give(dict->slots);
  dict->entries = entries;
  dict->slots = slots;
  dict->room = room;
  fill_slots(dict);
  return FONIO_OK;
}

fonio_status fonio_dict_set(fonio_dict *dict, const char *name, fonio_tensor *tensor) {
  if (!dict || !name || !tensor) return fail_given_null("fonio_dict_set");
  int64_t place = find(dict, name);
  if (place >= 0) {
    fonio_tensor *old = dict->entries[place].tensor;
    dict->entries[place].tensor = fonio_tensor_retain(tensor);
    fonio_tensor_release(old);
    return FONIO_OK;
  }
  char *copy = memory_copy_text(name);
  if (!copy || make_room(dict)) {
    memory_give(copy);
    return fonio_last_status();
  }
  uint64_t hash = hash_of(name);
  *find_slot(dict, hash, name) = dict->size;
  dict->entries[dict->size++] = (entry){copy, hash, fonio_tensor_retain(tensor)};
  return FONIO_OK;
}

fonio_tensor *fonio_dict_get(const fonio_dict *dict, const char *name) {
  int64_t place = dict && name ? find(dict, name) : -1;
  return place >= 0 ? dict->entries[place].tensor : NULL;
}

fonio_status fonio_dict_remove(fonio_dict *dict, const char *name) {
  if (!dict || !name) return fail_given_null("fonio_dict_remove");
  int64_t place = find(dict, name);
  if (place < 0) return fail(FONIO_KEY_ERROR, "'%s'", name);
  entry removed = dict->entries[place];
  dict->size--;
  memmove(&dict->entries[place], &dict->entries[place + 1], (size_t)(dict->size - place) * sizeof removed);
  fill_slots(dict);
  release_entry(&removed);
  return FONIO_OK;
}

int64_t fonio_dict_size(const fonio_dict *dict) {
  return dict ? dict->size : 0;
}

const char *fonio_dict_name_at(const fonio_dict *dict, int64_t index) {
  return index >= 0 && index < fonio_dict_size(dict) ? dict->entries[index].name : NULL;
}

fonio_tensor *fonio_dict_tensor_at(const fonio_dict *dict, int64_t index) {
  return index >= 0 && index < fonio_dict_size(dict) ? dict->entries[index].tensor : NULL;
}
