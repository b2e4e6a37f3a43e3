/* The tape: what is recorded, what comes back, and what is refused, in torch's words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tensors.h"

#define SECOND_TIME                                                                                                    \
  "Trying to backward through the graph a second time (or directly access saved tensors after they have already been " \
  "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "    \
  "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "  \
  "after calling backward."

/* sum(x * w) */
static fonio_tensor *dot(fonio_tensor *x, fonio_tensor *w) {
  fonio_tensor *product = fonio_tensor_mul(x, w), *sum = fonio_tensor_sum(product);
  fonio_tensor_release(product);
  assert_non_null(sum);
  return sum;
}

/* ---- What is recorded ---- */

static void results_require_a_gradient_when_an_input_does(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *plain = LINE(3, 4);
  fonio_tensor *both = fonio_tensor_add(x, plain), *neither = fonio_tensor_add(plain, plain);
  assert_true(fonio_tensor_requires_grad(both));
  assert_false(fonio_tensor_is_leaf(both));
  assert_string_equal(fonio_tensor_grad_fn_name(both), "AddBackward0");
  assert_false(fonio_tensor_requires_grad(neither));
  assert_true(fonio_tensor_is_leaf(neither));
  assert_null(fonio_tensor_grad_fn_name(neither));
  assert_null(fonio_tensor_grad_fn_name(x));
  RELEASE(x, plain, both, neither);
}

static void nothing_is_recorded_without_gradients(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2));
  assert_true(fonio_grad_enabled());
  assert_true(fonio_set_grad_enabled(false));
  assert_false(fonio_grad_enabled());
  fonio_tensor *y = fonio_tensor_mul(x, x), *same = fonio_tensor_contiguous(x);
  assert_false(fonio_set_grad_enabled(true));
  assert_false(fonio_tensor_requires_grad(y));
  assert_ptr_equal(same, x);
  RELEASE(x, y, same);
}

static void integers_have_no_history(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *whole = fonio_tensor_to(x, FONIO_INT64);
  assert_false(fonio_tensor_requires_grad(whole));
  RELEASE(x, whole);
}

static void detach_shares_memory_and_forgets(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_mul(x, x), *d = fonio_tensor_detach(y);
  assert_false(fonio_tensor_requires_grad(d));
  assert_true(fonio_tensor_is_leaf(d));
  assert_ptr_equal(fonio_tensor_const_data(d), fonio_tensor_const_data(y));
  RELEASE(x, y, d);
}

static void only_floating_point_leaves_change(void **state) {
  (void)state;
  const char *not_floating = "only Tensors of floating point dtype can require gradients";
  fonio_tensor *whole = fonio_tensor_zeros(FONIO_INT64, FONIO_SHAPE(2)), *x = requiring_grad(LINE(1, 2));
  fonio_tensor *half = fonio_tensor_zeros(FONIO_FLOAT16, FONIO_SHAPE(2)), *y = fonio_tensor_add(x, x);
  assert_fails(fonio_tensor_set_requires_grad(whole, true), FONIO_RUNTIME_ERROR, not_floating);
  assert_int_equal(fonio_tensor_set_requires_grad(whole, false), FONIO_OK);
  assert_int_equal(fonio_tensor_set_requires_grad(half, true), FONIO_OK);
  assert_int_equal(fonio_tensor_set_requires_grad(y, true), FONIO_OK);
  assert_fails(fonio_tensor_set_requires_grad(y, false), FONIO_RUNTIME_ERROR,
               "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
               "subgraph that doesn't require differentiation use var_no_grad = var.detach().");
  assert_true(fonio_tensor_requires_grad(y));
  RELEASE(whole, half, x, y);
}

/* ---- backward ---- */

static void gradients_reach_the_leaves(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2, 3)), *w = requiring_grad(LINE(10, 11, 12)), *y = dot(x, w);
  assert_int_equal(fonio_tensor_backward(y), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 10, 11, 12);
  ASSERT_VALUES(fonio_tensor_grad(w), 1, 2, 3);
  RELEASE(x, w, y);
}

static void uses_of_one_leaf_add_up(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2, 3)), *square = fonio_tensor_mul(x, x);
  fonio_tensor *cube = fonio_tensor_mul(square, x), *both = fonio_tensor_add(cube, square), *y = fonio_tensor_sum(both);
  assert_int_equal(fonio_tensor_backward(y), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 3 + 2, 12 + 4, 27 + 6);
  RELEASE(x, square, cube, both, y);
}

static void gradients_accumulate_in_place(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = LINE(5, 6), *y = dot(x, w);
  assert_int_equal(fonio_tensor_backward_with(y, NULL, true, false), FONIO_OK);
  fonio_tensor *grad = fonio_tensor_grad(x);
  assert_int_equal(fonio_tensor_backward(y), FONIO_OK);
  assert_ptr_equal(fonio_tensor_grad(x), grad);
  ASSERT_VALUES(grad, 10, 12);
  assert_int_equal(fonio_tensor_version(grad), 1);
  assert_int_equal(fonio_tensor_set_grad(x, NULL), FONIO_OK);
  assert_null(fonio_tensor_grad(x));
  RELEASE(x, w, y);
}

static void a_leaf_is_its_own_graph(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *g = LINE(3, 4);
  assert_int_equal(fonio_tensor_backward_with(x, g, false, false), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 3, 4);
  assert_ptr_not_equal(fonio_tensor_const_data(fonio_tensor_grad(x)), fonio_tensor_const_data(g));
  RELEASE(x, g);
}

static void no_two_grads_share_memory(void **state) {
  (void)state;
  fonio_tensor *a = requiring_grad(LINE(1, 2)), *b = requiring_grad(LINE(3, 4)), *g = LINE(5, 6);
  fonio_tensor *y = fonio_tensor_add(a, b);
  assert_int_equal(fonio_tensor_backward_with(y, g, false, false), FONIO_OK);
  const void *of_a = fonio_tensor_const_data(fonio_tensor_grad(a)),
             *of_b = fonio_tensor_const_data(fonio_tensor_grad(b));
  assert_ptr_not_equal(of_a, of_b);
  assert_ptr_not_equal(of_a, fonio_tensor_const_data(g));
  assert_ptr_not_equal(of_b, fonio_tensor_const_data(g));
  RELEASE(a, b, g, y);
}

/* x.grad as its own gradient, transposed: what is read must not be what is already written. */
static void a_grad_may_be_added_to_itself(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(counting(FONIO_FLOAT64, 0, FONIO_SHAPE(2, 2)));
  fonio_tensor *g = counting(FONIO_FLOAT64, 1, FONIO_SHAPE(2, 2));
  assert_int_equal(fonio_tensor_backward_with(x, g, false, false), FONIO_OK);
  fonio_tensor *turned = fonio_tensor_permute(fonio_tensor_grad(x), FONIO_SHAPE(1, 0));
  assert_int_equal(fonio_tensor_backward_with(x, turned, false, false), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 2, 5, 5, 8);
  RELEASE(x, g, turned);
}

static void grads_have_the_layout_of_their_leaf(void **state) {
  (void)state;
  fonio_tensor *plain = counting(FONIO_FLOAT64, 0, FONIO_SHAPE(2, 3, 4, 5));
  fonio_tensor *last = requiring_grad(fonio_tensor_channels_last(plain));
  fonio_tensor *part = requiring_grad(fonio_tensor_slice(plain, 3, 0, 5, 2));
  fonio_tensor *sums[] = {fonio_tensor_sum(last), fonio_tensor_sum(part)};
  for (int i = 0; i < 2; i++)
    assert_int_equal(fonio_tensor_backward(sums[i]), FONIO_OK);
  ASSERT_SIZES(fonio_tensor_strides(fonio_tensor_grad(last)), 60, 1, 15, 3);
  ASSERT_SIZES(fonio_tensor_strides(fonio_tensor_grad(part)), 36, 12, 3, 1);
  RELEASE(plain, last, part, sums[0], sums[1]);
}

static void a_gradient_is_converted_to_the_outputs_dtype(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(2))), *g = LINE(3, 4);
  fonio_tensor *y = fonio_tensor_add(x, x);
  assert_int_equal(fonio_tensor_backward_with(y, g, false, false), FONIO_OK);
  assert_int_equal(fonio_tensor_dtype(fonio_tensor_grad(x)), FONIO_FLOAT32);
  ASSERT_VALUES(fonio_tensor_grad(x), 6, 8);
  RELEASE(x, g, y);
}

static void a_leaf_that_changed_its_mind_gets_nothing(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = dot(x, x);
  assert_int_equal(fonio_tensor_set_requires_grad(x, false), FONIO_OK);
  assert_int_equal(fonio_tensor_backward(y), FONIO_OK);
  assert_null(fonio_tensor_grad(x));
  RELEASE(x, y);
}

static void backward_refuses_in_torchs_order(void **state) {
  (void)state;
  const char *no_grad = "element 0 of tensors does not require grad and does not have a grad_fn";
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_mul(x, x), *plain = LINE(1, 2),
               *three = LINE(1, 2, 3);
  fonio_tensor *complex = fonio_tensor_zeros(FONIO_COMPLEX64, FONIO_SHAPE(2));
  assert_fails(fonio_tensor_backward(plain), FONIO_RUNTIME_ERROR, no_grad);
  assert_fails(fonio_tensor_backward_with(plain, x, false, false), FONIO_RUNTIME_ERROR, no_grad);
  assert_fails(fonio_tensor_backward_with(plain, three, false, false), FONIO_RUNTIME_ERROR,
               "Mismatch in shape: grad_output[0] has a shape of torch.Size([3]) and output[0] has a shape of "
               "torch.Size([2]).");
  assert_fails(fonio_tensor_backward(y), FONIO_RUNTIME_ERROR, "grad can be implicitly created only for scalar outputs");
  assert_fails(fonio_tensor_backward_with(y, complex, false, false), FONIO_RUNTIME_ERROR,
               "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in "
               "dtype: grad_output[0] has a dtype of torch.complex64 and output[0] has a dtype of torch.float64.");
  assert_null(fonio_tensor_grad(x));
  RELEASE(x, y, plain, three, complex);
}

static void complex_leaves_need_a_gradient_of_their_own(void **state) {
  (void)state;
  fonio_tensor *z = requiring_grad(fonio_tensor_ones(FONIO_COMPLEX64, FONIO_SCALAR));
  assert_fails(fonio_tensor_backward(z), FONIO_RUNTIME_ERROR,
               "grad can be implicitly created only for real scalar outputs but got torch.complex64");
  RELEASE(z);
}

/* ---- retain_graph ---- */

static void a_graph_is_passed_once(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = requiring_grad(LINE(3, 4)), *y = dot(x, w);
  assert_int_equal(fonio_tensor_backward(y), FONIO_OK);
  assert_fails(fonio_tensor_backward(y), FONIO_RUNTIME_ERROR, SECOND_TIME);
  ASSERT_VALUES(fonio_tensor_grad(x), 3, 4);
  RELEASE(x, w, y);
}

static void what_saves_nothing_can_be_passed_again(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *two = fonio_tensor_add(x, x), *mean = fonio_tensor_mean(two);
  for (int i = 0; i < 3; i++)
    assert_int_equal(fonio_tensor_backward(mean), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 3, 3);
  RELEASE(x, two, mean);
}

static void a_graph_that_is_kept_can_be_passed_again(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = dot(x, x);
  for (int i = 0; i < 3; i++)
    assert_int_equal(fonio_tensor_backward_with(y, NULL, true, false), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 6, 12);
  RELEASE(x, y);
}

/* ---- retain_grad ---- */

static void inner_tensors_keep_their_gradient_when_asked(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_add(x, x), *z = dot(y, y);
  assert_int_equal(fonio_tensor_retain_grad(y), FONIO_OK);
  assert_int_equal(fonio_tensor_retain_grad(z), FONIO_OK);
  assert_int_equal(fonio_tensor_backward_with(z, NULL, true, false), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(y), 4, 8);
  ASSERT_VALUES(fonio_tensor_grad(z), 1);
  assert_int_equal(fonio_tensor_backward(z), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(y), 8, 16);
  ASSERT_VALUES(fonio_tensor_grad(x), 16, 32);
  RELEASE(x, y, z);
}

static void a_tensor_that_went_keeps_no_gradient(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_add(x, x), *sum = fonio_tensor_sum(y);
  assert_int_equal(fonio_tensor_retain_grad(y), FONIO_OK);
  fonio_tensor_release(y);
  assert_int_equal(fonio_tensor_backward(sum), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 2, 2);
  RELEASE(x, sum);
}

static void retain_grad_needs_a_gradient(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *plain = LINE(1, 2);
  assert_fails(fonio_tensor_retain_grad(plain), FONIO_RUNTIME_ERROR,
               "can't retain_grad on Tensor that has requires_grad=False");
  assert_int_equal(fonio_tensor_retain_grad(x), FONIO_OK);
  RELEASE(x, plain);
}

static void count_warning(const char *message, void *user) {
  assert_non_null(strstr(message, "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed."));
  ++*(int *)user;
}

static void asking_for_a_grad_that_never_comes_warns(void **state) {
  (void)state;
  int warnings = 0;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_add(x, x);
  fonio_set_warning_handler(count_warning, &warnings);
  assert_null(fonio_tensor_grad(x));
  assert_int_equal(warnings, 0);
  assert_null(fonio_tensor_grad(y));
  assert_int_equal(warnings, 1);
  assert_int_equal(fonio_tensor_retain_grad(y), FONIO_OK);
  assert_null(fonio_tensor_grad(y));
  assert_int_equal(warnings, 1);
  fonio_set_warning_handler(NULL, NULL);
  RELEASE(x, y);
}

/* ---- set_grad ---- */

static void grads_can_be_given(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *g = LINE(5, 6), *y = fonio_tensor_sum(x);
  assert_int_equal(fonio_tensor_set_grad(x, g), FONIO_OK);
  assert_ptr_equal(fonio_tensor_grad(x), g);
  assert_int_equal(fonio_tensor_backward(y), FONIO_OK);
  ASSERT_VALUES(g, 6, 7);
  RELEASE(x, g, y);
}

/* Were the history kept, x would hold y, y its node, and the node x: none of them would ever go. */
static void a_given_grad_loses_its_history(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_mul(x, x);
  assert_int_equal(fonio_tensor_set_grad(x, y), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 1, 4);
  assert_true(fonio_tensor_is_leaf(fonio_tensor_grad(x)));
  RELEASE(x, y);
}

static void given_grads_must_fit(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *three = LINE(1, 2, 3);
  fonio_tensor *single = fonio_tensor_ones(FONIO_FLOAT32, FONIO_SHAPE(3));
  assert_fails(fonio_tensor_set_grad(x, x), FONIO_RUNTIME_ERROR, "can't assign Variable as its own grad");
  assert_fails(fonio_tensor_set_grad(x, three), FONIO_RUNTIME_ERROR,
               "attempting to assign a gradient of size '[3]' to a tensor of size '[2]'. Please ensure that the "
               "gradient and the tensor are the same size");
  assert_fails(
      fonio_tensor_set_grad(x, single), FONIO_RUNTIME_ERROR,
      "attempting to assign a gradient with dtype 'float' to a tensor with grad_dtype 'Double'. The gradient "
      "must match the tensor's grad_dtype (defaults to the tensor's dtype). You can set the tensor's "
      "grad_dtype attribute with a specific dtype, or None to allow any dtype. Set grad_dtype with caution. "
      "Diverging the dtypes of a tensor and its gradient may break downstream systems that assume they match.");
  assert_null(fonio_tensor_grad(x));
  RELEASE(x, three, single);
}

static void an_expanded_grad_takes_no_more(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = requiring_grad(LINE(3, 4)), *y = dot(x, w), *one = LINE(1);
  fonio_tensor *wide = fonio_tensor_expand(one, FONIO_SHAPE(2));
  assert_int_equal(fonio_tensor_set_grad(x, wide), FONIO_OK);
  assert_fails(fonio_tensor_backward(y), FONIO_RUNTIME_ERROR,
               "unsupported operation: more than one element of the written-to tensor refers to a single memory "
               "location. Please clone() the tensor before performing the operation.");
  assert_null(fonio_tensor_grad(w));
  ASSERT_VALUES(wide, 1, 1);
  RELEASE(x, w, y, one, wide);
}

/* ---- grad ---- */

static void grad_returns_gradients_and_changes_none(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = requiring_grad(LINE(3, 4)), *y = fonio_tensor_mul(x, w);
  fonio_tensor *z = dot(y, y), *inputs[] = {x, y, z, x}, *grads[4];
  assert_int_equal(fonio_grad(z, 4, inputs, NULL, true, false, false, grads), FONIO_OK);
  ASSERT_VALUES(grads[0], 18, 64);
  ASSERT_VALUES(grads[1], 6, 16);
  ASSERT_VALUES(grads[2], 1);
  ASSERT_VALUES(grads[3], 18, 64);
  assert_null(fonio_tensor_grad(x));
  assert_null(fonio_tensor_grad(w));
  release_all(4, grads);
  RELEASE(x, w, y, z);
}

/* Only what leads to the inputs is passed: y = x * w keeps what it saved. */
static void grad_goes_no_further_than_it_must(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = requiring_grad(LINE(3, 4)), *y = fonio_tensor_mul(x, w);
  fonio_tensor *z = dot(y, y), *grad = NULL;
  assert_int_equal(fonio_grad(z, 1, &y, NULL, false, false, false, &grad), FONIO_OK);
  assert_int_equal(fonio_tensor_backward_with(y, grad, false, false), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 18, 64);
  assert_fails(fonio_tensor_backward(z), FONIO_RUNTIME_ERROR, SECOND_TIME);
  RELEASE(x, w, y, z, grad);
}

static void grad_fills_what_keeps_its_gradient(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_add(x, x), *z = fonio_tensor_sum(y), *grad = NULL;
  assert_int_equal(fonio_tensor_retain_grad(y), FONIO_OK);
  assert_int_equal(fonio_grad(z, 1, &x, NULL, false, false, false, &grad), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(y), 1, 1);
  RELEASE(x, y, z, grad);
}

static void unused_inputs_are_told_or_allowed(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *z = requiring_grad(LINE(1)), *y = fonio_tensor_sum(x);
  fonio_tensor *inputs[] = {x, z}, *grads[2] = {x, x};
  assert_fails(fonio_grad(y, 2, inputs, NULL, false, false, false, grads), FONIO_RUNTIME_ERROR,
               "The differentiated Tensor at index 1 appears to not have been used in the graph. Set allow_unused=True "
               "if this is the desired behavior.");
  assert_ptr_equal(grads[0], x);
  assert_int_equal(fonio_grad(y, 2, inputs, NULL, false, false, true, grads), FONIO_OK);
  ASSERT_VALUES(grads[0], 1, 1);
  assert_null(grads[1]);
  RELEASE(x, z, y, grads[0]);
}

static void grad_refuses_in_torchs_order(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_add(x, x), *plain = LINE(1), *grad = x;
  assert_fails(fonio_grad(y, 0, NULL, NULL, false, false, false, NULL), FONIO_RUNTIME_ERROR,
               "`inputs` argument to `grad()` cannot be empty.");
  assert_fails(fonio_grad(y, 1, &plain, NULL, false, false, false, &grad), FONIO_RUNTIME_ERROR,
               "grad can be implicitly created only for scalar outputs");
  assert_fails(fonio_grad(plain, 1, &plain, NULL, false, false, false, &grad), FONIO_RUNTIME_ERROR,
               "element 0 of tensors does not require grad and does not have a grad_fn");
  assert_fails(fonio_grad(y, 1, &plain, y, false, false, false, &grad), FONIO_RUNTIME_ERROR,
               "One of the differentiated Tensors does not require grad");
  assert_ptr_equal(grad, x);
  RELEASE(x, y, plain);
}

/* ---- Writing in place ---- */

static void leaves_and_their_views_are_guarded(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(counting(FONIO_FLOAT64, 0, FONIO_SHAPE(2, 3))), *plain = LINE(1, 2, 3);
  fonio_tensor *row = fonio_tensor_select(x, 0, 0), *part = fonio_tensor_slice(row, 0, 0, 2, 1);
  const char *leaf = "a leaf Variable that requires grad is being used in an in-place operation.";
  const char *view = "a view of a leaf Variable that requires grad is being used in an in-place operation.";
  assert_fails(fonio_tensor_fill(x, 1), FONIO_RUNTIME_ERROR, leaf);
  assert_fails(fonio_tensor_copy(x, plain), FONIO_RUNTIME_ERROR, leaf);
  assert_fails(fonio_tensor_fill(row, 1), FONIO_RUNTIME_ERROR, view);
  assert_fails(fonio_tensor_fill(part, 1), FONIO_RUNTIME_ERROR, view);
  ASSERT_VALUES(x, 0, 1, 2, 3, 4, 5);
  fonio_set_grad_enabled(false);
  assert_int_equal(fonio_tensor_fill(row, 7), FONIO_OK);
  assert_int_equal(fonio_tensor_copy(part, plain), FONIO_RUNTIME_ERROR);
  fonio_set_grad_enabled(true);
  ASSERT_VALUES(x, 7, 7, 7, 3, 4, 5);
  RELEASE(x, plain, row, part);
}

static void writes_that_belong_in_a_history_are_refused(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *y = fonio_tensor_add(x, x), *plain = LINE(8, 9);
  fonio_tensor *whole = fonio_tensor_zeros(FONIO_INT64, FONIO_SHAPE(2));
  assert_int_equal(fonio_tensor_fill(y, 1), FONIO_NOT_IMPLEMENTED);
  assert_int_equal(fonio_tensor_copy(plain, x), FONIO_NOT_IMPLEMENTED);
  ASSERT_VALUES(y, 2, 4);
  ASSERT_VALUES(plain, 8, 9);
  assert_int_equal(fonio_tensor_copy(whole, x), FONIO_OK);
  ASSERT_VALUES(whole, 1, 2);
  RELEASE(x, y, plain, whole);
}

/* What product of x and w does when `written`, one of them or their memory, is written to before the way back. */
static fonio_status backward_after_write(fonio_tensor *x, fonio_tensor *w, fonio_tensor *written) {
  fonio_tensor *y = dot(x, w);
  fonio_set_grad_enabled(false);
  assert_int_equal(fonio_tensor_fill(written, 2), FONIO_OK);
  fonio_set_grad_enabled(true);
  fonio_status status = fonio_tensor_backward(y);
  fonio_tensor_release(y);
  return status;
}

#define MODIFIED(what, version, expected)                                                                              \
  "one of the variables needed for gradient computation has been modified by an inplace operation: " what              \
  " is at version " version "; expected version " expected " instead. Hint: enable anomaly detection to find the "     \
  "operation that failed to compute its gradient, with torch.autograd.set_detect_anomaly(True, check_nan=False)."

static void saved_tensors_must_not_change(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = LINE(3, 4), *sum = fonio_tensor_add(x, x);
  fonio_tensor *part = fonio_tensor_slice(sum, 0, 1, 2, 1);
  assert_fails(backward_after_write(x, w, w), FONIO_RUNTIME_ERROR, MODIFIED("[torch.DoubleTensor [2]]", "1", "0"));
  assert_fails(backward_after_write(x, w, w), FONIO_RUNTIME_ERROR, MODIFIED("[torch.DoubleTensor [2]]", "2", "1"));
  assert_fails(backward_after_write(x, sum, sum), FONIO_RUNTIME_ERROR,
               MODIFIED("[torch.DoubleTensor [2]], which is output 0 of Add,", "1", "0"));
  assert_fails(backward_after_write(x, part, sum), FONIO_RUNTIME_ERROR,
               MODIFIED("[torch.DoubleTensor [1]], which is output 0 of AsStrided,", "2", "1"));
  assert_null(fonio_tensor_grad(x));
  RELEASE(x, w, sum, part);
}

/* The gradient of w needs x only, and w has none: writing to x does no harm. */
static void what_is_not_needed_may_change(void **state) {
  (void)state;
  fonio_tensor *x = requiring_grad(LINE(1, 2)), *w = LINE(3, 4);
  assert_int_equal(backward_after_write(x, w, x), FONIO_OK);
  ASSERT_VALUES(fonio_tensor_grad(x), 3, 4);
  RELEASE(x, w);
}

/* ---- NULL ---- */

static void null_keeps_the_first_message(void **state) {
  (void)state;
  fonio_clear_error();
  assert_fails(fonio_tensor_backward(NULL), FONIO_TYPE_ERROR,
               "fonio_tensor_backward() was given NULL where it needs an object");
  fonio_tensor *x = LINE(1, 2), *bad = fonio_tensor_select(x, 0, 5);
  assert_null(bad);
  const char *text = "select(): index 5 out of range for tensor of size [2] at dimension 0";
  assert_null_fails(fonio_tensor_mul(bad, x), FONIO_INDEX_ERROR, text);
  assert_null_fails(fonio_tensor_sum(fonio_tensor_clone(bad)), FONIO_INDEX_ERROR, text);
  assert_fails(fonio_tensor_backward(bad), FONIO_INDEX_ERROR, text);
  assert_fails(fonio_grad(x, 1, &bad, NULL, false, false, false, &bad), FONIO_INDEX_ERROR, text);
  assert_false(fonio_tensor_requires_grad(NULL));
  assert_false(fonio_tensor_is_leaf(NULL));
  assert_null(fonio_tensor_grad(NULL));
  assert_null(fonio_tensor_grad_fn_name(NULL));
  RELEASE(x);
}

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_lost)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(results_require_a_gradient_when_an_input_does),
      TEST(nothing_is_recorded_without_gradients),
      TEST(integers_have_no_history),
      TEST(detach_shares_memory_and_forgets),
      TEST(only_floating_point_leaves_change),
      TEST(gradients_reach_the_leaves),
      TEST(uses_of_one_leaf_add_up),
      TEST(gradients_accumulate_in_place),
      TEST(a_leaf_is_its_own_graph),
      TEST(no_two_grads_share_memory),
      TEST(a_grad_may_be_added_to_itself),
      TEST(grads_have_the_layout_of_their_leaf),
      TEST(a_gradient_is_converted_to_the_outputs_dtype),
      TEST(a_leaf_that_changed_its_mind_gets_nothing),
      TEST(backward_refuses_in_torchs_order),
      TEST(complex_leaves_need_a_gradient_of_their_own),
      TEST(a_graph_is_passed_once),
      TEST(what_saves_nothing_can_be_passed_again),
      TEST(a_graph_that_is_kept_can_be_passed_again),
      TEST(inner_tensors_keep_their_gradient_when_asked),
      TEST(a_tensor_that_went_keeps_no_gradient),
      TEST(retain_grad_needs_a_gradient),
      TEST(asking_for_a_grad_that_never_comes_warns),
      TEST(grads_can_be_given),
      TEST(a_given_grad_loses_its_history),
      TEST(given_grads_must_fit),
      TEST(an_expanded_grad_takes_no_more),
      TEST(grad_returns_gradients_and_changes_none),
      TEST(grad_goes_no_further_than_it_must),
      TEST(grad_fills_what_keeps_its_gradient),
      TEST(unused_inputs_are_told_or_allowed),
      TEST(grad_refuses_in_torchs_order),
      TEST(leaves_and_their_views_are_guarded),
      TEST(writes_that_belong_in_a_history_are_refused),
      TEST(saved_tensors_must_not_change),
      TEST(what_is_not_needed_may_change),
      TEST(null_keeps_the_first_message),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
