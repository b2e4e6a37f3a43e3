#include <fonio/autograd.h>

#include "picture.h"

/* The nearest of 256 steps. NaN, of which no comparison holds, becomes 0. */
static uint8_t step_of(float value) {
  if (value >= 1) return 255;
  return value > 0 ? (uint8_t)(value * 255 + 0.5f) : 0;
}

/* The sizes and strides of (channels, height, width), where a tensor without the first dimension has one channel. */
static fonio_status read_shape(const fonio_tensor *tensor, picture *into) {
  int ndim = fonio_tensor_ndim(tensor);
  const int64_t *shape = fonio_tensor_shape(tensor);
  if (ndim == 2 || ndim == 3) {
    into->channels = ndim == 2 ? 1 : shape[0] >= 1 && shape[0] <= 4 ? (int)shape[0] : 0;
    into->height = shape[ndim - 2];
    into->width = shape[ndim - 1];
    into->sample_bytes = 1;
    if (into->channels && into->height > 0 && into->height <= INT32_MAX && into->width > 0 && into->width <= INT32_MAX)
      return FONIO_OK;
  }
  return fonio_fail(FONIO_VALUE_ERROR,
                    "a picture has the shape (channels, height, width) with 1 to 4 channels, or (height, width)");
}

/* A contiguous copy, as uint8 or float32. */
static fonio_tensor *copy_plain(const fonio_tensor *tensor) {
  fonio_dtype dtype = fonio_tensor_dtype(tensor);
  if (dtype != FONIO_UINT8 && !fonio_dtype_is_floating_point(dtype)) {
    fonio_fail(FONIO_TYPE_ERROR, "a picture is written from uint8 or a floating-point dtype, not from %s",
               fonio_dtype_name(dtype));
    return NULL;
  }
  fonio_tensor *copy = fonio_tensor_empty(dtype == FONIO_UINT8 ? FONIO_UINT8 : FONIO_FLOAT32, fonio_tensor_ndim(tensor),
                                          fonio_tensor_shape(tensor));
  bool before = fonio_set_grad_enabled(false);
  fonio_status status = fonio_tensor_copy(copy, tensor);
  fonio_set_grad_enabled(before);
  if (!status) return copy;
  fonio_tensor_release(copy);
  return NULL;
}

static void interleave(const fonio_tensor *plain, picture *into) {
  const void *values = fonio_tensor_const_data(plain);
  bool is_uint8 = fonio_tensor_dtype(plain) == FONIO_UINT8;
  int64_t pixels = into->width * into->height, index = 0;
  for (int channel = 0; channel < into->channels; channel++) {
    uint8_t *sample = (uint8_t *)into->samples + channel;
    for (int64_t pixel = 0; pixel < pixels; pixel++, index++, sample += into->channels)
      *sample = is_uint8 ? ((const uint8_t *)values)[index] : step_of(((const float *)values)[index]);
  }
}

static fonio_status from_tensor(const fonio_tensor *tensor, picture *into) {
  fonio_status status = read_shape(tensor, into);
  if (status) return status;
  fonio_tensor *plain = copy_plain(tensor);
  if (!plain) return fonio_last_status();
  into->samples = fonio_memory_take((size_t)fonio_tensor_numel(plain));
  if (into->samples) interleave(plain, into);
  fonio_tensor_release(plain);
  return into->samples ? FONIO_OK : fonio_last_status();
}

static fonio_status write_file(const char *path, const picture *from) {
  file_writer writer;
  fonio_status status = file_writer_begin(&writer, path);
  if (status) return status;
  status = png_encode(from, &writer);
  if (!status) return file_writer_finish(&writer);
  file_writer_abandon(&writer);
  return status;
}

fonio_status fonio_picture_write_png(const char *path, const fonio_tensor *tensor) {
  if (!path || !tensor) return fonio_fail_given_null("fonio_picture_write_png");
  picture from;
  fonio_status status = from_tensor(tensor, &from);
  if (status) return status;
  status = write_file(path, &from);
  fonio_memory_give(from.samples);
  return status;
}
