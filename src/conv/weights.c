/* Packed weights: made, counted, compared. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "conv/plan.h"

/* ---- The weights as they came ---- */

static int64_t plain_bytes(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  return p->out_channels * plan->geometry.in_channels * p->kernel_height * p->kernel_width *
         (int64_t)fonio_dtype_bytes(p->dtype);
}

/* Whether (K, C / groups, R, S) lie in memory without gaps, the last dimension fastest. */
static bool is_contiguous(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  const int64_t *strides = p->weight_strides;
  return strides[3] == 1 && strides[2] == p->kernel_width && strides[1] == p->kernel_width * p->kernel_height &&
         strides[0] == strides[1] * plan->geometry.in_channels;
}

/* One weight after the other, beside their contiguous copy: what `visit` tells of all of them. */
static bool each_weight(const fonio_conv_plan *plan, const char *weight, char *plain,
                        bool visit(const char *weight, char *plain, size_t bytes)) {
  const fonio_conv_problem *p = &plan->problem;
  const int64_t *strides = p->weight_strides;
  if (is_contiguous(plan)) return visit(weight, plain, (size_t)plain_bytes(plan));
  int64_t bytes = (int64_t)fonio_dtype_bytes(p->dtype);
  bool all = true;
  for (int64_t k = 0; all && k < p->out_channels; k++)
    for (int64_t c = 0; c < plan->geometry.in_channels; c++)
      for (int64_t r = 0; r < p->kernel_height; r++)
        for (int64_t s = 0; s < p->kernel_width; s++, plain += bytes)
          all &= visit(weight + bytes * (k * strides[0] + c * strides[1] + r * strides[2] + s * strides[3]), plain,
                       (size_t)bytes);
  return all;
}

static bool copy(const char *weight, char *plain, size_t bytes) {
  memcpy(plain, weight, bytes);
  return true;
}

static bool is_same(const char *weight, char *plain, size_t bytes) {
  return memcmp(plain, weight, bytes) == 0;
}

bool conv_packed_holds(const fonio_conv_packed *packed, const fonio_conv_plan *plan, const void *weight) {
  return packed->plain && each_weight(plan, weight, packed->plain, is_same);
}

/* ---- Packing ---- */

static fonio_conv_packed *new_for(const fonio_conv_plan *plan) {
  fonio_conv_packed *packed = memory_take(sizeof *packed);
  if (packed)
    *packed = (fonio_conv_packed){
        .references = 1,
        .algorithm = plan->algorithm,
        .kernels = plan->kernels,
        .problem = plan->problem,
        .plan = conv_parts_of(plan)->count ? conv_plan_retain(plan) : NULL,
    };
  return packed;
}

static bool same_shape(const fonio_conv_problem *p, const fonio_conv_problem *q) {
  return p->out_channels == q->out_channels && p->in_channels == q->in_channels &&
         p->kernel_height == q->kernel_height && p->kernel_width == q->kernel_width && p->groups == q->groups;
}

bool conv_packed_fits(const fonio_conv_plan *plan, const fonio_conv_packed *packed) {
  const fonio_conv_problem *p = &plan->problem, *q = &packed->problem;
  const conv_algorithm *algorithm = plan->algorithm;
  bool kernels = packed->kernels == plan->kernels || algorithm->any_kernels;
  return packed->algorithm == algorithm && kernels && p->dtype == q->dtype && same_shape(p, q) &&
         (!algorithm->packs_alike || algorithm->packs_alike(p, q)) &&
         (!conv_parts_of(plan)->count || (packed->plan && conv_parts_alike(plan, packed->plan)));
}

bool conv_pack_groups(const fonio_conv_plan *plan, const void *weight, void *packed,
                      bool pack_group(const fonio_conv_plan *plan, const void *weight, void *packed)) {
  int64_t group_bytes = plan->packed_bytes / plan->problem.groups;
  bool finite = true;
  for (int64_t group = 0; group < plan->problem.groups; group++)
    finite &= pack_group(plan, conv_at(weight, conv_weight_offset(plan, group)), (char *)packed + group * group_bytes);
  return finite;
}

/* FONIO_NO_MEMORY. */
static fonio_status fill(fonio_conv_packed *packed, const fonio_conv_plan *plan, const void *weight, bool keep_plain) {
  packed->data = memory_take(plan->packed_bytes);
  if (!packed->data) return FONIO_NO_MEMORY;
  packed->finite = plan->algorithm->pack && plan->algorithm->pack(plan, weight, packed->data);
  if (packed->finite && !keep_plain) return FONIO_OK;
  packed->plain = memory_take(plain_bytes(plan));
  if (!packed->plain) return FONIO_NO_MEMORY;
  each_weight(plan, weight, packed->plain, copy);
  return FONIO_OK;
}

fonio_conv_packed *conv_pack(const fonio_conv_plan *plan, const void *weight, bool keep_plain) {
  fonio_conv_packed *packed = new_for(plan);
  if (!packed || !fill(packed, plan, weight, keep_plain)) return packed;
  fonio_conv_packed_release(packed);
  return NULL;
}

fonio_conv_packed *fonio_conv_plan_pack(const fonio_conv_plan *plan, const void *weight) {
  if (!plan || !weight) return fail_given_null("fonio_conv_plan_pack"), NULL;
  return conv_pack(plan, weight, false);
}

fonio_conv_packed *conv_packed_retain(fonio_conv_packed *packed) {
  atomic_fetch_add_explicit(&packed->references, 1, memory_order_relaxed);
  return packed;
}

void fonio_conv_packed_release(fonio_conv_packed *packed) {
  if (!packed || atomic_fetch_sub_explicit(&packed->references, 1, memory_order_acq_rel) != 1) return;
  fonio_conv_plan_release(packed->plan);
  memory_give(packed->plain);
  memory_give(packed->data);
  memory_give(packed);
}
