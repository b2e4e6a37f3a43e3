/* Whether arrays share memory: what is written must be apart from what is read. */
#include <stdlib.h>

#include "core.h"

/* The first and the last byte that an array touches. */
static bool span(const core_array *array, const char **first, const char **last) {
  int64_t bytes = (int64_t)fonio_dtype_bytes(array->dtype);
  *first = array->data;
  *last = array->data + bytes - 1;
  for (int i = 0; i < array->ndim; i++) {
    if (array->shape[i] == 0) return false;
    int64_t reach = (array->shape[i] - 1) * array->strides[i] * bytes;
    if (reach < 0)
      *first += reach;
    else
      *last += reach;
  }
  return true;
}

bool core_arrays_overlap(const core_array *a, const core_array *b) {
  const char *a_first, *a_last, *b_first, *b_last;
  return span(a, &a_first, &a_last) && span(b, &b_first, &b_last) && a_first <= b_last && b_first <= a_last;
}

/* From the smallest stride up, each must step over all that the smaller ones reach. */
bool core_array_overlaps_itself(const core_array *array) {
  bool done[CORE_MAX_DIMS] = {false};
  int64_t reach = 0;
  for (int turn = 0; turn < array->ndim; turn++) {
    int least = -1;
    for (int i = 0; i < array->ndim; i++)
      if (!done[i] && (least < 0 || llabs(array->strides[i]) < llabs(array->strides[least]))) least = i;
    done[least] = true;
    if (array->shape[least] == 0) return false;
    if (array->shape[least] == 1) continue;
    if (llabs(array->strides[least]) <= reach) return true;
    reach += (array->shape[least] - 1) * llabs(array->strides[least]);
  }
  return false;
}
