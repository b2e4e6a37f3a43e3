/* The input gradient as forward convolutions of grad_output with the weight turned by half a turn, its channels in and
 * out changed places: whatever a forward algorithm does at full speed, this does. One for each phase of the image;
 * pixels of a phase without taps are zeros. */
#include <string.h>

#include "conv/parts.h"

static bool applicable(const fonio_conv_problem *p) {
  return conv_folds_count(p) >= 0;
}

/* Whether there are pixels that no tap reaches: those of an image are cleared in a piece of their own, or by the blocks
 * of the only part. */
static bool leaves_pixels(const fonio_conv_problem *p) {
  bool all = true;
  for (int64_t row = 0; all && row < conv_min(p->stride[0], p->in_height); row++)
    all = conv_has_taps(p, 0, row);
  for (int64_t column = 0; all && column < conv_min(p->stride[1], p->in_width); column++)
    all = conv_has_taps(p, 1, column);
  return !all;
}

static void let_part_clear(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  const conv_part *part = plan->phases.list;
  bool dense = p->input_strides[3] == 1 && p->input_strides[2] == p->in_width;
  if (plan->image_parts == 1 && part->output == 0 && dense && leaves_pixels(p) && conv_rows_turns_rows(part->plan))
    part->plan->clears = p->in_height * p->in_width;
}

fonio_status conv_phases_init(fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  const int64_t *out = p->input_strides;
  if (!conv_can_do(&conv_phases_input_gradient, plan)) return FONIO_OK;
  conv_region image = {p->padding[0], p->in_height, p->padding[2], p->in_width};
  conv_place place = {{out[0], out[1], out[2] * p->stride[0], out[3] * p->stride[1]}, {out[2], out[3]}};
  fonio_status status = conv_parts_take(&plan->phases, p, conv_folds_count(p) + 1);
  if (!status) status = conv_parts_add(plan, &plan->phases, image, p->batch, &place, CONV_PART_IN_PLACE);
  plan->image_parts = plan->phases.count;
  if (!status) let_part_clear(plan);
  return status ? status : conv_folds_init(plan);
}

static double cost(const fonio_conv_plan *plan) {
  return 300 + conv_parts_cost(&plan->phases);
}

static void prepare(fonio_conv_plan *plan) {
  plan->packed_bytes = plan->phases.packed_bytes;
  plan->workspace_bytes =
      conv_max(conv_parts_workspace(&plan->phases, 0, plan->image_parts), conv_folds_workspace(plan));
}

/* Elements that lie `apart` from each other, in bytes. */
static void clear_line(char *line, int64_t count, int64_t apart, int64_t bytes) {
  if (apart == bytes)
    memset(line, 0, (size_t)(count * bytes));
  else if (bytes == sizeof(float))
    for (int64_t i = 0; i < count; i++)
      memset(line + i * apart, 0, sizeof(float));
  else
    for (int64_t i = 0; i < count; i++)
      memset(line + i * apart, 0, sizeof(double));
}

/* Line by line: along the second dimension where its elements lie side by side, else along the last. */
static void clear(char *array, const int64_t shape[4], const int64_t strides[4], int64_t bytes) {
  int line = strides[1] == 1 ? 1 : 3, other = 4 - line;
  for (int64_t i = 0; i < shape[0]; i++)
    for (int64_t j = 0; j < shape[other]; j++)
      for (int64_t k = 0; k < shape[2]; k++)
        clear_line(array + bytes * (i * strides[0] + j * strides[other] + k * strides[2]), shape[line],
                   bytes * strides[line], bytes);
}

/* Every stride-th row from `row` on; all of its columns, or every stride-th one from `column` on. */
static void clear_phase(const fonio_conv_problem *p, int64_t row, int64_t column, bool whole_rows, char *image) {
  int64_t bytes = (int64_t)fonio_dtype_bytes(p->dtype), step = whole_rows ? 1 : p->stride[1];
  const int64_t *s = p->input_strides;
  const int64_t shape[4] = {1, p->in_channels, conv_ceil_div(p->in_height - row, p->stride[0]),
                            conv_ceil_div(p->in_width - column, step)};
  const int64_t strides[4] = {0, s[1], s[2] * p->stride[0], s[3] * step};
  clear(image + (row * s[2] + column * s[3]) * bytes, shape, strides, bytes);
}

static void clear_image(const fonio_conv_problem *p, char *image) {
  for (int64_t row = 0; row < conv_min(p->stride[0], p->in_height); row++) {
    if (!conv_has_taps(p, 0, row)) {
      clear_phase(p, row, 0, true, image);
      continue;
    }
    for (int64_t column = 0; column < conv_min(p->stride[1], p->in_width); column++)
      if (!conv_has_taps(p, 1, column)) clear_phase(p, row, column, false, image);
  }
}

static int64_t pieces(const fonio_conv_plan *plan) {
  bool clears = plan->image_parts == 1 && plan->phases.list->plan->clears;
  int64_t sum = leaves_pixels(&plan->problem) && !clears ? plan->problem.batch : 0;
  for (int64_t i = 0; i < plan->image_parts; i++)
    sum += plan->phases.list[i].plan->pieces;
  return sum;
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const conv_part *part = plan->phases.list, *end = part + plan->image_parts;
  for (; part < end && piece >= part->plan->pieces; part++)
    piece -= part->plan->pieces;
  if (part < end)
    conv_parts_run(run, part, run->buffers->grad_output, run->buffers->grad_input, piece, workspace);
  else
    clear_image(&plan->problem, (char *)run->buffers->grad_input + conv_input_offset(plan, piece, 0));
}

const conv_algorithm conv_phases_input_gradient = {
    .name = "phases",
    .direction = FONIO_CONV_INPUT_GRADIENT,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "padding that is not enormous",
    .cost = cost,
    .prepare = prepare,
    .pack = conv_parts_pack,
    .pieces = pieces,
    .run_piece = run_piece,
    .last_pieces = conv_folds_pieces,
    .run_last = conv_folds_run,
};
