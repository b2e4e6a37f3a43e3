/* The rms error of Winograd's results on tiles of 6 inputs, to that of plain sums. Whatever is added up is rounded in
 * proportion to its size. So the error of an element of a tile is as the size of its inputs, whose squares are those of
 * B^T over what lies inside of the image, times that of its weights; and it comes to the outputs by the squares of A^T.
 * A plain sum's is as the number of its terms, which are few where much is padding. Both are products of what the axes
 * give. docs/numerics.md has what is measured. */
#include <math.h>

#include "conv/winograd.h"

/* The points 0, +-1/sqrt(2), +-sqrt(2) and infinity; two points together. */
enum { AT_0, NEAR, FAR, AT_INFINITY, POINTS };

/* Squares of B^T, by input. */
static const double of_inputs[6][POINTS] = {{1, 0, 0, 0},      {0, 2, 0.5, 1}, {6.25, 4, 0.25, 0},
                                            {0, 0.5, 2, 6.25}, {1, 1, 1, 0},   {0, 0, 0, 1}};

/* Along an axis, one part of the kernel. */
typedef struct side {
  int64_t size, padding, stride, dilation;
  int64_t first, m;       /* tap; outputs of a tile */
  double weights[POINTS]; /* squares of G */
} side;

static side side_of(const fonio_conv_problem *p, int i, const kernel_winograd_axis *axis, int64_t part) {
  int64_t kernel = i ? p->kernel_width : p->kernel_height, most = axis->alpha + 1 - axis->m;
  int64_t first = kernel_winograd_tap(axis, part);
  int64_t taps = conv_min(most - (part >= axis->full), conv_ceil_div(kernel - first, axis->step));
  side s = {
      .size = i ? p->in_width : p->in_height,
      .padding = p->padding[2 * i],
      .stride = p->stride[i],
      .dilation = p->dilation[i],
      .first = first,
      .m = axis->m,
      .weights = {[AT_0] = 1, [AT_INFINITY] = taps == most},
  };
  double near = 8.0 / 9, far = 1.0 / 18;
  for (int64_t tap = 0; tap < taps; tap++, near /= 2, far *= 2)
    s.weights[NEAR] += near, s.weights[FAR] += far;
  return s;
}

/* Whether an input of a line is no padding. */
static bool is_inside(const side *s, tile_line line, int64_t input) {
  int64_t place = (line.phase + (line.start + input) * s->dilation) * s->stride + s->first * s->dilation - s->padding;
  return place >= 0 && place < s->size;
}

/* The squares of the errors at the outputs of a line. */
static double error_of_line(const side *s, tile_line line, bool zeros) {
  double at[POINTS] = {0}, sum = 0, near = 1, far = 1;
  for (int j = 0; j < 6; j++)
    for (int point = 0; point < POINTS && (!zeros || is_inside(s, line, j)); point++)
      at[point] += of_inputs[j][point] * s->weights[point];
  for (int i = 0; i < line.first + line.count; i++, near /= 2, far *= 2)
    if (i >= line.first)
      sum += (i == 0) * at[AT_0] + near * at[NEAR] + far * at[FAR] + (i == s->m - 1) * at[AT_INFINITY];
  return sum;
}

/* Lines from this one on that are the same in all; those that read nothing but the image. */
static int64_t lines_alike(const side *s, tile_line line, bool zeros) {
  tile_line last = line;
  last.start += conv_max(0, line.alike - 2) * s->m;
  return !zeros || (is_inside(s, line, 0) && is_inside(s, last, 5)) ? conv_max(1, line.alike - 1) : 1;
}

/* The mean square of the share of the taps that are inside, of all outputs. */
static double share_inside(const fonio_conv_problem *p, int i) {
  int64_t outputs = i ? p->out_width : p->out_height, kernel = i ? p->kernel_width : p->kernel_height;
  int64_t size = i ? p->in_width : p->in_height, dilation = p->dilation[i];
  if (p->padding_mode != FONIO_ZEROS) return 1;
  double squares = 0;
  for (int64_t output = 0; output < outputs; output++) {
    int64_t first = output * p->stride[i] - p->padding[2 * i], last = first + (kernel - 1) * dilation, taps = kernel;
    if (first < 0) taps -= conv_ceil_div(-first, dilation);
    if (last >= size) taps -= conv_ceil_div(last - size + 1, dilation);
    squares += taps > 0 ? (double)(taps * taps) : 0;
  }
  return squares / (double)(outputs * kernel * kernel);
}

/* Squares of the errors of all outputs along an axis. */
static double errors_along(const fonio_conv_problem *p, int i, const kernel_winograd_axis *axis) {
  bool zeros = p->padding_mode == FONIO_ZEROS;
  tile_axis lines = conv_tile_axis(i ? p->out_width : p->out_height, p->dilation[i], axis->m);
  double sum = 0;
  for (int64_t part = 0; part < axis->parts; part++) {
    side s = side_of(p, i, axis, part);
    for (int64_t line = 0, alike; line < lines.lines; line += alike) {
      tile_line at = conv_tile_line(&lines, line);
      alike = lines_alike(&s, at, zeros);
      sum += (double)alike * error_of_line(&s, at, zeros);
    }
  }
  return (double)axis->parts * sum;
}

/* Measured on images that are cut off below 0, and from 32 channels on: the longer the sums, the less the roundings of
 * the transforms count beside theirs. */
double conv_winograd_error(const fonio_conv_problem *p, const kernel_winograd_axis axes[2]) {
  double terms = (double)conv_max(32, p->in_channels / p->groups), error = 1;
  for (int i = 0; i < 2; i++) {
    double outputs = (double)(i ? p->out_width : p->out_height),
           kernel = (double)(i ? p->kernel_width : p->kernel_height);
    double share = share_inside(p, i);
    if (axes[i].alpha == 1 || share <= 0) continue;
    error *= errors_along(p, i, &axes[i]) / (outputs * kernel * kernel * share);
    terms *= (double)axes[i].parts * sqrt(share);
  }
  return error * (1.375 + 17 / terms);
}
