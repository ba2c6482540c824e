"""What a sampler suggests, without a trial of the study that would stay there."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from search_spaces.core.parameter import Parameter
from search_spaces.core.space import SearchSpace
from sweep.points import distribution_of
from trainables.registry import Scalar


class Drawing:
    """Asks samplers for parameters as `optuna.Trial` does.

    A trial of the study in which parameters are drawn could only be told as failed, and would be kept and passed over
    by every later suggestion. Samplers may leave notes with the trial that they suggest for, so they are shown one of
    another study of the same storage.

    Args:
        space: What to ask for.
        study: What samplers read.
        storage: Of the study.
    """

    def __init__(self, space: SearchSpace, study: optuna.Study, storage: optuna.storages.BaseStorage) -> None:
        self._space = space
        self._study = study
        self._parameters = {parameter.key: parameter for parameter in space.parameters}
        self.distributions = {parameter.key: distribution_of(parameter) for parameter in space.parameters}
        aside = optuna.create_study(study_name="drawing", storage=storage)
        aside.ask()
        (self._trial,) = aside.get_trials()

    def draw(self, sampler: optuna.samplers.BaseSampler) -> dict[str, Scalar]:
        """The parameters of the next trial as a sampler suggests them."""
        trial = copy.copy(self._trial)
        trial.number = len(self._study.get_trials(deepcopy=False))
        trial.params, trial.distributions = {}, {}
        sampler.before_trial(self._study, trial)
        return self._space.suggest(_Drawn(self._parameters, self._study, sampler, trial, self.distributions))


class _Drawn:
    """One suggestion; a `Suggester` that knows the distributions by the names of the parameters."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        study: optuna.Study,
        sampler: optuna.samplers.BaseSampler,
        trial: optuna.trial.FrozenTrial,
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        self._parameters = parameters
        self._study = study
        self._sampler = sampler
        self._trial = trial
        self._distributions = distributions
        self._relative: Mapping[str, Any] | None = None

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        value: float = self._suggest(name)
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._suggest(name))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._suggest(name)

    def _suggest(self, name: str) -> Any:
        distribution = self._distributions[name]
        value = self._trial.params[name] = self._sampled(name, distribution)
        self._trial.distributions[name] = distribution
        return value

    def _sampled(self, name: str, distribution: BaseDistribution) -> Any:
        parameter = self._parameters[name]
        if distribution.single():
            return parameter.ends()[0]
        if self._relative is None:
            relative_space = self._sampler.infer_relative_search_space(self._study, self._trial)
            self._relative = self._sampler.sample_relative(self._study, self._trial, relative_space)
        if name in self._relative and parameter.contains(self._relative[name]):
            return self._relative[name]
        return self._sampler.sample_independent(self._study, self._trial, name, distribution)
