/* The dtypes of a convolution: torch's texts for those that differ and for those that it does not compute, ours for
 * those that Fonio does not yet. */
#include "conv/problem.h"

#include "base/error.h"

#include <stdio.h>

fonio_status problem_check_bias_dtype(const problem_call *call) {
  if (!call->bias || call->bias->dtype == call->input->dtype) return FONIO_OK;
  return fail(FONIO_RUNTIME_ERROR, "Input type (%s) and bias type (%s) should be the same",
              fonio_dtype_cpp_name(call->input->dtype), fonio_dtype_cpp_name(call->bias->dtype));
}

typedef struct type_text {
  char text[40];
} type_text;

/* A tensor's type as torch's older texts have it: "torch.FloatTensor", or "CPUComplexFloatType" for what came later. */
static type_text type_to_text(fonio_dtype dtype) {
  type_text result;
  bool old = (dtype <= FONIO_FLOAT16) || (dtype >= FONIO_INT8 && dtype <= FONIO_UINT8);
  snprintf(result.text, sizeof result.text, old ? "torch.%sTensor" : "CPU%sType", fonio_dtype_scalar_name(dtype));
  return result;
}

fonio_status problem_check_complex_dtype(const problem_call *call) {
  fonio_dtype input = call->input->dtype, weight = call->weight->dtype;
  if (!fonio_dtype_is_complex(input)) return FONIO_OK;
  if (weight != input)
    return fail(FONIO_RUNTIME_ERROR, "Input type (%s) and weight type (%s) should be the same",
                type_to_text(input).text, type_to_text(weight).text);
  if (call->bias && call->bias->dtype != input)
    return fail(FONIO_RUNTIME_ERROR, "Input type (%s) and bias type (%s) should be the same", type_to_text(input).text,
                type_to_text(call->bias->dtype).text);
  return FONIO_OK;
}

/* What no convolution of torch computes. */
static bool torch_refuses(fonio_dtype dtype) {
  switch (dtype) {
  case FONIO_UINT16:
  case FONIO_UINT32:
  case FONIO_UINT64:
  case FONIO_BOOL:
  case FONIO_FLOAT8_E4M3FN:
  case FONIO_FLOAT8_E5M2: return true;
  default: return false;
  }
}

static fonio_status fail_not_implemented(const char *function, fonio_dtype dtype) {
  return fail(FONIO_NOT_IMPLEMENTED, "\"%s\" not implemented for '%s'", function, fonio_dtype_scalar_name(dtype));
}

fonio_status problem_check_padding_dtype(const problem_call *call) {
  fonio_dtype dtype = call->input->dtype;
  bool refused = torch_refuses(dtype) || dtype == FONIO_COMPLEX32;
  if (refused && call->mode == FONIO_REFLECT) return fail_not_implemented("reflection_pad2d", dtype);
  if (refused && call->mode == FONIO_REPLICATE) return fail_not_implemented("replication_pad2d", dtype);
  return FONIO_OK;
}

fonio_status problem_check_dtypes(const problem_call *call) {
  fonio_dtype input = call->input->dtype, weight = call->weight->dtype;
  if (torch_refuses(input)) return fail_not_implemented("slow_conv2d_cpu", input);
  if (weight != input)
    return fail(FONIO_RUNTIME_ERROR, "expected scalar type %s but found %s", fonio_dtype_scalar_name(input),
                fonio_dtype_scalar_name(weight));
  fonio_status status = problem_check_bias_dtype(call);
  if (!status && input != FONIO_FLOAT32 && input != FONIO_FLOAT64)
    status = fail(FONIO_NOT_IMPLEMENTED, "conv2d of %s is not implemented", fonio_dtype_name(input));
  return status;
}
