/* One piece of the gradient of the weight: weight_gradient.c. */
#include "conv/patch.h"
#include "conv/weight_gradient.h"

#include <string.h>

/* Input channels, kernel rows or kernel columns of a piece: how many, and what lies between one and the next. */
typedef struct weight_dimension {
  int64_t size, weight_stride, input_stride;
  int64_t place; /* in the piece's sums for one output channel */
} weight_dimension;

/* Padded rows of the input that the last block left in the copy, of an image and a block of columns. */
typedef struct copied_rows {
  int64_t image, column, first, rows;
} copied_rows;

typedef struct gradient_work {
  const conv_run *run;
  const fonio_conv_plan *plan;
  const gradient_numbers *n;
  int64_t bytes; /* of an element */
  int64_t rows;  /* weights of the piece for one output channel */
  weight_dimension channel, kernel_row, kernel_column;
  bool channel_last;                /* the sums of a tap's channels follow each other, else those of a channel's taps */
  int64_t in_channel, in_lane;      /* the piece's first input channel, and how far one lane's lies from the next's */
  int64_t out_channel, out_lane;    /* the same of the output */
  int64_t first_channel, first_row; /* of the group and of the kernel */
  int64_t panels, panel_step;       /* output channels from panel to panel */
  int64_t kept;                     /* panels that are turned at once */
  int64_t lanes;                    /* that there are from the first one on */
  bool bias;                        /* its gradient is asked for, and this piece's to compute */
  bool careful;                     /* looks for what is not finite in the output's gradient */
  int64_t block;                    /* of pixels */
  kernel_block pixels;
  copied_rows copied;
  kernel_gradient job;
  int64_t *offsets;
  gradient_layout layout;
  char *panel, *copy, *biases, *sums;
} gradient_work;

/* ---- The input ---- */

static const void *input_at(const gradient_work *w, int64_t image, int64_t channel) {
  const int64_t *strides = w->plan->problem.input_strides;
  return conv_at(w->run->buffers->input, (image * strides[0] + channel * strides[1]) * w->bytes);
}

/* Elements from one channel, row and column to the next where the inputs are read. */
typedef struct source_strides {
  int64_t image, channel, row, column;
} source_strides;

/* Rows of the copy for the block of pixels: the last piece may have fewer kernel rows than the others, and beyond its
 * own there may be no image. */
static int64_t rows_to_copy(const gradient_work *w) {
  return conv_gradient_reach(w->plan, w->n, 0, w->pixels.rows, w->kernel_row.size);
}

static source_strides strides_of_source(const gradient_work *w) {
  const gradient_numbers *n = w->n;
  const int64_t *image = w->plan->problem.input_strides;
  int64_t rows = rows_to_copy(w);
  switch (n->source) {
  case SOURCE_PLANES: return (source_strides){w->channel.size * rows * n->pitch, rows * n->pitch, n->pitch, 1};
  case SOURCE_PIXELS:
    return (source_strides){rows * n->pitch, n->lanes == LANES_OF_GROUPS ? n->width : 1, n->pitch, n->pixel};
  default: return (source_strides){image[0], image[1], image[2], image[3]};
  }
}

/* Where the weights of the piece find their inputs, seen from those of a pixel; tap by tap, those of a tap. */
static void list_offsets(gradient_work *w, const source_strides *s) {
  const kernel_conv *g = &w->plan->geometry;
  weight_dimension *c = &w->channel, *row = &w->kernel_row, *column = &w->kernel_column;
  c->input_stride = s->channel;
  row->input_stride = g->dilation[0] * s->row;
  column->input_stride = g->dilation[1] * s->column;
  for (int64_t i = 0; i < c->size && w->n->source == SOURCE_INSIDE; i++)
    w->offsets[i] = i * c->input_stride;
  for (int64_t i = 0; i < c->size && w->n->source != SOURCE_INSIDE; i++)
    for (int64_t j = 0; j < row->size; j++)
      for (int64_t k = 0; k < column->size; k++)
        w->offsets[i * c->place + j * row->place + k * column->place] =
            i * c->input_stride + j * row->input_stride + k * column->input_stride;
}

static void copy_planes(const gradient_work *w, const source_strides *s) {
  const gradient_numbers *n = w->n;
  const kernel_block *b = &w->pixels;
  kernel_conv conv = w->plan->geometry;
  conv.in_channels = w->channel.size;
  kernel_shifted_strip strip = {
      .row = b->row * conv.stride[0] + w->first_row * conv.dilation[0],
      .rows = rows_to_copy(w),
      .row_step = n->skip[0],
      .column = b->column * conv.stride[1],
      .columns = conv_gradient_reach(w->plan, n, 1, b->columns, conv.kernel_width),
      .step = n->skip[1],
      .phases = 1,
      .pitch = n->pitch,
  };
  for (int64_t i = 0; i < b->images; i++)
    w->plan->kernels->shifted_strip(&conv, &strip, input_at(w, b->image + i, w->in_channel),
                                    w->copy + i * s->image * w->bytes);
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
  bool groups = n->lanes == LANES_OF_GROUPS;
  kernel_dealing job = {w->channel.size, 1, w->channel.size, 1, 0};
  if (groups) job = (kernel_dealing){w->lanes, w->in_lane, n->width, w->channel.size, n->width};
  if (n->deal_input)
    w->plan->kernels->gradient_deal(&w->plan->geometry, strip, &job, input_at(w, image, w->in_channel), to);
  else if (!groups)
    turn_channels(w, strip, input_at(w, image, w->in_channel), 1, w->channel.size, to);
  else
    for (int64_t c = 0; c < w->channel.size; c++)
      turn_channels(w, strip, input_at(w, image, w->in_channel + c), w->in_lane, w->lanes,
                    to + c * n->width * w->bytes);
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

static void copy_pixels(gradient_work *w, const source_strides *s) {
  const gradient_numbers *n = w->n;
  const kernel_block *b = &w->pixels;
  const kernel_conv *g = &w->plan->geometry;
  kernel_strip strip = {
      .row = b->row * g->stride[0] + w->first_row * g->dilation[0],
      .column = b->column * g->stride[1],
      .rows = rows_to_copy(w),
      .columns = conv_gradient_reach(w->plan, n, 1, b->columns, g->kernel_width),
      .step = {n->skip[0], n->skip[1]},
      .pixel = n->pixel,
      .pitch = n->pitch,
  };
  int64_t kept = keep_rows(w, &strip);
  strip.row += kept * strip.step[0];
  strip.rows -= kept;
  for (int64_t i = 0; i < b->images; i++)
    copy_image(w, &strip, b->image + i, w->copy + (i * s->image + kept * strip.pitch) * w->bytes);
}

/* What the sums read for the block of pixels, and where. */
static void find_input(gradient_work *w) {
  const kernel_conv *g = &w->plan->geometry;
  const kernel_block *b = &w->pixels;
  source_strides s = strides_of_source(w);
  bool copied = w->n->source == SOURCE_PLANES || w->n->source == SOURCE_PIXELS;
  w->job.input = w->copy;
  if (w->n->source == SOURCE_PLANES) copy_planes(w, &s);
  if (w->n->source == SOURCE_PIXELS) copy_pixels(w, &s);
  if (!copied) {
    int64_t row = b->row * g->stride[0] + w->first_row * g->dilation[0], column = b->column * g->stride[1];
    w->job.input = conv_at(input_at(w, b->image, w->in_channel), (row * s.row + column * s.column) * w->bytes);
  }
  w->job.image_step = s.image;
  w->job.segment_step = g->stride[0] / (copied ? w->n->skip[0] : 1) * s.row;
  w->job.term_step = g->stride[1] / (copied ? w->n->skip[1] : 1) * s.column;
  list_offsets(w, &s);
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

/* ---- The output's gradient ---- */

static int64_t channel_of_panel(const gradient_work *w, int64_t panel) {
  return w->out_channel + panel * w->panel_step;
}

/* Lanes of a panel that there are, and as many as whole vectors have. */
static int64_t lanes_of_panel(const gradient_work *w, int64_t panel) {
  int64_t before = w->n->lanes == LANES_OF_CHANNELS ? panel * w->n->width : 0;
  return conv_min(w->lanes - before, w->n->width);
}

static int64_t width_of_panel(const gradient_work *w, int64_t panel) {
  return conv_gradient_width(w->plan, w->n->lanes, lanes_of_panel(w, panel));
}

static const void *grad_output_at(const gradient_work *w, int64_t image, int64_t channel) {
  const int64_t *strides = w->plan->problem.output_strides;
  return conv_at(w->run->buffers->grad_output, (image * strides[0] + channel * strides[1]) * w->bytes);
}

static int64_t pixels_of_block(const gradient_work *w) {
  return w->pixels.images * w->pixels.rows * w->pixels.columns;
}

/* Where a panel lies once it is turned, [pixel][width]. */
static char *turned_panel(const gradient_work *w, int64_t panel) {
  int64_t width = w->n->lanes == LANES_OF_GROUPS ? width_of_panel(w, panel) : w->n->width;
  return w->panel + panel % w->kept * pixels_of_block(w) * width * w->bytes;
}

void conv_gradient_turn(const gradient_turn *job, const void *from, char *to) {
  static const int64_t first_row[1] = {0};
  const kernel_table *k = job->plan->kernels;
  kernel_strip strip = {.rows = 1, .columns = job->pixels, .step = {1, 1}, .pixel = job->width};
  kernel_conv conv = {
      .in_channels = job->channels,
      .rows = first_row,
      .padded_height = 1,
      .in_width = job->pixels,
      .input_strides = {job->channel_stride, 0, job->pixel_stride},
  };
  int64_t bytes = (int64_t)fonio_dtype_bytes(job->plan->problem.dtype);
  for (int64_t lane = 0; lane < job->width; lane += k->lanes)
    k->gather_strip(&conv, &strip, lane, from, to + lane * bytes);
}

/* Turns, or deals out, `count` pixels that lie side by side; to groups, all panels that are kept at once. */
static void turn_pixels(const gradient_work *w, int64_t panel, const void *from, int64_t count, char *to) {
  static const int64_t first_row[1] = {0};
  const int64_t *strides = w->plan->problem.output_strides;
  int64_t width = width_of_panel(w, panel), lanes = lanes_of_panel(w, panel);
  if (!w->n->deal_output) {
    gradient_turn job = {w->plan, lanes, w->out_lane * strides[1], count, strides[3], width};
    conv_gradient_turn(&job, from, to);
    return;
  }
  kernel_strip strip = {.rows = 1, .columns = count, .step = {1, 1}, .pixel = width};
  kernel_dealing job = {lanes, w->out_lane, width, 1, 0};
  if (w->n->lanes == LANES_OF_GROUPS) job.rows = w->kept, job.row_stride = pixels_of_block(w) * width;
  kernel_conv conv = {.rows = first_row, .in_width = count, .input_strides = {w->out_lane * strides[1], 0, strides[3]}};
  w->plan->kernels->gradient_deal(&conv, &strip, &job, from, to);
}

/* The next panels, for some pixels side by side. Where channels lie side by side, a few pixels at a time: so memory is
 * read in its order. */
static void turn_stretch(const gradient_work *w, int64_t panel, const char *from, int64_t count, int64_t pixel) {
  bool groups = w->n->lanes == LANES_OF_GROUPS;
  int64_t panels = groups ? 1 : conv_min(w->kept, w->panels - panel), some = panels > 1 ? 32 : count;
  const int64_t *strides = w->plan->problem.output_strides;
  for (int64_t first = 0; first < count; first += some)
    for (int64_t i = panel; i < panel + panels; i++)
      turn_pixels(w, i, from + (first * strides[3] + (i - panel) * w->panel_step * strides[1]) * w->bytes,
                  conv_min(some, count - first),
                  turned_panel(w, i) + (pixel + first) * width_of_panel(w, i) * w->bytes);
}

/* The next panels of the block. */
static void turn_panels(const gradient_work *w, int64_t panel) {
  const int64_t *strides = w->plan->problem.output_strides;
  const kernel_block *b = &w->pixels;
  bool flat = b->rows == 1 || strides[2] == b->columns * strides[3];
  int64_t count = flat ? b->rows * b->columns : b->columns, pixel = 0;
  for (int64_t image = b->image; image < b->image + b->images; image++)
    for (int64_t row = b->row; row < b->row + (flat ? 1 : b->rows); row++, pixel += count)
      turn_stretch(w, panel,
                   conv_at(grad_output_at(w, image, channel_of_panel(w, panel)),
                           (row * strides[2] + b->column * strides[3]) * w->bytes),
                   count, pixel);
}

/* ---- The sums ---- */

static bool pads_with_zeros(const fonio_conv_problem *p) {
  return p->padding_mode == FONIO_ZEROS && conv_pads(p);
}

/* The gradient of the output has an Inf or a NaN here, which must not meet the zeros of the padding: the plain loops
 * leave padding out. */
static void add_plain(const gradient_work *w, int64_t channel, int64_t lanes, int64_t width, char *sums) {
  kernel_conv conv = w->plan->geometry;
  conv.out_channels = 1;
  conv.in_channels = w->channel.size;
  conv.kernel_height = w->kernel_row.size;
  conv.rows += w->first_row * conv.dilation[0];
  conv.weight_strides[1] = w->channel.place * width;
  conv.weight_strides[2] = w->kernel_row.place * width;
  conv.weight_strides[3] = w->kernel_column.place * width;
  for (int64_t i = 0; i < lanes; i++)
    w->plan->kernels->reference_block_gradient(&conv, &w->n->order, w->block,
                                               input_at(w, 0, w->in_channel + i * w->in_lane),
                                               grad_output_at(w, 0, channel + i * w->out_lane), sums + i * w->bytes);
}

static char *sums_of_panel(const gradient_work *w, int64_t panel) {
  return w->sums + panel * w->rows * w->n->width * w->bytes;
}

/* The products of one tap, without the pixels at which it reads zeros of the padding. */
static void add_tap(const gradient_work *w, int64_t row, int64_t column) {
  const kernel_conv *g = &w->plan->geometry;
  const kernel_block *b = &w->pixels;
  const int64_t *strides = w->plan->problem.input_strides;
  int64_t tap = w->first_row + row, width = w->job.sum_step;
  conv_range rows = conv_range_inside(w->plan, 0, tap, b->row, b->rows);
  conv_range columns = conv_range_inside(w->plan, 1, column, b->column, b->columns);
  if (rows.count == 0 || columns.count == 0) return;
  int64_t from_row = rows.first * g->stride[0] + tap * g->dilation[0] - g->image_row;
  int64_t from_column = columns.first * g->stride[1] + column * g->dilation[1] - g->image_column;
  kernel_gradient job = w->job;
  job.images = b->images;
  job.segments = rows.count;
  job.terms = columns.count;
  job.input =
      conv_at(input_at(w, b->image, w->in_channel), (from_row * strides[2] + from_column * strides[3]) * w->bytes);
  job.panel = conv_at(job.panel, ((rows.first - b->row) * b->columns + columns.first - b->column) * width * w->bytes);
  job.panel_segment_gap = (b->columns - columns.count) * width;
  job.panel_image_gap = (b->rows - rows.count) * b->columns * width;
  job.rows = w->channel.size;
  job.sums = (char *)job.sums + (row * w->kernel_row.place + column * w->kernel_column.place) * width * w->bytes;
  job.sum_step = w->channel.place * width;
  w->plan->kernels->gradient_sums(&job);
}

static void add_taps(const gradient_work *w) {
  for (int64_t row = 0; row < w->kernel_row.size; row++)
    for (int64_t column = 0; column < w->kernel_column.size; column++)
      add_tap(w, row, column);
}

/* Adds the sums over the block for one panel. */
static void add_panel(gradient_work *w, int64_t panel) {
  const char *turned = turned_panel(w, panel);
  const kernel_table *k = w->plan->kernels;
  int64_t width = width_of_panel(w, panel), vectors = width / k->lanes, pixels = pixels_of_block(w);
  if (w->bias) k->gradient_biases(pixels, vectors, turned, w->biases + panel * w->n->width * w->bytes);
  if (!w->run->buffers->grad_weight) return;
  w->job.panel = turned;
  w->job.vectors = vectors;
  w->job.sums = sums_of_panel(w, panel);
  w->job.sum_step = width;
  if (w->n->source == SOURCE_INSIDE)
    add_taps(w);
  else if (!w->careful || k->gradient_finite(pixels * vectors, turned))
    k->gradient_sums(&w->job);
  else
    add_plain(w, channel_of_panel(w, panel), lanes_of_panel(w, panel), width, w->job.sums);
}

static void add_block(gradient_work *w, int64_t block) {
  w->block = block;
  w->pixels = kernel_block_at(&w->n->order, block);
  if (w->run->buffers->grad_weight) {
    find_input(w);
    join_segments(w);
  }
  for (int64_t panel = 0; panel < w->panels; panel++) {
    if (panel % w->kept == 0) turn_panels(w, panel);
    add_panel(w, panel);
  }
}

static void add_blocks(gradient_work *w, int64_t part) {
  const kernel_order *order = &w->n->order;
  memset(w->biases, 0, (size_t)w->layout.result_bytes);
  w->copied.rows = 0;
  for (int64_t block = kernel_first_block(order, part); block < kernel_first_block(order, part + 1); block++)
    add_block(w, block);
}

/* Whether nothing shows that the gradient of the output is not finite somewhere. */
static bool is_finite(const gradient_work *w) {
  const kernel_table *k = w->plan->kernels;
  bool finite = true;
  for (int64_t panel = 0; panel < w->panels; panel++)
    finite &= k->gradient_finite(w->rows * width_of_panel(w, panel) / k->lanes, sums_of_panel(w, panel));
  return finite;
}

/* ---- The results ---- */

void conv_gradient_store(const gradient_store *job, const char *sums, char *to) {
  const kernel_table *k = job->plan->kernels;
  kernel_conv conv = {
      .out_channels = job->lanes,
      .out_height = 1,
      .out_width = job->count,
      .output_strides = {job->out_stride, 0, job->stride},
  };
  kernel_strip strip = {.rows = 1, .columns = job->count, .step = {1, 1}, .pixel = job->pixel};
  int64_t bytes = (int64_t)fonio_dtype_bytes(job->plan->problem.dtype);
  for (int64_t lane = 0; lane < job->lanes; lane += k->lanes)
    k->scatter_strip(&conv, &strip, lane, sums + lane * bytes, to);
}

/* The sums of a panel lie in the order of its weights' dimensions, outermost first; inner ones without gaps between
 * them are one. */
static void store_panel(const gradient_work *w, int64_t panel) {
  weight_dimension one = {1, 0, 0, 0}, d[3] = {w->channel, w->kernel_row, w->kernel_column};
  if (w->channel_last) d[0] = w->kernel_row, d[1] = w->kernel_column, d[2] = w->channel;
  for (int i = 1; i >= 0; i--) {
    if (d[2].size == 1)
      d[2] = d[i];
    else if (d[i].size == 1 || d[i].weight_stride == d[2].weight_stride * d[2].size)
      d[2].size *= d[i].size;
    else
      break;
    d[i] = one;
  }
  const int64_t *strides = w->plan->problem.weight_strides;
  int64_t channel = channel_of_panel(w, panel), width = width_of_panel(w, panel);
  char *to = (char *)w->run->buffers->grad_weight + w->bytes * channel * strides[0];
  to += w->bytes * (w->first_channel * strides[1] + w->first_row * strides[2]);
  gradient_store job = {w->plan,   lanes_of_panel(w, panel), w->out_lane * strides[0], width,
                        d[2].size, d[2].weight_stride};
  for (int64_t i = 0; i < d[0].size; i++)
    for (int64_t j = 0; j < d[1].size; j++)
      conv_gradient_store(&job, sums_of_panel(w, panel) + (i * d[0].place + j * d[1].place) * width * w->bytes,
                          to + w->bytes * (i * d[0].weight_stride + j * d[1].weight_stride));
}

static void store_biases(const gradient_work *w, int64_t panel) {
  int64_t stride = w->plan->problem.bias_stride * w->bytes, channel = channel_of_panel(w, panel);
  for (int64_t i = 0; i < lanes_of_panel(w, panel); i++)
    memcpy((char *)w->run->buffers->grad_bias + (channel + i * w->out_lane) * stride,
           w->biases + (panel * w->n->width + i) * w->bytes, (size_t)w->bytes);
}

/* ---- The piece ---- */

/* Which weights. */
static void find_weights(gradient_work *w, int64_t piece) {
  const gradient_numbers *n = w->n;
  const kernel_conv *g = &w->plan->geometry;
  w->first_channel = conv_take(&piece, n->channel_blocks) * n->channels;
  w->first_row = conv_take(&piece, n->row_blocks) * n->kernel_rows;
  int64_t panel = conv_take(&piece, n->panel_blocks) * n->panels;
  w->channel.size = conv_min(n->channels, g->in_channels - w->first_channel);
  w->kernel_row.size = conv_min(n->kernel_rows, g->kernel_height - w->first_row);
  w->kernel_column.size = g->kernel_width;
  bool groups = n->lanes == LANES_OF_GROUPS;
  int64_t group = groups ? piece * n->width : piece;
  w->in_channel = group * g->in_channels + w->first_channel;
  w->in_lane = groups ? g->in_channels : 0;
  w->out_lane = groups ? g->out_channels : 1;
  w->panel_step = groups ? 1 : n->width;
  w->out_channel = group * g->out_channels + panel * w->panel_step;
  w->lanes = groups ? conv_min(n->width, n->all_lanes - group) : g->out_channels - panel * n->width;
  w->panels = conv_min(n->panels, (groups ? g->out_channels : n->lane_panels) - panel);
  w->kept = conv_min(conv_gradient_kept(n), w->panels);
}

/* Weights whose channels lie side by side are taken tap by tap, others channel by channel. */
static void order_weights(gradient_work *w) {
  const int64_t *strides = w->plan->geometry.weight_strides;
  weight_dimension *c = &w->channel, *row = &w->kernel_row, *column = &w->kernel_column;
  w->channel_last = strides[1] == 1 && row->size * column->size > 1;
  w->rows = c->size * row->size * column->size;
  column->place = w->channel_last ? c->size : 1;
  row->place = column->place * column->size;
  c->place = w->channel_last ? 1 : row->size * column->size;
  c->weight_stride = strides[1];
  row->weight_stride = strides[2];
  column->weight_stride = strides[3];
}

/* What the work on a block of weights begins with; the results are at `results`. */
static gradient_work work_on(const conv_run *run, const gradient_numbers *n, int64_t block, char *results) {
  gradient_work w = {
      .run = run,
      .plan = run->plan,
      .n = n,
      .bytes = (int64_t)fonio_dtype_bytes(run->plan->problem.dtype),
      .layout = conv_gradient_layout(run->plan, n),
  };
  find_weights(&w, block);
  order_weights(&w);
  w.biases = results;
  w.sums = results + w.layout.sums;
  w.bias = run->buffers->grad_bias && w.first_channel + w.first_row == 0;
  return w;
}

static void store(const gradient_work *w) {
  for (int64_t panel = 0; panel < w->panels; panel++) {
    if (w->run->buffers->grad_weight) store_panel(w, panel);
    if (w->bias) store_biases(w, panel);
  }
}

char *conv_gradient_results(const conv_run *run, gradient_parts p, int64_t block, int64_t part) {
  return (char *)run->shared + (block * p.parts + part) * p.bytes;
}

void conv_gradient_add_parts(const conv_run *run, gradient_parts p, int64_t block) {
  const kernel_table *k = run->plan->kernels;
  int64_t vectors = p.bytes / (k->lanes * (int64_t)fonio_dtype_bytes(run->plan->problem.dtype));
  for (int64_t part = 1; part < p.parts; part++)
    k->gradient_add(vectors, conv_gradient_results(run, p, block, 0), conv_gradient_results(run, p, block, part));
}

void conv_gradient_run_piece(const conv_run *run, const gradient_numbers *n, int64_t piece, void *workspace) {
  gradient_layout l = conv_gradient_layout(run->plan, n);
  /* The blocks of a part follow each other: they read the same pixels. */
  int64_t block = conv_take(&piece, conv_gradient_blocks(n)), part = piece;
  char *memory = workspace;
  gradient_parts p = {n->order.parts, l.result_bytes};
  gradient_work w =
      work_on(run, n, block, p.parts > 1 ? conv_gradient_results(run, p, block, part) : memory + l.results);
  w.offsets = workspace;
  w.panel = memory + l.panel;
  w.copy = memory + l.copy;
  w.job = (kernel_gradient){.by_lane = n->lanes == LANES_OF_GROUPS, .rows = w.rows, .offsets = w.offsets};
  if (!w.bias && !run->buffers->grad_weight) return;
  add_blocks(&w, part);
  if (pads_with_zeros(&run->plan->problem) && n->source != SOURCE_INSIDE && !is_finite(&w)) {
    w.careful = true;
    add_blocks(&w, part);
  }
  if (n->order.parts == 1) store(&w);
}

void conv_gradient_run_last(const conv_run *run, const gradient_numbers *n, int64_t block) {
  gradient_parts p = {n->order.parts, conv_gradient_layout(run->plan, n).result_bytes};
  gradient_work w = work_on(run, n, block, conv_gradient_results(run, p, block, 0));
  if (!w.bias && !run->buffers->grad_weight) return;
  conv_gradient_add_parts(run, p, block);
  store(&w);
}
