"""fonio.conv2d and its gradients, on arrays of every kind, against torch in float64."""

import ctypes
import random
import threading
import time

import numpy
import pytest
import torch
import torch.nn.functional as F

import fonio
import problems
import test_lifted
from arrays import KINDS, strides_of, values_of
from comparison import NAMES, check_values, expect, expect_none, failures_of, truth_and_bounds
from fonio import _core

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def strict():
    fonio.set_accuracy("strict")
    yield
    fonio.set_accuracy(None)


# ---- Random problems ----


def same_layout(made, wanted):
    """torch's strides, along the dimensions of more than one element."""
    pairs = zip(wanted.shape, strides_of(made), wanted.stride())
    return wanted.numel() == 0 or all(ours == theirs for size, ours, theirs in pairs if size > 1)


def knows_layout(case, kinds):
    """Whether the kinds tell torch's strides. Along a dimension of one element only torch's tensors do."""
    if kinds[0] == kinds[1] == "torch":
        return True
    return KINDS[kinds[0]][2] and 1 not in (*case.input.shape[-3:], *case.weight.shape)


def check_result(name, made, kind, truth, bound):
    _, type_, _ = KINDS[kind]
    expect(type(made) is type_, f"{name} is a {type(made)} for {kind}")
    check_values(name, values_of(made), truth, bound)


def check_case(rng, case, function, keeps_layout):
    tensors = [tensor for tensor in (case.input, case.weight, case.bias) if tensor is not None]
    shape = tuple(function(case.input.double(), case.weight.double(), None).shape)
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    grad_output = problems.random_tensor(rng, generator, shape, case.input.dtype)
    truth, bounds = truth_and_bounds(function, tensors, grad_output)
    before = [tensor.clone() for tensor in tensors]
    kinds = [rng.choice(list(KINDS)) for _ in range(3)]
    convert = [KINDS[kind][0] for kind in kinds]
    bias = convert[2](case.bias) if case.bias is not None else None
    output = fonio.conv2d(convert[0](case.input), convert[1](case.weight), bias, **case.arguments)
    check_result("output", output, kinds[0], truth[0], bounds[0])
    if keeps_layout and knows_layout(case, kinds):
        expect(same_layout(output, function(*tensors[:2], *tensors[2:] or [None])), f"strides {strides_of(output)}")
    grad = convert[2](grad_output)
    gradients = [
        fonio.conv2d_input(case.input.shape, convert[1](case.weight), grad, **case.arguments),
        fonio.conv2d_weight(convert[0](case.input), case.weight.shape, grad, **case.arguments),
    ]
    gradients += _core.conv2d_backward(convert[0](case.input), convert[1](case.weight), grad, **case.arguments)
    for place, gradient in zip((1, 2, 1, 2, 3), gradients):
        if place < len(truth):
            check_result(NAMES[place], gradient, kinds[2], truth[place], bounds[place])
    expect(all(torch.equal(a, b) for a, b in zip(before, tensors)), "an argument was written to")


def check_random(rng, case):
    check_case(rng, case, lambda *tensors: problems.torch_conv2d(*tensors, **case.arguments), True)


def check_lifted(rng, case):
    check_case(rng, case, test_lifted.in_steps(case), False)


def test_random_problems(seed, cases):
    expect_none(failures_of(seed, cases(300), problems.random_case, check_random))


@pytest.mark.parametrize("draw", ["draw_same", "draw_four_sides", "draw_wrapping"])
def test_what_torch_does_not_do(draw, seed, cases):
    expect_none(failures_of(seed, cases(100), getattr(test_lifted, draw), check_lifted))


def test_negative_strides(rng):
    input, weight = numpy.random.default_rng(rng.getrandbits(32)).random((2, 5, 4, 9, 9), "f")
    input, weight = input[..., ::-1], weight[::-1, :, :3, 2::-1]
    made = fonio.conv2d(input, weight)
    assert numpy.array_equal(made, fonio.conv2d(input.copy(), weight.copy()))


def test_jax(rng):
    jax = pytest.importorskip("jax.numpy")
    input, weight = rng.choices(range(9), k=96), rng.choices(range(9), k=54)
    input, weight = numpy.array(input, "f").reshape(2, 3, 4, 4), numpy.array(weight, "f").reshape(2, 3, 3, 3)
    made = fonio.conv2d(jax.array(input), jax.array(weight), padding=1)
    assert type(made) is type(jax.array(input))
    assert numpy.array_equal(made, fonio.conv2d(input, weight, padding=1))


def test_an_array_of_ctypes():
    """Its buffer has no strides."""
    array = (ctypes.c_float * 5 * 6 * 3 * 2)()
    input, weight = numpy.ctypeslib.as_array(array), numpy.ones((2, 3, 3, 3), "f")
    input[...] = numpy.arange(180).reshape(input.shape)
    assert numpy.array_equal(fonio.conv2d(array, weight), fonio.conv2d(input, weight))
    out = (ctypes.c_float * 3 * 4 * 2 * 2)()
    assert fonio.conv2d(input, weight, out=out) is out
    assert numpy.array_equal(out, fonio.conv2d(input, weight))


def test_a_tensor_that_waits_to_be_negated():
    imaginary = torch.view_as_complex(torch.randn(1, 3, 8, 8, 2)).conj().imag
    assert imaginary.is_neg()
    weight = torch.randn(2, 3, 3, 3)
    assert torch.equal(fonio.conv2d(imaginary, weight), fonio.conv2d(imaginary.resolve_neg(), weight))


# ---- Activations, and an array for the result ----

ACTIVATIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    ("leaky_relu", 0.25): lambda x: F.leaky_relu(x, 0.25),
}


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activation(activation):
    input, weight = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3)
    made = fonio.conv2d(input, weight, activation=activation)
    torch.testing.assert_close(made, ACTIVATIONS[activation](fonio.conv2d(input, weight)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slopes", [torch.tensor([0.3]), torch.rand(8)[::2]])
def test_prelu(slopes):
    input, weight = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3)
    made = fonio.conv2d(input, weight, activation=("prelu", slopes))
    assert torch.equal(made, F.prelu(fonio.conv2d(input, weight), slopes))
    with pytest.raises(RuntimeError, match="1 or 4 numbers"):
        fonio.conv2d(input, weight, activation=("prelu", torch.rand(3)))


@pytest.mark.parametrize("bad", ["elu", "", 3, ("relu", 1.0), "prelu", ("prelu",), ("leaky_relu", 1, 2), ("elu", 1.0)])
def test_activation_that_is_none(bad):
    with pytest.raises(ValueError, match="activation must be one of"):
        fonio.conv2d(numpy.ones((1, 1, 3, 3), "f"), numpy.ones((1, 1, 3, 3), "f"), activation=bad)


@pytest.mark.parametrize("kind", ["numpy", "torch", "memoryview"])
def test_out(kind):
    convert = KINDS[kind][0]
    input, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    wanted = fonio.conv2d(input, weight)
    for whole in (torch.full((2, 4, 6, 6), 7.0), torch.full((2, 4, 12, 6), 7.0)[:, :, ::2], torch.full((6, 2, 6, 4), 7.0)):
        view = whole.permute(1, 3, 0, 2) if whole.shape[0] == 6 else whole
        out = convert(view)
        assert fonio.conv2d(convert(input), convert(weight), out=out) is out
        assert torch.equal(view, wanted)


def test_torch_counts_a_write_to_out():
    input, weight, out = torch.randn(1, 1, 3, 3), torch.randn(1, 1, 3, 3), torch.ones(1, 1, 1, 1)
    leaf = torch.ones(1, requires_grad=True)
    product = (leaf * out).sum()
    fonio.conv2d(input, weight, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_out_that_will_not_do():
    input, weight = numpy.ones((2, 3, 8, 8), "f"), numpy.ones((3, 3, 3, 3), "f")

    def fails(error, text, out, **arguments):
        before = numpy.array(out)
        with pytest.raises(error, match=text):
            fonio.conv2d(input, weight, out=out, **arguments)
        assert numpy.array_equal(before, out)

    whole = numpy.zeros(2 * 3 * 8 * 8 + 1, "f")
    moved = whole[1:].reshape(2, 3, 8, 8)
    fails(RuntimeError, "Expected out tensor to have 4 dimensions and 2 x 3 x 6 x 6", numpy.zeros((2, 3, 6, 5), "f"))
    fails(RuntimeError, "Expected out tensor to have dtype float, but got double", numpy.zeros((2, 3, 6, 6), "d"))
    read_only = numpy.zeros((2, 3, 6, 6), "f")
    read_only.flags.writeable = False
    fails(ValueError, "output array is read-only", read_only)
    fails(RuntimeError, "some elements of the input tensor and the written-to tensor refer", input, padding=1)
    repeated = numpy.lib.stride_tricks.as_strided(whole, (2, 3, 6, 6), (0, 36 * 4, 24, 4))
    fails(RuntimeError, "more than one element of the written-to tensor refers", repeated)
    input = whole[:-1].reshape(2, 3, 8, 8)
    fails(RuntimeError, "some elements of the input tensor", moved, padding=1)
    with pytest.raises(TypeError, match="out"):
        fonio.conv2d(input, weight, out=[1])


def test_nothing_is_written_to_what_is_read_only():
    """Whether or not the plan is known, of which the sizes and strides are all that counts."""
    input, weight = torch.ones(2, 3, 8, 8), torch.ones(3, 3, 3, 3)
    fonio.conv2d(input, weight, out=numpy.zeros((2, 3, 6, 6), "f"))
    frozen, constant, ours, theirs = (numpy.zeros((2, 3, 6, 6), "f") for _ in range(4))
    frozen.flags.writeable = False
    constant = memoryview(constant).toreadonly()
    for out in (frozen, constant, fonio.from_numpy(ours), torch._neg_view(torch.from_numpy(theirs))):
        with pytest.raises(ValueError, match="output array is read-only"):
            fonio.conv2d(input, weight, out=out)
    assert not any(numpy.array(array).any() for array in (frozen, constant, ours, theirs))


# ---- Threads, memory, plans ----


def test_many_threads_at_once(seed):
    rng = random.Random(seed)
    problems_ = [problems.random_case(rng) for _ in range(40)]
    wanted = [fonio.conv2d(case.input, case.weight, case.bias, **case.arguments) for case in problems_]
    wrong = []

    def work(start):
        for turn in range(len(problems_)):
            place = (start + turn) % len(problems_)
            case = problems_[place]
            made = fonio.conv2d(case.input, case.weight, case.bias, **case.arguments)
            if not torch.equal(made, wanted[place]):
                wrong.append(place)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 40, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_other_threads_run_meanwhile():
    """A convolution of some hundred milliseconds does not keep the interpreter to itself."""
    input, weight = numpy.ones((1, 64, 400, 400), "d"), numpy.ones((64, 64, 5, 5), "d")
    thread = threading.Thread(target=fonio.conv2d, args=(input, weight))
    thread.start()
    turns = 0
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 5


def test_nothing_is_kept_but_so_many_plans():
    weight = numpy.ones((1, 1, 1, 1), "f")
    _core.clear_plans()
    before = _core.live_allocations()
    for size in range(1, 700):
        made = fonio.conv2d(numpy.full((1, 1, 1, size), size, "f"), weight)
        assert made.shape == (1, 1, 1, size) and (made == size).all()
        assert _core.plan_count() <= 256
    assert _core.plan_count() > 100
    for _ in range(100):
        with pytest.raises(RuntimeError):
            fonio.conv2d(weight, weight, groups=2)
    del made
    _core.clear_plans()
    assert _core.live_allocations() == before


def test_the_accuracy_counts(rng):
    """A plan that was made for another accuracy is not taken."""
    input, weight = torch.randn(1, 64, 28, 28), torch.randn(64, 64, 3, 3)
    strict = fonio.conv2d(input, weight)
    fonio.set_accuracy("fast")
    quick = fonio.conv2d(input, weight)
    fonio.set_accuracy("strict")
    assert not torch.equal(strict, quick)
    assert torch.equal(strict, fonio.conv2d(input, weight))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_read_anew(kind):
    input, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
    convert = KINDS[kind][0]
    first = values_of(fonio.conv2d(convert(input), convert(weight))).clone()
    weight.neg_()
    assert torch.equal(values_of(fonio.conv2d(convert(input), convert(weight))), -first)
