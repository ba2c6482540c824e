"""How a search chooses what to try next: `SAMPLERS`. Nothing here loads Optuna before a sampler is made.

Each suggestion is made by a new sampler (`sweep.optuna_study`), so that it depends on the journal alone. What a sampler
must remember from one suggestion to the next it finds in its `Draw` or among the trials of the study.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from search_spaces.core.space import SearchSpace
from trainables.errors import UsageError
from trainables.registry import Registry, Scalar
from trainables.seeds import derived_seed
from trainables.words import some_of

if TYPE_CHECKING:
    import optuna

MOST_GRID_POINTS = 10_000
AHEAD = 4096
"""Points of a sequence between one that was tried before and the one that is taken instead."""


@dataclass(frozen=True)
class Draw:
    """One suggestion that is to be made.

    Attributes:
        space: What to ask for.
        sweep_seed: The same for all suggestions of a sweep.
        number: Of the trial.
        attempt: 0; one more each time that what was drawn for this trial had been tried before.
        trials: Planned for the whole search.
        asked: The parameters of all trials so far.
    """

    space: SearchSpace
    sweep_seed: int
    number: int = 0
    attempt: int = 0
    trials: int = 0
    asked: Sequence[dict[str, Scalar]] = ()

    @property
    def seed(self) -> int:
        """Another for every draw."""
        return derived_seed("sampler", self.sweep_seed, self.number, self.attempt)

    @property
    def startup(self) -> int:
        """Trials before a sampler begins to learn: a quarter of the plan, at most ten, at least the starting points."""
        return max(len(self.space.start), min(10, self.trials // 4))


Factory = Callable[[Draw], "optuna.samplers.BaseSampler"]
F = TypeVar("F", bound=Factory)

SAMPLERS: Registry[Factory] = Registry("sampler")
"""Factories `(draw) -> Optuna sampler`."""


def only_where(fault: Callable[[SearchSpace], str]) -> Callable[[F], F]:
    """Says which spaces a sampler cannot search: `fault` tells why, and the cure; it is empty for all others."""

    def decorate(factory: F) -> F:
        factory.fault = fault  # type: ignore[attr-defined]
        return factory

    return decorate


def check_sampler(name: str, space: SearchSpace) -> None:
    """Makes sure that a sampler can search a space, without loading Optuna.

    Raises:
        UsageError: If it cannot; says why, and the cure.
    """
    fault: Callable[[SearchSpace], str] | None = getattr(SAMPLERS.get(name), "fault", None)
    told = fault(space) if fault is not None else ""
    if told:
        raise UsageError(f"--sampler {name} cannot search the space {space.name}: {told}")


def conditions(space: SearchSpace) -> str:
    """Why a sampler that needs every parameter in every trial cannot search a space."""
    conditional = [parameter for parameter in space.parameters if parameter.when]
    if not conditional:
        return ""
    owners = dict.fromkeys(condition.key for parameter in conditional for condition in parameter.when)
    told = some_of([parameter.key for parameter in conditional], 3)
    return f"not every trial has {told}: use tpe, qmc or random, or hold {some_of(list(owners), 3)} with --set"


def endless(space: SearchSpace) -> str:
    """Why the configurations of a space cannot be tried one by one."""
    ranges = [parameter.key for parameter in space.parameters if parameter.grid() is None]
    if ranges:
        return (
            f"{some_of(ranges, 3)} can have any value of a range: give a step or choices in a space of your own "
            "(docs/SPACES.md), hold it with --set, or use qmc"
        )
    if next(itertools.islice(space.grid(), MOST_GRID_POINTS, None), None) is not None:
        return f"it has more than {MOST_GRID_POINTS} configurations: hold some keys with --set, or use qmc"
    return ""


@SAMPLERS.register("tpe")
def tpe(draw: Draw) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimators (Bergstra et al., 2011); multivariate and grouped for conditional spaces.

    Trials that are still running count as bad ones (a constant liar), so that those suggested at once differ.
    """
    import optuna

    return optuna.samplers.TPESampler(
        seed=draw.seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=draw.startup
    )


@SAMPLERS.register("random")
def random(draw: Draw) -> optuna.samplers.BaseSampler:
    """Independent uniform draws (Bergstra and Bengio, 2012)."""
    import optuna

    return optuna.samplers.RandomSampler(seed=draw.seed)


@SAMPLERS.register("qmc")
def qmc(draw: Draw) -> optuna.samplers.BaseSampler:
    """A scrambled Sobol sequence (Owen, 1998; for hyperparameters Bousquet et al., 2017), one point for each trial.

    The sequence is the sweep's and the trial's number is the place in it. A point has a coordinate for every parameter
    of the space; where a condition fails, it is passed over.
    """
    from scipy.stats.qmc import Sobol

    from sweep.points import Point, at

    sequence = Sobol(len(draw.space.parameters), scramble=True, seed=derived_seed("sobol", draw.sweep_seed))
    place = draw.number + AHEAD * draw.attempt
    if place > 0:  # SciPy cannot go forward by none
        sequence.fast_forward(place)
    return Point(draw.space, at(draw.space, sequence.random(1)[0]))


@SAMPLERS.register("grid")
@only_where(endless)
def grid(draw: Draw) -> optuna.samplers.BaseSampler:
    """Every configuration of the space once, in an order that the sweep's seed shuffles."""
    from sweep.points import Point

    points = list(draw.space.grid())
    tried = {frozenset(params.items()) for params in draw.asked}
    order = np.random.default_rng(derived_seed("grid", draw.sweep_seed)).permutation(len(points))
    left = (points[index] for index in order if frozenset(points[index].items()) not in tried)
    return Point(draw.space, next(left, points[0]))


@SAMPLERS.register("gp")
@only_where(conditions)
def gp(draw: Draw) -> optuna.samplers.BaseSampler:
    """A Gaussian process and the expected improvement under it (Jones et al., 1998); learns from completed trials.

    Beside the starting points, which may all have the same numbers, it begins with some that are drawn at random.
    """
    import optuna

    return optuna.samplers.GPSampler(
        seed=draw.seed, n_startup_trials=len(draw.space.start) + min(10, max(2, draw.trials // 4))
    )


@SAMPLERS.register("nsga2")
@only_where(conditions)
def nsga2(draw: Draw) -> optuna.samplers.BaseSampler:
    """A genetic algorithm (Deb et al., 2002); a generation is a fifth of the planned trials, completed ones only."""
    from sweep.points import Generations

    return Generations(seed=draw.seed, population_size=max(4, min(50, draw.trials // 5)))
