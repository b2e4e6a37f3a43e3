/* What initialisation needs to know of a tensor. */
#ifndef NN_INIT_H
#define NN_INIT_H

#include "fonio/nn.h"

/* How many numbers an output is made of, and how many outputs an input goes into; false after fail() with torch's text
 * for fewer than 2 dimensions. */
bool init_fans(const fonio_tensor *tensor, double *fan_in, double *fan_out);

/* reset_parameters() of torch's layers: draws the weight and the bias (or NULL) anew. A weight that is yet to be
 * initialised stays as it is. */
fonio_status init_layer(fonio_tensor *weight, fonio_tensor *bias);

#endif
