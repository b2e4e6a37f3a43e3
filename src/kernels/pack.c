/* Pixels and weights into panels: what an implicit matrix product reads in place of an im2col buffer. Padding of every
 * mode is an index map here, so that no padded image is ever made. */
#include "kernels/families.h"

/* A stretch of a panel's row that comes from one place: `length` elements from `source` on, `step` apart; or zeros. */
typedef struct span {
  int64_t to, length, source; /* source: an offset into a channel of the input, of either sign; or ZEROS */
} span;

#define ZEROS INT64_MIN

/* Each pixel may be a span of its own, and one more closes the row. */
typedef struct span_list {
  int count;
  span spans[KERNEL_MAX_PANEL + 1];
} span_list;

static void add_span(span_list *list, int64_t length, int64_t source) {
  if (length <= 0) return;
  int64_t to = list->count ? list->spans[list->count - 1].to + list->spans[list->count - 1].length : 0;
  list->spans[list->count++] = (span){to, length, source};
}

/* Output columns [from, to) that some edge touches, one by one. */
static void add_edge(span_list *list, const kernel_conv *conv, int64_t row, int64_t s, int64_t from, int64_t to) {
  for (int64_t ow = from; ow < to; ow++) {
    int64_t column = conv->columns[ow * conv->stride[1] + s * conv->dilation[1]];
    add_span(list, 1, column < 0 ? ZEROS : row * conv->input_strides[1] + column * conv->input_strides[2]);
  }
}

/* The spans of output columns [from, to) of one output row, for one tap. */
static void add_row(span_list *list, const kernel_conv *conv, int64_t oh, int64_t from, int64_t to, int64_t r,
                    int64_t s) {
  int64_t row = conv->rows[oh * conv->stride[0] + r * conv->dilation[0]];
  if (row < 0) {
    add_span(list, to - from, ZEROS);
    return;
  }
  int64_t inner_from = clamp(conv->interior[2 * s], from, to);
  int64_t inner_to = clamp(conv->interior[2 * s + 1], inner_from, to);
  add_edge(list, conv, row, s, from, inner_from);
  if (inner_to > inner_from) {
    int64_t column = conv->columns[inner_from * conv->stride[1] + s * conv->dilation[1]];
    add_span(list, inner_to - inner_from, row * conv->input_strides[1] + column * conv->input_strides[2]);
  }
  add_edge(list, conv, row, s, inner_to, to);
}

static void find_spans(span_list *list, const kernel_conv *conv, const kernel_pixels *part, int64_t width,
                       int64_t tap) {
  int64_t r = tap / conv->kernel_width, s = tap % conv->kernel_width;
  int64_t oh = part->first_pixel / conv->out_width, ow = part->first_pixel % conv->out_width;
  list->count = 0;
  for (int64_t left = part->pixels; left > 0; oh++, ow = 0) {
    int64_t length = conv->out_width - ow < left ? conv->out_width - ow : left;
    add_row(list, conv, oh, ow, ow + length, r, s);
    left -= length;
  }
  add_span(list, width - part->pixels, ZEROS);
}

/* One row of a span of step 1 and at least a vector: the last vector ends with the span and may overlap the one before.
 */
INLINE void copy_step1(real *to, const real *from, int64_t length) {
  for (int64_t i = 0; i + LANES < length; i += LANES)
    vec_store(to + i, vec_load(from + i));
  vec_store(to + length - LANES, vec_load(from + length - LANES));
}

/* The same for step 2; the last element's neighbour may lie outside. */
INLINE void copy_step2(real *to, const real *from, int64_t length) {
  for (int64_t i = 0; i + LANES < length; i += LANES)
    vec_store(to + i, vec_settle(vec_even_quick(vec_load(from + 2 * i), vec_load(from + 2 * i + LANES))));
  const real *last = from + 2 * (length - LANES);
  vec_store(to + length - LANES, vec_settle(vec_even_quick(vec_load(last), vec_load_part(last + LANES, LANES - 1))));
}

/* Shorter than a vector. Where the row has room, a whole vector is written: the spans that follow overwrite what is too
 * much. */
INLINE void copy_short(real *to, const real *from, int64_t length, bool room) {
  if (room)
    vec_store(to, vec_load_part(from, length));
  else
    vec_store_part(to, vec_load_part(from, length), length);
}

INLINE void copy_short2(real *to, const real *from, int64_t length, bool room) {
  int64_t reads = 2 * length - 1;
  vec low = vec_load_part(from, least(reads, LANES));
  vec pixels = vec_settle(vec_even_quick(low, vec_load_part(from + LANES, most(reads - LANES, 0))));
  if (room)
    vec_store(to, pixels);
  else
    vec_store_part(to, pixels, length);
}

/* Step 4, for whole vectors. */
INLINE void copy_step4(real *to, const real *from, int64_t length) {
  for (int64_t i = 0; i < length; i += LANES) {
    int64_t at = least(i, length - LANES);
    const real *p = from + 4 * at;
    vec low = vec_even(vec_load(p), vec_load(p + LANES));
    vec high = vec_even(vec_load(p + 2 * LANES), vec_load_part(p + 3 * LANES, LANES - 3));
    vec_store(to + at, vec_even(low, high));
  }
}

/* What a copy of one row of a span can be. */
typedef enum copy_kind { COPY_ONE, COPY_STEP1, COPY_SHORT, COPY_STEP2, COPY_SHORT2, COPY_STEP4, COPY_STEP } copy_kind;

static copy_kind kind_of(const span *s, int64_t step) {
  if (s->length == 1) return COPY_ONE;
  if (step == 1) return s->length >= LANES ? COPY_STEP1 : COPY_SHORT;
  if (step == 2) return s->length >= LANES ? COPY_STEP2 : COPY_SHORT2;
  return step == 4 && s->length >= LANES && LANES > 4 ? COPY_STEP4 : COPY_STEP;
}

/* One span of all channels. `kind` comes as a constant, so that each has a loop of its own. */
INLINE void copy_channels(copy_kind kind, const span *s, const real *from, int64_t channel_stride, int64_t channels,
                          int64_t step, int64_t width, real *to) {
  bool room = s->to + LANES <= width;
  for (int64_t c = 0; c < channels; c++, to += width, from += channel_stride) {
    if (kind == COPY_ONE) *to = *from;
    if (kind == COPY_STEP1) copy_step1(to, from, s->length);
    if (kind == COPY_SHORT) copy_short(to, from, s->length, room);
    if (kind == COPY_STEP2) copy_step2(to, from, s->length);
    if (kind == COPY_SHORT2) copy_short2(to, from, s->length, room);
    if (kind == COPY_STEP4) copy_step4(to, from, s->length);
    for (int64_t i = 0; kind == COPY_STEP && i < s->length; i++)
      to[i] = from[i * step];
  }
}

static void zero_channels(const span *s, int64_t channels, int64_t width, real *to) {
  for (int64_t c = 0; c < channels; c++, to += width)
    for (int64_t i = 0; i < s->length; i++)
      to[i] = 0;
}

static void pack_span(const span *s, const real *input, int64_t channel_stride, int64_t channels, int64_t step,
                      int64_t width, real *panel) {
  const real *from = input + s->source;
  real *to = panel + s->to;
  if (s->source == ZEROS) {
    zero_channels(s, channels, width, to);
    return;
  }
  switch (kind_of(s, step)) {
  case COPY_ONE: copy_channels(COPY_ONE, s, from, channel_stride, channels, step, width, to); break;
  case COPY_STEP1: copy_channels(COPY_STEP1, s, from, channel_stride, channels, step, width, to); break;
  case COPY_SHORT: copy_channels(COPY_SHORT, s, from, channel_stride, channels, step, width, to); break;
  case COPY_STEP2: copy_channels(COPY_STEP2, s, from, channel_stride, channels, step, width, to); break;
  case COPY_SHORT2: copy_channels(COPY_SHORT2, s, from, channel_stride, channels, step, width, to); break;
  case COPY_STEP4: copy_channels(COPY_STEP4, s, from, channel_stride, channels, step, width, to); break;
  case COPY_STEP: copy_channels(COPY_STEP, s, from, channel_stride, channels, step, width, to); break;
  }
}

/* Whether four taps of a kernel row can be taken at once, `s` being the first: their pixels lie side by side, and those
 * of each tap four apart. */
static bool four_taps(const kernel_conv *conv, int64_t s) {
  if (LANES < 8 || REAL_BYTES > 4 || conv->stride[1] != 4 || conv->input_strides[2] != 1 || conv->dilation[1] != 1 ||
      s + 4 > conv->kernel_width)
    return false;
  return conv->interior[2 * s] == 0 && conv->interior[2 * s + 7] == conv->out_width;
}

/* One span of them, `apart` from tap to tap. */
static void deal_span(const span *s, const real *from, int64_t width, int64_t apart, real *to) {
  for (int64_t i = 0; i < s->length; i += LANES) {
    int64_t count = least(LANES, s->length - i);
    bool room = s->to + i + LANES <= width;
    vec p[4], taps[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
      p[j] = vec_load_part(from + 4 * i + j * LANES, clamp(4 * count - j * LANES, 0, LANES));
    vec_deal_four(p, taps);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
      vec_store_part(to + j * apart + i, taps[j], room ? LANES : count);
  }
}

/* Four taps of all channels. */
static void pack_four(const kernel_conv *conv, const span *s, const real *input, int64_t width, real *panel) {
  int64_t apart = conv->in_channels * width;
  for (int64_t c = 0; c < conv->in_channels; c++, panel += width, input += conv->input_strides[0])
    if (s->source != ZEROS)
      deal_span(s, input + s->source, width, apart, panel + s->to);
    else
      for (int j = 0; j < 4; j++)
        memset(panel + s->to + j * apart, 0, (size_t)s->length * sizeof(real));
}

void NAME(pack_pixels)(const kernel_conv *conv, const kernel_pixels *part, const void *input, int64_t width,
                       void *panel) {
  span_list list;
  int64_t step = conv->stride[1] * conv->input_strides[2], all = conv->in_channels;
  for (int64_t term = part->first_term, end = term + part->terms, terms; term < end; term += terms) {
    int64_t tap = term / all, channel = term % all;
    bool four = channel == 0 && end - term >= 4 * all && four_taps(conv, tap % conv->kernel_width);
    terms = four ? 4 * all : least(all - channel, end - term);
    find_spans(&list, conv, part, width, tap);
    const real *from = (const real *)input + channel * conv->input_strides[0];
    real *to = (real *)panel + (term - part->first_term) * width;
    for (int i = 0; i < list.count; i++)
      if (four)
        pack_four(conv, &list.spans[i], from, width, to);
      else
        pack_span(&list.spans[i], from, conv->input_strides[0], terms, step, width, to);
  }
}

/* ---- Weights ---- */

/* Input channels that are taken at a time: of each, the cache lines that hold the weights of a block of output
 * channels, or all of its taps, are read whole before others take their place. */
#define LINE_CHANNELS (64 / REAL_BYTES)

INLINE vec across_channels(const real *w, int64_t stride) {
  vec values = vec_zero();
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++)
    values[i] = w[i * stride];
  return values;
}

/* A vector of output channels of some input channels. Where these lie side by side, as in turned weights of one tap,
 * lines of the blocks to come are asked for: of so many rows at once no processor does that by itself. */
INLINE void pack_vectors(const real *w, const int64_t strides[4], int64_t channels, int64_t width, real *out) {
  if (strides[0] == 1)
    for (int64_t c = 0; c < channels; c++, w += strides[1]) {
      vec_store(out + c * width, vec_load(w));
      __builtin_prefetch(w + 256 / REAL_BYTES);
    }
  else if (strides[0] == 4 && LANES > 4)
    for (int64_t c = 0; c < channels; c++)
      copy_step4(out + c * width, w + c * strides[1], LANES);
  else
    for (int64_t c = 0; c < channels; c++)
      vec_store(out + c * width, across_channels(w + c * strides[1], strides[0]));
}

/* The weights of an output channel that lie side by side: all taps of some input channels. */
typedef struct weight_run {
  int64_t taps, channels;
  int64_t stride;   /* from one output channel to the next */
  int64_t tap, row; /* where they go: between taps, and between input channels */
} weight_run;

#if LANES > 1 && defined(KERNEL_DTYPE_f32)
/* So many output channels: as many as a vector has lanes, or half of that. Squares are turned in registers, and lines
 * to come are asked for: of so many rows at once no processor does that by itself. `rows` comes as a constant. */
INLINE void turn_squares(int rows, const weight_run *run, const real *w, real *out) {
  int64_t tap = 0, channel = 0;
  for (int64_t done = 0; done < run->taps * run->channels; done += LANES) {
    vec square[LANES] = {vec_zero()};
    real *to[LANES];
    for (int i = 0; i < rows; i++)
      __builtin_prefetch(w + done + i * run->stride + 256 / REAL_BYTES);
    for (int i = 0; i < LANES; i++) {
      to[i] = out + tap * run->tap + channel * run->row;
      if (++tap == run->taps) tap = 0, channel++;
    }
    if (rows == LANES)
      vec_load_transposed(square, w + done, run->stride);
    else
      vec_load_transposed_halves(square, w + done, run->stride);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
      if (rows == LANES)
        vec_store(to[i], square[i]);
      else
        vec_store_halves(to[i], to[i + LANES / 2], square[i]);
  }
}

/* Of a run that falls into squares some output channels, up to `exist`; returns how many. */
static int64_t pack_run(const weight_run *run, const real *w, int64_t exist, real *out) {
  int64_t m = 0;
  if (run->taps * run->channels % LANES != 0) return 0;
  for (; m + LANES <= exist; m += LANES)
    turn_squares(LANES, run, w + m * run->stride, out + m);
  if (exist - m != LANES / 2) return m;
  turn_squares(LANES / 2, run, w + m * run->stride, out + m);
  return exist;
}
#else
/* For doubles, which few need, the library is kept small. */
static int64_t pack_run(const weight_run *run, const real *w, int64_t exist, real *out) {
  (void)run, (void)w, (void)exist, (void)out;
  return 0;
}
#endif

#if LANES == 16
/* Where the elements of a vector that begins at an output channel's first weight go; -1: nowhere. */
typedef struct near_taps {
  int64_t first, elements; /* the first weight, seen from tap 0; up to the last one */
  int64_t to[LANES];
} near_taps;

/* False where a vector does not hold all taps, or an element serves several. */
static bool find_taps(const kernel_conv *conv, int64_t width, near_taps *taps) {
  int64_t down = conv->weight_strides[2], across = conv->weight_strides[3];
  int64_t rows = (conv->kernel_height - 1) * down, columns = (conv->kernel_width - 1) * across;
  taps->first = least(rows, 0) + least(columns, 0);
  taps->elements = most(rows, 0) + most(columns, 0) - taps->first + 1;
  if (taps->elements > LANES) return false;
  for (int i = 0; i < LANES; i++)
    taps->to[i] = -1;
  for (int64_t r = 0; r < conv->kernel_height; r++)
    for (int64_t s = 0; s < conv->kernel_width; s++) {
      int64_t *to = &taps->to[r * down + s * across - taps->first];
      if (*to >= 0) return false;
      *to = (r * conv->kernel_width + s) * conv->in_channels * width;
    }
  return true;
}

/* All taps of a vector of output channels whose weights lie near each other, as in turned weights. Returns for how many
 * output channels. */
static int64_t pack_near(const kernel_conv *conv, const real *w, int64_t channels, int64_t exist, int64_t width,
                         real *out) {
  int64_t m = 0, stride = conv->weight_strides[0];
  near_taps taps;
  if (conv->kernel_height * conv->kernel_width == 1 || !find_taps(conv, width, &taps)) return 0;
  for (; m + LANES <= exist; m += LANES)
    for (int64_t c = 0; c < channels; c++) {
      const real *from = w + m * stride + c * conv->weight_strides[1] + taps.first;
      vec square[LANES];
#pragma GCC unroll 16
      for (int i = 0; i < LANES; i++)
        square[i] = vec_load_part(from + i * stride, taps.elements);
      TRANSPOSE_STEP(square, 8)
      transpose_halves(square);
#pragma GCC unroll 16
      for (int i = 0; i < LANES; i++)
        if (i < taps.elements && taps.to[i] >= 0) vec_store(out + taps.to[i] + c * width + m, square[i]);
    }
  return m;
}
#else
static int64_t pack_near(const kernel_conv *conv, const real *w, int64_t channels, int64_t exist, int64_t width,
                         real *out) {
  (void)conv, (void)w, (void)channels, (void)exist, (void)width, (void)out;
  return 0;
}
#endif

/* One output channel, or zeros in its place. */
INLINE void pack_channel(const real *w, int64_t stride, int64_t channels, int64_t width, bool exists, real *out) {
  for (int64_t c = 0; c < channels; c++)
    out[c * width] = exists ? w[c * stride] : 0;
}

/* One tap of the output channels [m, width), of which those up to `exist` do, input channel by input channel. */
static void pack_tap(const real *weight, const int64_t strides[4], int64_t channels, int64_t m, int64_t exist,
                     int64_t width, real *out) {
  for (; m + LANES <= exist; m += LANES)
    pack_vectors(weight + m * strides[0], strides, channels, width, out + m);
  if (strides[0] == 1 && exist - m == TILE_ROWS)
    for (; m < exist; m += TILE_ROWS)
      for (int64_t c = 0; c < channels; c++)
        memcpy(out + m + c * width, weight + m + c * strides[1], TILE_ROWS * sizeof(real));
  for (; m < exist; m++)
    pack_channel(weight + m * strides[0], strides[1], channels, width, true, out + m);
  for (; m < width; m++)
    pack_channel(weight, strides[1], channels, width, false, out + m);
}

/* Adds 0, or NaN where a number is not finite: inf * 0 and nan * 0 are nan. */
static void add_zeros(const real *numbers, int64_t count, vec *zeros) {
  vec sums[4] = {*zeros, vec_zero(), vec_zero(), vec_zero()};
  int64_t i = 0;
  for (; i + 4 * LANES <= count; i += 4 * LANES)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
      sums[j] += vec_load(numbers + i + j * LANES) * vec_zero();
  for (; i < count; i += LANES)
    sums[0] += vec_load_part(numbers + i, least(LANES, count - i)) * vec_zero();
  *zeros = (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

static __attribute__((noinline)) bool all_zeros(vec v) {
  real total = 0;
  for (int i = 0; i < LANES; i++)
    total += v[i];
  return total == 0;
}

/* Whether the taps of all input channels lie side by side. */
static bool is_run(const kernel_conv *conv) {
  const int64_t *strides = conv->weight_strides;
  return strides[1] == conv->kernel_height * conv->kernel_width && (conv->kernel_width == 1 || strides[3] == 1) &&
         (conv->kernel_height == 1 || strides[2] == conv->kernel_width);
}

/* Weights of `width` output channels from `first` on and some input channels, term by term; channels that do not exist
 * are zero. Adds 0 to `zeros`, or NaN where one is not finite. */
static void pack_block(const kernel_conv *conv, const real *weight, int64_t first, int64_t width, int64_t channel,
                       real *out, vec *zeros) {
  const int64_t *strides = conv->weight_strides;
  int64_t exist = clamp(conv->out_channels - first, 0, width),
          channels = least(LINE_CHANNELS, conv->in_channels - channel);
  weight += first * strides[0] + channel * strides[1];
  out += channel * width;
  weight_run run = {conv->kernel_height * conv->kernel_width, channels, strides[0], conv->in_channels * width, width};
  int64_t done =
      is_run(conv) ? pack_run(&run, weight, exist, out) : pack_near(conv, weight, channels, exist, width, out);
  for (int64_t r = 0; r < conv->kernel_height; r++)
    for (int64_t s = 0; s < conv->kernel_width; s++) {
      real *to = out + (r * conv->kernel_width + s) * run.tap;
      pack_tap(weight + r * strides[2] + s * strides[3], strides, channels, done, exist, width, to);
      add_zeros(to, channels * width, zeros);
    }
}

/* Input channels that are packed of a block of output channels before the next block's turn: where lines hold weights
 * of one output channel alone, all, as they are then read in the order of addresses. */
static int64_t channels_of_pass(const kernel_conv *conv) {
  return conv->weight_strides[0] > conv->weight_strides[1] ? conv->in_channels : LINE_CHANNELS;
}

/* Such a pass of a block. */
static void pack_pass(const kernel_conv *conv, const real *weight, int64_t first, int64_t width, int64_t channel,
                      real *packed, vec *zeros) {
  int64_t terms = conv->kernel_height * conv->kernel_width * conv->in_channels;
  int64_t end = least(channel + channels_of_pass(conv), conv->in_channels);
  for (; channel < end; channel += LINE_CHANNELS)
    pack_block(conv, weight, first, width, channel, packed + first * terms, zeros);
}

/* Blocks of output channels, each as wide as the function says where so many are left. */
INLINE bool pack_blocks(const kernel_conv *conv, const real *weight, int64_t width_of(int64_t left), real *packed) {
  vec zeros = vec_zero();
  for (int64_t channel = 0; channel < conv->in_channels; channel += channels_of_pass(conv))
    for (int64_t first = 0, width; first < conv->out_channels; first += width) {
      width = width_of(conv->out_channels - first);
      pack_pass(conv, weight, first, width, channel, packed, &zeros);
    }
  return all_zeros(zeros);
}

INLINE int64_t rows_of_tile(int64_t left) {
  return kernel_tile_rows(TILE_ROWS, left);
}

INLINE int64_t whole_vectors(int64_t left) {
  return least((left + LANES - 1) / LANES * LANES, ROWS_TILE_VECTORS * LANES);
}

bool NAME(pack_weights)(const kernel_conv *conv, const void *weight, void *packed) {
  return pack_blocks(conv, weight, rows_of_tile, packed);
}

bool NAME(pack_columns)(const kernel_conv *conv, const void *weight, void *packed) {
  return pack_blocks(conv, weight, whole_vectors, packed);
}

bool NAME(pack_even)(const kernel_conv *conv, int64_t blocks, const void *weight, void *packed) {
  vec zeros = vec_zero();
  for (int64_t channel = 0; channel < conv->in_channels; channel += channels_of_pass(conv))
    for (int64_t i = 0; i < blocks; i++) {
      int64_t first = conv->out_channels * i / blocks, end = conv->out_channels * (i + 1) / blocks;
      pack_pass(conv, weight, first, end - first, channel, packed, &zeros);
    }
  return all_zeros(zeros);
}
