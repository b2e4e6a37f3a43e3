"""The tests of the package `fonio`, as it is installed beside them (scripts/test does so). The random problems and the
bounds are those of tests/parity."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parity"))
