/* The accuracy that plans are made with when their options name none. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "conv/plan.h"

static _Atomic fonio_accuracy chosen;

fonio_status fonio_set_accuracy(fonio_accuracy accuracy) {
  if ((unsigned)accuracy > FONIO_ACCURACY_FAST)
    return fail(FONIO_VALUE_ERROR, "there is no accuracy %d", (int)accuracy);
  atomic_store(&chosen, accuracy);
  return FONIO_OK;
}

static fonio_accuracy of_environment(void) {
  const char *name = getenv("FONIO_ACCURACY");
  if (name && strcmp(name, "strict") == 0) return FONIO_ACCURACY_STRICT;
  if (name && strcmp(name, "fast") == 0) return FONIO_ACCURACY_FAST;
  return FONIO_ACCURACY_DEFAULT;
}

fonio_accuracy fonio_get_accuracy(void) {
  fonio_accuracy accuracy = atomic_load(&chosen);
  return accuracy != FONIO_ACCURACY_UNSET ? accuracy : of_environment();
}

const char *conv_accuracy_name(fonio_accuracy accuracy) {
  static const char *const names[] = {"unset", "strict", "default", "fast"};
  return names[accuracy];
}
