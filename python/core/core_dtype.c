/* Dtypes, as Python's buffers and as DLPack name them. */
#include <stdio.h>
#include <string.h>

#include "core.h"

static bool fail_dtype(const char *name, const char *what) {
  PyErr_Format(PyExc_TypeError, "%s: elements of type '%s' are no numbers that Fonio knows", name, what);
  return false;
}

static bool signed_of(Py_ssize_t bytes, bool negative, fonio_dtype *dtype) {
  static const fonio_dtype integers[2][4] = {{FONIO_UINT8, FONIO_UINT16, FONIO_UINT32, FONIO_UINT64},
                                             {FONIO_INT8, FONIO_INT16, FONIO_INT32, FONIO_INT64}};
  int place = bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3;
  *dtype = integers[negative][place];
  return true;
}

/* The dtype of a format of Python's struct module. */
bool core_dtype_of_format(const char *name, const char *format, Py_ssize_t bytes, fonio_dtype *dtype) {
  if (!format) format = "B";
  if (*format == '>' || *format == '!') {
    PyErr_Format(PyExc_ValueError,
                 "%s: given numpy array has byte order different from the native byte order. Conversion between byte "
                 "orders is currently not supported.",
                 name);
    return false;
  }
  const char *letter = format + (*format == '<' || *format == '=' || *format == '@');
  bool complex = *letter == 'Z';
  switch (letter[complex]) {
  case 'f':
    return *dtype = complex ? FONIO_COMPLEX64 : FONIO_FLOAT32, letter[1 + complex] == 0 || fail_dtype(name, format);
  case 'd':
    return *dtype = complex ? FONIO_COMPLEX128 : FONIO_FLOAT64, letter[1 + complex] == 0 || fail_dtype(name, format);
  default: break;
  }
  if (complex || letter[0] == 0 || letter[1] != 0) return fail_dtype(name, format);
  if (*letter == 'e') return *dtype = FONIO_FLOAT16, true;
  if (*letter == '?') return *dtype = FONIO_BOOL, true;
  if (strchr("bhilqn", *letter)) return signed_of(bytes, true, dtype);
  if (strchr("BHILQN", *letter)) return signed_of(bytes, false, dtype);
  return fail_dtype(name, format);
}

static const dlpack_type dlpack_types[FONIO_DTYPE_COUNT] = {
    [FONIO_FLOAT32] = {DLPACK_FLOAT, 32, 1},
    [FONIO_FLOAT64] = {DLPACK_FLOAT, 64, 1},
    [FONIO_FLOAT16] = {DLPACK_FLOAT, 16, 1},
    [FONIO_BFLOAT16] = {DLPACK_BFLOAT, 16, 1},
    [FONIO_COMPLEX64] = {DLPACK_COMPLEX, 64, 1},
    [FONIO_COMPLEX128] = {DLPACK_COMPLEX, 128, 1},
    [FONIO_COMPLEX32] = {DLPACK_COMPLEX, 32, 1},
    [FONIO_INT8] = {DLPACK_INT, 8, 1},
    [FONIO_INT16] = {DLPACK_INT, 16, 1},
    [FONIO_INT32] = {DLPACK_INT, 32, 1},
    [FONIO_INT64] = {DLPACK_INT, 64, 1},
    [FONIO_UINT8] = {DLPACK_UINT, 8, 1},
    [FONIO_UINT16] = {DLPACK_UINT, 16, 1},
    [FONIO_UINT32] = {DLPACK_UINT, 32, 1},
    [FONIO_UINT64] = {DLPACK_UINT, 64, 1},
    [FONIO_BOOL] = {DLPACK_BOOL, 8, 1},
    [FONIO_FLOAT8_E4M3FN] = {DLPACK_FLOAT8_E4M3FN, 8, 1},
    [FONIO_FLOAT8_E5M2] = {DLPACK_FLOAT8_E5M2, 8, 1},
};

dlpack_type core_dlpack_type(fonio_dtype dtype) {
  return dlpack_types[dtype];
}

bool core_dtype_of_dlpack(const char *name, dlpack_type type, fonio_dtype *dtype) {
  for (int i = 0; i < FONIO_DTYPE_COUNT; i++) {
    if (memcmp(&dlpack_types[i], &type, sizeof type) != 0) continue;
    *dtype = (fonio_dtype)i;
    return true;
  }
  char text[64];
  snprintf(text, sizeof text, "DLPack %d, %d bits, %d lanes", type.code, type.bits, type.lanes);
  return fail_dtype(name, text);
}
