/* Depthwise convolution of channels_last: vector lanes are channels, a tile is some pixels beside each other. Each
 * pixel of the input is read behind a pointer, which points at zeros for the padding. Tiles overlap where pixels are no
 * multiple of a tile, and vectors where channels are no multiple of the lanes: what is computed twice has the same
 * bits. */
#include "kernels/families.h"

/* Seven divides the widths of most networks' images; with the weights of seven kernel columns it fills the registers.
 */
#define TILE_PIXELS 7
#define MOST_TAPS 7

typedef struct pixel_row {
  const kernel_conv *conv;
  const void *const *const *rows; /* for each kernel row a pointer for each padded column; NULL: a row of zeros */
  int64_t channels;
  const real *weights, *bias;
  real *to;
} pixel_row;

/* Some taps of a kernel row, their number and the stride constant: a pixel of the input serves all pixels of the tile
 * that have it under one of their taps, but for the first and last `beside`, which lie in a padding of zeros. */
INLINE void sum_taps(int taps, int stride, int beside, const pixel_row *row, const void *const *from,
                     const real *weights, int64_t channel, vec sum[TILE_PIXELS]) {
  vec w[MOST_TAPS];
#pragma GCC unroll 7
  for (int s = 0; s < taps; s++)
    w[s] = vec_load(weights + s * row->channels);
#pragma GCC unroll 32
  for (int i = beside; i < (TILE_PIXELS - 1) * stride + taps - beside; i++) {
    vec x = vec_keep(vec_load((const real *)from[i] + channel));
#pragma GCC unroll 7
    for (int p = 0; p < TILE_PIXELS; p++)
      if (i - p * stride >= 0 && i - p * stride < taps) sum[p] = vec_fma(w[i - p * stride], x, sum[p]);
  }
}

/* A kernel row is some taps, and as many once more as fit; then one after the other. */
INLINE void sum_rows(int taps, bool more, int stride, int beside, const pixel_row *row, int64_t column, int64_t channel,
                     vec sum[TILE_PIXELS]) {
  int64_t width = row->conv->kernel_width;
  const real *weights = row->weights + channel;
  for (int64_t r = 0; r < row->conv->kernel_height; r++, weights += width * row->channels) {
    if (!row->rows[r]) continue;
    const void *const *from = row->rows[r] + column * stride;
    sum_taps(taps, stride, beside, row, from, weights, channel, sum);
    int64_t s = taps;
    for (; more && s + taps <= width; s += taps)
      sum_taps(taps, stride, beside, row, from + s, weights + s * row->channels, channel, sum);
    for (; more && s < width; s++)
      sum_taps(1, stride, 0, row, from + s, weights + s * row->channels, channel, sum);
  }
}

/* Any sizes, any number of lanes up to a vector. */
INLINE void sum_any(int pixels, int64_t lanes, const pixel_row *row, int64_t column, int64_t channel,
                    vec sum[TILE_PIXELS]) {
  const kernel_conv *conv = row->conv;
  const real *weights = row->weights + channel;
  for (int64_t r = 0; r < conv->kernel_height; r++) {
    const void *const *from = row->rows[r] ? row->rows[r] + column * conv->stride[1] : NULL;
    for (int64_t s = 0; s < conv->kernel_width; s++, weights += row->channels) {
      if (!from) continue;
      vec w = lanes == LANES ? vec_load(weights) : vec_load_part(weights, lanes);
#pragma GCC unroll 7
      for (int p = 0; p < pixels; p++) {
        const real *x = (const real *)from[p * conv->stride[1] + s * conv->dilation[1]] + channel;
        sum[p] = vec_fma(w, lanes == LANES ? vec_load(x) : vec_load_part(x, lanes), sum[p]);
      }
    }
  }
}

/* Inlined with constants; `taps` 0: any. */
INLINE void tile(int taps, bool more, int stride, int beside, int pixels, const pixel_row *row, int64_t column,
                 int64_t channel) {
  vec sum[TILE_PIXELS];
#pragma GCC unroll 7
  for (int p = 0; p < pixels; p++)
    sum[p] = vec_zero();
  if (taps)
    sum_rows(taps, more, stride, beside, row, column, channel, sum);
  else
    sum_any(pixels, LANES, row, column, channel, sum);
  vec add = (row->bias ? vec_load(row->bias + channel) : vec_zero()) + vec_zero();
  real *to = row->to + column * row->conv->output_strides[2] + channel;
#pragma GCC unroll 7
  for (int p = 0; p < pixels; p++)
    vec_store(to + p * row->conv->output_strides[2], sum[p] + add);
}

INLINE void run_row(int taps, bool more, int stride, int beside, int pixels, const pixel_row *row) {
  for (int64_t column = 0; column < row->conv->out_width; column += pixels)
    for (int64_t channel = 0; channel < row->channels; channel += LANES)
      tile(taps, more, stride, beside, pixels, row, least(column, row->conv->out_width - pixels),
           least(channel, row->channels - LANES));
}

#define ROW(name, ...)                                                                                                 \
  static __attribute__((noinline)) void row_##name(const pixel_row *row) {                                             \
    run_row(__VA_ARGS__, row);                                                                                         \
  }
ROW(small3, 3, false, 1, 0, TILE_PIXELS)
ROW(small3_2, 3, false, 2, 0, TILE_PIXELS)
ROW(small5, 5, false, 1, 0, TILE_PIXELS)
ROW(small5_2, 5, false, 2, 0, TILE_PIXELS)
ROW(wide, 7, true, 1, 0, TILE_PIXELS)
ROW(beside, 7, false, 1, 3, TILE_PIXELS)
ROW(any, 0, false, 0, 0, TILE_PIXELS)
ROW(short, 0, false, 0, 0, 1)

/* Fewer channels than lanes. */
static void row_narrow(const pixel_row *row) {
  vec add = (row->bias ? vec_load_part(row->bias, row->channels) : vec_zero()) + vec_zero();
  for (int64_t column = 0; column < row->conv->out_width; column++) {
    vec sum[TILE_PIXELS] = {vec_zero()};
    sum_any(1, row->channels, row, column, 0, sum);
    vec_store_part(row->to + column * row->conv->output_strides[2], sum[0] + add, row->channels);
  }
}

void NAME(depthwise_pixels)(const kernel_conv *conv, const void *const *const *rows, int64_t channels,
                            const void *weights, const void *bias, void *output) {
  pixel_row row = {conv, rows, channels, weights, bias, output};
  /* Without vectors the unrolled ones gain little, and are large. */
  int64_t kernel = LANES > 1 && conv->dilation[1] == 1 ? conv->kernel_width : 0, stride = conv->stride[1];
  if (channels < LANES)
    row_narrow(&row);
  else if (conv->out_width < TILE_PIXELS)
    row_short(&row);
  else if (kernel == 3 && stride <= 2)
    (stride == 1 ? row_small3 : row_small3_2)(&row);
  else if (kernel == 5 && stride <= 2)
    (stride == 1 ? row_small5 : row_small5_2)(&row);
  else if (REAL_BYTES == 4 && kernel == 7 && stride == 1 && conv->out_width == 7 && conv->in_width == 7 &&
           conv->image_column == 3 && conv->columns[0] < 0)
    row_beside(&row);
  else if (kernel >= 7 && stride == 1)
    row_wide(&row);
  else
    row_any(&row);
}
