/* Files: pictures. A library of its own, libfonio_io, because it stands on libpng and libjpeg; fonio.h does not bring
 * it.
 *
 * Messages name the file: "No such file or directory: 'cat.png'". Every function here may be called from many threads
 * at once. */
#ifndef FONIO_IO_H
#define FONIO_IO_H

#include <fonio/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Reading ---- */

/* The largest picture that is read, in pixels. A larger one is refused before memory is taken for it. */
#define FONIO_PICTURE_MAX_PIXELS ((int64_t)1 << 30)

/* Reads a PNG or JPEG picture, told apart by its first bytes, into a new contiguous tensor (channels, height, width),
 * as torchvision.io.read_image does.
 *
 * `dtype`: FONIO_UINT8 gives 0 to 255; FONIO_FLOAT32 gives 0 to 1 (value / 255, or value / 65535 for a PNG of 16 bits,
 * whose precision it keeps). The values are those in the file: no gamma, colour profile or rotation is applied.
 *
 * `channels`: 0 as in the file (palettes become RGB, CMYK becomes RGB, transparency becomes an alpha channel), 1 grey,
 * 2 grey and alpha, 3 RGB, 4 RGB and alpha. Grey comes from colour as 0.299 R + 0.587 G + 0.114 B. Alpha that is not
 * asked for is dropped, not mixed with a background; alpha that the file lacks is opaque.
 *
 * NULL with FONIO_IO_ERROR (no such file, no picture, damaged or cut short, too large), FONIO_VALUE_ERROR (another
 * dtype or number of channels), FONIO_NO_MEMORY. A damaged picture is refused whole: what could be read of it is not
 * returned. */
FONIO_NEW fonio_tensor *fonio_picture_read(const char *path, fonio_dtype dtype, int channels);

/* The same from `bytes` bytes of memory, as torchvision.io.decode_image does. */
FONIO_NEW fonio_tensor *fonio_picture_decode(const void *data, size_t bytes, fonio_dtype dtype, int channels);

/* ---- Writing ---- */

/* Writes `picture`, (channels, height, width) or (height, width), any strides, as a PNG of 8 bits: grey, grey and
 * alpha, RGB or RGB and alpha for 1, 2, 3 or 4 channels. uint8 is written as it is; a floating-point dtype is clamped
 * to [0, 1] (NaN to 0) and rounded to the nearest of 256 steps, as torchvision.utils.save_image does.
 *
 * The file appears whole or not at all: it is written beside `path` under another name, flushed to the disk and then
 * renamed. Where `path` is a symbolic link, the file it points to is replaced; a pipe or a device is written to
 * directly.
 *
 * FONIO_IO_ERROR (a folder that is not there, no permission, a full disk), FONIO_VALUE_ERROR (a shape that is no
 * picture), FONIO_TYPE_ERROR (another dtype), FONIO_NO_MEMORY; a file that was there before is then as it was. */
FONIO_API fonio_status fonio_picture_write_png(const char *path, const fonio_tensor *picture);

#ifdef __cplusplus
}
#endif

#endif
