"""What every pytest test shares: where the library is, the seed of the random cases, and how many there are."""

import ctypes
import os
import pathlib
import random
import secrets

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY = pathlib.Path(os.environ.get("FONIO_LIBRARY", ROOT / "build" / "libfonio.so"))


def pytest_addoption(parser):
    group = parser.getgroup("fonio")
    group.addoption("--seed", type=int, help="seed of the random cases (default: a new one for each run, printed on top)")
    group.addoption("--scale", type=float, default=1.0, help="multiplies the number of random cases (default: 1)")


def pytest_configure(config):
    if config.option.seed is None:
        config.option.seed = secrets.randbelow(2**32)


def pytest_report_header(config):
    return f"fonio: --seed={config.option.seed} --scale={config.option.scale:g} library: {LIBRARY}"


@pytest.fixture(scope="session")
def root():
    """The folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def library_path():
    """libfonio.so: FONIO_LIBRARY in the environment, or build/libfonio.so."""
    if not LIBRARY.exists():
        pytest.fail(f"{LIBRARY} is missing: run make first", pytrace=False)
    return LIBRARY


@pytest.fixture(scope="session")
def library(library_path):
    """libfonio.so, loaded with ctypes."""
    return ctypes.CDLL(str(library_path))


@pytest.fixture
def seed(request):
    """A seed for this test: the same for the same --seed and test, whatever else runs."""
    return random.Random(f"{request.config.option.seed} {request.node.nodeid}").getrandbits(32)


@pytest.fixture
def rng(seed):
    """A random.Random with this test's seed."""
    return random.Random(seed)


@pytest.fixture(scope="session")
def cases(request):
    """cases(n) is how many random cases to run where n is the usual number: n times --scale, at least 1."""
    return lambda usual: max(1, round(usual * request.config.option.scale))
