/* The gradient of a depthwise weight of 3 x 3, channel by channel, and that of its bias: columns lie in the lanes of a
 * vector, and each tap has a vector of sums. A row of grad_output meets the three rows of the image that it reads,
 * which stay in registers while they are needed. What is shifted for a tap is grad_output: with a stride of two, which
 * deals out the columns of the image, two taps of three share a shift.
 *
 * Lanes that lie beside the image or beside grad_output are zeros, which what is not finite turns into NaN: whoever
 * asks has to look. */
#include "kernels/families.h"

#if defined(PLANE_GRADIENTS)

/* Every second column of two vectors, in the order that is quickest: which lanes they come to does not matter so long
 * as grad_output comes to the same ones. */
#if LANES == 16
#define EVEN(a, b) vec_even_near(a, b)
#define ODD(a, b) vec_odd_near(a, b)
#define IN_ORDER(v) __builtin_shufflevector(v, v, 0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15)
#else
#define EVEN(a, b) vec_even_quick(a, b)
#define ODD(a, b) vec_odd_quick(a, b)
#define IN_ORDER(v) vec_settle(v)
#endif

/* Sums of a plane: those of the taps, row by row, and the bias's. */
enum { TAPS = 9, SUMS = TAPS + 1 };

/* Some lanes of all planes. */
typedef struct gradient_lanes {
  int64_t planes, x_plane, g_plane; /* from one to the next */
  int64_t in_height, out_height, x_row, g_row, padding;
  const real *x, *g;
  vec_lanes in[2], out[3]; /* of a row of the image; of grad_output, for each shift */
  vec_lanes kept;          /* of the sums that are there already */
} gradient_lanes;

/* The lanes of a vector that begins at `at` which lie in [0, end). */
static __attribute__((noinline)) vec_lanes lanes_before(int64_t end, int64_t at) {
  return vec_lanes_at(vec_window_of(clamp(-at, 0, LANES), clamp(end - at, 0, LANES)), 0);
}

/* A row of the image. With a stride there is much to read for each product: that of the next plane comes to the
 * second-level cache meanwhile, as the processor foresees rows, not columns. */
INLINE void load_row(int stride, const gradient_lanes *job, const real *x, int64_t row, vec to[2]) {
  to[0] = to[1] = vec_zero();
  if ((uint64_t)row >= (uint64_t)job->in_height) return;
  x += row * job->x_row;
  to[0] = vec_load_lanes(x, job->in[0]);
  if (stride == 1) return;
  vec first = to[0], second = vec_load_lanes(x + LANES, job->in[1]);
  __builtin_prefetch(x + job->x_plane, 0, 2);
  __builtin_prefetch(x + job->x_plane + LANES, 0, 2);
  to[0] = EVEN(first, second);
  to[1] = ODD(first, second);
}

/* Row `y` of grad_output meets the rows `from` of the image. The odd columns of a pair are read by the last tap, and by
 * the first one of the next pair. */
INLINE void add_row(int stride, const gradient_lanes *job, const real *g, vec from[3][2], vec sum[SUMS]) {
  int shifts = stride == 1 ? 3 : 2;
#pragma GCC unroll 3
  for (int shift = 0; shift < shifts; shift++) {
    vec shifted = vec_load_lanes(g - shift, job->out[shift]);
    if (stride == 2) shifted = IN_ORDER(shifted);
    if (shift == 1) sum[TAPS] += shifted;
#pragma GCC unroll 9
    for (int tap = 0; tap < TAPS; tap++) {
      int column = tap % 3, own = stride == 1 ? column : (column + 1) / 2, phase = stride == 1 ? 0 : (column + 1) % 2;
      if (own == shift) sum[tap] = vec_fma(from[tap / 3][phase], shifted, sum[tap]);
    }
  }
}

/* Inlined with a constant. */
INLINE void add_plane(int stride, const gradient_lanes *job, const real *x, const real *g, real *sums) {
  vec sum[SUMS], from[3][2];
#pragma GCC unroll 10
  for (int i = 0; i < SUMS; i++)
    sum[i] = vec_zero();
  int64_t row = -job->padding;
#pragma GCC unroll 3
  for (int r = stride; r < 3; r++)
    load_row(stride, job, x, row + r - stride, from[r]);
  for (int64_t y = 0; y < job->out_height; y++, row += stride, g += job->g_row) {
#pragma GCC unroll 3
    for (int r = 0; r < 3; r++)
      if (r + stride < 3)
        from[r][0] = from[r + stride][0], from[r][1] = from[r + stride][1];
      else
        load_row(stride, job, x, row + r, from[r]);
    add_row(stride, job, g, from, sum);
  }
#pragma GCC unroll 10
  for (int i = 0; i < SUMS; i++)
    vec_store(sums + i * LANES, vec_load_lanes(sums + i * LANES, job->kept) + sum[i]);
}

/* The copy is one that no store may change. */
INLINE void add_planes(int stride, const gradient_lanes *job, real *sums) {
  const gradient_lanes own = *job;
  const real *x = own.x, *g = own.g;
  for (int64_t plane = 0; plane < own.planes; plane++, x += own.x_plane, g += own.g_plane, sums += SUMS * LANES)
    add_plane(stride, &own, x, g, sums);
}

static void add_planes_1(const gradient_lanes *job, real *sums) {
  add_planes(1, job, sums);
}

static void add_planes_2(const gradient_lanes *job, real *sums) {
  add_planes(2, job, sums);
}

/* All lanes that meet the image or grad_output, from the first column of one of them on: lane i has column i of
 * grad_output for the middle column of the kernel. */
void NAME(plane_gradient)(const kernel_conv *conv, int64_t planes, bool fresh, const void *input,
                          const void *grad_output, void *sums) {
  gradient_lanes job = {
      .planes = planes,
      .x_plane = conv->input_strides[0],
      .g_plane = conv->output_strides[0],
      .in_height = conv->in_height,
      .out_height = conv->out_height,
      .x_row = conv->input_strides[1],
      .g_row = conv->output_strides[1],
      .padding = conv->image_row,
  };
  int64_t stride = conv->stride[1], column = 1 - conv->image_column, width = conv->out_width;
  int64_t at = column > 0 ? -1 : 0, end = clamp((conv->in_width - column + stride - 1) / stride, width, width + 1);
  for (bool first = fresh; at < end; at += LANES, first = false) {
    job.kept = lanes_before(first ? 0 : LANES, 0);
    job.x = (const real *)input + at * stride + column;
    job.g = (const real *)grad_output + at + 1;
    for (int i = 0; i < 2; i++)
      job.in[i] = lanes_before(conv->in_width, at * stride + column + i * LANES);
    for (int i = 0; i < 3; i++)
      job.out[i] = lanes_before(width, at + 1 - i);
    (stride == 1 ? add_planes_1 : add_planes_2)(&job, sums);
  }
}

/* Pairs of lanes are added, then pairs of those, ...: in the same way, whichever vectors come together. */
void NAME(lane_sums)(int64_t count, const void *sums, void *to) {
  const real *from = sums;
  real *at = to;
  for (; count > 0; count -= LANES, from += LANES * LANES, at += LANES) {
    vec v[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
      v[i] = vec_load(from + i * LANES);
#pragma GCC unroll 4
    for (int left = LANES / 2; left > 0; left /= 2)
#pragma GCC unroll 8
      for (int i = 0; i < left; i++)
        v[i] = vec_even(v[2 * i], v[2 * i + 1]) + vec_odd(v[2 * i], v[2 * i + 1]);
    vec_store(at, v[0]);
  }
}

#endif
