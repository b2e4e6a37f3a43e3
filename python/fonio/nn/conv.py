"""torch.nn.Conv2d and LazyConv2d, on the library's layer, which keeps plans and packed weights from call to call."""

from __future__ import annotations

import math

from fonio import _core, _dtypes
from fonio._dtypes import dtype as _dtype
from fonio._functions import check_device
from fonio._tensor import Tensor
from fonio.nn import functional, init
from fonio.nn.module import Module
from fonio.nn.parameter import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_ARGUMENTS = ("stride", "padding", "dilation", "groups", "padding_mode")


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)  # type: ignore[return-value]


class Conv2d(Module):
    """A layer that convolves: torch.nn.Conv2d, whose arguments, parameters and text it has. Beyond torch, `padding` also
    takes four sides (top, bottom, left, right), "same" with a stride (TensorFlow's rule) and "same_lower"."""

    in_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, ...] | str
    dilation: tuple[int, int]
    output_padding: tuple[int, int]
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: _dtype | None = None,
    ) -> None:
        super().__init__()
        check_device(device)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = padding if isinstance(padding, str) else _pair(padding)
        self.dilation = _pair(dilation)
        self.transposed = False
        self.output_padding = (0, 0)
        self.groups = groups
        self.padding_mode = padding_mode
        self._take_layer(bool(bias), dtype or _dtypes.float32)

    def _take_layer(self, bias: bool, dtype: _dtype) -> None:
        """Makes the library's layer, which draws the parameters, and shares them with it."""
        self._layer = _core.layer(
            self._lazy,
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            bias,
            self.padding_mode,
            dtype._number,
        )
        self._layer_arguments = self._arguments()
        self.weight = Parameter._adopt(self._layer.weight)
        self.register_parameter("bias", Parameter._adopt(self._layer.bias) if bias else None)

    _lazy = False

    def _arguments(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups, self.padding_mode

    def reset_parameters(self) -> None:
        """Draws weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = self.weight.shape[1] * self.weight.shape[2] * self.weight.shape[3]
            if fan_in != 0:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, input: Any) -> Any:
        """The convolution of `input`, (N, C, H, W) or (C, H, W)."""
        made = self._convolve(input, self.weight, self.bias)
        if hasattr(input, "shape"):  # not all that has a buffer or speaks DLPack
            self.__dict__["_seen"] = tuple(input.shape), tuple(made.shape)
        return made

    def _convolve(self, input: Any, weight: Any, bias: Any) -> Any:
        ours = isinstance(input, Tensor) and isinstance(weight, Parameter) and (bias is None or isinstance(bias, Parameter))
        if ours and self._layer is not None and self._arguments() == self._layer_arguments:
            return self._layer.forward(input, weight, bias)
        # Somebody has changed what the layer was made with, or it is a copy without a layer.
        stride, padding, dilation, groups, mode = self._arguments()
        return functional.conv2d(input, weight, bias, stride, padding, dilation, groups, padding_mode=mode)

    def _cost(self) -> dict[str, Any]:
        """Shapes and numbers for a notebook; those of the last input, where there was one."""
        weight, seen = tuple(self.weight.shape), self.__dict__.get("_seen")
        input, output = seen or (None, None)
        return {
            "weight": weight,
            "parameters": sum(one.numel() for one in self.parameters()),
            "input": input,
            "output": output,
            "multiply_adds": math.prod(output) * math.prod(weight[1:]) if output else None,
        }

    def extra_repr(self) -> str:
        """The arguments that are not torch's defaults."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.padding):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text

    def __getstate__(self) -> dict[str, Any]:
        # The library's layer stays behind: a copy works without one.
        return {**self.__dict__, "_layer": None}


class LazyConv2d(Conv2d):
    """A Conv2d whose in_channels are those of its first input; its parameters are drawn only then."""

    _lazy = True

    def __init__(self, out_channels: int, kernel_size: int | Sequence[int], *arguments: Any, **keywords: Any) -> None:
        """The arguments of Conv2d but for in_channels."""
        super().__init__(0, out_channels, kernel_size, *arguments, **keywords)

    def forward(self, input: Any) -> Any:
        """Draws the parameters for the input's channels, and becomes a Conv2d."""
        made = super().forward(input)
        self.in_channels = self._layer.in_channels
        object.__setattr__(self, "__class__", Conv2d)
        return made
