/* Modules: trees of layers and parameters, torch.nn.
 *
 *   typedef struct { fonio_module base; fonio_conv2d *conv2d; } net;              // class Net(nn.Module):
 *
 *   static fonio_tensor *net_forward(fonio_module *module, fonio_tensor *x) {     //     def forward(self, x):
 *     return fonio_conv2d_forward(((net *)module)->conv2d, x);                    //         return self.conv2d(x)
 *   }
 *   static const fonio_module_class net_class = FONIO_MODULE_CLASS(net, .name = "Net", .forward = net_forward);
 *
 *   net *n = fonio_module_new(&net_class);                                        // n = Net()
 *   n->conv2d = fonio_conv2d_new(.in_channels = 3, .out_channels = 64, .kernel_size = 4);
 *   fonio_module_add(&n->base, "conv2d", n->conv2d);
 *   fonio_tensor *y = fonio_module_forward(&n->base, x);                          // y = n(x)
 *   fonio_module_release(&n->base);
 *
 * Who owns what: a module owns its children, parameters, buffers and hooks, and releases them when it goes. A child
 * that is added belongs to the module from then on. A tensor that is set is retained: the caller still releases its own
 * reference. Pointers that are asked of a module are borrowed; a parameter stays the same tensor through
 * fonio_module_to and fonio_module_load_state_dict.
 *
 * Threads: several may run one module at a time; changing a module while another thread uses it is not safe. Trees are
 * at most 1000 modules deep, like Python's: beyond that a call fails with FONIO_RUNTIME_ERROR. */
#ifndef FONIO_NN_H
#define FONIO_NN_H

#include <fonio/autograd.h>
#include <fonio/print.h>
#include <fonio/random.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Modules of one's own: class Net(nn.Module) ---- */

/* What every module begins with: the first member of a module's struct, named `base`. Its contents are the library's.
 */
typedef struct fonio_module {
  struct fonio_module_state *state;
} fonio_module;

/* What modules of one kind have in common. FONIO_MODULE_CLASS fills it in; it must outlive its modules. */
typedef struct fonio_module_class {
  size_t struct_bytes; /* sizeof(fonio_module_class) */
  size_t module_bytes; /* the bytes of the module's struct */
  const char *name;    /* as it is printed: "Net" */

  /* forward(self, input): a new tensor, or NULL after a failure (its own it notes with fonio_fail). NULL: the module
   * cannot be run. */
  fonio_tensor *(*forward)(fonio_module *module, fonio_tensor *input);

  /* extra_repr(self): what is printed between the brackets. Writes at most `bytes` bytes as snprintf does, the final 0
   * among them, and returns the whole length. NULL: nothing. */
  size_t (*extra_repr)(const fonio_module *module, char *text, size_t bytes);

  /* Releases what the struct owns besides the tree, before the tree goes. NULL: nothing. */
  void (*release)(fonio_module *module);
} fonio_module_class;

/* A class for modules of the struct `type`. It does not compile unless `type` begins with `fonio_module base`. */
#define FONIO_MODULE_CLASS(type, ...)                                                                                  \
  {                                                                                                                    \
    .struct_bytes = sizeof(fonio_module_class),                                                                        \
    .module_bytes = sizeof(type) + 0 * sizeof(char[offsetof(type, base) == 0 ? 1 : -1]), __VA_ARGS__                   \
  }

/* A new module of `type`: its struct, all zero behind the base, to be assigned to a pointer of the struct's type. In
 * training mode, as torch's. Released with fonio_module_release. */
FONIO_NEW void *fonio_module_new(const fonio_module_class *type);

/* Takes one more reference and returns `module`. Every place in a tree needs one: a module that is to stand in two
 * places is added the second time as fonio_module_add_child(module, name, fonio_module_retain(child)). */
FONIO_NEW fonio_module *fonio_module_retain(fonio_module *module);

/* Gives one reference back; with the last one the module goes, and gives back its children's. NULL is ignored. */
FONIO_API void fonio_module_release(fonio_module *module);

/* type(module). NULL for NULL. */
FONIO_API const fonio_module_class *fonio_module_type(const fonio_module *module);

/* ---- Children ---- */

/* module.add_module(name, child), which is self.<name> = child: `child` is a module of any struct that begins with
 * `fonio_module base`. See fonio_module_add_child. C only. */
#define fonio_module_add(module, name, child) fonio_module_add_child((module), (name), FONIO_MODULE(child))

/* The module that a struct begins with, checked by the compiler; NULL for NULL. C only. */
#define FONIO_MODULE(struct_pointer)                                                                                   \
  _Generic(&(struct_pointer)->base, fonio_module * : (fonio_module *)(void *)(struct_pointer))

/* The same for a pointer to the module itself. The module takes over the caller's reference to `child`, and holds it
 * also when the call fails: what was made then lives as long as the module, under no name. Only where the child is or
 * holds the module (FONIO_VALUE_ERROR), or is too deep, does the reference stay the caller's. A known name gets the new
 * child in its old place. FONIO_KEY_ERROR with torch's texts for a name that will not do. `child` NULL (it could not be
 * made): the status of that failure. */
FONIO_API fonio_status fonio_module_add_child(fonio_module *module, const char *name, fonio_module *child);

/* list(module.named_children()): how many there are, and the i-th one's name and module; NULL out of range. */
FONIO_API int64_t fonio_module_child_count(const fonio_module *module);
FONIO_API const char *fonio_module_child_name_at(const fonio_module *module, int64_t index);
FONIO_API fonio_module *fonio_module_child_at(const fonio_module *module, int64_t index);

/* module.get_submodule("features.0"); "" is the module itself. FONIO_KEY_ERROR with torch's texts. */
FONIO_API fonio_module *fonio_module_get_submodule(fonio_module *module, const char *path);

/* Calls `visit` for each module of named_modules(): the module itself under "", then its children, each with what is
 * below it; a module that stands in several places once. Ends with the first status that is not FONIO_OK. */
typedef fonio_status (*fonio_module_visitor)(fonio_module *module, const char *name, void *user);
FONIO_API fonio_status fonio_module_visit(fonio_module *module, fonio_module_visitor visit, void *user);

/* module.apply(function): for the children and what is below them first, then for the module. Ends with the first
 * status that is not FONIO_OK. */
typedef fonio_status (*fonio_module_function)(fonio_module *module, void *user);
FONIO_API fonio_status fonio_module_apply(fonio_module *module, fonio_module_function function, void *user);

/* ---- Parameters and buffers ---- */

/* nn.Parameter(data, requires_grad): a new tensor over the same storage. FONIO_RUNTIME_ERROR with torch's text for a
 * dtype that can have no gradient. */
FONIO_NEW fonio_tensor *fonio_parameter_new(fonio_tensor *data, bool requires_grad);

/* Whether the tensor is an nn.Parameter. */
FONIO_API bool fonio_tensor_is_parameter(const fonio_tensor *tensor);

/* module.register_parameter(name, parameter), which is self.<name> = parameter. FONIO_KEY_ERROR for a name that will
 * not do, FONIO_TYPE_ERROR for a tensor that is no parameter, with torch's texts. */
FONIO_API fonio_status fonio_module_set_parameter(fonio_module *module, const char *name, fonio_tensor *parameter);

/* module.register_buffer(name, tensor): a tensor of the module's state that is not trained. */
FONIO_API fonio_status fonio_module_set_buffer(fonio_module *module, const char *name, fonio_tensor *tensor);

/* module.get_parameter("conv2d.weight"), borrowed. FONIO_KEY_ERROR with torch's texts. */
FONIO_API fonio_tensor *fonio_module_get_parameter(fonio_module *module, const char *path);

/* dict(module.named_parameters()) and dict(module.named_buffers()): the tensors themselves under their paths, one that
 * stands in several places once. */
FONIO_NEW fonio_dict *fonio_module_named_parameters(fonio_module *module);
FONIO_NEW fonio_dict *fonio_module_named_buffers(fonio_module *module);

/* module.requires_grad_(requires_grad) */
FONIO_API fonio_status fonio_module_set_requires_grad(fonio_module *module, bool requires_grad);

/* module.zero_grad(): no parameter has a .grad afterwards. */
FONIO_API fonio_status fonio_module_zero_grad(fonio_module *module);

/* module.to(dtype): converts the floating-point and complex parameters, their gradients and the buffers; all of them
 * or, on failure, none. FONIO_TYPE_ERROR with torch's text for another dtype. */
FONIO_API fonio_status fonio_module_to(fonio_module *module, fonio_dtype dtype);

/* module.train(mode), of the whole tree; fonio_module_train(module, false) is module.eval(). */
FONIO_API fonio_status fonio_module_train(fonio_module *module, bool mode);

/* module.training */
FONIO_API bool fonio_module_training(const fonio_module *module);

/* ---- Running, and hooks ---- */

/* module(input): the hooks before, forward, the hooks after. A new tensor. FONIO_NOT_IMPLEMENTED with torch's text for
 * a class without a forward. */
FONIO_NEW fonio_tensor *fonio_module_forward(fonio_module *module, fonio_tensor *input);

/* Called before forward. It may put a new tensor, which the library releases, in `*changed` (NULL when called): that
 * goes on instead of `input`. A status that is not FONIO_OK, noted with fonio_fail, ends the run. */
typedef fonio_status (*fonio_forward_pre_hook)(fonio_module *module, fonio_tensor *input, fonio_tensor **changed,
                                               void *user);

/* Called after forward, in the same way: `*changed` goes on instead of `output`. */
typedef fonio_status (*fonio_forward_hook)(fonio_module *module, fonio_tensor *input, fonio_tensor *output,
                                           fonio_tensor **changed, void *user);

/* module.register_forward_pre_hook(hook), module.register_forward_hook(hook): hooks run in the order in which they
 * came. Writes a handle, unique in the module, unless `handle` is NULL. */
FONIO_API fonio_status fonio_module_add_forward_pre_hook(fonio_module *module, fonio_forward_pre_hook hook, void *user,
                                                         int64_t *handle);
FONIO_API fonio_status fonio_module_add_forward_hook(fonio_module *module, fonio_forward_hook hook, void *user,
                                                     int64_t *handle);

/* handle.remove(). A handle that is gone is ignored, as in torch; a run that has begun still calls the hook. */
FONIO_API fonio_status fonio_module_remove_hook(fonio_module *module, int64_t handle);

/* ---- State dictionaries ---- */

/* module.state_dict(): the parameters and buffers of the tree, detached, over the same storage. */
FONIO_NEW fonio_dict *fonio_module_state_dict(fonio_module *module);

/* What load_state_dict returns. Released as one, with fonio_incompatible_keys_release. */
typedef struct fonio_incompatible_keys {
  int64_t missing_count, unexpected_count;
  const char *const *missing;    /* in the module, not in the dictionary */
  const char *const *unexpected; /* in the dictionary, not in the module */
} fonio_incompatible_keys;

/* module.load_state_dict(dict, strict): copies in place, converting. What fits is copied even where the call then fails
 * with torch's FONIO_RUNTIME_ERROR, which lists missing and unexpected keys (unless not `strict`) and sizes that
 * differ; without memory nothing is. Writes the keys unless `keys` is NULL. */
FONIO_API fonio_status fonio_module_load_state_dict(fonio_module *module, const fonio_dict *dict, bool strict,
                                                    fonio_incompatible_keys **keys);

FONIO_API void fonio_incompatible_keys_release(fonio_incompatible_keys *keys);

/* ---- Text ---- */

/* repr(module), such as "Net(\n  (conv2d): Conv2d(3, 64, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))\n)".
 * Released with fonio_text_release. */
FONIO_NEW char *fonio_module_to_text(const fonio_module *module);

/* print(module), to stdout. */
FONIO_API fonio_status fonio_module_print(const fonio_module *module);

/* ---- nn.Conv2d ---- */

/* The arguments of nn.Conv2d. in_channels, out_channels and kernel_size must be given; the others are torch's defaults.
 * Of each pair, the second may be FONIO_BOTH: as the first. */
typedef struct fonio_conv2d_options {
  size_t struct_bytes; /* sizeof(fonio_conv2d_options) */
  int64_t in_channels, out_channels;
  int64_t kernel_size[2];   /* (height, width) */
  int64_t stride[2];        /* (vertical, horizontal) */
  int64_t padding[2];       /* on both sides, (vertical, horizontal) */
  int64_t padding_sides[4]; /* (top, bottom, left, right) in place of `padding`; the first FONIO_BOTH: not given */
  /* In place of `padding`: "valid", "same" or "same_lower", as in fonio_conv2d_args; or NULL. */
  const char *padding_name;
  int64_t dilation[2]; /* (vertical, horizontal) */
  int64_t groups;
  bool bias;                /* whether there is one */
  const char *padding_mode; /* "zeros", "reflect", "replicate" or "circular"; NULL is "zeros" */
  fonio_dtype dtype;
} fonio_conv2d_options;

/* The defaults, for C++ and for other languages. */
FONIO_API fonio_conv2d_options fonio_conv2d_options_default(void);

#define FONIO_CONV2D_LAYER_DEFAULTS                                                                                    \
  .in_channels = FONIO_BOTH, .out_channels = FONIO_BOTH, .kernel_size = {FONIO_BOTH, FONIO_BOTH}, .bias = true,        \
  .dtype = FONIO_FLOAT32, FONIO_CONV2D_DEFAULTS

/* The layer. Behind the base it is the library's: made by the functions below only. */
typedef struct fonio_conv2d {
  fonio_module base;
} fonio_conv2d;

/* nn.Conv2d(...), with weight and bias drawn from the default generator as torch draws them, bit for bit. `options` is
 * copied. A stride of 0 or a negative padding is found by forward, as in torch. FONIO_TYPE_ERROR (an argument is
 * missing), FONIO_VALUE_ERROR, FONIO_RUNTIME_ERROR, with torch's texts. Released with fonio_module_release, unless it
 * is added to a module. */
FONIO_NEW fonio_conv2d *fonio_conv2d_new_with(const fonio_conv2d_options *options);

/* The same with keyword arguments: fonio_conv2d_new(.in_channels = 3, .out_channels = 8, .kernel_size = {3, 5}). C
 * only. */
#define fonio_conv2d_new(...)                                                                                          \
  __extension__({                                                                                                      \
    fonio_conv2d_options fonio_layer_options_ =                                                                        \
        FONIO_WITH_DEFAULTS(fonio_conv2d_options, FONIO_CONV2D_LAYER_DEFAULTS, __VA_ARGS__);                           \
    fonio_conv2d_new_with(&fonio_layer_options_);                                                                      \
  })

/* nn.LazyConv2d(...): in_channels (FONIO_TYPE_ERROR when given) is that of the first input, and only then weight and
 * bias are drawn; from then on it is a Conv2d. Until then its parameters are torch's UninitializedParameter: they have
 * the shape (0). */
FONIO_NEW fonio_conv2d *fonio_lazy_conv2d_new_with(const fonio_conv2d_options *options);
#define fonio_lazy_conv2d_new(...)                                                                                     \
  __extension__({                                                                                                      \
    fonio_conv2d_options fonio_layer_options_ =                                                                        \
        FONIO_WITH_DEFAULTS(fonio_conv2d_options, FONIO_CONV2D_LAYER_DEFAULTS, __VA_ARGS__);                           \
    fonio_lazy_conv2d_new_with(&fonio_layer_options_);                                                                 \
  })

/* The layer that a module is, for fonio_module_apply and the like; NULL when it is another kind (no failure). */
FONIO_API fonio_conv2d *fonio_conv2d_of_module(fonio_module *module);

/* conv(input): fonio_module_forward of the layer. */
FONIO_NEW fonio_tensor *fonio_conv2d_forward(fonio_conv2d *conv, fonio_tensor *input);

/* conv.weight and conv.bias, borrowed; NULL for a bias that there is not. */
FONIO_API fonio_tensor *fonio_conv2d_weight(const fonio_conv2d *conv);
FONIO_API fonio_tensor *fonio_conv2d_bias(const fonio_conv2d *conv);

/* conv.weight = weight, conv.bias = bias: parameters, retained; any shape, as in torch. NULL for `bias` takes it away.
 */
FONIO_API fonio_status fonio_conv2d_set_weight(fonio_conv2d *conv, fonio_tensor *weight);
FONIO_API fonio_status fonio_conv2d_set_bias(fonio_conv2d *conv, fonio_tensor *bias);

/* The arguments that the layer was made with, pairs and names resolved; borrowed. */
FONIO_API const fonio_conv2d_options *fonio_conv2d_get_options(const fonio_conv2d *conv);

/* conv.reset_parameters(): draws weight and bias anew. */
FONIO_API fonio_status fonio_conv2d_reset_parameters(fonio_conv2d *conv);

/* ---- nn.Linear ---- */

/* The arguments of nn.Linear. in_features and out_features must be given. */
typedef struct fonio_linear_options {
  size_t struct_bytes; /* sizeof(fonio_linear_options) */
  int64_t in_features, out_features;
  bool bias; /* whether there is one */
  fonio_dtype dtype;
} fonio_linear_options;

#define FONIO_LINEAR_DEFAULTS                                                                                          \
  .in_features = FONIO_BOTH, .out_features = FONIO_BOTH, .bias = true, .dtype = FONIO_FLOAT32

/* The defaults, for C++ and for other languages. */
FONIO_API fonio_linear_options fonio_linear_options_default(void);

typedef struct fonio_linear {
  fonio_module base;
} fonio_linear;

/* nn.Linear(...), with weight (out_features, in_features) and bias (out_features) drawn as torch draws them, bit for
 * bit. FONIO_TYPE_ERROR (an argument is missing), FONIO_RUNTIME_ERROR with torch's texts. Owned as fonio_conv2d_new. */
FONIO_NEW fonio_linear *fonio_linear_new_with(const fonio_linear_options *options);

/* The same with keyword arguments: fonio_linear_new(.in_features = 8, .out_features = 2). C only. */
#define fonio_linear_new(...)                                                                                          \
  __extension__({                                                                                                      \
    fonio_linear_options fonio_linear_options_ =                                                                       \
        FONIO_WITH_DEFAULTS(fonio_linear_options, FONIO_LINEAR_DEFAULTS, __VA_ARGS__);                                 \
    fonio_linear_new_with(&fonio_linear_options_);                                                                     \
  })

/* linear.weight and linear.bias, borrowed; NULL for a bias that there is not. */
FONIO_API fonio_tensor *fonio_linear_weight(const fonio_linear *linear);
FONIO_API fonio_tensor *fonio_linear_bias(const fonio_linear *linear);

/* linear.reset_parameters(): draws weight and bias anew. */
FONIO_API fonio_status fonio_linear_reset_parameters(fonio_linear *linear);

/* ---- Layers without parameters ---- */

typedef struct fonio_relu {
  fonio_module base;
} fonio_relu;

/* nn.ReLU(). */
FONIO_NEW fonio_relu *fonio_relu_new(void);

typedef struct fonio_flatten {
  fonio_module base;
} fonio_flatten;

/* nn.Flatten(start_dim, end_dim); torch's defaults: 1, -1. */
FONIO_NEW fonio_flatten *fonio_flatten_new(int start_dim, int end_dim);

typedef struct fonio_pool2d {
  fonio_module base;
} fonio_pool2d;

/* nn.MaxPool2d(...) and nn.AvgPool2d(...): the arguments of fonio_tensor_max_pool2d, copied; forward checks them.
 * FONIO_TYPE_ERROR without a kernel_size. */
FONIO_NEW fonio_pool2d *fonio_max_pool2d_new_with(const fonio_pool2d_args *args);
FONIO_NEW fonio_pool2d *fonio_avg_pool2d_new_with(const fonio_pool2d_args *args);

/* The same with keyword arguments: fonio_max_pool2d_new(.kernel_size = 2). C only. */
#define fonio_max_pool2d_new(...) fonio_pool2d_new_keywords_(max, __VA_ARGS__)
#define fonio_avg_pool2d_new(...) fonio_pool2d_new_keywords_(avg, __VA_ARGS__)
#define fonio_pool2d_new_keywords_(kind, ...)                                                                          \
  __extension__({                                                                                                      \
    fonio_pool2d_args fonio_pool_ = FONIO_WITH_DEFAULTS(fonio_pool2d_args, FONIO_POOL2D_DEFAULTS, __VA_ARGS__);        \
    fonio_##kind##_pool2d_new_with(&fonio_pool_);                                                                      \
  })

/* ---- nn.Sequential ---- */

typedef struct fonio_sequential {
  fonio_module base;
} fonio_sequential;

/* nn.Sequential(): each child's output is the next one's input. fonio_module_add gives children names of one's own. */
FONIO_NEW fonio_sequential *fonio_sequential_new(void);

/* sequential.append(child): under the number of children there were. `child` as in fonio_module_add. C only. */
#define fonio_sequential_append(sequential, child) fonio_sequential_append_child((sequential), FONIO_MODULE(child))

/* The same for a pointer to the module itself; fonio_module_add_child says who owns it. */
FONIO_API fonio_status fonio_sequential_append_child(fonio_sequential *sequential, fonio_module *child);

/* ---- torch.nn.init: in place, as under torch.no_grad(), from the default generator ----
 *
 * Texts, warnings and kinds of failure are torch's (where Python fails to divide by zero: FONIO_VALUE_ERROR). `mode` is
 * "fan_in" (also NULL) or "fan_out". `nonlinearity` is "leaky_relu" (also NULL), "relu", "tanh", "selu", "sigmoid",
 * "linear" or "conv2d" and its relatives; `a` is the negative slope of leaky_relu. What is said of the bits at
 * fonio_tensor_uniform and fonio_tensor_normal holds here. */

FONIO_API fonio_status fonio_init_uniform(fonio_tensor *tensor, double a, double b);
FONIO_API fonio_status fonio_init_normal(fonio_tensor *tensor, double mean, double std);
FONIO_API fonio_status fonio_init_constant(fonio_tensor *tensor, double value);
FONIO_API fonio_status fonio_init_ones(fonio_tensor *tensor);
FONIO_API fonio_status fonio_init_zeros(fonio_tensor *tensor);
FONIO_API fonio_status fonio_init_dirac(fonio_tensor *tensor, int64_t groups);
FONIO_API fonio_status fonio_init_xavier_uniform(fonio_tensor *tensor, double gain);
FONIO_API fonio_status fonio_init_xavier_normal(fonio_tensor *tensor, double gain);
FONIO_API fonio_status fonio_init_kaiming_uniform(fonio_tensor *tensor, double a, const char *mode,
                                                  const char *nonlinearity);
FONIO_API fonio_status fonio_init_kaiming_normal(fonio_tensor *tensor, double a, const char *mode,
                                                 const char *nonlinearity);

/* nn.init.calculate_gain(nonlinearity, a). */
FONIO_API fonio_status fonio_init_calculate_gain(const char *nonlinearity, double a, double *gain);

#ifdef __cplusplus
}
#endif

#endif
