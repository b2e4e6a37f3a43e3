/* The input gradient of depthwise convolution with a stride of two across, for planes: even and odd columns of a row
 * are two sums of their own over the same rows of the output's gradient, with other taps. Both are computed for some
 * vectors of pairs, which are then put in order. */
#include "kernels/families.h"

/* At once, where a row has as many. */
#define MOST_VECTORS (LANES > 1 ? 2 : 1)

/* One row of the image. */
typedef struct pairs_row {
  const kernel_pairs *job;
  int64_t kernel_rows;
  const int64_t *offsets;
  const real *weights, *in;
  real *to;
} pairs_row;

INLINE void add_tap(int vectors, real weight, const real *x, vec sum[MOST_VECTORS]) {
  vec w = vec_set(weight);
#pragma GCC unroll 2
  for (int v = 0; v < vectors; v++)
    sum[v] = vec_fma(w, vec_load(x + v * LANES), sum[v]);
}

/* Inlined with constants; `even` and `odd`, the taps of a kernel row: 0, or those of a small kernel. Of a single vector
 * `columns` elements are stored. */
INLINE void tile(int even, int odd, int vectors, const pairs_row *row, int64_t column, int64_t columns) {
  vec sum[2][MOST_VECTORS];
#pragma GCC unroll 2
  for (int f = 0; f < 2; f++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      sum[f][v] = vec_zero();
  const kernel_pairs *job = row->job;
  const int64_t first[2] = {even ? 0 : job->first[0], even ? even / 2 : job->first[1]};
  const real *weights = row->weights, *in = row->in + column / 2;
  for (int64_t r = 0; r < row->kernel_rows; r++)
#pragma GCC unroll 2
    for (int f = 0; f < 2; f++) {
      const real *x = in + row->offsets[r] + first[f];
#pragma GCC unroll 3
      for (int s = 0; s < 3; s++)
        if (s < (f == 0 ? even : odd)) add_tap(vectors, *weights++, x + s, sum[f]);
      for (int64_t s = 0; s < job->taps[f] && !even; s++)
        add_tap(vectors, *weights++, x + s * job->dilation, sum[f]);
    }
  real *to = row->to + column;
#pragma GCC unroll 2
  for (int v = 0; v < vectors; v++, to += 2 * LANES) {
    vec low = vec_zip_low(sum[0][v], sum[1][v]) + vec_zero(), high = vec_zip_high(sum[0][v], sum[1][v]) + vec_zero();
    if (vectors > 1 || columns >= 2 * LANES) {
      vec_store(to, low);
      vec_store(to + LANES, high);
    } else if (columns >= LANES) {
      vec_store(to, low);
      vec_store_part(to + LANES, high, columns - LANES);
    } else {
      vec_store_part(to, low, columns);
    }
  }
}

/* All tiles of all rows; the last one of an even row overlaps the one before. */
INLINE void run_rows(int even, int odd, int vectors, pairs_row row) {
  const kernel_pairs *job = row.job;
  const real *all_weights = row.weights;
  int64_t columns = job->columns, width = 2 * vectors * LANES, taps = job->taps[0] + job->taps[1];
  int64_t last = columns % 2 == 0 && columns >= width ? columns - width : columns;
  for (int64_t i = 0, phase = 0; i < job->rows; i++, row.to += job->row_stride) {
    row.kernel_rows = job->kernel_rows[phase];
    for (int64_t column = 0; column < columns; column += width) {
      int64_t at = least(column, last);
      tile(even, odd, vectors, &row, at, columns - at);
    }
    row.offsets += row.kernel_rows;
    row.weights += row.kernel_rows * taps;
    if (++phase < job->phases) continue;
    phase = 0;
    row.in += job->pitch;
    row.weights = all_weights;
    row.offsets = job->offsets;
  }
}

#define ROWS(name, ...)                                                                                                \
  static __attribute__((noinline)) void name(const pairs_row *row) {                                                   \
    run_rows(__VA_ARGS__, *row);                                                                                       \
  }
ROWS(small3, 1, 2, 1)
ROWS(small3_wide, 1, 2, MOST_VECTORS)
ROWS(small5, 3, 2, 1)
ROWS(small5_wide, 3, 2, MOST_VECTORS)
ROWS(any, 0, 0, 1)

/* Whether a kernel row of `size` taps is padded by half its size. */
static bool is_small(const kernel_pairs *job, int64_t size) {
  int64_t even = size / 4 * 2 + 1;
  return LANES > 1 && job->dilation == 1 && job->taps[0] == even && job->taps[1] == size - even && job->first[0] == 0 &&
         job->first[1] == even / 2;
}

void NAME(depthwise_pairs)(const kernel_pairs *job, const void *weights, const void *strip, void *output) {
  pairs_row first = {job, 0, job->offsets, weights, strip, output};
  bool wide = job->columns % 2 == 0 && job->columns >= 2 * MOST_VECTORS * LANES;
  if (is_small(job, 3))
    (wide ? small3_wide : small3)(&first);
  else if (is_small(job, 5))
    (wide ? small5_wide : small5)(&first);
  else
    any(&first);
}
