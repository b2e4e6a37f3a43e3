/* Winograd's algorithm for small kernels: F(4x4, 3x3) and its relatives, which share the points that they stand on.
 * Tiles of 6 x 6 inputs give 4 x 4 outputs of a kernel of 3 x 3, 2 x 2 outputs of one of 5 x 5; tiles of 4 x 4 inputs 2
 * x 2 outputs of one of 3 x 3. For a kernel of one row or column the tiles are lines: 6 inputs give 4 outputs of 3
 * taps. A longer kernel falls into parts of 3 or 4 taps along an axis, over as many times the input channels; the tiles
 * of the second part lie so many pixels further.
 *
 * A dilated convolution is dilation^2 undilated ones on interleaved images. One with a stride is one of stride 1 on as
 * many interleaved images, which are so many times the input channels, with kernels of which each has every stride-th
 * row and column: 3 x 3 or 4 x 4 of stride 2 are 2 x 2. Where the channels are few, they and the phases of the stride
 * share vectors (joined.h).
 *
 * A part or phase that has one tap less than another along an axis is zero in some elements of the tiles, which leave
 * it out: 49 products instead of 64 for 3 x 3 of stride 2.
 *
 * One piece of work: a block of tiles of one image and group, of all its interleaved images, and a block of output
 * channels. Its inputs are transformed into V[element][tile][channel], each element is one matrix product M = V U, and
 * M is transformed back, all in a workspace that a core's caches hold. Channels are the vector lanes; images of either
 * layout come and go through strips. */
#include "conv/winograd.h"

#include <string.h>

#include "conv/joined.h"

/* Tiles of a block, in parts for the tiles of the product: nearly equal ones, the first `more` of which have one more
 * than `least`. */
typedef struct tile_range {
  int64_t from, to;
  int parts, least, more;
} tile_range;

/* An element that tiles need, and which: those of ranges[rows][columns], with perhaps a few others. */
typedef struct tile_element {
  int index, rows, columns;
  int64_t first_term, terms, weights; /* of its sums, and where their weights begin */
} tile_element;

typedef struct winograd_work {
  const conv_run *run;
  const fonio_conv_plan *plan;
  int64_t image, group;
  winograd numbers;
  int64_t bytes; /* of an element */
  const char *input, *weights, *bias;
  char *output, *v, *m, *strip;
  int64_t first_tile, tiles; /* counted row by row */
  int64_t groups[10];        /* where the tiles of each group begin in V and M, and where the last one ends */
  tile_range ranges[3][3];   /* of the rows and columns of tiles that leave out at most so many points */
  tile_element elements[36];
  int elements_needed;
} winograd_work;

/* Tiles of rows and columns with so many points left out lie together, so that those that need an element do so, too,
 * or nearly: where an axis has lines of two kinds, as most do, these lie in the order of right edge, middle, bottom,
 * corner. */
static const int group_of[3][3] = {{2, 1, 0}, {3, 5, 7}, {4, 6, 8}};

/* The most points that a line may leave out, and need an element in row (or column) i of a tile. */
static int most_cut(int alpha, int i) {
  return i == alpha - 1 ? 0 : i == 0 ? 1 : 2;
}

/* Tiles side by side, in the image as in the block, with the same points left out. */
typedef struct tile_part {
  tile_line line; /* of the first one */
  int64_t tiles, to;
} tile_part;

/* Tiles of the block side by side in one row of tiles, over one strip. */
typedef struct tile_run {
  tile_line row;
  int64_t tile, tiles; /* in the block */
  int count;
  tile_part parts[MOST_WHOLE];
  int64_t next[9]; /* of each group, behind those of the run */
} tile_run;

static void begin_runs(const winograd_work *w, tile_run *run) {
  run->tile = run->tiles = 0;
  memcpy(run->next, w->groups, sizeof run->next);
}

/* Goes on to the next run of the block; whether there is one. */
static bool next_run(const winograd_work *w, tile_run *run) {
  const winograd *n = &w->numbers;
  run->tile += run->tiles;
  if (run->tile == w->tiles) return false;
  int64_t tile = w->first_tile + run->tile, column = tile % n->columns;
  int64_t most = conv_min(conv_min(n->columns - column, w->tiles - run->tile), n->run_tiles);
  run->row = conv_tile_line(&n->lines[0], tile / n->columns);
  run->tiles = run->count = 0;
  while (run->tiles < most) {
    tile_line line = conv_tile_line(&n->lines[1], column + run->tiles);
    if (run->count && line.phase != run->parts[0].line.phase && !n->whole) break;
    int64_t *to = &run->next[group_of[run->row.cut][line.cut]], tiles = conv_min(line.alike, most - run->tiles);
    run->parts[run->count++] = (tile_part){line, tiles, *to};
    run->tiles += tiles, *to += tiles;
  }
  return true;
}

/* From the first tile to the last one of the groups that leave out at most so many points. */
static tile_range range_of(const winograd_work *w, int rows, int columns) {
  tile_range range = {.from = w->tiles};
  for (int i = 0; i <= rows; i++)
    for (int j = 0; j <= columns; j++) {
      const int64_t *group = &w->groups[group_of[i][j]];
      if (group[0] == group[1]) continue;
      range.from = conv_min(range.from, group[0]);
      range.to = conv_max(range.to, group[1]);
    }
  if (range.to == 0) return range;
  int tiles = (int)(range.to - range.from), most = w->plan->kernels->rows_tile_rows;
  range.parts = (tiles + most - 1) / most;
  range.least = tiles / range.parts;
  range.more = tiles % range.parts;
  return range;
}

static void find_elements(winograd_work *w) {
  const winograd *n = &w->numbers;
  int64_t in_channels = w->plan->geometry.in_channels, weights = 0;
  w->elements_needed = 0;
  for (int i = 0; i < 9; i++)
    w->ranges[i / 3][i % 3] = range_of(w, i / 3, i % 3);
  const int height = n->axes[0].alpha, width = n->axes[1].alpha;
  for (int i = 0; i < height; i++)
    for (int j = 0; j < width; j++) {
      int rows = most_cut(height, i), columns = most_cut(width, j);
      kernel_winograd_range parts = kernel_winograd_parts(n->axes, i, j);
      int64_t terms = (parts.to - parts.from) * in_channels;
      if (w->ranges[rows][columns].parts > 0)
        w->elements[w->elements_needed++] =
            (tile_element){i * width + j, rows, columns, parts.from * in_channels, terms, weights};
      weights += terms * n->out_channels;
    }
}

/* The places of the groups: a run through all tiles counts them. */
static void place_groups(winograd_work *w) {
  memset(w->groups, 0, sizeof w->groups);
  tile_run run;
  begin_runs(w, &run);
  while (next_run(w, &run))
    continue;
  for (int g = 0; g < 9; g++)
    w->groups[g + 1] = w->groups[g] + run.next[g];
}

/* Pixel of the strip where a part begins; there are `step` pixels between its columns. */
static int64_t place_of(const tile_run *run, const tile_part *part, int64_t step) {
  const tile_line *line = &part->line, *first = &run->parts[0].line;
  return line->phase - first->phase + (line->start - first->start - first->first) * step;
}

/* Columns of the strip up to the last one that a part reads. */
static int64_t columns_read(const winograd *n, const tile_run *run) {
  int64_t columns = 0, more = n->joined ? 0 : n->out_step * kernel_winograd_tap(&n->axes[1], n->axes[1].parts - 1);
  for (int i = 0; i < run->count; i++) {
    const tile_part *part = &run->parts[i];
    int64_t last = part->tiles * n->axes[1].m + n->axes[1].alpha - n->axes[1].m - (part->line.cut > 0) - 1;
    columns = conv_max(columns, place_of(run, part, n->in_step) + last * n->in_step + 1);
  }
  return columns + more;
}

/* Or writes. */
static int64_t columns_written(const winograd *n, const tile_run *run) {
  int64_t columns = 0;
  for (int i = 0; i < run->count; i++) {
    const tile_part *part = &run->parts[i];
    int64_t last = (part->tiles - 1) * n->axes[1].m + part->line.first + part->line.count - 1;
    columns = conv_max(columns, place_of(run, part, n->out_step) + last * n->out_step + 1);
  }
  return columns;
}

/* The strip of the inputs, of one part of rows and all parts of columns. */
static kernel_strip input_strip(const winograd_work *w, const tile_run *run, int64_t part) {
  const fonio_conv_problem *p = &w->plan->problem;
  const winograd *n = &w->numbers;
  const tile_line *row = &run->row, *column = &run->parts[0].line;
  int64_t apart[2] = {p->stride[0] * p->dilation[0], p->stride[1] * p->dilation[1]};
  return (kernel_strip){
      .row =
          row->phase + kernel_winograd_tap(&n->axes[0], part) * p->dilation[0] + (row->start + row->first) * apart[0],
      .column = column->phase + (column->start + column->first) * apart[1],
      .rows = n->axes[0].alpha - row->cut,
      .columns = columns_read(n, run),
      .step = {apart[0], apart[1] / n->in_step},
      .pixel = n->pixel,
      .pitch = n->strip_pitch,
  };
}

static kernel_strip output_strip(const winograd_work *w, const tile_run *run) {
  const int64_t *dilation = w->plan->geometry.dilation;
  const winograd *n = &w->numbers;
  const tile_line *row = &run->row, *column = &run->parts[0].line;
  return (kernel_strip){
      .row = row->phase + (row->start + row->first) * dilation[0],
      .column = column->phase + (column->start + column->first) * dilation[1],
      .rows = row->count,
      .columns = columns_written(n, run),
      .step = {dilation[0], dilation[1] / n->out_step},
      .pixel = n->pass,
      .pitch = n->strip_pitch,
  };
}

/* The transforms of all parts of a strip's inputs, from an element of its pixels to one of V's rows. */
static void transform_parts(const winograd_work *w, const tile_run *run, kernel_winograd *job, int64_t from,
                            int64_t to) {
  const winograd *n = &w->numbers;
  for (int i = 0; i < run->count; i++) {
    const tile_part *part = &run->parts[i];
    job->tiles = part->tiles;
    w->plan->kernels->winograd_input(job, w->strip + w->bytes * (from + place_of(run, part, n->in_step) * n->pixel),
                                     w->v + w->bytes * (to + part->to * n->in_pitch));
  }
}

/* A pass over `channels` channels from `channel` on, part by part. */
static void transform_pass(const winograd_work *w, const tile_run *run, kernel_winograd *job, int64_t channel,
                           int64_t channels) {
  const winograd *n = &w->numbers;
  const kernel_table *k = w->plan->kernels;
  char *first_row = w->strip + w->bytes * run->row.first * n->strip_pitch;
  job->vectors = conv_ceil_div(channels, k->lanes);
  for (int64_t place = 0, row = -1; place < n->parts; place++) {
    int64_t part[2];
    kernel_winograd_part(n->axes, place, part);
    kernel_strip strip = input_strip(w, run, part[0]);
    for (int64_t v = 0; v < job->vectors * k->lanes && part[0] != row; v += k->lanes)
      k->gather_strip(&w->plan->geometry, &strip, channel + v, w->input, first_row + w->bytes * v);
    row = part[0];
    transform_parts(w, run, job, kernel_winograd_tap(&n->axes[1], part[1]) * n->out_step * n->pass,
                    place * w->plan->geometry.in_channels + channel);
  }
}

/* Where tiles are lines: along which axis. */
static int64_t step_of(const winograd *n, const kernel_winograd *job) {
  return !n->line ? 0 : n->axes[1].alpha > 1 ? job->pixel : job->pitch;
}

/* Vectors that are not whole are written whole, and what is too much is overwritten by what follows: the channels that
 * are left over come first. */
static void transform_inputs(const winograd_work *w, const tile_run *run) {
  const winograd *n = &w->numbers;
  int64_t in_channels = w->plan->geometry.in_channels;
  kernel_winograd job = {.alpha = n->alpha,
                         .m = n->m,
                         .pixel = n->pixel * n->in_step,
                         .pitch = n->strip_pitch,
                         .element_stride = n->in_stride,
                         .tile_stride = n->in_pitch};
  job.step = step_of(n, &job);
  if (n->joined) {
    kernel_strip strip = input_strip(w, run, 0);
    const int64_t parts[2] = {n->axes[0].parts, n->axes[1].parts};
    conv_gather_joined(&w->plan->geometry, &strip, parts, w->bytes, w->input,
                       w->strip + w->bytes * run->row.first * n->strip_pitch);
    job.vectors = conv_ceil_div(n->terms, w->plan->kernels->lanes);
    transform_parts(w, run, &job, 0, 0);
    return;
  }
  for (int64_t end = in_channels, channel; end > 0; end = channel) {
    channel = (end - 1) / n->pass * n->pass;
    transform_pass(w, run, &job, channel, end - channel);
  }
}

/* The transforms of all parts of a run, from M on. Tiles that begin earlier come first: what they write before their
 * first output belongs to others. */
static void transform_back(const winograd_work *w, const tile_run *run, kernel_winograd *job, const char *m,
                           const double *biases) {
  const winograd *n = &w->numbers;
  for (int first = 1; first >= 0; first--)
    for (int i = 0; i < run->count; i++) {
      const tile_part *part = &run->parts[i];
      if (part->line.first != first) continue;
      job->tiles = part->tiles;
      w->plan->kernels->winograd_output(job, m + w->bytes * part->to * n->out_pitch, biases,
                                        w->strip + w->bytes * place_of(run, part, n->out_step) * n->pass);
    }
}

/* Of output channels [from, to), whose sums are in M. */
static void transform_outputs(const winograd_work *w, const tile_run *run, int64_t from, int64_t to) {
  const winograd *n = &w->numbers;
  const kernel_table *k = w->plan->kernels;
  kernel_strip strip = output_strip(w, run);
  kernel_winograd job = {.alpha = n->alpha,
                         .m = n->m,
                         .pixel = n->pass * n->out_step,
                         .pitch = strip.pitch,
                         .element_stride = n->out_stride,
                         .tile_stride = n->out_pitch};
  const char *first_row = w->strip + w->bytes * run->row.first * n->strip_pitch;
  job.step = step_of(n, &job);
  for (int64_t channel = from; channel < to; channel += n->pass) {
    int64_t out_channels = w->plan->geometry.out_channels;
    int64_t channels = conv_min(out_channels - channel, conv_min(to - channel, n->pass));
    double biases[64] = {0};
    conv_copy_biases(w->plan, w->bias, channel, channels, biases);
    job.vectors = conv_ceil_div(conv_min(to - channel, n->pass), k->lanes);
    transform_back(w, run, &job, w->m + w->bytes * (channel - from), biases);
    for (int64_t v = 0; v < job.vectors * k->lanes; v += k->lanes)
      k->scatter_strip(&w->plan->geometry, &strip, channel + v, first_row + w->bytes * v, w->output);
    conv_finish(w->run, w->image, w->group * out_channels + channel, channels, &strip);
  }
}

/* One block of columns of one element's product: `terms` input channels from `first` on. */
static void multiply_panel(const winograd_work *w, const tile_range *range, const char *v, const char *u, char *m,
                           int64_t columns, int64_t first, int64_t terms, int64_t ahead) {
  const kernel_table *k = w->plan->kernels;
  const int64_t vectors = conv_ceil_div(columns, k->lanes), pitch = w->bytes * w->numbers.in_pitch;
  const void *rows[16];
  kernel_rows job = {1, terms, rows, u, w->numbers.out_pitch, k->lanes, NULL, first > 0, ahead};
  v += w->bytes * first + range->from * pitch;
  m += w->bytes * range->from * w->numbers.out_pitch;
  for (int part = 0; part < range->parts; part++, job.ahead = 0) {
    int64_t count = range->least + (part < range->more);
    for (int64_t i = 0; i < count; i++, v += pitch)
      rows[i] = v;
    k->rows_tiles[(count - 1) * k->rows_tile_vectors + vectors - 1](&job, m);
    m += w->bytes * count * w->numbers.out_pitch;
  }
}

/* One element of M, of output channels [from, to). Behind its last panel comes the first one of `next`. */
static void multiply_element(const winograd_work *w, const tile_element *element, const tile_element *next,
                             int64_t from, int64_t to) {
  const winograd *n = &w->numbers;
  const conv_blocks *b = &w->plan->blocks;
  const tile_range *tiles = &w->ranges[element->rows][element->columns];
  int64_t count = element->terms, most = conv_even(count, b->terms);
  const char *v = w->v + w->bytes * (element->index * n->in_stride + element->first_term);
  for (int64_t c = from; c < to; c += b->panel)
    for (int64_t term = 0; term < count; term += most) {
      int64_t columns = conv_min(b->panel, to - c), terms = conv_min(most, count - term);
      int64_t at = element->weights + c * count + term * columns;
      bool last = c + columns == to && term + terms == count;
      int64_t ahead = last ? next->weights + from * next->terms - at : terms * columns;
      multiply_panel(w, tiles, v, w->weights + w->bytes * at,
                     w->m + w->bytes * (element->index * n->out_stride + c - from), columns, term, terms, ahead);
    }
}

/* M of output channels [from, to). */
static void multiply(const winograd_work *w, int64_t from, int64_t to) {
  for (int i = 0; i < w->elements_needed; i++)
    multiply_element(w, &w->elements[i], &w->elements[conv_min(i + 1, w->elements_needed - 1)], from, to);
}

/* Of the runs that begin in tiles [from, to). */
static void transform_all_inputs(const winograd_work *w, int64_t from, int64_t to) {
  tile_run run;
  begin_runs(w, &run);
  while (next_run(w, &run))
    if (run.tile >= from && run.tile < to) transform_inputs(w, &run);
}

/* From V to output channels [from, end). */
static void compute_channels(const winograd_work *w, int64_t from, int64_t end) {
  for (int64_t to; from < conv_min(end, w->numbers.out_channels); from = to) {
    to = conv_min(from + w->plan->blocks.sums, conv_min(end, w->numbers.out_channels));
    multiply(w, from, to);
    tile_run run;
    begin_runs(w, &run);
    while (next_run(w, &run))
      transform_outputs(w, &run, from, to);
  }
}

static int64_t pieces(const fonio_conv_plan *plan) {
  winograd w = conv_winograd_numbers(plan);
  if (conv_winograd_shares(plan, &w)) return w.rows;
  return plan->problem.batch * plan->problem.groups * conv_winograd_blocks_of_tiles(plan, &w) *
         conv_winograd_blocks_of_channels(plan, &w);
}

static int64_t last_pieces(const fonio_conv_plan *plan) {
  winograd w = conv_winograd_numbers(plan);
  return conv_winograd_shares(plan, &w) ? conv_winograd_blocks_of_channels(plan, &w) : 0;
}

/* A block of tiles, counted through all images. */
static winograd_work block_at(const conv_run *run, int64_t block, char *workspace) {
  const fonio_conv_plan *plan = run->plan;
  winograd n = conv_winograd_numbers(plan);
  int64_t tile = conv_take(&block, conv_winograd_blocks_of_tiles(plan, &n)) * plan->blocks.pixels;
  int64_t tiles = conv_min(plan->blocks.pixels, n.rows * n.columns - tile);
  int64_t group = conv_take(&block, plan->problem.groups), image = block;
  int64_t bytes = conv_element_bytes(plan);
  char *v = conv_winograd_shares(plan, &n) ? run->shared : workspace, *m = workspace;
  if (v == m) m += conv_round_up(n.v_elements * bytes, 64);
  winograd_work w = {
      .run = run,
      .plan = plan,
      .image = image,
      .group = group,
      .numbers = n,
      .bytes = bytes,
      .input = conv_at(run->buffers->input, conv_input_offset(plan, image, group)),
      .weights = conv_at(run->packed, group * (plan->packed_bytes / plan->problem.groups)),
      .bias = conv_at(run->buffers->bias, conv_bias_offset(plan, group)),
      .output = (char *)run->buffers->output + conv_output_offset(plan, image, group),
      .v = v,
      .m = m,
      .strip = m + conv_round_up(n.m_elements * bytes, 64) + n.strip_margin * bytes,
      .first_tile = tile,
      .tiles = tiles,
  };
  place_groups(&w);
  find_elements(&w);
  return w;
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  winograd n = conv_winograd_numbers(plan);
  if (conv_winograd_shares(plan, &n)) {
    winograd_work w = block_at(run, 0, workspace);
    transform_all_inputs(&w, piece * n.columns, (piece + 1) * n.columns);
    return;
  }
  int64_t from = conv_take(&piece, conv_winograd_blocks_of_channels(plan, &n)) * plan->blocks.channels;
  winograd_work w = block_at(run, piece, workspace);
  transform_all_inputs(&w, 0, w.tiles);
  compute_channels(&w, from, from + plan->blocks.channels);
}

static void run_last(const conv_run *run, int64_t piece, void *workspace) {
  winograd_work w = block_at(run, 0, workspace);
  int64_t channels = run->plan->blocks.channels;
  compute_channels(&w, piece * channels, (piece + 1) * channels);
}

const conv_algorithm conv_winograd4_forward = {
    .name = "winograd4",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_DEFAULT,
    .applicable = conv_winograd4_applicable,
    .needs = "3 to 8 rows and columns of the kernel, or one of them and 2 to 12 of the other; with a stride up to 5, "
             "or 4, for each phase of it, and no dilation; at most 2.5 times the error of plain sums",
    .cost = conv_winograd4_cost,
    .prepare = conv_winograd_prepare,
    .packing = 0.32,
    .packs_alike = conv_winograd_packs_alike,
    .pack = conv_winograd_pack,
    .pieces = pieces,
    .run_piece = run_piece,
    .last_pieces = last_pieces,
    .run_last = run_last,
};

const conv_algorithm conv_winograd2_forward = {
    .name = "winograd2",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_DEFAULT,
    .applicable = conv_winograd2_applicable,
    .needs = "2 or 3 rows and columns of the kernel for each phase of the stride, no dilation with a stride",
    .cost = conv_winograd2_cost,
    .prepare = conv_winograd_prepare,
    .packing = 0.32,
    .packs_alike = conv_winograd_packs_alike,
    .pack = conv_winograd_pack,
    .pieces = pieces,
    .run_piece = run_piece,
    .last_pieces = last_pieces,
    .run_last = run_last,
};
