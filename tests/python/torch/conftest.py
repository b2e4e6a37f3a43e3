"""What the tests of fonio.torch share."""

import contextlib
import pathlib
import sys

import pytest
import torch

import fonio

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


def _refuse(*_, **__):
    raise AssertionError("a convolution of torch's ran")


@contextlib.contextmanager
def _without_torchs_convolution():
    library = torch.library.Library("aten", "IMPL")
    for name in ("convolution", "convolution_backward"):
        library.impl(name, _refuse, "CPU")
    try:
        yield
    finally:
        library._destroy()


@pytest.fixture
def only_fonio():
    """A context in which every convolution of torch's on the CPU, forward or backward, is a failure."""
    return _without_torchs_convolution


@pytest.fixture(autouse=True)
def quiet_and_seeded(seed):
    """One thread each, a seed of the test's own, and no warning that torch computes something in Fonio's place."""
    torch.set_num_threads(1)
    threads = fonio.get_num_threads()
    fonio.set_num_threads(1)
    torch.manual_seed(seed)
    yield
    fonio.set_num_threads(threads)
