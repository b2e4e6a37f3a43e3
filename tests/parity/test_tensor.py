"""Creation, single elements, comparison and the texts of errors, as torch has them."""

import ctypes
import math

import pytest
import torch

from fonio_c import DTYPES, Tensor, check, int64s, lib, live_allocations
from tensors import assert_same, bits, outcome, random_bits, random_shape, random_tensor, random_values, status_and_value

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf", "ignore:Casting complex")


def create(name, dtype, shape, *value):
    return Tensor(getattr(lib, "tensor_" + name)(DTYPES.index(dtype), *value, len(shape), int64s(shape)))


def arange(dtype, *bounds):
    return Tensor(lib.tensor_arange(DTYPES.index(dtype), *bounds))


# ---- Creation ----


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_filled(dtype, rng, cases):
    for _ in range(cases(10)):
        shape = random_shape(rng)
        value = random_values(rng, torch.int32, 1).item() % 100
        assert_same(create("zeros", dtype, shape), torch.zeros(shape, dtype=dtype))
        assert_same(create("ones", dtype, shape), torch.ones(shape).to(dtype))
        assert_same(create("full", dtype, shape, value), torch.full(shape, value).to(dtype))
        assert create("empty", dtype, shape).stride() == torch.empty(shape, dtype=dtype).stride()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_from_data(dtype, rng):
    shape = random_shape(rng)
    values = random_bits(rng, dtype, torch.Size(shape).numel()).reshape(shape)
    made = Tensor(lib.tensor_from_data(DTYPES.index(dtype), values.data_ptr(), len(shape), int64s(shape)))
    assert_same(made, values)


def test_channels_last(rng, cases):
    for _ in range(cases(20)):
        shape = [rng.randint(0, 4) for _ in range(4)]
        made = Tensor(lib.tensor_empty_channels_last(0, int64s(shape)))
        assert made.stride() == torch.empty(shape, memory_format=torch.channels_last).stride()


ARANGE_DTYPES = DTYPES[:4] + DTYPES[7:12]


@pytest.mark.parametrize("dtype", ARANGE_DTYPES, ids=str)
def test_arange(dtype, rng, cases):
    for _ in range(cases(100)):
        start, step = rng.uniform(-5, 5), rng.choice((-1, 1)) * rng.uniform(0.01, 0.3)
        if not dtype.is_floating_point:
            start, step = start * 10, step * 100
        end = start + step * (rng.randint(0, 200) + rng.choice((0, 0.5)))
        wanted = outcome(lambda: torch.arange(start, end, step, dtype=dtype))
        made = outcome(lambda: arange(dtype, start, end, step))
        if isinstance(wanted, tuple):
            assert made == wanted, (start, end, step)
        else:
            assert_same(made, wanted, (start, end, step))


INF, NAN = math.inf, math.nan
ARANGE_FAULTS = [
    *[(0, 1, 0), (0, 1, -1), (1, 0, 1), (0, INF, 1), (0, NAN, 1), (123456.789, INF, 1), (0, 1e30, 1), (0, 1, 1e-30)],
    *[(0, 1, NAN), (0, 5, 0.5), (0, 5, INF), (-1e19, 5, 0.75), (1e300, 2e300, 1e299), (0, 1e20, 1e19), (0, 1e19, 1)],
    *[(0, 9.2e18, 4.6e18), (5, -5, -2.5), (5, 5, 1)],
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bounds", ARANGE_FAULTS, ids=str)
def test_arange_at_its_limits(dtype, bounds):
    wanted = outcome(lambda: torch.arange(*map(float, bounds), dtype=dtype))
    made = outcome(lambda: arange(dtype, *bounds))
    if isinstance(wanted, tuple):
        assert made == wanted
    else:
        assert_same(made, wanted)


HUGE = 2**62
SHAPE_FAULTS = [(-1,), (2, -3, 4), (HUGE, 4), (2**31, 2**31, 2**31), (0, HUGE, HUGE), (0, HUGE, 4), (HUGE,)]


@pytest.mark.parametrize("name", ["empty", "zeros", "ones", "full"])
@pytest.mark.parametrize("shape", SHAPE_FAULTS, ids=str)
def test_impossible_shapes(name, shape):
    value = (1.0,) if name == "full" else ()
    wanted = outcome(lambda: getattr(torch, name)(shape, *value))
    assert outcome(lambda: create(name, torch.float32, shape, *value)) == wanted


def test_more_memory_than_there_is():
    assert outcome(lambda: create("empty", torch.float32, (2**60,)))[0] == "MemoryError"


def test_impossible_dtype_and_ndim():
    assert not lib.tensor_zeros(18, 0, None) and lib.last_error() == b"18 is not a dtype"
    assert not lib.tensor_zeros(-1, 0, None) and lib.last_error() == b"-1 is not a dtype"
    assert not lib.tensor_zeros(0, 9, int64s([1] * 9))
    assert lib.last_error() == b"a tensor has 0 to 8 dimensions, not 9"
    assert not lib.tensor_zeros(0, -1, int64s([1]))


# ---- Properties and single elements ----


def test_properties(rng, cases):
    for _ in range(cases(200)):
        tensor = random_tensor(rng)
        wrapped = Tensor.wrap(tensor)
        assert lib.tensor_numel(wrapped.handle) == tensor.numel()
        assert lib.tensor_is_contiguous(wrapped.handle) == tensor.is_contiguous()
        channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
        assert lib.tensor_is_channels_last(wrapped.handle) == channels_last
        for dim in range(-tensor.ndim - 1, tensor.ndim + 1):
            wanted = outcome(lambda: tensor.size(dim))
            size = lib.tensor_size(wrapped.handle, dim)
            assert size == wanted if isinstance(wanted, int) else (size, lib.last_error().decode()) == (-1, wanted[1])


def same_number(made, wanted):
    if isinstance(wanted, complex):
        wanted = wanted.real
    return made == float(wanted) or (math.isnan(made) and math.isnan(wanted))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_items(dtype, rng, cases):
    for _ in range(cases(30)):
        tensor = random_tensor(rng, dtype, fill=random_bits)
        wrapped = Tensor.wrap(tensor)
        index = [rng.randint(-size - 1, size) for size in tensor.shape]
        index = index + [0] * (rng.random() < 0.1)
        index = index[: rng.choice((len(index), rng.randint(0, len(index))))]
        wanted = outcome(lambda: tensor[tuple(index) if len(index) != 1 else index[0]].item())
        made = outcome(lambda: status_and_value(lib.tensor_at, wrapped.handle, len(index), int64s(index)))
        assert made == wanted if isinstance(wanted, tuple) else same_number(made, wanted), (tensor, index)
        wanted = outcome(tensor.item)
        made = outcome(lambda: status_and_value(lib.tensor_item, wrapped.handle))
        assert made == wanted if isinstance(wanted, tuple) else same_number(made, wanted), tensor


@pytest.mark.parametrize("dtype", DTYPES[7:16], ids=str)
def test_integers_are_exact(dtype, rng):
    for value in random_bits(rng, dtype, 20):
        wrapped = Tensor.wrap(value)
        made = status_and_value(lib.tensor_item_int64, wrapped.handle, kind=ctypes.c_int64)
        assert made % 2**64 == value.item() % 2**64


def test_no_integer_of_a_float():
    wrapped = Tensor.wrap(torch.zeros(()))
    assert outcome(lambda: status_and_value(lib.tensor_item_int64, wrapped.handle, kind=ctypes.c_int64)) == (
        "TypeError",
        "an integer can be taken from a tensor of an integer dtype or bool, not of float32",
    )


# ---- Comparison ----


def compare(name, a, b, *tolerances):
    a, b = Tensor.wrap(a), Tensor.wrap(b)
    function = getattr(lib, "tensor_" + name)
    return status_and_value(function, a.handle, b.handle, *tolerances, kind=ctypes.c_bool)


def almost(rng, tensor):
    """The same values in another layout; sometimes one of them changed."""
    other = random_tensor(rng, tensor.dtype, tuple(tensor.shape))
    other.copy_(tensor)
    if tensor.numel() and rng.random() < 0.5:
        index = tuple(rng.randrange(size) for size in tensor.shape)
        other[index] = random_values(rng, tensor.dtype, 1)[0]
    return other


def test_equal(rng, cases):
    for _ in range(cases(400)):
        tensor = random_tensor(rng, fill=rng.choice((random_values, random_bits)))
        other = almost(rng, tensor)
        if rng.random() < 0.3:
            other = other.to(rng.choice(DTYPES))
        wanted = outcome(lambda: torch.equal(tensor, other))
        if isinstance(wanted, bool):  # torch knows no answer for some pairs of dtypes
            assert compare("equal", tensor, other) == wanted, (tensor, other)
        same_bits = tensor.dtype == other.dtype and torch.equal(bits(tensor), bits(other))
        assert compare("identical", tensor, other) == same_bits
        assert not compare("equal", tensor, other.unsqueeze(0))


def test_equal_beyond_the_precision_of_double():
    large = torch.tensor([2**62, 2**62 + 1])
    assert not compare("equal", large[:1], large[1:])
    assert compare("equal", large[:1], large[:1].double())
    assert not compare("equal", torch.tensor([-1]), torch.tensor([2**64 - 1], dtype=torch.uint64))


def test_allclose(rng, cases):
    for _ in range(cases(400)):
        dtype = rng.choice(DTYPES[:2] + DTYPES[4:6] + DTYPES[7:12])
        tensor = random_tensor(rng, dtype, fill=rng.choice((random_values, random_values, random_bits)))
        other = almost(rng, tensor)
        if dtype.is_floating_point and rng.random() < 0.5:
            other = other * (1 + rng.choice((1e-9, 1e-5, 1e-3)))
        if tensor.ndim and rng.random() < 0.2:
            other = other[:1]
        # Off the edge: torch computes the bound in the dtype, the library in double.
        tolerances = rng.choice((0, 3e-7, 3e-4, 0.3)), rng.choice((0, 1e-8, 0.7)), rng.random() < 0.5
        wanted = outcome(lambda: torch.allclose(tensor, other, *tolerances))
        made = outcome(lambda: compare("allclose", tensor, other, *tolerances))
        assert made == wanted, (tensor, other, tolerances)


ALLCLOSE_FAULTS = [
    *[(torch.zeros(2), torch.zeros(3), 0, 0), (torch.zeros(2, 3), torch.zeros(4), 0, 0)],
    *[(torch.zeros(2), torch.zeros(2, dtype=torch.float64), 0, 0)],
    *[(torch.zeros(2, dtype=torch.int32), torch.zeros(2, dtype=torch.bfloat16), 0, 0)],
    *[(torch.zeros(2), torch.zeros(2), rtol, 0) for rtol in (-1.0, -1e-9, NAN)],
    *[(torch.zeros(2), torch.zeros(2), 0, atol) for atol in (-0.1, -1.5e300, NAN)],
]


@pytest.mark.parametrize("a, b, rtol, atol", ALLCLOSE_FAULTS)
def test_allclose_faults(a, b, rtol, atol):
    wanted = outcome(lambda: torch.allclose(a, b, rtol, atol))
    assert outcome(lambda: compare("allclose", a, b, rtol, atol, False)) == wanted


def largest(a, b):
    a, b = Tensor.wrap(a), Tensor.wrap(b)
    return status_and_value(lib.tensor_max_difference, a.handle, b.handle)


def test_max_difference(rng, cases):
    for _ in range(cases(200)):
        dtype = rng.choice(DTYPES[:6])
        tensor = random_tensor(rng, dtype, fill=rng.choice((random_values, random_values, random_bits)))
        other = random_tensor(rng, rng.choice(DTYPES[:6]), tuple(tensor.shape))
        apart = (tensor.to(torch.complex128) - other.to(torch.complex128)).abs()
        wanted = apart.max().item() if apart.numel() else 0.0
        made = largest(tensor, other)
        assert made == pytest.approx(wanted, rel=1e-15, nan_ok=True), (tensor, other)
    assert largest(torch.tensor([2**62]), torch.tensor([2**62 + 1])) == 1
    assert outcome(lambda: largest(torch.zeros(2), torch.zeros(1)))[0] == "RuntimeError"


def test_nothing_is_left():
    held = live_allocations()
    for _ in range(3):
        tensor = create("ones", torch.float32, (2, 3))
        check(lib.tensor_fill(tensor.handle, 2.0))
    del tensor
    assert live_allocations() == held
