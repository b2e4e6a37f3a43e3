/* The weights of Winograd's algorithm (winograd.c): U = G g G^T in double, rounded once. */
#include <string.h>

#include "kernels/families.h"

#define MAX_ALPHA 6
#define MAX_TAPS 5

#define ROOT2 1.41421356237309504880

/* As many doubles as a vector holds: wider ones pass through memory word by word. */
#define WIDE_LANES (LANES == 1 ? 1 : LANES * REAL_BYTES / 8)
typedef double wide __attribute__((vector_size(WIDE_LANES * 8)));
typedef real narrow __attribute__((vector_size(WIDE_LANES * REAL_BYTES)));

/* One column of G g, r numbers `step` apart to alpha: at a point p the sum of p^i g[i], over the derivative there of x
 * (x^2 - 1/2) (x^2 - 2), or of x (x^2 - 1) with its sign at 0 changed; at infinity the last of the numbers. Points p
 * and -p share the sums of even and of odd powers. */
INLINE void weight_column(int alpha, int r, const wide *g, int step, wide *out, int out_step) {
  static const double points[2][2] = {{1}, {ROOT2 / 2, ROOT2}}, factors[2][2] = {{0.5}, {-2.0 / 3, 1.0 / 6}};
  wide x[MAX_TAPS];
#pragma GCC unroll 5
  for (int j = 0; j < alpha - 1; j++)
    x[j] = j < 2 || j < r ? g[j * step] : (wide){0};
  out[0] = x[0];
#pragma GCC unroll 2
  for (int i = 0; i < alpha / 2 - 1; i++) {
    double square = points[alpha == 6][i] * points[alpha == 6][i], factor = factors[alpha == 6][i];
    wide even = x[2], odd = x[1];
    if (alpha == 6) even = even + square * x[4], odd = odd + square * x[3];
    even = (x[0] + square * even) * factor;
    odd = odd * (points[alpha == 6][i] * factor);
    out[(2 * i + 1) * out_step] = even + odd;
    out[(2 * i + 2) * out_step] = even - odd;
  }
  out[(alpha - 1) * out_step] = g[(r - 1) * step];
}

/* Elements of a block that are transformed before they are written. One by one they would go in turns to as many places
 * as a tile has elements, which fall into the same sets of the caches. */
#define NEAR (512 / REAL_BYTES)

INLINE wide widen(const real *from) {
  narrow values;
  memcpy(&values, from, sizeof values);
  return __builtin_convertvector(values, wide);
}

INLINE void narrow_to(real *to, wide value) {
  narrow values = __builtin_convertvector(value, narrow);
  memcpy(to, &values, sizeof values);
}

/* ---- Any kernel ---- */

static __attribute__((noinline)) void columns_4(int r, const wide *g, int step, wide *out, int out_step) {
  weight_column(4, r, g, step, out, out_step);
}

static __attribute__((noinline)) void columns_6(int r, const wide *g, int step, wide *out, int out_step) {
  weight_column(6, r, g, step, out, out_step);
}

static int taps_of(const kernel_winograd_axis *axis) {
  return axis->alpha + 1 - axis->m;
}

/* The taps of a vector of output channels and one part of the kernel, with zeros where that has ended. */
static void load_taps(const kernel_winograd_weights *job, const kernel_conv *conv, const real *weight,
                      const int64_t *offsets, const int64_t part[2], vec *g) {
  const int64_t *strides = conv->weight_strides, sizes[2] = {conv->kernel_height, conv->kernel_width};
  int64_t first[2], end[2];
  for (int i = 0; i < 2; i++) {
    const kernel_winograd_axis *axis = &job->axes[i];
    first[i] = kernel_winograd_tap(axis, part[i]);
    end[i] = least(sizes[i], first[i] + (taps_of(axis) - (part[i] >= axis->full)) * axis->step);
  }
  for (int i = 0; i < taps_of(&job->axes[0]); i++)
    for (int j = 0; j < taps_of(&job->axes[1]); j++, g++) {
      int64_t y = first[0] + i * job->axes[0].step, x = first[1] + j * job->axes[1].step;
      bool there = y < end[0] && x < end[1];
      vec values = vec_zero();
#pragma GCC unroll 16
      for (int k = 0; k < LANES && there; k++)
        values[k] = weight[y * strides[2] + x * strides[3] + offsets[k]];
      *g = values;
    }
}

/* U of as many channels as there are wide lanes, from vectors of taps; element e to near[e * NEAR]. */
static void transform_taps(const kernel_winograd_axis axes[2], const real *taps, real *near) {
  int rows = axes[0].alpha, columns = axes[1].alpha, height = taps_of(&axes[0]), width = taps_of(&axes[1]);
  wide g[MAX_TAPS * MAX_TAPS], t[MAX_ALPHA * MAX_TAPS], u[MAX_ALPHA];
  void (*column)(int, const wide *, int, wide *, int) = rows == 4 || columns == 4 ? columns_4 : columns_6;
  for (int i = 0; i < height * width; i++)
    g[i] = widen(taps + i * LANES);
  for (int j = 0; j < width && rows > 1; j++)
    column(height, g + j, width, t + j, width);
  const wide *row = rows > 1 ? t : g;
  for (int i = 0; i < rows; i++, row += width) {
    if (columns > 1) column(width, row, 1, u, 1);
    for (int j = 0; j < columns; j++)
      narrow_to(near + (i * columns + j) * NEAR, columns > 1 ? u[j] : *row);
  }
}

/* ---- Kernels of 3 x 3 in float32, which are worth code of their own ---- */

#define QUICK (LANES > 1 && REAL_BYTES == 4)

#if QUICK
/* The same, with alpha a constant: in registers. */
INLINE void transform_square(int alpha, const real *taps, real *near) {
  wide g[9], t[MAX_ALPHA * 3], u[MAX_ALPHA];
#pragma GCC unroll 9
  for (int i = 0; i < 9; i++)
    g[i] = widen(taps + i * LANES);
#pragma GCC unroll 3
  for (int j = 0; j < 3; j++)
    weight_column(alpha, 3, g + j, 3, t + j, 3);
#pragma GCC unroll 6
  for (int i = 0; i < alpha; i++) {
    weight_column(alpha, 3, t + i * 3, 1, u, 1);
#pragma GCC unroll 6
    for (int j = 0; j < alpha; j++)
      narrow_to(near + (i * alpha + j) * NEAR, u[j]);
  }
}

/* The taps of a vector of output channels, which lie side by side, forwards or, turned, backwards: rows of some taps,
 * one for each channel, are transposed. */
static void load_square(const real *weight, const int64_t *offsets, int64_t step, vec *g) {
  enum { HALF = LANES / 2, TAPS = 9 };
  if (step < 0) weight -= TAPS - 1, g += TAPS - 1;
#pragma GCC unroll 9
  for (int from = 0; from < TAPS; from += HALF) {
    int first = from < TAPS - HALF ? from : TAPS - HALF;
    vec rows[LANES] = {{0}};
#pragma GCC unroll 8
    for (int i = 0; i < HALF; i++)
      rows[i] = vec_join(weight + offsets[i] + first, weight + offsets[i + HALF] + first);
    transpose_halves(rows);
#pragma GCC unroll 8
    for (int i = from - first; i < HALF; i++)
      g[(first + i) * step] = rows[i];
  }
}
#endif

/* Whether the kernel is 3 x 3 taps that lie side by side, and there is quicker code for that. */
static bool is_square(const kernel_winograd_weights *job, const kernel_conv *conv) {
  const int64_t *strides = conv->weight_strides;
  return QUICK && job->axes[0].alpha - job->axes[0].m == 2 && job->axes[0].parts * job->axes[1].parts == 1 &&
         conv->kernel_height == 3 && conv->kernel_width == 3 && strides[2] == 3 * strides[3] &&
         (strides[3] == 1 || strides[3] == -1);
}

/* ---- Packing ---- */

/* An element of the packed weights, of a block of output channels: the terms [from, to) that it has, and where the
 * first one lies. */
typedef struct packed_element {
  int64_t from, to;
  real *at;
} packed_element;

typedef struct weight_work {
  const kernel_winograd_weights *job;
  const kernel_conv *conv;
  bool square;
  int elements;
  packed_element element[MAX_ALPHA * MAX_ALPHA];
  vec not_finite; /* NaN where a weight is not */
} weight_work;

/* One part of one input channel and a vector of output channels. */
static void pack_vector(weight_work *w, const real *weight, const int64_t *offsets, const int64_t part[2], real *near) {
  const kernel_winograd_weights *job = w->job;
  vec g[MAX_TAPS * MAX_TAPS], not_finite = w->not_finite;
#if QUICK
  if (w->square)
    load_square(weight, offsets, w->conv->weight_strides[3], g);
  else
#endif
    load_taps(job, w->conv, weight, offsets, part, g);
  for (int i = 0; i < taps_of(&job->axes[0]) * taps_of(&job->axes[1]); i++)
    not_finite += g[i] * 0;
  w->not_finite = not_finite;
  for (int first = 0; first < LANES; first += WIDE_LANES) {
    const real *taps = (const real *)g + first;
#if QUICK
    if (w->square && job->axes[0].alpha == 6)
      transform_square(6, taps, near + first);
    else if (w->square)
      transform_square(4, taps, near + first);
    else
#endif
      transform_taps(job->axes, taps, near + first);
  }
}

/* `count` input channels of one part and all output channels of a block: the terms from `term` on. */
static void pack_terms(weight_work *w, const real *weight, const int64_t *offsets, int64_t width, const int64_t part[2],
                       int64_t term, int64_t count) {
  _Alignas(64) real near[MAX_ALPHA * MAX_ALPHA * NEAR];
  for (int64_t c = 0; c < count; c++)
    for (int64_t k = 0; k < width; k += LANES)
      pack_vector(w, weight + c * w->conv->weight_strides[1], offsets + k, part, near + c * width + k);
  for (int e = 0; e < w->elements; e++) {
    const packed_element *element = &w->element[e];
    if (term < element->from || term >= element->to) continue;
    real *to = element->at + (term - element->from) * width;
    if (w->job->far)
      for (int64_t i = 0; i < count * width; i += LANES)
        vec_stream(to + i, vec_load(near + e * NEAR + i));
    else
      memcpy(to, near + e * NEAR, (size_t)(count * width) * sizeof(real));
  }
}

/* A block of output channels, whose weights lie at the offsets. */
static void pack_block(weight_work *w, const real *weight, const int64_t *offsets, int64_t width) {
  const kernel_winograd_axis *axes = w->job->axes;
  int64_t channels = w->conv->in_channels, across = axes[1].parts;
  for (int64_t term = 0, count; term < axes[0].parts * across * channels; term += count) {
    int64_t part[2], channel;
    if (w->job->joined) {
      part[0] = term / across / channels, part[1] = term % across, channel = term / across % channels;
      count = 1;
    } else {
      kernel_winograd_part(axes, term / channels, part);
      channel = term % channels, count = least(NEAR / width, channels - channel);
    }
    pack_terms(w, weight + channel * w->conv->weight_strides[1], offsets, width, part, term, count);
  }
}

/* Where the elements of the block of output channels from `first` on lie. */
static void find_elements(weight_work *w, real *packed, int64_t out_channels, int64_t first) {
  const kernel_winograd_axis *axes = w->job->axes;
  int64_t channels = w->conv->in_channels;
  for (int e = 0; e < w->elements; e++) {
    kernel_winograd_range parts = kernel_winograd_parts(axes, e / axes[1].alpha, e % axes[1].alpha);
    int64_t terms = (parts.to - parts.from) * channels;
    w->element[e] = (packed_element){parts.from * channels, parts.to * channels, packed + first * terms};
    packed += out_channels * terms;
  }
}

bool NAME(winograd_weights)(const kernel_winograd_weights *job, const kernel_conv *conv, const void *weight,
                            void *packed) {
  int64_t out_channels = (conv->out_channels + LANES - 1) / LANES * LANES, widest = ROWS_TILE_VECTORS * LANES;
  int64_t offsets[ROWS_TILE_VECTORS * LANES];
  weight_work w = {
      .job = job,
      .conv = conv,
      .square = is_square(job, conv),
      .elements = job->axes[0].alpha * job->axes[1].alpha,
      .not_finite = vec_zero(),
  };
  /* Blocks of output channels, narrower at the end; the last channel stands for those that are missing, whose results
   * nobody reads. */
  for (int64_t first = 0; first < out_channels; first += widest) {
    int64_t width = least(out_channels - first, widest);
    for (int64_t i = 0; i < width; i++)
      offsets[i] = least(first + i, conv->out_channels - 1) * conv->weight_strides[0];
    find_elements(&w, packed, out_channels, first);
    pack_block(&w, weight, offsets, width);
  }
  if (job->far) vec_stream_end();
  bool finite = true;
  for (int i = 0; i < LANES; i++)
    finite &= w.not_finite[i] == 0;
  return finite;
}
