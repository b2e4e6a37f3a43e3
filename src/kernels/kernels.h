/* The kernels: raw pointers and strides; no allocation, no threads, no errors. Every source of this room is compiled
 * once for each dtype and instruction set; a table holds the functions of each pair.
 *
 * Sizes and strides count elements. Data comes as void pointers because one table type serves all dtypes.
 *
 * The order of a convolution's sum is one for the whole library: kernel rows, kernel columns, input channels; each
 * output is one chain of fused multiply-adds in that order from zero, then the bias is added, or 0. Whatever is
 * blocked, packed or vectorised around it, the bits stay the same. Some kernels multiply the zeros of the padding, some
 * leave them out: the same, but for a sum that has shrunk to -0. So a bias of -0 is taken for 0 (`bias + 0`), which
 * makes 0 of such a sum. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "base/cpu.h"
#include "fonio/activation.h"
#include "fonio/dtype.h"
#include "kernels/order.h"

/* The geometry of one image and one group of channels. */
typedef struct kernel_conv {
  int64_t in_channels, out_channels; /* of the group */
  int64_t out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride[2], dilation[2];
  /* Where a padded row or column comes from: the source's index, or -1 for a zero. Index: output position * stride +
   * tap * dilation. */
  const int64_t *rows, *columns;
  /* For each kernel column two output columns [from, to) between which columns[] rises by the stride: no edge touches
   * them. */
  const int64_t *interior;
  int64_t padded_height, padded_width; /* entries of rows[] and columns[] */
  int64_t image_row, in_height;        /* rows[image_row ...] are the image's own, in_height of them */
  int64_t image_column, in_width;      /* and so the columns; negative: the first ones are not read */
  int64_t input_strides[3];            /* channel, row, column */
  int64_t weight_strides[4];           /* output channel, input channel, kernel row, kernel column */
  int64_t output_strides[3];           /* channel, row, column */
} kernel_conv;

/* Pixels of the output, counted row by row, and what they need of the input for a part of the sum. */
typedef struct kernel_pixels {
  int64_t first_pixel, pixels;
  int64_t first_term,
      terms; /* terms of the sum, in its order: (kernel row * kernel_width + kernel column) * in_channels + channel */
} kernel_pixels;

/* The widest panel of pixels, in elements, over all tables. */
#define KERNEL_MAX_PANEL 64

/* One tile of a matrix product, `c (rows x vectors * lanes) = a (rows x terms) * b (terms x vectors * lanes)`: a packed
 * [term][row], b with a stride between terms, c with a stride between rows. `accumulate`: the sum goes on from what c
 * holds. `bias`: one number a row, added at the end; or NULL. */
typedef void (*kernel_tile)(int64_t terms, const void *a, const void *b, int64_t b_stride, void *c, int64_t c_stride,
                            const void *bias, bool accumulate);

/* One tile of a matrix product, `c (rows x vectors) = a (rows x segments * terms) * b (segments * terms x vectors *
 * lanes)`, where each row of a comes in segments behind pointers of their own. */
typedef struct kernel_rows {
  int64_t segments, terms; /* terms in each segment */
  const void *const *rows; /* [segment][rows_tile_rows]: where the segment of each row begins */
  const void *b;           /* packed [segment * terms + term][vectors * lanes] */
  int64_t c_stride;        /* between rows of c; its columns lie side by side */
  int64_t last;            /* how many lanes of the last vector c has */
  const void *bias;        /* one number a column, added at the end; or NULL */
  bool accumulate;         /* the sum goes on from what c holds */
  int64_t ahead;           /* from b to what is fetched meanwhile into a nearer cache, as much as b has; 0: nothing */
} kernel_rows;
typedef void (*kernel_rows_tile)(const kernel_rows *job, void *c);

/* The same with one vector of output channels that are those of several groups, with as many input channels. */
typedef struct kernel_rows_groups {
  int64_t taps, channels;  /* of a group: they divide the lanes */
  int64_t pixels;          /* rows_tile_rows, or fewer */
  const void *const *rows; /* [tap][rows_tile_rows]: where the channels of each pixel begin, those of the last one as
                              often as there are too few pixels ... */
  int64_t channel;         /* ... and of these the first one of the vector */
  const void *weights;     /* [tap][input channel of the group][lanes] */
  const void *bias;        /* a vector; or NULL */
  int64_t out_stride;      /* between the pixels of the output */
} kernel_rows_groups;

/* A row of pixels, at least rows_tile_rows of them, and two vectors of output channels. */
typedef struct kernel_rows_few {
  int64_t pixels;
  int64_t step, out_step; /* between them, in the input and in the output */
  int64_t terms;
  const int64_t *offsets; /* where each term of the sum lies, seen from its pixel */
  const void *weights;    /* two vectors for each term, `weight_step` apart */
  int64_t weight_step;
  const void *bias; /* two vectors; or NULL */
} kernel_rows_few;

/* A strip of an image: rows x columns pixels of `lanes` channels each. Positions are padded ones
 * of the input, or the output's. */
typedef struct kernel_strip {
  int64_t row, column; /* of the first pixel */
  int64_t rows, columns;
  int64_t step[2]; /* between rows and between columns, in the image */
  int64_t pixel;   /* elements from one pixel of the strip to the next: `lanes` or more */
  int64_t pitch;   /* elements from one row of the strip to the next */
} kernel_strip;

/* Winograd tiles side by side, of m x m outputs and alpha x alpha inputs: where they lie in a strip and in the
 * transformed domain. alpha = 6: m = 2 to 5; alpha = 4: m = 2 or 3. Or lines of a row or a column: 6 inputs and 3 to 5
 * outputs. */
typedef struct kernel_winograd {
  int alpha, m;
  int64_t tiles;
  int64_t vectors;        /* of channels, side by side in the strip as in the transformed domain */
  int64_t pixel;          /* of the strip, from one column of a tile to the next */
  int64_t pitch;          /* of the strip, from one row of a tile to the next */
  int64_t element_stride; /* between the elements of one transformed tile */
  int64_t tile_stride;    /* between transformed tiles */
  int64_t step;           /* of lines: `pixel` or `pitch`, from one number to the next; else 0 */
} kernel_winograd;

/* How a kernel falls into smaller ones along an axis, its parts: the phases of a stride, or one behind the other. The
 * first `full` have as many taps as fit the tiles, alpha + 1 - m; the others have one less, or all are full. Where all
 * have a single tap there is nothing to transform: alpha and m are 1. */
typedef struct kernel_winograd_axis {
  int alpha, m;
  int64_t parts, full;
  int64_t step; /* the stride, from tap to tap of a part */
} kernel_winograd_axis;

/* A kernel for such tiles. Its parts are over as many times the input channels: part by part, in the order of
 * kernel_winograd_part. `joined`: of one row of all parts the channels follow each other, and of each its parts of
 * columns. */
typedef struct kernel_winograd_weights {
  kernel_winograd_axis axes[2];
  bool joined;
  bool far; /* the packed weights are too many for a cache to hold */
} kernel_winograd_weights;

/* The tap that a part begins with. */
static inline int64_t kernel_winograd_tap(const kernel_winograd_axis *axis, int64_t part) {
  int64_t less = part > axis->full ? part - axis->full : 0;
  return axis->step > 1 ? part : part * (axis->alpha + 1 - axis->m) - less;
}

/* A part that has less taps along an axis is zero at the point infinity of it, and needs no products there. So that
 * what each element needs stands together, the order is: full rows and short columns, full ones of both, short rows and
 * full columns, short ones of both. */
static inline void kernel_winograd_part(const kernel_winograd_axis axes[2], int64_t place, int64_t part[2]) {
  int64_t full = axes[1].full, less = axes[1].parts - full, before = axes[0].full * less, row = 0;
  bool shorter = place < before;
  if (!shorter) place -= before;
  if (!shorter && place >= axes[0].parts * full) place -= axes[0].parts * full, shorter = true, row = axes[0].full;
  part[0] = shorter ? row + place / less : place / full;
  part[1] = shorter ? full + place % less : place % full;
}

/* The places [from, to) of the parts that element (i, j) of a tile needs. */
typedef struct kernel_winograd_range {
  int64_t from, to;
} kernel_winograd_range;

static inline kernel_winograd_range kernel_winograd_parts(const kernel_winograd_axis axes[2], int i, int j) {
  const kernel_winograd_axis *rows = &axes[0], *columns = &axes[1];
  int64_t before = rows->full * (columns->parts - columns->full);
  int64_t there = i == rows->alpha - 1 ? rows->full : rows->parts;
  if (j == columns->alpha - 1) return (kernel_winograd_range){before, before + there * columns->full};
  return (kernel_winograd_range){0, there * columns->parts};
}

/* Some rows of one output plane, for depthwise convolution. */
typedef struct kernel_depthwise {
  int64_t row, rows; /* of the output */
  /* Of the padded input rows that the block needs, `inside` from the `first` on are not zeros. */
  int64_t first, inside;
  /* Elements of a row of the buffer, where the rows of the input that the block needs are padded, and dealt out with a
   * stride; from one phase of it to the next. 0: no buffer, the stride is 1 and no tap touches the padding of columns,
   * or see depthwise_near and depthwise_deals. */
  int64_t pitch, phase;
  void *buffer;         /* [input row][pitch]; zero where padding is, in the mode that pads with zeros */
  const void *zeros;    /* in place of rows of zeros */
  const void **rows_at; /* room for a pointer to each input row */
  int64_t room;         /* elements of the output, from the block's first on, that may be written now as later writes
                           will put them right; for blocks narrower than a vector */
  /* The same block of so many planes, where depthwise_near allows it: elements from one to the next, of the output, of
   * the biases; how much less room there is. Else 1. */
  int64_t planes, in_plane, out_plane, bias_step, room_step;
} kernel_depthwise;

/* Rows of an input gradient whose even and odd columns have other taps; taps of a kernel row read columns `dilation`
 * apart. */
typedef struct kernel_pairs {
  int64_t rows, row_stride;
  int64_t columns;  /* side by side */
  int64_t pitch;    /* of the strip */
  int64_t phases;   /* row i is of phase i % phases and begins in row i / phases of the strip */
  int64_t taps[2];  /* of a kernel row, for an even column and for an odd one */
  int64_t first[2]; /* the columns that the first ones read, seen from the pair */
  int64_t dilation;
  const int64_t *kernel_rows,
      *offsets; /* of each phase: how many; where all of them lie in the strip, seen from row i */
} kernel_pairs;

/* Rows of a matrix, `columns` numbers side by side, at least as many as there are lanes; a number of a vector for each
 * row. */
typedef struct kernel_vector {
  int64_t rows, columns;
  int64_t row_stride, vector_stride;
  const void *matrix, *vector;
} kernel_vector;

/* A sum of `count` rows, each shifted: number j of `columns` sums is that of the elements first[i] + j of the rows, as
 * far as these have such, in 0 to width - 1. Up to a vector may be read behind the last row. */
typedef struct kernel_sums {
  int64_t count;
  const int64_t *offsets, *first; /* where each row begins */
  int64_t width, columns;
} kernel_sums;

/* Results that are there, rows x columns of them: a residual is added, then comes the activation. */
typedef struct kernel_finish {
  fonio_activation activation;
  int64_t rows, columns;
  int64_t strides[2];       /* between rows and between columns: of the output and of the residual */
  const void *slopes;       /* of FONIO_LEAKY_RELU and FONIO_PRELU, else NULL */
  int64_t slope_strides[2]; /* 0: the same slope for all */
} kernel_finish;

/* Rows of an image, padded, column by column dealt out to as many rows: element i of phase f is the padded column
 * `column + i * step + f`. Laid out [channel][row][phase][pitch]; a row's rest is not written. */
typedef struct kernel_shifted_strip {
  int64_t row, rows, row_step; /* padded rows: row, row + row_step, ... */
  int64_t column, columns;     /* of each phase */
  int64_t step, phases;        /* phases: `step`, or 1 for the first alone */
  int64_t pitch;               /* `columns` or more */
} kernel_shifted_strip;

/* Vectors of pixels, one row of output channels behind the other. */
typedef struct kernel_shifted {
  int64_t rows, terms;
  const int64_t *offsets; /* where each term of the sum lies in the input, seen from its pixel */
  const void *weights;    /* [term][output channel] */
  const void *bias;       /* one number for each output channel; or NULL */
  const void *input;
  void *output;
  int64_t channel_stride; /* of the output */
  int64_t lanes;          /* that are stored: as many as a vector has, or fewer */
} kernel_shifted;

/* A vector of pixels: where it is read and written. Of a joined one, which goes on in the next row, only the lanes
 * whose bits are set in `lanes` are read there, the others where a vector at `next` has them. */
typedef struct kernel_shifted_vector {
  int64_t from, to, next, lanes;
} kernel_shifted_vector;

/* Pixels side by side, as many as a vector has or fewer, that are written somewhere else. */
typedef struct kernel_turn {
  int64_t channels, pixels;
  int64_t from_channel;         /* from one channel to the next, where they are */
  int64_t to_channel, to_pixel; /* and where they go */
} kernel_turn;

/* A few output channels times `count` vectors, `vectors` of them at a time. `run` takes none that are joined, and fewer
 * than `vectors` are followed by more, up to `vectors`, that may be computed as well. */
typedef struct kernel_shifted_tile {
  int64_t vectors;
  void (*run)(const kernel_shifted *job, int64_t count, const kernel_shifted_vector *list);
  void (*run_joined)(const kernel_shifted *job, int64_t count, const kernel_shifted_vector *list); /* or NULL */
} kernel_shifted_tile;

/* A part of a weight's gradient: `rows` terms of it, each with a place of its own in the input, times the output
 * channels of a panel; or the other way round, output channels times the input channels of a panel. A block's pixels
 * come in segments of evenly spaced ones. */
typedef struct kernel_gradient {
  int64_t images, segments, terms;             /* terms in each segment */
  int64_t image_step, segment_step, term_step; /* in the input */
  const void *input;
  const void *panel; /* of each pixel vectors * lanes numbers; those of a segment side by side */
  int64_t panel_segment_gap, panel_image_gap; /* elements behind each segment, and then behind each image */
  int64_t vectors;                            /* a power of two */
  bool by_lane; /* each lane has an input of its own: vectors * lanes of them, side by side */
  int64_t rows;
  const int64_t *offsets; /* of each row, in the input */
  void *sums;             /* of each row vectors * lanes, `sum_step` apart */
  int64_t sum_step;
  bool begin; /* the sums begin here: what lies at `sums` is overwritten */
} kernel_gradient;

/* How the channels of a pixel, which lie side by side, are dealt out: channel lane * apart + row is written to
 * row * row_stride + lane. */
typedef struct kernel_dealing {
  int64_t lanes, apart;
  int64_t width; /* lanes that are written: those that are not there as zeros */
  int64_t rows, row_stride;
} kernel_dealing;

/* Output channels of the next tile of a matrix product where `left` are left and the largest tile has `most`: between
 * 4 and the largest there is none. */
static inline int64_t kernel_tile_rows(int64_t most, int64_t left) {
  int64_t rows = left < most && left > 4 ? 4 : left;
  return rows < most ? rows : most;
}

typedef struct kernel_table {
  int lanes;
  int tile_rows, tile_vectors; /* of the largest tile */
  const kernel_tile *tiles;    /* [(rows - 1) * tile_vectors + vectors - 1]; NULL for rows that no tile has */
  kernel_tile half_tile;       /* tile_rows of half a vector, which it leaves sooner; or NULL */

  /* Packs pixels as [term][width], width a multiple of the lanes and at least the pixels; what is over is zero. Up to
   * `lanes` elements behind the panel are overwritten. */
  void (*pack_pixels)(const kernel_conv *conv, const kernel_pixels *part, const void *input, int64_t width,
                      void *panel);

  /* Packs the weights of a group as [block of output channels][term][channel of the block], the channels of a block
   * being those of a tile (kernel_tile_rows). Returns whether all are finite. */
  bool (*pack_weights)(const kernel_conv *conv, const void *weight, void *packed);

  int rows_tile_rows, rows_tile_vectors; /* of the largest tile with rows behind pointers */
  const kernel_rows_tile *rows_tiles;    /* [(rows - 1) * rows_tile_vectors + vectors - 1] */
  kernel_rows_tile rows_half; /* rows_tile_rows of a vector and a half, `last` half a vector or less; it does not
                                 accumulate; or NULL */
  void (*rows_groups)(const kernel_rows_groups *job, void *output);
  void (*rows_few)(const kernel_rows_few *job, const void *input, void *output); /* or NULL */

  /* Copies between an image and a strip of `lanes` channels from `channel` on; what lies outside is zero, or not
   * written. */
  void (*gather_strip)(const kernel_conv *conv, const kernel_strip *strip, int64_t channel, const void *input,
                       void *to);
  void (*scatter_strip)(const kernel_conv *conv, const kernel_strip *strip, int64_t channel, const void *from,
                        void *output);

  /* Winograd's transforms of a few vectors of channels; of weights, packed [element][block of output channels][part
   * and input channel][channel of the block] with output channels rounded up to whole vectors. Returns whether all are
   * finite. */
  void (*winograd_input)(const kernel_winograd *job, const void *strip, void *to);
  void (*winograd_output)(const kernel_winograd *job, const void *from, const void *bias, void *strip);
  bool (*winograd_weights)(const kernel_winograd_weights *job, const kernel_conv *conv, const void *weight,
                           void *packed);
  /* The same of an output's gradient, tiles of m x m of it as the kernels: alpha = 6: m = 2 to 5; alpha = 4: m = 2. */
  void (*winograd_gradient)(const kernel_winograd *job, const void *strip, void *to);

  /* Packs the weights of a group for such tiles: [block of output channels][term][channel of the block], blocks of
   * rows_tile_vectors vectors, the last one of as many whole vectors as it needs. Returns whether all are finite. */
  bool (*pack_columns)(const kernel_conv *conv, const void *weight, void *packed);

  /* One block of one output plane: finds or copies its input rows, then sums. The weights of its channel come tap by
   * tap; output columns lie side by side. */
  void (*depthwise_rows)(const kernel_conv *conv, const kernel_depthwise *job, const void *plane);
  void (*depthwise_sums)(const kernel_conv *conv, const kernel_depthwise *job, const void *weights, const void *bias,
                         void *output);
  /* A kernel of so many rows and columns, with no stride, no dilation and zeros around the image, needs no buffer where
   * a block has so many rows; 0: it always does. */
  int64_t depthwise_near[8];
  bool depthwise_deals; /* without a buffer also kernels of 3 x 3 with a stride of 2, padded by one column at the left,
                           and of 5 x 5, padded by two at the most */
  /* All sums of planes of so many rows, input and output no wider than half a vector, for kernels of 3 x 3 and 5 x 5
   * with no dilation, no stride, and half a kernel of zeros above and at the left. 0: there is none. */
  int64_t depthwise_narrow_rows;
  void (*depthwise_narrow)(const kernel_conv *conv, const kernel_depthwise *job, const void *plane, const void *weights,
                           const void *bias, void *output);
  /* The input gradient of a plane of any height, the output's no wider than half a vector and the input's than a whole
   * one, for the same kernels with strides of 2; or NULL. Weights as depthwise_pairs has them. */
  void (*depthwise_narrow_pairs)(const kernel_conv *conv, const void *weights, const void *from, void *to);
  /* `planes` planes, from a multiple of four on, whose output is no wider than half a vector, and no narrower than a
   * quarter, its rows without a gap between them; kernels of 3 x 3 and 5 x 5, strides of 2, no dilation, an even height
   * no wider than a vector, and half a kernel of zeros above and at the left. Weights [block of four][tap][plane].
   * NULL: there is none. */
  void (*depthwise_fours)(const kernel_conv *conv, const kernel_depthwise *job, const void *image, const void *weights,
                          const void *bias, void *output);
  /* One output row of channels_last: for each kernel row a pointer for each padded column, at the channels of its
   * pixel, or NULL for a row of zeros; weights [tap][channels]; biases side by side, or NULL. */
  void (*depthwise_pixels)(const kernel_conv *conv, const void *const *const *rows, int64_t channels,
                           const void *weights, const void *bias, void *output);

  /* `weights`: of each kernel row those for even columns, then those for odd ones. */
  void (*depthwise_pairs)(const kernel_pairs *job, const void *weights, const void *strip, void *output);

  /* The sum of the rows times their numbers, `stride` apart in the output; `sums` is room for as many side by side. */
  void (*vector_sums)(const kernel_vector *job, void *sums, void *output, int64_t stride);

  void (*row_sums)(const kernel_sums *job, const void *rows, void *to);

  /* Multiply-adds from registers, to measure how fast they can be; writes a vector. Returns how many there were, each
   * lane counted. */
  int64_t (*multiply_adds)(int64_t rounds, void *out);

  /* `residual` may be NULL. */
  void (*finish)(const kernel_finish *job, void *output, const void *residual);

  /* One row of `grad_output` times the derivative of the activation, which follows from `output`; one of
   * FONIO_LEAKY_RELU is taken for those that there are not. `grad_sum` may be one of the two. */
  void (*derive)(const kernel_finish *job, const void *output, const void *grad_output, void *grad_sum);

  int shifted_rows;                         /* of the largest tile */
  const kernel_shifted_tile *shifted_tiles; /* [rows - 1] */
  void (*shifted_strip)(const kernel_conv *conv, const kernel_shifted_strip *job, const void *input, void *strip);
  void (*shifted_turn)(const kernel_turn *job, const void *from, void *to);

  /* Packs the weights of a group as [block of output channels][term][channel of the block], in `blocks` blocks of
   * nearly the same size. Returns whether all are finite. */
  bool (*pack_even)(const kernel_conv *conv, int64_t blocks, const void *weight, void *packed);

  /* The sums of a weight's gradient over one block of pixels, added to what is there. */
  int gradient_vectors; /* of the widest panel; at most 2 where each lane has its own input */
  void (*gradient_sums)(const kernel_gradient *job);
  /* The sums over a panel, [pixel][vectors * lanes], added to `biases`; some vectors added to others; and whether some
   * are finite. */
  void (*gradient_biases)(int64_t pixels, int64_t vectors, const void *panel, void *biases);
  void (*gradient_add)(int64_t vectors, void *sums, const void *more);
  bool (*gradient_finite)(int64_t vectors, const void *panel);
  /* Deals out the pixels of a strip; what lies outside is zero. */
  void (*gradient_deal)(const kernel_conv *conv, const kernel_strip *strip, const kernel_dealing *job,
                        const void *input, void *to);

  /* Of some planes of an image: a vector of sums for each tap of a depthwise weight of 3 x 3, one for the bias, and so
   * for the next plane; added to what is there, unless they are `fresh`. Without dilation, strides of both axes 1 or
   * both 2, zeros as padding, columns side by side. NULL where there are no such kernels, and so the next. */
  void (*plane_gradient)(const kernel_conv *conv, int64_t planes, bool fresh, const void *input,
                         const void *grad_output, void *sums);
  /* Adds up the lanes of each vector: `count` numbers, and more up to a whole number of vectors. */
  void (*lane_sums)(int64_t count, const void *sums, void *to);

  /* The plain loops: the oracle, and the last resort. One group; of one image, but for the gradients of weight and
   * bias, which are sums over all. */
  void (*reference_forward)(const kernel_conv *conv, const void *input, const void *weight, const void *bias,
                            int64_t bias_stride, void *output);
  void (*reference_input_gradient)(const kernel_conv *conv, const void *grad_output, const void *weight,
                                   void *grad_input);
  void (*reference_weight_gradient)(const kernel_conv *conv, const kernel_order *order, const void *input,
                                    const void *grad_output, void *grad_weight);
  void (*reference_bias_gradient)(const kernel_conv *conv, const kernel_order *order, const void *grad_output,
                                  void *grad_bias, int64_t bias_stride);
  /* Adds the sums of one block, from pointers to the first image. */
  void (*reference_block_gradient)(const kernel_conv *conv, const kernel_order *order, int64_t block, const void *input,
                                   const void *grad_output, void *grad_weight);
} kernel_table;

/* The kernels of a dtype (FONIO_FLOAT32 or FONIO_FLOAT64) for an instruction set that the build has. */
const kernel_table *kernel_table_for(fonio_dtype dtype, cpu_isa isa);

#endif
