/* Depthwise convolution of planes (NCHW): each output channel reads one input channel; vector lanes are the columns of
 * one row.
 *
 * Input rows are read in the image itself, where no column touches the padding or lanes beside the image are masked out
 * (see depthwise_near); else in a buffer that they are copied to with the padding around them. With a stride they are
 * dealt out there: element i of phase f is the padded column i * stride + f. Vectors overlap where columns are no
 * multiple of the lanes, and bands of rows where rows are no multiple of a band: what is computed twice has the same
 * bits. */
#include "kernels/families.h"

#define BAND_ROWS 4
#define BAND_VECTORS 2

/* Where there are 32 registers: the rows of a band of a kernel 3 wide, which divide the heights of most networks'
 * images, and of one 5 or 7 wide. */
#if defined(KERNEL_ISA_avx512) || defined(KERNEL_ISA_neon)
#define SMALL_ROWS 7
#define MOST_ROWS 8
#else
#define SMALL_ROWS BAND_ROWS
#define MOST_ROWS BAND_ROWS
#endif
#define MOST_TAPS 7

/* Columns that a tile reads, at the most. */
#define WINDOW 32

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

/* A vector at a time, the last one with zeros behind the elements. */
INLINE void copy_columns(const real *from, int64_t length, real *to) {
  int64_t i = 0;
  for (; i + LANES <= length; i += LANES)
    vec_store(to + i, vec_load(from + i));
  if (i < length) vec_store(to + i, vec_load_part(from + i, length - i));
}

/* Where a padded column lies in a row of the buffer. */
INLINE int64_t place_of(const kernel_conv *conv, const kernel_depthwise *job, int64_t column) {
  int64_t stride = conv->stride[1];
  return stride == 1 ? column : column % stride * job->phase + column / stride;
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
  for (int64_t i = p->from > 0 ? 0 : p->end; i < p->count; i = i + 1 == p->from ? p->end : i + 1)
    to[place_of(conv, job, i)] = row[conv->columns[i] * conv->input_strides[2]];
}

/* Inlined for columns side by side without a stride, and for all others. */
INLINE void copy_rows(const kernel_conv *conv, const kernel_depthwise *job, const row_part *p, int64_t rows, bool plain,
                      const real *image) {
  const int64_t *map = conv->rows + job->row * conv->stride[0], down = conv->input_strides[1], pitch = job->pitch;
  int64_t length = p->end - p->from, apart = conv->input_strides[2], stride = conv->stride[1];
  const real *inside = image + (p->from - conv->image_column) * apart;
  real *to = job->buffer;
  int64_t first = place_of(conv, job, p->from), second = place_of(conv, job, p->from + 1);
  for (int64_t i = 0; i < rows; i++, to += pitch) {
    const real *from = inside + map[i] * down;
    if (map[i] >= 0 && plain) copy_columns(from, length, to + first);
    if (map[i] >= 0 && !plain && apart == 1 && stride == 2) deal_pairs(from, length, to + first, to + second);
    for (int64_t j = 0; j < length && map[i] >= 0 && !plain && (apart != 1 || stride > 2); j++)
      to[place_of(conv, job, p->from + j)] = from[j * apart];
    if (map[i] >= 0 && p->mapped) copy_mapped(conv, job, p, image + map[i] * down, to);
    job->rows_at[i] = map[i] < 0 ? job->zeros : to;
  }
}

/* Pointers to the rows of the image, as if they began with the padding. With a stride one to the image: the kernel
 * finds the rows while it multiplies. */
static void point_at_rows(const kernel_conv *conv, const kernel_depthwise *job, int64_t rows, const real *image) {
  const int64_t *map = conv->rows + job->row;
  job->rows_at[0] = image;
  if (conv->stride[1] > 1) return;
  image -= conv->image_column;
  for (int64_t i = 0; i < rows; i++)
    job->rows_at[i] = map[i] < 0 ? job->zeros : image + map[i] * conv->input_strides[1];
}

void NAME(depthwise_rows)(const kernel_conv *conv, const kernel_depthwise *job, const void *plane) {
  int64_t rows = (job->rows - 1) * conv->stride[0] + (conv->kernel_height - 1) * conv->dilation[0] + 1;
  row_part p = part_of_row(conv);
  if (!job->pitch)
    point_at_rows(conv, job, rows, plane);
  else if (conv->stride[1] == 1 && conv->input_strides[2] == 1)
    copy_rows(conv, job, &p, rows, true, plane);
  else
    copy_rows(conv, job, &p, rows, false, plane);
}

/* ---- The sums ---- */

/* Some output rows, in a block whose input rows are found. */
typedef struct band {
  const kernel_conv *conv;
  int64_t count;           /* of the rows */
  int64_t second;          /* JOINED: how far below lie the rows of the other half */
  const void *const *rows; /* of the input, from the band's first on */
  const void *zeros;
  const int64_t *map; /* of the image in place under a stride: its rows, from the band's first on */
  bool near;          /* what lies beside the image is masked out */
  const real *weights, *bias;
  real *to;
  int64_t pitch; /* of `to` */
  /* Of the columns that a tap reads: how many phases further than those of the one before, and how many elements; how
   * many when that is beyond the last phase. */
  int64_t phases, next, back;
} band;

/* Of the image in place under a stride, row i. */
INLINE const real *row_at(const band *b, int64_t i) {
  return b->map[i] < 0 ? b->zeros : (const real *)b->rows[0] + b->map[i] * b->conv->input_strides[1];
}

INLINE void move_down(band *b, int64_t output_rows) {
  b->rows += output_rows * b->conv->stride[0];
  b->to += output_rows * b->pitch;
}

/* The lanes of each tap of a kernel row that lie inside of the image. */
typedef vec_lanes tap_lanes[MOST_TAPS][BAND_VECTORS];

INLINE void find_lanes(int vectors, int kernel, int64_t from, int64_t end, int64_t apart, tap_lanes lanes) {
  vec_window window = vec_window_of(clamp(from, 0, WINDOW), clamp(end, 0, WINDOW));
#pragma GCC unroll 7
  for (int s = 0; s < kernel; s++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      lanes[s][v] = vec_lanes_at(window, s + v * apart);
}

/* Small kernels, all sizes constant: each input row serves the output rows that have it under one of their
 * taps. `apart`: columns from the first vector to the second. */
INLINE void sum_small(bool edge, int height, int vectors, int kernel, int stride, const band *b, const vec *weights,
                      int64_t column, int64_t apart, tap_lanes lanes, vec sum[MOST_ROWS][BAND_VECTORS]) {
#pragma GCC unroll 16
  for (int i = 0; i < (height - 1) * stride + kernel; i++) {
    if (kernel > 3 && b->rows[i] == b->zeros) continue;
    const real *row = (const real *)b->rows[i] + column, *odd = row + b->next;
#pragma GCC unroll 8
    for (int s = 0; s < kernel; s++) {
      vec x[BAND_VECTORS];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) {
        const real *from = (stride == 2 && s % 2 ? odd : row) + v * apart + s / stride;
        x[v] = vec_keep(edge ? vec_load_lanes(from, lanes[s][v]) : vec_load(from));
      }
#pragma GCC unroll 8
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

/* Kernels of a constant width, any height, where there are registers for what all taps of a kernel row read of an input
 * row: it stays there while it serves one output row after the other. */
INLINE void sum_wide(bool edge, bool joined, int vectors, int kernel, int stride, const band *b, int64_t column,
                     int64_t apart, tap_lanes lanes, vec sum[MOST_ROWS][BAND_VECTORS]) {
  int64_t height = b->conv->kernel_height;
  for (int64_t i = 0; i < (b->count - 1) * stride + height; i++) {
    const void *other = b->rows[i + (joined ? b->second * stride : 0)];
    if (b->rows[i] == b->zeros && other == b->zeros) continue;
    const real *row = (const real *)b->rows[i] + column, *odd = row + b->next, *below = (const real *)other + column;
    const real *weights = b->weights + i * kernel;
    vec x[MOST_TAPS][BAND_VECTORS];
#pragma GCC unroll 7
    for (int s = 0; s < kernel; s++)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) {
        const real *from = (stride == 2 && s % 2 ? odd : row) + v * apart + s / stride;
        if (joined)
          x[s][v] = vec_keep(edge ? vec_join_lanes(from, below + s, lanes[s][v]) : vec_join(from, below + s));
        else
          x[s][v] = vec_keep(edge ? vec_load_lanes(from, lanes[s][v]) : vec_load(from));
      }
#pragma GCC unroll 8
    for (int j = 0; j < MOST_ROWS; j++, weights -= stride * kernel) {
      if (j >= b->count || i < j * stride || i - j * stride >= height) continue;
#pragma GCC unroll 7
      for (int s = 0; s < kernel; s++) {
        vec w = vec_set(weights[s]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
          sum[j][v] = vec_fma(w, x[s][v], sum[j][v]);
      }
    }
  }
}

/* One input row of a tall kernel for output rows [from, to) of the band, whose weights begin at `weights` and lie a
 * kernel row further back from each output row to the next. */
INLINE void sum_row(int from, int to, int vectors, const real *row, const real *weights, int64_t kernel_width,
                    int64_t dilation, int64_t apart, vec sum[MOST_ROWS][BAND_VECTORS]) {
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
INLINE void sum_tall(int vectors, const band *b, int64_t column, int64_t apart, vec sum[MOST_ROWS][BAND_VECTORS]) {
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
                    vec sum[MOST_ROWS][BAND_VECTORS]) {
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
typedef enum band_kind { SMALL, WIDE, JOINED, TALL, ANY } band_kind;

/* One tile: `height` rows, of a WIDE one as many as the band has, x `vectors` vectors; of a JOINED one half a vector of
 * them, and of as many rows below. */
INLINE void tile(band_kind kind, bool edge, int height, int vectors, int kernel, int stride, const band *b,
                 const vec *weights, vec add, int64_t column, int64_t apart, tap_lanes lanes) {
  vec sum[MOST_ROWS][BAND_VECTORS];
#pragma GCC unroll 8
  for (int j = 0; j < height; j++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      sum[j][v] = vec_zero();
  if (kind == SMALL) sum_small(edge, height, vectors, kernel, stride, b, weights, column, apart, lanes, sum);
  if (kind == WIDE || kind == JOINED)
    sum_wide(edge, kind == JOINED, vectors, kernel, stride, b, column, apart, lanes, sum);
  if (kind == TALL) sum_tall(vectors, b, column, apart, sum);
  if (kind == ANY) sum_any(height, vectors, b, column, apart, sum);
  real *to = b->to + column;
#pragma GCC unroll 8
  for (int j = 0; j < height; j++, to += b->pitch) {
    if ((kind == WIDE || kind == JOINED) && j >= b->count) break;
    if (kind == JOINED) {
      vec_store_halves(to, to + b->second * b->pitch, sum[j][0] + add);
      continue;
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      vec_store(to + v * apart, sum[j][v] + add);
  }
}

/* Whether a tile that reads so many columns reads beyond the image. */
INLINE bool is_edge(const band *b, int64_t column, int64_t columns) {
  int64_t from = column - b->conv->image_column;
  return b->near && (from < 0 || from + columns > b->conv->in_width);
}

/* One that may lie at an edge of the image: there loads have masks, which take time. */
INLINE void find_tile(band_kind kind, int height, int vectors, int kernel, int stride, const band *b,
                      const vec *weights, vec add, int64_t column, int64_t apart) {
  bool near = kind <= JOINED && stride == 1 && (kernel == 3 ? DEPTHWISE_NEAR_3 : DEPTHWISE_NEAR_57) > 0;
  int64_t from = b->conv->image_column - column;
  tap_lanes lanes;
  if (near && (kind == JOINED || is_edge(b, column, LANES + (vectors - 1) * apart + kernel - 1))) {
    find_lanes(vectors, kernel, b->near ? from : 0, b->near ? from + b->conv->in_width : WINDOW, apart, lanes);
    tile(kind, true, height, vectors, kernel, stride, b, weights, add, column, apart, lanes);
  } else if (kind != JOINED || !near) {
    tile(kind, false, height, vectors, kernel, stride, b, weights, add, column, apart, lanes);
  }
}

/* What is left of a row is no more than half a vector: of two bands at once. */
INLINE void run_joined(int height, int kernel, vec add, band b) {
  for (int64_t left = b.count, down; left > 0; left -= down) {
    int64_t bands = 2 * ((left - 1) / (2 * height) + 1);
    b.count = (left + bands - 1) / bands;
    b.second = least(b.count, left - b.count);
    find_tile(JOINED, height, 1, kernel, 1, &b, NULL, add, b.conv->out_width - LANES / 2, 0);
    down = b.count + b.second;
    move_down(&b, down);
  }
}

/* Inlined with constants: the rows of a block, `height` at a time, those that are left over once more with some before
 * them; the tiles of a band, `vectors` vectors wide and at last one. */
INLINE void run_block(band_kind kind, int height, int vectors, int kernel, int stride, band b) {
  vec weights[9];
#pragma GCC unroll 9
  for (int i = 0; i < 9; i++)
    weights[i] = kernel == 3 ? vec_set(b.weights[i]) : vec_zero();
  vec add = vec_set((b.bias ? *b.bias : 0) + (real)0);
  int64_t all = b.count, width = b.conv->out_width, rest = width % LANES, step;
  if (kind == WIDE && kernel == 7 && rest > 0 && rest <= LANES / 2 && width > LANES) {
    run_joined(height, kernel, add, b);
    width -= rest;
  }
  int64_t last = most(width - LANES, 0);
  for (int64_t left = all; left > 0; left -= step) {
    step = kind == WIDE ? (left + (left - 1) / height) / ((left - 1) / height + 1) : least(left, height);
    b.count = step;
    int64_t column = 0;
    if (vectors == 2)
      for (; column < last; column += 2 * LANES)
        find_tile(kind, height, 2, kernel, stride, &b, weights, add, column, least(last - column, LANES));
    for (; column < width; column += LANES)
      find_tile(kind, height, 1, kernel, stride, &b, weights, add, least(column, last), 0);
    move_down(&b, kind == WIDE ? step : least(height, left - height));
  }
}

/* Bands [first, end) of two, of a plane no wider than a vector, padded by a row at the top and at the bottom, under a
 * kernel of 3 x 3. They take turns, so that a multiply-add need not wait for the one before it, and rows are stored as
 * they are done, which takes no time between multiply-adds, but some at the end of all. Whole vectors reach beyond
 * their row, into such as are still to come: where both bands take turns a row is no shorter than half a vector
 * (conv_depthwise_kernels), so that the first does not reach what the second has stored. `from`: the row above the
 * image, whose rows lie `down` elements apart; the second band lies `second` rows below the first. */
INLINE void narrow_bands(int first, int end, const band *b, const real *from, int64_t down, int64_t second,
                         const vec weights[9], vec add, tap_lanes lanes) {
  vec sum[2][SMALL_ROWS];
  const real *row[2] = {from, from + second * down};
  real *to[2] = {b->to, b->to + second * b->pitch};
#pragma GCC unroll 14
  for (int j = 0; j < 2 * SMALL_ROWS; j++)
    sum[j % 2][j / 2] = vec_zero();
#pragma GCC unroll 9
  for (int i = 0; i < SMALL_ROWS + 2; i++, row[0] += down, row[1] += down) {
#pragma GCC unroll 6
    for (int step = 0; step < 6; step++) {
      int s = step / 2, k = step % 2;
      if (k < first || k >= end || i == (k == 0 ? 0 : SMALL_ROWS + 1)) continue;
      vec x = vec_keep(vec_load_lanes(row[k] + s, lanes[s][0]));
#pragma GCC unroll 3
      for (int r = 0; r < 3; r++)
        if (i >= r && i - r < SMALL_ROWS) sum[k][i - r] = vec_fma(weights[r * 3 + s], x, sum[k][i - r]);
    }
#pragma GCC unroll 2
    for (int k = first; k < end && i >= 2; k++, to[k - 1] += b->pitch) {
      /* Behind the first band there is what the second one has written. */
      if (k == 0 && end == 2 && i == SMALL_ROWS + 1)
        vec_store_part(to[k], sum[k][i - 2] + add, b->conv->out_width);
      else
        vec_store(to[k], sum[k][i - 2] + add);
    }
  }
}

/* `count` such planes: where there are registers for it, both bands at once. */
static __attribute__((noinline, aligned(64))) void narrow_planes(band b, const kernel_depthwise *job, int64_t count) {
  int64_t down = b.conv->input_strides[1], second = b.count - SMALL_ROWS;
  const real *from = (const real *)b.rows[1] - down;
  tap_lanes lanes;
  find_lanes(1, 3, b.conv->image_column, b.conv->image_column + b.conv->in_width, 0, lanes);
  for (int64_t i = 0; i < count; i++, from += job->in_plane, b.to += job->out_plane, b.weights += 9) {
    vec weights[9], add = vec_set((b.bias ? b.bias[i * job->bias_step] : 0) + (real)0);
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; tap++)
      weights[tap] = vec_set(b.weights[tap]);
    if (SMALL_ROWS > BAND_ROWS) {
      narrow_bands(0, 2, &b, from, down, second, weights, add, lanes);
    } else {
      narrow_bands(0, 1, &b, from, down, second, weights, add, lanes);
      narrow_bands(1, 2, &b, from, down, second, weights, add, lanes);
    }
  }
}

/* At the beginning of a cache line: elsewhere some take a tenth longer. */
#define BLOCK(name, ...)                                                                                               \
  static __attribute__((noinline, aligned(64))) void block_##name(const band *b) {                                     \
    run_block(__VA_ARGS__, *b);                                                                                        \
  }
BLOCK(small3, SMALL, SMALL_ROWS, 1, 3, 1)
BLOCK(small3_2, SMALL, BAND_ROWS, 1, 3, 2)
#if REAL_BYTES == 8
/* For doubles, which few need, the library is kept small. */
#define block_5 block_tall
#define block_5_2 block_any
#define block_7 block_tall
#elif defined(KERNEL_ISA_avx512) || defined(KERNEL_ISA_neon)
#if DEPTHWISE_DEALS
#define block_5_2 block_any
#else
BLOCK(5, WIDE, MOST_ROWS, 1, 5, 1)
BLOCK(5_2, WIDE, MOST_ROWS, 2, 5, 2)
#endif
BLOCK(7, WIDE, MOST_ROWS, 1, 7, 1)
#else
BLOCK(5, SMALL, BAND_ROWS, 2, 5, 1)
BLOCK(5_2, SMALL, BAND_ROWS, 2, 5, 2)
#define block_7 block_tall
#endif
BLOCK(tall, TALL, BAND_ROWS, 2, 0, 1)
BLOCK(any, ANY, BAND_ROWS, 2, 0, 0)
BLOCK(row, ANY, 1, 2, 0, 0)

#if defined(KERNEL_ISA_avx512) && REAL_BYTES == 4
/* Elements in the order of vec_even_near and vec_odd_near, put right; moved on by one, the last of them to the front.
 */
#define SETTLE(a) __builtin_shufflevector(a, a, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15)
#define TURN(a) __builtin_shufflevector(a, a, 15, 0, 13, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14)

/* Kernels of 3 x 3 with a stride of 2 and one column of padding at the left and at most one at the right, over the
 * image as it is: some vectors of all rows, from the top to the bottom, each input row loaded once. Columns that are
 * not there can be in the last vector only. */
typedef struct slope {
  vec weights[9];
  int64_t column;
  vec_lanes near, far; /* the image's in the last vector */
} slope;

/* One input row, under row r of the kernel for the newest of the sums, row r + 2 for the one before. */
INLINE void slope_row(int vectors, int r, const real *row, const slope *t, vec (*sum)[4]) {
  const vec_mask first = {-1};
  row += 2 * t->column;
  vec before = t->column ? vec_set(row[-1]) : vec_zero();
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++, row += 2 * LANES) {
    bool last = v == vectors - 1;
    vec near = vec_keep(last ? vec_load_lanes(row, t->near) : vec_load(row));
    vec far = vec_keep(last ? vec_load_lanes(row + LANES, t->far) : vec_load(row + LANES));
    vec odd = vec_odd_near(near, far), turned = TURN(odd);
    vec x[3] = {vec_select(first, before, turned), vec_even_near(near, far), odd};
    before = turned;
#pragma GCC unroll 3
    for (int s = 0; s < 3; s++)
#pragma GCC unroll 2
      for (int j = 0; j < 2; j++)
        if (r + 2 * j < 3) sum[j][v] = vec_fma(t->weights[(r + 2 * j) * 3 + s], x[s], sum[j][v]);
  }
}

INLINE void slope_columns(int vectors, const band *b, slope t, vec add) {
  int64_t left = b->conv->in_width - 2 * t.column - 2 * (vectors - 1) * LANES, count = b->count, pitch = b->pitch;
  int64_t rest = least(b->conv->out_width - t.column - (vectors - 1) * LANES, LANES);
  t.near = vec_lanes_at(vec_window_of(0, clamp(left, 0, LANES)), 0);
  t.far = vec_lanes_at(vec_window_of(0, clamp(left - LANES, 0, LANES)), 0);
  real *to = b->to + t.column;
  vec sum[2][4];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++)
    sum[0][v] = sum[1][v] = vec_zero();
  slope_row(vectors, 0, row_at(b, 0), &t, sum);
  for (int64_t i = 0; i < count; i++, to += pitch) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      sum[1][v] = sum[0][v], sum[0][v] = vec_zero();
    slope_row(vectors, 1, row_at(b, 2 * i + 1), &t, sum + 1);
    slope_row(vectors, 0, row_at(b, 2 * i + 2), &t, sum);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      vec all = SETTLE(sum[1][v]) + add;
      if (v < vectors - 1)
        vec_store(to + v * LANES, all);
      else
        vec_store_part(to + v * LANES, all, rest);
    }
  }
}

static __attribute__((noinline, aligned(64))) void block_direct(const band *b) {
  vec add = vec_set((b->bias ? *b->bias : 0) + (real)0);
  slope t = {.column = 0};
#pragma GCC unroll 9
  for (int i = 0; i < 9; i++)
    t.weights[i] = vec_set(b->weights[i]);
  for (; t.column < b->conv->out_width; t.column += 4 * LANES) {
    int64_t left = b->conv->out_width - t.column;
    if (left > 3 * LANES)
      slope_columns(4, b, t, add);
    else if (left > 2 * LANES)
      slope_columns(3, b, t, add);
    else if (left > LANES)
      slope_columns(2, b, t, add);
    else
      slope_columns(1, b, t, add);
  }
}

/* Kernels of 5 x 5, some vectors of all rows: each input row is loaded once, for all output rows that have it under one
 * of their taps. Without a stride its vectors are moved from tap to tap in registers, with a stride of 2 they are dealt
 * out there. What lies beside the image can be in the first vector and in the last ones. There are masks for as many as
 * there are registers: with a stride for the last vector from each even tap on, and for the first one from the first.
 */
typedef struct stream {
  vec_lanes first, last[3];
} stream;

/* All elements, or those of the image among those from `column` of it on. */
INLINE vec_lanes stream_lanes(const band *b, int64_t column) {
  bool all = b->conv->stride[1] == 1 && !b->near;
  int64_t from = all ? 0 : -column, end = all ? LANES : b->conv->in_width - column;
  return vec_lanes_at(vec_window_of(clamp(from, 0, LANES), clamp(end, 0, LANES)), 0);
}

/* Vector v of those that a row's taps need without a stride, the last of which is number `vectors`. */
INLINE vec stream_load(int vectors, int v, const real *row, const stream *t) {
  return vec_load_lanes(row + v * LANES, v == 0 ? t->first : t->last[v == vectors]);
}

/* One input row, under row r of the kernel for the newest of the sums, row r + stride for the one before; without a
 * stride for those only that are `inside` the output, as not all are at the first and last rows of the image. */
INLINE void stream_row(int vectors, int stride, int r, const bool inside[5], const real *row, const vec weights[25],
                       const stream *t, vec sum[5][2]) {
  vec loaded[3], x[2][2];
#pragma GCC unroll 3
  for (int v = 0; v <= vectors && stride == 1; v++)
    loaded[v] = stream_load(vectors, v, row, t);
#pragma GCC unroll 5
  for (int s = 0; s < 5; s++) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
      const real *from = row + s + 2 * v * LANES;
      if (stride == 1) x[s % 2][v] = vec_follow(loaded[v], loaded[v + 1], s);
      if (stride == 1 || s % 2) continue;
      vec near = v + s == 0 ? vec_load_lanes(from, t->first) : vec_load(from);
      vec far = v == vectors - 1 ? vec_load_lanes(from + LANES, t->last[s / 2]) : vec_load(from + LANES);
      x[0][v] = vec_even_near(near, far), x[1][v] = vec_odd_near(near, far);
    }
#pragma GCC unroll 5
    for (int j = 0; j < 5; j++)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++)
        if (r + j * stride < 5 && (stride == 2 || inside[j]))
          sum[j][v] = vec_fma(weights[(r + j * stride) * 5 + s], x[s % 2][v], sum[j][v]);
  }
}

INLINE void stream_columns(int vectors, int stride, const band *b, const vec weights[25], vec add, int64_t column) {
  int64_t padded = column * stride, from = padded - b->conv->image_column, left = b->conv->out_width - column;
  int64_t start = stride == 1 ? padded : from, oldest = 4 / stride;
  stream t = {.first = stream_lanes(b, from)};
#pragma GCC unroll 3
  for (int q = 0; q < 3; q++)
    t.last[q] =
        stream_lanes(b, stride == 2 ? from + (2 * vectors - 1) * LANES + 2 * q : from + (q ? vectors : 1) * LANES);
  vec sum[5][2];
#pragma GCC unroll 10
  for (int i = 0; i < 10; i++)
    sum[i / 2][i % 2] = vec_zero();
  real *to = b->to + column;
  for (int64_t i = 0;; i++) {
    const real *row = stride == 2 ? row_at(b, 2 * i) : (const real *)b->rows[i];
    bool inside[5] = {i < b->count, i <= b->count, true, i >= 3, i >= 4};
    if (row != b->zeros) stream_row(vectors, stride, 0, inside, row + start, weights, &t, sum);
    if (i >= oldest) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) {
        vec last = stride == 2 ? SETTLE(sum[oldest][v]) : sum[oldest][v];
        vec_store_part(to + v * LANES, last + add, clamp(left - v * LANES, 0, LANES));
      }
      to += b->pitch;
    }
    if (i == b->count + oldest - 1) break;
    if (stride == 2) row = row_at(b, 2 * i + 1);
    if (stride == 2 && row != b->zeros) stream_row(vectors, stride, 1, inside, row + start, weights, &t, sum);
#pragma GCC unroll 5
    for (int j = 4; j >= 0; j--)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++)
        sum[j][v] = j ? sum[j - 1][v] : vec_zero();
  }
}

INLINE void run_stream(int stride, band b) {
  vec weights[25], add = vec_set((b.bias ? *b.bias : 0) + (real)0);
#pragma GCC unroll 25
  for (int i = 0; i < 25; i++)
    weights[i] = vec_set(b.weights[i]);
  int64_t width = b.conv->out_width, column = 0;
  /* With a stride two vectors where neither the first nor, but for its last quarter, the second goes beyond the image.
   */
  bool wide = stride == 1 || b.conv->in_width > 3 * LANES + 3;
  for (; wide && width - column > LANES; column += 2 * LANES)
    stream_columns(2, stride, &b, weights, add, most(least(column, width - 2 * LANES), 0));
  for (; column < width; column += LANES)
    stream_columns(1, stride, &b, weights, add, most(least(column, width - LANES), 0));
}

static __attribute__((noinline, aligned(64))) void block_5(const band *b) {
  run_stream(1, *b);
}

static __attribute__((noinline, aligned(64))) void block_stream(const band *b) {
  run_stream(2, *b);
}
#else
#define block_direct NULL
#define block_stream NULL
#endif

typedef void (*block_function)(const band *b);

static block_function find_block(const kernel_conv *conv, int64_t rows, bool direct) {
  int64_t stride = conv->stride[1], size = conv->kernel_height;
  if (direct && size == 3) return block_direct;
  if (direct) return block_stream;
  if (rows < BAND_ROWS) return block_row;
  /* Without vectors the unrolled ones gain little, and are large. */
  if (LANES == 1) return block_any;
  bool square = size == conv->kernel_width && conv->stride[0] == stride && conv->dilation[0] * conv->dilation[1] == 1;
  if (square && size == 3 && stride == 1 && rows >= SMALL_ROWS) return block_small3;
  if (square && size == 3 && stride == 2) return block_small3_2;
  if (square && size == 5 && stride <= 2) return stride == 1 ? block_5 : block_5_2;
  if (square && size == 7 && stride == 1) return block_7;
  return conv->stride[0] * stride * conv->dilation[0] == 1 && size >= BAND_ROWS ? block_tall : block_any;
}

/* A band narrower than a vector, where its last rows have no room for whole vectors: computed beside the output. */
static void run_narrow(block_function function, band b, int64_t room) {
  real whole[MOST_ROWS * LANES], *to = b.to;
  int64_t pitch = b.pitch;
  b.to = whole;
  b.pitch = LANES;
  function(&b);
  for (int64_t j = 0; j < b.count; j++, to += pitch, room -= pitch) {
    if (room >= LANES)
      vec_store(to, vec_load(whole + j * LANES));
    else
      vec_store_part(to, vec_load(whole + j * LANES), b.conv->out_width);
  }
}

/* A block of one plane in such bands. */
static __attribute__((noinline)) void run_narrow_block(block_function function, band b, int64_t room) {
  int64_t rows = b.count, down;
  b.count = rows < BAND_ROWS ? 1 : least(rows, MOST_ROWS);
  for (int64_t left = rows; left > 0; left -= b.count, room -= down * b.pitch) {
    run_narrow(function, b, room);
    down = least(b.count, left - b.count);
    move_down(&b, down);
  }
}

/* How many of the planes have room for whole vectors. */
static int64_t planes_with_room(const kernel_conv *conv, const kernel_depthwise *job) {
  int64_t left = job->room - (job->rows - 1) * conv->output_strides[1] - LANES;
  if (conv->out_width >= LANES || (!job->pitch && conv->stride[1] > 1)) return job->planes;
  if (left < 0) return 0;
  return job->room_step ? least(job->planes, left / job->room_step + 1) : job->planes;
}

/* Whether narrow_planes will do. */
static bool is_narrow(const band *b, const kernel_depthwise *job) {
  const kernel_conv *conv = b->conv;
  return REAL_BYTES == 4 && LANES > 1 && b->near && conv->out_width <= LANES && conv->kernel_height == 3 &&
         conv->kernel_width == 3 && b->count > SMALL_ROWS && b->count <= 2 * SMALL_ROWS && b->count == job->inside &&
         job->first == 1;
}

/* Of the image in place: those of a later plane. */
static void move_rows(const kernel_depthwise *job, bool direct, int64_t planes) {
  if (direct) {
    job->rows_at[0] = (const real *)job->rows_at[0] + planes * job->in_plane;
    return;
  }
  for (int64_t i = job->first; i < job->first + job->inside; i++)
    job->rows_at[i] = (const real *)job->rows_at[i] + planes * job->in_plane;
}

void NAME(depthwise_sums)(const kernel_conv *conv, const kernel_depthwise *job, const void *weights, const void *bias,
                          void *output) {
  bool direct = !job->pitch && conv->stride[1] > 1;
  block_function function = find_block(conv, job->rows, direct);
  int64_t stride = conv->stride[1], dilation = conv->dilation[1], pitch = conv->output_strides[1];
  band b = {.conv = conv,
            .count = job->rows,
            .rows = job->rows_at,
            .zeros = job->zeros,
            .map = conv->rows + job->row * stride,
            .near = !job->pitch && !direct,
            .weights = weights,
            .bias = bias,
            .to = (real *)output + job->row * pitch,
            .pitch = pitch,
            .phases = dilation % stride,
            .next = dilation / stride + dilation % stride * job->phase,
            .back = 1 - stride * job->phase};
  int64_t whole = planes_with_room(conv, job), quick = is_narrow(&b, job) ? whole : 0;
  if (REAL_BYTES == 4 && LANES > 1 && quick) narrow_planes(b, job, quick);
  for (int64_t i = 0, planes; i < job->planes; i += planes) {
    planes = i < quick ? quick : 1;
    if (i >= whole)
      run_narrow_block(function, b, job->room - i * job->room_step);
    else if (!quick)
      function(&b);
    if (i + planes == job->planes) break;
    move_rows(job, direct, planes);
    b.weights += planes * conv->kernel_height * conv->kernel_width;
    if (bias) b.bias += planes * job->bias_step;
    b.to += planes * job->out_plane;
  }
}
