#include "tensor/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "tensor/layout.h"
#include "tensor/storage.h"

/* ---- Sizes ---- */

/* As torch checks each direction while it works out the result's size. */
static fonio_status check_padding(const pool_window *w, int i) {
  if (w->stride[i] == 0) return fail(FONIO_RUNTIME_ERROR, "stride should not be zero");
  if (w->padding[i] < 0)
    return fail(FONIO_RUNTIME_ERROR, "pad must be non-negative, but got pad: %lld", (long long)w->padding[i]);
  if (w->padding[i] > ((w->kernel[i] - 1) * w->dilation[i] + 1) / 2)
    return fail(FONIO_RUNTIME_ERROR,
                "pad should be at most half of effective kernel size, but got pad=%lld, kernel_size=%lld and "
                "dilation=%lld",
                (long long)w->padding[i], (long long)w->kernel[i], (long long)w->dilation[i]);
  return FONIO_OK;
}

static fonio_status check_window(const pool_window *w) {
  const int64_t *k = w->kernel, *s = w->stride, *d = w->dilation;
  if (k[0] <= 0 || k[1] <= 0)
    return fail(FONIO_RUNTIME_ERROR, "kernel size should be greater than zero, but got kH: %lld kW: %lld",
                (long long)k[0], (long long)k[1]);
  if (s[0] < 0 || s[1] < 0)
    return fail(FONIO_RUNTIME_ERROR, "stride should be greater than zero, but got dH: %lld dW: %lld", (long long)s[0],
                (long long)s[1]);
  if (d[0] <= 0 || d[1] <= 0)
    return fail(FONIO_RUNTIME_ERROR, "dilation should be greater than zero, but got dilationH: %lld dilationW: %lld",
                (long long)d[0], (long long)d[1]);
  return FONIO_OK;
}

/* The numbers must stay far from what int64_t holds: torch keeps them in an int. */
static fonio_status check_range(const pool_window *w) {
  for (int i = 0; i < 2; i++)
    if (llabs(w->kernel[i]) > INT32_MAX || llabs(w->stride[i]) > INT32_MAX || llabs(w->padding[i]) > INT32_MAX ||
        llabs(w->dilation[i]) > INT32_MAX)
      return fail(FONIO_RUNTIME_ERROR, "integer out of range");
  return FONIO_OK;
}

static fonio_status check_ndim(const fonio_tensor *image) {
  if (image->ndim == 3 || image->ndim == 4) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR, "non-empty 3D or 4D (batch mode) tensor expected for input");
}

static fonio_status check_image(const fonio_tensor *image) {
  for (int i = image->ndim == 4 ? 1 : 0; i < image->ndim; i++)
    if (image->shape[i] == 0)
      return fail(FONIO_RUNTIME_ERROR,
                  "Expected 3D or 4D (batch mode) tensor with optional 0 dim batch size for input, but got:%s",
                  shape_to_text(image->ndim, image->shape).text);
  if (image->dtype == FONIO_FLOAT32 || image->dtype == FONIO_FLOAT64) return FONIO_OK;
  return fail(FONIO_NOT_IMPLEMENTED, "\"pool2d\" not implemented for '%s'", fonio_dtype_scalar_name(image->dtype));
}

static int64_t floor_divide(int64_t a, int64_t b) {
  return a / b - (a % b < 0);
}

static int64_t out_size(const pool_window *w, int i, bool ceil_mode) {
  int64_t reach = w->in[i] + 2 * w->padding[i] - w->dilation[i] * (w->kernel[i] - 1) - 1;
  int64_t size = floor_divide(reach + (ceil_mode ? w->stride[i] - 1 : 0), w->stride[i]) + 1;
  /* The last window starts inside of the image or of the padding before it. */
  bool outside = ceil_mode && (size - 1) * w->stride[i] >= w->in[i] + w->padding[i];
  return outside ? size - 1 : size;
}

fonio_status pool_resolve(pool_window *w, const fonio_tensor *image, bool ceil_mode) {
  fonio_status status = check_ndim(image);
  if (!status) status = check_range(w);
  for (int i = 0; !status && i < 2; i++)
    status = check_padding(w, i);
  if (!status) status = check_window(w);
  if (!status) status = check_image(image);
  if (status) return status;
  for (int i = 0; i < 2; i++) {
    w->in[i] = image->shape[image->ndim - 2 + i];
    w->out[i] = out_size(w, i, ceil_mode);
  }
  if (w->kernel[0] / 2 < w->padding[0] || w->kernel[1] / 2 < w->padding[1])
    return fail(FONIO_RUNTIME_ERROR,
                "pad should be smaller than or equal to half of kernel size, but got padW = %lld, padH = %lld, kW = "
                "%lld, kH = %lld",
                (long long)w->padding[1], (long long)w->padding[0], (long long)w->kernel[1], (long long)w->kernel[0]);
  long long channels = image->shape[image->ndim - 3];
  if (w->out[0] >= 1 && w->out[1] >= 1) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR,
              "Given input size: (%lldx%lldx%lld). Calculated output size: (%lldx%lldx%lld). Output size is too small",
              channels, (long long)w->in[0], (long long)w->in[1], channels, (long long)w->out[0], (long long)w->out[1]);
}

/* ---- One plane ---- */

typedef struct pool_span {
  int64_t first, end;
} pool_span;

/* The part of a window that begins at `first` which lies in the image. */
static pool_span span_of(const pool_window *w, int i, int64_t first) {
  pool_span span = {first, first + (w->kernel[i] - 1) * w->dilation[i] + 1};
  if (span.end > w->in[i]) span.end = w->in[i];
  if (first < 0) span.first += (w->dilation[i] - 1 - first) / w->dilation[i] * w->dilation[i];
  return span;
}

/* What the sum over a window is divided by. */
static int64_t count_of(const pool_window *w, const int64_t first[2], pool_span rows, pool_span columns) {
  int64_t sizes[2];
  if (w->divisor) return w->divisor;
  if (!w->count_include_pad) return (rows.end - rows.first) * (columns.end - columns.first);
  for (int i = 0; i < 2; i++) {
    int64_t left = w->in[i] + w->padding[i] - first[i];
    sizes[i] = w->kernel[i] < left ? w->kernel[i] : left;
  }
  return sizes[0] * sizes[1];
}

/* The windows of a row that lie in the image from left to right. */
static pool_span inner_of(const pool_window *w) {
  int64_t before = w->padding[1], last = w->in[1] + before - (w->kernel[1] - 1) * w->dilation[1] - 1;
  pool_span inner = {(before + w->stride[1] - 1) / w->stride[1], last < 0 ? 0 : last / w->stride[1] + 1};
  if (inner.end > w->out[1]) inner.end = w->out[1];
  return inner;
}

#define REAL float
#define PLACE int32_t
#define SPREAD(from, s)                                                                                                \
  { (from)[0], (from)[s], (from)[2 * (s)], (from)[3 * (s)] }
#define NAMED(name) name##_f32
#include "tensor/pool.inc"
#undef REAL
#undef PLACE
#undef SPREAD
#undef NAMED

#define REAL double
#define PLACE int64_t
#define SPREAD(from, s)                                                                                                \
  { (from)[0], (from)[s] }
#define NAMED(name) name##_f64
#include "tensor/pool.inc"

/* ---- All planes ---- */

/* Where a plane of a tensor (C, H, W) or (N, C, H, W) begins, and its strides. */
typedef struct plane {
  void *data;
  int64_t strides[2];
} plane;

static plane plane_of(const fonio_tensor *tensor, int64_t number) {
  int first = tensor->ndim - 3;
  int64_t channels = tensor->shape[first], offset = number % channels * tensor->strides[first];
  if (first > 0) offset += number / channels * tensor->strides[0];
  char *data = tensor_at_offset(tensor);
  return (plane){data + offset * (int64_t)fonio_dtype_bytes(tensor->dtype),
                 {tensor->strides[first + 1], tensor->strides[first + 2]}};
}

static int64_t planes_of(const fonio_tensor *tensor) {
  int first = tensor->ndim - 3;
  return tensor->shape[first] * (first > 0 ? tensor->shape[0] : 1);
}

/* A tensor for the planes of `like` in another size: channels_last where those read so. */
static fonio_tensor *empty_planes(const fonio_tensor *like, fonio_dtype dtype, const int64_t size[2]) {
  int64_t shape[4];
  memcpy(shape, like->shape, (size_t)like->ndim * sizeof *shape);
  shape[like->ndim - 2] = size[0];
  shape[like->ndim - 1] = size[1];
  bool last = like->ndim == 4 && shape_suggests_channels_last(like->shape, like->strides);
  return last ? fonio_tensor_empty_channels_last(dtype, shape) : fonio_tensor_empty(dtype, like->ndim, shape);
}

fonio_status pool_max(const pool_window *window, const fonio_tensor *image, fonio_tensor **values,
                      fonio_tensor **places) {
  bool f32 = image->dtype == FONIO_FLOAT32;
  *places = NULL;
  if (f32 && window->in[0] > INT32_MAX / window->in[1])
    return fail(FONIO_NOT_IMPLEMENTED, "max_pool2d of more than 2^31 - 1 pixels is not implemented");
  *values = empty_planes(image, image->dtype, window->out);
  if (*values) *places = empty_planes(image, f32 ? FONIO_INT32 : FONIO_INT64, window->out);
  if (!*places) {
    fonio_tensor_release(*values);
    return fonio_last_status();
  }
  for (int64_t i = 0; i < planes_of(image); i++) {
    plane from = plane_of(image, i), to = plane_of(*values, i), at = plane_of(*places, i);
    if (f32)
      max_plane_f32(window, from.data, from.strides, to.data, at.data, to.strides);
    else
      max_plane_f64(window, from.data, from.strides, to.data, at.data, to.strides);
  }
  return FONIO_OK;
}

fonio_tensor *pool_mean(const pool_window *window, const fonio_tensor *image) {
  fonio_tensor *values = empty_planes(image, image->dtype, window->out);
  for (int64_t i = 0; values && i < planes_of(image); i++) {
    plane from = plane_of(image, i), to = plane_of(values, i);
    if (image->dtype == FONIO_FLOAT32)
      mean_plane_f32(window, from.data, from.strides, to.data, to.strides);
    else
      mean_plane_f64(window, from.data, from.strides, to.data, to.strides);
  }
  return values;
}

/* Zeros of that shape, in the layout that the planes of `like` suggest. */
static fonio_tensor *zero_planes(const fonio_tensor *like, const int64_t *shape) {
  fonio_tensor *image = empty_planes(like, like->dtype, shape + like->ndim - 2);
  if (image && image->storage->bytes > 0) memset(image->storage->data, 0, (size_t)image->storage->bytes);
  return image;
}

fonio_tensor *pool_spread(const pool_window *window, const fonio_tensor *values, const int64_t *shape) {
  fonio_tensor *image = zero_planes(values, shape);
  for (int64_t i = 0; image && i < planes_of(image); i++) {
    plane from = plane_of(values, i), to = plane_of(image, i);
    if (image->dtype == FONIO_FLOAT32)
      spread_plane_f32(window, to.data, to.strides, from.data, from.strides);
    else
      spread_plane_f64(window, to.data, to.strides, from.data, from.strides);
  }
  return image;
}

fonio_tensor *pool_gather(const fonio_tensor *image, const fonio_tensor *places) {
  const int64_t *size = places->shape + places->ndim - 2;
  int64_t width = image->shape[image->ndim - 1];
  fonio_tensor *values = empty_planes(places, image->dtype, size);
  for (int64_t i = 0; values && i < planes_of(image); i++) {
    plane from = plane_of(image, i), at = plane_of(places, i), to = plane_of(values, i);
    if (image->dtype == FONIO_FLOAT32)
      gather_plane_f32(from.data, from.strides, width, to.data, to.strides, at.data, size, at.strides);
    else
      gather_plane_f64(from.data, from.strides, width, to.data, to.strides, at.data, size, at.strides);
  }
  return values;
}

fonio_tensor *pool_scatter(const fonio_tensor *values, const fonio_tensor *places, const int64_t *shape) {
  const int64_t *size = places->shape + places->ndim - 2;
  int64_t width = shape[places->ndim - 1];
  fonio_tensor *image = zero_planes(values, shape);
  for (int64_t i = 0; image && i < planes_of(image); i++) {
    plane from = plane_of(values, i), at = plane_of(places, i), to = plane_of(image, i);
    if (image->dtype == FONIO_FLOAT32)
      scatter_plane_f32(to.data, to.strides, width, from.data, from.strides, at.data, size, at.strides);
    else
      scatter_plane_f64(to.data, to.strides, width, from.data, from.strides, at.data, size, at.strides);
  }
  return image;
}
