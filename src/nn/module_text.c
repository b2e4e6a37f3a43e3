/* repr(module). */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "nn/module.h"
#include "tensor/print.h"

/* The text between the brackets, given back to base/memory.h; NULL without memory. */
static char *extra_text(const fonio_module *module) {
  const fonio_module_class *type = module->state->type;
  size_t length = type->extra_repr ? type->extra_repr(module, NULL, 0) : 0;
  char *text = memory_take((int64_t)length + 1);
  if (!text) return NULL;
  text[0] = 0;
  if (length > 0) type->extra_repr(module, text, length + 1);
  return text;
}

static void add_indent(text_buffer *text, int depth) {
  text_add(text, "\n");
  text_repeat(text, ' ', 2 * (int64_t)depth);
}

/* torch indents what is inside of an inner module once more, but leaves blank lines of it empty. */
static void add_line(text_buffer *text, int depth, const char *line, size_t length) {
  bool blank = strspn(line, " \t\r\f\v") >= length;
  add_indent(text, blank && depth > 1 ? 0 : depth);
  if (!blank || depth == 1) text_add_bytes(text, line, length);
}

static void add_lines(text_buffer *text, int depth, const char *lines) {
  for (;;) {
    size_t length = strcspn(lines, "\n");
    add_line(text, depth, lines, length);
    if (!lines[length]) return;
    lines += length + 1;
  }
}

static fonio_status add_module(text_buffer *text, const fonio_module *module, int depth);

static fonio_status add_children(text_buffer *text, const module_state *state, int depth) {
  fonio_status status = FONIO_OK;
  for (int64_t i = 0; !status && i < state->child_count; i++) {
    add_indent(text, depth);
    text_add(text, "(");
    text_add(text, state->children[i].name);
    text_add(text, "): ");
    status = add_module(text, state->children[i].module, depth);
  }
  return status;
}

/* On one line, if there is but one line to put between the brackets and no child. */
static fonio_status add_module(text_buffer *text, const fonio_module *module, int depth) {
  const module_state *state = module->state;
  if (depth == MODULE_MOST_DEPTH) return module_fail_depth();
  char *extra = extra_text(module);
  if (!extra) return FONIO_NO_MEMORY;
  bool one_line = state->child_count == 0 && !strchr(extra, '\n');
  text_add(text, state->type->name);
  text_add(text, "(");
  if (one_line)
    text_add(text, extra);
  else if (*extra)
    add_lines(text, depth + 1, extra);
  memory_give(extra);
  fonio_status status = add_children(text, state, depth + 1);
  if (!one_line) add_indent(text, depth);
  text_add(text, ")");
  return status;
}

char *fonio_module_to_text(const fonio_module *module) {
  if (!module) return fail_given_null("fonio_module_to_text"), NULL;
  text_buffer text = {0};
  if (!add_module(&text, module, 0)) return text_take(&text);
  text_drop(&text);
  return NULL;
}

fonio_status fonio_module_print(const fonio_module *module) {
  if (!module) return fail_given_null("fonio_module_print");
  return print_text(fonio_module_to_text(module));
}
