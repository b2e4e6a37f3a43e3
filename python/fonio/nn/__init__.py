"""torch.nn: modules, parameters, and what initialises them."""

from fonio.nn import functional, init
from fonio.nn.activation import ReLU
from fonio.nn.container import ModuleList, Sequential
from fonio.nn.conv import Conv2d, LazyConv2d
from fonio.nn.module import Module
from fonio.nn.parameter import Buffer, Parameter

__all__ = [
    "Buffer",
    "Conv2d",
    "LazyConv2d",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "functional",
    "init",
]
