/* The gradients of conv2d, and of some problems their gradients, beside central differences, on random problems over
 * all arguments. FONIO_TEST_SEED repeats a run, FONIO_TEST_PROBLEMS says how many, FONIO_TEST_SECOND of how many the
 * second order is looked at, too; a failure is named by its seed and its problem string. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "tensors.h"

/* ---- Random numbers: splitmix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014) ---- */

static uint64_t random_state;

static uint64_t random_bits(void) {
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

/* From `low` to `high`, both included. */
static int64_t from_to(int64_t low, int64_t high) {
  return low + (int64_t)(random_bits() % (uint64_t)(high - low + 1));
}

static bool one_in(int64_t times) {
  return from_to(1, times) == 1;
}

static double unit(void) {
  return (double)(random_bits() >> 11) * 0x1p-52 - 1;
}

/* ---- Problems ---- */

typedef struct problem {
  fonio_conv2d_args args;
  int64_t input[4], weight[4];
  bool is_batched, has_bias;
  fonio_activation activation; /* without kinks, which differences would step over */
} problem;

static void choose_padding(problem *p) {
  static const char *const modes[] = {NULL, "zeros", "reflect", "replicate", "circular"};
  static const char *const names[] = {"same", "same_lower", "valid"};
  p->args.padding_mode = modes[from_to(0, 4)];
  if (one_in(3)) {
    p->args.padding_name = names[from_to(0, 2)];
  } else if (one_in(2)) {
    for (int i = 0; i < 4; i++)
      p->args.padding_sides[i] = from_to(0, 2);
  } else {
    p->args.padding[0] = from_to(0, 2);
    p->args.padding[1] = one_in(2) ? FONIO_BOTH : from_to(0, 2);
  }
}

static problem choose(void) {
  int64_t groups = from_to(1, 3);
  problem p = {.args = fonio_conv2d_args_default(), .is_batched = !one_in(4), .has_bias = one_in(2)};
  p.args.groups = groups;
  for (int i = 0; i < 2; i++) {
    p.args.stride[i] = from_to(1, 3);
    p.args.dilation[i] = from_to(1, 2);
    p.input[2 + i] = from_to(1, 5);
    p.weight[2 + i] = from_to(1, 3);
  }
  p.input[0] = p.is_batched ? from_to(one_in(20) ? 0 : 1, 2) : 1;
  p.weight[1] = from_to(1, 2);
  p.input[1] = groups * p.weight[1];
  p.weight[0] = groups * from_to(1, 2);
  choose_padding(&p);
  p.activation = one_in(2) ? FONIO_NO_ACTIVATION : one_in(2) ? FONIO_SIGMOID : FONIO_TANH;
  return p;
}

/* ---- Arrays ---- */

enum { CONTIGUOUS, CHANNELS_LAST, TURNED, WITH_GAPS };

/* The dimensions in the order in which they lie in memory. */
static void choose_order(int layout, int ndim, int64_t *order) {
  for (int i = 0; i < ndim; i++)
    order[i] = layout == TURNED ? ndim - 1 - i : i;
  if (layout != CHANNELS_LAST || ndim < 3) return;
  order[ndim - 3] = ndim - 2;
  order[ndim - 2] = ndim - 1;
  order[ndim - 1] = ndim - 3;
}

static fonio_tensor *random_tensor(int ndim, const int64_t *shape) {
  int layout = (int)from_to(CONTIGUOUS, WITH_GAPS);
  int64_t sizes[4], order[4], back[4];
  choose_order(layout, ndim, order);
  for (int i = 0; i < ndim; i++) {
    back[order[i]] = i;
    sizes[i] = shape[order[i]] * (layout == WITH_GAPS ? 2 : 1);
  }
  fonio_tensor *tensor = fonio_tensor_empty(FONIO_FLOAT64, ndim, sizes);
  double *numbers = fonio_tensor_data(tensor);
  for (int64_t i = 0; i < fonio_tensor_numel(tensor); i++)
    numbers[i] = unit();
  for (int i = 0; layout == WITH_GAPS && i < ndim; i++) {
    fonio_tensor *part = fonio_tensor_slice(tensor, i, from_to(0, 1), sizes[i], 2);
    fonio_tensor_release(tensor);
    tensor = part;
  }
  fonio_tensor *turned = fonio_tensor_permute(tensor, ndim, back);
  fonio_tensor_release(tensor);
  return turned;
}

static fonio_tensor *convolve(fonio_tensor *const *inputs, int count, void *user) {
  const problem *p = user;
  fonio_tensor *bias = count > 2 ? inputs[2] : NULL;
  return fonio_tensor_conv2d_activated_with(inputs[0], inputs[1], bias, &p->args, p->activation, 0);
}

static void print_failure(const problem *p, fonio_tensor *const *inputs, uint64_t seed) {
  fonio_array arrays[3];
  fonio_conv_problem resolved;
  char text[256] = "?", message[1024];
  snprintf(message, sizeof message, "%s", fonio_last_error());
  for (int i = 0; i < (p->has_bias ? 3 : 2); i++)
    arrays[i] = (fonio_array){fonio_tensor_dtype(inputs[i]), fonio_tensor_ndim(inputs[i]),
                              fonio_tensor_shape(inputs[i]), fonio_tensor_strides(inputs[i])};
  if (!fonio_conv_problem_init(&resolved, &arrays[0], &arrays[1], p->has_bias ? &arrays[2] : NULL, &p->args)) {
    resolved.activation = p->activation;
    fonio_conv_problem_print(&resolved, text, sizeof text);
  }
  print_error("FONIO_TEST_SEED=%llu FONIO_TEST_PROBLEMS=1: %s: %s\n", (unsigned long long)seed, text, message);
}

/* `second`: also the gradients of the gradients. */
static bool gradients_are_right(problem *p, int count, fonio_tensor *const *inputs, bool second) {
  if (fonio_gradcheck(convolve, p, count, inputs, 1e-6, 1e-5, 1e-3)) return false;
  return !second || !fonio_gradgradcheck(convolve, p, count, inputs, NULL, 1e-6, 1e-5, 1e-3);
}

/* Whether the problem's gradients are right; `*is_problem` is false where no such convolution exists. */
static bool passes(uint64_t seed, bool second, bool *is_problem) {
  random_state = seed;
  problem p = choose();
  fonio_tensor *inputs[3] = {random_tensor(p.is_batched ? 4 : 3, p.input + !p.is_batched), random_tensor(4, p.weight),
                             p.has_bias ? random_tensor(1, p.weight) : NULL};
  int count = p.has_bias ? 3 : 2;
  fonio_tensor *output = convolve(inputs, count, &p);
  *is_problem = output != NULL;
  fonio_tensor_release(output);
  int without = one_in(3) ? (int)from_to(0, count - 1) : -1;
  for (int i = 0; i < count; i++)
    if (i != without) requiring_grad(inputs[i]);
  bool right = !*is_problem || gradients_are_right(&p, count, inputs, second);
  if (!right) print_failure(&p, inputs, seed);
  release_all(3, inputs);
  return right;
}

static uint64_t number_from_environment(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text ? strtoull(text, NULL, 10) : otherwise;
}

static void random_problems(void **state) {
  (void)state;
  uint64_t seed = number_from_environment("FONIO_TEST_SEED", (uint64_t)time(NULL) * 1000000);
  uint64_t problems = number_from_environment("FONIO_TEST_PROBLEMS", 500), checked = 0, wrong = 0;
  uint64_t second = number_from_environment("FONIO_TEST_SECOND", 25);
  print_message("FONIO_TEST_SEED=%llu\n", (unsigned long long)seed);
  for (; checked < problems && wrong < 10; seed++) {
    bool is_problem;
    wrong += !passes(seed, checked < second, &is_problem);
    checked += is_problem;
  }
  print_message("%llu problems checked\n", (unsigned long long)checked);
  assert_int_equal(wrong, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(random_problems, nothing_is_lost)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
