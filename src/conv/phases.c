/* The input gradient as forward convolutions of grad_output with the weight turned by half a turn, its channels in and
 * out changed places: whatever a forward algorithm does at full speed, this does.
 *
 * With a stride, pixels of the image (counted with the padding) that have the same remainder by the stride make a
 * phase: an image of its own, of which each pixel reads the same taps. So each phase is a convolution of stride 1 with
 * some of the taps, and no zeros are put between the pixels of grad_output. Nothing is copied: a phase of the image,
 * the taps of a phase and the turned weight are strides and a first element. Pixels of a phase without taps are zeros.
 */
#include <string.h>

#include "base/checked.h"
#include "base/memory.h"
#include "conv/plan.h"

/* ---- The phases ---- */

/* A phase along one axis. */
typedef struct axis_phase {
  int64_t last_tap, tap_step, taps; /* the taps as they are turned: from the last one back */
  int64_t dilation, padding;        /* of the convolution over grad_output */
  int64_t first, pixels;            /* of the image */
} axis_phase;

static int64_t common_divisor(int64_t a, int64_t b) {
  return b ? common_divisor(b, a % b) : a;
}

static int64_t kernel_of(const fonio_conv_problem *p, int axis) {
  return axis ? p->kernel_width : p->kernel_height;
}

/* How many phases have taps. */
static int64_t phases_along(const fonio_conv_problem *p, int axis) {
  int64_t stride = p->stride[axis];
  return conv_min(kernel_of(p, axis), stride / common_divisor(stride, p->dilation[axis]));
}

/* The phase that tap `tap` comes first in, of `size` padded pixels from `start` on. Pixel first + stride * i of them
 * reads with tap number j of the phase, counted backwards, row (or column) i + j * dilation - padding of grad_output.
 */
static axis_phase phase_of(const fonio_conv_problem *p, int axis, int64_t tap, int64_t start, int64_t size) {
  int64_t stride = p->stride[axis], dilation = p->dilation[axis], divisor = common_divisor(stride, dilation);
  int64_t first = (dilation * tap - start) % stride;
  axis_phase f = {
      .tap_step = stride / divisor,
      .dilation = dilation / divisor,
      .first = first < 0 ? first + stride : first,
  };
  f.taps = (kernel_of(p, axis) - 1 - tap) / f.tap_step + 1;
  f.last_tap = tap + (f.taps - 1) * f.tap_step;
  f.pixels = f.first < size ? (size - 1 - f.first) / stride + 1 : 0;
  f.padding = (dilation * tap - f.first - start) / stride + f.dilation * (f.taps - 1);
  return f;
}

/* ---- The parts of a plan ---- */

/* The convolution of a phase. */
static fonio_conv_problem problem_of(const fonio_conv_problem *p, const axis_phase f[2], int64_t batch,
                                     const int64_t out[4]) {
  const int64_t *in = p->output_strides, *w = p->weight_strides;
  return (fonio_conv_problem){
      .struct_bytes = sizeof *p,
      .dtype = p->dtype,
      .batch = batch,
      .in_channels = p->out_channels,
      .in_height = p->out_height,
      .in_width = p->out_width,
      .out_channels = p->in_channels,
      .out_height = f[0].pixels,
      .out_width = f[1].pixels,
      .kernel_height = f[0].taps,
      .kernel_width = f[1].taps,
      .stride = {1, 1},
      .dilation = {f[0].dilation, f[1].dilation},
      .padding = {f[0].padding, f[0].pixels + f[0].dilation * (f[0].taps - 1) - p->out_height - f[0].padding,
                  f[1].padding, f[1].pixels + f[1].dilation * (f[1].taps - 1) - p->out_width - f[1].padding},
      .groups = p->groups,
      .batched = true,
      .input_strides = {in[0], in[1], in[2], in[3]},
      .weight_strides = {w[1], w[0], -w[2] * f[0].tap_step, -w[3] * f[1].tap_step},
      .output_strides = {out[0], out[1], out[2] * p->stride[0], out[3] * p->stride[1]},
  };
}

/* Whether two parts take the same taps. */
static bool same_taps(const conv_part *a, const conv_part *b) {
  const fonio_conv_problem *p = &a->plan->problem, *q = &b->plan->problem;
  return a->last_tap[0] == b->last_tap[0] && a->last_tap[1] == b->last_tap[1] && a->tap_step[0] == b->tap_step[0] &&
         a->tap_step[1] == b->tap_step[1] && p->kernel_height == q->kernel_height && p->kernel_width == q->kernel_width;
}

static bool same_packed(const conv_part *a, const conv_part *b) {
  return same_taps(a, b) && a->plan->algorithm == b->plan->algorithm && a->plan->kernels == b->plan->kernels;
}

/* What a fold leaves of the workspace that this project allows itself. */
static int64_t most_workspace(const fonio_conv_problem *p) {
  return (1 << 19) + 8192 * (p->in_channels + p->out_channels);
}

/* Parts of folds take the algorithm of the image's part with the same taps, so as to share its packed weights. */
static const conv_algorithm *algorithm_of_image(const fonio_conv_plan *plan, const axis_phase f[2]) {
  for (int64_t i = 0; i < plan->image_parts; i++)
    if (plan->parts[i].last_tap[0] == f[0].last_tap && plan->parts[i].last_tap[1] == f[1].last_tap)
      return plan->parts[i].plan->algorithm;
  return NULL;
}

static fonio_status add_part(fonio_conv_plan *plan, const axis_phase f[2], int64_t batch, const int64_t strides[4]) {
  const fonio_conv_problem *p = &plan->problem;
  fonio_conv_problem problem = problem_of(p, f, batch, strides);
  int64_t group_stride = p->out_channels / p->groups * p->weight_strides[0];
  fonio_conv_plan *part = conv_plan_part(&problem, group_stride, plan->accuracy, algorithm_of_image(plan, f));
  if (part && plan->image_parts && part->workspace_bytes > most_workspace(p)) {
    fonio_conv_plan_release(part);
    part = conv_plan_part(&problem, group_stride, plan->accuracy, &conv_packed_forward);
  }
  if (!part) return FONIO_NO_MEMORY;
  plan->parts[plan->part_count++] = (conv_part){
      .plan = part,
      .weight = f[0].last_tap * p->weight_strides[2] + f[1].last_tap * p->weight_strides[3],
      .output = f[0].first * strides[2] + f[1].first * strides[3],
      .last_tap = {f[0].last_tap, f[1].last_tap},
      .tap_step = {f[0].tap_step, f[1].tap_step},
  };
  return FONIO_OK;
}

fonio_status conv_phases_add(fonio_conv_plan *plan, conv_region g, int64_t batch, const int64_t strides[4]) {
  const fonio_conv_problem *p = &plan->problem;
  for (int64_t r = 0; r < phases_along(p, 0); r++)
    for (int64_t s = 0; s < phases_along(p, 1); s++) {
      axis_phase f[2] = {phase_of(p, 0, r, g.row, g.rows), phase_of(p, 1, s, g.column, g.columns)};
      fonio_status status = f[0].pixels && f[1].pixels ? add_part(plan, f, batch, strides) : FONIO_OK;
      if (status) return status;
    }
  return FONIO_OK;
}

static bool applicable(const fonio_conv_problem *p) {
  return conv_folds_count(p) >= 0;
}

fonio_status conv_phases_init(fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  if (!conv_can_do(&conv_phases_input_gradient, plan)) return FONIO_OK;
  int64_t count, bytes;
  if (!checked_mul(phases_along(p, 0), phases_along(p, 1), &count) ||
      !checked_mul(count, conv_folds_count(p) + 1, &count) || !checked_mul(count, sizeof *plan->parts, &bytes))
    bytes = INT64_MAX;
  plan->parts = memory_take(bytes);
  if (!plan->parts) return FONIO_NO_MEMORY;
  conv_region image = {p->padding[0], p->in_height, p->padding[2], p->in_width};
  fonio_status status = conv_phases_add(plan, image, p->batch, p->input_strides);
  if (status) return status;
  plan->image_parts = plan->part_count;
  return conv_folds_init(plan);
}

/* The part before `part` whose packed weights serve it, too; itself if there is none. */
static const conv_part *owner_of(const fonio_conv_plan *plan, const conv_part *part) {
  const conv_part *owner = plan->parts;
  while (owner < part && !same_packed(owner, part))
    owner++;
  return owner;
}

/* The next part from `i` on that has packed weights of its own. */
static int64_t next_owner(const fonio_conv_plan *plan, int64_t i) {
  while (i < plan->part_count && owner_of(plan, &plan->parts[i]) != &plan->parts[i])
    i++;
  return i;
}

bool conv_phases_alike(const fonio_conv_plan *a, const fonio_conv_plan *b) {
  int64_t i = next_owner(a, 0), j = next_owner(b, 0);
  while (i < a->part_count && j < b->part_count && same_packed(&a->parts[i], &b->parts[j]))
    i = next_owner(a, i + 1), j = next_owner(b, j + 1);
  return i == a->part_count && j == b->part_count;
}

/* ---- The algorithm ---- */

static double cost(const fonio_conv_plan *plan) {
  double cycles = 300;
  for (int64_t i = 0; i < plan->part_count; i++)
    cycles += plan->parts[i].plan->cycles / (double)plan->parts[i].plan->problem.batch;
  return cycles;
}

static void prepare(fonio_conv_plan *plan) {
  plan->packed_bytes = 0;
  plan->workspace_bytes = conv_folds_workspace(plan);
  for (int64_t i = 0; i < plan->part_count; i++) {
    conv_part *part = &plan->parts[i];
    const conv_part *owner = owner_of(plan, part);
    part->packed = owner < part ? owner->packed : plan->packed_bytes;
    if (owner == part) plan->packed_bytes += conv_round_up(part->plan->packed_bytes, MEMORY_ALIGNMENT);
    if (i < plan->image_parts) plan->workspace_bytes = conv_max(plan->workspace_bytes, part->plan->workspace_bytes);
  }
}

/* Whether row (or column) `pixel` of the image has taps. */
static bool has_taps(const fonio_conv_problem *p, int axis, int64_t pixel) {
  int64_t remainder = (pixel + p->padding[2 * axis]) % p->stride[axis];
  for (int64_t tap = 0; tap < phases_along(p, axis); tap++)
    if (p->dilation[axis] * tap % p->stride[axis] == remainder) return true;
  return false;
}

/* Whether there are pixels that no tap reaches: those of an image are cleared in a piece of their own. */
static bool leaves_pixels(const fonio_conv_problem *p) {
  bool all = true;
  for (int64_t row = 0; all && row < conv_min(p->stride[0], p->in_height); row++)
    all = has_taps(p, 0, row);
  for (int64_t column = 0; all && column < conv_min(p->stride[1], p->in_width); column++)
    all = has_taps(p, 1, column);
  return !all;
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
    if (!has_taps(p, 0, row)) {
      clear_phase(p, row, 0, true, image);
      continue;
    }
    for (int64_t column = 0; column < conv_min(p->stride[1], p->in_width); column++)
      if (!has_taps(p, 1, column)) clear_phase(p, row, column, false, image);
  }
}

static const void *weight_of(const fonio_conv_plan *plan, const conv_part *part, const void *weight) {
  return conv_at(weight, part->weight * (int64_t)fonio_dtype_bytes(plan->problem.dtype));
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  bool finite = true;
  for (int64_t i = 0; i < plan->part_count; i = next_owner(plan, i + 1)) {
    const conv_part *part = &plan->parts[i];
    finite &= part->plan->algorithm->pack(part->plan, weight_of(plan, part, weight), (char *)packed + part->packed);
  }
  return finite;
}

static int64_t pieces(const fonio_conv_plan *plan) {
  int64_t sum = leaves_pixels(&plan->problem) ? plan->problem.batch : 0;
  for (int64_t i = 0; i < plan->image_parts; i++)
    sum += plan->parts[i].plan->pieces;
  return sum;
}

void conv_phases_run(const conv_run *run, const conv_part *part, const void *grad_output, void *output, int64_t piece,
                     void *workspace) {
  int64_t bytes = (int64_t)fonio_dtype_bytes(run->plan->problem.dtype);
  fonio_conv_buffers buffers = {.input = grad_output, .output = (char *)output + part->output * bytes};
  conv_run part_run = {part->plan, &buffers, conv_at(run->packed, part->packed)};
  part->plan->algorithm->run_piece(&part_run, piece, workspace);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const conv_part *part = plan->parts, *end = part + plan->image_parts;
  for (; part < end && piece >= part->plan->pieces; part++)
    piece -= part->plan->pieces;
  if (part < end)
    conv_phases_run(run, part, run->buffers->grad_output, run->buffers->grad_input, piece, workspace);
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
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
    .run_last = conv_folds_run,
};
