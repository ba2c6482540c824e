"""What a trial minimises: `LOSSES`. Formulae and advice are in docs/LOSSES.md.

The package does not load torch: names and hyperparameters of losses do not need it. A new loss stands in a module that
`LOSSES` names.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainables import lazy
from trainables.registry import Registry

if TYPE_CHECKING:
    from trainables.losses.base import Loss

__all__ = ["LOSSES", "Loss"]

LOSSES: Registry[Callable[..., "Loss"]] = Registry(
    "loss",
    modules=("trainables.losses.cross_entropy", "trainables.losses.overlap"),
    pattern="A+B, a weighted sum of two different ones",
    example="cross_entropy+dice",
)
"""Factories `(class_pixels, *, ...) -> Loss`."""

__getattr__ = lazy.attributes(__name__, {"base": ["Loss"]})
