/* The sum of "rows" for one block of pixels, whose channels lie side by side. */
#include "base/cpu.h"
#include "conv/rows.h"

/* Few channels: the taps of a row of the kernel lie side by side in the image, too, so that a pixel away from the edges
 * offers all of them behind one pointer. Worth it where a tap alone is too short a loop, and simple where the sum is
 * not cut. */
bool conv_rows_join_taps(const fonio_conv_plan *plan, const rows_numbers *n) {
  const kernel_conv *g = &plan->geometry;
  bool dense = n->turn_input ? n->in_channels == g->in_channels : g->input_strides[2] == g->in_channels;
  return g->kernel_width > 1 && g->dilation[1] == 1 && dense && g->in_channels < 32 && n->terms <= plan->blocks.terms;
}

static int64_t pixels_of(const rows_work *w) {
  return w->rows * w->columns;
}

/* Tiles of nearly the same size: where tile `i` begins. */
static int64_t tile_start(const rows_work *w, int64_t i) {
  return pixels_of(w) * i / w->tiles;
}

/* Where a pixel of the block finds its channels under a tap; NULL: in the padding. */
static const char *address_of(const rows_work *w, int64_t pixel, int64_t tap) {
  const kernel_conv *g = &w->plan->geometry;
  int64_t r = tap / g->kernel_width * g->dilation[0], s = tap % g->kernel_width * g->dilation[1];
  int64_t i = pixel / w->columns, j = pixel % w->columns;
  int64_t row = g->rows[(w->row + i) * g->stride[0] + r], column = g->columns[(w->column + j) * g->stride[1] + s];
  if (row < 0 || column < 0) return NULL;
  if (!w->n.turn_input)
    return w->input + w->bytes * (row * g->input_strides[1] + column * g->input_strides[2] +
                                  w->first_channel * g->input_strides[0]);
  int64_t width = conv_rows_reach(w->plan, &w->n, 1, w->columns);
  int64_t at = (i * w->n.stride[0] + r) * width + j * w->n.stride[1] + s;
  return w->turned_input + w->bytes * (at * w->n.in_channels + w->first_channel);
}

/* Whether no column of the pixel's window lies in the padding; turned blocks hold the padding, too. */
static bool undisturbed(const rows_work *w, int64_t pixel) {
  const kernel_conv *g = &w->plan->geometry;
  int64_t column = w->column + pixel % w->columns, last = g->kernel_width - 1;
  return w->n.turn_input || (column >= g->interior[0] && column < g->interior[1] && column >= g->interior[2 * last] &&
                             column < g->interior[2 * last + 1]);
}

static bool tile_joins(const rows_work *w, int64_t tile) {
  if (!w->join) return false;
  bool all = true;
  for (int64_t i = tile_start(w, tile); all && i < tile_start(w, tile + 1); i++)
    all = undisturbed(w, i);
  return all;
}

/* The first tap of a kernel row that does not lie in the padding stands for the row where taps are joined: its pointer,
 * moved back. */
static const char *address_of_row(const rows_work *w, int64_t pixel, int64_t tap) {
  int64_t channels = w->plan->geometry.in_channels;
  for (int64_t s = 0; s < w->plan->geometry.kernel_width; s++) {
    const char *address = address_of(w, pixel, tap + s);
    if (address) return address - w->bytes * s * channels;
  }
  return NULL;
}

/* The pointers of one tile, tap by tap or, where taps are joined, kernel row by kernel row. Returns whether all lie in
 * the padding. */
static bool look_up(const rows_work *w, int64_t tile, const void **pointers) {
  int64_t from = tile_start(w, tile), count = tile_start(w, tile + 1) - from;
  bool join = tile_joins(w, tile), nothing = true;
  for (int64_t tap = w->first_tap; tap < w->first_tap + w->taps; tap += join ? w->plan->geometry.kernel_width : 1) {
    for (int64_t i = 0; i < count; i++) {
      const char *address = join ? address_of_row(w, from + i, tap) : address_of(w, from + i, tap);
      nothing &= !address;
      pointers[i] = address ? address : w->zeros;
    }
    pointers += w->plan->kernels->rows_tile_rows;
  }
  return nothing;
}

/* Whether the weights are so many that a panel of them is worth fetching ahead. */
static bool come_from_afar(const rows_work *w) {
  return w->n.terms * w->n.out_channels * w->bytes > 4 * cpu_cache_sizes()->l2_bytes;
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
  for (int64_t tile = 0, from = 0, end; tile < w->tiles; tile++, from = end) {
    end = tile_start(w, tile + 1);
    job.rows = w->pointers + tile * w->taps * k->rows_tile_rows;
    bool join = tile_joins(w, tile), nothing = w->taps == 1 && !job.rows[0];
    job.segments = nothing ? 0 : join ? g->kernel_height : w->taps;
    job.terms = join ? g->kernel_width * g->in_channels : w->channels;
    if (nothing && job.accumulate && !job.bias) continue;
    job.ahead = tile == 0 ? ahead : 0;
    k->rows_tiles[(end - from - 1) * k->rows_tile_vectors + vectors - 1](&job, c + w->bytes * from * job.c_stride);
  }
}

/* One part of the sum for the whole block. */
static void run_part(const rows_work *w, bool last) {
  for (int64_t tile = 0; tile < w->tiles; tile++) {
    const void **pointers = w->pointers + tile * w->taps * w->plan->kernels->rows_tile_rows;
    /* A single tap that lies in the padding for all pixels of the tile is left out. */
    if (look_up(w, tile, pointers) && w->taps == 1) pointers[0] = NULL;
  }
  int64_t end = conv_min(w->first_output + w->outputs, w->plan->geometry.out_channels);
  for (int64_t channel = w->first_output; channel < end; channel += w->plan->blocks.panel)
    run_panel(w, channel, conv_min(w->plan->blocks.panel, end - channel), last);
}

void conv_rows_sum(rows_work *w) {
  w->tiles = conv_ceil_div(pixels_of(w), w->plan->kernels->rows_tile_rows);
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
