/* The table of one dtype and instruction set. */
#include "kernels/families.h"

const kernel_table NAME(kernel_table) = {
    .lanes = LANES,
    .tile_rows = TILE_ROWS,
    .tile_vectors = TILE_VECTORS,
    .tiles = NAME(tiles),
    .pack_pixels = NAME(pack_pixels),
    .pack_weights = NAME(pack_weights),
    .rows_tile_rows = ROWS_TILE_ROWS,
    .rows_tile_vectors = ROWS_TILE_VECTORS,
    .rows_tiles = NAME(rows_tiles),
    .pack_columns = NAME(pack_columns),
    .gather_strip = NAME(gather_strip),
    .scatter_strip = NAME(scatter_strip),
    .winograd_input = NAME(winograd_input),
    .winograd_output = NAME(winograd_output),
    .winograd_weights = NAME(winograd_weights),
    .depthwise_rows = NAME(depthwise_rows),
    .depthwise_sums = NAME(depthwise_sums),
    .depthwise_pixels = NAME(depthwise_pixels),
    .finish = NAME(finish),
    .reference_forward = NAME(reference_forward),
    .reference_input_gradient = NAME(reference_input_gradient),
    .reference_weight_gradient = NAME(reference_weight_gradient),
    .reference_bias_gradient = NAME(reference_bias_gradient),
};
