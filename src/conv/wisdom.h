/* What was measured once and is not to be measured again: algorithms for problems, as lines of text. */
#ifndef CONV_WISDOM_H
#define CONV_WISDOM_H

#include "conv/plan.h"

/* The algorithm that is remembered for the plan's problem, on this instruction set and with this accuracy; NULL: none,
 * or one that cannot do it. */
const conv_algorithm *conv_wisdom_find(const fonio_conv_plan *plan);

/* Remembers the plan's algorithm. Problems whose strides no problem string can tell are not remembered.
 * FONIO_NO_MEMORY. */
fonio_status conv_wisdom_keep(const fonio_conv_plan *plan);

/* Measures, on one image and one thread, the algorithms that give the bits of the plan's, and tells the fastest and
 * what it took. FONIO_NO_MEMORY. */
fonio_status conv_measure(const fonio_conv_plan *plan, const conv_algorithm **fastest, conv_measured *measured);

#endif
