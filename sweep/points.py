"""Optuna samplers that keep nothing between suggestions, where Optuna's own do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.parameter import Parameter
from search_spaces.core.space import SearchSpace
from trainables.registry import Scalar


class Point(optuna.samplers.BaseSampler):
    """Suggests one given point; a trial takes of it the parameters whose conditions hold.

    Args:
        space: With a value of the point for each of its parameters that a trial may ask for.
        point: Values by key.
    """

    def __init__(self, space: SearchSpace, point: Mapping[str, Scalar]) -> None:
        self._point = dict(point)
        self._distributions = {p.key: distribution_of(p) for p in space.parameters if p.key in point}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters of the point."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The point."""
        return self._point

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never needed.

        Raises:
            KeyError: If it is.
        """
        raise KeyError(f"the point has no {param_name}")


class Generations(optuna.samplers.NSGAIISampler):
    """NSGA-II whose generations follow from the completed trials alone: the first so many, the next so many, ...

    Optuna's own writes them down while it suggests, and they would be lost when the study is rebuilt from a journal.

    Args:
        seed: Of what is crossed over and mutated.
        population_size: Trials of a generation.
    """

    def __init__(self, *, seed: int, population_size: int) -> None:
        super().__init__(seed=seed, population_size=population_size)
        self._size = population_size

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """That of the trial to be suggested."""
        return len(_completed(study)) // self._size

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """The trials of a generation, in the order of their numbers."""
        first = generation * self._size
        return _completed(study)[first : first + self._size]

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """The best of all generations before; none of the first."""
        return self.select_parent(study, generation) if generation > 0 else []


def _completed(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def at(space: SearchSpace, shares: Sequence[float]) -> dict[str, Scalar]:
    """The point at given shares, 0 up to but without 1, of the ranges of a space's parameters, conditions aside."""
    return {p.key: _value(p, float(share)) for p, share in zip(space.parameters, shares, strict=True)}


def _value(parameter: Parameter, share: float) -> Scalar:
    values = parameter.grid()
    if values is not None:
        return values[int(share * len(values))]
    low, high = parameter.low, parameter.high
    if not parameter.log:
        return low + share * (high - low)
    value = min(high, max(low, low * math.exp(share * math.log(high / low))))
    return round(value) if parameter.kind == "int" else value


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """What a parameter asks a trial for."""
    asked = _Asked()
    parameter.suggest(asked)
    return asked.distribution


class _Asked:
    """Stands in for a trial, to see which distribution a parameter asks it for."""

    distribution: BaseDistribution

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.distribution = FloatDistribution(low, high, log=log, step=step)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.distribution = IntDistribution(low, high, log=log, step=step)
        return low

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.distribution = CategoricalDistribution(choices)
        return choices[0]
