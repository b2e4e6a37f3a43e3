/* How far each algorithm's float32 results lie from the truth, as a table for docs/numerics.md.
 *
 *   build/bench/errors [problem string ...]
 *
 * The truth is the plain loops in float64, on the same numbers: normal ones, as weights are, for the weights; normal
 * and cut off below 0 (as after a ReLU) for the images. Errors are divided by the root mean square of the outputs. */
#include <fonio.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const layers[] = {"c3h64w64k64r4s4u2p1b0", "c32h28w28k32r3s3p1b0", "c128h28w28k128r3s3p1b0",
                                     "c512h14w14k64r3s3p1b0", "c512h14w14k256r1s1b0", "c96h28w28k96r7s7p3g96b0"};

/* What is compared: the same layer in both dtypes. */
typedef struct pair {
  fonio_conv_problem exact, rough;
  fonio_tensor *input[2], *weight[2], *output[2]; /* float64 holding float32's numbers, float32 */
} pair;

static fonio_tensor *draw(int ndim, const int64_t *shape, bool cut) {
  fonio_tensor *tensor = fonio_tensor_randn(FONIO_FLOAT32, ndim, shape);
  float *values = fonio_tensor_data(tensor);
  for (int64_t i = 0; cut && i < fonio_tensor_numel(tensor); i++)
    values[i] = fmaxf(values[i], 0);
  return tensor;
}

static fonio_status make_pair(pair *p, const char *layer, bool cut) {
  char exact[128];
  snprintf(exact, sizeof exact, "%stf64", layer);
  if (fonio_conv_problem_parse(&p->exact, exact) || fonio_conv_problem_parse(&p->rough, layer))
    return fonio_last_status();
  p->exact.has_bias = p->rough.has_bias = false;
  const fonio_conv_problem *q = &p->exact;
  fonio_manual_seed(0);
  p->input[1] = draw(FONIO_SHAPE(q->batch, q->in_channels, q->in_height, q->in_width), cut);
  p->weight[1] =
      draw(FONIO_SHAPE(q->out_channels, q->in_channels / q->groups, q->kernel_height, q->kernel_width), false);
  p->input[0] = fonio_tensor_to(p->input[1], FONIO_FLOAT64);
  p->weight[0] = fonio_tensor_to(p->weight[1], FONIO_FLOAT64);
  for (int i = 0; i < 2; i++)
    p->output[i] = fonio_tensor_empty(i ? FONIO_FLOAT32 : FONIO_FLOAT64,
                                      FONIO_SHAPE(q->batch, q->out_channels, q->out_height, q->out_width));
  return fonio_last_status();
}

static void release_pair(pair *p) {
  for (int i = 0; i < 2; i++) {
    fonio_tensor_release(p->input[i]);
    fonio_tensor_release(p->weight[i]);
    fonio_tensor_release(p->output[i]);
  }
}

/* False when the algorithm cannot do the layer. */
static bool run(const pair *p, int which, const char *algorithm) {
  fonio_conv_plan_options options = {.struct_bytes = sizeof options, .algorithm = algorithm};
  fonio_conv_plan *plan = fonio_conv_plan_new(which ? &p->rough : &p->exact, &options);
  if (!plan) return false;
  fonio_conv_buffers buffers = {.input = fonio_tensor_const_data(p->input[which]),
                                .weight = fonio_tensor_const_data(p->weight[which]),
                                .output = fonio_tensor_data(p->output[which])};
  fonio_status status = fonio_conv_plan_run(plan, &buffers);
  fonio_conv_plan_release(plan);
  return status == FONIO_OK;
}

typedef struct error {
  double rms, largest;
} error;

static error measure(const pair *p) {
  const double *truth = fonio_tensor_const_data(p->output[0]);
  const float *got = fonio_tensor_const_data(p->output[1]);
  double squares = 0, size = 0, largest = 0;
  for (int64_t i = 0; i < fonio_tensor_numel(p->output[0]); i++) {
    double off = fabs((double)got[i] - truth[i]);
    squares += off * off;
    size += truth[i] * truth[i];
    largest = fmax(largest, off);
  }
  double count = (double)fonio_tensor_numel(p->output[0]);
  return (error){sqrt(squares / size), largest / sqrt(size / count)};
}

/* The rows of a layer; the plain loops, one chain of multiply-adds, are what the others are compared with. */
static void print_rows(const pair *p, const char *layer, const char *data) {
  run(p, 0, "reference");
  run(p, 1, "reference");
  error plain = measure(p);
  const char *name;
  for (int i = 0; (name = fonio_conv_algorithm_name(i)); i++) {
    if (!run(p, 1, name)) continue;
    error e = measure(p);
    printf("| `%s` | %s | `%s` | %.1e | %.2f | %.1e |\n", layer, data, name, e.rms, e.rms / plain.rms, e.largest);
  }
}

int main(int count, char **arguments) {
  int given = count - 1;
  size_t some = given > 0 ? (size_t)given : sizeof layers / sizeof *layers;
  puts("| layer | images | algorithm | rms error | to a plain sum's | largest error |\n|---|---|---|---|---|---|");
  for (size_t i = 0; i < some; i++)
    for (int cut = 0; cut < 2; cut++) {
      const char *layer = given > 0 ? arguments[i + 1] : layers[i];
      pair p = {0};
      fonio_clear_error();
      if (make_pair(&p, layer, cut)) {
        fprintf(stderr, "errors: %s: %s\n", layer, fonio_last_error());
        release_pair(&p);
        return 1;
      }
      print_rows(&p, layer, cut ? "cut at 0" : "normal");
      release_pair(&p);
    }
  return 0;
}
