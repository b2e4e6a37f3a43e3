/* nn.Sequential. */
#include <stdio.h>

#include "base/error.h"
#include "nn/module.h"

static fonio_tensor *forward(fonio_module *module, fonio_tensor *input) {
  fonio_tensor *output = fonio_tensor_retain(input);
  for (int64_t i = 0; output && i < module->state->child_count; i++) {
    fonio_tensor *next = fonio_module_forward(module->state->children[i].module, output);
    fonio_tensor_release(output);
    output = next;
  }
  return output;
}

static const fonio_module_class sequential_class =
    FONIO_MODULE_CLASS(fonio_sequential, .name = "Sequential", .forward = forward);

fonio_sequential *fonio_sequential_new(void) {
  return fonio_module_new(&sequential_class);
}

fonio_status fonio_sequential_append_child(fonio_sequential *sequential, fonio_module *child) {
  char name[24];
  snprintf(name, sizeof name, "%lld", sequential ? (long long)sequential->base.state->child_count : 0);
  return fonio_module_add_child(sequential ? &sequential->base : NULL, name, child);
}
