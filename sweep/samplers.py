"""How a search chooses what to try next: `SAMPLERS`. Nothing here loads Optuna before a sampler is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainables.registry import Registry

if TYPE_CHECKING:
    import optuna

SAMPLERS: Registry[Callable[[int], optuna.samplers.BaseSampler]] = Registry("sampler")
"""Factories `(seed) -> Optuna sampler`."""


@SAMPLERS.register("tpe")
def tpe(seed: int) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimators (Bergstra et al., 2011); multivariate and grouped for conditional spaces."""
    import optuna

    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)


@SAMPLERS.register("random")
def random(seed: int) -> optuna.samplers.BaseSampler:
    """Independent uniform draws (Bergstra and Bengio, 2012)."""
    import optuna

    return optuna.samplers.RandomSampler(seed=seed)
