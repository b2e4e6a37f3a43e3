"""torch.nn.functional."""

from __future__ import annotations

from fonio import _core
from fonio._core import conv2d
from fonio._tensor import Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = [
    "avg_pool2d",
    "conv2d",
    "cross_entropy",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "relu",
]

# ---- Activations, linear layers ----


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Each element, or 0 where it is less. `inplace` makes no difference to the result."""
    return input.relu()


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias, over the last dimension of `input`."""
    return _core.linear(input, weight, bias)


def log_softmax(input: Tensor, dim: int) -> Tensor:
    """The logarithm of softmax along a dimension."""
    return _core.log_softmax(input, dim)


# ---- Pooling ----


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)  # type: ignore[return-value]


def max_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest element of each window. Without a stride, windows lie side by side."""
    kernel, step = _pair(kernel_size), _pair(kernel_size if stride is None else stride)
    return _core.pool2d(True, input, kernel, step, _pair(padding), _pair(dilation), ceil_mode, True, 0)


def avg_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window. Without a stride, windows lie side by side."""
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    kernel, step = _pair(kernel_size), _pair(kernel_size if stride is None else stride)
    divisor = divisor_override or 0
    return _core.pool2d(False, input, kernel, step, _pair(padding), (1, 1), ceil_mode, count_include_pad, divisor)


# ---- Losses ----


def _reduction(reduction: str) -> int:
    try:
        return ("none", "mean", "sum").index(reduction)
    except ValueError:
        raise ValueError(f"{reduction} is not a valid value for reduction") from None


def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """The square of the difference, of two tensors of one shape."""
    if input.shape != target.shape:
        raise NotImplementedError("mse_loss: input and target of different shapes are not there yet")
    return _core.mse_loss(input, target, _reduction(reduction))


def nll_loss(input: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """The negative log-probability of each target class: `input` (N, C, ...) of log-probabilities, `target` (N, ...)."""
    return _core.nll_loss(input, target, ignore_index, _reduction(reduction))


def cross_entropy(
    input: Tensor,
    target: Tensor,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """nll_loss of log_softmax over the classes. Targets are class numbers."""
    if target.dtype.is_floating_point:
        raise NotImplementedError("cross_entropy: targets of probabilities are not there yet, only class numbers")
    return _core.cross_entropy(input, target, ignore_index, _reduction(reduction), label_smoothing)
