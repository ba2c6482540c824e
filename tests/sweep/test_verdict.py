"""What the verdict says, and where its images' variance comes from: against a plain loop over drawn images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from sweep.claims import Contrast, Outcome
from sweep.deciding import decide, image_variances, over_images
from sweep.objectives import objective_of
from sweep.verdict import (
    Confirmed,
    Verdict,
    last_verdict,
    of_hundred,
    sentence,
    why_unconfirmed,
)
from trainables.errors import DataError
from trainables.metrics import iou, mean_over_classes, sampling_units
from trainables.metrics.registry import ConfusionsAlone
from trainables.paths import UnsafePathError

MIOU = objective_of("val/miou")
FOUND = Contrast("t003", 0.0212, 0.0081, 0.0344, 0.0151, 0.024, 2)


def configuration(trial_id: str, label: str, scores: tuple[float, ...]) -> Confirmed:
    trials = tuple(f"{trial_id}-s{number}" for number in range(1, len(scores) + 1))
    return Confirmed(trial_id, label, trials, tuple(range(len(scores))), scores)


BASE, GEOMETRIC = configuration("t000", "baseline", (0.40, 0.41)), configuration("t003", "geometric", (0.43, 0.42))
VERDICT = Verdict("val", "val/miou", (BASE, GEOMETRIC), (FOUND,), "t003", "images", 100, 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "geometric (t003) is better than the baseline: +0.021 [+0.008, +0.034], 2 seeds each; a sweep of "
             "equals would show as much in 2 of 100"),
        ({"low": -0.01}, "no difference found: geometric (t003) +0.021 [-0.010, +0.034] beside the baseline, 2 "
                         "seeds each; a gain of 0.024 would have been found in 8 of 10 cases"),
        ({"difference": -0.03, "low": -0.05, "high": -0.01},
         "nothing was better than the baseline: geometric (t003) is worse, -0.030 [-0.050, -0.010], 2 seeds each"),
        ({"chance": 0.0001}, "a sweep of equals would show as much in less than 1 of 100"),
    ],
)  # fmt: skip
def test_sentence_carries_its_numbers(changes: Mapping[str, float], said: str) -> None:
    contrast = dataclasses.replace(FOUND, **changes)  # type: ignore[arg-type]
    assert said in sentence(dataclasses.replace(VERDICT, contrasts=(contrast,)), MIOU)


def test_nothing_is_better_just_below_the_threshold() -> None:
    for low, outcome in ((1e-9, Outcome.BETTER), (0.0, Outcome.UNDECIDED), (-1e-9, Outcome.UNDECIDED)):
        told = dataclasses.replace(VERDICT, contrasts=(dataclasses.replace(FOUND, low=low),))
        assert told.outcome is outcome and ("is better" in sentence(told, MIOU)) is (outcome is Outcome.BETTER)


@pytest.mark.parametrize(
    ("chance", "said"), [(0.0, "less than 1 of 100"), (0.0099, "less than 1 of 100"), (0.01, "1 of 100"),
                         (0.0101, "2 of 100"), (0.999, "100 of 100")],
)  # fmt: skip
def test_chance_is_told_as_no_less_than_it_is(chance: float, said: str) -> None:
    assert of_hundred(chance) == said


def test_images_that_picked_it_and_are_not_counted_allow_no_claim() -> None:
    for split, chosen_from in (("val", 4), ("test", None)):
        told = dataclasses.replace(VERDICT, split=split, unit_count=0, chosen_from=chosen_from)
        text = sentence(told, MIOU)
        assert (told.outcome is Outcome.BETTER) is (split == "test") is ("is better" in text)
        assert ("is not known" if split == "val" else "what other images would change is not accounted for") in text


def test_configuration_that_diverged_with_a_seed_is_not_better_and_is_told() -> None:
    lost = dataclasses.replace(VERDICT, configurations=(BASE, dataclasses.replace(GEOMETRIC, lost=3)))
    assert lost.outcome is Outcome.UNDECIDED
    assert "nothing can be claimed" in sentence(lost, MIOU) and "; it diverged with 3 more" in sentence(lost, MIOU)
    steady = configuration("t004", "flip", (0.415, 0.42))
    both = decide(
        (BASE, dataclasses.replace(GEOMETRIC, lost=3), steady), MIOU, split="val", collected=lambda trial: None,
        units=sampling_units([None] * 30), chosen_from=3,
    )  # fmt: skip
    assert both.winner == "t004" and both.leading.name == "t004"


def test_numbers_of_seeds_are_told_where_they_differ() -> None:
    more = dataclasses.replace(VERDICT, configurations=(configuration("t000", "baseline", (0.4,) * 7), GEOMETRIC))
    assert ", 2 seeds, the baseline 7; " in sentence(more, MIOU)


def test_verdict_survives_the_journal() -> None:
    event = {"event": "verdict", "time": "now", **VERDICT.to_json()}
    assert last_verdict([event, {"event": "closed"}]) == VERDICT  # type: ignore[list-item]
    assert last_verdict([]) is None


@pytest.mark.parametrize(
    "changes",
    [{"configurations": 7}, {"contrasts": [{}]}, {"contrasts": []}, {"winner": "t999"}, {"configurations": [{}]}],
)
def test_damaged_verdict_is_one_error(changes: Mapping[str, object]) -> None:
    with pytest.raises(DataError, match="the verdict in the journal is damaged"):
        Verdict.from_json({**VERDICT.to_json(), **changes})


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc/passwd", "a/b", ""])
def test_trial_ids_of_a_verdict_lead_nowhere_else(name: str) -> None:
    content = VERDICT.to_json()
    content["configurations"][1]["trials"] = (name, "t003-s2")
    with pytest.raises(UnsafePathError):
        Verdict.from_json(content)


def test_reason_for_no_confirmation_is_forgotten_once_there_is_one() -> None:
    over, seed = {"event": "confirm_over", "reason": "no time"}, {"event": "suggested", "phase": "confirm"}
    assert why_unconfirmed([seed, over, {"event": "resumed"}]) == "no time"  # type: ignore[list-item]
    assert why_unconfirmed([over, seed]) == ""  # type: ignore[list-item]


def matrices(rng: np.random.Generator, images: int, skill: float) -> np.ndarray:
    truth = rng.multinomial(400, [0.6, 0.3, 0.1], images)
    right = rng.binomial(truth, skill)
    found = np.zeros((images, 3, 3), dtype=np.int64)
    for image, row in np.ndindex(images, 3):
        found[image, row, row] = right[image, row]
        found[image, row, (row + 1) % 3] = truth[image, row] - right[image, row]
    return found


@pytest.mark.parametrize("grouped", [False, True])
def test_image_variance_is_that_of_differences_on_drawn_images(grouped: bool) -> None:
    rng = np.random.default_rng(0)
    images = 60
    kept = {
        trial: matrices(rng, images, skill) for one, skill in ((BASE, 0.7), (GEOMETRIC, 0.8)) for trial in one.trials
    }
    groups = [f"g{image // 4}" for image in range(images)] if grouped else [None] * images
    units = sampling_units(groups)
    means = over_images((BASE, GEOMETRIC), MIOU, lambda trial: ConfusionsAlone(kept[trial]), units)
    assert means is not None
    ours = image_variances(means, "t000")
    assert set(ours) == {"t003"} and image_variances(means, "t003") == {"t000": pytest.approx(ours["t003"])}

    def mean_iou(trial: str, drawn: np.ndarray) -> float:
        return float(mean_over_classes(iou(kept[trial][drawn].sum(axis=0))))

    differences = []
    for _ in range(2000):
        picked = rng.integers(0, units.count, units.count)
        drawn = np.concatenate([np.flatnonzero(units.of_image == unit) for unit in picked])
        of_each = [np.mean([mean_iou(trial, drawn) for trial in one.trials]) for one in (GEOMETRIC, BASE)]
        differences.append(of_each[0] - of_each[1])
    theirs = np.var(differences, ddof=1) * units.count / (units.count - 1)
    assert ours["t003"] == pytest.approx(theirs, rel=0.2)


def test_without_what_the_images_say_they_count_as_given() -> None:
    units = sampling_units([None] * 30)
    rng = np.random.default_rng(0)
    kept = ConfusionsAlone(matrices(rng, 30, 0.7))
    asked = {"split": "val", "units": units, "chosen_from": 3}
    whole = decide((BASE, GEOMETRIC), MIOU, collected=lambda trial: kept, **asked)  # type: ignore[arg-type]
    missing = decide(
        (BASE, GEOMETRIC),
        MIOU,
        collected=lambda trial: None if trial == "t003-s2" else kept,
        **asked,  # type: ignore[arg-type]
    )
    few = decide((BASE, GEOMETRIC), MIOU, collected=lambda trial: kept, split="val", units=sampling_units(["a"] * 30),
                 chosen_from=3)  # fmt: skip
    assert (whole.unit_count, missing.unit_count, few.unit_count) == (30, 0, 0)
