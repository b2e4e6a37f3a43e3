"""Draws layers, and prints a digest of the bits of each: run by the tests with FONIO_ISA set.

Reads lines "seed in out kh kw groups bias dtype"; prints the instruction set, then one digest a line.
"""

import hashlib
import sys

import nn_c
import torch
from fonio_c import lib


def digest(tensors):
    """Of the bits of torch tensors."""
    together = hashlib.sha256()
    for tensor in tensors:
        together.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return together.hexdigest()


def main():
    print(lib.isa().decode())
    for line in sys.stdin:
        *numbers, dtype = line.split()
        seed, inputs, outputs, height, width, groups, bias = map(int, numbers)
        lib.manual_seed(seed)
        layer = nn_c.Conv2d(inputs, outputs, (height, width), groups=groups, bias=bool(bias), dtype=getattr(torch, dtype))
        # One more number shows that as many were drawn.
        after = nn_c.Tensor(lib.tensor_rand(0, 1, nn_c.int64s([1])))
        print(digest([*layer.state_dict().values(), after.torch()]))


if __name__ == "__main__":
    main()
