/* What is known beforehand of the derivative of a convolution's activation. */
#ifndef CONV_ACTIVATION_GRADIENT_H
#define CONV_ACTIVATION_GRADIENT_H

#include "fonio/conv.h"

/* The failures of fonio_conv_activation_gradient, but for arrays that are missing. */
fonio_status conv_activation_check(const fonio_conv_problem *problem);

#endif
