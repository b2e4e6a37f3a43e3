/* nn.Conv2d as the library sees it. */
#ifndef NN_CONV2D_H
#define NN_CONV2D_H

#include "conv/cache.h"
#include "nn/module.h"

typedef struct conv2d_layer {
  union {
    fonio_module base;
    fonio_conv2d conv;
  };
  fonio_conv2d_options options; /* pairs resolved; its texts are static */
  conv_cache *cache;
  int64_t lazy_hook; /* of a layer that is yet to see its first input */
} conv2d_layer;

extern const fonio_module_class conv2d_class, conv2d_lazy_class;

/* Checks the options as the constructor does, and resolves them. A lazy layer's channels are not checked. */
fonio_status conv2d_resolve(const fonio_conv2d_options *given, bool lazy, fonio_conv2d_options *resolved);

/* The sizes of the weight. */
void conv2d_weight_shape(const fonio_conv2d_options *options, int64_t shape[4]);

/* A new layer, without parameters, for checked options. */
conv2d_layer *conv2d_layer_new(const fonio_conv2d_options *given, bool lazy);

/* Gives back what a layer holds beside its parameters. */
void conv2d_release(fonio_module *module);

/* Conv2d.extra_repr(). */
size_t conv2d_extra_repr(const fonio_module *module, char *text, size_t bytes);

#endif
