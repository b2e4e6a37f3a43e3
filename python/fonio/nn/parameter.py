"""torch.nn.parameter."""

from __future__ import annotations

from fonio import _core
from fonio._functions import empty
from fonio._tensor import Tensor


class Parameter(Tensor):
    """A tensor that a module trains: assigned to an attribute of a module, it is one of its parameters."""

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"nn.Parameter takes a Tensor, not {type(data).__name__}")
        return cls._adopt(_core.parameter(data, requires_grad))


class Buffer(Tensor):
    """A tensor of a module's state that is not trained."""

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        made = cls._adopt(empty(0) if data is None else data.detach())
        made.persistent = persistent
        return made
