"""The three operators: a convolution and its two gradients, each linear in either of its tensors. The derivatives of
each are the other two, so that there are derivatives of every order.

    conv2d         (input, weight)        -> output
    conv2d_input   (weight, grad_output)  -> the gradient of the input
    conv2d_weight  (input, grad_output)   -> the gradient of the weight

Tensors have four dimensions here. torch.ops.fonio.* are seen by everything that torch can do with operators: tracing,
compiling, vmap, modes. Where nothing of it is going on, a call goes straight to the library (see `direct`)."""

from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.nn import Parameter

from fonio import _core
from fonio.torch._geometry import Geometry, geometry_of

LIBRARY = torch.library.Library("fonio", "DEF")
_GEOMETRY = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, str padding_mode"
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)

LIBRARY.define(f"conv2d(Tensor input, Tensor weight, Tensor? bias, {_GEOMETRY}) -> Tensor", tags=_TAGS)
LIBRARY.define(
    f"conv2d_input(SymInt[] input_size, Tensor weight, Tensor grad_output, {_GEOMETRY}, bool channels_last) -> Tensor",
    tags=_TAGS,
)
LIBRARY.define(
    f"conv2d_weight(Tensor input, SymInt[] weight_size, Tensor grad_output, {_GEOMETRY}, bool channels_last) -> Tensor",
    tags=_TAGS,
)
CONV2D = torch.ops.fonio.conv2d.default
CONV2D_INPUT = torch.ops.fonio.conv2d_input.default
CONV2D_WEIGHT = torch.ops.fonio.conv2d_weight.default


_transforms_are_active = torch._C._are_functorch_transforms_active
_mode_count = torch._C._len_torch_dispatch_stack
_tracing_state = torch._C._get_tracing_state
_autocast_is_on = torch._C._is_any_autocast_enabled
_functions_are_watched = torch._C._is_torch_function_mode_enabled
_is_batched = torch._C._functorch.is_legacy_batchedtensor  # by autograd's own kind of vmap, for is_grads_batched
_is_grad_enabled = torch.is_grad_enabled


def direct(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether nobody but autograd has to hear of a call with these tensors, whichever they are."""
    return (
        (type(input) is Tensor or type(input) is Parameter)
        and (type(weight) is Parameter or type(weight) is Tensor)
        and (bias is None or type(bias) is Parameter or type(bias) is Tensor)
        and not (
            _transforms_are_active()
            or _mode_count()
            or _tracing_state() is not None
            or forward_ad._current_level >= 0
            or _autocast_is_on()
            or _functions_are_watched()
            or _is_batched(input)
            or _is_batched(weight)
            or (bias is not None and _is_batched(bias))
        )
    )


def _records(*tensors: Tensor) -> bool:
    return _is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _unpacked(tensor: Tensor) -> tuple[Tensor, Tensor | None]:
    """The tensor alone, and its forward-mode derivative. Under torch.compile forward_ad does not know of a level."""
    return torch._VF._unpack_dual(tensor, level=0)  # type: ignore[attr-defined]


def _has_tangent(tensor: Tensor) -> bool:
    return _unpacked(tensor)[1] is not None


# ---- The derivatives ----
#
# Each Function runs the library itself where its first argument is None; else that is what the dispatcher has still to
# ask.


def _on_all_levels(jvp):
    """jvp(ctx, saved, tangents ...) as torch wants it. It turns tangents off there, but what comes may have some of
    torch.func's other levels, which have to go on; those of this level are taken from what was saved."""

    def with_tangents(ctx, *tangents):
        with forward_ad._set_fwd_grad_enabled(True):
            return jvp(ctx, [_unpacked(tensor)[0] for tensor in ctx.saved_tensors], *tangents)

    return with_tangents


class Conv2dFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, keys, input, weight, bias, geometry, kept):
        ctx.save_for_backward(input, weight)
        ctx.geometry = geometry
        if keys is None:
            return _core.layer_conv2d(input, weight, bias, geometry, None, kept)
        return _below_autograd(CONV2D, keys, ctx, (input, weight), input, weight, bias, *geometry)

    @staticmethod
    def backward(ctx, grad):
        input, weight = ctx.saved_tensors
        return None, *gradients(input, weight, grad, ctx.geometry, ctx.needs_input_grad[1:4]), None, None

    @staticmethod
    @_on_all_levels
    def jvp(ctx, saved, keys, input_tangent, weight_tangent, bias_tangent, *_):
        input, weight = saved
        geometry = Geometry(*ctx.geometry)
        if bias_tangent is not None and input_tangent is None and weight_tangent is None:
            input_tangent = torch.zeros_like(input)
        total = _sum_of(lambda a, b: conv2d(a, b, None, geometry), (input_tangent, weight), (input, weight_tangent))
        return total if bias_tangent is None else total + bias_tangent[:, None, None]


class Conv2dInputFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, keys, size, weight, grad_output, geometry, last):
        ctx.save_for_backward(weight, grad_output)
        ctx.rest = size, geometry, last
        arguments = size, weight, grad_output, *geometry, last
        if keys is None:
            return _input_gradient(*arguments)
        return _below_autograd(CONV2D_INPUT, keys, ctx, (weight, grad_output), *arguments)

    @staticmethod
    def backward(ctx, grad):
        weight, grad_output = ctx.saved_tensors
        geometry = Geometry(*ctx.rest[1])
        of_weight = of_output = None
        if ctx.needs_input_grad[2]:
            of_weight = conv2d_weight(grad, weight.shape, grad_output, geometry, channels_last(weight))
        if ctx.needs_input_grad[3]:
            of_output = conv2d(grad, weight, None, geometry)
        return None, None, of_weight, of_output, None, None

    @staticmethod
    @_on_all_levels
    def jvp(ctx, saved, keys, _, weight_tangent, grad_tangent, *__):
        weight, grad_output = saved
        size, geometry, last = ctx.rest
        return _sum_of(
            lambda a, b: conv2d_input(size, a, b, Geometry(*geometry), last),
            (weight_tangent, grad_output),
            (weight, grad_tangent),
        )


class Conv2dWeightFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, keys, input, size, grad_output, geometry, last):
        ctx.save_for_backward(input, grad_output)
        ctx.rest = size, geometry, last
        arguments = input, size, grad_output, *geometry, last
        if keys is None:
            return _weight_gradient(*arguments)
        return _below_autograd(CONV2D_WEIGHT, keys, ctx, (input, grad_output), *arguments)

    @staticmethod
    def backward(ctx, grad):
        input, grad_output = ctx.saved_tensors
        geometry = Geometry(*ctx.rest[1])
        of_input = of_output = None
        if ctx.needs_input_grad[1]:
            of_input = conv2d_input(input.shape, grad, grad_output, geometry, channels_last(input))
        if ctx.needs_input_grad[3]:
            of_output = conv2d(input, grad, None, geometry)
        return None, of_input, None, of_output, None, None

    @staticmethod
    @_on_all_levels
    def jvp(ctx, saved, keys, input_tangent, _, grad_tangent, *__):
        input, grad_output = saved
        size, geometry, last = ctx.rest
        return _sum_of(
            lambda a, b: conv2d_weight(a, size, b, Geometry(*geometry), last),
            (input_tangent, grad_output),
            (input, grad_tangent),
        )


def _sum_of(function, *pairs):
    """The sum of the function's values for those pairs that are whole; None without any."""
    total = None
    for a, b in pairs:
        if a is not None and b is not None:
            part = function(a, b)
            total = part if total is None else total + part
    return total


def _below_autograd(operator, keys, ctx, saved, *arguments):
    ctx.save_for_forward(*saved)
    ctx.set_materialize_grads(False)
    keys, records_backward, records_forward = keys
    with torch._C._AutoDispatchBelowAutograd():
        if not _transforms_are_active():
            return operator.redispatch(keys & torch._C._after_autograd_keyset, *arguments)
        # A Function turns recording off for what it runs, but the other levels of torch.func have still to record.
        with torch.set_grad_enabled(records_backward), forward_ad._set_fwd_grad_enabled(records_forward):
            return operator.redispatch(keys & torch._C._after_autograd_keyset, *arguments)


def _apply_of(function):
    """function.apply without what torch does first for torch.func: the dispatcher has done it, or it is not on."""
    return torch._C._FunctionBase.__dict__["apply"].__get__(None, function)


_apply_conv2d = _apply_of(Conv2dFunction)
_apply_conv2d_input = _apply_of(Conv2dInputFunction)
_apply_conv2d_weight = _apply_of(Conv2dWeightFunction)

# ---- What is called from Python ----


def run(input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any, kept: Any = None) -> Tensor:
    """The convolution of tensors that `direct` holds for. The geometry may be as conv2d is given it."""
    if _is_grad_enabled() and (
        input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return _apply_conv2d(None, input, weight, bias, geometry, kept)
    return _core.layer_conv2d(input, weight, bias, geometry, None, kept)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, kept: Any = None) -> Tensor:
    """The convolution, with everything that torch records. `kept`: see fonio.torch.Conv2d."""
    if torch.compiler.is_compiling() or not direct(input, weight, bias):
        return CONV2D(input, weight, bias, *geometry)
    return run(input, weight, bias, geometry, kept)


def conv2d_input(size: Any, weight: Tensor, grad: Tensor, geometry: Geometry, last: bool) -> Tensor:
    """The gradient of the input, with everything that torch records; `last`: with the channels last."""
    arguments = size, weight, grad
    return _gradient(CONV2D_INPUT, _apply_conv2d_input, _input_gradient, (weight, grad), arguments, geometry, last)


def conv2d_weight(input: Tensor, size: Any, grad: Tensor, geometry: Geometry, last: bool) -> Tensor:
    """The gradient of the weight, with everything that torch records; `last`: with the channels last."""
    arguments = input, size, grad
    return _gradient(CONV2D_WEIGHT, _apply_conv2d_weight, _weight_gradient, (input, grad), arguments, geometry, last)


def _gradient(operator, apply, compute, tensors, arguments, geometry, last):
    """A gradient by the shortest way that is open."""
    if torch.compiler.is_compiling() or not direct(*tensors):
        return operator(*arguments, *geometry, last)
    if _records(*tensors):
        return apply(None, *arguments, geometry, last)
    return compute(*arguments, *geometry, last)


def gradients(input, weight, grad, geometry, wanted):
    """The gradients of input, weight and bias where they are wanted, else None. Each has the layout of the tensor that
    it belongs to."""
    if grad is None:
        return None, None, None
    if not torch.compiler.is_compiling() and direct(input, weight, grad) and not _records(input, weight, grad):
        return _core.conv2d_backward(input, weight, grad, *geometry, wanted)
    if input.dim() == 3:
        images, of_outputs = input.unsqueeze(0), grad.unsqueeze(0)
        of_input, *others = gradients(images, weight, of_outputs, geometry, wanted)
        return None if of_input is None else of_input.squeeze(0), *others
    numbers = geometry_of(weight, *geometry)
    of_input = conv2d_input(input.shape, weight, grad, numbers, channels_last(input)) if wanted[0] else None
    of_weight = conv2d_weight(input, weight.shape, grad, numbers, channels_last(weight)) if wanted[1] else None
    return of_input, of_weight, grad.sum((0, 2, 3)) if wanted[2] else None


def channels_last(tensor: Tensor) -> bool:
    """Whether torch would say so of its strides."""
    return not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


# ---- The operators for the dispatcher ----


def _convolution(input, weight, bias, *geometry):
    return _core.layer_conv2d(input, weight, bias, geometry, None, None)


def _format(last):
    return torch.channels_last if last else torch.contiguous_format


def _input_gradient(size, weight, grad, *rest):
    *numbers, padding_mode, last = rest
    result = _core.conv2d_input(size, weight, grad, *numbers, padding_mode=padding_mode)
    return result.contiguous(memory_format=_format(last))


def _weight_gradient(input, size, grad, *rest):
    *numbers, padding_mode, last = rest
    result = _core.conv2d_weight(input, size, grad, *numbers, padding_mode=padding_mode)
    return result.contiguous(memory_format=_format(last))


def _recorded(operator, apply):
    """What the dispatcher calls for autograd."""

    def kernel(keys, *arguments):
        tensors = [argument for argument in arguments[:3] if isinstance(argument, Tensor)]
        if _records(*tensors) or any(map(_has_tangent, tensors)):
            state = keys, _is_grad_enabled(), torch._C._is_fwd_grad_enabled()
            last = arguments[8] if len(arguments) > 8 else None
            with enable_single_level_autograd_function():  # the dispatcher has peeled off torch.func's other levels
                return apply(state, *arguments[:3], arguments[3:8], last)
        with torch._C._AutoDispatchBelowAutograd():
            return operator.redispatch(keys & torch._C._after_autograd_keyset, *arguments)

    return kernel


for _operator, _kernel, _apply in (
    (CONV2D, _convolution, _apply_conv2d),
    (CONV2D_INPUT, _input_gradient, _apply_conv2d_input),
    (CONV2D_WEIGHT, _weight_gradient, _apply_conv2d_weight),
):
    LIBRARY.impl(_operator, _kernel, "CPU")
    LIBRARY.impl(_operator, _recorded(_operator, _apply), "Autograd", with_keyset=True)


@torch.library.register_fake("fonio::conv2d", lib=LIBRARY)
def _fake_conv2d(input, weight, bias, stride, padding, dilation, groups, padding_mode):
    top, bottom, left, right = padding
    if padding_mode == "zeros" and top == bottom and left == right:
        padding = [top, left]
    else:
        mode = "constant" if padding_mode == "zeros" else padding_mode
        input = torch.nn.functional.pad(input, (left, right, top, bottom), mode)
        padding = [0, 0]
    return torch.ops.aten.convolution.default(input, weight, bias, stride, padding, dilation, False, [0, 0], groups)


@torch.library.register_fake("fonio::conv2d_input", lib=LIBRARY)
def _fake_conv2d_input(input_size, weight, grad_output, *rest):
    return torch.empty_like(grad_output.new_empty(input_size), memory_format=_format(rest[-1]))


@torch.library.register_fake("fonio::conv2d_weight", lib=LIBRARY)
def _fake_conv2d_weight(input, weight_size, grad_output, *rest):
    return torch.empty_like(grad_output.new_empty(weight_size), memory_format=_format(rest[-1]))
