"""What a notebook shows of a module: its layers, with shapes and cost."""

from __future__ import annotations

import html

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fonio.nn.module import Module

_HEADS = ("layer", "", "weight", "parameters", "input", "output", "multiply-adds")


def module_html(module: Module) -> str:
    """A table with a row for each layer of the tree that has a cost, and the sums. Sizes are those of the last input."""
    rows = [(path, one, one._cost()) for path, one in module.named_modules() if hasattr(one, "_cost")]
    lines = [_row("th", _HEADS)]
    for path, layer, cost in rows:
        words = (path or type(layer).__name__, repr(layer), cost["weight"], cost["parameters"], cost["input"], cost["output"])
        lines.append(_row("td", (*words, cost["multiply_adds"])))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    known = [cost["multiply_adds"] for _, _, cost in rows if cost["multiply_adds"] is not None]
    total = sum(known) if rows and len(known) == len(rows) else None
    lines.append(_row("th", ("sum", "", "", parameters, "", "", total)))
    return "<table>" + "".join(lines) + "</table>"


def _row(tag: str, words: tuple[object, ...]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_text(word)}</{tag}>" for word in words) + "</tr>"


def _text(word: object) -> str:
    if word is None:
        return ""
    if isinstance(word, int):
        return f"{word:,}"
    return html.escape(" x ".join(map(str, word)) if isinstance(word, tuple) else str(word))
