/* What help() tells of the functions that are written in C. The first line is their signature, as inspect reads it. */
#ifndef CORE_DOCS_H
#define CORE_DOCS_H

static const char conv2d_doc[] =
    "conv2d($module, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, padding_mode='zeros',\n"
    "       activation=None, out=None)\n--\n\n"
    "torch.nn.functional.conv2d for arrays of any library, with the padding modes of nn.Conv2d.\n\n"
    "input         (N, C, H, W) or (C, H, W), float32 or float64\n"
    "weight        (out_channels, C / groups, kH, kW), of the input's dtype\n"
    "bias          (out_channels), or None\n"
    "stride        an int, or a pair (vertical, horizontal); so is dilation\n"
    "padding       an int, a pair, four sides (top, bottom, left, right), 'valid', 'same' (torch's rule; with a "
    "stride\n"
    "              TensorFlow's SAME, which is ONNX's SAME_UPPER) or 'same_lower'\n"
    "groups        divides the channels into groups that do not see each other\n"
    "padding_mode  'zeros', 'reflect', 'replicate' or 'circular'\n"
    "activation    what is done to the result in the same pass: 'relu', 'relu6', 'leaky_relu', 'silu', 'hardswish',\n"
    "              'sigmoid', 'tanh', 'gelu', 'gelu_tanh', ('leaky_relu', negative_slope) or ('prelu', slopes)\n"
    "out           an array for the result, of its shape and dtype, any strides, apart from the others in memory\n\n"
    "Returns an array of (N, out_channels, outH, outW), or without N: `out` where that is given; else a new one of "
    "the\n"
    "input's kind (NumPy array, torch tensor, JAX array, ...) and, as torch decides it, of its memory layout. With\n"
    "fonio.Tensor, the gradients are recorded, also through relu, relu6, leaky_relu, sigmoid and tanh, whose result\n"
    "tells their derivative; with other libraries' tensors they are not.\n\n"
    "Arrays may have any strides; they are read where they lie and never written to. Runs without the interpreter's\n"
    "lock, and from several threads at once.\n\n"
    "Raises what torch raises, with its texts: RuntimeError, ValueError, TypeError, and NotImplementedError for "
    "dtypes\n"
    "that torch computes and Fonio does not yet.";

static const char conv2d_input_doc[] =
    "conv2d_input($module, input_size, weight, grad_output, stride=1, padding=0, dilation=1, groups=1, *,\n"
    "             padding_mode='zeros')\n--\n\n"
    "torch.nn.grad.conv2d_input: the gradient of conv2d with respect to its input.\n\n"
    "input_size    the sizes of the input: (N, C, H, W) or (C, H, W)\n"
    "weight        (out_channels, C / groups, kH, kW)\n"
    "grad_output   the gradient of the output, of the output's sizes\n\n"
    "The other arguments are those of conv2d. Returns an array of input_size, of grad_output's kind; its layout has "
    "the\n"
    "channels last where that of grad_output or weight has. Threads and failures: as conv2d.";

static const char conv2d_weight_doc[] =
    "conv2d_weight($module, input, weight_size, grad_output, stride=1, padding=0, dilation=1, groups=1, *,\n"
    "              padding_mode='zeros')\n--\n\n"
    "torch.nn.grad.conv2d_weight: the gradient of conv2d with respect to its weight.\n\n"
    "input         (N, C, H, W) or (C, H, W)\n"
    "weight_size   the sizes of the weight: (out_channels, C / groups, kH, kW)\n"
    "grad_output   the gradient of the output, of the output's sizes\n\n"
    "The other arguments are those of conv2d. Returns an array of weight_size, of grad_output's kind; its layout has "
    "the\n"
    "channels last where that of input or grad_output has. Threads and failures: as conv2d.";

static const char conv2d_backward_doc[] =
    "conv2d_backward($module, input, weight, grad_output, stride=1, padding=0, dilation=1, groups=1,\n"
    "                padding_mode='zeros', mask=(True, True, True))\n--\n\n"
    "(grad_input, grad_weight, grad_bias) of conv2d, None where the mask says that one is not wanted. Each is of\n"
    "grad_output's kind.";

static const char layer_conv2d_doc[] =
    "layer_conv2d($module, input, weight, bias, geometry, activation, kept, /)\n--\n\n"
    "conv2d for a layer, all arguments by place: `geometry` is (stride, padding, dilation, groups, padding_mode), "
    "`kept`\n"
    "what keep() gave, for this very weight, or None. Gradients are the caller's to record.";

static const char keep_doc[] =
    "keep($module, /)\n--\n\nA place for one weight of a layer in the orders in which algorithms read it.";

static const char kept_count_doc[] = "kept_count($module, kept, /)\n--\n\nHow many orders are in a place from keep().";

static const char explain_layer_doc[] =
    "explain_layer($module, input, weight, bias, geometry, activation, kept, /)\n--\n\n"
    "explain, with the arguments of layer_conv2d.";

static const char explain_doc[] = "explain($module, input, weight=None, bias=None, stride=1, padding=0, dilation=1, "
                                  "groups=1, *, padding_mode='zeros',\n"
                                  "        activation=None, out=None)\n--\n\n"
                                  "How conv2d would compute these arguments, and why: the algorithms with what each is "
                                  "expected to cost, and the one\n"
                                  "that is taken. In place of arrays a problem string, such as 'n1c64h56w56k64r3s3p1'. "
                                  "A text for people: its words may\n"
                                  "change. Nothing is computed.";

static const char set_num_threads_doc[] =
    "set_num_threads($module, num, /)\n--\n\n"
    "torch.set_num_threads: how many threads share a call, the calling one among them (at most 256). Results do not\n"
    "depend on it. Raises RuntimeError below 1.";

static const char get_num_threads_doc[] = "get_num_threads($module, /)\n--\n\n"
                                          "torch.get_num_threads: how many threads share a call. At first "
                                          "FONIO_NUM_THREADS from the environment, else as many\n"
                                          "as the process may use cores.";

static const char set_accuracy_doc[] =
    "set_accuracy($module, accuracy, /)\n--\n\n"
    "How exact results must be, in the whole process: 'strict' (one order of operations: the same bits on every\n"
    "processor), 'default' (any algorithm whose error is at most 2.5 times that of a plain sum), 'fast' (any "
    "algorithm),\n"
    "or None (what the environment's FONIO_ACCURACY says, else 'default'). Raises ValueError for another.";

static const char get_accuracy_doc[] = "get_accuracy($module, /)\n--\n\n"
                                       "What set_accuracy has set: 'strict', 'default' or 'fast'.";

static const char config_doc[] = "config($module, /)\n--\n\nWhat fonio.show_config prints, but for the settings.";
static const char plan_count_doc[] =
    "plan_count($module, /)\n--\n\nHow many plans conv2d and its gradients keep from call to call: at most 256.";
static const char clear_plans_doc[] = "clear_plans($module, /)\n--\n\nForgets those plans.";
static const char live_allocations_doc[] =
    "live_allocations($module, /)\n--\n\nHow many blocks of memory the library holds.";
static const char set_tensor_class_doc[] =
    "set_tensor_class($module, type, /)\n--\n\nThe class of the tensors that the functions here make.";

#endif
