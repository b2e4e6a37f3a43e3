/* Depthwise convolution of the last maps of networks with a stride of 2, of four planes at once, where there are
 * kernels for that. A piece is some channels of one image. */
#include <string.h>

#include "base/cpu.h"
#include "conv/depthwise.h"

/* A piece should last long enough to be worth handing to a thread. */
#define PIECE_CYCLES 20000

/* Rows of the output follow each other without a gap, as half a vector is written for each but the last, and two rows
 * are no shorter. */
static bool applicable(const fonio_conv_problem *p) {
  const kernel_table *k = kernel_table_for(p->dtype, cpu_isa_in_use());
  int64_t size = p->kernel_height, half = k->lanes / 2;
  bool square = p->kernel_width == size && (size == 3 || size == 5) && p->stride[0] == 2 && p->stride[1] == 2 &&
                p->dilation[0] == 1 && p->dilation[1] == 1;
  return k->depthwise_fours && conv_is_depthwise(p) && p->out_channels == p->in_channels && square &&
         p->padding_mode == FONIO_ZEROS && p->padding[0] == size / 2 && p->padding[2] == size / 2 &&
         p->in_height == 2 * p->out_height && p->in_width <= k->lanes && p->out_width <= half &&
         2 * p->out_width >= half && p->input_strides[3] == 1 && p->output_strides[3] == 1 &&
         p->output_strides[2] == p->out_width;
}

static double cycles_of_plane(const fonio_conv_plan *plan) {
  return (double)plan->problem.out_height * (plan->problem.kernel_height == 3 ? 8.5 : 14.5);
}

/* Planes that do not fill a block of four take as long as one each. */
static double cost(const fonio_conv_plan *plan) {
  int64_t channels = plan->problem.out_channels;
  return cycles_of_plane(plan) * (double)(channels + channels % 4 * 3);
}

static void prepare(fonio_conv_plan *plan) {
  int64_t bytes = conv_element_bytes(plan), channels = plan->problem.out_channels;
  int64_t most = conv_max(1, (int64_t)(PIECE_CYCLES / cycles_of_plane(plan) / 4));
  plan->blocks.channels = 4 * conv_even_pairs(conv_ceil_div(channels, 4), most);
  /* The last block is read beyond its end, by less than four elements. */
  plan->packed_bytes = conv_round_up(channels, 4) * conv_depthwise_taps(plan) * bytes + 3 * bytes;
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  int64_t behind = 3 * conv_element_bytes(plan);
  memset((char *)packed + plan->packed_bytes - behind, 0, (size_t)behind);
  return conv_depthwise_pack(plan, weight, 4, packed);
}

static int64_t pieces_of_image(const fonio_conv_plan *plan) {
  return conv_ceil_div(plan->problem.out_channels, plan->blocks.channels);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * pieces_of_image(plan);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_problem *p = &plan->problem;
  (void)workspace;
  int64_t bytes = conv_element_bytes(plan);
  int64_t first = conv_take(&piece, pieces_of_image(plan)) * plan->blocks.channels;
  kernel_depthwise job = {.planes = conv_min(plan->blocks.channels, p->out_channels - first),
                          .in_plane = p->input_strides[1],
                          .out_plane = p->output_strides[1],
                          .bias_step = p->bias_stride};
  const fonio_conv_buffers *b = run->buffers;
  plan->kernels->depthwise_fours(
      &plan->geometry, &job, conv_at(b->input, (piece * p->input_strides[0] + first * p->input_strides[1]) * bytes),
      conv_at(run->packed, first * conv_depthwise_taps(plan) * bytes), conv_at(b->bias, first * p->bias_stride * bytes),
      (char *)b->output + (piece * p->output_strides[0] + first * p->output_strides[1]) * bytes);
  kernel_strip block = {.rows = p->out_height, .columns = p->out_width, .step = {1, 1}};
  conv_finish(run, piece, first, job.planes, &block);
}

const conv_algorithm conv_depthwise_fours_forward = {
    .name = "depthwise_fours",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "as many groups as channels in and out, a stride of 2, kernels of 3 x 3 or 5 x 5 and half of one of zeros "
             "around planes of an even height, no wider than a vector of AVX-512",
    .cost = cost,
    .prepare = prepare,
    .packing = 0.5,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
