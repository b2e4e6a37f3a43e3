#include "optim/arithmetic.h"

#include <math.h>

#include "tensor/walk.h"

typedef struct optim_row {
  int64_t count;
  const int64_t *step; /* of `to`, `a`, `b` */
  void *to;
  const void *a, *b;
  double x, y, z;
} optim_row;

/* The product of two floats is exact in double. */
#define REAL float
#define NAMED(name) name##_f32
#define FUSED(x, y, z) ((float)((double)(x) * (double)(y) + (double)(z)))
#define ROOT(x) sqrtf(x)
#include "optim/arithmetic.inc"
#undef REAL
#undef NAMED
#undef FUSED
#undef ROOT

#define REAL double
#define NAMED(name) name##_f64
#define FUSED(x, y, z) fma((x), (y), (z))
#define ROOT(x) sqrt(x)
#include "optim/arithmetic.inc"

typedef void row_function(const optim_row *row);

static row_function *const functions[][2] = {
    [OPTIM_SCALE] = {scale_row_f32, scale_row_f64}, [OPTIM_ADD] = {add_row_f32, add_row_f64},
    [OPTIM_LERP] = {lerp_row_f32, lerp_row_f64},    [OPTIM_SQUARE] = {square_row_f32, square_row_f64},
    [OPTIM_MOST] = {most_row_f32, most_row_f64},    [OPTIM_DIVIDE] = {divide_row_f32, divide_row_f64},
};

void optim_apply(optim_operation operation, fonio_tensor *to, const fonio_tensor *a, const fonio_tensor *b, double x,
                 double y, double z) {
  const fonio_tensor *operands[] = {to, a ? a : to, b ? b : to};
  tensor_walk walk = walk_over(to->ndim, to->shape, 3, operands);
  row_function *function = functions[operation][to->dtype == FONIO_FLOAT64];
  if (walk.row == 0) return;
  do
    function(&(optim_row){walk.row, walk.step, walk_row(&walk, 0, to), walk_row(&walk, 1, operands[1]),
                          walk_row(&walk, 2, operands[2]), x, y, z});
  while (walk_next(&walk));
}
