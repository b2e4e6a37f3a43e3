"""torch.optim: SGD, Adam and AdamW, with the steps of torch's single-tensor implementation."""

from __future__ import annotations

from fonio import _core
from fonio._functions import enable_grad, from_dlpack, zeros_like
from fonio._tensor import Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class Optimizer:
    """What all optimisers do. `param_groups` are dictionaries as torch's: "lr" may be written to; the other options stay
    as they were given. Each group is an optimiser of the library."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                f"params argument given to the optimizer should be an iterable of Tensors or dicts, but got {_typename(params)}"
            )
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._made: list[tuple[Any, dict[str, Any]]] = []
        groups = list(params)
        if len(groups) == 0:
            raise ValueError("optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def _make(self, params: tuple[Tensor, ...], options: dict[str, Any]) -> Any:
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with options of their own."""
        given = param_group["params"]
        params = [given] if isinstance(given, Tensor) else list(given)
        params = [one[1] if isinstance(one, tuple) else one for one in params]
        for one in params:
            if not isinstance(one, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {_typename(one)}")
            if not one.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        known = {id(one) for group in self.param_groups for one in group["params"]}
        if any(id(one) in known for one in params):
            raise ValueError("some parameters appear in more than one parameter group")
        options = {**self.defaults, **{key: value for key, value in param_group.items() if key != "params"}}
        self._made.append((self._make(tuple(params), options), dict(options)))
        self.param_groups.append({"params": params, **options})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Changes every parameter that has a .grad; `closure` computes them anew first, and its loss is returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group, (made, options) in zip(self.param_groups, self._made):
            for name, value in options.items():
                if name != "lr" and group[name] != value:
                    raise NotImplementedError(f"{name} cannot be changed once the optimizer is made; lr can")
            _core.optimizer_step(made, group["lr"])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets all gradients, or makes them zeros."""
        for group in self.param_groups:
            for one in group["params"]:
                if set_to_none:
                    one.grad = None
                elif one.grad is not None:
                    one.grad = zeros_like(one.grad)

    def state_dict(self) -> dict[str, Any]:
        """What the optimiser keeps, and its options, as torch lays them out: parameters are numbers."""
        state: dict[int, dict[str, Tensor]] = {}
        groups, first = [], 0
        for group, (made, _) in zip(self.param_groups, self._made):
            for name, tensor in _core.optimizer_state(made).items():
                number, what = name.split(".", 1)
                state.setdefault(first + int(number), {})[what] = tensor
            count = len(group["params"])
            groups.append({**{key: group[key] for key in group if key != "params"}, "params": [*range(first, first + count)]})
            first += count
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes such a state back, torch's too, with "lr" of its groups."""
        groups = state_dict["param_groups"]
        if len(groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        for group, given in zip(self.param_groups, groups):
            if len(group["params"]) != len(given["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
                )
        for group, given, (made, _) in zip(self.param_groups, groups, self._made):
            kept = {
                f"{place}.{what}": tensor if isinstance(tensor, Tensor) else from_dlpack(tensor)
                for place, number in enumerate(given["params"])
                for what, tensor in state_dict["state"].get(number, {}).items()
                if tensor is not None
            }
            _core.optimizer_load(made, kept)
            group["lr"] = given["lr"]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for place, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {place}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _typename(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


class SGD(Optimizer):
    """Stochastic gradient descent: torch.optim.SGD."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = dict(
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )
        super().__init__(params, options)

    def _make(self, params: tuple[Tensor, ...], options: dict[str, Any]) -> Any:
        names = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
        return _core.sgd(params, *(options[name] for name in names))


class Adam(Optimizer):
    """Adam, after Kingma and Ba (2015): torch.optim.Adam."""

    _decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize)
        super().__init__(params, options)

    def _make(self, params: tuple[Tensor, ...], options: dict[str, Any]) -> Any:
        names = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
        return _core.adam(params, *(options[name] for name in names), self._decoupled)


class AdamW(Adam):
    """Adam with a weight decay of its own, after Loshchilov and Hutter (2019): torch.optim.AdamW."""

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
