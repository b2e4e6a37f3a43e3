"""A residual and an activation in the same run as the convolution, against torch's conv2d, add and activation one after
the other.

The numbers are multiples of 1/8, so that every sum is exact and what is compared is the activation, with torch's in float64
(with AVX-512 its float32 gelu is off by 2**-22 |x|): within 8 units in the last place, and within 2**-126, where torch has
a 0 already. A gelu may be off by 32 units, as an exponent's rounding grows with it, and by 2**-52 |x| more, as torch takes
a small number there from 1 minus one near 1."""

import ctypes
import dataclasses
import itertools
import math

import pytest
import torch
import torch.nn.functional as F

import fonio_c
import problems
from comparison import Failed, expect, expect_none, failures_of

torch.set_num_threads(1)

EPSILON = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}

# by fonio_activation
ACTIVATIONS = (
    lambda x, slope, slopes: x,
    lambda x, slope, slopes: F.relu(x),
    lambda x, slope, slopes: F.relu6(x),
    lambda x, slope, slopes: F.leaky_relu(x, slope),
    lambda x, slope, slopes: F.prelu(x, slopes),
    lambda x, slope, slopes: F.silu(x),
    lambda x, slope, slopes: F.hardswish(x),
    lambda x, slope, slopes: torch.sigmoid(x),
    lambda x, slope, slopes: torch.tanh(x),
    lambda x, slope, slopes: F.gelu(x),
    lambda x, slope, slopes: F.gelu(x, approximate="tanh"),
)
# by fonio_activation: from what comes to the output, and the output
BACKWARD = {
    0: lambda g, y, slope: g,
    1: lambda g, y, slope: torch.ops.aten.threshold_backward(g, y, 0),
    2: lambda g, y, slope: torch.ops.aten.hardtanh_backward(g, y, 0, 6),
    3: lambda g, y, slope: torch.ops.aten.leaky_relu_backward(g, y, slope, False),
    7: lambda g, y, slope: torch.ops.aten.sigmoid_backward(g, y),
    8: lambda g, y, slope: torch.ops.aten.tanh_backward(g, y),
}
EXACT = range(0, 5)
RELU6, PRELU, GELU, GELU_TANH = 2, 4, 9, 10


@dataclasses.dataclass
class What:
    """What follows the convolution."""

    activation: int
    slope: float
    slopes: torch.Tensor
    residual: torch.Tensor | None


def eighths(rng, tensor):
    """The tensor's memory filled with multiples of 1/8 from -2 to 2."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    memory = tensor.as_strided([tensor.untyped_storage().nbytes() // tensor.itemsize], [1], 0)
    memory.copy_(torch.randint(-16, 17, memory.shape, generator=generator) / 8)


def what_follows(rng, case, output):
    dtype, channels = case.input.dtype, case.weight.shape[0]
    activation = rng.randrange(len(ACTIVATIONS))
    slopes = torch.randn(rng.choice([1, channels]), dtype=dtype)
    residual = torch.empty_strided(output.shape, output.stride(), dtype=dtype) if rng.random() < 0.5 else None
    if residual is not None:
        eighths(rng, residual)
    return What(activation, rng.choice([0.01, 0.2, -0.7, 1.5]), slopes, residual)


def strided_output(rng, case):
    """An output in a random layout, each element in a place of its own."""
    shape = exact_conv2d(case).shape
    layouts = [layout for layout in problems.LAYOUTS if layout is not problems.expanded]
    return problems.random_tensor(rng, torch.Generator(), tuple(shape), case.input.dtype, layouts)


def exact_conv2d(case):
    """torch's convolution of dense float64 copies, which is exact here: with some strides PyTorch 2.13.0's float32
    convolution is wrong, such as n1c20h2w5k12r1s3u3g4lnhwc, or crashes."""
    tensors = [tensor if tensor is None else tensor.double().contiguous() for tensor in (case.input, case.weight, case.bias)]
    return problems.torch_conv2d(*tensors, **case.arguments).to(case.input.dtype)


def in_steps(case, what):
    """The numbers before the activation, and after it."""
    before = exact_conv2d(case)
    if what.residual is not None:
        before = before + what.residual
    batched = before if before.ndim == 4 else before[None]
    if what.activation not in EXACT:
        batched = batched.double()
    return before, ACTIVATIONS[what.activation](batched, what.slope, what.slopes).reshape(before.shape)


def problem_for(case, what, output):
    problem = fonio_c.problem_init(case.input, case.weight, case.bias, **case.arguments)
    for i, stride in enumerate(output.stride(), 4 - output.ndim):
        problem.output_strides[i] = stride
    problem.has_residual = what.residual is not None
    problem.activation, problem.slope = what.activation, what.slope
    problem.prelu_stride = int(what.slopes.numel() > 1)
    return problem


def check_close(name, what, output, before, expected):
    epsilon = EPSILON[output.dtype]
    gelu = what.activation in (GELU, GELU_TANH)
    bound = 0 if what.activation in EXACT else (32 if gelu else 8) * epsilon * expected.abs() + 2.0**-126
    if gelu:
        bound = bound + EPSILON[torch.float64] * before.abs().double()
    error = (output - expected).abs()
    if not (error <= bound).all():
        worst = (error - bound).argmax()
        values = [tensor.flatten()[worst].item() for tensor in (before, output, expected)]
        raise Failed(f"{name}: activation {what.activation} of {values[0]!r} is {values[1]!r}, torch: {values[2]!r}")


def check_case(rng, case):
    for tensor in filter(lambda tensor: tensor is not None, (case.input, case.weight, case.bias)):
        eighths(rng, tensor)
    output = strided_output(rng, case)
    what = what_follows(rng, case, output)
    problem = problem_for(case, what, output)
    before, expected = in_steps(case, what)
    given = dict(input=case.input, weight=case.weight, bias=case.bias, residual=what.residual, prelu=what.slopes)
    for algorithm in (None, "reference", "packed", "rows", "depthwise_planes", "depthwise_pixels"):
        try:
            plan = fonio_c.Plan(problem, algorithm=algorithm)
        except ValueError:
            continue
        output.fill_(math.nan)
        plan.run(**given, output=output)
        check_close(algorithm or plan.algorithm, what, output, before, expected)


def draw(rng):
    """Enough channels and taps for sums of some size, few enough for exact ones."""
    while True:
        case = problems.random_case(rng)
        if case.input.numel() and case.weight.numel():
            return case


@pytest.fixture(autouse=True)
def strict():
    fonio_c.check(fonio_c.lib.set_accuracy(fonio_c.STRICT))
    yield
    fonio_c.check(fonio_c.lib.set_accuracy(fonio_c.UNSET))


def test_random_problems(seed, cases):
    expect_none(failures_of(seed, cases(2000), draw, check_case))


def test_problem_strings_say_what_follows():
    for text in ("c3h8w8k4r3s3z1arelu", "c3h8w8k4r3s3aleaky_relu0.2", "c3h8w8k4r3s3aprelu4tf64lnhwc"):
        problem = fonio_c.Problem()
        fonio_c.check(fonio_c.lib.conv_problem_parse(problem, text.encode()))
        expect(fonio_c.problem_string(problem) == text, text)


def test_way_back():
    """torch's bits, from the output alone. Where a relu6 is NaN, torch's own answer depends on the array's length."""
    generator = torch.Generator().manual_seed(0)
    odd = [0.0, -0.0, 1.0, -1.0, 6.0, math.inf, -math.inf, math.nan, 1e-40, -1e-40]
    for dtype, (kind, backward), size in itertools.product(EPSILON, BACKWARD.items(), (1, 7, 1000)):
        y = torch.randn(size, generator=generator, dtype=dtype) * (4 if kind == RELU6 else 1)
        g = torch.randn(size, generator=generator, dtype=dtype)
        for array in (y, g):
            places = torch.randint(0, size, [size // 3], generator=generator)
            array[places] = torch.tensor([odd[i % len(odd)] for i in range(size // 3)], dtype=dtype)
        if kind == RELU6:
            y.nan_to_num_(nan=3)
        image = torch.empty(1, 1, 1, size, dtype=dtype)
        problem = fonio_c.problem_init(image, torch.empty(1, 1, 1, 1, dtype=dtype))
        problem.activation, problem.slope = kind, 0.3
        expected = backward(g, y, 0.3)
        made, in_place = torch.empty_like(g), g.clone()
        for to in (made, in_place):
            arrays = y.data_ptr(), (g if to is made else to).data_ptr(), to.data_ptr()
            fonio_c.check(fonio_c.lib.conv_activation_gradient(ctypes.byref(problem), *arrays))
            same = (to == expected) & (to.signbit() == expected.signbit()) | to.isnan() & expected.isnan()
            expect(bool(same.all()), f"activation {kind}, {dtype}, {size} elements")


def test_way_back_refuses():
    problem = fonio_c.problem_init(torch.empty(1, 1, 2, 2), torch.empty(1, 1, 1, 1))
    array = torch.full((4,), 7.0)
    wrong = [("activation", 99, ValueError), ("out_height", 7, ValueError), ("dtype", 2, NotImplementedError)]
    for field, value, error in wrong:
        bad = fonio_c.Problem.from_buffer_copy(problem)
        setattr(bad, field, value)
        with pytest.raises(error):
            fonio_c.check(fonio_c.lib.conv_activation_gradient(ctypes.byref(bad), *[array.data_ptr()] * 3))
    fonio_c.lib.clear_error()
    for missing in range(3):
        arrays = [None if i == missing else array.data_ptr() for i in range(3)]
        with pytest.raises(TypeError, match="NULL"):
            fonio_c.check(fonio_c.lib.conv_activation_gradient(ctypes.byref(problem), *arrays))
    expect(bool((array == 7).all()), "written to")
