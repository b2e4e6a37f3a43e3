"""Hooks on tensors, and the derivative of conv2d along tangents, beside torch's."""

import ctypes

import pytest
import torch
import torch.nn.functional as F

import fonio_c
from fonio_c import Tensor, check, lib
from tensors import call, outcome

KINDS = ("nothing", "nothing", "triple", "negative", "shorter", "wider")


def changed_by(kind, gradient):
    """What such a hook returns; called with no name that torch could print."""
    if kind == "triple":
        return gradient * 3
    if kind == "negative":
        return -gradient
    if kind == "shorter":
        return torch.ones(1, 1, 1)
    return gradient.double() if kind == "wider" else None


class Hook:
    """The same hook for both; torch prints the name of a hook, if it has one."""

    def __init__(self, kind, label):
        self.kind, self.label, self.seen = kind, label, ([], [])
        self.in_c = fonio_c.HOOK(self.call)

    def __call__(self, gradient):
        self.log.append((self.label, gradient.tolist()))
        return changed_by(self.kind, gradient)

    def call(self, gradient, changed, _user):
        made = Tensor(lib.tensor_retain(gradient)).torch()
        self.log_in_c.append((self.label, made.tolist()))
        value = changed_by(self.kind, made)
        if value is not None:
            wrapped = Tensor.wrap(value.clone())
            changed[0] = lib.tensor_retain(wrapped.handle)
        return 0


def register(rng, hooks, logs, theirs, ours, place):
    for _ in range(rng.randint(0, 3)):
        hook = Hook(rng.choice(KINDS if rng.random() < 0.2 else KINDS[:4]), f"{place}.{len(hooks)}")
        hook.log, hook.log_in_c = logs
        hooks.append(hook)
        handle, number = theirs.register_hook(hook), ctypes.c_int64()
        check(lib.tensor_register_hook(ours.handle, hook.in_c, None, ctypes.byref(number)))
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            handle.remove()
            check(lib.tensor_remove_hook(ours.handle, number.value))


def run_chain(rng):
    """A chain of products with hooks all along; a backward, or the gradients of some of it."""
    values = torch.tensor([[float(rng.randint(-3, 3)) for _ in range(3)] for _ in range(2)])
    theirs, ours, hooks, logs = [values.clone().requires_grad_()], [Tensor.wrap(values.clone(), True)], [], ([], [])
    for place in range(rng.randint(1, 4)):
        if place:
            factor = torch.full((3,), float(rng.randint(1, 3)))
            theirs.append(theirs[-1] * factor)
            other = Tensor.wrap(factor.clone())
            ours.append(call("mul", ours[-1], other.handle))
        register(rng, hooks, logs, theirs[-1], ours[-1], place)
        if rng.random() < 0.3:
            theirs[-1].retain_grad()
            check(lib.tensor_retain_grad(ours[-1].handle))
    gradient = torch.ones(2, 3)
    given = Tensor.wrap(gradient.clone())
    if rng.random() < 0.5:
        wanted = outcome(lambda: theirs[-1].backward(gradient))
        made = outcome(lambda: check(lib.tensor_backward_with(ours[-1].handle, given.handle, False, False)))
    else:
        asked = rng.randrange(len(theirs))
        wanted = outcome(lambda: torch.autograd.grad(theirs[-1], [theirs[asked]], gradient)[0].tolist())
        made = outcome(lambda: fonio_c.grad(ours[-1], [ours[asked]], given)[0].torch().tolist())
    assert made == (wanted if not isinstance(wanted, tuple) else (wanted[0], wanted[1].replace("'Hook'", "'<unknown>'")))
    assert logs[0] == logs[1]
    if isinstance(wanted, tuple):
        return
    grads = [lib.tensor_grad(one.handle) if one is ours[0] or theirs[i].retains_grad else None for i, one in enumerate(ours)]
    made = [Tensor(lib.tensor_retain(grad)).torch().tolist() if grad else None for grad in grads]
    assert made == [one.grad.tolist() if (one.is_leaf or one.retains_grad) and one.grad is not None else None for one in theirs]


def test_random_hooks(rng, cases):
    before = fonio_c.live_allocations()
    for _ in range(cases(300)):
        run_chain(rng)
    assert fonio_c.live_allocations() == before


def test_hook_needs_a_gradient():
    tensor, hook = Tensor.wrap(torch.zeros(2)), Hook("nothing", "")
    made = outcome(lambda: check(lib.tensor_register_hook(tensor.handle, hook.in_c, None, None)))
    assert made == outcome(lambda: torch.zeros(2).register_hook(hook))


def test_failure_of_a_hook_ends_the_way_back():
    tensor = Tensor.wrap(torch.ones(2), True)
    lib.clear_error()
    hook = fonio_c.HOOK(lambda *_: lib.tensor_retain_grad(None))
    check(lib.tensor_register_hook(tensor.handle, hook, None, None))
    total = call("sum", tensor)
    assert lib.tensor_backward_with(total.handle, None, False, False) == 3
    assert not lib.tensor_grad(tensor.handle)


# ---- The derivative along tangents ----


def draw(rng, dtype):
    groups, channels = rng.choice((1, 1, 2)), rng.randint(1, 3)
    weight = (groups * rng.randint(1, 3), channels, rng.randint(1, 3), rng.randint(1, 3))
    image = (rng.randint(1, 3), groups * channels, rng.randint(5, 8), rng.randint(5, 8))
    shapes = [image[rng.choice((0, 0, 1)) :], weight, weight[:1] if rng.random() < 0.7 else None]
    arguments = {name: rng.randint(1, 2) for name in ("stride", "dilation")} | {"padding": rng.randint(0, 2), "groups": groups}
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    arrays = [shape and torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    tangents = [
        torch.randn(array.shape, generator=generator, dtype=dtype) if array is not None and rng.random() < 0.7 else None
        for array in arrays
    ]
    return arrays, tangents, arguments


def jvp_of(arrays, tangents, arguments):
    wrapped = [Tensor.wrap(one) if one is not None else None for one in (*arrays, *tangents)]
    handles = [fonio_c.handle_of(one) for one in wrapped]
    args = fonio_c.conv2d_args(**arguments)
    return Tensor(lib.tensor_conv2d_jvp_with(*handles[:3], ctypes.byref(args), *handles[3:]))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-5), (torch.float64, 1e-13)])
def test_random_tangents(rng, cases, dtype, tolerance):
    before = fonio_c.live_allocations()
    for _ in range(cases(80)):
        arrays, tangents, arguments = draw(rng, dtype)
        there = [one for one in arrays if one is not None]
        along = [torch.zeros_like(one) if tangent is None else tangent for one, tangent in zip(arrays, tangents) if one is not None]
        wanted = torch.func.jvp(lambda *given: F.conv2d(*given, **arguments), tuple(there), tuple(along))[1]
        made = jvp_of(arrays, tangents, arguments).torch()
        assert made.shape == wanted.shape and made.dtype == wanted.dtype
        assert (made - wanted).abs().max() <= tolerance * max(1, wanted.abs().max()) * 4, (arguments, [a.shape for a in there])
    assert fonio_c.live_allocations() == before


def test_tangent_of_another_size():
    image, weight, tangent = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 2)
    wanted = outcome(lambda: torch.func.jvp(lambda x: F.conv2d(x, weight), (image,), (tangent,)))
    assert outcome(lambda: jvp_of([image, weight, None], [tangent, None, None], {})) == wanted
