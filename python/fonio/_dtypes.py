"""Dtypes and sizes, named and printed as torch's."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class dtype:
    """torch.dtype: the kind of a tensor's elements. The dtypes are attributes of the package: fonio.float32, ..."""

    __slots__ = ("_name", "_number", "is_complex", "is_floating_point", "itemsize")
    is_complex: bool
    is_floating_point: bool
    itemsize: int

    def __init__(self, name: str, number: int, itemsize: int) -> None:
        self._name = name
        self._number = number
        self.itemsize = itemsize
        self.is_complex = name.startswith("complex")
        self.is_floating_point = name.startswith(("float", "bfloat"))

    def __repr__(self) -> str:
        return f"torch.{self._name}"

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return _by_number, (self._number,)


class Size(tuple[int, ...]):
    """torch.Size: a tuple of sizes, which prints as torch's does."""

    def numel(self) -> int:
        """The number of elements of a tensor of this size."""
        product = 1
        for size in self:
            product *= size
        return product

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(repr, self))}])"

    def __getitem__(self, index: Any) -> Any:
        found = tuple.__getitem__(self, index)
        return Size(found) if isinstance(index, slice) else found

    def __add__(self, other: Any) -> Size:  # type: ignore[override]
        return Size(tuple.__add__(self, other))

    def __radd__(self, other: Any) -> Size:
        return Size(tuple.__add__(other, self))


def _by_number(number: int) -> dtype:
    return DTYPES[number]


# In the order of the library's numbers.
DTYPES = tuple(
    dtype(name, number, itemsize)
    for number, (name, itemsize) in enumerate(
        (
            ("float32", 4),
            ("float64", 8),
            ("float16", 2),
            ("bfloat16", 2),
            ("complex64", 8),
            ("complex128", 16),
            ("complex32", 4),
            ("int8", 1),
            ("int16", 2),
            ("int32", 4),
            ("int64", 8),
            ("uint8", 1),
            ("uint16", 2),
            ("uint32", 4),
            ("uint64", 8),
            ("bool", 1),
            ("float8_e4m3fn", 1),
            ("float8_e5m2", 1),
        )
    )
)

float32: dtype
float64: dtype
float16: dtype
bfloat16: dtype
complex64: dtype
complex128: dtype
complex32: dtype
int8: dtype
int16: dtype
int32: dtype
int64: dtype
uint8: dtype
uint16: dtype
uint32: dtype
uint64: dtype
bool_: dtype
float8_e4m3fn: dtype
float8_e5m2: dtype
(float32, float64, float16, bfloat16, complex64, complex128, complex32, int8, int16, int32, int64) = DTYPES[:11]
(uint8, uint16, uint32, uint64, bool_, float8_e4m3fn, float8_e5m2) = DTYPES[11:]
