#include "conv/joined.h"

#include <string.h>

#include "conv/plan.h"

/* Copies of so many bytes, as many as one instruction moves. */
static inline __attribute__((always_inline)) void copy_each(char *to, int64_t to_step, const char *from,
                                                            int64_t from_step, size_t bytes, int64_t count) {
  for (int64_t i = 0; i < count; i++, to += to_step, from += from_step)
    memcpy(to, from, bytes);
}

static void copy_chunks(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t bytes, int64_t count) {
  if (bytes == 16)
    copy_each(to, to_step, from, from_step, 16, count);
  else if (bytes == 8)
    copy_each(to, to_step, from, from_step, 8, count);
  else
    copy_each(to, to_step, from, from_step, 4, count);
}

/* The row's phases of columns of one channel, of which the image has the row. */
typedef struct joined_row {
  const kernel_conv *conv;
  const kernel_strip *strip;
  int64_t phases, bytes;
  const char *row;
  char *to; /* of the strip's first pixel */
} joined_row;

/* Pixels [from, to), column by column through the index map: the edges. */
static void gather_edge(const joined_row *r, int64_t from, int64_t to) {
  const kernel_conv *g = r->conv;
  for (int64_t j = from; j < to; j++)
    for (int64_t s = 0; s < r->phases; s++) {
      int64_t p = r->strip->column + j * r->strip->step[1] + s, column = p < g->padded_width ? g->columns[p] : -1;
      char *at = r->to + (j * r->strip->pixel + s) * r->bytes;
      if (column < 0)
        memset(at, 0, (size_t)r->bytes);
      else
        memcpy(at, r->row + column * g->input_strides[2] * r->bytes, (size_t)r->bytes);
    }
}

/* Where all phases of a pixel lie in the image, they lie side by side in NCHW. */
static void gather_row(const joined_row *r) {
  const kernel_conv *g = r->conv;
  int64_t step = r->strip->step[1], columns = r->strip->columns, bytes = r->bytes, apart = g->input_strides[2] * bytes;
  int64_t before = g->image_column - r->strip->column, inside = before + g->in_width - r->phases;
  int64_t from = conv_min(before > 0 ? conv_ceil_div(before, step) : 0, columns);
  int64_t to = conv_max(from, conv_min(inside < 0 ? 0 : inside / step + 1, columns));
  gather_edge(r, 0, from);
  gather_edge(r, to, columns);
  int64_t all = r->phases * bytes, chunk = apart != bytes ? bytes : all % 16 == 0 ? 16 : all % 8 == 0 ? 8 : bytes;
  for (int64_t at = 0; at < all; at += chunk)
    copy_chunks(r->to + from * r->strip->pixel * bytes + at, r->strip->pixel * bytes,
                r->row + (from * step - before) * apart + at / bytes * apart, step * apart, chunk, to - from);
}

void conv_gather_joined(const kernel_conv *g, const kernel_strip *strip, const int64_t phases[2], int64_t bytes,
                        const void *input, void *to) {
  for (int64_t i = 0; i < strip->rows * phases[0]; i++) {
    int64_t phase = i % phases[0], p = strip->row + i / phases[0] * strip->step[0] + phase;
    int64_t row = p < g->padded_height ? g->rows[p] : -1;
    joined_row r = {.conv = g, .strip = strip, .phases = phases[1], .bytes = bytes};
    r.to = (char *)to + (i / phases[0] * strip->pitch + phase * g->in_channels * phases[1]) * bytes;
    for (int64_t c = 0; c < g->in_channels; c++, r.to += phases[1] * bytes) {
      if (row >= 0) {
        r.row = (const char *)input + (c * g->input_strides[0] + row * g->input_strides[1]) * bytes;
        gather_row(&r);
      } else
        for (int64_t j = 0; j < strip->columns; j++)
          memset(r.to + j * strip->pixel * bytes, 0, (size_t)(phases[1] * bytes));
    }
  }
}
