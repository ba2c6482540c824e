"""Which hyperparameters mattered: Optuna's fANOVA, where the trials show that any did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces.core.parameter import Parameter
from trainables.metrics import Floats
from trainables.registry import Scalar

LEAST_TRIALS = 30
"""Fewer trials at full budget are not asked which hyperparameters mattered."""
SHUFFLES = 19
"""A forest must predict left-out trials better than after any of so many shuffles of the scores: by chance 1 in 20."""
TREES = 64


@dataclass(frozen=True)
class Importance:
    """Which hyperparameters mattered among some trials.

    Attributes:
        trials: How many, all at full budget.
        explained: R^2 of a forest on the trials that each of its trees has not seen.
        shares: Of each hyperparameter in what the forest explains, the largest first (fANOVA), without interactions.
    """

    trials: int
    explained: float
    shares: Mapping[str, float]


def importance(
    points: Sequence[Mapping[str, Scalar]], scores: Sequence[float], parameters: Sequence[Parameter], *, seed: int = 0
) -> Importance | str:
    """Asks fANOVA (Hutter, Hoos and Leyton-Brown, ICML 2014) which hyperparameters mattered.

    Args:
        points: What each trial chose; only hyperparameters that all of them have are compared.
        scores: One per trial, all at full budget.
        parameters: Of the space.
        seed: Of the forests.

    Returns:
        The shares; or why none is told: too few trials, or nothing that left-out trials confirm.
    """
    if len(scores) < LEAST_TRIALS:
        return f"{len(scores)} trials at full budget are too few to ask which hyperparameters mattered: {LEAST_TRIALS}"
    import optuna

    from sweep.points import distribution_of

    asked = {
        parameter.key: distribution_of(parameter)
        for parameter in parameters
        if all(parameter.key in point and parameter.contains(point[parameter.key]) for point in points)
        and len({str(point[parameter.key]) for point in points}) > 1
    }
    if not asked:
        return "no hyperparameter was varied in all trials"
    inputs = np.stack([[_number(parameter, point[parameter.key]) for parameter in parameters if parameter.key in asked]
                       for point in points])  # fmt: skip
    values = np.asarray(scores, dtype=np.float64)
    explained = _out_of_bag(inputs, values, seed)
    rng = np.random.default_rng(seed)
    if explained <= max(_out_of_bag(inputs, rng.permutation(values), seed) for _ in range(SHUFFLES)):
        return f"the hyperparameters of {len(scores)} trials predict left-out trials no better than chance"
    study = optuna.create_study(direction="maximize")
    for point, score in zip(points, values, strict=True):
        chosen = {key: point[key] for key in asked}
        study.add_trial(optuna.trial.create_trial(params=chosen, distributions=asked, value=float(score)))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(asked))
    return Importance(len(scores), explained, dict(sorted(shares.items(), key=lambda item: -item[1])))


def _number(parameter: Parameter, value: Scalar) -> float:
    """A value as a tree takes it."""
    if parameter.kind == "choice":
        return float(parameter.choices.index(value))
    return float(np.log(float(value))) if parameter.log else float(value)


def _out_of_bag(inputs: Floats, scores: Floats, seed: int) -> float:
    """R^2 of a forest on the trials that each tree has not seen."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(n_estimators=TREES, oob_score=True, random_state=seed, min_samples_leaf=2)
    return float(forest.fit(inputs, scores).oob_score_)
