/* The kernels and the weights of depthwise convolutions. */
#include "conv/depthwise.h"

#include <string.h>

#include "base/cpu.h"

const kernel_table *conv_depthwise_kernels(const kernel_table *kernels, fonio_dtype dtype, int64_t columns) {
  bool half = columns * 2 <= kernels->lanes && cpu_isa_in_use() == ISA_AVX512;
  return half ? kernel_table_for(dtype, ISA_AVX2) : kernels;
}

/* `count` weights of a channel; returns 0 where all are finite. */
static double copy_f32(const float *weight, int64_t count, const int64_t *from, int64_t block, float *to) {
  float not_finite = 0;
  for (int64_t i = 0; i < count; i++)
    not_finite += 0 * (to[i * block] = weight[from[i]]);
  return (double)not_finite;
}

static double copy_f64(const double *weight, int64_t count, const int64_t *from, int64_t block, double *to) {
  double not_finite = 0;
  for (int64_t i = 0; i < count; i++)
    not_finite += 0 * (to[i * block] = weight[from[i]]);
  return not_finite;
}

bool conv_depthwise_pack_taps(const fonio_conv_plan *plan, const void *weight, int64_t block, int64_t place,
                              int64_t count, const int64_t *from, void *packed) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t bytes = (int64_t)fonio_dtype_bytes(p->dtype), in_group = plan->geometry.out_channels;
  int64_t block_bytes = conv_depthwise_taps(plan) * block * bytes;
  double not_finite = 0;
  for (int64_t c = 0; c < conv_round_up(p->out_channels, block); c++) {
    char *to = (char *)packed + c / block * block_bytes + (place * block + c % block) * bytes;
    const char *of_channel =
        conv_at(weight, (c / in_group * plan->weight_group_stride + c % in_group * p->weight_strides[0]) * bytes);
    if (c >= p->out_channels)
      for (int64_t i = 0; i < count; i++)
        memset(to + i * block * bytes, 0, (size_t)bytes);
    else if (p->dtype == FONIO_FLOAT32)
      not_finite += copy_f32((const void *)of_channel, count, from, block, (void *)to);
    else
      not_finite += copy_f64((const void *)of_channel, count, from, block, (void *)to);
  }
  return not_finite == 0;
}

bool conv_depthwise_pack(const fonio_conv_plan *plan, const void *weight, int64_t block, void *packed) {
  enum { MOST = 64 };
  const fonio_conv_problem *p = &plan->problem;
  int64_t from[MOST], taps = conv_depthwise_taps(plan);
  bool finite = true;
  for (int64_t place = 0; place < taps; place += MOST) {
    int64_t count = conv_min(MOST, taps - place);
    for (int64_t i = 0; i < count; i++)
      from[i] =
          (place + i) / p->kernel_width * p->weight_strides[2] + (place + i) % p->kernel_width * p->weight_strides[3];
    finite &= conv_depthwise_pack_taps(plan, weight, block, place, count, from, packed);
  }
  return finite;
}
