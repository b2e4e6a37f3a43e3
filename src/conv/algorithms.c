/* The list of all algorithms: adding one is a file and a line here.
 * clang-format would fill the lines up. */
#include "conv/plan.h"

/* clang-format off */
const conv_algorithm *const conv_algorithms[] = {
    &conv_packed_forward,
    &conv_shifted_forward,
    &conv_rows_forward,
    &conv_rows_groups_forward,
    &conv_rows_few_forward,
    &conv_depthwise_planes_forward,
    &conv_depthwise_pixels_forward,
    &conv_depthwise_turned_forward,
    &conv_depthwise_fours_forward,
    &conv_winograd4_forward,
    &conv_winograd2_forward,
    &conv_channels_weight_gradient,
    &conv_groups_weight_gradient,
    &conv_inputs_weight_gradient,
    &conv_winograd_weight_gradient,
    &conv_planes_weight_gradient,
    &conv_reference_forward,
    &conv_phases_input_gradient,
    &conv_shuffle_input_gradient,
    &conv_columns_input_gradient,
    &conv_depthwise_pairs_input_gradient,
    &conv_vector_input_gradient,
    &conv_reference_input_gradient,
    &conv_reference_weight_gradient,
    NULL,
};
/* clang-format on */

const char *fonio_conv_algorithm_name(int index) {
  for (int i = 0; i <= index; i++)
    if (!conv_algorithms[i]) return NULL;
  return index < 0 ? NULL : conv_algorithms[index]->name;
}
