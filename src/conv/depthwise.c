/* The weights of depthwise convolutions. */
#include "conv/depthwise.h"

static double copy_weight(fonio_dtype dtype, const void *weight, int64_t from, void *packed, int64_t to) {
  if (dtype == FONIO_FLOAT32) return (double)(((float *)packed)[to] = ((const float *)weight)[from]);
  return ((double *)packed)[to] = ((const double *)weight)[from];
}

static void clear_weight(fonio_dtype dtype, void *packed, int64_t to) {
  if (dtype == FONIO_FLOAT32)
    ((float *)packed)[to] = 0;
  else
    ((double *)packed)[to] = 0;
}

bool conv_depthwise_pack(const fonio_conv_plan *plan, const void *weight, int64_t block, void *packed) {
  const fonio_conv_problem *p = &plan->problem;
  const int64_t *strides = p->weight_strides;
  int64_t taps = conv_depthwise_taps(plan), in_group = plan->geometry.out_channels;
  double not_finite = 0;
  for (int64_t c = 0; c < conv_round_up(p->out_channels, block); c++)
    for (int64_t tap = 0; tap < taps; tap++) {
      int64_t to = (c / block * taps + tap) * block + c % block;
      int64_t from = c / in_group * plan->weight_group_stride + c % in_group * strides[0] +
                     tap / p->kernel_width * strides[2] + tap % p->kernel_width * strides[3];
      if (c < p->out_channels)
        not_finite += 0 * copy_weight(p->dtype, weight, from, packed, to);
      else
        clear_weight(p->dtype, packed, to);
    }
  return not_finite == 0;
}
