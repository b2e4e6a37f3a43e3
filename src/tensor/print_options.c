/* torch.set_printoptions. */
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "tensor/print.h"

/* Printing may go on in other threads. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const fonio_printoptions initial = {sizeof(fonio_printoptions), 4, 1000, 3, 80, NULL, -1};
static fonio_printoptions now = {sizeof(fonio_printoptions), 4, 1000, 3, 80, NULL, -1};

fonio_printoptions fonio_printoptions_default(void) {
  return (fonio_printoptions){.struct_bytes = sizeof(fonio_printoptions), FONIO_PRINTOPTIONS_DEFAULTS};
}

static void set_profile(fonio_printoptions *options, const char *profile) {
  bool is_short = strcmp(profile, "short") == 0, is_full = strcmp(profile, "full") == 0;
  if (!is_short && !is_full && strcmp(profile, "default") != 0) return;
  *options = initial;
  if (is_short) {
    options->precision = 2;
    options->edgeitems = 2;
  } else if (is_full) {
    options->threshold = INFINITY;
  }
}

static void set(fonio_printoptions *options, const fonio_printoptions *wanted) {
  if (wanted->profile) set_profile(options, wanted->profile);
  if (wanted->precision != -1) options->precision = wanted->precision;
  if (wanted->threshold != -1) options->threshold = wanted->threshold;
  if (wanted->edgeitems != -1) options->edgeitems = wanted->edgeitems;
  if (wanted->linewidth != -1) options->linewidth = wanted->linewidth;
  options->sci_mode = wanted->sci_mode;
}

static fonio_status check(const fonio_printoptions *options) {
  if (options->struct_bytes != sizeof *options)
    return fail(FONIO_VALUE_ERROR,
                "fonio_printoptions: struct_bytes is %zu and should be %zu: start from FONIO_PRINTOPTIONS",
                options->struct_bytes, sizeof *options);
  if (options->precision < -1 || options->precision > PRINT_MOST_DIGITS)
    return fail(FONIO_VALUE_ERROR, "precision should be from 0 to %d, but got %lld", PRINT_MOST_DIGITS,
                (long long)options->precision);
  if (!(options->threshold >= -1)) return fail(FONIO_VALUE_ERROR, "threshold should be at least 0");
  if (options->edgeitems < -1 || options->linewidth < -1)
    return fail(FONIO_VALUE_ERROR, "edgeitems and linewidth should be at least 0, but got %lld and %lld",
                (long long)options->edgeitems, (long long)options->linewidth);
  if (options->sci_mode < -1 || options->sci_mode > 1)
    return fail(FONIO_VALUE_ERROR, "sci_mode should be 1, 0 or -1, but got %d", options->sci_mode);
  return FONIO_OK;
}

fonio_status fonio_set_printoptions_with(const fonio_printoptions *options) {
  if (!options) return fail_given_null("fonio_set_printoptions");
  if (check(options) != FONIO_OK) return FONIO_VALUE_ERROR;
  pthread_mutex_lock(&lock);
  set(&now, options);
  pthread_mutex_unlock(&lock);
  return FONIO_OK;
}

fonio_printoptions fonio_get_printoptions(void) {
  pthread_mutex_lock(&lock);
  fonio_printoptions options = now;
  pthread_mutex_unlock(&lock);
  return options;
}
