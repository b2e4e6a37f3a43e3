/* The gradient of a weight with input channels in the lanes of a vector: output channels, a row of pixels for each,
 * times pixels whose input channels are brought side by side. For layers whose few output channels would leave lanes
 * empty, and for kernels of one tap, whose sums then lie as the weight does. The order of the sums is that of
 * kernels/order.h; taps leave out the pixels at which they read the padding's zeros.
 *
 * One piece of work: a block of output channels times a block of input channels, with all taps, and a part of the sums.
 */
#include <string.h>

#include "conv/patch.h"
#include "conv/weight_gradient.h"

typedef struct numbers {
  kernel_order order;
  int64_t in_channels, out_channels;     /* of a block */
  int64_t in_blocks, out_blocks, blocks; /* of a group; in all */
  int64_t width, row;                    /* lanes of a panel; of all panels of a block */
  int64_t taps;
  int64_t skip[2];                     /* between the rows and columns of the copy */
  int64_t rows, columns;               /* of the copy, for a full block of pixels */
  int64_t pitch;                       /* elements of a row of output channels */
  int64_t windows;                     /* copies: one for all blocks of pixels, or for each beside it */
  int64_t window;                      /* elements of a copy */
  bool moves;                          /* rows that are read again stay in the copy */
  int64_t copy, output, turned, bytes; /* where they lie in the workspace, and what it has for them */
  int64_t sums, result_bytes;          /* of the results: biases, then the sums */
  bool direct;                         /* the sums are the weight's */
} numbers;

static bool applicable(const fonio_conv_problem *p) {
  if (p->batch == 0 || p->in_channels == 0 || p->out_channels == 0) return false;
  if (p->kernel_width > 1 && p->stride[1] > 1) return false;
  int64_t columns = conv_min(p->out_width, 128), rows = 256 / columns;
  if (p->kernel_width > 64 || p->kernel_height > 64) return false;
  int64_t high = (rows - 1) * p->stride[0] + (p->kernel_height - 1) * p->dilation[0] + 1;
  return columns + (p->kernel_width - 1) * p->dilation[1] <= (1 << 11) / high;
}

/* Output channels for which the copy of the input is worth it, where there are so many. */
enum { LEAST_CHANNELS = 128 };

/* As many input channels as stay in the second-level cache; of output channels as many as leave pieces enough. */
static void find_blocks(const fonio_conv_plan *plan, numbers *n) {
  const kernel_conv *g = &plan->geometry;
  int64_t near = conv_gradient_near() / conv_element_bytes(plan), pixels = n->order.images * n->rows * n->columns;
  n->width = conv_gradient_width(plan, false, g->in_channels);
  n->in_channels = conv_round_up(conv_even(g->in_channels, conv_round_up(conv_max(1, near / pixels), n->width)),
                                 plan->kernels->lanes);
  n->row = n->in_channels;
  n->in_blocks = conv_ceil_div(g->in_channels, n->in_channels);
  int64_t others = plan->problem.groups * n->in_blocks * n->order.parts;
  double products =
      (double)plan->problem.batch * (double)(g->out_height * g->out_width) * (double)(n->in_channels * n->taps);
  int64_t worth = products < GRADIENT_PIECE_PRODUCTS ? (int64_t)(GRADIENT_PIECE_PRODUCTS / products) + 1 : 1;
  if (n->direct) {
    /* Nothing of them is kept: what counts is the copy, and that two threads end together. */
    n->out_channels = conv_even_pairs(
        g->out_channels, conv_max(worth, conv_min(2 * LEAST_CHANNELS, conv_ceil_div(g->out_channels * others, 2))));
  } else {
    int64_t spread = conv_max(LEAST_CHANNELS, conv_ceil_div(g->out_channels * others, GRADIENT_PIECES_ENOUGH));
    int64_t most = conv_max(1, conv_min(near / (n->taps * n->row), conv_max(worth, spread)));
    n->out_channels = conv_even(g->out_channels, most);
  }
  n->out_blocks = conv_ceil_div(g->out_channels, n->out_channels);
  n->blocks = plan->problem.groups * n->in_blocks * n->out_blocks;
}

/* Blocks of pixels beside each other that keep a copy each: the rows that the blocks below read again stay there. */
enum { WINDOWS = 2 };

static numbers numbers_of(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t bytes = conv_element_bytes(plan), lanes = plan->kernels->lanes;
  numbers n = {.order = conv_order(plan), .taps = p->kernel_height * p->kernel_width};
  n.skip[0] = p->kernel_height == 1 ? p->stride[0] : 1;
  n.skip[1] = p->kernel_width == 1 ? p->stride[1] : 1;
  n.rows = ((n.order.rows - 1) * p->stride[0] + (p->kernel_height - 1) * p->dilation[0]) / n.skip[0] + 1;
  n.columns = n.order.columns + (p->kernel_width - 1) * p->dilation[1];
  n.direct = n.order.blocks == 1 && n.taps == 1 && p->weight_strides[1] == 1 && plan->geometry.in_channels % lanes == 0;
  find_blocks(plan, &n);
  int64_t pixels = n.order.images * n.order.rows * n.order.columns;
  n.sums = conv_round_up(conv_round_up(n.out_channels, lanes) * bytes, 64);
  n.result_bytes = n.sums + (n.direct ? 0 : conv_round_up(n.taps * n.out_channels * n.row * bytes, 64));
  n.pitch = conv_gradient_odd_lines(pixels, bytes);
  n.window = n.order.images * n.rows * n.columns * n.row;
  n.moves = n.order.down > 1 && n.order.across <= WINDOWS && n.rows > n.order.rows * p->stride[0];
  n.windows = n.moves ? n.order.across : 1;
  n.copy = conv_round_up(n.out_channels * (int64_t)sizeof(int64_t), 64);
  n.output = n.copy + conv_round_up(n.windows * n.window * bytes, 64);
  n.turned = n.output + n.out_channels * n.pitch * bytes;
  n.bytes = n.turned + conv_round_up(pixels * lanes * bytes, 64);
  return n;
}

static void prepare(fonio_conv_plan *plan) {
  numbers n = numbers_of(plan);
  plan->blocks = (conv_blocks){.panel = n.width,
                               .terms = n.in_channels * n.taps,
                               .channels = n.out_channels,
                               .pixels = n.order.images * n.order.rows * n.order.columns,
                               .rows = n.order.rows};
  conv_gradient_prepare(plan, (conv_sums){n.blocks, n.order.parts, n.result_bytes}, n.bytes);
}

/* Of a panel, of the `left` ones: a power of two. */
static int64_t vectors_of_panel(const numbers *n, int64_t lanes, int64_t left) {
  int64_t vectors = n->width / lanes;
  while (vectors > left)
    vectors /= 2;
  return vectors;
}

static double cost(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  numbers n = numbers_of(plan);
  int64_t lanes = plan->kernels->lanes;
  double pixels = (double)(p->out_height * p->out_width), taps = (double)n.taps, cycles = 0;
  double per_block = (double)(n.order.images * n.order.rows * n.order.columns);
  for (int64_t left = conv_ceil_div(g->in_channels, lanes), vectors; left > 0; left -= vectors) {
    vectors = vectors_of_panel(&n, lanes, left);
    cycles += conv_gradient_cycles(g->out_channels, vectors, false);
  }
  double tiles = taps * (double)(g->in_channels * g->out_channels) / (double)lanes / 12;
  double sums = (n.direct ? 1.04 : 1.16) * pixels * taps * cycles + tiles * pixels / per_block * 40;
  double copied = pixels / per_block * (double)(n.order.images * n.rows * n.columns * n.row) * 0.45;
  double stored = taps * (double)(g->in_channels * g->out_channels) / (double)conv_min(p->batch, 8);
  stored *= n.direct                                              ? 0
            : p->weight_strides[1] != 1                           ? 1.5
            : stored * (double)conv_element_bytes(plan) > 1 << 20 ? 1.25
                                                                  : 0.5;
  return (double)p->groups * (sums + stored + copied * (double)(n.in_blocks * n.out_blocks)) + 300;
}

/* ---- One piece ---- */

typedef struct work {
  const conv_run *run;
  const fonio_conv_plan *plan;
  const numbers *n;
  int64_t bytes; /* of an element */
  gradient_block block;
  kernel_block pixels;
  int64_t kept; /* rows of the copy that the block above has left */
  char *memory, *copy, *results, *sums;
  int64_t sum_row, sum_tap; /* elements of the sums from an output channel, and from a tap, to the next */
} work;

static int64_t width_of_panel(const work *w, int64_t channel) {
  int64_t lanes = w->plan->kernels->lanes;
  return vectors_of_panel(w->n, lanes, conv_ceil_div(w->block.in_channels - channel, lanes)) * lanes;
}

/* Panels lie behind each other: [panel][image][row][column][lane]. */
static char *panel_at(const work *w, int64_t channel) {
  return w->copy + channel * w->n->order.images * w->n->rows * w->n->columns * w->bytes;
}

static const void *input_at(const work *w, int64_t image, int64_t channel) {
  return conv_at(w->run->buffers->input,
                 conv_input_offset(w->plan, image, w->block.group) +
                     (w->block.in_channel + channel) * w->plan->problem.input_strides[1] * w->bytes);
}

/* Rows of the image that are read one behind the other, without a gap: short ones would not fill the squares that are
 * turned. */
static bool copies_flat(const work *w) {
  const fonio_conv_problem *p = &w->plan->problem;
  bool one_tap = w->n->taps * p->stride[0] * p->stride[1] == 1;
  return one_tap && !conv_pads(p) && w->pixels.columns == p->in_width &&
         p->input_strides[2] == p->in_width * p->input_strides[3];
}

static void copy_flat(const work *w, int64_t channel, int64_t width) {
  const int64_t *strides = w->plan->problem.input_strides;
  const kernel_block *b = &w->pixels;
  gradient_turn job = {w->plan,    conv_min(width, w->plan->geometry.in_channels - w->block.in_channel - channel),
                       strides[1], b->rows * b->columns,
                       strides[3], width};
  for (int64_t i = 0; i < b->images; i++)
    conv_gradient_turn(&job, conv_at(input_at(w, b->image + i, channel), b->row * strides[2] * w->bytes),
                       panel_at(w, channel) + i * w->n->rows * w->n->columns * width * w->bytes);
}

static void copy_panel(const work *w, int64_t channel, int64_t width) {
  const numbers *n = w->n;
  const kernel_conv *g = &w->plan->geometry;
  const kernel_block *b = &w->pixels;
  kernel_strip strip = {
      .row = b->row * g->stride[0],
      .column = b->column * g->stride[1],
      .rows = ((b->rows - 1) * g->stride[0] + (g->kernel_height - 1) * g->dilation[0]) / n->skip[0] + 1,
      .columns = b->columns + (g->kernel_width - 1) * g->dilation[1],
      .step = {n->skip[0], n->skip[1]},
      .pixel = width,
      .pitch = n->columns * width,
  };
  char *to = panel_at(w, channel);
  memmove(to, to + (n->rows - w->kept) * strip.pitch * w->bytes, (size_t)(w->kept * strip.pitch * w->bytes));
  strip.row += w->kept * n->skip[0];
  strip.rows -= w->kept;
  for (int64_t i = 0; i < b->images; i++)
    for (int64_t lane = 0; lane < width; lane += w->plan->kernels->lanes)
      w->plan->kernels->gather_strip(
          g, &strip, w->block.in_channel + channel + lane,
          conv_at(w->run->buffers->input, conv_input_offset(w->plan, b->image + i, w->block.group)),
          to + ((i * n->rows + w->kept) * strip.pitch + lane) * w->bytes);
}

/* The output's gradient of the block of pixels. */
static const void *grad_output_at(const work *w, int64_t image, int64_t channel, int64_t row, int64_t column) {
  const int64_t *strides = w->plan->problem.output_strides;
  int64_t element = channel * strides[1] + row * strides[2] + column * strides[3];
  return conv_at(w->run->buffers->grad_output, conv_output_offset(w->plan, image, w->block.group) + element * w->bytes);
}

/* Planes of the output's gradient that lie whole pages apart fall on the same places of the cache: they are copied, a
 * row for each channel. */
static bool copies_output(const work *w) {
  const int64_t *strides = w->plan->problem.output_strides;
  return strides[3] == 1 && strides[1] * w->bytes % 4096 == 0;
}

static void copy_output(const work *w) {
  const kernel_block *b = &w->pixels;
  for (int64_t channel = 0; channel < w->block.out_channels; channel++) {
    char *to = w->memory + w->n->output + channel * w->n->pitch * w->bytes;
    for (int64_t i = 0; i < b->images * b->rows; i++, to += b->columns * w->bytes)
      memcpy(to,
             grad_output_at(w, b->image + i / b->rows, w->block.out_channel + channel, b->row + i % b->rows, b->column),
             (size_t)(b->columns * w->bytes));
  }
}

/* Where the output's gradient is read, from a pixel of the block on. */
static void find_output(const work *w, int64_t row, int64_t column, kernel_gradient *job) {
  const kernel_block *b = &w->pixels;
  const int64_t *strides = w->plan->problem.output_strides;
  if (copies_output(w)) {
    int64_t element = (row - b->row) * b->columns + column - b->column;
    job->input = w->memory + w->n->output + element * w->bytes;
    job->image_step = b->rows * b->columns, job->segment_step = b->columns, job->term_step = 1;
  } else {
    job->input = grad_output_at(w, b->image, w->block.out_channel, row, column);
    job->image_step = strides[0], job->segment_step = strides[2], job->term_step = strides[3];
  }
}

/* Adds the products of one tap with one panel. */
static void add_tap(const work *w, int64_t kernel_row, int64_t kernel_column, int64_t channel, int64_t width) {
  const numbers *n = w->n;
  const kernel_conv *g = &w->plan->geometry;
  const kernel_block *b = &w->pixels;
  conv_range rows = conv_range_inside(w->plan, 0, kernel_row, b->row, b->rows);
  conv_range columns = conv_range_inside(w->plan, 1, kernel_column, b->column, b->columns);
  int64_t pitch = n->columns * width, down = g->stride[0] / n->skip[0];
  int64_t row = (rows.first - b->row) * down + kernel_row * g->dilation[0];
  int64_t column = columns.first - b->column + kernel_column * g->dilation[1];
  kernel_gradient job = {
      .images = b->images,
      .segments = rows.count,
      .terms = columns.count,
      .panel = panel_at(w, channel) + (row * pitch + column * width) * w->bytes,
      .panel_segment_gap = down * pitch - columns.count * width,
      .panel_image_gap = (n->rows - rows.count * down) * pitch,
      .vectors = width / w->plan->kernels->lanes,
      .rows = w->block.out_channels,
      .offsets = (const int64_t *)(void *)w->memory,
      .sums = w->sums + ((kernel_row * g->kernel_width + kernel_column) * w->sum_tap + channel) * w->bytes,
      .sum_step = w->sum_row,
      .begin = n->direct,
  };
  find_output(w, rows.first, columns.first, &job);
  if (job.segment_step == job.terms * job.term_step && job.panel_segment_gap == 0)
    job.terms *= job.segments, job.segments = 1;
  if (job.begin || (job.terms > 0 && job.segments > 0)) w->plan->kernels->gradient_sums(&job);
}

/* Adds to the biases' gradients; the output's gradient is turned for it, a vector of channels at a time. */
static void add_biases(const work *w) {
  const int64_t *strides = w->plan->problem.output_strides;
  const kernel_table *k = w->plan->kernels;
  const kernel_block *b = &w->pixels;
  bool flat = b->rows == 1 || strides[2] == b->columns * strides[3];
  int64_t rows = flat ? 1 : b->rows, columns = flat ? b->rows * b->columns : b->columns;
  gradient_turn job = {w->plan, 0, strides[1], columns, strides[3], k->lanes};
  for (int64_t lane = 0; lane < w->block.out_channels; lane += k->lanes) {
    char *to = w->memory + w->n->turned;
    job.channels = conv_min(w->block.out_channels - lane, k->lanes);
    for (int64_t i = 0; i < b->images * rows; i++, to += columns * k->lanes * w->bytes)
      conv_gradient_turn(
          &job, grad_output_at(w, b->image + i / rows, w->block.out_channel + lane, b->row + i % rows, b->column), to);
    k->gradient_biases(b->images * rows * columns, 1, w->memory + w->n->turned, w->results + lane * w->bytes);
  }
}

static void add_block(const work *w) {
  const kernel_conv *g = &w->plan->geometry;
  if (w->block.bias) add_biases(w);
  if (w->block.weight && copies_output(w)) copy_output(w);
  for (int64_t channel = 0, width; w->block.weight && channel < w->block.in_channels; channel += width) {
    width = width_of_panel(w, channel);
    if (copies_flat(w))
      copy_flat(w, channel, width);
    else
      copy_panel(w, channel, width);
    for (int64_t row = 0; row < g->kernel_height; row++)
      for (int64_t column = 0; column < g->kernel_width; column++)
        add_tap(w, row, column, channel, width);
  }
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
      .sums = results + n->sums,
      .sum_row = n->row,
      .sum_tap = n->out_channels * n->row,
  };
  if (n->direct && w.block.weight)
    w.sums = conv_gradient_weight(run, &w.block), w.sum_row = run->plan->problem.weight_strides[0];
  return w;
}

/* The results of a part begin as zeros. */
static void add_blocks(work *w, int64_t part) {
  const kernel_order *order = &w->n->order;
  memset(w->results, 0, (size_t)w->n->result_bytes);
  for (int64_t i = 0; i < w->block.out_channels; i++)
    ((int64_t *)(void *)w->memory)[i] = i * (copies_output(w) ? w->n->pitch : w->plan->problem.output_strides[1]);
  int64_t first = kernel_first_block(order, part);
  for (int64_t block = first; block < kernel_first_block(order, part + 1); block++) {
    w->pixels = kernel_block_at(order, block);
    w->copy = w->memory + w->n->copy + block % w->n->windows * w->n->window * w->bytes;
    w->kept = 0;
    if (w->n->moves && block >= first + order->across && w->pixels.row > 0)
      w->kept = w->n->rows - order->rows * w->plan->problem.stride[0];
    add_block(w);
  }
}

static void store(const work *w) {
  const gradient_block *b = &w->block;
  const int64_t *strides = w->plan->problem.weight_strides;
  int64_t kernel = w->plan->geometry.kernel_width, first = b->group * w->plan->geometry.out_channels + b->out_channel;
  gradient_store job = {w->plan, b->in_channels, strides[1], w->sum_row, b->out_channels, strides[0]};
  for (int64_t tap = 0; b->weight && !w->n->direct && tap < w->n->taps; tap++)
    conv_gradient_store(&job, w->sums + tap * w->sum_tap * w->bytes,
                        conv_gradient_weight(w->run, b) +
                            (tap / kernel * strides[2] + tap % kernel * strides[3]) * w->bytes);
  if (b->bias) conv_gradient_store_biases(w->run, first, 1, b->out_channels, w->results);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  numbers n = numbers_of(run->plan);
  int64_t block = conv_take(&piece, n.blocks), part = piece;
  work w = work_on(run, &n, block, workspace, conv_gradient_results(run, block, part, workspace));
  if (!w.block.bias && !w.block.weight) return;
  add_blocks(&w, part);
  if (n.order.parts == 1) store(&w);
}

static void run_last(const conv_run *run, int64_t block, void *workspace) {
  numbers n = numbers_of(run->plan);
  work w = work_on(run, &n, block, workspace, conv_gradient_results(run, block, 0, workspace));
  if (!w.block.bias && !w.block.weight) return;
  conv_gradient_add_parts(run, block);
  store(&w);
}

const conv_algorithm conv_inputs_weight_gradient = {
    .name = "inputs_weight_gradient",
    .direction = FONIO_CONV_WEIGHT_GRADIENT,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "images and channels, and kernels that reach over few pixels, without a stride or of one column",
    .cost = cost,
    .prepare = prepare,
    .pieces = conv_gradient_pieces,
    .run_piece = run_piece,
    .last_pieces = conv_gradient_last_pieces,
    .run_last = run_last,
};
