/* Printing: the bytes that Python prints for torch's tensors. The decimal point is a point in every locale. */
#ifndef FONIO_PRINT_H
#define FONIO_PRINT_H

#include <fonio/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Tensors ---- */

/* print(tensor): writes the tensor's text and a newline to stdout. The one function of the library that prints.
 * FONIO_IO_ERROR when stdout does not take it. */
FONIO_API fonio_status fonio_print(const fonio_tensor *tensor);

/* str(tensor), such as "tensor([0.0000, 0.5000], grad_fn=<AddBackward0>)"; of a parameter, "Parameter
 * containing:\ntensor(...)". Released with fonio_text_release. */
FONIO_NEW char *fonio_tensor_to_text(const fonio_tensor *tensor);

/* str(tensor.shape), such as "torch.Size([1, 64, 4, 4])". Released with fonio_text_release. */
FONIO_NEW char *fonio_tensor_size_to_text(const fonio_tensor *tensor);

/* Releases a text; NULL is ignored. */
FONIO_API void fonio_text_release(char *text);

/* ---- Other values ---- */

/* str(value): "True" or "False". Static text. */
FONIO_API const char *fonio_bool_to_text(bool value);

/* str(list(dict)): the names in order, such as "['conv2d.weight', 'conv2d.bias']", quoted as Python quotes them (what
 * is not ASCII stays as it is). Released with fonio_text_release. */
FONIO_NEW char *fonio_dict_names_to_text(const fonio_dict *dict);

/* ---- Options: torch.set_printoptions. They hold for the whole process, from the next text on. ---- */

/* -1 leaves an option as it is; only `sci_mode` is set by every call, as in torch. */
typedef struct fonio_printoptions {
  size_t struct_bytes; /* sizeof(fonio_printoptions): FONIO_PRINTOPTIONS sets it */
  int64_t precision;   /* digits after the point, at most 1000; torch's default: 4 */
  double threshold;    /* tensors of more elements than this are summarised; INFINITY for none; default: 1000 */
  int64_t edgeitems;   /* how many items a summary shows at either end of a dimension; default: 3 */
  int64_t linewidth;   /* characters in a line; default: 80 */
  /* "default", "short" or "full", to start from; NULL for none. As in torch, another name does nothing. */
  const char *profile;
  int sci_mode; /* 1: scientific notation; 0: none; -1: by the values. Default: -1 */
} fonio_printoptions;

/* All options left as they are, for C++ and for other languages. */
FONIO_API fonio_printoptions fonio_printoptions_default(void);

/* The same, with what is named in `...` put over it: FONIO_PRINTOPTIONS(.precision = 2). C only. */
#define FONIO_PRINTOPTIONS(...) FONIO_WITH_DEFAULTS(fonio_printoptions, FONIO_PRINTOPTIONS_DEFAULTS, __VA_ARGS__)

#define FONIO_PRINTOPTIONS_DEFAULTS .precision = -1, .threshold = -1, .edgeitems = -1, .linewidth = -1, .sci_mode = -1

/* torch.set_printoptions. FONIO_VALUE_ERROR for a number that is out of range; nothing is changed then. */
FONIO_API fonio_status fonio_set_printoptions_with(const fonio_printoptions *options);

/* The same with keyword arguments: fonio_set_printoptions(.profile = "short", .linewidth = 120). C only. */
#define fonio_set_printoptions(...)                                                                                    \
  __extension__({                                                                                                      \
    fonio_printoptions fonio_printoptions_ = FONIO_PRINTOPTIONS(__VA_ARGS__);                                          \
    fonio_set_printoptions_with(&fonio_printoptions_);                                                                 \
  })

/* torch.get_printoptions(): the options in force, which fonio_set_printoptions_with puts back later. */
FONIO_API fonio_printoptions fonio_get_printoptions(void);

#ifdef __cplusplus
}
#endif

#endif
