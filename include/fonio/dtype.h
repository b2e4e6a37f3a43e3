/* The element types, as files hold them and as PyTorch names them. */
#ifndef FONIO_DTYPE_H
#define FONIO_DTYPE_H

#include <fonio/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The numbers never change. The library computes in FONIO_FLOAT32 and FONIO_FLOAT64; the others it holds, converts,
 * compares and prints. */
typedef enum fonio_dtype {
  FONIO_FLOAT32 = 0,
  FONIO_FLOAT64 = 1,
  FONIO_FLOAT16 = 2,
  FONIO_BFLOAT16 = 3,
  FONIO_COMPLEX64 = 4,
  FONIO_COMPLEX128 = 5,
  FONIO_COMPLEX32 = 6,
  FONIO_INT8 = 7,
  FONIO_INT16 = 8,
  FONIO_INT32 = 9,
  FONIO_INT64 = 10,
  FONIO_UINT8 = 11,
  FONIO_UINT16 = 12,
  FONIO_UINT32 = 13,
  FONIO_UINT64 = 14,
  FONIO_BOOL = 15,
  FONIO_FLOAT8_E4M3FN = 16,
  FONIO_FLOAT8_E5M2 = 17
} fonio_dtype;

/* How many dtypes there are: the valid ones are 0 ... FONIO_DTYPE_COUNT - 1. */
#define FONIO_DTYPE_COUNT 18

/* The bytes of one element; 0 for a number that is no dtype. */
FONIO_API size_t fonio_dtype_bytes(fonio_dtype dtype);

/* PyTorch's name, such as "float32" (torch.float32 without the "torch."); "unknown" for a number that is no dtype. */
FONIO_API const char *fonio_dtype_name(fonio_dtype dtype);

/* The name that PyTorch's messages use for the element's C++ type, such as "float" or "c10::Half". */
FONIO_API const char *fonio_dtype_cpp_name(fonio_dtype dtype);

/* The name that PyTorch's messages use for the scalar type, such as "Float" or "Half". */
FONIO_API const char *fonio_dtype_scalar_name(fonio_dtype dtype);

/* torch.dtype.is_floating_point: float16, bfloat16, float32, float64 and the float8 types. */
FONIO_API bool fonio_dtype_is_floating_point(fonio_dtype dtype);

/* torch.dtype.is_complex. */
FONIO_API bool fonio_dtype_is_complex(fonio_dtype dtype);

#ifdef __cplusplus
}
#endif

#endif
