/* Implicit matrix product over packed panels. Rows are output channels, columns are output pixels, the sum runs over
 * the taps. Weights are packed once, pixels panel by panel into a buffer that stays in a near cache; no im2col
 * buffer, no padded copy. Serves every problem.
 *
 * The loops, outermost first, after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008):
 *   part of the sum
 *     panel of pixels: packed, stays in the first- or second-level cache
 *       tile_rows output channels: one tile in registers
 * Weights that would not stay in the second-level cache from one panel to the next are many enough for a piece of work
 * to be one panel; so there is no loop over blocks of output channels, which would pack each panel several times.
 *
 * Where much of what the taps read is padding, as with a large dilation, the image is cut into patches whose pixels see
 * the same taps inside of it: the others are left out. The sums of a patch are kept beside the output until they are
 * whole. */
#include <string.h>

#include "conv/patch.h"

static bool applicable(const fonio_conv_problem *problem) {
  (void)problem;
  return true;
}

static int64_t terms_of_sum(const fonio_conv_plan *plan) {
  return plan->geometry.in_channels * plan->problem.kernel_height * plan->problem.kernel_width;
}

static int64_t pixels_of_image(const fonio_conv_plan *plan) {
  return plan->problem.out_height * plan->problem.out_width;
}

static int64_t most_terms(const fonio_conv_plan *plan) {
  return conv_terms_of_panel(plan, plan->kernels->lanes * plan->kernels->tile_vectors);
}

/* Whether so many pixels leave half a vector at the most over, and there is a tile for that. */
static bool leaves_half(const fonio_conv_plan *plan, int64_t pixels) {
  int64_t over = pixels % plan->kernels->lanes;
  return plan->kernels->half_tile && over > 0 && over <= plan->kernels->lanes / 2;
}

/* Packing moves whole vectors where pixels lie side by side or every second or fourth one, otherwise each element for
 * itself; where each tap finds its pixels is looked up for each panel. Each sum has a beginning and an end, where it is
 * stored; elements that do not lie side by side are also fetched where a sum goes on. */
static double cost(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  double lanes = plan->kernels->lanes, terms = (double)terms_of_sum(plan), channels = (double)g->out_channels;
  double rows = (double)conv_round_up(g->out_channels, 2);
  double pixels = (double)conv_round_up(pixels_of_image(plan), plan->kernels->lanes);
  if (leaves_half(plan, pixels_of_image(plan))) pixels -= 0.4 * lanes;
  int64_t step = g->stride[1] * g->input_strides[2];
  double pack = 1.5;
  if (step == 1) pack = 1.5 / lanes + 0.1;
  if (step == 2) pack = (g->kernel_width > 2 ? 6 : 4) / lanes + 0.1;
  if (step == 4) pack = 6 / lanes + 0.1;
  double moves = (double)(2 * conv_ceil_div(terms_of_sum(plan), most_terms(plan)) - 1);
  double store = g->output_strides[2] == 1 ? (lanes > 8 ? 2.6 : 4) / lanes * channels : 8 * channels * moves;
  double sum = conv_patch_share(plan) * terms * (rows / (1.85 * lanes) + pack);
  double taps = 60.0 * (double)(g->kernel_height * g->kernel_width) / (lanes * plan->kernels->tile_vectors);
  return (double)plan->problem.groups * pixels * (sum + taps + store);
}

/* A piece should last long enough to be worth handing to a thread: some 20 microseconds. */
#define PIECE_PRODUCTS (1 << 20)

static void prepare(fonio_conv_plan *plan) {
  int64_t bytes = conv_element_bytes(plan), terms = terms_of_sum(plan);
  conv_blocks *b = &plan->blocks;
  b->panel = plan->kernels->lanes * plan->kernels->tile_vectors;
  bool patches = conv_patch_share(plan) < 1;
  b->terms = conv_even(patches ? plan->geometry.in_channels : terms, most_terms(plan));
  int64_t per_panel = b->panel * terms * plan->geometry.out_channels;
  int64_t pixels = b->panel * conv_max(1, PIECE_PRODUCTS / per_panel);
  int64_t even = conv_even_pairs(pixels_of_image(plan), pixels);
  b->pixels = conv_round_up(even, plan->kernels->lanes);
  b->patch = patches ? conv_patch_pixels(plan) : 0;
  plan->packed_bytes = plan->problem.groups * plan->geometry.out_channels * terms * bytes;
  /* The panel, the vector that packing may write behind it, and one tile for outputs that cannot be written in place,
   * or all of a patch. */
  int64_t beside = patches ? b->patch * plan->geometry.out_channels : plan->kernels->tile_rows * b->panel;
  plan->workspace_bytes = conv_round_up((b->terms * b->panel + plan->kernels->lanes) * bytes, 64) + beside * bytes;
}

static bool pack_group(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return plan->kernels->pack_weights(&plan->geometry, weight, packed);
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return conv_pack_groups(plan, weight, packed, pack_group);
}

static int64_t pieces_of_image(const fonio_conv_plan *plan) {
  int64_t patches = 0;
  for (conv_patch p = {0}; plan->blocks.patch && conv_patch_next(plan, &p);)
    patches++;
  return patches ? patches : conv_ceil_div(pixels_of_image(plan), plan->blocks.pixels);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * plan->problem.groups * pieces_of_image(plan);
}

enum { MOST_LINES = 16 };

/* What the inner loops work on: one image and group, one block of the sum. */
typedef struct panel_work {
  const conv_run *run;
  const fonio_conv_plan *plan;
  kernel_conv conv;              /* of the image, or of a patch under one tap */
  int64_t interior[2], tap_term; /* and what goes with it: the first term of the tap */
  int64_t image, first_channel;
  const char *input, *weights, *bias;
  char *output;
  char *panel, *scratch;                  /* in the workspace */
  bool patch;                             /* the scratch holds all sums: [panel][output channel][width] */
  int64_t bytes;                          /* of an element */
  int64_t terms;                          /* of the whole sum */
  int64_t first_pixel, end_pixel, panels; /* of the piece */
  int64_t whole;                          /* pixels of it before the last panel, where that is of half a vector */
  kernel_pixels part;
  int64_t width;         /* of the panel: the pixels rounded up to whole vectors */
  bool accumulate, last; /* the sum goes on; it ends with this part: add the bias */
  bool flat;             /* the pixels of an output channel lie side by side */
} panel_work;

/* Moves one row of a tile between the output and the scratch. */
static void move_row(const panel_work *w, char *output, char *scratch, bool to_output) {
  const kernel_conv *g = &w->conv;
  int64_t row = w->part.first_pixel / g->out_width, column = w->part.first_pixel % g->out_width;
  for (int64_t i = 0, run; i < w->part.pixels; i += run) {
    run = w->part.pixels - i;
    if (!w->flat) run = g->output_strides[2] == 1 ? conv_min(run, g->out_width - column) : 1;
    char *out = output + w->bytes * (row * g->output_strides[1] + column * g->output_strides[2]);
    memcpy(to_output ? out : scratch, to_output ? scratch : out, (size_t)(run * w->bytes));
    scratch += run * w->bytes;
    column += run;
    if (column == g->out_width) column = 0, row++;
  }
}

/* A tile that cannot be written in place: its last vector is not whole, or the output's pixels do not lie side by side.
 */
static void run_tile_beside(const panel_work *w, kernel_tile tile, const void *weights, const void *bias, char *output,
                            int64_t rows) {
  int64_t channel_bytes = w->bytes * w->plan->geometry.output_strides[0], row_bytes = w->bytes * w->width;
  for (int64_t m = 0; m < rows && w->accumulate; m++)
    move_row(w, output + m * channel_bytes, w->scratch + m * row_bytes, false);
  tile(w->part.terms, weights, w->panel, w->width, w->scratch, w->width, bias, w->accumulate);
  for (int64_t m = 0; m < rows; m++)
    move_row(w, output + m * channel_bytes, w->scratch + m * row_bytes, true);
}

/* The cache lines of a channel that the panel that follows reads, of its first term; returns how many. None where it
 * need not be fetched ahead, as the neighbouring taps of larger kernels bring it near. */
static int lines_ahead(const panel_work *w, const char *lines[MOST_LINES]) {
  const kernel_conv *g = &w->conv;
  int64_t pixel = w->part.first_pixel + w->width, term = w->part.first_term - w->tap_term;
  if (w->patch && pixel >= w->end_pixel) pixel = 0, term += w->part.terms;
  if (g->kernel_height * g->kernel_width > 1 || g->input_strides[2] != 1 || term >= g->in_channels) return 0;
  int64_t row = pixel / g->out_width, column = pixel % g->out_width;
  int count = 0;
  for (int64_t left = w->width, length; left > 0 && row < g->out_height; left -= length, column = 0, row++) {
    length = conv_min(left, g->out_width - column);
    const char *from =
        w->input + w->bytes * (term * g->input_strides[0] + g->rows[row * g->stride[0]] * g->input_strides[1] +
                               g->columns[column * g->stride[1]]);
    for (int64_t at = -((int64_t)(uintptr_t)from % 64); at < w->bytes * length * g->stride[1] && count < MOST_LINES;
         at += 64)
      lines[count++] = from + at;
  }
  return count;
}

/* Of the panel, where those of a patch are kept. */
static char *patch_sums(const panel_work *w, int64_t channel) {
  int64_t channels = w->plan->geometry.out_channels;
  return w->scratch + w->bytes * (w->part.first_pixel * channels + channel * w->width);
}

/* One panel of pixels times all output channels, tile by tile. */
static void run_panel(const panel_work *w) {
  const fonio_conv_plan *plan = w->plan;
  const kernel_table *k = plan->kernels;
  const kernel_tile *tiles = k->tiles + w->width / k->lanes - 1;
  bool half = k->half_tile && w->part.pixels <= k->lanes / 2;
  bool in_place = w->flat && w->width == w->part.pixels;
  int64_t channel_bytes = w->bytes * plan->geometry.output_strides[0], bias_stride = plan->problem.bias_stride;
  double biases[16]; /* the kernel reads the biases of a tile side by side */
  const char *lines[MOST_LINES];
  int ahead = lines_ahead(w, lines);
  int64_t end = plan->geometry.out_channels, share = conv_ceil_div(w->part.terms, conv_ceil_div(end, k->tile_rows));
  for (int64_t channel = 0, fetched = 0, rows; channel < end; channel += rows, fetched += share) {
    rows = kernel_tile_rows(k->tile_rows, end - channel);
    /* Some terms of it while a tile is summed. */
    for (int64_t term = fetched; ahead && term < conv_min(fetched + share, w->part.terms); term++)
      for (int i = 0; i < ahead; i++)
        __builtin_prefetch(lines[i] + w->bytes * term * w->conv.input_strides[0], 0, 2);
    kernel_tile tile = half && rows == k->tile_rows ? k->half_tile : tiles[(rows - 1) * k->tile_vectors];
    const char *weights = w->weights + w->bytes * (channel * w->terms + w->part.first_term * rows);
    const void *bias = w->last && w->bias ? w->bias + w->bytes * channel * bias_stride : NULL;
    if (bias && bias_stride != 1) {
      conv_copy_biases(plan, w->bias, channel, rows, biases);
      bias = biases;
    }
    char *output = w->output + channel * channel_bytes;
    if (w->patch)
      tile(w->part.terms, weights, w->panel, w->width, patch_sums(w, channel), w->width, bias, w->accumulate);
    else if (in_place)
      tile(w->part.terms, weights, w->panel, w->width, output + w->bytes * w->part.first_pixel,
           plan->geometry.output_strides[0], bias, w->accumulate);
    else
      run_tile_beside(w, tile, weights, bias, output, rows);
  }
}

/* How many panels the piece falls into: what fills half a vector is one of its own. */
static void cut_panels(panel_work *w) {
  int64_t pixels = w->end_pixel - w->first_pixel;
  w->whole = leaves_half(w->plan, pixels) ? pixels - pixels % w->plan->kernels->lanes : pixels;
  w->panels = conv_ceil_div(w->whole, w->plan->blocks.panel) + (w->whole < pixels);
}

/* Panel i of them: of nearly the same number of vectors, as a narrow tile keeps the multipliers waiting. */
static kernel_pixels panel_at(const panel_work *w, int64_t i) {
  int64_t lanes = w->plan->kernels->lanes, pixels = w->end_pixel - w->first_pixel, from = w->whole, to = pixels;
  int64_t vectors = conv_ceil_div(w->whole, lanes), panels = conv_ceil_div(w->whole, w->plan->blocks.panel);
  if (i < panels) {
    from = vectors * i / panels * lanes;
    to = conv_min(vectors * (i + 1) / panels * lanes, w->whole);
  }
  return (kernel_pixels){w->first_pixel + from, to - from, w->part.first_term, w->part.terms};
}

static void store_patch(const panel_work *w) {
  const kernel_conv *g = &w->plan->geometry;
  for (int64_t channel = 0; channel < g->out_channels; channel++)
    move_row(w, w->output + w->bytes * channel * g->output_strides[0], patch_sums(w, channel), true);
}

/* All panels of a piece, for one part of the sum. */
static void run_part(panel_work *w) {
  const kernel_table *k = w->plan->kernels;
  for (int64_t i = 0; i < w->panels; i++) {
    w->part = panel_at(w, i);
    w->width = conv_round_up(w->part.pixels, k->lanes);
    kernel_pixels pixels = w->part;
    pixels.first_term -= w->tap_term;
    k->pack_pixels(&w->conv, &pixels, w->input, w->width, w->panel);
    run_panel(w);
    if (w->last && w->patch)
      store_patch(w);
    else if (w->last)
      conv_finish_pixels(w->run, w->image, w->first_channel, w->plan->geometry.out_channels, w->part.first_pixel,
                         w->part.pixels);
  }
}

/* The terms [from, to). */
static void run_terms(panel_work *w, int64_t from, int64_t to) {
  for (int64_t term = from; term < to; term += w->plan->blocks.terms) {
    w->part.first_term = term;
    w->part.terms = conv_min(w->plan->blocks.terms, to - term);
    w->last = term + w->part.terms == w->terms && !w->patch;
    run_part(w);
    w->accumulate = true;
  }
}

/* What a tap inside of the image adds to the sums of a patch. */
static void run_tap(panel_work *w, const conv_patch *p, int64_t r, int64_t s) {
  const kernel_conv *g = &w->plan->geometry;
  w->conv.rows = g->rows + p->row * g->stride[0] + r * g->dilation[0];
  w->conv.columns = g->columns + p->column * g->stride[1] + s * g->dilation[1];
  w->tap_term = (r * g->kernel_width + s) * g->in_channels;
  run_terms(w, w->tap_term, w->tap_term + g->in_channels);
}

static void run_patch(panel_work *w, const conv_patch *p) {
  const kernel_conv *g = &w->plan->geometry;
  w->patch = true;
  w->flat = false;
  w->conv.kernel_height = w->conv.kernel_width = 1;
  w->conv.out_height = p->rows;
  w->conv.out_width = p->columns;
  w->conv.interior = w->interior;
  w->interior[1] = p->columns;
  w->output += w->bytes * (p->row * g->output_strides[1] + p->column * g->output_strides[2]);
  w->first_pixel = 0;
  w->end_pixel = p->rows * p->columns;
  cut_panels(w);
  for (int64_t r = 0; r < g->kernel_height; r++)
    for (int64_t s = 0; s < g->kernel_width; s++)
      if (conv_is_inside(w->plan, 0, p->row, r) && conv_is_inside(w->plan, 1, p->column, s)) run_tap(w, p, r, s);
  /* The biases, and zeros where no tap is inside. */
  w->part.first_term = w->tap_term;
  w->part.terms = 0;
  w->last = true;
  run_part(w);
  conv_finish(w->run, w->image, w->first_channel, g->out_channels,
              &(kernel_strip){p->row, p->column, p->rows, p->columns, {1, 1}, 0, 0});
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const conv_blocks *b = &plan->blocks;
  const kernel_conv *g = &plan->geometry;
  int64_t groups = plan->problem.groups, per_image = plan->pieces / plan->problem.batch / groups;
  int64_t image = piece / per_image / groups, group = piece / per_image % groups;
  int64_t lanes = plan->kernels->lanes, part = piece % per_image;
  /* Pieces that are a vector shorter lie at the end of the others, where threads end. */
  int64_t vectors = conv_ceil_div(pixels_of_image(plan), lanes);
  int64_t bytes = conv_element_bytes(plan), terms = terms_of_sum(plan);
  panel_work w = {
      .run = run,
      .plan = plan,
      .conv = *g,
      .image = image,
      .first_channel = group * g->out_channels,
      .input = conv_at(run->buffers->input, conv_input_offset(plan, image, group)),
      .weights = conv_at(run->packed, group * (plan->packed_bytes / groups)),
      .bias = conv_at(run->buffers->bias, conv_bias_offset(plan, group)),
      .output = (char *)run->buffers->output + conv_output_offset(plan, image, group),
      .panel = workspace,
      .scratch = (char *)workspace + conv_round_up((b->terms * b->panel + plan->kernels->lanes) * bytes, 64),
      .bytes = bytes,
      .terms = terms,
      .first_pixel = conv_ceil_div(vectors * part, per_image) * lanes,
      .end_pixel = conv_min(conv_ceil_div(vectors * (part + 1), per_image) * lanes, pixels_of_image(plan)),
      .flat = g->output_strides[2] == 1 && (g->output_strides[1] == g->out_width || g->out_height == 1),
  };
  cut_panels(&w);
  if (!b->patch) {
    run_terms(&w, 0, terms);
    return;
  }
  conv_patch p = {0};
  for (int64_t i = 0; i <= part; i++)
    conv_patch_next(plan, &p);
  run_patch(&w, &p);
}

const conv_algorithm conv_packed_forward = {
    .name = "packed",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .cost = cost,
    .prepare = prepare,
    .packing = 0.5,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
