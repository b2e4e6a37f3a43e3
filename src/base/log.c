#include "base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void log_on_stderr(const char *line, void *user) {
  (void)user;
  fprintf(stderr, "fonio: %s\n", line);
}

/* Handler and user belong together, so a lock guards the pair; the handler itself runs outside of it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fonio_log_handler handler = log_on_stderr;
static void *user_of_handler;

enum { ASK, OFF, ON };
static _Atomic int state;

static bool environment_asks(void) {
  const char *text = getenv("FONIO_VERBOSE");
  bool asks = text && *text && strcmp(text, "0") != 0;
  atomic_store_explicit(&state, asks ? ON : OFF, memory_order_relaxed);
  return asks;
}

bool log_is_on(void) {
  int now = atomic_load_explicit(&state, memory_order_relaxed);
  return now == ASK ? environment_asks() : now == ON;
}

void fonio_set_log_handler(fonio_log_handler new_handler, void *user) {
  pthread_mutex_lock(&lock);
  handler = new_handler ? new_handler : log_on_stderr;
  user_of_handler = user;
  atomic_store_explicit(&state, new_handler ? ON : ASK, memory_order_relaxed);
  pthread_mutex_unlock(&lock);
}

void log_line(const char *line) {
  pthread_mutex_lock(&lock);
  fonio_log_handler function = handler;
  void *user = user_of_handler;
  pthread_mutex_unlock(&lock);
  function(line, user);
}
