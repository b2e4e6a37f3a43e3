/* Learns a convolution from what it does to a photograph.
 *
 * A shaking hand smears a photograph: each pixel becomes a weighted sum of its neighbours, and the weights are the path
 * of the hand. That is a convolution. This program smears a photograph with such a kernel, puts the kernel aside, and
 * finds it again from the two pictures alone, down the gradient of their mean squared difference. */
#include <fonio/io.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sheet.h"

enum { SIDE = 7, TAPS = SIDE * SIDE, CROP = 256, MOST_STEPS = 2000 };

/* How long the hand stayed where. */
static const double path[TAPS] = {
    .00, .00, .00, .00, .00, .06, .00, //
    .00, .00, .00, .00, .08, .10, .00, //
    .00, .00, .00, .04, .10, .00, .00, //
    .00, .06, .10, .12, .04, .00, .00, //
    .00, .12, .04, .00, .00, .00, .00, //
    .00, .08, .00, .00, .00, .00, .00, //
    .00, .00, .06, .00, .00, .00, .00,
};

static const double goal = 1e-15; /* of the mean squared difference */

static const char help[] =
    "usage: learn PHOTO PICTURE\n"
    "Smears PHOTO (PNG or JPEG, at least 256 x 256) as a shaking hand does, then learns the path of the hand from the\n"
    "two pictures. Writes PICTURE (PNG). Above: the photograph, smeared, smeared with what was learnt. Below: what "
    "was\n"
    "known after 0, 10, 30, 100 and all steps, and the truth; negative weights are blue.\n";

/* ---- Down the gradient ---- */

typedef struct search {
  fonio_tensor *photo;         /* (1, CROP, CROP), float64 */
  fonio_tensor *centred;       /* the photograph less its mean: even brightness hides what tells of a kernel */
  fonio_tensor *minus_smeared; /* -conv2d(centred, path) */
  fonio_tensor *kernel;        /* what is looked for: (1, 1, SIDE, SIDE), with a gradient */
  fonio_tensor *sheet;         /* the picture that comes of it */
  double kernel_before[TAPS], slope_before[TAPS]; /* of the last step */
} search;

/* mean((conv2d(centred, kernel) - smeared)**2) */
static fonio_tensor *loss_of(const search *s) {
  fonio_tensor *smeared = fonio_tensor_conv2d_with(s->centred, s->kernel, NULL, NULL);
  fonio_tensor *difference = fonio_tensor_add(smeared, s->minus_smeared);
  fonio_tensor *square = fonio_tensor_mul(difference, difference);
  fonio_tensor *loss = fonio_tensor_mean(square);
  fonio_tensor_release(square);
  fonio_tensor_release(difference);
  fonio_tensor_release(smeared);
  return loss;
}

/* kernel -= length * slope, where the length is the one at which the last step would have undone the change of slope
 * that it made (Barzilai and Borwein 1988): no learning rate has to be found. The first step is a short one. */
static void move(search *s, double *kernel, const double *slope, int step) {
  double along = 0, changed = 0;
  for (int i = 0; i < TAPS; i++) {
    double change = slope[i] - s->slope_before[i];
    along += (kernel[i] - s->kernel_before[i]) * change;
    changed += change * change;
  }
  double length = step == 0 ? 1e-3 : along / changed;
  memcpy(s->kernel_before, kernel, sizeof s->kernel_before);
  memcpy(s->slope_before, slope, sizeof s->slope_before);
  for (int i = 0; i < TAPS; i++)
    kernel[i] -= length * slope[i];
}

/* One step. Returns the loss before it; NaN after a failure. */
static double take_step(search *s, int step) {
  double value = NAN;
  fonio_tensor *loss = loss_of(s), *slope = NULL;
  if (!fonio_grad(loss, 1, &s->kernel, NULL, false, false, false, &slope) && !fonio_tensor_item(loss, &value))
    move(s, fonio_tensor_data(s->kernel), fonio_tensor_const_data(slope), step);
  fonio_tensor_release(slope);
  fonio_tensor_release(loss);
  return value;
}

/* ---- Progress, on stderr: a bar on a terminal, otherwise a line now and then ---- */

static void show_progress(int step, double loss, bool last) {
  static const char full[] = "########################################";
  static double first_loss;
  if (step == 0) first_loss = loss;
  if (!isatty(STDERR_FILENO)) {
    if (step % 100 == 0 || last) fprintf(stderr, "  step %4d: mean squared difference %.1e\n", step, loss);
    return;
  }
  double done = log(first_loss / loss) / log(first_loss / goal);
  int width = done > 1 ? 40 : done > 0 ? (int)(40 * done) : 0; /* also where nothing had to be learnt: NaN */
  bool colour = !getenv("NO_COLOR");
  fprintf(stderr, "\r  %s[%-40.*s]%s step %4d: mean squared difference %.1e%s", colour ? "\033[36m" : "", width, full,
          colour ? "\033[0m" : "", step, loss, last ? "\n" : "");
}

/* ---- Pictures ---- */

/* A part of a photograph in grey: (1, CROP, CROP), float64. */
static fonio_tensor *read_photo(const char *file) {
  fonio_tensor *photo = fonio_picture_read(file, FONIO_FLOAT32, 1);
  int64_t spare_rows = fonio_tensor_size(photo, 1) - CROP, spare_columns = fonio_tensor_size(photo, 2) - CROP;
  fonio_tensor *crop = NULL;
  if (photo && (spare_rows < 0 || spare_columns < 0))
    fonio_fail(FONIO_VALUE_ERROR, "'%s' is smaller than %d x %d", file, CROP, CROP);
  else if (photo)
    crop = fonio_tensor_slice(photo, 1, spare_rows / 8, spare_rows / 8 + CROP, 1);
  fonio_tensor *part = fonio_tensor_slice(crop, 2, spare_columns / 2, spare_columns / 2 + CROP, 1);
  fonio_tensor *exact = fonio_tensor_to(part, FONIO_FLOAT64);
  fonio_tensor_release(part);
  fonio_tensor_release(crop);
  fonio_tensor_release(photo);
  return exact;
}

static fonio_tensor *less_mean(fonio_tensor *photo) {
  double mean = 0;
  fonio_tensor *mean_tensor = fonio_tensor_mean(photo);
  fonio_tensor_item(mean_tensor, &mean);
  fonio_tensor *minus = fonio_tensor_full(FONIO_FLOAT64, -mean, FONIO_SCALAR);
  fonio_tensor *centred = fonio_tensor_add(photo, minus);
  fonio_tensor_release(minus);
  fonio_tensor_release(mean_tensor);
  return centred;
}

static fonio_tensor *kernel_of(const double *weights) {
  return fonio_tensor_from_data(FONIO_FLOAT64, weights, FONIO_SHAPE(1, 1, SIDE, SIDE));
}

/* The sheet: three pictures of 256 above, six kernels of 7 x 17 below. */
enum {
  MARGIN = 8,
  TILE = 17,
  BELOW = CROP + 2 * MARGIN,
  SHEET_HEIGHT = BELOW + SIDE * TILE + MARGIN,
  SHEET_WIDTH = 800
};

static void put_kernel(const search *s, int place, const double *weights) {
  fonio_tensor *picture = sheet_magnify(sheet_of_numbers(weights, SIDE, SIDE, 0.12), TILE);
  sheet_put(s->sheet, BELOW, MARGIN + place * (SIDE * TILE + 14), picture);
}

/* The photograph as a kernel smears it: SIDE - 1 smaller, so set into the middle of its place. */
static void put_smeared(const search *s, int place, fonio_tensor *kernel) {
  fonio_tensor *smeared = fonio_tensor_conv2d_with(s->photo, kernel, NULL, NULL);
  sheet_put(s->sheet, MARGIN + SIDE / 2, MARGIN + place * (CROP + MARGIN) + SIDE / 2, smeared);
}

/* ---- The whole ---- */

static void prepare(search *s, const char *file) {
  double minus_path[TAPS];
  for (int i = 0; i < TAPS; i++)
    minus_path[i] = -path[i];
  fonio_tensor *truth = kernel_of(path), *minus_truth = kernel_of(minus_path);
  s->photo = read_photo(file);
  s->centred = less_mean(s->photo);
  s->minus_smeared = fonio_tensor_conv2d_with(s->centred, minus_truth, NULL, NULL);
  s->sheet = sheet_new(SHEET_HEIGHT, SHEET_WIDTH, 0.02);
  sheet_put(s->sheet, MARGIN, MARGIN, fonio_tensor_retain(s->photo));
  put_smeared(s, 1, truth);
  put_kernel(s, 5, path);
  fonio_tensor_release(minus_truth);
  fonio_tensor_release(truth);

  fonio_manual_seed(0);
  s->kernel = fonio_tensor_empty(FONIO_FLOAT64, FONIO_SHAPE(1, 1, SIDE, SIDE));
  fonio_tensor_uniform(s->kernel, -1. / SIDE, 1. / SIDE); /* as nn.Conv2d draws its weights */
  fonio_tensor_set_requires_grad(s->kernel, true);
}

/* Goes on until the two pictures are the same; returns how many steps it took, or -1 after a failure. */
static int find_kernel(search *s) {
  for (int step = 0, place = 0;; step++) {
    if (step == 0 || step == 10 || step == 30 || step == 100)
      put_kernel(s, place++, fonio_tensor_const_data(s->kernel));
    double loss = take_step(s, step);
    if (isnan(loss)) return -1;
    bool last = loss < goal || step == MOST_STEPS;
    show_progress(step, loss, last);
    if (last) return step;
  }
}

static void report(const double *learnt, int steps) {
  double largest = 0;
  printf("%-49s   %s\n", "  the path of the hand", "  what was learnt");
  for (int row = 0; row < SIDE; row++) {
    for (int i = 0; i < SIDE; i++)
      printf("%7.4f", path[row * SIDE + i]);
    printf("   ");
    for (int i = 0; i < SIDE; i++)
      printf("%7.4f", round(1e4 * learnt[row * SIDE + i]) / 1e4 + 0.0); /* no -0.0000 */
    printf("\n");
  }
  for (int i = 0; i < TAPS; i++)
    largest = fmax(largest, fabs(path[i] - learnt[i]));
  printf("  largest difference after %d steps: %.1e\n", steps, largest);
}

/* A call that is given NULL because another failed keeps that one's message: one check for many calls. */
static fonio_status learn(search *s, const char *file, const char *picture) {
  prepare(s, file);
  int steps = fonio_last_status() ? -1 : find_kernel(s);
  if (steps < 0) return fonio_last_status();
  const double *learnt = fonio_tensor_const_data(s->kernel);
  report(learnt, steps);
  fonio_set_grad_enabled(false);
  put_smeared(s, 2, s->kernel);
  put_kernel(s, 4, learnt);
  return fonio_last_status() ? fonio_last_status() : fonio_picture_write_png(picture, s->sheet);
}

int main(int count, char **arguments) {
  bool asked = count == 2 && strcmp(arguments[1], "--help") == 0;
  if (asked || count != 3) {
    fputs(help, asked ? stdout : stderr);
    return asked ? 0 : 2;
  }
  search s = {0};
  fonio_status status = learn(&s, arguments[1], arguments[2]);
  if (status) fprintf(stderr, "learn: %s\n", fonio_last_error());
  fonio_tensor *made[] = {s.photo, s.centred, s.minus_smeared, s.kernel, s.sheet};
  for (size_t i = 0; i < sizeof made / sizeof *made; i++)
    fonio_tensor_release(made[i]);
  return status != FONIO_OK;
}
