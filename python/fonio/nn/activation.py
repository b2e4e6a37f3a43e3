"""Activations as modules."""

from fonio._tensor import Tensor
from fonio.nn import functional
from fonio.nn.module import Module


class ReLU(Module):
    """Each element, or 0 where it is less. `inplace` makes no difference to the result."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """relu(input)"""
        return functional.relu(input, self.inplace)

    def extra_repr(self) -> str:
        """The argument that is not torch's default."""
        return "inplace=True" if self.inplace else ""
