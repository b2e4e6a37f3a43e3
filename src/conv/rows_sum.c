/* The sum of "rows" for one block of pixels, whose channels lie side by side. */
#include "base/cpu.h"
#include "base/memory.h"
#include "conv/rows.h"

/* Few channels: the taps of a row of the kernel lie side by side in the image, too, so that a pixel away from the edges
 * offers all of them behind one pointer. Worth it where a tap alone is too short a loop. */
bool conv_rows_join_taps(const fonio_conv_plan *plan, const rows_numbers *n) {
  const kernel_conv *g = &plan->geometry;
  bool dense = n->turn_input ? n->in_channels == g->in_channels : g->input_strides[2] == g->in_channels;
  return g->kernel_width > 1 && g->dilation[1] == 1 && dense && g->in_channels < 32;
}

/* The tile's other fields. Joined are the taps of pixels whose windows no padding of columns touches; turned blocks
 * hold the padding, too. A tile that goes on in the next row is asked for whole rows. */
static inline void look_at_tile(const rows_work *w, rows_tile *t) {
  t->count = w->tile_pixels + (t->number < w->longer_tiles);
  bool one_row = t->column + t->count <= w->columns;
  bool inside = one_row ? t->column >= w->inside[0] && t->column + t->count <= w->inside[1]
                        : w->inside[0] <= 0 && w->inside[1] >= w->columns;
  t->inside = inside && one_row;
  t->join = w->join && (inside || w->n.turn_input);
}

/* Tiles of nearly the same size; and the columns of the block whose windows no padding of columns touches. */
void conv_rows_cut(rows_work *w) {
  const kernel_conv *g = &w->plan->geometry;
  const int64_t *first = g->interior, *last = first + 2 * (g->kernel_width - 1);
  w->tiles = conv_ceil_div(w->rows * w->columns, w->plan->kernels->rows_tile_rows);
  w->tile_pixels = w->rows * w->columns / w->tiles;
  w->longer_tiles = w->rows * w->columns % w->tiles;
  w->inside[0] = conv_max(first[0], last[0]) - w->column;
  w->inside[1] = conv_min(first[1], last[1]) - w->column;
}

rows_tile conv_rows_first_tile(const rows_work *w) {
  rows_tile t = {0};
  look_at_tile(w, &t);
  return t;
}

void conv_rows_next_tile(const rows_work *w, rows_tile *t) {
  t->number++;
  t->first += t->count;
  for (t->column += t->count; t->column >= w->columns; t->column -= w->columns)
    t->row++;
  if (t->number < w->tiles) look_at_tile(w, t);
}

/* Where the row of the image begins that a row of the block reads under a kernel row; NULL: it is padding. */
static inline const char *row_at(const rows_work *w, int64_t i, int64_t kernel_row) {
  const kernel_conv *g = &w->plan->geometry;
  int64_t r = kernel_row * g->dilation[0], row = g->rows[(w->row + i) * g->stride[0] + r];
  if (row < 0) return NULL;
  if (!w->n.turn_input)
    return w->input + w->bytes * (row * g->input_strides[1] + w->first_channel * g->input_strides[0]);
  int64_t width = conv_rows_reach(w->plan, &w->n, 1, w->columns);
  return w->turned_input + w->bytes * ((i * w->n.stride[0] + r) * width * w->n.in_channels + w->first_channel);
}

/* Where a pixel in that row finds its channels under a kernel column; NULL: in the padding. */
static inline const char *pixel_at(const rows_work *w, const char *row, int64_t j, int64_t kernel_column, bool join) {
  const kernel_conv *g = &w->plan->geometry;
  int64_t s = kernel_column * g->dilation[1], column = g->columns[(w->column + j) * g->stride[1] + s];
  if (w->n.turn_input && (join || column >= 0)) return row + w->bytes * (j * w->n.stride[1] + s) * w->n.in_channels;
  return column < 0 ? NULL : row + w->bytes * column * g->input_strides[2];
}

/* Of pixels away from the edges the first address tells the others. Returns whether all lie in the padding. */
static bool look_up_row(const rows_work *w, const rows_tile *t, const char *row, int64_t s, const void **pointers) {
  const kernel_conv *g = &w->plan->geometry;
  const char *address = row ? pixel_at(w, row, t->column, s, t->join) : NULL;
  int64_t step = w->n.turn_input ? w->n.stride[1] * w->n.in_channels : g->stride[1] * g->input_strides[2];
  step *= address ? w->bytes : 0;
  for (int64_t m = 0; m < t->count; m++)
    pointers[m] = (address ? address : w->zeros) + m * step;
  return !address;
}

static bool look_up_any(const rows_work *w, const rows_tile *t, int64_t r, int64_t s, const void **pointers) {
  int64_t i = t->row, j = t->column;
  const char *row = row_at(w, i, r);
  bool nothing = true;
  for (int64_t m = 0; m < t->count; m++) {
    const char *address = row ? pixel_at(w, row, j, s, t->join) : NULL;
    nothing &= !address;
    pointers[m] = address ? address : w->zeros;
    if (++j == w->columns && m + 1 < t->count) j = 0, row = row_at(w, ++i, r);
  }
  return nothing;
}

bool conv_rows_look_up(const rows_work *w, const rows_tile *t, const void **pointers) {
  int64_t width = w->plan->geometry.kernel_width, count = t->join ? w->taps / width : w->taps;
  int64_t r = w->first_tap / width, s = w->first_tap % width;
  bool nothing = true;
  for (; count > 0; count--, pointers += w->plan->kernels->rows_tile_rows) {
    nothing &= t->inside ? look_up_row(w, t, row_at(w, t->row, r), s, pointers) : look_up_any(w, t, r, s, pointers);
    s += t->join ? width : 1;
    if (s >= width) s = 0, r++;
  }
  return nothing;
}

/* Whether the weights are so many that a panel of them is worth fetching ahead. */
static bool come_from_afar(const rows_work *w) {
  return w->n.terms * w->n.out_channels * w->bytes > 4 * cpu_cache_sizes()->l2_bytes;
}

/* Whether results go to memory: no cache would hold them until somebody reads them. */
static bool go_afar(const rows_work *w, int64_t columns) {
  const fonio_conv_problem *p = &w->plan->problem;
  int64_t bytes = w->bytes * p->out_channels * p->out_height * p->out_width;
  return !w->n.turn_output && columns * w->bytes > MEMORY_ALIGNMENT &&
         bytes > conv_min(cpu_cache_sizes()->l3_bytes, 16 << 20);
}

/* Fetches what a tile will write while its sums take their time. */
static void fetch(const rows_work *w, const char *c, int64_t rows, int64_t stride, int64_t columns) {
  for (int64_t m = 0; m < rows; m++, c += w->bytes * stride)
    for (int64_t i = 0; i < w->bytes * columns; i += MEMORY_ALIGNMENT)
      __builtin_prefetch(c + i, 1);
}

bool conv_rows_take_half(const fonio_conv_plan *plan, const rows_numbers *n, int64_t terms, int64_t columns) {
  const kernel_table *k = plan->kernels;
  return k->rows_half && !n->turn_output && terms == n->terms && columns > k->lanes && 2 * columns <= 3 * k->lanes;
}

/* All tiles of the block times one panel of output channels. */
static void run_panel(const rows_work *w, int64_t channel, int64_t columns, bool last) {
  const fonio_conv_plan *plan = w->plan;
  const kernel_conv *g = &plan->geometry;
  const kernel_table *k = plan->kernels;
  int64_t vectors = conv_ceil_div(columns, k->lanes), width = vectors * k->lanes;
  int64_t term = w->first_tap * g->in_channels + w->first_channel;
  char biases[64 * sizeof(double)] = {0};
  if (last) conv_copy_biases(plan, w->bias, channel, columns, biases);
  char *c = w->n.turn_output
                ? w->turned_output + w->bytes * (channel - w->first_output)
                : w->output + w->bytes * ((w->row * g->out_width + w->column) * g->output_strides[2] + channel);
  kernel_rows job = {
      .b = w->weights + w->bytes * (channel * w->n.terms + term * width),
      .c_stride = w->n.turn_output ? w->turned_pitch : g->output_strides[2],
      .last = w->n.turn_output ? k->lanes : columns - (vectors - 1) * k->lanes,
      .bias = last && w->bias ? biases : NULL,
      .accumulate = term > 0,
  };
  int64_t ahead = come_from_afar(w) ? columns * w->n.terms : 0; /* to the next panel */
  bool half = conv_rows_take_half(plan, &w->n, plan->blocks.terms, columns);
  bool afar = term == 0 && go_afar(w, columns);
  for (rows_tile t = conv_rows_first_tile(w); t.number < w->tiles; conv_rows_next_tile(w, &t)) {
    job.rows = w->pointers + t.number * w->taps * k->rows_tile_rows;
    bool nothing = w->taps == 1 && !job.rows[0];
    job.segments = nothing ? 0 : t.join ? w->taps / g->kernel_width : w->taps;
    job.terms = t.join ? g->kernel_width * g->in_channels : w->channels;
    if (nothing && job.accumulate && !job.bias) continue;
    job.ahead = t.number == 0 ? ahead : 0;
    char *to = c + w->bytes * t.first * job.c_stride;
    if (afar) fetch(w, to, t.count, job.c_stride, columns);
    if (half && t.count == k->rows_tile_rows)
      k->rows_half(&job, to);
    else
      k->rows_tiles[(t.count - 1) * k->rows_tile_vectors + vectors - 1](&job, to);
  }
}

/* One part of the sum for the whole block. */
static void run_part(const rows_work *w, bool last) {
  for (rows_tile t = conv_rows_first_tile(w); t.number < w->tiles; conv_rows_next_tile(w, &t)) {
    const void **pointers = w->pointers + t.number * w->taps * w->plan->kernels->rows_tile_rows;
    /* A single tap that lies in the padding for all pixels of the tile is left out. */
    if (conv_rows_look_up(w, &t, pointers) && w->taps == 1) pointers[0] = NULL;
  }
  int64_t end = conv_min(w->first_output + w->outputs, w->plan->geometry.out_channels);
  for (int64_t channel = w->first_output; channel < end; channel += w->plan->blocks.panel)
    run_panel(w, channel, conv_min(w->plan->blocks.panel, end - channel), last);
}

void conv_rows_sum(rows_work *w) {
  conv_rows_cut(w);
  int64_t terms = w->n.terms, in_channels = w->plan->geometry.in_channels, most = w->plan->blocks.terms;
  for (int64_t term = 0, next; term < terms; term = next) {
    w->first_tap = term / in_channels;
    w->first_channel = term % in_channels;
    w->channels = conv_min(most, in_channels - w->first_channel);
    w->taps = conv_max(1, conv_min(most / in_channels, w->n.taps - w->first_tap));
    next = term + w->taps * w->channels;
    run_part(w, next == terms);
  }
}
