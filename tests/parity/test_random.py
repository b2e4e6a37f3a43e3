"""Random numbers are torch's: the same bits, after the same number of draws, from every mixture of calls."""

import os
import subprocess
import sys
import warnings

import pytest
import torch

from fonio_c import DTYPES, Tensor, WARNING, check, int64s, last_failure, lib

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="torch's own bits differ without AVX2"
)

REAL = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
COMPLEX = [torch.complex64, torch.complex128, torch.complex32]
WHOLE = [dtype for dtype in DTYPES if not dtype.is_floating_point and not dtype.is_complex]
SEEDS = [0, 1, 5489, 2**31, 2**32 - 1, 2**32, 2**40 + 7, 2**63, 2**64 - 1, -1, -12345, -(2**63)]


@pytest.fixture(autouse=True)
def quiet():
    """torch warns that complex32 is experimental, and of float ranges beyond its precision."""
    silent = WARNING(lambda message, user: None)
    lib.set_warning_handler(silent, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    lib.set_warning_handler(WARNING(), None)


def seed_both(seed):
    torch.manual_seed(seed)
    lib.manual_seed(seed % 2**64)


def random_seed(rng):
    return rng.choice([rng.choice(SEEDS), rng.randrange(-(2**63), 2**64)])


def assert_same(ours, theirs, what=""):
    """The same dtype, shape, strides and bits."""
    assert (ours.dtype, ours.shape, ours.stride()) == (theirs.dtype, theirs.shape, theirs.stride()), what
    ours, theirs = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (ours, theirs))
    assert torch.equal(ours, theirs), what


def random_shape(rng, most=300):
    shape, room = [], rng.randint(1, most)
    for _ in range(rng.randint(0, 4)):
        shape.append(rng.randint(1, max(1, min(room, 20))))
        room //= shape[-1]
    return tuple(shape + [rng.randint(0, room)] if rng.random() < 0.8 else shape)


def random_view(rng, base):
    """A view of `base` with its dimensions in another order, and gaps."""
    view = base
    if view.ndim > 1 and rng.random() < 0.7:
        view = view.permute(rng.sample(range(view.ndim), view.ndim))
    for dim in range(view.ndim):
        if rng.random() < 0.3:
            view = view[(slice(None),) * dim + (slice(rng.randint(0, 1), None, rng.randint(1, 3)),)]
    if rng.random() < 0.2:
        view = view.unsqueeze(rng.randint(0, view.ndim))
    return view


def random_targets(rng, dtype):
    """Two equal storages, and the same view of each."""
    theirs = torch.zeros(random_shape(rng), dtype=dtype)
    ours = theirs.clone()
    if rng.random() < 0.5:
        return ours, theirs, ours, theirs
    view = random_view(rng, theirs)
    return ours, theirs, ours.as_strided(view.shape, view.stride(), view.storage_offset()), view


def fill(kind, tensor, a, b):
    """fonio_tensor_<kind>(tensor, a, b) on a torch tensor's memory."""
    wrapped = Tensor.wrap(tensor)
    check(getattr(lib, "tensor_" + kind)(wrapped.handle, a, b))


# ---- Kinds of calls: each makes the same random call on both sides and compares ----


def call_rand(rng):
    dtype, shape = rng.choice(REAL + COMPLEX), random_shape(rng)
    ours = Tensor(lib.tensor_rand(DTYPES.index(dtype), len(shape), int64s(shape)))
    assert_same(ours.torch(), torch.rand(shape, dtype=dtype), f"rand({shape}, {dtype})")


def call_randn(rng):
    dtype, shape = rng.choice(REAL + COMPLEX), random_shape(rng)
    ours = Tensor(lib.tensor_randn(DTYPES.index(dtype), len(shape), int64s(shape)))
    assert_same(ours.torch(), torch.randn(shape, dtype=dtype), f"randn({shape}, {dtype})")


def random_range(rng, dtype):
    if dtype.is_floating_point:
        most = {torch.float16: 65504, torch.bfloat16: 2**40}.get(dtype, 2**62)
        low, high = -most, most
    else:
        low, high = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
        high = min(high, 2**63 - 2)
    reach = rng.choice([1, 10, 2**27, 2**28, 2**29, 2**33, 2**64])
    low = rng.randint(max(low, -reach), high)
    return low, rng.randint(low, min(high, low + reach)) + 1


def call_randint(rng):
    dtype, shape = rng.choice(REAL + WHOLE), random_shape(rng)
    low, high = random_range(rng, dtype)
    what = f"randint({low}, {high}, {shape}, {dtype})"
    try:
        theirs = torch.randint(low, high, shape, dtype=dtype)
    except RuntimeError as error:  # a range that rounding makes empty
        assert not lib.tensor_randint(DTYPES.index(dtype), low, high, len(shape), int64s(shape)), what
        assert str(last_failure()) == str(error), what
        return
    assert_same(Tensor(lib.tensor_randint(DTYPES.index(dtype), low, high, len(shape), int64s(shape))).torch(), theirs, what)


def call_randperm(rng):
    dtype = rng.choice(REAL + [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8])
    count = rng.choice([0, 1, 2, 100, rng.randint(3, 127)])
    ours = Tensor(lib.tensor_randperm(DTYPES.index(dtype), count))
    assert_same(ours.torch(), torch.randperm(count, dtype=dtype), f"randperm({count}, {dtype})")


def call_uniform(rng):
    dtype = rng.choice(REAL + COMPLEX)
    low, high = sorted(rng.choice([0, 1, rng.gauss(0, 1), rng.gauss(0, 1e4), 1e-7 * rng.random()]) for _ in range(2))
    if rng.random() < 0.2:  # hardly any room between the bounds: many results are rounded to the upper one
        high = low + abs(low) * 2.0 ** rng.choice([-7, -10, -22, -23, -24, -51, -52])
    base, their_base, ours, theirs = random_targets(rng, dtype)
    fill("uniform", ours, low, high)
    theirs.uniform_(low, high)
    assert_same(base, their_base, f"uniform_({low}, {high}) {dtype} {theirs.shape} {theirs.stride()}")


def call_normal(rng):
    dtype = rng.choice(REAL + COMPLEX)
    mean, std = rng.choice([0, rng.gauss(0, 10)]), rng.choice([0, 1, 10 ** rng.uniform(-5, 3)])
    base, their_base, ours, theirs = random_targets(rng, dtype)
    fill("normal", ours, mean, std)
    theirs.normal_(mean, std)
    assert_same(base, their_base, f"normal_({mean}, {std}) {dtype} {theirs.shape} {theirs.stride()}")


def call_random(rng):
    dtype = rng.choice(WHOLE)
    low, high = random_range(rng, dtype)
    base, their_base, ours, theirs = random_targets(rng, dtype)
    fill("random", ours, low, high)
    theirs.random_(low, high)
    assert_same(base, their_base, f"random_({low}, {high}) {dtype} {theirs.shape} {theirs.stride()}")


EXACT = [call_rand, call_randint, call_randperm, call_uniform, call_random]


def test_sequences_stay_in_step(rng, cases):
    for _ in range(cases(150)):
        seed_both(random_seed(rng))
        for _ in range(rng.randint(1, 20)):
            rng.choice(EXACT + [call_randn, call_normal])(rng)


def test_uniform_bits(rng, cases):
    """Also run where libm has no fused multiply-add of the processor's."""
    for _ in range(cases(400)):
        seed_both(random_seed(rng))
        rng.choice(EXACT)(rng)


def test_vector_normal_bits(rng, cases):
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.complex64):
        for _ in range(cases(50)):
            seed_both(random_seed(rng))
            shape = (rng.choice([16, 17, 31, 32, rng.randint(16, 1000)]),)
            for _ in range(2):
                ours = Tensor(lib.tensor_randn(DTYPES.index(dtype), 1, int64s(shape)))
                assert_same(ours.torch(), torch.randn(shape, dtype=dtype), f"randn({shape}, {dtype})")


@pytest.mark.parametrize("settings", [{"FONIO_ISA": "scalar"}, {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-FMA4"}])
def test_bits_on_lesser_processors(settings, request):
    if "FONIO_TEST_INNER" in os.environ:
        pytest.skip("runs the tests of this file from outside")
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", "bits", f"--seed={request.config.option.seed}"]
    result = subprocess.run(
        command, env={**os.environ, **settings, "FONIO_TEST_INNER": "1"}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


def test_every_seed(rng, cases):
    for seed in SEEDS + [random_seed(rng) for _ in range(cases(200))]:
        seed_both(seed)
        assert lib.initial_seed() == torch.initial_seed()
        call_rand(rng)


def test_large_tensors_and_many_states(rng):
    """Several times the 624 words of the generator's state, and the last sixteen drawn anew."""
    for count in (624, 625, 10007, 100000):
        seed_both(random_seed(rng))
        for dtype in REAL:
            for name in ("rand", "randn"):
                ours = Tensor(getattr(lib, f"tensor_{name}")(DTYPES.index(dtype), 1, int64s([count])))
                assert_same(ours.torch(), getattr(torch, name)(count, dtype=dtype), f"{name}({count}, {dtype})")


def test_second_normal_waits_for_the_next_call():
    seed_both(3)
    for dtype in (torch.float32, torch.float64, torch.float16, torch.float32, torch.complex64):
        ours = Tensor(lib.tensor_randn(DTYPES.index(dtype), 1, int64s([3])))
        assert_same(ours.torch(), torch.randn(3, dtype=dtype))
    seed_both(4)  # which also forgets it
    ours = Tensor(lib.tensor_randn(0, 1, int64s([1])))
    assert_same(ours.torch(), torch.randn(1))


def test_channels_last_is_filled_in_the_order_of_memory(rng):
    for kind in ("uniform", "normal"):
        seed_both(11)
        theirs = torch.zeros(2, 3, 5, 4).contiguous(memory_format=torch.channels_last)
        ours = theirs.clone(memory_format=torch.preserve_format)
        fill(kind, ours, 0, 1)
        getattr(theirs, f"{kind}_")(0, 1)
        assert_same(ours, theirs, kind)


def test_overlapping_windows(rng, cases):
    """Strides that let elements share memory, as sliding windows do: the last write stays, so the order shows."""
    for _ in range(cases(100)):
        shape = [rng.randint(1, 5) for _ in range(rng.randint(1, 4))]
        strides = [rng.randint(1, 4) for _ in shape]
        seed_both(random_seed(rng))
        ours, theirs = torch.zeros(100), torch.zeros(100)
        fill("uniform", ours.as_strided(shape, strides), 0, 1)
        theirs.as_strided(shape, strides).uniform_()
        assert_same(ours, theirs, f"{shape} {strides}")


def test_own_generators(rng):
    ours, theirs = lib.generator_new(), torch.Generator()
    try:
        assert lib.generator_initial_seed(ours) == theirs.initial_seed() == 67280421310721
        for _ in range(20):
            count = rng.randint(1, 40)
            if rng.random() < 0.3:
                seed = random_seed(rng)
                theirs.manual_seed(seed)
                check(lib.generator_manual_seed(ours, seed % 2**64))
            assert lib.generator_initial_seed(ours) == theirs.initial_seed()
            torch.rand(3)  # the default generator is another one
            mine, other = torch.zeros(count), torch.zeros(count)
            wrapped = Tensor.wrap(mine)
            check(lib.generator_uniform(ours, wrapped.handle, -1, 1))
            assert_same(mine, other.uniform_(-1, 1, generator=theirs))
            check(lib.generator_normal(ours, wrapped.handle, 2, 3))
            assert_same(mine, other.normal_(2, 3, generator=theirs))
            check(lib.generator_random(ours, wrapped.handle, 5, 70))
            assert_same(mine, other.random_(5, 70, generator=theirs))
            permuted = Tensor(lib.generator_randperm(ours, DTYPES.index(torch.int64), count))
            assert_same(permuted.torch(), torch.randperm(count, generator=theirs))
        chosen = lib.generator_seed(ours)
        assert lib.generator_initial_seed(ours) == chosen != lib.generator_seed(ours)
    finally:
        lib.generator_release(ours)


def test_default_generator():
    default = lib.generator_default()
    lib.manual_seed(42)
    assert lib.generator_initial_seed(default) == lib.initial_seed() == 42
    chosen = lib.seed()
    assert lib.initial_seed() == chosen
    lib.generator_release(default)  # does nothing
    assert lib.initial_seed() == chosen


# ---- Failures ----


def empty(dtype, *shape):
    return torch.empty(shape, dtype=dtype)


NAN, INF = float("nan"), float("inf")
IN_PLACE = [
    *(("uniform", dtype, 0, 1) for dtype in DTYPES),
    *(("normal", dtype, 0, 1) for dtype in DTYPES),
    *(("random", dtype, 0, 2) for dtype in DTYPES),
    *(("random", dtype, -1, 2) for dtype in DTYPES),
    *(("random", dtype, 0, 300) for dtype in DTYPES),
    *(("random", dtype, 0, 100000) for dtype in DTYPES),
    *(("random", dtype, 0, 2**40) for dtype in DTYPES),
    *(("random", dtype, -(2**63), 2**63 - 1) for dtype in DTYPES),
    *(("random", dtype, 3, 3) for dtype in DTYPES),
    *(("random", dtype, 2**24 + 1, 2**24 + 2) for dtype in DTYPES),
    ("random", torch.float32, 2**60 + 2**36 + 1, 2**60 + 2**36 + 2),  # rounds up, unless by way of double
    *(("random", torch.float16, low, high) for low, high in ((65503, 65504), (70000, 80000), (2049, 2050), (-70000, 5))),
    *(("uniform", dtype, low, high) for dtype in REAL for low, high in ((2, 1), (NAN, 1), (0, NAN), (INF, 1), (0, -INF))),
    *(("uniform", dtype, -x, x) for dtype in REAL for x in (4e4, 3e38, 1e39, 1.2e308, 65504, 65505)),
    *(("uniform", torch.float32, low, high) for low, high in ((0.1, 1e-7), (123456789, 1.5), (1e6, 0), (0.30000001, 0.3))),
    *(("normal", dtype, 0, std) for dtype in (torch.float32, torch.int32) for std in (-1, NAN, -1e-9, -INF, INF, 0)),
    *(("normal", torch.float32, mean, 1) for mean in (NAN, INF, -1e300)),
]


@pytest.mark.parametrize("shape", [(3,), (0,), (20,), "expanded"], ids=str)
def test_in_place_failures(shape):
    """The exception and text of torch; and what comes next stays in step."""
    seed_both(8)
    for kind, dtype, a, b in IN_PLACE:
        theirs = empty(dtype, 1).expand(3) if shape == "expanded" else torch.zeros(shape).to(dtype)
        ours = theirs.clone() if shape != "expanded" else empty(dtype, 1).expand(3)
        what = f"{kind}({dtype}, {a}, {b})"
        try:
            getattr(theirs, kind + "_")(a, b)
        except (RuntimeError, NotImplementedError) as error:
            with pytest.raises(type(error)) as failure:
                fill(kind, ours, a, b)
            assert str(failure.value) == str(error), what
        else:
            fill(kind, ours, a, b)
        if shape != "expanded":
            assert_same(ours, theirs, what)


def test_creation_failures():
    for dtype in DTYPES:
        for name, arguments in (("rand", ()), ("randn", ()), ("randint", (0, 2))):
            for shape in ((2,), (0,), (-1,), (3, -2)):
                what = f"{name}({arguments}, {shape}, {dtype})"
                seed_both(9)
                try:
                    theirs = getattr(torch, name)(*arguments, shape, dtype=dtype)
                except (RuntimeError, NotImplementedError) as error:
                    made = getattr(lib, "tensor_" + name)(DTYPES.index(dtype), *arguments, len(shape), int64s(shape))
                    assert not made, what
                    failure = last_failure()
                    assert (type(failure), str(failure)) == (type(error), str(error)), what
                else:
                    made = getattr(lib, "tensor_" + name)(DTYPES.index(dtype), *arguments, len(shape), int64s(shape))
                    assert_same(Tensor(made).torch(), theirs, what)


def test_randperm_failures():
    for dtype in DTYPES:
        for count in (-1, 0, 2, 128, 129, 256, 257, 2049, 2050, 32768, 32769, 65505, 65506, 65536, 65537, 2**24 + 2):
            what = f"randperm({count}, {dtype})"
            seed_both(10)
            try:
                theirs = torch.randperm(count, dtype=dtype)
            except (RuntimeError, NotImplementedError) as error:
                assert not lib.tensor_randperm(DTYPES.index(dtype), count), what
                failure = last_failure()
                assert (type(failure), str(failure)) == (type(error), str(error)), what
            else:
                assert_same(Tensor(lib.tensor_randperm(DTYPES.index(dtype), count)).torch(), theirs, what)


def test_warnings_of_precision():
    seen = []
    handler = WARNING(lambda message, user: seen.append(message.decode()))
    lib.set_warning_handler(handler, None)
    for dtype, low, high in ((torch.float32, -(2**24) - 3, 2**24 + 3), (torch.float16, 0, 3000), (torch.float64, 0, 2**60)):
        with warnings.catch_warnings(record=True) as theirs:
            warnings.simplefilter("always")
            torch.randint(low, high, (2,), dtype=dtype)
        Tensor(lib.tensor_randint(DTYPES.index(dtype), low, high, 1, int64s([2])))
        assert [text.split(" (Triggered")[0] for text in (str(warning.message) for warning in theirs)] == seen
        seen.clear()
