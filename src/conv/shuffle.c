/* The input gradient with a stride, where the phases of the image do better apart: a block of the image is computed in
 * the workspace phase by phase, each side by side, and then shuffled into its place. So vectors are stored whole. And
 * where all phases have as many taps (a stride that divides the kernel), few channels become many: the phases are the
 * output channels of one convolution, as in Shi et al., "Real-Time Single Image and Video Super-Resolution Using an
 * Efficient Sub-Pixel Convolutional Neural Network" (2016). */
#include <string.h>

#include "conv/parts.h"

/* Elements of a block, in bytes; at least one pixel of each phase. */
#define BLOCK_BYTES (3 << 17)

/* More are not worth their plans. */
#define MOST_BLOCKS (1 << 12)

/* Of more channels a vector or a tile is full anyhow. */
#define FEW_CHANNELS 16

static bool few_channels(const fonio_conv_problem *p) {
  return p->in_channels <= FEW_CHANNELS;
}

static bool merges(const fonio_conv_problem *p) {
  return conv_parts_merge(p) && few_channels(p);
}

/* Blocks of pixels of the phases, which are counted from the corner of the padding. */
typedef struct shuffle_blocks {
  int64_t first[2]; /* the first row and column that has a pixel in the image */
  int64_t size[2];  /* rows and columns of all blocks */
  int64_t block[2]; /* of one */
  int64_t count[2]; /* of blocks down and across */
} shuffle_blocks;

static shuffle_blocks cut_blocks(const fonio_conv_problem *p) {
  shuffle_blocks b;
  int64_t phases = p->stride[0] * p->stride[1];
  int64_t most = conv_max(1, BLOCK_BYTES / (p->in_channels * phases * (int64_t)fonio_dtype_bytes(p->dtype)));
  for (int axis = 0; axis < 2; axis++) {
    int64_t before = p->padding[2 * axis], size = axis ? p->in_width : p->in_height;
    b.first[axis] = before / p->stride[axis];
    b.size[axis] = (before + size - 1) / p->stride[axis] + 1 - b.first[axis];
  }
  b.block[1] = conv_min(b.size[1], most);
  int64_t rows = b.block[1] < b.size[1] ? 1 : conv_min(b.size[0], most / b.block[1]);
  b.block[0] = conv_ceil_div(b.size[0], conv_ceil_div(b.size[0], rows)); /* blocks of nearly the same size */
  for (int axis = 0; axis < 2; axis++)
    b.count[axis] = conv_ceil_div(b.size[axis], b.block[axis]);
  return b;
}

static int64_t count_blocks(const fonio_conv_problem *p) {
  shuffle_blocks b = cut_blocks(p);
  return b.count[0] * b.count[1];
}

static bool applicable(const fonio_conv_problem *p) {
  bool strides = p->stride[0] > 1 || p->stride[1] > 1, few = p->stride[0] <= 64 && p->stride[1] <= 64;
  bool alone = p->padding_mode == FONIO_ZEROS || !conv_pads(p);
  return strides && few && alone && p->in_channels > 0 && p->in_height > 0 && p->in_width > 0 &&
         (p->input_strides[3] == 1 || few_channels(p)) && count_blocks(p) <= MOST_BLOCKS;
}

/* Block number `i`: pixels of the phases. */
static conv_region block_at(const shuffle_blocks *b, int64_t i) {
  int64_t across = conv_take(&i, b->count[1]) * b->block[1], down = i * b->block[0];
  return (conv_region){b->first[0] + down, conv_min(b->block[0], b->size[0] - down), b->first[1] + across,
                       conv_min(b->block[1], b->size[1] - across)};
}

/* How a block lies in the workspace: a phase after the other, columns side by side; or, where all are computed at once
 * for an image whose columns do not, the phases of a pixel side by side. */
static conv_place place_of(const fonio_conv_problem *p, conv_region r) {
  int64_t channels = p->in_channels, pixels = r.rows * r.columns, all = channels * p->stride[0] * p->stride[1];
  if (p->input_strides[3] == 1 || !merges(p))
    return (conv_place){{0, pixels, r.columns, 1}, {channels * pixels * p->stride[1], channels * pixels}};
  return (conv_place){{0, 1, r.columns * all, all}, {channels * p->stride[1], channels}};
}

fonio_status conv_shuffle_init(fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  if (!conv_can_do(&conv_shuffle_input_gradient, plan)) return FONIO_OK;
  shuffle_blocks b = cut_blocks(p);
  fonio_status status = conv_parts_take(&plan->shuffle, p, count_blocks(p));
  for (int64_t i = 0; i < count_blocks(p) && !status; i++) {
    conv_region r = block_at(&b, i);
    conv_place place = place_of(p, r);
    conv_region padded = {r.row * p->stride[0], r.rows * p->stride[0], r.column * p->stride[1],
                          r.columns * p->stride[1]};
    if (merges(p))
      status = conv_parts_add_merged(plan, &plan->shuffle, padded, &place);
    else
      status = conv_parts_add(plan, &plan->shuffle, padded, 1, &place, CONV_PART_BESIDE);
  }
  return status;
}

/* Each element is moved once more. */
static double cost(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  double elements = (double)p->in_channels * (double)p->in_height * (double)p->in_width;
  return 300 + conv_parts_cost(&plan->shuffle) + elements * (p->stride[1] == 2 && p->input_strides[3] == 1 ? 1 : 2);
}

static int64_t block_bytes(const fonio_conv_problem *p, conv_region r) {
  int64_t pixels = r.rows * r.columns * p->stride[0] * p->stride[1];
  return conv_round_up(pixels * p->in_channels * (int64_t)fonio_dtype_bytes(p->dtype), 64);
}

static void prepare(fonio_conv_plan *plan) {
  shuffle_blocks b = cut_blocks(&plan->problem);
  plan->packed_bytes = plan->shuffle.packed_bytes;
  plan->workspace_bytes =
      block_bytes(&plan->problem, block_at(&b, 0)) + conv_parts_workspace(&plan->shuffle, 0, plan->shuffle.count);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * count_blocks(&plan->problem);
}

/* ---- One piece ---- */

/* A block that is whole, and where it goes. */
typedef struct shuffle_work {
  conv_region block;
  conv_place from;
  int64_t to[4]; /* strides of the image */
  int64_t channels, height, width, stride[2];
  int64_t row, column; /* in the image, of the block's first pixel: may be negative */
} shuffle_work;

/* Pixels [from, to) of a phase's row or column lie in the image, `first` being where the first one would lie. */
typedef struct stretch {
  int64_t from, to;
} stretch;

static stretch inside(int64_t first, int64_t stride, int64_t count, int64_t size) {
  int64_t from = first < 0 ? conv_ceil_div(-first, stride) : 0, to = size > first ? (size - 1 - first) / stride + 1 : 0;
  to = conv_min(to, count);
  return (stretch){conv_min(from, to), to};
}

#define REAL float
#define NAMED(name) name##_f32
#define LOW_PAIRS 0, 4, 1, 5
#define HIGH_PAIRS 2, 6, 3, 7
#include "conv/shuffle.inc"
#undef REAL
#undef NAMED
#undef LOW_PAIRS
#undef HIGH_PAIRS
#define REAL double
#define NAMED(name) name##_f64
#define LOW_PAIRS 0, 2
#define HIGH_PAIRS 1, 3
#include "conv/shuffle.inc"

static void shuffle_block(const fonio_conv_problem *p, conv_region block, const void *from, void *image) {
  shuffle_work w = {
      .block = block,
      .from = place_of(p, block),
      .channels = p->in_channels,
      .height = p->in_height,
      .width = p->in_width,
      .stride = {p->stride[0], p->stride[1]},
      .row = block.row * p->stride[0] - p->padding[0],
      .column = block.column * p->stride[1] - p->padding[2],
  };
  memcpy(w.to, p->input_strides, sizeof w.to);
  if (p->dtype == FONIO_FLOAT32)
    shuffle_f32(&w, from, image);
  else
    shuffle_f64(&w, from, image);
}

void conv_shuffle_row(const fonio_conv_problem *p, const void *phases, int64_t pitch, void *row) {
  int64_t first = p->padding[2] / p->stride[1];
  shuffle_work w = {
      .block = {0, 1, first, (p->padding[2] + p->in_width - 1) / p->stride[1] + 1 - first},
      .from = {.phase = {0, pitch}},
      .width = p->in_width,
      .stride = {p->stride[0], p->stride[1]},
      .column = first * p->stride[1] - p->padding[2],
  };
  if (p->dtype == FONIO_FLOAT32)
    shuffle_row_f32(&w, phases, (float *)row + w.column);
  else
    shuffle_row_f64(&w, phases, (double *)row + w.column);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_problem *p = &plan->problem;
  shuffle_blocks b = cut_blocks(p);
  int64_t blocks = count_blocks(p), parts = plan->shuffle.count / blocks, i = conv_take(&piece, blocks);
  const conv_part *part = plan->shuffle.list + i * parts;
  const void *grad_output = conv_at(run->buffers->grad_output, conv_output_offset(plan, piece, 0));
  conv_region block = block_at(&b, i);
  char *rest = (char *)workspace + block_bytes(p, block_at(&b, 0));
  if (!merges(p) && parts < p->stride[0] * p->stride[1]) memset(workspace, 0, (size_t)block_bytes(p, block));
  for (const conv_part *end = part + parts; part < end; part++)
    for (int64_t j = 0; j < part->plan->pieces; j++)
      conv_parts_run(run, part, grad_output, workspace, j, rest);
  shuffle_block(p, block, workspace, (char *)run->buffers->grad_input + conv_input_offset(plan, piece, 0));
}

const conv_algorithm conv_shuffle_input_gradient = {
    .name = "shuffle",
    .direction = FONIO_CONV_INPUT_GRADIENT,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "a stride, zeros as padding, and columns side by side or few channels",
    .cost = cost,
    .prepare = prepare,
    .pack = conv_parts_pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
