/* The input gradient where padding shows pixels of the image (reflect, replicate, circular): what comes to a padded
 * pixel goes to the pixel that it shows. The image's own pixels are whole by then. The padding is cut into blocks, each
 * computed in the workspace like a piece of the image; then its rows are added, one after the other. So each pixel gets
 * its shares in the order of the padded rows and columns, whatever the blocks. */
#include <string.h>

#include "base/checked.h"
#include "base/memory.h"
#include "conv/parts.h"

/* Elements of a block, in bytes; at least one pixel. */
#define BLOCK_BYTES (1 << 18)

/* More are left to the plain loops. */
#define MOST_BLOCKS (1 << 14)

static bool shows_pixels(const fonio_conv_problem *p) {
  return p->padding_mode != FONIO_ZEROS && conv_pads(p);
}

/* The padding as four rectangles, in the order in which they are folded. */
static void list_sides(const fonio_conv_problem *p, conv_region sides[4]) {
  const int64_t *pad = p->padding;
  int64_t columns = pad[2] + p->in_width + pad[3];
  sides[0] = (conv_region){0, pad[0], 0, columns};
  sides[1] = (conv_region){pad[0], p->in_height, 0, pad[2]};
  sides[2] = (conv_region){pad[0], p->in_height, pad[2] + p->in_width, pad[3]};
  sides[3] = (conv_region){pad[0] + p->in_height, pad[1], 0, columns};
}

/* The size of a side's blocks: whole rows, or a part of one. */
static conv_region block_of(const fonio_conv_problem *p, conv_region side) {
  int64_t most = conv_max(1, BLOCK_BYTES / (p->in_channels * (int64_t)fonio_dtype_bytes(p->dtype)));
  int64_t columns = conv_min(side.columns, most);
  return (conv_region){.rows = conv_min(side.rows, most / columns), .columns = columns};
}

int64_t conv_folds_count(const fonio_conv_problem *p) {
  conv_region sides[4];
  int64_t sum = 0, count;
  if (!shows_pixels(p)) return 0;
  list_sides(p, sides);
  for (int i = 0; i < 4; i++) {
    if (sides[i].rows == 0 || sides[i].columns == 0) continue;
    conv_region block = block_of(p, sides[i]);
    if (!checked_mul(conv_ceil_div(sides[i].rows, block.rows), conv_ceil_div(sides[i].columns, block.columns),
                     &count) ||
        !checked_add(sum, count, &sum) || sum > MOST_BLOCKS)
      return -1;
  }
  return sum;
}

/* A block's own strides: of the image's layout. */
static void find_strides(const fonio_conv_problem *p, conv_region block, int64_t strides[4]) {
  bool channels_last = p->input_strides[1] == 1 && p->in_channels > 1;
  strides[0] = 0;
  strides[1] = channels_last ? 1 : block.rows * block.columns;
  strides[3] = channels_last ? p->in_channels : 1;
  strides[2] = strides[3] * block.columns;
}

static fonio_status add_fold(fonio_conv_plan *plan, conv_region region) {
  conv_fold *fold = &plan->folds[plan->fold_count++];
  int64_t strides[4];
  find_strides(&plan->problem, region, strides);
  fold->region = region;
  fold->first_part = plan->phases.count;
  conv_place place = {{0, strides[1], strides[2] * plan->problem.stride[0], strides[3] * plan->problem.stride[1]},
                      {strides[2], strides[3]}};
  fonio_status status = conv_parts_add(plan, &plan->phases, region, 1, &place, CONV_PART_OF_PADDING);
  fold->end_part = plan->phases.count;
  return status;
}

static fonio_status add_side(fonio_conv_plan *plan, conv_region side) {
  if (side.rows == 0 || side.columns == 0) return FONIO_OK;
  conv_region block = block_of(&plan->problem, side);
  for (int64_t i = 0; i < side.rows; i += block.rows)
    for (int64_t j = 0; j < side.columns; j += block.columns) {
      conv_region region = {side.row + i, conv_min(block.rows, side.rows - i), side.column + j,
                            conv_min(block.columns, side.columns - j)};
      fonio_status status = add_fold(plan, region);
      if (status) return status;
    }
  return FONIO_OK;
}

fonio_status conv_folds_init(fonio_conv_plan *plan) {
  conv_region sides[4];
  int64_t bytes, count = conv_folds_count(&plan->problem);
  if (count == 0) return FONIO_OK;
  if (!checked_mul(count, sizeof *plan->folds, &bytes)) bytes = INT64_MAX;
  plan->folds = memory_take(bytes);
  if (!plan->folds) return FONIO_NO_MEMORY;
  list_sides(&plan->problem, sides);
  fonio_status status = FONIO_OK;
  for (int i = 0; i < 4 && !status; i++)
    status = add_side(plan, sides[i]);
  return status;
}

/* ---- Running ---- */

static int64_t block_bytes(const fonio_conv_problem *p, conv_region r) {
  return r.rows * r.columns * p->in_channels * (int64_t)fonio_dtype_bytes(p->dtype);
}

/* The largest block, with room after it for the parts. */
static int64_t room_for_block(const fonio_conv_plan *plan) {
  int64_t most = 0;
  for (int64_t i = 0; i < plan->fold_count; i++)
    most = conv_max(most, block_bytes(&plan->problem, plan->folds[i].region));
  return conv_round_up(most, MEMORY_ALIGNMENT);
}

int64_t conv_folds_workspace(const fonio_conv_plan *plan) {
  int64_t of_parts = conv_parts_workspace(&plan->phases, plan->image_parts, plan->phases.count);
  return plan->fold_count ? room_for_block(plan) + of_parts : 0;
}

/* The numbers with which a block is added to its image, pixel by pixel. */
typedef struct fold_work {
  conv_region region;
  const int64_t *rows, *columns;    /* which ones the block's show */
  int64_t channels, from[4], to[4]; /* strides of the block and of the image */
} fold_work;

#define REAL float
#define ADD_BLOCK add_f32
#include "conv/fold.inc"
#undef REAL
#undef ADD_BLOCK
#define REAL double
#define ADD_BLOCK add_f64
#include "conv/fold.inc"

static void add_block(const fonio_conv_plan *plan, conv_region region, const void *block, void *image) {
  const fonio_conv_problem *p = &plan->problem;
  fold_work w = {
      .region = region,
      .rows = plan->geometry.rows + region.row,
      .columns = plan->geometry.columns + region.column,
      .channels = p->in_channels,
  };
  find_strides(p, region, w.from);
  memcpy(w.to, p->input_strides, sizeof w.to);
  if (p->dtype == FONIO_FLOAT32)
    add_f32(&w, block, image);
  else
    add_f64(&w, block, image);
}

static void run_fold(const conv_run *run, const conv_fold *fold, int64_t image, void *block, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const void *grad_output = conv_at(run->buffers->grad_output, conv_output_offset(plan, image, 0));
  memset(block, 0, (size_t)block_bytes(&plan->problem, fold->region)); /* not all pixels have taps */
  for (int64_t i = fold->first_part; i < fold->end_part; i++)
    for (int64_t piece = 0; piece < plan->phases.list[i].plan->pieces; piece++)
      conv_parts_run(run, &plan->phases.list[i], grad_output, block, piece, workspace);
  add_block(plan, fold->region, block, (char *)run->buffers->grad_input + conv_input_offset(plan, image, 0));
}

int64_t conv_folds_pieces(const fonio_conv_plan *plan) {
  return plan->fold_count ? plan->problem.batch : 0;
}

void conv_folds_run(const conv_run *run, int64_t image, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  for (int64_t i = 0; i < plan->fold_count; i++)
    run_fold(run, &plan->folds[i], image, workspace, (char *)workspace + room_for_block(plan));
}
