/* PNG through libpng. Its errors come back by longjmp: no function that calls setjmp changes a local variable
 * afterwards, and whatever has to be freed hangs on `png_session`. */
#include <png.h>
#include <setjmp.h>
#include <string.h>

#include "picture.h"

#define PNG_SIGNATURE_BYTES 8

bool png_recognise(const unsigned char *head, size_t bytes) {
  return bytes >= PNG_SIGNATURE_BYTES && png_sig_cmp(head, 0, PNG_SIGNATURE_BYTES) == 0;
}

/* One picture on its way in or out. */
typedef struct png_session {
  png_structp png;
  png_infop info;
  const char *name;             /* for messages: the picture's ... */
  const char *fault;            /* ... and what is wrong with it */
  bool noted;                   /* a failure of memory or of the file, whose message is there already */
  const picture_source *source; /* reading: from here */
  size_t position;
  file_writer *file; /* writing: to here */
  jmp_buf on_error;
} png_session;

/* ---- What libpng calls ---- */

static void raise_error(png_structp png, png_const_charp message) {
  png_session *session = png_get_error_ptr(png);
  if (!session->noted) fonio_fail(FONIO_IO_ERROR, "%s %s: %s", session->name, session->fault, message);
  longjmp(session->on_error, 1);
}

static void ignore_warning(png_structp png, png_const_charp message) {
  (void)png;
  (void)message;
}

static png_voidp take_memory(png_structp png, png_alloc_size_t bytes) {
  png_session *session = png_get_mem_ptr(png);
  void *pointer = fonio_memory_take(bytes);
  session->noted |= !pointer;
  return pointer;
}

static void give_memory(png_structp png, png_voidp pointer) {
  (void)png;
  fonio_memory_give(pointer);
}

static void read_bytes(png_structp png, png_bytep into, size_t bytes) {
  png_session *session = png_get_io_ptr(png);
  if (bytes > session->source->bytes - session->position) png_error(png, "the data ends too early");
  memcpy(into, session->source->data + session->position, bytes);
  session->position += bytes;
}

static void write_bytes(png_structp png, png_bytep data, size_t bytes) {
  png_session *session = png_get_io_ptr(png);
  if (file_writer_write(session->file, data, bytes)) return;
  session->noted = true;
  png_error(png, "the file cannot be written");
}

static void flush_nothing(png_structp png) {
  (void)png;
}

static fonio_status fail_to_start(void) {
  return fonio_fail(FONIO_NO_MEMORY, "libpng cannot start: not enough memory, or not the version it was built with");
}

/* ---- Reading ---- */

static fonio_status read_header(png_session *session, picture *decoded) {
  if (setjmp(session->on_error)) return fonio_last_status();
  png_structp png = session->png;
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* picture_check_size has a limit of its own */
  png_set_read_fn(png, session, read_bytes);
  png_read_info(png, session->info);
  decoded->width = png_get_image_width(png, session->info);
  decoded->height = png_get_image_height(png, session->info);
  return FONIO_OK;
}

/* Asks libpng for whole samples of 8 or 16 bits, without palettes and with transparency as alpha. It takes memory for
 * two rows here. */
static fonio_status set_transformations(png_session *session, bool deep, picture *decoded) {
  if (setjmp(session->on_error)) return fonio_last_status();
  png_structp png = session->png;
  png_set_expand(png);
  if (!deep) png_set_scale_16(png);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  png_set_swap(png);
#endif
  png_set_interlace_handling(png);
  png_read_update_info(png, session->info);
  decoded->channels = png_get_channels(png, session->info);
  decoded->sample_bytes = png_get_bit_depth(png, session->info) / 8;
  return FONIO_OK;
}

/* An interlaced picture comes in seven passes over its rows, each of which fills in more pixels. */
static fonio_status read_rows(png_session *session, const picture *decoded) {
  if (setjmp(session->on_error)) return fonio_last_status();
  size_t row_bytes = png_get_rowbytes(session->png, session->info);
  int passes = png_get_interlace_type(session->png, session->info) == PNG_INTERLACE_ADAM7 ? 7 : 1;
  for (int pass = 0; pass < passes; pass++)
    for (int64_t row = 0; row < decoded->height; row++)
      png_read_row(session->png, (png_bytep)decoded->samples + (size_t)row * row_bytes, NULL);
  png_read_end(session->png, NULL);
  return FONIO_OK;
}

/* Deflate makes at most 1032 bytes of one, and a byte holds at most 8 pixels of 1 bit. */
#define MOST_PIXELS_PER_BYTE (1032 * 8)

static fonio_status read_all(png_session *session, bool deep, picture *decoded) {
  fonio_status status = read_header(session, decoded);
  if (!status) status = picture_check_size(session->source, MOST_PIXELS_PER_BYTE, decoded);
  if (!status) status = set_transformations(session, deep, decoded);
  if (!status) status = picture_take_samples(decoded);
  if (!status) status = read_rows(session, decoded);
  return status;
}

fonio_status png_decode(const picture_source *source, bool deep, picture *into) {
  png_session session = {.source = source, .name = source->name, .fault = "is a damaged PNG"};
  picture decoded = {0};
  session.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &session, raise_error, ignore_warning, &session,
                                         take_memory, give_memory);
  session.info = session.png ? png_create_info_struct(session.png) : NULL;
  fonio_status status = session.info ? read_all(&session, deep, &decoded) : fail_to_start();
  png_destroy_read_struct(&session.png, &session.info, NULL);
  if (status)
    fonio_memory_give(decoded.samples);
  else
    *into = decoded;
  return status;
}

/* ---- Writing ---- */

static fonio_status write_all(png_session *session, const picture *from) {
  static const int colour_type[] = {0, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                                    PNG_COLOR_TYPE_RGB_ALPHA};
  if (setjmp(session->on_error)) return fonio_last_status();
  png_structp png = session->png;
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_write_fn(png, session, write_bytes, flush_nothing);
  png_set_IHDR(png, session->info, (png_uint_32)from->width, (png_uint_32)from->height, 8, colour_type[from->channels],
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, session->info);
  for (int64_t row = 0; row < from->height; row++)
    png_write_row(png, (png_const_bytep)from->samples + row * from->width * from->channels);
  png_write_end(png, NULL);
  return FONIO_OK;
}

fonio_status png_encode(const picture *from, file_writer *into) {
  png_session session = {.file = into, .name = into->target, .fault = "cannot be written as a PNG"};
  session.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &session, raise_error, ignore_warning, &session,
                                          take_memory, give_memory);
  session.info = session.png ? png_create_info_struct(session.png) : NULL;
  fonio_status status = session.info ? write_all(&session, from) : fail_to_start();
  png_destroy_write_struct(&session.png, &session.info);
  return status;
}
