/* The gradient of a square weight by Winograd's algorithm, with tiles of the output's gradient as the kernels and tiles
 * of inputs under them: F(3x3, 4x4), F(4x4, 3x3), F(5x5, 2x2) and F(2x2, 5x5) on tiles of 6 x 6 inputs, and F(3x3, 2x2)
 * on 4 x 4 for sums so short that the others are not exact enough. A stride makes a kernel as many smaller ones as
 * there are phases, over as many times the input channels. Each element of the transformed tiles is a matrix product of
 * its own, output channels times input channels, whose sum runs over the tiles of all images; only the sums are
 * transformed back. The blocks are those of winograd.c; the bias's gradient is summed up on the way.
 *
 * One piece of work: a block of output channels times a block of input channels, and a part of the tiles. Some tiles at
 * a time are transformed into V[element][tile][phase][input channel] and U[element][panel][tile][output channel], and
 * their products are added to the sums, [element][panel][phase][input channel][output channel]. */
#include <math.h>
#include <string.h>

#include "conv/weight_gradient.h"

/* Of a tile: elements along a side of the inputs, taps of a phase, and outputs; and how much there has to be to sum up
 * (see exact_enough). */
typedef struct tile_shape {
  int alpha, taps, side;
  double pixels;
} tile_shape;

/* The largest tiles first. */
static const tile_shape shapes[] = {{6, 3, 4, 220}, {6, 4, 3, 470}, {6, 5, 2, 570}, {6, 2, 5, 230}, {4, 3, 2, 18}};

enum { MOST_SIDE = 5 };

/* Channels of a block, at the most: so many that the transforms, which each block makes for itself, count little; and
 * so few that the sums stay near. Columns of a strip, about. */
enum { BLOCK_CHANNELS = 96, STRIP_COLUMNS = 64 };

/* Tiles that are transformed at once, at the most and, but where there are fewer, at the least. */
enum { MOST_TILES = 64, LEAST_TILES = 8 };

/* Interleaved images along an axis, as many as the dilation, and tiles of the largest of them. */
static int64_t images_along(const fonio_conv_problem *p, int axis) {
  return conv_max(1, conv_min(p->dilation[axis], axis ? p->out_width : p->out_height));
}

static int64_t tiles_along(const fonio_conv_problem *p, int axis, int64_t side) {
  return conv_ceil_div(conv_ceil_div(axis ? p->out_width : p->out_height, images_along(p, axis)), side);
}

/* The error hardly grows with the sum, and that of a plain sum does: what a corner tap sees of the output's pixels,
 * where the padding is even, and how much of the tiles is there, tell where it is within 2.5 times. Of outputs beyond
 * the size of the image, which see more padding, plain sums have nothing, and the tiles have as much as of others. */
static bool exact_enough(const fonio_conv_problem *p, const tile_shape *shape) {
  double pixels = (double)p->batch, there = 1;
  for (int axis = 0; axis < 2; axis++) {
    double size = (double)(axis ? p->out_width : p->out_height);
    double hidden = (double)(p->dilation[axis] * (shape->taps - 1)) / 2;
    double image = (double)(axis ? p->in_width : p->in_height) / (double)p->stride[axis];
    double seen = fmax(0, fmin(size - hidden, image)), share = fmin(1, image / size);
    pixels *= seen * share * share;
    there *= size / (double)(images_along(p, axis) * tiles_along(p, axis, shape->side) * shape->side);
  }
  return pixels * there >= shape->pixels;
}

/* NULL: there is none. */
static const tile_shape *shape_of(const fonio_conv_problem *p) {
  int64_t kernel = p->kernel_height, stride = p->stride[0];
  bool square = p->kernel_width == kernel && p->stride[1] == stride && kernel % stride == 0;
  if (!square || stride > 2 || (stride > 1 && p->dilation[0] * p->dilation[1] > 1)) return NULL;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    if (shapes[i].taps == kernel / stride && exact_enough(p, &shapes[i])) return &shapes[i];
  return NULL;
}

static bool applicable(const fonio_conv_problem *p) {
  return p->in_channels > 0 && p->out_channels > 0 && shape_of(p);
}

/* The numbers that follow from a problem. */
typedef struct numbers {
  int64_t alpha, taps, side;                 /* of a tile */
  int64_t elements, weights;                 /* of a tile; of a kernel with all of its phases */
  int64_t stride, phases;                    /* phases along both axes: the square of the stride */
  int64_t images[2];                         /* interleaved ones */
  int64_t rows, columns;                     /* tiles of the largest of them */
  int64_t tiles;                             /* in all */
  int64_t in_channels, out_channels;         /* of a block */
  int64_t terms;                             /* phases times input channels */
  int64_t in_blocks, out_blocks;             /* of a group */
  int64_t blocks, parts;                     /* in all; of the tiles */
  int64_t width, panels;                     /* output channels of a panel, panels of a block */
  int64_t pass;                              /* input channels that are transformed together */
  int64_t chunk;                             /* tiles that are transformed at once */
  int64_t run_tiles;                         /* of them side by side in a strip */
  int64_t v_element, u_element, sum_element; /* from one element to the next */
  int64_t v, u, sums, strip, bytes;          /* where they lie in the workspace, in bytes, and what it has */
  int64_t biases, result_bytes;              /* of a part: the weights' gradients, then those of the biases */
} numbers;

static void find_blocks(const fonio_conv_plan *plan, int64_t most, numbers *n) {
  const kernel_conv *g = &plan->geometry;
  int64_t bytes = conv_element_bytes(plan);
  n->width = conv_gradient_width(plan, false, g->out_channels);
  n->pass = conv_max(plan->kernels->lanes, 64 / bytes);
  n->in_channels = conv_round_up(conv_even(g->in_channels, conv_max(1, most / n->phases)), n->pass);
  n->terms = n->in_channels * n->phases;
  n->out_channels = conv_round_up(conv_even(g->out_channels, conv_max(1, most * 4 / bytes)), n->width);
  n->in_blocks = conv_ceil_div(g->in_channels, n->in_channels);
  n->out_blocks = conv_ceil_div(g->out_channels, n->out_channels);
  n->blocks = plan->problem.groups * n->in_blocks * n->out_blocks;
  n->panels = n->out_channels / n->width;
  n->biases = n->out_channels * n->in_channels * n->weights * bytes;
  n->result_bytes = conv_round_up(n->biases + n->out_channels * bytes, 64);
}

/* Parts, where there are few blocks, that threads can share; and what they take of memory at the most. */
enum { PIECES = 4, PART_PRODUCTS = 1 << 21, PARTS_BYTES = 1 << 19 };

static int64_t parts_of(const numbers *n) {
  double products = (double)(n->terms * n->out_channels) * (double)(n->tiles * n->elements);
  int64_t parts = conv_min(PIECES / n->blocks, PARTS_BYTES / (n->blocks * n->result_bytes));
  if ((double)parts > products / PART_PRODUCTS) parts = (int64_t)(products / PART_PRODUCTS);
  return conv_max(1, conv_min(parts, n->tiles));
}

/* Of all pieces that keep theirs, or of one. */
static int64_t bytes_of_results(const numbers *n) {
  return (n->parts > 1 ? n->blocks * n->parts : 1) * n->result_bytes;
}

/* The sums have their place; of what is left of the workspace, which grows with the channels only, as many tiles at
 * once as are worth anything. */
static void lay_out(const fonio_conv_plan *plan, numbers *n) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t bytes = conv_element_bytes(plan), channels = n->terms + n->out_channels;
  n->sum_element = conv_gradient_odd_lines(n->out_channels * n->terms, bytes);
  int64_t strip = n->alpha * (n->run_tiles * n->side + n->taps - 1) * conv_max(n->pass, n->width) * bytes;
  int64_t taken = n->elements * n->sum_element * bytes + strip + bytes_of_results(n);
  int64_t room = (1 << 20) - (1 << 14) + 8192 * (p->in_channels + p->out_channels) - taken;
  int64_t most = conv_max(LEAST_TILES, conv_min(MOST_TILES, room / (n->elements * channels * bytes)));
  n->chunk = conv_even(conv_ceil_div(n->tiles, n->parts), most);
  n->v_element = conv_gradient_odd_lines(n->chunk * n->terms, bytes);
  n->u_element = conv_gradient_odd_lines(n->chunk * n->out_channels, bytes);
  n->v = conv_round_up(n->terms * (int64_t)sizeof(int64_t), 64);
  n->u = n->v + n->elements * n->v_element * bytes;
  n->sums = n->u + n->elements * n->u_element * bytes;
  n->strip = n->sums + n->elements * n->sum_element * bytes;
  n->bytes = n->strip + strip;
}

static numbers numbers_of(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  const tile_shape *shape = shape_of(p);
  numbers n = {
      .alpha = shape->alpha,
      .taps = shape->taps,
      .side = shape->side,
      .elements = shape->alpha * shape->alpha,
      .weights = p->kernel_height * p->kernel_width,
      .stride = p->stride[0],
      .phases = p->stride[0] * p->stride[0],
      .images = {images_along(p, 0), images_along(p, 1)},
      .rows = tiles_along(p, 0, shape->side),
      .columns = tiles_along(p, 1, shape->side),
  };
  n.tiles = p->batch * n.images[0] * n.images[1] * n.rows * n.columns;
  n.run_tiles = conv_min(n.columns, STRIP_COLUMNS / n.side);
  /* Blocks of as many channels as the workspace has room for. */
  int64_t room = (1 << 20) + 8192 * (p->in_channels + p->out_channels);
  for (int64_t most = BLOCK_CHANNELS * 6 / n.alpha;; most = most * 3 / 4) {
    find_blocks(plan, most, &n);
    n.parts = parts_of(&n);
    lay_out(plan, &n);
    if (most <= 16 || n.bytes + bytes_of_results(&n) <= room) break;
  }
  return n;
}

static void prepare(fonio_conv_plan *plan) {
  numbers n = numbers_of(plan);
  plan->blocks = (conv_blocks){
      .panel = n.width, .terms = n.terms, .channels = n.out_channels, .pixels = n.chunk * n.side * n.side};
  conv_gradient_prepare(plan, (conv_sums){n.blocks, n.parts, n.result_bytes}, n.bytes);
}

/* The products, where fewer than eight input channels leave the multipliers waiting; the transforms, which each block
 * makes for itself, with what it takes to fetch the images, more where columns lie apart; and the way back, once for
 * all images. */
static double cost(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  numbers n = numbers_of(plan);
  double batch = (double)plan->problem.batch, tiles = (double)n.tiles / batch;
  double in = (double)(g->in_channels * n.phases), elements = (double)n.elements;
  double in_vectors = (double)(conv_ceil_div(g->in_channels, plan->kernels->lanes) * n.phases);
  double out_vectors = (double)conv_ceil_div(g->out_channels, plan->kernels->lanes);
  double products = tiles * elements * (in < 8 ? 8 : in) * out_vectors * (0.56 + 3 / (double)n.chunk);
  double strips = in_vectors * (double)n.out_blocks + out_vectors * (double)n.in_blocks;
  double transforms = strips * tiles * elements * 8.3;
  if (plan->problem.dilation[1] > 1) transforms += strips * tiles / (double)n.run_tiles * (double)n.alpha * 200;
  double back = in * out_vectors * elements * 8.3 / (batch < 8 ? batch : 8);
  return (double)plan->problem.groups * (products + transforms + back) + 2000;
}

/* ---- One piece ---- */

typedef struct work {
  const conv_run *run;
  const fonio_conv_plan *plan;
  const numbers *n;
  int64_t bytes; /* of an element */
  gradient_block block;
  int64_t panels;
  char *memory, *results;
} work;

/* Tiles side by side in an interleaved image. */
typedef struct tile_run {
  int64_t image, tiles;
  int64_t row, column; /* of the output */
} tile_run;

/* The tiles from number `tile` on that lie side by side, all before `end`. */
static tile_run run_at(const work *w, int64_t tile, int64_t end) {
  const numbers *n = w->n;
  int64_t most = conv_min(end - tile, n->run_tiles);
  int64_t column = conv_take(&tile, n->columns), row = conv_take(&tile, n->rows);
  int64_t across = conv_take(&tile, n->images[1]), down = conv_take(&tile, n->images[0]);
  const int64_t *dilation = w->plan->problem.dilation;
  return (tile_run){tile, conv_min(most, n->columns - column), down + row * n->side * dilation[0],
                    across + column * n->side * dilation[1]};
}

/* One phase of the block's input channels, into V from the chunk's tile `from` on. */
static void transform_phase(const work *w, tile_run run, int64_t phase, int64_t from) {
  const numbers *n = w->n;
  const kernel_conv *g = &w->plan->geometry;
  const kernel_table *k = w->plan->kernels;
  char *strip_at = w->memory + n->strip, *to = w->memory + n->v + (from * n->terms + phase * n->in_channels) * w->bytes;
  kernel_strip strip = {
      .row = run.row * n->stride + phase / n->stride,
      .column = run.column * n->stride + phase % n->stride,
      .rows = n->alpha,
      .columns = run.tiles * n->side + n->taps - 1,
      .step = {n->stride * g->dilation[0], n->stride * g->dilation[1]},
      .pixel = n->pass,
  };
  strip.pitch = strip.columns * n->pass;
  kernel_winograd job = {(int)n->alpha, (int)n->side, run.tiles, 0, n->pass, strip.pitch, n->v_element, n->terms, 0};
  const void *input = conv_at(w->run->buffers->input, conv_input_offset(w->plan, run.image, w->block.group));
  for (int64_t c = 0; c < w->block.in_channels; c += n->pass) {
    job.vectors = conv_ceil_div(conv_min(n->pass, w->block.in_channels - c), k->lanes);
    for (int64_t lane = 0; lane < job.vectors * k->lanes; lane += k->lanes)
      k->gather_strip(g, &strip, w->block.in_channel + c + lane, input, strip_at + lane * w->bytes);
    k->winograd_input(&job, strip_at, to + c * w->bytes);
  }
}

/* Lanes of a panel that there are, and as many as whole vectors have. */
static int64_t lanes_of_panel(const work *w, int64_t panel) {
  return conv_min(w->block.out_channels - panel * w->n->width, w->n->width);
}

static int64_t width_of_panel(const work *w, int64_t panel) {
  return conv_gradient_width(w->plan, false, lanes_of_panel(w, panel));
}

/* The gradient of the output as an image: no padding, and nothing beyond its edges. */
static kernel_conv grad_output(const work *w, const kernel_strip *strip, int64_t rows[MOST_SIDE]) {
  const kernel_conv *g = &w->plan->geometry;
  for (int64_t i = 0; i < strip->rows; i++) {
    int64_t row = strip->row + i * g->dilation[0];
    rows[i] = row < g->out_height ? row : -1;
  }
  return (kernel_conv){.in_channels = g->out_channels,
                       .rows = rows,
                       .padded_height = strip->rows,
                       .padded_width = g->out_width,
                       .in_width = g->out_width,
                       .input_strides = {g->output_strides[0], g->output_strides[1], g->output_strides[2]}};
}

/* Output channels of the block, into U; their biases' gradients are the sums of what is there. */
static void transform_outputs(const work *w, tile_run run, int64_t from) {
  const numbers *n = w->n;
  const kernel_table *k = w->plan->kernels;
  int64_t rows[MOST_SIDE];
  char *strip_at = w->memory + n->strip;
  kernel_strip strip = {
      .row = run.row,
      .column = run.column,
      .rows = n->side,
      .columns = run.tiles * n->side,
      .step = {1, w->plan->geometry.dilation[1]},
  };
  kernel_conv conv = grad_output(w, &strip, rows);
  strip.row = 0;
  const void *output = conv_at(w->run->buffers->grad_output, conv_output_offset(w->plan, run.image, w->block.group));
  for (int64_t panel = 0; panel < w->panels; panel++) {
    int64_t width = width_of_panel(w, panel), channel = w->block.out_channel + panel * n->width;
    strip.pixel = width;
    strip.pitch = strip.columns * width;
    for (int64_t lane = 0; lane < width; lane += k->lanes)
      k->gather_strip(&conv, &strip, channel + lane, output, strip_at + lane * w->bytes);
    if (w->block.bias)
      k->gradient_biases(n->side * strip.columns, width / k->lanes, strip_at,
                         w->results + n->biases + panel * n->width * w->bytes);
    kernel_winograd job = {(int)n->alpha, (int)n->side, run.tiles, width / k->lanes, width, strip.pitch,
                           n->u_element,  width,        0};
    if (w->block.weight)
      k->winograd_gradient(&job, strip_at, w->memory + n->u + (panel * n->chunk * n->width + from * width) * w->bytes);
  }
}

/* Adds the products of so many tiles. */
static void multiply(const work *w, int64_t tiles) {
  const numbers *n = w->n;
  kernel_gradient job = {.images = 1,
                         .segments = 1,
                         .terms = tiles,
                         .term_step = n->terms,
                         .rows = n->phases * w->block.in_channels,
                         .offsets = (const int64_t *)(void *)w->memory};
  for (int64_t e = 0; e < n->elements; e++)
    for (int64_t panel = 0; panel < w->panels; panel++) {
      job.input = w->memory + n->v + e * n->v_element * w->bytes;
      job.panel = w->memory + n->u + (e * n->u_element + panel * n->chunk * n->width) * w->bytes;
      job.vectors = width_of_panel(w, panel) / w->plan->kernels->lanes;
      job.sums = w->memory + n->sums + (e * n->sum_element + panel * n->width * n->terms) * w->bytes;
      job.sum_step = job.vectors * w->plan->kernels->lanes;
      w->plan->kernels->gradient_sums(&job);
    }
}

/* Where the results of a panel lie: [input channel][tap][output channel]. */
static char *results_of_panel(const work *w, int64_t panel) {
  return w->results + panel * w->n->width * w->n->in_channels * w->n->weights * w->bytes;
}

/* The taps of a phase lie the stride apart. */
static void transform_back(const work *w, int64_t panel) {
  static const double no_biases[64];
  const numbers *n = w->n;
  int64_t width = width_of_panel(w, panel), across = n->stride * width, kernel = n->taps * n->stride;
  kernel_winograd job = {
      (int)n->alpha, (int)n->taps, 1, width / w->plan->kernels->lanes, across, kernel * across, n->sum_element, 0, 0};
  const char *sums = w->memory + n->sums + panel * n->width * n->terms * w->bytes;
  for (int64_t c = 0; c < w->block.in_channels; c++)
    for (int64_t phase = 0; phase < n->phases; phase++) {
      int64_t tap = phase / n->stride * kernel + phase % n->stride;
      w->plan->kernels->winograd_output(&job, sums + (phase * w->block.in_channels + c) * width * w->bytes, no_biases,
                                        results_of_panel(w, panel) + (c * n->weights + tap) * width * w->bytes);
    }
}

static void add_tiles(const work *w, int64_t first, int64_t end) {
  const numbers *n = w->n;
  memset(w->results + n->biases, 0, (size_t)(n->result_bytes - n->biases));
  if (w->block.weight) memset(w->memory + n->sums, 0, (size_t)(n->elements * n->sum_element * w->bytes));
  for (int64_t tile = first; tile < end; tile += n->chunk) {
    int64_t tiles = conv_min(n->chunk, end - tile);
    for (int64_t from = 0; from < tiles;) {
      tile_run run = run_at(w, tile + from, tile + tiles);
      for (int64_t phase = 0; w->block.weight && phase < n->phases; phase++)
        transform_phase(w, run, phase, from);
      transform_outputs(w, run, from);
      from += run.tiles;
    }
    if (w->block.weight) multiply(w, tiles);
  }
  for (int64_t panel = 0; w->block.weight && panel < w->panels; panel++)
    transform_back(w, panel);
}

/* ---- The results ---- */

static void store_panel(const work *w, int64_t panel) {
  const int64_t *strides = w->plan->problem.weight_strides;
  char *to = conv_gradient_weight(w->run, &w->block) + panel * w->n->width * strides[0] * w->bytes;
  const char *from = results_of_panel(w, panel);
  int64_t weights = w->n->weights, kernel = w->plan->geometry.kernel_width, width = width_of_panel(w, panel);
  gradient_store job = {w->plan, lanes_of_panel(w, panel),       strides[0],
                        width,   w->block.in_channels * weights, strides[3]};
  if (strides[2] == kernel * strides[3] && strides[1] == weights * strides[3]) {
    conv_gradient_store(&job, from, to);
    return;
  }
  job.pixel = weights * width;
  job.count = w->block.in_channels;
  job.stride = strides[1];
  for (int64_t tap = 0; tap < weights; tap++)
    conv_gradient_store(&job, from + tap * width * w->bytes,
                        to + (tap / kernel * strides[2] + tap % kernel * strides[3]) * w->bytes);
}

static void store(const work *w) {
  const gradient_block *b = &w->block;
  for (int64_t panel = 0; b->weight && panel < w->panels; panel++)
    store_panel(w, panel);
  int64_t first = b->group * w->plan->geometry.out_channels + b->out_channel;
  if (b->bias) conv_gradient_store_biases(w->run, first, 1, b->out_channels, w->results + w->n->biases);
}

static work work_on(const conv_run *run, const numbers *n, int64_t block, char *memory, char *results) {
  work w = {
      .run = run,
      .plan = run->plan,
      .n = n,
      .bytes = conv_element_bytes(run->plan),
      .block = conv_gradient_block(run, block, n->in_channels, n->out_channels),
      .memory = memory,
      .results = results,
  };
  w.panels = conv_ceil_div(w.block.out_channels, n->width);
  return w;
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  numbers n = numbers_of(run->plan);
  int64_t block = conv_take(&piece, n.blocks), part = piece, *offsets = workspace;
  work w = work_on(run, &n, block, workspace, conv_gradient_results(run, block, part, workspace));
  if (!w.block.bias && !w.block.weight) return;
  for (int64_t i = 0; i < n.phases * w.block.in_channels; i++)
    offsets[i] = i / w.block.in_channels * n.in_channels + i % w.block.in_channels;
  add_tiles(&w, n.tiles * part / n.parts, n.tiles * (part + 1) / n.parts);
  if (n.parts == 1) store(&w);
}

static void run_last(const conv_run *run, int64_t block, void *workspace) {
  numbers n = numbers_of(run->plan);
  work w = work_on(run, &n, block, workspace, conv_gradient_results(run, block, 0, workspace));
  if (!w.block.bias && !w.block.weight) return;
  conv_gradient_add_parts(run, block);
  store(&w);
}

const conv_algorithm conv_winograd_weight_gradient = {
    .name = "winograd_weight_gradient",
    .direction = FONIO_CONV_WEIGHT_GRADIENT,
    .accuracy = FONIO_ACCURACY_DEFAULT,
    .applicable = applicable,
    .needs = "a square kernel of 2 to 5 taps for each phase of a stride of 1 or 2, and 30 (3 x 3) to 600 pixels in all "
             "images",
    .cost = cost,
    .prepare = prepare,
    .pieces = conv_gradient_pieces,
    .run_piece = run_piece,
    .last_pieces = conv_gradient_last_pieces,
    .run_last = run_last,
};
