/* Modules: who owns what, names, ways through a tree, hooks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tensors.h"

/* ---- A module of one's own ---- */

typedef struct {
  fonio_module base;
  int *releases;
  double factor;
} scale;

static fonio_tensor *scale_forward(fonio_module *module, fonio_tensor *x) {
  fonio_tensor *factor = fonio_tensor_full(fonio_tensor_dtype(x), ((scale *)module)->factor, FONIO_SCALAR);
  fonio_tensor *y = fonio_tensor_mul(x, factor);
  fonio_tensor_release(factor);
  return y;
}

static size_t scale_text(const fonio_module *module, char *text, size_t bytes) {
  return (size_t)snprintf(text, bytes, "%g", ((const scale *)module)->factor);
}

static void scale_release(fonio_module *module) {
  if (((scale *)module)->releases) ++*((scale *)module)->releases;
}

static const fonio_module_class scale_class = FONIO_MODULE_CLASS(scale, .name = "Scale", .forward = scale_forward,
                                                                 .extra_repr = scale_text, .release = scale_release);

static scale *scale_new(double factor, int *releases) {
  scale *made = fonio_module_new(&scale_class);
  assert_non_null(made);
  made->factor = factor;
  made->releases = releases;
  return made;
}

/* One without a forward. */
typedef struct {
  fonio_module base;
} box;

static const fonio_module_class box_class = FONIO_MODULE_CLASS(box, .name = "Box");

static box *box_new(void) {
  box *made = fonio_module_new(&box_class);
  assert_non_null(made);
  return made;
}

static void assert_text(const fonio_module *module, const char *expected) {
  char *text = fonio_module_to_text(module);
  assert_non_null(text);
  assert_string_equal(text, expected);
  fonio_text_release(text);
}

/* ---- Owning ---- */

static void a_module_owns_its_children(void **state) {
  (void)state;
  int releases = 0;
  box *outer = box_new(), *inner = box_new();
  assert_int_equal(fonio_module_add(&outer->base, "inner", inner), FONIO_OK);
  assert_int_equal(fonio_module_add(&inner->base, "first", scale_new(1, &releases)), FONIO_OK);
  assert_int_equal(fonio_module_add(&inner->base, "second", scale_new(2, &releases)), FONIO_OK);
  assert_text(&outer->base, "Box(\n  (inner): Box(\n    (first): Scale(1)\n    (second): Scale(2)\n  )\n)");
  assert_int_equal(releases, 0);
  fonio_module_release(&outer->base);
  assert_int_equal(releases, 2);
}

static void a_shared_child_goes_with_its_last_owner(void **state) {
  (void)state;
  int releases = 0;
  box *one = box_new(), *other = box_new();
  scale *shared = scale_new(3, &releases);
  assert_int_equal(fonio_module_add_child(&one->base, "a", fonio_module_retain(&shared->base)), FONIO_OK);
  assert_int_equal(fonio_module_add_child(&one->base, "b", fonio_module_retain(&shared->base)), FONIO_OK);
  assert_int_equal(fonio_module_add(&other->base, "c", shared), FONIO_OK);
  fonio_module_release(&one->base);
  assert_int_equal(releases, 0);
  fonio_module_release(&other->base);
  assert_int_equal(releases, 1);
}

static void a_known_name_gets_the_new_child(void **state) {
  (void)state;
  int first = 0, second = 0;
  box *outer = box_new();
  fonio_module_add(&outer->base, "a", scale_new(1, &first));
  fonio_module_add(&outer->base, "b", scale_new(2, NULL));
  assert_int_equal(fonio_module_add(&outer->base, "a", scale_new(3, &second)), FONIO_OK);
  assert_int_equal(first, 1);
  assert_text(&outer->base, "Box(\n  (a): Scale(3)\n  (b): Scale(2)\n)");
  fonio_module_release(&outer->base);
  assert_int_equal(second, 1);
}

static void a_child_that_was_not_added_lives_as_long_as_the_module(void **state) {
  (void)state;
  int releases = 0;
  box *outer = box_new();
  scale *child = scale_new(1, &releases);
  assert_fails(fonio_module_add(&outer->base, "a.b", child), FONIO_KEY_ERROR,
               "module name can't contain \".\", got: a.b");
  assert_fails(fonio_module_add_child(&outer->base, "", fonio_module_retain(&child->base)), FONIO_KEY_ERROR,
               "module name can't be empty string \"\"");
  assert_int_equal(fonio_module_child_count(&outer->base), 0);
  assert_int_equal(releases, 0);
  assert_text(&child->base, "Scale(1)");
  fonio_module_release(&outer->base);
  assert_int_equal(releases, 1);
}

static void a_module_is_not_added_below_itself(void **state) {
  (void)state;
  const char *text = "a module cannot be added to itself or to what is below it";
  box *outer = box_new(), *inner = box_new(), *innermost = box_new(), *lost = box_new();
  fonio_module_add(&outer->base, "inner", inner);
  fonio_module_add(&inner->base, "innermost", innermost);
  assert_fails(fonio_module_add(&outer->base, "x", outer), FONIO_VALUE_ERROR, text);
  assert_fails(fonio_module_add(&innermost->base, "x", outer), FONIO_VALUE_ERROR, text);
  assert_int_equal(fonio_module_add(&innermost->base, "", lost), FONIO_KEY_ERROR);
  assert_fails(fonio_module_add(&lost->base, "x", outer), FONIO_VALUE_ERROR, text);
  fonio_module_release(&outer->base);
}

static void null_passes_through(void **state) {
  (void)state;
  box *outer = box_new();
  fonio_clear_error();
  assert_int_equal(fonio_module_add(&outer->base, "x", fonio_conv2d_new(.in_channels = 3)), FONIO_TYPE_ERROR);
  assert_string_equal(fonio_last_error(),
                      "Conv2d.__init__() missing 2 required positional arguments: 'out_channels' and 'kernel_size'");
  assert_int_equal(fonio_module_add_child(NULL, "x", fonio_module_new(&box_class)), FONIO_TYPE_ERROR);
  assert_null(fonio_module_forward(NULL, NULL));
  assert_null(fonio_conv2d_forward(NULL, NULL));
  assert_null(fonio_module_state_dict(NULL));
  assert_null(fonio_module_to_text(NULL));
  assert_int_equal(fonio_module_print(NULL), FONIO_TYPE_ERROR);
  assert_int_equal(fonio_module_train(NULL, true), FONIO_TYPE_ERROR);
  assert_int_equal(fonio_module_load_state_dict(&outer->base, NULL, true, NULL), FONIO_TYPE_ERROR);
  assert_int_equal(fonio_sequential_append_child(NULL, NULL), FONIO_TYPE_ERROR);
  assert_int_equal(fonio_init_kaiming_uniform(NULL, 0, NULL, NULL), FONIO_TYPE_ERROR);
  assert_string_equal(fonio_last_error(),
                      "Conv2d.__init__() missing 2 required positional arguments: 'out_channels' and 'kernel_size'");
  fonio_module_release(NULL);
  fonio_incompatible_keys_release(NULL);
  fonio_module_release(&outer->base);
}

static void a_class_must_be_filled_in(void **state) {
  (void)state;
  const fonio_module_class nameless = FONIO_MODULE_CLASS(box, .forward = scale_forward);
  const fonio_module_class too_small = {.struct_bytes = sizeof too_small, .module_bytes = 1, .name = "x"};
  const fonio_module_class by_hand = {.name = "x", .module_bytes = sizeof(box)};
  assert_null(fonio_module_new(&nameless));
  assert_null(fonio_module_new(&too_small));
  assert_null(fonio_module_new(&by_hand));
  assert_int_equal(fonio_last_status(), FONIO_VALUE_ERROR);
}

/* ---- Deep trees, on a small stack ---- */

static void deep_trees_are_refused_and_released(void **state) {
  (void)state;
  int releases = 0;
  fonio_module *tree = &scale_new(1, &releases)->base;
  int64_t depth = 1;
  for (;; depth++) {
    box *outer = box_new();
    if (fonio_module_add_child(&outer->base, "x", tree)) {
      fonio_module_release(&outer->base);
      break;
    }
    tree = &outer->base;
  }
  assert_string_equal(fonio_last_error(), "maximum recursion depth exceeded");
  assert_int_equal(depth, 1000);
  char *text = fonio_module_to_text(tree);
  assert_non_null(text);
  fonio_text_release(text);
  fonio_module_release(tree);
  assert_int_equal(releases, 1);
}

/* From the top down nothing stops a tree from growing: what goes through it does. */
static void trees_that_grew_too_deep_are_told(void **state) {
  (void)state;
  box *top = box_new(), *last = top;
  for (int i = 0; i < 100000; i++) {
    box *next = box_new();
    assert_int_equal(fonio_module_add(&last->base, "x", next), FONIO_OK);
    last = next;
  }
  assert_null_fails(fonio_module_to_text(&top->base), FONIO_RUNTIME_ERROR, "maximum recursion depth exceeded");
  assert_null_fails(fonio_module_state_dict(&top->base), FONIO_RUNTIME_ERROR, "maximum recursion depth exceeded");
  assert_int_equal(fonio_module_train(&top->base, false), FONIO_RUNTIME_ERROR);
  fonio_module_release(&top->base);
}

static fonio_tensor *run_itself(fonio_module *module, fonio_tensor *x) {
  return fonio_module_forward(module, x);
}

static void a_module_that_runs_itself_fails(void **state) {
  (void)state;
  static const fonio_module_class endless = FONIO_MODULE_CLASS(box, .name = "Endless", .forward = run_itself);
  box *module = fonio_module_new(&endless);
  fonio_tensor *x = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(1));
  for (int i = 0; i < 2; i++) /* the failure leaves no trace */
    assert_null_fails(fonio_module_forward(&module->base, x), FONIO_RUNTIME_ERROR, "maximum recursion depth exceeded");
  RELEASE(x);
  fonio_module_release(&module->base);
}

/* ---- Ways through a tree ---- */

static fonio_status note_name(fonio_module *module, const char *name, void *user) {
  (void)module;
  strcat(strcat(user, name), ";");
  return FONIO_OK;
}

static fonio_status note_type(fonio_module *module, void *user) {
  strcat(strcat(user, fonio_module_type(module)->name), ";");
  return FONIO_OK;
}

static fonio_status stop_at_a_scale(fonio_module *module, void *user) {
  ++*(int *)user;
  return fonio_module_type(module) == &scale_class ? FONIO_KEY_ERROR : FONIO_OK;
}

/* Box(a: Box(x: Scale, y: the same Scale), b: the same Scale, c: Conv2d) */
static box *sample(void) {
  box *top = box_new(), *inner = box_new();
  scale *shared = scale_new(1, NULL);
  fonio_module_add(&top->base, "a", inner);
  fonio_module_add(&inner->base, "x", shared);
  fonio_module_add_child(&inner->base, "y", fonio_module_retain(&shared->base));
  fonio_module_add_child(&top->base, "b", fonio_module_retain(&shared->base));
  fonio_module_add(&top->base, "c", fonio_conv2d_new(.in_channels = 1, .out_channels = 1, .kernel_size = 1));
  return top;
}

static void modules_come_from_the_top_once(void **state) {
  (void)state;
  char names[200] = "";
  box *top = sample();
  assert_int_equal(fonio_module_visit(&top->base, note_name, names), FONIO_OK);
  assert_string_equal(names, ";a;a.x;c;");
  fonio_module_release(&top->base);
}

static void apply_goes_from_below(void **state) {
  (void)state;
  char names[200] = "";
  int visits = 0;
  box *top = sample();
  assert_int_equal(fonio_module_apply(&top->base, note_type, names), FONIO_OK);
  assert_string_equal(names, "Scale;Box;Scale;Conv2d;Box;");
  assert_int_equal(fonio_module_apply(&top->base, stop_at_a_scale, &visits), FONIO_KEY_ERROR);
  assert_int_equal(visits, 1);
  fonio_module_release(&top->base);
}

static void children_have_places_and_paths(void **state) {
  (void)state;
  box *top = sample();
  assert_int_equal(fonio_module_child_count(&top->base), 3);
  assert_string_equal(fonio_module_child_name_at(&top->base, 1), "b");
  assert_ptr_equal(fonio_module_child_at(&top->base, 1), fonio_module_get_submodule(&top->base, "a.y"));
  assert_ptr_equal(fonio_module_get_submodule(&top->base, ""), &top->base);
  assert_null(fonio_module_child_at(&top->base, 3));
  assert_null(fonio_module_child_name_at(&top->base, -1));
  assert_non_null(fonio_conv2d_of_module(fonio_module_get_submodule(&top->base, "c")));
  assert_null(fonio_conv2d_of_module(&top->base));
  assert_ptr_equal(fonio_module_get_parameter(&top->base, "c.bias"),
                   fonio_conv2d_bias(fonio_conv2d_of_module(fonio_module_child_at(&top->base, 2))));
  fonio_module_release(&top->base);
}

static fonio_status training_of(fonio_module *module, void *user) {
  *(int *)user += fonio_module_training(module);
  return FONIO_OK;
}

static void train_and_eval_are_for_the_whole_tree(void **state) {
  (void)state;
  int training = 0;
  box *top = sample();
  fonio_module_apply(&top->base, training_of, &training);
  assert_int_equal(training, 5);
  assert_int_equal(fonio_module_train(&top->base, false), FONIO_OK);
  training = 0;
  fonio_module_apply(&top->base, training_of, &training);
  assert_int_equal(training, 0);
  fonio_module_release(&top->base);
}

/* ---- Parameters ---- */

static void parameters_are_retained(void **state) {
  (void)state;
  box *top = box_new();
  fonio_tensor *data = LINE(1, 2), *parameter = fonio_parameter_new(data, true);
  assert_true(fonio_tensor_is_parameter(parameter));
  assert_false(fonio_tensor_is_parameter(data));
  assert_true(fonio_tensor_requires_grad(parameter));
  assert_int_equal(fonio_module_set_parameter(&top->base, "w", parameter), FONIO_OK);
  assert_fails(fonio_module_set_parameter(&top->base, "v", data), FONIO_TYPE_ERROR,
               "cannot assign 'torch.DoubleTensor' object to parameter 'v' (torch.nn.Parameter or None required)");
  RELEASE(data, parameter);
  ASSERT_VALUES(fonio_module_get_parameter(&top->base, "w"), 1, 2);
  fonio_module_release(&top->base);
}

static void a_parameter_needs_a_dtype_with_gradients(void **state) {
  (void)state;
  fonio_tensor *whole = fonio_tensor_ones(FONIO_INT64, FONIO_SHAPE(2));
  assert_null_fails(fonio_parameter_new(whole, true), FONIO_RUNTIME_ERROR,
                    "Only Tensors of floating point and complex dtype can require gradients");
  fonio_tensor *frozen = fonio_parameter_new(whole, false);
  assert_non_null(frozen);
  RELEASE(whole, frozen);
}

static void named_parameters_come_once(void **state) {
  (void)state;
  box *top = sample();
  fonio_tensor *data = LINE(1), *tied = fonio_parameter_new(data, true);
  fonio_module_set_parameter(&top->base, "w", tied);
  fonio_module_set_parameter(fonio_module_get_submodule(&top->base, "a"), "tied", tied);
  fonio_module_set_buffer(fonio_module_get_submodule(&top->base, "a"), "steps", data);
  fonio_dict *parameters = fonio_module_named_parameters(&top->base), *state_dict = fonio_module_state_dict(&top->base);
  fonio_dict *buffers = fonio_module_named_buffers(&top->base);
  char *names = fonio_dict_names_to_text(parameters), *keys = fonio_dict_names_to_text(state_dict);
  assert_string_equal(names, "['w', 'c.weight', 'c.bias']");
  assert_string_equal(keys, "['w', 'a.tied', 'a.steps', 'c.weight', 'c.bias']");
  assert_int_equal(fonio_dict_size(buffers), 1);
  assert_ptr_equal(fonio_dict_get(buffers, "a.steps"), data);
  assert_ptr_equal(fonio_dict_get(parameters, "w"), tied);
  fonio_text_release(names);
  fonio_text_release(keys);
  fonio_dict_release(parameters);
  fonio_dict_release(buffers);
  fonio_dict_release(state_dict);
  RELEASE(data, tied);
  fonio_module_release(&top->base);
}

/* ---- Running, and hooks ---- */

static double run_on(fonio_module *module, double number) {
  fonio_tensor *x = LINE(number), *y = fonio_module_forward(module, x);
  double result = value_at(y, 0);
  RELEASE(x, y);
  return result;
}

static void a_module_without_forward_cannot_be_run(void **state) {
  (void)state;
  box *top = box_new();
  fonio_tensor *x = LINE(1);
  assert_null_fails(fonio_module_forward(&top->base, x), FONIO_NOT_IMPLEMENTED,
                    "Module [Box] is missing the required \"forward\" function");
  RELEASE(x);
  fonio_module_release(&top->base);
}

static void a_sequential_runs_its_children_in_order(void **state) {
  (void)state;
  fonio_sequential *chain = fonio_sequential_new();
  assert_text(&chain->base, "Sequential()");
  fonio_tensor *x = LINE(5), *same = fonio_module_forward(&chain->base, x);
  assert_ptr_equal(same, x);
  RELEASE(x, same);
  assert_int_equal(fonio_sequential_append(chain, scale_new(2, NULL)), FONIO_OK);
  assert_int_equal(fonio_sequential_append(chain, scale_new(3, NULL)), FONIO_OK);
  assert_int_equal(fonio_module_add(&chain->base, "last", scale_new(4, NULL)), FONIO_OK);
  assert_text(&chain->base, "Sequential(\n  (0): Scale(2)\n  (1): Scale(3)\n  (last): Scale(4)\n)");
  assert_true(run_on(&chain->base, 1) == 24);
  fonio_sequential_append(chain, box_new());
  x = LINE(1);
  assert_null(fonio_module_forward(&chain->base, x));
  RELEASE(x);
  fonio_module_release(&chain->base);
}

/* What the hooks of the tests below do, and what they saw. */
typedef struct {
  double add;
  fonio_status status;
  int64_t remove;
  char *names;
  const char *name;
} hook_plan;

static fonio_tensor *plus(fonio_tensor *x, double number) {
  fonio_tensor *more = LINE(number), *sum = fonio_tensor_add(x, more);
  RELEASE(more);
  return sum;
}

static fonio_status before_run(fonio_module *module, fonio_tensor *input, fonio_tensor **changed, void *user) {
  hook_plan *plan = user;
  assert_null(*changed);
  if (plan->names) strcat(plan->names, plan->name);
  if (plan->add != 0) *changed = plus(input, plan->add);
  if (plan->remove) fonio_module_remove_hook(module, plan->remove);
  return plan->status;
}

static fonio_status after_run(fonio_module *module, fonio_tensor *input, fonio_tensor *output, fonio_tensor **changed,
                              void *user) {
  assert_non_null(input);
  return before_run(module, output, changed, user);
}

static void hooks_change_what_goes_in_and_comes_out(void **state) {
  (void)state;
  scale *module = scale_new(10, NULL);
  int64_t before, after;
  assert_int_equal(fonio_module_add_forward_pre_hook(&module->base, before_run, &(hook_plan){.add = 1}, &before),
                   FONIO_OK);
  assert_int_equal(fonio_module_add_forward_hook(&module->base, after_run, &(hook_plan){.add = 5}, &after), FONIO_OK);
  assert_true(run_on(&module->base, 2) == 35);
  assert_int_equal(fonio_module_remove_hook(&module->base, before), FONIO_OK);
  assert_true(run_on(&module->base, 2) == 25);
  assert_int_equal(fonio_module_remove_hook(&module->base, after), FONIO_OK);
  assert_int_equal(fonio_module_remove_hook(&module->base, after), FONIO_OK);
  assert_true(run_on(&module->base, 2) == 20);
  fonio_module_release(&module->base);
}

static void hooks_run_in_their_order(void **state) {
  (void)state;
  char names[20] = "";
  scale *module = scale_new(10, NULL);
  hook_plan plans[] = {{.names = names, .name = "a"}, {.names = names, .name = "b"}, {.names = names, .name = "c"}};
  fonio_module_add_forward_hook(&module->base, after_run, &plans[2], NULL);
  fonio_module_add_forward_pre_hook(&module->base, before_run, &plans[0], NULL);
  fonio_module_add_forward_pre_hook(&module->base, before_run, &plans[1], NULL);
  run_on(&module->base, 1);
  assert_string_equal(names, "abc");
  fonio_module_release(&module->base);
}

static void a_hook_may_remove_hooks(void **state) {
  (void)state;
  scale *module = scale_new(10, NULL);
  hook_plan adder = {.add = 1}, remover = {0};
  fonio_module_add_forward_pre_hook(&module->base, before_run, &remover, NULL);
  fonio_module_add_forward_pre_hook(&module->base, before_run, &adder, &remover.remove);
  assert_true(run_on(&module->base, 2) == 30);
  assert_true(run_on(&module->base, 2) == 20);
  fonio_module_release(&module->base);
}

static void a_hook_may_end_the_run(void **state) {
  (void)state;
  scale *module = scale_new(10, NULL);
  hook_plan stop = {.add = 1, .status = FONIO_VALUE_ERROR};
  int64_t handle;
  fonio_tensor *x = LINE(1);
  fonio_module_add_forward_pre_hook(&module->base, before_run, &stop, &handle);
  assert_null(fonio_module_forward(&module->base, x));
  fonio_module_remove_hook(&module->base, handle);
  fonio_module_add_forward_hook(&module->base, after_run, &stop, NULL);
  assert_null(fonio_module_forward(&module->base, x));
  RELEASE(x);
  fonio_module_release(&module->base);
}

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_module_owns_its_children),
      TEST(a_shared_child_goes_with_its_last_owner),
      TEST(a_known_name_gets_the_new_child),
      TEST(a_child_that_was_not_added_lives_as_long_as_the_module),
      TEST(a_module_is_not_added_below_itself),
      TEST(null_passes_through),
      TEST(a_class_must_be_filled_in),
      TEST(deep_trees_are_refused_and_released),
      TEST(trees_that_grew_too_deep_are_told),
      TEST(a_module_that_runs_itself_fails),
      TEST(modules_come_from_the_top_once),
      TEST(apply_goes_from_below),
      TEST(children_have_places_and_paths),
      TEST(train_and_eval_are_for_the_whole_tree),
      TEST(parameters_are_retained),
      TEST(a_parameter_needs_a_dtype_with_gradients),
      TEST(named_parameters_come_once),
      TEST(a_module_without_forward_cannot_be_run),
      TEST(a_sequential_runs_its_children_in_order),
      TEST(hooks_change_what_goes_in_and_comes_out),
      TEST(hooks_run_in_their_order),
      TEST(a_hook_may_remove_hooks),
      TEST(a_hook_may_end_the_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
