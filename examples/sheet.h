/* Sheets: pictures put together of smaller ones, and colours for numbers. A sheet is a float32 tensor (3, height,
 * width). Each call passes a NULL on, so that one check at the end finds what failed on the way. */
#ifndef EXAMPLES_SHEET_H
#define EXAMPLES_SHEET_H

#include <fonio.h>

/* An empty sheet in one shade of grey. */
static inline fonio_tensor *sheet_new(int64_t height, int64_t width, double shade) {
  return fonio_tensor_full(FONIO_FLOAT32, shade, FONIO_SHAPE(3, height, width));
}

/* sheet[:, top:top+h, left:left+w] = picture, which is (3, h, w), or (1, h, w) in grey. Releases the picture. */
static inline fonio_status sheet_put(fonio_tensor *sheet, int64_t top, int64_t left, fonio_tensor *picture) {
  fonio_tensor *rows = fonio_tensor_slice(sheet, 1, top, top + fonio_tensor_size(picture, 1), 1);
  fonio_tensor *place = fonio_tensor_slice(rows, 2, left, left + fonio_tensor_size(picture, 2), 1);
  fonio_status status = fonio_tensor_copy(place, picture);
  fonio_tensor_release(place);
  fonio_tensor_release(rows);
  fonio_tensor_release(picture);
  return status;
}

/* Makes each pixel of (c, h, w) a square, `times` as wide and as high. Releases the picture. */
static inline fonio_tensor *sheet_magnify(fonio_tensor *picture, int64_t times) {
  int64_t c = fonio_tensor_size(picture, 0), h = fonio_tensor_size(picture, 1), w = fonio_tensor_size(picture, 2);
  fonio_tensor *apart = fonio_tensor_reshape(picture, FONIO_SHAPE(c, h, 1, w, 1));
  fonio_tensor *spread = fonio_tensor_expand(apart, FONIO_SHAPE(c, h, times, w, times));
  fonio_tensor *magnified = fonio_tensor_reshape(spread, FONIO_SHAPE(c, h * times, w * times));
  fonio_tensor_release(spread);
  fonio_tensor_release(apart);
  fonio_tensor_release(picture);
  return magnified;
}

/* The colours of the numbers from -1 to 1, at even steps: ice over blue to night, and over ember to cream. */
static const float sheet_colours[7][3] = {{.80f, .93f, 1.f},  {.36f, .66f, .92f}, {.12f, .29f, .52f},
                                          {.05f, .05f, .08f}, {.52f, .18f, .12f}, {.94f, .50f, .24f},
                                          {1.f, .93f, .78f}};

/* The colour of `value`, divided by `most` and clamped to [-1, 1], in one channel. */
static inline float sheet_colour(double value, double most, int channel) {
  double place = 3 + 3 * (value > most ? 1 : value < -most ? -1 : value / most);
  int step = place < 6 ? (int)place : 5;
  return sheet_colours[step][channel] +
         (float)(place - step) * (sheet_colours[step + 1][channel] - sheet_colours[step][channel]);
}

/* A picture (3, h, w) of h x w numbers in colours; `most` gets the full ones. */
static inline fonio_tensor *sheet_of_numbers(const double *numbers, int64_t h, int64_t w, double most) {
  fonio_tensor *picture = fonio_tensor_empty(FONIO_FLOAT32, FONIO_SHAPE(3, h, w));
  float *pixel = fonio_tensor_data(picture);
  for (int channel = 0; pixel && channel < 3; channel++)
    for (int64_t i = 0; i < h * w; i++)
      *pixel++ = sheet_colour(numbers[i], most, channel);
  return picture;
}

#endif
