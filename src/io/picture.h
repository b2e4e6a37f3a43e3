/* What the decoders hand over, and what the encoder takes: a picture as rows of interleaved samples. */
#ifndef IO_PICTURE_H
#define IO_PICTURE_H

#include <fonio/io.h>

#include "file.h"

/* A picture in memory. Grey, grey and alpha, RGB or RGB and alpha for 1, 2, 3 or 4 channels. */
typedef struct picture {
  int64_t width, height;
  int channels;
  int sample_bytes; /* 1: 0 to 255; 2: 0 to 65535, in the machine's own byte order */
  void *samples;    /* height x width x channels of them, from fonio_memory_take */
} picture;

/* What a decoder is given. */
typedef struct picture_source {
  const char *name; /* for messages: the file's, in quotes, or another noun */
  const unsigned char *data;
  size_t bytes;
} picture_source;

/* Whether the first bytes are those of the format. */
bool png_recognise(const unsigned char *head, size_t bytes);
bool jpeg_recognise(const unsigned char *head, size_t bytes);

/* Decode a whole picture; `into` is untouched on failure. `deep` allows 16 bits a sample where the file has them. */
fonio_status png_decode(const picture_source *source, bool deep, picture *into);
fonio_status jpeg_decode(const picture_source *source, picture *into);

/* Writes a picture of 1-byte samples. */
fonio_status png_encode(const picture *from, file_writer *into);

/* Fails when a picture's width and height make it larger than FONIO_PICTURE_MAX_PIXELS, or larger than any file of the
 * source's size can hold: no byte of it stands for more than `most_pixels_per_byte`. To be asked before a decoder takes
 * memory for as much as a row. */
fonio_status picture_check_size(const picture_source *source, int64_t most_pixels_per_byte, const picture *claimed);

/* Takes the memory for a picture's samples. */
fonio_status picture_take_samples(picture *into);

#endif
