"""torch.nn: modules, parameters, and what initialises them."""

from fonio.nn import functional, init
from fonio.nn.activation import ReLU
from fonio.nn.container import ModuleList, Sequential
from fonio.nn.conv import Conv2d, LazyConv2d
from fonio.nn.linear import Flatten, Linear
from fonio.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from fonio.nn.module import Module
from fonio.nn.parameter import Buffer, Parameter
from fonio.nn.pooling import AvgPool2d, MaxPool2d

__all__ = [
    "AvgPool2d",
    "Buffer",
    "Conv2d",
    "CrossEntropyLoss",
    "Flatten",
    "LazyConv2d",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "Sequential",
    "functional",
    "init",
]
