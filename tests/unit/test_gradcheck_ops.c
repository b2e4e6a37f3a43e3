/* The gradients of every operation, and their gradients, beside central differences. FONIO_TEST_SEED repeats a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "tensors.h"

enum { MATRIX, SQUARE, ROW, IMAGES, CLASSES, OTHER, PIXEL_CLASSES, TURNED, INPUTS };

enum { KINDS = 16 };

static fonio_tensor *call(fonio_tensor *const *in, int count, void *kind) {
  (void)count;
  switch (*(int *)kind) {
  case 0: return fonio_tensor_linear(in[MATRIX], in[SQUARE], in[ROW]);
  case 1: return fonio_tensor_max_pool2d(in[IMAGES], .kernel_size = 2, .padding = 1, .ceil_mode = true);
  case 2:
    return fonio_tensor_avg_pool2d(in[IMAGES], .kernel_size = 3, .stride = 2, .padding = 1, .ceil_mode = true,
                                   .count_include_pad = false);
  case 3: return fonio_tensor_cross_entropy(in[MATRIX], in[CLASSES], -100, FONIO_REDUCTION_MEAN, 0.1);
  case 4: return fonio_tensor_mse_loss(in[MATRIX], in[OTHER], FONIO_REDUCTION_SUM);
  case 5: return fonio_tensor_div(in[MATRIX], in[OTHER]);
  case 6: return fonio_tensor_sub(in[MATRIX], in[ROW]);
  case 7: return fonio_tensor_relu(in[IMAGES]);
  case 8: return fonio_tensor_exp(in[MATRIX]);
  case 9: return fonio_tensor_mean_dims(in[IMAGES], 2, (int64_t[]){1, -1}, false);
  case 10: return fonio_tensor_pow(in[MATRIX], 3);
  case 11: return fonio_tensor_log_softmax(in[IMAGES], 1);
  case 12: return fonio_tensor_cross_entropy(in[IMAGES], in[PIXEL_CLASSES], 1, FONIO_REDUCTION_NONE, 0);
  case 13: return fonio_tensor_pow_tensor(in[OTHER], in[ROW]);
  case 14: return fonio_number_pow_tensor(2.5, in[MATRIX]);
  default: return fonio_tensor_mm(in[MATRIX], in[TURNED]);
  }
}

static void make_inputs(fonio_tensor **in) {
  in[MATRIX] = fonio_tensor_randn(FONIO_FLOAT64, FONIO_SHAPE(2, 3));
  in[SQUARE] = fonio_tensor_randn(FONIO_FLOAT64, FONIO_SHAPE(3, 3));
  in[ROW] = fonio_tensor_randn(FONIO_FLOAT64, FONIO_SHAPE(3));
  in[IMAGES] = fonio_tensor_randn(FONIO_FLOAT64, FONIO_SHAPE(1, 2, 4, 3));
  in[CLASSES] = fonio_tensor_randint(FONIO_INT64, 0, 3, FONIO_SHAPE(2));
  /* A divisor, and so not near 0. */
  in[OTHER] = fonio_tensor_rand(FONIO_FLOAT64, FONIO_SHAPE(2, 3));
  fonio_tensor *one = fonio_tensor_ones(FONIO_FLOAT64, FONIO_SCALAR), *shifted = fonio_tensor_add(in[OTHER], one);
  RELEASE(one, in[OTHER]);
  in[OTHER] = shifted;
  in[PIXEL_CLASSES] = fonio_tensor_randint(FONIO_INT64, 0, 2, FONIO_SHAPE(1, 4, 3));
  in[TURNED] = fonio_tensor_randn(FONIO_FLOAT64, FONIO_SHAPE(3, 2));
  for (int i = 0; i < INPUTS; i++)
    if (i != CLASSES && i != PIXEL_CLASSES) requiring_grad(in[i]);
}

static void gradients_of_both_orders(void **state) {
  (void)state;
  const char *given = getenv("FONIO_TEST_SEED");
  uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
  print_message("FONIO_TEST_SEED=%llu\n", (unsigned long long)seed);
  fonio_manual_seed(seed);
  fonio_tensor *in[INPUTS];
  make_inputs(in);
  for (int kind = 0; kind < KINDS; kind++) {
    if (fonio_gradcheck(call, &kind, INPUTS, in, 1e-6, 1e-5, 1e-3) ||
        fonio_gradgradcheck(call, &kind, INPUTS, in, NULL, 1e-6, 1e-4, 1e-3))
      fail_msg("operation %d: %s", kind, fonio_last_error());
  }
  release_all(INPUTS, in);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(gradients_of_both_orders, nothing_is_lost)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
