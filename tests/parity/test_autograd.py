"""Random graphs, built side by side in torch and in Fonio: what is recorded, what comes back, what is refused.

A failure prints the program that led to it, one line of torch for each step.
"""

import ctypes
import threading
import warnings

import pytest
import torch
import torch.nn.functional as F

import fonio_c
from fonio_c import DTYPES, Tensor, check, conv2d, lib
from tensors import FLOATS, call, outcome, random_shape, random_tensor

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf")

MODES = ("zeros", "reflect", "replicate", "circular")

# Beyond it a program does not go on with a tensor: what is left where such numbers cancel is their rounding.
LARGEST = 1e4


def closes(made, wanted, tolerance, finite=False, largest=1.0):
    """Whether the numbers agree but for `tolerance` times the largest of them and of `largest`, the size of what they were
    made from. With `finite` only those that are finite in torch are compared."""
    made, wanted = made.torch().double(), wanted.detach().double()
    if finite:
        made, wanted = (numbers.where(wanted.isfinite(), 0) for numbers in (made, wanted))
    return torch.allclose(made, wanted, 0, tolerance * max(largest, largest_finite(wanted)), equal_nan=True)


def largest_finite(numbers):
    return max([0.0, *numbers.detach().double().nan_to_num(0, 0, 0).abs().flatten().tolist()])


def grad_fn_name(tensor):
    return tensor.grad_fn.name() if tensor.grad_fn is not None else None


def name_of(tensor):
    name = lib.tensor_grad_fn_name(tensor.handle)
    return name.decode() if name else None


def whole_values(rng, dtype, count):
    """`count` small whole numbers."""
    return torch.tensor([rng.randint(-3, 3) for _ in range(count)], dtype=dtype)


class Twin:
    """A tensor of torch and the one of Fonio that should be the same."""

    def __init__(self, torch_tensor, fonio_tensor):
        self.torch, self.fonio = torch_tensor, fonio_tensor
        self.is_exact = torch.allclose(fonio_tensor.torch(), torch_tensor.detach(), 0, 0, equal_nan=True)

    @classmethod
    def leaf(cls, rng):
        tensor = random_tensor(rng, rng.choice(FLOATS), random_shape(rng, size=4), whole_values)
        twins = [torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype) for _ in range(2)]
        requires_grad = rng.random() < 0.75
        # .data starts its count of versions at 0.
        twins = [twin.copy_(tensor).data for twin in twins]
        return cls(twins[0].requires_grad_(requires_grad), Tensor.wrap(twins[1], requires_grad))

    def grad(self):
        handle = lib.tensor_grad(self.fonio.handle)
        return Tensor(lib.tensor_retain(handle)) if handle else None


def strides_that_count(tensor):
    """The strides, without those along which there is only one element."""
    return [stride for size, stride in zip(tensor.shape, tensor.stride()) if size > 1] if 0 not in tensor.shape else []


def assert_like(made, wanted, program, strides=True, finite=False):
    assert made.dtype == wanted.dtype and made.shape == tuple(wanted.shape), program
    assert not strides or strides_that_count(made) == strides_that_count(wanted), program
    # Whole numbers to begin with: a difference is one of rounding, and small beside the numbers on the way.
    is_single = program.has_singles or wanted.dtype == torch.float32
    assert closes(made, wanted, 1e-5 if is_single else 1e-11, finite, program.largest), program


def assert_like_gradient(made, wanted, program, strides):
    """What came back through a convolution is compared where it is finite: torch's multiplies its padding, which makes NaN
    of Inf; Fonio leaves padding out."""
    assert_like(made, wanted, program, strides, finite=program.has_convolved)


class Program:
    """Twins so far, and how they came to be."""

    def __init__(self, rng):
        self.rng = rng
        self.lines = []
        self.twins = []
        self.largest, self.has_singles = 1.0, False
        self.was_written_to = self.has_convolved = self.has_padded = self.has_gradients = False
        for _ in range(rng.randint(1, 4)):
            self.add(Twin.leaf(rng), "leaf")

    def add(self, twin, text):
        t = twin.torch
        self.twins.append(twin)
        self.largest = max(self.largest, largest_finite(t))
        self.has_singles = self.has_singles or t.dtype == torch.float32
        self.lines.append(f"t{len(self.twins) - 1} = {text}  # {tuple(t.shape)} {t.stride()} {t.dtype} {t.requires_grad}")

    def pick(self):
        index = self.rng.randrange(len(self.twins))
        return f"t{index}", self.twins[index]

    def pick_exact(self):
        """For steps that make a small difference a large one: log and division of what is nearly 0; powers, where the sign of
        a negative base depends on whether the exponent is a whole number."""
        index = self.rng.choice([i for i, twin in enumerate(self.twins) if twin.is_exact])
        return f"t{index}", self.twins[index]

    def __repr__(self):
        return "\n" + "\n".join(self.lines)

    def step(self):
        """One more operation on tensors that are there; both fail alike or both succeed alike."""
        kind = self.rng.choice(STEPS)
        text, in_torch, in_fonio = kind(self)
        wanted, made = outcome(in_torch), outcome(in_fonio)
        self.lines.append(f"# next: {text}")
        if isinstance(wanted, tuple):
            # The one refusal of torch's that Fonio lifts.
            assert made == wanted or "wrapping around more than once" in wanted[1], self
            return
        assert isinstance(made, Tensor), (made, str(self))
        self.lines[-1] += f"  # {tuple(wanted.shape)} {wanted.stride()} {wanted.dtype}"
        assert_like(made, wanted, self)
        assert lib.tensor_requires_grad(made.handle) == wanted.requires_grad, self
        assert lib.tensor_is_leaf(made.handle) == wanted.is_leaf, self
        assert name_of(made) == grad_fn_name(wanted), self
        # torch multiplies the arguments of an empty convolution instead, which gives other strides to nothing.
        if largest_finite(wanted) > LARGEST or (kind is convolution and not wanted.numel()):
            self.lines[-1] = f"# left out: {text}"
            return
        self.add(Twin(wanted, made), text)
        if wanted.requires_grad and self.rng.random() < 0.3:
            wanted.retain_grad()
            check(lib.tensor_retain_grad(made.handle))


# ---- Steps: (text, in torch, in Fonio) ----


def binary(program):
    name, sign = program.rng.choice((("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/")))
    (a_name, a), (b_name, b) = program.pick(), program.pick_exact() if name == "div" else program.pick()
    return (
        f"{a_name} {sign} {b_name}",
        lambda: getattr(torch, name)(a.torch, b.torch),
        lambda: Tensor(getattr(lib, "tensor_" + name)(a.fonio.handle, b.fonio.handle)),
    )


def unary(program):
    kind = program.rng.choice("sum mean clone contiguous neg exp log relu".split())
    name, x = program.pick_exact() if kind == "log" else program.pick()
    return f"{name}.{kind}()", lambda: getattr(x.torch, kind)(), lambda: call(kind, x.fonio)


def power(program):
    name, x = program.pick_exact()
    exponent = program.rng.choice((0, 0.5, 1, 2, 3, -1, -2, -0.5, 1.5, 4))
    return f"{name} ** {exponent}", lambda: x.torch**exponent, lambda: call("pow", x.fonio, exponent)


def power_of_tensors(program):
    (a_name, a), (b_name, b) = program.pick_exact(), program.pick_exact()
    return (
        f"{a_name} ** {b_name}",
        lambda: a.torch**b.torch,
        lambda: Tensor(lib.tensor_pow_tensor(a.fonio.handle, b.fonio.handle)),
    )


def power_of_number(program):
    name, x = program.pick_exact()
    base = program.rng.choice((0, 0.5, 1, 2, 2.5, -1, -2.0, 1e-3))
    return f"{base} ** {name}", lambda: base**x.torch, lambda: Tensor(lib.number_pow_tensor(base, x.fonio.handle))


def reduction(program):
    name, x = program.pick()
    rng = program.rng
    kind, keepdim = rng.choice(("sum", "mean")), rng.random() < 0.5
    dims = [rng.randint(-2, 2) for _ in range(rng.randint(0, 2))]
    return (
        f"{name}.{kind}({dims}, keepdim={keepdim})",
        lambda: getattr(x.torch, kind)(dims, keepdim=keepdim),
        lambda: call(f"{kind}_dims", x.fonio, dims, keepdim),
    )


def channels_last(program):
    name, x = program.pick()
    return (
        f"{name}.contiguous(memory_format=torch.channels_last)",
        lambda: x.torch.contiguous(memory_format=torch.channels_last),
        lambda: call("channels_last", x.fonio),
    )


def to(program):
    name, x = program.pick()
    dtype = program.rng.choice(FLOATS)
    return f"{name}.to({dtype})", lambda: x.torch.to(dtype), lambda: call("to", x.fonio, DTYPES.index(dtype))


def select(program):
    name, x = program.pick()
    dim, index = program.rng.randint(-2, 2), program.rng.randint(-3, 2)
    return f"{name}.select({dim}, {index})", lambda: x.torch.select(dim, index), lambda: call("select", x.fonio, dim, index)


def index(program):
    name, x = program.pick()
    places = [program.rng.randint(-2, 1) for _ in range(program.rng.randint(0, 3))]
    key = tuple(places) if len(places) != 1 else places[0]
    return f"{name}[{key}]", lambda: x.torch[key], lambda: call("index", x.fonio, places)


def slicing(program):
    name, x = program.pick()
    rng = program.rng
    dim, start, end, step = rng.randint(0, 2), rng.randint(-4, 2), rng.randint(-1, 6), rng.randint(1, 3)

    def in_torch():
        return torch.ops.aten.slice(x.torch, dim, start, end, step)

    return f"{name}.slice({dim}, {start}, {end}, {step})", in_torch, lambda: call("slice", x.fonio, dim, start, end, step)


def permute(program):
    name, x = program.pick()
    order = program.rng.sample(range(x.torch.ndim), x.torch.ndim)
    return f"{name}.permute({order})", lambda: x.torch.permute(order), lambda: call("permute", x.fonio, order)


def expand(program):
    name, x = program.pick()
    rng = program.rng
    shape = [rng.randint(1, 3) for _ in range(rng.randint(0, 1))] if x.torch.ndim < 4 else []
    shape += [size if size != 1 else rng.choice((1, 3, -1)) for size in x.torch.shape]
    return f"{name}.expand({shape})", lambda: x.torch.expand(shape), lambda: call("expand", x.fonio, shape)


def reshape(program):
    name, x = program.pick()
    rng = program.rng
    shape = list(x.torch.shape)
    for _ in range(rng.randint(0, 2)):
        kind = rng.choice("join split flat".split())
        if kind == "join" and len(shape) > 1:
            place = rng.randrange(len(shape) - 1)
            shape[place : place + 2] = [shape[place] * shape[place + 1]]
        elif kind == "split" and len(shape) < 5:
            shape.insert(rng.randint(0, len(shape)), 1)
        elif kind == "flat":
            shape = [-1]
    return f"{name}.reshape({shape})", lambda: x.torch.reshape(shape), lambda: call("reshape", x.fonio, shape)


def detach(program):
    name, x = program.pick()
    return f"{name}.detach()", lambda: x.torch.detach(), lambda: call("detach", x.fonio)


def is_safe(image):
    """In float32 PyTorch 2.13.0 on a CPU writes beyond its memory in the backward of some channels_last images."""
    return image.dtype == torch.float64 or image.is_contiguous()


def reads_only_padding(image, weight, args):
    """Whether an output does: there oneDNN may write beyond its memory, too."""
    try:
        return bool((F.conv2d(torch.ones(image).double(), torch.ones(weight).double(), **args) == 0).any())
    except RuntimeError:
        return False


def convolution(program):
    """A tensor of the program as the image, or as the kernels."""
    rng = program.rng
    twins = enumerate(program.twins)
    images = [(f"t{i}", twin) for i, twin in twins if twin.torch.ndim in (3, 4) and is_safe(twin.torch)]
    if not images:
        return unary(program)
    name, x = rng.choice(images)
    groups = rng.choice([g for g in (1, 2, 3) if x.torch.shape[-3] % g == 0])
    shape = (groups * rng.randint(1, 2), x.torch.shape[-3] // groups, rng.randint(1, 3), rng.randint(1, 3))
    weight, bias = (whole_values(rng, x.torch.dtype, torch.Size(s).numel()).reshape(s).clone() for s in (shape, shape[:1]))
    args = {
        "stride": rng.randint(1, 2),
        "padding": rng.randint(0, 2),
        "dilation": rng.randint(1, 2),
        "groups": groups,
    }
    mode = rng.choice(MODES)
    if mode == "zeros" and reads_only_padding(x.torch.shape, shape, args):
        args["padding"] = 0
    w = Twin(weight.requires_grad_(rng.random() < 0.7), Tensor.wrap(weight.detach().clone()))
    b = Twin(bias.requires_grad_(rng.random() < 0.7), Tensor.wrap(bias.detach().clone()))
    for twin in (w, b):
        check(lib.tensor_set_requires_grad(twin.fonio.handle, twin.torch.requires_grad))
        program.add(twin, "leaf")
    program.has_convolved = True
    program.has_padded = program.has_padded or mode != "zeros"

    def in_torch():
        if mode == "zeros":
            return F.conv2d(x.torch, w.torch, b.torch, **args)
        padded = F.pad(x.torch, [args["padding"]] * 4, mode)
        return F.conv2d(padded, w.torch, b.torch, **{**args, "padding": 0})

    return (
        f"conv2d({name}, t{len(program.twins) - 2}, t{len(program.twins) - 1}, {args}, {mode})",
        in_torch,
        lambda: conv2d(x.fonio, w.fonio, b.fonio, padding_mode=mode, **args),
    )


STEPS = (
    *(binary, binary, binary, unary, unary, power, power_of_tensors, power_of_number, reduction),
    *(channels_last, to, select, index, slicing),
    *(permute, expand, reshape, reshape, detach, convolution),
)


# ---- Ways back ----


def gradient_for(program, tensor):
    """A gradient for the tensor: often none, sometimes one that does not fit, in any dtype and layout."""
    rng = program.rng
    if rng.random() < (0.7 if tensor.numel() == 1 else 0.1):
        return None
    shape = tuple(tensor.shape) if rng.random() < 0.95 else random_shape(rng)
    return random_tensor(rng, rng.choice((*FLOATS, tensor.dtype, torch.float16, torch.int64)), shape, whole_values)


def backward(program):
    rng = program.rng
    name, x = program.pick()
    gradient, retain_graph = gradient_for(program, x.torch), rng.random() < 0.5
    program.lines.append(f"{name}.backward({gradient}, retain_graph={retain_graph})")
    given = Tensor.wrap(gradient) if gradient is not None else None
    wanted = outcome(lambda: x.torch.backward(gradient, retain_graph=retain_graph))
    made = outcome(lambda: check(lib.tensor_backward_with(x.fonio.handle, fonio_c.handle_of(given), retain_graph, False)))
    return compare_failures(program, made, wanted)


def ask(program):
    rng = program.rng
    name, y = program.pick()
    inputs = [program.pick() for _ in range(rng.randint(0 if rng.random() < 0.1 else 1, 3))]
    gradient = gradient_for(program, y.torch)
    retain_graph, create_graph, allow_unused = (rng.random() < 0.5 for _ in range(3))
    program.lines.append(
        f"torch.autograd.grad({name}, [{', '.join(one for one, _ in inputs)}], {gradient}, "
        f"retain_graph={retain_graph}, create_graph={create_graph}, allow_unused={allow_unused})"
    )
    given = Tensor.wrap(gradient) if gradient is not None else None
    how = {"retain_graph": retain_graph, "create_graph": create_graph, "allow_unused": allow_unused}
    wanted = outcome(lambda: list(torch.autograd.grad(y.torch, [x.torch for _, x in inputs], gradient, **how)))
    made = outcome(lambda: fonio_c.grad(y.fonio, [x.fonio for _, x in inputs], given, **how))
    if not compare_failures(program, made, wanted):
        return False
    for one, other in zip(made, wanted):
        assert (one is None) == (other is None) or is_from_padding(program, one, other), program
        # torch's convolutions give their gradients the format of the output, Fonio's that of the array.
        if one is not None:
            assert_like_gradient(one, other, program, strides=not program.has_convolved)
            same = lib.tensor_requires_grad(one.handle) == other.requires_grad
            # In torch the three gradients of a convolution have one history; in Fonio each has its own.
            assert same or (program.has_convolved and other.requires_grad), program
            same = same and strides_that_count(one) == strides_that_count(other)
            if same and create_graph and largest_finite(other) <= LARGEST:
                assert program.has_convolved or name_of(one) == grad_fn_name(other), program
                program.add(Twin(other, one), "a gradient of these")
                program.has_gradients = True
    return True


def is_from_padding(program, made, wanted):
    """The padding of torch's has a gradient of its own, which gives what was padded one, too: of zeros."""
    return made is None and program.has_padded and program.has_gradients and not wanted.any()


def compare_failures(program, made, wanted):
    """Whether both went well. torch may leave .grad half done when it fails: the program ends there."""
    failures = [one if isinstance(one, tuple) else None for one in (made, wanted)]
    # torch's convolution always saves its image, Fonio's only where the weight needs it; and with a padding mode torch
    # saves a padded copy, where Fonio makes none.
    # Nor are the steps inside of a gradient the same ones, of which that of a gradient's gradient saves some.
    modified = [failure is not None and "modified by an inplace" in failure[1] for failure in failures]
    if (program.has_convolved or program.has_gradients) and any(modified):
        return False
    # The gradient that torch's padding has may be found freed on the way back of a gradient, and where it is all that was
    # asked for, Fonio has none to give.
    if program.has_padded and program.has_gradients:
        if failures[1] and "a second time" in failures[1][1]:
            return False
        if failures[0] and "to not have been used" in failures[0][1] and not failures[1]:
            return False
    assert failures[0] == failures[1], (failures, program)
    return failures == [None, None]


def write(program):
    name, x = program.pick()
    program.lines.append(f"with torch.no_grad(): {name}.fill_(0.5)")
    with torch.no_grad():
        x.torch.fill_(0.5)
    lib.set_grad_enabled(False)
    check(lib.tensor_fill(x.fonio.handle, 0.5))
    lib.set_grad_enabled(True)
    program.was_written_to = True
    return True


def compare_grads(program):
    for twin in program.twins:
        # Once a tensor was written to, torch makes new histories for its views, and they may lose what retain_grad asked.
        if not twin.torch.is_leaf and (program.was_written_to or not twin.torch.retains_grad):
            continue
        wanted, made = twin.torch.grad, twin.grad()
        assert (made is None) == (wanted is None) or is_from_padding(program, made, wanted), program
        if made is not None:
            assert_like_gradient(made, wanted, program, strides=twin.torch.is_leaf or not program.has_convolved)


def test_random_graphs(rng, cases):
    before = fonio_c.live_allocations()
    for _ in range(cases(1500)):
        program = Program(rng)
        for _ in range(rng.randint(1, 12)):
            program.step()
        for _ in range(rng.randint(1, 4)):
            # Once a tensor was written to, torch makes new histories for its views, and no longer finds them on the way.
            ways = (backward, write) if program.was_written_to else (backward, backward, ask, ask, write)
            if not rng.choice(ways)(program):
                break
            compare_grads(program)
        # A .grad with a history (create_graph) may hold the tensor that it belongs to.
        for twin in program.twins:
            check(lib.tensor_set_grad(twin.fonio.handle, None))
        del program, twin
    assert fonio_c.live_allocations() == before


def test_random_writes_are_guarded(rng, cases):
    """In place, with gradients on: torch's refusals, or the same values. What torch would note in a history Fonio refuses."""
    for _ in range(cases(300)):
        program = Program(rng)
        for _ in range(rng.randint(0, 5)):
            program.step()
        name, x = program.pick()
        source_name, source = program.pick()
        if rng.random() < 0.5:
            program.lines.append(f"{name}.fill_(3)")
            wanted = outcome(lambda: x.torch.fill_(3))
            made = outcome(lambda: check(lib.tensor_fill(x.fonio.handle, 3)))
        else:
            program.lines.append(f"{name}.copy_({source_name})")
            wanted = outcome(lambda: x.torch.copy_(source.torch))
            made = outcome(lambda: check(lib.tensor_copy(x.fonio.handle, source.fonio.handle)))
            # Between parts of one memory Fonio copies; torch refuses, or reads what it has written.
            if x.torch.untyped_storage().data_ptr() == source.torch.untyped_storage().data_ptr():
                continue
        if isinstance(wanted, tuple):
            assert made is not None and (made == wanted or made[0] == "NotImplementedError"), (made, wanted, program)
        elif made is None:
            assert_like(x.fonio, x.torch, program)
            assert not wanted.requires_grad, program
        else:
            assert made[0] == "NotImplementedError" and wanted.requires_grad, (made, program)


# ---- Single texts ----


def leaf(*values, dtype=torch.float64):
    return Twin(torch.tensor(values, dtype=dtype, requires_grad=True), Tensor.wrap(torch.tensor(values, dtype=dtype), True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_requires_grad(dtype):
    tensor = torch.zeros(2, dtype=dtype)
    for value in (True, False):
        wanted = outcome(lambda: tensor.requires_grad_(value).requires_grad)
        wrapped = Tensor.wrap(torch.zeros(2, dtype=dtype))
        made = outcome(lambda: check(lib.tensor_set_requires_grad(wrapped.handle, value)))
        assert made == (wanted if isinstance(wanted, tuple) else None)


@pytest.mark.parametrize("shape", [(2,), (3,), (2, 1), ()])
@pytest.mark.parametrize("dtype", DTYPES)
def test_set_grad(dtype, shape):
    x = leaf(1.0, 2.0)
    grad = torch.zeros(shape, dtype=dtype)
    wanted = outcome(lambda: setattr(x.torch, "grad", grad))
    wrapped = Tensor.wrap(grad)
    assert outcome(lambda: check(lib.tensor_set_grad(x.fonio.handle, wrapped.handle))) == wanted
    assert outcome(lambda: check(lib.tensor_set_grad(x.fonio.handle, x.fonio.handle))) == outcome(
        lambda: setattr(x.torch, "grad", x.torch)
    )


def test_retain_grad():
    plain = torch.zeros(2)
    wrapped = Tensor.wrap(plain)
    assert outcome(lambda: check(lib.tensor_retain_grad(wrapped.handle))) == outcome(plain.retain_grad)


def test_change_of_requires_grad():
    x = leaf(1.0)
    wanted, made = x.torch * 2, Tensor(lib.tensor_add(x.fonio.handle, x.fonio.handle))
    for value in (False, True):
        expected = outcome(lambda: wanted.requires_grad_(value).requires_grad)
        got = outcome(lambda: check(lib.tensor_set_requires_grad(made.handle, value)))
        assert got == (expected if isinstance(expected, tuple) else None)


def test_warning_of_a_grad_that_never_comes():
    x = leaf(1.0)
    wanted, made = x.torch + x.torch, Tensor(lib.tensor_add(x.fonio.handle, x.fonio.handle))
    heard = []
    handler = fonio_c.WARNING(lambda message, _user: heard.append(message.decode()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert wanted.grad is None
    lib.set_warning_handler(handler, None)
    assert not lib.tensor_grad(made.handle)
    lib.set_warning_handler(fonio_c.WARNING(), None)
    assert heard == [str(caught[0].message).split(" (Triggered internally")[0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_of_any_dtype(dtype):
    """torch's refusals; what torch computes and Fonio not yet is told apart."""
    tensor = torch.ones(3).to(dtype)
    wanted, made = outcome(tensor.mean), outcome(lambda: call("mean", Tensor.wrap(tensor)))
    if dtype in FLOATS:
        assert closes(made, wanted, 1e-6)
    else:
        assert made == wanted or made[0] == "NotImplementedError"


def test_product_with_a_number():
    """Steps inside of a gradient are named as torch's: in that of a number ** a tensor one multiplies by a number."""
    x, ones = leaf(1.0, 2.0), torch.ones(2, dtype=torch.float64)
    squares, made_squares = x.torch * x.torch, Tensor(lib.tensor_mul(x.fonio.handle, x.fonio.handle))
    powers, made_powers = 3**squares, Tensor(lib.number_pow_tensor(3, made_squares.handle))
    (back,) = torch.autograd.grad(powers, x.torch, ones, create_graph=True)
    (made_back,) = fonio_c.grad(made_powers, [x.fonio], Tensor.wrap(ones), create_graph=True)
    (wanted,) = torch.autograd.grad(back, powers, ones, create_graph=True)
    (made,) = fonio_c.grad(made_back, [made_powers], Tensor.wrap(ones), create_graph=True)
    assert closes(made, wanted, 1e-12) and name_of(made) == grad_fn_name(wanted) == "MulBackward1"


def test_gradient_of_what_relu_let_through():
    """relu's result chose what comes back: it has a gradient of its own, of zeros, in the order of the gradient's dimensions."""
    x = Twin(torch.ones(3, 2, 4, dtype=torch.float64, requires_grad=True), Tensor.wrap(torch.ones(3, 2, 4).double(), True))
    wanted_result, result = x.torch.relu(), call("relu", x.fonio)
    given = torch.ones(4, 2, 3).double().permute(2, 1, 0)
    (back,) = torch.autograd.grad(wanted_result, x.torch, given, create_graph=True)
    (made_back,) = fonio_c.grad(result, [x.fonio], Tensor.wrap(given), create_graph=True)
    for gradient in (given, given[:, :, :1].expand(3, 2, 4), torch.ones(3, 2, 8).double()[:, :, ::2]):
        (wanted,) = torch.autograd.grad(back, wanted_result, gradient, retain_graph=True)
        (made,) = fonio_c.grad(made_back, [result], Tensor.wrap(gradient), retain_graph=True)
        assert closes(made, wanted, 0) and made.stride() == wanted.stride()


def test_gradient_of_what_a_joined_relu_let_through():
    """The same where the convolution and relu are one step."""
    image, kernels = torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last), torch.ones(2, 3, 1, 1)
    x, w = (Twin(one.clone().requires_grad_(), Tensor.wrap(one.clone(), True)) for one in (image, kernels))
    args, relu = fonio_c.conv2d_args(), 1
    wanted_result = F.conv2d(x.torch, w.torch).relu()
    result = Tensor(
        lib.tensor_conv2d_activated_with(x.fonio.handle, w.fonio.handle, None, ctypes.byref(args), relu, 0.0)
    )
    (back,) = torch.autograd.grad(wanted_result, x.torch, torch.ones_like(wanted_result), create_graph=True)
    given = Tensor.wrap(torch.ones_like(wanted_result).detach())
    (made_back,) = fonio_c.grad(result, [x.fonio], given, create_graph=True)
    (wanted,) = torch.autograd.grad(back, wanted_result, image)
    (made,) = fonio_c.grad(made_back, [result], Tensor.wrap(image))
    assert closes(made, wanted, 0) and made.stride() == wanted.stride()


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_gradient_of_a_gradient_of_sums(kind, keepdim):
    """Only what was spread is summed again: with one element in each sum, the gradient keeps the order of its dimensions."""
    for shape, dims in (((1, 2, 4), [0]), ((3, 2, 4), [0]), ((2, 1, 4), [1, 2]), ((1, 1, 3), [])):
        x = Twin(torch.ones(shape, dtype=torch.float64, requires_grad=True), Tensor.wrap(torch.ones(shape).double(), True))
        wanted, made = getattr(x.torch, kind)(dims, keepdim=keepdim), call(f"{kind}_dims", x.fonio, dims, keepdim)
        wanted, made = wanted * wanted, Tensor(lib.tensor_mul(made.handle, made.handle))
        given, above = torch.ones(wanted.shape).double(), torch.ones(shape[::-1]).double().permute(2, 1, 0)
        (back,) = torch.autograd.grad(wanted, x.torch, given, create_graph=True)
        (made_back,) = fonio_c.grad(made, [x.fonio], Tensor.wrap(given), create_graph=True)
        (wanted,), (made,) = torch.autograd.grad(back, x.torch, above), fonio_c.grad(made_back, [x.fonio], Tensor.wrap(above))
        assert closes(made, wanted, 1e-12) and strides_that_count(made) == strides_that_count(wanted)


@pytest.mark.parametrize("strides", [(2, 4, 4, 1), (0, 1, 2, 4)])
@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_strides_of_empty_reductions(kind, strides):
    x = torch.empty_strided((2, 0, 1, 2), strides, dtype=torch.float64)
    for dims, keepdim in (([-1], True), ([0], False), ([-1, 0], True)):
        made, wanted = call(f"{kind}_dims", Tensor.wrap(x), dims, keepdim), getattr(x, kind)(dims, keepdim=keepdim)
        assert (made.shape, made.stride()) == (tuple(wanted.shape), wanted.stride())


def test_thread_has_its_own_mode():
    """torch.no_grad() in one thread leaves the others alone; so does fonio_set_grad_enabled."""
    seen = []
    assert lib.set_grad_enabled(False)
    thread = threading.Thread(target=lambda: seen.append(lib.grad_enabled()))
    thread.start()
    thread.join()
    assert not lib.set_grad_enabled(True)
    assert seen == [True]
