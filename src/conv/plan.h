/* A plan from the inside, and what an algorithm is: one file each, all named in algorithms.c. */
#ifndef CONV_PLAN_H
#define CONV_PLAN_H

#include <stdatomic.h>

#include "fonio/conv.h"
#include "kernels/kernels.h"

typedef struct conv_algorithm conv_algorithm;

/* How an algorithm cuts the work; each uses what it needs. */
typedef struct conv_blocks {
  int64_t panel;    /* pixels side by side in a packed panel */
  int64_t terms;    /* terms of the sum that are packed at once */
  int64_t channels; /* output channels that share a pass over the pixels */
  int64_t pixels;   /* output pixels of one piece of work */
  int64_t rows;     /* of output pixels, where a piece is a rectangle */
  int64_t sums;     /* output channels whose sums are kept at once */
  int64_t patch;    /* pixels of a patch, at the most; 0: there are none (patch.h) */
} conv_blocks;

/* How the sums of a weight's gradient fall into pieces: weight_gradient.h. */
typedef struct conv_sums {
  int64_t blocks; /* of weights */
  int64_t parts;  /* of each sum */
  int64_t bytes;  /* of the results of one part of one block */
} conv_sums;

/* Forward convolutions that an input gradient is made of; see parts.h. */
typedef struct conv_part conv_part;
typedef struct conv_fold conv_fold;
typedef struct conv_parts {
  conv_part *list;
  int64_t count;
  int64_t packed_bytes; /* of all */
} conv_parts;

/* Seconds that an image took on one core when the plan was measured, and those that this core needs at least: for the
 * multiply-adds of the plain sums, and to read and write the arrays once. All 0: it was not measured. */
typedef struct conv_measured {
  double taken, multiply_adds, moves;
} conv_measured;

struct fonio_conv_plan {
  _Atomic int64_t references;
  fonio_conv_problem asked;   /* as the caller gave it */
  fonio_conv_problem problem; /* as it is computed: strides that step over all of the image are shortened */
  fonio_conv_direction direction;
  fonio_accuracy accuracy; /* that the algorithm was chosen for */
  const conv_algorithm *algorithm;
  const char *why; /* it was taken */
  bool part;       /* of an input gradient, whose pieces are run one by one, without what they could share */
  int64_t clears;  /* a part by `rows` whose blocks clear first what lies between their pixels: elements of a plane of
                      the image; else 0 */
  double packings; /* of the weight for each image, which the choice counts */
  const kernel_table *kernels;
  kernel_conv geometry; /* of one image and group; points into `tables` */
  int64_t *tables;
  int64_t weight_group_stride; /* from the weights of a group to those of the next */
  /* Of an input gradient, by algorithm: */
  conv_parts phases; /* first those of the image, then those of the folds */
  conv_fold *folds;  /* where padding shows pixels of the image */
  int64_t image_parts, fold_count;
  conv_parts shuffle;
  conv_parts columns;
  conv_blocks blocks;
  conv_sums sums; /* of a weight's gradient */
  int64_t pieces; /* of work, in all images */
  double cycles;  /* that they are expected to take on one core */
  conv_measured measured;
  int64_t packed_bytes;      /* of all groups; 0: the algorithm reads the weights as they are */
  int64_t workspace_bytes;   /* of one piece of work at a time */
  int64_t shared_bytes;      /* of the workspace, beside those: what pieces leave for run_last */
  char *_Atomic explanation; /* made when first asked for; or NULL */
};

struct fonio_conv_packed {
  _Atomic int64_t references;
  const conv_algorithm *algorithm;
  const kernel_table *kernels;
  fonio_conv_problem problem; /* as the plan computed it */
  bool finite;                /* no weight is Inf or NaN: padding may be multiplied as a zero */
  void *plain; /* the weights as they came, contiguous: where they are not finite, or to compare; or NULL */
  void *data;
  fonio_conv_plan *plan; /* whose parts it was packed for; NULL where the plan has none */
};

/* One run: the plan with the arrays. */
typedef struct conv_run {
  const fonio_conv_plan *plan;
  const fonio_conv_buffers *buffers;
  const void *packed;
  void *shared; /* the plan's shared_bytes, aligned */
} conv_run;

/* An algorithm. Its work falls into pieces that may run in any order and at once, each with a workspace of its own; how
 * many there are follows from the problem alone. */
struct conv_algorithm {
  const char *name;
  fonio_conv_direction direction;
  fonio_accuracy accuracy; /* the strictest class that it may serve */
  bool (*applicable)(const fonio_conv_problem *problem);
  const char *needs; /* what makes it applicable, in words; NULL where it always is */
  /* Cycles that an image is expected to take on one core; the planner takes the least. Asked before and after
   * `prepare`, which takes longer. */
  double (*cost)(const fonio_conv_plan *plan);
  /* Fills in the blocks, packed_bytes, workspace_bytes and shared_bytes of a plan whose other fields are set, and may
   * take other kernels for it. */
  void (*prepare)(fonio_conv_plan *plan);
  double packing;   /* cycles that a byte of packed weights takes */
  bool any_kernels; /* packed weights are the same whichever kernels a plan takes, which may depend on its image */
  /* Whether packed weights of the one problem serve the other, whose weights have the same shape; NULL: they do. */
  bool (*packs_alike)(const fonio_conv_problem *a, const fonio_conv_problem *b);
  /* Packs all weights; returns whether they are finite. NULL where packed_bytes is 0. */
  bool (*pack)(const fonio_conv_plan *plan, const void *weight, void *packed);
  int64_t (*pieces)(const fonio_conv_plan *plan);
  void (*run_piece)(const conv_run *run, int64_t piece, void *workspace);
  /* What is left to do once all pieces are done, in pieces too; or both NULL. */
  int64_t (*last_pieces)(const fonio_conv_plan *plan);
  void (*run_last)(const conv_run *run, int64_t piece, void *workspace);
};

/* All algorithms, ended by NULL. */
extern const conv_algorithm *const conv_algorithms[];
extern const conv_algorithm conv_reference_forward, conv_reference_input_gradient, conv_reference_weight_gradient;
extern const conv_algorithm conv_phases_input_gradient, conv_shuffle_input_gradient;
extern const conv_algorithm conv_depthwise_pairs_input_gradient, conv_vector_input_gradient;
extern const conv_algorithm conv_columns_input_gradient;
extern const conv_algorithm conv_packed_forward, conv_shifted_forward, conv_winograd4_forward, conv_winograd2_forward;
extern const conv_algorithm conv_channels_weight_gradient, conv_groups_weight_gradient;
extern const conv_algorithm conv_inputs_weight_gradient, conv_winograd_weight_gradient;
extern const conv_algorithm conv_planes_weight_gradient;
extern const conv_algorithm conv_rows_groups_forward, conv_rows_few_forward;
extern const conv_algorithm conv_rows_forward, conv_depthwise_planes_forward, conv_depthwise_pixels_forward;
extern const conv_algorithm conv_depthwise_turned_forward, conv_depthwise_fours_forward;

/* Whether there are no images or no channels. */
bool conv_is_empty(const fonio_conv_problem *problem);

/* Whether it can do the plan's problem. Without images or channels there is nothing to compute, to pack or to divide
 * by: that is left to the plain loops. */
bool conv_can_do(const conv_algorithm *algorithm, const fonio_conv_plan *plan);

/* Whether it also stays within the workspace that a thread may have: 1 MiB and 8 KiB for each channel. */
bool conv_may_take(const conv_algorithm *algorithm, const fonio_conv_plan *plan);

/* Whether a plan's blocks of pixels are whole rows that `rows` turns on their way out. */
bool conv_rows_turns_rows(const fonio_conv_plan *plan);

/* Fills in `other`, a plan for the same problem by another algorithm. It borrows the tables of `plan`, and is not to be
 * released. */
void conv_plan_other(const fonio_conv_plan *plan, const conv_algorithm *algorithm, fonio_conv_plan *other);

/* A forward plan that is a part of another: it reads packed weights only. Its padding may be negative, which leaves out
 * the edge of the image, and its weights may have any strides. By `algorithm` where that can do it, else by the
 * cheapest. FONIO_NO_MEMORY. */
fonio_conv_plan *conv_plan_part(const fonio_conv_plan *whole, const fonio_conv_problem *problem,
                                int64_t weight_group_stride, const conv_algorithm *algorithm);

/* fonio_conv_plan_new, which says itself how many times the weight is packed for each image. */
fonio_conv_plan *conv_plan_new(const fonio_conv_problem *problem, fonio_conv_plan_options options, double packings);

/* Cycles that packing adds to an image where it comes with each run. The batch itself is not looked at. */
double conv_packing_cost(const fonio_conv_plan *plan);

/* Fills in the parts of a plan for an input gradient. FONIO_NO_MEMORY. */
fonio_status conv_phases_init(fonio_conv_plan *plan);
fonio_status conv_shuffle_init(fonio_conv_plan *plan);
fonio_status conv_columns_init(fonio_conv_plan *plan);

/* The parts of the plan's algorithm; none where it has none. */
const conv_parts *conv_parts_of(const fonio_conv_plan *plan);

/* Whether weights that were packed for the parts of one plan serve those of the other. */
bool conv_parts_alike(const fonio_conv_plan *a, const fonio_conv_plan *b);

/* Gives back what those took. */
void conv_parts_release(fonio_conv_plan *plan);

/* Workspace of one thread: whole cache lines, so that threads do not write to the same one. */
int64_t conv_slot_bytes(const fonio_conv_plan *plan);

/* What the threads share, before that. */
int64_t conv_shared_bytes(const fonio_conv_plan *plan);

/* Multiplications and additions of the plain sums of one image, in 10^9. */
double conv_gflop(const fonio_conv_plan *plan);

/* What a direction and an accuracy are called. */
const char *conv_direction_name(fonio_conv_direction direction);
const char *conv_accuracy_name(fonio_accuracy accuracy);

/* One more reference; fonio_conv_plan_release and fonio_conv_packed_release give it back. */
fonio_conv_plan *conv_plan_retain(const fonio_conv_plan *plan);
fonio_conv_packed *conv_packed_retain(fonio_conv_packed *packed);

/* fonio_conv_plan_pack; with `keep_plain`, conv_packed_holds can be asked of the result. */
fonio_conv_packed *conv_pack(const fonio_conv_plan *plan, const void *weight, bool keep_plain);

/* Gives back what runs keep to pack in. */
void conv_drop_spares(void);

/* Whether it was packed for such a plan. */
bool conv_packed_fits(const fonio_conv_plan *plan, const fonio_conv_packed *packed);

/* Whether it was packed from the values, bit by bit, that the plan's weight has now. */
bool conv_packed_holds(const fonio_conv_packed *packed, const fonio_conv_plan *plan, const void *weight);

/* An algorithm's `pack` where groups are packed one after the other, in the same number of bytes: `pack_group` packs
 * one. */
bool conv_pack_groups(const fonio_conv_plan *plan, const void *weight, void *packed,
                      bool pack_group(const fonio_conv_plan *plan, const void *weight, void *packed));

/* Fills in the geometry and the index maps of a plan. FONIO_NO_MEMORY. */
fonio_status conv_geometry_init(fonio_conv_plan *plan);

/* The order of the sums of a weight's gradient: it follows from the problem alone. */
kernel_order conv_order(const fonio_conv_plan *plan);

/* Terms of a sum whose panel, of so many numbers for each term, is read again and again from a near cache: short sums
 * would move their results to and fro too often. */
int64_t conv_terms_of_panel(const fonio_conv_plan *plan, int64_t panel);

/* Where one image and group of an array begins, in bytes from the array. */
int64_t conv_input_offset(const fonio_conv_plan *plan, int64_t image, int64_t group);
int64_t conv_output_offset(const fonio_conv_plan *plan, int64_t image, int64_t group);
int64_t conv_weight_offset(const fonio_conv_plan *plan, int64_t group);
int64_t conv_bias_offset(const fonio_conv_plan *plan, int64_t group);

/* That the residual and the activation are ones that there are, for this direction. */
fonio_status conv_finish_check(const fonio_conv_problem *problem, fonio_conv_direction direction);

/* The slope of FONIO_LEAKY_RELU as an element. */
typedef union conv_slope {
  float f32;
  double f64;
} conv_slope;

conv_slope conv_slope_of(const fonio_conv_problem *problem);

/* Whether something follows the convolution: a residual, an activation. */
bool conv_has_finish(const fonio_conv_problem *problem);

/* What a forward algorithm calls for each part of the output once its sums and biases are whole: adds the residual and
 * applies the activation, where the problem asks for them. `channel` counts through all groups. A part is a block of
 * rows and columns (the strip's pixel and pitch do not matter; what lies outside of the output is left out), or pixels
 * counted row by row. */
void conv_finish(const conv_run *run, int64_t image, int64_t channel, int64_t channels, const kernel_strip *block);
void conv_finish_pixels(const conv_run *run, int64_t image, int64_t channel, int64_t channels, int64_t pixel,
                        int64_t pixels);

/* The biases of `count` channels from `channel` on, side by side; nothing without a bias. */
void conv_copy_biases(const fonio_conv_plan *plan, const void *bias, int64_t channel, int64_t count, void *to);

/* `base` moved by `bytes`; NULL stays NULL. */
static inline const void *conv_at(const void *base, int64_t bytes) {
  return base ? (const char *)base + bytes : base;
}

static inline int64_t conv_element_bytes(const fonio_conv_plan *plan) {
  return (int64_t)fonio_dtype_bytes(plan->problem.dtype);
}

/* Takes `piece` modulo `count` and leaves the rest: to read a piece's number as several. */
static inline int64_t conv_take(int64_t *piece, int64_t count) {
  int64_t part = *piece % count;
  *piece /= count;
  return part;
}

static inline int64_t conv_min(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static inline int64_t conv_max(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static inline int64_t conv_ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

static inline int64_t conv_round_up(int64_t a, int64_t multiple) {
  return conv_ceil_div(a, multiple) * multiple;
}

/* The size of the parts that `count` falls into, nearly equal ones of at most `most`. */
static inline int64_t conv_even(int64_t count, int64_t most) {
  return conv_ceil_div(count, conv_ceil_div(count, most));
}

/* The same with an even number of parts, so that two threads end together; or one part. */
static inline int64_t conv_even_pairs(int64_t count, int64_t most) {
  return count > most ? conv_ceil_div(count, conv_round_up(conv_ceil_div(count, most), 2)) : count;
}

/* Whether there is padding at any side. */
static inline bool conv_pads(const fonio_conv_problem *p) {
  return (p->padding[0] | p->padding[1] | p->padding[2] | p->padding[3]) != 0;
}

/* How far to lay rows of so many elements from each other: a power of two apart they would fall into the same sets of a
 * cache, a vector more keeps them out of step. */
static inline int64_t conv_pitch(int64_t elements, int64_t lanes) {
  return elements % 128 == 0 ? elements + conv_max(lanes, 8) : elements;
}

#endif
