"""Comparing with PyTorch on many random problems: the truth, how far off a correct result may be, and a line for each
problem that fails.

The bound is a-priori: a sum of K products, each rounded, in any order and with any use of fused multiply-adds, is
within (K + 2) * u * sum|x * w| of the exact value, u being half the distance from 1 to the next number. The exact
values are PyTorch's in float64; for float64 itself PyTorch's own result may be as far off as ours, which doubles the
bound.
"""

import random

import numpy
import torch

import fonio_c

UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
NAMES = ("output", "input gradient", "weight gradient", "bias gradient")


class Failed(Exception):
    """What is wrong with a problem."""


def expect(condition, text):
    if not condition:
        raise Failed(text)


# ---- The truth ----


def with_gradients(function, tensors, grad_output):
    """The output of function(input, weight, bias), and the gradients of `tensors` from `grad_output`, a function of the
    output."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = function(*leaves[:2], *leaves[2:] or [None])
    return [output.detach(), *torch.autograd.grad(output, leaves, grad_output(output))]


def truth_and_bounds(function, tensors, grad_output):
    """For the output and each gradient: the values in float64, and how far off a correct result may be. All of dense
    copies: with some strides PyTorch's own gradients are wrong, such as the float64 weight gradient of
    n1c15h5w1k9r1s1u2g3 with an input of strides (75, 1, 15, 1)."""
    wide, wide_grad = [tensor.double().contiguous() for tensor in tensors], grad_output.double().contiguous()
    truth = with_gradients(function, wide, lambda output: wide_grad)
    sizes = with_gradients(function, [tensor.abs() for tensor in wide], lambda output: wide_grad.abs())
    counts = with_gradients(function, [torch.ones_like(tensor) for tensor in wide], torch.ones_like)
    slack = 2 if grad_output.dtype == torch.float64 else 1
    return truth, [slack * (count + 2) * UNIT[grad_output.dtype] * size for count, size in zip(counts, sizes)]


# ---- Checks ----


def check_values(name, values, truth, bound):
    """Every element within its bound; `truth` a tensor, or an array of long doubles."""
    expect(
        tuple(values.shape) == tuple(truth.shape), f"{name} of shape {tuple(values.shape)}, not {tuple(truth.shape)}"
    )
    error = abs(values.double().numpy() - numpy.asarray(truth))
    wrong = ~(error <= bound.numpy())
    if wrong.any():
        bound = bound.expand(truth.shape)
        place = tuple(map(int, numpy.unravel_index(numpy.where(wrong, error, -1).argmax(), error.shape)))
        raise Failed(
            f"{name}{list(place)} is {values[place].item():.17g}, not {truth[place]:.17g}: off by {error[place]:.3g}, "
            f"bound {bound[place]:.3g}; {wrong.sum()} of {wrong.size} elements"
        )


def check_strides(name, ours, theirs, every_stride):
    """torch's shape and, where there are elements, strides: every one, or those that reach more than one element."""
    expect(ours.shape == tuple(theirs.shape), f"{name} of shape {ours.shape}, not {tuple(theirs.shape)}")
    strides = zip(ours.shape, ours.stride(), theirs.stride())
    if theirs.numel() > 0 and any(mine != other for size, mine, other in strides if every_stride or size > 1):
        raise Failed(f"{name} with strides {ours.stride()}, not {theirs.stride()}")


# ---- Many problems ----


def describe(case):
    try:
        return fonio_c.problem_string(fonio_c.problem_init(case.input, case.weight, case.bias, **case.arguments))
    except Exception as error:
        return f"{error} (input {tuple(case.input.shape)}, weight {tuple(case.weight.shape)}, {case.arguments})"


def failures_of(seed, count, draw, check):
    """A line for each of `count` random problems that fails: the problem string, what draws it again, and what is
    wrong."""
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        case = draw(rng)
        try:
            check(rng, case)
        except Exception as error:
            yield f"{describe(case)} seed={seed} number={number}: {type(error).__name__}: {error}"


def expect_none(failures):
    lines = list(failures)
    assert not lines, "\n".join([f"{len(lines)} problems failed", *lines[:20]])
