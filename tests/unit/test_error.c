/* The message of the last failure: whole, one per thread, and written without much of a stack. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fonio/base.h"

static void a_message_may_hold_the_one_before(void **state) {
  (void)state;
  fonio_fail(FONIO_KEY_ERROR, "inner");
  assert_int_equal(fonio_fail(FONIO_IO_ERROR, "outer: %s", fonio_last_error()), FONIO_IO_ERROR);
  assert_string_equal(fonio_last_error(), "outer: inner");
}

static void long_messages_are_kept(void **state) {
  (void)state;
  char text[20001];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = 0;
  fonio_fail(FONIO_VALUE_ERROR, "%s", text);
  assert_string_equal(fonio_last_error(), text);
  fonio_fail(FONIO_VALUE_ERROR, "%s%s", fonio_last_error(), "y");
  assert_int_equal(strlen(fonio_last_error()), 20001);
  assert_string_equal(fonio_last_error() + 19999, "xy");
  assert_int_equal(fonio_live_allocations(), 1);
  fonio_fail(FONIO_VALUE_ERROR, "short");
  assert_string_equal(fonio_last_error(), "short");
  assert_int_equal(fonio_live_allocations(), 0);
}

/* At the border between the two ways of keeping a message. */
static void every_length_is_kept(void **state) {
  (void)state;
  char text[1030];
  memset(text, 'x', sizeof text);
  for (int length = 1018; length < (int)sizeof text; length++) {
    fonio_fail(FONIO_VALUE_ERROR, "%.*s", length, text);
    assert_int_equal(strlen(fonio_last_error()), length);
  }
  fonio_clear_error();
  assert_string_equal(fonio_last_error(), "");
  assert_int_equal(fonio_live_allocations(), 0);
}

static void *no_memory(size_t alignment, size_t bytes, void *user) {
  (void)alignment, (void)bytes, (void)user;
  return NULL;
}

static void no_release(void *pointer, void *user) {
  (void)pointer, (void)user;
}

/* The status stays, and as much of the text as there is room for. */
static void without_memory_a_long_message_is_cut(void **state) {
  (void)state;
  assert_int_equal(fonio_set_allocator(&(fonio_allocator){no_memory, no_release, NULL}), FONIO_OK);
  assert_int_equal(fonio_fail(FONIO_KEY_ERROR, "%02000d", 5), FONIO_KEY_ERROR);
  assert_int_equal(fonio_last_status(), FONIO_KEY_ERROR);
  assert_int_equal(strspn(fonio_last_error(), "0"), 1023);
  assert_int_equal(strlen(fonio_last_error()), 1023);
  assert_int_equal(fonio_set_allocator(NULL), FONIO_OK);
}

static void *fail_at_length(void *unused) {
  fonio_fail(FONIO_KEY_ERROR, "%02000d", 5);
  return unused;
}

static void a_long_message_goes_with_its_thread(void **state) {
  (void)state;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, fail_at_length, NULL), 0);
  pthread_join(thread, NULL);
  assert_int_equal(fonio_live_allocations(), 0);
}

static void *fail_in_a_thread(void *failed) {
  *(bool *)failed = fonio_last_status() == FONIO_OK && fonio_fail(FONIO_VALUE_ERROR, "there") == FONIO_VALUE_ERROR;
  return NULL;
}

/* What a thread is given holds the library's variables for that thread, too. */
static void a_small_stack_is_enough(void **state) {
  (void)state;
  pthread_attr_t attributes;
  pthread_t thread;
  bool failed = false;
  fonio_fail(FONIO_VALUE_ERROR, "here");
  assert_int_equal(pthread_attr_init(&attributes), 0);
  assert_int_equal(pthread_attr_setstacksize(&attributes, 64 << 10), 0);
  assert_int_equal(pthread_create(&thread, &attributes, fail_in_a_thread, &failed), 0);
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attributes);
  assert_true(failed);
  assert_string_equal(fonio_last_error(), "here");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_message_may_hold_the_one_before),
      cmocka_unit_test(long_messages_are_kept),
      cmocka_unit_test(every_length_is_kept),
      cmocka_unit_test(without_memory_a_long_message_is_cut),
      cmocka_unit_test(a_long_message_goes_with_its_thread),
      cmocka_unit_test(a_small_stack_is_enough),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
