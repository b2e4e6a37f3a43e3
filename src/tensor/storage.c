#include "tensor/storage.h"

#include "base/error.h"
#include "base/memory.h"

static tensor_storage *storage_over(void *data, int64_t bytes) {
  static _Atomic int64_t last;
  tensor_storage *storage = memory_take(sizeof *storage);
  if (!storage) return NULL;
  *storage = (tensor_storage){.references = 1, .data = data, .bytes = bytes};
  storage->number = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
  return storage;
}

tensor_storage *storage_new(int64_t bytes) {
  void *data = memory_take(bytes);
  if (!data) return NULL;
  tensor_storage *storage = storage_over(data, bytes);
  if (!storage) {
    memory_give(data);
    return NULL;
  }
  storage->owned = true;
  return storage;
}

tensor_storage *storage_wrap(void *data, int64_t bytes) {
  tensor_storage *storage = storage_over(data, bytes);
  /* The host keeps its own pointer and may write whenever it likes. */
  if (storage) storage->escaped = true;
  return storage;
}

tensor_storage *storage_retain(tensor_storage *storage) {
  atomic_fetch_add_explicit(&storage->references, 1, memory_order_relaxed);
  return storage;
}

void storage_release(tensor_storage *storage) {
  /* The last one must see all that others did to the memory before they let go. */
  if (atomic_fetch_sub_explicit(&storage->references, 1, memory_order_acq_rel) != 1) return;
  if (storage->owned) memory_give(storage->data);
  if (storage->release) storage->release(storage->data, storage->user);
  memory_give(storage);
}
