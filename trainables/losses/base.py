"""What every loss is: void-safe and computed in float32.

A loss takes logits of shape (N, C, H, W) and class ids of shape (N, H, W), where `void_id(C)` marks pixels that
count nowhere: they add nothing to the value and receive a gradient of exactly zero. An entirely void batch has a loss
of exactly 0.0 (a mean over no pixel would be NaN). `A+B` is the weighted sum of any two of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from trainables.data.void import void_id
from trainables.losses import LOSSES
from trainables.registry import Hyperparameter, Range, Scalar, Search, parameters_of

ClassPixels = Callable[[], Tensor]
"""Counts the training split's pixels of each class, int64 of shape (C,); called only by losses that need it."""


def known_pixels(logits: Tensor, target: Tensor) -> Tensor:
    """Which pixels of a target are not void: bool, of its shape."""
    return target != void_id(logits.shape[1])


class Loss(nn.Module, ABC):
    """A loss of logits and class ids.

    A subclass's keyword-only parameters are its hyperparameters. Each is kept in an attribute of its own name, which
    is the one that the computation reads, so that `applied` tells what is really minimised.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Computes the loss in float32, under autocast too.

        Args:
            logits: Scores of shape (N, C, H, W), of any floating type and memory format.
            target: Class ids or `void_id(C)`, int64 of shape (N, H, W).

        Returns:
            A float32 scalar, >= 0 up to rounding; exactly 0.0, with gradients of zero, if all pixels are void.
        """
        with torch.autocast(logits.device.type, enabled=False):
            return self.value(logits.float(), target)

    @abstractmethod
    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss in the logits' own precision; shapes as in `forward`."""

    def applied(self) -> dict[str, Scalar]:
        """The hyperparameters in use, read back from what was built."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}


@LOSSES.resolver
def _resolve_sum(name: str) -> _SumFactory | None:
    first, _, second = name.partition("+")
    if first == second or not {first, second} <= set(LOSSES.names()):
        return None
    return _SumFactory(LOSSES.get(first), LOSSES.get(second))


class WeightedSum(Loss):
    """(1 - second_share) * first + second_share * second.

    A hyperparameter that both parts have goes to both.

    Args:
        first: One loss.
        second: Another.
        second_share: Weight of the second.
    """

    def __init__(
        self,
        first: Loss,
        second: Loss,
        *,
        second_share: Annotated[
            float, Range(0, 1), Search(0.1, 0.9, reason="from mostly the first to mostly the second")
        ] = 0.5,
    ) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.second_share = second_share

    @property
    def name(self) -> str:
        """`A+B`, from the parts that were built."""
        return f"{LOSSES.name_of(self.first)}+{LOSSES.name_of(self.second)}"

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        first, second = self.first.value(logits, target), self.second.value(logits, target)
        return (1 - self.second_share) * first + self.second_share * second

    def applied(self) -> dict[str, Scalar]:
        """See `Loss.applied`; the parts report their own."""
        return {**super().applied(), **self.first.applied(), **self.second.applied()}


@dataclass(frozen=True)
class _SumFactory:
    """The weighted sum of two losses: (1 - second_share) of the first and second_share of the second."""

    first: Callable[..., Loss]
    second: Callable[..., Loss]

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """`second_share` and those of both parts."""
        return {**parameters_of(WeightedSum), **parameters_of(self.first), **parameters_of(self.second)}

    def __call__(self, class_pixels: ClassPixels, **params: Any) -> WeightedSum:
        def chosen(factory: Callable[..., Loss]) -> dict[str, Any]:
            return {key: params[key] for key in parameters_of(factory) if key in params}

        unknown = params.keys() - self.hyperparameters.keys()
        if unknown:
            raise TypeError(f"no part of the sum has the hyperparameter {', '.join(sorted(unknown))}")
        first, second = (part(class_pixels, **chosen(part)) for part in (self.first, self.second))
        return WeightedSum(first, second, **chosen(WeightedSum))
