/* Depthwise convolution with a stride of 2 of the last maps of networks, whose output is no wider than half a vector:
 * four planes at once. Element q of plane p is lane 4 q + p, so that a vector has every fourth column of the four
 * planes: two vectors are a row of the output, its even columns and its odd ones, and what a tap reads for the odd ones
 * another tap reads for the even ones. Only three of all are moved by a quarter of a vector. The sums of a row, and of
 * one or two further down that an input row serves, too, are enough to hide the time of a multiply-add. */
#include "kernels/families.h"

#if DEPTHWISE_FOURS
#define MOST_TAPS 25

/* How far planes lie from each other, and the rows of the input; the columns of a row. */
typedef struct fours {
  int64_t rows, in_plane, in_row, in_columns, out_plane, out_columns;
} fours;

/* A row of the four planes: every fourth column from number k on is x[k + 2]. */
INLINE void load_row(int kernel, const fours *f, const real *from, vec x[7]) {
  vec row[4];
#pragma GCC unroll 4
  for (int p = 0; p < 4; p++)
    row[p] = vec_load_part(from + p * f->in_plane, f->in_columns);
  vec low = PAIRS_LOW(row[0], row[1]), high = PAIRS_HIGH(row[0], row[1]);
  vec low_2 = PAIRS_LOW(row[2], row[3]), high_2 = PAIRS_HIGH(row[2], row[3]);
  x[2] = SWAP_LOW_2(low, low_2), x[3] = SWAP_HIGH_2(low, low_2);
  x[4] = SWAP_LOW_2(high, high_2), x[5] = SWAP_HIGH_2(high, high_2);
  x[1] = vec_follow(vec_zero(), x[5], 12);
  if (kernel == 5) x[0] = vec_follow(vec_zero(), x[4], 12), x[6] = vec_follow(x[2], vec_zero(), 4);
}

/* Kernel rows r, r + 2, ... of `count` sums, the newest first. */
INLINE void add_row(int kernel, int r, int count, const vec weights[MOST_TAPS], const vec x[7], vec sum[][2]) {
#pragma GCC unroll 5
  for (int s = 0; s < kernel; s++)
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++)
#pragma GCC unroll 2
      for (int v = 0; v < 2 && j < count; v++)
        sum[j][v] = vec_fma(weights[(r + 2 * j) * kernel + s], x[2 * v + s + 2 - kernel / 2], sum[j][v]);
}

/* A row of each plane, the first one at last. But for the last row what is written behind it is written again. */
INLINE void store_row(bool last, const fours *f, const vec sum[2], vec add, real *to) {
  const vec_mask turn = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};
  vec even = sum[0] + add, odd = sum[1] + add;
  vec two[2] = {vec_permute(PAIRS_LOW(even, odd), turn), vec_permute(PAIRS_HIGH(even, odd), turn)};
  vec_half rows[4];
  memcpy(rows, two, sizeof two);
#pragma GCC unroll 4
  for (int p = 3; p >= 0; p--)
    half_store_part(to + p * f->out_plane, rows[p], last ? f->out_columns : LANES / 2);
}

/* Of four planes from number i on. */
INLINE vec vec_of_biases(const real *bias, int64_t i, int64_t step) {
  real four[4] = {0};
#pragma GCC unroll 4
  for (int64_t p = 0; p < 4 && bias; p++)
    four[p] = bias[(i + p) * step] + (real)0;
  return vec_fours(four);
}

/* Of two rows of sums the first becomes the second, and begins anew. */
INLINE void next_row(vec sum[2][2]) {
#pragma GCC unroll 2
  for (int v = 0; v < 2; v++)
    sum[1][v] = sum[0][v], sum[0][v] = vec_zero();
}

/* Inlined with a constant kernel: its rows r = 0, 2, 4 meet even rows of the image, r = 1, 3 odd ones, under half a
 * kernel of padding. */
INLINE void sum_five(const fours *f, const real *from, const vec weights[MOST_TAPS], vec add, real *to) {
  const vec zero = vec_zero();
  vec sum[3][2] = {{zero, zero}, {zero, zero}, {zero, zero}}, x[7];
  for (int64_t y = 0;; y++, from += 2 * f->in_row) {
    load_row(5, f, from, x);
    if (y) {
      add_row(5, 0, 3, weights, x, sum);
      store_row(false, f, sum[2], add, to);
      to += f->out_columns;
    } else {
      add_row(5, 0, 2, weights, x, sum);
    }
    load_row(5, f, from + f->in_row, x);
    if (y + 1 == f->rows) break;
    add_row(5, 1, 2, weights, x, sum);
    next_row(sum + 1);
    next_row(sum);
  }
  add_row(5, 3, 1, weights, x, sum + 1);
  store_row(true, f, sum[1], add, to);
}

INLINE void sum_three(const fours *f, const real *from, const vec weights[MOST_TAPS], vec add, real *to) {
  const vec zero = vec_zero();
  vec sum[2][2] = {{zero, zero}, {zero, zero}}, x[7];
  for (int64_t y = 0;; y++, from += 2 * f->in_row, to += f->out_columns) {
    load_row(3, f, from, x);
    add_row(3, 1, 1, weights, x, sum + 1);
    load_row(3, f, from + f->in_row, x);
    add_row(3, 0, 2, weights, x, sum);
    if (y + 1 == f->rows) break;
    store_row(false, f, sum[1], add, to);
    next_row(sum);
  }
  store_row(true, f, sum[1], add, to);
}

/* Blocks of four planes. */
#define PLANES(name, kernel, sums)                                                                                     \
  static __attribute__((noinline, aligned(64))) void name(fours f, int64_t planes, const real *from, const real *taps, \
                                                          const real *bias, int64_t bias_step, real *to) {             \
    for (int64_t i = 0; i < planes; i += 4, taps += 4 * (kernel) * (kernel)) {                                         \
      vec weights[MOST_TAPS];                                                                                          \
      _Pragma("GCC unroll 25")                                                                                         \
      for (int t = 0; t < (kernel) * (kernel); t++)                                                                    \
        weights[t] = vec_fours(taps + 4 * t);                                                                          \
      sums(&f, from + i * f.in_plane, weights, vec_of_biases(bias, i, bias_step), to + i * f.out_plane);               \
    }                                                                                                                  \
  }
PLANES(planes_3, 3, sum_three)
PLANES(planes_5, 5, sum_five)

/* Planes that are too few for a block are four times the same one, of which the first is stored at last; its weights
 * are the first where the lanes before them are passed over. */
void NAME(depthwise_fours)(const kernel_conv *conv, const kernel_depthwise *job, const void *image, const void *weights,
                           const void *bias, void *output) {
  int64_t taps = conv->kernel_height * conv->kernel_width, whole = job->planes / 4 * 4;
  fours f = {conv->out_height, job->in_plane, conv->input_strides[1], conv->in_width, job->out_plane, conv->out_width};
  void (*planes)(fours, int64_t, const real *, const real *, const real *, int64_t, real *) =
      conv->kernel_height == 3 ? planes_3 : planes_5;
  planes(f, whole, image, weights, bias, job->bias_step, output);
  f.in_plane = f.out_plane = 0;
  for (int64_t i = whole; i < job->planes; i++)
    planes(f, 4, (const real *)image + i * job->in_plane, (const real *)weights + whole * taps + i - whole,
           bias ? (const real *)bias + i * job->bias_step : NULL, 0, (real *)output + i * job->out_plane);
}
#endif
