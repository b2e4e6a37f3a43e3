/* The table of one dtype and instruction set. */
#include "kernels/families.h"

const kernel_table NAME(kernel_table) = {
    .lanes = LANES,
    .tile_rows = TILE_ROWS,
    .tile_vectors = TILE_VECTORS,
    .tiles = NAME(tiles),
#if defined(KERNEL_ISA_avx512)
    .half_tile = NAME(half_tile),
#endif
    .pack_pixels = NAME(pack_pixels),
    .pack_weights = NAME(pack_weights),
    .rows_tile_rows = ROWS_TILE_ROWS,
    .rows_tile_vectors = ROWS_TILE_VECTORS,
    .rows_tiles = NAME(rows_tiles),
#if ROWS_HALF
    .rows_half = NAME(rows_half),
#endif
    .rows_groups = NAME(rows_groups),
#if ROWS_FEW
    .rows_few = NAME(rows_few),
#endif
    .pack_columns = NAME(pack_columns),
    .gather_strip = NAME(gather_strip),
    .scatter_strip = NAME(scatter_strip),
    .winograd_input = NAME(winograd_input),
    .winograd_output = NAME(winograd_output),
    .winograd_weights = NAME(winograd_weights),
    .winograd_gradient = NAME(winograd_gradient),
    .depthwise_rows = NAME(depthwise_rows),
    .depthwise_sums = NAME(depthwise_sums),
    .depthwise_near = {[3] = DEPTHWISE_NEAR_3, [5] = DEPTHWISE_NEAR_57, [7] = DEPTHWISE_NEAR_57},
    .depthwise_deals = DEPTHWISE_DEALS,
#if DEPTHWISE_NARROW
    .depthwise_narrow_rows = DEPTHWISE_NARROW,
    .depthwise_narrow = NAME(depthwise_narrow),
    .depthwise_narrow_pairs = NAME(depthwise_narrow_pairs),
#endif
#if DEPTHWISE_FOURS
    .depthwise_fours = NAME(depthwise_fours),
#endif
    .depthwise_pixels = NAME(depthwise_pixels),
    .depthwise_pairs = NAME(depthwise_pairs),
    .vector_sums = NAME(vector_sums),
    .row_sums = NAME(row_sums),
    .multiply_adds = NAME(multiply_adds),
    .finish = NAME(finish),
    .derive = NAME(derive),
    .shifted_rows = SHIFTED_ROWS,
    .shifted_tiles = NAME(shifted_tiles),
    .shifted_strip = NAME(shifted_strip),
    .shifted_turn = NAME(shifted_turn),
    .pack_even = NAME(pack_even),
    .gradient_vectors = GRADIENT_VECTORS,
    .gradient_sums = NAME(gradient_sums),
    .gradient_biases = NAME(gradient_biases),
    .gradient_add = NAME(gradient_add),
    .gradient_finite = NAME(gradient_finite),
    .gradient_deal = NAME(gradient_deal),
#if defined(PLANE_GRADIENTS)
    .plane_gradient = NAME(plane_gradient),
    .lane_sums = NAME(lane_sums),
#endif
    .reference_forward = NAME(reference_forward),
    .reference_input_gradient = NAME(reference_input_gradient),
    .reference_weight_gradient = NAME(reference_weight_gradient),
    .reference_bias_gradient = NAME(reference_bias_gradient),
    .reference_block_gradient = NAME(reference_block_gradient),
};
