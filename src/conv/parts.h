/* The forward convolutions that an input gradient is made of.
 *
 * With a stride, pixels of the image (counted with the padding) that have the same remainder by the stride make a
 * phase: an image of its own, of which each pixel reads the same taps. So each phase is a convolution of stride 1 with
 * some of the taps, and no zeros are put between the pixels of grad_output. Nothing is copied: a phase of the image,
 * the taps of a phase and the turned weight are strides and a first element. */
#ifndef CONV_PARTS_H
#define CONV_PARTS_H

#include "conv/plan.h"

/* A convolution from grad_output to a part of grad_input, with some of the taps, turned by half a turn. */
struct conv_part {
  fonio_conv_plan *plan;
  int64_t weight, output; /* where its first weight and its output lie, in elements from the array */
  int64_t packed;         /* where its packed weights lie, in bytes; shared by the parts with the same taps */
  int64_t channel;        /* of the image, the first that it computes */
  bool packs;             /* the first of those */
  bool merged; /* all phases at once: they are output channels; its weights are copied before they are packed */
  int64_t last_tap[2], tap_step[2]; /* which taps it takes, from the last one back; down and across */
};

/* A rectangle of padded pixels, counted from the corner of the padding. */
typedef struct conv_region {
  int64_t row, rows, column, columns;
} conv_region;

/* Where the phases of a region go: strides from pixel to pixel of a phase, and from one phase to the next. */
typedef struct conv_place {
  int64_t strides[4];
  int64_t phase[2];
} conv_place;

/* A block of the padding: its gradients are computed in the workspace and added to those of the pixels that it shows.
 */
struct conv_fold {
  conv_region region;
  int64_t first_part, end_part;
};

/* How many phases have taps, down (axis 0) or across. */
int64_t conv_phases_along(const fonio_conv_problem *problem, int axis);

/* Whether row (or column) `pixel` of the image has taps. */
bool conv_has_taps(const fonio_conv_problem *problem, int axis, int64_t pixel);

/* Room for the parts of so many regions. FONIO_NO_MEMORY. */
fonio_status conv_parts_take(conv_parts *parts, const fonio_conv_problem *problem, int64_t regions);

/* Where a part's output lies: in the image, or in the workspace, which leaves less of it. Of padding many taps may see
 * nothing: those are left out. */
typedef enum conv_part_kind { CONV_PART_IN_PLACE, CONV_PART_BESIDE, CONV_PART_OF_PADDING } conv_part_kind;

/* Adds the parts for the phases of a region that have pixels. They take the algorithm of earlier parts with the same
 * taps, and share its packed weights. FONIO_NO_MEMORY. */
fonio_status conv_parts_add(const fonio_conv_plan *plan, conv_parts *parts, conv_region region, int64_t batch,
                            const conv_place *place, conv_part_kind kind);

/* Whether all phases have the same number of taps and read the same pixels, so that one part can do them all. */
bool conv_parts_merge(const fonio_conv_problem *problem);

/* Adds that one. Its output channels are those of the first phase, then those of the next one across.
 * FONIO_NO_MEMORY. */
fonio_status conv_parts_add_merged(const fonio_conv_plan *plan, conv_parts *parts, conv_region region,
                                   const conv_place *place);

/* Adds one for a convolution that was put together elsewhere; all such parts of a plan have the same weights.
 * FONIO_NO_MEMORY. */
fonio_status conv_parts_add_problem(const fonio_conv_plan *plan, conv_parts *parts, const fonio_conv_problem *problem);

/* Cycles for one image, packing included, and the workspace of parts [from, to). */
double conv_parts_cost(const conv_parts *parts);
int64_t conv_parts_workspace(const conv_parts *parts, int64_t from, int64_t to);

/* Packs the weights of the plan's parts; returns whether they are finite. */
bool conv_parts_pack(const fonio_conv_plan *plan, const void *weight, void *packed);

/* Runs one piece of a part, from `grad_output` to `output`. */
void conv_parts_run(const conv_run *run, const conv_part *part, const void *grad_output, void *output, int64_t piece,
                    void *workspace);

/* A row of the image out of its phases across, which lie `pitch` apart from each other. */
void conv_shuffle_row(const fonio_conv_problem *problem, const void *phases, int64_t pitch, void *row);

/* How many blocks of padding there are to fold; -1: too many. */
int64_t conv_folds_count(const fonio_conv_problem *problem);

/* Fills in a plan's folds, and their parts, once it has those of the image. FONIO_NO_MEMORY. */
fonio_status conv_folds_init(fonio_conv_plan *plan);

/* The workspace that a plan's folds need. */
int64_t conv_folds_workspace(const fonio_conv_plan *plan);

/* Adds the gradients of an image's padding to those of the image. */
int64_t conv_folds_pieces(const fonio_conv_plan *plan);
void conv_folds_run(const conv_run *run, int64_t image, void *workspace);

#endif
