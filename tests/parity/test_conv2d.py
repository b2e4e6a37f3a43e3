"""fonio_tensor_conv2d and its three gradients against PyTorch, on random problems over all arguments and memory
layouts. A part of the float64 problems is also held against long doubles, and a part of all goes through plans, every
algorithm of them."""

import math

import numpy
import pytest
import torch
import torch.nn.functional as F

import fonio_c
import oracle
import problems
from comparison import (
    NAMES,
    UNIT,
    check_strides,
    check_values,
    expect,
    expect_none,
    failures_of,
    truth_and_bounds,
)

CHUNKS = 20
PROBLEMS = 20_000

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def strict():
    """The bound is that of plain sums, whatever their order: not of algorithms that transform their inputs."""
    fonio_c.check(fonio_c.lib.set_accuracy(fonio_c.STRICT))
    yield
    fonio_c.check(fonio_c.lib.set_accuracy(fonio_c.UNSET))


def function_of(case):
    return lambda input, weight, bias: problems.torch_conv2d(input, weight, bias, **case.arguments)


def precise_truth(case, grad_output):
    """The same values in long doubles, for a batched case."""
    sides = problems.sides_of(
        case.arguments["padding"], case.weight.shape[2:], problems.pair(case.arguments["dilation"])
    )
    exact = oracle.Oracle(
        case.input.numpy(),
        case.weight.numpy(),
        problems.pair(case.arguments["stride"]),
        (*sides[0], *sides[1]),
        problems.pair(case.arguments["dilation"]),
        case.arguments["groups"],
        case.arguments["padding_mode"],
    )
    above = grad_output.numpy()
    values = [exact.output(case.bias.numpy() if case.bias is not None else None)]
    values += [exact.input_gradient(above), exact.weight_gradient(above)]
    return values + ([above.astype(numpy.longdouble).sum((0, 2, 3))] if case.bias is not None else [])


# ---- Through tensors ----


def as_double(tensor):
    """The same numbers with the same strides."""
    if tensor.numel() == 0:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=torch.float64)
    elements = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    memory = tensor.as_strided([elements], [1], tensor.storage_offset())
    return memory.double().as_strided(tensor.shape, tensor.stride())


def only_padding_somewhere(case):
    """Whether an output reads nothing but padding."""
    ones = (torch.ones(tensor.shape, dtype=torch.float64) for tensor in (case.input, case.weight))
    return bool((problems.torch_conv2d(*ones, None, **case.arguments) == 0).any())


def output_of_torch(case):
    """A tensor with the shape and strides of PyTorch's output; None where that cannot be known.

    PyTorch 2.13.0 on a CPU crashes in oneDNN on some problems of which an output reads nothing but padding, such as
    n1c6h1w1k2r3s3u1,2p5d2g2: there float64 answers, whose memory format is the same but for groups. The memory format
    for groups of 1x1 kernels depends on whether there are several threads; ours never does: it is that of several.
    """
    input, weight = case.input, case.weight
    if input.dtype == torch.float32 and only_padding_somewhere(case):
        if case.arguments["groups"] > 1:
            return None
        input, weight = as_double(input), as_double(weight)
    several = tuple(weight.shape[2:]) == (1, 1) and case.arguments["groups"] > 1
    torch.set_num_threads(2 if several else 1)
    output = problems.torch_conv2d(input, weight, None, **case.arguments)
    torch.set_num_threads(1)
    return output


def check_tensors(case, tensors, grad_output, truth, bounds):
    """fonio_tensor_conv2d_with and fonio_grad."""
    ours = [fonio_c.Tensor.wrap(tensor, requires_grad=True) for tensor in tensors]
    output = fonio_c.conv2d(*ours, **case.arguments)
    theirs = output_of_torch(case)
    if theirs is not None:
        check_strides("output", output, theirs, every_stride=True)
    gradients = fonio_c.grad(output, ours, fonio_c.Tensor.wrap(grad_output))
    for name, tensor, value, bound in zip(NAMES, [output, *gradients], truth, bounds):
        expect(tensor.dtype == case.input.dtype, f"{name} is {tensor.dtype}")
        check_values(name, tensor.torch(), value, bound)


def leaves_after_backward(case, tensors, grad_output):
    """torch's leaves with their .grad, whose strides do not depend on the dtype. In float64, because PyTorch 2.13.0 on
    a CPU writes beyond its memory in the float32 backward of some channels_last problems, such as
    n2c5h2w7k3r1s1u2,1p1mreflectlnhwc. None where float64 cannot do it either."""
    leaves = [as_double(tensor).requires_grad_() for tensor in tensors]
    output = problems.torch_conv2d(leaves[0], leaves[1], *leaves[2:] or [None], **case.arguments)
    try:
        output.backward(as_double(grad_output))
    except RuntimeError as error:
        if str(error) != "slow_conv2d: grad_weight must be contiguous":
            raise
        return None
    return leaves


def check_backward(case, tensors, grad_output, truth, bounds):
    """fonio_tensor_backward_with: the gradients in .grad, with the strides that torch gives them."""
    ours = [fonio_c.Tensor.wrap(tensor, requires_grad=True) for tensor in tensors]
    fonio_c.backward(fonio_c.conv2d(*ours, **case.arguments), fonio_c.Tensor.wrap(grad_output))
    gradients = [fonio_c.gradient(tensor) for tensor in ours]
    for name, gradient, value, bound in zip(NAMES[1:], gradients, truth[1:], bounds[1:]):
        expect(gradient.dtype == case.input.dtype, f"{name} in .grad is {gradient.dtype}")
        check_values(name + " in .grad", gradient.torch(), value, bound)
    for name, gradient, leaf in zip(NAMES[1:], gradients, leaves_after_backward(case, tensors, grad_output) or []):
        check_strides(name + " in .grad", gradient, leaf.grad, every_stride=False)


# ---- Through plans ----


def algorithms():
    names = []
    while name := fonio_c.lib.conv_algorithm_name(len(names)):
        names.append(name.decode())
    return names


def plan_for(problem, direction, algorithm):
    """None where the named algorithm cannot do this problem."""
    try:
        return fonio_c.Plan(problem, direction, algorithm)
    except ValueError:
        if algorithm is None:
            raise
        return None


def tile_bound(case):
    """The bound of an output by Winograd's algorithm, whose tile shares its errors: each product counts with the
    largest input of its channel, which is as many as the stride has phases, or the kernel has parts (up to four); the
    transforms have at most 30 roundings, and their matrices, taken without signs, enlarge a product at most 158-fold."""
    largest = case.input.double().abs().amax((-2, -1), keepdim=True)
    weights = case.weight.double().abs().sum((-2, -1), keepdim=True)
    bias = case.bias.double().abs() if case.bias is not None else None
    size = F.conv2d(largest, weights, bias, groups=case.arguments["groups"])
    terms = case.weight.shape[1] * max(4, math.prod(problems.pair(case.arguments["stride"])))
    return 158 * (terms + 30) * UNIT[case.input.dtype] * size


def tile_bound_of_gradient(case, grad_output):
    """The same of an input's gradient, which is convolutions of the output's with parts of the weights, summed where
    padding has copied an input."""
    largest = grad_output.double().abs().amax((-2, -1), keepdim=True)
    weights = case.weight.double().abs().sum((-2, -1), keepdim=True)
    size = F.conv_transpose2d(largest, weights, groups=case.arguments["groups"])
    terms = case.weight.shape[0] // case.arguments["groups"]
    return 158 * (terms + 30) * UNIT[case.input.dtype] * size * copies_of(case)


def tile_bound_of_weight(case, grad_output):
    """And of a weight's gradient, whose kernels are tiles of the output's."""
    image, above = (array.double().abs().reshape(-1, *array.shape[-3:]) for array in (case.input, grad_output))
    largest = image.amax((0, -2, -1)).reshape(case.arguments["groups"], 1, -1)
    size = above.sum((0, -2, -1)).reshape(case.arguments["groups"], -1, 1) * largest
    terms = above.numel() // above.shape[1]
    return 158 * (terms + 30) * UNIT[case.input.dtype] * size.reshape(*case.weight.shape[:2], 1, 1)


def copies_of(case):
    """How often padding copies each input, itself included."""
    ones = torch.ones_like(case.input, dtype=torch.float64).requires_grad_()
    arguments = (case.arguments[name] for name in ("padding", "dilation", "padding_mode"))
    problems.torch_pad(ones, case.weight.shape[2:], *arguments).sum().backward()
    return ones.grad


def check_plans(rng, case, tensors, grad_output, truth, bounds):
    """Every algorithm on raw pointers, writing into arrays of random layouts; at least one for each direction."""
    problem = fonio_c.problem_init(case.input, case.weight, case.bias, **case.arguments)
    made = [dense_like(rng, value, case.input.dtype) for value in truth]
    if problem.in_channels == 0:
        made, truth = made[:3], truth[:3]  # of a bias that no output channel reads, a plan does not know the size
    given = dict(zip(("input", "weight", "bias"), tensors), grad_output=grad_output)
    parts = {fonio_c.FORWARD: [0], fonio_c.INPUT_GRADIENT: [1], fonio_c.WEIGHT_GRADIENT: list(range(2, len(made)))}
    for direction, part in parts.items():
        here = with_strides(problem, direction, made, grad_output)
        plans = [plan_for(here, direction, name) for name in [None, *algorithms()]]
        expect(any(plans[1:]), f"no algorithm for direction {direction}")
        for plan in filter(None, plans):
            run_and_check(plan, case, given, part, made, truth, bounds)


def with_strides(problem, direction, made, grad_output):
    """The problem with the strides of the tensors that are written, and of the output's gradient."""
    here = fonio_c.Problem.from_buffer_copy(problem)
    here.bias_stride = 1 if direction == fonio_c.WEIGHT_GRADIENT else problem.bias_stride
    set_strides(here.output_strides, made[0] if direction == fonio_c.FORWARD else grad_output)
    if direction == fonio_c.INPUT_GRADIENT:
        set_strides(here.input_strides, made[1])
    if direction == fonio_c.WEIGHT_GRADIENT:
        set_strides(here.weight_strides, made[2])
    return here


def set_strides(strides, tensor):
    """The tensor's strides in a field of a problem; an unbatched image has no first one."""
    for i, stride in enumerate(tensor.stride(), 4 - tensor.ndim):
        strides[i] = stride


PLACES = ("output", "grad_input", "grad_weight", "grad_bias")


def run_and_check(plan, case, given, part, made, truth, bounds):
    for i in part:
        made[i].fill_(math.nan)
    plan.run(**given, **{PLACES[i]: made[i] for i in part})
    for i in part:
        bound = bounds[i]
        if plan.algorithm.startswith("winograd") and i in (0, 2):
            bound = tile_bound_of_weight(case, given["grad_output"]) if i else tile_bound(case)
        check_values(f"{NAMES[i]} by {plan.algorithm}", made[i], truth[i], bound)


def dense_like(rng, tensor, dtype):
    """A tensor to write to: each element in a place of its own."""
    layouts = [layout for layout in problems.LAYOUTS if layout is not problems.expanded]
    return problems.random_tensor(
        rng, torch.Generator(), tuple(tensor.shape), dtype, layouts if tensor.ndim > 1 else [problems.contiguous]
    )


# ---- Random problems ----


def prepare(rng, case):
    """The tensors of a case, the gradient of its output, and what to expect of it."""
    tensors = [tensor for tensor in (case.input, case.weight, case.bias) if tensor is not None]
    shape = problems.torch_conv2d(case.input.double(), case.weight.double(), None, **case.arguments).shape
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    grad_output = problems.random_tensor(rng, generator, tuple(shape), case.input.dtype)
    truth, bounds = truth_and_bounds(function_of(case), tensors, grad_output)
    if case.input.dtype == torch.float64 and rng.random() < 0.1 and case.input.ndim == 4 and case.input.numel() > 0:
        truth, bounds = precise_truth(case, grad_output), [bound / 2 for bound in bounds]
    return tensors, grad_output, truth, bounds


def check_case(rng, case):
    prepared = prepare(rng, case)
    check_tensors(case, *prepared)
    if rng.random() < 0.25:
        check_backward(case, *prepared)
    if rng.random() < 0.25:
        check_plans(rng, case, *prepared)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_problems(chunk, seed, cases):
    expect_none(failures_of(seed, cases(PROBLEMS // CHUNKS), problems.random_case, check_case))


# ---- Memory formats ----


def draw_small(rng):
    """Sizes of 1 everywhere: there strides say little, and PyTorch's guess of a memory format follows its own ways."""
    mode = rng.choice(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"])
    kernel = rng.choice([(1, 1), (1, 1), (1, 2), (2, 1), (2, 2), (4, 4)])
    stride = rng.choice([1, 1, 2])
    padding = "same" if mode == "zeros" and stride == 1 and rng.random() < 0.3 else rng.choice([0, 0, 1])
    dilation, sides = rng.choice([1, 1, 2]), problems.sides_of(padding, kernel, (1, 1))
    image = [
        max(1, dilation * (k - 1) + 1 - sum(side), max(side) + (mode == "reflect")) + rng.choice([0, 0, 1])
        for k, side in zip(kernel, sides)
    ]
    groups = rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 2]), rng.choice([1, 1, 2])
    batch = rng.choice([None, 1, 1, 2, 17])
    return problems.build_case(rng, batch, *groups, kernel, image, stride, padding, dilation, mode)


def check_format(rng, case):
    theirs = output_of_torch(case)
    if theirs is None:
        return
    problem = fonio_c.problem_init(case.input, case.weight, case.bias, **case.arguments)
    strides = tuple(problem.output_strides)[4 - theirs.ndim :]
    expect(strides == theirs.stride(), f"output with strides {strides}, not {theirs.stride()}: {layouts_of(case)}")


def layouts_of(case):
    layouts = ((tuple(tensor.shape), tensor.stride()) for tensor in (case.input, case.weight))
    return "input {} {}, weight {} {}".format(*(part for layout in layouts for part in layout))


def test_memory_formats(seed, cases):
    expect_none(failures_of(seed, cases(10_000), draw_small, check_format))


# ---- Algorithms that trade exactness for speed ----


def draw_tiled(rng):
    """A kernel and a stride that Winograd's algorithm can do."""
    while True:
        case = problems.random_case(rng)
        strides, dilations = (problems.pair(case.arguments[name]) for name in ("stride", "dilation"))
        taps = [-(-size // stride) for size, stride in zip(case.weight.shape[2:], strides)]
        most = [5 if stride > 1 else 8 for stride in strides]
        small = all(size <= limit for size, limit in zip(taps, most)) and max(taps) > 1
        if small and (1, 1) in (tuple(strides), tuple(dilations)) and case.input.numel():
            return case


def check_loosely(rng, case):
    tensors, grad_output, truth, bounds = prepare(rng, case)
    gradients = [bound(case, grad_output) for bound in (tile_bound_of_gradient, tile_bound_of_weight)]
    bounds[:3] = [tile_bound(case), *gradients]
    check_tensors(case, tensors, grad_output, truth, bounds)


@pytest.mark.parametrize("accuracy", [fonio_c.DEFAULT, fonio_c.FAST])
def test_looser_accuracies(accuracy, seed, cases):
    fonio_c.check(fonio_c.lib.set_accuracy(accuracy))
    expect_none(failures_of(seed, cases(500), draw_tiled, check_loosely))


def draw_long_sums(rng):
    """3 x 3 taps over so many pixels that the weight's gradient may be taken by Winograd's algorithm."""
    mode = rng.choice(["zeros", "reflect", "replicate", "circular"])
    dilation, padding = rng.choice([1, 1, 2]), rng.choice([0, 1, 2])
    channels, image = (rng.randint(1, 19), rng.randint(1, 19)), [rng.randint(24, 40) for _ in range(2)]
    batch, groups = rng.choice([None, 1, 2]), rng.choice([1, 1, 2])
    return problems.build_case(rng, batch, groups, *channels, (3, 3), image, 1, padding, dilation, mode)


def check_all_plans(rng, case):
    check_plans(rng, case, *prepare(rng, case))


def test_long_sums(seed, cases):
    expect_none(failures_of(seed, cases(60), draw_long_sums, check_all_plans))


# ---- Infinities and what is not a number ----


def check_nan(rng, case):
    """A NaN or an infinity in one place reaches the outputs that read it and no other."""
    odd = rng.choice([math.nan, math.inf, -math.inf])
    tensors = [tensor.clone(memory_format=torch.contiguous_format) for tensor in (case.input, case.weight)]
    place = rng.randrange(2)
    spoiled = rng.randrange(tensors[place].numel())
    tensors[place].flatten()[spoiled] = odd
    marks = [torch.ones_like(tensor, dtype=torch.float64) for tensor in tensors]
    marks[place].zero_().flatten()[spoiled] = 1
    reached = problems.torch_conv2d(*marks, None, **case.arguments) > 0
    output = fonio_c.conv2d(*map(fonio_c.Tensor.wrap, tensors), **case.arguments).torch()
    expect(
        torch.equal(~output.isfinite(), reached),
        f"{odd} in {('input', 'weight')[place]}[{spoiled}] reaches the wrong outputs",
    )
    if math.isnan(odd):
        expect(torch.equal(output.isnan(), reached), "a NaN became an infinity")


def draw_with_elements(rng):
    while True:
        case = problems.random_case(rng)
        if case.input.numel():
            return case


def test_nan_and_infinity_go_where_they_are_read(seed, cases):
    expect_none(failures_of(seed, cases(500), draw_with_elements, check_nan))
