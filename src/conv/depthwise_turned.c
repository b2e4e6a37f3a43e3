/* Depthwise convolution of small planes: as many channels as a vector has lanes are turned into pixels, whose channels
 * lie side by side, convolved as such, and turned back. Short rows would fill the vectors badly. A piece is some
 * vectors of channels of one image. */
#include <string.h>

#include "base/memory.h"
#include "conv/depthwise.h"

/* A piece should last long enough to be worth handing to a thread. */
#define PIECE_CYCLES 20000

enum { MOST_PIXELS = 2048 };

static bool is_small(int64_t height, int64_t width) {
  return height > 0 && width > 0 && height <= MOST_PIXELS / width;
}

static bool applicable(const fonio_conv_problem *p) {
  bool grows = p->padding[0] >= 0 && p->padding[1] >= 0 && p->padding[2] >= 0 && p->padding[3] >= 0;
  return conv_is_depthwise(p) && p->out_channels == p->in_channels && grows && is_small(p->in_height, p->in_width) &&
         is_small(p->out_height, p->out_width) &&
         is_small(p->in_height + p->padding[0] + p->padding[1], p->in_width + p->padding[2] + p->padding[3]);
}

static int64_t blocks_of(const fonio_conv_plan *plan) {
  return conv_ceil_div(plan->problem.out_channels, plan->kernels->lanes);
}

/* Of one vector of channels: to turn it there and back, and its sums. */
static double cycles_of_block(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  double in = (double)(p->in_height * p->in_width), out = (double)(p->out_height * p->out_width);
  bool wide = plan->kernels->lanes * (int64_t)fonio_dtype_bytes(p->dtype) == 64;
  double across = p->input_strides[3] != 1 || p->output_strides[3] != 1 ? 36 : wide ? 10 : 6;
  double tap = p->out_width < 7 ? 4 : p->stride[1] <= 2 ? 0.6 : 1.2; /* the kernel takes seven pixels at once */
  return across * (in + out) + out * (tap * (double)conv_depthwise_taps(plan) + 5);
}

static double cost(const fonio_conv_plan *plan) {
  return cycles_of_block(plan) * (double)blocks_of(plan) + 1000;
}

/* The workspace: a vector of zeros, one of biases, a list for each kernel row, the pointers, the planes turned. */
typedef struct turned_layout {
  int64_t biases, rows, pointers, input, output, bytes;
} turned_layout;

static turned_layout lay_out(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  int64_t pixel = plan->kernels->lanes * (int64_t)fonio_dtype_bytes(p->dtype);
  turned_layout l = {.biases = conv_round_up(pixel, MEMORY_ALIGNMENT)};
  l.rows = 2 * l.biases;
  l.pointers = l.rows + conv_round_up(g->kernel_height * (int64_t)sizeof(void *), MEMORY_ALIGNMENT);
  l.input = l.pointers +
            conv_round_up(conv_depthwise_input_rows(plan, p->out_height) * g->padded_width * (int64_t)sizeof(void *),
                          MEMORY_ALIGNMENT);
  l.output = l.input + conv_round_up(p->in_height * p->in_width * pixel, MEMORY_ALIGNMENT);
  l.bytes = l.output + p->out_height * p->out_width * pixel;
  return l;
}

static void prepare(fonio_conv_plan *plan) {
  int64_t lanes = plan->kernels->lanes;
  int64_t blocks = conv_max(1, (int64_t)(PIECE_CYCLES / cycles_of_block(plan)));
  plan->blocks.channels = conv_even_pairs(blocks_of(plan), blocks) * lanes;
  plan->packed_bytes = blocks_of(plan) * lanes * conv_depthwise_taps(plan) * conv_element_bytes(plan);
  plan->workspace_bytes = lay_out(plan).bytes;
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return conv_depthwise_pack(plan, weight, plan->kernels->lanes, packed);
}

static int64_t pieces_of_image(const fonio_conv_plan *plan) {
  return conv_ceil_div(plan->problem.out_channels, plan->blocks.channels);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * pieces_of_image(plan);
}

/* Turns a vector of channels into pixels. Rows that follow each other without a gap are turned as one: short ones would
 * not fill a square. */
static void turn_input(const fonio_conv_plan *plan, int64_t channel, const void *input, void *to) {
  const fonio_conv_problem *p = &plan->problem;
  static const int64_t first_row = 0;
  int64_t lanes = plan->kernels->lanes;
  kernel_conv g = plan->geometry;
  g.in_channels = p->in_channels;
  kernel_strip strip = {p->padding[0], p->padding[2], p->in_height, p->in_width, {1, 1}, lanes, p->in_width * lanes};
  if (g.input_strides[1] == p->in_width * g.input_strides[2]) {
    strip = (kernel_strip){0, 0, 1, p->in_height * p->in_width, {1, 1}, lanes, 0};
    g.rows = &first_row;
    g.padded_height = 1;
    g.image_column = 0;
    g.in_width = g.padded_width = p->in_height * p->in_width;
  }
  plan->kernels->gather_strip(&g, &strip, channel, input, to);
}

static void turn_output(const fonio_conv_plan *plan, int64_t channel, const void *from, void *output) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t lanes = plan->kernels->lanes;
  kernel_conv g = plan->geometry;
  g.out_channels = p->out_channels;
  kernel_strip strip = {0, 0, p->out_height, p->out_width, {1, 1}, lanes, p->out_width * lanes};
  if (g.output_strides[1] == p->out_width * g.output_strides[2]) {
    g.out_width = strip.columns = p->out_height * p->out_width;
    g.out_height = strip.rows = 1;
  }
  plan->kernels->scatter_strip(&g, &strip, channel, from, output);
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_problem *p = &plan->problem;
  turned_layout l = lay_out(plan);
  int64_t lanes = plan->kernels->lanes, bytes = (int64_t)fonio_dtype_bytes(p->dtype);
  int64_t first = conv_take(&piece, pieces_of_image(plan)) * plan->blocks.channels;
  kernel_conv turned = plan->geometry;
  turned.output_strides[1] = p->out_width * lanes;
  turned.output_strides[2] = lanes;
  char *at = memset(workspace, 0, (size_t)l.rows), *biases = at + l.biases, *input = at + l.input;
  depthwise_rows job = {
      .conv = &turned,
      .count = p->out_height,
      .channels = lanes,
      .bias = run->buffers->bias ? biases : NULL,
      .output = at + l.output,
      .zeros = at,
      .rows = (void *)(at + l.rows),
      .pointers = (void *)(at + l.pointers),
  };
  conv_depthwise_point(plan, &job, input, p->in_width * lanes * bytes, lanes * bytes);
  for (int64_t c = first; c < conv_min(first + plan->blocks.channels, p->out_channels); c += lanes) {
    int64_t channels = conv_min(lanes, p->out_channels - c);
    turn_input(plan, c, conv_at(run->buffers->input, conv_input_offset(plan, piece, 0)), input);
    conv_copy_biases(plan, run->buffers->bias, c, channels, biases);
    job.weights = conv_at(run->packed, c * conv_depthwise_taps(plan) * bytes);
    conv_depthwise_run(plan, &job);
    turn_output(plan, c, job.output, (char *)run->buffers->output + conv_output_offset(plan, piece, 0));
    kernel_strip block = {.rows = p->out_height, .columns = p->out_width, .step = {1, 1}};
    conv_finish(run, piece, c, channels, &block);
  }
}

const conv_algorithm conv_depthwise_turned_forward = {
    .name = "depthwise_turned",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "as many groups as channels in and out, and small planes",
    .cost = cost,
    .prepare = prepare,
    .packing = 0.5,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
