"""Initialisation draws what torch draws: the layers' own, and torch.nn.init."""

import ctypes
import os
import pathlib
import subprocess
import sys
import warnings

import nn_c
import pytest
import torch
from fonio_c import DTYPES, Tensor, check, lib
from nn_draw import digest
from torch import nn

WORKER = pathlib.Path(__file__).with_name("nn_draw.py")

# ---- Layers ----


def draw_layer(rng):
    groups = rng.choice([1, 1, 1, 2, 3, 4])
    inputs, outputs = groups * rng.randint(1, 24 // groups), groups * rng.randint(1, 24 // groups)
    if rng.random() < 0.02:
        inputs, outputs = groups * 700, groups
    return rng.randrange(2**64), inputs, outputs, rng.randint(1, 7), rng.randint(1, 7), groups, rng.random() < 0.8


def torch_digest(line):
    *numbers, dtype = line.split()
    seed, inputs, outputs, height, width, groups, bias = map(int, numbers)
    torch.manual_seed(seed)
    layer = nn.Conv2d(inputs, outputs, (height, width), groups=groups, bias=bool(bias), dtype=getattr(torch, dtype))
    return digest([*layer.state_dict().values(), torch.rand(1)])


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_layers_are_drawn_bit_for_bit(isa, rng, cases):
    lines = []
    for _ in range(cases(500)):
        numbers = " ".join(str(int(number)) for number in draw_layer(rng))
        lines += [f"{numbers} float32", f"{numbers} float64"]
    # fan_in 3433 is one of the few where another order of the formula gives other bounds.
    lines += [f"1 3433 2 1 1 1 1 {dtype}" for dtype in ("float32", "float64", "float16", "bfloat16")]
    environment = os.environ | {"FONIO_ISA": isa}
    command = [sys.executable, str(WORKER)]
    result = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    used, *digests = result.stdout.split()
    if used != isa:
        pytest.skip(f"no {isa} here, but {used}")
    wrong = [line for line, ours in zip(lines, digests, strict=True) if ours != torch_digest(line)]
    assert wrong == []


def test_without_elements(rng):
    for arguments in [(0, 4, 3), (4, 0, 3), (4, 4, (0, 3)), (0, 0, 0)]:
        seed = rng.randrange(2**64)
        torch.manual_seed(seed)
        lib.manual_seed(seed)
        with warnings.catch_warnings(record=True) as caught, nn_c.warnings_caught() as ours:
            warnings.simplefilter("always")
            expected = nn.Conv2d(*arguments).state_dict()
            layer = nn_c.Conv2d(*arguments).state_dict()
        assert ours == [str(one.message) for one in caught] == ["Initializing zero-element tensors is a no-op"]
        assert digest(layer.values()) == digest(expected.values())
        assert digest([Tensor(lib.tensor_rand(0, 1, nn_c.int64s([1]))).torch()]) == digest([torch.rand(1)])


def test_reset_parameters_of_a_channels_last_weight(seed):
    theirs = nn.Conv2d(5, 6, 3).to(memory_format=torch.channels_last)
    ours = nn_c.Conv2d(5, 6, 3)
    strided = Tensor.wrap(torch.empty(6, 5, 3, 3).to(memory_format=torch.channels_last))
    parameter = nn_c.parameter_of(strided)
    check(lib.conv2d_set_weight(ours.handle, parameter.handle))
    torch.manual_seed(seed)
    lib.manual_seed(seed)
    theirs.reset_parameters()
    check(lib.conv2d_reset_parameters(ours.handle))
    assert ours.parameter("weight").stride() == theirs.weight.stride()
    assert digest(ours.state_dict().values()) == digest(theirs.state_dict().values())


def test_lazy_layers_draw_at_their_first_input(seed, rng):
    for input in (torch.ones(2, 6, 8, 9), torch.ones(3, 8, 9)):
        theirs, ours = nn.LazyConv2d(9, 3, groups=3), nn_c.LazyConv2d(9, 3, groups=3)
        assert str(ours) == str(theirs) == "LazyConv2d(0, 9, kernel_size=(3, 3), stride=(1, 1), groups=3)"
        torch.manual_seed(seed)
        lib.manual_seed(seed)
        expected = theirs(input)
        result = ours(input)
        assert str(ours) == str(theirs)
        assert digest(ours.state_dict().values()) == digest(theirs.state_dict().values())
        torch.testing.assert_close(result.torch(), expected)


@pytest.mark.parametrize("shape", [(2,), (2, 4), (1, 1, 1, 1, 1), ()])
def test_lazy_layers_refuse_other_ranks(shape):
    with pytest.raises(RuntimeError) as theirs:
        nn.LazyConv2d(3, 3)(torch.ones(shape))
    with pytest.raises(RuntimeError) as ours:
        nn_c.LazyConv2d(3, 3)(torch.ones(shape))
    assert str(ours.value) == str(theirs.value)


def test_lazy_layers_check_groups():
    for arguments, channels in [(dict(out_channels=4, kernel_size=3, groups=3), 3), (dict(out_channels=3, kernel_size=1, groups=3), 2)]:
        with pytest.raises((RuntimeError, ValueError)) as theirs:
            nn.LazyConv2d(**arguments)(torch.ones(1, channels, 4, 4))
        with pytest.raises(type(theirs.value)) as ours:
            nn_c.LazyConv2d(**arguments)(torch.ones(1, channels, 4, 4))
        assert str(ours.value) == str(theirs.value)


# ---- torch.nn.init ----


def bits_or_failure(function, tensor):
    """What `function` did to the torch tensor: its bits and the warnings, or the kind and text of the exception."""
    with warnings.catch_warnings(record=True) as caught, nn_c.warnings_caught() as ours:
        warnings.simplefilter("always")
        try:
            function(tensor)
            result = tensor
        except Exception as error:  # noqa: BLE001: any kind is a result
            kind = ValueError if isinstance(error, ZeroDivisionError) else type(error)
            result = f"{kind.__name__}: {error.args[0]}"
    return result, [str(one.message) for one in caught] + ours


def encoded(text):
    return text.encode() if text is not None else None


def ours_of(name, *arguments):
    def function(tensor):
        wrapped = Tensor.wrap(tensor)
        check(getattr(lib, f"init_{name}")(wrapped.handle, *arguments))

    return function


NONLINEARITIES = ["leaky_relu", "relu", "tanh", "selu", "sigmoid", "linear", "conv2d", "conv_transpose3d", "gelu", ""]


def draw_call(rng):
    """A function of torch.nn.init with its arguments, and ours."""
    number = rng.choice([0.0, 1.0, 0.01, -0.5, 5**0.5, rng.uniform(-3, 3), rng.uniform(0, 1e-3)])
    second = rng.choice([number + abs(rng.gauss(0, 1)), rng.uniform(-3, 3)])
    kind = rng.randrange(8)
    if kind == 0:
        return (lambda t: nn.init.uniform_(t, number, second)), ours_of("uniform", number, second)
    if kind == 1:
        return (lambda t: nn.init.constant_(t, number)), ours_of("constant", number)
    if kind == 2:
        function = rng.choice(["ones", "zeros"])
        return getattr(nn.init, function + "_"), ours_of(function)
    if kind == 3:
        groups = rng.choice([1, 1, 2, 3, 0, -1, -2])
        return (lambda t: nn.init.dirac_(t, groups)), ours_of("dirac", groups)
    if kind == 4:
        return (lambda t: nn.init.xavier_uniform_(t, number)), ours_of("xavier_uniform", number)
    mode = rng.choice(["fan_in", "fan_out", "FAN_In", "fan_in", "fan_sum"])
    name = rng.choice(NONLINEARITIES)
    return (
        lambda t: nn.init.kaiming_uniform_(t, number, mode, name),
        ours_of("kaiming_uniform", number, encoded(mode), encoded(name)),
    )


def draw_tensor(rng):
    shape = [rng.choice([1, 2, 3, 4, 6, 7]) for _ in range(rng.choice([0, 1, 2, 3, 4, 4, 4, 5]))]
    if shape and rng.random() < 0.05:
        shape[rng.randrange(len(shape))] = 0
    dtype = rng.choice([torch.float32, torch.float32, torch.float64, torch.float64, torch.float16, torch.bfloat16])
    tensor = torch.full(shape, 9, dtype=dtype)
    return tensor.transpose(0, -1) if len(shape) > 1 and rng.random() < 0.3 else tensor


def compare(theirs, ours, tensor, seed, same):
    torch.manual_seed(seed)
    lib.manual_seed(seed)
    expected, expected_warnings = bits_or_failure(theirs, tensor.clone())
    result, result_warnings = bits_or_failure(ours, tensor.clone())
    assert result_warnings == expected_warnings
    if isinstance(expected, str) or isinstance(result, str):
        assert result == expected
    else:
        assert same(result, expected)
    return expected if isinstance(expected, str) else "drawn"


def same_bits(result, expected):
    return digest([result]) == digest([expected])


def test_init_bit_for_bit(rng, cases):
    outcomes = set()
    for _ in range(cases(1000)):
        theirs, ours = draw_call(rng)
        outcomes.add(compare(theirs, ours, draw_tensor(rng), rng.randrange(2**64), same_bits))
    assert "drawn" in outcomes and len(outcomes) > 8, outcomes


def close(result, expected):
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)
    return True


def test_normal(rng, cases):
    """Close, because the last bit of normal numbers is the C library's."""
    for _ in range(cases(200)):
        tensor, number = draw_tensor(rng).float(), rng.choice([0.0, 1.0, 0.3, -1.0])
        mode, name = rng.choice(["fan_in", "fan_out"]), rng.choice(NONLINEARITIES)
        theirs, ours = rng.choice(
            [
                ((lambda t: nn.init.normal_(t, 0.5, number)), ours_of("normal", 0.5, number)),
                ((lambda t: nn.init.xavier_normal_(t, number)), ours_of("xavier_normal", number)),
                (
                    (lambda t: nn.init.kaiming_normal_(t, number, mode, name)),
                    ours_of("kaiming_normal", number, encoded(mode), encoded(name)),
                ),
            ]
        )
        compare(theirs, ours, tensor, rng.randrange(2**64), close)


def test_gains(rng, cases):
    for _ in range(cases(1000)):
        name, slope, gain = rng.choice(NONLINEARITIES[:-2]), rng.uniform(-4, 4), ctypes.c_double()
        check(lib.init_calculate_gain(name.encode(), slope, ctypes.byref(gain)))
        assert gain.value == nn.init.calculate_gain(name, slope), (name, slope)


def test_defaults_are_torchs():
    tensor = torch.empty(4, 3, 2, 2)
    compare(nn.init.kaiming_uniform_, ours_of("kaiming_uniform", 0, None, None), tensor, 5, same_bits)


def test_other_dtypes():
    """As torch, whatever that is: some it draws in, some not."""
    for dtype in DTYPES:
        for theirs, ours in [
            (nn.init.kaiming_uniform_, ours_of("kaiming_uniform", 0, None, None)),
            (nn.init.ones_, ours_of("ones")),
            (nn.init.dirac_, ours_of("dirac", 1)),
        ]:
            compare(theirs, ours, torch.zeros(4, 3, 2, 2).to(dtype), 5, same_bits)
