"""The peers, each a function that makes a layer ready to be called: weights packed, precision pinned to that of the layer, an
output taken beforehand where the peer allows it. What a peer cannot do raises an exception, which is reported.

Where the convolution cannot pad as the layer asks (reflect, replicate, circular, uneven sides), padding is part of the call."""

import os
import tempfile

import torch

from bench.layers import padded
from bench.ours import Ready


def own_padding(layer):
    """(vertical, horizontal) padding that the convolution itself does; 0 where the input is padded before."""
    return (layer.sides[0], layer.sides[2]) if layer.symmetric_zeros else (0, 0)


def pad_first(layer):
    """The function that pads the input before a convolution; it does nothing where that pads by itself."""
    return (lambda input: input) if layer.symmetric_zeros else (lambda input: padded(layer, input))


# ---- torch ----


def torch_in(layer, memory_format):
    p = layer.problem
    input, weight = (tensor.contiguous(memory_format=memory_format) for tensor in (layer.input, layer.weight))
    pad, arguments = pad_first(layer), (tuple(p.stride), own_padding(layer), tuple(p.dilation), p.groups)

    def call():
        return torch.conv2d(pad(input), weight, layer.bias, *arguments)

    return Ready(call, call)


def torch_nchw(layer, threads):
    return torch_in(layer, torch.contiguous_format)


def torch_channels_last(layer, threads):
    return torch_in(layer, torch.channels_last)


def torch_packed(layer, threads):
    """oneDNN at its best: its own order of the weights, channels_last."""
    p = layer.problem
    input = layer.input.contiguous(memory_format=torch.channels_last)
    pad = pad_first(layer)
    padding, stride, dilation = list(own_padding(layer)), list(p.stride), list(p.dilation)
    weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
        layer.weight.contiguous().to_mkldnn(), padding, stride, dilation, p.groups, list(pad(input).shape)
    )
    convolution = torch.ops.mkldnn._convolution_pointwise.default

    def call():
        return convolution(pad(input), weight, layer.bias, padding, stride, dilation, p.groups, "none", [], "")

    return Ready(call, call)


# ---- ONNX Runtime ----

ONNX_PADDING_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def onnx_model(layer):
    from onnx import TensorProto, helper, numpy_helper

    p, (top, bottom, left, right) = layer.problem, layer.sides
    given = {"w": layer.weight, "b": layer.bias}
    if layer.mode != "zeros":
        given["pads"] = torch.tensor([0, 0, top, left, 0, 0, bottom, right])
    constants = [numpy_helper.from_array(t.contiguous().numpy(), name) for name, t in given.items() if t is not None]
    nodes, source = [], "x"
    if layer.mode != "zeros":
        nodes, source = [helper.make_node("Pad", ["x", "pads"], ["padded"], mode=ONNX_PADDING_MODES[layer.mode])], "padded"
    nodes.append(
        helper.make_node(
            "Conv",
            [source, "w"] + (["b"] if p.has_bias else []),
            ["y"],
            strides=list(p.stride),
            dilations=list(p.dilation),
            group=p.groups,
            pads=[top, left, bottom, right] if layer.mode == "zeros" else [0, 0, 0, 0],
        )
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, layer.input.shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (p.batch, p.out_channels, p.out_height, p.out_width))
    graph = helper.make_graph(nodes, "layer", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10).SerializeToString()


def onnxruntime(layer, threads):
    import onnxruntime as ort

    p = layer.problem
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(onnx_model(layer), options, providers=["CPUExecutionProvider"])
    input = layer.input.contiguous().numpy()
    output = torch.empty((p.batch, p.out_channels, p.out_height, p.out_width))
    binding = session.io_binding()
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in (input, output.numpy())]
    binding.bind_ortvalue_input("x", values[0])
    binding.bind_ortvalue_output("y", values[1])

    def call():
        session.run_with_iobinding(binding)

    return Ready(call, lambda: torch.from_numpy(values[1].numpy()), owner=(input, output))


# ---- OpenVINO ----

OPENVINO_PADDING_MODES = {"reflect": "reflect", "replicate": "edge"}


def openvino_model(layer):
    import openvino as ov
    from openvino import opset13 as op

    p, (top, bottom, left, right) = layer.problem, layer.sides
    x = node = op.parameter(list(layer.input.shape), ov.Type.f32)
    before, after = [top, left], [bottom, right]
    if layer.mode != "zeros":
        if layer.mode not in OPENVINO_PADDING_MODES:
            raise NotImplementedError(f"OpenVINO has no {layer.mode} padding")
        node = op.pad(node, [0, 0, *before], [0, 0, *after], OPENVINO_PADDING_MODES[layer.mode])
        before = after = [0, 0]
    weight = layer.weight.contiguous().numpy()
    arguments = (list(p.stride), before, after, list(p.dilation))
    if p.groups > 1:
        shape = (p.groups, p.out_channels // p.groups, *weight.shape[1:])
        node = op.group_convolution(node, op.constant(weight.reshape(shape)), *arguments)
    else:
        node = op.convolution(node, op.constant(weight), *arguments)
    if p.has_bias:
        node = op.add(node, op.constant(layer.bias.numpy().reshape(1, -1, 1, 1)))
    return ov.Model([node], [x], "layer")


def openvino(layer, threads):
    import openvino as ov

    p = layer.problem
    options = {
        "INFERENCE_PRECISION_HINT": ov.Type.f32,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(openvino_model(layer), "CPU", options).create_infer_request()
    input = layer.input.contiguous().numpy()
    output = torch.empty((p.batch, p.out_channels, p.out_height, p.out_width))
    request.set_input_tensor(ov.Tensor(input, shared_memory=True))
    request.set_output_tensor(ov.Tensor(output.numpy(), shared_memory=True))

    def call():
        request.infer(share_outputs=True)

    return Ready(call, lambda: output, owner=input)


# ---- ncnn ----

NCNN_PADDING_MODES = {"replicate": 1, "reflect": 2}


def ncnn_layers(layer):
    """The lines of ncnn's text format."""
    p, (top, bottom, left, right) = layer.problem, layer.sides
    lines, source = ["Input in 0 1 in"], "in"
    if layer.mode != "zeros":
        if layer.mode not in NCNN_PADDING_MODES:
            raise NotImplementedError(f"ncnn has no {layer.mode} padding")
        kind = NCNN_PADDING_MODES[layer.mode]
        lines.append(f"Padding pad 1 1 in padded 0={top} 1={bottom} 2={left} 3={right} 4={kind}")
        source, top, bottom, left, right = "padded", 0, 0, 0, 0
    grouped = f" 7={p.groups}" if p.groups > 1 else ""
    lines.append(
        f"{'ConvolutionDepthWise' if grouped else 'Convolution'} conv 1 1 {source} out 0={p.out_channels}"
        f" 1={p.kernel_width} 11={p.kernel_height} 2={p.dilation[1]} 12={p.dilation[0]} 3={p.stride[1]} 13={p.stride[0]}"
        f" 4={left} 15={right} 14={top} 16={bottom} 5={int(p.has_bias)} 6={layer.weight.numel()}{grouped}"
    )
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines, ""])


def ncnn_net(layer, threads):
    import ncnn

    net = ncnn.Net()
    for name in dir(net.opt):
        if name.startswith(("use_fp16", "use_bf16", "use_int8", "use_vulkan")):
            setattr(net.opt, name, False)
    net.opt.num_threads = threads
    if net.load_param_mem(ncnn_layers(layer)):
        raise RuntimeError("ncnn refuses the layer")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "weights.bin")
        with open(path, "wb") as file:
            file.write(bytes(4))  # weights are plain fp32
            file.write(layer.weight.contiguous().numpy().tobytes())
            file.write(layer.bias.numpy().tobytes() if layer.bias is not None else b"")
        if net.load_model(path):
            raise RuntimeError("ncnn refuses the weights")
    return net


def ncnn(layer, threads):
    import ncnn
    import numpy

    net = ncnn_net(layer, threads)
    input = ncnn.Mat(layer.input.contiguous().numpy(), batch_index=0).clone()

    def call():
        extractor = net.create_extractor()
        extractor.input("in", input)
        status, output = extractor.extract("out")
        if status:
            raise RuntimeError(f"ncnn fails with {status}")
        return output

    def output():
        made = call()
        return torch.stack([torch.from_numpy(numpy.array(made.batch(image))) for image in range(made.n)])

    return Ready(call, output)


# ---- The list ----

# name: (title in tables, function, the dtypes that it computes)
PEERS = {
    "torch": ("torch", torch_nchw, ("f32", "f64")),
    "torch_channels_last": ("torch c.last", torch_channels_last, ("f32", "f64")),
    "torch_packed": ("torch packed", torch_packed, ("f32",)),
    "onnxruntime": ("ONNX Runtime", onnxruntime, ("f32",)),
    "openvino": ("OpenVINO", openvino, ("f32",)),
    "ncnn": ("ncnn", ncnn, ("f32",)),
}


def pin_torch(threads):
    """Plain fp32 in torch and in its oneDNN, and its number of threads."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.set_float32_matmul_precision("highest")
    torch.backends.mkldnn.conv.fp32_precision = "ieee"
