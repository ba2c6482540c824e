"""The report's tables against plain resampling and scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from analysis.answer import Answer, Verdict, answer
from analysis.comparison import (
    COST_COLUMNS,
    THRESHOLD_COLUMNS,
    comparison_columns,
    comparison_frame,
    cost_frame,
    lineage,
    per_class_columns,
    per_class_frame,
    threshold_frame,
)
from analysis.dead import Dead, above_floor, dead_labels, epoch_losses, find_dead
from analysis.scores import Classes, score_labels, score_statistic, units_of, units_of_classes, why_no_interval
from sweep.objectives import objective_of, objectives
from trainables import metrics
from trainables.labels import MAJORITY
from trainables.metrics import IGNORE, PerImageConfusion, RegionConfidence, ScoreHistogram, class_metric, draw_counts

NAMES = ["sky", "road", "car", "never"]
METRICS = ("pixel_accuracy", "iou", "f1", "precision", "recall", "ap", "map")
MIOU = objective_of("val/miou")


def made_evaluation(trial_id, *, images=40, skill=2.0, seed=0, groups=None, split="test"):
    """Collected from random scores that know the target by `skill`; the fourth class is in nothing."""
    rng = np.random.default_rng(seed)
    collectors = PerImageConfusion(4), ScoreHistogram(4), RegionConfidence(4)
    for number in range(images):
        present = [0, 1] if number % 3 else [0, 1, 2]
        target = rng.choice(present, (8, 9))
        logits = rng.normal(size=(4, 8, 9)) + skill * (np.arange(4)[:, None, None] == target)
        logits[3] = -9
        target = torch.from_numpy(np.where(rng.random((8, 9)) < 0.1, IGNORE, target))
        scores = torch.from_numpy(logits).float()
        for collector in collectors:
            collector.process(str(number), scores, scores.argmax(dim=0), target)
    return SimpleNamespace(
        trial_id=trial_id,
        split=split,
        image_ids=tuple(map(str, range(images))),
        groups=groups or (None,) * images,
        confusions=collectors[0].value(),
        histograms=lambda class_id: collectors[1].value()[:, class_id],
        histogram_blocks=lambda class_id: np.array_split(collectors[1].value()[:, class_id], 3),
        score_totals=lambda class_id: collectors[1].totals()[class_id],
        confidence=collectors[2].value(),
        latency_ms=12.5,
    )


def made_record(trial_id, miou, **changed):
    flat = {"model.name": "lraspp", "augment.policy": "flip", "loss.name": "focal", "optimizer.lr": 0.003, "seed": 0}
    flat |= {"optimizer.lr": 0.01} if trial_id == "1" else {}
    flat |= changed
    return SimpleNamespace(
        trial_id=trial_id,
        config=SimpleNamespace(flat=lambda: flat),
        epochs=6,
        parameters=1234,
        train_seconds=8.5,
        metrics={"val/miou": miou},
    )


@pytest.fixture(scope="module")
def made():
    evaluations = {
        "0": made_evaluation("0", skill=1.5),
        "1": made_evaluation("1", skill=2.5),
        MAJORITY: made_evaluation(MAJORITY, skill=0.0),
    }
    labels = {"baseline": made_record("0", 0.4), "best": made_record("1", 0.6), "flip": made_record("1", 0.6)}
    return labels, evaluations, score_labels(evaluations)


def slow_scores(evaluation, chosen):
    """The seven metrics of chosen images (with repetition), class by class."""
    matrix = evaluation.confusions[chosen].sum(axis=0)
    split = evaluation.confusions.sum(axis=0)
    values = {"pixel_accuracy": np.trace(matrix) / matrix.sum()}
    for name in ("iou", "f1", "precision", "recall"):
        each = getattr(metrics, name)(matrix)
        values[name] = np.mean([each[c] for c in range(4) if split[c].sum() and matrix[c].sum()])
    # That of the split from all digits of the scores, and how far coarse ones move from it.
    each = [
        metrics.average_precision(evaluation.score_totals(c))
        + metrics.average_precision(evaluation.histograms(c)[chosen].sum(axis=0))
        - metrics.average_precision(evaluation.histograms(c).sum(axis=0))
        for c in range(4)
    ]
    values["ap"] = np.mean([each[c] for c in range(4) if matrix[c].sum()])
    regions = metrics.region_average_precision(evaluation.confusions[chosen], evaluation.confidence[chosen])
    values["map"] = np.mean([regions[c].mean() for c in range(4) if matrix[c].sum()])
    return [values[name] for name in METRICS]


def test_weighted_scores_are_those_of_repeated_images(made):
    _, evaluations, _ = made
    draws = np.random.default_rng(2).integers(0, 40, (6, 40))
    got = score_statistic(evaluations["0"])(draw_counts(draws, 40))
    assert got.shape == (7, 6)
    for column, draw in enumerate(draws):
        np.testing.assert_allclose(got[:, column], slow_scores(evaluations["0"], draw))


def test_interval_is_that_of_leaving_out_images_one_by_one(made):
    _, evaluations, scores = made
    everyone = np.arange(40)
    estimate = np.array(slow_scores(evaluations["0"], everyone))
    without = np.array([slow_scores(evaluations["0"], np.delete(everyone, one)) for one in everyone])
    centre = estimate - 39 * (without.mean(axis=0) - estimate)
    error = np.sqrt(39 / 40 * np.square(without - without.mean(axis=0)).sum(axis=0))
    freedom = np.minimum(39, 80 / (stats.kurtosis(without, fisher=False) - 1))
    low, high = stats.t.interval(0.95, freedom, loc=centre, scale=error)
    assert tuple(scores["0"]) == METRICS
    for index, score in enumerate(scores["0"].values()):
        if METRICS[index] == "precision":
            assert np.isnan([score.low, score.high]).all(), "forty images are too few for it"
            continue
        assert (score.low, score.high) == pytest.approx((low[index], high[index]))
        assert score.low < score.value < score.high


CLASSES = Classes(["road", "car"], np.array([True, True]))


def with_classes(*images_of, images=60):
    """Images with one road pixel each, and more classes in as many of them as are given."""
    confusions = np.zeros((images, 1 + len(images_of), 1 + len(images_of)), np.int64)
    confusions[:, 0, 0] = 5
    for class_id, count in enumerate(images_of, start=1):
        confusions[:count, class_id, class_id] = 1
    return SimpleNamespace(confusions=confusions, groups=(None,) * images)


@pytest.mark.parametrize(
    ("name", "count", "why"),
    [
        ("iou", 2, ""),
        ("iou", 1, "car occurs in fewer than 2 images"),
        ("f1", 0, "car occurs in fewer than 2 images"),
        ("map", 1, "car occurs in fewer than 2 images"),
        ("pixel_accuracy", 1, ""),
    ],
)
def test_rare_classes_take_the_interval_away(name, count, why):
    assert why_no_interval(metrics.METRICS.get(name), with_classes(count), classes=CLASSES) == why


def test_all_rare_classes_are_meant():
    three = Classes(["road", "car", "pole", "tram"], np.array([True] * 4))
    told = why_no_interval(metrics.METRICS.get("iou"), with_classes(1, 1, 0), classes=three)
    assert told == "car, pole and 1 more occur in fewer than 2 images"


def test_a_class_that_no_model_learnt_is_not_missed():
    alone = Classes(["road", "car"], np.array([True, False]))
    assert why_no_interval(metrics.METRICS.get("iou"), with_classes(0), classes=alone) == ""
    assert why_no_interval(metrics.METRICS.get("iou"), with_classes(0)) == ""


@pytest.mark.parametrize(("count", "why"), [(40, ""), (39, "39 images are too few for it: 40 are needed")])
def test_means_over_classes_need_more_images_than_one_number_for_all(count, why):
    whole = with_classes(6)
    evaluation = SimpleNamespace(confusions=whole.confusions[:count], groups=(None,) * count)
    assert why_no_interval(metrics.METRICS.get("iou"), evaluation) == why
    assert why_no_interval(metrics.METRICS.get("pixel_accuracy"), evaluation) == ""


@pytest.mark.parametrize(("count", "why"), [(150, ""), (149, "149 images are too few for it: 150 are needed")])
def test_shares_of_what_is_predicted_need_more_images(count, why):
    assert why_no_interval(metrics.METRICS.get("precision"), with_classes(6, images=count)) == why
    assert why_no_interval(metrics.METRICS.get("iou"), with_classes(6, images=count)) == ""


@pytest.mark.parametrize(("found", "why"), [(20, ""), (19, "car is found in 19 images: 20 are needed")])
def test_the_value_of_one_class_needs_images_in_which_it_is_found(found, why):
    whole = with_classes(30)
    whole.confusions[found:30, 1] = [1, 0]  # the others are missed
    car = class_metric(metrics.METRICS.get("iou"), "car", CLASSES.names)
    assert why_no_interval(car, whole, classes=CLASSES) == why
    assert why_no_interval(car, with_classes(30), whole, classes=CLASSES) == "", "of two, the better one decides"
    assert why_no_interval(metrics.METRICS.get("iou"), whole, classes=CLASSES) == ""


def test_a_class_occurs_in_groups_where_images_come_in_groups():
    whole = with_classes(6)
    groups = tuple(f"g{place // 6}" for place in range(60))
    evaluation = SimpleNamespace(confusions=whole.confusions, groups=groups)
    assert units_of_classes(units_of(evaluation), whole.confusions.sum(axis=2)).tolist() == [10, 1]


def test_comparison_has_the_contracts_columns_and_a_floor(made):
    labels, evaluations, scores = made
    frame = comparison_frame(labels, evaluations, scores)
    assert tuple(frame.columns) == comparison_columns()
    assert comparison_columns() == (
        *("label", "trial_id", "model", "policy", "loss", "epochs", "seeds", "images"),
        *("pixel_accuracy", "pixel_accuracy_low", "pixel_accuracy_high", "iou", "iou_low", "iou_high"),
        *("f1", "f1_low", "f1_high", "precision", "precision_low", "precision_high"),
        *("recall", "recall_low", "recall_high", "ap", "ap_low", "ap_high"),
        *("map", "map_low", "map_high", "params", "latency_ms", "train_seconds", "evidence"),
    )
    assert frame["label"].tolist() == ["baseline", "best", "flip", MAJORITY]
    assert frame["trial_id"].tolist() == ["0", "1", "1", ""]
    assert frame["images"].tolist() == [40] * 4
    expected = slow_scores(evaluations["1"], np.arange(40))
    np.testing.assert_allclose(frame.loc[1, list(METRICS)].astype(float), expected)
    floor = frame.iloc[3]
    assert floor[["epochs", "seeds", "params", "latency_ms", "train_seconds"]].isna().all()
    assert frame["params"].tolist()[:3] == [1234] * 3


def test_csv_keeps_every_digit(made, tmp_path):
    labels, evaluations, scores = made
    frame = comparison_frame(labels, evaluations, scores)
    frame.to_csv(tmp_path / "comparison.csv", index=False)
    back = pd.read_csv(tmp_path / "comparison.csv")
    assert back["iou_low"].tolist() == frame["iou_low"].tolist()
    assert back["map"].tolist() == frame["map"].tolist()


def test_too_few_images_leave_the_bounds_empty():
    evaluations = {"0": made_evaluation("0", images=6)}
    labels = {"baseline": made_record("0", 0.4)}
    frame = comparison_frame(labels, evaluations, score_labels(evaluations))
    assert frame["iou"].notna().all()
    assert frame[[f"{name}{end}" for name in METRICS for end in ("_low", "_high")]].isna().all(axis=None)


def test_per_class_counts_truth_and_leaves_absent_classes_undefined(made):
    _, evaluations, _ = made
    frame = per_class_frame({"baseline": "0", "best": "1"}, evaluations, NAMES)
    assert tuple(frame.columns) == per_class_columns()
    assert per_class_columns() == ("label", "class", "iou", "f1", "precision", "recall", "ap", "images", "pixels")
    assert frame["class"].tolist() == NAMES * 2
    car = frame[(frame["label"] == "best") & (frame["class"] == "car")].iloc[0]
    matrix = evaluations["1"].confusions
    assert car["images"] == 14
    assert car["pixels"] == matrix[:, 2].sum()
    total = matrix.sum(axis=0)
    assert car["iou"] == total[2, 2] / (total[2].sum() + total[:, 2].sum() - total[2, 2])
    never = frame[frame["class"] == "never"]
    assert never[["iou", "f1", "precision", "recall", "ap"]].isna().all(axis=None)
    assert never["pixels"].tolist() == [0, 0]


def test_thresholds_are_means_over_classes_and_their_ap_averages_to_map(made):
    labels, evaluations, scores = made
    frame = threshold_frame({"baseline": "0", "best": "1"}, evaluations)
    assert tuple(frame.columns) == THRESHOLD_COLUMNS
    assert frame["threshold"].tolist() == [k / 10 for k in range(11)] * 2
    best = frame[frame["label"] == "best"]
    each = metrics.region_scores(evaluations["1"].confusions)
    np.testing.assert_allclose(best["recall"], np.nanmean(each["recall"], axis=0))
    np.testing.assert_allclose(best["f1"], np.nanmean(each["f1"], axis=0))
    comparison = comparison_frame(labels, evaluations, scores).set_index("label")
    assert best["ap"].mean() == pytest.approx(comparison.loc["best", "map"])
    assert (best["recall"].diff().dropna() <= 0).all()


def test_costs_add_the_parents_gpu_seconds_and_the_whole_search():
    trials = pd.DataFrame(
        {
            "trial_id": ["0", "1", "1-finish"],
            "seconds": [10.0, 5.0, 6.0],
            "gpu_seconds": [1.0, 0.5, 0.6],
            "parent": ["", "", "1"],
        }
    )
    labels = {"baseline": made_record("0", 0.4), "best": made_record("1-finish", 0.6)}
    evaluations = {one: SimpleNamespace(latency_ms=3.0) for one in ("0", "1-finish")}
    frame = cost_frame(labels, evaluations, trials)
    assert tuple(frame.columns) == COST_COLUMNS
    assert frame["gpu_seconds"].tolist() == pytest.approx([1.0, 1.1])
    assert frame["search_seconds"].tolist() == [21.0, 21.0]
    assert lineage("1-finish", trials) == ["1-finish", "1"]
    trials.loc[1, "parent"] = "1-finish"
    assert lineage("1-finish", trials) == ["1-finish", "1"]


def test_answer_compares_the_winner_with_the_baseline_on_the_same_images(made):
    labels, evaluations, scores = made
    told = answer(labels, evaluations, scores, objective=MIOU)
    assert told.difference == pytest.approx(told.winner_score - told.baseline_score)
    assert told.low < told.difference < told.high
    assert told.verdict is Verdict.HIGHER
    assert not told.same_configuration
    assert told.val_ranks == {"baseline": 2, "best": 1, "flip": 1}
    assert told.split_ranks == {"baseline": 2, "best": 1, "flip": 1}
    assert (told.units, told.unit_count, told.evidence) == ("images", 40, "one checkpoint each")
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(400):
        chosen = rng.integers(0, 40, 40)
        first, second = (metrics.iou(evaluations[one].confusions[chosen].sum(axis=0)) for one in ("1", "0"))
        differences.append(np.nanmean(first) - np.nanmean(second))
    spread = np.std(differences)
    assert told.low == pytest.approx(np.quantile(differences, 0.02), abs=spread)
    assert told.high == pytest.approx(np.quantile(differences, 0.98), abs=spread)


@pytest.mark.parametrize("key", objectives())
def test_answer_speaks_of_the_sweeps_objective(made, key):
    labels, evaluations, scores = made
    objective = objective_of(key)
    told = answer(labels, evaluations, scores, objective=objective)
    place = METRICS.index(objective.metric.name)
    values = [slow_scores(evaluations[one], np.arange(40))[place] for one in ("1", "0")]
    assert (told.winner_score, told.baseline_score) == pytest.approx(tuple(values))
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(200):
        chosen = rng.integers(0, 40, 40)
        differences.append(slow_scores(evaluations["1"], chosen)[place] - slow_scores(evaluations["0"], chosen)[place])
    spread = np.std(differences)
    if key == "val/precision":
        assert told.verdict is Verdict.NO_INTERVAL and told.why_none == "40 images are too few for it: 150 are needed"
        return
    assert told.low == pytest.approx(np.quantile(differences, 0.02), abs=spread)
    assert told.high == pytest.approx(np.quantile(differences, 0.98), abs=spread)


def test_ranks_follow_the_objective_and_its_direction(made):
    _, evaluations, scores = made
    labels = {"baseline": made_record("0", 0.4), "best": made_record("1", 0.6), "flip": made_record("1", 0.6)}
    for record in labels.values():
        record.metrics["val/f1"] = 1 - record.metrics["val/miou"]
    told = answer(labels, evaluations, scores, objective=objective_of("val/f1"))
    assert told.val_ranks == {"baseline": 1, "best": 2, "flip": 2}
    least = replace(MIOU, metric=replace(MIOU.metric, direction="min"))
    told = answer(labels, evaluations, scores, objective=least)
    assert told.val_ranks == told.split_ranks == {"baseline": 1, "best": 2, "flip": 2}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [({}, Verdict.SAME), ({"seed": 7}, Verdict.SAME), ({"seed": 7, "optimizer.lr": 0.004}, Verdict.HIGHER)],
)
def test_a_configuration_is_not_compared_with_itself(made, changed, verdict):
    _, evaluations, scores = made
    labels = {"baseline": made_record("0", 0.4), "best": made_record("1", 0.6, **{"optimizer.lr": 0.003, **changed})}
    told = answer(labels, evaluations, scores, objective=MIOU)
    assert told.verdict is verdict
    assert np.isnan(told.low) == (verdict is Verdict.SAME)


def test_val_which_chose_the_winner_gives_no_interval_of_the_difference():
    evaluations = {one: made_evaluation(one, skill=skill, split="val") for one, skill in (("0", 1.5), ("1", 2.5))}
    labels = {"baseline": made_record("0", 0.4), "best": made_record("1", 0.6)}
    told = answer(labels, evaluations, score_labels(evaluations), objective=MIOU)
    assert told.verdict is Verdict.CHOSEN_HERE
    assert np.isnan([told.low, told.high]).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e-9, 0.2, Verdict.HIGHER),
        (0.0, 0.2, Verdict.UNDECIDED),
        (-0.1, 0.2, Verdict.UNDECIDED),
        (-0.2, 0.0, Verdict.UNDECIDED),
        (-0.2, -1e-9, Verdict.LOWER),
        (np.nan, np.nan, Verdict.NO_INTERVAL),
    ],
)
def test_what_may_be_said_follows_from_where_the_interval_lies(low, high, expected):
    told = Answer("best", "baseline", MIOU, 0.5, 0.4, 0.1, low, high, False, False, {}, {}, "images", 30)
    assert told.verdict is expected
    assert replace(told, same_configuration=True).verdict is Verdict.SAME
    assert replace(told, chosen_here=True).verdict is Verdict.CHOSEN_HERE


def test_a_model_that_predicts_one_class_everywhere_is_dead_whatever_it_scores():
    one_class = np.array([[0, 60, 0], [0, 30, 0], [0, 10, 0]])
    assert find_dead(one_class, floor=0.0) == Dead(1, pytest.approx(0.1), 0.0)
    two_classes = one_class + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert find_dead(two_classes, floor=0.0) is None


@pytest.mark.parametrize(
    ("above", "is_dead"), [(-0.2, True), (0.0, True), (0.000999, True), (0.001001, False), (0.2, False)]
)
def test_a_model_is_dead_up_to_a_thousandth_above_the_floor(above, is_dead):
    confusion = np.array([[50, 10], [20, 20]])
    iou = (50 / 80 + 20 / 50) / 2
    assert find_dead(confusion, floor=iou - above) == (Dead(None, iou, iou - above) if is_dead else None)


def test_a_model_that_stands_a_thousandth_above_the_floor_is_dead():
    confusion = np.array([[2, 498], [500, 0]])
    assert find_dead(confusion, floor=0.0) == Dead(None, 0.001, 0.0)
    assert find_dead(confusion + np.array([[1, 0], [0, 0]]), floor=0.0) is None


def test_a_model_whose_loss_never_fell_is_dead_though_it_stands_above_the_floor():
    confusion = np.array([[50, 10], [20, 20]])
    iou = (50 / 80 + 20 / 50) / 2
    assert find_dead(confusion, 0.1, [1.0, 1.0, 0.995]) == Dead(None, iou, 0.1, (1.0, 0.995))
    assert find_dead(confusion, 0.1, [1.0, 1.0, 0.985]) is None


def test_the_winner_stands_beside_the_floor_on_the_same_images(made):
    _, evaluations, _ = made
    options = {"objective": MIOU}
    told = above_floor("best", evaluations["1"], evaluations[MAJORITY], picked=False, **options)
    values = [np.nanmean(metrics.iou(evaluations[one].confusions.sum(axis=0))) for one in ("1", MAJORITY)]
    assert (told.score, told.floor) == pytest.approx(tuple(values))
    assert told.low < told.score - told.floor < told.high
    alone = above_floor("best", evaluations["1"], evaluations[MAJORITY], picked=True, **options)
    assert alone.score == told.score and np.isnan([alone.low, alone.high]).all()


def test_losses_of_a_checkpoint_are_those_of_all_its_epochs():
    history = [{"metrics": {"train/loss": 2.0}}, {"metrics": {"val/miou": 0.1}}, {"metrics": {"train/loss": 1.5}}]
    assert epoch_losses(SimpleNamespace(history=history)) == [2.0, 1.5]


def test_dead_labels_are_found_from_the_evaluations(made):
    _, evaluations, _ = made
    constant = made_evaluation("2")
    constant.confusions = np.zeros_like(constant.confusions)
    constant.confusions[:, :, 1] = evaluations["0"].confusions.sum(axis=2)
    found = dead_labels({"baseline": "0", "best": "1", "flip": "2"}, {**evaluations, "2": constant})
    assert list(found) == ["flip"]
    flat = dead_labels({"baseline": "0", "best": "1"}, evaluations, {"best": [2.0, 2.0, 2.0]})
    assert list(flat) == ["best"] and flat["best"].losses == (2.0, 2.0)
    assert found["flip"].only_class == 1
    floor = evaluations[MAJORITY].confusions.sum(axis=0)
    assert found["flip"].floor == pytest.approx(np.nanmean(metrics.iou(floor)))


def test_groups_are_the_units_where_images_have_them():
    groups = tuple(f"video-{number // 3}" for number in range(40))
    evaluations = {
        "0": made_evaluation("0", skill=1.5, groups=groups),
        "1": made_evaluation("1", skill=2.5, groups=groups),
    }
    labels = {"baseline": made_record("0", 0.4), "best": made_record("1", 0.6)}
    told = answer(labels, evaluations, score_labels(evaluations), objective=MIOU)
    assert (told.units, told.unit_count) == ("groups", 14)
    assert not np.isnan(told.low)
