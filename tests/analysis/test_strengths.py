"""Classes and sizes of regions beside the baseline: against plain loops, among equals, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analysis.dead import Dead
from analysis.report.sections.comments import LEAST_RATIO, comments
from analysis.statistics import MIN_IMAGES
from analysis.strengths import MIN_UNITS, SIZES, Strength, strengths

from .synthetic_run import make_results, with_standing, with_verdict

NAMES = ["road", "car", "pole"]
PRESENT = (60, 40, 15)


def evaluation(seed: int, *, skill: tuple[float, ...] = (2.0, 1.0, 0.0), images: int = 60, split: str = "test",
               present: tuple[int, ...] = PRESENT) -> Any:  # fmt: skip
    """Images of one truth, whatever the seed; each class is found by its skill."""
    truth = np.random.default_rng(0).multinomial(2000, (0.85, 0.13, 0.02), images)
    for class_id, count in enumerate(present):
        truth[count:, class_id] = 0
    noise = np.random.default_rng([1, seed]).normal(0, 0.7, truth.shape)
    hit = np.round(truth / (1 + np.exp(-np.array(skill) - noise))).astype(np.int64)
    confusions = np.zeros((images, 3, 3), np.int64)
    for own in range(3):
        confusions[:, own, own] = hit[:, own]
        confusions[:, own, (own + 1) % 3] = truth[:, own] - hit[:, own]
    ids = tuple(map(str, range(images)))
    return SimpleNamespace(confusions=confusions, groups=(None,) * images, image_ids=ids, split=split)


def found(first: Any, *others: Any) -> list[Strength]:
    trials = {"baseline": "0", "best": "1"} | {f"l{place}": str(place) for place in range(1, len(others) + 1)}
    evaluations = {str(place): one for place, one in enumerate((first, *others))}
    return strengths(trials, evaluations, NAMES)


def test_scores_are_those_of_a_loop_over_regions() -> None:
    first, second = evaluation(1), evaluation(2)
    told = {(one.kind, one.what): one for one in found(first, second)}
    for name, each in (("baseline", first), ("score", second)):
        total = each.confusions.sum(axis=0)
        sizes: dict[str, list[float]] = {size: [] for size, _, _ in SIZES}
        for class_id, class_name in enumerate(NAMES):
            union = total[class_id].sum() + total[:, class_id].sum() - total[class_id, class_id]
            assert getattr(told["class", class_name], name) == pytest.approx(total[class_id, class_id] / union)
            for matrix in each.confusions:
                pixels = matrix[class_id].sum()
                if pixels:
                    union = pixels + matrix[:, class_id].sum() - matrix[class_id, class_id]
                    share = pixels / matrix.sum()
                    size = "small" if share < 0.01 else "medium" if share < 0.1 else "large"
                    sizes[size].append(matrix[class_id, class_id] / union)
        for size, values in sizes.items():
            if ("size", size) in told:
                assert getattr(told["size", size], name) == pytest.approx(np.mean(values))
    assert ("size", "large") in told and told["class", "pole"].units == 15


def test_a_class_that_is_found_more_often_is_higher_and_the_others_are_not_told() -> None:
    same = evaluation(1)
    told = {one.what: one for one in found(same, evaluation(2, skill=(2.0, 2.5, 0.0))) if one.kind == "class"}
    assert told["car"].outcome == "higher" and told["car"].low > 0.02
    back = {one.what: one for one in found(evaluation(2, skill=(2.0, 2.5, 0.0)), same) if one.kind == "class"}
    assert back["car"].outcome == "lower"
    assert back["car"].high == pytest.approx(-told["car"].low) and back["car"].chance == told["car"].chance


@pytest.mark.parametrize("labels", [1, 4])
def test_equals_are_told_apart_in_no_class_in_95_of_100(labels: int) -> None:
    told = 0
    for sweep in range(100):
        first, *others = (evaluation(100 * sweep + one) for one in range(labels + 1))
        told += any(one.outcome != "undecided" for one in found(first, *others))
    # 5% are allowed; of 100, chance takes that beyond 12 in 2 of 1,000.
    assert told <= 12


def test_without_the_familys_control_equals_would_be_told_apart() -> None:
    told = 0
    for sweep in range(60):
        first, *others = (evaluation(100 * sweep + one) for one in range(5))
        rows = found(first, *others)
        single = [2.0 / 3.2 * (one.high - one.low) / 2 for one in rows]
        told += any(abs(one.difference) > reach for one, reach in zip(rows, single, strict=True))
    assert told > 12


def test_a_class_in_few_images_is_left_out() -> None:
    for count in (MIN_UNITS - 1, MIN_UNITS):
        present = (60, 40, count)
        rows = found(evaluation(1, present=present), evaluation(2, present=present))
        assert ("pole" in {one.what for one in rows}) is (count == MIN_UNITS)


def test_nothing_is_told_on_val_of_few_images_or_without_a_baseline() -> None:
    assert found(evaluation(1, split="val"), evaluation(2, split="val")) == []
    few = {"images": MIN_IMAGES - 1, "present": (MIN_IMAGES - 1, 15, 12)}
    assert found(evaluation(1, **few), evaluation(2, **few)) == []
    assert strengths({"best": "1"}, {"1": evaluation(1)}, NAMES) == []
    assert strengths({"baseline": "1", "best": "1"}, {"1": evaluation(1)}, NAMES) == []


def test_labels_of_one_trial_are_told_once_by_the_name_that_is_theirs() -> None:
    rows = strengths({"baseline": "0", "best": "1", "flip": "1"}, {"0": evaluation(1), "1": evaluation(2)}, NAMES)
    assert {one.name for one in rows} == {"flip"}


# What is said of it.


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_results(tmp_path_factory.mktemp("run"), images=40)[0]


def texts(results: Any) -> list[str]:
    return [one.text.striptags() for one in comments(results)]


def told_strength(**changes: Any) -> Strength:
    return replace(Strength("photometric", "class", "car", 40, 0.5, 0.6, 0.02, 0.18, 0.01), **changes)


def strength_text(results: Any, *rows: Strength) -> str:
    return texts(replace(results, strength=rows))[-1]


def test_strengths_are_told_only_where_the_interval_leaves_0_out(results) -> None:
    said = strength_text(results, told_strength(low=1e-9))
    assert said.startswith(
        "Beside the baseline's, the checkpoint of photometric has an IoU on these images of test that"
    )
    assert "is higher on car (+0.100 [+0.000, +0.180])" in said and said.endswith("Another seed may change it.")
    for low in (0.0, -0.01):
        said = strength_text(results, told_strength(low=low))
        assert said.startswith(
            "No class and no size of region is shown to differ between a label's checkpoint and the baseline's (1 "
        )
    said = strength_text(results, told_strength(score=0.4, low=-0.2, high=-1e-9, kind="size", what="small"))
    assert "is lower on small regions (-0.100" in said
    assert not any("IoU" in text and "higher" in text for text in texts(replace(results, strength=())))


def test_the_largest_differences_are_named_and_the_others_counted(results) -> None:
    rows = [told_strength(what=f"class {place}", score=0.6 + 0.01 * place) for place in range(5)]
    said = strength_text(results, *rows)
    assert "class 4" in said and "class 2" in said and "class 1" not in said and " and 2 more" in said


def test_order_names_ties_with_the_winner_on_test_and_is_no_result_on_val(results) -> None:
    first = texts(results)[0]
    scores = {one.name: one.score for one in results.standing}
    order = sorted(scores, key=lambda name: -scores[name])
    assert first.startswith("By mIoU on test, one checkpoint each: " + ", ".join(f"{n} {scores[n]:.3f}" for n in order))
    tied = [one.name for one in results.standing if one.to_winner and one.to_winner.outcome == "undecided"]
    assert ("Not shown to differ from the winner" in first) is bool(tied)
    on_val = with_standing(replace(results, split="val"))
    assert texts(on_val)[0].endswith("Val chose the labels, so the order is no result.")
    assert "Not told" not in texts(on_val)[0]
    with_standing(results)
    assert "means over fresh seeds where there are any" in texts(with_verdict(results))[0]


@pytest.mark.parametrize(("ratio", "said"), [(LEAST_RATIO - 0.01, False), (LEAST_RATIO + 0.01, True), (0.5, True)])
def test_costs_are_told_from_a_tenth_on(results, ratio: float, said: bool) -> None:
    records = dict(results.labels)
    for name, record in records.items():
        own = ratio if name == "photometric" else 1.0
        changed = type(record)(**{**vars(record), "parameters": int(1e6 * own), "train_seconds": 10.0})
        records[name] = changed
    found_costs = [text for text in texts(replace(results, labels=records)) if text.startswith("Beside the baseline: ")]
    assert bool(found_costs) is said
    if said:
        assert found_costs == [f"Beside the baseline: photometric {ratio:.2g} times the parameters."]


def test_nothing_is_said_of_one_label_or_of_what_learnt_nothing(results) -> None:
    assert comments(replace(results, standing=results.standing[:1])) == []
    assert comments(replace(results, dead={"baseline": Dead(1, 0.05, 0.06)})) == []
