/* What else a program prints of torch's: sizes, truth values, lists of names. */
#include <stdio.h>
#include <string.h>

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
  text_add(&text, "torch.Size([");
  text_add_sizes(&text, tensor->ndim, tensor->shape);
  text_add(&text, "])");
  return text_take(&text);
}

const char *fonio_bool_to_text(bool value) {
  return value ? "True" : "False";
}

/* One character inside of quotes, as Python's repr has it. */
static void add_character(text_buffer *text, char character, char quote) {
  char escaped[8];
  switch (character) {
  case '\n': text_add(text, "\\n"); return;
  case '\r': text_add(text, "\\r"); return;
  case '\t': text_add(text, "\\t"); return;
  case '\\': text_add(text, "\\\\"); return;
  default: break;
  }
  if (character == quote) text_add(text, "\\");
  bool control = (unsigned char)character < ' ' || character == 127;
  snprintf(escaped, sizeof escaped, control ? "\\x%02x" : "%c", character);
  text_add(text, escaped);
}

/* Python quotes with ', unless that occurs and " does not. */
static void add_quoted(text_buffer *text, const char *string) {
  char quote = strchr(string, '\'') && !strchr(string, '"') ? '"' : '\'';
  text_add_bytes(text, &quote, 1);
  for (; *string; string++)
    add_character(text, *string, quote);
  text_add_bytes(text, &quote, 1);
}

char *fonio_dict_names_to_text(const fonio_dict *dict) {
  if (!dict) return fail_given_null("fonio_dict_names_to_text"), NULL;
  text_buffer text = {0};
  text_add(&text, "[");
  for (int64_t i = 0; i < fonio_dict_size(dict); i++) {
    if (i > 0) text_add(&text, ", ");
    add_quoted(&text, fonio_dict_name_at(dict, i));
  }
  text_add(&text, "]");
  return text_take(&text);
}
