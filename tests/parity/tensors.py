"""Random torch tensors of every dtype and layout, and the comparison with what the library makes of them."""

import ctypes

import torch

from fonio_c import DTYPES, Tensor, check, int64s, lib

FLOATS = (torch.float32, torch.float64)
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor):
    """The bits of every element, as integers."""
    word = tensor.dtype.itemsize // (2 if tensor.is_complex() else 1)
    return torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.reshape(-1)).view(WORDS[word])


def random_bits(rng, dtype, count):
    """`count` elements of any bits that the dtype may have."""
    raw = torch.frombuffer(bytearray(rng.randbytes(max(1, count) * dtype.itemsize)), dtype=torch.uint8)
    if dtype == torch.bool:
        raw &= 1
    return raw.view(dtype)[:count]


def random_values(rng, dtype, count):
    """`count` elements of everyday size; the fractions of floats are random."""
    torch_rng = torch.Generator().manual_seed(rng.getrandbits(32))
    exponents = torch.rand(count, generator=torch_rng, dtype=torch.float64) * 2.5 - 1
    values = torch.randn(count, generator=torch_rng, dtype=torch.float64) * 10**exponents
    if not dtype.is_floating_point and not dtype.is_complex:
        values = values.abs()
    return values.to(dtype) if dtype.itemsize > 1 else values.float().to(dtype)


def random_shape(rng, dims=4, size=5):
    sizes = [rng.choice((1, 1, 2, 3, rng.randint(1, size))) for _ in range(rng.randint(0, dims))]
    if sizes and rng.random() < 0.05:
        sizes[rng.randrange(len(sizes))] = 0
    return tuple(sizes)


def random_view(rng, tensor):
    """A view of the tensor: dimensions swapped, parts left out, repeated, sizes of 1 put in."""
    for _ in range(rng.randint(0, 3)):
        kind = rng.choice("permute slice select expand unsqueeze".split())
        dim = rng.randrange(tensor.ndim) if tensor.ndim else 0
        if kind == "permute":
            tensor = tensor.permute(rng.sample(range(tensor.ndim), tensor.ndim))
        elif kind == "slice" and tensor.ndim:
            start = rng.randint(0, max(0, tensor.shape[dim] - 1))
            tensor = tensor[(slice(None),) * dim + (slice(start, None, rng.randint(1, 2)),)]
        elif kind == "select" and tensor.ndim > 2 and tensor.shape[dim]:
            tensor = tensor.select(dim, rng.randrange(tensor.shape[dim]))
        elif kind == "expand" and tensor.ndim < 5:
            tensor = tensor.expand(rng.randint(1, 3), *tensor.shape)
        elif kind == "unsqueeze" and tensor.ndim < 5:
            tensor = tensor.unsqueeze(rng.randint(0, tensor.ndim))
    return tensor


def random_tensor(rng, dtype=None, shape=None, fill=random_values):
    """A tensor of a random layout; of a random shape, too, unless one is given."""
    dtype = dtype or rng.choice(DTYPES)
    if shape is None:
        shape = random_shape(rng)
        return random_view(rng, fill(rng, dtype, torch.Size(shape).numel()).reshape(shape))
    # The given shape as a part of a larger tensor whose dimensions lie in any order.
    order = rng.sample(range(len(shape)), len(shape))
    large = [shape[dim] + rng.choice((0, 0, 0, 1)) for dim in order]
    tensor = fill(rng, dtype, torch.Size(large).numel()).reshape(large)
    tensor = tensor.permute([order.index(dim) for dim in range(len(shape))])
    return tensor[tuple(slice(0, size) for size in shape)]


def outcome(call):
    """What a call gives or raises: a value, or the name and the text of the exception."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  whatever torch raises is what is asked for
        return type(error).__name__, str(error).split("\nException raised from")[0]


def status_and_value(function, *arguments, kind=ctypes.c_double):
    """Calls a function whose last argument receives a value, and returns that."""
    value = kind()
    check(function(*arguments, ctypes.byref(value)))
    return value.value


def call(name, tensor, *arguments):
    """lib.tensor_<name> of a Tensor; lists become `ndim, sizes`."""
    given = []
    for one in arguments:
        given += [len(one), int64s(one)] if isinstance(one, (list, tuple)) else [one]
    return Tensor(getattr(lib, "tensor_" + name)(tensor.handle, *given))


def assert_same(made, wanted, about=""):
    """The Tensor `made` has the dtype, the shape, the strides and the bits of the torch tensor `wanted`."""
    assert made.dtype == wanted.dtype, about
    assert made.shape == tuple(wanted.shape), about
    assert made.stride() == wanted.stride(), about
    assert torch.equal(bits(made.torch()), bits(wanted)), about
