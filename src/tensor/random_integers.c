/* tensor.random_(from, to) and torch.randperm: torch's checks, and its bits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

/* Writes number `index` of a row as a C++ cast from int64_t does; integers lose their upper bits. */
static void write_integer(fonio_dtype dtype, void *row, int64_t index, int64_t number) {
  if (dtype == FONIO_FLOAT64)
    random_write(dtype, row, index, (double)number);
  else if (fonio_dtype_is_floating_point(dtype))
    random_write(dtype, row, index, (double)(float)number);
  else
    switch (fonio_dtype_bytes(dtype)) {
    case 1: ((uint8_t *)row)[index] = (uint8_t)number; break;
    case 2: ((uint16_t *)row)[index] = (uint16_t)number; break;
    case 4: ((uint32_t *)row)[index] = (uint32_t)number; break;
    default: ((int64_t *)row)[index] = number;
    }
}

/* What becomes of a number in the dtype. One that then fits no int64_t is the least one, as on x86. */
static int64_t through_dtype(fonio_dtype dtype, int64_t number) {
  union {
    double as_double;
    float as_float;
    uint16_t as_half;
  } element;
  write_integer(dtype, &element, 0, number);
  double value = tensor_read_element(dtype, &element);
  return value >= -0x1p63 && value < 0x1p63 ? (int64_t)value : INT64_MIN;
}

/* ---- random_ ---- */

typedef struct whole_range {
  uint64_t size;
  int64_t from;
} whole_range;

/* The bits of the mantissa, with the hidden one; 0 for a dtype that is not floating point or that torch does not draw
 * in. */
static int digits_of(fonio_dtype dtype) {
  switch (dtype) {
  case FONIO_FLOAT32: return 24;
  case FONIO_FLOAT64: return 53;
  case FONIO_FLOAT16: return 11;
  case FONIO_BFLOAT16: return 8;
  default: return 0;
  }
}

/* From 2^28 on, 32 bits would make the skew of the remainder too large, and torch takes 64. */
static void fill_range(fonio_generator *generator, const void *how, fonio_dtype dtype, void *row, int64_t step,
                       int64_t count) {
  const whole_range *range = how;
  for (int64_t i = 0; i < count; i++) {
    uint64_t drawn = range->size >= (uint64_t)1 << 28 ? random_next64(generator) : random_next(generator);
    write_integer(dtype, row, i * step, (int64_t)(drawn % range->size + (uint64_t)range->from));
  }
}

/* The distance between the dtype's numbers of this size. */
static int64_t spacing(int64_t number, int digits) {
  int exponent = 63 - __builtin_clzll((unsigned long long)llabs(number));
  return (int64_t)1 << (exponent - digits + 1);
}

/* Moves the bounds inwards to numbers that the dtype has, so that rounding never leaves the range. */
static void move_bounds(fonio_dtype dtype, int digits, int64_t *from, int64_t *to) {
  int64_t from_plus_1 = through_dtype(dtype, *from + 1), to_minus_1 = through_dtype(dtype, *to - 1);
  if (from_plus_1 < *from) *from = from_plus_1 + spacing(*from + 1, digits);
  if (to_minus_1 >= *to) *to = to_minus_1 - spacing(*to - 1, digits);
}

/* The least and the most that the dtype holds, as far as int64_t goes; false for a dtype that torch does not draw in.
 */
static bool bounds_of(fonio_dtype dtype, int64_t *least, int64_t *most) {
  switch (dtype) {
  case FONIO_INT8: *least = INT8_MIN, *most = INT8_MAX; return true;
  case FONIO_INT16: *least = INT16_MIN, *most = INT16_MAX; return true;
  case FONIO_INT32: *least = INT32_MIN, *most = INT32_MAX; return true;
  case FONIO_UINT8: *least = 0, *most = UINT8_MAX; return true;
  case FONIO_UINT16: *least = 0, *most = UINT16_MAX; return true;
  case FONIO_UINT32: *least = 0, *most = UINT32_MAX; return true;
  case FONIO_UINT64: *least = 0, *most = INT64_MAX; return true;
  case FONIO_BOOL: *least = 0, *most = 1; return true;
  case FONIO_FLOAT16: *least = -65504, *most = 65504; return true;
  default: *least = INT64_MIN, *most = INT64_MAX; return dtype == FONIO_INT64 || digits_of(dtype);
  }
}

static fonio_status check_bound(fonio_dtype dtype, const char *name, int64_t value) {
  int64_t least, most;
  if (!bounds_of(dtype, &least, &most))
    return fail(FONIO_RUNTIME_ERROR, "check_random_bounds handles only integral, floating-point and boolean types");
  if (value < least || value > most)
    return fail(FONIO_RUNTIME_ERROR, "%s is out of bounds for %s", name, fonio_dtype_cpp_name(dtype));
  return FONIO_OK;
}

static void warn_of_precision(fonio_dtype dtype, int digits, const char *name, int64_t value) {
  int64_t most = (int64_t)1 << digits;
  if (-most <= value && value <= most) return;
  char message[320];
  snprintf(message, sizeof message,
           "%s is out of bounds [-(2^%d), 2^%d]. Due to precision limitations %s can support discrete uniform "
           "distribution only within this range. This warning will become an error in version 1.7 release, please fix "
           "the code in advance",
           name, digits, digits, fonio_dtype_cpp_name(dtype));
  warn(message);
}

static fonio_status adapt_bounds(fonio_dtype dtype, int digits, int64_t *from, int64_t *to) {
  if (!digits)
    return fail(FONIO_NOT_IMPLEMENTED, "\"random_update_from_to\" not implemented for '%s'",
                fonio_dtype_scalar_name(dtype));
  move_bounds(dtype, digits, from, to);
  if (*from < *to) return FONIO_OK;
  return fail(
      FONIO_RUNTIME_ERROR,
      "random_ expects 'from' casted to dtype to be less than 'to' casted to dtype, but got from=%lld >= to=%lld",
      (long long)*from, (long long)*to);
}

static fonio_status check_range(fonio_dtype dtype, int64_t *from, int64_t *to) {
  if (*from >= *to)
    return fail(FONIO_RUNTIME_ERROR, "random_ expects 'from' to be less than 'to', but got from=%lld >= to=%lld",
                (long long)*from, (long long)*to);
  int digits = digits_of(dtype);
  bool real = fonio_dtype_is_floating_point(dtype);
  fonio_status status = real ? adapt_bounds(dtype, digits, from, to) : FONIO_OK;
  if (status == FONIO_OK) status = check_bound(dtype, "from", *from);
  if (status == FONIO_OK) status = check_bound(dtype, "to - 1", *to - 1);
  if (status != FONIO_OK || !real) return status;
  warn_of_precision(dtype, digits, "from", *from);
  warn_of_precision(dtype, digits, "to - 1", *to - 1);
  return FONIO_OK;
}

fonio_status random_integers(fonio_generator *generator, fonio_tensor *tensor, int64_t from, int64_t to) {
  fonio_status status = tensor_check_not_expanded(tensor);
  if (!status) status = check_range(tensor->dtype, &from, &to);
  whole_range range = {.size = (uint64_t)to - (uint64_t)from, .from = from};
  return status ? status : random_fill(tensor, generator, fill_range, &range);
}

/* ---- randperm ---- */

/* The most elements whose numbers the dtype still tells apart, or holds at all (torch does not ask bfloat16). */
static int64_t most_numbers(fonio_dtype dtype) {
  int digits = digits_of(dtype);
  int64_t least, most;
  if (dtype == FONIO_COMPLEX32) return 65505;
  if (digits) return dtype == FONIO_BFLOAT16 ? INT64_MAX : ((int64_t)1 << digits) + 1;
  return dtype != FONIO_BOOL && bounds_of(dtype, &least, &most) && most < INT64_MAX ? most + 1 : INT64_MAX;
}

/* The name of a type in the message about a number that does not fit it. */
static const char *name_for_overflow(fonio_dtype dtype) {
  switch (dtype) {
  case FONIO_INT8: return "int8_t";
  case FONIO_INT16: return "int16_t";
  case FONIO_UINT8: return "uint8_t";
  case FONIO_UINT16: return "uint16_t";
  case FONIO_UINT32: return "uint32_t";
  default: return fonio_dtype_cpp_name(dtype);
  }
}

static fonio_status check_randperm(fonio_dtype dtype, int64_t n) {
  int64_t most = most_numbers(dtype);
  int digits = digits_of(dtype);
  if (n > most && digits == 11) return fail(FONIO_RUNTIME_ERROR, "n cannot be greater than 2049 for Half type.");
  if (n > most && digits)
    return fail(FONIO_RUNTIME_ERROR, "n cannot be greater than 2^%d+1 for %s type.", digits,
                fonio_dtype_scalar_name(dtype));
  if (n > most)
    return fail(FONIO_RUNTIME_ERROR, "value cannot be converted to type %s without overflow", name_for_overflow(dtype));
  bool drawn = digits || (dtype >= FONIO_INT8 && dtype <= FONIO_UINT8);
  if (drawn) return FONIO_OK;
  return fail(FONIO_NOT_IMPLEMENTED, "\"randperm\" not implemented for '%s'", fonio_dtype_scalar_name(dtype));
}

static inline void swap_elements(void *data, size_t bytes, int64_t a, int64_t b) {
  char *element_a = (char *)data + (size_t)a * bytes, *element_b = (char *)data + (size_t)b * bytes;
  uint64_t moved_a, moved_b; /* room for an element of any dtype that is shuffled */
  memcpy(&moved_a, element_a, bytes);
  memcpy(&moved_b, element_b, bytes);
  memcpy(element_a, &moved_b, bytes);
  memcpy(element_b, &moved_a, bytes);
}

/* Fisher and Yates: 32 bits choose among the rest. */
static inline void shuffle(fonio_generator *generator, void *data, size_t bytes, int64_t n) {
  for (int64_t i = 0; i < n - 1; i++) {
    int64_t other = i + random_next(generator) % (n - i);
    swap_elements(data, bytes, i, other);
  }
}

/* With the size known to the compiler a swap is four moves. */
static void shuffle_by_size(fonio_generator *generator, void *data, size_t bytes, int64_t n) {
  switch (bytes) {
  case 1: shuffle(generator, data, 1, n); break;
  case 2: shuffle(generator, data, 2, n); break;
  case 4: shuffle(generator, data, 4, n); break;
  default: shuffle(generator, data, 8, n);
  }
}

/* Where 32 bits would favour some, torch deals the numbers in one by one, with 64. */
static void deal(fonio_generator *generator, void *data, size_t bytes, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    uint64_t other = random_next64(generator) % (uint64_t)(i + 1);
    swap_elements(data, bytes, i, (int64_t)other);
  }
}

fonio_tensor *fonio_generator_randperm(fonio_generator *generator, fonio_dtype dtype, int64_t n) {
  if (!generator) return fail_given_null("fonio_generator_randperm"), NULL;
  fonio_tensor *tensor = fonio_tensor_empty(dtype, 1, &n);
  if (!tensor) return NULL;
  if (check_randperm(dtype, n) != FONIO_OK) {
    fonio_tensor_release(tensor);
    return NULL;
  }
  void *data = tensor_at_offset(tensor);
  size_t bytes = fonio_dtype_bytes(dtype);
  for (int64_t i = 0; i < n; i++)
    write_integer(dtype, data, i, i);
  pthread_mutex_lock(&generator->lock);
  if (n < UINT32_MAX / 20)
    shuffle_by_size(generator, data, bytes, n);
  else
    deal(generator, data, bytes, n);
  pthread_mutex_unlock(&generator->lock);
  return tensor;
}

fonio_tensor *fonio_tensor_randperm(fonio_dtype dtype, int64_t n) {
  return fonio_generator_randperm(fonio_generator_default(), dtype, n);
}
