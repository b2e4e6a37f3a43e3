"""Products of matrices, pooling and losses beside torch's: values, strides, histories, gradients of first and second order,
refusals. A failure prints the call that led to it."""

import ctypes
import math
import re

import pytest
import torch
import torch.nn.functional as F

import fonio_c
from fonio_c import Tensor, handle_of, int64s, lib, live_allocations
from tensors import FLOATS, call, outcome, random_tensor

REDUCTIONS = ("none", "mean", "sum")


def closes(made, wanted, tolerance):
    made, wanted = made.torch().double(), wanted.detach().double()
    largest = max([1.0, *wanted.nan_to_num(0, 0, 0).abs().flatten().tolist()])
    return made.shape == wanted.shape and torch.allclose(made, wanted, 0, tolerance * largest, equal_nan=True)


def grad_fn_names(made, wanted):
    name = lib.tensor_grad_fn_name(made.handle)
    return name.decode() if name else None, wanted.grad_fn.name() if wanted.grad_fn is not None else None


def numbers(dtype, shape, torch_rng):
    return torch.randn(shape, generator=torch_rng, dtype=torch.float64).to(dtype)


def weighed_sum(tensors, weights):
    """The sum of all tensors times their weights, in Fonio."""
    total = None
    for tensor, weight in zip(tensors, weights):
        product = Tensor(lib.tensor_mul(tensor.handle, weight.handle))
        one = Tensor(lib.tensor_sum(product.handle))
        total = one if total is None else Tensor(lib.tensor_add(total.handle, one.handle))
    return total


def byte_as_number(result):
    """An outcome as it is, but for a uint8 target that is out of bounds: torch prints the byte itself, Fonio its number."""
    if not isinstance(result, tuple):
        return result
    kind, text = result
    return kind, re.sub(r"(?<=^Target )[\0-\x1f](?= is out of bounds)", lambda byte: str(ord(byte[0])), text)


class Case:
    """One call: `in_torch` and `in_fonio` of the same leaves."""

    def __init__(self, rng, text, in_torch, in_fonio, leaves):
        self.text, self.in_torch, self.in_fonio = text, in_torch, in_fonio
        self.rng = torch.Generator().manual_seed(rng.getrandbits(32))
        self.torch = [leaf.detach().requires_grad_(rng.random() < 0.8) for leaf in leaves]
        self.fonio = [Tensor.wrap(leaf.detach(), leaf.requires_grad) for leaf in self.torch]
        self.tolerance = 2e-5 if leaves[0].dtype == torch.float32 else 1e-12

    def __repr__(self):
        return self.text + "".join(f"\n  {tuple(x.shape)} {x.stride()} {x.dtype} {x.requires_grad}" for x in self.torch)

    def check(self):
        wanted = byte_as_number(outcome(lambda: self.in_torch(*self.torch)))
        made = outcome(lambda: self.in_fonio(*self.fonio))
        if isinstance(wanted, tuple) or isinstance(made, tuple):
            assert made == wanted, self
            return
        assert closes(made, wanted, self.tolerance) and made.dtype == wanted.dtype, self
        if wanted.numel() > 1:
            assert [s for s, n in zip(made.stride(), made.shape) if n > 1] == [
                s for s, n in zip(wanted.stride(), wanted.shape) if n > 1
            ], self
        names = grad_fn_names(made, wanted)
        assert names[0] == names[1], (names, self)
        # Of a window that misses the image torch writes a gradient outside of it.
        if wanted.requires_grad and not wanted.isneginf().any():
            self.check_gradients(made, wanted)

    def check_gradients(self, made, wanted):
        places = [i for i, x in enumerate(self.torch) if x.requires_grad]
        above = numbers(wanted.dtype, wanted.shape, self.rng).requires_grad_()
        ours = Tensor.wrap(above.detach(), True)
        inputs, leaves = [self.torch[i] for i in places], [self.fonio[i] for i in places]
        wanted = torch.autograd.grad(wanted, inputs, above, create_graph=True)
        made = fonio_c.grad(made, leaves, ours, create_graph=True, retain_graph=True)
        for one, other in zip(made, wanted):
            assert closes(one, other, self.tolerance), (self, "first order")
            assert one.dtype == other.dtype
        self.check_second([*leaves, ours], [*inputs, above], made, wanted)

    def check_second(self, leaves, inputs, made, wanted):
        weights = [numbers(one.dtype, one.shape, self.rng) for one in wanted]
        total = sum((one * weight).sum() for one, weight in zip(wanted, weights))
        ours = weighed_sum(made, [Tensor.wrap(weight) for weight in weights])
        wanted = torch.autograd.grad(total, inputs, allow_unused=True)
        made = fonio_c.grad(ours, leaves, allow_unused=True)
        for one, other, leaf in zip(made, wanted, inputs):
            # What does not depend on a leaf at all may be said by None or by zeros.
            other = torch.zeros_like(leaf) if other is None else other
            if one is None:
                assert not other.any(), (self, "second order")
            else:
                assert closes(one, other, self.tolerance * 4), (self, "second order")


def leaf(rng, shape, dtype):
    return random_tensor(rng, dtype, shape)


def some(rng, count, low=1, high=5):
    return tuple(rng.randint(low, high) for _ in range(count))


# ---- Cases ----


def mm(rng):
    dtype, (n, k, m) = rng.choice(FLOATS), some(rng, 3, 0, 20)
    wrong = rng.random() < 0.1
    a, b = leaf(rng, (n, k), dtype), leaf(rng, (k + wrong, m), dtype)
    return Case(rng, "mm", torch.mm, lambda a, b: Tensor(lib.tensor_mm(a.handle, b.handle)), [a, b])


def linear(rng):
    dtype, (k, m) = rng.choice(FLOATS), some(rng, 2, 1, 20)
    batch = some(rng, rng.choice((1, 1, 1, 2, 3)))
    with_bias = rng.random() < 0.7 or len(batch) != 1
    leaves = [leaf(rng, (*batch, k + (rng.random() < 0.05)), dtype), leaf(rng, (m, k), dtype)]
    if with_bias:
        leaves.append(leaf(rng, (m + (rng.random() < 0.05),), dtype))
    if len(batch) > 1:
        leaves[0] = leaves[0].contiguous()
    return Case(
        rng,
        "linear",
        F.linear,
        lambda x, w, b=None: Tensor(lib.tensor_linear(x.handle, w.handle, handle_of(b))),
        leaves,
    )


def pool(rng):
    kind = rng.choice(("max", "avg"))
    pair = lambda low, high: [rng.randint(low, high) for _ in range(2)]  # noqa: E731
    args = {"kernel_size": pair(1, 4), "padding": [0, 0], "ceil_mode": rng.random() < 0.5}
    args["stride"] = pair(1, 3) if rng.random() < 0.7 else args["kernel_size"]
    if rng.random() < 0.7:
        args["padding"] = [rng.randint(0, k // 2) for k in args["kernel_size"]]
    if rng.random() < 0.1:
        args[rng.choice(("kernel_size", "stride", "padding"))] = pair(-1, 6)
    if kind == "max":
        args["dilation"] = pair(1, 2) if rng.random() < 0.9 else pair(0, 2)
    else:
        args["count_include_pad"] = rng.random() < 0.5
        args["divisor_override"] = rng.choice((None, None, 3))
    given = lib.pool2d_args_default()
    for name, value in args.items():
        setattr(given, name, int64s(value) if isinstance(value, list) else value or 0)
    shape = (*some(rng, rng.choice((1, 2, 2)), 1, 3), *some(rng, 2, 1, 9))
    x = leaf(rng, shape, rng.choice(FLOATS))
    x = x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 and rng.random() < 0.5 else x.contiguous()
    return Case(
        rng,
        f"{kind}_pool2d {args}",
        lambda x: getattr(F, kind + "_pool2d")(x, **args),
        lambda x: Tensor(getattr(lib, f"tensor_{kind}_pool2d_with")(x.handle, ctypes.byref(given))),
        [x],
    )


def log_softmax(rng):
    shape = some(rng, rng.randint(0, 3))
    dim = rng.randint(-max(1, len(shape)), max(1, len(shape)) - 1) if rng.random() < 0.9 else 3
    return Case(
        rng,
        f"log_softmax {dim}",
        lambda x: F.log_softmax(x, dim),
        lambda x: Tensor(lib.tensor_log_softmax(x.handle, dim)),
        [leaf(rng, shape, rng.choice(FLOATS)).contiguous()],
    )


def mse(rng):
    reduction, shape = rng.choice(REDUCTIONS), some(rng, rng.randint(0, 3))
    dtype = rng.choice(FLOATS)
    return Case(
        rng,
        f"mse_loss {reduction}",
        lambda x, y: F.mse_loss(x, y, reduction=reduction),
        lambda x, y: Tensor(lib.tensor_mse_loss(x.handle, y.handle, REDUCTIONS.index(reduction))),
        [leaf(rng, shape, dtype), leaf(rng, shape, dtype)],
    )


def cross_entropy(rng):
    reduction = rng.choice(REDUCTIONS)
    shape = some(rng, rng.choice((1, 2, 2, 2, 3, 4)))
    place = 1 if len(shape) > 1 else 0
    ignore, classes = rng.choice((-100, 0, 1)), shape[place]
    smoothing = rng.choice((0, 0, 0.1, 0.7)) if rng.random() < 0.95 else 1.5
    rest = [n for i, n in enumerate(shape) if i != place]
    if rng.random() < 0.1 and rest:
        rest[rng.randrange(len(rest))] += 1
    high = classes + (rng.random() < 0.05)
    target = torch.tensor([rng.randrange(high) for _ in range(torch.Size(rest).numel())]).reshape(rest)
    target = target.to(rng.choice((torch.int64, torch.int64, torch.uint8, torch.int32)))
    ours = Tensor.wrap(target)
    only_nll = rng.random() < 0.3
    options = {"ignore_index": ignore, "reduction": reduction}
    number = REDUCTIONS.index(reduction)
    x = leaf(rng, shape, rng.choice(FLOATS)).contiguous()
    if only_nll:
        return Case(
            rng,
            f"nll_loss {target} {options}",
            lambda x: F.nll_loss(x, target, **options),
            lambda x: Tensor(lib.tensor_nll_loss(x.handle, ours.handle, ignore, number)),
            [x],
        )
    return Case(
        rng,
        f"cross_entropy {target} {options} {smoothing}",
        lambda x: F.cross_entropy(x, target, label_smoothing=smoothing, **options),
        lambda x: Tensor(lib.tensor_cross_entropy(x.handle, ours.handle, ignore, number, smoothing)),
        [x],
    )


def flatten(rng):
    start, end = rng.randint(-3, 3), rng.randint(-3, 3)
    return Case(
        rng,
        f"flatten {start} {end}",
        lambda x: torch.flatten(x, start, end),
        lambda x: Tensor(lib.tensor_flatten(x.handle, start, end)),
        [leaf(rng, some(rng, rng.randint(0, 4)), rng.choice(FLOATS))],
    )


ACTIVATIONS = {
    0: lambda x, slope: x,
    1: lambda x, slope: F.relu(x),
    2: lambda x, slope: F.relu6(x),
    3: lambda x, slope: F.leaky_relu(x, slope),
    7: lambda x, slope: torch.sigmoid(x),
    8: lambda x, slope: torch.tanh(x),
}


def activated(rng):
    dtype, number, slope = rng.choice(FLOATS), rng.choice(list(ACTIVATIONS)), rng.choice((0.01, 0.0, 1.5))
    batch, (c, k, r, s) = some(rng, rng.randint(0, 1), 1, 3), some(rng, 4, 1, 4)
    shapes = [(*batch, c, *some(rng, 2, 4, 9)), (k, c, r, s), (k,)][: rng.choice((2, 3))]
    # Of sums of some size a sigmoid or tanh has lost all digits of 1 - y, and gradients are made of those.
    scale = 0.05 if number in (7, 8) else 1
    leaves = [leaf(rng, shape, dtype).contiguous() * scale for shape in shapes]
    if batch and rng.random() < 0.5:
        leaves[0] = leaves[0].contiguous(memory_format=torch.channels_last)
    args = {"stride": rng.randint(1, 2), "padding": rng.randint(0, 1)}
    given = fonio_c.conv2d_args(**args)
    return Case(
        rng,
        f"conv2d {args}, activation {number}, slope {slope}",
        lambda x, w, b=None: ACTIVATIONS[number](F.conv2d(x, w, b, **args), slope),
        lambda x, w, b=None: Tensor(
            lib.tensor_conv2d_activated_with(x.handle, w.handle, handle_of(b), ctypes.byref(given), number, slope)
        ),
        leaves,
    )


def sizes_of_two(rng):
    """Two shapes, mostly ones that can be broadcast against each other."""
    full = some(rng, rng.randint(0, 3), 0, 4)
    return [
        tuple(1 if rng.random() < 0.3 else n + (rng.random() < 0.02) for n in full[rng.randint(0, len(full)) :])
        for _ in range(2)
    ]


def positive(rng, shape, dtype):
    return leaf(rng, shape, dtype).abs().clamp(0.2, 4)


def power(rng):
    """Small numbers, zeros among them; negative bases give NaN, as in torch."""
    (one, other), base = sizes_of_two(rng), rng.choice((0, 0.5, 1, 2, 2.5, 3, -1.5))
    exponent = leaf(rng, other, rng.choice(FLOATS)).clamp(-2, 2).round(decimals=1)
    if rng.random() < 0.3:
        return Case(
            rng,
            f"{base} ** tensor",
            lambda x: torch.pow(base, x),
            lambda x: Tensor(lib.number_pow_tensor(base, x.handle)),
            [exponent],
        )
    tensor = positive(rng, one, rng.choice(FLOATS))
    if rng.random() < 0.3:
        tensor = tensor * (leaf(rng, one, tensor.dtype) * 2).round().clamp(-1, 1)
    case = Case(
        rng, "pow", torch.pow, lambda a, b: Tensor(lib.tensor_pow_tensor(a.handle, b.handle)), [tensor, exponent]
    )
    case.tolerance = max(case.tolerance, 2e-5 if exponent.dtype == torch.float32 else 0)
    return case


@pytest.mark.parametrize("kind", [mm, linear, pool, log_softmax, mse, cross_entropy, flatten, power, activated])
def test_random_calls(kind, rng, cases):
    before = live_allocations()
    for _ in range(cases(70)):
        kind(rng).check()
    assert live_allocations() == before


# ---- Zeros and their signs, infinities, NaN, numbers at the ends of the range ----

ODD = [0.0, 1.0, 0.5, 2.0, 3.0, 1e-45, 1e-320, 88.8, 104.0, 709.5, 746.0, 1e20, 3e38, 1e308, math.inf]
ODD += [-number for number in ODD] + [math.nan]
EXPONENTS = [0, -0.0, 1, 2, 3, 5, -1, -2, -3, 0.5, -0.5, 1.5, -1.5, 0.1, math.inf, -math.inf, math.nan]


def assert_alike(made, wanted, about):
    """The same zeros, infinities and NaNs, the same signs, and otherwise numbers that are a few roundings apart."""
    made = made.torch()
    same_sign = made.signbit() == wanted.signbit()
    close = torch.isclose(made, wanted, 8 * torch.finfo(wanted.dtype).eps, 0)
    right = (same_sign & close) | (made.isnan() & wanted.isnan())
    assert right.all(), (about, [(made[i].item(), wanted[i].item()) for i in (~right).nonzero().flatten()])


@pytest.mark.parametrize("dtype", FLOATS)
def test_odd_numbers(dtype):
    odd = torch.tensor(ODD, dtype=dtype)
    ours = Tensor.wrap(odd)
    for name in ("neg", "relu", "exp", "log"):
        assert_alike(call(name, ours), getattr(odd, name)(), name)
    for exponent in EXPONENTS:
        assert_alike(call("pow", ours, exponent), odd.pow(exponent), f"pow {exponent}")
    pairs = torch.cartesian_prod(odd, odd).T.contiguous()
    ours = [Tensor.wrap(side) for side in pairs]
    for name in ("add", "sub", "mul", "div"):
        made = Tensor(getattr(lib, f"tensor_{name}")(*[side.handle for side in ours]))
        assert_alike(made, getattr(torch, name)(*pairs), name)


@pytest.mark.parametrize("dtype", FLOATS)
def test_odd_powers(dtype):
    """pow of tensors and its gradients at zeros, infinities, NaN and whole numbers."""
    odd = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0, math.inf, -0.0, -0.5, -1.0, -2.0, -3.0, -math.inf, math.nan], dtype=dtype)
    pairs = [side.contiguous().requires_grad_() for side in torch.cartesian_prod(odd, odd).T]
    ours = [Tensor.wrap(side.detach(), True) for side in pairs]
    wanted, made = torch.pow(*pairs), Tensor(lib.tensor_pow_tensor(*[side.handle for side in ours]))
    assert_alike(made, wanted.detach(), "pow")
    above = torch.ones_like(wanted)
    gradients = fonio_c.grad(made, ours, Tensor.wrap(above))
    for place, one in enumerate(torch.autograd.grad(wanted, pairs, above)):
        assert_alike(gradients[place], one, f"gradient {place}")
    for base in odd.tolist():
        exponent, x = odd.clone().requires_grad_(), Tensor.wrap(odd, True)
        wanted, made = torch.pow(base, exponent), Tensor(lib.number_pow_tensor(base, x.handle))
        assert_alike(made, wanted.detach(), f"{base} ** tensor")
        (gradient,) = fonio_c.grad(made, [x], Tensor.wrap(torch.ones_like(odd)))
        assert_alike(gradient, torch.autograd.grad(wanted.sum(), exponent)[0], f"gradient of {base} ** tensor")
