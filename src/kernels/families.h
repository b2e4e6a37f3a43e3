/* What the kernel families offer to the table of their dtype and instruction set; included by each of them. */
#ifndef KERNELS_FAMILIES_H
#define KERNELS_FAMILIES_H

#include "kernels/kernels.h"
#include "kernels/words.h"

/* Tiles of four vectors read each broadcast element half as often as those of two, which keep the multipliers busy,
 * too: for doubles, which few need, the library is kept small. */
#if defined(KERNEL_ISA_avx512) && defined(KERNEL_DTYPE_f64)
#define WIDEST_TILE 2
#else
#define WIDEST_TILE 4
#endif

/* The largest tiles. Plain C has small ones: its multiply-add is a call, which no register outlives.
 * Of the matrix product: its sums take rows x vectors registers, b takes `vectors`, a one.
 * With rows behind pointers: as many pointers as there are general registers for.
 * Of shifted rows. */
#define TILE_VECTORS 3
#if defined(KERNEL_ISA_avx512) || defined(KERNEL_ISA_neon)
#define TILE_ROWS 8
#define ROWS_TILE_ROWS 7
#define ROWS_TILE_VECTORS WIDEST_TILE
#define SHIFTED_ROWS 8
#elif defined(KERNEL_ISA_scalar)
#define TILE_ROWS 2
#define ROWS_TILE_ROWS 2
#define ROWS_TILE_VECTORS 2
#define SHIFTED_ROWS 2
#else
#define TILE_ROWS 4
#define ROWS_TILE_ROWS 6
#define ROWS_TILE_VECTORS 2
#define SHIFTED_ROWS 6
#endif

/* Whether there is rows_half. */
#if defined(KERNEL_DTYPE_f32) && defined(KERNEL_ISA_avx512) && defined(__AVX512F__)
#define ROWS_HALF 1
#else
#define ROWS_HALF 0
#endif

/* Whether tiles of shifted rows can have joined vectors: of doubles, which few need, none can. */
#if ROWS_HALF
#define SHIFTED_JOINED 1
#else
#define SHIFTED_JOINED 0
#endif

/* Whether there is rows_few: the library is kept small. */
#if defined(KERNEL_DTYPE_f32) && !defined(KERNEL_ISA_scalar)
#define ROWS_FEW 1
#else
#define ROWS_FEW 0
#endif

/* The largest panel of a weight's gradient, in vectors: a power of two. */
#if defined(KERNEL_ISA_avx512) || defined(KERNEL_ISA_neon)
#define GRADIENT_VECTORS WIDEST_TILE
#elif defined(KERNEL_ISA_scalar)
#define GRADIENT_VECTORS 1
#else
#define GRADIENT_VECTORS 2
#endif

/* Whether a depthwise kernel with a stride deals out the image's columns in registers. */
#if defined(KERNEL_ISA_avx512) && defined(KERNEL_DTYPE_f32)
#define DEPTHWISE_DEALS true
#else
#define DEPTHWISE_DEALS false
#endif

/* The rows that a block of a depthwise kernel of 3, or 5 and 7, rows and columns needs to read the image in place; 0:
 * it is copied. */
#if defined(KERNEL_ISA_avx512) && defined(KERNEL_DTYPE_f32)
#define DEPTHWISE_NEAR_3 7
#define DEPTHWISE_NEAR_57 4
#elif defined(KERNEL_ISA_avx2) && defined(KERNEL_DTYPE_f32)
#define DEPTHWISE_NEAR_3 4
#define DEPTHWISE_NEAR_57 0
#else
#define DEPTHWISE_NEAR_3 0
#define DEPTHWISE_NEAR_57 0
#endif

/* The rows of planes no wider than half a vector that a depthwise kernel keeps in registers; 0: there is none. */
#if defined(KERNEL_ISA_avx512) && defined(KERNEL_DTYPE_f32)
#define DEPTHWISE_NARROW 7
#else
#define DEPTHWISE_NARROW 0
#endif

/* Whether there are the kernels of depthwise_fours.c. */
#if defined(KERNEL_ISA_avx512) && defined(KERNEL_DTYPE_f32)
#define DEPTHWISE_FOURS true
#else
#define DEPTHWISE_FOURS false
#endif

/* Whether there are the kernels of plane_gradient.c. */
#if defined(KERNEL_DTYPE_f32) && (defined(KERNEL_ISA_avx512) || defined(KERNEL_ISA_avx2))
#define PLANE_GRADIENTS
#endif

/* gemm.c */
extern const kernel_tile NAME(tiles)[TILE_ROWS * TILE_VECTORS];
#if defined(KERNEL_ISA_avx512)
void NAME(half_tile)(int64_t terms, const void *a, const void *b, int64_t b_stride, void *c, int64_t c_stride,
                     const void *bias, bool accumulate);
#endif

/* pack.c */
void NAME(pack_pixels)(const kernel_conv *conv, const kernel_pixels *part, const void *input, int64_t width,
                       void *panel);
bool NAME(pack_weights)(const kernel_conv *conv, const void *weight, void *packed);

/* rows.c */
extern const kernel_rows_tile NAME(rows_tiles)[ROWS_TILE_ROWS * ROWS_TILE_VECTORS];

#if ROWS_HALF
void NAME(rows_half)(const kernel_rows *job, void *c);
#endif

bool NAME(pack_columns)(const kernel_conv *conv, const void *weight, void *packed);

bool NAME(pack_even)(const kernel_conv *conv, int64_t blocks, const void *weight, void *packed);

/* rows_groups.c */
void NAME(rows_groups)(const kernel_rows_groups *job, void *output);

/* rows_few.c */
#if ROWS_FEW
void NAME(rows_few)(const kernel_rows_few *job, const void *input, void *output);
#endif

/* shifted.c */
extern const kernel_shifted_tile NAME(shifted_tiles)[SHIFTED_ROWS];
void NAME(shifted_strip)(const kernel_conv *conv, const kernel_shifted_strip *job, const void *input, void *strip);
void NAME(shifted_turn)(const kernel_turn *job, const void *from, void *to);

/* strip.c */
/* Turns LANES x LANES elements, whose rows lie `stride` apart. */
void NAME(turn_square)(real *to, int64_t to_stride, const real *from, int64_t from_stride);
void NAME(gather_strip)(const kernel_conv *conv, const kernel_strip *strip, int64_t channel, const void *input,
                        void *to);
void NAME(scatter_strip)(const kernel_conv *conv, const kernel_strip *strip, int64_t channel, const void *from,
                         void *output);

/* winograd.c */
void NAME(winograd_input)(const kernel_winograd *job, const void *strip, void *to);
void NAME(winograd_output)(const kernel_winograd *job, const void *from, const void *bias, void *strip);

/* winograd_weights.c */
bool NAME(winograd_weights)(const kernel_winograd_weights *job, const kernel_conv *conv, const void *weight,
                            void *packed);

/* winograd_gradient.c */
void NAME(winograd_gradient)(const kernel_winograd *job, const void *strip, void *to);

/* depthwise_planes.c */
void NAME(depthwise_rows)(const kernel_conv *conv, const kernel_depthwise *job, const void *plane);
void NAME(depthwise_sums)(const kernel_conv *conv, const kernel_depthwise *job, const void *weights, const void *bias,
                          void *output);

/* depthwise_narrow.c */
#if DEPTHWISE_NARROW
void NAME(depthwise_narrow)(const kernel_conv *conv, const kernel_depthwise *job, const void *plane,
                            const void *weights, const void *bias, void *output);
void NAME(depthwise_narrow_pairs)(const kernel_conv *conv, const void *weights, const void *from, void *to);
#endif

/* depthwise_fours.c */
#if DEPTHWISE_FOURS
void NAME(depthwise_fours)(const kernel_conv *conv, const kernel_depthwise *job, const void *image, const void *weights,
                           const void *bias, void *output);
#endif

/* depthwise_pixels.c */
void NAME(depthwise_pixels)(const kernel_conv *conv, const void *const *const *rows, int64_t channels,
                            const void *weights, const void *bias, void *output);

/* depthwise_pairs.c */
void NAME(depthwise_pairs)(const kernel_pairs *job, const void *weights, const void *strip, void *output);

/* vector.c */
void NAME(vector_sums)(const kernel_vector *job, void *sums, void *output, int64_t stride);
void NAME(row_sums)(const kernel_sums *job, const void *rows, void *to);

/* peak.c */
int64_t NAME(multiply_adds)(int64_t rounds, void *out);

/* finish.c */
void NAME(finish)(const kernel_finish *job, void *output, const void *residual);
void NAME(derive)(const kernel_finish *job, const void *output, const void *grad_output, void *grad_sum);

/* weight_gradient.c */
void NAME(gradient_sums)(const kernel_gradient *job);
void NAME(gradient_biases)(int64_t pixels, int64_t vectors, const void *panel, void *biases);
void NAME(gradient_add)(int64_t vectors, void *sums, const void *more);
bool NAME(gradient_finite)(int64_t vectors, const void *panel);
void NAME(gradient_deal)(const kernel_conv *conv, const kernel_strip *strip, const kernel_dealing *job,
                         const void *input, void *to);

/* plane_gradient.c */
void NAME(plane_gradient)(const kernel_conv *conv, int64_t planes, bool fresh, const void *input,
                          const void *grad_output, void *sums);
void NAME(lane_sums)(int64_t count, const void *sums, void *to);

/* reference.c */
void NAME(reference_forward)(const kernel_conv *conv, const void *input, const void *weight, const void *bias,
                             int64_t bias_stride, void *output);
void NAME(reference_input_gradient)(const kernel_conv *conv, const void *grad_output, const void *weight,
                                    void *grad_input);
void NAME(reference_weight_gradient)(const kernel_conv *conv, const kernel_order *order, const void *input,
                                     const void *grad_output, void *grad_weight);
void NAME(reference_bias_gradient)(const kernel_conv *conv, const kernel_order *order, const void *grad_output,
                                   void *grad_bias, int64_t bias_stride);
void NAME(reference_block_gradient)(const kernel_conv *conv, const kernel_order *order, int64_t block,
                                    const void *input, const void *grad_output, void *grad_weight);

#endif
