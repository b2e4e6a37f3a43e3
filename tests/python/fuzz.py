"""Calls everything that the package shows with arguments that nobody would give: python fuzz.py SEED CALLS. Whatever
comes, it is a result or an exception; the test looks at whether the process lives on."""

import random
import sys
import warnings

import numpy
import torch

import fonio
from fonio import _core, nn

rng = random.Random(sys.argv[1])


class OddIndex:
    def __index__(self):
        return rng.choice([1, 2**40, -3])


class BrokenNumber:
    def __index__(self):
        raise ZeroDivisionError

    __float__ = __index__


class OddDLPack:
    def __dlpack__(self, **keywords):
        return rng.choice([None, 3, torch.zeros(2).__dlpack__(), torch.zeros(1, 2, 3, 3).__dlpack__(max_version=(1, 0))])

    def __dlpack_device__(self):
        return (1, 0)


def array():
    shape = [rng.choice([0, 1, 2, 3, 5, 8]) for _ in range(rng.choice([0, 1, 2, 3, 4, 4, 4, 4, 5, 9]))]
    made = numpy.zeros(shape, rng.choice(["f", "f", "f", "d", "e", "i", "?", ">f4", "c8", "U2", "O", "M8[s]", "V4"]))
    if rng.random() < 0.3:
        made = made.T
    if rng.random() < 0.2 and made.ndim:
        made = made[::-1]
    made.flags.writeable = rng.random() < 0.9
    return made


def converted(function):
    try:
        return function(array().copy())
    except (TypeError, ValueError):
        return function(numpy.zeros((1, 2, 3, 3), "f"))


def sequence():
    return tuple(anything(1) if rng.random() < 0.2 else rng.choice([0, 1, 2, 3, -1, 2**62]) for _ in range(rng.randrange(6)))


def anything(depth=0):
    makers = [array, array, array, lambda: converted(torch.from_numpy), lambda: converted(fonio.from_numpy)]
    makers += [lambda: rng.choice([0, 1, 2, -1, 2**63, 2**70, -(2**63), True, 1.5, float("nan"), float("inf"), 1e300, None])]
    makers += [lambda: rng.choice(["same", "valid", "same_lower", "zeros", "reflect", "relu", "prelu", "", "\ud800", "\0"])]
    makers += [lambda: [rng.choice([1, 2, 3]) for _ in range(rng.randrange(10))], lambda: nn.Parameter(fonio.zeros(2, 2, 3, 3))]
    makers += [OddIndex, BrokenNumber, OddDLPack]
    makers += [lambda: rng.choice([b"abcd", bytearray(16), memoryview(b"ab"), object(), int, numpy.float32(2), slice(1), ..., {}])]
    return rng.choice(makers + ([sequence] * 2 if depth == 0 else []))()


CONVOLUTIONS = [fonio.conv2d] * 3 + [fonio.conv2d_input, fonio.conv2d_weight, _core.conv2d_backward, fonio.explain]
OTHERS = [fonio.tensor, fonio.from_numpy, fonio.from_dlpack, fonio.equal, fonio.allclose, fonio.set_accuracy, fonio.manual_seed]
OTHERS += [fonio.add, fonio.div, fonio.pow, fonio.sum, fonio.mean, fonio.relu, nn.Conv2d, nn.LazyConv2d, nn.Parameter]
OTHERS += [getattr(nn.init, name) for name in dir(nn.init) if name.endswith("_") and name[0] != "_"]
KEYWORDS = ["bias", "stride", "padding", "dilation", "groups", "padding_mode", "activation", "out", "input", "dim", "x"]
# Those that could ask for all the memory that there is are left out.
METHODS = [name for name in dir(fonio.Tensor) if not name.startswith("_") and name not in ("expand", "unsqueeze")]
METHODS += ["__getitem__", "__setitem__", "__add__", "__truediv__", "__dlpack__", "__array__", "__eq__", "__pow__"]


def call():
    if rng.random() < 0.6:
        function = rng.choice(CONVOLUTIONS + OTHERS)
        function(*[anything() for _ in range(rng.randrange(8))], **{rng.choice(KEYWORDS): anything() for _ in range(rng.randrange(3))})
        return
    shape = rng.choice([(), (2,), (2, 3), (1, 2, 3, 3), (0, 2)])
    tensor = fonio.zeros(shape, dtype=rng.choice([fonio.float32, fonio.float64, fonio.int64, fonio.bfloat16, fonio.bool]))
    attribute = getattr(tensor, rng.choice(METHODS))
    if callable(attribute):
        attribute(*[anything() for _ in range(rng.randrange(3))])


warnings.simplefilter("ignore")
done = 0
for _ in range(int(sys.argv[2])):
    try:
        call()
        done += 1
    except Exception:
        pass
print(done)
