/* Tensors: a dtype, a shape and strides over a refcounted storage that several tensors may share.
 *
 * A tensor is reference-counted: a function marked FONIO_NEW returns one that the caller releases. Counting is
 * thread-safe; reading one tensor from many threads is safe; writing to its data while another thread reads it is not.
 */
#ifndef FONIO_TENSOR_H
#define FONIO_TENSOR_H

#include <fonio/dtype.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fonio_tensor fonio_tensor;

/* The most dimensions that a tensor may have. */
#define FONIO_MAX_DIMS 8

/* A shape (or an index, or a permutation) in a call: FONIO_SHAPE(1, 3, 8, 8) stands for the two arguments `ndim,
 * shape`. In C++ use an array of your own. FONIO_SCALAR is the shape of a tensor with no dimensions. */
#define FONIO_SHAPE(...)                                                                                               \
  (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) {                                 \
    __VA_ARGS__                                                                                                        \
  }
#define FONIO_SCALAR 0, NULL

/* ---- Life ---- */

/* Takes one more reference and returns `tensor`. */
FONIO_NEW fonio_tensor *fonio_tensor_retain(fonio_tensor *tensor);

/* Gives one reference back; with the last one the tensor and, if no other shares it, its storage go. NULL is ignored.
 */
FONIO_API void fonio_tensor_release(fonio_tensor *tensor);

/* ---- Creation: torch.empty, zeros, ones, full, arange, tensor, from_blob ----
 *
 * `shape` holds `ndim` sizes, each at least 0. NULL with FONIO_NO_MEMORY, FONIO_RUNTIME_ERROR (a negative size: torch's
 * text; a product that does not fit), FONIO_VALUE_ERROR (a wrong dtype or ndim). */

/* torch.empty: the elements are not set. */
FONIO_NEW fonio_tensor *fonio_tensor_empty(fonio_dtype dtype, int ndim, const int64_t *shape);

/* torch.zeros and torch.ones. */
FONIO_NEW fonio_tensor *fonio_tensor_zeros(fonio_dtype dtype, int ndim, const int64_t *shape);
FONIO_NEW fonio_tensor *fonio_tensor_ones(fonio_dtype dtype, int ndim, const int64_t *shape);

/* torch.full: `value` is converted to the dtype as C does (and torch for values in range). */
FONIO_NEW fonio_tensor *fonio_tensor_full(fonio_dtype dtype, double value, int ndim, const int64_t *shape);

/* torch.arange(start, end, step): ceil((end - start) / step) elements, with torch's checks and texts. */
FONIO_NEW fonio_tensor *fonio_tensor_arange(fonio_dtype dtype, double start, double end, double step);

/* torch.tensor: copies numel elements of `dtype` from `data`, contiguous. */
FONIO_NEW fonio_tensor *fonio_tensor_from_data(fonio_dtype dtype, const void *data, int ndim, const int64_t *shape);

/* torch.from_blob: a tensor over the host's memory, which is not copied. `strides` in elements, each at least 0, or
 * NULL for contiguous. `release(data, user)` (may be NULL) is called once, when the last tensor over this memory goes;
 * on failure it is not called and the memory stays the host's. */
FONIO_NEW fonio_tensor *fonio_tensor_wrap(fonio_dtype dtype, void *data, int ndim, const int64_t *shape,
                                          const int64_t *strides, void (*release)(void *data, void *user), void *user);

/* torch.empty(memory_format=torch.channels_last): `shape` has 4 sizes (N, C, H, W). */
FONIO_NEW fonio_tensor *fonio_tensor_empty_channels_last(fonio_dtype dtype, const int64_t shape[4]);

/* ---- Properties. NULL gives 0, false, NULL or FONIO_FLOAT32. ---- */

FONIO_API fonio_dtype fonio_tensor_dtype(const fonio_tensor *tensor);
FONIO_API int fonio_tensor_ndim(const fonio_tensor *tensor);

/* The sizes, `ndim` of them; borrowed. */
FONIO_API const int64_t *fonio_tensor_shape(const fonio_tensor *tensor);

/* The strides in elements, `ndim` of them; borrowed. */
FONIO_API const int64_t *fonio_tensor_strides(const fonio_tensor *tensor);

/* tensor.size(dim): `dim` may be negative, counted from the end; -1 when out of range (with FONIO_INDEX_ERROR). */
FONIO_API int64_t fonio_tensor_size(const fonio_tensor *tensor, int dim);

/* The number of elements. */
FONIO_API int64_t fonio_tensor_numel(const fonio_tensor *tensor);

/* Where in its storage the first element lies, in elements. */
FONIO_API int64_t fonio_tensor_storage_offset(const fonio_tensor *tensor);

/* tensor.is_contiguous(): in the order of the dimensions, the last fastest. */
FONIO_API bool fonio_tensor_is_contiguous(const fonio_tensor *tensor);

/* tensor.is_contiguous(memory_format=torch.channels_last): 4 dimensions, channels fastest. */
FONIO_API bool fonio_tensor_is_channels_last(const fonio_tensor *tensor);

/* tensor._version: how many writes through the library this storage has seen. */
FONIO_API int64_t fonio_tensor_version(const fonio_tensor *tensor);

/* The first element, for writing. The library cannot see such writes: from this call on it takes it that the values may
 * change at any time (a layer then no longer trusts weights that it packed before). */
FONIO_API void *fonio_tensor_data(fonio_tensor *tensor);

/* The first element, for reading only. */
FONIO_API const void *fonio_tensor_const_data(const fonio_tensor *tensor);

/* ---- Values ---- */

/* tensor.item(): the only element, converted to double (complex: the real part). FONIO_RUNTIME_ERROR with torch's text
 * unless numel is 1. */
FONIO_API fonio_status fonio_tensor_item(const fonio_tensor *tensor, double *value);

/* tensor.item() for the integer dtypes and bool, exact (uint64 as its bits). FONIO_TYPE_ERROR for others. */
FONIO_API fonio_status fonio_tensor_item_int64(const fonio_tensor *tensor, int64_t *value);

/* The element at `index` (`ndim` numbers, negative from the end), converted to double. FONIO_INDEX_ERROR with torch's
 * text. */
FONIO_API fonio_status fonio_tensor_at(const fonio_tensor *tensor, int ndim, const int64_t *index, double *value);

/* torch.equal: same shape and same values, whatever the dtypes (NaN differs from everything). An integer beside a float
 * is converted to that, as torch promotes it. */
FONIO_API fonio_status fonio_tensor_equal(const fonio_tensor *a, const fonio_tensor *b, bool *equal);

/* Same dtype, shape and bits (NaN equals the same NaN; -0 differs from 0). */
FONIO_API fonio_status fonio_tensor_identical(const fonio_tensor *a, const fonio_tensor *b, bool *identical);

/* torch.allclose: a == b, or |a - b| finite and <= atol + rtol * |b|, everywhere, computed in double. Of one dtype;
 * broadcast to one shape. FONIO_RUNTIME_ERROR with torch's texts otherwise, and for a tolerance below 0. */
FONIO_API fonio_status fonio_tensor_allclose(const fonio_tensor *a, const fonio_tensor *b, double rtol, double atol,
                                             bool equal_nan, bool *close);

/* The largest |a - b| in double: 0 for empty tensors, NaN if any difference is NaN. Same shape required. */
FONIO_API fonio_status fonio_tensor_max_difference(const fonio_tensor *a, const fonio_tensor *b, double *difference);

/* ---- An ordered dictionary of named tensors: torch's state dict ---- */

typedef struct fonio_dict fonio_dict;

/* An empty dictionary; NULL with FONIO_NO_MEMORY. Reading one from many threads is safe, changing it meanwhile is not.
 */
FONIO_NEW fonio_dict *fonio_dict_new(void);

/* Releases the dictionary and its references to the tensors; NULL is ignored. */
FONIO_API void fonio_dict_release(fonio_dict *dict);

/* Puts `tensor` (retained by the dictionary) under `name` (copied): a new name at the end, a known one in its old
 * place. */
FONIO_API fonio_status fonio_dict_set(fonio_dict *dict, const char *name, fonio_tensor *tensor);

/* The tensor under `name`, borrowed; NULL if there is none (no failure). */
FONIO_API fonio_tensor *fonio_dict_get(const fonio_dict *dict, const char *name);

/* Removes `name`. FONIO_KEY_ERROR if there is none. */
FONIO_API fonio_status fonio_dict_remove(fonio_dict *dict, const char *name);

/* len(dict); 0 for NULL. */
FONIO_API int64_t fonio_dict_size(const fonio_dict *dict);

/* The i-th name and the i-th tensor, in order; borrowed; NULL out of range. */
FONIO_API const char *fonio_dict_name_at(const fonio_dict *dict, int64_t index);
FONIO_API fonio_tensor *fonio_dict_tensor_at(const fonio_dict *dict, int64_t index);

#ifdef __cplusplus
}
#endif

#endif
