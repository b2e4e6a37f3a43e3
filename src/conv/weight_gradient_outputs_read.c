/* What a piece of the gradient of the weight reads: the input, in place or copied, and the output's gradient, turned.
 */
#include "conv/weight_gradient_outputs.h"

#include <string.h>

/* ---- The input ---- */

const void *conv_gradient_input(const gradient_work *w, int64_t image, int64_t channel) {
  const int64_t *strides = w->plan->problem.input_strides;
  return conv_at(w->run->buffers->input, (image * strides[0] + channel * strides[1]) * w->bytes);
}

/* Elements from one image, channel, row and column to the next where the inputs are read. */
typedef struct source_strides {
  int64_t image, channel, row, column;
} source_strides;

static source_strides strides_of_source(const gradient_work *w, int64_t rows) {
  const gradient_numbers *n = w->n;
  const int64_t *image = w->plan->problem.input_strides;
  switch (n->source) {
  case SOURCE_PLANES: return (source_strides){w->channel.size * rows * n->pitch, rows * n->pitch, n->pitch, 1};
  case SOURCE_PIXELS: return (source_strides){rows * n->pitch, n->by_lane ? n->width : 1, n->pitch, n->pixel};
  default: return (source_strides){image[0], image[1], image[2], image[3]};
  }
}

/* Where the weights of the piece find their inputs, seen from those of a pixel; tap by tap, those of a tap. */
static void list_offsets(gradient_work *w, const source_strides *s) {
  const int64_t *dilation = w->plan->geometry.dilation;
  bool by_tap = w->n->source == SOURCE_INSIDE;
  for (int64_t i = 0; i < w->channel.size; i++)
    for (int64_t j = 0; j < (by_tap ? 1 : w->kernel_row.size); j++)
      for (int64_t k = 0; k < (by_tap ? 1 : w->kernel_column.size); k++)
        w->offsets[by_tap ? i : i * w->channel.place + j * w->kernel_row.place + k * w->kernel_column.place] =
            i * s->channel + j * dilation[0] * s->row + k * dilation[1] * s->column;
}

/* The part of the padded image under the block of pixels. The last piece may have fewer kernel rows than the others,
 * and beyond its own there may be no image. */
static kernel_strip part_of_input(const gradient_work *w) {
  const gradient_numbers *n = w->n;
  const kernel_conv *g = &w->plan->geometry;
  return (kernel_strip){
      .row = w->pixels.row * g->stride[0] + w->first_row * g->dilation[0],
      .column = w->pixels.column * g->stride[1],
      .rows = conv_gradient_reach(w->plan, n, 0, w->pixels.rows, w->kernel_row.size),
      .columns = conv_gradient_reach(w->plan, n, 1, w->pixels.columns, w->kernel_column.size),
      .step = {n->skip[0], n->skip[1]},
      .pixel = n->pixel,
      .pitch = n->pitch,
  };
}

static void copy_planes(const gradient_work *w, const kernel_strip *part, int64_t image_stride) {
  kernel_conv conv = w->plan->geometry;
  conv.in_channels = w->channel.size;
  kernel_shifted_strip strip = {part->row,     part->rows, part->step[0], part->column, part->columns,
                                part->step[1], 1,          part->pitch};
  for (int64_t i = 0; i < w->pixels.images; i++)
    w->plan->kernels->shifted_strip(&conv, &strip, conv_gradient_input(w, w->pixels.image + i, w->in_channel),
                                    w->copy + i * image_stride * w->bytes);
}

/* `count` channels, `apart` from each other, of all pixels of the block. */
static void turn_channels(const gradient_work *w, const kernel_strip *strip, const void *input, int64_t apart,
                          int64_t count, char *to) {
  kernel_conv conv = w->plan->geometry;
  conv.in_channels = count;
  conv.input_strides[0] *= apart;
  for (int64_t c = 0; c < count; c += w->plan->kernels->lanes)
    w->plan->kernels->gather_strip(&conv, strip, c, input, to + c * w->bytes);
}

/* All channels that the piece needs of one image. */
static void copy_image(const gradient_work *w, const kernel_strip *strip, int64_t image, char *to) {
  const gradient_numbers *n = w->n;
  int64_t channels = w->channel.size;
  const void *input = conv_gradient_input(w, image, w->in_channel);
  if (n->deal_input) {
    kernel_dealing job = {channels, 1, channels, 1, 0};
    if (n->by_lane) job = (kernel_dealing){w->lanes, w->in_lane, n->width, channels, n->width};
    w->plan->kernels->gradient_deal(&w->plan->geometry, strip, &job, input, to);
  } else if (n->by_lane) {
    for (int64_t c = 0; c < channels; c++)
      turn_channels(w, strip, conv_gradient_input(w, image, w->in_channel + c), w->in_lane, w->lanes,
                    to + c * n->width * w->bytes);
  } else {
    turn_channels(w, strip, input, 1, channels, to);
  }
}

/* Rows at the end of the copy that this block needs at its beginning: they move there. Returns how many. */
static int64_t keep_rows(gradient_work *w, const kernel_strip *strip) {
  copied_rows *c = &w->copied;
  int64_t moved = (strip->row - c->first) / strip->step[0], kept = 0;
  bool follows = w->pixels.images == 1 && c->image == w->pixels.image && c->column == strip->column && moved > 0;
  if (follows) kept = conv_max(0, conv_min(c->rows - moved, strip->rows));
  *c = (copied_rows){w->pixels.image, strip->column, strip->row, w->pixels.images == 1 ? strip->rows : 0};
  int64_t row_bytes = strip->pitch * w->bytes;
  if (kept > 0) memmove(w->copy, w->copy + moved * row_bytes, (size_t)(kept * row_bytes));
  return kept;
}

static void copy_pixels(gradient_work *w, kernel_strip strip, int64_t image_stride) {
  int64_t kept = keep_rows(w, &strip);
  strip.row += kept * strip.step[0];
  strip.rows -= kept;
  for (int64_t i = 0; i < w->pixels.images; i++)
    copy_image(w, &strip, w->pixels.image + i, w->copy + (i * image_stride + kept * strip.pitch) * w->bytes);
}

/* Rows of pixels that follow each other are one. */
static void join_segments(gradient_work *w) {
  kernel_gradient *j = &w->job;
  j->images = w->pixels.images;
  j->segments = w->pixels.rows;
  j->terms = w->pixels.columns;
  if (j->segments > 1 && j->segment_step != j->terms * j->term_step) return;
  j->terms *= j->segments;
  j->segments = 1;
  if (j->images > 1 && j->image_step != j->terms * j->term_step) return;
  j->terms *= j->images;
  j->images = 1;
}

void conv_gradient_read_input(gradient_work *w) {
  const int64_t *stride = w->plan->geometry.stride, *skip = w->n->skip;
  kernel_strip part = part_of_input(w);
  source_strides s = strides_of_source(w, part.rows);
  w->job.input = w->copy;
  if (w->n->source == SOURCE_PLANES)
    copy_planes(w, &part, s.image);
  else if (w->n->source == SOURCE_PIXELS)
    copy_pixels(w, part, s.image);
  else
    w->job.input = conv_at(conv_gradient_input(w, w->pixels.image, w->in_channel),
                           (part.row * s.row + part.column * s.column) * w->bytes);
  w->job.image_step = s.image;
  w->job.segment_step = stride[0] / skip[0] * s.row;
  w->job.term_step = stride[1] / skip[1] * s.column;
  list_offsets(w, &s);
  join_segments(w);
}

/* ---- The output's gradient ---- */

int64_t conv_gradient_channel_of_panel(const gradient_work *w, int64_t panel) {
  return w->out_channel + panel * w->panel_step;
}

int64_t conv_gradient_lanes_of_panel(const gradient_work *w, int64_t panel) {
  int64_t before = w->n->by_lane ? 0 : panel * w->n->width;
  return conv_min(w->lanes - before, w->n->width);
}

int64_t conv_gradient_width_of_panel(const gradient_work *w, int64_t panel) {
  return conv_gradient_width(w->plan, w->n->by_lane, conv_gradient_lanes_of_panel(w, panel));
}

const void *conv_gradient_grad_output(const gradient_work *w, int64_t image, int64_t channel) {
  const int64_t *strides = w->plan->problem.output_strides;
  return conv_at(w->run->buffers->grad_output, (image * strides[0] + channel * strides[1]) * w->bytes);
}

char *conv_gradient_turned_panel(const gradient_work *w, int64_t panel) {
  int64_t width = w->n->by_lane ? conv_gradient_width_of_panel(w, panel) : w->n->width;
  return w->panel + panel % w->kept * conv_gradient_pixels(w) * width * w->bytes;
}

/* Turns, or deals out, `count` pixels that lie side by side; to groups, all panels that are kept at once. */
static void turn_pixels(const gradient_work *w, int64_t panel, const void *from, int64_t count, char *to) {
  static const int64_t first_row[1] = {0};
  const int64_t *strides = w->plan->problem.output_strides;
  int64_t width = conv_gradient_width_of_panel(w, panel), lanes = conv_gradient_lanes_of_panel(w, panel);
  if (!w->n->deal_output) {
    gradient_turn job = {w->plan, lanes, w->out_lane * strides[1], count, strides[3], width};
    conv_gradient_turn(&job, from, to);
    return;
  }
  kernel_strip strip = {.rows = 1, .columns = count, .step = {1, 1}, .pixel = width};
  kernel_dealing job = {lanes, w->out_lane, width, 1, 0};
  if (w->n->by_lane) job.rows = w->kept, job.row_stride = conv_gradient_pixels(w) * width;
  kernel_conv conv = {.rows = first_row, .in_width = count, .input_strides = {w->out_lane * strides[1], 0, strides[3]}};
  w->plan->kernels->gradient_deal(&conv, &strip, &job, from, to);
}

/* The next panels, for some pixels side by side. Where channels lie side by side, a few pixels at a time: so memory is
 * read in its order. */
static void turn_stretch(const gradient_work *w, int64_t panel, const char *from, int64_t count, int64_t pixel) {
  int64_t panels = w->n->by_lane ? 1 : conv_min(w->kept, w->panels - panel), some = panels > 1 ? 32 : count;
  const int64_t *strides = w->plan->problem.output_strides;
  for (int64_t first = 0; first < count; first += some)
    for (int64_t i = panel; i < panel + panels; i++)
      turn_pixels(w, i, from + (first * strides[3] + (i - panel) * w->panel_step * strides[1]) * w->bytes,
                  conv_min(some, count - first),
                  conv_gradient_turned_panel(w, i) + (pixel + first) * conv_gradient_width_of_panel(w, i) * w->bytes);
}

void conv_gradient_turn_panels(const gradient_work *w, int64_t panel) {
  const int64_t *strides = w->plan->problem.output_strides;
  const kernel_block *b = &w->pixels;
  bool flat = b->rows == 1 || strides[2] == b->columns * strides[3];
  int64_t count = flat ? b->rows * b->columns : b->columns, pixel = 0;
  for (int64_t image = b->image; image < b->image + b->images; image++)
    for (int64_t row = b->row; row < b->row + (flat ? 1 : b->rows); row++, pixel += count)
      turn_stretch(w, panel,
                   conv_at(conv_gradient_grad_output(w, image, conv_gradient_channel_of_panel(w, panel)),
                           (row * strides[2] + b->column * strides[3]) * w->bytes),
                   count, pixel);
}
