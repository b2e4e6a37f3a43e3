/* What a layer keeps: never a stale weight, whoever writes to it and how; and one packed weight for all image sizes. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tensors.h"

static fonio_conv2d *layer_new(void) {
  fonio_conv2d *layer = fonio_conv2d_new(.in_channels = 4, .out_channels = 10, .kernel_size = 3, .padding = 1);
  assert_non_null(layer);
  return layer;
}

static fonio_tensor *image(int64_t height, int64_t width) {
  fonio_tensor *x = fonio_tensor_randn(FONIO_FLOAT32, FONIO_SHAPE(1, 4, height, width));
  assert_non_null(x);
  return x;
}

/* A function keeps nothing: its weight is fresh each time. */
static fonio_tensor *fresh(fonio_conv2d *layer, fonio_tensor *x) {
  fonio_tensor *weight = fonio_tensor_clone(fonio_conv2d_weight(layer));
  fonio_tensor *y = fonio_tensor_conv2d(x, weight, fonio_conv2d_bias(layer), .padding = {1, 1});
  fonio_tensor_release(weight);
  assert_non_null(y);
  return y;
}

static void assert_fresh(fonio_conv2d *layer, fonio_tensor *x, const char *after) {
  fonio_tensor *y = fonio_conv2d_forward(layer, x), *expected = fresh(layer, x);
  bool same = false;
  assert_non_null(y);
  assert_int_equal(fonio_tensor_identical(y, expected, &same), FONIO_OK);
  if (!same) fail_msg("a stale weight after %s", after);
  RELEASE(y, expected);
}

/* ---- Every way of writing ---- */

static fonio_tensor *other_weight(fonio_conv2d *layer) {
  fonio_tensor *w = fonio_conv2d_weight(layer);
  return fonio_tensor_randn(fonio_tensor_dtype(w), 4, fonio_tensor_shape(w));
}

static void copy(fonio_conv2d *layer) {
  fonio_tensor *other = other_weight(layer);
  assert_int_equal(fonio_tensor_copy(fonio_conv2d_weight(layer), other), FONIO_OK);
  fonio_tensor_release(other);
}

static void fill(fonio_conv2d *layer) {
  assert_int_equal(fonio_tensor_fill(fonio_conv2d_weight(layer), 0.25), FONIO_OK);
}

static void uniform(fonio_conv2d *layer) {
  assert_int_equal(fonio_tensor_uniform(fonio_conv2d_weight(layer), -1, 1), FONIO_OK);
}

static void normal(fonio_conv2d *layer) {
  assert_int_equal(fonio_tensor_normal(fonio_conv2d_weight(layer), 0, 1), FONIO_OK);
}

static void random_integers(fonio_conv2d *layer) {
  assert_int_equal(fonio_tensor_random(fonio_conv2d_weight(layer), -5, 5), FONIO_OK);
}

static void generator_uniform(fonio_conv2d *layer) {
  fonio_generator *generator = fonio_generator_new();
  assert_int_equal(fonio_generator_uniform(generator, fonio_conv2d_weight(layer), -1, 1), FONIO_OK);
  assert_int_equal(fonio_generator_normal(generator, fonio_conv2d_bias(layer), 0, 1), FONIO_OK);
  fonio_generator_release(generator);
}

static void reset_parameters(fonio_conv2d *layer) {
  assert_int_equal(fonio_conv2d_reset_parameters(layer), FONIO_OK);
}

static void init_uniform(fonio_conv2d *layer) {
  assert_int_equal(fonio_init_uniform(fonio_conv2d_weight(layer), 0, 1), FONIO_OK);
}

static void init_normal(fonio_conv2d *layer) {
  assert_int_equal(fonio_init_normal(fonio_conv2d_weight(layer), 0, 1), FONIO_OK);
}

static void init_constant(fonio_conv2d *layer) {
  assert_int_equal(fonio_init_constant(fonio_conv2d_weight(layer), 0.5), FONIO_OK);
}

static void init_ones(fonio_conv2d *layer) {
  assert_int_equal(fonio_init_ones(fonio_conv2d_weight(layer)), FONIO_OK);
}

static void init_zeros(fonio_conv2d *layer) {
  assert_int_equal(fonio_init_zeros(fonio_conv2d_weight(layer)), FONIO_OK);
}

static void init_dirac(fonio_conv2d *layer) {
  assert_int_equal(fonio_init_dirac(fonio_conv2d_weight(layer), 1), FONIO_OK);
}

static void init_xavier_uniform(fonio_conv2d *layer) {
  assert_int_equal(fonio_init_xavier_uniform(fonio_conv2d_weight(layer), 1), FONIO_OK);
}

static void init_xavier_normal(fonio_conv2d *layer) {
  assert_int_equal(fonio_init_xavier_normal(fonio_conv2d_weight(layer), 1), FONIO_OK);
}

static void init_kaiming_uniform(fonio_conv2d *layer) {
  assert_int_equal(fonio_init_kaiming_uniform(fonio_conv2d_weight(layer), 0, NULL, NULL), FONIO_OK);
}

static void init_kaiming_normal(fonio_conv2d *layer) {
  assert_int_equal(fonio_init_kaiming_normal(fonio_conv2d_weight(layer), 0, NULL, NULL), FONIO_OK);
}

static void load_state_dict(fonio_conv2d *layer) {
  fonio_conv2d *other = layer_new();
  fonio_dict *state = fonio_module_state_dict(&other->base);
  assert_int_equal(fonio_module_load_state_dict(&layer->base, state, true, NULL), FONIO_OK);
  fonio_dict_release(state);
  fonio_module_release(&other->base);
}

/* A state dictionary holds the parameters' own memory. */
static void through_the_state_dict(fonio_conv2d *layer) {
  fonio_dict *state = fonio_module_state_dict(&layer->base);
  assert_int_equal(fonio_tensor_fill(fonio_dict_get(state, "weight"), -0.75), FONIO_OK);
  fonio_dict_release(state);
}

static void through_a_view(fonio_conv2d *layer) {
  fonio_tensor *view = fonio_tensor_select(fonio_conv2d_weight(layer), 0, 3),
               *part = fonio_tensor_slice(view, 1, 1, 2, 1);
  assert_int_equal(fonio_tensor_fill(part, 3), FONIO_OK);
  RELEASE(part, view);
}

static void through_a_detached_tensor(fonio_conv2d *layer) {
  fonio_tensor *detached = fonio_tensor_detach(fonio_conv2d_weight(layer));
  assert_int_equal(fonio_tensor_uniform(detached, 0, 1), FONIO_OK);
  fonio_tensor_release(detached);
}

static void through_a_parameter_over_the_same_memory(fonio_conv2d *layer) {
  fonio_tensor *twin = fonio_parameter_new(fonio_conv2d_weight(layer), true);
  assert_int_equal(fonio_tensor_fill(twin, 7), FONIO_OK);
  fonio_tensor_release(twin);
}

static void set_weight(fonio_conv2d *layer) {
  fonio_tensor *other = other_weight(layer), *parameter = fonio_parameter_new(other, true);
  assert_int_equal(fonio_conv2d_set_weight(layer, parameter), FONIO_OK);
  RELEASE(other, parameter);
}

/* The old weight is gone before the new one is made, which so may come to lie where that lay. */
static void set_weight_in_the_same_place(fonio_conv2d *layer) {
  int64_t shape[4];
  memcpy(shape, fonio_tensor_shape(fonio_conv2d_weight(layer)), sizeof shape);
  for (int i = 0; i < 8; i++) {
    fonio_tensor *small = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(1)), *p = fonio_parameter_new(small, true);
    fonio_conv2d_set_weight(layer, p);
    RELEASE(small, p);
    fonio_tensor *other = fonio_tensor_full(FONIO_FLOAT32, i, 4, shape);
    p = fonio_parameter_new(other, true);
    fonio_conv2d_set_weight(layer, p);
    RELEASE(other, p);
    fonio_tensor *x = image(6, 6);
    assert_fresh(layer, x, "a weight in the place of another");
    fonio_tensor_release(x);
  }
}

static void there_and_back(fonio_conv2d *layer) {
  assert_int_equal(fonio_module_to(&layer->base, FONIO_FLOAT64), FONIO_OK);
  fonio_tensor_fill(fonio_conv2d_weight(layer), 0.1);
  assert_int_equal(fonio_module_to(&layer->base, FONIO_FLOAT32), FONIO_OK);
}

static void transposed(fonio_conv2d *layer) {
  fonio_tensor *turned = fonio_tensor_permute(fonio_conv2d_weight(layer), FONIO_SHAPE(0, 1, 3, 2)),
               *parameter = fonio_parameter_new(turned, true);
  assert_int_equal(fonio_conv2d_set_weight(layer, parameter), FONIO_OK);
  RELEASE(turned, parameter);
}

static void channels_last(fonio_conv2d *layer) {
  fonio_tensor *turned = fonio_tensor_channels_last(fonio_conv2d_weight(layer)),
               *parameter = fonio_parameter_new(turned, true);
  assert_int_equal(fonio_conv2d_set_weight(layer, parameter), FONIO_OK);
  RELEASE(turned, parameter);
}

static void other_parts_of_the_same_memory(fonio_conv2d *layer) {
  fonio_tensor *both = fonio_tensor_randn(FONIO_FLOAT32, FONIO_SHAPE(20, 4, 3, 3)), *x = image(6, 6);
  for (int part = 0; part < 2; part++) {
    fonio_tensor *half = fonio_tensor_slice(both, 0, 10 * part, 10 * part + 10, 1),
                 *parameter = fonio_parameter_new(half, true);
    assert_int_equal(fonio_conv2d_set_weight(layer, parameter), FONIO_OK);
    assert_fresh(layer, x, "another part of the same memory");
    RELEASE(half, parameter);
  }
  RELEASE(both, x);
}

static void not_finite(fonio_conv2d *layer) {
  fonio_tensor *one = fonio_tensor_index(fonio_conv2d_weight(layer), 4, (int64_t[]){0, 0, 0, 0});
  assert_int_equal(fonio_tensor_fill(one, INFINITY), FONIO_OK);
  fonio_tensor_release(one);
}

static void through_a_pointer(fonio_conv2d *layer) {
  float *data = fonio_tensor_data(fonio_conv2d_weight(layer));
  data[17] += 1;
}

/* A step of an optimiser of one's own. */
static void gradient_step(fonio_conv2d *layer) {
  fonio_set_grad_enabled(true);
  fonio_tensor *x = image(5, 5), *y = fonio_conv2d_forward(layer, x), *sum = fonio_tensor_sum(y);
  assert_int_equal(fonio_tensor_backward(sum), FONIO_OK);
  fonio_set_grad_enabled(false);
  fonio_tensor *rate = fonio_tensor_full(FONIO_FLOAT32, -0.01, FONIO_SCALAR),
               *step = fonio_tensor_mul(fonio_tensor_grad(fonio_conv2d_weight(layer)), rate),
               *stepped = fonio_tensor_add(fonio_conv2d_weight(layer), step);
  assert_int_equal(fonio_tensor_copy(fonio_conv2d_weight(layer), stepped), FONIO_OK);
  RELEASE(x, y, sum, rate, step, stepped);
}

typedef struct way {
  const char *name;
  void (*write)(fonio_conv2d *layer);
} way;

#define WAY(function)                                                                                                  \
  { #function, function }

static const way ways[] = {WAY(copy),
                           WAY(fill),
                           WAY(uniform),
                           WAY(normal),
                           WAY(random_integers),
                           WAY(generator_uniform),
                           WAY(reset_parameters),
                           WAY(init_uniform),
                           WAY(init_normal),
                           WAY(init_constant),
                           WAY(init_ones),
                           WAY(init_zeros),
                           WAY(init_dirac),
                           WAY(init_xavier_uniform),
                           WAY(init_xavier_normal),
                           WAY(init_kaiming_uniform),
                           WAY(init_kaiming_normal),
                           WAY(load_state_dict),
                           WAY(through_the_state_dict),
                           WAY(through_a_view),
                           WAY(through_a_detached_tensor),
                           WAY(through_a_parameter_over_the_same_memory),
                           WAY(set_weight),
                           WAY(set_weight_in_the_same_place),
                           WAY(there_and_back),
                           WAY(transposed),
                           WAY(channels_last),
                           WAY(other_parts_of_the_same_memory),
                           WAY(not_finite),
                           WAY(through_a_pointer),
                           WAY(gradient_step)};
enum { WAYS = sizeof ways / sizeof *ways };

/* With a pointer outside, the values are compared; without one, the writes are counted. */
static void every_write_is_seen(void **state) {
  (void)state;
  for (int escaped = 0; escaped < 2; escaped++)
    for (int i = 0; i < WAYS; i++) {
      fonio_conv2d *layer = layer_new();
      fonio_tensor *x = image(9, 7), *y = image(5, 6);
      if (escaped) fonio_tensor_data(fonio_conv2d_weight(layer));
      for (int turn = 0; turn < 3; turn++) {
        assert_fresh(layer, x, "nothing");
        assert_fresh(layer, x, "nothing");
        fonio_set_grad_enabled(false);
        ways[i].write(layer);
        fonio_set_grad_enabled(true);
        assert_fresh(layer, x, ways[i].name);
        assert_fresh(layer, y, ways[i].name);
      }
      RELEASE(x, y);
      fonio_module_release(&layer->base);
    }
}

/* A wrapped array and a pointer that was asked for: the library sees no write. */
static void the_host_may_write_at_any_time(void **state) {
  (void)state;
  float values[10 * 4 * 9];
  for (int i = 0; i < 360; i++)
    values[i] = (float)(i % 7) - 3;
  fonio_tensor *wrapped = fonio_tensor_wrap(FONIO_FLOAT32, values, FONIO_SHAPE(10, 4, 3, 3), NULL, NULL, NULL),
               *parameter = fonio_parameter_new(wrapped, true), *x = image(6, 6);
  fonio_conv2d *layer = layer_new();
  assert_fresh(layer, x, "nothing");
  assert_int_equal(fonio_conv2d_set_weight(layer, parameter), FONIO_OK);
  for (int i = 0; i < 360; i += 13) {
    assert_fresh(layer, x, "a write to the wrapped array");
    values[i] = values[i] == 0 ? -0.0f : values[i] * 2;
  }
  values[359] = NAN;
  assert_fresh(layer, x, "a nan");
  fonio_module_release(&layer->base);
  RELEASE(wrapped, parameter, x);
}

/* The differences that gradcheck takes are writes, too. */
static fonio_tensor *forward_with(fonio_tensor *const *inputs, int count, void *user) {
  (void)count;
  return fonio_conv2d_forward(user, inputs[1]);
}

static void gradcheck_finds_the_weight_changed(void **state) {
  (void)state;
  fonio_conv2d *layer = fonio_conv2d_new(.in_channels = 2, .out_channels = 2, .kernel_size = 2, .dtype = FONIO_FLOAT64);
  fonio_tensor *x = fonio_tensor_randn(FONIO_FLOAT64, FONIO_SHAPE(1, 2, 3, 3));
  fonio_tensor *inputs[] = {fonio_conv2d_weight(layer), x};
  assert_int_equal(fonio_gradcheck(forward_with, layer, 2, inputs, 1e-6, 1e-5, 1e-3), FONIO_OK);
  fonio_tensor_release(x);
  fonio_module_release(&layer->base);
}

/* ---- What is kept ---- */

static int64_t blocks_taken;

static void *counting_allocate(size_t alignment, size_t bytes, void *user) {
  (void)user;
  void *pointer = NULL;
  blocks_taken++;
  return posix_memalign(&pointer, alignment, bytes) ? NULL : pointer;
}

static void counting_release(void *pointer, void *user) {
  (void)user;
  free(pointer);
}

static int64_t blocks_of_forward(fonio_conv2d *layer, fonio_tensor *x) {
  bool before = fonio_set_grad_enabled(false);
  int64_t blocks = blocks_taken;
  fonio_tensor *y = fonio_conv2d_forward(layer, x);
  assert_non_null(y);
  fonio_tensor_release(y);
  fonio_set_grad_enabled(before);
  return blocks_taken - blocks;
}

static const char *algorithm_for(int64_t height, int64_t width) {
  char text[64];
  fonio_conv_problem problem;
  snprintf(text, sizeof text, "n1c4h%dw%dk10r3s3p1", (int)height, (int)width);
  assert_int_equal(fonio_conv_problem_parse(&problem, text), FONIO_OK);
  fonio_conv_plan *plan = fonio_conv_plan_new(&problem, NULL);
  const char *algorithm = fonio_conv_plan_algorithm(plan);
  fonio_conv_plan_release(plan);
  return algorithm;
}

/* An image of another size, for which the planner chooses as for 12 x 12. */
static fonio_tensor *image_of_another_size(void) {
  for (int64_t width = 13; width < 100; width++)
    if (algorithm_for(12, width) == algorithm_for(12, 12)) return image(12, width);
  return NULL;
}

/* A plan and a packed weight take two blocks each; the values to compare with one more. */
static void sizes_share_a_packed_weight(void **state) {
  (void)state;
  fonio_set_accuracy(FONIO_ACCURACY_STRICT);
  fonio_set_allocator(&(fonio_allocator){counting_allocate, counting_release, NULL});
  fonio_conv2d *layer = layer_new();
  fonio_tensor *x = image(12, 12), *larger = image_of_another_size();
  int64_t first = blocks_of_forward(layer, x);
  assert_int_equal(blocks_of_forward(layer, x), first - 4);
  assert_int_equal(blocks_of_forward(layer, larger), first - 2);
  assert_int_equal(blocks_of_forward(layer, larger), first - 4);
  assert_int_equal(blocks_of_forward(layer, x), first - 4);
  fonio_tensor_data(fonio_conv2d_weight(layer));
  assert_int_equal(blocks_of_forward(layer, x), first - 1);
  assert_int_equal(blocks_of_forward(layer, larger), first - 4);
  RELEASE(x, larger);
  fonio_module_release(&layer->base);
  assert_int_equal(fonio_live_allocations(), 0);
  fonio_set_allocator(NULL);
  fonio_set_accuracy(FONIO_ACCURACY_UNSET);
}

static void functions_keep_nothing(void **state) {
  (void)state;
  fonio_conv2d *layer = layer_new();
  fonio_tensor *x = image(8, 8);
  int64_t before = fonio_live_allocations();
  fonio_tensor *y = fonio_tensor_conv2d(x, fonio_conv2d_weight(layer), NULL);
  fonio_tensor_release(y);
  assert_int_equal(fonio_live_allocations(), before);
  fonio_tensor_release(x);
  fonio_module_release(&layer->base);
}

/* More sizes than there is room for, coming back in turn; and what is kept stays bounded. */
static void many_sizes_in_turn(void **state) {
  (void)state;
  fonio_conv2d *layer = layer_new();
  int64_t most = 0, before = fonio_live_allocations();
  for (int turn = 0; turn < 3; turn++)
    for (int64_t size = 3; size < 24; size++) {
      fonio_tensor *x = image(size, 26 - size);
      assert_fresh(layer, x, "another size");
      fonio_tensor_release(x);
      if (fonio_live_allocations() - before > most) most = fonio_live_allocations() - before;
    }
  assert_true(most <= 8 * 2 + 4 * 3);
  fonio_module_release(&layer->base);
}

/* A plan is of one accuracy; what is packed, of one algorithm. */
static void the_accuracy_of_now_counts(void **state) {
  (void)state;
  fonio_conv2d *layer = fonio_conv2d_new(.in_channels = 32, .out_channels = 32, .kernel_size = 3, .padding = 1);
  fonio_tensor *x = fonio_tensor_randn(FONIO_FLOAT32, FONIO_SHAPE(1, 32, 20, 20));
  for (int turn = 0; turn < 6; turn++) {
    assert_int_equal(fonio_set_accuracy(turn % 2 ? FONIO_ACCURACY_FAST : FONIO_ACCURACY_STRICT), FONIO_OK);
    assert_fresh(layer, x, "another accuracy");
    if (turn == 3) fonio_init_normal(fonio_conv2d_weight(layer), 0, 1);
  }
  fonio_set_accuracy(FONIO_ACCURACY_UNSET);
  fonio_tensor_release(x);
  fonio_module_release(&layer->base);
}

/* ---- Many threads run one layer ---- */

enum { THREADS = 8, SIZES = 11 };

typedef struct crowd {
  fonio_conv2d *layer;
  fonio_tensor *inputs[SIZES], *expected[SIZES];
} crowd;

static void *run_in_a_thread(void *user) {
  const crowd *all = user;
  bool good = true, same = false;
  for (int i = 0; i < 40 * SIZES; i++) {
    int size = (int)((size_t)i * 7 % SIZES);
    fonio_tensor *y = fonio_conv2d_forward(all->layer, all->inputs[size]);
    good &= y && !fonio_tensor_identical(y, all->expected[size], &same) && same;
    fonio_tensor_release(y);
  }
  return good ? user : NULL;
}

static void many_threads_run_one_layer(void **state) {
  (void)state;
  for (int escaped = 0; escaped < 2; escaped++) {
    crowd all = {.layer = layer_new()};
    pthread_t threads[THREADS];
    if (escaped) fonio_tensor_data(fonio_conv2d_weight(all.layer));
    for (int i = 0; i < SIZES; i++) {
      all.inputs[i] = image(4 + i, 15 - i);
      all.expected[i] = fresh(all.layer, all.inputs[i]);
    }
    for (int i = 0; i < THREADS; i++)
      assert_int_equal(pthread_create(&threads[i], NULL, run_in_a_thread, &all), 0);
    for (int i = 0; i < THREADS; i++) {
      void *good;
      pthread_join(threads[i], &good);
      assert_non_null(good);
    }
    release_all(SIZES, all.inputs);
    release_all(SIZES, all.expected);
    fonio_module_release(&all.layer->base);
  }
}

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(every_write_is_seen),         TEST(the_host_may_write_at_any_time), TEST(gradcheck_finds_the_weight_changed),
      TEST(sizes_share_a_packed_weight), TEST(functions_keep_nothing),         TEST(many_sizes_in_turn),
      TEST(the_accuracy_of_now_counts),  TEST(many_threads_run_one_layer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
