"""How the operators run over a further dimension. A convolution over many images is one with a larger batch; one with
many weights is one with more groups."""

import torch

from fonio.torch._operators import CONV2D, CONV2D_INPUT, CONV2D_WEIGHT, LIBRARY


def _in_front(tensor, dim, size):
    """The further dimension as the first one; where there is none, the same values again and again."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _into(tensor, dim):
    """Joins the first dimension with `dim` of what follows it: (B, ..., D, ...) becomes (..., B * D, ...)."""
    return tensor.movedim(0, dim).flatten(dim, dim + 1)


def _out_of(tensor, dim, size):
    """The opposite: the further dimension comes first again."""
    return tensor.unflatten(dim, (size, tensor.shape[dim] // size)).movedim(dim, 0)


def _in_groups(geometry, size):
    stride, padding, dilation, groups, padding_mode, *rest = geometry
    return stride, padding, dilation, groups * size, padding_mode, *rest


@torch.library.register_vmap("fonio::conv2d", lib=LIBRARY)
def _conv2d(info, in_dims, input, weight, bias, *geometry):
    size, (input_dim, weight_dim, bias_dim) = info.batch_size, in_dims[:3]
    own = bias if bias_dim is None else None
    if weight_dim is None and input_dim is None:
        output = CONV2D(input, weight, None, *geometry).expand(size, -1, -1, -1, -1)
    elif weight_dim is None:
        output = _out_of(CONV2D(_into(_in_front(input, input_dim, size), 0), weight, own, *geometry), 0, size)
    else:
        images, weights = _in_front(input, input_dim, size), _in_front(weight, weight_dim, size)
        output = CONV2D(_into(images, 1), _into(weights, 0), None, *_in_groups(geometry, size))
        output = _out_of(output, 1, size)
        if own is not None:
            output = output + own[:, None, None]
    if bias_dim is not None:
        output = output + bias.movedim(bias_dim, 0)[:, None, :, None, None]
    return output, 0


@torch.library.register_vmap("fonio::conv2d_input", lib=LIBRARY)
def _conv2d_input(info, in_dims, input_size, weight, grad_output, *geometry):
    size, (_, weight_dim, grad_dim) = info.batch_size, in_dims[:3]
    batch, channels, *image = input_size
    grads = _in_front(grad_output, grad_dim, size)
    if weight_dim is None:
        result = CONV2D_INPUT([batch * size, channels, *image], weight, _into(grads, 0), *geometry)
        return _out_of(result, 0, size), 0
    weights = _into(_in_front(weight, weight_dim, size), 0)
    sizes = [batch, channels * size, *image]
    return _out_of(CONV2D_INPUT(sizes, weights, _into(grads, 1), *_in_groups(geometry, size)), 1, size), 0


@torch.library.register_vmap("fonio::conv2d_weight", lib=LIBRARY)
def _conv2d_weight(info, in_dims, input, weight_size, grad_output, *geometry):
    size, (input_dim, _, grad_dim) = info.batch_size, in_dims[:3]
    images, grads = _in_front(input, input_dim, size), _in_front(grad_output, grad_dim, size)
    sizes = [weight_size[0] * size, *weight_size[1:]]
    result = CONV2D_WEIGHT(_into(images, 1), sizes, _into(grads, 1), *_in_groups(geometry, size))
    return _out_of(result, 0, size), 0
