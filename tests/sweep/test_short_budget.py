"""A budget without room for whole trainings: features once in place of `full`, told with its numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from search_spaces import SPACES, find_space
from search_spaces.core.space import shorter_space
from sweep.again import space_fault
from sweep.config import SweepConfig, from_command_line
from sweep.plan import MeasuredCost
from sweep.short_budget import WHOLE, may_be_shortened, needed_seconds, told
from trainables.cost import Cost

MODEL = "lraspp_efficientnet_lite0"
KNOWN = MeasuredCost(MODEL, "64x64", Cost(train_seconds=9.0, val_seconds=1.0))


def config(**values: Any) -> SweepConfig:
    asked = ["--space", "full", "--models", MODEL, "--weights", "imagenet", "--time-budget", "10m"]
    found = from_command_line(asked)
    assert isinstance(found, SweepConfig)
    return dataclasses.replace(found, **values)


def test_full_names_the_space_that_stands_for_it() -> None:
    assert {name: shorter_space(name) for name in SPACES if shorter_space(name)} == {"full": "frozen"}
    assert shorter_space("mine.yaml") == ""


@pytest.mark.parametrize(
    "values",
    [
        {"space": "lr"},
        {"space": "mine.yaml"},
        {"weights": "none"},
        {"weights": "coco_voc"},
        {"time_budget": None},
        {"max_epochs": 5},
        {"seeds": 3},
        {"set_": {"training.freeze": "batch_norm"}},
        {"set_": {"augment.policy": "geometric"}},
    ],
    ids=str,
)
def test_what_a_command_decides_itself_stays(values: dict[str, Any]) -> None:
    assert may_be_shortened(config())
    assert may_be_shortened(config(set_={"image_size": "64x64"}))
    assert not may_be_shortened(config(**values))


def test_needed_is_every_starting_point_and_the_cheapest_confirmation_at_length() -> None:
    assert needed_seconds(KNOWN, 9, 2) == (9 + 6) * WHOLE * 10.0 / 2
    sentence = told(config(), KNOWN, 9, 2)
    assert sentence.startswith("space frozen instead of full: an epoch of the known-good point takes 10 s here")
    assert "15 epochs of its 9 starting points and of a confirmation would take about 19m" in sentence
    assert "--max-epochs N" in sentence and "--time-budget 19m" in sentence


def test_the_same_command_goes_on_with_what_stood_for_its_space() -> None:
    began = find_space("frozen", image_size=(64, 64))([MODEL], "imagenet")
    assert space_fault("full", began, [MODEL], "imagenet", "64x64") == ""
    assert space_fault("frozen", began, [MODEL], "imagenet", "64x64") == ""
    assert "it is frozen" in space_fault("lr", began, [MODEL], "imagenet", "64x64")
