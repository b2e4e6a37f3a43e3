/* torch's rules for the text of a tensor, and the one function that prints. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/number.h"
#include "tensor/print_format.h"
#include "tensor/tensor.h"

static const char opening[] = "tensor(";
#define INDENT ((int64_t)sizeof opening - 1)

/* A tensor on its way to text. */
typedef struct tensor_printer {
  text_buffer text;
  const fonio_tensor *tensor;
  fonio_printoptions options;
  bool summary;
  int parts;              /* numbers in an element: 2 when complex */
  print_format format[2]; /* of each part */
} tensor_printer;

static tensor_printer printer_of(const fonio_tensor *tensor) {
  tensor_printer printer = {.tensor = tensor, .options = fonio_get_printoptions(), .parts = 1};
  printer.summary = (double)tensor->numel > printer.options.threshold;
  if (fonio_dtype_is_complex(tensor->dtype)) printer.parts = 2;
  for (int part = 0; part < printer.parts; part++)
    printer.format[part] = print_format_start(number_dtype(tensor->dtype), (int)printer.options.precision);
  return printer;
}

/* ---- What is shown of a dimension ---- */

static bool leaves_out(const tensor_printer *printer, int dim) {
  int64_t edge = printer->options.edgeitems;
  return printer->summary && printer->tensor->shape[dim] - edge > edge;
}

static bool shows_nothing(const tensor_printer *printer) {
  return printer->summary && printer->options.edgeitems == 0;
}

/* The index after `index`: one further, or over the gap of a summary. */
static int64_t next_shown(const tensor_printer *printer, int dim, int64_t index) {
  bool at_gap = leaves_out(printer, dim) && index + 1 == printer->options.edgeitems;
  return at_gap ? printer->tensor->shape[dim] - printer->options.edgeitems : index + 1;
}

static const char *step_along(const tensor_printer *printer, int dim, const char *element, int64_t index) {
  const fonio_tensor *tensor = printer->tensor;
  return element + index * tensor->strides[dim] * (int64_t)fonio_dtype_bytes(tensor->dtype);
}

/* ---- The format ---- */

/* Calls `visit` for each shown number from dimension `dim` on. */
static void visit_shown(tensor_printer *printer, int dim, const char *element,
                        void visit(print_format *format, const void *number)) {
  if (dim == printer->tensor->ndim) {
    size_t bytes = fonio_dtype_bytes(printer->format[0].dtype);
    for (int part = 0; part < printer->parts; part++)
      visit(&printer->format[part], element + (size_t)part * bytes);
    return;
  }
  if (shows_nothing(printer)) return;
  for (int64_t i = 0; i < printer->tensor->shape[dim]; i = next_shown(printer, dim, i))
    visit_shown(printer, dim + 1, step_along(printer, dim, element, i), visit);
}

static void find_format(tensor_printer *printer) {
  const char *first = tensor_at_offset(printer->tensor);
  visit_shown(printer, 0, first, print_format_look);
  for (int part = 0; part < printer->parts; part++)
    print_format_decide(&printer->format[part], printer->options.sci_mode);
  visit_shown(printer, 0, first, print_format_widen);
}

/* ---- The elements ---- */

/* The real number, or the real part, padded; an imaginary part follows with its sign, and is not. */
static void add_element(tensor_printer *printer, const char *element) {
  char number[PRINT_NUMBER_BYTES];
  const print_format *format = printer->format;
  int length = print_number(&format[0], element, number);
  text_repeat(&printer->text, ' ', format[0].width - length);
  text_add_bytes(&printer->text, number, (size_t)length);
  if (printer->parts == 1) return;
  length = print_number(&format[1], element + fonio_dtype_bytes(format[1].dtype), number);
  if (number[0] != '-') text_add(&printer->text, "+");
  text_add_bytes(&printer->text, number, (size_t)length);
  text_add(&printer->text, "j");
}

/* How many elements fit a line that is indented so far. */
static int64_t elements_per_line(const tensor_printer *printer, int64_t indent) {
  int64_t width = printer->format[0].width + 2;
  if (printer->parts == 2) width += printer->format[1].width + 1;
  int64_t fitting = (printer->options.linewidth - indent) / width;
  return fitting > 1 ? fitting : 1;
}

/* What comes between two items: in a row, a new line where the old one is full; between blocks, the more lines the more
 * dimensions they have. */
static void separate(tensor_printer *printer, int dims_inside, int64_t place, int64_t indent) {
  int64_t lines = dims_inside ? dims_inside : place % elements_per_line(printer, indent) == 0;
  text_add(&printer->text, lines ? "," : ", ");
  text_repeat(&printer->text, '\n', lines);
  if (lines) text_repeat(&printer->text, ' ', indent + 1);
}

static void add_items(tensor_printer *printer, int dim, const char *element, int64_t indent);

/* The elements from dimension `dim` on. */
static void add_block(tensor_printer *printer, int dim, const char *element, int64_t indent) {
  if (dim == printer->tensor->ndim) {
    add_element(printer, element);
    return;
  }
  text_add(&printer->text, "[");
  if (shows_nothing(printer))
    text_add(&printer->text, "...");
  else
    add_items(printer, dim, element, indent);
  text_add(&printer->text, "]");
}

static void add_items(tensor_printer *printer, int dim, const char *element, int64_t indent) {
  int dims_inside = printer->tensor->ndim - dim - 1;
  int64_t size = printer->tensor->shape[dim], place = 0;
  for (int64_t i = 0, next; i < size; i = next) {
    if (place++) separate(printer, dims_inside, place - 1, indent);
    add_block(printer, dim + 1, step_along(printer, dim, element, i), indent + 1);
    next = next_shown(printer, dim, i);
    if (next == i + 1) continue;
    separate(printer, dims_inside, place++, indent);
    text_add(&printer->text, dims_inside ? "..." : " ...");
  }
}

/* ---- What follows the elements ---- */

/* str(tuple(shape)) */
static void add_tuple(text_buffer *text, int ndim, const int64_t *sizes) {
  text_add(text, "(");
  text_add_sizes(text, ndim, sizes);
  text_add(text, ndim == 1 ? ",)" : ")");
}

/* Adds a suffix, if there is one, on the same line if it fits; and empties it. */
static void add_suffix(tensor_printer *printer, int64_t *line, text_buffer *suffix) {
  if (suffix->length == 0) return;
  bool fits = *line + (int64_t)suffix->length + 2 <= printer->options.linewidth;
  text_add(&printer->text, fits ? ", " : ",\n");
  if (!fits) text_repeat(&printer->text, ' ', INDENT);
  text_add_bytes(&printer->text, suffix->bytes, suffix->length);
  *line = (fits ? *line + 2 : INDENT) + (int64_t)suffix->length;
  suffix->length = 0;
}

static int64_t last_line_length(const text_buffer *text) {
  const char *newline = text->length ? memrchr(text->bytes, '\n', text->length) : NULL;
  return (int64_t)text->length - (newline ? newline - text->bytes + 1 : 0);
}

static void add_history(const fonio_tensor *tensor, text_buffer *suffix) {
  if (tensor->node) {
    text_add(suffix, "grad_fn=<");
    text_add(suffix, tensor->history->name(tensor->node));
    text_add(suffix, ">");
  } else if (tensor->requires_grad) {
    text_add(suffix, "requires_grad=True");
  }
}

/* An empty tensor tells what its elements would have: the shape, and any dtype but the default. */
static void add_suffixes(tensor_printer *printer) {
  const fonio_tensor *tensor = printer->tensor;
  fonio_dtype dtype = tensor->dtype;
  bool empty = tensor->numel == 0;
  bool seen = !empty && (dtype == FONIO_COMPLEX64 || dtype == FONIO_INT64 || dtype == FONIO_BOOL);
  /* torch counts the line of the elements two characters too long. */
  int64_t line = last_line_length(&printer->text) + 2;
  text_buffer suffix = {0};
  if (empty ? tensor->ndim != 1 : printer->options.edgeitems == 0) {
    text_add(&suffix, "size=");
    add_tuple(&suffix, tensor->ndim, tensor->shape);
  }
  add_suffix(printer, &line, &suffix);
  if (dtype != FONIO_FLOAT32 && !seen) {
    text_add(&suffix, "dtype=torch.");
    text_add(&suffix, fonio_dtype_name(dtype));
  }
  add_suffix(printer, &line, &suffix);
  add_history(tensor, &suffix);
  add_suffix(printer, &line, &suffix);
  printer->text.failed |= suffix.failed;
  text_drop(&suffix);
}

/* ---- The functions ---- */

static void add_tensor(tensor_printer *printer) {
  const fonio_tensor *tensor = printer->tensor;
  text_add(&printer->text, opening);
  if (tensor->numel == 0) {
    text_add(&printer->text, "[]");
  } else {
    find_format(printer);
    add_block(printer, 0, tensor_at_offset(tensor), INDENT);
  }
  add_suffixes(printer);
  text_add(&printer->text, ")");
}

char *fonio_tensor_to_text(const fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_tensor_to_text"), NULL;
  tensor_printer printer = printer_of(tensor);
  if (tensor->kind == TENSOR_PARAMETER) text_add(&printer.text, "Parameter containing:\n");
  if (tensor->kind == TENSOR_UNINITIALIZED)
    text_add(&printer.text, "<UninitializedParameter>");
  else
    add_tensor(&printer);
  return text_take(&printer.text);
}

fonio_status print_text(char *text) {
  if (!text) return fonio_last_status();
  bool written = fputs(text, stdout) >= 0 && fputc('\n', stdout) != EOF;
  fonio_text_release(text);
  return written ? FONIO_OK : fail(FONIO_IO_ERROR, "stdout does not take the text: %s", strerror(errno));
}

fonio_status fonio_print(const fonio_tensor *tensor) {
  if (!tensor) return fail_given_null("fonio_print");
  return print_text(fonio_tensor_to_text(tensor));
}
