/* Direct convolution of few input channels: the rows of the image that a block of output pixels needs are copied once,
 * padded, the columns of each phase of the stride apart, into a strip where all taps of a kernel row read one row, each
 * shifted. Where there is neither padding nor a stride across, the image itself is such a strip. Pixels are vectors,
 * output channels the rows of a tile. Channels that lie side by side, as in channels_last, are turned on their way in
 * and out: worth it where output channels are too few to fill a vector. The loops, outermost first:
 *   some vectors of pixels: what they read stays in the first-level cache
 *     the output channels of a tile
 *       the vectors of a tile: sums in registers */
#include <math.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "conv/plan.h"

/* The numbers that follow from a problem. */
typedef struct shifted_numbers {
  int64_t terms;         /* of the sum */
  int64_t height, width; /* of the output; where all pixels of a channel lie side by side, of one row */
  bool direct;           /* the image itself is read */
  bool turn_output;      /* output columns do not lie side by side */
  int64_t row_step;      /* between the rows of the strip: a kernel of one row skips what the stride skips */
  int64_t phases;        /* rows of the strip for each row of the image */
  int64_t tiles;         /* of output channels */
  bool joined;           /* vectors of pixels go on in the next row, where blocks have whole rows */
} shifted_numbers;

/* A kernel of one tap over rows without gaps. */
static bool is_one_row(const fonio_conv_problem *p) {
  return p->kernel_height * p->kernel_width == 1 && p->stride[0] == 1 && p->input_strides[2] == p->in_width &&
         p->output_strides[2] == p->out_width && p->output_strides[3] == 1;
}

/* Channels whose distance is a large power of two push each other out of the cache. */
static bool collide(const kernel_conv *g, int64_t bytes) {
  return g->in_channels * g->kernel_height > 8 && g->input_strides[0] * bytes % 2048 == 0;
}

/* Whether vectors of pixels may go on in the next row: rows would leave much of their last vector empty, those of the
 * output follow each other without a gap, a vector lies in two rows at the most, what is read of the image lies between
 * these, and all tiles can. */
static bool joins(const fonio_conv_plan *plan, bool direct, int64_t tiles) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  const kernel_shifted_tile *fewest = &plan->kernels->shifted_tiles[g->out_channels / tiles - 1];
  const kernel_shifted_tile *most = &plan->kernels->shifted_tiles[conv_ceil_div(g->out_channels, tiles) - 1];
  int64_t width = p->out_width, lanes = plan->kernels->lanes, empty = conv_round_up(width, lanes) - width;
  return fewest->run_joined && most->run_joined && width > lanes && 16 * empty >= width &&
         p->output_strides[2] == width * p->output_strides[3] && (!direct || g->input_strides[1] >= width);
}

static shifted_numbers numbers_of(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  bool in_place =
      !conv_pads(p) && p->stride[1] == 1 && p->input_strides[3] == 1 && !collide(g, conv_element_bytes(plan));
  bool one_row = in_place && is_one_row(p);
  int64_t width = one_row ? p->out_height * p->out_width : p->out_width;
  bool direct = in_place && width >= plan->kernels->lanes;
  int64_t tiles = conv_ceil_div(g->out_channels, plan->kernels->shifted_rows);
  return (shifted_numbers){
      .terms = g->in_channels * g->kernel_height * g->kernel_width,
      .height = direct && one_row ? 1 : p->out_height,
      .width = direct ? width : p->out_width,
      .direct = direct,
      .turn_output = p->output_strides[3] != 1,
      .row_step = g->kernel_height == 1 ? g->stride[0] : 1,
      .phases = g->kernel_width == 1 ? 1 : g->stride[1],
      .tiles = tiles,
      .joined = !(direct && one_row) && joins(plan, direct, tiles),
  };
}

/* The block of output pixels of a piece. */
typedef struct block_size {
  int64_t rows, columns;
} block_size;

/* The strip of a block. */
static kernel_shifted_strip strip_of(const fonio_conv_plan *plan, const shifted_numbers *n, block_size b) {
  const kernel_conv *g = &plan->geometry;
  int64_t line = MEMORY_ALIGNMENT / conv_element_bytes(plan), lanes = plan->kernels->lanes;
  kernel_shifted_strip strip = {
      .rows = ((b.rows - 1) * g->stride[0] + (g->kernel_height - 1) * g->dilation[0]) / n->row_step + 1,
      .row_step = n->row_step,
      .columns = b.columns + (g->kernel_width - 1) * g->dilation[1] / g->stride[1],
      .step = g->stride[1],
      .phases = n->phases,
  };
  /* An odd number of cache lines, so that the rows do not all fall on the same places of the cache; and room for what a
   * vector reads beyond a narrow block. */
  strip.pitch = conv_round_up(strip.columns + conv_max(0, lanes - b.columns), line);
  if (strip.pitch / line % 2 == 0) strip.pitch += line;
  return strip;
}

static int64_t strip_bytes(const fonio_conv_plan *plan, const shifted_numbers *n, block_size b) {
  kernel_shifted_strip strip = strip_of(plan, n, b);
  if (n->direct) return 0;
  return plan->geometry.in_channels * strip.rows * strip.phases * strip.pitch * conv_element_bytes(plan);
}

/* A piece should last long enough to be worth handing to a thread: some 50 microseconds. */
#define PIECE_PRODUCTS (1 << 22)

/* How often each element that the strip holds is copied there, at the most. */
static double copies(const fonio_conv_plan *plan, const shifted_numbers *n, block_size b) {
  return (double)strip_bytes(plan, n, b) / (double)(b.rows * b.columns);
}

/* The block of at most that size whose strip fits: of those with half as many columns and half of that, the one with
 * the fewest elements in the strip for each pixel. */
static block_size fit_block(const fonio_conv_plan *plan, const shifted_numbers *n, block_size most) {
  int64_t most_bytes = cpu_cache_sizes()->l2_bytes / 2, lanes = plan->kernels->lanes;
  block_size best = {1, conv_min(most.columns, lanes)};
  double least = INFINITY;
  for (block_size b = most;; b.columns = conv_round_up(b.columns / 2, lanes)) {
    b.rows = most.rows;
    while (b.rows > 1 && strip_bytes(plan, n, b) > most_bytes)
      b.rows--;
    b.rows = conv_even_pairs(n->height, b.rows);
    if (strip_bytes(plan, n, b) <= most_bytes && copies(plan, n, b) < least / 2) best = b, least = copies(plan, n, b);
    if (b.columns <= lanes) return best;
  }
}

/* Rows of the image that two blocks need are copied twice: even where few rows are work enough for a piece, it has as
 * many as leave most of its copies to itself. */
static block_size size_of_block(const fonio_conv_plan *plan, const shifted_numbers *n) {
  int64_t per_pixel = n->terms * plan->geometry.out_channels;
  int64_t least = n->direct ? 1 : conv_ceil_div(2 * plan->geometry.kernel_height, plan->geometry.stride[0]);
  int64_t most = n->direct ? conv_max(512, PIECE_PRODUCTS / per_pixel) : 512;
  block_size b = {1, conv_even(n->width, most)};
  /* Whole tiles of any size that the kernels have. */
  if (n->direct && !n->joined) b.columns = conv_round_up(conv_even_pairs(n->width, most), 4 * plan->kernels->lanes);
  b.rows = conv_min(n->height, conv_max(least, PIECE_PRODUCTS / (per_pixel * b.columns)));
  /* An image that would be one piece of half that: two. */
  if (b.rows == n->height && b.columns >= n->width && per_pixel * n->height * n->width >= PIECE_PRODUCTS / 2)
    b.rows = conv_ceil_div(n->height, 2);
  return fit_block(plan, n, b);
}

/* The strip of one vector must not grow large. */
static bool applicable(const fonio_conv_problem *p) {
  int64_t rows = (p->kernel_height - 1) * p->dilation[0] + 1;
  int64_t columns = (p->kernel_width - 1) * p->dilation[1] + 32 * p->stride[1];
  /* Depthwise has algorithms of its own, which know it better. */
  bool depthwise = p->groups > 1 && p->in_channels == p->groups;
  return !depthwise && p->in_channels / p->groups * rows * columns < 1 << 15;
}

/* What a vector of pixels reads. */
static int64_t bytes_of_vector(const fonio_conv_plan *plan, const shifted_numbers *n) {
  return plan->geometry.in_channels * plan->geometry.kernel_height * n->phases * plan->kernels->lanes *
         conv_element_bytes(plan);
}

/* Vectors that share a pass over the output channels, and those of a tile. */
enum { MOST_VECTORS = 60, MOST_IN_TILE = 8 };

/* A multiply-add takes half a cycle, or waits for the one before in the same sum. */
static double cost_of_tile(const fonio_conv_plan *plan, const shifted_numbers *n, int64_t rows) {
  double load = plan->geometry.kernel_width > 1 ? 0.8 : 0.5; /* of a vector, which may cross a line */
  double vectors = (double)plan->kernels->shifted_tiles[rows - 1].vectors, busy = fmax((double)rows / 1.9, load);
  return (double)n->terms * fmax(busy, 4 / vectors) + 20 / vectors;
}

/* Of all tiles, some of which have a row more; up to a quarter more as what a few vectors read fills the first-level
 * cache, or a twentieth where sums of long vectors take their time. */
static double cost_of_vector(const fonio_conv_plan *plan, const shifted_numbers *n) {
  double channels = (double)plan->geometry.out_channels;
  int64_t rows = plan->geometry.out_channels / n->tiles, longer = plan->geometry.out_channels % n->tiles;
  double sum = (double)(n->tiles - longer) * cost_of_tile(plan, n, rows);
  if (longer) sum += (double)longer * cost_of_tile(plan, n, rows + 1);
  double filled = (double)(bytes_of_vector(plan, n) * MOST_IN_TILE) / (double)cpu_cache_sizes()->l1_bytes;
  double slower = plan->kernels->lanes > 8 ? 0.05 : 0.25;
  return sum * (1 + (filled < 1 ? filled : 1) * slower) + 1.2 * channels;
}

/* Of an element that is copied to the strip. Channels side by side are turned, a vector of them at once or each alone.
 */
static double cost_of_copy(const fonio_conv_plan *plan, const kernel_shifted_strip *strip) {
  const kernel_conv *g = &plan->geometry;
  double lanes = plan->kernels->lanes;
  bool whole = strip->step == 1 || g->in_width >= strip->step * plan->kernels->lanes; /* vectors */
  if (g->input_strides[2] == 1 && whole && (strip->step == 1 || strip->step == 2 || strip->step == 4))
    return (1 + 0.5 * (double)strip->step) / lanes + (strip->step == 1 ? 0.1 : 0.4);
  bool squares = g->input_strides[0] == 1 && g->in_channels >= plan->kernels->lanes && strip->step == 1;
  return (squares ? 0.6 : 2) / (lanes > 8 ? 2 : 1);
}

/* Of turning the sums of a pixel. Where neither pixels nor channels lie side by side, as in a phase of an input
 * gradient, each element goes to a line of its own, and the lines of many channels may push each other out. */
static double cost_of_turning(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  double cycles = plan->kernels->lanes > 8 ? 0.5 : 1, channels = (double)g->out_channels;
  bool far = g->out_channels > 8 && g->output_strides[0] * conv_element_bytes(plan) % 2048 == 0;
  if (g->output_strides[0] != 1) return channels * (far ? 11.5 : 5.5) * cycles;
  double squares = (double)(g->out_channels / plan->kernels->lanes * plan->kernels->lanes);
  return (0.8 * squares + 1.3 * (channels - squares)) * cycles;
}

/* Vectors of a tile, and those that share a pass. */
static int64_t vectors_of_tile(const fonio_conv_plan *plan, const shifted_numbers *n) {
  return plan->kernels->shifted_tiles[conv_ceil_div(plan->geometry.out_channels, n->tiles) - 1].vectors;
}

static int64_t vectors_of_pass(const fonio_conv_plan *plan, const shifted_numbers *n) {
  int64_t vectors = conv_min(MOST_VECTORS, cpu_cache_sizes()->l1_bytes / 2 / bytes_of_vector(plan, n));
  return conv_max(4 * vectors_of_tile(plan, n), vectors / 12 * 12);
}

/* Of a block: the last tile of a pass may overlap the one before. */
static int64_t vectors_of_block(const fonio_conv_plan *plan, const shifted_numbers *n, block_size b) {
  int64_t vectors = conv_ceil_div(b.columns, plan->kernels->lanes) * b.rows;
  if (n->joined && b.columns >= n->width) return conv_ceil_div(b.columns * b.rows, plan->kernels->lanes);
  int64_t tile = vectors_of_tile(plan, n), pass = vectors_of_pass(plan, n);
  return vectors / pass * conv_round_up(pass, tile) + conv_round_up(vectors % pass, tile);
}

static double cost(const fonio_conv_plan *plan) {
  shifted_numbers n = numbers_of(plan);
  block_size b = size_of_block(plan, &n);
  kernel_shifted_strip strip = strip_of(plan, &n, b);
  double blocks = (double)n.height / (double)b.rows * (double)n.width / (double)b.columns;
  double vectors = (double)vectors_of_block(plan, &n, b) * blocks;
  double elements =
      n.direct ? 0 : blocks * (double)(plan->geometry.in_channels * strip.rows * strip.phases * strip.columns);
  double turned = n.turn_output ? (double)(n.height * n.width) * cost_of_turning(plan) : 0;
  double sums = vectors * cost_of_vector(plan, &n), copies = elements * cost_of_copy(plan, &strip);
  return (double)plan->problem.groups * (sums + copies + turned) + 200;
}

/* Elements from one channel of the sums to the next, where they are turned: vectors that share a pass, and one. */
static int64_t sums_pitch(const fonio_conv_plan *plan) {
  return (plan->blocks.panel + 1) * plan->kernels->lanes;
}

/* What those take at the end of the workspace. */
static int64_t sums_bytes(const fonio_conv_plan *plan, const shifted_numbers *n) {
  return n->turn_output ? plan->geometry.out_channels * sums_pitch(plan) * conv_element_bytes(plan) : 0;
}

static void prepare(fonio_conv_plan *plan) {
  shifted_numbers n = numbers_of(plan);
  block_size size = size_of_block(plan, &n);
  const kernel_conv *g = &plan->geometry;
  conv_blocks *b = &plan->blocks;
  int64_t bytes = conv_element_bytes(plan);
  b->rows = size.rows;
  b->pixels = size.rows * size.columns;
  b->panel = vectors_of_pass(plan, &n);
  plan->packed_bytes = plan->problem.groups * g->out_channels * n.terms * bytes;
  plan->workspace_bytes = conv_round_up(n.terms * (int64_t)sizeof(int64_t), MEMORY_ALIGNMENT) +
                          strip_bytes(plan, &n, size) + sums_bytes(plan, &n);
}

static bool pack_group(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return plan->kernels->pack_even(&plan->geometry, numbers_of(plan).tiles, weight, packed);
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return conv_pack_groups(plan, weight, packed, pack_group);
}

/* ---- One piece ---- */

typedef struct shifted_work {
  const conv_run *run;
  const fonio_conv_plan *plan;
  shifted_numbers n;
  int64_t bytes; /* of an element */
  int64_t image, first_channel;
  const char *input, *weights, *bias;
  char *output;
  int64_t row, rows, column, columns; /* the block of output pixels */
  kernel_shifted_strip strip;
  kernel_shifted job;
  char *sums;         /* where they are turned */
  int64_t row_stride; /* in what is read, from one output row to the next */
  int64_t first;      /* and where the block begins in it */
  bool joined;        /* vectors go on in the next row */
} shifted_work;

/* Where each term of the sum lies, seen from its output pixel, in the order of the sum. No division for each: on small
 * images they would take as long as an eighth of the sums. */
static void find_offsets(const shifted_work *w, int64_t *offsets) {
  const kernel_conv *g = &w->plan->geometry;
  const kernel_shifted_strip *strip = &w->strip;
  bool direct = w->n.direct;
  int64_t channel_stride = direct ? g->input_strides[0] : strip->rows * strip->phases * strip->pitch;
  int64_t row_stride = direct ? g->input_strides[1] : strip->phases * strip->pitch;
  int64_t columns = g->dilation[1] / strip->step, phases = g->dilation[1] % strip->step;
  for (int64_t r = 0; r < g->kernel_height; r++)
    for (int64_t s = 0, column = 0, phase = 0; s < g->kernel_width; s++, column += columns, phase += phases) {
      if (phase >= strip->step) phase -= strip->step, column++;
      int64_t at = r * g->dilation[0] * row_stride + phase * strip->pitch + column;
      for (int64_t c = 0; c < g->in_channels; c++, at += channel_stride)
        *offsets++ = at;
    }
}

/* What is read: the image itself, or its strip in the workspace. */
static void find_input(shifted_work *w, char *workspace) {
  const kernel_conv *g = &w->plan->geometry;
  find_offsets(w, (int64_t *)(void *)workspace);
  w->job.offsets = (int64_t *)(void *)workspace;
  if (w->n.direct) {
    w->job.input = w->input;
    w->row_stride = g->stride[0] * g->input_strides[1];
    w->first = w->row * w->row_stride + w->column;
    return;
  }
  char *strip = workspace + conv_round_up(w->n.terms * (int64_t)sizeof(int64_t), MEMORY_ALIGNMENT);
  w->plan->kernels->shifted_strip(g, &w->strip, w->input, strip);
  w->job.input = strip;
  w->row_stride = g->stride[0] / w->strip.row_step * w->strip.phases * w->strip.pitch;
  w->first = 0;
}

/* Where vectors of pixels are read and written; and where the latter are turned to. */
typedef struct vector_list {
  int64_t count, turned[MOST_VECTORS];
  kernel_shifted_vector at[MOST_VECTORS + MOST_IN_TILE];
} vector_list;

/* A vector of the block's output. */
typedef struct vector_place {
  int64_t row, column;
} vector_place;

/* The next vectors of the block, row by row, from a place on; returns the one behind them. The last one of a row, or of
 * the block where they are joined, overlaps the one before where it would not be whole. The very last is there as often
 * as a tile may ask for it. All that the loop needs is in variables, as a store to the list may be one to anything. */
static vector_place list_vectors(const shifted_work *w, vector_place next, vector_list *list) {
  const int64_t lanes = w->plan->kernels->lanes, panel = w->plan->blocks.panel, rows = w->rows, columns = w->columns;
  const int64_t last = conv_max(0, columns - lanes), row_stride = w->row_stride;
  const int64_t out_row = w->plan->geometry.output_strides[1], out_column = w->plan->geometry.output_strides[2];
  const bool joined = w->joined, turn = w->n.turn_output;
  int64_t row = next.row, column = next.column, from = w->first + row * row_stride, i = 0;
  int64_t to = (w->row + row) * out_row + w->column * out_column;
  for (; i < panel && row < rows; i++) {
    bool goes_on = joined && row + 1 < rows;
    int64_t at = goes_on ? column : conv_min(column, last), here = columns - at;
    kernel_shifted_vector *vector = &list->at[i];
    vector->from = from + at;
    vector->to = turn ? i * lanes : to + at * out_column;
    if (turn) list->turned[i] = to + at * out_column;
    if (joined) vector->next = from + at + (here < lanes ? row_stride - columns : 0);
    if (joined) vector->lanes = ((int64_t)1 << conv_min(lanes, here)) - 1;
    column = at + lanes;
    if (column < columns) continue;
    column = goes_on ? column - columns : 0;
    row++;
    from += row_stride;
    to += out_row;
  }
  list->count = i;
  for (; i < MOST_IN_TILE; i++)
    list->at[i] = list->at[list->count - 1];
  return (vector_place){row, column};
}

/* The vectors times all output channels. */
static void run_vectors(const shifted_work *w, const vector_list *list) {
  const kernel_conv *g = &w->plan->geometry;
  kernel_shifted job = w->job;
  int64_t bias_stride = w->plan->problem.bias_stride;
  double biases[MOST_IN_TILE];
  for (int64_t i = 0; i < w->n.tiles; i++) {
    int64_t channel = g->out_channels * i / w->n.tiles, rows = g->out_channels * (i + 1) / w->n.tiles - channel;
    job.rows = rows;
    job.weights = w->weights + w->bytes * channel * w->n.terms;
    job.output = (w->n.turn_output ? w->sums : w->output) + w->bytes * channel * job.channel_stride;
    job.bias = conv_at(w->bias, w->bytes * channel * bias_stride);
    if (w->bias && bias_stride != 1) {
      conv_copy_biases(w->plan, w->bias, channel, rows, biases);
      job.bias = biases;
    }
    const kernel_shifted_tile *tile = &w->plan->kernels->shifted_tiles[rows - 1];
    (w->joined ? tile->run_joined : tile->run)(&job, list->count, list->at);
  }
}

static void turn_vectors(const shifted_work *w, const vector_list *list) {
  const kernel_conv *g = &w->plan->geometry;
  int64_t lanes = w->plan->kernels->lanes;
  kernel_turn job = {g->out_channels, conv_min(w->columns, lanes), w->job.channel_stride, g->output_strides[0],
                     g->output_strides[2]};
  for (int64_t i = 0; i < list->count; i++)
    w->plan->kernels->shifted_turn(&job, w->sums + w->bytes * i * lanes, w->output + w->bytes * list->turned[i]);
}

/* The block as a whole: its vectors overlap each other. */
static void finish(const shifted_work *w) {
  kernel_strip block = {.row = w->row, .column = w->column, .rows = w->rows, .columns = w->columns, .step = {1, 1}};
  int64_t channels = w->plan->geometry.out_channels;
  if (w->n.width == w->plan->problem.out_width)
    conv_finish(w->run, w->image, w->first_channel, channels, &block);
  else
    conv_finish_pixels(w->run, w->image, w->first_channel, channels, w->column, w->columns);
}

static int64_t blocks_across(const fonio_conv_plan *plan, const shifted_numbers *n) {
  return conv_ceil_div(n->width, plan->blocks.pixels / plan->blocks.rows);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  shifted_numbers n = numbers_of(plan);
  return plan->problem.batch * plan->problem.groups * conv_ceil_div(n.height, plan->blocks.rows) *
         blocks_across(plan, &n);
}

/* Sums that are turned are whole vectors, beside each other. */
static void find_job(shifted_work *w) {
  int64_t lanes = w->plan->kernels->lanes;
  bool turn = w->n.turn_output;
  w->job = (kernel_shifted){
      .terms = w->n.terms,
      .channel_stride = turn ? sums_pitch(w->plan) : w->plan->geometry.output_strides[0],
      .lanes = turn ? lanes : conv_min(w->columns, lanes),
  };
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const kernel_conv *g = &plan->geometry;
  shifted_numbers n = numbers_of(plan);
  block_size b = {plan->blocks.rows, plan->blocks.pixels / plan->blocks.rows};
  /* Nearly equal blocks: none is narrower than a vector where the image itself is read. */
  int64_t blocks = blocks_across(plan, &n), across = conv_take(&piece, blocks);
  int64_t down = conv_take(&piece, conv_ceil_div(n.height, b.rows)), group = conv_take(&piece, plan->problem.groups);
  shifted_work w = {
      .run = run,
      .plan = plan,
      .n = n,
      .bytes = conv_element_bytes(plan),
      .image = piece,
      .first_channel = group * g->out_channels,
      .input = conv_at(run->buffers->input, conv_input_offset(plan, piece, group)),
      .weights = conv_at(run->packed, group * (plan->packed_bytes / plan->problem.groups)),
      .bias = conv_at(run->buffers->bias, conv_bias_offset(plan, group)),
      .output = (char *)run->buffers->output + conv_output_offset(plan, piece, group),
      .row = down * b.rows,
      .rows = conv_min(b.rows, n.height - down * b.rows),
      .column = n.width * across / blocks,
      .columns = n.width * (across + 1) / blocks - n.width * across / blocks,
  };
  w.joined = n.joined && w.columns == n.width;
  w.strip = strip_of(plan, &n, (block_size){w.rows, w.columns});
  w.strip.row = w.row * g->stride[0];
  w.strip.column = w.column * g->stride[1];
  w.sums = (char *)workspace + plan->workspace_bytes - sums_bytes(plan, &n);
  find_job(&w);
  find_input(&w, workspace);
  for (vector_place next = {0, 0}; next.row < w.rows;) {
    vector_list list;
    next = list_vectors(&w, next, &list);
    run_vectors(&w, &list);
    if (n.turn_output) turn_vectors(&w, &list);
  }
  finish(&w);
}

const conv_algorithm conv_shifted_forward = {
    .name = "shifted",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "few input channels, not depthwise, and a kernel that reaches over few pixels",
    .cost = cost,
    .prepare = prepare,
    .packing = 0.5,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
