"""What the library prints is byte for byte what Python prints of torch's tensors."""

import ctypes
import locale
import math
import os
import pathlib
import shutil
import subprocess
import sys
import warnings

import pytest
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parity"))
from fonio_c import DTYPES, Tensor, check, conv2d, last_failure, lib  # noqa: E402

COMPLEX_PARTS = {torch.complex64: torch.float32, torch.complex128: torch.float64, torch.complex32: torch.float16}
libc = ctypes.CDLL(None)


@pytest.fixture(autouse=True)
def torch_defaults():
    """The default options before and after; no warnings that complex32 is experimental."""
    set_both(profile="default")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    set_both(profile="default")


def set_both(**options):
    torch.set_printoptions(**options)
    check(set_options(**options))


def set_options(**options):
    """fonio_set_printoptions with what is given; returns the status."""
    given = lib.printoptions_default()
    for name, value in options.items():
        if value is not None:
            setattr(given, name, value.encode() if name == "profile" else value)
    return lib.set_printoptions_with(ctypes.byref(given))


def options_now():
    """The options in force, as torch has them."""
    now = lib.get_printoptions()
    names = ("precision", "threshold", "edgeitems", "linewidth")
    return {name: getattr(now, name) for name in names} | {"sci_mode": {-1: None, 0: False, 1: True}[now.sci_mode]}


def taken(pointer):
    """A text of the library as str."""
    if not pointer:
        raise last_failure()
    text = ctypes.string_at(pointer).decode()
    lib.text_release(pointer)
    return text


def text_of(tensor, requires_grad=False):
    wrapped = Tensor.wrap(tensor.detach(), requires_grad=requires_grad)
    return taken(lib.tensor_to_text(wrapped.handle))


def assert_prints(tensor, what=""):
    assert text_of(tensor, tensor.requires_grad) == str(tensor), f"{what} {tensor.dtype} {tuple(tensor.shape)} {tensor.stride()}"


# ---- Random tensors ----

SPECIAL = [math.nan, -math.nan, math.inf, -math.inf, 0.0, -0.0]
NEAR_RULES = [1e-4, 9.999e-5, 1.0001e-4, 1e8, 1.00000001e8, 99999999.0, 1000.0, 1.0, 1000.5, 0.99999, 0.00005, 0.5, 1.5, 2.5]
REAL_STYLES = {
    "normal": lambda rng: rng.gauss(0, 1),
    "huge": lambda rng: rng.gauss(0, 1) * 10 ** rng.uniform(5, 12),
    "astronomic": lambda rng: rng.gauss(0, 1) * 10 ** rng.uniform(-300, 300),
    "tiny": lambda rng: rng.gauss(0, 1) * 10 ** rng.uniform(-12, -3),
    "subnormal": lambda rng: rng.gauss(0, 1) * 10 ** rng.uniform(-45, -38),
    "mixed": lambda rng: rng.gauss(0, 1) * 10 ** rng.uniform(-4, 4),
    "whole": lambda rng: float(rng.randint(-300, 300)),
    "large whole": lambda rng: float(rng.randint(-(2**40), 2**40)),
    "halves": lambda rng: rng.randint(-9, 9) / 2 ** rng.randint(1, 8),
    "zeros": lambda rng: rng.choice([0.0, -0.0]),
    "near the rules": lambda rng: rng.choice(NEAR_RULES) * rng.choice([1, -1]),
}


def random_reals(rng, dtype, count):
    if rng.random() < 0.15:
        return torch.frombuffer(bytearray(rng.randbytes(count * dtype.itemsize)), dtype=dtype)
    draw = REAL_STYLES[rng.choice(list(REAL_STYLES))]
    special = rng.choice([0, 0, 0.1, 0.5])
    values = [rng.choice(SPECIAL) if rng.random() < special else draw(rng) for _ in range(count)]
    return torch.tensor(values, dtype=torch.float64).to(dtype)


def random_integers(rng, dtype, count):
    if dtype == torch.bool:
        return torch.tensor([rng.random() < 0.5 for _ in range(count)])
    limits = torch.iinfo(dtype)
    low, high = rng.choice([(limits.min, limits.max), (max(limits.min, -20), 100), (0, 1)])
    return torch.tensor([rng.randint(low, high) for _ in range(count)], dtype=dtype)


def random_elements(rng, dtype, count):
    if dtype.is_complex:
        parts = [random_reals(rng, COMPLEX_PARTS[dtype], count) for _ in range(2)]
        return torch.view_as_complex(torch.stack(parts, 1))
    return random_reals(rng, dtype, count) if dtype.is_floating_point else random_integers(rng, dtype, count)


def random_shape(rng):
    ndim = rng.choice([0, 1, 1, 2, 2, 3, 4, 5, 8])
    most = rng.choice([2, {0: 1, 1: 1100, 2: 36, 3: 11, 4: 6, 5: 4, 8: 2}[ndim]])
    return [rng.randint(0 if rng.random() < 0.03 else 1, most) for _ in range(ndim)]


def random_view(rng, tensor):
    """The same elements in other strides, some left out or repeated."""
    if tensor.ndim > 1 and rng.random() < 0.4:
        tensor = tensor.permute(rng.sample(range(tensor.ndim), tensor.ndim))
    for dim in range(tensor.ndim):
        if rng.random() < 0.1:
            tensor = tensor[(slice(None),) * dim + (slice(rng.randint(0, 1), None, rng.randint(1, 3)),)]
    if 0 < tensor.ndim < 8 and rng.random() < 0.1:
        tensor = tensor.unsqueeze(0).expand(rng.randint(1, 8), *tensor.shape)
    return tensor


def random_tensor(rng):
    dtype, shape = rng.choice(DTYPES), random_shape(rng)
    tensor = random_view(rng, random_elements(rng, dtype, max(math.prod(shape), 1))[: math.prod(shape)].reshape(shape))
    return tensor.requires_grad_() if dtype.is_floating_point and rng.random() < 0.3 else tensor


def test_random_tensors(rng, cases):
    for case in range(cases(4000)):
        assert_prints(random_tensor(rng), case)


def random_options(rng):
    options = {
        "precision": lambda: rng.choice([0, 1, 2, 3, 5, 8, 17, 40]),
        "threshold": lambda: rng.choice([0, 1, 5, 10, 100, 1000.5, math.inf]),
        "edgeitems": lambda: rng.choice([0, 1, 2, 3, 4, 10, 1000]),
        "linewidth": lambda: rng.choice([0, 1, 10, 20, 33, 60, 80, 81, 120, 1000]),
        "profile": lambda: rng.choice(["default", "short", "full", "nonsense"]),
        "sci_mode": lambda: rng.choice([True, False]),
    }
    return {name: draw() for name, draw in options.items() if rng.random() < 0.4}


def test_random_options(rng, cases):
    for case in range(cases(1500)):
        options = random_options(rng)
        set_both(**options)
        assert_prints(random_tensor(rng), f"{case} {options}")
        assert options_now() == torch._tensor_str.get_printoptions()


def test_every_length_of_line(rng):
    """Suffixes and elements around the end of the line."""
    for linewidth in (40, 80):
        set_both(linewidth=linewidth)
        for count in range(0, 30):
            for dtype in (torch.float32, torch.int32, torch.bool, torch.complex64, torch.float64):
                assert_prints(torch.ones(count).to(dtype))
                assert_prints(torch.full((count,), 1.25).to(dtype))
            assert_prints(torch.ones(count, dtype=torch.float64, requires_grad=True))
            assert_prints(torch.ones(1, count, requires_grad=True))
            assert_prints(torch.tensor([10**min(count, 18)]))


def test_around_the_threshold():
    for shape in ((1000,), (1001,), (10, 100), (7, 143), (6, 167), (7, 7, 7, 3), (1001, 1), (1, 1001), (2, 3, 6, 28), (13, 77)):
        assert_prints(torch.arange(math.prod(shape)).reshape(shape))
        assert_prints(torch.arange(math.prod(shape)).reshape(shape) / 7)


def test_borders_of_the_rules():
    """Exactly at the numbers from which on torch prints in scientific notation, and beside them."""
    for border in ([1e-4, 0.05], [0.5, 500], [1e8, 1e7], [1e8, 1e5 + 0.5]):
        for shift in (-1, 0, 1):
            for place in (0, 1):
                values = torch.tensor(border, dtype=torch.float64)
                values[place] *= 1 + shift * 1e-15
                assert_prints(values)
                assert_prints(-values)


def test_only_the_shown_numbers_decide():
    tensor = torch.ones(40, 40)
    tensor[20, 20] = 1e-9
    assert_prints(tensor)
    tensor[0, 0] = 1e-9
    assert_prints(tensor)


def test_empty_tensors():
    for dtype in DTYPES:
        for shape in ((0,), (0, 3), (3, 0), (2, 0, 4), (0, 0), (1, 1, 1, 1, 0)):
            assert_prints(torch.empty(shape, dtype=dtype))
            set_both(edgeitems=0)
            assert_prints(torch.empty(shape, dtype=dtype))
            set_both(profile="default")


def test_histories():
    image = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).reshape(2, 3, 6, 6) / 100
    weight = torch.linspace(-1, 1, 4 * 3 * 3 * 3).reshape(4, 3, 3, 3)
    for linewidth in (80, 60, 30):
        set_both(linewidth=linewidth)
        theirs = torch.nn.functional.conv2d(image, weight.clone().requires_grad_())
        ours = conv2d(Tensor.wrap(image), Tensor.wrap(weight, requires_grad=True))
        assert taken(lib.tensor_to_text(ours.handle)).split("grad_fn")[1] == str(theirs).split("grad_fn")[1]


def test_sizes():
    for shape in ((), (0,), (5,), (1, 64, 4, 4), (2, 0, 3)):
        tensor = torch.zeros(shape)
        wrapped = Tensor.wrap(tensor)
        assert taken(lib.tensor_size_to_text(wrapped.handle)) == str(tensor.shape)


def test_print_writes_to_stdout(capfd):
    tensor = torch.arange(30).reshape(5, 6) / 3
    wrapped = Tensor.wrap(tensor, requires_grad=True)
    check(lib.print(wrapped.handle))
    libc.fflush(None)
    assert capfd.readouterr().out == f"{tensor.requires_grad_()}\n"


def test_print_tells_of_a_full_disk():
    program = """
import ctypes, torch
from fonio_c import Tensor, lib, last_failure
libc = ctypes.CDLL(None)
libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, 2, 0)
wrapped = Tensor.wrap(torch.ones(2))
assert lib.print(wrapped.handle) == 8
assert str(last_failure()) == "stdout does not take the text: No space left on device", last_failure()
"""
    path = pathlib.Path(__file__).resolve().parent.parent / "parity"
    with open("/dev/full", "w") as full:
        subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(path)}, stdout=full, check=True)


@pytest.fixture
def decimal_comma(tmp_path):
    """A locale with a decimal comma, in force."""
    if not shutil.which("localedef"):
        pytest.skip("localedef is missing")
    source = tmp_path / "source"
    source.write_text('LC_NUMERIC\ndecimal_point ","\nthousands_sep "."\ngrouping 3;3\nEND LC_NUMERIC\n')
    subprocess.run(
        ["localedef", "-c", "-i", source, "-f", "ANSI_X3.4-1968", tmp_path / "xx_XX"], capture_output=True
    )  # it warns of all the other categories, and then exits with 1
    before, os.environ["LOCPATH"] = os.environ.get("LOCPATH"), str(tmp_path)
    locale.setlocale(locale.LC_NUMERIC, "xx_XX")
    yield
    locale.setlocale(locale.LC_NUMERIC, "C")
    del os.environ["LOCPATH"]
    if before is not None:
        os.environ["LOCPATH"] = before


def test_a_decimal_comma_changes_nothing(decimal_comma, rng, cases):
    assert locale.localeconv()["decimal_point"] == ","
    text = ctypes.create_string_buffer(16)
    libc.snprintf(text, ctypes.c_size_t(16), b"%.1f", ctypes.c_double(1.5))
    assert text.value == b"1,5"
    for case in range(cases(200)):
        set_both(**random_options(rng))
        assert_prints(random_tensor(rng), case)
    wrapped = Tensor.wrap(torch.zeros(1))
    assert lib.tensor_uniform(wrapped.handle, 0.75, 0.5) != 0
    assert "found from=0.75 > to=0.5" in str(last_failure())


@pytest.mark.parametrize(
    "options",
    [
        {"precision": -2},
        {"precision": 1001},
        {"threshold": math.nan},
        {"threshold": -2.0},
        {"edgeitems": -2},
        {"linewidth": -5},
        {"sci_mode": 2},
        {"sci_mode": -2},
        {"struct_bytes": 8},
        {"precision": 2, "linewidth": -5},
    ],
    ids=str,
)
def test_bad_options_change_nothing(options):
    before = options_now()
    assert set_options(**options) == 2
    assert str(last_failure())
    assert options_now() == before


def test_options_can_be_put_back():
    set_both(precision=7, threshold=3, edgeitems=1, linewidth=50, sci_mode=True)
    kept = lib.get_printoptions()
    set_both(profile="full")
    check(lib.set_printoptions_with(ctypes.byref(kept)))
    torch.set_printoptions(precision=7, threshold=3, edgeitems=1, linewidth=50, sci_mode=True)
    assert_prints(torch.arange(20.0).reshape(4, 5))


def test_highest_precision():
    set_both(precision=1000)
    for value in (math.pi, 1e300, -1.7e308, 5e-324, -1e-300):
        for sci_mode in (None, True, False):
            set_both(sci_mode=sci_mode)
            assert_prints(torch.tensor([value, 0.5], dtype=torch.float64))
