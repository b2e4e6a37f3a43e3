/* A weight's gradient with output channels in the lanes of a vector: how it is cut, and the work on one piece.
 * weight_gradient_outputs.c makes the choices, weight_gradient_outputs_run.c does the work, on what
 * weight_gradient_outputs_read.c brings together. */
#ifndef CONV_WEIGHT_GRADIENT_OUTPUTS_H
#define CONV_WEIGHT_GRADIENT_OUTPUTS_H

#include "conv/weight_gradient.h"

/* Where the inputs are read. */
typedef enum gradient_source {
  SOURCE_IMAGE,  /* in the image itself */
  SOURCE_INSIDE, /* there too, tap by tap: where a tap reads the zeros of the padding, it is left out */
  SOURCE_PLANES, /* in a padded copy of some rows, [image][channel][row][column] */
  SOURCE_PIXELS  /* in a padded copy of some rows, [image][row][column][channel] */
} gradient_source;

/* The numbers that follow from a problem. A block of weights is some input channels times some kernel rows times some
 * panels of output channels. */
typedef struct gradient_numbers {
  bool by_lane; /* a vector holds a channel of each group, and each lane has an input of its own; else it holds output
                   channels of one group, and an input is the same for all */
  gradient_source source;
  bool deal_input, deal_output; /* the channels of a pixel lie side by side, and are dealt out rather than turned */
  kernel_order order;
  int64_t width;                                    /* lanes of a panel */
  int64_t all_lanes;                                /* that panels divide: output channels of a group, or groups */
  int64_t lane_panels;                              /* that cover them */
  int64_t panels;                                   /* that share the inputs of a piece */
  int64_t kept;                                     /* that are turned at once */
  int64_t channels;                                 /* input channels of a piece */
  int64_t kernel_rows;                              /* of a piece */
  int64_t outer;                                    /* problems beside each other: groups, or panels of groups */
  int64_t panel_blocks, channel_blocks, row_blocks; /* blocks of one of them */
  int64_t skip[2];     /* between the rows and columns of the copy: a kernel of one tap skips what the stride does */
  int64_t pitch;       /* elements of a row of the copy */
  int64_t pixel;       /* elements of a pixel of the copy */
  int64_t panel, copy; /* where they lie in the workspace, in bytes, behind the offsets */
  int64_t workspace_bytes;    /* of all of these */
  int64_t sums, result_bytes; /* of the results: biases, then the sums */
} gradient_numbers;

gradient_numbers conv_gradient_numbers(const fonio_conv_plan *plan);

/* Rows (axis 0) or columns (1) of the copy under so many of the output and of the kernel. */
int64_t conv_gradient_reach(const fonio_conv_plan *plan, const gradient_numbers *n, int axis, int64_t outputs,
                            int64_t taps);

/* Input channels, kernel rows or kernel columns of a piece: how many, and what lies between one and the next. */
typedef struct weight_dimension {
  int64_t size, weight_stride;
  int64_t place; /* in the piece's sums for one output channel */
} weight_dimension;

/* Padded rows of the input that the last block left in the copy, of an image and a block of columns. */
typedef struct copied_rows {
  int64_t image, column, first, rows;
} copied_rows;

/* The work on a piece. */
typedef struct gradient_work {
  const conv_run *run;
  const fonio_conv_plan *plan;
  const gradient_numbers *n;
  int64_t bytes; /* of an element */
  int64_t rows;  /* weights of the piece for one output channel */
  weight_dimension channel, kernel_row, kernel_column;
  bool channel_last;                /* the sums of a tap's channels follow each other, else those of a channel's taps */
  int64_t in_channel, in_lane;      /* the piece's first input channel, and how far one lane's lies from the next's */
  int64_t out_channel, out_lane;    /* the same of the output */
  int64_t first_channel, first_row; /* of the group and of the kernel */
  int64_t panels, panel_step;       /* output channels from panel to panel */
  int64_t kept;                     /* panels that are turned at once */
  int64_t lanes;                    /* that there are from the first one on */
  bool weight, bias;                /* what there is to compute */
  bool careful;                     /* looks for what is not finite in the output's gradient */
  int64_t block;                    /* of pixels */
  kernel_block pixels;
  copied_rows copied;
  kernel_gradient job;
  int64_t *offsets;
  char *panel, *copy, *biases, *sums;
} gradient_work;

/* Pixels of the block. */
static inline int64_t conv_gradient_pixels(const gradient_work *w) {
  return w->pixels.images * w->pixels.rows * w->pixels.columns;
}

/* Of a panel: its first output channel, the lanes that there are, and as many as whole vectors have. */
int64_t conv_gradient_channel_of_panel(const gradient_work *w, int64_t panel);
int64_t conv_gradient_lanes_of_panel(const gradient_work *w, int64_t panel);
int64_t conv_gradient_width_of_panel(const gradient_work *w, int64_t panel);

/* A channel, counted through all groups, of an image, and of its output's gradient. */
const void *conv_gradient_input(const gradient_work *w, int64_t image, int64_t channel);
const void *conv_gradient_grad_output(const gradient_work *w, int64_t image, int64_t channel);

/* What the sums read for the block of pixels: fills in the places of the job's inputs, copies them where that has to
 * be. */
void conv_gradient_read_input(gradient_work *w);

/* Turns, or deals out, the next panels of the block of pixels. */
void conv_gradient_turn_panels(const gradient_work *w, int64_t panel);

/* Where a panel then lies, [pixel][width]. */
char *conv_gradient_turned_panel(const gradient_work *w, int64_t panel);

/* The algorithms' `run_piece` and `run_last`. */
void conv_gradient_run_piece(const conv_run *run, int64_t piece, void *workspace);
void conv_gradient_run_last(const conv_run *run, int64_t block, void *workspace);

#endif
