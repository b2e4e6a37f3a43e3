/* Direct convolution with pixels as rows behind pointers and output channels in vector lanes. It asks that the channels
 * of a pixel lie side by side, as in channels_last; images of other layouts are turned block by block, in a workspace,
 * on their way in and out. That costs each element one transposition, where packing would copy it once for each tap.
 *
 * A piece of work is a block of output pixels and some output channels. Its loops, outermost first:
 *   part of the sum: some taps (or some channels of one), whose panel of weights stays in a near cache
 *     the pointers of all pixels of the block, looked up once: to the image, or to zeros for the padding
 *     panel of output channels
 *       rows_tile_rows pixels: one tile in registers */
#include <string.h>

#include "conv/patch.h"
#include "conv/rows.h"

static bool side_by_side(const fonio_conv_problem *p, const int64_t *strides, int64_t channels) {
  return strides[1] == 1 || channels == p->groups;
}

/* Few channels under windows that neither overlap nor reach into padding: a window as a whole is turned into the
 * channels of one pixel. */
static bool turns_windows(const fonio_conv_problem *p) {
  if (p->dtype != FONIO_FLOAT32 || conv_pads(p) || side_by_side(p, p->input_strides, p->in_channels)) return false;
  for (int i = 0; i < 2; i++) {
    int64_t taps = i == 0 ? p->kernel_height : p->kernel_width;
    if (p->stride[i] < (taps - 1) * p->dilation[i] + 1) return false;
  }
  int64_t taps = p->kernel_height * p->kernel_width, channels = p->in_channels / p->groups;
  return taps > 1 && channels < 16 && taps * channels < 1 << 12;
}

/* The plan as it is computed: then with a kernel of one tap. */
static fonio_conv_plan computed(const fonio_conv_plan *plan) {
  fonio_conv_plan as = *plan;
  if (!turns_windows(&plan->problem)) return as;
  as.geometry.in_channels *= plan->problem.kernel_height * plan->problem.kernel_width;
  as.geometry.kernel_height = as.geometry.kernel_width = 1;
  as.problem.in_channels = as.geometry.in_channels * plan->problem.groups;
  as.problem.kernel_height = as.problem.kernel_width = 1;
  return as;
}

static rows_numbers numbers_of(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  int64_t lanes = plan->kernels->lanes;
  rows_numbers n = {
      .taps = g->kernel_height * g->kernel_width,
      .out_channels = conv_round_up(g->out_channels, lanes),
      .panel = lanes * plan->kernels->rows_tile_vectors,
      .windows = p->in_channels != plan->asked.in_channels,
      .turn_input = !side_by_side(p, p->input_strides, p->in_channels),
      .turn_output = !side_by_side(p, p->output_strides, p->out_channels) ||
                     (p->out_height > 1 && p->output_strides[2] != p->output_strides[3] * p->out_width),
  };
  n.terms = n.taps * g->in_channels;
  n.in_channels = n.turn_input ? conv_pitch(conv_round_up(g->in_channels, lanes), lanes) : g->in_channels;
  for (int i = 0; i < 2; i++) {
    n.step[i] = n.taps == 1 ? g->stride[i] : 1;
    n.stride[i] = g->stride[i] / n.step[i];
  }
  return n;
}

/* Input rows or columns, as they are turned, under `outputs` rows or columns of output. */
int64_t conv_rows_reach(const fonio_conv_plan *plan, const rows_numbers *n, int axis, int64_t outputs) {
  int64_t kernel = axis == 0 ? plan->geometry.kernel_height : plan->geometry.kernel_width;
  return (outputs - 1) * n->stride[axis] + (kernel - 1) * plan->geometry.dilation[axis] + 1;
}

static int64_t turned_input(const fonio_conv_plan *plan, const rows_numbers *n, int64_t rows, int64_t columns) {
  return n->turn_input ? conv_rows_reach(plan, n, 0, rows) * conv_rows_reach(plan, n, 1, columns) * n->in_channels : 0;
}

/* What the workspace rule of this project leaves for turned blocks. */
static int64_t most_bytes(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->asked;
  return (1 << 19) + 6144 * ((p->in_channels + p->out_channels) / p->groups);
}

/* The block of output pixels: whole rows where they are short. */
typedef struct block_size {
  int64_t rows, columns;
} block_size;

/* What a block takes of the workspace, in bytes: turned pixels and, at the most, a pointer for each tap of each pixel.
 */
static int64_t bytes_of_block(const fonio_conv_plan *plan, const rows_numbers *n, block_size b) {
  int64_t pixels = b.rows * b.columns, turned = turned_input(plan, n, b.rows, b.columns);
  if (n->turn_output) turned += pixels * n->out_channels;
  return turned * conv_element_bytes(plan) + pixels * n->taps * (int64_t)sizeof(void *);
}

static block_size size_of_block(const fonio_conv_plan *plan, const rows_numbers *n) {
  const fonio_conv_problem *p = &plan->problem;
  bool turn = n->turn_input || n->turn_output;
  /* Nearly equal blocks: a small rest would fill its tiles badly. */
  block_size b = {1, conv_even(p->out_width, turn ? 128 : 512)};
  int64_t rows = conv_max(1, (n->windows ? 128 : 112) / b.columns);
  /* More rows in a block: fewer input rows are turned twice. */
  if (n->turn_input && p->kernel_height > 1) rows = conv_max(rows, 2 * p->kernel_height);
  b.rows = conv_min(p->out_height, rows);
  while (b.rows > 1 && bytes_of_block(plan, n, b) > most_bytes(plan))
    b.rows--;
  b.rows = conv_even_pairs(p->out_height, b.rows);
  while (b.columns > 8 && bytes_of_block(plan, n, b) > most_bytes(plan))
    b.columns--;
  /* Pixels that are written in place follow each other only within a row, or over whole rows. */
  if (b.columns < p->out_width && !n->turn_output) b.rows = 1;
  return b;
}

/* A block of 8 pixels must fit; only enormous kernels do not. */
static bool applicable(const fonio_conv_problem *p) {
  int64_t window =
      ((p->kernel_height - 1) * p->dilation[0] + 1) * ((p->kernel_width - 1) * p->dilation[1] + 8 * p->stride[1]);
  return side_by_side(p, p->input_strides, p->in_channels) || window < 1024 || turns_windows(p);
}

/* Terms whose panel of weights stays in a near cache; one tap at a time where much of what taps read is padding, so
 * that it can be left out. */
static int64_t most_terms(const fonio_conv_plan *plan, const rows_numbers *n) {
  int64_t terms = conv_terms_of_panel(plan, n->panel);
  bool few = plan->geometry.in_channels < 64;
  return few || conv_share_inside(plan, 0) > 0.9 ? terms : conv_min(terms, plan->geometry.in_channels);
}

/* Some channels of a tap, some taps, or some rows of the kernel where their taps are joined. */
static int64_t terms_at_once(const fonio_conv_plan *plan, const rows_numbers *n) {
  const kernel_conv *g = &plan->geometry;
  int64_t most = most_terms(plan, n), row = g->kernel_width * g->in_channels;
  if (most < g->in_channels) return conv_even(g->in_channels, most);
  if (most >= row && conv_rows_join_taps(plan, n)) return conv_even(g->kernel_height, most / row) * row;
  return conv_even(n->taps, most / g->in_channels) * g->in_channels;
}

/* Of a group. */
static int64_t weight_bytes(const fonio_conv_plan *plan, const rows_numbers *n) {
  return n->out_channels * n->terms * conv_element_bytes(plan);
}

static double cost_as(const fonio_conv_plan *plan) {
  rows_numbers n = numbers_of(plan);
  block_size b = size_of_block(plan, &n);
  const fonio_conv_problem *p = &plan->problem;
  double pixels = (double)(p->out_height * p->out_width), vectors = (double)n.out_channels / plan->kernels->lanes;
  double tiles =
      pixels / (double)(b.rows * b.columns) * (double)conv_ceil_div(b.rows * b.columns, plan->kernels->rows_tile_rows);
  int64_t rest = (plan->geometry.out_channels - 1) % n.panel + 1;
  bool half = b.rows * b.columns % plan->kernels->rows_tile_rows == 0 &&
              conv_rows_take_half(plan, &n, terms_at_once(plan, &n), rest);
  if (half) vectors -= 0.5;
  bool join = conv_rows_join_taps(plan, &n);
  double segments = (double)(join ? p->kernel_height : n.taps); /* a pixel has a pointer to each */
  double sum = pixels * vectors * (double)n.terms / (plan->kernels->lanes > 8 ? 1.95 : 1.88) +
               tiles * (20 * vectors + 6 * segments * (vectors / plan->kernels->rows_tile_vectors + 1));
  /* Taps of few channels are short loops. */
  if (!join && n.in_channels < 32) sum += tiles * segments * (1.5 * plan->kernels->rows_tile_rows + 4 * vectors);
  /* The last vector is not whole. */
  if (!n.turn_output && !half && n.out_channels > plan->geometry.out_channels) sum += 60 * tiles;
  /* Where taps are taken one at a time, those of a tile that lies in the padding are left out. */
  if (most_terms(plan, &n) < 2 * n.in_channels) sum *= conv_share_inside(plan, 0);
  double turn_in = (double)turned_input(plan, &n, b.rows, b.columns) / (double)(b.rows * b.columns) * pixels;
  double turn_out = n.turn_output ? pixels * (double)n.out_channels : 0;
  /* Elements that are turned and pointers that are looked up: half of it with vectors as long as a cache line, where
   * more is turned at a time and the sums take two cycles for one. */
  double beside = (n.windows ? 5.5 : 1.2) * turn_in + 1.2 * turn_out + 2.5 * pixels * segments;
  sum += beside / (plan->kernels->lanes > 8 ? 2 : 1);
  /* For few pixels the weights' way is longer. */
  double pass = (double)weight_bytes(plan, &n) / 24;
  return (double)p->groups * (sum > pass ? sum : pass) + 300;
}

static double cost(const fonio_conv_plan *plan) {
  fonio_conv_plan as = computed(plan);
  return cost_as(&as);
}

/* Elements from one pixel of the turned output to the next. */
static int64_t turned_pitch(const fonio_conv_plan *plan, const rows_numbers *n) {
  return n->turn_output ? conv_pitch(conv_min(plan->blocks.channels, n->out_channels), plan->kernels->lanes) : 0;
}

/* The pointers of a block: every tile has room for a whole one's. */
static int64_t pointer_bytes(const fonio_conv_plan *plan) {
  int64_t segments = conv_max(1, plan->blocks.terms / plan->geometry.in_channels);
  int64_t rows = conv_round_up(plan->blocks.pixels, plan->kernels->rows_tile_rows);
  return conv_round_up(rows * segments * (int64_t)sizeof(void *), 64);
}

static void prepare_as(fonio_conv_plan *plan) {
  rows_numbers n = numbers_of(plan);
  block_size size = size_of_block(plan, &n);
  conv_blocks *b = &plan->blocks;
  int64_t bytes = conv_element_bytes(plan);
  b->panel = n.panel;
  b->terms = terms_at_once(plan, &n);
  b->rows = size.rows;
  b->pixels = size.rows * size.columns;
  /* Few blocks and many channels: cut the output channels, too, so that there is work for several threads; unless each
   * would turn the windows again. One pixel's are cut where many weights pass for it. */
  int64_t blocks =
      conv_ceil_div(plan->problem.out_height, size.rows) * conv_ceil_div(plan->problem.out_width, size.columns);
  int64_t parts = 1;
  bool weights_pass = b->pixels == 1 && weight_bytes(plan, &n) >= 1 << 19;
  while (parts < 8 && blocks * parts < (n.windows || weights_pass ? 2 : 4) &&
         n.out_channels / (parts * 2) >= (weights_pass ? 1 : 4) * n.panel)
    parts *= 2;
  b->channels = conv_round_up(conv_ceil_div(n.out_channels, parts), n.panel);
  plan->packed_bytes = plan->problem.groups * weight_bytes(plan, &n);
  int64_t zeros = conv_round_up(plan->geometry.kernel_width * n.in_channels * bytes, 64);
  int64_t turned = turned_input(plan, &n, size.rows, size.columns) + b->pixels * turned_pitch(plan, &n);
  plan->workspace_bytes = zeros + pointer_bytes(plan) + turned * bytes + 2 * 64;
}

static void prepare(fonio_conv_plan *plan) {
  fonio_conv_plan as = computed(plan);
  prepare_as(&as);
  plan->blocks = as.blocks;
  plan->packed_bytes = as.packed_bytes;
  plan->workspace_bytes = as.workspace_bytes;
}

static bool pack_group(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return plan->kernels->pack_columns(&plan->geometry, weight, packed);
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return conv_pack_groups(plan, weight, packed, pack_group);
}

/* ---- One piece ---- */

static void turn_input(const rows_work *w) {
  const kernel_conv *g = &w->plan->geometry;
  int64_t columns = conv_rows_reach(w->plan, &w->n, 1, w->columns), lanes = w->plan->kernels->lanes;
  kernel_strip strip = {
      .row = w->row * g->stride[0],
      .column = w->column * g->stride[1],
      .rows = conv_rows_reach(w->plan, &w->n, 0, w->rows),
      .columns = columns,
      .step = {w->n.step[0], w->n.step[1]},
      .pixel = w->n.in_channels,
      .pitch = columns * w->n.in_channels,
  };
  for (int64_t c = 0; c < g->in_channels; c += lanes)
    w->plan->kernels->gather_strip(g, &strip, c, w->input, w->turned_input + w->bytes * c);
}

bool conv_rows_turns_rows(const fonio_conv_plan *plan) {
  return plan->algorithm == &conv_rows_forward && numbers_of(plan).turn_output &&
         plan->blocks.pixels == plan->blocks.rows * plan->problem.out_width;
}

/* What lies between the pixels of a block is cleared with them, in memory that they are about to write. */
static void clear_between(const rows_work *w) {
  const int64_t *strides = w->plan->geometry.output_strides;
  int64_t first = w->row * strides[1], count = w->plan->clears - first; /* one long row may stand for all */
  if (w->row + w->rows < w->plan->geometry.out_height) count = w->rows * strides[1];
  for (int64_t c = w->first_output; c < w->first_output + w->outputs; c++)
    memset(w->output + w->bytes * (c * strides[0] + first), 0, (size_t)(count * w->bytes));
}

/* `count` elements. Not inlined, so that its registers are its own. */
static __attribute__((noinline)) void copy_apart(float *to, int64_t to_step, const float *from, int64_t from_step,
                                                 int64_t count) {
  for (; count > 0; count--, from += from_step, to += to_step)
    *to = *from;
}

/* What the windows of a row of the block have of one row of a channel. */
static void turn_windows_of_row(const rows_work *w, const kernel_conv *g, const float *from, float *to) {
  for (int64_t j = 0; j < w->columns; j++, to += w->n.in_channels)
    copy_apart(to, g->in_channels, from + g->columns[(w->column + j) * g->stride[1]] * g->input_strides[2],
               g->dilation[1] * g->input_strides[2], g->kernel_width);
}

/* Each window in the order of the sum; row by row of the image, as processors fetch ahead. `g` is the convolution as it
 * was asked for. */
static void turn_windows(const rows_work *w, const kernel_conv *g) {
  for (int64_t i = 0; i < w->rows; i++)
    for (int64_t r = 0; r < g->kernel_height; r++)
      for (int64_t c = 0; c < g->in_channels; c++) {
        int64_t row = g->rows[(w->row + i) * g->stride[0] + r * g->dilation[0]];
        int64_t to = i * w->columns * w->n.in_channels + r * g->kernel_width * g->in_channels + c;
        turn_windows_of_row(w, g, (const float *)w->input + row * g->input_strides[1] + c * g->input_strides[0],
                            (float *)w->turned_input + to);
      }
}

/* Whole rows that follow each other without a gap are written as one: short ones would not fill the vectors. */
static void turn_output(const rows_work *w) {
  int64_t lanes = w->plan->kernels->lanes, pitch = w->turned_pitch;
  kernel_conv g = w->plan->geometry;
  if (w->plan->clears) clear_between(w);
  kernel_strip strip = {w->row, w->column, w->rows, w->columns, {1, 1}, pitch, w->columns * pitch};
  if (w->columns == g.out_width && g.output_strides[1] == g.out_width * g.output_strides[2]) {
    strip = (kernel_strip){0, w->row * g.out_width, 1, w->rows * w->columns, {1, 1}, pitch, 0};
    g.out_width *= g.out_height;
    g.out_height = 1;
  }
  for (int64_t c = 0; c < w->outputs; c += lanes)
    w->plan->kernels->scatter_strip(&g, &strip, w->first_output + c, w->turned_output + w->bytes * c, w->output);
}

static int64_t parts_of_channels(const fonio_conv_plan *plan) {
  return conv_ceil_div(plan->geometry.out_channels, plan->blocks.channels);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * plan->problem.groups * conv_rows_blocks_down(plan) * conv_rows_blocks_across(plan) *
         parts_of_channels(plan);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan, as = computed(plan);
  const kernel_conv *g = &as.geometry;
  const conv_blocks *b = &plan->blocks;
  rows_numbers n = numbers_of(&as);
  int64_t columns = b->pixels / b->rows, bytes = conv_element_bytes(plan);
  int64_t part = conv_take(&piece, parts_of_channels(plan)), across = conv_take(&piece, conv_rows_blocks_across(plan));
  int64_t down = conv_take(&piece, conv_rows_blocks_down(plan)), group = conv_take(&piece, plan->problem.groups);
  int64_t zeros = conv_round_up(g->kernel_width * n.in_channels * bytes, 64);
  rows_work w = {
      .plan = &as,
      .n = n,
      .bytes = bytes,
      .input = conv_at(run->buffers->input, conv_input_offset(plan, piece, group)),
      .weights = conv_at(run->packed, group * (plan->packed_bytes / plan->problem.groups)),
      .bias = conv_at(run->buffers->bias, conv_bias_offset(plan, group)),
      .output = (char *)run->buffers->output + conv_output_offset(plan, piece, group),
      .zeros = memset(workspace, 0, (size_t)zeros),
      .pointers = (void *)((char *)workspace + zeros),
      .turned_output = (char *)workspace + zeros + pointer_bytes(&as),
      .row = down * b->rows,
      .column = across * columns,
      .first_output = part * b->channels,
      .turned_pitch = turned_pitch(&as, &n),
      .join = b->terms % (g->kernel_width * g->in_channels) == 0 && conv_rows_join_taps(&as, &n),
  };
  w.outputs = conv_min(b->channels, g->out_channels - w.first_output);
  w.turned_input = w.turned_output + conv_round_up(b->pixels * w.turned_pitch * bytes, 64);
  w.rows = conv_min(b->rows, g->out_height - w.row);
  w.columns = conv_min(columns, g->out_width - w.column);
  if (n.windows)
    turn_windows(&w, &plan->geometry);
  else if (n.turn_input)
    turn_input(&w);
  conv_rows_sum(&w);
  if (n.turn_output) turn_output(&w);
  conv_finish(run, piece, group * g->out_channels + w.first_output, w.outputs,
              &(kernel_strip){.row = w.row, .column = w.column, .rows = w.rows, .columns = w.columns, .step = {1, 1}});
}

const conv_algorithm conv_rows_forward = {
    .name = "rows",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "the channels of a pixel side by side, or a kernel that reaches over few pixels",
    .cost = cost,
    .prepare = prepare,
    .packing = 0.5,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
