/* The convolution and its gradients as plain loops over their definition. */
#include "kernels/families.h"

/* a * b + c rounded once, for one number. */
INLINE real fma_one(real a, real b, real c) {
#if defined(KERNEL_DTYPE_f32)
  return __builtin_fmaf(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

/* The sum of one output element over the taps that lie on the image; padding is never multiplied. */
static real sum_of_taps(const kernel_conv *conv, const real *input, const real *weight, int64_t oh, int64_t ow) {
  real sum = 0;
  for (int64_t r = 0; r < conv->kernel_height; r++) {
    int64_t row = conv->rows[oh * conv->stride[0] + r * conv->dilation[0]];
    if (row < 0) continue;
    for (int64_t s = 0; s < conv->kernel_width; s++) {
      int64_t column = conv->columns[ow * conv->stride[1] + s * conv->dilation[1]];
      if (column < 0) continue;
      const real *x = input + row * conv->input_strides[1] + column * conv->input_strides[2];
      const real *w = weight + r * conv->weight_strides[2] + s * conv->weight_strides[3];
      for (int64_t c = 0; c < conv->in_channels; c++)
        sum = fma_one(w[c * conv->weight_strides[1]], x[c * conv->input_strides[0]], sum);
    }
  }
  return sum;
}

void NAME(reference_forward)(const kernel_conv *conv, const void *input, const void *weight, const void *bias,
                             int64_t bias_stride, void *output) {
  for (int64_t k = 0; k < conv->out_channels; k++) {
    real add = (bias ? ((const real *)bias)[k * bias_stride] : 0) + (real)0;
    for (int64_t oh = 0; oh < conv->out_height; oh++)
      for (int64_t ow = 0; ow < conv->out_width; ow++) {
        real sum = sum_of_taps(conv, input, (const real *)weight + k * conv->weight_strides[0], oh, ow);
        ((real *)output)[k * conv->output_strides[0] + oh * conv->output_strides[1] + ow * conv->output_strides[2]] =
            sum + add;
      }
  }
}

/* The output row (or column) that reads a padded one under a tap; -1: none. */
INLINE int64_t reader_of(int64_t padded, int64_t tap, int64_t dilation, int64_t stride, int64_t outputs) {
  int64_t from = padded - tap * dilation;
  return from < 0 || from % stride || from / stride >= outputs ? -1 : from / stride;
}

/* The sum of a padded pixel over the outputs that read it, in the order of a forward convolution with the weight turned
 * by half a turn. */
static real sum_of_readers(const kernel_conv *conv, const real *grad_output, const real *weight, int64_t row,
                           int64_t column) {
  real sum = 0;
  for (int64_t r = conv->kernel_height - 1; r >= 0; r--) {
    int64_t oh = reader_of(row, r, conv->dilation[0], conv->stride[0], conv->out_height);
    if (oh < 0) continue;
    for (int64_t s = conv->kernel_width - 1; s >= 0; s--) {
      int64_t ow = reader_of(column, s, conv->dilation[1], conv->stride[1], conv->out_width);
      if (ow < 0) continue;
      const real *g = grad_output + oh * conv->output_strides[1] + ow * conv->output_strides[2];
      const real *w = weight + r * conv->weight_strides[2] + s * conv->weight_strides[3];
      for (int64_t k = 0; k < conv->out_channels; k++)
        sum = fma_one(w[k * conv->weight_strides[0]], g[k * conv->output_strides[0]], sum);
    }
  }
  return sum;
}

/* First the pixels of the image, then what the padding adds to them, row by row. */
void NAME(reference_input_gradient)(const kernel_conv *conv, const void *grad_output, const void *weight,
                                    void *grad_input) {
  for (int64_t c = 0; c < conv->in_channels; c++)
    for (int padding = 0; padding < 2; padding++)
      for (int64_t row = 0; row < conv->padded_height; row++)
        for (int64_t column = 0; column < conv->padded_width; column++) {
          int64_t i = row - conv->image_row, j = column - conv->image_column;
          bool outside = i < 0 || i >= conv->in_height || j < 0 || j >= conv->in_width;
          if (outside != padding || conv->rows[row] < 0 || conv->columns[column] < 0) continue;
          real *x = (real *)grad_input + c * conv->input_strides[0] + conv->rows[row] * conv->input_strides[1] +
                    conv->columns[column] * conv->input_strides[2];
          *x = (padding ? *x : 0) +
               sum_of_readers(conv, grad_output, (const real *)weight + c * conv->weight_strides[1], row, column);
        }
}

/* The sum of one weight's gradient over a block of output pixels of all images; padding is never multiplied. */
static real sum_of_block(const kernel_conv *conv, const kernel_order *order, int64_t index, const real *input,
                         const real *grad_output, int64_t r, int64_t s) {
  kernel_block b = kernel_block_at(order, index);
  const int64_t *columns = conv->columns + s * conv->dilation[1];
  real sum = 0;
  for (int64_t image = b.image; image < b.image + b.images; image++)
    for (int64_t oh = b.row; oh < b.row + b.rows; oh++) {
      int64_t row = conv->rows[oh * conv->stride[0] + r * conv->dilation[0]];
      if (row < 0) continue;
      const real *x = input + image * order->input_image + row * conv->input_strides[1];
      const real *g = grad_output + image * order->output_image + oh * conv->output_strides[1];
      for (int64_t ow = b.column; ow < b.column + b.columns; ow++) {
        int64_t column = columns[ow * conv->stride[1]];
        if (column >= 0) sum = fma_one(x[column * conv->input_strides[2]], g[ow * conv->output_strides[2]], sum);
      }
    }
  return sum;
}

/* Over all blocks. */
static real sum_of_weight(const kernel_conv *conv, const kernel_order *order, const real *input,
                          const real *grad_output, int64_t r, int64_t s) {
  real sum = 0;
  for (int64_t part = 0; part < order->parts; part++) {
    real of_part = 0;
    for (int64_t i = kernel_first_block(order, part); i < kernel_first_block(order, part + 1); i++)
      of_part += sum_of_block(conv, order, i, input, grad_output, r, s);
    sum += of_part;
  }
  return sum;
}

/* Visits each weight; `block` negative: all blocks. */
static void weight_gradient(const kernel_conv *conv, const kernel_order *order, int64_t block, const real *input,
                            const real *grad_output, real *grad_weight) {
  for (int64_t k = 0; k < conv->out_channels; k++)
    for (int64_t c = 0; c < conv->in_channels; c++)
      for (int64_t r = 0; r < conv->kernel_height; r++)
        for (int64_t s = 0; s < conv->kernel_width; s++) {
          real *w = grad_weight + k * conv->weight_strides[0] + c * conv->weight_strides[1] +
                    r * conv->weight_strides[2] + s * conv->weight_strides[3];
          const real *x = input + c * conv->input_strides[0], *g = grad_output + k * conv->output_strides[0];
          *w = block < 0 ? sum_of_weight(conv, order, x, g, r, s) : *w + sum_of_block(conv, order, block, x, g, r, s);
        }
}

void NAME(reference_weight_gradient)(const kernel_conv *conv, const kernel_order *order, const void *input,
                                     const void *grad_output, void *grad_weight) {
  weight_gradient(conv, order, -1, input, grad_output, grad_weight);
}

void NAME(reference_block_gradient)(const kernel_conv *conv, const kernel_order *order, int64_t block,
                                    const void *input, const void *grad_output, void *grad_weight) {
  weight_gradient(conv, order, block, input, grad_output, grad_weight);
}

static real bias_of_block(const kernel_conv *conv, const kernel_order *order, int64_t index, const real *grad_output) {
  kernel_block b = kernel_block_at(order, index);
  real sums[4] = {0};
  int64_t pixel = 0;
  for (int64_t image = b.image; image < b.image + b.images; image++)
    for (int64_t oh = b.row; oh < b.row + b.rows; oh++)
      for (int64_t ow = b.column; ow < b.column + b.columns; ow++, pixel++)
        sums[pixel % 4] +=
            grad_output[image * order->output_image + oh * conv->output_strides[1] + ow * conv->output_strides[2]];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void NAME(reference_bias_gradient)(const kernel_conv *conv, const kernel_order *order, const void *grad_output,
                                   void *grad_bias, int64_t bias_stride) {
  for (int64_t k = 0; k < conv->out_channels; k++) {
    real sum = 0;
    for (int64_t part = 0; part < order->parts; part++) {
      real of_part = 0;
      for (int64_t i = kernel_first_block(order, part); i < kernel_first_block(order, part + 1); i++)
        of_part += bias_of_block(conv, order, i, (const real *)grad_output + k * conv->output_strides[0]);
      sum += of_part;
    }
    ((real *)grad_bias)[k * bias_stride] = sum;
  }
}
