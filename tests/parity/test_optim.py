"""SGD, Adam and AdamW beside torch's, step for step; Linear and the layers without parameters beside torch's.

SGD has torch's bits. Adam is a few units in the last place away: torch's float32 square root (MKL's) is not always rounded
correctly.
"""

import ctypes
from ctypes import c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p

import pytest
import torch

import fonio_c
import nn_c  # noqa: F401  (declares the functions of dictionaries and modules)
from fonio_c import BOTH, DTYPES, Tensor, check, int64s, last_failure, lib
from tensors import FLOATS, bits, outcome


class SgdOptions(ctypes.Structure):
    """fonio_sgd_options."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        *((name, c_double) for name in "lr momentum dampening weight_decay".split()),
        ("nesterov", c_bool),
        ("maximize", c_bool),
    ]


class AdamOptions(ctypes.Structure):
    """fonio_adam_options."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("lr", c_double),
        ("betas", c_double * 2),
        ("eps", c_double),
        ("weight_decay", c_double),
        *((name, c_bool) for name in "amsgrad maximize decoupled_weight_decay".split()),
    ]


class LinearOptions(ctypes.Structure):
    """fonio_linear_options."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("in_features", c_int64),
        ("out_features", c_int64),
        ("bias", c_bool),
        ("dtype", c_int),
    ]


handle = c_void_p
fonio_c.SIGNATURES |= {
    "sgd_options_default": (SgdOptions, []),
    "adam_options_default": (AdamOptions, []),
    "adamw_options_default": (AdamOptions, []),
    "sgd_new_with": (handle, [handle, ctypes.POINTER(SgdOptions)]),
    "adam_new_with": (handle, [handle, ctypes.POINTER(AdamOptions)]),
    "optimizer_release": (None, [handle]),
    "optimizer_step": (c_int, [handle]),
    "optimizer_zero_grad": (c_int, [handle]),
    "optimizer_set_lr": (c_int, [handle, c_double]),
    "optimizer_state_dict": (handle, [handle]),
    "optimizer_load_state_dict": (c_int, [handle, handle]),
    "dict_get": (handle, [handle, c_char_p]),
    "linear_options_default": (LinearOptions, []),
    "linear_new_with": (handle, [ctypes.POINTER(LinearOptions)]),
    "linear_weight": (handle, [handle]),
    "linear_bias": (handle, [handle]),
    "relu_new": (handle, []),
    "flatten_new": (handle, [c_int, c_int]),
    "max_pool2d_new_with": (handle, [ctypes.POINTER(fonio_c.PoolArgs)]),
    "avg_pool2d_new_with": (handle, [ctypes.POINTER(fonio_c.PoolArgs)]),
}

KINDS = {"SGD": "sgd", "Adam": "adam", "AdamW": "adamw"}


class Optimizer:
    """A fonio_optimizer of parameters that are named w0, w1, ..."""

    def __init__(self, kind, parameters, **options):
        given = getattr(lib, KINDS[kind] + "_options_default")()
        for name, value in options.items():
            setattr(given, name, (c_double * 2)(*value) if name == "betas" else value)
        names = lib.dict_new()
        for i, parameter in enumerate(parameters):
            check(lib.dict_set(names, f"w{i}".encode(), parameter.handle))
        new = lib.sgd_new_with if kind == "SGD" else lib.adam_new_with
        self.handle = new(names, ctypes.byref(given))
        lib.dict_release(names)
        if not self.handle:
            raise last_failure()

    def __del__(self):
        lib.optimizer_release(getattr(self, "handle", None))


def sgd_options(rng):
    options = {"lr": rng.choice((1e-3, 0.1, 1.0)), "weight_decay": rng.choice((0, 0, 0.01)), "maximize": rng.random() < 0.2}
    options |= {"momentum": rng.choice((0, 0.9, 0.5)), "dampening": rng.choice((0, 0, 0.3))}
    if options["momentum"] and not options["dampening"]:
        options["nesterov"] = rng.random() < 0.5
    return options


def adam_options(rng):
    options = {"lr": rng.choice((1e-3, 0.1)), "maximize": rng.random() < 0.2, "amsgrad": rng.random() < 0.3}
    options |= {"betas": rng.choice(((0.9, 0.999), (0.5, 0.9), (0.4, 0.99))), "eps": rng.choice((1e-8, 1e-3))}
    if rng.random() < 0.5:
        options["weight_decay"] = rng.choice((0.0, 0.01, 0.1))
    return options


def assert_near(made, wanted, kind, about):
    if kind == "SGD":
        assert torch.equal(bits(made.torch()), bits(wanted.detach())), about
    else:
        size = {torch.float32: 3e-6, torch.float64: 1e-13}[wanted.dtype]
        assert torch.allclose(made.torch(), wanted.detach(), size, size), (about, made.torch() - wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_steps(kind, rng, cases):
    before = fonio_c.live_allocations()
    for _ in range(cases(25)):
        options = (sgd_options if kind == "SGD" else adam_options)(rng)
        dtype, torch_rng = rng.choice(FLOATS), torch.Generator().manual_seed(rng.getrandbits(32))
        shapes = [[rng.randint(1, 9) for _ in range(rng.randint(0, 3))] for _ in range(rng.randint(1, 3))]
        wanted = [torch.randn(s, generator=torch_rng, dtype=dtype) for s in shapes]
        wanted = [w.permute(rng.sample(range(w.ndim), w.ndim)).clone().requires_grad_() for w in wanted]
        made = [Tensor.wrap(w.detach().clone(), True) for w in wanted]
        theirs, ours = getattr(torch.optim, kind)(wanted, foreach=False, **options), Optimizer(kind, made, **options)
        for step in range(rng.randint(2, 8)):
            if rng.random() < 0.2:
                state = lib.optimizer_state_dict(ours.handle)
                ours = Optimizer(kind, made, **options)
                check(lib.optimizer_load_state_dict(ours.handle, state))
                lib.dict_release(state)
            for w, m in zip(wanted, made):
                w.grad = torch.randn(w.shape, generator=torch_rng, dtype=dtype) if rng.random() < 0.9 else None
                grad = Tensor.wrap(w.grad.clone()) if w.grad is not None else None
                check(lib.tensor_set_grad(m.handle, fonio_c.handle_of(grad)))
            theirs.step()
            check(lib.optimizer_step(ours.handle))
            for w, m in zip(wanted, made):
                assert_near(m, w, kind, (kind, options, step, w.shape))
        check(lib.optimizer_zero_grad(ours.handle))
        assert not any(lib.tensor_grad(m.handle) for m in made)
        del ours, made, grad, m
    assert fonio_c.live_allocations() == before


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SGD", {"lr": -1.0}),
        ("SGD", {"momentum": -0.5}),
        ("SGD", {"weight_decay": -1e-5}),
        ("SGD", {"nesterov": True}),
        ("Adam", {"lr": -0.1}),
        ("Adam", {"eps": -1e-8}),
        ("Adam", {"betas": (1.0, 0.9)}),
        ("AdamW", {"betas": (0.9, -0.25)}),
        ("AdamW", {"weight_decay": -3.0}),
    ],
)
def test_refusals(kind, options):
    w = torch.zeros(2, requires_grad=True)
    wanted = outcome(lambda: getattr(torch.optim, kind)([w], **options))
    assert outcome(lambda: Optimizer(kind, [Tensor.wrap(w.detach(), True)], **options)) == wanted


def test_refuses_what_is_no_leaf():
    w = Tensor.wrap(torch.ones(2), True)
    y = Tensor(lib.tensor_add(w.handle, w.handle))
    v = torch.ones(2, requires_grad=True)
    assert outcome(lambda: Optimizer("SGD", [y])) == outcome(lambda: torch.optim.SGD([v + v]))
    assert outcome(lambda: Optimizer("SGD", [])) == outcome(lambda: torch.optim.SGD([]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_before_the_first_step_is_none(kind):
    """Loaded and saved again, too: an SGD's momentum begins with the first gradient, not with zeros."""
    w = Tensor.wrap(torch.ones(2), True)
    options = {"momentum": 0.9, "dampening": 0.3} if kind == "SGD" else {}
    optimizer = Optimizer(kind, [w], **options)
    for _ in range(2):
        state = lib.optimizer_state_dict(optimizer.handle)
        assert lib.dict_size(state) == 0
        check(lib.optimizer_load_state_dict(optimizer.handle, state))
        lib.dict_release(state)


# ---- Layers ----


def run(module, x):
    given = Tensor.wrap(x)
    return Tensor(lib.module_forward(module, given.handle)).torch()


def text_of(module):
    text = lib.module_to_text(module)
    result = ctypes.string_at(text).decode()
    lib.text_release(text)
    return result


def test_linear_is_drawn_as_torch_draws_it(rng, cases):
    for _ in range(cases(20)):
        seed, dtype, bias = rng.getrandbits(32), rng.choice(FLOATS), rng.random() < 0.7
        sizes = rng.randint(1, 40), rng.randint(1, 40)
        torch.manual_seed(seed)
        lib.manual_seed(seed)
        wanted = torch.nn.Linear(*sizes, bias=bias, dtype=dtype)
        options = lib.linear_options_default()
        options.in_features, options.out_features = sizes
        options.bias, options.dtype = bias, DTYPES.index(dtype)
        made = lib.linear_new_with(ctypes.byref(options))
        assert text_of(made) == repr(wanted)
        for name in ("weight", "bias"):
            borrowed = getattr(lib, "linear_" + name)(made)
            assert bool(borrowed) == (getattr(wanted, name) is not None)
            if borrowed:
                ours = Tensor(lib.tensor_retain(borrowed)).torch()
                assert torch.equal(bits(ours), bits(getattr(wanted, name).detach())), (seed, sizes)
        x = torch.randn(3, sizes[0], dtype=dtype)
        assert torch.allclose(run(made, x), wanted(x).detach(), 1e-4, 1e-5)
        lib.module_release(made)


@pytest.mark.parametrize(
    "args",
    [{"kernel_size": 2}, {"kernel_size": (2, 3)}, {"kernel_size": 3, "stride": (2, 1), "padding": 1, "ceil_mode": True}],
)
@pytest.mark.parametrize("kind", ["Max", "Avg"])
def test_pools_are_printed_as_torchs(kind, args):
    wanted = getattr(torch.nn, kind + "Pool2d")(**args)
    given = lib.pool2d_args_default()
    for name, value in args.items():
        pair = value if isinstance(value, tuple) else (value, BOTH)
        setattr(given, name, value if name == "ceil_mode" else int64s(pair))
    made = getattr(lib, kind.lower() + "_pool2d_new_with")(ctypes.byref(given))
    assert text_of(made) == repr(wanted)
    x = torch.randn(1, 2, 7, 8)
    assert torch.allclose(run(made, x), wanted(x), 1e-5, 1e-6)
    lib.module_release(made)


def test_relu_and_flatten_are_printed_as_torchs():
    for made, wanted in ((lib.relu_new(), torch.nn.ReLU()), (lib.flatten_new(1, -1), torch.nn.Flatten())):
        x = torch.randn(2, 3, 4)
        assert text_of(made) == repr(wanted)
        assert torch.equal(run(made, x), wanted(x))
        lib.module_release(made)
