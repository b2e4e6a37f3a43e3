#include "conv/tile_lines.h"

#include "conv/plan.h"

tile_axis conv_tile_axis(int64_t outputs, int64_t dilation, int m) {
  tile_axis axis = {.m = m, .longer = outputs % dilation, .outputs = outputs / dilation};
  for (int i = 0; i < 2; i++)
    axis.tiles[i] = conv_ceil_div(axis.outputs + i, m);
  axis.lines = axis.longer * axis.tiles[1] + (dilation - axis.longer) * axis.tiles[0];
  return axis;
}

tile_line conv_tile_line(const tile_axis *axis, int64_t line) {
  int64_t before = axis->longer * axis->tiles[1], more = line < before;
  int64_t phase = more ? 0 : axis->longer, tile = more ? line : line - before;
  int64_t outputs = axis->outputs + more, tiles = axis->tiles[more];
  if (tile >= tiles) {
    phase += tile / tiles;
    tile %= tiles;
  }
  bool early = tiles * axis->m - outputs == 3 && tiles > 2;
  int64_t begin = tile * axis->m - (early && tile > 0);
  int count = (int)conv_min(axis->m - (early && tile == 0), outputs - begin), cut = (int)conv_min(axis->m - count, 2);
  int64_t alike = cut ? 1 : tiles - tile - (tiles * axis->m > outputs);
  return (tile_line){phase, begin - (cut == 2), cut == 2, count, cut, alike};
}

int64_t conv_tile_points(const tile_axis *axis, int alpha) {
  int64_t points = 0;
  tile_line line;
  for (int64_t i = 0; i < axis->lines; i += line.alike) {
    line = conv_tile_line(axis, i);
    points += line.alike * (alpha - line.cut);
  }
  return points;
}
