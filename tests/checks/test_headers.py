"""Every public header compiles alone, in C and in C++, without a warning."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADERS = sorted(path.relative_to(ROOT / "include").as_posix() for path in (ROOT / "include").rglob("*.h"))
COMPILERS = [f"{compiler} -std={standard}" for compiler in ("gcc", "clang") for standard in ("c99", "c11", "c17")]
COMPILERS += [f"{compiler} -std={standard}" for compiler in ("g++", "clang++") for standard in ("c++17", "c++20")]
WARNINGS = "-Wall -Wextra -Wpedantic -Wshadow -Wundef -Werror -fsyntax-only"


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("header", HEADERS)
def test_header_compiles_alone(header, compiler, tmp_path):
    # Twice, so that a missing include guard shows; the declaration is because C forbids an empty file.
    source = tmp_path / ("alone.cc" if "++" in compiler else "alone.c")
    source.write_text(f"#include <{header}>\n#include <{header}>\nextern int fonio_alone;\n")
    command = [*compiler.split(), *WARNINGS.split(), f"-I{ROOT}/include", str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("header", HEADERS)
def test_header_defines_only_its_own_names(header):
    """Macros of ours start with FONIO_ or fonio_."""
    text = (ROOT / "include" / header).read_text()
    names = [line.split()[1].split("(")[0] for line in text.splitlines() if line.startswith("#define ")]
    assert [name for name in names if not name.startswith(("FONIO_", "fonio_"))] == []
