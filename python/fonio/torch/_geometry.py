"""The numbers of a convolution, as torch.nn.functional.conv2d takes them and as the operators want them."""

import warnings
from operator import index
from typing import Any, NamedTuple

import torch

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """How a kernel moves over an image: what every operator takes after its tensors."""

    stride: Pair
    padding: tuple[int, int, int, int]  # top, bottom, left, right
    dilation: Pair
    groups: int
    padding_mode: str


def pair(value: Any) -> Pair | None:
    """An int, or a list of one or two, as a pair; None for what torch has to judge."""
    kind = value.__class__
    if kind is tuple and len(value) == 2 and value[0].__class__ is int and value[1].__class__ is int:
        return value
    if kind is int:
        return value, value
    if isinstance(value, tuple | list):
        numbers = [one for one in map(number, value) if one is not None]
        return (numbers[0], numbers[-1]) if len(value) in (1, 2) and len(numbers) == len(value) else None
    one = number(value)
    return None if one is None else (one, one)


def number(value: Any) -> Any:
    """An int, or what stands for one; not a bool."""
    if isinstance(value, int | torch.SymInt):
        return None if isinstance(value, bool) else value
    try:
        return index(value)
    except TypeError:
        return None


def same(weight: torch.Tensor, stride: Pair, dilation: Pair) -> tuple[int, int, int, int] | None:
    """What padding='same' stands for: the odd pixel goes to the bottom and the right."""
    if weight.dim() != 4 or stride != (1, 1) or dilation[0] < 1 or dilation[1] < 1:
        return None
    height, width = dilation[0] * (weight.shape[2] - 1), dilation[1] * (weight.shape[3] - 1)
    top, left = height // 2, width // 2
    if top != height - top or left != width - left:
        warn_of_copy()
    return top, height - top, left, width - left


def geometry_of(
    weight: torch.Tensor, stride: Any, padding: Any, dilation: Any, groups: Any, padding_mode: str = "zeros"
) -> Geometry | None:
    """The arguments of conv2d as numbers; None where torch has to judge them, that is to raise. Padding may have been
    resolved before."""
    steps, gaps, parts = pair(stride), pair(dilation), number(groups)
    if steps is None or gaps is None or parts is None:
        return None
    if padding.__class__ is str:
        sides = same(weight, steps, gaps) if padding == "same" else (0, 0, 0, 0) if padding == "valid" else None
    elif is_resolved(padding):
        sides = tuple(padding)
    else:
        both = pair(padding)
        sides = both and (both[0], both[0], both[1], both[1])
    return None if sides is None else Geometry(steps, sides, gaps, parts, padding_mode)


def is_resolved(padding: Any) -> bool:
    """Whether it has four sides, which torch would not take."""
    return isinstance(padding, tuple | list) and len(padding) == 4


_warned = False


@torch.compiler.assume_constant_result
def warn_of_copy() -> None:
    """What torch says, once in a process, where the two sides differ. Here no copy is made."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            "Using padding='same' with even kernel lengths and odd dilation may require a zero-padded copy of the "
            "input be created",
            UserWarning,
            stacklevel=2,
        )
