/* The article's program: a network of one convolution, its printing, a run and its gradient. It prints, byte for byte,
 * what this prints in Python:
 *
 *   class Net(nn.Module):
 *       def __init__(self):
 *           super().__init__()
 *           self.conv2d = nn.Conv2d(in_channels=3, out_channels=64, kernel_size=4, stride=2, padding=1)
 *
 *       def forward(self, x):
 *           print(x.requires_grad)
 *           x = self.conv2d(x)
 *           return x
 *
 *   torch.manual_seed(SEED)
 *   net = Net()
 *   print(net)
 *   print(net.conv2d.weight)
 *   print(net.conv2d.bias)
 *   x = torch.rand(1, 3, 8, 8, requires_grad=True)
 *   y = net(x)
 *   print(y.shape)
 *   print(y.dtype)
 *   y.sum().backward()
 *   print(net.conv2d.bias.grad)
 *   print(list(net.state_dict()))
 */
#include <errno.h>
#include <fonio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  fonio_module base;
  fonio_conv2d *conv2d;
} net;

static fonio_tensor *net_forward(fonio_module *module, fonio_tensor *x) {
  net *self = (net *)module;
  puts(fonio_bool_to_text(fonio_tensor_requires_grad(x)));
  return fonio_conv2d_forward(self->conv2d, x);
}

static const fonio_module_class net_class = FONIO_MODULE_CLASS(net, .name = "Net", .forward = net_forward);

static net *net_new(void) {
  net *self = fonio_module_new(&net_class);
  if (!self) return NULL;
  self->conv2d = fonio_conv2d_new(.in_channels = 3, .out_channels = 64, .kernel_size = 4, .stride = 2, .padding = 1);
  fonio_module_add(&self->base, "conv2d", self->conv2d);
  return self;
}

/* A text that was made for printing. */
static void print_text(char *text) {
  if (text) puts(text);
  fonio_text_release(text);
}

/* A function that is given NULL, because what came before it failed, does nothing but keep that failure: one look at
 * the end is enough. */
static void run(net *model) {
  fonio_module_print(&model->base);
  fonio_print(fonio_conv2d_weight(model->conv2d));
  fonio_print(fonio_conv2d_bias(model->conv2d));

  fonio_tensor *x = fonio_tensor_rand(FONIO_FLOAT32, FONIO_SHAPE(1, 3, 8, 8));
  fonio_tensor_set_requires_grad(x, true);
  fonio_tensor *y = fonio_module_forward(&model->base, x);
  print_text(fonio_tensor_size_to_text(y));
  printf("torch.%s\n", fonio_dtype_name(fonio_tensor_dtype(y)));

  fonio_tensor *sum = fonio_tensor_sum(y);
  fonio_tensor_backward(sum);
  fonio_print(fonio_tensor_grad(fonio_conv2d_bias(model->conv2d)));
  fonio_dict *state = fonio_module_state_dict(&model->base);
  print_text(fonio_dict_names_to_text(state));

  fonio_dict_release(state);
  fonio_tensor_release(sum);
  fonio_tensor_release(y);
  fonio_tensor_release(x);
}

/* What torch.manual_seed takes: a whole number from -2^63 to 2^64 - 1. */
static bool parse_seed(const char *text, uint64_t *seed) {
  char *end;
  errno = 0;
  *seed = strchr(text, '-') ? (uint64_t)strtoll(text, &end, 10) : strtoull(text, &end, 10);
  return errno == 0 && end != text && *end == 0;
}

int main(int argc, char **argv) {
  uint64_t seed = 0;
  if (argc > 2 || (argc == 2 && !parse_seed(argv[1], &seed))) {
    fprintf(stderr, "usage: net [SEED]   (a whole number from -2^63 to 2^64 - 1; 0 if not given)\n");
    return 2;
  }
  fonio_manual_seed(seed);
  net *model = net_new();
  if (model) run(model);
  if (model) fonio_module_release(&model->base);
  if (fonio_last_status() != FONIO_OK) {
    fprintf(stderr, "net: %s: %s\n", fonio_status_name(fonio_last_status()), fonio_last_error());
    return 1;
  }
  return 0;
}
