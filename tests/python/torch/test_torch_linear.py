"""fonio.torch.Linear beside torch.nn.Linear, by itself and where accelerate puts it."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import fonio.torch

pytestmark = pytest.mark.filterwarnings("error:fonio.torch")

SHAPES = [(5, 12), (1, 12), (12,), (2, 3, 12), (2, 3, 4, 12), (0, 12), (2, 0, 12)]


@pytest.fixture
def no_torch(monkeypatch):
    """torch's linear layer is a failure."""

    def refuse(*_):
        raise AssertionError("torch's linear layer ran")

    return lambda: monkeypatch.setattr(nn.functional, "linear", refuse)


def pair(*arguments, **keywords):
    theirs = nn.Linear(*arguments, **keywords)
    mine = fonio.torch.Linear(*arguments, **keywords)
    mine.load_state_dict(theirs.state_dict())
    return mine, theirs


def near(got, expected):
    assert got.shape == expected.shape and got.stride() == expected.stride() and got.dtype == expected.dtype
    tolerance = 1e-5 if got.dtype == torch.float32 else 1e-13
    assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_torchs(shape, bias, dtype):
    mine, theirs = pair(12, 7, bias=bias, dtype=dtype)
    assert repr(mine) == repr(theirs)
    rows, same = (torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    got, expected = mine(rows), theirs(same)
    near(got, expected)
    got.square().sum().backward(), expected.square().sum().backward()
    near(rows.grad, same.grad)
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        near(one.grad, other.grad)
    with torch.inference_mode():
        near(mine.eval()(rows), theirs.eval()(same))


def test_rows_are_fonios(no_torch):
    mine, theirs = pair(12, 7)
    rows = torch.randn(2, 5, 12)
    expected = theirs(rows)
    no_torch()
    near(mine(rows), expected)
    with pytest.raises(AssertionError, match="torch's linear layer ran"):
        theirs(rows)


def test_what_lies_otherwise():
    mine, theirs = pair(12, 7)
    for rows in (torch.randn(12, 5).t(), torch.randn(5, 24)[:, ::2], torch.randn(12).expand(5, 12)):
        near(mine(rows), theirs(rows))
    half = torch.randn(5, 12, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert mine(half).dtype == theirs(half).dtype == torch.bfloat16


@pytest.mark.parametrize("rows", [torch.randn(5, 11), torch.randn(5, 12).double(), torch.randn(())])
def test_errors_are_torchs(rows):
    mine, theirs = pair(12, 7)
    with pytest.raises(RuntimeError) as expected:
        theirs(rows)
    with pytest.raises(RuntimeError) as got:
        mine(rows)
    assert str(got.value) == str(expected.value)


def test_derivatives_of_second_order():
    mine = fonio.torch.Linear(4, 3, dtype=torch.float64)
    rows = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    arguments = rows, mine.weight, mine.bias

    def call(rows, weight, bias):
        return torch.func.functional_call(mine, {"weight": weight, "bias": bias}, rows)

    assert gradcheck(call, arguments, check_forward_ad=True) and gradgradcheck(call, arguments)


def test_transforms_and_compile():
    mine, theirs = pair(4, 3)
    rows = torch.randn(6, 5, 4)
    near(torch.vmap(mine)(rows), theirs(rows))
    near(torch.compile(mine, fullgraph=True, backend="aot_eager")(rows), theirs(rows))


def test_no_stale_weight():
    mine, theirs = pair(12, 7)
    rows = torch.randn(5, 12)
    mine.eval()
    with torch.no_grad():
        near(mine(rows), theirs(rows))
        kept = mine._kept
        near(mine(rows), theirs(rows))
        assert kept is not None and mine._kept is kept
        for layer in (mine, theirs):
            layer.weight.mul_(2)
        near(mine(rows), theirs(rows))
        for layer in (mine, theirs):
            layer.weight.data.mul_(2)
        mine.repack()
        near(mine(rows), theirs(rows))
    for layer in (mine, theirs):
        layer.load_state_dict(pair(12, 7)[1].state_dict() if layer is mine else mine.state_dict())
    with torch.no_grad():
        near(mine(rows), theirs(rows))
    near(copy.deepcopy(mine)(rows), theirs(rows))
    near(pickle.loads(pickle.dumps(mine))(rows), theirs(rows))


class Block(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.wide, self.act, self.narrow = nn.Linear(6, 24), activation, nn.Linear(24, 6)

    def forward(self, x):
        return x + self.narrow(self.act(self.wide(x)))


ACTIVATIONS = [nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.PReLU(), nn.LeakyReLU(0.2)]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_accelerated(activation, no_torch):
    network = Block(activation).eval()
    rows = 3 * torch.randn(2, 5, 6)
    expected = network(rows).detach()
    report = fonio.torch.accelerate(network, linear=True, fuse_activation=True)
    assert report.linear == ["wide", "narrow"] and report.fused == [("wide", "act")] and not report.apart
    assert "2 linear layers, too." in str(report)
    no_torch()
    with torch.no_grad():
        near(network(rows), expected)
    near(network(rows).detach(), expected)
    report.undo()
    assert type(network.wide) is nn.Linear and type(network.act) is type(activation)
    assert not [name for name in ("_kept", "_fusion") if name in vars(network.wide)]


def test_a_slope_for_each_channel_is_not_one_for_each_feature():
    network = nn.Sequential(nn.Linear(4, 3), nn.PReLU(3)).eval()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([0.1, 0.5, 0.9]))
    rows = torch.randn(2, 3, 3, 4)
    expected = network(rows).detach()
    report = fonio.torch.accelerate(network, linear=True, fuse_activation=True)
    assert "0" in report.apart and report.fused == []
    with torch.no_grad():
        near(network(rows), expected)


@pytest.mark.parametrize("after", [nn.PReLU(8), nn.BatchNorm2d(4), nn.BatchNorm2d(3), nn.PReLU(3)], ids=str)
def test_what_looks_for_channels_stays_apart(after):
    """Whatever it holds later, and whether or not it fits the trial's numbers."""
    features = 3 if "3" in str(after) else 8
    network = nn.Sequential(nn.Linear(8, features), after).eval()
    report = fonio.torch.accelerate(network, linear=True, fold_batchnorm=True, fuse_activation=True)
    assert report.fused == report.folded == []
    report.undo()
    assert type(network[0]) is nn.Linear


def test_odd_layers_are_torchs():
    rows = torch.randn(4, 8)
    for change in (
        lambda layer: setattr(layer, "bias", nn.Parameter(torch.ones(1))),
        lambda layer: setattr(layer, "weight", nn.Parameter(layer.weight[0].detach())),
        lambda layer: setattr(layer, "bias", nn.Parameter(torch.ones(4, 7))),
        lambda layer: setattr(layer, "weight", nn.Parameter(torch.ones(0, 8))) or setattr(layer, "bias", None),
    ):
        mine, theirs = pair(8, 7)
        change(mine), change(theirs)
        mine.load_state_dict(theirs.state_dict())
        if theirs.weight.dim() == 1:
            mine.bias = theirs.bias = None
        near(mine(rows), theirs(rows))


def test_undo_after_a_parametrisation():
    network = nn.Sequential(nn.Linear(8, 7), nn.Conv2d(3, 4, 3))
    report = fonio.torch.accelerate(network, linear=True)
    for layer in network:
        nn.utils.parametrizations.weight_norm(layer)
    report.undo()
    assert not any(isinstance(layer, (fonio.torch.Linear, fonio.torch.Conv2d)) for layer in network)
    network[0](torch.randn(4, 8))


def test_what_is_left_alone():
    class Own(nn.Linear):
        pass

    network = nn.ModuleList([Own(3, 4), nn.Linear(3, 4, dtype=torch.float16), nn.Linear(3, 4, device="meta"), nn.Linear(3, 4)])
    assert fonio.torch.accelerate(network).linear == []
    assert fonio.torch.accelerate(network, linear=True).linear == ["3"]
