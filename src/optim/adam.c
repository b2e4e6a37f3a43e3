/* torch.optim.Adam and AdamW. */
#include <math.h>

#include "base/error.h"
#include "optim/arithmetic.h"
#include "optim/optimizer.h"
#include "tensor/copy.h"

enum { AVERAGE, SQUARE, LARGEST };

fonio_adam_options fonio_adam_options_default(void) {
  return FONIO_WITH_DEFAULTS(fonio_adam_options, FONIO_ADAM_DEFAULTS, .struct_bytes = sizeof(fonio_adam_options));
}

fonio_adam_options fonio_adamw_options_default(void) {
  return FONIO_WITH_DEFAULTS(fonio_adam_options, FONIO_ADAMW_DEFAULTS, .struct_bytes = sizeof(fonio_adam_options));
}

static int used(const fonio_optimizer *optimizer) {
  return optimizer->adam.amsgrad ? 3 : 2;
}

static bool decays_gradient(const fonio_adam_options *o) {
  return o->weight_decay != 0 && !o->decoupled_weight_decay;
}

static bool changes_gradient(const fonio_optimizer *optimizer) {
  return decays_gradient(&optimizer->adam) || optimizer->adam.maximize;
}

static const fonio_tensor *gradient_of(const fonio_adam_options *o, optim_slot *slot) {
  fonio_tensor *gradient = slot->gradient;
  if (!gradient) return slot->parameter->grad;
  copy_values(gradient, slot->parameter->grad);
  if (o->maximize) optim_apply(OPTIM_SCALE, gradient, NULL, NULL, -1, 0, 0);
  if (decays_gradient(o)) optim_apply(OPTIM_ADD, gradient, slot->parameter, NULL, o->weight_decay, 0, 0);
  return gradient;
}

static void step(fonio_optimizer *optimizer, optim_slot *slot, bool first) {
  (void)first;
  const fonio_adam_options *o = &optimizer->adam;
  fonio_tensor *p = slot->parameter, *average = slot->buffers[AVERAGE], *square = slot->buffers[SQUARE];
  if (o->weight_decay != 0 && o->decoupled_weight_decay)
    optim_apply(OPTIM_SCALE, p, NULL, NULL, 1 - o->lr * o->weight_decay, 0, 0);
  const fonio_tensor *gradient = gradient_of(o, slot);
  optim_apply(OPTIM_LERP, average, gradient, NULL, 1 - o->betas[0], 0, 0);
  optim_apply(OPTIM_SCALE, square, NULL, NULL, o->betas[1], 0, 0);
  optim_apply(OPTIM_SQUARE, square, gradient, NULL, 1 - o->betas[1], 0, 0);
  if (o->amsgrad) optim_apply(OPTIM_MOST, slot->buffers[LARGEST], square, NULL, 0, 0, 0);
  double steps = (double)*(const float *)tensor_at_offset(slot->step);
  double correction = 1 - pow(o->betas[0], steps), root = sqrt(1 - pow(o->betas[1], steps));
  optim_apply(OPTIM_DIVIDE, p, average, o->amsgrad ? slot->buffers[LARGEST] : square, -(o->lr / correction), root,
              o->eps);
}

static const optim_kind adam = {.buffers = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
                                .counts = true,
                                .used = used,
                                .changes_gradient = changes_gradient,
                                .step = step};

static fonio_status check(const fonio_adam_options *o) {
  if (o->struct_bytes != sizeof *o)
    return fail(FONIO_VALUE_ERROR, "fonio_adam_options of %zu bytes: start from fonio_adam_options_default()",
                o->struct_bytes);
  fonio_status status = optim_check("learning rate", o->lr);
  if (!status) status = optim_check("epsilon value", o->eps);
  for (int i = 0; !status && i < 2; i++)
    if (!(o->betas[i] >= 0 && o->betas[i] < 1))
      status = fail(FONIO_VALUE_ERROR, "Invalid beta parameter at index %d: %s", i, optim_number(o->betas[i]).text);
  return status ? status : optim_check("weight_decay value", o->weight_decay);
}

fonio_optimizer *fonio_adam_new_with(const fonio_dict *parameters, const fonio_adam_options *options) {
  if (!parameters || !options) return fail_given_null("fonio_adam_new"), NULL;
  if (check(options)) return NULL;
  fonio_optimizer *optimizer = optim_new(&adam, parameters);
  if (!optimizer) return NULL;
  optimizer->adam = *options;
  optimizer->lr = &optimizer->adam.lr;
  return optimizer;
}
