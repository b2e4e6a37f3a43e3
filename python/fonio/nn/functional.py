"""torch.nn.functional."""

from fonio._core import conv2d
from fonio._tensor import Tensor

__all__ = ["conv2d", "relu"]


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Each element, or 0 where it is less. `inplace` makes no difference to the result."""
    return input.relu()
