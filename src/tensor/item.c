/* Single elements. */
#include "base/error.h"
#include "tensor/convert.h"
#include "tensor/index.h"
#include "tensor/tensor.h"

static fonio_status check_single(int64_t numel) {
  if (numel == 1) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR, "a Tensor with %lld elements cannot be converted to Scalar", (long long)numel);
}

fonio_status fonio_tensor_item(const fonio_tensor *tensor, double *value) {
  if (!tensor || !value) return fail_given_null("fonio_tensor_item");
  if (check_single(tensor->numel)) return fonio_last_status();
  *value = tensor_read_element(tensor->dtype, tensor_at_offset(tensor));
  return FONIO_OK;
}

fonio_status fonio_tensor_item_int64(const fonio_tensor *tensor, int64_t *value) {
  if (!tensor || !value) return fail_given_null("fonio_tensor_item_int64");
  if (fonio_dtype_is_floating_point(tensor->dtype) || fonio_dtype_is_complex(tensor->dtype))
    return fail(FONIO_TYPE_ERROR, "an integer can be taken from a tensor of an integer dtype or bool, not of %s",
                fonio_dtype_name(tensor->dtype));
  if (check_single(tensor->numel)) return fonio_last_status();
  convert_row(1, tensor->dtype, tensor_at_offset(tensor), 1, FONIO_INT64, value, 1);
  return FONIO_OK;
}

fonio_status fonio_tensor_at(const fonio_tensor *tensor, int ndim, const int64_t *index, double *value) {
  if (!tensor || !value || (ndim > 0 && !index)) return fail_given_null("fonio_tensor_at");
  if (index_check(tensor, ndim, index)) return fonio_last_status();
  int64_t offset = 0, numel = tensor->numel;
  for (int i = 0; i < ndim; i++)
    numel /= tensor->shape[i];
  if (check_single(numel)) return fonio_last_status();
  for (int i = 0; i < ndim; i++)
    offset += (index[i] < 0 ? index[i] + tensor->shape[i] : index[i]) * tensor->strides[i];
  const char *first = tensor_at_offset(tensor);
  *value = tensor_read_element(tensor->dtype, first + offset * (int64_t)fonio_dtype_bytes(tensor->dtype));
  return FONIO_OK;
}
