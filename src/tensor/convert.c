/* Conversion between any two dtypes goes through one of a few wide kinds of number, a short run at a time: 18 dtypes to
 * and from the kinds, and the kinds among themselves, instead of 324 pairs. Each step is exact or rounds as torch's own
 * conversion does. */
#include "tensor/convert.h"

#include "tensor/small_float.h"

#define NAME float32
#define ELEMENT float
#define WIDE float
#include "tensor/element.inc"

#define NAME float64
#define ELEMENT double
#define WIDE double
#include "tensor/element.inc"

#define NAME float16
#define ELEMENT uint16_t
#define WIDE float
#define WIDEN(number) half_to_float(number)
#define NARROW(number) half_from_float(number)
#include "tensor/element.inc"

#define NAME bfloat16
#define ELEMENT uint16_t
#define WIDE float
#define WIDEN(number) bfloat16_to_float(number)
#define NARROW(number) bfloat16_from_float(number)
#include "tensor/element.inc"

#define NAME float8_e4m3fn
#define ELEMENT uint8_t
#define WIDE float
#define WIDEN(number) float8_e4m3fn_to_float(number)
#define NARROW(number) float8_e4m3fn_from_float(number)
#include "tensor/element.inc"

#define NAME float8_e5m2
#define ELEMENT uint8_t
#define WIDE float
#define WIDEN(number) float8_e5m2_to_float(number)
#define NARROW(number) float8_e5m2_from_float(number)
#include "tensor/element.inc"

#define NAME complex64
#define ELEMENT float
#define WIDE float
#define PARTS 2
#include "tensor/element.inc"

#define NAME complex128
#define ELEMENT double
#define WIDE double
#define PARTS 2
#include "tensor/element.inc"

#define NAME complex32
#define ELEMENT uint16_t
#define WIDE float
#define PARTS 2
#define WIDEN(number) half_to_float(number)
#define NARROW(number) half_from_float(number)
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

/* float, double, int64_t, uint64_t. */
typedef enum wide_kind { WIDE_SINGLE, WIDE_DOUBLE, WIDE_INTEGER, WIDE_WHOLE } wide_kind;

#define RUN 256

/* A run of numbers of one kind; of complex elements, twice as many. */
typedef union wide_run {
  float single[2 * RUN];
  double real[2 * RUN];
  int64_t integer[2 * RUN];
  uint64_t whole[2 * RUN];
} wide_run;

typedef struct element_functions {
  wide_kind kind;
  int parts;
  void (*load)(int64_t count, const void *row, int64_t step, void *wide);
  void (*store)(int64_t count, const void *wide, void *row, int64_t step);
} element_functions;

static const element_functions functions[FONIO_DTYPE_COUNT] = {
    [FONIO_FLOAT32] = {WIDE_SINGLE, 1, load_float32, store_float32},
    [FONIO_FLOAT64] = {WIDE_DOUBLE, 1, load_float64, store_float64},
    [FONIO_FLOAT16] = {WIDE_SINGLE, 1, load_float16, store_float16},
    [FONIO_BFLOAT16] = {WIDE_SINGLE, 1, load_bfloat16, store_bfloat16},
    [FONIO_COMPLEX64] = {WIDE_SINGLE, 2, load_complex64, store_complex64},
    [FONIO_COMPLEX128] = {WIDE_DOUBLE, 2, load_complex128, store_complex128},
    [FONIO_COMPLEX32] = {WIDE_SINGLE, 2, load_complex32, store_complex32},
    [FONIO_INT8] = {WIDE_INTEGER, 1, load_int8, store_int8},
    [FONIO_INT16] = {WIDE_INTEGER, 1, load_int16, store_int16},
    [FONIO_INT32] = {WIDE_INTEGER, 1, load_int32, store_int32},
    [FONIO_INT64] = {WIDE_INTEGER, 1, load_int64, store_int64},
    [FONIO_UINT8] = {WIDE_INTEGER, 1, load_uint8, store_uint8},
    [FONIO_UINT16] = {WIDE_INTEGER, 1, load_uint16, store_uint16},
    [FONIO_UINT32] = {WIDE_INTEGER, 1, load_uint32, store_uint32},
    [FONIO_UINT64] = {WIDE_WHOLE, 1, load_uint64, store_uint64},
    [FONIO_BOOL] = {WIDE_INTEGER, 1, load_truth, store_truth},
    [FONIO_FLOAT8_E4M3FN] = {WIDE_SINGLE, 1, load_float8_e4m3fn, store_float8_e4m3fn},
    [FONIO_FLOAT8_E5M2] = {WIDE_SINGLE, 1, load_float8_e5m2, store_float8_e5m2},
};

/* A real number that the integer type cannot hold is undefined in C; here, as the conversions of x86 have it that torch
 * compiles to. */
static int64_t to_int64(double real) {
  return real >= -0x1p63 && real < 0x1p63 ? (int64_t)real : INT64_MIN;
}

static int64_t to_int32(double real) {
  return real > -0x1p31 - 1 && real < 0x1p31 ? (int32_t)real : INT32_MIN;
}

static int64_t to_uint32(double real) {
  return real >= 0x1p31 ? to_int32(real - 0x1p31) ^ INT32_MIN : to_int32(real);
}

static uint64_t to_uint64(double real) {
  return (uint64_t)(real >= 0x1p63 ? to_int64(real - 0x1p63) ^ INT64_MIN : to_int64(real));
}

static int64_t to_integer(double real, fonio_dtype to) {
  if (to == FONIO_INT64 || to == FONIO_UINT8) return to_int64(real);
  return to == FONIO_UINT32 ? to_uint32(real) : to_int32(real);
}

static void to_integers(int64_t count, wide_kind kind, const wide_run *from, fonio_dtype to, wide_run *result) {
  for (int64_t i = 0; i < count; i++) {
    double real = kind == WIDE_SINGLE ? (double)from->single[i] : from->real[i];
    if (to == FONIO_UINT64)
      result->whole[i] = to_uint64(real);
    else
      result->integer[i] = to_integer(real, to);
  }
}

static void to_singles(int64_t count, wide_kind kind, const wide_run *from, wide_run *result) {
  if (kind == WIDE_DOUBLE)
    for (int64_t i = 0; i < count; i++)
      result->single[i] = (float)from->real[i];
  if (kind == WIDE_INTEGER)
    for (int64_t i = 0; i < count; i++)
      result->single[i] = (float)from->integer[i];
  if (kind == WIDE_WHOLE)
    for (int64_t i = 0; i < count; i++)
      result->single[i] = (float)from->whole[i];
}

static void to_doubles(int64_t count, wide_kind kind, const wide_run *from, wide_run *result) {
  if (kind == WIDE_SINGLE)
    for (int64_t i = 0; i < count; i++)
      result->real[i] = (double)from->single[i];
  if (kind == WIDE_INTEGER)
    for (int64_t i = 0; i < count; i++)
      result->real[i] = (double)from->integer[i];
  if (kind == WIDE_WHOLE)
    for (int64_t i = 0; i < count; i++)
      result->real[i] = (double)from->whole[i];
}

static bool differs_from_zero(wide_kind kind, const wide_run *from, int64_t i) {
  return kind == WIDE_SINGLE ? from->single[i] != 0 : kind == WIDE_DOUBLE ? from->real[i] != 0 : from->whole[i] != 0;
}

static void to_truths(int64_t count, const element_functions *source, const wide_run *from, wide_run *result) {
  for (int64_t i = 0; i < count; i++) {
    bool truth = false;
    for (int part = 0; part < source->parts; part++)
      truth = truth || differs_from_zero(source->kind, from, i * source->parts + part);
    result->integer[i] = truth;
  }
}

/* The real parts of complex numbers move together. */
static void drop_imaginary_parts(int64_t count, wide_kind kind, wide_run *run) {
  for (int64_t i = 0; i < count; i++) {
    if (kind == WIDE_SINGLE)
      run->single[i] = run->single[2 * i];
    else
      run->real[i] = run->real[2 * i];
  }
}

/* Real numbers move apart, with 0 after each. */
static void add_imaginary_parts(int64_t count, wide_kind kind, wide_run *run) {
  for (int64_t i = count - 1; i >= 0; i--) {
    if (kind == WIDE_SINGLE) {
      run->single[2 * i] = run->single[i];
      run->single[2 * i + 1] = 0;
    } else {
      run->real[2 * i] = run->real[i];
      run->real[2 * i + 1] = 0;
    }
  }
}

static bool is_real(wide_kind kind) {
  return kind == WIDE_SINGLE || kind == WIDE_DOUBLE;
}

/* Makes of a run what the dtype `to` is stored from: in `other`, or in `run` itself when it is that already. */
static wide_run *convert_run(int64_t count, const element_functions *source, fonio_dtype to, wide_run *run,
                             wide_run *other) {
  const element_functions *target = &functions[to];
  bool drop = source->parts > target->parts, add = source->parts < target->parts;
  if (to == FONIO_BOOL) {
    to_truths(count, source, run, other);
    return other;
  }
  if (drop) drop_imaginary_parts(count, source->kind, run);
  int64_t numbers = drop || add ? count : count * target->parts;
  wide_run *result = source->kind == target->kind || (!is_real(source->kind) && !is_real(target->kind)) ? run : other;
  if (result == run) {
    /* The two kinds of integer differ in what their bits stand for only. */
  } else if (target->kind == WIDE_SINGLE)
    to_singles(numbers, source->kind, run, other);
  else if (target->kind == WIDE_DOUBLE)
    to_doubles(numbers, source->kind, run, other);
  else
    to_integers(numbers, source->kind, run, to, other);
  if (add) add_imaginary_parts(count, target->kind, result);
  return result;
}

void convert_row(int64_t count, fonio_dtype from_dtype, const void *from, int64_t from_step, fonio_dtype to_dtype,
                 void *to, int64_t to_step) {
  const element_functions *source = &functions[from_dtype], *target = &functions[to_dtype];
  int64_t from_bytes = from_step * (int64_t)fonio_dtype_bytes(from_dtype);
  int64_t to_bytes = to_step * (int64_t)fonio_dtype_bytes(to_dtype);
  wide_run run, other;
  for (int64_t done = 0; done < count; done += RUN) {
    int64_t length = count - done < RUN ? count - done : RUN;
    source->load(length, (const char *)from + done * from_bytes, from_step, &run);
    wide_run *converted = convert_run(length, source, to_dtype, &run, &other);
    target->store(length, converted, (char *)to + done * to_bytes, to_step);
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
