/* The activation's part of a problem string: its name, then the slope of leaky_relu or the number of prelu's slopes. */
#ifndef CONV_ACTIVATION_TEXT_H
#define CONV_ACTIVATION_TEXT_H

#include "fonio/conv.h"

typedef struct activation_part {
  fonio_activation activation;
  double slope;   /* of leaky_relu */
  int64_t slopes; /* of prelu: how many */
} activation_part;

/* PyTorch's defaults, without an activation. */
activation_part activation_part_default(void);

/* Reads what begins at `text` and returns the first character behind it; NULL where no activation's name begins there.
 */
const char *activation_part_read(const char *text, activation_part *part);

/* Writes it; "" without an activation. */
void activation_part_print(const activation_part *part, char text[64]);

#endif
