/* torch.optim.SGD. */
#include "base/error.h"
#include "optim/arithmetic.h"
#include "optim/optimizer.h"
#include "tensor/copy.h"

fonio_sgd_options fonio_sgd_options_default(void) {
  return FONIO_WITH_DEFAULTS(fonio_sgd_options, FONIO_SGD_DEFAULTS, .struct_bytes = sizeof(fonio_sgd_options));
}

static int used(const fonio_optimizer *optimizer) {
  return optimizer->sgd.momentum != 0;
}

static bool changes_gradient(const fonio_optimizer *optimizer) {
  return optimizer->sgd.weight_decay != 0 || optimizer->sgd.maximize || optimizer->sgd.nesterov;
}

/* The gradient, to be changed where it has to be. */
static fonio_tensor *gradient_of(const fonio_sgd_options *o, optim_slot *slot) {
  fonio_tensor *gradient = slot->gradient;
  if (!gradient) return slot->parameter->grad;
  copy_values(gradient, slot->parameter->grad);
  if (o->maximize) optim_apply(OPTIM_SCALE, gradient, NULL, NULL, -1, 0, 0);
  if (o->weight_decay != 0) optim_apply(OPTIM_ADD, gradient, slot->parameter, NULL, o->weight_decay, 0, 0);
  return gradient;
}

static void step(fonio_optimizer *optimizer, optim_slot *slot, bool first) {
  const fonio_sgd_options *o = &optimizer->sgd;
  fonio_tensor *gradient = gradient_of(o, slot), *momentum = slot->buffers[0];
  if (o->momentum != 0) {
    if (!first) optim_apply(OPTIM_SCALE, momentum, NULL, NULL, o->momentum, 0, 0);
    if (first)
      copy_values(momentum, gradient);
    else
      optim_apply(OPTIM_ADD, momentum, gradient, NULL, 1 - o->dampening, 0, 0);
    if (o->nesterov)
      optim_apply(OPTIM_ADD, gradient, momentum, NULL, o->momentum, 0, 0);
    else
      gradient = momentum;
  }
  optim_apply(OPTIM_ADD, slot->parameter, gradient, NULL, -o->lr, 0, 0);
}

static const optim_kind sgd = {
    .buffers = {"momentum_buffer"}, .used = used, .changes_gradient = changes_gradient, .step = step};

static fonio_status check(const fonio_sgd_options *o) {
  if (o->struct_bytes != sizeof *o)
    return fail(FONIO_VALUE_ERROR, "fonio_sgd_options of %zu bytes: start from fonio_sgd_options_default()",
                o->struct_bytes);
  fonio_status status = optim_check("learning rate", o->lr);
  if (!status) status = optim_check("momentum value", o->momentum);
  if (!status) status = optim_check("weight_decay value", o->weight_decay);
  if (!status && o->nesterov && (o->momentum <= 0 || o->dampening != 0))
    status = fail(FONIO_VALUE_ERROR, "Nesterov momentum requires a momentum and zero dampening");
  return status;
}

fonio_optimizer *fonio_sgd_new_with(const fonio_dict *parameters, const fonio_sgd_options *options) {
  if (!parameters || !options) return fail_given_null("fonio_sgd_new"), NULL;
  if (check(options)) return NULL;
  fonio_optimizer *optimizer = optim_new(&sgd, parameters);
  if (!optimizer) return NULL;
  optimizer->sgd = *options;
  optimizer->lr = &optimizer->sgd.lr;
  return optimizer;
}
