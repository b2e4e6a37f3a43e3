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
  fonio_fail(FONIO_VALUE_ERROR, "short");
  assert_string_equal(fonio_last_error(), "short");
}

static void *fail_in_a_thread(void *failed) {
  *(bool *)failed = fonio_last_status() == FONIO_OK && fonio_fail(FONIO_VALUE_ERROR, "there") == FONIO_VALUE_ERROR;
  return NULL;
}

/* The message itself takes 64 KB of what a thread is given. */
static void a_small_stack_is_enough(void **state) {
  (void)state;
  pthread_attr_t attributes;
  pthread_t thread;
  bool failed = false;
  fonio_fail(FONIO_VALUE_ERROR, "here");
  assert_int_equal(pthread_attr_init(&attributes), 0);
  assert_int_equal(pthread_attr_setstacksize(&attributes, 96 << 10), 0);
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
      cmocka_unit_test(a_small_stack_is_enough),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
