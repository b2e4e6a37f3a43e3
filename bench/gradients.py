"""The two gradients of a layer: Fonio's and torch's, in both of its layouts. Weights change between training steps, so nobody
packs them beforehand; the gradients of weight and bias come of one call."""

import functools

import torch

from bench.layers import gradient_of_output, padded
from bench.ours import Plan, Ready
from bench.peers import own_padding, pad_first

convolution_backward = torch.ops.aten.convolution_backward
PAD_BACKWARD = {
    "reflect": torch.ops.aten.reflection_pad2d_backward,
    "replicate": torch.ops.aten.replication_pad2d_backward,
}


def one_array(gradients):
    """The gradient of the input; those of weight and bias one after the other."""
    gradients = [gradient for gradient in gradients if gradient is not None]
    return gradients[0] if len(gradients) == 1 else torch.cat([gradient.flatten() for gradient in gradients])


# ---- Fonio ----


def input_gradient(layer):
    made = torch.empty_like(layer.input)
    arrays = {"weight": layer.weight, "grad_output": gradient_of_output(layer), "grad_input": made}
    return Plan(layer.problem, "input_gradient", **arrays).ready(lambda: made)


def weight_gradient(layer):
    made = [torch.empty_like(array) if array is not None else None for array in (layer.weight, layer.bias)]
    arrays = {"input": layer.input, "grad_output": gradient_of_output(layer), "grad_weight": made[0], "grad_bias": made[1]}
    return Plan(layer.problem, "weight_gradient", **arrays).ready(lambda: one_array(made))


def ours(direction):
    return {"input_gradient": input_gradient, "weight_gradient": weight_gradient}[direction]


# ---- torch ----


def backward_of_padding(layer, input):
    """From the gradient of the padded input to that of the input."""
    top, bottom, left, right = layer.sides
    if layer.symmetric_zeros:
        return lambda gradient: gradient
    if layer.mode == "zeros":
        return lambda gradient: gradient[:, :, top : top + input.shape[2], left : left + input.shape[3]]
    if layer.mode not in PAD_BACKWARD:
        raise NotImplementedError(f"the gradient of {layer.mode} padding is no single call of torch")
    return lambda gradient: PAD_BACKWARD[layer.mode](gradient, input, [left, right, top, bottom])


def backward(layer, direction, input, weight, gradient):
    """A function that computes it, as autograd would call it: the padded input is there already, from the way forward."""
    p = layer.problem
    image, unpad = pad_first(layer)(input), backward_of_padding(layer, input)
    arguments = [list(p.stride), list(own_padding(layer)), list(p.dilation), False, [0, 0], p.groups]
    wanted = [True, False, False] if direction == "input_gradient" else [False, True, bool(p.has_bias)]

    def call():
        made = convolution_backward(gradient, image, weight, [p.out_channels], *arguments, wanted)
        return [unpad(made[0])] if wanted[0] else made[1:]

    return call


def in_torch(layer, threads, direction, memory_format):
    arrays = (layer.input, layer.weight, gradient_of_output(layer))
    call = backward(layer, direction, *(array.contiguous(memory_format=memory_format) for array in arrays))
    return Ready(call, lambda: one_array(call()))


def peers(direction):
    """As bench.peers.PEERS."""
    formats = {"torch": ("torch", torch.contiguous_format), "torch_channels_last": ("torch c.last", torch.channels_last)}
    return {
        name: (title, functools.partial(in_torch, direction=direction, memory_format=memory_format), ("f32", "f64"))
        for name, (title, memory_format) in formats.items()
    }


def truth(layer, direction):
    """The gradients in double precision, by torch's autograd."""
    p = layer.problem
    with torch.inference_mode(False), torch.enable_grad():
        given = [layer.input, layer.weight, layer.bias, gradient_of_output(layer)]
        copies = [array.double().contiguous().clone() if array is not None else None for array in given]
        input, weight, bias, gradient = copies
        wanted = [input] if direction == "input_gradient" else [array for array in (weight, bias) if array is not None]
        for array in wanted:
            array.requires_grad_()
        output = torch.conv2d(padded(layer, input), weight, bias, tuple(p.stride), 0, tuple(p.dilation), p.groups)
        return one_array(torch.autograd.grad(output, wanted, gradient))
