/* tensor.normal_: Box and Muller's two numbers from two, in the three ways that torch computes them. */
#include <math.h>

#include "base/error.h"
#include "tensor/number.h"
#include "tensor/random.h"
#include "tensor/small_float.h"
#include "tensor/tensor.h"

typedef struct normal_shape {
  double mean, std;
} normal_shape;

/* ---- One by one: fewer than 16 elements, or strides ---- */

/* In double for every dtype. The second number of a pair waits in the generator, also for the next tensor. */
static double next_normal(fonio_generator *generator) {
  if (generator->has_normal) {
    generator->has_normal = false;
    return generator->normal;
  }
  double turn = random_next_double(generator), distance = random_next_double(generator);
  double radius = sqrt(-2.0 * log1p(-distance)), angle = 2.0 * M_PI * turn;
  generator->normal = radius * sin(angle);
  generator->has_normal = true;
  return radius * cos(angle);
}

static void fill_singly(fonio_generator *generator, const void *how, fonio_dtype dtype, void *row, int64_t step,
                        int64_t count) {
  const normal_shape *shape = how;
  for (int64_t i = 0; i < count; i++)
    random_write(dtype, row, i * step, fma(next_normal(generator), shape->std, shape->mean));
}

/* ---- Sixteen by sixteen: 8 distances and 8 angles become 8 cosines and 8 sines ---- */

/* S. L. Moshier's logf of the Cephes library, with the multiply-adds that torch's AVX2 code has. 0 < x <= 1, and
 * normal. */
static float cephes_log(float x) {
  static const float factors[9] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                                   -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                                   2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
  int exponent = (int)(float_bits(x) >> 23) - 126;
  x = float_of_bits((float_bits(x) & 0x7fffff) | 0x3f000000); /* in [0.5, 1) */
  if (x < 0.707106781186547524f) {
    x = x - 1 + x;
    exponent--;
  } else {
    x -= 1;
  }
  float power = (float)exponent, square = x * x, sum = factors[0];
  for (int i = 1; i < 9; i++)
    sum = fmaf(sum, x, factors[i]);
  sum = fmaf(sum * x, square, power * -2.12194440e-4f);
  sum = fmaf(-0.5f, square, sum);
  return fmaf(power, 0.693359375f, x + sum);
}

/* Its sinf and cosf likewise, for 0 <= x < 2 pi. */
static void cephes_sin_cos(float x, float *sine, float *cosine) {
  int eighth = ((int)(x * 1.27323954473516f) + 1) & ~1;
  float start = (float)eighth;
  x = fmaf(start, -0.78515625f, x);
  x = fmaf(start, -2.4187564849853515625e-4f, x);
  x = fmaf(start, -3.77489497744594108e-8f, x);
  float square = x * x;
  float even = fmaf(fmaf(2.443315711809948e-5f, square, -1.388731625493765e-3f), square, 4.166664568298827e-2f);
  even = fmaf(even * square, square, -0.5f * square) + 1;
  float odd = fmaf(fmaf(-1.9515295891e-4f, square, 8.3321608736e-3f), square, -1.6666654611e-1f);
  odd = fmaf(odd * square, x, x);
  bool turned = eighth & 2;
  float across = turned ? even : odd, along = turned ? odd : even;
  *sine = eighth & 4 ? -across : across;
  *cosine = (eighth - 2) & 4 ? along : -along;
}

static void transform_floats(float *numbers, const normal_shape *shape) {
  float mean = (float)shape->mean, std = (float)shape->std;
  for (int i = 0; i < 8; i++) {
    float radius = sqrtf(-2 * cephes_log(1 - numbers[i])), sine, cosine;
    cephes_sin_cos((float)(2 * M_PI) * numbers[i + 8], &sine, &cosine);
    numbers[i] = fmaf(radius * cosine, std, mean);
    numbers[i + 8] = fmaf(radius * sine, std, mean);
  }
}

static void transform_doubles(double *numbers, const normal_shape *shape) {
  for (int i = 0; i < 8; i++) {
    double radius = sqrt(-2 * log(1 - numbers[i])), angle = 2 * M_PI * numbers[i + 8];
    numbers[i] = fma(radius * cos(angle), shape->std, shape->mean);
    numbers[i + 8] = fma(radius * sin(angle), shape->std, shape->mean);
  }
}

/* The next sixteen numbers. The half types are computed in float. */
static void fill_sixteen(fonio_generator *generator, const normal_shape *shape, fonio_dtype dtype, void *row,
                         int64_t start) {
  double doubles[16];
  float floats[16];
  if (dtype == FONIO_FLOAT64) {
    for (int i = 0; i < 16; i++)
      doubles[i] = random_next_double(generator);
    transform_doubles(doubles, shape);
  } else {
    for (int i = 0; i < 16; i++)
      floats[i] = random_next_float(generator);
    transform_floats(floats, shape);
  }
  for (int i = 0; i < 16; i++)
    random_write(dtype, row, start + i, dtype == FONIO_FLOAT64 ? doubles[i] : floats[i]);
}

/* A row of 16 and more. What is left over at the end is covered by sixteen more, which also overwrite some of those
 * before. In float32 and float64 torch has drawn for the left-over ones by then, too. */
static void fill_by_sixteen(fonio_generator *generator, const void *how, fonio_dtype dtype, void *row, int64_t step,
                            int64_t count) {
  (void)step;
  int64_t left_over = count % 16;
  for (int64_t i = 0; i < count - left_over; i += 16)
    fill_sixteen(generator, how, dtype, row, i);
  if (!left_over) return;
  for (int64_t i = 0; i < left_over; i++)
    if (dtype == FONIO_FLOAT32)
      random_next(generator);
    else if (dtype == FONIO_FLOAT64)
      random_next64(generator);
  fill_sixteen(generator, how, dtype, row, count - 16);
}

/* ---- The function ---- */

static fonio_status check_normal(const fonio_tensor *tensor, double std) {
  if (!(std >= 0))
    return fail(FONIO_RUNTIME_ERROR, "normal expects std >= 0.0, but found std %s", number_for_message(std).text);
  switch (number_dtype(tensor->dtype)) {
  case FONIO_FLOAT32:
  case FONIO_FLOAT64:
  case FONIO_FLOAT16:
  case FONIO_BFLOAT16: return FONIO_OK;
  default:
    if (tensor->numel == 0) return FONIO_OK;
    return fail(FONIO_NOT_IMPLEMENTED, "\"normal_kernel_cpu\" not implemented for '%s'",
                fonio_dtype_scalar_name(tensor->dtype));
  }
}

fonio_status random_normal(fonio_generator *generator, fonio_tensor *tensor, double mean, double std) {
  fonio_status status = check_normal(tensor, std);
  if (status) return status;
  bool complex = fonio_dtype_is_complex(tensor->dtype);
  int64_t numbers = complex ? 2 * tensor->numel : tensor->numel;
  bool by_sixteen = numbers >= 16 && fonio_tensor_is_contiguous(tensor);
  normal_shape shape = {mean, complex ? std / sqrt(2) : std};
  return random_fill(tensor, generator, by_sixteen ? fill_by_sixteen : fill_singly, &shape);
}
