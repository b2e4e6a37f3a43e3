/* Convolution where the taps of a kernel row read the same row of the image, each shifted: pixels in vector lanes,
 * output channels as rows of a tile. For few input channels, where copying each pixel once for each tap would cost as
 * much as the sum. */
#include "kernels/families.h"

/* ---- The tile ---- */

/* How many vectors go with each number of rows: as many sums as there are registers for, at least as many as hide the
 * time that a multiply-add takes. */
#define MOST_VECTORS 8
#if defined(KERNEL_ISA_avx512) || defined(KERNEL_ISA_neon)
enum { VECTORS_1 = 8, VECTORS_2 = 6, VECTORS_3 = 5, VECTORS_4 = 4, VECTORS_5 = 4, VECTORS_6 = 4 };
enum { VECTORS_7 = 3, VECTORS_8 = 3 };
#elif defined(KERNEL_ISA_avx2)
enum { VECTORS_1 = 8, VECTORS_2 = 4, VECTORS_3 = 3, VECTORS_4 = 3, VECTORS_5 = 2, VECTORS_6 = 2 };
#else
enum { VECTORS_1 = 1, VECTORS_2 = 1, VECTORS_3 = 1, VECTORS_4 = 1, VECTORS_5 = 1, VECTORS_6 = 1 };
#endif

/* Inlined with constant `rows` and `vectors`, so that `sum` lives in registers. */
INLINE void shifted_tile(int rows, int vectors, const kernel_shifted *job, const int64_t *from, const int64_t *to) {
  vec sum[SHIFTED_ROWS][MOST_VECTORS];
  const real *input[MOST_VECTORS], *weights = job->weights, *bias = job->bias;
  const int64_t *offset = job->offsets, *end = offset + job->terms;
  int64_t channel_stride = job->channel_stride;
  real *output[MOST_VECTORS];
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) {
    input[v] = (const real *)job->input + from[v];
    output[v] = (real *)job->output + to[v];
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
      sum[m][v] = vec_zero();
  for (; offset < end; offset++, weights += rows) {
    vec pixels[MOST_VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
      pixels[v] = vec_load(input[v] + *offset);
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++) {
      vec weight = vec_set(weights[m]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; v++)
        sum[m][v] = vec_fma(weight, pixels[v], sum[m][v]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++) {
    vec add = vec_set((bias ? bias[m] : 0) + (real)0);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
      vec_store(output[v], sum[m][v] + add);
      output[v] += channel_stride;
    }
  }
}

/* Vectors that are not stored whole: computed beside the output and moved there. */
static __attribute__((noinline)) void narrow_tile(const kernel_shifted *job, const int64_t *from, const int64_t *to) {
  const kernel_shifted_tile *tile = &NAME(shifted_tiles)[job->rows - 1];
  real whole[SHIFTED_ROWS * MOST_VECTORS * LANES];
  int64_t beside_at[MOST_VECTORS];
  kernel_shifted beside = *job;
  beside.output = whole;
  beside.channel_stride = tile->vectors * LANES;
  beside.lanes = LANES;
  for (int64_t v = 0; v < MOST_VECTORS; v++)
    beside_at[v] = v * LANES;
  tile->run(&beside, tile->vectors, from, beside_at);
  for (int64_t m = 0; m < job->rows; m++)
    for (int64_t v = 0; v < tile->vectors; v++)
      memcpy((real *)job->output + m * job->channel_stride + to[v], whole + (m * tile->vectors + v) * LANES,
             (size_t)job->lanes * sizeof(real));
}

/* The last tile overlaps the one before where there are not as many vectors as whole tiles have. */
#define TILE(rows)                                                                                                     \
  static void tile_##rows(const kernel_shifted *job, int64_t count, const int64_t *from, const int64_t *to) {          \
    for (int64_t i = 0; i < count; i += VECTORS_##rows) {                                                              \
      int64_t at = i + VECTORS_##rows <= count || i == 0 ? i : count - VECTORS_##rows;                                 \
      if (job->lanes < LANES)                                                                                          \
        narrow_tile(job, from + at, to + at);                                                                          \
      else                                                                                                             \
        shifted_tile(rows, VECTORS_##rows, job, from + at, to + at);                                                   \
    }                                                                                                                  \
  }

TILE(1)
TILE(2)
#if SHIFTED_ROWS >= 6
TILE(3)
TILE(4)
TILE(5)
TILE(6)
#endif
#if SHIFTED_ROWS == 8
TILE(7)
TILE(8)
#endif

const kernel_shifted_tile NAME(shifted_tiles)[SHIFTED_ROWS] = {
    {VECTORS_1, tile_1}, {VECTORS_2, tile_2},
#if SHIFTED_ROWS >= 6
    {VECTORS_3, tile_3}, {VECTORS_4, tile_4}, {VECTORS_5, tile_5}, {VECTORS_6, tile_6},
#endif
#if SHIFTED_ROWS == 8
    {VECTORS_7, tile_7}, {VECTORS_8, tile_8},
#endif
};

/* ---- The strip ---- */

/* Groups of LANES elements of each phase, the last one where `count` ends: it may overlap the one before. */
INLINE int64_t group_at(int64_t group, int64_t count) {
  return (group + 1) * LANES <= count ? group * LANES : count - LANES;
}

static void deal_1(const real *from, int64_t count, real *strip) {
  for (int64_t g = 0; g * LANES < count; g++) {
    int64_t i = group_at(g, count);
    vec_store(strip + i, vec_load(from + i));
  }
}

static void deal_2(const real *from, int64_t count, int64_t phases, int64_t pitch, real *strip) {
  for (int64_t g = 0; g * LANES < count; g++) {
    int64_t i = group_at(g, count);
    vec a = vec_load(from + 2 * i), b = vec_load(from + 2 * i + LANES);
    vec_store(strip + i, vec_settle(vec_even_quick(a, b)));
    if (phases == 2) vec_store(strip + pitch + i, vec_settle(vec_odd_quick(a, b)));
  }
}

static void deal_4(const real *from, int64_t count, int64_t phases, int64_t pitch, real *strip) {
  for (int64_t g = 0; g * LANES < count; g++) {
    int64_t i = group_at(g, count);
    const real *at = from + 4 * i;
    vec a = vec_load(at), b = vec_load(at + LANES), c = vec_load(at + 2 * LANES), d = vec_load(at + 3 * LANES);
    vec even_low = vec_even(a, b), even_high = vec_even(c, d);
    vec_store(strip + i, vec_even(even_low, even_high));
    if (phases == 1) continue;
    vec odd_low = vec_odd(a, b), odd_high = vec_odd(c, d);
    vec_store(strip + pitch + i, vec_even(odd_low, odd_high));
    vec_store(strip + 2 * pitch + i, vec_odd(even_low, even_high));
    vec_store(strip + 3 * pitch + i, vec_odd(odd_low, odd_high));
  }
}

static void deal_any(const kernel_shifted_strip *job, const real *from, int64_t stride, int64_t count, real *strip) {
  for (int64_t f = 0; f < job->phases; f++)
    for (int64_t i = 0; i < count; i++)
      strip[f * job->pitch + i] = from[(i * job->step + f) * stride];
}

/* A vector of channels that lie side by side in a pixel: squares are turned, the last one may overlap the one before.
 */
static void deal_turned(const real *from, int64_t pixel, int64_t count, int64_t channel_stride, real *strip) {
  for (int64_t g = 0; g * LANES < count; g++) {
    int64_t i = group_at(g, count);
    NAME(turn_square)(strip + i, channel_stride, from + i * pixel, pixel);
  }
}

/* Elements that lie in the image itself. */
static void deal_inside(const kernel_conv *conv, const kernel_shifted_strip *job, const real *from, int64_t count,
                        real *strip) {
  bool vectors = LANES > 1 && count >= LANES && conv->input_strides[2] == 1;
  if (vectors && job->step == 1)
    deal_1(from, count, strip);
  else if (vectors && job->step == 2)
    deal_2(from, count, job->phases, job->pitch, strip);
  else if (vectors && job->step == 4)
    deal_4(from, count, job->phases, job->pitch, strip);
  else
    deal_any(job, from, conv->input_strides[2], count, strip);
}

/* The elements [from, to) that lie in the image in every phase. */
typedef struct stretch {
  int64_t from, to;
} stretch;

static stretch find_inside(const kernel_conv *conv, const kernel_shifted_strip *job) {
  int64_t before = conv->image_column - job->column, end = before + conv->in_width;
  int64_t from = before > 0 ? (before + job->step - 1) / job->step : 0, to = end > 0 ? end / job->step : 0;
  if (to > job->columns) to = job->columns;
  if (from > to) from = to;
  return (stretch){from, to};
}

/* Where a padded column comes from, -1: it is zero; beyond the padding nothing is ever asked for. */
INLINE int64_t column_at(const kernel_conv *conv, int64_t padded) {
  return padded < conv->padded_width ? conv->columns[padded] : -1;
}

/* One padded element after the other, before and behind those in the image. */
static __attribute__((noinline)) void deal_edges(const kernel_conv *conv, const kernel_shifted_strip *job,
                                                 stretch inside, const real *row, real *strip) {
  for (int64_t f = 0; f < job->phases; f++, strip += job->pitch)
    for (int64_t i = 0; i < job->columns; i++) {
      if (i >= inside.from && i < inside.to) {
        i = inside.to - 1;
        continue;
      }
      int64_t column = column_at(conv, job->column + i * job->step + f);
      strip[i] = column < 0 ? 0 : row[column * conv->input_strides[2]];
    }
}

static void clear_row(const kernel_shifted_strip *job, real *strip) {
  for (int64_t f = 0; f < job->phases; f++)
    memset(strip + f * job->pitch, 0, (size_t)job->columns * sizeof *strip);
}

/* The common case: columns side by side are copied as they are, with a few zeros before and behind. These are written
 * first, as whole vectors; the last vector of what is copied may overlap the one before. Where there is something else
 * than zeros it is put in their place. The same rows of the next channel are fetched meanwhile: they lie where
 * processors do not foresee it. */
static void copy_rows(const kernel_conv *conv, const kernel_shifted_strip *job, stretch inside, const real *image,
                      real *to) {
  int64_t count = inside.to - inside.from, last = count - LANES, end = most(0, job->columns - LANES);
  int64_t first = job->column + inside.from - conv->image_column;
  bool edges = (inside.from > 0 && conv->columns[job->column] >= 0) ||
               (inside.to < job->columns && column_at(conv, job->column + inside.to) >= 0);
  for (int64_t i = 0; i < job->rows; i++, to += job->pitch) {
    int64_t row = conv->rows[job->row + i * job->row_step];
    if (row < 0) {
      clear_row(job, to);
      continue;
    }
    const real *from = image + row * conv->input_strides[1] + first, *next = from + conv->input_strides[0];
    real *at = to + inside.from;
    vec_store(to, vec_zero());
    vec_store(to + end, vec_zero());
    for (int64_t k = 0; k < last; k += LANES) {
      __builtin_prefetch(next + k);
      vec_store(at + k, vec_load(from + k));
    }
    if (last >= 0)
      vec_store(at + last, vec_load(from + last));
    else
      vec_store(at, vec_load_part(from, count));
    if (edges) deal_edges(conv, job, inside, from - first, to);
  }
}

/* Whether they can be copied so: a row has room for a vector at its beginning, and for one where the copy begins. */
static bool are_copied(const kernel_conv *conv, const kernel_shifted_strip *job, stretch inside) {
  return job->step == 1 && conv->input_strides[2] == 1 && inside.from + LANES <= job->pitch && inside.from <= LANES &&
         job->columns - inside.to <= LANES;
}

void NAME(shifted_strip)(const kernel_conv *conv, const kernel_shifted_strip *job, const void *input, void *strip) {
  stretch inside = find_inside(conv, job);
  int64_t first = (job->column + inside.from * job->step - conv->image_column) * conv->input_strides[2];
  real *to = strip;
  if (are_copied(conv, job, inside)) {
    for (int64_t c = 0; c < conv->in_channels; c++)
      copy_rows(conv, job, inside, (const real *)input + c * conv->input_strides[0], to + c * job->rows * job->pitch);
    return;
  }
  /* Of channels that are turned, the first one of a vector does it for all. */
  int64_t count = inside.to - inside.from, channel_stride = job->rows * job->phases * job->pitch;
  bool turn = conv->input_strides[0] == 1 && conv->input_strides[2] != 1 && job->step == 1 && count >= LANES;
  int64_t turned = turn ? conv->in_channels / LANES * LANES : 0;
  for (int64_t c = 0; c < conv->in_channels; c++)
    for (int64_t i = 0; i < job->rows; i++, to += job->phases * job->pitch) {
      int64_t row = conv->rows[job->row + i * job->row_step];
      if (row < 0) {
        clear_row(job, to);
        continue;
      }
      const real *at = (const real *)input + c * conv->input_strides[0] + row * conv->input_strides[1];
      deal_edges(conv, job, inside, at, to);
      if (c >= turned)
        deal_inside(conv, job, at + first, count, to + inside.from);
      else if (c % LANES == 0)
        deal_turned(at + first, conv->input_strides[2], count, channel_stride, to + inside.from);
    }
}

void NAME(shifted_turn)(const kernel_turn *job, const void *from, void *to) {
  const real *channel = from;
  real *pixel = to;
  int64_t turned = job->pixels == LANES && job->to_channel == 1 ? job->channels / LANES * LANES : 0;
  for (int64_t c = 0; c < turned; c += LANES)
    NAME(turn_square)(pixel + c, job->to_pixel, channel + c * job->from_channel, job->from_channel);
  for (int64_t i = 0; i < job->pixels; i++, pixel += job->to_pixel, channel++)
    for (int64_t c = turned; c < job->channels; c++)
      pixel[c * job->to_channel] = channel[c * job->from_channel];
}
