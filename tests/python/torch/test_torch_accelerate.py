"""fonio.torch.accelerate on networks as they are: the same outputs, the same gradients, and the way back."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from architectures import NETWORKS
from torch import nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

import fonio.torch

pytestmark = pytest.mark.filterwarnings("error:fonio.torch")


def near(got, expected):
    """Close, as measured by the largest element."""
    scale = float(expected.abs().max()) + 1e-6
    assert_close(got / scale, expected / scale, rtol=0, atol=1e-4 if got.dtype == torch.float32 else 1e-10)


def as_near(got, expected, truth):
    """As near to the truth as torch, or nearly so. Small batches make a network multiply what is rounded, and where a
    value is as good as zero, rounding decides which slope of an activation its gradient takes."""
    for mine, theirs, exact in zip(got, expected, truth, strict=True):
        scale = float(exact.abs().max()) + 1e-6
        off, theirs_off = (float((tensor - exact).abs().max()) for tensor in (mine, theirs))
        assert off <= 10 * theirs_off + 1e-2 * scale, f"off by {off:.3g}, torch by {theirs_off:.3g}, of {scale:.3g}"


def trained(name):
    """A network whose running statistics are not those that it began with, and images for it."""
    _, small, size = NETWORKS[name]
    network = small()
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        for _ in range(3):
            network(images + torch.randn(()))
    return network, images


def step(network, images):
    """The output in training, and all gradients."""
    images = images.clone().requires_grad_()
    output = network(images)
    output.square().mean().backward()
    return [output.detach(), images.grad, *(parameter.grad for parameter in network.parameters())]


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_every_gradient_agree(name, only_fonio):
    network, images = trained(name)
    other, exact = copy.deepcopy(network), copy.deepcopy(network).double()
    exact_other = copy.deepcopy(exact)
    report = fonio.torch.accelerate(other)
    assert not report.left and len(report.swapped) == sum(isinstance(module, nn.Conv2d) for module in other.modules())
    fonio.torch.accelerate(exact_other)
    expected, truth = step(network, images), step(exact, images.double())
    with only_fonio():
        got, exact_got = step(other, images), step(exact_other, images.double())
    for mine, theirs in zip(exact_got, truth, strict=True):
        near(mine, theirs)
    as_near(got, expected, truth)
    as_near(other.buffers(), network.buffers(), exact.buffers())


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_folded_and_fused_agrees(name, last, only_fonio):
    network, images = trained(name)
    other = copy.deepcopy(network)
    if last:
        other = other.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    report = fonio.torch.accelerate(other, linear=True, fold_batchnorm=True, fuse_activation=True)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert len(report.folded) == norms and not report.apart, report
    assert report.fused and len(report.linear) == sum(isinstance(module, nn.Linear) for module in other.modules())
    assert repr(other) == repr(network)
    network.eval(), other.eval()
    with torch.no_grad():
        expected = network(images)
        with only_fonio():
            near(other(images), expected)
    near(other(images), expected)  # recording gradients: nothing is folded
    with torch.no_grad():
        for tensor, same in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
            if tensor.is_floating_point():
                change = torch.rand_like(tensor) * 0.1
                tensor.add_(change), same.add_(change)
        expected = network(images)
        near(other(images), expected)
        near(copy.deepcopy(other)(images), expected)
        near(pickle.loads(pickle.dumps(other))(images), expected)
    exact = copy.deepcopy(network).double()
    as_near(step(other.train(), images), step(network.train(), images), step(exact.train(), images.double()))


def test_the_layers_stay_the_objects_that_they_are():
    network, images = trained("resnet50")
    parameters, layers = list(network.parameters()), list(network.modules())
    kinds = [type(layer) for layer in layers]
    seen = []
    network[0].register_forward_hook(lambda layer, arguments, output: seen.append(layer))
    report = fonio.torch.accelerate(network, fold_batchnorm=True, fuse_activation=True)
    assert "0" in report.apart and "hook" in report.apart["0"]
    assert fonio.torch.accelerate(network).swapped == []
    network(images)
    assert seen == [network[0]]
    assert all(mine is other for mine, other in zip(network.parameters(), parameters, strict=True))
    assert all(mine is other for mine, other in zip(network.modules(), layers, strict=True))
    with torch.no_grad():
        network.eval()(images)
    report.undo()
    assert [type(layer) for layer in layers] == kinds
    assert not [name for layer in layers for name in ("_kept", "_fusion") if name in vars(layer)]
    report.undo()


class Own(nn.Conv2d):
    pass


def test_what_is_left_alone():
    network = nn.ModuleDict(
        {
            "own": Own(3, 4, 3),
            "float16": nn.Conv2d(3, 4, 3, dtype=torch.float16),
            "other": nn.ConvTranspose2d(3, 4, 3),
            "meta": nn.Conv2d(3, 4, 3, device="meta"),
            "lazy": nn.LazyConv2d(4, 3),
            "normed": parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
            "plain": nn.Conv2d(3, 4, 3),
        }
    )
    expected = network["normed"](torch.ones(1, 3, 5, 5))
    report = fonio.torch.accelerate(network)
    assert report.swapped == ["lazy", "normed", "plain"]
    assert set(report.left) == {"own", "float16", "other", "meta"}
    assert "Fonio computes 3 of 7 convolutions." in str(report) and "Own is not torch.nn.Conv2d itself" in str(report)
    assert isinstance(network["normed"], fonio.torch.Conv2d)
    assert_close(network["normed"](torch.ones(1, 3, 5, 5)), expected)
    network["lazy"](torch.ones(1, 3, 5, 5))
    assert type(network["lazy"]) is fonio.torch.Conv2d
    report.undo()
    assert type(network["plain"]) is nn.Conv2d and type(network["lazy"]) is nn.Conv2d
    assert not isinstance(network["normed"], fonio.torch.Conv2d)


ACTIVATIONS = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.LeakyReLU(0.2),
    nn.PReLU(),
    nn.PReLU(6),
    nn.SiLU(),
    nn.Hardswish(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.GELU(),
    nn.GELU("tanh"),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation(activation, only_fonio):
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), activation, nn.Conv2d(6, 6, 3), copy.deepcopy(activation)
    )
    network.eval()
    images = 3 * torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = network(images)
        report = fonio.torch.accelerate(network, fold_batchnorm=True, fuse_activation=True)
        assert report.fused == [("0", "2"), ("3", "4")] and report.folded == [("0", "1")]
        with only_fonio():
            near(network(images), expected)
    report.undo()


class Tangled(nn.Module):
    """Layers that must not be joined: used twice, seen by others, or reached by another way."""

    def __init__(self):
        super().__init__()
        self.twice, self.seen, self.alone = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.norm, self.shared = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.act = nn.SiLU()

    def forward(self, x):
        x = self.norm(self.twice(x)) + self.twice(x)
        y = self.seen(x)
        z = self.act(self.shared(y)) * y
        return self.act(self.act(self.alone(self.shared(z))))


def test_what_is_used_twice_is_not_joined():
    network = Tangled().eval()
    images = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        expected = network(images)
        report = fonio.torch.accelerate(network, fold_batchnorm=True, fuse_activation=True)
        assert report.folded == [] and report.fused == [("alone", "act")]
        near(network(images), expected)
        near(
            network.act(network.alone(images)),
            nn.functional.silu(nn.functional.conv2d(images, network.alone.weight, network.alone.bias, padding=1)),
        )


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

    def forward(self, x):
        return self.layers(x) if x.sum() > 0 else x


def test_what_cannot_be_traced_stays_apart():
    report = fonio.torch.accelerate(Untraceable(), fuse_activation=True)
    assert report.swapped == ["layers.0"] and report.fused == []
    assert "torch.fx cannot trace it" in report.apart[""] and "cannot trace" in str(report)


def test_a_frozen_norm_in_training():
    """BatchNorm2d in eval mode while the layer trains, and the other way round."""
    network, images = trained("resnet50")
    other = copy.deepcopy(network)
    fonio.torch.accelerate(other, fold_batchnorm=True, fuse_activation=True)
    for model in (network, other):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    for mine, theirs in zip(step(other, images), step(network, images), strict=True):
        near(mine, theirs)
    with torch.no_grad():
        near(other(images), network(images))


def test_memory_that_tensors_leave_is_kept():
    """What is allocated a second time is not new from the system, page by page. It is smaller, so that it finds room in
    what the first has left even where something little has come to lie there."""
    code = """
import resource, torch, fonio.torch
fonio.torch.accelerate(torch.nn.Conv2d(1, 1, 1))
for size in (5 << 20, 4 << 20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
assert faults < 1000, faults
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def joined(arrange=nn.Sequential):
    """A convolution, a BatchNorm2d and a ReLU, and the same joined."""
    norm = nn.BatchNorm2d(6)
    for tensor in (*norm.parameters(), norm.running_mean):
        nn.init.normal_(tensor)
    network = arrange(nn.Conv2d(4, 6, 3), norm, nn.ReLU()).eval()
    other = copy.deepcopy(network)
    report = fonio.torch.accelerate(other, fold_batchnorm=True, fuse_activation=True)
    assert report.folded and report.fused
    return network, other


@torch.no_grad()
def test_statistics_that_are_measured_anew():
    """By the BatchNorm2d alone in training, whose writes torch does not count."""
    network, other = joined()
    images = torch.randn(2, 4, 8, 8)
    near(other(images), network(images))
    for model in (network, other):
        model[1].train()
        model(images)
        model[1].eval()
    near(other(images), network(images))


HOOKS = {
    "behind a layer": lambda model, hook: model[0].register_forward_hook(lambda layer, arguments, output: hook(output)),
    "before a norm": lambda model, hook: model[1].register_forward_pre_hook(lambda layer, arguments: hook(arguments[0])),
    "behind a norm": lambda model, hook: model[1].register_forward_hook(lambda layer, arguments, output: hook(output)),
    "before an activation": lambda model, hook: model[2].register_forward_pre_hook(lambda layer, arguments: hook(arguments[0])),
    "behind all": lambda model, hook: nn.modules.module.register_module_forward_hook(lambda *call: hook(call[2])),
}


@torch.no_grad()
@pytest.mark.parametrize("place", HOOKS)
def test_hooks_that_come_later(place):
    """They see, and change, what they did in the model as it was; without them the layers are joined again."""
    network, other = joined()
    images, seen = torch.randn(2, 4, 8, 8), ([], [])
    near(other(images), network(images))
    for model, values in zip((network, other), seen):
        handle = HOOKS[place](model, lambda tensor, values=values: values.append(tensor.clone()) or 2 * tensor + 1)
        values.append(model(images))
        handle.remove()
    for mine, theirs in zip(seen[1], seen[0], strict=True):
        near(mine, theirs)
    near(other(images), network(images))


def in_two_blocks(conv, norm, activation):
    return nn.Sequential(nn.Sequential(conv), nn.Sequential(norm, activation))


@torch.no_grad()
@pytest.mark.parametrize("place", ["behind a layer", "before a norm"])
def test_hooks_of_modules_around_them(place):
    network, other = joined(in_two_blocks)
    images, seen = torch.randn(2, 4, 8, 8), ([], [])
    near(other(images), network(images))
    for model, values in zip((network, other), seen):
        HOOKS[place](model, lambda tensor, values=values: values.append(tensor.clone()))
        values.append(model(images))
    for mine, theirs in zip(seen[1], seen[0], strict=True):
        near(mine, theirs)
    late = in_two_blocks(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    HOOKS[place](late, lambda tensor: None)
    report = fonio.torch.accelerate(late, fold_batchnorm=True)
    assert not report.folded and report.apart == {"0.0": "a hook on Sequential would see other values"}


@torch.no_grad()
@pytest.mark.parametrize("missing", ["num_batches_tracked", "running_mean running_var"])
def test_statistics_that_are_not_kept_or_not_counted(missing):
    network, other = joined()
    images = torch.randn(2, 4, 8, 8)
    measured = torch.randn(2, 6, 8, 8)
    for model in (network, other):
        model(images)
        for name in missing.split():
            setattr(model[1], name, None)
        model(images)
        model[1].train()(measured)
        model[1].eval()
    near(other(images), network(images))


def test_joined_layers_can_be_traced():
    network, other = joined()
    images = torch.randn(2, 4, 8, 8)
    near(torch.fx.symbolic_trace(other)(images), network(images))
