/* Depthwise convolution: each output channel reads one input channel.
 *
 * Planes (NCHW): vector lanes are the columns of one row. The input rows under a block of output rows are first copied
 * into a buffer where padding is filled in and, for a stride, every stride-th column lies side by side; from there on
 * there are no edges and no strides. Each load of the buffer then serves all output rows of a tile that need it.
 *
 * Pixels (channels_last): vector lanes are channels; taps of a pixel are pointers, to zeros for the padding. */
#include "kernels/families.h"

#define TILE_HEIGHT 4
#define TILE_WIDTH DEPTHWISE_TILE_WIDTH

INLINE int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

/* ---- Planes: the buffer ---- */

/* Elements [from, to) of a phase, one by one through the index map. `row` NULL: a row of zeros. */
static void copy_edge(const kernel_conv *conv, const real *row, int64_t first, int64_t from, int64_t to, real *phase) {
  for (int64_t i = from; i < to; i++) {
    int64_t p = first + i * conv->stride[1];
    int64_t column = row && p < conv->padded_width ? conv->columns[p] : -1;
    phase[i] = column < 0 ? 0 : row[column * conv->input_strides[2]];
  }
}

INLINE void copy_inside(const real *from, int64_t apart, int64_t length, real *to) {
  int64_t i = 0;
  if (apart == 1)
    for (; i + LANES <= length; i += LANES)
      vec_store(to + i, vec_load(from + i));
  if (apart == 2)
    for (; i + LANES < length; i += LANES)
      vec_store(to + i, vec_even(vec_load(from + 2 * i), vec_load(from + 2 * i + LANES)));
  for (; i < length; i++)
    to[i] = from[i * apart];
}

/* Padded columns first, first + stride, ... of one row: the edges by the map, the rest as it lies. */
static void copy_phase(const kernel_conv *conv, const real *row, int64_t first, int64_t count, real *phase) {
  int64_t stride = conv->stride[1], before = conv->image_column - first;
  int64_t inside = row ? clamp(before > 0 ? (before + stride - 1) / stride : 0, 0, count) : count;
  int64_t end = before + conv->in_width;
  int64_t outside = clamp(end > 0 ? (end + stride - 1) / stride : 0, inside, count);
  copy_edge(conv, row, first, 0, inside, phase);
  if (outside > inside)
    copy_inside(row + (inside * stride - before) * conv->input_strides[2], stride * conv->input_strides[2],
                outside - inside, phase + inside);
  copy_edge(conv, row, first, outside, count, phase);
}

static void fill_buffer(const kernel_conv *conv, const kernel_depthwise *job, const real *plane, real *buffer) {
  int64_t stride = conv->stride[1], first_row = job->row * conv->stride[0];
  int64_t rows = (job->rows - 1) * conv->stride[0] + (conv->kernel_height - 1) * conv->dilation[0] + 1;
  for (int64_t i = 0; i < rows; i++)
    for (int64_t phase = 0; phase < stride; phase++) {
      int64_t row = conv->rows[first_row + i];
      copy_phase(conv, row < 0 ? NULL : plane + row * conv->input_strides[1], job->column * stride + phase,
                 job->phase_columns, buffer + (i * stride + phase) * job->phase_elements);
    }
}

/* ---- Planes: the sums ---- */

/* One row of the buffer added to the output rows of a tile that have it under tap row `i - j`. Where `all`, each of
 * them has. */
INLINE void add_row(int height, int width, int64_t kernel_height, int64_t kernel_width, bool all, int64_t i,
                    const real *row, const int64_t *offsets, const real *weights, vec sum[TILE_HEIGHT][TILE_WIDTH]) {
  for (int64_t s = 0; s < kernel_width; s++) {
    vec x[TILE_WIDTH];
#pragma GCC unroll 4
    for (int v = 0; v < width; v++)
      x[v] = vec_load(row + offsets[s] + v * LANES);
#pragma GCC unroll 4
    for (int j = 0; j < height; j++)
      if (all || (i - j >= 0 && i - j < kernel_height)) {
        vec w = vec_set(weights[(i - j) * kernel_width + s]);
#pragma GCC unroll 4
        for (int v = 0; v < width; v++)
          sum[j][v] = vec_fma(w, x[v], sum[j][v]);
      }
  }
}

/* `height` output rows x `width` vectors with vertical stride and dilation 1: row i of the buffer is tap row i - j of
 * output row j. */
INLINE void tile_unit(int height, int width, const kernel_depthwise *job, const real *buffer, int64_t pitch,
                      int64_t kernel_height, int64_t kernel_width, const real *weights,
                      vec sum[TILE_HEIGHT][TILE_WIDTH]) {
  int64_t last = kernel_height + height - 1, i = 0;
  for (; i < last && i < height - 1; i++, buffer += pitch)
    add_row(height, width, kernel_height, kernel_width, false, i, buffer, job->offsets, weights, sum);
  for (; i < kernel_height; i++, buffer += pitch)
    add_row(height, width, kernel_height, kernel_width, true, i, buffer, job->offsets, weights, sum);
  for (; i < last; i++, buffer += pitch)
    add_row(height, width, kernel_height, kernel_width, false, i, buffer, job->offsets, weights, sum);
}

/* The same for any vertical stride and dilation. */
INLINE void tile_any(int height, int width, const kernel_conv *conv, const kernel_depthwise *job, const real *buffer,
                     int64_t pitch, const real *weights, vec sum[TILE_HEIGHT][TILE_WIDTH]) {
  for (int64_t r = 0; r < conv->kernel_height; r++)
    for (int64_t s = 0; s < conv->kernel_width; s++) {
      vec w = vec_set(*weights++);
      const real *x = buffer + r * conv->dilation[0] * pitch + job->offsets[s];
#pragma GCC unroll 4
      for (int j = 0; j < height; j++)
#pragma GCC unroll 4
        for (int v = 0; v < width; v++)
          sum[j][v] = vec_fma(w, vec_load(x + j * conv->stride[0] * pitch + v * LANES), sum[j][v]);
    }
}

/* Stores the columns that exist. */
INLINE void store_row(const vec *sum, int width, vec bias, bool add, int64_t columns, real *to) {
#pragma GCC unroll 4
  for (int v = 0; v < width; v++) {
    int64_t left = columns - v * LANES;
    vec result = add ? sum[v] + bias : sum[v];
    if (left >= LANES)
      vec_store(to + v * LANES, result);
    else if (left > 0)
      vec_store_part(to + v * LANES, result, left);
  }
}

/* Inlined with constant height and width, and with constant kernel sizes for the common ones. */
INLINE void tile(int height, int width, const kernel_conv *conv, const kernel_depthwise *job, const real *buffer,
                 const real *weights, const real *bias, int64_t columns, real *to) {
  vec sum[TILE_HEIGHT][TILE_WIDTH];
#pragma GCC unroll 4
  for (int j = 0; j < height; j++)
#pragma GCC unroll 4
    for (int v = 0; v < width; v++)
      sum[j][v] = vec_zero();
  int64_t pitch = conv->stride[1] * job->phase_elements, r = conv->kernel_height, s = conv->kernel_width;
  if (conv->stride[0] != 1 || conv->dilation[0] != 1)
    tile_any(height, width, conv, job, buffer, pitch, weights, sum);
  else if (r == 3 && s == 3)
    tile_unit(height, width, job, buffer, pitch, 3, 3, weights, sum);
  else if (r == 5 && s == 5)
    tile_unit(height, width, job, buffer, pitch, 5, 5, weights, sum);
  else if (r == 7 && s == 7)
    tile_unit(height, width, job, buffer, pitch, 7, 7, weights, sum);
  else
    tile_unit(height, width, job, buffer, pitch, r, s, weights, sum);
#pragma GCC unroll 4
  for (int j = 0; j < height; j++)
    store_row(sum[j], width, vec_set(bias ? *bias : 0), bias != NULL, columns, to + j * conv->output_strides[1]);
}

#define TILE(height, width)                                                                                            \
  static __attribute__((noinline)) void tile_##height##x##width(const kernel_conv *conv, const kernel_depthwise *job,  \
                                                                const real *buffer, const real *weights,               \
                                                                const real *bias, int64_t columns, real *to) {         \
    tile(height, width, conv, job, buffer, weights, bias, columns, to);                                                \
  }
TILE(1, 1)
TILE(4, 1)
TILE(1, 2)
TILE(4, 2)
#if TILE_WIDTH == 4
TILE(1, 4)
TILE(4, 4)
#endif

typedef void (*tile_function)(const kernel_conv *, const kernel_depthwise *, const real *, const real *, const real *,
                              int64_t, real *);

/* The tile for so many rows and columns as are left. */
static tile_function tile_for(int64_t rows, int64_t columns) {
  bool high = rows >= TILE_HEIGHT;
  if (columns <= LANES) return high ? tile_4x1 : tile_1x1;
#if TILE_WIDTH == 4
  if (columns > 2 * LANES) return high ? tile_4x4 : tile_1x4;
#endif
  return high ? tile_4x2 : tile_1x2;
}

void NAME(depthwise_planes)(const kernel_conv *conv, const kernel_depthwise *job, const void *plane,
                            const void *weights, const void *bias, void *buffer, void *output) {
  fill_buffer(conv, job, plane, buffer);
  int64_t pitch = conv->stride[1] * job->phase_elements;
  for (int64_t j = 0; j < job->rows; j += job->rows - j >= TILE_HEIGHT ? TILE_HEIGHT : 1)
    for (int64_t i = 0; i < job->columns; i += TILE_WIDTH * LANES) {
      real *to = (real *)output + (job->row + j) * conv->output_strides[1] + job->column + i;
      tile_for(job->rows - j, job->columns - i)(conv, job, (const real *)buffer + j * conv->stride[0] * pitch + i,
                                                weights, bias, job->columns - i, to);
    }
}

/* ---- Pixels ---- */

/* Up to KERNEL_DEPTHWISE_PIXELS pixels x one vector of channels. */
INLINE void pixels_tile(int pixels, int64_t taps, const void *const *pointers, int64_t channel, int64_t lanes,
                        int64_t channels, const real *weights, vec bias, bool add, real *to, int64_t pixel_stride) {
  vec sum[KERNEL_DEPTHWISE_PIXELS];
#pragma GCC unroll 4
  for (int p = 0; p < pixels; p++)
    sum[p] = vec_zero();
  for (int64_t tap = 0; tap < taps; tap++, pointers += KERNEL_DEPTHWISE_PIXELS, weights += channels) {
    vec w = lanes == LANES ? vec_load(weights) : vec_load_part(weights, lanes);
#pragma GCC unroll 4
    for (int p = 0; p < pixels; p++) {
      const real *x = (const real *)pointers[p] + channel;
      sum[p] = vec_fma(w, lanes == LANES ? vec_load(x) : vec_load_part(x, lanes), sum[p]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < pixels; p++) {
    vec result = add ? sum[p] + bias : sum[p];
    if (lanes == LANES)
      vec_store(to + p * pixel_stride, result);
    else
      vec_store_part(to + p * pixel_stride, result, lanes);
  }
}

void NAME(depthwise_pixels)(int64_t pixels, int64_t taps, const void *const *pointers, int64_t channels,
                            const void *weights, const void *bias, void *output, int64_t pixel_stride) {
  for (int64_t c = 0; c < channels; c += LANES) {
    int64_t lanes = clamp(channels - c, 0, LANES);
    const real *w = (const real *)weights + c, *b = (const real *)bias + c;
    vec add = bias ? vec_load_part(b, lanes) : vec_zero();
    real *to = (real *)output + c;
    if (pixels == KERNEL_DEPTHWISE_PIXELS && lanes == LANES)
      pixels_tile(KERNEL_DEPTHWISE_PIXELS, taps, pointers, c, LANES, channels, w, add, bias != NULL, to, pixel_stride);
    else
      for (int64_t p = 0; p < pixels; p++)
        pixels_tile(1, taps, pointers + p, c, lanes, channels, w, add, bias != NULL, to + p * pixel_stride,
                    pixel_stride);
  }
}
