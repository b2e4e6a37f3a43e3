"""Conversions between all dtypes, to the bit."""

import itertools
import struct

import pytest
import torch

from fonio_c import DTYPES, WARNING, Tensor, check, lib
from tensors import assert_same, bits, call, outcome, random_bits, random_tensor, random_values

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf", "ignore:Casting complex")

FLOATS = [dtype for dtype in DTYPES if dtype.is_floating_point]
INTEGERS = [dtype for dtype in DTYPES[7:15]]
heard = []


@WARNING
def hear(message, _user):
    heard.append(message.decode())


@pytest.fixture(autouse=True)
def quiet():
    lib.set_warning_handler(hear, None)
    yield
    lib.set_warning_handler(WARNING(), None)


def convert(tensor, dtype):
    return call("to", Tensor.wrap(tensor), DTYPES.index(dtype)).torch()


def fits(tensor, dtype):
    """Which elements of a tensor of a floating-point or complex dtype have a value in the integer dtype."""
    value = (tensor.real if tensor.is_complex() else tensor).to(torch.float64).trunc()
    limits = torch.iinfo(dtype)
    below = value < float(limits.max) if limits.max > 2**52 else value <= limits.max
    return (value >= max(limits.min, -(2.0**63))) & below


def assert_converts(tensor, dtype):
    """The library's conversion has torch's bits; what C leaves undefined, and the bits of NaN, are not looked at."""
    if dtype in INTEGERS and (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
        tensor = torch.where(fits(tensor, dtype), tensor, torch.ones((), dtype=tensor.dtype))
    wanted, made = tensor.to(dtype), convert(tensor, dtype)
    differ = bits(wanted) != bits(made)
    if dtype.is_floating_point or dtype.is_complex:
        numbers = [torch.view_as_real(x).reshape(-1) if dtype.is_complex else x for x in (wanted, made)]
        differ &= ~(numbers[0].float().isnan() & numbers[1].float().isnan())
    place = differ.nonzero()[:, 0] // (2 if dtype.is_complex else 1)
    assert not differ.any(), (tensor[place][:5], wanted[place][:5], made[place][:5])


@pytest.mark.parametrize("source, target", list(itertools.product(DTYPES, DTYPES)), ids=str)
def test_values_and_bits(source, target, rng, cases):
    for count in (1, 7, 255, cases(3000)):
        assert_converts(random_values(rng, source, count), target)
        if source != torch.complex32 or target != torch.complex32:
            assert_converts(random_bits(rng, source, count), target)


def all_of_16_bits(dtype):
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)


@pytest.mark.parametrize("target", DTYPES, ids=str)
def test_every_number_of_8_and_16_bits(target):
    for source in (torch.float16, torch.bfloat16):
        assert_converts(all_of_16_bits(source), target)
    for source in (torch.float8_e4m3fn, torch.float8_e5m2):
        assert_converts(torch.arange(256, dtype=torch.int32).to(torch.uint8).view(source), target)


@pytest.mark.parametrize("target", FLOATS[2:], ids=str)
def test_rounding_at_every_tie(target):
    """Each number of the format, each middle between two neighbours, and the floats right beside those."""
    raw = all_of_16_bits(target) if target.itemsize == 2 else torch.arange(256).to(torch.uint8).view(target)
    numbers = raw.float()
    numbers = numbers[numbers.isfinite()].sort().values
    middles = (numbers[1:].double() + numbers[:-1].double()) / 2
    largest = numbers[-1].item()
    exact = torch.cat([numbers, middles.float(), torch.tensor([largest * f for f in (1.01, 1.03, 1.0625, 1.1, 2)])])
    for direction in (-torch.inf, torch.inf):
        assert_converts(torch.nextafter(exact, torch.tensor(direction)), target)
    assert_converts(exact, target)
    assert_converts(exact.double(), target)


def test_nan_keeps_what_torch_keeps_of_it(rng, cases):
    for _ in range(cases(100)):
        single = struct.unpack("<f", struct.pack("<I", rng.getrandbits(32) | 0x7F800000))[0]
        tensor = torch.tensor([single] * 8)
        for dtype in (torch.float16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2):
            assert torch.equal(bits(tensor.to(dtype)), bits(convert(tensor, dtype))), single


def test_integers_beyond_the_precision_of_floats(rng, cases):
    large = [rng.getrandbits(64) - 2**63 for _ in range(cases(500))] + [2**24 + 1, 2**53 + 1, -(2**53) - 1, 2**63 - 1]
    for dtype in DTYPES:
        assert_converts(torch.tensor(large), dtype)
        assert_converts(torch.tensor([value + 2**63 for value in large], dtype=torch.uint64), dtype)


def test_any_layout(rng, cases):
    for _ in range(cases(300)):
        tensor, dtype = random_tensor(rng), rng.choice(DTYPES)
        wanted = tensor.to(dtype)
        made = call("to", Tensor.wrap(tensor), DTYPES.index(dtype))
        assert made.stride() == wanted.stride(), (tensor.shape, tensor.stride())
        if not (dtype in INTEGERS and (tensor.dtype.is_floating_point or tensor.dtype.is_complex)):
            assert_same(made, wanted)


def test_copy_converts_broadcasts_and_counts(rng, cases):
    for _ in range(cases(300)):
        target = random_tensor(rng, shape=tuple(rng.randint(1, 4) for _ in range(rng.randint(0, 4))))
        shape = [rng.choice((size, size, 1)) for size in target.shape[rng.randint(0, target.ndim) :]]
        source = random_tensor(rng, shape=tuple(shape))
        if target.dtype in INTEGERS:
            source = source.abs().clamp(0, 100) if source.dtype in FLOATS[:2] else source.to(torch.uint8)
        wanted = target.clone().copy_(source)
        wrapped, other = Tensor.wrap(target), Tensor.wrap(source)
        check(lib.tensor_copy(wrapped.handle, other.handle))
        assert lib.tensor_version(wrapped.handle) == 1
        assert torch.equal(bits(target), bits(wanted)), (target, source)


def test_what_lies_beside_a_view_stays(rng, cases):
    for _ in range(cases(50)):
        base = random_bits(rng, rng.choice(DTYPES), 5 * 6 * 7).reshape(5, 6, 7)
        before, part = base.clone(), (slice(1, None, 2), slice(2, 5), slice(0, 6, 3))
        source = random_values(rng, base.dtype, 2 * 3 * 2).reshape(2, 3, 2)
        wrapped, other = Tensor.wrap(base[part]), Tensor.wrap(source)
        check(lib.tensor_copy(wrapped.handle, other.handle))
        before[part] = source
        assert torch.equal(bits(base), bits(before))


def test_copy_within_shared_memory(rng, cases):
    for _ in range(cases(100)):
        base = torch.arange(60, dtype=rng.choice(DTYPES[:2] + DTYPES[7:12]))
        shift, step = rng.randint(-5, 5), rng.choice((1, 2))
        to, source = base[10:40:step], base[10 + shift : 40 + shift : step]
        wanted = base.clone()
        wanted[10:40:step] = source.clone()
        wrapped, other = Tensor.wrap(to), Tensor.wrap(source)
        check(lib.tensor_copy(wrapped.handle, other.handle))
        assert torch.equal(base, wanted), (shift, step)
    square = torch.arange(9.0).reshape(3, 3)
    wanted = square.t().clone()
    wrapped, other = Tensor.wrap(square), Tensor.wrap(square.t())
    check(lib.tensor_copy(wrapped.handle, other.handle))
    assert torch.equal(square, wanted)


z = torch.zeros
COPY_FAULTS = [
    *[(z(3), z(2, 3)), (z(3), z(4)), (z(3), z(2, 4)), (z(2, 3), z(2)), (z(1), z(3)), (z(1, 3), z(2, 3)), (z(3), z(0))],
    *[(z(0), z(3)), (z(0), z(1)), (z(1).expand(3), z(3)), (z(1).expand(3), z(4)), (z(1, 1).expand(3, 0), z(1))],
    *[(z(()), z(2)), (z(()), z(1)), (z(2, 3), z(()))],
]


@pytest.mark.parametrize("target, source", COPY_FAULTS)
def test_copy_faults(target, source):
    wrapped, other = Tensor.wrap(target), Tensor.wrap(source)
    made = outcome(lambda: check(lib.tensor_copy(wrapped.handle, other.handle)))
    wanted = outcome(lambda: target.copy_(source))
    assert made == (wanted if isinstance(wanted, tuple) else None)
    assert lib.tensor_version(wrapped.handle) == (made is None)


def test_the_imaginary_part_is_missed_once():
    heard.clear()
    target, source = Tensor.wrap(torch.zeros(2)), Tensor.wrap(torch.ones(2, dtype=torch.complex64))
    for _ in range(2):
        check(lib.tensor_copy(target.handle, source.handle))
    # Whichever conversion came first in this process had it.
    assert heard in ([], ["Casting complex values to real discards the imaginary part"])
