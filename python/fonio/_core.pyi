"""The part of the package that is written in C."""

from collections.abc import Sequence
from typing import Any, TypeVar, overload

from typing_extensions import disjoint_base

_Array = TypeVar("_Array")
_Out = TypeVar("_Out")
_Numbers = int | Sequence[int]

version: str

@disjoint_base
class Tensor:
    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

@overload
def conv2d(
    input: _Array,
    weight: Any,
    bias: Any = None,
    stride: _Numbers = 1,
    padding: _Numbers | str = 0,
    dilation: _Numbers = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: str | tuple[str, Any] | None = None,
    out: None = None,
) -> _Array: ...
@overload
def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: _Numbers = 1,
    padding: _Numbers | str = 0,
    dilation: _Numbers = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: str | tuple[str, Any] | None = None,
    out: _Out,
) -> _Out: ...
def conv2d_input(
    input_size: Sequence[int],
    weight: Any,
    grad_output: _Array,
    stride: _Numbers = 1,
    padding: _Numbers | str = 0,
    dilation: _Numbers = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> _Array: ...
def conv2d_weight(
    input: Any,
    weight_size: Sequence[int],
    grad_output: _Array,
    stride: _Numbers = 1,
    padding: _Numbers | str = 0,
    dilation: _Numbers = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> _Array: ...
def conv2d_backward(
    input: Any,
    weight: Any,
    grad_output: _Array,
    stride: _Numbers = 1,
    padding: _Numbers | str = 0,
    dilation: _Numbers = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    mask: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[_Array | None, _Array | None, _Array | None]: ...
def explain(
    input: Any,
    weight: Any = None,
    bias: Any = None,
    stride: _Numbers = 1,
    padding: _Numbers | str = 0,
    dilation: _Numbers = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: str | tuple[str, Any] | None = None,
    out: Any = None,
) -> str: ...
def plan_count() -> int: ...
def clear_plans() -> None: ...
def live_allocations() -> int: ...
def set_num_threads(num: int, /) -> None: ...
def get_num_threads() -> int: ...
def set_accuracy(accuracy: str | None, /) -> None: ...
def get_accuracy() -> str: ...
def config() -> dict[str, Any]: ...
