"""torch.autograd: gradients by hand."""

from __future__ import annotations

from fonio import _core
from fonio._functions import enable_grad, no_grad, set_grad_enabled
from fonio._tensor import Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["enable_grad", "grad", "no_grad", "set_grad_enabled"]


def grad(
    outputs: Tensor,
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
) -> tuple[Tensor | None, ...]:
    """The gradients of `inputs`, from one output; no .grad changes. None for an unused input, where that is allowed."""
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    for one in (outputs, *given, *(() if grad_outputs is None else (grad_outputs,))):
        if not isinstance(one, Tensor):
            raise TypeError(f"grad() takes tensors, not {type(one).__name__}")
    retain = create_graph if retain_graph is None else bool(retain_graph)
    return _core.grad(outputs, given, grad_outputs, retain, create_graph, bool(allow_unused))
