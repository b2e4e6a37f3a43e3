/* Depthwise convolution of the last maps of most networks, of 7 rows no wider than half a vector of AVX-512, whose
 * multiply-adds of half vectors are as quick, two at a time. All sums of a plane are in registers; a row of the image
 * is loaded once, behind as many zeros as there are no columns, and moved there from tap to tap. And the input gradient
 * of a stride of two, of maps as wide and any height. */
#include "kernels/families.h"

#if DEPTHWISE_NARROW
#define ROWS DEPTHWISE_NARROW

typedef struct rows_of {
  int64_t apart, columns;
} rows_of;

/* The row below, as an address of its own: gcc would keep on the stack how far each row lies from the first. */
INLINE const real *next_row(const real *row, int64_t apart) {
  row += apart;
  __asm__("" : "+r"(row));
  return row;
}

/* One plane under a kernel of 3 x 3, padded by a row and a column. `in` and `out`: rows so far apart, with so many
 * columns. Tap by tap, so that no multiply-add waits for the one before it; what each tap reads of a row is loaded, as
 * the unit that would move it in registers multiplies, too. */
INLINE void sum_small(rows_of in, rows_of out, const real *image, const real *weights, real add, real *to) {
  vec_half sum[ROWS], x[ROWS][3];
#pragma GCC unroll 8
  for (int j = 0; j < ROWS; j++)
    sum[j] = half_set(0);
#pragma GCC unroll 9
  for (int tap = 0; tap < 9; tap++) {
    int r = tap / 3, s = tap % 3;
    vec_half w = half_set(weights[tap]);
    const real *row = image + s - 1;
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
      if (r == 0) {
        x[i][s] = half_load_lanes(row, s == 0, least(in.columns + 1 - s, LANES / 2));
        row = next_row(row, in.apart);
      }
      if (i + 1 >= r && i + 1 - r < ROWS) sum[i + 1 - r] = half_fma(w, x[i][s], sum[i + 1 - r]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < ROWS; j++, to += out.apart)
    half_store_part(to, sum[j] + half_set(add), out.columns);
}

/* The same of 5 x 5, padded by two rows and columns. */
INLINE void sum_large(rows_of in, rows_of out, const real *image, const real *weights, real add, real *to) {
  vec_half sum[ROWS];
#pragma GCC unroll 8
  for (int j = 0; j < ROWS; j++)
    sum[j] = half_set(0);
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++, image = next_row(image, in.apart)) {
    vec_half row = half_load_lanes(image, 0, in.columns);
#pragma GCC unroll 5
    for (int s = 0; s < 5; s++) {
      vec_half x = half_move(row, s - 2);
#pragma GCC unroll 8
      for (int j = 0; j < ROWS; j++) {
        int r = i + 2 - j;
        if (r >= 0 && r < 5) sum[j] = half_fma(half_set(weights[r * 5 + s]), x, sum[j]);
      }
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < ROWS; j++, to += out.apart)
    half_store_part(to, sum[j] + half_set(add), out.columns);
}

#define PLANES(name, taps, sum)                                                                                        \
  static __attribute__((noinline, aligned(64))) void name(const kernel_conv *conv, const kernel_depthwise *job,        \
                                                          const real *image, const real *weights, const real *bias,    \
                                                          real *to) {                                                  \
    rows_of in = {conv->input_strides[1], conv->in_width}, out = {conv->output_strides[1], conv->out_width};           \
    int64_t in_plane = job->in_plane, out_plane = job->out_plane, bias_step = job->bias_step;                          \
    for (int64_t i = job->planes; i > 0; i--, image += in_plane, to += out_plane, weights += (taps)) {                 \
      sum(in, out, image, weights, (bias ? *bias : 0) + (real)0, to);                                                  \
      if (bias) bias += bias_step;                                                                                     \
    }                                                                                                                  \
  }
PLANES(planes_3, 9, sum_small)
PLANES(planes_5, 25, sum_large)

void NAME(depthwise_narrow)(const kernel_conv *conv, const kernel_depthwise *job, const void *image,
                            const void *weights, const void *bias, void *output) {
  (conv->kernel_height == 3 ? planes_3 : planes_5)(conv, job, image, weights, bias, output);
}

/* ---- The input gradient ---- */

/* A row of the image: its even columns, then its odd ones. */
INLINE void store_pairs(const vec_half sum[2], real *to, int64_t columns) {
  const vec_mask zip = {0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15};
  vec both;
  memcpy(&both, sum, sizeof both);
  vec_store_part(to, vec_permute(both, zip) + vec_zero(), columns);
}

/* One tap row for one row of the image: of `even` taps for even columns, of two for odd ones. */
INLINE void add_tap_row(int even, const vec_half moved[3], const real *weights, vec_half sum[2]) {
#pragma GCC unroll 3
  for (int s = 0; s < even; s++)
    sum[0] = half_fma(half_set(weights[s]), moved[1 + s - even / 2], sum[0]);
#pragma GCC unroll 2
  for (int s = 0; s < 2; s++)
    sum[1] = half_fma(half_set(weights[even + s]), moved[1 + s], sum[1]);
}

/* A row of grad_output, moved up by one, as it is, and moved down. */
INLINE void load_moved(const real *from, int64_t columns, vec_half moved[3]) {
  moved[1] = half_load_lanes(from, 0, columns);
  moved[0] = half_move(moved[1], -1);
  moved[2] = half_move(moved[1], 1);
}

/* Inlined with a constant `even`, the taps of an even row or column: 1 of 3, 3 of 5. Rows 2 y and 2 y + 1 of the image
 * are sums of rows y - 1 to y + 1 of grad_output. */
INLINE void sum_pairs(int even, const kernel_conv *conv, const real *weights, const real *from, real *to) {
  vec_half rows[3][3], zero = half_set(0);
  rows[0][0] = rows[0][1] = rows[0][2] = zero;
  int64_t columns = conv->in_width, height = conv->in_height, taps = even + 2;
  load_moved(from, conv->out_width, rows[1]);
  for (int64_t y = 0; 2 * y < height; y++, to += 2 * conv->input_strides[1]) {
    vec_half sum[2][2] = {{zero, zero}, {zero, zero}};
    from += conv->output_strides[1];
    load_moved(from, y + 1 < conv->out_height ? conv->out_width : 0, rows[2]);
#pragma GCC unroll 3
    for (int t = 0; t < even; t++)
      add_tap_row(even, rows[1 + t - even / 2], weights + t * taps, sum[0]);
#pragma GCC unroll 2
    for (int t = 0; t < 2; t++)
      add_tap_row(even, rows[1 + t], weights + (even + t) * taps, sum[1]);
    store_pairs(sum[0], to, columns);
    if (2 * y + 1 < height) store_pairs(sum[1], to + conv->input_strides[1], columns);
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++)
      rows[0][i] = rows[1][i], rows[1][i] = rows[2][i];
  }
}

#define PAIRS(name, even)                                                                                              \
  static __attribute__((noinline, aligned(64))) void name(const kernel_conv *conv, const real *weights,                \
                                                          const real *from, real *to) {                                \
    sum_pairs(even, conv, weights, from, to);                                                                          \
  }
PAIRS(pairs_3, 1)
PAIRS(pairs_5, 3)

void NAME(depthwise_narrow_pairs)(const kernel_conv *conv, const void *weights, const void *from, void *to) {
  (conv->kernel_height == 3 ? pairs_3 : pairs_5)(conv, weights, from, to);
}
#endif
