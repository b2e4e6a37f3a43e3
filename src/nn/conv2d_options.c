/* The arguments of nn.Conv2d: what they have to be, in torch's order and words. */
#include <string.h>

#include "base/error.h"
#include "nn/conv2d.h"

fonio_conv2d_options fonio_conv2d_options_default(void) {
  return FONIO_WITH_DEFAULTS(fonio_conv2d_options, FONIO_CONV2D_LAYER_DEFAULTS, .groups = 1);
}

/* Python's words for arguments that are missing: 'a'; 'a' and 'b'; 'a', 'b', and 'c'. */
static fonio_status check_given(const fonio_conv2d_options *options, bool lazy) {
  static const char *const names[] = {"in_channels", "out_channels", "kernel_size"};
  const int64_t values[] = {lazy ? 0 : options->in_channels, options->out_channels, options->kernel_size[0]};
  const char *missing[3];
  int count = 0;
  for (int i = 0; i < 3; i++)
    if (values[i] == FONIO_BOTH) missing[count++] = names[i];
  const char *name = lazy ? "LazyConv2d" : "Conv2d";
  switch (count) {
  case 0: return FONIO_OK;
  case 1: return fail(FONIO_TYPE_ERROR, "%s.__init__() missing 1 required positional argument: '%s'", name, missing[0]);
  case 2:
    return fail(FONIO_TYPE_ERROR, "%s.__init__() missing 2 required positional arguments: '%s' and '%s'", name,
                missing[0], missing[1]);
  default:
    return fail(FONIO_TYPE_ERROR, "%s.__init__() missing 3 required positional arguments: '%s', '%s', and '%s'", name,
                missing[0], missing[1], missing[2]);
  }
}

/* torch leaves out_channels of a lazy layer to the first forward. */
static fonio_status check_groups(const fonio_conv2d_options *options, bool lazy) {
  if (options->groups <= 0) return fail(FONIO_VALUE_ERROR, "groups must be a positive integer");
  if (options->in_channels % options->groups != 0)
    return fail(FONIO_VALUE_ERROR, "in_channels must be divisible by groups");
  if (!lazy && options->out_channels % options->groups != 0)
    return fail(FONIO_VALUE_ERROR, "out_channels must be divisible by groups");
  return FONIO_OK;
}

/* The text of a list that is equal to `given`, so that the layer need not keep the caller's; NULL if there is none. */
static const char *known_text(const char *given, const char *const *known) {
  while (*known && strcmp(*known, given) != 0)
    known++;
  return *known;
}

static fonio_status fail_padding_name(const char *name) {
  text_buffer text = {0};
  text_add_quoted(&text, name);
  const char *quoted = text_take(&text);
  if (quoted) fail(FONIO_VALUE_ERROR, "Invalid padding string %s, should be one of {'same', 'valid'}", quoted);
  text_drop(&text);
  return fonio_last_status();
}

static fonio_status resolve_texts(fonio_conv2d_options *options) {
  static const char *const paddings[] = {"valid", "same", "same_lower", NULL};
  static const char *const modes[] = {"zeros", "reflect", "replicate", "circular", NULL};
  const char *padding = options->padding_name, *mode = options->padding_mode ? options->padding_mode : "zeros";
  options->padding_name = padding ? known_text(padding, paddings) : NULL;
  options->padding_mode = known_text(mode, modes);
  if (padding && !options->padding_name) return fail_padding_name(padding);
  if (padding && options->padding_sides[0] != FONIO_BOTH)
    return fail(FONIO_VALUE_ERROR, "padding_name and padding_sides cannot both be given");
  if (options->padding_mode) return FONIO_OK;
  return fail(FONIO_VALUE_ERROR,
              "padding_mode must be one of {'zeros', 'reflect', 'replicate', 'circular'}, but got padding_mode='%s'",
              mode);
}

static void resolve_pair(int64_t pair[2]) {
  if (pair[1] == FONIO_BOTH) pair[1] = pair[0];
}

fonio_status conv2d_resolve(const fonio_conv2d_options *given, bool lazy, fonio_conv2d_options *resolved) {
  if (given->struct_bytes != sizeof *given)
    return fail(FONIO_VALUE_ERROR, "fonio_conv2d_options of %zu bytes: start from fonio_conv2d_options_default()",
                given->struct_bytes);
  *resolved = *given;
  if (lazy && given->in_channels != FONIO_BOTH)
    return fail(FONIO_TYPE_ERROR, "LazyConv2d.__init__() got an unexpected keyword argument 'in_channels'");
  if (check_given(resolved, lazy)) return fonio_last_status();
  if (lazy) resolved->in_channels = 0;
  resolve_pair(resolved->kernel_size);
  resolve_pair(resolved->stride);
  resolve_pair(resolved->padding);
  resolve_pair(resolved->dilation);
  fonio_status status = check_groups(resolved, lazy);
  return status ? status : resolve_texts(resolved);
}
