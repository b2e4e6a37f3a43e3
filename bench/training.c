/* Training steps of the network of examples/train.c, for bench/training.py: for each number that stands in a line of
 * the input, so many steps; a line of the output has the last loss and the seconds of each. */
#include <fonio.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH = 64, SIDE = 28, CLASSES = 10 };

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void add_block(fonio_sequential *net, int64_t in, int64_t out) {
  fonio_sequential_append(net,
                          fonio_conv2d_new(.in_channels = in, .out_channels = out, .kernel_size = 3, .padding = 1));
  fonio_sequential_append(net, fonio_relu_new());
  fonio_sequential_append(net, fonio_max_pool2d_new(.kernel_size = 2));
}

static fonio_sequential *net_new(void) {
  fonio_sequential *net = fonio_sequential_new();
  add_block(net, 1, 16);
  add_block(net, 16, 32);
  fonio_sequential_append(net, fonio_flatten_new(1, -1));
  fonio_sequential_append(net, fonio_linear_new(.in_features = 32 * 7 * 7, .out_features = CLASSES));
  return net;
}

static double step(fonio_sequential *net, fonio_optimizer *optimizer, fonio_tensor *images, fonio_tensor *labels) {
  double value = 0;
  fonio_tensor *scores = fonio_module_forward(&net->base, images);
  fonio_tensor *loss = fonio_tensor_cross_entropy(scores, labels, -100, FONIO_REDUCTION_MEAN, 0);
  fonio_optimizer_zero_grad(optimizer);
  fonio_tensor_backward(loss);
  fonio_optimizer_step(optimizer);
  fonio_tensor_item(loss, &value);
  fonio_tensor_release(loss);
  fonio_tensor_release(scores);
  return value;
}

int main(void) {
  fonio_manual_seed(0);
  fonio_sequential *net = net_new();
  fonio_dict *parameters = net ? fonio_module_named_parameters(&net->base) : NULL;
  fonio_optimizer *optimizer = fonio_sgd_new(parameters, .lr = 0.02, .momentum = 0.9);
  fonio_tensor *images = fonio_tensor_rand(FONIO_FLOAT32, FONIO_SHAPE(BATCH, 1, SIDE, SIDE));
  fonio_tensor *labels = fonio_tensor_empty(FONIO_INT64, FONIO_SHAPE(BATCH));
  char line[32];
  for (int i = 0; i < BATCH && labels; i++)
    ((int64_t *)fonio_tensor_data(labels))[i] = i % CLASSES;
  while (!fonio_last_status() && fgets(line, sizeof line, stdin)) {
    double loss = 0, took[1000];
    int steps = atoi(line) < 1000 ? atoi(line) : 1000;
    for (int i = 0; i < steps; i++) {
      double began = seconds();
      loss = step(net, optimizer, images, labels);
      took[i] = seconds() - began;
    }
    printf("%.9g", loss);
    for (int i = 0; i < steps; i++)
      printf(" %.9g", took[i]);
    putchar('\n');
    fflush(stdout);
  }
  if (fonio_last_status()) fprintf(stderr, "training: %s\n", fonio_last_error());
  fonio_tensor_release(labels);
  fonio_tensor_release(images);
  fonio_optimizer_release(optimizer);
  fonio_dict_release(parameters);
  if (net) fonio_module_release(&net->base);
  return fonio_last_status() != FONIO_OK;
}
