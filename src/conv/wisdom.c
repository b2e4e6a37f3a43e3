/* Wisdom: what planning by measuring has found, kept in the process and as text. The name, and the idea that a program
 * carries it from one run to the next, are FFTW's (Frigo and Johnson, "The Design and Implementation of FFTW3", 2005).
 */
#include "conv/wisdom.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "conv/text.h"

#define HEAD "fonio wisdom 1\n"

/* Room for an instruction set, an accuracy and a problem string whose numbers all have 19 digits. */
enum { KEY_BYTES = 768 };

typedef struct wisdom_line {
  struct wisdom_line *next;
  const conv_algorithm *algorithm;
  char key[]; /* "avx2 default n1c64h56w56k64r3s3p1" */
} wisdom_line;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static wisdom_line *lines;  /* the newest first, one for each key */
static _Atomic bool is_any; /* so that a process without wisdom never takes the lock */

/* A child that was forked while another thread held the lock gets it open, and the lines whole. */
static void before_fork(void) {
  pthread_mutex_lock(&lock);
}

static void after_fork(void) {
  pthread_mutex_unlock(&lock);
}

static void watch_forks(void) {
  pthread_atfork(before_fork, after_fork, after_fork);
}

static void take_lock(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  pthread_mutex_lock(&lock);
}

static void release_lines(wisdom_line *list) {
  while (list) {
    wisdom_line *next = list->next;
    memory_give(list);
    list = next;
  }
}

static wisdom_line *new_line(const char *key, const conv_algorithm *algorithm) {
  size_t bytes = strlen(key) + 1;
  wisdom_line *line = memory_take((int64_t)(sizeof *line + bytes));
  if (!line) return NULL;
  *line = (wisdom_line){.algorithm = algorithm};
  memcpy(line->key, key, bytes);
  return line;
}

static wisdom_line *find_line(const char *key) {
  wisdom_line *line = lines;
  while (line && strcmp(line->key, key) != 0)
    line = line->next;
  return line;
}

/* Puts new lines in front of all others; those that they take the place of are given back. */
static void add_lines(wisdom_line *list) {
  wisdom_line *gone = NULL;
  take_lock();
  while (list) {
    wisdom_line *line = list, *before = find_line(line->key);
    list = line->next;
    if (before) {
      before->algorithm = line->algorithm;
      line->next = gone;
      gone = line;
    } else {
      line->next = lines;
      lines = line;
    }
  }
  atomic_store(&is_any, lines != NULL);
  pthread_mutex_unlock(&lock);
  release_lines(gone);
}

/* ---- Keys ---- */

/* One image: what is in the batch, what is added to the sums and what becomes of them has no part in the choice.
 * Returns whether the key tells the whole problem. */
static bool write_key(const char *isa, fonio_accuracy accuracy, const fonio_conv_problem *problem,
                      char key[KEY_BYTES]) {
  fonio_conv_problem one = *problem;
  one.batch = 1;
  one.batched = one.has_bias = true;
  one.has_residual = false;
  one.bias_stride = 1;
  one.activation = FONIO_NO_ACTIVATION;
  one.input_strides[0] = one.in_channels * one.in_height * one.in_width;
  one.output_strides[0] = one.out_channels * one.out_height * one.out_width;
  conv_text out = {key, KEY_BYTES, 0};
  conv_put(&out, "%s %s ", isa, conv_accuracy_name(accuracy));
  out.length += fonio_conv_problem_print(&one, key + out.length, KEY_BYTES - out.length);
  return out.length < KEY_BYTES && !strstr(key, "lstrided");
}

static bool key_of_plan(const fonio_conv_plan *plan, char key[KEY_BYTES]) {
  return plan->direction == FONIO_CONV_FORWARD && write_key(fonio_isa(), plan->accuracy, &plan->asked, key);
}

const conv_algorithm *conv_wisdom_find(const fonio_conv_plan *plan) {
  char key[KEY_BYTES];
  if (!atomic_load_explicit(&is_any, memory_order_relaxed) || !key_of_plan(plan, key)) return NULL;
  take_lock();
  const wisdom_line *line = find_line(key);
  const conv_algorithm *algorithm = line ? line->algorithm : NULL;
  pthread_mutex_unlock(&lock);
  return algorithm && conv_may_take(algorithm, plan) && algorithm->accuracy <= plan->accuracy ? algorithm : NULL;
}

fonio_status conv_wisdom_keep(const fonio_conv_plan *plan) {
  char key[KEY_BYTES];
  if (!key_of_plan(plan, key)) return FONIO_OK;
  wisdom_line *line = new_line(key, plan->algorithm);
  if (!line) return FONIO_NO_MEMORY;
  add_lines(line);
  return FONIO_OK;
}

/* ---- As text ---- */

size_t fonio_conv_wisdom_print(char *text, size_t text_bytes) {
  conv_text out = {text, text ? text_bytes : 0, 0};
  conv_put(&out, "%s", HEAD);
  take_lock();
  for (const wisdom_line *line = lines; line; line = line->next)
    conv_put(&out, "%s %s\n", line->key, line->algorithm->name);
  pthread_mutex_unlock(&lock);
  return out.length;
}

void fonio_conv_wisdom_forget(void) {
  take_lock();
  wisdom_line *gone = lines;
  lines = NULL;
  atomic_store(&is_any, false);
  pthread_mutex_unlock(&lock);
  release_lines(gone);
}

static const conv_algorithm *forward_algorithm(const char *name) {
  for (int i = 0; conv_algorithms[i]; i++)
    if (conv_algorithms[i]->direction == FONIO_CONV_FORWARD && strcmp(conv_algorithms[i]->name, name) == 0)
      return conv_algorithms[i];
  return NULL;
}

static fonio_accuracy accuracy_of(const char *word) {
  for (fonio_accuracy i = FONIO_ACCURACY_STRICT; i <= FONIO_ACCURACY_FAST; i++)
    if (strcmp(word, conv_accuracy_name(i)) == 0) return i;
  return FONIO_ACCURACY_UNSET;
}

/* Reads "avx2 default n1c64h56w56k64r3s3p1 winograd4", which it cuts into its words. */
static wisdom_line *read_line(char *text, int number) {
  char *words[4], *rest = text, key[KEY_BYTES];
  for (int i = 0; i < 4; i++)
    words[i] = strtok_r(rest, " ", &rest);
  if (!words[3] || strtok_r(rest, " ", &rest))
    return fail_null(FONIO_VALUE_ERROR,
                     "line %d of the wisdom is not an instruction set, an accuracy, a problem and an algorithm",
                     number);
  const conv_algorithm *algorithm = forward_algorithm(words[3]);
  fonio_accuracy accuracy = accuracy_of(words[1]);
  if (!algorithm) return fail_null(FONIO_VALUE_ERROR, "line %d of the wisdom: no algorithm '%s'", number, words[3]);
  if (!accuracy) return fail_null(FONIO_VALUE_ERROR, "line %d of the wisdom: no accuracy '%s'", number, words[1]);
  fonio_conv_problem problem;
  if (fonio_conv_problem_parse(&problem, words[2])) return NULL;
  if (!write_key(words[0], accuracy, &problem, key))
    return fail_null(FONIO_VALUE_ERROR, "line %d of the wisdom is too long", number);
  return new_line(key, algorithm);
}

/* Reads all lines or none. */
static fonio_status read_lines(char *text, wisdom_line **list) {
  int number = 1;
  for (char *rest = text, *end; *rest; rest = end) {
    number++;
    end = rest + strcspn(rest, "\n");
    if (*end) *end++ = 0;
    if (!*rest) continue;
    wisdom_line *line = read_line(rest, number);
    if (!line) {
      release_lines(*list);
      return fonio_last_status();
    }
    line->next = *list;
    *list = line;
  }
  return FONIO_OK;
}

fonio_status fonio_conv_wisdom_parse(const char *text) {
  if (!text) return fail_given_null("fonio_conv_wisdom_parse");
  size_t head = sizeof HEAD - 1;
  if (strncmp(text, HEAD, head) != 0)
    return fail(FONIO_VALUE_ERROR, "this is no wisdom: its first line is not '%.*s'", (int)head - 1, HEAD);
  char *copy = memory_copy_text(text + head);
  if (!copy) return FONIO_NO_MEMORY;
  wisdom_line *list = NULL;
  fonio_status status = read_lines(copy, &list);
  memory_give(copy);
  if (!status) add_lines(list);
  return status;
}
