"""An Optuna study that agrees with the journal: pruned trials are PRUNED, infeasible ones violate a constraint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from search_spaces.core.space import SearchSpace
from sweep.drawing import Drawing
from sweep.journal import Event
from sweep.objectives import Objective
from sweep.samplers import SAMPLERS, Draw, endless
from trainables.registry import Scalar
from trainables.seeds import derived_seed

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

INFEASIBLE = "infeasible"
ATTEMPTS = 50
"""Draws of a sampler that may all have been tried before."""


class Suggestions:
    """Asks an Optuna study in memory what to try; a view of the journal.

    A suggestion depends on the sweep's seed, the trial's number and the trials recorded before; not on when or in which
    process it is made.

    Args:
        space: What to ask for.
        sampler: Name in `SAMPLERS`.
        seed: The sweep's seed.
        trials: Planned.
        objective: What ranks.
        further: Objectives beside it, which then count as much.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        sampler: str,
        seed: int,
        trials: int,
        objective: Objective,
        further: Sequence[Objective] = (),
    ) -> None:
        self._space = space
        self._make_sampler = SAMPLERS.get(sampler)
        self._seed = seed
        self._trials = trials
        self._objectives = (objective, *further)
        self._open: dict[str, optuna.Trial] = {}
        self._asked: list[dict[str, Scalar]] = []
        self._tried: set[int] = set()
        storage = optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(
            study_name="sweep",
            storage=storage,
            directions=["maximize" if one.metric.direction == "max" else "minimize" for one in self._objectives],
        )
        self._drawing = Drawing(space, self.study, storage)

    def ask(self, trial_id: str, number: int, fixed: Mapping[str, Scalar] | None = None) -> dict[str, Scalar] | None:
        """Suggests the parameters of a trial, or uses those of a starting point or of a journal.

        The same parameters would train the same digits again, so a suggestion that was made before is drawn again.

        Returns:
            The parameters, or None if there are none that were not tried: the space is exhausted.
        """
        params = self._draw(number) if fixed is None else self._drawing.draw(_Given(fixed))
        if params is None:
            return None
        self.study.sampler = _Given(params)
        trial = self.study.ask({key: self._drawing.distributions[key] for key in params})
        trial.set_user_attr("trial_id", trial_id)
        self._open[trial_id] = trial
        self._asked.append(self.study.get_trials(deepcopy=False)[-1].params)  # the same dict, not another
        self._tried.add(_hashed(params))
        return params

    def _draw(self, number: int) -> dict[str, Scalar] | None:
        """Parameters that were not asked for before."""
        for attempt in range(ATTEMPTS):
            draw = Draw(self._space, self._seed, number, attempt, self._trials, self._asked)
            params = self._drawing.draw(self._make_sampler(draw))
            if _hashed(params) not in self._tried:
                return params
        return self._untried(number)

    def _untried(self, number: int) -> dict[str, Scalar] | None:
        """Parameters that no trial had, at random, where those of the space can be listed; None if there are none.

        A sampler that has learnt which of few configurations is best draws it again and again.
        """
        if endless(self._space):
            return None
        tried = {_rounded(params) for params in self._asked}
        left = [point for point in self._space.grid() if _rounded(point) not in tried]
        rng = np.random.default_rng(derived_seed("untried", self._seed, number))
        return left[rng.integers(len(left))] if left else None

    def drop(self, trial_id: str) -> None:
        """Takes a suggestion back that will not be tried; it is not made again."""
        self.study.tell(self._open.pop(trial_id), state=TrialState.FAIL)

    def apply(self, event: Event) -> None:
        """Records a result or an end; events of trials that the study did not suggest are ignored."""
        trial = self._open.get(event.get("trial_id", ""))
        if trial is None:
            return
        if event["event"] == "result":
            value = self._objectives[0].value(event["metrics"])
            if value is not None and len(self._objectives) == 1:  # of several Optuna takes no intermediate values
                trial.report(value, event["epoch"])
        elif event["event"] == "ended":
            self._tell(trial, event)
            del self._open[event["trial_id"]]

    def _tell(self, trial: optuna.Trial, event: Event) -> None:
        state = event["state"]
        trial.set_user_attr("state", state)
        if event["reason"]:
            trial.set_user_attr("reason", event["reason"])
        if state == "failed":
            self.study.tell(trial, state=TrialState.FAIL)
            return
        # A sampler learns from a constraint that a region diverges; it would ignore FAIL.
        trial.set_constraint(INFEASIBLE, 1.0 if state == "infeasible" else -1.0)
        if state == "completed":
            self.study.tell(trial, [float(event["metrics"][one.key]) for one in self._objectives])
        else:
            self.study.tell(trial, state=TrialState.PRUNED)


class _Given(optuna.samplers.BaseSampler):
    """Suggests given parameters; others, of a space that has been enlarged since, at random.

    Optuna would look through all trials for one that was enqueued, and keep its parameters twice.
    """

    def __init__(self, params: Mapping[str, Scalar]) -> None:
        self._params = params
        self._others: optuna.samplers.RandomSampler | None = None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """None."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value that was given."""
        if param_name in self._params:
            return self._params[param_name]
        if self._others is None:  # a generator of random numbers is dear
            self._others = optuna.samplers.RandomSampler(seed=0)
        return self._others.sample_independent(study, trial, param_name, param_distribution)


def _hashed(params: Mapping[str, Scalar]) -> int:
    """Stands for parameters in this process; of those that are kept the values would take kilobytes a trial."""
    return hash(frozenset(params.items()))


def _rounded(params: Mapping[str, Scalar]) -> frozenset[tuple[str, Scalar]]:
    """Parameters to be compared: a number is as good as one that differs in its last digits."""
    return frozenset((k, round(value, 12) if isinstance(value, float) else value) for k, value in params.items())
