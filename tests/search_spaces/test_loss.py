"""The space `loss`: every loss and its hyperparameters, nothing that the others do not have."""

from __future__ import annotations

import optuna
import pytest

from search_spaces import SPACES
from search_spaces.core.space import SearchSpace
from search_spaces.loss import SUMS
from trainables.losses import LOSSES
from trainables.registry import Scalar

MODELS = ["lraspp_mobilenet_v3_large"]
LABELS = [*LOSSES, *SUMS]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    made: SearchSpace = SPACES.get("loss")(MODELS, "none")
    return made


@pytest.fixture(scope="module")
def drawn(space: SearchSpace) -> list[dict[str, Scalar]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(200)]


def own(point: dict[str, Scalar]) -> set[str]:
    return {key.removeprefix("loss.") for key in point if key.startswith("loss.") and key != "loss.name"}


def test_every_loss_is_a_label_and_starts_once(space: SearchSpace) -> None:
    assert [point["loss.name"] for point in space.start] == LABELS


def test_every_hyperparameter_of_a_loss_is_searched_where_it_has_an_effect(drawn: list[dict[str, Scalar]]) -> None:
    for name in LABELS:
        ours = [point for point in drawn if point["loss.name"] == name]
        assert ours, name
        for point in ours:
            expected = set(LOSSES.parameters(name))
            if name == "weighted_cross_entropy":
                expected -= {"volume" if point["loss.weighting"] == "inverse_frequency" else "power"}
            if name in SUMS:
                expected -= {"label_smoothing"}
            assert own(point) == expected


def test_loss_starts_from_the_defaults_of_its_hyperparameters(space: SearchSpace) -> None:
    """A label's first trial is what `loss.name` alone would give."""
    for point in space.start:
        defaults = LOSSES.parameters(str(point["loss.name"]))
        assert {key: point[f"loss.{key}"] for key in own(dict(point))} == {
            key: defaults[key].default for key in own(dict(point))
        }


def test_held_loss_keeps_its_own_hyperparameters_alone(space: SearchSpace) -> None:
    held = space.fix({"loss.name": "tversky"})
    assert [p.key for p in held.parameters] == ["loss.alpha", "loss.beta", "optimizer.lr"]
    assert [dict(point) for point in held.start] == [{"loss.alpha": 0.3, "loss.beta": 0.7, "optimizer.lr": 3e-3}]
