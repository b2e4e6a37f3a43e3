/* What initialisation needs to know of a tensor. */
#ifndef NN_INIT_H
#define NN_INIT_H

#include "fonio/nn.h"

/* How many numbers an output is made of, and how many outputs an input goes into; false after fail() with torch's text
 * for fewer than 2 dimensions. */
bool init_fans(const fonio_tensor *tensor, double *fan_in, double *fan_out);

#endif
