"""Which hyperparameters mattered: found where one did, refused where none did or the trials are too few."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces.core.parameter import Parameter, choice
from sweep.importance import LEAST_TRIALS, Importance, importance
from trainables.registry import Scalar

PARAMETERS = (
    Parameter("optimizer.lr", "float", 1e-4, 1e-2, log=True),
    Parameter("optimizer.weight_decay", "float", 0.0, 1.0),
    choice("loss.name", ("focal", "dice", "cross_entropy")),
    Parameter("batch_size", "int", 2, 16),
)


def trials(count: int, seed: int, *, effect: float) -> tuple[list[dict[str, Scalar]], list[float]]:
    """Scores that depend on the learning rate alone, with a seed's noise of 0.012."""
    rng = np.random.default_rng([seed, count])
    points: list[dict[str, Scalar]] = [
        {
            "optimizer.lr": float(10 ** rng.uniform(-4, -2)),
            "optimizer.weight_decay": float(rng.random()),
            "loss.name": str(rng.choice(PARAMETERS[2].choices)),
            "batch_size": int(rng.integers(2, 17)),
        }
        for _ in range(count)
    ]
    scores = [0.5 - effect * (np.log10(float(point["optimizer.lr"])) + 2.5) ** 2 + rng.normal(0, 0.012)
              for point in points]  # fmt: skip
    return points, scores


def test_the_hyperparameter_that_mattered_comes_first() -> None:
    for seed in range(3):
        found = importance(*trials(LEAST_TRIALS, seed, effect=0.06), PARAMETERS)
        assert isinstance(found, Importance)
        assert next(iter(found.shares)) == "optimizer.lr" and found.shares["optimizer.lr"] > 0.6
        assert found.trials == LEAST_TRIALS and 0.2 < found.explained < 1
        assert list(found.shares.values()) == sorted(found.shares.values(), reverse=True)


def test_where_nothing_mattered_nothing_is_told() -> None:
    told = [importance(*trials(40, seed, effect=0.0), PARAMETERS) for seed in range(8)]
    # One in 20 is allowed; more than 2 of 8 come by chance in 1 of 170.
    assert sum(isinstance(one, Importance) for one in told) <= 2
    assert any("no better than chance" in one for one in told if isinstance(one, str))


@pytest.mark.parametrize(("count", "refused"), [(LEAST_TRIALS - 1, True), (LEAST_TRIALS, False)])
def test_too_few_trials_are_not_asked(count: int, refused: bool) -> None:
    found = importance(*trials(count, 0, effect=0.06), PARAMETERS)
    assert isinstance(found, str) is refused
    if refused:
        assert (
            found == f"{count} trials at full budget are too few to ask which hyperparameters mattered: {LEAST_TRIALS}"
        )


def test_only_what_all_trials_have_is_compared() -> None:
    points, scores = trials(LEAST_TRIALS, 1, effect=0.06)
    del points[3]["batch_size"]
    found = importance([{**point, "optimizer.weight_decay": 0.5} for point in points], scores, PARAMETERS)
    assert isinstance(found, Importance) and set(found.shares) == {"optimizer.lr", "loss.name"}
    assert importance([{}] * LEAST_TRIALS, scores, PARAMETERS) == "no hyperparameter was varied in all trials"
