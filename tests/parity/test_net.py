"""examples/net.c prints what the article's program prints under torch, byte for byte, for any seed that torch takes."""

import io
import subprocess
from contextlib import redirect_stdout

import pytest
import torch
from torch import nn

SEEDS = [0, 1, 2, 3, 7, 42, 1234, 5489, 65535, 2**31 - 1, 2**31, 2**32 - 1, -1, -12345, -(2**63)]
SEEDS += [2**32, 2**32 + 1, 2**40 + 3, 12345678901234567, 2**63 - 1, 2**63, 2**64 - 1]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv2d = nn.Conv2d(in_channels=3, out_channels=64, kernel_size=4, stride=2, padding=1)

    def forward(self, x):
        print(x.requires_grad)
        x = self.conv2d(x)
        return x


def run_torch(seed):
    output = io.StringIO()
    with redirect_stdout(output):
        torch.manual_seed(seed)
        net = Net()
        print(net)
        print(net.conv2d.weight)
        print(net.conv2d.bias)
        x = torch.rand(1, 3, 8, 8, requires_grad=True)
        y = net(x)
        print(y.shape)
        print(y.dtype)
        y.sum().backward()
        print(net.conv2d.bias.grad)
        print(list(net.state_dict()))
    return output.getvalue()


@pytest.fixture(scope="module")
def program(root):
    path = root / "build" / "examples" / "net"
    if not path.exists():
        pytest.fail(f"{path} is missing: run make first", pytrace=False)
    return path


def run(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_same_bytes_as_torch(program, rng, cases):
    for seed in SEEDS + [rng.randrange(-(2**63), 2**64) for _ in range(cases(10))]:
        result = run(program, seed)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == run_torch(seed), f"seed {seed}"


def test_seed_0_if_none_is_given(program):
    assert run(program).stdout == run(program, 0).stdout == run_torch(0)


@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_same_bytes_on_every_instruction_set(program, isa):
    result = subprocess.run([program, "5"], capture_output=True, text=True, timeout=60, env={"FONIO_ISA": isa})
    assert result.stdout == run_torch(5)


BAD = ["", "x", "1x", "0x10", "1.5", "--", "-", str(2**64), str(-(2**63) - 1), "9" * 40, " ", "1 2"]


@pytest.mark.parametrize("arguments", [[bad] for bad in BAD] + [["1", "2"]])
def test_bad_arguments(program, arguments):
    result = run(program, *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("usage: net [SEED]")
