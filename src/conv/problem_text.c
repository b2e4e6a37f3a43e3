/* Problem strings: the one-line name of a problem. The grammar is in fonio/conv.h and docs/problem-strings.md. */
#include "fonio/conv.h"

#include "base/error.h"
#include "base/shape.h"
#include "conv/activation_text.h"
#include "conv/text.h"

#include <ctype.h>
#include <string.h>

static const char *const mode_names[] = {"zeros", "reflect", "replicate", "circular"};
static const char *const bias_names[] = {"0", "1"};
static const char *const dtype_names[] = {"f32", "f64"}; /* by fonio_dtype */
static const char *const layout_names[] = {"nchw", "nhwc"};
static const char *const padding_names[] = {"same_lower", "same", "valid"}; /* the longer first: one begins the other */

/* ---- Reading ---- */

/* The fields: those of one number first, then pairs, then the rest. */
enum { N, C, H, W, K, R, S, G, U, D, P, M, B, Z, A, T, L, FIELDS };
static const char field_letters[FIELDS + 1] = "nchwkrsgudpmbzatl";

typedef struct reader {
  const char *text, *at;
  bool seen[FIELDS];
  int64_t number[G + 1];
  fonio_conv2d_args args;
  int bias, residual, dtype, layout;
  activation_part activation;
} reader;

static fonio_status fail_at(const reader *in, const char *expected) {
  return fail(FONIO_VALUE_ERROR, "problem string '%s': expected %s at '%s'", in->text, expected, in->at);
}

static fonio_status read_number(reader *in, int64_t *number) {
  if (!isdigit((unsigned char)*in->at)) return fail_at(in, "a number");
  int64_t value = 0;
  const char *at = in->at;
  for (; isdigit((unsigned char)*at); at++)
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *at - '0', &value))
      return fail_at(in, "a number that fits 64 bits");
  in->at = at;
  *number = value;
  return FONIO_OK;
}

/* Up to `most` numbers with commas between. */
static fonio_status read_numbers(reader *in, int most, int64_t *numbers, int *count) {
  *count = 0;
  do {
    if (*count > 0) in->at++;
    fonio_status status = read_number(in, &numbers[(*count)++]);
    if (status) return status;
  } while (*in->at == ',' && *count < most);
  return FONIO_OK;
}

static fonio_status read_pair(reader *in, int64_t pair[2]) {
  int count;
  pair[1] = FONIO_BOTH;
  return read_numbers(in, 2, pair, &count);
}

/* Which of `names` comes next; -1 for none. */
static int read_name(reader *in, int count, const char *const *names) {
  for (int i = 0; i < count; i++) {
    size_t length = strlen(names[i]);
    if (strncmp(in->at, names[i], length) == 0) {
      in->at += length;
      return i;
    }
  }
  return -1;
}

static fonio_status read_padding(reader *in) {
  int name = read_name(in, 3, padding_names), count;
  if (name >= 0) {
    in->args.padding_name = padding_names[name];
    return FONIO_OK;
  }
  int64_t numbers[4];
  const char *start = in->at;
  fonio_status status = read_numbers(in, 4, numbers, &count);
  if (status) return status;
  if (count == 3) {
    in->at = start;
    return fail_at(in, "one, two or four numbers");
  }
  if (count == 4)
    memcpy(in->args.padding_sides, numbers, sizeof numbers);
  else
    memcpy(in->args.padding, (int64_t[2]){numbers[0], count == 2 ? numbers[1] : FONIO_BOTH}, 2 * sizeof *numbers);
  return FONIO_OK;
}

static fonio_status read_choice(reader *in, int count, const char *const *names, const char *expected, int *choice) {
  int name = read_name(in, count, names);
  if (name < 0) return fail_at(in, expected);
  *choice = name;
  return FONIO_OK;
}

static fonio_status read_activation(reader *in) {
  const char *end = activation_part_read(in->at, &in->activation);
  if (!end) return fail_at(in, "an activation");
  in->at = end;
  return FONIO_OK;
}

static fonio_status read_field(reader *in, int field) {
  int mode = 0;
  fonio_status status;
  switch (field) {
  case U: return read_pair(in, in->args.stride);
  case D: return read_pair(in, in->args.dilation);
  case P: return read_padding(in);
  case M:
    status = read_choice(in, 4, mode_names, "zeros, reflect, replicate or circular", &mode);
    in->args.padding_mode = mode_names[mode];
    return status;
  case B: return read_choice(in, 2, bias_names, "0 or 1", &in->bias);
  case Z: return read_choice(in, 2, bias_names, "0 or 1", &in->residual);
  case A: return read_activation(in);
  case T: return read_choice(in, 2, dtype_names, "f32 or f64", &in->dtype);
  case L: return read_choice(in, 2, layout_names, "nchw or nhwc", &in->layout);
  default: return read_number(in, &in->number[field]);
  }
}

static fonio_status read_fields(reader *in) {
  while (*in->at) {
    const char *letter = strchr(field_letters, *in->at);
    if (!letter) return fail_at(in, "one of the letters nchwkrsupdgmbzatl");
    int field = (int)(letter - field_letters);
    if (in->seen[field]) return fail_at(in, "each letter once");
    in->seen[field] = true;
    in->at++;
    fonio_status status = read_field(in, field);
    if (status) return status;
  }
  for (int field = C; field <= S; field++)
    if (!in->seen[field])
      return fail(FONIO_VALUE_ERROR, "problem string '%s': '%c' is missing; c, h, w, k, r and s are needed", in->text,
                  field_letters[field]);
  return FONIO_OK;
}

static bool dense_strides(int layout, const int64_t shape[4], int64_t strides[4]) {
  return layout == 1 ? shape_channels_last_strides(shape, strides) : shape_contiguous_strides(4, shape, strides);
}

/* torch: prelu. */
static fonio_status check_slopes(int64_t slopes, int64_t channels) {
  if (slopes == 1 || slopes == channels) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR,
              "Mismatch of parameter numbers and input channel size. Found parameter numbers = %lld and channel size = "
              "%lld.",
              (long long)slopes, (long long)channels);
}

static void add_finish(const reader *in, fonio_conv_problem *problem) {
  problem->has_residual = in->residual;
  problem->activation = in->activation.activation;
  if (problem->activation == FONIO_LEAKY_RELU) problem->slope = in->activation.slope;
  if (problem->activation == FONIO_PRELU) problem->prelu_stride = in->activation.slopes > 1;
}

/* The arrays that the string describes, through the checks that every convolution goes through. */
static fonio_status resolve(const reader *in, fonio_conv_problem *problem) {
  const int64_t *number = in->number;
  int64_t groups = in->args.groups;
  const int64_t image[4] = {in->seen[N] ? number[N] : 1, number[C], number[H], number[W]};
  const int64_t kernel[4] = {number[K], groups > 0 ? number[C] / groups : number[C], number[R], number[S]};
  int64_t image_strides[4], kernel_strides[4];
  if (!dense_strides(in->layout, image, image_strides) || !dense_strides(in->layout, kernel, kernel_strides))
    return fail(FONIO_RUNTIME_ERROR, "Stride calculation overflowed");
  fonio_dtype dtype = (fonio_dtype)in->dtype;
  int skipped = in->seen[N] ? 0 : 1;
  fonio_array input = {dtype, 4 - skipped, image + skipped, image_strides + skipped};
  fonio_array weight = {dtype, 4, kernel, kernel_strides};
  fonio_array bias = {dtype, 1, kernel, NULL};
  fonio_status status = check_slopes(in->activation.slopes, number[K]);
  if (!status) status = fonio_conv_problem_init(problem, &input, &weight, in->bias ? &bias : NULL, &in->args);
  if (!status) add_finish(in, problem);
  return status;
}

fonio_status fonio_conv_problem_parse(fonio_conv_problem *problem, const char *text) {
  if (!problem || !text) return fail_given_null("fonio_conv_problem_parse");
  reader in = {
      .text = text,
      .at = text,
      .number = {[G] = 1},
      .bias = 1,
      .activation = activation_part_default(),
      .args = fonio_conv2d_args_default(),
  };
  fonio_status status = read_fields(&in);
  in.args.groups = in.number[G];
  return status ? status : resolve(&in, problem);
}

/* ---- Writing ---- */

static void put_number(conv_text *out, char letter, int64_t number) {
  conv_put(out, "%c%lld", letter, (long long)number);
}

static void put_pair(conv_text *out, char letter, const int64_t pair[2], int64_t usual) {
  if (pair[0] == usual && pair[1] == usual) return;
  put_number(out, letter, pair[0]);
  if (pair[1] != pair[0]) conv_put(out, ",%lld", (long long)pair[1]);
}

static void put_padding(conv_text *out, const int64_t sides[4]) {
  if (sides[0] == sides[1] && sides[2] == sides[3])
    put_pair(out, 'p', (int64_t[2]){sides[0], sides[2]}, 0);
  else
    conv_put(out, "p%lld,%lld,%lld,%lld", (long long)sides[0], (long long)sides[1], (long long)sides[2],
             (long long)sides[3]);
}

static void put_activation(conv_text *out, const fonio_conv_problem *problem, int64_t channels) {
  char text[64];
  if (problem->activation == FONIO_NO_ACTIVATION) return;
  activation_part part = {problem->activation, problem->slope, problem->prelu_stride ? channels : 1};
  activation_part_print(&part, text);
  conv_put(out, "a%s", text);
}

static bool all_dense(const fonio_conv_problem *problem, bool (*dense)(const int64_t *, const int64_t *)) {
  const int64_t input[4] = {problem->batch, problem->in_channels, problem->in_height, problem->in_width};
  const int64_t output[4] = {problem->batch, problem->out_channels, problem->out_height, problem->out_width};
  const int64_t weight[4] = {problem->out_channels, problem->in_channels / problem->groups, problem->kernel_height,
                             problem->kernel_width};
  return problem->bias_stride == 1 && (problem->prelu_stride & ~1) == 0 && dense(input, problem->input_strides) &&
         dense(weight, problem->weight_strides) && dense(output, problem->output_strides);
}

/* A host can write any number into a problem. */
static const char *name_of(int count, const char *const *names, unsigned number) {
  return number < (unsigned)count ? names[number] : "?";
}

static bool is_nchw(const int64_t *shape, const int64_t *strides) {
  return shape_is_contiguous(4, shape, strides);
}

static bool is_nhwc(const int64_t *shape, const int64_t *strides) {
  return shape_is_channels_last(shape, strides);
}

static const char *layout_of(const fonio_conv_problem *problem) {
  if (problem->groups < 1) return "";
  if (all_dense(problem, is_nchw)) return "";
  return all_dense(problem, is_nhwc) ? "lnhwc" : "lstrided";
}

size_t fonio_conv_problem_print(const fonio_conv_problem *problem, char *text, size_t text_bytes) {
  conv_text out = {text, text ? text_bytes : 0, 0};
  if (out.bytes > 0) *text = 0;
  if (!problem) return 0;
  if (problem->batched) put_number(&out, 'n', problem->batch);
  put_number(&out, 'c', problem->in_channels);
  put_number(&out, 'h', problem->in_height);
  put_number(&out, 'w', problem->in_width);
  /* Without channels in, the output has none whatever the weight has: a number that the reader takes. */
  int64_t channels = problem->in_channels == 0 ? problem->groups : problem->out_channels;
  put_number(&out, 'k', channels);
  put_number(&out, 'r', problem->kernel_height);
  put_number(&out, 's', problem->kernel_width);
  put_pair(&out, 'u', problem->stride, 1);
  put_padding(&out, problem->padding);
  put_pair(&out, 'd', problem->dilation, 1);
  if (problem->groups != 1) put_number(&out, 'g', problem->groups);
  if (problem->padding_mode != FONIO_ZEROS) conv_put(&out, "m%s", name_of(4, mode_names, problem->padding_mode));
  if (!problem->has_bias) conv_put(&out, "b0");
  if (problem->has_residual) conv_put(&out, "z1");
  put_activation(&out, problem, channels);
  if (problem->dtype != FONIO_FLOAT32) conv_put(&out, "t%s", name_of(2, dtype_names, problem->dtype));
  conv_put(&out, "%s", layout_of(problem));
  return out.length;
}
