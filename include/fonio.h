/* Fonio: PyTorch's nn.Conv2d, whole, in plain C.
 *
 * The headers read in this order, like a manual: each needs only those above it. */
#ifndef FONIO_H
#define FONIO_H

#include <fonio/base.h>       /* status, messages, memory, instruction sets */
#include <fonio/dtype.h>      /* the element types */
#include <fonio/activation.h> /* the activations that go with a convolution */
#include <fonio/conv.h>       /* a convolution on raw pointers: problem, plan, run */
#include <fonio/tensor.h>     /* tensors: storage, shape, strides */
#include <fonio/random.h>     /* random numbers, as torch draws them */
#include <fonio/print.h>      /* tensors as text, as torch prints them */
#include <fonio/ops.h>        /* operations on tensors that gradients flow through */
#include <fonio/autograd.h>   /* backward, grad, no_grad, gradcheck */
#include <fonio/nn.h>         /* modules: trees of layers and parameters, Conv2d, initialisation */
#include <fonio/optim.h>      /* SGD, Adam, AdamW */

#endif
