"""The floor under every result: one class everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from sweep.floor import LEAST_FALL, constant_scores, never_fell, why_dead
from sweep.objectives import DEAD_MARGIN, objective_of, on_classes

VAL = np.array([600, 300, 100, 0])
TRAIN = np.array([700, 200, 50, 50])
CLASSES = ["road", "sky", "car", "tram"]
OBJECTIVE = "val/miou"


@pytest.mark.parametrize("class_id", range(4))
def test_scores_of_one_class_everywhere_are_scikit_learns(class_id: int) -> None:
    truth = np.repeat(np.arange(4), VAL)
    predicted = np.full_like(truth, class_id)
    present = sorted({*truth, class_id})  # a class in neither truth nor prediction has no score
    scores = constant_scores(VAL, class_id)
    options = {"labels": present, "average": "macro", "zero_division": 0}
    assert scores["val/miou"] == pytest.approx(jaccard_score(truth, predicted, **options))
    assert scores["val/f1"] == pytest.approx(f1_score(truth, predicted, **options))
    assert scores["val/pixel_accuracy"] == pytest.approx((truth == predicted).mean())


def reason(metrics: dict[str, float], objective: str = OBJECTIVE) -> str:
    return why_dead(metrics, objective=objective_of(objective), classes=CLASSES, train_pixels=TRAIN, val_pixels=VAL)


def test_model_that_predicts_one_class_is_dead_whatever_the_class() -> None:
    for class_id, name in enumerate(CLASSES[:3]):
        assert reason(constant_scores(VAL, class_id)) == f"predicts {name} everywhere"
    tram = constant_scores(VAL, 3)
    assert reason(tram) == "predicts tram everywhere"


def test_model_at_the_floor_is_dead_and_one_just_above_is_not() -> None:
    floor = constant_scores(VAL, 0)
    other = {**floor, "val/pixel_accuracy": 0.55}
    assert reason({**other, OBJECTIVE: floor[OBJECTIVE] + 0.9 * DEAD_MARGIN}).startswith("stands at the floor: road")
    assert reason({**other, OBJECTIVE: floor[OBJECTIVE] + 1.1 * DEAD_MARGIN}) == ""
    assert reason({**other, "val/f1": floor["val/f1"]}, objective="val/f1").startswith("stands at the floor")


def test_ranked_by_one_class_the_floor_is_that_of_the_class() -> None:
    key = "val/iou[car]"
    objective = on_classes(objective_of(key), CLASSES)
    floor = constant_scores(VAL, int(np.argmax(TRAIN)), objective)
    assert floor[key] == 0

    def told(score: float) -> str:
        metrics = {**floor, "val/miou": 0.9, key: score}
        return why_dead(metrics, objective=objective, classes=CLASSES, train_pixels=TRAIN, val_pixels=VAL)

    assert told(0.0005).startswith("stands at the floor") and told(0.2) == ""


@pytest.mark.parametrize(
    ("losses", "flat"),
    [
        ((2.0, 2.1, 1.99), (2.0, 1.99)),
        ((2.0, 2.1, 2.0 - 2.0 * LEAST_FALL * 0.999), (2.0, 2.0 - 2.0 * LEAST_FALL * 0.999)),
        ((2.0, 2.1, 2.0 - 2.0 * LEAST_FALL * 1.001), None),
        ((2.0, 1.5, 2.5), None),
        ((2.0, 2.0), None),
        ((), None),
    ],
)
def test_a_loss_fell_if_a_later_epoch_is_lower_by_a_hundredth(
    losses: tuple[float, ...], flat: tuple[float, float] | None
) -> None:
    assert never_fell(losses) == (None if flat is None else pytest.approx(flat))


def test_a_label_whose_loss_never_fell_is_dead_whatever_it_scores() -> None:
    options = {"objective": objective_of(OBJECTIVE), "classes": CLASSES, "train_pixels": TRAIN, "val_pixels": VAL}
    metrics = {OBJECTIVE: 0.9}
    assert why_dead(metrics, losses=(2.0, 2.0, 1.985), **options) == (
        "has a training loss that never fell: 2 in epoch 1, 1.985 at the lowest after it"
    )
    assert why_dead(metrics, losses=(2.0, 2.0, 1.97), **options) == ""
