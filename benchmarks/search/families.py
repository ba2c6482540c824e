"""Simulated families: learning curves whose true final value is known, each with one difficulty of real ones.

A member of a family has a best configuration of its own. All have a spread of seeds (`SEED_SD`) near that of recorded
trainings, a noise of val (`VAL_SD`), and gain from longer training, ever less (`SHORT`, an assumption).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from search_spaces.core.parameter import choice, number
from search_spaces.core.space import SearchSpace
from trainables.registry import Scalar
from trainables.seeds import derived_seed

OBJECTIVE = "val/miou"
LOSSES = ("cross_entropy", "focal", "dice", "lovasz")
LR, DECAY, WARMUP, EMA, LOSS = "optimizer.lr", "optimizer.weight_decay", "schedule.warmup", "training.ema", "loss.name"
MIDDLE: Mapping[str, Scalar] = {LR: 0.005, DECAY: 0.04, WARMUP: 0.2, EMA: 0.3}
SPACE = SearchSpace(
    name="simulated",
    description="Four numbers and a choice; the names are those of real keys, the effects are not.",
    parameters=(
        choice(LOSS, LOSSES),
        number(LR, 0.001, 0.01, step=0.001),
        number(DECAY, 0.0, 0.08, step=0.02),
        number(WARMUP, 0.0, 0.4, step=0.1),
        number(EMA, 0.0, 0.9, step=0.3),
    ),
    label_by=LOSS,
    start=tuple({LOSS: name, **MIDDLE} for name in LOSSES),
)
"""4,000 configurations, unconditional, so that every sampler can search it and the optimum can be counted out."""

TOP, UNTRAINED = 0.60, 0.05
"""The best that endless training reaches, and what a model that has learnt nothing scores."""
SHORT = 0.15
"""What training of `epochs` falls short of that: SHORT / sqrt(epochs)."""
SEED_SD, VAL_SD = 0.012, 0.01
"""In mIoU: the luck of a seed, and what is drawn anew at each epoch."""
RATE = 4.0
"""Of the exponential rise, per full budget; at a third of it, three quarters of the way are done."""


class Landscape(Protocol):
    """What a search is replayed on.

    Attributes:
        name: In tables.
        space: What is searched.
        lengths: Epochs that a full trial can have, ascending.
        best: The best true value of any configuration at any of these lengths.
    """

    name: str
    space: SearchSpace
    lengths: tuple[int, ...]

    @property
    def best(self) -> float:
        """See above."""

    def base(self, epochs: int) -> dict[str, Scalar]:
        """Flat keys common to all trials of a search with trials of so many epochs."""

    def report(self, config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        """What a trial reports after an epoch: `metrics`, or `infeasible` with the reason."""

    def value(self, config: Mapping[str, Any]) -> float:
        """The true final value of a configuration, without the noise that its reports have."""


Shares = npt.NDArray[np.float64]
"""Of the ranges: lr, decay, warm-up, ema; shape (4,)."""


@dataclass(frozen=True)
class Effect:
    """What a family makes of a configuration.

    Attributes:
        deficit: Below `TOP`.
        rate: Of its rise.
        diverges: Whether it diverges.
    """

    deficit: float
    rate: float = RATE
    diverges: bool = False


@dataclass
class Member:
    """One member of a family.

    Args:
        name: Of the family.
        effect: (shares, place of the loss among all losses, shares of the optimum) -> effect.
        instance: Which member.
        noise: Times `SEED_SD` and `VAL_SD`; 0 for none.
        lengths: Epochs that a full trial can have.
    """

    name: str
    effect: Callable[[Shares, int, Shares], Effect]
    instance: int
    noise: float = 1.0
    lengths: tuple[int, ...] = (5, 10, 20, 40, 80)
    space: SearchSpace = SPACE
    _curves: dict[tuple[Any, ...], list[float]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(derived_seed("member", self.name, self.instance))
        numbers = [parameter.grid() or () for parameter in SPACE.parameters[1:]]
        self.optimum: Shares = np.array([rng.integers(len(values)) / (len(values) - 1) for values in numbers])
        self.order = [int(place) for place in rng.permutation(len(LOSSES))]
        effects = [(self.effect_of(point), point) for point in SPACE.grid()]
        deficit, self.best_point = min(
            ((effect.deficit, point) for effect, point in effects if not effect.diverges), key=lambda pair: pair[0]
        )
        self.best = TOP - deficit - SHORT / math.sqrt(self.lengths[-1])

    def effect_of(self, config: Mapping[str, Any]) -> Effect:
        """What the family makes of it."""
        shares = np.array([(config[p.key] - p.low) / (p.high - p.low) for p in SPACE.parameters[1:]])
        return self.effect(shares, self.order[LOSSES.index(config[LOSS])], self.optimum)

    def base(self, epochs: int) -> dict[str, Scalar]:
        """A seed that is the member's."""
        return {"image_size": "32x32", "epochs": epochs, "seed": self.instance,
                "model.name": "lraspp_mobilenet_v3_large", "model.weights": "none"}  # fmt: skip

    def value(self, config: Mapping[str, Any]) -> float:
        """The true value; 0 if it diverges."""
        effect = self.effect_of(config)
        return 0.0 if effect.diverges else TOP - effect.deficit - SHORT / math.sqrt(config["epochs"])

    def report(self, config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        """The curve with the luck of the seed, which lasts, and the noise of val, which is drawn at each epoch."""
        key = (*(config[p.key] for p in SPACE.parameters), config["epochs"], config["seed"])
        if key not in self._curves:
            self._curves[key] = self._curve(config, key)
        curve = self._curves[key]
        return {"metrics": {OBJECTIVE: curve[epoch - 1]}} if epoch <= len(curve) else {"infeasible": "diverged"}

    def _curve(self, config: Mapping[str, Any], key: tuple[Any, ...]) -> list[float]:
        """What is reported after each epoch; of a trial that diverges, until then."""
        effect, epochs = self.effect_of(config), int(config["epochs"])
        rng = np.random.default_rng(derived_seed("curve", self.name, self.instance, *key))
        final = TOP - effect.deficit - SHORT / math.sqrt(epochs)
        done = np.arange(1, epochs + 1) / epochs
        risen = (1 - np.exp(-effect.rate * done)) / (1 - math.exp(-effect.rate))
        luck = self.noise * SEED_SD * rng.standard_normal() * risen
        curve = UNTRAINED + (final - UNTRAINED) * risen + luck + self.noise * VAL_SD * rng.standard_normal(epochs)
        lasts = int(rng.integers(0, epochs // 2 + 1)) if effect.diverges else epochs
        return [float(value) for value in np.clip(curve, 0.0, 1.0)[:lasts]]


WEIGHTS = np.array([0.10, 0.02, 0.03, 0.02])
"""What a number costs as far from its optimum as its range is wide; it grows with the square."""
LOSS_STEP = 0.012
"""From one loss to the next."""


def parallel(shares: Shares, loss: int, optimum: Shares) -> Effect:
    """All curves rise alike: who leads early leads at the end. A bowl, and a constant for each loss."""
    return Effect(float(WEIGHTS @ (shares - optimum) ** 2) + LOSS_STEP * loss)


def crossing(shares: Shares, loss: int, optimum: Shares) -> Effect:
    """Who learns fast ends low: warm-up and averaging cost speed and pay at the end. Curves cross past the middle."""
    haste = (1 - shares[2] + 1 - shares[3]) / 2
    bowl = float(WEIGHTS[:2] @ (shares[:2] - optimum[:2]) ** 2)
    return Effect(bowl + LOSS_STEP * loss + 0.05 * haste, rate=3.0 + 3.0 * haste)


def interactions(shares: Shares, loss: int, optimum: Shares) -> Effect:
    """The best rate depends on warm-up, weight decay and loss: a narrow ridge across the space."""
    ridge = optimum[0] + 0.5 * (shares[2] - optimum[2]) - 0.5 * (shares[1] - optimum[1]) + 0.1 * (loss - 1.5)
    rest = float(WEIGHTS[1:] @ (shares[1:] - optimum[1:]) ** 2)
    return Effect(0.25 * (shares[0] - float(np.clip(ridge, 0.0, 1.0))) ** 2 + rest + LOSS_STEP * loss)


def divergence(shares: Shares, loss: int, optimum: Shares) -> Effect:
    """The higher the rate the better, until training diverges; the known-good rate never does."""
    cliff = 0.45 + 0.4 * optimum[0]
    bowl = float(WEIGHTS[1:] @ (shares[1:] - optimum[1:]) ** 2)
    return Effect(0.10 * (cliff - shares[0]) + bowl + LOSS_STEP * loss, diverges=bool(shares[0] > cliff))


FAMILIES: Mapping[str, tuple[Callable[[Shares, int, Shares], Effect], float]] = {
    "parallel": (parallel, 1.0),
    "crossing": (crossing, 1.0),
    "interactions": (interactions, 1.0),
    "noise": (parallel, 3.0),
    "divergence": (divergence, 1.0),
}
"""What each does, and how many times the usual noise it has."""


def member(family: str, instance: int, *, noise: float = 1.0) -> Member:
    """A member of a family.

    Args:
        family: Key of `FAMILIES`.
        instance: Which; the same one always has the same curves.
        noise: Times the noise of the family; 0 for curves that tell the truth.
    """
    effect, times = FAMILIES[family]
    return Member(family, effect, instance, noise=noise * times)
