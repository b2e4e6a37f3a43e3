"""Functions of the package that make tensors, draw random numbers and set how gradients and printing go: torch's."""

from __future__ import annotations

import contextlib

from fonio import _core, _dtypes
from fonio._dtypes import dtype as _dtype
from fonio._tensor import Tensor, _is_operand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

# ---- New tensors ----


def _made(tensor: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
            raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
        tensor.requires_grad = True
    return tensor


def _size(function: str, size: tuple[Any, ...]) -> tuple[int, ...]:
    """The sizes, which come one by one or as one tuple or list, checked in torch's words."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        for place, one in enumerate(size[0], 1):
            if not _is_int(one):
                raise TypeError(
                    f"{function}(): argument 'size' failed to unpack the object at pos {place} with error "
                    f'"type must be tuple of ints,but got {type(one).__name__}"'
                )
        size = tuple(size[0])
    for one in size:
        if not _is_int(one):
            raise TypeError(f"{function}(): argument 'size' (position 1) must be tuple of ints, not {type(one).__name__}")
    return tuple(int(one) for one in size)


def _is_int(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def empty(*size: Any, dtype: _dtype = _dtypes.float32, requires_grad: bool = False) -> Tensor:
    """A tensor of this size, whose elements are not set."""
    return _made(_core.empty(dtype._number, _size("empty", size)), requires_grad)


def zeros(*size: Any, dtype: _dtype = _dtypes.float32, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros."""
    return _made(_core.zeros(dtype._number, _size("zeros", size)), requires_grad)


def ones(*size: Any, dtype: _dtype = _dtypes.float32, requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return _made(_core.ones(dtype._number, _size("ones", size)), requires_grad)


def rand(
    *size: Any, generator: Generator | None = None, dtype: _dtype = _dtypes.float32, requires_grad: bool = False
) -> Tensor:
    """A tensor of random numbers, uniform in [0, 1): those that torch draws from the same seed."""
    sizes = _size("rand", size)
    made = _core.rand(dtype._number, sizes) if generator is None else generator._draw(dtype, sizes, "uniform", 0, 1)
    return _made(made, requires_grad)


def randn(
    *size: Any, generator: Generator | None = None, dtype: _dtype = _dtypes.float32, requires_grad: bool = False
) -> Tensor:
    """A tensor of random numbers of a normal distribution: those that torch draws from the same seed."""
    sizes = _size("randn", size)
    made = _core.randn(dtype._number, sizes) if generator is None else generator._draw(dtype, sizes, "normal", 0, 1)
    return _made(made, requires_grad)


def full(size: Sequence[int], fill_value: Any, *, dtype: _dtype | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor of one value; its dtype is that of the value unless one is given."""
    kind = dtype if dtype is not None else _dtype_of_number(fill_value)
    return _made(_core.full(kind._number, _size("full", (size,)), fill_value), requires_grad)


def _dtype_of_number(value: Any) -> _dtype:
    if isinstance(value, bool):
        return _dtypes.bool_
    return _dtypes.int64 if isinstance(value, int) else _dtypes.float32


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: _dtype | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers from `start` (0 where only one number is given) to before `end`, `step` apart."""
    if end is None:
        start, end = 0, start
    whole = all(isinstance(number, int) for number in (start, end, step))
    kind = dtype if dtype is not None else _dtypes.int64 if whole else _dtypes.float32
    return _made(_core.arange(kind._number, start, end, step), requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: _dtype = _dtypes.int64,
    requires_grad: bool = False,
) -> Tensor:
    """Random whole numbers in [low, high): those that torch draws from the same seed. With two arguments: high, size."""
    if size is None:
        low, high, size = 0, low, high
    sizes = _size("randint", (size,))
    if generator is None or low >= high:  # the library says what is wrong with an empty range
        return _made(_core.randint(dtype._number, sizes, low, high), requires_grad)
    return _made(generator._draw(dtype, sizes, "random", low, high), requires_grad)


def randperm(n: int, *, generator: Generator | None = None, dtype: _dtype = _dtypes.int64) -> Tensor:
    """0 to n - 1 in random order: that which torch draws from the same seed."""
    if generator is None:
        return _core.randperm(dtype._number, n)
    return _core.generator_randperm(generator._made, dtype._number, n)


def zeros_like(input: Tensor, *, dtype: _dtype | None = None) -> Tensor:
    """Zeros of the size and dtype of a tensor."""
    return zeros(input.shape, dtype=dtype or input.dtype)


def ones_like(input: Tensor, *, dtype: _dtype | None = None) -> Tensor:
    """Ones of the size and dtype of a tensor."""
    return ones(input.shape, dtype=dtype or input.dtype)


def tensor(data: Any, *, dtype: _dtype | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of numbers, nested lists of them, or an array of any library."""
    if isinstance(data, Tensor):
        made = data.detach().clone()
    elif _core.is_array(data):
        made = from_dlpack(data).clone()
    else:
        made = _from_lists(data, wide=dtype is not None)
    if dtype is not None:
        made = made.to(dtype)
    return _made(made, requires_grad)


def _from_lists(data: Any, wide: bool) -> Tensor:
    """`wide`: as exact as Python's own numbers, for another dtype to be made of them."""
    import numpy

    _check_lengths(data)
    array = numpy.array(data)
    if array.dtype.kind not in "bifcu":
        raise TypeError(f"new(): invalid data type '{type(_first(data)).__name__}'")
    if isinstance(_first(data), numpy.generic) or array.dtype.kind in "b":
        return _core.wrap(array)[0].clone()
    kinds = {"f": numpy.float32, "c": numpy.complex64, "i": numpy.int64, "u": numpy.int64}
    if wide:
        kinds |= {"f": numpy.float64, "c": numpy.complex128}
    return _core.wrap(array.astype(kinds[array.dtype.kind]))[0]


def _first(data: Any) -> Any:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return data


def _check_lengths(data: Any, dim: int = 0) -> None:
    if not isinstance(data, (list, tuple)):
        return
    for one in data:
        length = len(data[0]) if isinstance(data[0], (list, tuple)) else None
        if length is not None and (not isinstance(one, (list, tuple)) or len(one) != length):
            found = len(one) if isinstance(one, (list, tuple)) else 0
            raise ValueError(f"expected sequence of length {length} at dim {dim + 1} (got {found})")
        _check_lengths(one, dim + 1)


def from_numpy(ndarray: Any) -> Tensor:
    """A tensor over the memory of a NumPy array."""
    import numpy

    if not isinstance(ndarray, numpy.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    if any(stride < 0 for stride in ndarray.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not currently "
            "supported. (You can probably work around this by making a copy of your array  with array.copy().) "
        )
    return _over(ndarray)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor over the memory of an array of any library: what has a buffer or speaks DLPack."""
    return _over(ext_tensor.detach() if hasattr(ext_tensor, "detach") else ext_tensor)


_warned = False


def _over(array: Any) -> Tensor:
    global _warned
    made, read_only = _core.wrap(array)
    if read_only and not _warned:
        import warnings

        _warned = True
        warnings.warn(
            "The given NumPy array is not writable, and PyTorch does not support non-writable tensors. This means writing "
            "to this tensor will result in undefined behavior. You may want to copy the array to protect its data or make "
            "it writable before converting it to a tensor. This type of warning will be suppressed for the rest of this "
            "program.",
            stacklevel=3,
        )
    return made


# ---- Random numbers ----


def _checked_seed(seed: int) -> int:
    seed = int(seed)
    if not -(2**63) <= seed < 2**64:
        raise ValueError("Overflow when unpacking long long")
    return seed


def manual_seed(seed: int) -> None:
    """Seeds the random numbers: what is drawn then is what torch draws."""
    _core.manual_seed(_checked_seed(seed))


def check_device(device: Any) -> None:
    """Refuses every device but the CPU; None stands for it."""
    if device is not None and str(device) != "cpu":
        raise NotImplementedError(f"Fonio computes on the CPU, not on {device}")


class Generator:
    """Random numbers of one's own: torch.Generator. rand, randn, randint and randperm take one as `generator`."""

    def __init__(self, device: str = "cpu") -> None:
        check_device(device)
        self._made = _core.generator()

    def manual_seed(self, seed: int) -> Generator:
        """Seeds it: what is drawn then is what torch draws."""
        _core.generator_manual_seed(self._made, _checked_seed(seed) % 2**64)
        return self

    def seed(self) -> int:
        """Seeds it by chance, and returns that seed."""
        return _core.generator_seed(self._made)

    def initial_seed(self) -> int:
        """The seed that was set last."""
        return _core.generator_initial_seed(self._made)

    def _draw(self, dtype: _dtype, sizes: tuple[int, ...], name: str, a: float, b: float) -> Tensor:
        made = _core.empty(dtype._number, sizes)
        _core.generator_draw(self._made, made, name, a, b)
        return made


def seed() -> int:
    """Seeds the random numbers by chance, and returns that seed."""
    return _core.seed()


def initial_seed() -> int:
    """The seed that was set last."""
    return _core.initial_seed()


# ---- Arithmetic ----


def add(input: Tensor, other: Any) -> Tensor:
    """input + other"""
    return input + other


def sub(input: Tensor, other: Any) -> Tensor:
    """input - other"""
    return input - other


def mul(input: Tensor, other: Any) -> Tensor:
    """input * other"""
    return input * other


def div(input: Tensor, other: Any) -> Tensor:
    """input / other"""
    return input / other


def pow(input: Any, exponent: Any) -> Tensor:
    """input ** exponent: two tensors, or a tensor and a number on either side."""
    given = {"input": input, "exponent": exponent}
    tensors = [isinstance(one, Tensor) for one in given.values()]
    if not any(tensors) or not all(map(_is_operand, given.values())):
        from fonio._texts import combination

        raise TypeError(combination("pow", given))
    return input**exponent


def neg(input: Tensor) -> Tensor:
    """-input"""
    return -input


def exp(input: Tensor) -> Tensor:
    """e to the power of each element."""
    return input.exp()


def log(input: Tensor) -> Tensor:
    """The natural logarithm of each element."""
    return input.log()


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest element is: of all, or along a dimension."""
    return input.argmax(dim, keepdim)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions joined into one."""
    return input.flatten(start_dim, end_dim)


def relu(input: Tensor) -> Tensor:
    """Each element, or 0 where it is less."""
    return input.relu()


def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: _dtype | None = None) -> Tensor:
    """The sum of all elements, or over one dimension or some."""
    return input.sum(dim, keepdim, dtype=dtype)


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: _dtype | None = None) -> Tensor:
    """The mean of all elements, or over one dimension or some."""
    return input.mean(dim, keepdim, dtype=dtype)


# ---- Comparing ----


def is_tensor(obj: Any) -> bool:
    """Whether the object is a Tensor."""
    return isinstance(obj, Tensor)


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same values."""
    return input.equal(other)


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether |input - other| <= atol + rtol * |other| everywhere."""
    return input.allclose(other, rtol, atol, equal_nan)


# ---- Gradients ----


def is_grad_enabled() -> bool:
    """Whether operations of this thread record their history."""
    return _core.is_grad_enabled()


class set_grad_enabled(contextlib.ContextDecorator):
    """Sets whether operations of this thread record their history; in a `with`, until its end."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self._before = [_core.set_grad_enabled(mode)]

    def __enter__(self) -> None:
        _core.set_grad_enabled(self.mode)

    def __exit__(self, *error: object) -> None:
        _core.set_grad_enabled(self._before[-1])


class _GradMode(contextlib.ContextDecorator):
    """A `with` or a decorator in which gradients are recorded or not."""

    _enabled = False

    def __init__(self) -> None:
        self._before: list[bool] = []

    def _recreate_cm(self) -> _GradMode:
        return type(self)()

    def __enter__(self) -> None:
        self._before.append(_core.set_grad_enabled(self._enabled))

    def __exit__(self, *error: object) -> None:
        _core.set_grad_enabled(self._before.pop())


class no_grad(_GradMode):
    """with no_grad(): operations record no history. Also a decorator, with brackets or without."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return object.__new__(cls) if function is None else object.__new__(cls)(function)

    def __init__(self, function: None = None) -> None:
        super().__init__()


class enable_grad(_GradMode):
    """with enable_grad(): operations record their history. Also a decorator."""

    _enabled = True


# ---- Printing ----


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Sets how tensors are printed, as torch.set_printoptions: digits after the point, from how many elements on a tensor
    is summarised, how many it then shows, characters in a line, "default", "short" or "full", scientific notation."""
    _core.set_printoptions(
        -1 if precision is None else precision,
        -1 if threshold is None else threshold,
        -1 if edgeitems is None else edgeitems,
        -1 if linewidth is None else linewidth,
        profile,
        -1 if sci_mode is None else int(sci_mode),
    )
