/* The gradient of the weight of a depthwise convolution of planes, whose columns lie side by side: NCHW. Columns lie in
 * the lanes of a vector, so nothing is turned or copied. Each lane has a chain of multiply-adds for each image; those
 * of the images are added, and then the lanes. A piece is some channels. */
#include <string.h>

#include "base/cpu.h"
#include "conv/depthwise.h"

/* A piece should last long enough to be worth handing to a thread. Channels whose sums are added up at once. */
enum { PIECE_PRODUCTS = 1 << 19, CHANNELS = 16 };

/* Of a channel: those of the taps, then the bias's. */
enum { TAPS = 9, SUMS = TAPS + 1 };

static const kernel_table *kernels_for(const fonio_conv_problem *p) {
  return conv_depthwise_kernels(kernel_table_for(p->dtype, cpu_isa_in_use()), p->dtype, p->out_width);
}

static bool applicable(const fonio_conv_problem *p) {
  return p->batch > 0 && conv_is_depthwise(p) && kernels_for(p)->plane_gradient && p->kernel_height == 3 &&
         p->kernel_width == 3 && p->stride[0] == p->stride[1] && p->stride[1] <= 2 && p->dilation[0] == 1 &&
         p->dilation[1] == 1 && p->padding_mode == FONIO_ZEROS && p->input_strides[3] == 1 && p->output_strides[3] == 1;
}

/* Where the results of some channels begin, behind the vectors of sums. */
static int64_t results_at(const fonio_conv_plan *plan) {
  int64_t lanes = plan->kernels->lanes;
  return conv_round_up(CHANNELS * SUMS, lanes) * lanes * conv_element_bytes(plan);
}

/* Beginning with a plane is left out, like that with a block of groups_weight_gradient, which takes longer. */
static double cost(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t lanes = kernels_for(p)->lanes, rows = p->out_channels * p->out_height;
  return (double)(rows * conv_ceil_div(p->out_width, lanes)) * SUMS * (lanes == 16 ? 1.1 : 0.7) + 300;
}

static void prepare(fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  plan->kernels = kernels_for(p);
  double products = (double)(p->batch * p->out_height * p->out_width) * TAPS;
  plan->blocks.channels = conv_even_pairs(p->out_channels, (int64_t)(PIECE_PRODUCTS / products) + 1);
  int64_t results = conv_round_up(CHANNELS * SUMS, plan->kernels->lanes);
  plan->workspace_bytes = results_at(plan) + results * conv_element_bytes(plan);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return conv_ceil_div(plan->problem.out_channels, plan->blocks.channels);
}

/* Where an array's channel begins in an image. */
static const void *input_at(const conv_run *run, int64_t image, int64_t channel) {
  return conv_at(run->buffers->input, conv_input_offset(run->plan, image, channel / run->plan->geometry.out_channels));
}

static const void *grad_output_at(const conv_run *run, int64_t image, int64_t channel) {
  const int64_t *strides = run->plan->problem.output_strides;
  return conv_at(run->buffers->grad_output,
                 (image * strides[0] + channel * strides[1]) * conv_element_bytes(run->plan));
}

/* Zeros beside the image or grad_output may have met what is not finite: the plain loops leave them out. */
static void add_plain(const conv_run *run, int64_t channel, char *weight) {
  kernel_conv conv = run->plan->geometry;
  kernel_order order = conv_order(run->plan);
  conv.out_channels = 1;
  run->plan->kernels->reference_weight_gradient(&conv, &order, input_at(run, 0, channel),
                                                grad_output_at(run, 0, channel), weight);
}

static bool are_finite(int64_t count, const char *numbers) {
  float number, sum = 0;
  for (int64_t i = 0; i < count; i++, numbers += sizeof number) {
    memcpy(&number, numbers, sizeof number);
    sum += number * 0;
  }
  return sum == 0;
}

/* A channel's results where they belong. */
static void store(const conv_run *run, int64_t channel, bool finite, const char *results) {
  const fonio_conv_problem *p = &run->plan->problem;
  const fonio_conv_buffers *b = run->buffers;
  const int64_t *strides = p->weight_strides;
  int64_t bytes = conv_element_bytes(run->plan);
  if (b->grad_bias)
    memcpy((char *)b->grad_bias + channel * p->bias_stride * bytes, results + TAPS * bytes, (size_t)bytes);
  if (!b->grad_weight) return;
  char *weight = (char *)b->grad_weight + channel * strides[0] * bytes;
  bool side_by_side = strides[2] == 3 && strides[3] == 1;
  if (side_by_side) memcpy(weight, results, TAPS * sizeof(float));
  for (int64_t tap = 0; tap < TAPS && !side_by_side; tap++)
    memcpy(weight + (tap / 3 * strides[2] + tap % 3 * strides[3]) * bytes, results + tap * bytes, sizeof(float));
  if (!finite && !are_finite(TAPS, results)) add_plain(run, channel, weight);
}

/* Channels whose planes are taken at once: small ones, which stay in the first-level cache. */
static int64_t planes_at_once(const fonio_conv_plan *plan, int64_t count) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t plane = (p->in_height * p->in_width + p->out_height * p->out_width) * conv_element_bytes(plan);
  if (plan->geometry.out_channels > 1) return 1;
  return conv_max(1, conv_min(count, cpu_cache_sizes()->l1_bytes / 2 / plane));
}

static void run_channels(const conv_run *run, int64_t first, int64_t count, char *sums) {
  const fonio_conv_plan *plan = run->plan;
  const kernel_table *k = plan->kernels;
  int64_t bytes = conv_element_bytes(plan), step = planes_at_once(plan, count);
  char *results = sums + results_at(plan);
  for (int64_t c = 0; c < count; c += step)
    for (int64_t image = 0; image < plan->problem.batch; image++)
      k->plane_gradient(&plan->geometry, conv_min(step, count - c), image == 0, input_at(run, image, first + c),
                        grad_output_at(run, image, first + c), sums + c * SUMS * k->lanes * bytes);
  memset(sums + count * SUMS * k->lanes * bytes, 0, (size_t)(results_at(plan) - count * SUMS * k->lanes * bytes));
  k->lane_sums(count * SUMS, sums, results);
  bool finite = k->gradient_finite(conv_ceil_div(count * SUMS, k->lanes), results);
  for (int64_t c = 0; c < count; c++)
    store(run, first + c, finite, results + c * SUMS * bytes);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  int64_t first = piece * plan->blocks.channels;
  int64_t end = conv_min(first + plan->blocks.channels, plan->problem.out_channels);
  for (; first < end; first += CHANNELS)
    run_channels(run, first, conv_min(CHANNELS, end - first), workspace);
}

const conv_algorithm conv_planes_weight_gradient = {
    .name = "planes_weight_gradient",
    .direction = FONIO_CONV_WEIGHT_GRADIENT,
    .accuracy = FONIO_ACCURACY_DEFAULT,
    .applicable = applicable,
    .needs = "float32 and AVX2, as many groups as input channels, a kernel of 3 x 3, strides of both axes 1 or both 2, "
             "columns side by side and zeros as padding",
    .cost = cost,
    .prepare = prepare,
    .pieces = pieces,
    .run_piece = run_piece,
};
