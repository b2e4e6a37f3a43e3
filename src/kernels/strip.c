/* Strips: a few rows of an image, one vector of channels, with the channels of a pixel side by side whatever the layout
 * of the image. What Winograd's transforms read and write. Padding of every mode is resolved here, by the index maps.
 */
#include "kernels/families.h"

/* Not inlined: a square's own work is worth the call. */
void __attribute__((noinline)) NAME(turn_square)(real *to, int64_t to_stride, const real *from, int64_t from_stride) {
  vec square[LANES];
  vec_load_transposed(square, from, from_stride);
#pragma GCC unroll 16
  for (int l = 0; l < LANES; l++)
    vec_store(to + l * to_stride, square[l]);
}

/* Elements p[0], p[step], ..., n of them. */
INLINE vec load_step(const real *p, int64_t step, int64_t n) {
  if (step == 1) return n == LANES ? vec_load(p) : vec_load_part(p, n);
  if (step == 2) {
    int64_t left = 2 * n - 1; /* the last one's neighbour may lie outside */
    return vec_even(vec_load_part(p, clamp(left, 0, LANES)), vec_load_part(p + LANES, clamp(left - LANES, 0, LANES)));
  }
  real lanes[LANES] = {0};
  for (int64_t i = 0; i < n; i++)
    lanes[i] = p[i * step];
  return vec_load(lanes);
}

#if defined(KERNEL_ISA_avx512) && defined(VEC_MASKS)
/* To every second place; what lies between may be another thread's. */
INLINE void store_step2(real *p, vec v, int64_t n) {
  uint64_t places = (((uint64_t)1 << (2 * n)) - 1) & 0x55555555;
  vec_store_lanes(p, vec_zip_low(v, v), (vec_lanes)places);
  vec_store_lanes(p + LANES, vec_zip_high(v, v), (vec_lanes)(places >> LANES));
}
#endif

INLINE void store_step(real *p, vec v, int64_t step, int64_t n) {
  if (step == 1 && n == LANES)
    vec_store(p, v);
  else if (step == 1)
    vec_store_part(p, v, n);
#if defined(KERNEL_ISA_avx512) && defined(VEC_MASKS)
  else if (step == 2)
    store_step2(p, v, n);
#endif
  else {
    real lanes[LANES];
    vec_store(lanes, v);
    for (int64_t i = 0; i < n; i++)
      p[i * step] = lanes[i];
  }
}

/* A square that is not whole, or whose elements lie `step` apart: through one that is. */
static void gather_part(real *to, int64_t pixel, const real *from, int64_t channel_stride, int64_t step,
                        int64_t channels, int64_t n) {
  real in[LANES * LANES], out[LANES * LANES];
  for (int64_t l = 0; l < LANES; l++)
    vec_store(in + l * LANES, l < channels ? load_step(from + l * channel_stride, step, n) : vec_zero());
  NAME(turn_square)(out, LANES, in, LANES);
  for (int64_t l = 0; l < n; l++)
    vec_store(to + l * pixel, vec_load(out + l * LANES));
}

/* `count` pixels from a row of which each channel lies apart; `channels` of the vector exist. The last square ends with
 * the row and may overlap the one before. */
static void gather_planes(real *to, int64_t pixel, const real *from, int64_t channel_stride, int64_t step,
                          int64_t channels, int64_t count) {
  bool whole = count >= LANES && channels == LANES && step == 1;
  for (int64_t j = 0; j < count; j += LANES) {
    int64_t at = whole && j + LANES > count ? count - LANES : j;
    if (whole)
      NAME(turn_square)(to + at * pixel, pixel, from + at, channel_stride);
    else
      gather_part(to + at * pixel, pixel, from + at * step, channel_stride, step, channels,
                  clamp(count - at, 0, LANES));
  }
}

INLINE void gather_pixel(real *to, const real *from, int64_t channel_stride, int64_t channels) {
  if (channel_stride == 1) {
    vec_store(to, channels == LANES ? vec_load(from) : vec_load_part(from, channels));
    return;
  }
  vec_store(to, vec_zero());
  for (int64_t l = 0; l < channels; l++)
    to[l] = from[l * channel_stride];
}

/* Pixels [from, to) of a strip's row, one by one through the index map: the edges. */
static void gather_edge(const kernel_conv *conv, const kernel_strip *strip, const real *row, int64_t channels,
                        int64_t from, int64_t to, real *strip_row) {
  for (int64_t j = from; j < to; j++) {
    int64_t p = strip->column + j * strip->step[1];
    int64_t column = p < conv->padded_width ? conv->columns[p] : -1;
    if (column < 0)
      vec_store(strip_row + j * strip->pixel, vec_zero());
    else
      gather_pixel(strip_row + j * strip->pixel, row + column * conv->input_strides[2], conv->input_strides[0],
                   channels);
  }
}

static void gather_row(const kernel_conv *conv, const kernel_strip *strip, const real *row, int64_t channels,
                       real *strip_row) {
  int64_t step = strip->step[1], before = conv->image_column - strip->column;
  int64_t from = clamp(before > 0 ? (before + step - 1) / step : 0, 0, strip->columns);
  int64_t inside = before + conv->in_width; /* the strip's own coordinate where the image ends */
  int64_t to = clamp(inside > 0 ? (inside + step - 1) / step : 0, from, strip->columns);
  gather_edge(conv, strip, row, channels, 0, from, strip_row);
  gather_edge(conv, strip, row, channels, to, strip->columns, strip_row);
  if (from >= to) return;
  const real *first = row + (from * step - before) * conv->input_strides[2];
  real *out = strip_row + from * strip->pixel;
  int64_t apart = step * conv->input_strides[2];
  if (conv->input_strides[0] == 1)
    for (int64_t j = 0; j < to - from; j++)
      gather_pixel(out + j * strip->pixel, first + j * apart, 1, channels);
  else
    gather_planes(out, strip->pixel, first, conv->input_strides[0], apart, channels, to - from);
}

void NAME(gather_strip)(const kernel_conv *conv, const kernel_strip *strip, int64_t channel, const void *input,
                        void *to) {
  int64_t channels = clamp(conv->in_channels - channel, 0, LANES);
  const real *from = (const real *)input + channel * conv->input_strides[0];
  for (int64_t i = 0; i < strip->rows; i++) {
    int64_t p = strip->row + i * strip->step[0];
    int64_t row = p < conv->padded_height ? conv->rows[p] : -1;
    real *strip_row = (real *)to + i * strip->pitch;
    if (row >= 0)
      gather_row(conv, strip, from + row * conv->input_strides[1], channels, strip_row);
    else
      for (int64_t j = 0; j < strip->columns; j++)
        vec_store(strip_row + j * strip->pixel, vec_zero());
  }
}

/* The ways back. */
static void scatter_part(real *to, const real *from, int64_t pixel, int64_t channel_stride, int64_t step,
                         int64_t channels, int64_t n) {
  real in[LANES * LANES], out[LANES * LANES];
  for (int64_t l = 0; l < LANES; l++)
    vec_store(in + l * LANES, l < n ? vec_load(from + l * pixel) : vec_zero());
  NAME(turn_square)(out, LANES, in, LANES);
  for (int64_t l = 0; l < channels; l++)
    store_step(to + l * channel_stride, vec_load(out + l * LANES), step, n);
}

static void scatter_planes(real *to, const real *from, int64_t pixel, int64_t channel_stride, int64_t step,
                           int64_t channels, int64_t count) {
  bool whole = count >= LANES && channels == LANES && step == 1;
  for (int64_t j = 0; j < count; j += LANES) {
    int64_t at = whole && j + LANES > count ? count - LANES : j;
    if (whole)
      NAME(turn_square)(to + at, channel_stride, from + at * pixel, pixel);
    else
      scatter_part(to + at * step, from + at * pixel, pixel, channel_stride, step, channels,
                   clamp(count - at, 0, LANES));
  }
}

void NAME(scatter_strip)(const kernel_conv *conv, const kernel_strip *strip, int64_t channel, const void *from,
                         void *output) {
  int64_t channels = clamp(conv->out_channels - channel, 0, LANES);
  int64_t rows = clamp((conv->out_height - strip->row + strip->step[0] - 1) / strip->step[0], 0, strip->rows);
  int64_t columns = clamp((conv->out_width - strip->column + strip->step[1] - 1) / strip->step[1], 0, strip->columns);
  int64_t apart = strip->step[1] * conv->output_strides[2];
  real *to = (real *)output + channel * conv->output_strides[0] + strip->row * conv->output_strides[1] +
             strip->column * conv->output_strides[2];
  for (int64_t i = 0; i < rows; i++, to += strip->step[0] * conv->output_strides[1]) {
    const real *strip_row = (const real *)from + i * strip->pitch;
    if (conv->output_strides[0] == 1)
      for (int64_t j = 0; j < columns; j++)
        store_step(to + j * apart, vec_load(strip_row + j * strip->pixel), 1, channels);
    else
      scatter_planes(to, strip_row, strip->pixel, conv->output_strides[0], apart, channels, columns);
  }
}
