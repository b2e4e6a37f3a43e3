/* Memory that runs out: each function is called with an allocator that fails at its first, second, third ... block. It
 * must fail with FONIO_NO_MEMORY, give back what it took, and leave its arguments as they were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>

#include "tensor/tensor.h"
#include "tensors.h"

static int blocks_left; /* before the allocator fails once; negative: never */

static void *allocate(size_t alignment, size_t bytes, void *user) {
  void *pointer = NULL;
  (void)user;
  if (blocks_left == 0) return NULL;
  blocks_left -= blocks_left > 0;
  return posix_memalign(&pointer, alignment, bytes) ? NULL : pointer;
}

static void release(void *pointer, void *user) {
  (void)user;
  free(pointer);
}

static const fonio_allocator failing = {allocate, release, NULL};

static int set_up(void **state) {
  (void)state;
  blocks_left = -1;
  return fonio_set_allocator(&failing);
}

static int tear_down(void **state) {
  nothing_is_lost(state);
  return fonio_set_allocator(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* What the functions work on: a (2, 3, 4, 5) in float32 and as many in float64, one of them not contiguous. */
typedef struct operands {
  fonio_tensor *a, *b;
} operands;

static operands two_tensors(void) {
  fonio_tensor *line = counting(FONIO_FLOAT64, 0, FONIO_SHAPE(2, 5, 3, 4));
  operands both = {counting(FONIO_FLOAT32, 0, FONIO_SHAPE(2, 3, 4, 5)),
                   fonio_tensor_permute(line, FONIO_SHAPE(0, 2, 3, 1))};
  fonio_tensor_release(line);
  return both;
}

static void release_both(operands both) {
  fonio_tensor_release(both.a);
  fonio_tensor_release(both.b);
}

typedef fonio_tensor *maker(const operands *both);

static int fails_before_it_succeeds(maker *make, const operands *both) {
  int64_t before = fonio_live_allocations();
  for (int blocks = 0;; blocks++) {
    blocks_left = blocks;
    fonio_clear_error();
    fonio_tensor *made = make(both);
    bool ran_out = blocks_left == 0;
    blocks_left = -1;
    if (made) {
      fonio_tensor_release(made);
      assert_int_equal(fonio_live_allocations(), before);
      assert_true(ran_out);
      return blocks;
    }
    assert_int_equal(fonio_last_status(), FONIO_NO_MEMORY);
    assert_int_equal(fonio_live_allocations(), before);
  }
}

static fonio_tensor *zeros(const operands *both) {
  (void)both;
  return fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SHAPE(2, 3));
}

static fonio_tensor *full(const operands *both) {
  (void)both;
  return fonio_tensor_full(FONIO_INT8, 3, FONIO_SHAPE(2, 3));
}

static fonio_tensor *arange(const operands *both) {
  (void)both;
  return fonio_tensor_arange(FONIO_FLOAT32, 0, 100, 1);
}

static fonio_tensor *arange_that_fails_late(const operands *both) {
  (void)both;
  assert_null(fonio_tensor_arange(FONIO_FLOAT16, 1e300, 2e300, 1e299));
  return arange(both);
}

static fonio_tensor *from_data(const operands *both) {
  return fonio_tensor_from_data(FONIO_FLOAT32, fonio_tensor_const_data(both->a), FONIO_SHAPE(120));
}

static fonio_tensor *empty_channels_last(const operands *both) {
  return fonio_tensor_empty_channels_last(FONIO_FLOAT32, fonio_tensor_shape(both->a));
}

static fonio_tensor *view(const operands *both) {
  return tensor_select(both->a, 1, 1);
}

static fonio_tensor *reshaped_copy(const operands *both) {
  return tensor_reshape(both->b, FONIO_SHAPE(6, -1));
}

static fonio_tensor *contiguous(const operands *both) {
  return tensor_copy_contiguous(both->b);
}

static fonio_tensor *channels_last(const operands *both) {
  return tensor_copy_channels_last(both->a);
}

static fonio_tensor *converted(const operands *both) {
  return tensor_convert(both->b, FONIO_BFLOAT16);
}

static fonio_tensor *sum_of_two_dtypes(const operands *both) {
  return tensor_add(both->a, both->b);
}

static fonio_tensor *product_of_two_dtypes(const operands *both) {
  return tensor_mul(both->b, both->a);
}

static fonio_tensor *sum(const operands *both) {
  return tensor_sum(both->a);
}

static fonio_tensor *sum_to(const operands *both) {
  return tensor_sum_to(both->a, FONIO_SHAPE(3, 1, 1));
}

static void makers_give_back_what_they_took(void **state) {
  (void)state;
  static const struct {
    maker *make;
    int blocks;
  } makers[] = {
      {zeros, 3},
      {full, 3},
      {arange, 3},
      {from_data, 3},
      {empty_channels_last, 3},
      {view, 1},
      {contiguous, 3},
      {reshaped_copy, 4},
      {channels_last, 3},
      {converted, 3},
      {sum, 3},
      {sum_to, 6},
      {sum_of_two_dtypes, 6},
      {product_of_two_dtypes, 6},
  };
  operands both = two_tensors();
  for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
    assert_int_equal(fails_before_it_succeeds(makers[i].make, &both), makers[i].blocks);
  release_both(both);
}

static void late_failures_release_the_tensor(void **state) {
  (void)state;
  int64_t before = fonio_live_allocations();
  fonio_tensor *tensor = arange_that_fails_late(NULL);
  assert_non_null(tensor);
  fonio_tensor_release(tensor);
  assert_int_equal(fonio_live_allocations(), before);
}

static void count_release(void *data, void *user) {
  (void)data;
  ++*(int *)user;
}

static void wrap_does_not_release_when_it_fails(void **state) {
  (void)state;
  float data[6] = {0};
  int releases = 0;
  for (blocks_left = 0; blocks_left < 2;) {
    int blocks = blocks_left;
    assert_null(fonio_tensor_wrap(FONIO_FLOAT32, data, FONIO_SHAPE(2, 3), NULL, count_release, &releases));
    assert_int_equal(fonio_last_status(), FONIO_NO_MEMORY);
    assert_int_equal(fonio_live_allocations(), 0);
    blocks_left = blocks + 1;
  }
  assert_int_equal(releases, 0);
  fonio_tensor *wrapped = fonio_tensor_wrap(FONIO_FLOAT32, data, FONIO_SHAPE(2, 3), NULL, count_release, &releases);
  assert_non_null(wrapped);
  fonio_tensor_release(wrapped);
  assert_int_equal(releases, 1);
}

static void copy_within_one_storage(void **state) {
  (void)state;
  fonio_tensor *line = counting(FONIO_INT32, 0, FONIO_SHAPE(10));
  fonio_tensor *to = fonio_tensor_slice(line, 0, 0, 9, 1), *from = fonio_tensor_slice(line, 0, 1, 10, 1);
  for (int blocks = 0; blocks < 3; blocks++) {
    blocks_left = blocks;
    assert_int_equal(fonio_tensor_copy(to, from), FONIO_NO_MEMORY);
    assert_true(value_at(line, 4) == 4);
    assert_int_equal(fonio_tensor_version(to), 0);
  }
  blocks_left = 3;
  assert_int_equal(fonio_tensor_copy(to, from), FONIO_OK);
  assert_true(value_at(line, 0) == 1 && value_at(line, 8) == 9);
  fonio_tensor_release(to);
  fonio_tensor_release(from);
  fonio_tensor_release(line);
}

static void dictionary_stays_whole(void **state) {
  (void)state;
  char name[2] = "a";
  blocks_left = 0;
  assert_null(fonio_dict_new());
  blocks_left = -1;
  fonio_dict *dict = fonio_dict_new();
  fonio_tensor *tensor = fonio_tensor_zeros(FONIO_FLOAT32, FONIO_SCALAR);
  for (; name[0] <= 'z'; name[0]++) {
    int64_t size = fonio_dict_size(dict), before = fonio_live_allocations();
    for (int blocks = 0;; blocks++) {
      blocks_left = blocks;
      if (fonio_dict_set(dict, name, tensor) == FONIO_OK) break;
      assert_int_equal(fonio_last_status(), FONIO_NO_MEMORY);
      assert_int_equal(fonio_live_allocations(), before);
      assert_int_equal(fonio_dict_size(dict), size);
      assert_null(fonio_dict_get(dict, name));
    }
  }
  blocks_left = 0;
  assert_int_equal(fonio_dict_set(dict, "c", tensor), FONIO_OK);
  assert_int_equal(fonio_dict_remove(dict, "b"), FONIO_OK);
  assert_int_equal(fonio_dict_size(dict), 25);
  assert_string_equal(fonio_dict_name_at(dict, 24), "z");
  fonio_dict_release(dict);
  fonio_tensor_release(tensor);
}

/* ---- Large blocks that are given back ---- */

static void large_blocks_serve_again(void **state) {
  (void)state;
  void *first = fonio_memory_take(1 << 20);
  assert_non_null(first);
  fonio_memory_give(first);
  void *second = fonio_memory_take(900000), *third = fonio_memory_take(900000);
#ifndef __SANITIZE_ADDRESS__
  assert_ptr_equal(second, first);
#endif
  assert_ptr_not_equal(third, second);
  fonio_memory_give(second);
  void *small = fonio_memory_take(300000);
  assert_ptr_not_equal(small, second); /* it would waste most of it */
  fonio_memory_give(small);
  fonio_memory_give(third);
}

/* Blocks that are in use at once must be apart: each begins and ends with marks of its own. */
static void *take_and_give(void *pointer) {
  unsigned mark = *(unsigned *)pointer, *blocks[8] = {NULL};
  size_t length[8] = {0};
  for (unsigned i = 0; i < 400; i++) {
    unsigned place = i * 5 % 8, **block = &blocks[place];
    if (*block && ((*block)[0] != mark + place || (*block)[length[place]] != mark + place)) return pointer;
    fonio_memory_give(*block);
    length[place] = 20000 + (i * 7919 + mark) % 60000;
    *block = fonio_memory_take((length[place] + 1) * sizeof **block);
    if (!*block || (uintptr_t)*block % 64 != 0) return pointer;
    (*block)[0] = (*block)[length[place]] = mark + place;
  }
  for (int i = 0; i < 8; i++)
    fonio_memory_give(blocks[i]);
  return NULL;
}

static void threads_share_large_blocks(void **state) {
  (void)state;
  pthread_t threads[4];
  unsigned marks[4];
  for (unsigned i = 0; i < 4; i++) {
    marks[i] = 1000 * (i + 1);
    assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &marks[i]), 0);
  }
  for (int i = 0; i < 4; i++) {
    void *failed;
    assert_int_equal(pthread_join(threads[i], &failed), 0);
    assert_null(failed);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(makers_give_back_what_they_took),
      TEST(late_failures_release_the_tensor),
      TEST(wrap_does_not_release_when_it_fails),
      TEST(copy_within_one_storage),
      TEST(dictionary_stays_whole),
      cmocka_unit_test_setup_teardown(large_blocks_serve_again, NULL, nothing_is_lost),
      cmocka_unit_test_setup_teardown(threads_share_large_blocks, NULL, nothing_is_lost),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
