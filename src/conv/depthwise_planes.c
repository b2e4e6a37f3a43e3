/* Depthwise convolution of planes, whose columns lie side by side: NCHW. A piece is some channels of one image. */
#include <string.h>

#include "base/cpu.h"
#include "conv/depthwise.h"

/* A piece should last long enough to be worth handing to a thread. */
#define PIECE_PRODUCTS (1 << 19)

/* The workspace: zeros, pointers to rows, padded copies of rows. */
typedef struct planes_layout {
  int64_t pitch, phase; /* of the copies, in elements; 0: rows are read as they lie in the image */
  int64_t pointers, buffer, bytes;
} planes_layout;

/* Rows of the output follow each other downwards, as vectors may reach beyond one into the next. */
static bool planes_applicable(const fonio_conv_problem *p) {
  return conv_is_depthwise(p) && p->output_strides[3] == 1 && p->output_strides[2] >= 0;
}

/* Whether the kernel deals out the columns of the image itself. */
static bool deals_image(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  const kernel_conv *g = &plan->geometry;
  bool three = g->kernel_height == 3 && g->image_column == 1 && p->padding[3] <= 1 && p->out_height >= 4;
  /* The first vector is masked for the padding at its left only. */
  bool five = g->kernel_height == 5 && p->padding[2] <= 2 && p->padding[3] <= 2 && g->image_column >= 0 &&
              g->in_width + g->image_column >= plan->kernels->lanes + 4;
  return plan->kernels->depthwise_deals && (three || five) && g->kernel_width == g->kernel_height &&
         g->stride[0] == 2 && g->stride[1] == 2 && g->dilation[0] == 1 && g->dilation[1] == 1 &&
         g->input_strides[2] == 1 && p->padding_mode == FONIO_ZEROS;
}

/* Whether there is a kernel for planes as small. */
static bool is_narrow(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  int64_t size = g->kernel_height, rows = plan->kernels->depthwise_narrow_rows, half = plan->kernels->lanes / 2;
  bool plain = g->stride[0] * g->stride[1] == 1 && g->dilation[0] * g->dilation[1] == 1;
  return rows && plain && g->kernel_width == size && (size == 3 || size == 5) && g->image_row == size / 2 &&
         g->image_column == size / 2 && g->out_height == rows && g->in_height == rows && g->out_width <= half &&
         g->in_width <= half && g->input_strides[2] == 1 && plan->problem.padding_mode == FONIO_ZEROS;
}

/* The kernels to take: where half a vector is enough, those of half vectors. */
static const kernel_table *kernels_of(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  return is_narrow(plan) ? plan->kernels : conv_depthwise_kernels(plan->kernels, p->dtype, p->out_width);
}

/* Whether the kernel masks out what lies beside the image. */
static bool reads_near(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  int64_t size = g->kernel_height, rows = size < 8 ? kernels_of(plan)->depthwise_near[size] : 0;
  return rows && g->out_height >= rows && g->kernel_width == size && g->stride[0] == 1 && g->stride[1] == 1 &&
         g->dilation[0] == 1 && g->dilation[1] == 1 && g->input_strides[2] == 1 &&
         plan->problem.padding_mode == FONIO_ZEROS;
}

/* Whether the image can be read as it is. */
static bool reads_image(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  int64_t last = g->out_width - 1 + conv_depthwise_reach(g, 1);
  if (deals_image(plan) || reads_near(plan) || is_narrow(plan)) return true;
  return g->stride[1] == 1 && g->input_strides[2] == 1 && g->image_column == 0 && last < g->in_width &&
         g->out_width >= plan->kernels->lanes && plan->problem.padding_mode == FONIO_ZEROS;
}

/* A padded input row, which a stride deals out: elements of a phase, with a vector more; of the row; and before it, so
 * that a row of the image begins at a cache line in each phase: a store across two of them takes twice as long. */
typedef struct row_layout {
  int64_t phase, pitch, before;
} row_layout;

static row_layout lay_out_row(const fonio_conv_plan *plan) {
  const kernel_conv *g = &plan->geometry;
  int64_t lanes = plan->kernels->lanes, line = 64 / conv_element_bytes(plan);
  int64_t stride = g->stride[1], first = conv_max(0, g->image_column);
  int64_t columns = conv_max(g->out_width, lanes) + conv_depthwise_reach(g, 1) / stride + lanes;
  row_layout row = {.phase = conv_round_up(columns, line), .before = conv_round_up(first, stride * line) - first};
  if (stride == 2) row.phase += first % 2;
  row.before /= stride;
  row.pitch = conv_round_up(stride * row.phase, line);
  return row;
}

static planes_layout lay_out(const fonio_conv_plan *plan) {
  row_layout row = lay_out_row(plan);
  int64_t bytes = conv_element_bytes(plan);
  int64_t rows = conv_depthwise_input_rows(plan, plan->blocks.terms);
  bool copies = !reads_image(plan);
  planes_layout l = {.pitch = copies ? row.pitch : 0, .phase = row.phase, .pointers = row.pitch * bytes};
  l.buffer = l.pointers + conv_round_up(rows * (int64_t)sizeof(void *), 64);
  l.bytes = l.buffer;
  if (copies) l.bytes += conv_round_up((rows * row.pitch + row.before) * bytes, 64), l.buffer += row.before * bytes;
  return l;
}

/* Copying and starting a row takes its time; so does moving single elements, for large strides and columns that do not
 * lie side by side. */
static double planes_cost(const fonio_conv_plan *plan) {
  const fonio_conv_problem *p = &plan->problem;
  int64_t lanes = kernels_of(plan)->lanes;
  if (is_narrow(plan)) return conv_depthwise_products(plan) / 11;
  double vectors =
      conv_depthwise_products(plan) / (double)conv_max(1, p->out_width) * (double)conv_ceil_div(p->out_width, lanes);
  double vector = lanes * (int64_t)fonio_dtype_bytes(p->dtype) == 64 ? 1.1 : p->stride[1] == 1 ? 0.8 : 1.1;
  if (reads_near(plan)) return vectors * vector + 20.0 * (double)p->out_channels;
  double elements = (double)p->out_channels * (double)(p->in_height * p->in_width);
  double moved = p->input_strides[3] == 1 && p->stride[1] <= 2 ? 0 : 4 * elements;
  return vectors * vector + 20.0 * (double)(p->out_channels * p->out_height) + moved;
}

/* Output rows of a block: all, or so many that few input rows are visited twice, while they stay in the first-level
 * cache beside what is written. */
static int64_t rows_of_block(const fonio_conv_plan *plan) {
  int64_t height = plan->problem.out_height, cache = cpu_cache_sizes()->l1_bytes;
  int64_t row_bytes = lay_out_row(plan).pitch * conv_element_bytes(plan);
  if (reads_image(plan)) return conv_min(height, 256);
  if (conv_depthwise_input_rows(plan, height) <= cache * 3 / 4 / row_bytes) return height;
  int64_t fit = (cache / 2 / row_bytes - conv_depthwise_input_rows(plan, 1)) / plan->geometry.stride[0] / 8 * 8;
  return conv_min(height, conv_max(fit, 4));
}

/* Channels at once: several where a plane is one block. What they are gone through again for, be it sums after the
 * copies of their rows, be it what follows the sums, finds them in the first-level cache. */
static int64_t channels_at_once(const fonio_conv_plan *plan, const planes_layout *l) {
  const fonio_conv_problem *p = &plan->problem;
  bool copies = l->pitch > 0, near = reads_near(plan) || is_narrow(plan) || deals_image(plan);
  if (plan->blocks.terms < p->out_height || (!copies && (!near || plan->geometry.out_channels > 1))) return 1;
  int64_t most = copies ? conv_min(8, plan->blocks.channels) : plan->blocks.channels;
  int64_t bytes = copies ? l->bytes : p->out_height * p->out_width * (int64_t)fonio_dtype_bytes(p->dtype);
  bool again = copies || conv_has_finish(p);
  return again ? conv_max(1, conv_min(most, cpu_cache_sizes()->l1_bytes / 2 / conv_max(1, bytes))) : most;
}

static void planes_prepare(fonio_conv_plan *plan) {
  int64_t bytes = conv_element_bytes(plan), height = plan->problem.out_height;
  conv_blocks *b = &plan->blocks;
  plan->kernels = kernels_of(plan);
  b->terms = rows_of_block(plan);
  int64_t per_plane = conv_max(1, height * plan->problem.out_width * conv_depthwise_taps(plan));
  int64_t channels = plan->problem.out_channels, piece = conv_max(1, PIECE_PRODUCTS / per_plane);
  /* What would be one piece of half that: two. */
  bool halves = channels <= piece && 2 * channels > piece;
  b->channels = halves ? conv_ceil_div(channels, 2) : conv_even_pairs(channels, piece);
  plan->packed_bytes = plan->problem.out_channels * conv_depthwise_taps(plan) * bytes;
  planes_layout l = lay_out(plan);
  b->panel = channels_at_once(plan, &l);
  plan->workspace_bytes = l.bytes * (l.pitch ? b->panel : 1);
}

static bool planes_pack(const fonio_conv_plan *plan, const void *weight, void *packed) {
  return conv_depthwise_pack(plan, weight, 1, packed);
}

static int64_t planes_pieces(const fonio_conv_plan *plan) {
  return plan->problem.batch * conv_ceil_div(plan->problem.out_channels, plan->blocks.channels);
}

/* What the loops of a piece have in common. */
typedef struct planes_work {
  const conv_run *run;
  planes_layout layout;
  char *workspace;
  int64_t image, end; /* the channel after the last */
  int64_t bytes;      /* of an element */
} planes_work;

/* The block of rows from `row` on, or from earlier on rather than lower than a band. */
static kernel_depthwise block_at(const planes_work *w, int64_t row) {
  const fonio_conv_plan *plan = w->run->plan;
  kernel_depthwise job = {
      .row = conv_max(0, conv_min(row, plan->problem.out_height - conv_min(8, plan->blocks.terms))),
      .pitch = w->layout.pitch,
      .phase = w->layout.phase,
  };
  job.rows = conv_min(plan->blocks.terms, plan->problem.out_height - job.row);
  const int64_t *map = plan->geometry.rows + job.row * plan->geometry.stride[0];
  int64_t end = conv_depthwise_input_rows(plan, job.rows);
  while (job.first + 1 < end && map[job.first] < 0)
    job.first++;
  while (end > job.first && map[end - 1] < 0)
    end--;
  job.inside = end - job.first;
  return job;
}

/* Of the input, under an output channel. */
static const void *plane_at(const planes_work *w, int64_t channel) {
  const fonio_conv_plan *plan = w->run->plan;
  const int64_t *strides = plan->problem.input_strides;
  int64_t plane = channel / plan->geometry.out_channels * strides[1];
  return conv_at(w->run->buffers->input, (w->image * strides[0] + plane) * w->bytes);
}

/* The same with the workspace of one of the channels at once. */
static void give_workspace(const planes_work *w, int64_t slot, kernel_depthwise *job) {
  char *workspace = w->workspace + slot * w->layout.bytes;
  job->buffer = workspace + w->layout.buffer;
  job->zeros = workspace;
  job->rows_at = (const void **)(void *)(workspace + w->layout.pointers);
}

/* One block of `count` channels from `first` on. Rows of all are copied before the first sum, which would else wait for
 * them to be written. */
static void run_block(const planes_work *w, int64_t row, int64_t first, int64_t count) {
  const fonio_conv_plan *plan = w->run->plan;
  const fonio_conv_problem *p = &plan->problem;
  const fonio_conv_buffers *b = w->run->buffers;
  kernel_depthwise job = block_at(w, row);
  job.planes = job.pitch ? 1 : count;
  bool narrow = is_narrow(plan);
  for (int64_t i = 0; i < count && !narrow; i += job.planes) {
    give_workspace(w, i, &job);
    plan->kernels->depthwise_rows(&plan->geometry, &job, plane_at(w, first + i));
  }
  int64_t plane = p->out_height * p->out_width, taps = conv_depthwise_taps(plan);
  job.in_plane = p->input_strides[1];
  job.out_plane = p->output_strides[1];
  job.bias_step = p->bias_stride;
  job.room_step = p->output_strides[1] == plane ? plane : 0;
  for (int64_t channel = first; channel < first + count; channel += job.planes) {
    give_workspace(w, channel - first, &job);
    /* Rows and channels that lie close together are written one after the other. */
    int64_t behind = job.room_step ? w->end - channel - 1 : 0;
    if (p->output_strides[2] == p->out_width) job.room = (behind + 1) * plane - job.row * p->out_width;
    char *to = (char *)b->output + (w->image * p->output_strides[0] + channel * p->output_strides[1]) * w->bytes;
    const void *weights = conv_at(w->run->packed, channel * taps * w->bytes);
    const void *bias = conv_at(b->bias, channel * p->bias_stride * w->bytes);
    if (narrow)
      plan->kernels->depthwise_narrow(&plan->geometry, &job, plane_at(w, channel), weights, bias, to);
    else
      plan->kernels->depthwise_sums(&plan->geometry, &job, weights, bias, to);
  }
  kernel_strip block = {.row = job.row, .rows = job.rows, .columns = p->out_width, .step = {1, 1}};
  conv_finish(w->run, w->image, first, count, &block);
}

static void planes_run_piece(const conv_run *run, int64_t piece, void *workspace) {
  const fonio_conv_plan *plan = run->plan;
  const conv_blocks *b = &plan->blocks;
  int64_t first = conv_take(&piece, conv_ceil_div(plan->problem.out_channels, b->channels)) * b->channels;
  planes_work w = {
      .run = run,
      .layout = lay_out(plan),
      .workspace = memset(workspace, 0, (size_t)plan->workspace_bytes),
      .image = piece,
      .end = conv_min(first + b->channels, plan->problem.out_channels),
      .bytes = conv_element_bytes(plan),
  };
  for (int64_t channel = first; channel < w.end; channel += b->panel)
    for (int64_t row = 0; row < plan->problem.out_height; row += b->terms)
      run_block(&w, row, channel, conv_min(b->panel, w.end - channel));
}

const conv_algorithm conv_depthwise_planes_forward = {
    .name = "depthwise_planes",
    .direction = FONIO_CONV_FORWARD,
    .accuracy = FONIO_ACCURACY_STRICT,
    .applicable = planes_applicable,
    .needs = "as many groups as input channels, and output columns side by side",
    .cost = planes_cost,
    .prepare = planes_prepare,
    .packing = 0.5,
    .any_kernels = true,
    .pack = planes_pack,
    .pieces = planes_pieces,
    .run_piece = planes_run_piece,
};
