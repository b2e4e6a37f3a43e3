/* What else a program prints of torch's: sizes, truth values, lists of names. */
#include "base/error.h"
#include "base/memory.h"
#include "fonio/print.h"
#include "tensor/tensor.h"
#include "tensor/text.h"

void fonio_text_release(char *text) {
  memory_give(text);
}

char *fonio_tensor_size_to_text(const fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_size_to_text"), NULL;
  text_buffer text = {0};
  text_add_size(&text, tensor->ndim, tensor->shape);
  return text_take(&text);
}

const char *fonio_bool_to_text(bool value) {
  return value ? "True" : "False";
}

char *fonio_dict_names_to_text(const fonio_dict *dict) {
  if (!dict) return fail_given_null("fonio_dict_names_to_text"), NULL;
  text_buffer text = {0};
  text_add(&text, "[");
  for (int64_t i = 0; i < fonio_dict_size(dict); i++) {
    if (i > 0) text_add(&text, ", ");
    text_add_quoted(&text, fonio_dict_name_at(dict, i));
  }
  text_add(&text, "]");
  return text_take(&text);
}
