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

/* The lanes of a joined vector that lie at `from`. Two loads take no longer than the multiply-adds of four rows and
 * more leave over. */
#if SHIFTED_JOINED
typedef vec_lanes lanes_here;
INLINE vec load_joined(const real *from, const real *next, lanes_here lanes) {
  return vec_put_lanes(vec_load(next), from, lanes);
}
#else
typedef int64_t lanes_here;
INLINE vec load_joined(const real *from, const real *next, lanes_here lanes) {
  return vec_load(lanes ? from : next);
}
#endif

/* Inlined with constant `rows`, `vectors` and `joined`, so that `sum` lives in registers. Joined vectors are written
 * side by side. */
INLINE void shifted_tile(int rows, int vectors, bool joined, const kernel_shifted *job, const real *biases,
                         const kernel_shifted_vector *list) {
  vec sum[SHIFTED_ROWS][MOST_VECTORS];
  const real *weights = job->weights, *from[MOST_VECTORS], *next[MOST_VECTORS];
  lanes_here lanes[MOST_VECTORS];
  const int64_t *offset = job->offsets, *end = offset + job->terms;
  int64_t channel_stride = job->channel_stride;
  real *to[MOST_VECTORS];
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) {
    from[v] = (const real *)job->input + list[v].from;
    to[v] = (real *)job->output + list[v].to;
    if (!joined) continue;
    next[v] = (const real *)job->input + list[v].next;
    lanes[v] = (lanes_here)list[v].lanes;
    /* As if they were any pointers: the compiler would count them from the input, and add that for each term. */
    __asm__("" : "+r"(from[v]), "+r"(next[v]));
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
      sum[m][v] = vec_zero();
  do {
    vec pixels[MOST_VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
      pixels[v] = joined ? load_joined(from[v] + *offset, next[v] + *offset, lanes[v]) : vec_load(from[v] + *offset);
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++) {
      vec weight = vec_set(weights[m]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; v++)
        sum[m][v] = vec_fma(weight, pixels[v], sum[m][v]);
    }
    weights += rows;
  } while (++offset < end);
#pragma GCC unroll 8
  for (int m = 0; m < rows; m++) {
    vec bias = vec_set(biases[m]);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
      vec_store(joined ? to[0] + v * LANES : to[v], sum[m][v] + bias);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
      to[v] += channel_stride;
  }
}

/* Vectors that are not stored whole: computed beside the output and moved there. */
static __attribute__((noinline)) void narrow_tile(const kernel_shifted *job, const kernel_shifted_vector *list) {
  const kernel_shifted_tile *tile = &NAME(shifted_tiles)[job->rows - 1];
  real whole[SHIFTED_ROWS * MOST_VECTORS * LANES];
  kernel_shifted_vector list_beside[MOST_VECTORS];
  kernel_shifted beside = *job;
  beside.output = whole;
  beside.channel_stride = tile->vectors * LANES;
  beside.lanes = LANES;
  for (int64_t v = 0; v < tile->vectors; v++)
    list_beside[v] = (kernel_shifted_vector){.from = list[v].from, .to = v * LANES};
  tile->run(&beside, tile->vectors, list_beside);
  for (int64_t m = 0; m < job->rows; m++)
    for (int64_t v = 0; v < tile->vectors; v++)
      memcpy((real *)job->output + m * job->channel_stride + list[v].to, whole + (m * tile->vectors + v) * LANES,
             (size_t)job->lanes * sizeof(real));
}

/* What is added to the sums of each channel: none is -0. */
static __attribute__((noinline)) void find_biases(const kernel_shifted *job, real *biases) {
  const real *bias = job->bias;
  for (int64_t m = 0; m < job->rows; m++)
    biases[m] = (bias ? bias[m] : 0) + (real)0;
}

/* The last tile overlaps the one before where there are not as many vectors as whole tiles have. */
#define TILE(rows)                                                                                                     \
  static void tile_##rows(const kernel_shifted *job, int64_t count, const kernel_shifted_vector *list) {               \
    real biases[SHIFTED_ROWS];                                                                                         \
    find_biases(job, biases);                                                                                          \
    for (int64_t i = 0; i < count; i += VECTORS_##rows) {                                                              \
      int64_t at = i + VECTORS_##rows <= count || i == 0 ? i : count - VECTORS_##rows;                                 \
      if (job->lanes < LANES)                                                                                          \
        narrow_tile(job, list + at);                                                                                   \
      else                                                                                                             \
        shifted_tile(rows, VECTORS_##rows, false, job, biases, list + at);                                             \
    }                                                                                                                  \
  }

/* Tiles of vectors that are written side by side, as all are but the last one, which may overlap the one before; one by
 * one what whole tiles leave over. The job lies on the stack: a pointer to it would be kept in a vector register, and
 * come back from there behind the multiply-adds that wait. */
#define JOINED(rows)                                                                                                   \
  static void joined_##rows(const kernel_shifted *job, int64_t count, const kernel_shifted_vector *list) {             \
    const kernel_shifted_vector *end = list + count;                                                                   \
    kernel_shifted own = *job;                                                                                         \
    real biases[SHIFTED_ROWS];                                                                                         \
    find_biases(job, biases);                                                                                          \
    for (; end - list >= VECTORS_##rows && are_side_by_side(list, VECTORS_##rows); list += VECTORS_##rows) {           \
      __asm__("" : "+m"(own));                                                                                         \
      shifted_tile(rows, VECTORS_##rows, true, &own, biases, list);                                                    \
    }                                                                                                                  \
    for (; list < end; list++)                                                                                         \
      shifted_tile(rows, 1, true, &own, biases, list);                                                                 \
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

#if SHIFTED_JOINED
INLINE bool are_side_by_side(const kernel_shifted_vector *list, int64_t count) {
  return list[count - 1].to == list[0].to + (count - 1) * LANES;
}

JOINED(4)
JOINED(5)
JOINED(6)
JOINED(7)
JOINED(8)
#define AND_JOINED(rows) joined_##rows
#else
#define AND_JOINED(rows) NULL
#endif

const kernel_shifted_tile NAME(shifted_tiles)[SHIFTED_ROWS] = {
    {VECTORS_1, tile_1, NULL},          {VECTORS_2, tile_2, NULL},
#if SHIFTED_ROWS >= 6
    {VECTORS_3, tile_3, NULL},          {VECTORS_4, tile_4, AND_JOINED(4)},
    {VECTORS_5, tile_5, AND_JOINED(5)}, {VECTORS_6, tile_6, AND_JOINED(6)},
#endif
#if SHIFTED_ROWS == 8
    {VECTORS_7, tile_7, AND_JOINED(7)}, {VECTORS_8, tile_8, AND_JOINED(8)},
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
