/* What a convolution sees: nn.Conv2d(3, 64, kernel_size=4, stride=2, padding=1), freshly initialised, over a
 * photograph, as a contact sheet of its 64 feature maps. */
#include <fonio/io.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sheet.h"

static const char help[] =
    "usage: features PHOTO PICTURE\n"
    "Runs Conv2d(3, 64, kernel_size=4, stride=2, padding=1), drawn from seed 0, over PHOTO (PNG or JPEG) and writes "
    "its\n"
    "64 feature maps to PICTURE (PNG). Orange is positive, blue negative, night is 0; each map has its full colours "
    "at\n"
    "the value that 99 of 100 pixels stay below. In the corner of each map is the kernel that made it, with its three\n"
    "channels as red, green and blue.\n";

enum { MAPS = 64, COLUMNS = 8, TILE = 128, MARGIN = 6, KERNEL_TIMES = 6 };

/* ---- One map ---- */

/* A map made small: each number is the mean of times x times of its own. */
typedef struct small_map {
  int64_t height, width;
  double numbers[TILE * TILE];
} small_map;

static double mean_of_block(const float *block, int64_t stride, int64_t times) {
  double sum = 0;
  for (int64_t i = 0; i < times; i++)
    for (int64_t j = 0; j < times; j++)
      sum += block[i * stride + j];
  return sum / (double)(times * times);
}

static void shrink(const float *map, int64_t height, int64_t width, small_map *into) {
  int64_t times = ((height > width ? height : width) + TILE - 1) / TILE;
  into->height = height / times;
  into->width = width / times;
  for (int64_t i = 0; i < into->height; i++)
    for (int64_t j = 0; j < into->width; j++)
      into->numbers[i * into->width + j] = mean_of_block(map + (i * width + j) * times, width, times);
}

static int compare_sizes(const void *a, const void *b) {
  double x = fabs(*(const double *)a), y = fabs(*(const double *)b);
  return (x > y) - (x < y);
}

/* The size that 99 of 100 numbers stay below. */
static double full_colour(const small_map *map) {
  static double sorted[TILE * TILE];
  int64_t count = map->height * map->width;
  memcpy(sorted, map->numbers, (size_t)count * sizeof *sorted);
  qsort(sorted, (size_t)count, sizeof *sorted, compare_sizes);
  return fabs(sorted[count * 99 / 100]) + 1e-30;
}

/* A kernel (3, 4, 4) as a picture: grey is 0. */
static fonio_tensor *kernel_picture(fonio_tensor *weight, int64_t index) {
  fonio_tensor *kernel = fonio_tensor_select(weight, 0, index);
  fonio_tensor *picture = fonio_tensor_clone(kernel);
  float *values = fonio_tensor_data(picture), most = 0;
  for (int64_t i = 0; i < fonio_tensor_numel(picture); i++)
    most = fmaxf(most, fabsf(values[i]));
  for (int64_t i = 0; i < fonio_tensor_numel(picture); i++)
    values[i] = 0.5f + 0.5f * values[i] / most;
  fonio_tensor_release(kernel);
  return sheet_magnify(picture, KERNEL_TIMES);
}

/* ---- The sheet ---- */

static fonio_tensor *contact_sheet(const fonio_tensor *maps, fonio_tensor *weight) {
  static small_map map;
  int64_t height = fonio_tensor_size(maps, 1), width = fonio_tensor_size(maps, 2);
  const float *values = fonio_tensor_const_data(maps);
  fonio_tensor *sheet = NULL;
  for (int64_t i = 0; values && i < MAPS; i++) {
    shrink(values + i * height * width, height, width, &map);
    int64_t step_down = map.height + MARGIN, step_right = map.width + MARGIN;
    if (!sheet) sheet = sheet_new(MAPS / COLUMNS * step_down + MARGIN, COLUMNS * step_right + MARGIN, 0.02);
    int64_t top = MARGIN + i / COLUMNS * step_down, left = MARGIN + i % COLUMNS * step_right;
    sheet_put(sheet, top, left, sheet_of_numbers(map.numbers, map.height, map.width, full_colour(&map)));
    sheet_put(sheet, top + map.height - 4 * KERNEL_TIMES, left, kernel_picture(weight, i));
  }
  return sheet;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- The whole ---- */

/* Runs the layer some times, to tell how long it takes when nothing comes in between. */
static fonio_tensor *run_layer(fonio_conv2d *conv, fonio_tensor *photo) {
  fonio_tensor *maps = NULL;
  double best = INFINITY;
  for (int run = 0; run < 10; run++) {
    fonio_tensor_release(maps);
    double start = seconds();
    maps = fonio_conv2d_forward(conv, photo);
    best = fmin(best, seconds() - start);
  }
  char *layer = fonio_module_to_text(&conv->base);
  if (maps && layer)
    printf("  %s\n  3 x %lld x %lld -> 64 x %lld x %lld in %.2f ms, the best of ten (%s, threads: %d)\n", layer,
           (long long)fonio_tensor_size(photo, 1), (long long)fonio_tensor_size(photo, 2),
           (long long)fonio_tensor_size(maps, 1), (long long)fonio_tensor_size(maps, 2), 1e3 * best, fonio_isa(),
           fonio_num_threads());
  fonio_text_release(layer);
  return maps;
}

/* The sheet of a photograph's maps: NULL after a failure. A photograph with no room for a kernel in each map's corner
 * is refused. */
static fonio_tensor *sheet_of_photo(const char *file) {
  fonio_manual_seed(0);
  fonio_set_grad_enabled(false);
  fonio_tensor *photo = fonio_picture_read(file, FONIO_FLOAT32, 3), *maps = NULL, *sheet = NULL;
  fonio_conv2d *conv =
      fonio_conv2d_new(.in_channels = 3, .out_channels = MAPS, .kernel_size = 4, .stride = 2, .padding = 1);
  int64_t height = fonio_tensor_size(photo, 1), width = fonio_tensor_size(photo, 2);
  if (photo && (height < 64 || width < 64 || height > 4 * width || width > 4 * height))
    fonio_fail(FONIO_VALUE_ERROR, "'%s' is smaller than 64 x 64, or too narrow", file);
  else if (photo && conv)
    maps = run_layer(conv, photo);
  if (maps) sheet = contact_sheet(maps, fonio_conv2d_weight(conv));
  fonio_tensor_release(maps);
  fonio_module_release(conv ? &conv->base : NULL);
  fonio_tensor_release(photo);
  return sheet;
}

int main(int count, char **arguments) {
  bool asked = count == 2 && strcmp(arguments[1], "--help") == 0;
  if (asked || count != 3) {
    fputs(help, asked ? stdout : stderr);
    return asked ? 0 : 2;
  }
  fonio_tensor *sheet = sheet_of_photo(arguments[1]);
  /* A failure on the way leaves its message: the sheet may lack a tile then, and is not written. */
  fonio_status status = fonio_last_status() ? fonio_last_status() : fonio_picture_write_png(arguments[2], sheet);
  if (status) fprintf(stderr, "features: %s\n", fonio_last_error());
  fonio_tensor_release(sheet);
  return status != FONIO_OK;
}
