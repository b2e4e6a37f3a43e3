/* Memory that runs out in a module: nothing is lost, and a tree is as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "failing.h"

typedef struct {
  fonio_module base;
  fonio_conv2d *conv2d;
} net;

static fonio_tensor *net_forward(fonio_module *module, fonio_tensor *x) {
  return fonio_conv2d_forward(((net *)module)->conv2d, x);
}

static const fonio_module_class net_class = FONIO_MODULE_CLASS(net, .name = "Net", .forward = net_forward);

/* As a program would write it: one look at the end. */
static net *net_new(void) {
  net *made = fonio_module_new(&net_class);
  if (!made) return NULL;
  made->conv2d = fonio_conv2d_new(.in_channels = 2, .out_channels = 3, .kernel_size = 2, .padding_mode = "reflect");
  fonio_module_add(&made->base, "conv2d", made->conv2d);
  return made;
}

/* What the functions work on, and what they make. */
typedef struct {
  net *model;
  fonio_tensor *x, *y;
  fonio_dict *dict;
  char *text;
  fonio_incompatible_keys *keys;
  fonio_module *module;
} bench;

static void clean(void *user) {
  bench *all = user;
  fonio_tensor_release(all->y);
  fonio_dict_release(all->dict);
  fonio_text_release(all->text);
  fonio_incompatible_keys_release(all->keys);
  fonio_module_release(all->module);
  *all = (bench){.model = all->model, .x = all->x};
}

static bool make(void *user) {
  bench *all = user;
  net *made = net_new();
  all->module = made ? &made->base : NULL;
  return made && fonio_last_status() == FONIO_OK;
}

/* The child that could not be added is used all the same. */
static bool make_and_use(void *user) {
  bench *all = user;
  net *made = net_new();
  all->module = made ? &made->base : NULL;
  if (made && made->conv2d) fonio_conv2d_set_bias(made->conv2d, NULL);
  return made && fonio_last_status() == FONIO_OK;
}

static bool make_lazy(void *user) {
  bench *all = user;
  fonio_conv2d *lazy = fonio_lazy_conv2d_new(.out_channels = 3, .kernel_size = 2);
  all->module = lazy ? &lazy->base : NULL;
  if (!lazy) return false;
  all->y = fonio_conv2d_forward(lazy, all->x);
  return all->y != NULL;
}

static bool make_sequential(void *user) {
  bench *all = user;
  fonio_sequential *chain = fonio_sequential_new();
  all->module = chain ? &chain->base : NULL;
  if (!chain) return false;
  for (int i = 0; i < 5; i++)
    if (fonio_sequential_append(chain, fonio_conv2d_new(.in_channels = 2, .out_channels = 2, .kernel_size = 1)))
      return false;
  all->y = fonio_module_forward(&chain->base, all->x);
  return all->y != NULL;
}

static fonio_status do_nothing(fonio_module *module, fonio_tensor *input, fonio_tensor **changed, void *user) {
  (void)module, (void)input, (void)changed, (void)user;
  return FONIO_OK;
}

static bool hook_and_run(void *user) {
  bench *all = user;
  int64_t handle = 0;
  if (fonio_module_add_forward_pre_hook(&all->model->base, do_nothing, NULL, &handle)) return false;
  all->y = fonio_module_forward(&all->model->base, all->x);
  fonio_module_remove_hook(&all->model->base, handle);
  return all->y != NULL;
}

static bool read_state(void *user) {
  bench *all = user;
  all->dict = fonio_module_state_dict(&all->model->base);
  return all->dict != NULL;
}

static bool list_parameters(void *user) {
  bench *all = user;
  all->dict = fonio_module_named_parameters(&all->model->base);
  return all->dict != NULL;
}

static bool write_text(void *user) {
  bench *all = user;
  all->text = fonio_module_to_text(&all->model->base);
  return all->text != NULL;
}

static fonio_status visit(fonio_module *module, const char *name, void *user) {
  (void)module, (void)name, (void)user;
  return FONIO_OK;
}

static bool visit_all(void *user) {
  return fonio_module_visit(&((bench *)user)->model->base, visit, NULL) == FONIO_OK;
}

static bool freeze_and_forget(void *user) {
  fonio_module *module = &((bench *)user)->model->base;
  return fonio_module_set_requires_grad(module, true) == FONIO_OK && fonio_module_zero_grad(module) == FONIO_OK;
}

static void run(bool work(void *user)) {
  bench all = {.model = net_new(), .x = counting(FONIO_FLOAT32, 0, FONIO_SHAPE(1, 2, 4, 4))};
  assert_non_null(fonio_module_get_parameter(&all.model->base, "conv2d.weight"));
  fonio_tensor *warm = fonio_module_forward(&all.model->base, all.x);
  RELEASE(warm);
  /* What a hook needs once, the module keeps. */
  int64_t handle;
  fonio_module_add_forward_pre_hook(&all.model->base, do_nothing, NULL, &handle);
  fonio_module_remove_hook(&all.model->base, handle);
  assert_true(fails_until_it_succeeds(work, clean, &all) > 0);
  RELEASE(all.x);
  fonio_module_release(&all.model->base);
}

static void in_whatever_is_done(void **state) {
  (void)state;
  bool (*const works[])(void *) = {make,       make_and_use, make_lazy, make_sequential,   hook_and_run,
                                   read_state, write_text,   visit_all, freeze_and_forget, list_parameters};
  for (size_t i = 0; i < sizeof works / sizeof *works; i++)
    run(works[i]);
}

/* ---- What changes a module changes all of it or nothing ---- */

static bool convert(void *user) {
  fonio_module *module = &((bench *)user)->model->base;
  bool done = fonio_module_to(module, FONIO_FLOAT64) == FONIO_OK;
  fonio_dtype expected = done ? FONIO_FLOAT64 : FONIO_FLOAT32;
  assert_int_equal(fonio_tensor_dtype(fonio_module_get_parameter(module, "conv2d.weight")), expected);
  assert_int_equal(fonio_tensor_dtype(fonio_module_get_parameter(module, "conv2d.bias")), expected);
  return done;
}

static void in_a_conversion(void **state) {
  (void)state;
  run(convert);
}

static bool load(void *user) {
  bench *all = user;
  fonio_tensor *weight = fonio_conv2d_weight(all->model->conv2d), *bias = fonio_conv2d_bias(all->model->conv2d);
  int blocks = failing_blocks_left;
  failing_blocks_left = -1;
  fonio_dict *dict = fonio_dict_new();
  fonio_tensor *ones = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(3, 2, 2, 2)), *wrong = LINE(1);
  fonio_dict_set(dict, "conv2d.weight", ones);
  fonio_dict_set(dict, "conv2d.x", wrong);
  fonio_init_zeros(weight);
  fonio_init_zeros(bias);
  failing_blocks_left = blocks;
  fonio_status status = fonio_module_load_state_dict(&all->model->base, dict, false, &all->keys);
  assert_true(value_at(weight, 0) == (status ? 0 : 1));
  if (status) assert_null(all->keys);
  fonio_dict_release(dict);
  RELEASE(ones, wrong);
  return status == FONIO_OK;
}

static void in_loading(void **state) {
  (void)state;
  run(load);
}

/* The message needs memory, too. */
static bool load_in_vain(void *user) {
  bench *all = user;
  int blocks = failing_blocks_left;
  failing_blocks_left = -1;
  fonio_dict *dict = fonio_dict_new();
  fonio_tensor *wrong = LINE(1);
  fonio_dict_set(dict, "conv2d.weight", wrong);
  failing_blocks_left = blocks;
  fonio_status status = fonio_module_load_state_dict(&all->model->base, dict, true, NULL);
  fonio_dict_release(dict);
  RELEASE(wrong);
  return status == FONIO_RUNTIME_ERROR;
}

static void in_a_report(void **state) {
  (void)state;
  run(load_in_vain);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, failing_set_up, failing_tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(in_whatever_is_done),
      TEST(in_a_conversion),
      TEST(in_loading),
      TEST(in_a_report),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
