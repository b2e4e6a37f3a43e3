#include "conv/activation_text.h"

#include <ctype.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By fonio_activation. */
static const char *const names[] = {"",          "relu",    "relu6", "leaky_relu", "prelu",    "silu",
                                    "hardswish", "sigmoid", "tanh",  "gelu",       "gelu_tanh"};
enum { NAMES = sizeof names / sizeof *names };

activation_part activation_part_default(void) {
  return (activation_part){FONIO_NO_ACTIVATION, 0.01, 1};
}

/* Numbers have a point, whatever the locale. */
static locale_t plain_locale(void) {
  return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static bool begins_number(const char *text) {
  return isdigit((unsigned char)*text) || *text == '-' || *text == '.';
}

static const char *read_slope(const char *text, double *slope) {
  char *end;
  locale_t plain = plain_locale();
  *slope = strtod_l(text, &end, plain);
  freelocale(plain);
  return end;
}

/* The longest name that fits: some begin as others do. */
static int find_name(const char *text) {
  int found = 0;
  for (int i = 1; i < NAMES; i++)
    if (strncmp(text, names[i], strlen(names[i])) == 0 && strlen(names[i]) > strlen(names[found])) found = i;
  return found;
}

const char *activation_part_read(const char *text, activation_part *part) {
  int name = find_name(text);
  if (name == 0) return NULL;
  part->activation = (fonio_activation)name;
  text += strlen(names[name]);
  if (name == FONIO_LEAKY_RELU && begins_number(text)) return read_slope(text, &part->slope);
  if (name != FONIO_PRELU || !isdigit((unsigned char)*text)) return text;
  char *end;
  part->slopes = strtoll(text, &end, 10);
  return end;
}

/* As few digits as read back as the same number. */
static void print_slope(double slope, char *text, size_t bytes) {
  locale_t plain = plain_locale(), before = uselocale(plain);
  int digits = 0;
  do
    snprintf(text, bytes, "%.*g", ++digits, slope);
  while (digits < 17 && strtod(text, NULL) != slope);
  uselocale(before);
  freelocale(plain);
}

void activation_part_print(const activation_part *part, char text[64]) {
  activation_part usual = activation_part_default();
  /* A host can write any number into a problem. */
  const char *name = (unsigned)part->activation < NAMES ? names[part->activation] : "?";
  size_t length = (size_t)snprintf(text, 64, "%s", name);
  if (part->activation == FONIO_LEAKY_RELU && part->slope != usual.slope)
    print_slope(part->slope, text + length, 64 - length);
  if (part->activation == FONIO_PRELU && part->slopes != usual.slopes)
    snprintf(text + length, 64 - length, "%lld", (long long)part->slopes);
}
