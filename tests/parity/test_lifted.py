"""What Fonio allows beyond PyTorch: "same" with a stride, "same_lower", four sides, circular padding that wraps more
than once. Held against the same convolution on an input that is padded in a step of its own, by indices or by F.pad,
and convolved by PyTorch without padding."""

import pytest
import torch
import torch.nn.functional as F

import fonio_c
import problems
from comparison import NAMES, check_values, expect, expect_none, failures_of, truth_and_bounds

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def strict():
    fonio_c.check(fonio_c.lib.set_accuracy(fonio_c.STRICT))
    yield
    fonio_c.check(fonio_c.lib.set_accuracy(fonio_c.UNSET))


# ---- The same, in steps ----


def tensorflow_same(size, kernel, stride, dilation, lower):
    """TensorFlow's SAME (ONNX's SAME_UPPER), or ONNX's SAME_LOWER: as many outputs as strides fit in the input."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    less, more = total // 2, total - total // 2
    return (more, less) if lower else (less, more)


def four_sides(case):
    """The padding of a lifted case as (top, bottom, left, right)."""
    padding, dilation = case.arguments["padding"], problems.pair(case.arguments["dilation"])
    if padding not in ("same", "same_lower"):
        return padding if len(padding) == 4 else (padding[0], padding[0], padding[1], padding[1])
    strides = problems.pair(case.arguments["stride"])
    each = zip(case.input.shape[-2:], case.weight.shape[2:], strides, dilation)
    return sum((tensorflow_same(*numbers, padding == "same_lower") for numbers in each), ())


def pad(input, sides, mode):
    top, bottom, left, right = sides
    if mode != "circular":
        return F.pad(input, [left, right, top, bottom], mode="constant" if mode == "zeros" else mode)
    height, width = input.shape[-2:]
    rows, columns = torch.arange(-top, height + bottom) % height, torch.arange(-left, width + right) % width
    return input.index_select(-2, rows).index_select(-1, columns)


def in_steps(case):
    sides, arguments = four_sides(case), case.arguments

    def function(input, weight, bias):
        padded = pad(input, sides, arguments["padding_mode"])
        return problems.torch_conv2d(
            padded, weight, bias, arguments["stride"], 0, arguments["dilation"], arguments["groups"]
        )

    return function


# ---- Random problems ----


def build(rng, mode, kernel, image, stride, padding, dilation):
    groups, batch = rng.choice([1, 1, 2, 3]), rng.choice([None, 0, 1, 1, 2, 3])
    channels = rng.randint(1, 4), rng.randint(1, 4)
    return problems.build_case(rng, batch, groups, *channels, kernel, image, stride, padding, dilation, mode)


def kernel_and_dilation(rng):
    return [rng.randint(1, 6), rng.randint(1, 6)], problems.one_or_pair(rng, lambda: rng.choice([1, 1, 2, 3]))


def reach_of(kernel, dilation):
    return [step * (side - 1) for side, step in zip(kernel, problems.pair(dilation))]


def draw_same(rng):
    """ "same" with a stride, or "same_lower" with any. Every image fits; reflect needs something to read."""
    padding = rng.choice(["same", "same_lower"])
    mode = rng.choice(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"])
    kernel, dilation = kernel_and_dilation(rng)
    stride = problems.one_or_pair(rng, lambda: rng.choice([1, 2, 2, 3, 4] if padding == "same_lower" else [2, 2, 3, 4]))
    image = [(reach if mode == "reflect" else 0) + rng.randint(1, 11) for reach in reach_of(kernel, dilation)]
    return build(rng, mode, kernel, image, stride, padding, dilation)


def draw_four_sides(rng):
    mode = rng.choice(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"])
    sides = tuple(rng.choice([0, 0, 1, 2, 3, 4, 7]) for _ in range(4))
    kernel, dilation = kernel_and_dilation(rng)
    stride = problems.one_or_pair(rng, lambda: rng.choice([1, 1, 2, 3]))
    image = []
    for reach, before, after in zip(reach_of(kernel, dilation), sides[::2], sides[1::2]):
        least = max(1, reach + 1 - before - after, max(before, after) + 1 if mode == "reflect" else 1)
        image.append(least + rng.choice([0, 0, 1, 2, rng.randint(0, 9)]))
    return build(rng, mode, kernel, image, stride, sides, dilation)


def draw_wrapping(rng):
    """Circular padding larger than the image, up to some rounds."""
    image = [rng.randint(1, 5), rng.randint(1, 5)]
    padding = tuple(rng.randint(side + 1, 4 * side + 1) for side in image)
    kernel, dilation = kernel_and_dilation(rng)
    fits = [1 + (side + 2 * more - 1) // step for side, more, step in zip(image, padding, problems.pair(dilation))]
    kernel = [min(side, most) for side, most in zip(kernel, fits)]
    return build(
        rng, "circular", kernel, image, problems.one_or_pair(rng, lambda: rng.randint(1, 3)), padding, dilation
    )


# ---- Checks ----


def check_case(rng, case):
    tensors = [tensor for tensor in (case.input, case.weight, case.bias) if tensor is not None]
    function = in_steps(case)
    shape = tuple(function(case.input.double(), case.weight.double(), None).shape)
    grad_output = problems.random_tensor(
        rng, torch.Generator().manual_seed(rng.getrandbits(32)), shape, case.input.dtype
    )
    truth, bounds = truth_and_bounds(function, tensors, grad_output)
    ours = [fonio_c.Tensor.wrap(tensor, requires_grad=True) for tensor in tensors]
    output = fonio_c.conv2d(*ours, **case.arguments)
    gradients = fonio_c.grad(output, ours, fonio_c.Tensor.wrap(grad_output))
    for name, tensor, value, bound in zip(NAMES, [output, *gradients], truth, bounds):
        expect(tensor.dtype == case.input.dtype, f"{name} is {tensor.dtype}")
        check_values(name, tensor.torch(), value, bound)


@pytest.mark.parametrize("draw", [draw_same, draw_four_sides, draw_wrapping])
def test_random_problems(draw, seed, cases):
    expect_none(failures_of(seed, cases(1500), draw, check_case))


# ---- By hand: sizes and sides that the manuals of TensorFlow and ONNX give ----


@pytest.mark.parametrize(
    "size, kernel, stride, upper",
    [
        (5, 3, 2, (1, 1)),
        (6, 3, 2, (0, 1)),
        (7, 2, 2, (0, 1)),
        (224, 7, 2, (2, 3)),
        (8, 1, 3, (0, 0)),
        (13, 11, 4, (5, 5)),
        (4, 4, 1, (1, 2)),
    ],
)
def test_same_sides(size, kernel, stride, upper):
    input, weight = torch.empty(1, 1, size, size), torch.empty(1, 1, kernel, kernel)
    problem = fonio_c.problem_init(input, weight, stride=stride, padding="same")
    assert tuple(problem.padding) == (*upper, *upper)
    assert (problem.out_height, problem.out_width) == (-(-size // stride),) * 2
    problem = fonio_c.problem_init(input, weight, stride=stride, padding="same_lower")
    assert tuple(problem.padding) == (*upper[::-1], *upper[::-1])


def test_numbers_that_show_each_side():
    """One row 1 2 3 through a kernel that picks the first, the middle or the last of three."""
    input = torch.tensor([[[1.0, 2.0, 3.0]]])
    for place, expected in enumerate([[2, 3, 1, 2, 3, 1], [3, 1, 2, 3, 1, 2], [1, 2, 3, 1, 2, 3]]):
        weight = torch.zeros(1, 1, 1, 3)
        weight[..., place] = 1
        ours = fonio_c.Tensor.wrap(input), fonio_c.Tensor.wrap(weight)
        output = fonio_c.conv2d(*ours, padding=(0, 0, 2, 3), padding_mode="circular")
        assert output.torch().flatten().tolist() == expected
