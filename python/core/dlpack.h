/* DLPack's structs, as its specification lays them out (dmlc/dlpack, version 1.3): how arrays of other libraries are
 * taken in and given out without a copy. Written down here, because no package that could be counted on brings them. */
#ifndef DLPACK_H
#define DLPACK_H

#include <stdint.h>

enum { DLPACK_MAJOR = 1, DLPACK_MINOR = 0 };

enum { DLPACK_CPU = 1, DLPACK_CUDA_HOST = 3, DLPACK_ROCM_HOST = 11 }; /* the devices that a processor can read */

enum {
  DLPACK_INT = 0,
  DLPACK_UINT = 1,
  DLPACK_FLOAT = 2,
  DLPACK_BFLOAT = 4,
  DLPACK_COMPLEX = 5,
  DLPACK_BOOL = 6,
  DLPACK_FLOAT8_E4M3FN = 10,
  DLPACK_FLOAT8_E5M2 = 12
};

typedef struct dlpack_type {
  uint8_t code, bits;
  uint16_t lanes;
} dlpack_type;

typedef struct dlpack_tensor {
  void *data;
  struct {
    int32_t type, id;
  } device;
  int32_t ndim;
  dlpack_type dtype;
  int64_t *shape, *strides; /* strides in elements; NULL: contiguous */
  uint64_t byte_offset;
} dlpack_tensor;

/* Before version 1. */
typedef struct dlpack_managed {
  dlpack_tensor tensor;
  void *owner;
  void (*deleter)(struct dlpack_managed *);
} dlpack_managed;

enum { DLPACK_READ_ONLY = 1, DLPACK_IS_COPIED = 2 };

typedef struct dlpack_version {
  uint32_t major, minor;
} dlpack_version;

typedef struct dlpack_versioned {
  dlpack_version version;
  void *owner;
  void (*deleter)(struct dlpack_versioned *);
  uint64_t flags;
  dlpack_tensor tensor;
} dlpack_versioned;

/* What `type(array).__dlpack_c_exchange_api__` leads to (version 1.3): the same without a capsule for each array. */
typedef struct dlpack_exchange {
  struct {
    dlpack_version version;
    void *previous;
  } header;
  int (*allocate)(dlpack_tensor *prototype, dlpack_versioned **made, void *user,
                  void (*set_error)(void *user, const char *kind, const char *message));
  int (*take)(void *object, dlpack_versioned **taken);
  int (*give)(dlpack_versioned *made, void **object);
  int (*look)(void *object, dlpack_tensor *seen); /* may be NULL */
  int (*stream)(int32_t device_type, int32_t device_id, void **stream);
} dlpack_exchange;

#endif
