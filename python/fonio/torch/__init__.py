"""Fonio for torch: conv2d, Conv2d, LazyConv2d and Linear in place of torch's, and accelerate, which puts them into a model.

import fonio.torch
print(fonio.torch.accelerate(model))      # every torch.nn.Conv2d, in place: the same parameters, the same results
"""

from fonio.torch import _vmap  # noqa: F401 (registers how the operators run under vmap)
from fonio.torch._accelerate import Report, accelerate
from fonio.torch._functional import conv2d
from fonio.torch._module import Conv2d, LazyConv2d, Linear

# Where pickles and torch.fx look for them.
for _public in (conv2d, Conv2d, LazyConv2d, Linear, accelerate, Report):
    _public.__module__ = "fonio.torch"

__all__ = ["Conv2d", "LazyConv2d", "Linear", "Report", "accelerate", "conv2d"]
