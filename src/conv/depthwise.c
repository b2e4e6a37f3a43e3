/* Depthwise convolution: groups == in_channels. Two algorithms, one for each layout. */
#include <string.h>

#include "base/cpu.h"
#include "conv/plan.h"

static bool is_depthwise(const fonio_conv_problem *p) {
  return p->groups == p->in_channels && p->groups > 1;
}

static int64_t taps_of(const fonio_conv_plan *plan) {
  return plan->problem.kernel_height * plan->problem.kernel_width;
}

static double products_of(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  return (double)p->out_channels * (double)p->out_height * (double)p->out_width * (double)taps_of(plan);
}

/* The weights as [channel][tap], or [tap][channel] where `by_tap`; returns whether all are finite. */
static bool pack_taps(const fonio_conv_plan *plan, const void *weight, void *packed, bool by_tap) {
  const fonio_conv_problem *p = &plan->problem;
  const int64_t *strides = p->weight_strides;
  int64_t taps = taps_of(plan);
  bool finite = true;
  for (int64_t c = 0; c < p->out_channels; c++)
    for (int64_t tap = 0; tap < taps; tap++) {
      int64_t from = c * strides[0] + tap / p->kernel_width * strides[2] + tap % p->kernel_width * strides[3];
      int64_t to = by_tap ? tap * p->out_channels + c : c * taps + tap;
      if (p->dtype == FONIO_FLOAT32)
        ((float *)packed)[to] = ((const float *)weight)[from];
      else
        ((double *)packed)[to] = ((const double *)weight)[from];
      double value = p->dtype == FONIO_FLOAT32 ? (double)((float *)packed)[to] : ((double *)packed)[to];
      finite &= value - value == 0;
    }
  return finite;
}

/* A piece should last long enough to be worth handing to a thread. */
#define PIECE_PRODUCTS (1 << 18)

/* ---- Planes: NCHW. A piece is some channels of one image. ---- */

static bool planes_applicable(const fonio_conv_problem *p) {
  return is_depthwise(p) && p->output_strides[3] == 1 && p->kernel_width <= 64;
}

static double planes_cost(const fonio_conv_plan *plan) {
  int64_t lanes = plan->kernels->lanes, width = plan->problem.out_width;
  double waste = (double)conv_round_up(width, lanes) / (double)width;
  double scattered = plan->problem.input_strides[3] == 1 ? 0 : 4 * products_of(plan) / (double)taps_of(plan);
  return products_of(plan) * waste / (double)lanes +
         60.0 * (double)(plan->problem.out_channels * plan->problem.out_height) / 4 + scattered;
}

/* The buffer's numbers for a block of so many columns. */
static kernel_depthwise block_of(const fonio_conv_plan *plan, int64_t columns, int64_t *offsets) {
  const kernel_conv *g = &plan->geometry;
  kernel_depthwise job = {.columns = columns, .offsets = offsets};
  int64_t reach = (g->kernel_width - 1) * g->dilation[1];
  job.phase_columns = columns + reach / g->stride[1];
  job.phase_elements = conv_round_up(job.phase_columns + plan->kernels->depthwise_width, plan->kernels->lanes);
  for (int64_t s = 0; offsets && s < g->kernel_width; s++) {
    int64_t p = s * g->dilation[1];
    offsets[s] = p % g->stride[1] * job.phase_elements + p / g->stride[1];
  }
  return job;
}

static int64_t buffer_rows(const fonio_conv_plan *plan, int64_t rows) {
  return (rows - 1) * plan->geometry.stride[0] + (plan->geometry.kernel_height - 1) * plan->geometry.dilation[0] + 1;
}

/* Blocks of rows so high that few input rows are copied twice, while the buffer stays in the first-level cache; of
 * columns only where rows are very long. */
static void planes_prepare(fonio_conv_plan *plan) {
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype);
  conv_blocks *b = &plan->blocks;
  b->panel = conv_min(plan->problem.out_width, 1024);
  int64_t pitch = plan->geometry.stride[1] * block_of(plan, b->panel, NULL).phase_elements;
  int64_t rows = cpu_cache_sizes()->l1_bytes / 2 / (pitch * bytes) - buffer_rows(plan, 1);
  b->terms = conv_min(plan->problem.out_height, conv_max(rows / plan->geometry.stride[0] / 4 * 4, 4));
  int64_t per_plane = conv_max(1, plan->problem.out_height * plan->problem.out_width * taps_of(plan));
  b->channels = conv_min(plan->problem.out_channels, conv_max(1, PIECE_PRODUCTS / per_plane));
  plan->packed_bytes = plan->problem.out_channels * taps_of(plan) * bytes;
  /* A tile that is higher than what is left reads rows that are not filled in. */
  plan->workspace_bytes = conv_round_up(buffer_rows(plan, b->terms) * pitch * bytes, 64);
}

static bool planes_pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return pack_taps(plan, weight, packed, false);
}

static int64_t planes_pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * conv_ceil_div(plan->problem.out_channels, plan->blocks.channels);
}

static void run_plane(const conv_run *run, int64_t image, int64_t channel, void *buffer) {
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_problem *p = &plan->problem;
  const fonio_conv_buffers *b = run->buffers;
  int64_t bytes = (int64_t)fonio_dtype_bytes(p->dtype), group = channel / plan->geometry.out_channels;
  const void *bias = conv_at(b->bias, channel * p->bias_stride * bytes);
  char *output = (char *)b->output + (image * p->output_strides[0] + channel * p->output_strides[1]) * bytes;
  int64_t offsets[64];
  for (int64_t column = 0; column < p->out_width; column += plan->blocks.panel)
    for (int64_t row = 0; row < p->out_height; row += plan->blocks.terms) {
      kernel_depthwise job = block_of(plan, conv_min(plan->blocks.panel, p->out_width - column), offsets);
      job.column = column;
      job.row = row;
      job.rows = conv_min(plan->blocks.terms, p->out_height - row);
      plan->kernels->depthwise_planes(&plan->geometry, &job, conv_at(b->input, conv_input_offset(plan, image, group)),
                                      conv_at(run->packed, channel * taps_of(plan) * bytes), bias, buffer, output);
    }
}

static void planes_run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  int64_t blocks = conv_ceil_div(plan->problem.out_channels, plan->blocks.channels);
  int64_t first = conv_take(&piece, blocks) * plan->blocks.channels;
  int64_t end = conv_min(first + plan->blocks.channels, plan->problem.out_channels);
  for (int64_t channel = first; channel < end; channel++)
    run_plane(run, piece, channel, workspace);
}

/* ---- Pixels: channels_last, one output channel for each input channel. A piece is some pixels of one image. ---- */

static bool pixels_applicable(const fonio_conv_problem *p) {
  return is_depthwise(p) && p->out_channels == p->in_channels && p->input_strides[1] == 1 && p->output_strides[1] == 1;
}

static double pixels_cost(const fonio_conv_plan *plan) {
  return products_of(plan) * 1.2 / plan->kernels->lanes + 100;
}

static void pixels_prepare(fonio_conv_plan *plan) {
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype), channels = plan->problem.out_channels;
  plan->blocks.pixels = conv_max(KERNEL_DEPTHWISE_PIXELS, PIECE_PRODUCTS / conv_max(1, channels * taps_of(plan)));
  plan->packed_bytes = taps_of(plan) * channels * bytes;
  plan->workspace_bytes =
      conv_round_up(channels * bytes, 64) * 2 + taps_of(plan) * KERNEL_DEPTHWISE_PIXELS * (int64_t)sizeof(void *);
}

static bool pixels_pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return pack_taps(plan, weight, packed, true);
}

static int64_t pixels_pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * conv_ceil_div(plan->problem.out_height * plan->problem.out_width, plan->blocks.pixels);
}

/* The taps of some pixels, as pointers. */
static void look_up(const fonio_conv_plan *plan, const char *input, const void *zeros, int64_t pixel, int64_t count,
                    const void **pointers) {
  const kernel_conv *g = &plan->geometry;
  int64_t bytes = (int64_t)fonio_dtype_bytes(plan->problem.dtype);
  for (int64_t i = 0; i < count; i++) {
    const int64_t *rows = g->rows + (pixel + i) / g->out_width * g->stride[0];
    const int64_t *columns = g->columns + (pixel + i) % g->out_width * g->stride[1];
    const void **to = pointers + i;
    for (int64_t r = 0; r < g->kernel_height; r++)
      for (int64_t s = 0; s < g->kernel_width; s++, to += KERNEL_DEPTHWISE_PIXELS) {
        int64_t row = rows[r * g->dilation[0]], column = columns[s * g->dilation[1]];
        *to =
            row < 0 || column < 0 ? zeros : input + bytes * (row * g->input_strides[1] + column * g->input_strides[2]);
      }
  }
}

static void pixels_run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const fonio_conv_problem *p = &plan->problem;
  int64_t bytes = (int64_t)fonio_dtype_bytes(p->dtype), pixels = p->out_height * p->out_width;
  int64_t first = conv_take(&piece, conv_ceil_div(pixels, plan->blocks.pixels)) * plan->blocks.pixels;
  int64_t end = conv_min(first + plan->blocks.pixels, pixels),
          channel_bytes = conv_round_up(p->out_channels * bytes, 64);
  const char *input = conv_at(run->buffers->input, conv_input_offset(plan, piece, 0));
  char *output = (char *)run->buffers->output + conv_output_offset(plan, piece, 0);
  void *zeros = memset(workspace, 0, (size_t)channel_bytes), *biases = (char *)workspace + channel_bytes;
  const void **pointers = (void *)((char *)biases + channel_bytes);
  conv_copy_biases(plan, run->buffers->bias, 0, p->out_channels, biases);
  for (int64_t pixel = first, count; pixel < end; pixel += count) {
    int64_t column = pixel % p->out_width;
    count = conv_min(conv_min(KERNEL_DEPTHWISE_PIXELS, end - pixel), p->out_width - column);
    look_up(plan, input, zeros, pixel, count, pointers);
    char *to = output + bytes * (pixel / p->out_width * p->output_strides[2] + column * p->output_strides[3]);
    plan->kernels->depthwise_pixels(count, taps_of(plan), pointers, p->out_channels, run->packed,
                                    run->buffers->bias ? biases : NULL, to, p->output_strides[3]);
  }
}

const conv_algorithm conv_depthwise_planes_forward = {
    .name = "depthwise_planes",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = planes_applicable,
    .cost = planes_cost,
    .prepare = planes_prepare,
    .pack = planes_pack,
    .pieces = planes_pieces,
    .run_piece = planes_run_piece,
};

const conv_algorithm conv_depthwise_pixels_forward = {
    .name = "depthwise_pixels",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = pixels_applicable,
    .cost = pixels_cost,
    .prepare = pixels_prepare,
    .pack = pixels_pack,
    .pieces = pixels_pieces,
    .run_piece = pixels_run_piece,
};
