/* Optimisers: torch.optim.
 *
 *   fonio_dict *parameters = fonio_module_named_parameters(&net->base);
 *   fonio_optimizer *optimizer = fonio_sgd_new(parameters, .lr = 0.1, .momentum = 0.9);
 *   fonio_dict_release(parameters);
 *   for (...) {
 *     fonio_optimizer_zero_grad(optimizer);
 *     ...  fonio_tensor_backward(loss);  ...
 *     fonio_optimizer_step(optimizer);
 *   }
 *   fonio_optimizer_release(optimizer);
 *
 * The steps are those of torch's single-tensor implementation on a CPU, in its order of operations. An optimiser is
 * used by one thread at a time. */
#ifndef FONIO_OPTIM_H
#define FONIO_OPTIM_H

#include <fonio/autograd.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fonio_optimizer fonio_optimizer;

/* torch.optim.SGD's arguments. */
typedef struct fonio_sgd_options {
  size_t struct_bytes; /* sizeof(fonio_sgd_options) */
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;
} fonio_sgd_options;

#define FONIO_SGD_DEFAULTS .lr = 1e-3

/* The defaults, for C++ and for other languages. */
FONIO_API fonio_sgd_options fonio_sgd_options_default(void);

/* torch.optim.SGD(parameters, ...): `parameters` are leaves of float32 or float64, which the optimiser retains under
 * their names. FONIO_VALUE_ERROR with torch's texts. Released with fonio_optimizer_release. */
FONIO_NEW fonio_optimizer *fonio_sgd_new_with(const fonio_dict *parameters, const fonio_sgd_options *options);

/* The same with keyword arguments. C only. */
#define fonio_sgd_new(parameters, ...)                                                                                 \
  __extension__({                                                                                                      \
    fonio_sgd_options fonio_sgd_ = FONIO_WITH_DEFAULTS(fonio_sgd_options, FONIO_SGD_DEFAULTS, __VA_ARGS__);            \
    fonio_sgd_new_with((parameters), &fonio_sgd_);                                                                     \
  })

/* torch.optim.Adam's and AdamW's arguments. */
typedef struct fonio_adam_options {
  size_t struct_bytes; /* sizeof(fonio_adam_options) */
  double lr, betas[2], eps, weight_decay;
  bool amsgrad, maximize;
  bool decoupled_weight_decay; /* AdamW */
} fonio_adam_options;

#define FONIO_ADAM_DEFAULTS .lr = 1e-3, .betas = {0.9, 0.999}, .eps = 1e-8
#define FONIO_ADAMW_DEFAULTS FONIO_ADAM_DEFAULTS, .weight_decay = 1e-2, .decoupled_weight_decay = true

FONIO_API fonio_adam_options fonio_adam_options_default(void);
FONIO_API fonio_adam_options fonio_adamw_options_default(void);

/* torch.optim.Adam(parameters, ...), torch.optim.AdamW(parameters, ...): as fonio_sgd_new_with. */
FONIO_NEW fonio_optimizer *fonio_adam_new_with(const fonio_dict *parameters, const fonio_adam_options *options);

/* The same with keyword arguments. C only. */
#define fonio_adam_new(parameters, ...) fonio_adam_keywords_(parameters, FONIO_ADAM_DEFAULTS, __VA_ARGS__)
#define fonio_adamw_new(parameters, ...) fonio_adam_keywords_(parameters, FONIO_ADAMW_DEFAULTS, __VA_ARGS__)
#define fonio_adam_keywords_(parameters, ...)                                                                          \
  __extension__({                                                                                                      \
    fonio_adam_options fonio_adam_ = FONIO_WITH_DEFAULTS(fonio_adam_options, __VA_ARGS__);                             \
    fonio_adam_new_with((parameters), &fonio_adam_);                                                                   \
  })

/* Releases the optimiser, what it keeps, and its references to the parameters; NULL is ignored. */
FONIO_API void fonio_optimizer_release(fonio_optimizer *optimizer);

/* optimizer.step(): changes every parameter that has a .grad, in place. On failure (FONIO_NO_MEMORY, and only in a
 * first step; FONIO_RUNTIME_ERROR for a parameter whose elements share memory) none is changed. */
FONIO_API fonio_status fonio_optimizer_step(fonio_optimizer *optimizer);

/* optimizer.zero_grad(): no parameter has a .grad afterwards. */
FONIO_API fonio_status fonio_optimizer_zero_grad(fonio_optimizer *optimizer);

/* optimizer.param_groups[0]["lr"]; NaN for NULL. */
FONIO_API double fonio_optimizer_lr(const fonio_optimizer *optimizer);
FONIO_API fonio_status fonio_optimizer_set_lr(fonio_optimizer *optimizer, double lr);

/* What the optimiser has kept of its steps, for a checkpoint: a new dictionary of tensors over the same memory. For a
 * parameter w: "w.momentum_buffer" (SGD), or "w.step" (float32, no dimensions, as in torch), "w.exp_avg",
 * "w.exp_avg_sq" and "w.max_exp_avg_sq" (Adam). */
FONIO_NEW fonio_dict *fonio_optimizer_state_dict(const fonio_optimizer *optimizer);

/* Copies such a dictionary back. A parameter of which there is nothing begins anew. FONIO_KEY_ERROR where only some of
 * what belongs to a parameter is there, FONIO_RUNTIME_ERROR for a wrong shape: nothing is then changed. */
FONIO_API fonio_status fonio_optimizer_load_state_dict(fonio_optimizer *optimizer, const fonio_dict *dict);

#ifdef __cplusplus
}
#endif

#endif
