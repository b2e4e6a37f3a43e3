/* The parts of an input gradient: phases, made into plans of forward convolutions. */
#include "conv/parts.h"

#include <string.h>

#include "base/checked.h"
#include "base/memory.h"

/* ---- Phases ---- */

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

int64_t conv_phases_along(const fonio_conv_problem *p, int axis) {
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

/* Leaves out the first and last taps (but one) that read no row (or column) of grad_output for any pixel. */
static void trim_taps(const fonio_conv_problem *p, int axis, axis_phase *f) {
  int64_t outputs = axis ? p->out_width : p->out_height;
  for (; f->taps > 1 && f->pixels - 1 < f->padding; f->taps--, f->last_tap -= f->tap_step)
    f->padding -= f->dilation;
  while (f->taps > 1 && f->dilation * (f->taps - 1) - f->padding >= outputs)
    f->taps--;
}

bool conv_has_taps(const fonio_conv_problem *p, int axis, int64_t pixel) {
  int64_t remainder = (pixel + p->padding[2 * axis]) % p->stride[axis];
  for (int64_t tap = 0; tap < conv_phases_along(p, axis); tap++)
    if (p->dilation[axis] * tap % p->stride[axis] == remainder) return true;
  return false;
}

/* ---- Parts ---- */

/* The convolution of a phase. */
static fonio_conv_problem problem_of(const fonio_conv_problem *p, const axis_phase f[2], int64_t batch,
                                     const conv_place *place) {
  const int64_t *in = p->output_strides, *out = place->strides, *w = p->weight_strides;
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
      .output_strides = {out[0], out[1], out[2], out[3]},
  };
}

/* Output channels of a part whose pixels are cut into patches: the sums of all channels of a patch stay near, so that
 * more channels make for smaller patches, each of which reads all of the weights. */
#define CHANNELS_WITH_PATCHES 512

/* Whether two parts take the same taps. */
static bool same_taps(const conv_part *a, const conv_part *b) {
  const fonio_conv_problem *p = &a->plan->problem, *q = &b->plan->problem;
  return a->last_tap[0] == b->last_tap[0] && a->last_tap[1] == b->last_tap[1] && a->tap_step[0] == b->tap_step[0] &&
         a->tap_step[1] == b->tap_step[1] && p->kernel_height == q->kernel_height && p->kernel_width == q->kernel_width;
}

static bool same_packed(const conv_part *a, const conv_part *b) {
  return same_taps(a, b) && a->merged == b->merged && a->channel == b->channel &&
         a->plan->problem.out_channels == b->plan->problem.out_channels && a->plan->algorithm == b->plan->algorithm;
}

/* What a block leaves of the workspace that this project allows itself. */
static int64_t most_workspace(const fonio_conv_problem *p) {
  return (1 << 19) + 8192 * (p->in_channels + p->out_channels);
}

fonio_status conv_parts_take(conv_parts *parts, const fonio_conv_problem *p, int64_t regions) {
  int64_t count, bytes, cuts = conv_ceil_div(p->in_channels, CHANNELS_WITH_PATCHES);
  if (!checked_mul(conv_phases_along(p, 0), conv_phases_along(p, 1), &count) || !checked_mul(count, regions, &count) ||
      !checked_mul(count, cuts, &count) || !checked_mul(count, sizeof *parts->list, &bytes))
    bytes = INT64_MAX;
  parts->list = memory_take(bytes);
  return parts->list ? FONIO_OK : FONIO_NO_MEMORY;
}

/* An earlier part with the same taps as one that has no plan yet; NULL: none. */
static const conv_part *first_with_taps(const conv_parts *parts, const conv_part *part) {
  for (int64_t i = 0; i < parts->count; i++)
    if (memcmp(parts->list[i].last_tap, part->last_tap, sizeof part->last_tap) == 0) return &parts->list[i];
  return NULL;
}

/* Finds its packed weights a place, and it one in the list. */
static void keep_part(conv_parts *parts, conv_part part, int64_t copy_bytes) {
  const conv_part *owner = parts->list, *end = owner + parts->count;
  while (owner < end && !same_packed(owner, &part))
    owner++;
  part.packs = owner == end;
  part.packed = part.packs ? parts->packed_bytes : owner->packed;
  if (part.packs) parts->packed_bytes += conv_round_up(part.plan->packed_bytes, MEMORY_ALIGNMENT) + copy_bytes;
  parts->list[parts->count++] = part;
}

/* By the algorithm that is known to serve its taps. */
static fonio_status plan_part(const fonio_conv_plan *plan, const conv_parts *parts, const fonio_conv_problem *problem,
                              int64_t group_stride, bool beside, conv_part *part) {
  const conv_part *known = first_with_taps(parts, part);
  part->plan = conv_plan_part(plan, problem, group_stride, known ? known->plan->algorithm : NULL);
  if (part->plan && beside && part->plan->workspace_bytes > most_workspace(&plan->problem)) {
    fonio_conv_plan_release(part->plan);
    part->plan = conv_plan_part(plan, problem, group_stride, &conv_packed_forward);
  }
  return part->plan ? FONIO_OK : FONIO_NO_MEMORY;
}

static fonio_status add_part(const fonio_conv_plan *plan, conv_parts *parts, const axis_phase f[2], int64_t batch,
                             const conv_place *place, int64_t channel, int64_t channels, bool beside) {
  const fonio_conv_problem *p = &plan->problem;
  fonio_conv_problem problem = problem_of(p, f, batch, place);
  conv_part part = {
      .weight =
          f[0].last_tap * p->weight_strides[2] + f[1].last_tap * p->weight_strides[3] + channel * p->weight_strides[1],
      .output = f[0].first * place->phase[0] + f[1].first * place->phase[1] + channel * place->strides[1],
      .channel = channel,
      .last_tap = {f[0].last_tap, f[1].last_tap},
      .tap_step = {f[0].tap_step, f[1].tap_step},
  };
  problem.out_channels = channels;
  int64_t group_stride = p->out_channels / p->groups * p->weight_strides[0];
  fonio_status status = plan_part(plan, parts, &problem, group_stride, beside, &part);
  if (status) return status;
  if (channels == p->in_channels && channels > CHANNELS_WITH_PATCHES && part.plan->blocks.patch && p->groups == 1) {
    fonio_conv_plan_release(part.plan);
    int64_t few = conv_even(channels, CHANNELS_WITH_PATCHES);
    for (int64_t c = 0; c < channels && !status; c += few)
      status = add_part(plan, parts, f, batch, place, c, conv_min(few, channels - c), beside);
    return status;
  }
  keep_part(parts, part, 0);
  return FONIO_OK;
}

fonio_status conv_parts_add(const fonio_conv_plan *plan, conv_parts *parts, conv_region g, int64_t batch,
                            const conv_place *place, conv_part_kind kind) {
  const fonio_conv_problem *p = &plan->problem;
  for (int64_t r = 0; r < conv_phases_along(p, 0); r++)
    for (int64_t s = 0; s < conv_phases_along(p, 1); s++) {
      axis_phase f[2] = {phase_of(p, 0, r, g.row, g.rows), phase_of(p, 1, s, g.column, g.columns)};
      if (!f[0].pixels || !f[1].pixels) continue;
      for (int axis = 0; axis < 2 && kind == CONV_PART_OF_PADDING; axis++)
        trim_taps(p, axis, &f[axis]);
      fonio_status status = add_part(plan, parts, f, batch, place, 0, p->in_channels, kind != CONV_PART_IN_PLACE);
      if (status) return status;
    }
  return FONIO_OK;
}

/* ---- All phases in one part ---- */

bool conv_parts_merge(const fonio_conv_problem *p) {
  return p->groups == 1 && p->dilation[0] == 1 && p->dilation[1] == 1 && p->kernel_height % p->stride[0] == 0 &&
         p->kernel_width % p->stride[1] == 0;
}

/* The weights of all phases, contiguous: (phase down, phase across, channel of the image, channel of grad_output,
 * taps).
 */
static int64_t bytes_of_copy(const fonio_conv_problem *p) {
  return conv_round_up(p->out_channels * p->in_channels * p->kernel_height * p->kernel_width *
                           (int64_t)fonio_dtype_bytes(p->dtype),
                       MEMORY_ALIGNMENT);
}

fonio_status conv_parts_add_merged(const fonio_conv_plan *plan, conv_parts *parts, conv_region g,
                                   const conv_place *place) {
  const fonio_conv_problem *p = &plan->problem;
  axis_phase f[2] = {phase_of(p, 0, 0, g.row, g.rows), phase_of(p, 1, 0, g.column, g.columns)};
  fonio_conv_problem problem = problem_of(p, f, 1, place);
  int64_t taps = f[0].taps * f[1].taps;
  const int64_t strides[4] = {p->out_channels * taps, taps, f[1].taps, 1};
  problem.out_channels = p->in_channels * p->stride[0] * p->stride[1];
  memcpy(problem.weight_strides, strides, sizeof strides);
  conv_part part = {
      .merged = true,
      .last_tap = {f[0].last_tap, f[1].last_tap},
      .tap_step = {f[0].tap_step, f[1].tap_step},
  };
  fonio_status status = plan_part(plan, parts, &problem, 0, true, &part);
  if (!status) keep_part(parts, part, bytes_of_copy(p));
  return status;
}

fonio_status conv_parts_add_problem(const fonio_conv_plan *plan, conv_parts *parts, const fonio_conv_problem *problem) {
  conv_part part = {0};
  fonio_status status = plan_part(plan, parts, problem, 0, true, &part);
  if (!status) keep_part(parts, part, 0);
  return status;
}

/* The kernel of one channel of grad_output and one of a phase, turned. */
static char *copy_taps(const fonio_conv_problem *p, const conv_part *part, const char *weight, char *to) {
  int64_t bytes = (int64_t)fonio_dtype_bytes(p->dtype);
  for (int64_t r = part->last_tap[0]; r >= 0; r -= p->stride[0])
    for (int64_t s = part->last_tap[1]; s >= 0; s -= p->stride[1], to += bytes)
      memcpy(to, weight + (r * p->weight_strides[2] + s * p->weight_strides[3]) * bytes, (size_t)bytes);
  return to;
}

static void copy_phases(const fonio_conv_problem *p, const conv_part *part, const char *weight, char *to) {
  int64_t bytes = (int64_t)fonio_dtype_bytes(p->dtype);
  const int64_t *strides = p->weight_strides;
  for (int64_t r = 0; r < p->stride[0]; r++)
    for (int64_t s = 0; s < p->stride[1]; s++)
      for (int64_t c = 0; c < p->in_channels; c++)
        for (int64_t k = 0; k < p->out_channels; k++) {
          int64_t at = k * strides[0] + c * strides[1] + r * strides[2] + s * strides[3];
          to = copy_taps(p, part, weight + at * bytes, to);
        }
}

/* ---- What the parts of a plan have in common ---- */

const conv_parts *conv_parts_of(const fonio_conv_plan *plan) {
  static const conv_parts none;
  if (plan->algorithm == &conv_phases_input_gradient) return &plan->phases;
  if (plan->algorithm == &conv_shuffle_input_gradient) return &plan->shuffle;
  return plan->algorithm == &conv_columns_input_gradient ? &plan->columns : &none;
}

static int64_t next_packed(const conv_parts *parts, int64_t i) {
  while (i < parts->count && !parts->list[i].packs)
    i++;
  return i;
}

bool conv_parts_alike(const fonio_conv_plan *a, const fonio_conv_plan *b) {
  const conv_parts *p = conv_parts_of(a), *q = conv_parts_of(b);
  int64_t i = next_packed(p, 0), j = next_packed(q, 0);
  while (i < p->count && j < q->count && same_packed(&p->list[i], &q->list[j]))
    i = next_packed(p, i + 1), j = next_packed(q, j + 1);
  return i == p->count && j == q->count;
}

static void release(conv_parts *parts) {
  for (int64_t i = 0; i < parts->count; i++)
    fonio_conv_plan_release(parts->list[i].plan);
  memory_give(parts->list);
}

void conv_parts_release(fonio_conv_plan *plan) {
  release(&plan->phases);
  release(&plan->shuffle);
  release(&plan->columns);
  memory_give(plan->folds);
}

static double bytes_of_weights(const fonio_conv_plan *part) {
  const fonio_conv_problem *p = &part->problem;
  return (double)(p->out_channels * p->kernel_height * p->kernel_width * (int64_t)fonio_dtype_bytes(p->dtype)) *
         (double)p->in_channels;
}

/* Those of a merged part are copied one by one, cycles for each byte. */
#define COPYING 2.5

/* Each piece takes its time to begin, and weights are packed once. */
double conv_parts_cost(const conv_parts *parts) {
  double cycles = 0;
  for (int64_t i = 0; i < parts->count; i++) {
    const fonio_conv_plan *plan = parts->list[i].plan;
    cycles += (plan->cycles + 200 * (double)plan->pieces) / (double)plan->problem.batch;
    if (parts->list[i].packs) cycles += conv_packing_cost(plan);
    if (parts->list[i].merged && parts->list[i].packs) cycles += plan->packings * COPYING * bytes_of_weights(plan);
  }
  return cycles;
}

int64_t conv_parts_workspace(const conv_parts *parts, int64_t from, int64_t to) {
  int64_t most = 0;
  for (int64_t i = from; i < to; i++)
    most = conv_max(most, parts->list[i].plan->workspace_bytes);
  return most;
}

static bool pack_part(const fonio_conv_problem *p, const conv_part *part, const char *weight, char *packed) {
  const fonio_conv_plan *plan = part->plan;
  if (part->merged) {
    char *copy = packed + conv_round_up(plan->packed_bytes, MEMORY_ALIGNMENT);
    copy_phases(p, part, weight, copy);
    return plan->algorithm->pack(plan, copy, packed);
  }
  return plan->algorithm->pack(plan, weight + part->weight * (int64_t)fonio_dtype_bytes(p->dtype), packed);
}

bool conv_parts_pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  const conv_parts *parts = conv_parts_of(plan);
  bool finite = true;
  for (int64_t i = 0; i < parts->count; i++)
    if (parts->list[i].packs)
      finite &= pack_part(&plan->problem, &parts->list[i], weight, (char *)packed + parts->list[i].packed);
  return finite;
}

void conv_parts_run(const conv_run *run, const conv_part *part, const void *grad_output, void *output, int64_t piece,
                    void *workspace) {
  int64_t bytes = conv_element_bytes(run->plan);
  fonio_conv_buffers buffers = {.input = grad_output, .output = (char *)output + part->output * bytes};
  conv_run part_run = {part->plan, &buffers, conv_at(run->packed, part->packed), NULL};
  part->plan->algorithm->run_piece(&part_run, piece, workspace);
}
