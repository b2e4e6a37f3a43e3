/* Where Winograd's tiles lie along an axis of the output, in rows or in columns: the lines of tiles of all images that
 * a dilation interleaves, image by image.
 *
 * The first output of a tile alone needs the products at the point 0, the last one alone those at infinity. So a line
 * that has an output less than a tile leaves out infinity, and one that has fewer still begins one earlier and leaves
 * out both. What is computed there is anything. Where the last line would have but one output, the first one has one
 * less. */
#ifndef CONV_TILE_LINES_H
#define CONV_TILE_LINES_H

#include <stdint.h>

typedef struct tile_axis {
  int m;            /* outputs of a tile: 1 to 5 */
  int64_t longer;   /* interleaved images that have an output more: the first ones */
  int64_t outputs;  /* of the others */
  int64_t tiles[2]; /* of an image of the others, and of a longer one */
  int64_t lines;    /* of all images */
} tile_axis;

tile_axis conv_tile_axis(int64_t outputs, int64_t dilation, int m);

/* Positions are those of one interleaved image. */
typedef struct tile_line {
  int64_t phase; /* which interleaved image */
  int64_t start; /* of the tiles, -1 or more */
  int first;     /* output that is there: 0, or 1 of a tile that begins earlier */
  int count;     /* of them */
  int cut;       /* points left out: 0; 1, infinity; or 2, 0 and infinity */
  int64_t alike; /* it and those behind it, side by side, that leave out the same */
} tile_line;

tile_line conv_tile_line(const tile_axis *axis, int64_t line);

/* Points of all lines together, each of which stands on `alpha` but for those it leaves out. */
int64_t conv_tile_points(const tile_axis *axis, int alpha);

#endif
