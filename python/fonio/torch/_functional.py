"""fonio.torch.conv2d: torch.nn.functional.conv2d on Fonio, and on torch where Fonio cannot."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn import Parameter
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fonio.torch import _operators
from fonio.torch._geometry import Geometry, geometry_of, is_resolved
from fonio.torch._operators import direct, run

# What the library raises for arguments that it does not take.
REFUSALS = (RuntimeError, ValueError, TypeError, NotImplementedError)

# Tensors of these classes are computed; those of others, whose authors know torch's functions only, go to torch.
_KNOWN: set[type] = {Tensor, Parameter, torch.nn.Buffer}
DTYPES = (torch.float32, torch.float64)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """torch.nn.functional.conv2d, computed by Fonio: the same arguments, results, gradients and errors.

    Tensors are read where they lie, whatever their strides. Gradients of every order, forward-mode derivatives,
    torch.func's transforms, torch.compile and torch.export work as they do with torch's. What Fonio does not compute
    (other devices and dtypes than float32 and float64 on the CPU, autocast, subclasses of Tensor) goes to torch, with a
    warning once for each reason.

    Every call reads the weight anew; the layer, fonio.torch.Conv2d, keeps it in the order in which it is read.
    """
    if is_compiling() or not direct(input, weight, bias):
        if has_torch_function_variadic(input, weight, bias) and asks_for_us(input, weight, bias):
            arguments = input, weight, bias, stride, padding, dilation, groups
            return handle_torch_function(conv2d, (input, weight, bias), *arguments)
    elif padding.__class__ is int or (padding.__class__ is tuple and len(padding) == 2):
        try:
            return run(input, weight, bias, (stride, padding, dilation, groups, "zeros"))
        except REFUSALS as error:
            return _conv2d_anyhow(str(error), input, weight, bias, stride, padding, dilation, groups)
    return _conv2d_anyhow(None, input, weight, bias, stride, padding, dilation, groups)


def _conv2d_anyhow(refusal, input, weight, bias, stride, padding, dilation, groups):
    """conv2d without its shortest way."""
    geometry = None
    if isinstance(weight, Tensor) and not is_resolved(padding):
        geometry = geometry_of(weight, stride, padding, dilation, groups)
    return convolve(
        input,
        weight,
        bias,
        geometry,
        refusal,
        lambda: torch.nn.functional.conv2d(input, weight, bias, stride, padding, dilation, groups),
    )


def asks_for_us(*tensors: Any) -> bool:
    """Whether __torch_function__ is to hear of this function: a mode, or the proxies of torch.fx, which write down what
    is called. A subclass of Tensor is to hear of torch's."""
    return not any(isinstance(tensor, Tensor) and type(tensor) not in _known() for tensor in tensors)


def _known() -> set[type]:
    """_KNOWN with the classes by which torch traces, once they are there."""
    if len(_KNOWN) == 3:
        from torch._subclasses.fake_tensor import FakeTensor
        from torch._subclasses.functional_tensor import FunctionalTensor

        _KNOWN.update((FakeTensor, FunctionalTensor))
    return _KNOWN


def convolve(
    input: Any,
    weight: Any,
    bias: Any,
    geometry: Geometry | None,
    refusal: str | None,
    otherwise: Callable[[], Tensor],
    kept: Any = None,
) -> Tensor:
    """The convolution, by whatever way is open. `refusal` is why the shortest was not, as a rule because the arguments
    are wrong: that is torch's to say, and `otherwise` asks it."""
    reason = obstacle(input, weight, bias) or refusal
    if geometry is None or reason is not None:
        return fall_through(reason or "the arguments are not of the usual types", otherwise)
    try:
        if input.dim() == 3:
            return _operators.conv2d(input.unsqueeze(0), weight, bias, geometry, kept).squeeze(0)
        return _operators.conv2d(input, weight, bias, geometry, kept)
    except REFUSALS as error:
        return fall_through(str(error), otherwise)


def obstacle(input: Any, weight: Any, bias: Any) -> str | None:
    """Why Fonio is not to compute this, as far as that can be seen without looking at sizes."""
    for tensor in (input, weight) if bias is None else (input, weight, bias):
        if type(tensor) not in _KNOWN and type(tensor) not in _known():
            return f"{type(tensor).__name__} is not torch.Tensor"
        if tensor.dtype not in DTYPES:
            return f"Fonio does not compute {tensor.dtype} yet"
        if not tensor.is_cpu:
            return f"the tensors are on {tensor.device.type}, and Fonio computes on the CPU"
        if tensor.layout is not torch.strided:
            return f"the layout of a tensor is {tensor.layout}"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    return None


def fall_through(reason: str, otherwise: Callable[[], Tensor]) -> Tensor:
    """What torch computes, or raises, and a warning if it computes."""
    result = otherwise()
    _warn_once(reason)
    return result


_warned: set[str] = set()


@torch.compiler.assume_constant_result
def _warn_once(reason: str) -> None:
    if reason not in _warned:
        _warned.add(reason)
        warnings.warn(f"fonio.torch: torch computes this convolution: {reason}", UserWarning, stacklevel=4)
