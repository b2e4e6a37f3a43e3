"""What this build is, and how it is set."""

from __future__ import annotations

from fonio import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def configuration() -> dict[str, object]:
    """Version, instruction set, threads, accuracy and algorithms, by name."""
    config = _core.config()
    return {
        "version": _core.version,
        "instruction set": config["isa"],
        "threads": _core.get_num_threads(),
        "accuracy": _core.get_accuracy(),
        "algorithms": config["algorithms"],
    }


def show_config() -> None:
    """Prints what this build is and how it is set: its version, the instruction set in use (FONIO_ISA may lower it), the
    number of threads, the accuracy, and the algorithms."""
    for name, value in configuration().items():
        print(f"{name + ':':17}{', '.join(value) if isinstance(value, list) else value}")


def explain(input: Any, *arguments: Any, **keywords: Any) -> str:
    """How a convolution would be computed, and why: the algorithms with what each is expected to cost, and the one that
    is taken. A text for people: its words may change. Nothing is computed.

    explain(layer, shape): a Conv2d of fonio.nn, fonio.torch or torch.nn that keeps its weight, and an input of this
    shape, (N, C, H, W) or (C, H, W).

    explain(input, weight, ...): the arguments of conv2d.

    explain("n1c64h56w56k64r3s3p1"): a problem string.
    """
    if hasattr(input, "kernel_size") and hasattr(input, "weight"):
        return _explain_layer(input, *arguments, **keywords)
    return _core.explain(input, *arguments, **keywords)


def _explain_layer(layer: Any, shape: Sequence[int]) -> str:
    import fonio

    if getattr(layer, "transposed", False):
        raise TypeError(f"explain: a {type(layer).__name__} is not computed by Fonio, but a Conv2d")

    dtype = getattr(fonio, str(layer.weight.dtype).removeprefix("torch."))
    geometry = layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode
    return _core.explain_layer(fonio.empty(*shape, dtype=dtype), layer.weight, layer.bias, geometry, None, _core.keep())
