/* Parameters and buffers: what a tree holds, and what is done to all of it. */
#include <stdatomic.h>

#include "base/error.h"
#include "base/memory.h"
#include "nn/module.h"
#include "tensor/storage.h"

fonio_tensor *fonio_parameter_new(fonio_tensor *data, bool requires_grad) {
  if (!data) return fail_given_null("fonio_parameter_new"), NULL;
  if (requires_grad && !fonio_dtype_is_floating_point(data->dtype) && !fonio_dtype_is_complex(data->dtype))
    return fail_null(FONIO_RUNTIME_ERROR, "Only Tensors of floating point and complex dtype can require gradients");
  fonio_tensor *parameter = fonio_tensor_detach(data);
  if (!parameter) return NULL;
  parameter->kind = TENSOR_PARAMETER;
  parameter->requires_grad = requires_grad;
  return parameter;
}

bool fonio_tensor_is_parameter(const fonio_tensor *tensor) {
  return tensor && tensor->kind != TENSOR_PLAIN;
}

fonio_status fonio_module_set_parameter(fonio_module *module, const char *name, fonio_tensor *parameter) {
  if (!module || !name || !parameter) return fail_given_null("fonio_module_set_parameter");
  fonio_dict *parameters = module->state->parameters;
  if (module_check_name(module, "parameter", name, fonio_dict_get(parameters, name) != NULL))
    return fonio_last_status();
  if (!fonio_tensor_is_parameter(parameter))
    return fail(FONIO_TYPE_ERROR,
                "cannot assign 'torch.%sTensor' object to parameter '%s' (torch.nn.Parameter or None required)",
                fonio_dtype_scalar_name(parameter->dtype), name);
  return fonio_dict_set(parameters, name, parameter);
}

fonio_status fonio_module_set_buffer(fonio_module *module, const char *name, fonio_tensor *tensor) {
  if (!module || !name || !tensor) return fail_given_null("fonio_module_set_buffer");
  fonio_dict *buffers = module->state->buffers;
  if (module_check_name(module, "buffer", name, fonio_dict_get(buffers, name) != NULL)) return fonio_last_status();
  return fonio_dict_set(buffers, name, tensor);
}

/* ---- Of the whole tree ---- */

typedef struct member_list {
  bool buffers;
  fonio_dict *members;
} member_list;

/* Only a tensor with several references can stand in several places. */
static bool has_come(const fonio_dict *members, const fonio_tensor *tensor) {
  if (atomic_load(&tensor->references) == 1) return false;
  for (int64_t i = 0; i < fonio_dict_size(members); i++)
    if (fonio_dict_tensor_at(members, i) == tensor) return true;
  return false;
}

static fonio_status list_members(fonio_module *module, const char *prefix, void *user) {
  const member_list *list = user;
  const fonio_dict *own = list->buffers ? module->state->buffers : module->state->parameters;
  text_buffer text = {0};
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < fonio_dict_size(own); i++) {
    fonio_tensor *tensor = fonio_dict_tensor_at(own, i);
    if (has_come(list->members, tensor)) continue;
    const char *path = module_path(&text, prefix, fonio_dict_name_at(own, i));
    status = path ? fonio_dict_set(list->members, path, tensor) : FONIO_NO_MEMORY;
  }
  text_drop(&text);
  return status;
}

static fonio_dict *members_of(fonio_module *module, bool buffers) {
  member_list list = {buffers, fonio_dict_new()};
  if (!list.members || !module_walk(module, false, list_members, &list)) return list.members;
  fonio_dict_release(list.members);
  return NULL;
}

fonio_dict *fonio_module_named_parameters(fonio_module *module) {
  if (!module) return fail_given_null("fonio_module_named_parameters"), NULL;
  return members_of(module, false);
}

fonio_dict *fonio_module_named_buffers(fonio_module *module) {
  if (!module) return fail_given_null("fonio_module_named_buffers"), NULL;
  return members_of(module, true);
}

fonio_status fonio_module_set_requires_grad(fonio_module *module, bool requires_grad) {
  fonio_dict *parameters = fonio_module_named_parameters(module);
  if (!parameters) return fonio_last_status();
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < fonio_dict_size(parameters); i++) {
    fonio_tensor *parameter = fonio_dict_tensor_at(parameters, i);
    status = parameter->kind == TENSOR_UNINITIALIZED
                 ? module_fail_uninitialized("<method 'requires_grad_' of 'torch._C.TensorBase' objects>")
                 : fonio_tensor_set_requires_grad(parameter, requires_grad);
  }
  fonio_dict_release(parameters);
  return status;
}

fonio_status module_fail_uninitialized(const char *function) {
  return fail(FONIO_VALUE_ERROR,
              "Attempted to use an uninitialized parameter in %s. This error happens when you are using a `LazyModule` "
              "or explicitly manipulating `torch.nn.parameter.UninitializedParameter` objects. When using LazyModules "
              "Call `forward` with a dummy batch to initialize the parameters before calling torch functions",
              function);
}

fonio_status fonio_module_zero_grad(fonio_module *module) {
  fonio_dict *parameters = fonio_module_named_parameters(module);
  if (!parameters) return fonio_last_status();
  for (int64_t i = 0; i < fonio_dict_size(parameters); i++)
    fonio_tensor_set_grad(fonio_dict_tensor_at(parameters, i), NULL);
  fonio_dict_release(parameters);
  return FONIO_OK;
}

/* ---- Other data under the same tensor ---- */

void module_set_data(fonio_tensor *tensor, const fonio_tensor *source) {
  tensor_storage *before = tensor->storage;
  tensor->storage = storage_retain(source->storage);
  /* A graph that has saved the tensor tells by the version that it is no longer what it was. A storage's version never
   * goes back: whoever knows it by an earlier one must not meet that again. */
  int64_t version = atomic_load(&before->version), own = atomic_load(&source->storage->version);
  atomic_store(&tensor->storage->version, (version > own ? version : own) + 1);
  storage_release(before);
  tensor->offset = source->offset;
  tensor->dtype = source->dtype;
  tensor->ndim = source->ndim;
  tensor->numel = source->numel;
  for (int i = 0; i < source->ndim; i++) {
    tensor->shape[i] = source->shape[i];
    tensor->strides[i] = source->strides[i];
  }
}

/* ---- module.to(dtype) ---- */

typedef struct conversion {
  fonio_tensor *tensor, *converted;
} conversion;

typedef struct conversion_list {
  fonio_dtype dtype;
  conversion *items;
  int64_t count, room;
} conversion_list;

static fonio_status convert(conversion_list *list, fonio_tensor *tensor) {
  if (tensor->dtype == list->dtype) return FONIO_OK;
  if (!fonio_dtype_is_floating_point(tensor->dtype) && !fonio_dtype_is_complex(tensor->dtype)) return FONIO_OK;
  if (module_make_room((void **)&list->items, list->count, &list->room, sizeof *list->items))
    return fonio_last_status();
  fonio_tensor *converted = tensor_convert(tensor, list->dtype);
  if (!converted) return fonio_last_status();
  list->items[list->count++] = (conversion){tensor, converted};
  return FONIO_OK;
}

static fonio_status convert_members(conversion_list *list, const fonio_dict *members) {
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < fonio_dict_size(members); i++) {
    fonio_tensor *tensor = fonio_dict_tensor_at(members, i);
    status = convert(list, tensor);
    if (!status && tensor->grad) status = convert(list, tensor->grad);
  }
  return status;
}

static fonio_status convert_tree(conversion_list *list, fonio_module *module) {
  fonio_dict *parameters = fonio_module_named_parameters(module);
  fonio_dict *buffers = parameters ? fonio_module_named_buffers(module) : NULL;
  fonio_status status = buffers ? convert_members(list, parameters) : fonio_last_status();
  if (!status) status = convert_members(list, buffers);
  for (int64_t i = 0; i < list->count; i++) {
    if (!status) module_set_data(list->items[i].tensor, list->items[i].converted);
    fonio_tensor_release(list->items[i].converted);
  }
  memory_give(list->items);
  fonio_dict_release(parameters);
  fonio_dict_release(buffers);
  return status;
}

fonio_status fonio_module_to(fonio_module *module, fonio_dtype dtype) {
  if (!module) return fail_given_null("fonio_module_to");
  if (!fonio_dtype_is_floating_point(dtype) && !fonio_dtype_is_complex(dtype))
    return fail(FONIO_TYPE_ERROR,
                "nn.Module.to only accepts floating point or complex dtypes, but got desired dtype=torch.%s",
                fonio_dtype_name(dtype));
  if (fonio_dtype_is_complex(dtype))
    warn("Complex modules are a new feature under active development whose design may change, and some modules might "
         "not work as expected when using complex tensors as parameters or buffers. Please file an issue at "
         "https://github.com/pytorch/pytorch/issues/new?template=bug-report.yml if a complex module does not work as "
         "expected.");
  return convert_tree(&(conversion_list){.dtype = dtype}, module);
}

fonio_status module_new_parameter(fonio_module *module, fonio_dtype dtype, const char *name, tensor_kind kind, int ndim,
                                  const int64_t *shape) {
  fonio_tensor *data = fonio_tensor_empty(dtype, ndim, shape);
  fonio_tensor *parameter = data ? fonio_parameter_new(data, true) : NULL;
  fonio_tensor_release(data);
  if (!parameter) return fonio_last_status();
  parameter->kind = kind;
  fonio_status status = fonio_module_set_parameter(module, name, parameter);
  fonio_tensor_release(parameter);
  return status;
}
