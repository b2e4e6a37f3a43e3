/* The input gradient as one matrix product and sums of what it gives: for each pixel of grad_output a column of what it
 * adds to each channel and tap, which is a convolution with one tap; the pixels of the image are sums of some of those,
 * shifted against each other ("col2im"). Each pixel of grad_output is read once for all taps, and with a stride no
 * phase of the image needs a product of its own: good for few channels, whose phases alone would leave multipliers
 * waiting, and for kernels whose taps hardly overlap.
 *
 * A piece is some rows of the image. Blocks of rows of columns come one after the other into the workspace, which keeps
 * as many of them as rows of the image reach back. */
#include "base/cpu.h"
#include "base/memory.h"
#include "conv/parts.h"

/* Of columns, in bytes: they stay in the second-level cache. */
#define BLOCK_BYTES (9 << 16)
#define MOST_BYTES (3 << 18)

enum { MOST_TAPS = 256, MOST_STRIDE = 64 };

/* A step is `stride` rows of the padded image, or columns: step i reads rows [i - reach, i] of grad_output. */
typedef struct columns_numbers {
  int64_t channels;         /* of the columns: one for each weight of a pixel of grad_output */
  int64_t first[2], end[2]; /* steps that have pixels in the image */
  int64_t reach[2];
  int64_t block, blocks, slots; /* rows of a block; blocks; rows that are kept */
  int64_t pieces;               /* of an image */
} columns_numbers;

static int64_t kernel_of(const fonio_conv_problem *p, int axis) {
  return axis ? p->kernel_width : p->kernel_height;
}

static int64_t bytes_of(const fonio_conv_problem *p) {
  return (int64_t)fonio_dtype_bytes(p->dtype);
}

/* Whether the third-level cache, which others use, too, hardly holds an image of grad_output. */
static bool is_far(const fonio_conv_problem *p) {
  double bytes = (double)(p->out_height * p->out_width) * (double)(p->out_channels * bytes_of(p));
  return bytes > (double)conv_min(cpu_cache_sizes()->l3_bytes / 2, 24 << 20);
}

static columns_numbers numbers_of(const fonio_conv_problem *p) {
  columns_numbers n = {.channels = p->in_channels * p->kernel_height * p->kernel_width};
  for (int axis = 0; axis < 2; axis++) {
    int64_t before = p->padding[2 * axis], size = axis ? p->in_width : p->in_height;
    n.first[axis] = before / p->stride[axis];
    n.end[axis] = (before + size - 1) / p->stride[axis] + 1;
    n.reach[axis] = (kernel_of(p, axis) - 1) * p->dilation[axis] / p->stride[axis];
  }
  int64_t most = BLOCK_BYTES / (n.channels * p->out_width * bytes_of(p));
  if (n.reach[0]) most = most / 2 > n.reach[0] ? most / 2 : most - n.reach[0];
  if (is_far(p)) most = conv_min(most, BLOCK_BYTES / (p->out_channels * p->out_width * bytes_of(p)));
  n.block = conv_even(p->out_height, conv_max(1, most));
  n.blocks = conv_ceil_div(p->out_height, n.block);
  n.slots = (conv_ceil_div(n.reach[0], n.block) + 1) * n.block;
  /* What a piece reaches back to is computed twice. */
  n.pieces = n.reach[0] ? conv_max(1, n.blocks * n.block / (8 * (n.reach[0] + n.block))) : n.blocks;
  return n;
}

/* The columns, and a vector more, which the last sums read; the phases of a row. */
static int64_t bytes_of_columns(const fonio_conv_problem *p, const columns_numbers *n) {
  return conv_round_up((n->channels * n->slots * p->out_width + KERNEL_MAX_PANEL) * bytes_of(p), MEMORY_ALIGNMENT);
}

static int64_t pitch_of_phase(const columns_numbers *n) {
  return conv_round_up(n->end[1] - n->first[1], KERNEL_MAX_PANEL);
}

static int64_t bytes_of_row(const fonio_conv_problem *p, const columns_numbers *n) {
  return conv_round_up(p->stride[1] * pitch_of_phase(n) * bytes_of(p), MEMORY_ALIGNMENT);
}

/* Whether the weights of a pixel of grad_output lie side by side. */
static bool side_by_side(const fonio_conv_problem *p) {
  const int64_t *w = p->weight_strides, r = p->kernel_height, s = p->kernel_width, c = p->in_channels;
  return (w[3] == 1 && w[2] == s && w[1] == r * s) || (w[1] == 1 && w[3] == c && w[2] == s * c);
}

static bool applicable(const fonio_conv_problem *p) {
  bool alone = p->padding_mode == FONIO_ZEROS || !conv_pads(p);
  bool small = p->kernel_height * p->kernel_width <= MOST_TAPS && p->stride[0] <= MOST_STRIDE &&
               p->stride[1] <= MOST_STRIDE && p->dilation[0] <= 1024 && p->dilation[1] <= 1024;
  if (!alone || !small || p->groups > 1 || p->input_strides[3] != 1 || !side_by_side(p)) return false;
  if (p->kernel_height * p->kernel_width == 1 && p->stride[0] * p->stride[1] == 1) return false;
  columns_numbers n = numbers_of(p);
  return bytes_of_columns(p, &n) + bytes_of_row(p, &n) <= MOST_BYTES;
}

/* So many rows of columns as a convolution. */
static fonio_conv_problem problem_of(const fonio_conv_problem *p, const columns_numbers *n, int64_t rows) {
  const int64_t *in = p->output_strides;
  return (fonio_conv_problem){
      .struct_bytes = sizeof *p,
      .dtype = p->dtype,
      .batch = 1,
      .in_channels = p->out_channels,
      .in_height = rows,
      .in_width = p->out_width,
      .out_channels = n->channels,
      .out_height = rows,
      .out_width = p->out_width,
      .kernel_height = 1,
      .kernel_width = 1,
      .stride = {1, 1},
      .dilation = {1, 1},
      .groups = 1,
      .batched = true,
      .input_strides = {in[0], in[1], in[2], in[3]},
      .weight_strides = {1, p->weight_strides[0], 0, 0},
      .output_strides = {0, n->slots * p->out_width, p->out_width, 1},
  };
}

/* The part of whole blocks, and that of the last one where it is smaller. */
fonio_status conv_columns_init(fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  if (!conv_can_do(&conv_columns_input_gradient, plan)) return FONIO_OK;
  columns_numbers n = numbers_of(p);
  fonio_conv_problem whole = problem_of(p, &n, n.block), last = problem_of(p, &n, p->out_height % n.block);
  fonio_status status = conv_parts_take(&plan->columns, p, 2);
  if (!status) status = conv_parts_add_problem(plan, &plan->columns, &whole);
  if (!status && last.in_height > 0) status = conv_parts_add_problem(plan, &plan->columns, &last);
  return status;
}

static double cost_of_products(const fonio_conv_plan *plan, const columns_numbers *n) {
  const fonio_conv_plan *whole = plan->columns.list[0].plan;
  double more = (double)(plan->problem.out_height / n->block - 1);
  return conv_parts_cost(&plan->columns) + more * (whole->cycles + 200 * (double)whole->pieces);
}

/* Each column is read once more, each pixel written, with a stride one by one. */
static double cost(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  columns_numbers n = numbers_of(p);
  double twice = n.reach[0] ? (double)((n.pieces - 1) * n.reach[0]) / (double)p->out_height : 0;
  double sums = (double)(n.channels * p->out_height * p->out_width) * 1.5 / plan->kernels->lanes;
  double pixel = p->stride[1] == 1 ? 0.2 : p->stride[1] == 2 ? 0.5 : 2;
  double row = 40 + 20 * (double)p->stride[1] + (double)p->in_width * pixel;
  double rows =
      (double)p->in_height * ((double)p->in_channels * row + 8 * (double)(p->kernel_height * p->kernel_width));
  return 300 + cost_of_products(plan, &n) * (1 + twice) + sums + rows;
}

static void prepare(fonio_conv_plan *plan) {
  columns_numbers n = numbers_of(&plan->problem);
  plan->packed_bytes = plan->columns.packed_bytes;
  plan->workspace_bytes = bytes_of_columns(&plan->problem, &n) + bytes_of_row(&plan->problem, &n) +
                          conv_parts_workspace(&plan->columns, 0, plan->columns.count);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * numbers_of(&plan->problem).pieces;
}

/* ---- One piece ---- */

/* What the rows of the phases of a step are sums of: where rows of columns begin, seen from those of the channel, and
 * which of their columns comes to the first step across. */
typedef struct phase_terms {
  int64_t count[MOST_STRIDE], offsets[MOST_TAPS], columns[MOST_TAPS]; /* of each phase across, one after the other */
} phase_terms;

static void find_terms(const fonio_conv_problem *p, const columns_numbers *n, int64_t step, int64_t down,
                       phase_terms *terms) {
  const int64_t *d = p->dilation, *u = p->stride, *weight = p->weight_strides;
  int64_t count = 0;
  for (int64_t across = 0, before = 0; across < u[1]; terms->count[across++] = count - before, before = count)
    for (int64_t r = 0; r < p->kernel_height; r++) {
      int64_t row = step - r * d[0] / u[0];
      if (r * d[0] % u[0] != down || row < 0 || row >= p->out_height) continue;
      for (int64_t s = 0; s < p->kernel_width; s++) {
        if (s * d[1] % u[1] != across) continue;
        terms->offsets[count] = ((r * weight[2] + s * weight[3]) * n->slots + row % n->slots) * p->out_width;
        terms->columns[count++] = n->first[1] - s * d[1] / u[1];
      }
    }
}

/* One row of one channel of the image, `room` being there for its phases. */
static void sum_row(const fonio_conv_plan *plan, const columns_numbers *n, const phase_terms *terms,
                    const void *columns, char *room, char *to) {
  const fonio_conv_problem *p = &plan->problem;
  kernel_sums job = {0, terms->offsets, terms->columns, p->out_width, n->end[1] - n->first[1]};
  for (int64_t across = 0; across < p->stride[1]; across++) {
    job.count = terms->count[across];
    plan->kernels->row_sums(&job, columns, p->stride[1] == 1 ? to : room + across * pitch_of_phase(n) * bytes_of(p));
    job.offsets += job.count;
    job.first += job.count;
  }
  if (p->stride[1] > 1) conv_shuffle_row(p, room, pitch_of_phase(n), to);
}

/* The rows of a step. */
static void sum_step(const fonio_conv_plan *plan, const columns_numbers *n, int64_t step, const char *columns,
                     char *room, char *image) {
  const fonio_conv_problem *p = &plan->problem;
  phase_terms terms;
  for (int64_t down = 0; down < p->stride[0]; down++) {
    int64_t row = step * p->stride[0] + down - p->padding[0];
    if (row < 0 || row >= p->in_height) continue;
    find_terms(p, n, step, down, &terms);
    for (int64_t c = 0; c < p->in_channels; c++)
      sum_row(plan, n, &terms, columns + c * p->weight_strides[1] * n->slots * p->out_width * bytes_of(p), room,
              image + (c * p->input_strides[1] + row * p->input_strides[2]) * bytes_of(p));
  }
}

/* The rows of a block, which comes from memory, in the order of memory: its product reads a few pixels of all channels
 * at a time, which no processor foresees. */
static void fetch_block(const fonio_conv_problem *block, const void *from) {
  int64_t row_bytes = block->in_width * bytes_of(block);
  if (block->input_strides[3] != 1) return;
  for (int64_t c = 0; c < block->in_channels; c++)
    for (int64_t row = 0; row < block->in_height; row++)
      for (int64_t at = 0; at < row_bytes; at += 64)
        __builtin_prefetch((const char *)from +
                               (c * block->input_strides[1] + row * block->input_strides[2]) * bytes_of(block) + at,
                           0, 2);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_problem *p = &plan->problem;
  columns_numbers n = numbers_of(p);
  int64_t part = conv_take(&piece, n.pieces), block = 0;
  char *columns = workspace, *room = columns + bytes_of_columns(p, &n), *rest = room + bytes_of_row(p, &n);
  const void *grad_output = conv_at(run->buffers->grad_output, conv_output_offset(plan, piece, 0));
  char *image = (char *)run->buffers->grad_input + conv_input_offset(plan, piece, 0);
  /* Pieces end with a block, so that none of these is computed twice but what is reached back to. */
  int64_t first = part == 0 ? n.first[0] : n.blocks * part / n.pieces * n.block;
  int64_t end = part + 1 == n.pieces ? n.end[0] : n.blocks * (part + 1) / n.pieces * n.block;
  if (first > n.reach[0]) block = (first - n.reach[0]) / n.block;
  for (int64_t step = first; step < end; step++) {
    for (; block < n.blocks && block * n.block <= step; block++) {
      const conv_part *of_block = &plan->columns.list[(block + 1) * n.block > p->out_height];
      const void *from = conv_at(grad_output, block * n.block * p->output_strides[2] * bytes_of(p));
      char *to = columns + block * n.block % n.slots * p->out_width * bytes_of(p);
      if (is_far(p)) fetch_block(&of_block->plan->problem, from);
      for (int64_t j = 0; j < of_block->plan->pieces; j++)
        conv_parts_run(run, of_block, from, to, j, rest);
    }
    sum_step(plan, &n, step, columns, room, image);
  }
}

const conv_algorithm conv_columns_input_gradient = {
    .name = "columns",
    .direction = FONIO_CONV_INPUT_GRADIENT,
    .accuracy = FONIO_ACCURACY_DEFAULT,
    .applicable = applicable,
    .needs =
        "several taps or a stride, zeros as padding, columns side by side, no groups, and columns that fit a cache",
    .cost = cost,
    .prepare = prepare,
    .pack = conv_parts_pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
