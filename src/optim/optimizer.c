/* What all optimisers have in common: the parameters, and what is kept of them. */
#include "optim/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/number.h"
#include "tensor/text.h"

/* ---- Texts ---- */

optim_text optim_number(double value) {
  optim_text number;
  for (int precision = 1; precision <= 17; precision++) {
    number_to_text(number.text, sizeof number.text - 2, 'g', precision, value);
    if (strtod(number.text, NULL) == value) break;
  }
  if (isfinite(value) && !strpbrk(number.text, ".e")) strcat(number.text, ".0");
  return number;
}

fonio_status optim_check(const char *what, double value) {
  if (value >= 0) return FONIO_OK;
  return fail(FONIO_VALUE_ERROR, "Invalid %s: %s", what, optim_number(value).text);
}

/* ---- Life ---- */

static fonio_status check_parameter(const fonio_tensor *parameter) {
  if (parameter->node) return fail(FONIO_VALUE_ERROR, "can't optimize a non-leaf Tensor");
  if (parameter->dtype == FONIO_FLOAT32 || parameter->dtype == FONIO_FLOAT64) return FONIO_OK;
  return fail(FONIO_NOT_IMPLEMENTED, "an optimizer for parameters of %s is not implemented",
              fonio_dtype_name(parameter->dtype));
}

static fonio_status fill_slots(fonio_optimizer *optimizer, const fonio_dict *parameters) {
  for (int64_t i = 0; i < fonio_dict_size(parameters); i++) {
    optim_slot *slot = &optimizer->slots[i];
    fonio_tensor *parameter = fonio_dict_tensor_at(parameters, i);
    if (check_parameter(parameter)) return fonio_last_status();
    slot->name = memory_copy_text(fonio_dict_name_at(parameters, i));
    if (!slot->name) return fonio_last_status();
    slot->parameter = fonio_tensor_retain(parameter);
    optimizer->count++;
  }
  return FONIO_OK;
}

fonio_optimizer *optim_new(const optim_kind *kind, const fonio_dict *parameters) {
  int64_t count = fonio_dict_size(parameters);
  if (count == 0) return fail_null(FONIO_VALUE_ERROR, "optimizer got an empty parameter list");
  fonio_optimizer *optimizer = memory_take_zeroed(sizeof *optimizer);
  if (!optimizer) return NULL;
  optimizer->kind = kind;
  optimizer->slots = memory_take_zeroed(count * (int64_t)sizeof *optimizer->slots);
  if (optimizer->slots && !fill_slots(optimizer, parameters)) return optimizer;
  fonio_optimizer_release(optimizer);
  return NULL;
}

static void forget(optim_slot *slot) {
  for (int i = 0; i < OPTIM_MOST_BUFFERS; i++)
    fonio_tensor_release(slot->buffers[i]);
  fonio_tensor_release(slot->gradient);
  fonio_tensor_release(slot->step);
}

void fonio_optimizer_release(fonio_optimizer *optimizer) {
  if (!optimizer) return;
  for (int64_t i = 0; i < optimizer->count; i++) {
    forget(&optimizer->slots[i]);
    fonio_tensor_release(optimizer->slots[i].parameter);
    memory_give(optimizer->slots[i].name);
  }
  memory_give(optimizer->slots);
  memory_give(optimizer);
}

/* ---- Steps ---- */

/* What a slot's first step needs, all zero; whole or not at all. */
static fonio_status make_buffers(const fonio_optimizer *optimizer, optim_slot *slot) {
  optim_slot made = {0};
  const fonio_tensor *p = slot->parameter;
  bool complete = true;
  for (int i = 0; complete && i < optimizer->kind->used(optimizer); i++)
    complete = (made.buffers[i] = fonio_tensor_zeros(p->dtype, p->ndim, p->shape)) != NULL;
  if (complete && optimizer->kind->changes_gradient(optimizer))
    complete = (made.gradient = fonio_tensor_empty(p->dtype, p->ndim, p->shape)) != NULL;
  if (complete) complete = (made.step = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SCALAR)) != NULL;
  if (!complete) {
    forget(&made);
    return fonio_last_status();
  }
  memcpy(slot->buffers, made.buffers, sizeof made.buffers);
  slot->gradient = made.gradient;
  slot->step = made.step;
  return FONIO_OK;
}

static bool is_first(const optim_slot *slot) {
  return *(const float *)tensor_at_offset(slot->step) == 0;
}

static fonio_status prepare(const fonio_optimizer *optimizer) {
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < optimizer->count; i++) {
    optim_slot *slot = &optimizer->slots[i];
    if (!slot->parameter->grad) continue;
    status = tensor_check_not_expanded(slot->parameter);
    if (!status && !slot->step) status = make_buffers(optimizer, slot);
  }
  return status;
}

fonio_status fonio_optimizer_step(fonio_optimizer *optimizer) {
  if (!optimizer) return fail_given_null("fonio_optimizer_step");
  fonio_status status = prepare(optimizer);
  for (int64_t i = 0; !status && i < optimizer->count; i++) {
    optim_slot *slot = &optimizer->slots[i];
    if (!slot->parameter->grad) continue;
    bool first = is_first(slot);
    *(float *)tensor_at_offset(slot->step) += 1;
    optimizer->kind->step(optimizer, slot, first);
    tensor_touch(slot->parameter);
  }
  return status;
}

fonio_status fonio_optimizer_zero_grad(fonio_optimizer *optimizer) {
  if (!optimizer) return fail_given_null("fonio_optimizer_zero_grad");
  for (int64_t i = 0; i < optimizer->count; i++)
    fonio_tensor_set_grad(optimizer->slots[i].parameter, NULL);
  return FONIO_OK;
}

double fonio_optimizer_lr(const fonio_optimizer *optimizer) {
  return optimizer ? *optimizer->lr : NAN;
}

fonio_status fonio_optimizer_set_lr(fonio_optimizer *optimizer, double lr) {
  if (!optimizer) return fail_given_null("fonio_optimizer_set_lr");
  fonio_status status = optim_check("learning rate", lr);
  if (!status) *optimizer->lr = lr;
  return status;
}

/* ---- State ---- */

/* The i-th tensor that is kept of a slot, and its name: the count of steps after the buffers; NULL past the last. */
static fonio_tensor **kept_at(const fonio_optimizer *optimizer, optim_slot *slot, int i, const char **name) {
  int used = optimizer->kind->used(optimizer);
  if (i > used || (i == used && !optimizer->kind->counts)) return NULL;
  *name = i < used ? optimizer->kind->buffers[i] : "step";
  return i < used ? &slot->buffers[i] : &slot->step;
}

static const char *key_of(text_buffer *text, const optim_slot *slot, const char *name) {
  text->length = 0;
  text_add(text, slot->name);
  text_add(text, ".");
  text_add(text, name);
  return text_take(text);
}

/* Only what there is after a step: buffers that one has yet to fill are no state. */
static fonio_status add_slot(const fonio_optimizer *optimizer, optim_slot *slot, fonio_dict *dict, text_buffer *text) {
  const char *name;
  fonio_status status = FONIO_OK;
  fonio_tensor **kept;
  bool has_state = slot->step && !is_first(slot);
  for (int i = 0; !status && has_state && (kept = kept_at(optimizer, slot, i, &name)); i++) {
    const char *key = key_of(text, slot, name);
    status = key ? fonio_dict_set(dict, key, *kept) : fonio_last_status();
  }
  return status;
}

fonio_dict *fonio_optimizer_state_dict(const fonio_optimizer *optimizer) {
  if (!optimizer) return fail_given_null("fonio_optimizer_state_dict"), NULL;
  fonio_dict *dict = fonio_dict_new();
  fonio_status status = dict ? FONIO_OK : fonio_last_status();
  text_buffer text = {0};
  for (int64_t i = 0; !status && i < optimizer->count; i++)
    status = add_slot(optimizer, &optimizer->slots[i], dict, &text);
  text_drop(&text);
  if (!status) return dict;
  fonio_dict_release(dict);
  return NULL;
}

/* A copy of what the dictionary has for `like`, in its dtype and shape. */
static fonio_tensor *take_copy(const fonio_tensor *like, const fonio_tensor *given, const char *key) {
  if (!tensor_same_shape(like, given))
    return fail_null(FONIO_RUNTIME_ERROR, "size mismatch for %s: copying a tensor with shape %s, the shape is %s.", key,
                     shape_to_text(given->ndim, given->shape).text, shape_to_text(like->ndim, like->shape).text);
  fonio_tensor *copy = fonio_tensor_empty(like->dtype, like->ndim, like->shape);
  if (!copy || !tensor_copy(copy, given)) return copy;
  fonio_tensor_release(copy);
  return NULL;
}

/* Puts what the dictionary has of a slot into `made`, which has buffers; `*found` of `*asked` were there. */
static fonio_status read_slot(const fonio_optimizer *optimizer, optim_slot *made, const fonio_dict *dict,
                              text_buffer *text, int *found, int *asked) {
  const char *name;
  fonio_tensor **kept;
  for (int i = 0; (kept = kept_at(optimizer, made, i, &name)); i++) {
    const char *key = key_of(text, made, name);
    if (!key) return fonio_last_status();
    fonio_tensor *given = fonio_dict_get(dict, key), *copy = given ? take_copy(*kept, given, key) : NULL;
    if (given && !copy) return fonio_last_status();
    ++*asked;
    if (!given) continue;
    ++*found;
    fonio_tensor_release(*kept);
    *kept = copy;
  }
  if (*found == 0 || *found == *asked) return FONIO_OK;
  return fail(FONIO_KEY_ERROR, "%s: only %d of the %d tensors of an optimizer are there", made->name, *found, *asked);
}

static fonio_status load_slot(const fonio_optimizer *optimizer, optim_slot *made, const fonio_dict *dict,
                              text_buffer *text) {
  int found = 0, asked = 0;
  fonio_status status = make_buffers(optimizer, made);
  if (!status) status = read_slot(optimizer, made, dict, text, &found, &asked);
  /* Without a count, what was kept tells that there were steps. */
  if (!status && found > 0 && !optimizer->kind->counts) *(float *)tensor_at_offset(made->step) = 1;
  return status;
}

fonio_status fonio_optimizer_load_state_dict(fonio_optimizer *optimizer, const fonio_dict *dict) {
  if (!optimizer || !dict) return fail_given_null("fonio_optimizer_load_state_dict");
  optim_slot *made = memory_take_zeroed(optimizer->count * (int64_t)sizeof *made);
  fonio_status status = made ? FONIO_OK : FONIO_NO_MEMORY;
  text_buffer text = {0};
  for (int64_t i = 0; !status && i < optimizer->count; i++) {
    made[i].name = optimizer->slots[i].name;
    made[i].parameter = optimizer->slots[i].parameter;
    status = load_slot(optimizer, &made[i], dict, &text);
  }
  for (int64_t i = 0; made && i < optimizer->count; i++) {
    optim_slot before = optimizer->slots[i];
    if (!status) optimizer->slots[i] = made[i];
    forget(status ? &made[i] : &before);
  }
  text_drop(&text);
  memory_give(made);
  return status;
}
