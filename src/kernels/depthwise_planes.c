/* Depthwise convolution of planes (NCHW): each output channel reads one input channel; vector lanes are the columns of
 * one row.
 *
 * Input rows are read behind pointers: in the image itself where no column touches the padding, else in a buffer that
 * they are copied to with the padding around them. With a stride they are dealt out there: element i of phase f is the
 * padded column i * stride + f. So vectors are always loaded whole, and there are no edges. Vectors overlap where
 * columns are no multiple of the lanes, and bands of rows where rows are no multiple of a band: what is computed twice
 * has the same bits. */
#include "kernels/families.h"

#define BAND_ROWS 4
#define BAND_VECTORS 2

/* ---- The rows ---- */

/* A padded input row, as far as it is read: columns [from, end) of `count` lie inside the image. */
typedef struct row_part {
  int64_t count, from, end;
  bool mapped; /* what lies outside comes from the map; else it is zero and stays so */
} row_part;

static row_part part_of_row(const kernel_conv *conv) {
  row_part p = {.count = (conv->out_width - 1) * conv->stride[1] + (conv->kernel_width - 1) * conv->dilation[1] + 1};
  p.from = most(least(conv->image_column, p.count), 0);
  p.end = most(least(conv->image_column + conv->in_width, p.count), p.from);
  p.mapped = (p.from > 0 && conv->columns[0] >= 0) || (p.end < p.count && conv->columns[p.count - 1] >= 0);
  return p;
}

/* Elements `apart` from each other; side by side, a vector at a time: less than a vector, where `narrow`, writes a
 * whole one. */
INLINE void copy_columns(const real *from, int64_t apart, int64_t length, bool narrow, real *to) {
  if (apart != 1) {
    for (int64_t i = 0; i < length; i++)
      to[i] = from[i * apart];
  } else if (narrow) {
    vec_store(to, vec_load_part(from, length));
  } else {
    for (int64_t i = 0; i + LANES < length; i += LANES)
      vec_store(to + i, vec_load(from + i));
    vec_store(to + length - LANES, vec_load(from + length - LANES));
  }
}

/* Where a padded column lies in a row of the buffer. */
INLINE int64_t place_of(const kernel_conv *conv, const kernel_depthwise *job, int64_t column) {
  int64_t stride = conv->stride[1];
  return stride == 1 ? column : column % stride * (job->pitch / stride) + column / stride;
}

INLINE void deal_pairs_at(const real *from, int64_t i, real *to, real *other) {
  vec even, odd;
  vec_deal(from + 2 * i, &even, &odd);
  vec_store(to + i, even);
  vec_store(other + i, odd);
}

/* Columns side by side of a row that is dealt out for a stride of 2, to two places in turns. */
INLINE void deal_pairs(const real *from, int64_t length, real *to, real *other) {
  int64_t pairs = length / 2;
  for (int64_t i = 0; i + LANES < pairs; i += LANES)
    deal_pairs_at(from, i, to, other);
  if (pairs >= LANES) deal_pairs_at(from, pairs - LANES, to, other);
  for (int64_t i = 0; i < pairs && pairs < LANES; i++)
    to[i] = from[2 * i], other[i] = from[2 * i + 1];
  if (length % 2) to[pairs] = from[length - 1];
}

static void copy_mapped(const kernel_conv *conv, const kernel_depthwise *job, const row_part *p, const real *row,
                        real *to) {
  for (int64_t i = 0; i < p->count; i++)
    if (i < p->from || i >= p->end) to[place_of(conv, job, i)] = row[conv->columns[i] * conv->input_strides[2]];
}

/* Inlined for a stride, for columns side by side, and no more than a vector of them, as constants. */
INLINE void copy_rows(const kernel_conv *conv, const kernel_depthwise *job, const row_part *p, int64_t rows, bool deals,
                      int64_t apart, bool narrow, const real *image) {
  const int64_t *map = conv->rows + job->row * conv->stride[0], down = conv->input_strides[1], pitch = job->pitch;
  int64_t length = p->end - p->from;
  const real *inside = image + (p->from - conv->image_column) * apart;
  real *to = job->buffer;
  int64_t first = place_of(conv, job, p->from), second = place_of(conv, job, p->from + 1);
  for (int64_t i = 0; i < rows; i++, to += pitch) {
    const real *from = inside + map[i] * down;
    if (map[i] >= 0 && !deals) copy_columns(from, apart, length, narrow, to + first);
    if (map[i] >= 0 && deals && conv->stride[1] == 2 && apart == 1) deal_pairs(from, length, to + first, to + second);
    if (map[i] >= 0 && deals && !(conv->stride[1] == 2 && apart == 1))
      for (int64_t j = 0; j < length; j++)
        to[place_of(conv, job, p->from + j)] = from[j * apart];
    if (map[i] >= 0 && p->mapped) copy_mapped(conv, job, p, image + map[i] * down, to);
    job->rows_at[i] = map[i] < 0 ? job->zeros : to;
  }
}

static void point_at_rows(const kernel_conv *conv, const kernel_depthwise *job, int64_t rows, const real *image) {
  const int64_t *map = conv->rows + job->row * conv->stride[0];
  for (int64_t i = 0; i < rows; i++)
    job->rows_at[i] = map[i] < 0 ? job->zeros : image + map[i] * conv->input_strides[1];
}

void NAME(depthwise_rows)(const kernel_conv *conv, const kernel_depthwise *job, const void *plane) {
  int64_t rows = (job->rows - 1) * conv->stride[0] + (conv->kernel_height - 1) * conv->dilation[0] + 1;
  row_part p = part_of_row(conv);
  if (!job->pitch)
    point_at_rows(conv, job, rows, plane);
  else if (conv->stride[1] != 1)
    copy_rows(conv, job, &p, rows, true, conv->input_strides[2], false, plane);
  else if (conv->input_strides[2] != 1)
    copy_rows(conv, job, &p, rows, false, conv->input_strides[2], false, plane);
  else
    copy_rows(conv, job, &p, rows, false, 1, p.end - p.from < LANES, plane);
}

/* ---- The sums ---- */

/* Some output rows, in a block whose input rows are found. */
typedef struct band {
  const kernel_conv *conv;
  const void *const *rows; /* of the input, from the band's first on */
  const void *zeros;
  const real *weights, *bias;
  real *to;
  int64_t pitch; /* of `to` */
  /* Of the columns that a tap reads: how many phases further than those of the one before, and how many elements; how
   * many when that is beyond the last phase. */
  int64_t phases, next, back;
} band;

/* Small kernels, all sizes constant: each input row serves the output rows that have it under one of their
 * taps. `apart`: columns from the first vector to the second. */
INLINE void sum_small(int height, int vectors, int kernel, int stride, const band *b, const vec *weights,
                      int64_t column, int64_t apart, vec sum[BAND_ROWS][BAND_VECTORS]) {
#pragma GCC unroll 16
  for (int i = 0; i < (height - 1) * stride + kernel; i++) {
    if (b->rows[i] == b->zeros) continue;
    const real *row = (const real *)b->rows[i] + column, *odd = row + b->next;
#pragma GCC unroll 8
    for (int s = 0; s < kernel; s++) {
      vec x[BAND_VECTORS];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++)
        x[v] = vec_keep(vec_load((stride == 2 && s % 2 ? odd : row) + v * apart + s / stride));
#pragma GCC unroll 4
      for (int j = 0; j < height; j++) {
        int r = i - j * stride;
        if (r < 0 || r >= kernel) continue;
        vec w = kernel == 3 ? weights[r * kernel + s] : vec_set(b->weights[r * kernel + s]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
          sum[j][v] = vec_fma(w, x[v], sum[j][v]);
      }
    }
  }
}

/* One input row of a tall kernel for output rows [from, to) of the band, whose weights begin at `weights` and lie a
 * kernel row further back from each output row to the next. */
INLINE void sum_row(int from, int to, int vectors, const real *row, const real *weights, int64_t kernel_width,
                    int64_t dilation, int64_t apart, vec sum[BAND_ROWS][BAND_VECTORS]) {
  for (int64_t s = 0; s < kernel_width; s++, row += dilation) {
    vec x[BAND_VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      x[v] = vec_keep(vec_load(row + v * apart));
#pragma GCC unroll 4
    for (int j = from; j < to; j++) {
      vec w = vec_set(weights[s - j * kernel_width]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++)
        sum[j][v] = vec_fma(w, x[v], sum[j][v]);
    }
  }
}

/* Stride 1, and at least as many kernel rows as the band has rows: at the first input rows not all output rows have
 * begun, at the last not all go on. */
INLINE void sum_tall(int vectors, const band *b, int64_t column, int64_t apart, vec sum[BAND_ROWS][BAND_VECTORS]) {
  int64_t height = b->conv->kernel_height, width = b->conv->kernel_width, dilation = b->conv->dilation[1];
  const void *const *rows = b->rows;
  const real *weights = b->weights;
#pragma GCC unroll 4
  for (int i = 0; i < BAND_ROWS - 1; i++, rows++, weights += width)
    if (*rows != b->zeros)
      sum_row(0, i + 1, vectors, (const real *)*rows + column, weights, width, dilation, apart, sum);
  for (int64_t i = BAND_ROWS - 1; i < height; i++, rows++, weights += width)
    if (*rows != b->zeros)
      sum_row(0, BAND_ROWS, vectors, (const real *)*rows + column, weights, width, dilation, apart, sum);
#pragma GCC unroll 4
  for (int i = 1; i < BAND_ROWS; i++, rows++, weights += width)
    if (*rows != b->zeros)
      sum_row(i, BAND_ROWS, vectors, (const real *)*rows + column, weights, width, dilation, apart, sum);
}

/* Any sizes. */
INLINE void sum_any(int height, int vectors, const band *b, int64_t column, int64_t apart,
                    vec sum[BAND_ROWS][BAND_VECTORS]) {
  const kernel_conv *conv = b->conv;
  const real *weights = b->weights;
  int64_t stride = conv->stride[1];
  for (int64_t r = 0; r < conv->kernel_height; r++) {
    const real *row[BAND_ROWS];
#pragma GCC unroll 4
    for (int j = 0; j < height; j++)
      row[j] = (const real *)b->rows[j * conv->stride[0] + r * conv->dilation[0]] + column;
    int64_t phase = 0, at = 0;
    for (int64_t s = 0; s < conv->kernel_width; s++) {
      vec w = vec_set(*weights++);
#pragma GCC unroll 4
      for (int j = 0; j < height; j++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
          sum[j][v] = vec_fma(w, vec_load(row[j] + at + v * apart), sum[j][v]);
      phase += b->phases;
      at += b->next;
      if (phase >= stride) phase -= stride, at += b->back;
    }
  }
}

/* Which of the sums. */
typedef enum band_kind { SMALL, TALL, ANY } band_kind;

/* One tile: `height` rows x `vectors` vectors. */
INLINE void tile(band_kind kind, int height, int vectors, int kernel, int stride, const band *b, const vec *weights,
                 int64_t column, int64_t apart) {
  vec sum[BAND_ROWS][BAND_VECTORS];
#pragma GCC unroll 4
  for (int j = 0; j < height; j++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      sum[j][v] = vec_zero();
  if (kind == SMALL) sum_small(height, vectors, kernel, stride, b, weights, column, apart, sum);
  if (kind == TALL) sum_tall(vectors, b, column, apart, sum);
  if (kind == ANY) sum_any(height, vectors, b, column, apart, sum);
  vec add = vec_set((b->bias ? *b->bias : 0) + (real)0);
#pragma GCC unroll 4
  for (int j = 0; j < height; j++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      vec_store(b->to + j * b->pitch + column + v * apart, sum[j][v] + add);
}

/* Inlined with constants: all tiles of a band, `vectors` vectors wide and at last one. */
INLINE void run_band(band_kind kind, int height, int vectors, int kernel, int stride, const band *b) {
  vec weights[9];
#pragma GCC unroll 9
  for (int i = 0; i < 9; i++)
    weights[i] = kernel == 3 ? vec_set(b->weights[i]) : vec_zero();
  int64_t column = 0, last = most(b->conv->out_width - LANES, 0);
  if (vectors == 2)
    for (; column < last; column += 2 * LANES)
      tile(kind, height, 2, kernel, stride, b, weights, column, least(last - column, LANES));
  for (; column < b->conv->out_width; column += LANES)
    tile(kind, height, 1, kernel, stride, b, weights, least(column, last), 0);
}

#define BAND(name, ...)                                                                                                \
  static __attribute__((noinline)) void band_##name(const band *b) {                                                   \
    run_band(__VA_ARGS__, b);                                                                                          \
  }
BAND(small3, SMALL, BAND_ROWS, 1, 3, 1)
BAND(small3_2, SMALL, BAND_ROWS, 1, 3, 2)
BAND(small5, SMALL, BAND_ROWS, 2, 5, 1)
BAND(small5_2, SMALL, BAND_ROWS, 2, 5, 2)
BAND(tall, TALL, BAND_ROWS, 2, 0, 1)
BAND(any, ANY, BAND_ROWS, 2, 0, 0)
BAND(row, ANY, 1, 2, 0, 0)

typedef void (*band_function)(const band *b);

static band_function find_band(const kernel_conv *conv, int64_t rows) {
  int64_t stride = conv->stride[1], size = conv->kernel_height;
  if (rows < BAND_ROWS) return band_row;
  /* Without vectors the unrolled ones gain little, and are large. */
  if (LANES == 1) return band_any;
  bool square = size == conv->kernel_width && conv->stride[0] == stride && conv->dilation[0] * conv->dilation[1] == 1;
  if (square && size == 3 && stride <= 2) return stride == 1 ? band_small3 : band_small3_2;
  if (square && size == 5 && stride <= 2) return stride == 1 ? band_small5 : band_small5_2;
  return conv->stride[0] * stride * conv->dilation[0] == 1 && size >= BAND_ROWS ? band_tall : band_any;
}

/* A band narrower than a vector, where its last rows have no room for whole vectors: computed beside the output. */
static void run_narrow(band_function function, band *b, int64_t rows, int64_t room) {
  real whole[BAND_ROWS * LANES], *to = b->to;
  int64_t pitch = b->pitch;
  b->to = whole;
  b->pitch = LANES;
  function(b);
  for (int64_t j = 0; j < rows; j++, to += pitch, room -= pitch) {
    if (room >= LANES)
      vec_store(to, vec_load(whole + j * LANES));
    else
      vec_store_part(to, vec_load(whole + j * LANES), b->conv->out_width);
  }
}

void NAME(depthwise_sums)(const kernel_conv *conv, const kernel_depthwise *job, const void *weights, const void *bias,
                          void *output) {
  band_function function = find_band(conv, job->rows);
  int64_t stride = conv->stride[1], dilation = conv->dilation[1], phase = job->pitch / stride;
  int64_t height = job->rows < BAND_ROWS ? 1 : BAND_ROWS, pitch = conv->output_strides[1];
  for (int64_t j = 0; j < job->rows; j += height) {
    int64_t row = least(j, job->rows - height);
    band b = {.conv = conv,
              .rows = job->rows_at + row * conv->stride[0],
              .zeros = job->zeros,
              .weights = weights,
              .bias = bias,
              .to = (real *)output + (job->row + row) * pitch,
              .pitch = pitch,
              .phases = dilation % stride,
              .next = dilation / stride + dilation % stride * phase,
              .back = 1 - stride * phase};
    int64_t room = job->room - row * pitch;
    if (conv->out_width < LANES && room < (height - 1) * pitch + LANES)
      run_narrow(function, &b, height, room);
    else
      function(&b);
  }
}
