"""torch.nn.functional."""

from fonio._core import conv2d

__all__ = ["conv2d"]
