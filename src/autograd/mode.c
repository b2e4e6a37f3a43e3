/* Whether operations record their history, for each thread by itself. */
#include "fonio/autograd.h"

static _Thread_local bool is_off;

bool fonio_grad_enabled(void) {
  return !is_off;
}

bool fonio_set_grad_enabled(bool enabled) {
  bool before = !is_off;
  is_off = !enabled;
  return before;
}
