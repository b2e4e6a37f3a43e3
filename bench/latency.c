/* What a call costs where the layer itself is next to nothing: LeNet's first layer, or any problem string.
 *
 *   build/bench/latency [problem string]
 *
 * Everyone takes turns, and a line tells the least and the median time of a call. */
#include <fonio.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LENET "n1c1h28w28k6r5s5p2"
#define CALLS 2000 /* of each way, in a turn */
#define TURNS 5

/* Everything that the ways of calling share. A call that fails leaves its message for the end. */
typedef struct bench_layer {
  const char *text;
  fonio_conv_problem problem;
  fonio_conv2d_args args;
  fonio_tensor *input, *weight, *bias;
  fonio_conv2d *module; /* with a weight of its own */
  fonio_conv_plan *plan;
  fonio_conv_buffers packed, plain; /* with a packed weight and a workspace; with neither */
} bench_layer;

/* ---- The ways of calling ---- */

static void run_packed(bench_layer *layer) {
  fonio_conv_plan_run(layer->plan, &layer->packed);
}

static void run_plain(bench_layer *layer) {
  fonio_conv_plan_run(layer->plan, &layer->plain);
}

static void plan_only(bench_layer *layer) {
  fonio_conv_plan_release(fonio_conv_plan_new(&layer->problem, NULL));
}

static void parse_only(bench_layer *layer) {
  fonio_conv_problem problem;
  fonio_conv_problem_parse(&problem, layer->text);
}

static void tensors(bench_layer *layer) {
  fonio_tensor_release(fonio_tensor_conv2d_with(layer->input, layer->weight, layer->bias, &layer->args));
}

/* Without gradients, as for all of these. */
static void module(bench_layer *layer) {
  fonio_tensor_release(fonio_conv2d_forward(layer->module, layer->input));
}

static const struct {
  const char *title;
  void (*call)(bench_layer *layer);
} ways[] = {
    {"a plan's run, packed weight and workspace given", run_packed},
    {"a plan's run, neither given", run_plain},
    {"fonio_conv2d_forward, the layer", module},
    {"fonio_tensor_conv2d, the function", tensors},
    {"making a plan", plan_only},
    {"reading a problem string", parse_only},
};
#define WAYS (sizeof ways / sizeof *ways)

/* ---- The layer ---- */

static fonio_tensor *ones(const fonio_conv_problem *p, int ndim, const int64_t *shape) {
  return fonio_tensor_ones(p->dtype, ndim, shape);
}

static void make_tensors(bench_layer *layer) {
  const fonio_conv_problem *p = &layer->problem;
  layer->input = ones(p, FONIO_SHAPE(p->batch, p->in_channels, p->in_height, p->in_width));
  layer->weight = ones(p, FONIO_SHAPE(p->out_channels, p->in_channels / p->groups, p->kernel_height, p->kernel_width));
  layer->bias = p->has_bias ? ones(p, FONIO_SHAPE(p->out_channels)) : NULL;
  static const char *const modes[] = {"zeros", "reflect", "replicate", "circular"};
  layer->args = FONIO_CONV2D_ARGS(.groups = p->groups, .padding_mode = modes[p->padding_mode]);
  for (int i = 0; i < 2; i++) {
    layer->args.stride[i] = p->stride[i];
    layer->args.dilation[i] = p->dilation[i];
  }
  for (int i = 0; i < 4; i++)
    layer->args.padding_sides[i] = p->padding[i];
}

static void make_module(bench_layer *layer) {
  const fonio_conv_problem *p = &layer->problem;
  fonio_conv2d_options options = fonio_conv2d_options_default();
  options.in_channels = p->in_channels;
  options.out_channels = p->out_channels;
  options.kernel_size[0] = p->kernel_height;
  options.kernel_size[1] = p->kernel_width;
  options.groups = p->groups;
  options.bias = p->has_bias;
  options.dtype = p->dtype;
  options.padding_mode = layer->args.padding_mode;
  for (int i = 0; i < 2; i++) {
    options.stride[i] = p->stride[i];
    options.dilation[i] = p->dilation[i];
  }
  for (int i = 0; i < 4; i++)
    options.padding_sides[i] = p->padding[i];
  layer->module = fonio_conv2d_new_with(&options);
}

static void make_plan(bench_layer *layer) {
  const fonio_conv_problem *p = &layer->problem;
  layer->plan = fonio_conv_plan_new(p, NULL);
  layer->plain = (fonio_conv_buffers){
      .input = fonio_tensor_const_data(layer->input),
      .weight = fonio_tensor_const_data(layer->weight),
      .bias = layer->bias ? fonio_tensor_const_data(layer->bias) : NULL,
      .output = fonio_memory_take((size_t)(p->batch * p->out_channels * p->out_height * p->out_width) *
                                  fonio_dtype_bytes(p->dtype)),
  };
  layer->packed = layer->plain;
  layer->packed.packed = fonio_conv_plan_pack(layer->plan, layer->plain.weight);
  layer->packed.workspace_bytes = fonio_conv_plan_workspace_bytes(layer->plan, 1);
  layer->packed.workspace = fonio_memory_take((size_t)layer->packed.workspace_bytes);
}

static void release(bench_layer *layer) {
  fonio_memory_give(layer->packed.workspace);
  fonio_memory_give(layer->plain.output);
  fonio_conv_packed_release((fonio_conv_packed *)layer->packed.packed);
  fonio_conv_plan_release(layer->plan);
  if (layer->module) fonio_module_release(&layer->module->base);
  fonio_tensor_release(layer->bias);
  fonio_tensor_release(layer->weight);
  fonio_tensor_release(layer->input);
}

/* ---- Measuring ---- */

static double microseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e6 * (double)time.tv_sec + 1e-3 * (double)time.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void measure(bench_layer *layer) {
  static double times[WAYS][TURNS * CALLS];
  for (int turn = 0; turn < TURNS; turn++)
    for (size_t way = 0; way < WAYS; way++)
      for (int i = -CALLS / 10; i < CALLS; i++) {
        double start = microseconds();
        ways[way].call(layer);
        if (i >= 0) times[way][turn * CALLS + i] = microseconds() - start;
      }
  printf("%-48s %10s %10s\n", "microseconds", "least", "median");
  for (size_t way = 0; way < WAYS; way++) {
    qsort(times[way], TURNS * CALLS, sizeof **times, compare);
    printf("%-48s %10.2f %10.2f\n", ways[way].title, times[way][0], times[way][TURNS * CALLS / 2]);
  }
}

int main(int argc, char **argv) {
  bench_layer layer = {.text = argc > 1 ? argv[1] : LENET};
  fonio_set_num_threads(1);
  fonio_set_grad_enabled(false);
  if (fonio_conv_problem_parse(&layer.problem, layer.text) == FONIO_OK) {
    make_tensors(&layer);
    make_module(&layer);
    make_plan(&layer);
    if (fonio_last_status() == FONIO_OK) {
      printf("%s with %s, %s\n", layer.text, fonio_conv_plan_algorithm(layer.plan), fonio_isa());
      measure(&layer);
    }
    release(&layer);
  }
  if (fonio_last_status() != FONIO_OK) fprintf(stderr, "latency: %s\n", fonio_last_error());
  return fonio_last_status() != FONIO_OK;
}
