"""A layer that does the work of the BatchNorm2d and the activation behind it.

The modules stay where they are. The layer marks what it has done on its output, and a module that sees its mark passes
the output on; whatever comes without a mark is computed as ever. So a module that is reached by another way than the
one that was traced stays right."""

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.nn.modules import module as modules_of_torch
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fonio import _core
from fonio.torch._module import Conv2d, Kept, Linear

if TYPE_CHECKING:
    from fonio.torch._accelerate import Report

_MARK = "_fonio_done"


# ---- Activations ----


def _gelu(module: torch.nn.GELU) -> str:
    return "gelu_tanh" if module.approximate == "tanh" else "gelu"


_ACTIVATIONS: dict[type, Any] = {
    torch.nn.ReLU: lambda _: "relu",
    torch.nn.ReLU6: lambda _: "relu6",
    torch.nn.LeakyReLU: lambda module: ("leaky_relu", module.negative_slope),
    torch.nn.PReLU: lambda module: ("prelu", module.weight),
    torch.nn.SiLU: lambda _: "silu",
    torch.nn.Hardswish: lambda _: "hardswish",
    torch.nn.Sigmoid: lambda _: "sigmoid",
    torch.nn.Tanh: lambda _: "tanh",
    torch.nn.GELU: _gelu,
}


# ---- The modules behind the layer ----


class _Joined:
    """Passes on what the layer in front has done for it."""

    def forward(self, input: Tensor) -> Tensor:
        done = getattr(input, _MARK, None) if isinstance(input, Tensor) else None  # torch.fx comes with a proxy
        if done is None or self not in done:
            return super().forward(input)  # type: ignore[misc]
        rest = done[done.index(self) + 1 :]
        if rest:
            setattr(input, _MARK, rest)
        else:
            delattr(input, _MARK)
        return input

    def _get_name(self) -> str:
        return type(self).__bases__[1].__name__


# Classes with names of their own, for pickles.


class JoinedBatchNorm2d(_Joined, torch.nn.BatchNorm2d):
    def _check_input_dim(self, input: Tensor) -> None:
        if isinstance(input, Tensor):
            super()._check_input_dim(input)


class JoinedReLU(_Joined, torch.nn.ReLU):
    pass


class JoinedReLU6(_Joined, torch.nn.ReLU6):
    pass


class JoinedLeakyReLU(_Joined, torch.nn.LeakyReLU):
    pass


class JoinedPReLU(_Joined, torch.nn.PReLU):
    pass


class JoinedSiLU(_Joined, torch.nn.SiLU):
    pass


class JoinedHardswish(_Joined, torch.nn.Hardswish):
    pass


class JoinedSigmoid(_Joined, torch.nn.Sigmoid):
    pass


class JoinedTanh(_Joined, torch.nn.Tanh):
    pass


class JoinedGELU(_Joined, torch.nn.GELU):
    pass


_PLAIN: dict[type, Any] = {joined: joined.__bases__[1] for joined in _Joined.__subclasses__()}
_JOINED = {kind: joined for joined, kind in _PLAIN.items()}


class Fusion:
    """What a layer does beside its own work."""

    def __init__(self, norm: torch.nn.BatchNorm2d | None, activation: torch.nn.Module | None) -> None:
        self.norm = norm
        self.activation = activation
        self.done = [module for module in (norm, activation) if module is not None]
        self.around: list[torch.nn.Module] = []  # those that hold some of these modules, but not all
        self.forget()

    def forget(self) -> None:
        self._folded: _Folded | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_folded": None}

    def applies(self, layer: Conv2d | Linear) -> bool:
        """Whether this call is one in eval mode that records nothing, and no hook is to see what lies between."""
        return (
            not torch.is_grad_enabled()
            and (self.norm is None or not self.norm.training and _keeps_statistics(self.norm))
            and not (modules_of_torch._global_forward_hooks or modules_of_torch._global_forward_pre_hooks)
            and not self.watched(layer)
        )

    def watched(self, layer: Conv2d | Linear) -> list[torch.nn.Module]:
        """The modules with a hook that might see what lies between."""
        modules = (layer, *self.done, *self.around)
        return [module for module in modules if module._forward_hooks or module._forward_pre_hooks]

    def run(self, layer: Conv2d | Linear, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The output, with a mark that says what has been done."""
        if self.norm is None:
            order = layer._order_of(weight)
        else:
            weight, bias, order = self._fold(self.norm, weight, bias)
        output = layer._joined(input, weight, bias, self._activation(), order)
        setattr(output, _MARK, self.done)
        return output

    def _activation(self) -> Any:
        if self.activation is None:
            return None
        return _ACTIVATIONS[_PLAIN.get(type(self.activation), type(self.activation))](self.activation)

    def _fold(self, norm: torch.nn.BatchNorm2d, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Any]:
        """The weight and the bias with the BatchNorm2d in them, made anew when what they are made of has changed."""
        # torch does not count what training writes to the statistics, but the batches.
        statistics = norm.running_mean, norm.running_var, norm.num_batches_tracked
        sources = (weight, bias, *statistics, norm.weight, norm.bias)
        made_of = [source for source in sources if source is not None]
        folded = self._folded  # looked at and written in one piece: other threads do so, too
        if folded is None or not folded.is_of(made_of, norm.eps):
            kept = [Kept(source) for source in made_of]  # before they are read: a write that comes between is noticed
            mean: Any = norm.running_mean
            var: Any = norm.running_var
            new = fuse_conv_bn_weights(weight, bias, mean, var, norm.eps, norm.weight, norm.bias)
            self._folded = folded = _Folded(kept, norm.eps, (new[0].detach(), new[1].detach(), _core.keep()))
        return folded.made


class _Folded(NamedTuple):
    """A weight and a bias with a BatchNorm2d in them, their order, and what they are made of."""

    sources: list[Kept]
    eps: float
    made: tuple[Tensor, Tensor, Any]

    def is_of(self, tensors: list[Tensor], eps: float) -> bool:
        pairs = zip(self.sources, tensors)
        return eps == self.eps and len(self.sources) == len(tensors) and all(one.is_of(tensor) for one, tensor in pairs)


def _keeps_statistics(norm: torch.nn.BatchNorm2d) -> bool:
    """Whether it has statistics from before in eval mode, and counts the batches that change them."""
    return norm.running_mean is not None and norm.num_batches_tracked is not None


# ---- Who follows whom ----


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: torch.nn.Module, name: str) -> bool:
        return isinstance(module, Conv2d | Linear) or super().is_leaf_module(module, name)


def _trace(model: torch.nn.Module) -> fx.Graph:
    """What the model does in eval mode."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        return _Tracer().trace(model)
    finally:
        for module, training in modes.items():
            module.training = training


def join(model: torch.nn.Module, report: "Report", fold: bool, fuse: bool) -> None:
    """Joins the layers of the model to what follows them."""
    try:
        graph = _trace(model)
    except Exception as error:  # whatever the model's own code raises when it meets a proxy
        report.apart[""] = f"torch.fx cannot trace it: {error}"
        return
    calls = [node for node in graph.nodes if node.op == "call_module"]
    modules = dict(model.named_modules())
    once = {module for module in modules.values() if sum(modules[node.target] is module for node in calls) == 1}
    for node in calls:
        layer = modules[node.target]
        if type(layer) in (Conv2d, Linear) and layer._fusion is None and layer in once:
            _join_one(report, node, modules, once, fold, fuse)


def _join_one(report, node, modules, once, fold, fuse) -> None:
    """Joins one layer to the modules behind it."""
    layer, norm, activation = modules[node.target], None, None
    name = node.target
    node = _only_user(node)
    channels = type(layer) is Conv2d  # lie where these modules look for them; a linear layer's features do not
    if channels and fold and node is not None and _plain(type(modules[node.target])) is torch.nn.BatchNorm2d:
        candidate = modules[node.target]
        if candidate in once and _keeps_statistics(candidate):
            norm, norm_name, node = candidate, node.target, _only_user(node)
    if fuse and node is not None and _plain(type(modules[node.target])) in _ACTIVATIONS:
        activation, activation_name = modules[node.target], node.target
        if not channels and getattr(activation, "num_parameters", 1) != 1:
            report.apart[name] = "a slope for each channel is not one for each feature"
            return
    fusion = Fusion(norm, activation)
    if not fusion.done:
        return
    targets = [name, norm_name if norm else name, activation_name if activation else name]
    fusion.around = [modules[around] for around in _around(targets)]
    reason = _obstacle(layer, fusion)
    if reason is not None:
        report.apart[name] = reason
        return
    if norm is not None:
        report.folded.append((name, norm_name))
    if activation is not None:
        report.fused.append((name, activation_name))
    for module in fusion.done:
        _make_joined(report, module)
    layer._fusion = fusion
    report._undo.append(lambda: layer.__dict__.pop("_fusion", None))


def _around(names: list[str]) -> set[str]:
    """The modules that hold some of these, but not all."""
    holders = [set(itertools.accumulate(name.split(".")[:-1], "{}.{}".format)) for name in names]
    return set.union(*holders) - set.intersection(*holders)


def _plain(kind: type) -> type:
    return _PLAIN.get(kind, kind)


def _make_joined(report, module) -> None:
    if type(module) in _PLAIN:  # another layer's, too
        return
    module.__class__ = _JOINED[type(module)]
    report._undo.append(lambda: setattr(module, "__class__", _PLAIN[type(module)]))


def _only_user(node: fx.Node) -> fx.Node | None:
    """The module that is called with nothing but this, if nothing else uses it."""
    users = list(node.users)
    alone = len(users) == 1 and users[0].op == "call_module" and users[0].args == (node,) and not users[0].kwargs
    return users[0] if alone else None


def _obstacle(layer: Conv2d | Linear, fusion: Fusion) -> str | None:
    """Why the layer is not to be joined to these modules; None if it is."""
    for module in fusion.watched(layer):
        return f"a hook on {module._get_name()} would see other values"
    try:
        return _trial(layer, fusion)
    except Exception as error:  # whatever the modules make of the trial's numbers
        return f"it cannot be tried out: {error}"


@torch.no_grad()
def _trial(layer: Conv2d | Linear, fusion: Fusion) -> str | None:
    """Tries the layer out with random numbers: what is wrong, or None."""
    input, expected = _trial_of_linear(layer) if isinstance(layer, Linear) else _trial_of_conv2d(layer)
    norm = fusion.norm
    if norm is not None:
        mean, var = norm.running_mean, norm.running_var
        expected = torch.nn.functional.batch_norm(expected, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps)
    if fusion.activation is not None:
        kind: Any = _plain(type(fusion.activation))
        expected = kind.forward(fusion.activation, expected)
    got = fusion.run(layer, input, layer.weight, layer.bias)
    off = float((got - expected).abs().max())
    bound = (1e-3 if input.dtype == torch.float32 else 1e-9) * max(1.0, float(expected.abs().max()))
    return None if off <= bound else f"the results are off by {off:.3g}"


def _random(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _trial_of_conv2d(conv: Conv2d) -> tuple[Tensor, Tensor]:
    """An image, and the layer's output as torch computes it."""
    geometry = zip(conv.dilation, conv.kernel_size, conv.stride)
    sizes = [max(2 * gap * (kernel - 1) + 1, 3 * step) for gap, kernel, step in geometry]
    image = _random((2, conv.in_channels, *sizes), conv.weight.dtype)
    return image, torch.nn.Conv2d._conv_forward(conv, image, conv.weight, conv.bias)


def _trial_of_linear(linear: Linear) -> tuple[Tensor, Tensor]:
    """Two images of rows, so that an activation that looks for channels finds others than the features."""
    rows = _random((2, 3, linear.in_features), linear.weight.dtype)
    return rows, torch.nn.Linear.forward(linear, rows)
