#include "picture.h"

#include <stdint.h>

fonio_status picture_check_size(const picture_source *source, int64_t most_pixels_per_byte, const picture *claimed) {
  if (claimed->width > FONIO_PICTURE_MAX_PIXELS / claimed->height)
    return fonio_fail(FONIO_IO_ERROR, "%s is too large: %lld x %lld pixels", source->name, (long long)claimed->width,
                      (long long)claimed->height);
  int64_t pixels = claimed->width * claimed->height;
  if ((uint64_t)(pixels / most_pixels_per_byte) > source->bytes)
    return fonio_fail(FONIO_IO_ERROR, "%s is cut short or damaged: %lld x %lld pixels cannot be in %zu bytes",
                      source->name, (long long)claimed->width, (long long)claimed->height, source->bytes);
  return FONIO_OK;
}

fonio_status picture_take_samples(picture *into) {
  into->samples =
      fonio_memory_take((size_t)into->width * (size_t)into->height * (size_t)(into->channels * into->sample_bytes));
  return into->samples ? FONIO_OK : fonio_last_status();
}

/* ---- From samples to a tensor ---- */

static unsigned sample_at(const picture *from, int64_t index) {
  return from->sample_bytes == 1 ? ((const uint8_t *)from->samples)[index] : ((const uint16_t *)from->samples)[index];
}

/* One channel of one pixel: `channel` of a picture of `channels`, made from a picture that may have others. */
static unsigned pixel_channel(const picture *from, int64_t pixel, int channels, int channel) {
  int64_t first = pixel * from->channels;
  bool has_colour = from->channels >= 3, has_alpha = from->channels % 2 == 0;
  if (channels % 2 == 0 && channel == channels - 1) {
    unsigned opaque = from->sample_bytes == 1 ? 255 : 65535;
    return has_alpha ? sample_at(from, first + from->channels - 1) : opaque;
  }
  if (!has_colour) return sample_at(from, first);
  if (channels >= 3) return sample_at(from, first + channel);
  /* 0.299, 0.587 and 0.114 in 1/65536, rounded: the luma of ITU-R BT.601, with the integers that Pillow has. */
  return (19595 * sample_at(from, first) + 38470 * sample_at(from, first + 1) + 7471 * sample_at(from, first + 2) +
          32768) >>
         16;
}

static void fill_uint8(const picture *from, int channels, uint8_t *values) {
  int64_t pixels = from->width * from->height;
  for (int channel = 0; channel < channels; channel++)
    for (int64_t pixel = 0; pixel < pixels; pixel++)
      *values++ = (uint8_t)pixel_channel(from, pixel, channels, channel);
}

static void fill_float32(const picture *from, int channels, float *values) {
  int64_t pixels = from->width * from->height;
  float one = from->sample_bytes == 1 ? 255.0f : 65535.0f;
  for (int channel = 0; channel < channels; channel++)
    for (int64_t pixel = 0; pixel < pixels; pixel++)
      *values++ = (float)pixel_channel(from, pixel, channels, channel) / one;
}

static fonio_tensor *to_tensor(const picture *from, fonio_dtype dtype, int channels) {
  if (channels == 0) channels = from->channels;
  fonio_tensor *tensor = fonio_tensor_empty(dtype, FONIO_SHAPE(channels, from->height, from->width));
  if (!tensor) return NULL;
  if (dtype == FONIO_UINT8)
    fill_uint8(from, channels, fonio_tensor_data(tensor));
  else
    fill_float32(from, channels, fonio_tensor_data(tensor));
  return tensor;
}

/* ---- Reading ---- */

static fonio_status check_arguments(fonio_dtype dtype, int channels) {
  if (dtype != FONIO_UINT8 && dtype != FONIO_FLOAT32)
    return fonio_fail(FONIO_VALUE_ERROR, "a picture is read as uint8 or float32, not as %s", fonio_dtype_name(dtype));
  if (channels < 0 || channels > 4)
    return fonio_fail(FONIO_VALUE_ERROR, "a picture has 1 to 4 channels, or 0 for those it has; got %d", channels);
  return FONIO_OK;
}

static fonio_status fail_no_picture(const char *name) {
  return fonio_fail(FONIO_IO_ERROR, "%s is neither a PNG nor a JPEG picture", name);
}

static fonio_tensor *decode(const picture_source *source, fonio_dtype dtype, int channels) {
  picture decoded;
  fonio_status status;
  if (png_recognise(source->data, source->bytes))
    status = png_decode(source, dtype != FONIO_UINT8, &decoded);
  else if (jpeg_recognise(source->data, source->bytes))
    status = jpeg_decode(source, &decoded);
  else
    status = fail_no_picture(source->name);
  if (status) return NULL;
  fonio_tensor *tensor = to_tensor(&decoded, dtype, channels);
  fonio_memory_give(decoded.samples);
  return tensor;
}

fonio_tensor *fonio_picture_decode(const void *data, size_t bytes, fonio_dtype dtype, int channels) {
  if (check_arguments(dtype, channels)) return NULL;
  if (!data) return fonio_fail_given_null("fonio_picture_decode"), NULL;
  return decode(&(picture_source){"the data", data, bytes}, dtype, channels);
}

static fonio_status check_head(const char *path, const unsigned char *head, size_t bytes) {
  if (png_recognise(head, bytes) || jpeg_recognise(head, bytes)) return FONIO_OK;
  char name[PATH_MAX + 2];
  snprintf(name, sizeof name, "'%s'", path);
  return fail_no_picture(name);
}

fonio_tensor *fonio_picture_read(const char *path, fonio_dtype dtype, int channels) {
  file_bytes file;
  if (!path) return fonio_fail_given_null("fonio_picture_read"), NULL;
  if (check_arguments(dtype, channels) || file_read(path, check_head, &file)) return NULL;
  char name[PATH_MAX + 2];
  snprintf(name, sizeof name, "'%s'", path);
  fonio_tensor *tensor = decode(&(picture_source){name, file.data, file.bytes}, dtype, channels);
  fonio_memory_give(file.data);
  return tensor;
}
