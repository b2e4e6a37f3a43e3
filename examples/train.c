/* Trains a small network on Fashion-MNIST: ten kinds of clothes, in pictures of 28 x 28.
 *
 * The network, its first weights, the order of the pictures and the steps are those of the same program in PyTorch with
 * the same seed: the tests compare the losses.
 *
 * The state is kept in one array of float32, in NumPy's format (numpy.load reads it): the simplest documented one, a
 * short text and the numbers. It holds how many steps were made, the parameters, and the optimiser's momenta. */
#include <fonio/io.h>

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "sheet.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, CLASSES = 10, BATCH = 64, MOST_CURVE = 1 << 16 };

static const char help[] =
    "usage: train [--data FOLDER] [--epochs N] [--steps N] [--seed N] [--losses] OUT\n"
    "Trains a small CNN on Fashion-MNIST and says how many of the test pictures it tells right (87 in 100 after the\n"
    "three epochs). Writes OUT/train.npy, the state, and OUT/loss.png, the curve of the loss.\n"
    "\n"
    "  --data FOLDER  where the four *-ubyte.gz files are (/usr/share/datasets/fashion-mnist: apt-get install\n"
    "                 dataset-fashion-mnist)\n"
    "  --epochs N     how often each picture is seen (3)\n"
    "  --steps N      stop after so many steps, of 64 pictures each\n"
    "  --seed N       of the weights and of the order of the pictures (0)\n"
    "  --losses       print the loss of every step to stdout, and nothing else\n"
    "\n"
    "Ctrl-C ends the training after the step that is being made, and keeps the state; the same command goes on from\n"
    "there, with the results that it would have had without the break.\n";

typedef struct options {
  const char *data, *out;
  long epochs, steps, seed;
  bool losses;
} options;

typedef struct pictures {
  fonio_tensor *images, *labels; /* uint8: (count, SIDE, SIDE), (count) */
  int64_t count;
} pictures;

typedef struct training {
  options asked;
  pictures learn, test;
  fonio_sequential *net;
  fonio_dict *parameters;
  fonio_optimizer *optimizer;
  int64_t step, last_step;
  float curve[MOST_CURVE]; /* the losses of this run */
  int64_t curve_length;
} training;

static volatile sig_atomic_t interrupted;

static void interrupt(int number) {
  (void)number;
  interrupted = 1;
}

/* ---- Data: IDX files, big-endian sizes and then bytes ---- */

static uint32_t number_at(const unsigned char *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* A tensor of the file's bytes; the shape behind the count has to be `shape`. */
static fonio_tensor *read_idx(const char *folder, const char *name, int ndim, const int64_t *shape) {
  char path[4096];
  unsigned char header[16];
  snprintf(path, sizeof path, "%s/%s-ubyte.gz", folder, name);
  gzFile file = gzopen(path, "rb");
  if (!file) return fonio_fail(FONIO_IO_ERROR, "%s: '%s'", strerror(errno), path), NULL;
  int64_t sizes[3] = {0}, header_bytes = 4 + 4 * ndim, bytes = 1;
  bool good =
      gzread(file, header, (unsigned)header_bytes) == header_bytes && number_at(header) == 0x800 + (uint32_t)ndim;
  for (int i = 0; good && i < ndim; i++) {
    sizes[i] = number_at(header + 4 + 4 * i);
    good = sizes[i] <= 1 << 20 && (i == 0 || sizes[i] == shape[i]);
    bytes *= sizes[i];
  }
  fonio_tensor *tensor = good ? fonio_tensor_empty(FONIO_UINT8, ndim, sizes) : NULL;
  good = tensor && gzread(file, fonio_tensor_data(tensor), (unsigned)bytes) == bytes;
  gzclose(file);
  if (good) return tensor;
  fonio_tensor_release(tensor);
  return fonio_fail(FONIO_IO_ERROR, "'%s' is not what it should be, or cut short", path), NULL;
}

static fonio_status read_pictures(pictures *of, const char *folder, const char *kind) {
  char name[64];
  snprintf(name, sizeof name, "%s-images-idx3", kind);
  of->images = read_idx(folder, name, FONIO_SHAPE(0, SIDE, SIDE));
  snprintf(name, sizeof name, "%s-labels-idx1", kind);
  of->labels = of->images ? read_idx(folder, name, FONIO_SHAPE(0)) : NULL;
  if (!of->labels) return fonio_last_status();
  of->count = fonio_tensor_size(of->images, 0);
  if (fonio_tensor_size(of->labels, 0) == of->count && of->count >= BATCH) return FONIO_OK;
  return fonio_fail(FONIO_VALUE_ERROR, "'%s': not as many labels as pictures, or too few", folder);
}

/* Some of the pictures: (count, 1, SIDE, SIDE), from 0 to 1, and their classes. False after a failure. */
static bool take(const pictures *of, const int64_t *places, int64_t count, fonio_tensor **images,
                 fonio_tensor **labels) {
  *images = fonio_tensor_empty(FONIO_FLOAT32, FONIO_SHAPE(count, 1, SIDE, SIDE));
  *labels = fonio_tensor_empty(FONIO_INT64, FONIO_SHAPE(count));
  if (!*images || !*labels) return false;
  const uint8_t *from = fonio_tensor_const_data(of->images), *classes = fonio_tensor_const_data(of->labels);
  float *to = fonio_tensor_data(*images);
  int64_t *numbers = fonio_tensor_data(*labels);
  for (int64_t i = 0; i < count; i++) {
    for (int pixel = 0; pixel < PIXELS; pixel++)
      *to++ = (float)from[places[i] * PIXELS + pixel] / 255;
    numbers[i] = classes[places[i]];
  }
  return true;
}

/* ---- The network ---- */

static void add_block(fonio_sequential *net, int64_t in, int64_t out) {
  fonio_sequential_append(net,
                          fonio_conv2d_new(.in_channels = in, .out_channels = out, .kernel_size = 3, .padding = 1));
  fonio_sequential_append(net, fonio_relu_new());
  fonio_sequential_append(net, fonio_max_pool2d_new(.kernel_size = 2));
}

static fonio_sequential *net_new(void) {
  fonio_sequential *net = fonio_sequential_new();
  add_block(net, 1, 16);
  add_block(net, 16, 32);
  fonio_sequential_append(net, fonio_flatten_new(1, -1));
  fonio_sequential_append(net, fonio_linear_new(.in_features = 32 * 7 * 7, .out_features = CLASSES));
  return net;
}

/* ---- The state: float32 numbers behind the header of a .npy file ---- */

static const char *state_path(const training *t, const char *ending) {
  static char path[4096];
  snprintf(path, sizeof path, "%s/train.npy%s", t->asked.out, ending);
  return path;
}

/* Magic, version 1.0, the length of the text, the text: 128 bytes in all. */
static void npy_header(char header[128], int64_t count) {
  memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
  int length =
      snprintf(header + 10, 118, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld,), }", (long long)count);
  memset(header + 10 + length, ' ', (size_t)(118 - length));
  header[127] = '\n';
}

/* Calls `visit` for the floats of every tensor of the state: parameters, then momenta. */
static bool visit_state(const fonio_dict *dict, FILE *file, bool writes) {
  bool good = dict != NULL;
  for (int64_t i = 0; good && i < fonio_dict_size(dict); i++) {
    fonio_tensor *tensor = fonio_dict_tensor_at(dict, i);
    size_t count = (size_t)fonio_tensor_numel(tensor);
    good = writes ? fwrite(fonio_tensor_const_data(tensor), sizeof(float), count, file) == count
                  : fread(fonio_tensor_data(tensor), sizeof(float), count, file) == count;
  }
  return good;
}

static int64_t count_state(const training *t) {
  int64_t count = 0;
  for (int64_t i = 0; i < fonio_dict_size(t->parameters); i++)
    count += 2 * fonio_tensor_numel(fonio_dict_tensor_at(t->parameters, i));
  return 2 + count;
}

/* To another file first, which then takes the old one's place: there is always a whole one. */
static fonio_status save(const training *t) {
  char header[128], temporary[4096];
  float numbers[] = {(float)t->step, (float)t->asked.seed};
  snprintf(temporary, sizeof temporary, "%s", state_path(t, ".new"));
  fonio_dict *momenta = fonio_optimizer_state_dict(t->optimizer);
  FILE *file = fopen(temporary, "wb");
  npy_header(header, count_state(t));
  bool good = file && fwrite(header, 1, sizeof header, file) == sizeof header &&
              fwrite(numbers, sizeof numbers, 1, file) == 1 && visit_state(t->parameters, file, true) &&
              visit_state(momenta, file, true) && fflush(file) == 0 && fsync(fileno(file)) == 0;
  if (file) good = fclose(file) == 0 && good;
  fonio_dict_release(momenta);
  if (good && rename(temporary, state_path(t, "")) == 0) return FONIO_OK;
  return fonio_fail(FONIO_IO_ERROR, "%s: '%s'", strerror(errno), temporary);
}

/* The momenta to read into: zeros like the parameters, under the optimiser's names. */
static fonio_dict *momenta_for(const fonio_dict *parameters) {
  fonio_dict *momenta = fonio_dict_new();
  for (int64_t i = 0; momenta && i < fonio_dict_size(parameters); i++) {
    char name[256];
    const fonio_tensor *like = fonio_dict_tensor_at(parameters, i);
    snprintf(name, sizeof name, "%s.momentum_buffer", fonio_dict_name_at(parameters, i));
    fonio_tensor *zeros = fonio_tensor_zeros(FONIO_FLOAT32, fonio_tensor_ndim(like), fonio_tensor_shape(like));
    if (zeros) fonio_dict_set(momenta, name, zeros);
    fonio_tensor_release(zeros);
  }
  return momenta;
}

/* Goes on from an earlier run, if there was one with this seed. */
static fonio_status load(training *t) {
  char header[128], expected[128];
  float numbers[2];
  FILE *file = fopen(state_path(t, ""), "rb");
  if (!file) return FONIO_OK;
  npy_header(expected, count_state(t));
  fonio_dict *momenta = momenta_for(t->parameters);
  bool good = fread(header, 1, sizeof header, file) == sizeof header && memcmp(header, expected, sizeof header) == 0 &&
              fread(numbers, sizeof numbers, 1, file) == 1 && numbers[1] == (float)t->asked.seed && numbers[0] >= 1 &&
              numbers[0] < 1 << 24 && visit_state(t->parameters, file, false) && visit_state(momenta, file, false);
  fclose(file);
  fonio_status status = FONIO_OK;
  if (good) {
    t->step = (int64_t)numbers[0];
    status = fonio_optimizer_load_state_dict(t->optimizer, momenta);
  } else {
    status =
        fonio_fail(FONIO_VALUE_ERROR, "'%s' is no state of this network and seed: move it away", state_path(t, ""));
  }
  fonio_dict_release(momenta);
  return status;
}

/* ---- Progress, on stderr: a bar on a terminal, otherwise a line now and then ---- */

static void show_progress(const training *t, double loss) {
  static const char full[] = "########################################";
  static time_t begun;
  if (t->asked.losses) return;
  if (!begun) begun = time(NULL);
  bool last = t->step == t->last_step;
  if (!isatty(STDERR_FILENO)) {
    if (t->step % 200 == 0 || last) fprintf(stderr, "  step %5lld: loss %.4f\n", (long long)t->step, loss);
    return;
  }
  if (t->step % 10 && !last) return;
  int width = (int)(40 * t->step / t->last_step);
  bool colour = !getenv("NO_COLOR");
  fprintf(stderr, "\r  %s[%-40.*s]%s step %5lld of %lld: loss %.4f, %lld s%s", colour ? "\033[36m" : "", width, full,
          colour ? "\033[0m" : "", (long long)t->step, (long long)t->last_step, loss, (long long)(time(NULL) - begun),
          last ? "\n" : "");
}

/* ---- The curve ---- */

enum { HEIGHT = 320, WIDTH = 640 };

static void put_pixel(float *pixels, int64_t y, int64_t x, int colour) {
  for (int channel = 0; channel < 3; channel++)
    pixels[(channel * HEIGHT + y) * WIDTH + x] = sheet_colours[colour][channel];
}

/* The mean loss of the steps that lie over a column; 0 where there are none. */
static double column_mean(const training *t, int64_t column) {
  int64_t first = column * t->curve_length / WIDTH, end = (column + 1) * t->curve_length / WIDTH;
  double sum = 0;
  for (int64_t i = first; i < end || i == first; i++)
    sum += (double)t->curve[i];
  return sum / (double)(end > first ? end - first : 1);
}

/* From 0 at the bottom to 2.5 at the top; a line at every 0.5. */
static fonio_status draw_curve(const training *t) {
  char path[4096];
  if (t->curve_length == 0) return FONIO_OK;
  fonio_tensor *sheet = sheet_new(HEIGHT, WIDTH, 0.02);
  float *pixels = fonio_tensor_data(sheet);
  int64_t before = 0;
  for (int64_t x = 0; pixels && x < WIDTH; x++) {
    for (int line = 1; line < 5; line++)
      put_pixel(pixels, HEIGHT - 1 - line * HEIGHT / 5, x, 2);
    double loss = fmin(column_mean(t, x), 2.5);
    int64_t y = HEIGHT - 1 - (int64_t)(loss / 2.5 * (HEIGHT - 1)), from = x ? before : y;
    for (int64_t i = y < from ? y : from; i <= (y < from ? from : y); i++)
      put_pixel(pixels, i, x, 5);
    before = y;
  }
  snprintf(path, sizeof path, "%s/loss.png", t->asked.out);
  fonio_status status = fonio_picture_write_png(path, sheet);
  fonio_tensor_release(sheet);
  return status;
}

/* ---- Training ---- */

/* One step; NaN after a failure. */
static double take_step(training *t, const int64_t *places) {
  double value = NAN;
  fonio_tensor *images, *labels;
  take(&t->learn, places, BATCH, &images, &labels);
  fonio_tensor *scores = fonio_module_forward(&t->net->base, images);
  fonio_tensor *loss = fonio_tensor_cross_entropy(scores, labels, -100, FONIO_REDUCTION_MEAN, 0);
  fonio_optimizer_zero_grad(t->optimizer);
  if (fonio_tensor_backward(loss) || fonio_optimizer_step(t->optimizer) || fonio_tensor_item(loss, &value)) value = NAN;
  fonio_tensor_release(loss);
  fonio_tensor_release(scores);
  fonio_tensor_release(labels);
  fonio_tensor_release(images);
  return value;
}

/* The rest of an epoch, in an order that its number decides, so that a later run finds it again. */
static fonio_status run_epoch(training *t, int64_t epoch, int64_t steps) {
  fonio_manual_seed((uint64_t)(t->asked.seed + 1 + epoch));
  fonio_tensor *order = fonio_tensor_randperm(FONIO_INT64, t->learn.count);
  const int64_t *places = fonio_tensor_const_data(order);
  while (places && t->step < (epoch + 1) * steps && t->step < t->last_step && !interrupted) {
    double loss = take_step(t, places + t->step % steps * BATCH);
    if (isnan(loss)) break;
    t->step++;
    if (t->curve_length < MOST_CURVE) t->curve[t->curve_length++] = (float)loss;
    if (t->asked.losses) printf("%.9g\n", loss);
    show_progress(t, loss);
  }
  fonio_tensor_release(order);
  return fonio_last_status();
}

static fonio_status run(training *t) {
  int64_t steps = t->learn.count / BATCH;
  t->last_step = t->asked.epochs * steps;
  if (t->asked.steps > 0 && t->asked.steps < t->last_step) t->last_step = t->asked.steps;
  fonio_status status = FONIO_OK;
  for (int64_t epoch = t->step / steps; !status && t->step < t->last_step && !interrupted; epoch++) {
    status = run_epoch(t, epoch, steps);
    if (!status) status = save(t);
  }
  return status;
}

/* How many of the scores are largest at their picture's class. */
static int64_t count_right(const fonio_tensor *scores, const fonio_tensor *labels) {
  const float *row = fonio_tensor_const_data(scores);
  const int64_t *classes = fonio_tensor_const_data(labels);
  int64_t right = 0;
  for (int64_t i = 0; i < fonio_tensor_size(scores, 0); i++, row += CLASSES) {
    int best = 0;
    for (int c = 1; c < CLASSES; c++)
      if (row[c] > row[best]) best = c;
    right += best == classes[i];
  }
  return right;
}

static fonio_status report(const training *t) {
  int64_t right = 0, places[500];
  bool before = fonio_set_grad_enabled(false);
  for (int64_t first = 0; first < t->test.count && !fonio_last_status(); first += 500) {
    int64_t count = t->test.count - first < 500 ? t->test.count - first : 500;
    for (int64_t i = 0; i < count; i++)
      places[i] = first + i;
    fonio_tensor *images, *labels;
    take(&t->test, places, count, &images, &labels);
    fonio_tensor *scores = fonio_module_forward(&t->net->base, images);
    if (scores) right += count_right(scores, labels);
    fonio_tensor_release(scores);
    fonio_tensor_release(labels);
    fonio_tensor_release(images);
  }
  fonio_set_grad_enabled(before);
  if (fonio_last_status()) return fonio_last_status();
  printf("after %lld steps %.2f %% of %lld test pictures are told right\n", (long long)t->step,
         100. * (double)right / (double)t->test.count, (long long)t->test.count);
  return FONIO_OK;
}

static fonio_status prepare(training *t) {
  fonio_status status = read_pictures(&t->learn, t->asked.data, "train");
  if (!status) status = read_pictures(&t->test, t->asked.data, "t10k");
  if (status) return status;
  fonio_manual_seed((uint64_t)t->asked.seed);
  t->net = net_new();
  t->parameters = t->net ? fonio_module_named_parameters(&t->net->base) : NULL;
  t->optimizer = fonio_sgd_new(t->parameters, .lr = 0.02, .momentum = 0.9);
  return fonio_last_status() ? fonio_last_status() : load(t);
}

static fonio_status train(training *t) {
  fonio_status status = prepare(t);
  if (status) return status;
  if (!t->asked.losses) fonio_module_print(&t->net->base);
  if (t->step > 0 && !t->asked.losses) printf("going on from step %lld\n", (long long)t->step);
  status = run(t);
  if (status || t->asked.losses) return status;
  if (interrupted) fprintf(stderr, "\nkept after step %lld: the same command goes on from there\n", (long long)t->step);
  status = draw_curve(t);
  return status || interrupted ? status : report(t);
}

/* ---- The command line ---- */

/* A number of at least 0; -1 for anything else. */
static long number_of(const char *text) {
  char *end;
  long number = text ? strtol(text, &end, 10) : -1;
  return text && *text && !*end && number >= 0 && number < 1 << 23 ? number : -1;
}

static bool read_options(options *asked, char **arguments) {
  *asked = (options){.data = "/usr/share/datasets/fashion-mnist", .epochs = 3};
  struct {
    const char *name;
    long *number;
  } numbers[] = {{"--epochs", &asked->epochs}, {"--steps", &asked->steps}, {"--seed", &asked->seed}};
  for (char **a = arguments + 1; *a; a++) {
    bool known = false;
    for (int i = 0; !known && i < 3; i++)
      if (strcmp(*a, numbers[i].name) == 0) {
        known = (*numbers[i].number = number_of(*++a)) >= 0;
        if (!known) return false;
      }
    if (known) continue;
    if (strcmp(*a, "--losses") == 0)
      asked->losses = true;
    else if (strcmp(*a, "--data") == 0 && a[1])
      asked->data = *++a;
    else if (**a != '-' && !asked->out)
      asked->out = *a;
    else
      return false;
  }
  return asked->out;
}

int main(int count, char **arguments) {
  static training t;
  bool wanted = count == 2 && strcmp(arguments[1], "--help") == 0;
  if (wanted || !read_options(&t.asked, arguments)) {
    fputs(help, wanted ? stdout : stderr);
    return wanted ? 0 : 2;
  }
  signal(SIGINT, interrupt);
  fonio_status status = train(&t);
  if (status) fprintf(stderr, "train: %s\n", fonio_last_error());
  fonio_optimizer_release(t.optimizer);
  fonio_dict_release(t.parameters);
  if (t.net) fonio_module_release(&t.net->base);
  fonio_tensor *read[] = {t.learn.images, t.learn.labels, t.test.images, t.test.labels};
  for (size_t i = 0; i < sizeof read / sizeof *read; i++)
    fonio_tensor_release(read[i]);
  return status ? 1 : interrupted ? 130 : 0;
}
