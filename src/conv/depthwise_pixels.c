/* Depthwise convolution of pixels, whose channels lie side by side: channels_last, one output channel for each input
 * channel. A piece is some rows of one image. */
#include <string.h>

#include "conv/depthwise.h"

/* A piece should last long enough to be worth handing to a thread. */
#define PIECE_PRODUCTS (1 << 18)

static bool applicable(const fonio_conv_problem *p) {
  return conv_is_depthwise(p) && p->out_channels == p->in_channels && p->input_strides[1] == 1 &&
         p->output_strides[1] == 1;
}

/* Fewer channels than lanes are moved one by one. */
static double cost(const fonio_conv_plan *plan) {
  int64_t lanes = plan->kernels->lanes;
  if (plan->problem.out_channels < lanes) return 3 * conv_depthwise_products(plan);
  return (0.8 + 5 / (double)conv_depthwise_taps(plan)) * conv_depthwise_products(plan) / (double)lanes;
}

/* The workspace: a pixel of zeros, the biases, for each kernel row where its pointers begin, the pointers of the padded
 * input rows. */
typedef struct pixels_layout {
  int64_t biases, rows, pointers, bytes;
} pixels_layout;

static pixels_layout lay_out(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  int64_t pixel = conv_round_up(plan->problem.out_channels * conv_element_bytes(plan), 64);
  pixels_layout l = {.biases = pixel, .rows = 2 * pixel};
  l.pointers = l.rows + conv_round_up(g->kernel_height * (int64_t)sizeof(void *), 64);
  l.bytes =
      l.pointers + conv_depthwise_input_rows(plan, plan->blocks.terms) * g->padded_width * (int64_t)sizeof(void *);
  return l;
}

static void prepare(fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t per_row = p->out_channels * p->out_width * conv_depthwise_taps(plan);
  plan->blocks.terms = conv_min(p->out_height, conv_max(1, PIECE_PRODUCTS / conv_max(1, per_row)));
  plan->packed_bytes = conv_depthwise_taps(plan) * p->out_channels * (int64_t)fonio_dtype_bytes(p->dtype);
  plan->workspace_bytes = lay_out(plan).bytes;
}

static bool pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return conv_depthwise_pack(plan, weight, plan->problem.out_channels, packed);
}

static int64_t pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * conv_ceil_div(plan->problem.out_height, conv_max(1, plan->blocks.terms));
}

void conv_depthwise_point(const fonio_conv_plan *plan, const depthwise_rows *job, const char *input, int64_t row_bytes,
                          int64_t column_bytes) {
  const kernel_conv *g = &plan->geometry;
  int64_t top = job->first * g->stride[0], rows = conv_depthwise_input_rows(plan, job->count);
  const void **pointers = job->pointers;
  for (int64_t row = top; row < top + rows; row++, pointers += g->padded_width)
    for (int64_t i = 0; i < g->padded_width && g->rows[row] >= 0; i++)
      pointers[i] = g->columns[i] < 0 ? job->zeros : input + g->rows[row] * row_bytes + g->columns[i] * column_bytes;
}

void conv_depthwise_run(const fonio_conv_plan *plan, const depthwise_rows *job) {
  const kernel_conv *g = job->conv;
  int64_t bytes = conv_element_bytes(plan), top = job->first * g->stride[0];
  for (int64_t row = job->first; row < job->first + job->count; row++) {
    for (int64_t r = 0; r < g->kernel_height; r++) {
      int64_t from = row * g->stride[0] + r * g->dilation[0];
      job->rows[r] = g->rows[from] < 0 ? NULL : job->pointers + (from - top) * g->padded_width;
    }
    plan->kernels->depthwise_pixels(g, (const void *const *const *)job->rows, job->channels, job->weights, job->bias,
                                    (char *)job->output + row * g->output_strides[1] * bytes);
  }
}

static void run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  pixels_layout l = lay_out(plan);
  int64_t bytes = (int64_t)fonio_dtype_bytes(p->dtype);
  int64_t first = conv_take(&piece, conv_ceil_div(p->out_height, plan->blocks.terms)) * plan->blocks.terms;
  void *zeros = memset(workspace, 0, (size_t)l.biases), *biases = (char *)workspace + l.biases;
  conv_copy_biases(plan, run->buffers->bias, 0, p->out_channels, biases);
  depthwise_rows job = {
      .conv = g,
      .first = first,
      .count = conv_min(plan->blocks.terms, p->out_height - first),
      .channels = p->out_channels,
      .weights = run->packed,
      .bias = run->buffers->bias ? biases : NULL,
      .output = (char *)run->buffers->output + conv_output_offset(plan, piece, 0),
      .zeros = zeros,
      .rows = (void *)((char *)workspace + l.rows),
      .pointers = (void *)((char *)workspace + l.pointers),
  };
  conv_depthwise_point(plan, &job, conv_at(run->buffers->input, conv_input_offset(plan, piece, 0)),
                       g->input_strides[1] * bytes, g->input_strides[2] * bytes);
  conv_depthwise_run(plan, &job);
  kernel_strip block = {.row = first, .rows = job.count, .columns = p->out_width, .step = {1, 1}};
  conv_finish(run, piece, 0, p->out_channels, &block);
}

const conv_algorithm conv_depthwise_pixels_forward = {
    .name = "depthwise_pixels",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = applicable,
    .needs = "as many groups as channels in and out, and the channels of a pixel side by side",
    .cost = cost,
    .prepare = prepare,
    .packing = 0.5,
    .pack = pack,
    .pieces = pieces,
    .run_piece = run_piece,
};
