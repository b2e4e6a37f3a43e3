"""torch.nn.init: fills a tensor in place, from the same random numbers as torch, and returns it."""

from __future__ import annotations

from fonio import _core
from fonio._tensor import Tensor


def _fill(name: str, tensor: Tensor, a: float, b: float, mode: str | None = None, words: str | None = None) -> Tensor:
    _core.init(name, tensor, a, b, mode, words)
    return tensor


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What a nonlinearity asks the standard deviation of weights to be multiplied with."""
    return _core.calculate_gain(nonlinearity, 0.01 if param is None else param)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b)."""
    return _fill("uniform", tensor, a, b)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal."""
    return _fill("normal", tensor, mean, std)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value."""
    return _fill("constant", tensor, val, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return _fill("constant", tensor, 1, 0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return _fill("constant", tensor, 0, 0)


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Kernels that leave an image as it is."""
    return _fill("dirac", tensor, groups, 0)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform; after Glorot and Bengio (2010)."""
    return _fill("xavier_uniform", tensor, gain, 0)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal; after Glorot and Bengio (2010)."""
    return _fill("xavier_normal", tensor, gain, 0)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Uniform; after He et al. (2015)."""
    return _fill("kaiming_uniform", tensor, a, 0, mode, nonlinearity)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normal; after He et al. (2015)."""
    return _fill("kaiming_normal", tensor, a, 0, mode, nonlinearity)
