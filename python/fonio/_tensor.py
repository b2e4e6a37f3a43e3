"""fonio.Tensor: the library's own tensors, named and behaving as torch's."""

from __future__ import annotations

import math
import numbers

from fonio import _core, _dtypes
from fonio._dtypes import DTYPES, Size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, SupportsIndex

    _Number = int | float


class Tensor(_core.Tensor):
    """A tensor: elements of one dtype in any number of dimensions up to 8, over memory that several tensors may share.
    Made by the functions of the package, not by its class."""

    # ---- Properties ----

    @property
    def dtype(self) -> _dtypes.dtype:
        """What kind of elements the tensor has."""
        return DTYPES[self._dtype]

    @property
    def shape(self) -> Size:
        """The sizes of its dimensions."""
        return Size(self._sizes)

    def size(self, dim: int | None = None) -> Size | int:
        """The sizes of its dimensions, or of one of them."""
        return self.shape if dim is None else self.shape[_dimension(dim, self.ndim)]

    def stride(self, dim: int | None = None) -> tuple[int, ...] | int:
        """How many elements apart neighbours along a dimension lie in memory."""
        return self._strides if dim is None else self._strides[_dimension(dim, self.ndim)]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.ndim

    @property
    def grad_fn(self) -> GradFn | None:
        """The operation that the tensor came of; None for a leaf."""
        name = self._grad_fn_name
        return None if name is None else GradFn(name)

    @property
    def data(self) -> Tensor:
        """A tensor over the same memory without a history. Assigning makes this tensor stand for another's elements."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        fresh = value.detach()
        if isinstance(self, _parameter_class()):
            fresh = _core.parameter(fresh, self.requires_grad)
        elif self.requires_grad:
            fresh.requires_grad = True
        self._assign(fresh)

    @property
    def is_parameter(self) -> bool:
        """Whether the tensor is an nn.Parameter."""
        return isinstance(self, _parameter_class())

    @property
    def T(self) -> Tensor:
        """The tensor with its dimensions in reverse order."""
        return self.permute(*reversed(range(self.ndim)))

    def is_contiguous(self, *, memory_format: MemoryFormat | None = None) -> bool:
        """Whether the elements lie in the order of the dimensions, or with the channels last."""
        return self._is_channels_last() if memory_format is channels_last else self._is_contiguous()

    def is_floating_point(self) -> bool:
        """Whether the dtype is one of floating-point numbers."""
        return self.dtype.is_floating_point

    def element_size(self) -> int:
        """The bytes of an element."""
        return self.dtype.itemsize

    # ---- Values ----

    def item(self) -> Any:
        """The only element, as a number of Python's."""
        if self.dtype.is_complex:
            return complex(self.detach().numpy().item())
        return self._item()

    def tolist(self) -> Any:
        """The elements as nested lists."""
        if self.ndim == 0:
            return self.item()
        return self.detach()._as_numpy().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """A NumPy array over the same memory. `force`: also of a tensor that requires a gradient."""
        if force:
            return self.detach().numpy()
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self._as_numpy()

    def _as_numpy(self) -> Any:
        import numpy

        try:
            return numpy.asarray(memoryview(self))  # type: ignore[arg-type]
        except BufferError:
            raise TypeError(f"Got unsupported ScalarType {_SCALAR_NAMES.get(self.dtype, self.dtype)}") from None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy

        array = self.numpy()
        return numpy.array(array, dtype=dtype, copy=copy if copy is not None else dtype is not None)

    def __repr__(self, *, tensor_contents: None = None) -> str:
        return self._text()

    def __format__(self, specification: str) -> str:
        if self.ndim == 0:
            return format(self.item(), specification)
        return object.__format__(self, specification)

    def __bool__(self) -> bool:
        if self.numel() != 1:
            many = "more than one value" if self.numel() else "no values"
            raise RuntimeError(f"Boolean value of Tensor with {many} is ambiguous")
        return bool(self.item())

    def _scalar(self) -> Any:
        if self.numel() != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __float__(self) -> Any:
        return float(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    def __complex__(self) -> complex:
        return complex(self._scalar())

    def __index__(self) -> int:
        if self.numel() != 1 or self.dtype.is_floating_point or self.dtype.is_complex:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return self.item()

    def allclose(self, other: Tensor, rtol: _Number = 1e-05, atol: _Number = 1e-08, equal_nan: bool = False) -> bool:
        """Whether |self - other| <= atol + rtol * |other| everywhere."""
        return self._allclose(other, rtol, atol, equal_nan)

    # ---- Indexing ----

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return (self.select(0, index) for index in range(len(self)))

    def __getitem__(self, index: Any) -> Tensor:
        """Numbers, slices, None and an ellipsis: a view."""
        indices = _expanded(index if isinstance(index, tuple) else (index,), self.ndim)
        view, dim = self, 0
        for place, one in enumerate(indices):
            if one is None:
                view = view.unsqueeze(dim)
            elif isinstance(one, slice):
                view = _sliced(view, dim, one)
            else:
                view = _selected(view, dim, one, place)
                continue
            dim += 1
        return view if view is not self else self.reshape(self.shape)

    def __setitem__(self, index: Any, value: Any) -> None:
        part = self[index]
        if isinstance(value, Tensor):
            part.copy_(value)
        else:
            part.fill_(value)

    def select(self, dim: int, index: int) -> Tensor:
        """The part at `index` along a dimension, which goes: a view."""
        return self._select(dim, index)

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """`length` parts from `start` on along a dimension: a view."""
        return self._slice(dim, start, start + length, 1)

    def permute(self, *dims: Any) -> Tensor:
        """The dimensions in another order: a view."""
        return self._permute(_sizes(dims))

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two dimensions in each other's place: a view."""
        order = list(range(self.ndim))
        dim0, dim1 = _dimension(dim0, self.ndim), _dimension(dim1, self.ndim)
        order[dim0], order[dim1] = dim1, dim0
        return self._permute(tuple(order))

    def expand(self, *sizes: Any) -> Tensor:
        """Dimensions of one element repeated: a view. -1 keeps a size."""
        return self._expand(_sizes(sizes))

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in other dimensions; one size may be -1. A view where the memory allows it."""
        return self._reshape(_sizes(shape))

    def view(self, *shape: Any) -> Tensor:
        """reshape(), which must not copy."""
        made = self._reshape(_sizes(shape))
        if made.numel() and made.data_ptr() != self.data_ptr():
            raise RuntimeError(
                "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
                "contiguous subspaces). Use .reshape(...) instead."
            )
        return made

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """The dimensions from one to another joined into one."""
        shape = tuple(self.shape) or (1,)
        first, last = _dimension(start_dim, len(shape)), _dimension(end_dim, len(shape))
        if first > last:
            raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
        return self._reshape((*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Where the largest element is: of all, or along a dimension."""
        import numpy

        if self.numel() == 0:
            raise IndexError("argmax(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the 'dim' argument.")
        axis = None if dim is None else _dimension(dim, max(self.ndim, 1))
        if self.ndim == 0:
            axis = None
        place = numpy.argmax(self.detach().clone().numpy(), axis=axis, keepdims=keepdim)
        return _core.wrap(numpy.asarray(place, dtype=numpy.int64))[0]

    def unsqueeze(self, dim: int) -> Tensor:
        """One more dimension, of one element, in place `dim`."""
        shape = list(self.shape)
        shape.insert(_dimension(dim, self.ndim + 1), 1)
        return self._reshape(tuple(shape))

    # ---- Copies ----

    def contiguous(self, *, memory_format: MemoryFormat | None = None) -> Tensor:
        """The tensor itself where its elements lie in order (or with the channels last), otherwise a copy."""
        return self._channels_last() if memory_format is channels_last else self._contiguous()

    def to(self, dtype: Any = None, *, memory_format: MemoryFormat | None = None) -> Tensor:
        """The tensor in another dtype or layout; itself where nothing changes."""
        made = self
        if isinstance(dtype, Tensor):
            dtype = dtype.dtype
        if dtype is not None and str(dtype) != "cpu" and dtype is not self.dtype:
            if not isinstance(dtype, _dtypes.dtype):
                raise TypeError(f"to(): argument 'dtype' must be a fonio.dtype, not {type(dtype).__name__}")
            made = self._to(dtype._number)
        return made if memory_format is None else made.contiguous(memory_format=memory_format)

    def cpu(self) -> Tensor:
        """The tensor itself."""
        return self

    def float(self) -> Tensor:
        """The tensor in float32."""
        return self.to(_dtypes.float32)

    def double(self) -> Tensor:
        """The tensor in float64."""
        return self.to(_dtypes.float64)

    def half(self) -> Tensor:
        """The tensor in float16."""
        return self.to(_dtypes.float16)

    def bfloat16(self) -> Tensor:
        """The tensor in bfloat16."""
        return self.to(_dtypes.bfloat16)

    def long(self) -> Tensor:
        """The tensor in int64."""
        return self.to(_dtypes.int64)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol")
        made = memo[id(self)] = _rebuilt(type(self), self.detach().clone(), self.requires_grad)
        if self.grad is not None:
            made.grad = self.grad.clone()
        return made

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return _rebuilt_from_array, (type(self), self.detach().numpy().copy(), self.requires_grad)

    # ---- Arithmetic ----

    __array_priority__ = 1000  # NumPy leaves it to us what its numbers and our tensors make

    def sum(self, dim: Any = None, keepdim: bool = False, *, dtype: _dtypes.dtype | None = None) -> Tensor:
        """The sum of all elements, or over one dimension or some."""
        made = self if dtype is None else self.to(dtype)
        return made._sum() if dim is None else made._sum_dims(_dims(dim), keepdim)

    def mean(self, dim: Any = None, keepdim: bool = False, *, dtype: _dtypes.dtype | None = None) -> Tensor:
        """The mean of all elements, or over one dimension or some."""
        made = self if dtype is None else self.to(dtype)
        return made._mean() if dim is None else made._mean_dims(_dims(dim), keepdim)

    def _operand(self, other: Any) -> Tensor | None:
        """Another tensor, or a number as a tensor without dimensions."""
        if isinstance(other, Tensor):
            return other
        return _core.full(self._dtype, (), other) if _is_operand(other) else None

    def __add__(self, other: Any) -> Tensor:
        operand = self._operand(other)
        return NotImplemented if operand is None else self._add(operand)

    def __sub__(self, other: Any) -> Tensor:
        operand = self._operand(other)
        return NotImplemented if operand is None else self._sub(operand)

    def __rsub__(self, other: Any) -> Tensor:
        operand = self._operand(other)
        return NotImplemented if operand is None else operand._sub(self)

    def __mul__(self, other: Any) -> Tensor:
        operand = self._operand(other)
        return NotImplemented if operand is None else self._mul(operand)

    def __truediv__(self, other: Any) -> Tensor:
        operand = self._operand(other)
        return NotImplemented if operand is None else self._div(operand)

    def __rtruediv__(self, other: Any) -> Tensor:
        operand = self._operand(other)
        if operand is None:
            return NotImplemented
        reciprocal = _core.full(self._dtype, (), 1)._div(self)  # two roundings, as in torch
        return reciprocal._mul(operand)

    def __pow__(self, exponent: Any) -> Tensor:
        if isinstance(exponent, Tensor):
            return self._pow_tensor(exponent)
        return self._pow(exponent) if _is_operand(exponent) else NotImplemented

    def __rpow__(self, base: Any) -> Tensor:
        return self._rpow(base) if _is_operand(base) else NotImplemented

    def __neg__(self) -> Tensor:
        """Each element with the opposite sign."""
        return self._neg()

    __radd__ = __add__
    __rmul__ = __mul__
    neg = __neg__

    def add(self, other: Any) -> Tensor:
        """self + other"""
        return self + other

    def sub(self, other: Any) -> Tensor:
        """self - other"""
        return self - other

    def mul(self, other: Any) -> Tensor:
        """self * other"""
        return self * other

    def div(self, other: Any) -> Tensor:
        """self / other"""
        return self / other

    def pow(self, exponent: Any) -> Tensor:
        """self ** exponent"""
        return self**exponent

    # In place: what torch would note in the history of the tensor is refused by copy_.

    def add_(self, other: Any, *, alpha: _Number = 1) -> Tensor:
        """Adds `alpha` times a tensor or number."""
        return self.copy_(self.detach() + (other if alpha == 1 else _detached(other) * alpha))

    def sub_(self, other: Any, *, alpha: _Number = 1) -> Tensor:
        """Subtracts `alpha` times a tensor or number."""
        return self.copy_(self.detach() - (other if alpha == 1 else _detached(other) * alpha))

    def mul_(self, other: Any) -> Tensor:
        """Multiplies by a tensor or number."""
        return self.copy_(self.detach() * other)

    def div_(self, other: Any) -> Tensor:
        """Divides by a tensor or number."""
        return self.copy_(self.detach() / other)

    def pow_(self, exponent: Any) -> Tensor:
        """Raises to the power of a tensor or number."""
        return self.copy_(self.detach() ** exponent)

    __iadd__ = add_
    __isub__ = sub_
    __imul__ = mul_
    __itruediv__ = div_
    __ipow__ = pow_

    # ---- Comparing, element by element ----

    def _compare(self, other: Any, operation: str) -> Any:
        import numpy

        if not _is_operand(other):
            return NotImplemented
        right = other.detach()._as_numpy() if isinstance(other, Tensor) else other
        made = getattr(self.detach()._as_numpy(), operation)(right)
        return _core.wrap(numpy.asarray(made))[0]

    def __eq__(self, other: Any) -> Any:
        return self._compare(other, "__eq__")

    def __ne__(self, other: Any) -> Any:
        return self._compare(other, "__ne__")

    def __lt__(self, other: Any) -> Any:
        return self._compare(other, "__lt__")

    def __le__(self, other: Any) -> Any:
        return self._compare(other, "__le__")

    def __gt__(self, other: Any) -> Any:
        return self._compare(other, "__gt__")

    def __ge__(self, other: Any) -> Any:
        return self._compare(other, "__ge__")

    def __hash__(self) -> int:
        return id(self)

    # ---- In place ----

    def fill_(self, value: _Number) -> Tensor:
        """Makes every element `value`."""
        self._fill(value)
        return self

    def zero_(self) -> Tensor:
        """Makes every element 0."""
        return self.fill_(0)

    def copy_(self, src: Tensor) -> Tensor:
        """Copies the elements of another tensor, converted and broadcast."""
        self._copy(src)
        return self

    # `from` is a word of Python's.
    def uniform_(self, from_: _Number = 0, to: _Number = 1) -> Tensor:
        """Draws every element uniformly from [from_, to)."""
        self._uniform(from_, to)
        return self

    def normal_(self, mean: _Number = 0, std: _Number = 1) -> Tensor:
        """Draws every element from a normal distribution."""
        self._normal(mean, std)
        return self

    # ---- Gradients ----

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Sets whether gradients are recorded for this leaf."""
        if not isinstance(requires_grad, bool):
            kind = type(requires_grad).__name__
            raise TypeError(f"requires_grad_(): argument 'requires_grad' (position 1) must be bool, not {kind}")
        self.requires_grad = requires_grad
        return self

    def backward(
        self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Adds to the .grad of every leaf that this tensor came of. `gradient`: that of this tensor; 1 for one element."""
        self._backward(gradient, create_graph if retain_graph is None else bool(retain_graph), create_graph)


class GradFn:
    """The operation that a tensor came of."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        """Its name, as torch's."""
        return self._name

    def __repr__(self) -> str:
        return f"<{self._name} object at {hex(id(self))}>"


class MemoryFormat:
    """torch.memory_format: how the dimensions of a tensor lie in memory."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"torch.{self._name}"


contiguous_format: MemoryFormat = MemoryFormat("contiguous_format")
channels_last: MemoryFormat = MemoryFormat("channels_last")

_core.set_tensor_class(Tensor)

_SCALAR_NAMES = {
    _dtypes.bfloat16: "BFloat16",
    _dtypes.complex32: "ComplexHalf",
    _dtypes.float8_e4m3fn: "Float8_e4m3fn",
    _dtypes.float8_e5m2: "Float8_e5m2",
}


def _parameter_class() -> type:
    from fonio.nn.parameter import Parameter

    return Parameter


def _rebuilt(kind: type[Tensor], tensor: Tensor, requires_grad: bool) -> Tensor:
    """A leaf of the class `kind` over the memory of a tensor."""
    if issubclass(kind, _parameter_class()):
        tensor = _core.parameter(tensor, requires_grad)
    elif requires_grad:
        tensor.requires_grad = True
    return kind._adopt(tensor)


def _rebuilt_from_array(kind: type[Tensor], array: Any, requires_grad: bool) -> Tensor:
    return _rebuilt(kind, _core.wrap(array)[0], requires_grad)


def _sizes(given: tuple[Any, ...]) -> tuple[int, ...]:
    """`(2, 3)` and `((2, 3),)` alike."""
    return tuple(given[0]) if len(given) == 1 and isinstance(given[0], (tuple, list)) else given


def _dims(dim: Any) -> tuple[int, ...]:
    """One dimension, or some."""
    return tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)


def _is_operand(value: Any) -> bool:
    """Whether arithmetic takes it: a tensor, a number of Python's or a real one of NumPy's."""
    if isinstance(value, (Tensor, int, float)):
        return True
    return isinstance(value, numbers.Real) and hasattr(value, "dtype")


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _dimension(dim: int, ndim: int) -> int:
    """`dim`, which may be negative, counted from the first."""
    most = max(ndim, 1)
    if not -most <= dim < most:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-most}, {most - 1}], but got {dim})")
    return dim % most


def _expanded(indices: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """The indices with slices in place of an ellipsis."""
    count = sum(one is not None and one is not Ellipsis for one in indices)
    if count > ndim:
        raise IndexError(f"too many indices for tensor of dimension {ndim}")
    places = [place for place, one in enumerate(indices) if one is Ellipsis]
    if not places:
        return indices
    fill = (slice(None),) * (ndim - count)
    rest = tuple(one for one in indices[places[0] + 1 :] if one is not Ellipsis)
    return indices[: places[0]] + fill + rest


def _sliced(view: Tensor, dim: int, part: slice) -> Tensor:
    size = view.shape[dim]
    step = 1 if part.step is None else int(part.step)
    if step <= 0:
        raise ValueError("step must be greater than zero")
    if part == slice(None):
        return view
    start = 0 if part.start is None else int(part.start)
    return view._slice(dim, start, size if part.stop is None else int(part.stop), step)


def _selected(view: Tensor, dim: int, index: Any, place: int) -> Tensor:
    of_many = isinstance(index, Tensor) and (index.ndim > 0 or index.dtype is _dtypes.bool_)
    if isinstance(index, bool) or of_many or not hasattr(index, "__index__"):
        if isinstance(index, (bool, list, Tensor)) or _core.is_array(index):
            raise NotImplementedError(
                "a tensor is indexed by numbers, slices, None and an ellipsis only, so far: not by a mask or a list of places"
            )
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
            f"(got {type(index).__name__})"
        )
    number, size = index.__index__(), view.shape[dim]
    if not -size <= number < size:
        raise IndexError(f"index {number} is out of bounds for dimension {place} with size {size}")
    return view._select(dim, number)
