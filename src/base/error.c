#include "base/error.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Each thread keeps its own last failure, so that threads never see each other's messages. */
static _Thread_local fonio_status last_status;
static _Thread_local char last_message[1024];

/* A longer message has a block of memory: load_state_dict lists the keys of a whole network. */
static _Thread_local char *whole_message;

/* The block goes with its thread: the key is there to have it released then. */
static pthread_key_t key;
static bool has_key;

static void forget_whole(void *text) {
  memory_give(text);
  whole_message = NULL;
}

static void keep_whole(char *text) {
  if (whole_message && !text) pthread_setspecific(key, NULL);
  memory_give(whole_message);
  whole_message = text;
}

/* At the end of the process, or when the library is unloaded. */
static void delete_key(void) {
  keep_whole(NULL);
  pthread_key_delete(key);
}

static void make_key(void) {
  has_key = pthread_key_create(&key, forget_whole) == 0 && atexit(delete_key) == 0;
}

/* NULL when there is no memory. */
static char *write_whole(const char *format, va_list arguments, int length) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make_key);
  char *text = has_key ? memory_take((int64_t)length + 1) : NULL;
  if (text && pthread_setspecific(key, text)) {
    memory_give(text);
    return NULL;
  }
  if (text) vsnprintf(text, (size_t)length + 1, format, arguments);
  return text;
}

/* The message is written aside first: an argument may be the message before it. */
static fonio_status note(fonio_status status, const char *format, va_list arguments) {
  char message[sizeof last_message] = "";
  va_list again;
  va_copy(again, arguments);
  int length = vsnprintf(message, sizeof message, format, arguments);
  keep_whole(length < (int)sizeof message ? NULL : write_whole(format, again, length));
  va_end(again);
  memcpy(last_message, message, sizeof message);
  last_status = status;
  return status;
}

fonio_status fail(fonio_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  note(status, format, arguments);
  va_end(arguments);
  return status;
}

fonio_status fonio_fail(fonio_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  note(status, format, arguments);
  va_end(arguments);
  return status;
}

fonio_status fail_given_null(const char *function) {
  if (last_status != FONIO_OK) return last_status;
  return fail(FONIO_TYPE_ERROR, "%s() was given NULL where it needs an object", function);
}

fonio_status fonio_fail_given_null(const char *function) {
  return fail_given_null(function);
}

const char *fonio_last_error(void) {
  if (last_status == FONIO_OK) return "";
  return whole_message ? whole_message : last_message;
}

fonio_status fonio_last_status(void) {
  return last_status;
}

void fonio_clear_error(void) {
  keep_whole(NULL);
  last_status = FONIO_OK;
}

const char *fonio_status_name(fonio_status status) {
  switch (status) {
  case FONIO_OK: return "Ok";
  case FONIO_NO_MEMORY: return "MemoryError";
  case FONIO_VALUE_ERROR: return "ValueError";
  case FONIO_TYPE_ERROR: return "TypeError";
  case FONIO_RUNTIME_ERROR: return "RuntimeError";
  case FONIO_INDEX_ERROR: return "IndexError";
  case FONIO_KEY_ERROR: return "KeyError";
  case FONIO_NOT_IMPLEMENTED: return "NotImplementedError";
  case FONIO_IO_ERROR: return "OSError";
  }
  return "Unknown";
}

static void warn_on_stderr(const char *message, void *user) {
  (void)user;
  fprintf(stderr, "Warning: %s\n", message);
}

/* Handler and user belong together, so a lock guards the pair; the handler itself runs outside of it. */
static pthread_mutex_t warning_lock = PTHREAD_MUTEX_INITIALIZER;
static fonio_warning_handler warning_handler = warn_on_stderr;
static void *warning_user;

void fonio_set_warning_handler(fonio_warning_handler handler, void *user) {
  pthread_mutex_lock(&warning_lock);
  warning_handler = handler ? handler : warn_on_stderr;
  warning_user = user;
  pthread_mutex_unlock(&warning_lock);
}

void warn(const char *message) {
  pthread_mutex_lock(&warning_lock);
  fonio_warning_handler handler = warning_handler;
  void *user = warning_user;
  pthread_mutex_unlock(&warning_lock);
  handler(message, user);
}

shape_text shape_to_text(int ndim, const int64_t *sizes) {
  shape_text result = {"["};
  size_t used = 1;
  for (int i = 0; i < ndim && used < sizeof result.text - 24; i++)
    used +=
        (size_t)snprintf(result.text + used, sizeof result.text - used, "%s%lld", i ? ", " : "", (long long)sizes[i]);
  result.text[used] = ']';
  result.text[used + 1] = 0;
  return result;
}
