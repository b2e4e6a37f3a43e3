/* The activations that a convolution can put over its outputs, named as in torch.nn.functional. */
#ifndef FONIO_ACTIVATION_H
#define FONIO_ACTIVATION_H

/* The numbers never change. Results in float32 are within 6 units in the last place of the exact ones, or within 1e-43
 * where that is more; those of FONIO_GELU_TANH may be off by 1e-8 |x| beside that. They have the same bits on every
 * processor. In float64 exp, tanh and erfc are the C library's. NaN stays NaN; infinities, zeros and their signs become
 * what PyTorch makes of them. */
typedef enum fonio_activation {
  FONIO_NO_ACTIVATION = 0,
  FONIO_RELU = 1,
  FONIO_RELU6 = 2,
  FONIO_LEAKY_RELU = 3, /* x where x > 0, else x times a slope */
  FONIO_PRELU = 4,      /* the same with slopes from an array: one for each channel, or one for all */
  FONIO_SILU = 5,       /* x / (1 + exp(-x)) */
  FONIO_HARDSWISH = 6,  /* x * min(max(x + 3, 0), 6) / 6; as in PyTorch infinite where x * 6 is */
  FONIO_SIGMOID = 7,    /* 1 / (1 + exp(-x)) */
  FONIO_TANH = 8,
  FONIO_GELU = 9,      /* x times the normal distribution function at x */
  FONIO_GELU_TANH = 10 /* approximate='tanh': x / (1 + exp(-v)), v = 2 sqrt(2 / pi) (x + 0.044715 x^3) */
} fonio_activation;

#endif
