"""Views, copies, layouts and arithmetic, as torch has them."""

import pytest
import torch

from fonio_c import DTYPES, Tensor, check, int64s, lib
from tensors import FLOATS, assert_same, bits, call, outcome, random_bits, random_tensor

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf")

FAR = 2**63 - 1


def assert_views(made, wanted, wrapped, tensor):
    """The view `made` of `wrapped` shows what the torch view `wanted` of `tensor` shows, in the same memory."""
    assert (made.shape, made.stride()) == (tuple(wanted.shape), wanted.stride())
    offset = wanted.storage_offset() - tensor.storage_offset()
    assert lib.tensor_storage_offset(made.handle) == offset
    if wanted.numel():
        assert lib.tensor_const_data(made.handle) == wanted.data_ptr()


def check_view(tensor, name, arguments, in_torch):
    wrapped = Tensor.wrap(tensor)
    wanted = outcome(lambda: in_torch(tensor))
    made = outcome(lambda: call(name, wrapped, *arguments))
    if isinstance(wanted, tuple):
        assert made == wanted, (tensor.shape, arguments)
    else:
        assert isinstance(made, Tensor), (tensor.shape, arguments, made)
        assert_views(made, wanted, wrapped, tensor)


def test_select(rng, cases):
    for _ in range(cases(300)):
        tensor = random_tensor(rng)
        dim = rng.randint(-tensor.ndim - 1, tensor.ndim)
        index = rng.randint(-6, 5)
        check_view(tensor, "select", (dim, index), lambda t: t.select(dim, index))


def test_index(rng, cases):
    for _ in range(cases(300)):
        tensor = random_tensor(rng)
        index = [rng.randint(-size - 1, size) for size in tensor.shape[: rng.randint(0, tensor.ndim)]]
        if tensor.ndim and rng.random() < 0.1:
            index = [0] * (tensor.ndim + 1)
        if len(index) == 1:
            check_view(tensor, "index", (index,), lambda t: t[index[0]])
        else:
            check_view(tensor, "index", (index,), lambda t: t[tuple(index)])
    check_view(torch.zeros(()), "index", ([0],), lambda t: t[0])


def test_slice(rng, cases):
    for _ in range(cases(500)):
        tensor = random_tensor(rng)
        dim = rng.randint(-tensor.ndim - 1, tensor.ndim)
        start, end = (rng.choice((rng.randint(-7, 7), FAR, -FAR - 1)) for _ in range(2))
        step = rng.choice((rng.randint(-1, 6), 1, 1))
        check_view(
            tensor, "slice", (dim, start, end, step), lambda t: torch.ops.aten.slice(t, dim, start, end, step)
        )


def test_permute(rng, cases):
    for _ in range(cases(300)):
        tensor = random_tensor(rng)
        order = rng.sample(range(tensor.ndim), tensor.ndim)
        order = [dim - tensor.ndim if rng.random() < 0.3 else dim for dim in order]
        if rng.random() < 0.3:
            fault = rng.choice("short long twice outside".split())
            order = {
                "short": order[:-1],
                "long": order + [0],
                "twice": order[:-1] + order[:1],
                "outside": order[:-1] + [rng.choice((5, -6, FAR, -FAR - 1))] * bool(order),
            }[fault]
        check_view(tensor, "permute", (order,), lambda t: t.permute(order))


def test_expand(rng, cases):
    for _ in range(cases(500)):
        tensor = random_tensor(rng)
        shape = [rng.randint(1, 3) for _ in range(rng.randint(0, 2))]
        for size in tensor.shape:
            choices = (size, size, -1, rng.randint(2, 3) if size == 1 else size, rng.choice((0, 4, -2)))
            shape.append(rng.choice(choices))
        if rng.random() < 0.1:
            shape = shape[1:]
        if rng.random() < 0.1 and shape:
            shape[0] = rng.choice((-1, -2, 2**62))
        if (0 in shape or not tensor.numel()) and (min(shape, default=0) < -1 or 2**62 in shape):
            continue  # torch makes tensors of negative sizes then, or counts to the overflow before it sees the 0
        check_view(tensor, "expand", (shape,), lambda t: t.expand(shape))


def factors(rng, number, most=4):
    """Random sizes whose product is `number`, at least 1."""
    sizes = [rng.choice((1, 1, 2, 3, 4, 5)) for _ in range(rng.randint(0, most - 1))]
    sizes = [size for size in sizes if number % size == 0]
    while sizes and number % torch.Size(sizes).numel():
        sizes.pop()
    sizes.append(number // torch.Size(sizes).numel())
    rng.shuffle(sizes)
    return sizes


def test_reshape(rng, cases):
    for _ in range(cases(1500)):
        tensor = random_tensor(rng)
        shape = factors(rng, tensor.numel()) if tensor.numel() else [rng.randint(0, 3) for _ in range(rng.randint(1, 3))]
        if shape and rng.random() < 0.3:
            shape[rng.randrange(len(shape))] = -1
        if shape and rng.random() < 0.1:
            shape[rng.randrange(len(shape))] = rng.choice((-1, -2, 7, 0, 2**62 if tensor.numel() else 7))
        wrapped = Tensor.wrap(tensor)
        wanted = outcome(lambda: tensor.reshape(shape))
        made = outcome(lambda: call("reshape", wrapped, shape))
        if isinstance(wanted, tuple):
            assert made == wanted, (tensor.shape, tensor.stride(), shape)
            continue
        assert_same(made, wanted, (tensor.shape, tensor.stride(), shape))
        shared = lib.tensor_const_data(made.handle) == tensor.data_ptr()
        assert shared == (wanted.data_ptr() == tensor.data_ptr()) or not tensor.numel()


# ---- Copies ----


def test_clone_and_contiguous(rng, cases):
    for _ in range(cases(500)):
        tensor = random_tensor(rng, fill=random_bits)
        wrapped = Tensor.wrap(tensor)
        assert_same(call("clone", wrapped), tensor.clone(), (tensor.shape, tensor.stride()))
        assert_same(call("contiguous", wrapped), tensor.contiguous(), (tensor.shape, tensor.stride()))
        wanted = outcome(lambda: tensor.contiguous(memory_format=torch.channels_last))
        made = outcome(lambda: call("channels_last", wrapped))
        if isinstance(wanted, tuple):
            assert made == wanted
        else:
            assert_same(made, wanted, (tensor.shape, tensor.stride()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_copies_between_layouts(dtype, rng):
    """Sizes past every tile and row of the copies."""
    for shape in ((2, 37, 19, 23), (1, 3, 65, 70), (3, 130, 5, 5)):
        tensor = random_bits(rng, dtype, torch.Size(shape).numel()).reshape(shape)
        order = rng.sample(range(4), 4)
        assert_same(call("channels_last", Tensor.wrap(tensor)), tensor.contiguous(memory_format=torch.channels_last))
        assert_same(call("contiguous", Tensor.wrap(tensor.permute(order))), tensor.permute(order).contiguous())


def test_same_tensor_when_nothing_has_to_change():
    tensor = Tensor.wrap(torch.zeros(2, 3))
    for same in (call("contiguous", tensor), call("to", tensor, 0)):
        assert same.handle == tensor.handle


# ---- fill ----


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fill(dtype, rng, cases):
    for _ in range(cases(20)):
        base = random_bits(rng, dtype, 120).reshape(2, 3, 4, 5)
        wanted = base.clone()
        order = rng.sample(range(4), 4)
        part = tuple(slice(rng.randint(0, 1), None, rng.randint(1, 2)) for _ in range(4))
        wrapped = Tensor.wrap(base.permute(order)[part])
        check(lib.tensor_fill(wrapped.handle, 3.0))
        wanted.permute(order)[part].fill_(3)
        assert torch.equal(bits(base), bits(wanted))
        assert lib.tensor_version(wrapped.handle) == 1


# ---- Arithmetic ----


def broadcastable(rng, tensor):
    """Another tensor whose shape broadcasts with the tensor's, most of the time."""
    shape = [rng.choice((size, size, 1, rng.randint(1, 3) if size == 1 else size)) for size in tensor.shape]
    shape = shape[rng.randint(0, len(shape)) :] if rng.random() < 0.4 else [rng.randint(1, 3)] * (rng.random() < 0.3) + shape
    if shape and rng.random() < 0.1:
        shape[rng.randrange(len(shape))] = 7
    return random_tensor(rng, rng.choice(FLOATS), tuple(shape))


@pytest.mark.parametrize("name", ["add", "mul"])
def test_elementwise(name, rng, cases):
    for _ in range(cases(700)):
        a = random_tensor(rng, rng.choice(FLOATS))
        b = broadcastable(rng, a) if rng.random() < 0.8 else a.t() if a.ndim == 2 else a
        wanted = outcome(lambda: getattr(torch, name)(a, b))
        x, y = Tensor.wrap(a), Tensor.wrap(b)
        made = outcome(lambda: Tensor(getattr(lib, "tensor_" + name)(x.handle, y.handle)))
        if isinstance(wanted, tuple):
            assert made == wanted
        else:
            assert_same(made, wanted, (a.shape, a.stride(), b.shape, b.stride()))


def test_sum(rng, cases):
    for _ in range(cases(300)):
        tensor = random_tensor(rng, rng.choice(FLOATS))
        made = call("sum", Tensor.wrap(tensor)).torch()
        wanted = tensor.double().sum()
        error = 1e-6 if tensor.dtype == torch.float32 else 1e-15
        assert made.dtype == tensor.dtype and made.shape == ()
        assert abs(made.double() - wanted) <= error * tensor.double().abs().sum(), tensor


def test_long_sums_stay_exact():
    """A million times 0.1 in float: a plain loop is off by 1e-2, relative; pairwise by less than 1e-6."""
    tensor = torch.full((1000, 1000), 0.1)
    wanted = tensor.double().sum().item()
    for layout in (tensor, tensor.t(), tensor[:, ::2], tensor.reshape(100, 100, 100).permute(1, 2, 0)):
        share = layout.numel() / tensor.numel()
        made = call("sum", Tensor.wrap(layout)).torch().item()
        assert made == pytest.approx(wanted * share, rel=1e-6)
