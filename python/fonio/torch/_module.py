"""fonio.torch.Conv2d and Linear: torch's layers, computed by Fonio."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fonio import _core
from fonio.torch._functional import DTYPES, REFUSALS, asks_for_us, conv2d, convolve
from fonio.torch._geometry import Geometry, geometry_of
from fonio.torch._operators import direct, run


_steps = 0


def _count_step(*_: Any) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count_step)


class Kept:
    """A weight in the order in which it is read, and how to tell that it is still that weight: its memory, torch's
    count of the writes to it, and how many steps optimisers have taken, because torch's fused ones do not count their
    writes. `alias` holds the memory, so that no other weight comes to lie in its place."""

    __slots__ = ("address", "alias", "order", "steps", "version")

    def __init__(self, weight: Tensor) -> None:
        self.alias = weight.detach()
        self.address = weight.data_ptr()
        self.version = weight._version
        self.steps = _steps
        self.order = _core.keep()

    def is_of(self, weight: Tensor) -> bool:
        return self.version == weight._version and self.address == weight.data_ptr() and self.steps == _steps


class _Keeps:
    """A layer that keeps its weight in the order in which it is read."""

    weight: Tensor
    training: bool
    _kept: Kept | None = None
    _fusion: Any = None  # what fonio.torch.accelerate has joined to it

    def repack(self) -> None:
        """Forgets the weight that is kept, after a write that torch does not count (`weight.data.mul_(2)`)."""
        self._kept = None
        if self._fusion is not None:
            self._fusion.forget()

    def train(self, mode: bool = True) -> Any:
        """torch.nn.Module.train, after which nothing is kept: training may write in ways that torch does not count."""
        if mode:
            self.repack()
        return super().train(mode)  # type: ignore[misc]

    def _order_of(self, weight: Tensor) -> Any:
        """What is kept of the weight; None where nothing is, as in training, whose steps torch may not count."""
        if self.training and torch.is_grad_enabled():
            if self._kept is not None:
                self.repack()
            return None
        if weight.is_inference():
            return None
        kept = self._kept
        if kept is None or not kept.is_of(weight):
            kept = self._kept = Kept(weight)
        return kept.order

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles take: not what is kept."""
        state = self.__dict__.copy()
        state.pop("_kept", None)
        return state


class Conv2d(_Keeps, torch.nn.Conv2d):
    """torch.nn.Conv2d, computed by Fonio: a subclass with the same constructor, parameters, state dict and printing.

    The padding modes read the image through an index map: no padded copy is made. What Fonio does not compute goes to
    torch, with a warning once for each reason; errors are torch's.

    In eval mode, and wherever gradients are not recorded, the weight is kept in the order in which it is read, for
    the next call. It is read anew when it has been written to, by an optimiser, by load_state_dict or in place, or
    replaced, and after train(). Writes that torch itself does not count, outside of training, need `repack()`: those
    through `weight.data` or a NumPy view of it.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        refusal = order = None
        if not torch.compiler.is_compiling() and direct(input, weight, bias):
            try:
                order = self._order_of(weight)
                if self._fusion is not None and self._fusion.applies(self):
                    return self._fusion.run(self, input, weight, bias)
                if self.padding_mode == "zeros" and self.padding.__class__ is tuple:
                    arguments = self.stride, self.padding, self.dilation, self.groups, "zeros"
                    return run(input, weight, bias, arguments, order)
            except REFUSALS as error:
                refusal = str(error)
        elif has_torch_function_variadic(input, weight, bias) and asks_for_us(input, weight, bias):
            return self._watched_forward(input, weight, bias)
        return convolve(
            input,
            weight,
            bias,
            self._geometry(input, weight),
            refusal,
            lambda: torch.nn.Conv2d._conv_forward(self, input, weight, bias),
            order,
        )

    def _watched_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        """The call where a mode, or torch.fx, is to hear of it. torch.fx writes down functions, not methods."""
        if isinstance(input, Tensor):
            return handle_torch_function(Conv2d._conv_forward, (input, weight, bias), self, input, weight, bias)
        if self.padding_mode == "zeros":
            return conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        return super()._conv_forward(input, weight, bias)

    def _geometry(self, input: Tensor, weight: Tensor) -> Geometry | None:
        """The numbers of the layer; None where torch has to judge them."""
        if self.padding_mode == "zeros":
            return geometry_of(weight, self.stride, self.padding, self.dilation, self.groups)
        left, right, top, bottom = self._reversed_padding_repeated_twice
        if self.padding_mode == "circular" and input.dim() > 2:
            height, width = input.shape[-2:]
            if max(left, right) > width or max(top, bottom) > height:
                return None  # Fonio goes round more than once, torch does not
        sides = (top, bottom, left, right)
        return geometry_of(weight, self.stride, sides, self.dilation, self.groups, self.padding_mode)

    def _joined(self, input: Tensor, weight: Tensor, bias: Tensor | None, activation: Any, order: Any) -> Tensor:
        """The output with an activation, of a call that records nothing."""
        geometry = self._geometry(input, weight)
        if geometry is None or input.dim() != 4:
            raise ValueError("this is not done for the modules behind it")
        return _core.layer_conv2d(input, weight, bias, geometry, activation, order)


class LazyConv2d(torch.nn.LazyConv2d):
    """torch.nn.LazyConv2d, which becomes a fonio.torch.Conv2d."""

    cls_to_become = Conv2d


class Linear(_Keeps, torch.nn.Linear):
    """torch.nn.Linear, computed by Fonio as a convolution of 1 x 1: its rows are the pixels of an image whose channels lie
    last. A subclass with the same constructor, parameters, state dict and printing; it keeps its weight as Conv2d does.

    What lies otherwise (a row alone, features that do not lie side by side), other dtypes and devices, transforms and
    torch.compile go to torch, as do errors.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)"""
        weight, bias = self.weight, self.bias
        if not torch.compiler.is_compiling() and direct(input, weight, bias) and self._takes(input):
            order = self._order_of(weight)
            if self._fusion is not None and self._fusion.applies(self):
                return self._fusion.run(self, input, weight, bias)
            return _of_image(run(_image_of(input), weight[:, :, None, None], bias, _LINEAR, order), input)
        return super().forward(input)

    def _takes(self, input: Tensor) -> bool:
        """Whether its rows can be read as an image where they lie; whatever is wrong, torch is to say."""
        weight, bias = self.weight, self.bias
        tensors = (input, weight) if bias is None else (input, weight, bias)
        return (
            weight.dtype in DTYPES
            and all(one.dtype == weight.dtype and one.is_cpu and one.layout is torch.strided for one in tensors)
            and weight.dim() == 2
            and weight.numel() > 0
            and (bias is None or bias.shape == weight.shape[:1])
            and input.dim() > 1
            and input.shape[-1] == weight.shape[1]
            and input.numel() > weight.shape[1]
            and input.is_contiguous()
        )

    def _joined(self, input: Tensor, weight: Tensor, bias: Tensor | None, activation: Any, order: Any) -> Tensor:
        """The output with an activation, of a call that records nothing."""
        weight = weight[:, :, None, None]
        return _of_image(_core.layer_conv2d(_image_of(input), weight, bias, _LINEAR, activation, order), input)


_LINEAR = Geometry((1, 1), (0, 0, 0, 0), (1, 1), 1, "zeros")


def _image_of(rows: Tensor) -> Tensor:
    """An image of one line whose pixels are the rows."""
    return rows.reshape(1, 1, -1, rows.shape[-1]).permute(0, 3, 1, 2)


def _of_image(image: Tensor, input: Tensor) -> Tensor:
    """The pixels of an image of one line as the rows that follow from those of the input."""
    return image.permute(0, 2, 3, 1).reshape(*input.shape[:-1], image.shape[1])
