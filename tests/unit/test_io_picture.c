/* Pictures: what is read is what was written, by libpng, libjpeg or us; and no damaged file does harm. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <jpeglib.h>
#include <png.h>
#include <zlib.h>

#include "fonio.h"
#include "fonio/io.h"

/* A file in memory. */
typedef struct file_image {
  unsigned char *data;
  size_t bytes;
} file_image;

/* ---- Memory that counts ---- */

static int allocations_left;
static size_t largest_allocation;

static void *allocate_some(size_t alignment, size_t bytes, void *user) {
  (void)user;
  void *pointer = NULL;
  if (bytes > largest_allocation) largest_allocation = bytes;
  if (allocations_left-- <= 0 || posix_memalign(&pointer, alignment, bytes)) return NULL;
  return pointer;
}

static void release_some(void *pointer, void *user) {
  (void)user;
  free(pointer);
}

static const fonio_allocator some_memory = {allocate_some, release_some, NULL};

/* ---- Pictures to read, made by libpng and libjpeg themselves ---- */

typedef struct png_kind {
  int colour_type, bit_depth, interlace;
} png_kind;

static int samples_per_pixel(int colour_type) {
  return 1 + (colour_type & PNG_COLOR_MASK_COLOR && !(colour_type & PNG_COLOR_MASK_PALETTE) ? 2 : 0) +
         (colour_type & PNG_COLOR_MASK_ALPHA ? 1 : 0);
}

static void append(png_structp png, png_bytep data, size_t bytes) {
  file_image *image = png_get_io_ptr(png);
  image->data = realloc(image->data, image->bytes + bytes);
  memcpy(image->data + image->bytes, data, bytes);
  image->bytes += bytes;
}

/* A palette of 2^depth colours: the i-th is (i, 2i, 255 - i), and as opaque as 255 - i. */
static void set_palette(png_structp png, png_infop info, int colours) {
  png_color palette[256];
  png_byte alpha[256];
  for (int i = 0; i < colours; i++) {
    palette[i] = (png_color){(png_byte)i, (png_byte)(2 * i), (png_byte)(255 - i)};
    alpha[i] = (png_byte)(255 - i);
  }
  png_set_PLTE(png, info, palette, colours);
  png_set_tRNS(png, info, alpha, colours, NULL);
}

/* `rows` holds packed rows as they stand in the file. */
static file_image make_png(png_kind kind, int width, int height, const unsigned char *rows) {
  file_image image = {0};
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(png, &image, append, NULL);
  png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, kind.bit_depth, kind.colour_type, kind.interlace,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (kind.colour_type == PNG_COLOR_TYPE_PALETTE) set_palette(png, info, 1 << kind.bit_depth);
  png_write_info(png, info);
  size_t row_bytes = ((size_t)(width * samples_per_pixel(kind.colour_type) * kind.bit_depth) + 7) / 8;
  png_bytep row[64];
  for (int i = 0; i < height; i++)
    row[i] = (png_bytep)rows + (size_t)i * row_bytes;
  png_write_image(png, row);
  png_write_end(png, NULL);
  png_destroy_write_struct(&png, &info);
  return image;
}

typedef struct jpeg_kind {
  J_COLOR_SPACE space;
  int channels;
  bool progressive, arithmetic, adobe;
} jpeg_kind;

static file_image make_jpeg(jpeg_kind kind, int width, int height, const unsigned char *rows) {
  struct jpeg_compress_struct jpeg;
  struct jpeg_error_mgr errors;
  file_image image = {0};
  unsigned long bytes = 0;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  jpeg_mem_dest(&jpeg, &image.data, &bytes);
  jpeg.image_width = (JDIMENSION)width;
  jpeg.image_height = (JDIMENSION)height;
  jpeg.input_components = kind.channels;
  jpeg.in_color_space = kind.space;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 100, TRUE);
  jpeg.write_Adobe_marker = kind.adobe;
  jpeg.arith_code = kind.arithmetic;
  if (kind.progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  while (jpeg.next_scanline < jpeg.image_height) {
    JSAMPROW row = (JSAMPROW)rows + (size_t)jpeg.next_scanline * (size_t)(width * kind.channels);
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  image.bytes = bytes;
  return image;
}

/* Bytes that look random and are the same in every run. */
static const unsigned char *noise(size_t bytes) {
  static unsigned char data[8192];
  uint32_t state = 12345;
  assert_true(bytes <= sizeof data);
  for (size_t i = 0; i < bytes; i++)
    data[i] = (unsigned char)((state = state * 1664525 + 1013904223) >> 24);
  return data;
}

/* A slope of light, which JPEG keeps well. */
static const unsigned char *slope(int width, int height, int channels) {
  static unsigned char data[8192];
  for (int i = 0; i < width * height * channels; i++)
    data[i] = (unsigned char)(16 + 3 * (i / channels % width) + 2 * (i / channels / width) + 40 * (i % channels));
  return data;
}

/* ---- Helpers ---- */

static fonio_tensor *decode(file_image image, fonio_dtype dtype, int channels) {
  fonio_tensor *tensor = fonio_picture_decode(image.data, image.bytes, dtype, channels);
  if (!tensor) fail_msg("%s", fonio_last_error());
  return tensor;
}

static double value_at(const fonio_tensor *tensor, int64_t channel, int64_t row, int64_t column) {
  double value = -1;
  assert_int_equal(fonio_tensor_at(tensor, FONIO_SHAPE(channel, row, column), &value), FONIO_OK);
  return value;
}

static void assert_shape(const fonio_tensor *tensor, int64_t channels, int64_t height, int64_t width) {
  assert_int_equal(fonio_tensor_ndim(tensor), 3);
  assert_int_equal(fonio_tensor_size(tensor, 0), channels);
  assert_int_equal(fonio_tensor_size(tensor, 1), height);
  assert_int_equal(fonio_tensor_size(tensor, 2), width);
  assert_true(fonio_tensor_is_contiguous(tensor));
}

static void assert_fails(fonio_tensor *tensor, fonio_status status, const char *words) {
  assert_null(tensor);
  assert_int_equal(fonio_last_status(), status);
  if (!strstr(fonio_last_error(), words)) fail_msg("'%s' does not say '%s'", fonio_last_error(), words);
}

/* ---- PNG ---- */

static void reads_every_kind_of_png(void **state) {
  (void)state;
  static const struct {
    png_kind kind;
    int channels;
  } cases[] = {{{PNG_COLOR_TYPE_GRAY, 8, 0}, 1},       {{PNG_COLOR_TYPE_GRAY_ALPHA, 8, 0}, 2},
               {{PNG_COLOR_TYPE_RGB, 8, 0}, 3},        {{PNG_COLOR_TYPE_RGB_ALPHA, 8, 0}, 4},
               {{PNG_COLOR_TYPE_RGB, 8, 1}, 3},        {{PNG_COLOR_TYPE_GRAY, 16, 0}, 1},
               {{PNG_COLOR_TYPE_RGB_ALPHA, 16, 1}, 4}, {{PNG_COLOR_TYPE_RGB, 16, 0}, 3}};
  enum { WIDTH = 13, HEIGHT = 9 };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int channels = cases[i].channels, depth = cases[i].kind.bit_depth;
    const unsigned char *rows = noise((size_t)(WIDTH * HEIGHT * channels * depth / 8));
    file_image image = make_png(cases[i].kind, WIDTH, HEIGHT, rows);
    fonio_tensor *bytes = decode(image, FONIO_UINT8, 0), *floats = decode(image, FONIO_FLOAT32, 0);
    assert_shape(bytes, channels, HEIGHT, WIDTH);
    assert_shape(floats, channels, HEIGHT, WIDTH);
    for (int pixel = 0; pixel < WIDTH * HEIGHT; pixel++)
      for (int channel = 0; channel < channels; channel++) {
        int index = pixel * channels + channel;
        unsigned sample = depth == 8 ? rows[index] : rows[2 * index] * 256u + rows[2 * index + 1];
        unsigned as_byte = depth == 8 ? sample : (sample * 255 + 32895) >> 16;
        assert_int_equal(value_at(bytes, channel, pixel / WIDTH, pixel % WIDTH), as_byte);
        assert_true(value_at(floats, channel, pixel / WIDTH, pixel % WIDTH) ==
                    (float)sample / (depth == 8 ? 255.0f : 65535.0f));
      }
    fonio_tensor_release(bytes);
    fonio_tensor_release(floats);
    free(image.data);
  }
}

static void expands_small_depths_and_palettes(void **state) {
  (void)state;
  static const unsigned char bits[] = {0xa0, 0x40}; /* 101 / 010 */
  file_image image = make_png((png_kind){PNG_COLOR_TYPE_GRAY, 1, 0}, 3, 2, bits);
  fonio_tensor *tensor = decode(image, FONIO_UINT8, 0);
  assert_shape(tensor, 1, 2, 3);
  assert_memory_equal(fonio_tensor_const_data(tensor), ((unsigned char[]){255, 0, 255, 0, 255, 0}), 6);
  fonio_tensor_release(tensor);
  free(image.data);

  static const unsigned char indices[] = {7, 200};
  image = make_png((png_kind){PNG_COLOR_TYPE_PALETTE, 8, 0}, 2, 1, indices);
  tensor = decode(image, FONIO_UINT8, 0);
  assert_shape(tensor, 4, 1, 2);
  assert_memory_equal(fonio_tensor_const_data(tensor), ((unsigned char[]){7, 200, 14, 144, 248, 55, 248, 55}), 8);
  fonio_tensor_release(tensor);
  free(image.data);
}

static void makes_the_channels_that_are_asked_for(void **state) {
  (void)state;
  static const unsigned char rgba[] = {10, 200, 30, 40, 255, 255, 255, 0};
  file_image image = make_png((png_kind){PNG_COLOR_TYPE_RGB_ALPHA, 8, 0}, 2, 1, rgba);
  static const unsigned char expected[5][8] = {[1] = {124, 255},
                                               [2] = {124, 255, 40, 0},
                                               [3] = {10, 255, 200, 255, 30, 255},
                                               [4] = {10, 255, 200, 255, 30, 255, 40, 0}};
  for (int channels = 1; channels <= 4; channels++) {
    fonio_tensor *tensor = decode(image, FONIO_UINT8, channels);
    assert_shape(tensor, channels, 1, 2);
    assert_memory_equal(fonio_tensor_const_data(tensor), expected[channels], (size_t)(2 * channels));
    fonio_tensor_release(tensor);
  }
  free(image.data);
  image = make_png((png_kind){PNG_COLOR_TYPE_GRAY, 8, 0}, 1, 1, (const unsigned char[]){77});
  fonio_tensor *tensor = decode(image, FONIO_UINT8, 4);
  assert_memory_equal(fonio_tensor_const_data(tensor), ((unsigned char[]){77, 77, 77, 255}), 4);
  fonio_tensor_release(tensor);
  free(image.data);
}

/* ---- JPEG ---- */

static void reads_every_kind_of_jpeg(void **state) {
  (void)state;
  static const jpeg_kind kinds[] = {{JCS_GRAYSCALE, 1, false, false, false}, {JCS_RGB, 3, false, false, false},
                                    {JCS_RGB, 3, true, false, false},        {JCS_RGB, 3, false, true, false},
                                    {JCS_GRAYSCALE, 1, true, true, false},   {JCS_RGB, 3, false, false, true}};
  enum { WIDTH = 21, HEIGHT = 17 };
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    int channels = kinds[i].channels;
    const unsigned char *rows = slope(WIDTH, HEIGHT, channels);
    file_image image = make_jpeg(kinds[i], WIDTH, HEIGHT, rows);
    fonio_tensor *tensor = decode(image, FONIO_UINT8, 0);
    assert_shape(tensor, channels, HEIGHT, WIDTH);
    for (int pixel = 0; pixel < WIDTH * HEIGHT; pixel++)
      for (int channel = 0; channel < channels; channel++)
        assert_in_range(value_at(tensor, channel, pixel / WIDTH, pixel % WIDTH) - rows[pixel * channels + channel] + 6,
                        0, 12);
    fonio_tensor_release(tensor);
    free(image.data);
  }
}

static void turns_cmyk_into_rgb(void **state) {
  (void)state;
  unsigned char pixels[16 * 16 * 4];
  for (int i = 0; i < 16 * 16; i++)
    memcpy(pixels + 4 * i, ((unsigned char[]){255, 100, 0, 200}), 4);
  static const int as_light[] = {200, 78, 0}, as_ink[] = {0, 33, 55};
  for (int adobe = 0; adobe <= 1; adobe++) {
    file_image image = make_jpeg((jpeg_kind){JCS_CMYK, 4, false, false, adobe}, 16, 16, pixels);
    fonio_tensor *tensor = decode(image, FONIO_UINT8, 0);
    assert_shape(tensor, 3, 16, 16);
    for (int channel = 0; channel < 3; channel++)
      assert_in_range(value_at(tensor, channel, 5, 5) - (adobe ? as_light : as_ink)[channel] + 3, 0, 6);
    fonio_tensor_release(tensor);
    free(image.data);
  }
}

/* ---- Bad data ---- */

static file_image some_png(void) {
  return make_png((png_kind){PNG_COLOR_TYPE_RGB, 8, 1}, 11, 7, noise(11 * 7 * 3));
}

static file_image some_jpeg(bool progressive) {
  return make_jpeg((jpeg_kind){JCS_RGB, 3, progressive, false, false}, 24, 20, slope(24, 20, 3));
}

/* The data is copied to a block of its own size, so that a sanitizer sees each byte that is read too far. */
static fonio_tensor *decode_copy(const unsigned char *data, size_t bytes) {
  unsigned char *copy = malloc(bytes ? bytes : 1);
  memcpy(copy, data, bytes);
  fonio_tensor *tensor = fonio_picture_decode(copy, bytes, FONIO_FLOAT32, 0);
  free(copy);
  return tensor;
}

static void refuses_every_truncation(void **state) {
  (void)state;
  file_image images[] = {some_png(), some_jpeg(false), some_jpeg(true)};
  for (int i = 0; i < 3; i++) {
    for (size_t bytes = 0; bytes < images[i].bytes; bytes++) {
      fonio_tensor *tensor = decode_copy(images[i].data, bytes);
      if (tensor) fail_msg("image %d is taken with %zu of %zu bytes", i, bytes, images[i].bytes);
      assert_int_equal(fonio_last_status(), FONIO_IO_ERROR);
    }
    fonio_tensor_release(decode(images[i], FONIO_UINT8, 0));
    free(images[i].data);
  }
  assert_int_equal(fonio_live_allocations(), 0);
}

static void survives_every_flipped_bit(void **state) {
  (void)state;
  file_image images[] = {some_png(), some_jpeg(false), some_jpeg(true)};
  for (int i = 0; i < 3; i++) {
    for (size_t bit = 0; bit < 8 * images[i].bytes; bit++) {
      images[i].data[bit / 8] ^= (unsigned char)(1u << bit % 8);
      fonio_tensor *tensor = decode_copy(images[i].data, images[i].bytes);
      assert_true(tensor || fonio_last_status() == FONIO_IO_ERROR || fonio_last_status() == FONIO_NO_MEMORY);
      fonio_tensor_release(tensor);
      images[i].data[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    free(images[i].data);
  }
  assert_int_equal(fonio_live_allocations(), 0);
}

static void refuses_other_data_and_arguments(void **state) {
  (void)state;
  assert_fails(fonio_picture_decode("GIF89a", 6, FONIO_UINT8, 0), FONIO_IO_ERROR, "neither a PNG nor a JPEG");
  assert_fails(fonio_picture_decode("", 0, FONIO_UINT8, 0), FONIO_IO_ERROR, "neither a PNG nor a JPEG");
  assert_fails(fonio_picture_decode("", 0, FONIO_INT32, 0), FONIO_VALUE_ERROR, "not as int32");
  assert_fails(fonio_picture_decode("", 0, FONIO_UINT8, 5), FONIO_VALUE_ERROR, "got 5");
  fonio_clear_error();
  assert_fails(fonio_picture_decode(NULL, 3, FONIO_UINT8, 0), FONIO_TYPE_ERROR, "fonio_picture_decode");
  fonio_clear_error();
  assert_fails(fonio_picture_read(NULL, FONIO_UINT8, 0), FONIO_TYPE_ERROR, "fonio_picture_read");
}

/* A header that claims more than such a file can hold is refused before memory is taken for it. */
static void refuses_sizes_that_cannot_be(void **state) {
  (void)state;
  static const unsigned char sizes[][8] = {{0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff},
                                           {0, 0, 0x7f, 0, 0, 0, 0x7f, 0}};
  static const char *words[] = {"is too large: 2147483647 x 2147483647", "cannot be in"};
  allocations_left = INT_MAX;
  largest_allocation = 0;
  assert_int_equal(fonio_set_allocator(&some_memory), FONIO_OK);
  for (int i = 0; i < 2; i++) {
    file_image image = some_png();
    memcpy(image.data + 16, sizes[i], 8);
    uLong crc = crc32(0, image.data + 12, 17);
    for (int k = 0; k < 4; k++)
      image.data[29 + k] = (unsigned char)(crc >> (24 - 8 * k));
    assert_fails(fonio_picture_decode(image.data, image.bytes, FONIO_UINT8, 0), FONIO_IO_ERROR, words[i]);
    free(image.data);
  }
  file_image image = some_jpeg(false);
  for (size_t i = 0; i + 8 < image.bytes; i++)
    if (image.data[i] == 0xff && image.data[i + 1] == 0xc0) memset(image.data + i + 5, 0xfd, 4);
  assert_fails(fonio_picture_decode(image.data, image.bytes, FONIO_UINT8, 0), FONIO_IO_ERROR, "too large");
  free(image.data);
  assert_in_range(largest_allocation, 1, 1 << 20);
  assert_int_equal(fonio_set_allocator(NULL), FONIO_OK);
}

/* ---- No memory ---- */

static void tells_when_memory_ends(void **state) {
  (void)state;
  file_image images[] = {some_png(), some_jpeg(false)};
  assert_int_equal(fonio_set_allocator(&some_memory), FONIO_OK);
  for (int i = 0; i < 2; i++) {
    fonio_tensor *tensor = NULL;
    int failures = 0;
    for (int count = 0; !tensor; count++) {
      allocations_left = count;
      tensor = fonio_picture_decode(images[i].data, images[i].bytes, FONIO_UINT8, 0);
      if (tensor) break;
      assert_int_equal(fonio_last_status(), FONIO_NO_MEMORY);
      assert_int_equal(fonio_live_allocations(), 0);
      failures++;
    }
    assert_true(failures >= 2);
    fonio_tensor_release(tensor);
    free(images[i].data);
  }
  assert_int_equal(fonio_set_allocator(NULL), FONIO_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_every_kind_of_png),
      cmocka_unit_test(expands_small_depths_and_palettes),
      cmocka_unit_test(makes_the_channels_that_are_asked_for),
      cmocka_unit_test(reads_every_kind_of_jpeg),
      cmocka_unit_test(turns_cmyk_into_rgb),
      cmocka_unit_test(refuses_every_truncation),
      cmocka_unit_test(survives_every_flipped_bit),
      cmocka_unit_test(refuses_other_data_and_arguments),
      cmocka_unit_test(refuses_sizes_that_cannot_be),
      cmocka_unit_test(tells_when_memory_ends),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
