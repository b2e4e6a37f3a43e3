"""nn.Conv2d's constructor: torch's repr, or its exception with its text, whatever the arguments."""

import re
import warnings

import nn_c
import pytest
import torch
from torch import nn

SAME_WITH_STRIDE = "padding='same' is not supported for strided convolutions"


def outcome(make):
    """(repr, warnings) of what was made, or (kind and text of the exception, warnings)."""
    with warnings.catch_warnings(record=True) as caught, nn_c.warnings_caught() as ours:
        warnings.simplefilter("always")
        try:
            result = str(make())
        except Exception as error:  # noqa: BLE001: any kind is a result
            # Python orders the names of a set anew in each run.
            text = re.sub(r"\{.*?\}", lambda names: str(sorted(names[0])), error.args[0])
            result = f"{type(error).__name__}: {text}"
    return result, [str(one.message) for one in caught] + ours


def torch_outcome(arguments):
    """Fonio's rule for `same` with a stride is not torch's: there, as torch would do without the stride."""
    result = outcome(lambda: nn.Conv2d(**arguments))
    if SAME_WITH_STRIDE not in result[0]:
        return result
    text, warned = outcome(lambda: nn.Conv2d(**{**arguments, "stride": 1}))
    stride = arguments["stride"] if isinstance(arguments["stride"], tuple) else (arguments["stride"],) * 2
    return text.replace("stride=(1, 1)", f"stride={stride}"), warned


def draw(rng):
    """Arguments that are mostly good, each with some that are not."""

    def number(good, bad):
        return rng.choice(good if rng.random() < 0.93 else bad)

    def pair(good, bad):
        return number(good, bad) if rng.random() < 0.6 else (number(good, bad), number(good, bad))

    groups = number([1, 1, 1, 2, 3], [0, -1, 5, -(2**63)])
    multiple = groups if 0 < groups < 4 else 1
    arguments = {
        "in_channels": number([multiple, 2 * multiple, 6, 12], [0, -1, -6, 7, 5]),
        "out_channels": number([multiple, 2 * multiple, 6, 12], [0, -1, -6, 7, 5]),
        "kernel_size": pair([1, 2, 3, 4], [0, -1, -3]),
    }
    optional = {
        "stride": pair([1, 2, 3], [0, -1, 2**62]),
        "padding": rng.choice(
            [pair([0, 1, 2], [-1, 2**62]), "same", "valid", number(["same"], ["foo", "", "f'o", 'f"o', "'\"", "f\\o\n\t"])]
        ),
        "dilation": pair([1, 2, 3], [0, -1, 2**62]),
        "groups": groups,
        "bias": rng.random() < 0.7,
        "padding_mode": number(["zeros", "reflect", "replicate", "circular"], ["foo", "", "Zeros", "f'o"]),
        "dtype": number([torch.float32, torch.float64], [torch.float16, torch.int32, torch.bool, torch.complex64]),
    }
    return arguments | {name: value for name, value in optional.items() if name == "groups" or rng.random() < 0.5}


def test_as_torch(rng, cases):
    kinds = set()
    for _ in range(cases(2000)):
        arguments = draw(rng)
        expected = torch_outcome(arguments)
        assert outcome(lambda: nn_c.Conv2d(**arguments)) == expected, arguments
        kinds.add(expected[0].split("(")[0].split(":")[0])
    assert kinds >= {"Conv2d", "ValueError", "RuntimeError"}


@pytest.mark.parametrize(
    "arguments",
    [
        dict(in_channels=2**62, out_channels=1, kernel_size=3),
        dict(in_channels=1, out_channels=2**62, kernel_size=3),
        dict(in_channels=3, out_channels=6, kernel_size=2**40),
        dict(in_channels=0, out_channels=2**62, kernel_size=2**33),
        dict(in_channels=-4, out_channels=-6, kernel_size=3, groups=2),
        dict(in_channels=1, out_channels=1, kernel_size=1, dtype=torch.float8_e5m2),
    ],
)
def test_extremes(arguments):
    assert outcome(lambda: nn_c.Conv2d(**arguments)) == torch_outcome(arguments)


@pytest.mark.parametrize("given", range(4))
def test_missing_arguments(given):
    names = ["in_channels", "out_channels", "kernel_size"]
    arguments = [3, 6, 3][:given]
    options = nn_c.options_of(*arguments[:2], **({"kernel_size": 3} if given == 3 else {}))
    make = lambda: nn_c.Module(nn_c.lib.conv2d_new_with(options))  # noqa: E731
    expected = outcome(lambda: nn.Conv2d(**dict(zip(names, arguments))))
    assert outcome(make) == expected


@pytest.mark.parametrize(
    "arguments, text",
    [
        (dict(stride=0), "non-positive stride is not supported"),
        (dict(stride=(1, -1)), "non-positive stride is not supported"),
        (dict(padding=-1), "negative padding is not supported"),
        (dict(padding=(1, 1, -1, 1)), "negative padding is not supported"),
        (dict(kernel_size=9), "Calculated padded input size per channel: (8 x 8). Kernel size: (9 x 9)."),
        (dict(in_channels=5), "Given groups=1, weight of size [6, 5, 3, 3], expected input[1, 3, 8, 8] to have 5 channels"),
        (dict(dtype=torch.float64), "should be the same"),
        (dict(padding=9, padding_mode="reflect"), "Padding size should be less than the corresponding input dimension"),
    ],
)
def test_what_forward_finds(arguments, text):
    arguments = dict(in_channels=3, out_channels=6, kernel_size=3) | arguments
    failures = []
    layers = [nn_c.Conv2d(**arguments)]
    if not isinstance(arguments.get("padding"), tuple):
        layers.append(nn.Conv2d(**arguments))
    for layer in layers:
        with pytest.raises(RuntimeError) as error:
            layer(torch.ones(1, 3, 8, 8))
        failures.append(str(error.value))
    assert text in failures[0]
    assert len(set(failures)) == 1


LIFTED = [
    (dict(padding="same", stride=2), "stride=(2, 2), padding=same"),
    (dict(padding="same_lower", stride=(1, 2)), "stride=(1, 2), padding=same_lower"),
    (dict(padding="same_lower"), "stride=(1, 1), padding=same_lower"),
    (dict(padding=(1, 0, 2, 3)), "stride=(1, 1), padding=(1, 0, 2, 3)"),
    (dict(padding=(0, 0, 0, 1), dilation=2), "stride=(1, 1), padding=(0, 0, 0, 1), dilation=(2, 2)"),
    (dict(padding=(0, 0, 0, 0)), "stride=(1, 1)"),
]


@pytest.mark.parametrize("arguments, text", LIFTED)
def test_beyond_torch(arguments, text):
    assert str(nn_c.Conv2d(3, 8, 3, **arguments)) == f"Conv2d(3, 8, kernel_size=(3, 3), {text})"


def test_a_name_and_sides():
    options = nn_c.options_of(3, 6, kernel_size=3, padding=(1, 1, 1, 1))
    options.padding_name = b"same"
    with pytest.raises(ValueError, match="padding_name and padding_sides cannot both be given"):
        nn_c.Module(nn_c.lib.conv2d_new_with(options))


def test_lazy_as_torch(rng, cases):
    for _ in range(cases(500)):
        arguments = draw(rng)
        del arguments["in_channels"]
        if arguments.get("padding") != "same":
            assert outcome(lambda: nn_c.LazyConv2d(**arguments)) == outcome(lambda: nn.LazyConv2d(**arguments)), arguments
