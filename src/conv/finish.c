/* What follows a convolution in the same run: a residual added, then an activation. Done by each algorithm to every
 * block of the output as soon as it is whole, while a cache near by still holds it. */
#include "base/error.h"
#include "conv/plan.h"

bool conv_has_finish(const fonio_conv_problem *p) {
  return p->has_residual || p->activation != FONIO_NO_ACTIVATION;
}

fonio_status conv_finish_check(const fonio_conv_problem *p, fonio_conv_direction direction) {
  if ((unsigned)p->activation > FONIO_GELU_TANH)
    return fail(FONIO_VALUE_ERROR, "there is no activation %d", (int)p->activation);
  if (conv_has_finish(p) && direction != FONIO_CONV_FORWARD)
    return fail(FONIO_NOT_IMPLEMENTED,
                "gradients of a convolution with a residual or an activation are not implemented: take what comes to "
                "the sum from fonio_conv_activation_gradient, and those of the problem without the two");
  return FONIO_OK;
}

conv_slope conv_slope_of(const fonio_conv_problem *p) {
  return p->dtype == FONIO_FLOAT32 ? (conv_slope){.f32 = (float)p->slope} : (conv_slope){.f64 = p->slope};
}

/* Pixels in a line, `apart` elements from one to the next, of some channels; `offset` is where they begin in the image.
 * The longer vectors go along what lies side by side. */
static void finish_line(const conv_run *run, int64_t image, int64_t channel, int64_t channels, int64_t offset,
                        int64_t pixels, int64_t apart) {
  const fonio_conv_problem *p = &run->plan->problem;
  const fonio_conv_buffers *b = run->buffers;
  int64_t bytes = (int64_t)fonio_dtype_bytes(p->dtype), between = p->output_strides[1];
  conv_slope slope = conv_slope_of(p);
  kernel_finish job = {p->activation, channels, pixels, {between, apart}, NULL, {0, 0}};
  if (p->activation == FONIO_LEAKY_RELU) job.slopes = &slope;
  if (p->activation == FONIO_PRELU) {
    job.slopes = conv_at(b->prelu, channel * p->prelu_stride * bytes);
    job.slope_strides[0] = p->prelu_stride;
  }
  if (between == 1 && apart != 1)
    job = (kernel_finish){p->activation, pixels, channels, {apart, 1}, job.slopes, {0, job.slope_strides[0]}};
  int64_t at = (image * p->output_strides[0] + channel * between + offset) * bytes;
  run->plan->kernels->finish(&job, (char *)b->output + at, p->has_residual ? conv_at(b->residual, at) : NULL);
}

/* Whether the rows of the output follow each other without a gap: then pixels of several rows are one line. */
static bool rows_join(const fonio_conv_problem *p) {
  return p->out_height == 1 || p->output_strides[2] == p->out_width * p->output_strides[3];
}

void conv_finish(const conv_run *run, int64_t image, int64_t channel, int64_t channels, const kernel_strip *block) {
  const fonio_conv_problem *p = &run->plan->problem;
  if (!conv_has_finish(p)) return;
  int64_t rows = conv_min(block->rows, conv_ceil_div(p->out_height - block->row, block->step[0]));
  int64_t columns = conv_min(block->columns, conv_ceil_div(p->out_width - block->column, block->step[1]));
  int64_t offset = block->row * p->output_strides[2] + block->column * p->output_strides[3];
  if (columns == p->out_width && block->step[0] == 1 && rows_join(p)) {
    columns *= rows;
    rows = 1;
  }
  for (int64_t i = 0; i < rows; i++)
    finish_line(run, image, channel, channels, offset + i * block->step[0] * p->output_strides[2], columns,
                block->step[1] * p->output_strides[3]);
}

void conv_finish_pixels(const conv_run *run, int64_t image, int64_t channel, int64_t channels, int64_t pixel,
                        int64_t pixels) {
  const fonio_conv_problem *p = &run->plan->problem;
  if (!conv_has_finish(p)) return;
  for (int64_t end = pixel + pixels, count; pixel < end; pixel += count) {
    int64_t row = pixel / p->out_width, column = pixel % p->out_width;
    count = rows_join(p) ? pixels : conv_min(end - pixel, p->out_width - column);
    finish_line(run, image, channel, channels, row * p->output_strides[2] + column * p->output_strides[3], count,
                p->output_strides[3]);
  }
}
