"""Programs that run under torch and, with nothing changed but the imports, under fonio."""

import contextlib
import io
import re
import textwrap
import warnings

import torch

import fonio


def output_of(library, program, names):
    """What a program prints; an exception that it ends with is printed, too."""
    output = io.StringIO()
    scope = {"torch": library, "nn": library.nn, **names}
    with contextlib.redirect_stdout(output), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(textwrap.dedent(program), scope)
        except Exception as error:
            print(type(error).__name__, *error.args)
    return output.getvalue()


def without_addresses(text):
    return re.sub(r" at 0x[0-9a-f]+>", ">", text)


def both(program, **names):
    """Asserts that both print the same, and returns it."""
    theirs = without_addresses(output_of(torch, program, names))
    ours = without_addresses(output_of(fonio, program, names))
    assert ours == theirs, program
    return ours


def each_line(program, **names):
    """The lines of a program, each of which is evaluated and printed by itself."""
    for line in textwrap.dedent(program).strip().split("\n"):
        both(f"print({line.strip()})", **names)
