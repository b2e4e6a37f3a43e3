"""Random problems of test_conv2d.py under the malloc of fence.c: fenced.py FENCE SEED COUNT, with FENCE preloaded. Each
problem is named before it is tried."""

import ctypes
import faulthandler
import os
import sys

import fonio_c
import problems
import test_conv2d
from comparison import describe, failures_of


def draw(rng):
    case = problems.random_case(rng)
    print(describe(case), flush=True)
    return case


def main(path, seed, count):
    faulthandler.enable()
    fence = ctypes.CDLL(path)
    fonio_c.check(fonio_c.lib.set_accuracy(fonio_c.STRICT))
    list(failures_of(seed, 1, draw, test_conv2d.check_case))  # what torch and Python take once
    fence.fence_on(True)
    failures = list(failures_of(seed, int(count), draw, test_conv2d.check_case))
    fence.fence_on(False)
    fence.fence_blocks.restype = ctypes.c_long
    print(*failures, f"{fence.fence_blocks()} blocks", sep="\n", flush=True)
    os._exit(bool(failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
