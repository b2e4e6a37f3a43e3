#include "fonio/dtype.h"

typedef struct dtype_facts {
  size_t bytes;
  const char *name, *cpp_name, *scalar_name;
  bool floating_point, complex;
} dtype_facts;

static const dtype_facts facts[FONIO_DTYPE_COUNT] = {
    [FONIO_FLOAT32] = {4, "float32", "float", "Float", true, false},
    [FONIO_FLOAT64] = {8, "float64", "double", "Double", true, false},
    [FONIO_FLOAT16] = {2, "float16", "c10::Half", "Half", true, false},
    [FONIO_BFLOAT16] = {2, "bfloat16", "c10::BFloat16", "BFloat16", true, false},
    [FONIO_COMPLEX64] = {8, "complex64", "c10::complex<float>", "ComplexFloat", false, true},
    [FONIO_COMPLEX128] = {16, "complex128", "c10::complex<double>", "ComplexDouble", false, true},
    [FONIO_COMPLEX32] = {4, "complex32", "c10::complex<c10::Half>", "ComplexHalf", false, true},
    [FONIO_INT8] = {1, "int8", "signed char", "Char", false, false},
    [FONIO_INT16] = {2, "int16", "short int", "Short", false, false},
    [FONIO_INT32] = {4, "int32", "int", "Int", false, false},
    [FONIO_INT64] = {8, "int64", "long int", "Long", false, false},
    [FONIO_UINT8] = {1, "uint8", "unsigned char", "Byte", false, false},
    [FONIO_UINT16] = {2, "uint16", "short unsigned int", "UInt16", false, false},
    [FONIO_UINT32] = {4, "uint32", "unsigned int", "UInt32", false, false},
    [FONIO_UINT64] = {8, "uint64", "long unsigned int", "UInt64", false, false},
    [FONIO_BOOL] = {1, "bool", "bool", "Bool", false, false},
    [FONIO_FLOAT8_E4M3FN] = {1, "float8_e4m3fn", "c10::Float8_e4m3fn", "Float8_e4m3fn", true, false},
    [FONIO_FLOAT8_E5M2] = {1, "float8_e5m2", "c10::Float8_e5m2", "Float8_e5m2", true, false},
};

static const dtype_facts unknown = {0, "unknown", "unknown", "Undefined", false, false};

/* The enum may hold any number that a caller cast to it. */
static const dtype_facts *facts_of(fonio_dtype dtype) {
  return (unsigned)dtype < FONIO_DTYPE_COUNT ? &facts[dtype] : &unknown;
}

size_t fonio_dtype_bytes(fonio_dtype dtype) {
  return facts_of(dtype)->bytes;
}

const char *fonio_dtype_name(fonio_dtype dtype) {
  return facts_of(dtype)->name;
}

const char *fonio_dtype_cpp_name(fonio_dtype dtype) {
  return facts_of(dtype)->cpp_name;
}

const char *fonio_dtype_scalar_name(fonio_dtype dtype) {
  return facts_of(dtype)->scalar_name;
}

bool fonio_dtype_is_floating_point(fonio_dtype dtype) {
  return facts_of(dtype)->floating_point;
}

bool fonio_dtype_is_complex(fonio_dtype dtype) {
  return facts_of(dtype)->complex;
}
