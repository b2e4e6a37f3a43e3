/* JPEG through libjpeg-turbo. Its errors come back by longjmp: what has to be freed hangs on `jpeg_reader`, and no
 * function that calls setjmp changes a local variable afterwards. */
#include <setjmp.h>
#include <stdio.h>

#include <jerror.h>
#include <jpeglib.h>

#include "picture.h"

typedef struct jpeg_reader {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  struct jpeg_progress_mgr progress;
  const picture_source *source;
  picture decoded;
  jmp_buf on_error;
} jpeg_reader;

bool jpeg_recognise(const unsigned char *head, size_t bytes) {
  return bytes >= 3 && head[0] == 0xff && head[1] == 0xd8 && head[2] == 0xff;
}

static void raise_error(j_common_ptr jpeg) {
  jpeg_reader *reader = jpeg->client_data;
  char message[JMSG_LENGTH_MAX];
  jpeg->err->format_message(jpeg, message);
  if (jpeg->err->msg_code == JERR_OUT_OF_MEMORY)
    fonio_fail(FONIO_NO_MEMORY, "not enough memory to decode %s", reader->source->name);
  else
    fonio_fail(FONIO_IO_ERROR, "%s is a damaged JPEG: %s", reader->source->name, message);
  longjmp(reader->on_error, 1);
}

/* libjpeg goes on after warnings, with grey where pixels are lost: here they are errors, but for those that lose
 * nothing. */
static void raise_warning(j_common_ptr jpeg, int level) {
  int code = jpeg->err->msg_code;
  if (level < 0 && code != JWRN_EXTRANEOUS_DATA && code != JWRN_ADOBE_XFORM && code != JWRN_JFIF_MAJOR)
    raise_error(jpeg);
}

/* A progressive picture may hold any number of scans, each of which costs a pass over all of it. */
#define MOST_SCANS 500

static void watch_scans(j_common_ptr jpeg) {
  jpeg_reader *reader = jpeg->client_data;
  if (reader->jpeg.input_scan_number <= MOST_SCANS) return;
  fonio_fail(FONIO_IO_ERROR, "%s is a JPEG of more than %d scans", reader->source->name, MOST_SCANS);
  longjmp(reader->on_error, 1);
}

static fonio_status start(jpeg_reader *reader) {
  struct jpeg_decompress_struct *jpeg = &reader->jpeg;
  if (setjmp(reader->on_error)) return fonio_last_status();
  jpeg_create_decompress(jpeg);
  jpeg->client_data = reader;
  jpeg->progress = &reader->progress;
  jpeg_mem_src(jpeg, reader->source->data, reader->source->bytes);
  jpeg_read_header(jpeg, TRUE);
  bool grey = jpeg->jpeg_color_space == JCS_GRAYSCALE, cmyk = jpeg->num_components == 4;
  jpeg->out_color_space = grey ? JCS_GRAYSCALE : cmyk ? JCS_CMYK : JCS_RGB;
  jpeg->dct_method = JDCT_ISLOW;
  jpeg_calc_output_dimensions(jpeg);
  reader->decoded.width = jpeg->output_width;
  reader->decoded.height = jpeg->output_height;
  reader->decoded.channels = jpeg->out_color_components;
  reader->decoded.sample_bytes = 1;
  return FONIO_OK;
}

static fonio_status read_rows(jpeg_reader *reader) {
  struct jpeg_decompress_struct *jpeg = &reader->jpeg;
  if (setjmp(reader->on_error)) return fonio_last_status();
  size_t row_samples = (size_t)reader->decoded.width * (size_t)reader->decoded.channels;
  jpeg_start_decompress(jpeg);
  while (jpeg->output_scanline < jpeg->output_height) {
    JSAMPROW row = (JSAMPROW)reader->decoded.samples + jpeg->output_scanline * row_samples;
    jpeg_read_scanlines(jpeg, &row, 1);
  }
  jpeg_finish_decompress(jpeg);
  return FONIO_OK;
}

/* CMYK to RGB, in place: the light that ink of three colours and black let through. Files with Adobe's marker hold the
 * light, others the ink. */
static void cmyk_to_rgb(picture *decoded, bool holds_light) {
  unsigned char *from = decoded->samples, *into = decoded->samples;
  for (int64_t pixel = 0; pixel < decoded->width * decoded->height; pixel++, from += 4) {
    unsigned black = holds_light ? from[3] : 255u - from[3];
    for (int channel = 0; channel < 3; channel++) {
      unsigned light = holds_light ? from[channel] : 255u - from[channel];
      *into++ = (unsigned char)((light * black + 127) / 255);
    }
  }
  decoded->channels = 3;
}

/* Each 8 x 8 block of the finest component takes a bit at least, and that component has a quarter of the pixels at the
 * least (4 x 1 beside 1 x 4 sampling). Arithmetic coding has no such bound. */
#define MOST_PIXELS_PER_BYTE (8 * 64 * 4)

static fonio_status read_all(jpeg_reader *reader) {
  fonio_status status = start(reader);
  if (status) return status;
  int64_t most = reader->jpeg.arith_code ? FONIO_PICTURE_MAX_PIXELS : MOST_PIXELS_PER_BYTE;
  status = picture_check_size(reader->source, most, &reader->decoded);
  if (!status) status = picture_take_samples(&reader->decoded);
  if (!status) status = read_rows(reader);
  if (!status && reader->decoded.channels == 4) cmyk_to_rgb(&reader->decoded, reader->jpeg.saw_Adobe_marker);
  return status;
}

fonio_status jpeg_decode(const picture_source *source, picture *into) {
  jpeg_reader reader = {.source = source, .progress = {.progress_monitor = watch_scans}};
  reader.jpeg.err = jpeg_std_error(&reader.errors);
  reader.jpeg.client_data = &reader;
  reader.errors.error_exit = raise_error;
  reader.errors.emit_message = raise_warning;
  fonio_status status = read_all(&reader);
  jpeg_destroy_decompress(&reader.jpeg);
  if (status)
    fonio_memory_give(reader.decoded.samples);
  else
    *into = reader.decoded;
  return status;
}
