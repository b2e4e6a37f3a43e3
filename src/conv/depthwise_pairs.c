/* The input gradient of depthwise convolution with a stride of two across, for planes: each row of the image is
 * computed at once, even and odd columns in turns. A block of grad_output is copied with zeros around it; then there
 * are no edges. A piece is some channels of one image. */
#include <string.h>

#include "base/cpu.h"
#include "conv/depthwise.h"

/* A piece should last long enough to be worth handing to a thread. */
#define PIECE_CYCLES 50000

/* The copy, in bytes. */
#define MOST_BYTES (1 << 19)

/* Down or across. */
#define MOST_TAPS 32

/* What the pixels of a step, a rectangle of stride x 2 of the image, read of grad_output: rows and columns from `first`
 * on, seen from the step's number, `reach` more than one. */
typedef struct pairs_window {
  int64_t first[2], reach[2];
} pairs_window;

/* Whether pixel `phase` of a step has tap `tap`, and then of which row or column, seen from the step's number. */
static bool has_tap(const fonio_conv_problem *p, int axis, int64_t phase, int64_t tap, int64_t *at) {
  int64_t place = phase + p->padding[2 * axis] - tap * p->dilation[axis];
  *at = place / p->stride[axis];
  return place % p->stride[axis] == 0;
}

static pairs_window find_window(const fonio_conv_problem *p) {
  pairs_window w = {{INT64_MAX, INT64_MAX}, {0, 0}};
  for (int axis = 0; axis < 2; axis++) {
    int64_t taps = axis ? p->kernel_width : p->kernel_height, last = INT64_MIN, at;
    for (int64_t phase = 0; phase < p->stride[axis]; phase++)
      for (int64_t tap = 0; tap < taps; tap++)
        if (has_tap(p, axis, phase, tap, &at)) {
          w.first[axis] = conv_min(w.first[axis], at);
          last = conv_max(last, at);
        }
    w.reach[axis] = last - w.first[axis];
  }
  return w;
}

static int64_t steps_of(const fonio_conv_problem *p, int axis) {
  return conv_ceil_div(axis ? p->in_width : p->in_height, p->stride[axis]);
}

/* Elements of a row of the copy; the last vector of it may begin at the last step. */
static int64_t pitch_of(const fonio_conv_problem *p, const pairs_window *w) {
  return steps_of(p, 1) + w->reach[1];
}

/* Of so many steps down; a vector more. */
static int64_t copy_bytes(const fonio_conv_problem *p, int64_t steps) {
  pairs_window w = find_window(p);
  return ((steps + w.reach[0]) * pitch_of(p, &w) + KERNEL_MAX_PANEL) * (int64_t)fonio_dtype_bytes(p->dtype);
}

static bool applicable(const fonio_conv_problem *p) {
  bool alone = p->padding_mode == FONIO_ZEROS || !conv_pads(p);
  bool small = p->kernel_height <= MOST_TAPS && p->kernel_width <= MOST_TAPS && p->stride[0] <= MOST_TAPS &&
               p->dilation[0] <= 1024 && p->dilation[1] <= 1024 && p->in_width <= (1 << 16);
  return conv_is_depthwise(p) && p->out_channels == p->in_channels && alone && small && p->stride[1] == 2 &&
         p->input_strides[3] == 1 && p->output_strides[3] == 1 && copy_bytes(p, 1) <= MOST_BYTES;
}

/* Whether half a vector holds a row of grad_output, and the kernel is one of those that are written out for that. */
static bool is_narrow(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t size = p->kernel_height, lanes = plan->kernels->lanes;
  bool square = p->kernel_width == size && p->stride[0] == 2 && p->dilation[0] * p->dilation[1] == 1;
  return plan->kernels->depthwise_narrow_pairs && square && (size == 3 || size == 5) && p->padding[0] == size / 2 &&
         p->padding[2] == size / 2 && p->out_height > 0 && p->out_width * 2 <= lanes && p->in_width <= lanes;
}

static double cycles_of_channel(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  if (is_narrow(plan)) return (double)(p->in_height * conv_depthwise_taps(plan)) * 0.5 + 30;
  double vectors = (double)(p->in_height * conv_ceil_div(steps_of(p, 1), plan->kernels->lanes));
  double taps = (double)conv_depthwise_taps(plan) / (double)p->stride[0];
  return 300 + vectors * (0.6 * taps + 5) + 14 * (double)(p->in_height + p->out_height);
}

static double cost(const fonio_conv_plan *plan) {
  return 300 + cycles_of_channel(plan) * (double)plan->problem.in_channels;
}

/* The workspace: how many kernel rows each row of a step has, where they lie in the copy, the copy. */
static int64_t copy_at(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  return conv_round_up((p->stride[0] + p->kernel_height) * (int64_t)sizeof(int64_t), 64);
}

/* So many steps at once that their copy stays in the first-level cache. */
static void prepare(fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t steps = steps_of(p, 0);
  if (!is_narrow(plan)) plan->kernels = conv_depthwise_kernels(plan->kernels, p->dtype, steps_of(p, 1));
  while (steps > 1 && copy_bytes(p, steps) > conv_min(MOST_BYTES, cpu_cache_sizes()->l1_bytes / 2))
    steps = conv_ceil_div(steps, 2);
  plan->blocks.rows = steps;
  int64_t channels = conv_max(1, (int64_t)(PIECE_CYCLES / cycles_of_channel(plan)));
  plan->blocks.channels = conv_min(p->in_channels, channels);
  plan->packed_bytes = p->in_channels * conv_depthwise_taps(plan) * conv_element_bytes(plan);
  plan->workspace_bytes = copy_at(plan) + copy_bytes(p, steps);
}

/* Which taps a pixel of the image has follows from where the padding begins, which "same" makes different from image to
 * image. */
static bool packs_alike(const fonio_conv_problem *a, const fonio_conv_problem *b) {
  bool alike = true;
  for (int axis = 0; axis < 2; axis++)
    alike = alike && a->stride[axis] == b->stride[axis] && a->dilation[axis] == b->dilation[axis] &&
            (a->padding[2 * axis] - b->padding[2 * axis]) % a->stride[axis] == 0;
  return alike;
}

/* From the last tap back, as all sums of turned weights go. */
static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t from[MOST_TAPS * MOST_TAPS], at, count = 0;
  for (int64_t row = 0; row < p->stride[0]; row++)
    for (int64_t r = p->kernel_height - 1; r >= 0; r--)
      for (int64_t column = 0; column < 2 && has_tap(p, 0, row, r, &at); column++)
        for (int64_t s = p->kernel_width - 1; s >= 0; s--)
          if (has_tap(p, 1, column, s, &at)) from[count++] = r * p->weight_strides[2] + s * p->weight_strides[3];
  return conv_depthwise_pack_taps(plan, weight, 1, 0, count, from, packed);
}

static int64_t pieces_of_image(const fonio_conv_plan *plan) {
  return conv_ceil_div(plan->problem.in_channels, plan->blocks.channels);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * pieces_of_image(plan);
}

/* The rows of grad_output for the steps from `first` on. What lies beside them is zero and stays so. */
static void copy_rows(const fonio_conv_plan *plan, const pairs_window *w, const char *plane, int64_t first,
                      char *copy) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t bytes = conv_element_bytes(plan), pitch = pitch_of(p, w), left = conv_max(0, -w->first[1]);
  int64_t from = conv_max(0, w->first[1]), count = conv_min(p->out_width - from, pitch - left);
  for (int64_t i = 0; i < plan->blocks.rows + w->reach[0]; i++, copy += pitch * bytes) {
    int64_t row = first + w->first[0] + i;
    if (row < 0 || row >= p->out_height)
      memset(copy, 0, (size_t)(pitch * bytes));
    else if (count > 0)
      memcpy(copy + left * bytes, plane + (row * p->output_strides[2] + from) * bytes, (size_t)(count * bytes));
  }
}

/* What is the same for all channels. */
static kernel_pairs find_job(const fonio_conv_problem *p, const pairs_window *w, int64_t *lists) {
  int64_t *counts = lists, *offsets = lists + p->stride[0], at;
  kernel_pairs job = {
      .row_stride = p->input_strides[2],
      .columns = p->in_width,
      .pitch = pitch_of(p, w),
      .phases = p->stride[0],
      .dilation = p->dilation[1] % 2 == 0 ? p->dilation[1] / 2 : p->dilation[1],
      .kernel_rows = counts,
      .offsets = offsets,
  };
  for (int64_t row = 0; row < p->stride[0]; row++)
    for (int64_t r = p->kernel_height - 1; r >= 0; r--)
      if (has_tap(p, 0, row, r, &at)) {
        *offsets++ = (at - w->first[0]) * job.pitch;
        counts[row]++;
      }
  for (int64_t column = 0; column < 2; column++)
    for (int64_t s = 0; s < p->kernel_width; s++)
      if (has_tap(p, 1, column, s, &at)) {
        job.first[column] = at - w->first[1]; /* in the end that of the last tap */
        job.taps[column]++;
      }
  return job;
}

/* Of a channel: its packed weights, and where it begins in the arrays. */
typedef struct channel_of_run {
  const void *weights, *from;
  char *to;
} channel_of_run;

static channel_of_run find_channel(const conv_run *run, int64_t image, int64_t channel) {
  const fonio_conv_plan *plan = run->plan;
  return (channel_of_run){
      .weights = conv_at(run->packed, channel * conv_depthwise_taps(plan) * conv_element_bytes(plan)),
      .from = conv_at(run->buffers->grad_output, conv_output_offset(plan, image, channel)),
      .to = (char *)run->buffers->grad_input + conv_input_offset(plan, image, channel),
  };
}

static void run_copied(const conv_run *run, int64_t image, int64_t first, int64_t end, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_problem *p = &plan->problem;
  pairs_window w = find_window(p);
  char *memory = memset(workspace, 0, (size_t)plan->workspace_bytes), *copy = memory + copy_at(plan);
  kernel_pairs job = find_job(p, &w, workspace);
  for (int64_t c = first; c < end; c++) {
    channel_of_run channel = find_channel(run, image, c);
    for (int64_t step = 0, row = 0; row < p->in_height; step += plan->blocks.rows, row += job.rows) {
      job.rows = conv_min(plan->blocks.rows * p->stride[0], p->in_height - row);
      copy_rows(plan, &w, channel.from, step, copy);
      plan->kernels->depthwise_pairs(&job, channel.weights, copy,
                                     channel.to + row * job.row_stride * conv_element_bytes(plan));
    }
  }
}

static void run_narrow(const conv_run *run, int64_t image, int64_t first, int64_t end) {
  for (int64_t c = first; c < end; c++) {
    channel_of_run channel = find_channel(run, image, c);
    run->plan->kernels->depthwise_narrow_pairs(&run->plan->geometry, channel.weights, channel.from, channel.to);
  }
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  int64_t first = conv_take(&piece, pieces_of_image(plan)) * plan->blocks.channels;
  int64_t end = conv_min(first + plan->blocks.channels, plan->problem.in_channels);
  if (is_narrow(plan))
    run_narrow(run, piece, first, end);
  else
    run_copied(run, piece, first, end, workspace);
}

const conv_algorithm conv_depthwise_pairs_input_gradient = {
    .name = "depthwise_pairs",
    .direction = FONIO_CONV_INPUT_GRADIENT,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "as many groups as channels in and out, a stride of 2 across, columns side by side and zeros as padding",
    .cost = cost,
    .prepare = prepare,
    .packing = 0.5,
    .any_kernels = true,
    .packs_alike = packs_alike,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
