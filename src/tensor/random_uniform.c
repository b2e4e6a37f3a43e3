/* tensor.uniform_: torch's checks, and its arithmetic to the bit. */
#include <float.h>
#include <math.h>

#include "base/error.h"
#include "tensor/number.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

typedef struct uniform_bounds {
  double from, to;
} uniform_bounds;

static void fill_float(fonio_generator *generator, float from, float to, float *row, int64_t step, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    float value = fmaf(random_next_float(generator), to - from, from);
    row[i * step] = value == to ? from : value;
  }
}

static void fill_double(fonio_generator *generator, double from, double to, double *row, int64_t step, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    double value = fma(random_next_double(generator), to - from, from);
    row[i * step] = value == to ? from : value;
  }
}

/* The half types: drawn and computed in float, then rounded, and compared with the bound as rounded. */
static void fill_half(fonio_generator *generator, fonio_dtype dtype, float from, float to, uint16_t *row, int64_t step,
                      int64_t count) {
  uint16_t bound;
  random_write(dtype, &bound, 0, to);
  double rounded_to = tensor_read_element(dtype, &bound);
  for (int64_t i = 0; i < count; i++) {
    random_write(dtype, row, i * step, fmaf(random_next_float(generator), to - from, from));
    if (tensor_read_element(dtype, row + i * step) == rounded_to) random_write(dtype, row, i * step, from);
  }
}

static void fill_uniform(fonio_generator *generator, const void *how, fonio_dtype dtype, void *row, int64_t step,
                         int64_t count) {
  const uniform_bounds *bounds = how;
  switch (dtype) {
  case FONIO_FLOAT32: fill_float(generator, (float)bounds->from, (float)bounds->to, row, step, count); break;
  case FONIO_FLOAT64: fill_double(generator, bounds->from, bounds->to, row, step, count); break;
  default: fill_half(generator, dtype, (float)bounds->from, (float)bounds->to, row, step, count);
  }
}

/* The largest finite number; 0 for a dtype that torch draws no real numbers in. */
static double largest_of(fonio_dtype dtype) {
  switch (dtype) {
  case FONIO_FLOAT32: return FLT_MAX;
  case FONIO_FLOAT64: return DBL_MAX;
  case FONIO_FLOAT16: return 65504;
  case FONIO_BFLOAT16: return 0x1.fep127;
  default: return 0;
  }
}

static fonio_status check_uniform(fonio_dtype dtype, double from, double to) {
  double largest = largest_of(dtype);
  const char *scalar_name = fonio_dtype_scalar_name(dtype), *cpp_name = fonio_dtype_cpp_name(dtype);
  if (largest == 0)
    return fail(FONIO_NOT_IMPLEMENTED, "\"check_uniform_bounds\" not implemented for '%s'", scalar_name);
  if (!(fabs(from) <= largest)) return fail(FONIO_RUNTIME_ERROR, "from is out of bounds for %s", cpp_name);
  if (!(fabs(to) <= largest)) return fail(FONIO_RUNTIME_ERROR, "to is out of bounds for %s", cpp_name);
  number_text from_text = number_for_message(from), to_text = number_for_message(to);
  if (from > to)
    return fail(FONIO_RUNTIME_ERROR, "uniform_ expects to return a [from, to) range, but found from=%s > to=%s",
                from_text.text, to_text.text);
  if (to - from > largest)
    return fail(FONIO_RUNTIME_ERROR,
                "uniform_ expects to-from <= std::numeric_limits<%s>::max(), but found to=%s and from=%s which result "
                "in to-from to exceed the limit",
                scalar_name, to_text.text, from_text.text);
  return FONIO_OK;
}

fonio_status random_uniform(fonio_generator *generator, fonio_tensor *tensor, double from, double to) {
  /* torch looks at the bounds of an empty tensor, unless it is complex. */
  bool looks = tensor->numel > 0 || !fonio_dtype_is_complex(tensor->dtype);
  fonio_status status = looks ? check_uniform(number_dtype(tensor->dtype), from, to) : FONIO_OK;
  return status ? status : random_fill(tensor, generator, fill_uniform, &(uniform_bounds){from, to});
}
