/* How nn.Conv2d is printed. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nn/conv2d.h"

/* A text that is written as snprintf does, piece by piece. */
typedef struct bounded_text {
  char *text;
  size_t bytes, length;
} bounded_text;

__attribute__((format(printf, 2, 3))) static void add(bounded_text *to, const char *format, ...) {
  size_t used = to->length < to->bytes ? to->length : to->bytes;
  va_list arguments;
  va_start(arguments, format);
  int added = vsnprintf(to->bytes ? to->text + used : NULL, to->bytes - used, format, arguments);
  va_end(arguments);
  if (added > 0) to->length += (size_t)added;
}

static void add_pair(bounded_text *to, const char *name, const int64_t pair[2]) {
  add(to, ", %s=(%lld, %lld)", name, (long long)pair[0], (long long)pair[1]);
}

static void add_padding(bounded_text *to, const fonio_conv2d_options *options) {
  const int64_t *sides = options->padding_sides;
  if (options->padding_name)
    add(to, ", padding=%s", options->padding_name);
  else if (sides[0] == FONIO_BOTH) {
    if (options->padding[0] || options->padding[1]) add_pair(to, "padding", options->padding);
  } else if (sides[0] || sides[1] || sides[2] || sides[3])
    add(to, ", padding=(%lld, %lld, %lld, %lld)", (long long)sides[0], (long long)sides[1], (long long)sides[2],
        (long long)sides[3]);
}

size_t conv2d_extra_repr(const fonio_module *module, char *text, size_t bytes) {
  const fonio_conv2d *conv = (const fonio_conv2d *)module;
  const fonio_conv2d_options *options = fonio_conv2d_get_options(conv);
  bounded_text to = {text, bytes, 0};
  add(&to, "%lld, %lld", (long long)options->in_channels, (long long)options->out_channels);
  add_pair(&to, "kernel_size", options->kernel_size);
  add_pair(&to, "stride", options->stride);
  add_padding(&to, options);
  if (options->dilation[0] != 1 || options->dilation[1] != 1) add_pair(&to, "dilation", options->dilation);
  if (options->groups != 1) add(&to, ", groups=%lld", (long long)options->groups);
  if (!fonio_conv2d_bias(conv)) add(&to, ", bias=False");
  if (strcmp(options->padding_mode, "zeros") != 0) add(&to, ", padding_mode=%s", options->padding_mode);
  return to.length;
}
