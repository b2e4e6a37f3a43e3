/* Conversion between any two dtypes goes through one of a few wide kinds of number, a short run at a time: 18 dtypes to
 * and from the kinds instead of 324 pairs. Each way round is exact, or rounds as torch's own conversion does. */
#include "tensor/convert.h"

#include <string.h>

#include "tensor/small_float.h"

#define NAME float32
#define ELEMENT float
#define WIDE double
#include "tensor/element.inc"

#define NAME float64
#define ELEMENT double
#define WIDE double
#include "tensor/element.inc"

#define NAME float16
#define ELEMENT uint16_t
#define WIDE double
#define WIDEN(number) half_to_float(number)
#define NARROW(number) half_from_float((float)(number))
#include "tensor/element.inc"

#define NAME bfloat16
#define ELEMENT uint16_t
#define WIDE double
#define WIDEN(number) bfloat16_to_float(number)
#define NARROW(number) bfloat16_from_float((float)(number))
#include "tensor/element.inc"

#define NAME float8_e4m3fn
#define ELEMENT uint8_t
#define WIDE double
#define WIDEN(number) float8_e4m3fn_to_float(number)
#define NARROW(number) float8_e4m3fn_from_float((float)(number))
#include "tensor/element.inc"

#define NAME float8_e5m2
#define ELEMENT uint8_t
#define WIDE double
#define WIDEN(number) float8_e5m2_to_float(number)
#define NARROW(number) float8_e5m2_from_float((float)(number))
#include "tensor/element.inc"

#define NAME complex64
#define ELEMENT float
#define WIDE double
#define PARTS 2
#include "tensor/element.inc"

#define NAME complex128
#define ELEMENT double
#define WIDE double
#define PARTS 2
#include "tensor/element.inc"

#define NAME complex32
#define ELEMENT uint16_t
#define WIDE double
#define PARTS 2
#define WIDEN(number) half_to_float(number)
#define NARROW(number) half_from_float((float)(number))
#include "tensor/element.inc"

#define NAME int8
#define ELEMENT int8_t
#define WIDE int64_t
#include "tensor/element.inc"

#define NAME int16
#define ELEMENT int16_t
#define WIDE int64_t
#include "tensor/element.inc"

#define NAME int32
#define ELEMENT int32_t
#define WIDE int64_t
#include "tensor/element.inc"

#define NAME int64
#define ELEMENT int64_t
#define WIDE int64_t
#include "tensor/element.inc"

#define NAME uint8
#define ELEMENT uint8_t
#define WIDE int64_t
#include "tensor/element.inc"

#define NAME uint16
#define ELEMENT uint16_t
#define WIDE int64_t
#include "tensor/element.inc"

#define NAME uint32
#define ELEMENT uint32_t
#define WIDE int64_t
#include "tensor/element.inc"

#define NAME uint64
#define ELEMENT uint64_t
#define WIDE uint64_t
#include "tensor/element.inc"

#define NAME truth
#define ELEMENT uint8_t
#define WIDE int64_t
#define WIDEN(number) (number != 0)
#define NARROW(number) (number != 0)
#include "tensor/element.inc"

typedef enum wide_kind { WIDE_REAL, WIDE_INTEGER, WIDE_UNSIGNED, WIDE_COMPLEX } wide_kind;

#define RUN 256

/* A run of numbers of one kind; complex ones in pairs. */
typedef union wide_run {
  double real[2 * RUN];
  int64_t integer[2 * RUN];
  uint64_t whole[2 * RUN];
} wide_run;

typedef struct element_functions {
  wide_kind kind;
  void (*load)(int64_t count, const void *row, int64_t step, void *wide);
  void (*store)(int64_t count, const void *wide, void *row, int64_t step);
} element_functions;

static const element_functions functions[FONIO_DTYPE_COUNT] = {
    [FONIO_FLOAT32] = {WIDE_REAL, load_float32, store_float32},
    [FONIO_FLOAT64] = {WIDE_REAL, load_float64, store_float64},
    [FONIO_FLOAT16] = {WIDE_REAL, load_float16, store_float16},
    [FONIO_BFLOAT16] = {WIDE_REAL, load_bfloat16, store_bfloat16},
    [FONIO_COMPLEX64] = {WIDE_COMPLEX, load_complex64, store_complex64},
    [FONIO_COMPLEX128] = {WIDE_COMPLEX, load_complex128, store_complex128},
    [FONIO_COMPLEX32] = {WIDE_COMPLEX, load_complex32, store_complex32},
    [FONIO_INT8] = {WIDE_INTEGER, load_int8, store_int8},
    [FONIO_INT16] = {WIDE_INTEGER, load_int16, store_int16},
    [FONIO_INT32] = {WIDE_INTEGER, load_int32, store_int32},
    [FONIO_INT64] = {WIDE_INTEGER, load_int64, store_int64},
    [FONIO_UINT8] = {WIDE_INTEGER, load_uint8, store_uint8},
    [FONIO_UINT16] = {WIDE_INTEGER, load_uint16, store_uint16},
    [FONIO_UINT32] = {WIDE_INTEGER, load_uint32, store_uint32},
    [FONIO_UINT64] = {WIDE_UNSIGNED, load_uint64, store_uint64},
    [FONIO_BOOL] = {WIDE_INTEGER, load_truth, store_truth},
    [FONIO_FLOAT8_E4M3FN] = {WIDE_REAL, load_float8_e4m3fn, store_float8_e4m3fn},
    [FONIO_FLOAT8_E5M2] = {WIDE_REAL, load_float8_e5m2, store_float8_e5m2},
};

/* What no int64_t holds comes out as the processor's conversion has it. */
static int64_t integer_of(double real) {
  return real >= -0x1p63 && real < 0x1p63 ? (int64_t)real : INT64_MIN;
}

static uint64_t whole_of(double real) {
  return real >= 0x1p63 && real < 0x1p64 ? (uint64_t)real : (uint64_t)integer_of(real);
}

/* Every number becomes 1 or 0. */
static void to_truth(int64_t count, wide_kind kind, wide_run *run) {
  for (int64_t i = 0; i < count; i++) {
    if (kind == WIDE_COMPLEX)
      run->integer[i] = run->real[2 * i] != 0 || run->real[2 * i + 1] != 0;
    else if (kind == WIDE_REAL)
      run->integer[i] = run->real[i] != 0;
    else
      run->integer[i] = run->integer[i] != 0;
  }
}

/* An integer becomes a float before it becomes anything narrower: rounding twice is what torch does, too. */
static void to_real(int64_t count, wide_kind kind, bool through_float, wide_run *run) {
  for (int64_t i = 0; i < count; i++) {
    if (kind == WIDE_COMPLEX)
      run->real[i] = run->real[2 * i];
    else if (kind == WIDE_INTEGER)
      run->real[i] = through_float ? (double)(float)run->integer[i] : (double)run->integer[i];
    else if (kind == WIDE_UNSIGNED)
      run->real[i] = through_float ? (double)(float)run->whole[i] : (double)run->whole[i];
  }
}

static void from_real(int64_t count, wide_kind kind, wide_run *run) {
  if (kind == WIDE_INTEGER)
    for (int64_t i = 0; i < count; i++)
      run->integer[i] = integer_of(run->real[i]);
  if (kind == WIDE_UNSIGNED)
    for (int64_t i = 0; i < count; i++)
      run->whole[i] = whole_of(run->real[i]);
  if (kind == WIDE_COMPLEX)
    for (int64_t i = count - 1; i >= 0; i--) {
      run->real[2 * i] = run->real[i];
      run->real[2 * i + 1] = 0;
    }
}

static bool is_whole(wide_kind kind) {
  return kind == WIDE_INTEGER || kind == WIDE_UNSIGNED;
}

/* A run of `kind` becomes what the dtype `to` is stored from. */
static void convert_run(int64_t count, wide_kind kind, fonio_dtype to, wide_run *run) {
  wide_kind wanted = functions[to].kind;
  if (to == FONIO_BOOL)
    to_truth(count, kind, run);
  else if (kind != wanted && !(is_whole(kind) && is_whole(wanted))) {
    to_real(count, kind, to != FONIO_FLOAT64 && to != FONIO_COMPLEX128, run);
    from_real(count, wanted, run);
  }
}

void convert_row(int64_t count, fonio_dtype from_dtype, const void *from, int64_t from_step, fonio_dtype to_dtype,
                 void *to, int64_t to_step) {
  const element_functions *source = &functions[from_dtype], *target = &functions[to_dtype];
  int64_t from_bytes = from_step * (int64_t)fonio_dtype_bytes(from_dtype);
  int64_t to_bytes = to_step * (int64_t)fonio_dtype_bytes(to_dtype);
  wide_run run;
  for (int64_t done = 0; done < count; done += RUN) {
    int64_t length = count - done < RUN ? count - done : RUN;
    source->load(length, (const char *)from + done * from_bytes, from_step, &run);
    convert_run(length, source->kind, to_dtype, &run);
    target->store(length, &run, (char *)to + done * to_bytes, to_step);
  }
}

double tensor_read_element(fonio_dtype dtype, const void *element) {
  double value;
  convert_row(1, dtype, element, 1, FONIO_FLOAT64, &value, 1);
  return value;
}

void tensor_write_element(fonio_dtype dtype, void *element, double value) {
  convert_row(1, FONIO_FLOAT64, &value, 1, dtype, element, 1);
}
