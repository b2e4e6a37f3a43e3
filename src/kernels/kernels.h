/* The kernels: raw pointers and strides; no allocation, no threads, no errors. Every source of this room is compiled
 * once for each dtype and instruction set; a table holds the functions of each pair.
 *
 * Sizes and strides count elements. Data comes as void pointers because one table type serves all dtypes.
 *
 * The order of a convolution's sum is one for the whole library: kernel rows, kernel columns, input channels; each
 * output is one chain of fused multiply-adds in that order from zero, then the bias is added. Whatever is blocked,
 * packed or vectorised around it, the bits stay the same. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "base/cpu.h"
#include "fonio/dtype.h"

/* The geometry of one image and one group of channels. */
typedef struct kernel_conv {
  int64_t in_channels, out_channels; /* of the group */
  int64_t out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride[2], dilation[2];
  /* Where a padded row or column comes from: the source's index, or -1 for a zero. Index: output position * stride +
   * tap * dilation. */
  const int64_t *rows, *columns;
  /* For each kernel column two output columns [from, to) between which columns[] rises by the stride: no edge touches
   * them. */
  const int64_t *interior;
  int64_t input_strides[3];  /* channel, row, column */
  int64_t weight_strides[4]; /* output channel, input channel, kernel row, kernel column */
  int64_t output_strides[3]; /* channel, row, column */
} kernel_conv;

/* Pixels of the output, counted row by row, and what they need of the input for a part of the sum. */
typedef struct kernel_pixels {
  int64_t first_pixel, pixels;
  int64_t first_term,
      terms; /* terms of the sum, in its order: (kernel row * kernel_width + kernel column) * in_channels + channel */
} kernel_pixels;

/* The widest panel of pixels, in elements, over all tables. */
#define KERNEL_MAX_PANEL 64

/* One tile of a matrix product, `c (rows x vectors * lanes) = a (rows x terms) * b (terms x vectors * lanes)`: a packed
 * [term][row], b with a stride between terms, c with a stride between rows. `accumulate`: the sum goes on from what c
 * holds. `bias`: one number a row, added at the end; or NULL. */
typedef void (*kernel_tile)(int64_t terms, const void *a, const void *b, int64_t b_stride, void *c, int64_t c_stride,
                            const void *bias, bool accumulate);

typedef struct kernel_table {
  int lanes;
  int tile_rows, tile_vectors; /* of the largest tile */
  const kernel_tile *tiles;    /* [(rows - 1) * tile_vectors + vectors - 1] */

  /* Packs pixels as [term][width], width a multiple of the lanes and at least the pixels; what is over is zero. Up to
   * `lanes` elements behind the panel are overwritten. */
  void (*pack_pixels)(const kernel_conv *conv, const kernel_pixels *part, const void *input, int64_t width,
                      void *panel);

  /* Packs the weights of a group as [block of tile_rows output channels][term][channel of the block]. Returns whether
   * all are finite. */
  bool (*pack_weights)(const kernel_conv *conv, const void *weight, void *packed);

  /* The plain loops: the oracle, and the last resort. One image and one group; gradients add to what is there. */
  void (*reference_forward)(const kernel_conv *conv, const void *input, const void *weight, const void *bias,
                            int64_t bias_stride, void *output);
  void (*reference_input_gradient)(const kernel_conv *conv, const void *grad_output, const void *weight,
                                   void *grad_input);
  void (*reference_weight_gradient)(const kernel_conv *conv, const void *input, const void *grad_output,
                                    void *grad_weight);
  void (*reference_bias_gradient)(const kernel_conv *conv, const void *grad_output, void *grad_bias,
                                  int64_t bias_stride);
} kernel_table;

/* The kernels of a dtype (FONIO_FLOAT32 or FONIO_FLOAT64) for an instruction set that the build has. */
const kernel_table *kernel_table_for(fonio_dtype dtype, cpu_isa isa);

#endif
