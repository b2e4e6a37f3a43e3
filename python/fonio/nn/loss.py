"""Losses as modules."""

from __future__ import annotations

from fonio._tensor import Tensor
from fonio.nn import functional
from fonio.nn.module import Module


class MSELoss(Module):
    """The square of the difference: torch.nn.MSELoss."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """functional.mse_loss"""
        return functional.mse_loss(input, target, reduction=self.reduction)


class NLLLoss(Module):
    """The negative log-probability of the target classes: torch.nn.NLLLoss."""

    def __init__(self, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """functional.nll_loss"""
        return functional.nll_loss(input, target, ignore_index=self.ignore_index, reduction=self.reduction)


class CrossEntropyLoss(Module):
    """The negative logarithm of the target classes' softmax: torch.nn.CrossEntropyLoss."""

    def __init__(self, *, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """functional.cross_entropy"""
        return functional.cross_entropy(
            input,
            target,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
