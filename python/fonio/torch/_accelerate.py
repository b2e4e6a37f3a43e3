"""fonio.torch.accelerate: Fonio's layer in place of every torch.nn.Conv2d of a model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.utils import parametrize

from fonio.torch import _fusion
from fonio.torch._functional import DTYPES
from fonio.torch._module import Conv2d, LazyConv2d, Linear


_TORCHS: dict[type, type] = {Conv2d: torch.nn.Conv2d, LazyConv2d: torch.nn.LazyConv2d, Linear: torch.nn.Linear}


@dataclass
class Report:
    """What accelerate did. Printing it tells; undo() puts everything back."""

    swapped: list[str] = field(default_factory=list)  # the names of the layers that Fonio computes now
    left: dict[str, str] = field(default_factory=dict)  # the names of those that it does not, and why
    folded: list[tuple[str, str]] = field(default_factory=list)  # layer and BatchNorm
    fused: list[tuple[str, str]] = field(default_factory=list)  # layer and activation
    linear: list[str] = field(default_factory=list)  # the names of the linear layers that it computes now
    apart: dict[str, str] = field(default_factory=dict)  # layers that were to be joined to what follows, and why not
    _undo: list[Callable[[], None]] = field(default_factory=list, repr=False)

    def undo(self) -> None:
        """Makes the model what it was before. Its parameters, now and then, are the same objects."""
        while self._undo:
            self._undo.pop()()

    def __str__(self) -> str:
        lines = [f"Fonio computes {len(self.swapped)} of {len(self.swapped) + len(self.left)} convolutions."]
        lines += [f"  not {name or 'the model itself'}: {reason}" for name, reason in self.left.items()]
        if self.linear:
            lines.append(f"{len(self.linear)} linear layers, too.")
        if self.folded:
            lines.append(f"{len(self.folded)} BatchNorm2d are folded into them in eval.")
        if self.fused:
            lines.append(f"{len(self.fused)} activations are computed with them in eval.")
        lines += [f"  not joined {name or 'the model itself'}: {reason}" for name, reason in self.apart.items()]
        return "\n".join(lines)


def _keep_memory() -> None:
    """The system clears each page of new memory when it is first written to, which takes a network of many layers up to
    a third of its time. glibc returns what is free beyond twice the size of the largest block that lay in pages of its
    own and was given back: this is one of the largest that count, and none of it is touched."""
    torch.empty(31 << 20, dtype=torch.uint8, device="cpu")


def accelerate(
    model: torch.nn.Module, *, linear: bool = False, fold_batchnorm: bool = False, fuse_activation: bool = False
) -> Report:
    """Makes Fonio compute every torch.nn.Conv2d (and LazyConv2d) of the model, in place.

    The layers stay the objects that they are, with their parameters, hooks and names; only their class becomes
    fonio.torch.Conv2d. Optimisers, state dicts and checkpoints do not notice. Subclasses of torch.nn.Conv2d, which may
    compute something else, and layers on another device or of another dtype are left alone, which the report tells.

    linear: every torch.nn.Linear becomes a fonio.torch.Linear, too, which computes rows as the pixels of a 1 x 1
    convolution.

    fold_batchnorm and fuse_activation: where a layer is followed by nothing but a BatchNorm2d, or an activation module
    (after the BatchNorm2d, if both are asked for), it does their work too, in calls in eval mode that record no
    gradients; all others compute what they did. Nothing of the model is overwritten, and when a parameter or a running
    statistic changes, so does what is folded. What follows what is found out by torch.fx, so models that it cannot
    trace keep their layers apart. Each layer that is joined is tried out with random numbers first.

    Memory that tensors leave stays with the process for those that follow, up to some 60 MB at the end of each of
    malloc's arenas (with glibc, and unless the environment sets a threshold, such as MALLOC_TRIM_THRESHOLD_).

    Returns a Report: print it, or call its undo().
    """
    _keep_memory()
    report = Report()
    for name, module in model.named_modules():
        _swap(report, name, module)
        if linear and type(module) is torch.nn.Linear and _obstacle_of(module.weight) is None:
            _swap_linear(report, name, module)
    if fold_batchnorm or fuse_activation:
        _fusion.join(model, report, fold_batchnorm, fuse_activation)
    return report


def _swap(report: Report, name: str, module: torch.nn.Module) -> None:
    kind = type(module)
    if isinstance(module, Conv2d | LazyConv2d) or not isinstance(module, torch.nn.modules.conv._ConvNd):
        return
    reason = _obstacle(module)
    if reason is not None:
        report.left[name] = reason
        return
    report.swapped.append(name)
    if kind is torch.nn.Conv2d or kind is torch.nn.LazyConv2d:
        module.__class__ = Conv2d if kind is torch.nn.Conv2d else LazyConv2d
        report._undo.append(lambda: _back_to_torch(module))
    else:  # the class that parametrize has made for this one module
        kind.__bases__ = (Conv2d,)
        report._undo.append(lambda: setattr(kind, "__bases__", (torch.nn.Conv2d,)))


def _swap_linear(report: Report, name: str, module: torch.nn.Module) -> None:
    module.__class__ = Linear
    report.linear.append(name)
    report._undo.append(lambda: _back_to_torch(module))


def _back_to_torch(module: torch.nn.Module) -> None:
    kind: Any = type(module)
    if kind in _TORCHS:
        module.__class__ = _TORCHS[kind]
    else:  # the class that parametrize has made since
        kind.__bases__ = (_TORCHS[kind.__bases__[0]],)
    module.__dict__.pop("_kept", None)


def _obstacle(module: torch.nn.Module) -> str | None:
    """Why a layer is left alone; None if it is not."""
    kind = type(module)
    made_for_it = parametrize.is_parametrized(module) and kind.__bases__ == (torch.nn.Conv2d,)
    if kind not in (torch.nn.Conv2d, torch.nn.LazyConv2d) and not made_for_it:
        return f"{kind.__name__} is not torch.nn.Conv2d itself"
    return _obstacle_of(module.weight)


def _obstacle_of(weight: torch.Tensor) -> str | None:
    if weight.device.type != "cpu":
        return f"it is on {weight.device.type}"
    return None if weight.dtype in DTYPES else f"Fonio does not compute {weight.dtype} yet"
