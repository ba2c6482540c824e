"""Effects of factors: planted ones are found with their size, equal ones are not, and the model is scikit-learn's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from analysis.failures import reasons
from analysis.failures.factors import DISTANCE, FACTORS
from analysis.failures.kinds import kinds_by_name
from analysis.failures.reasons import (
    CURVE_COLUMNS,
    EFFECT_COLUMNS,
    ComponentTable,
    component_tables,
    curve_frame,
    factor_effects,
    factor_frame,
)
from analysis.failures.split import measure_image, measure_split
from analysis.failures.training_images import TrainingImages
from tests.analysis.failures.test_error_types import CAR, scene
from trainables.metrics import sampling_units

NAMES = [factor.name for factor in FACTORS]


def made(seed=0, *, images=80, each=6, effects=None, noise=0.1):
    """Components with correlated factors whose effects (from the 10th to the 90th percentile) are known."""
    rng = np.random.default_rng(seed)
    count = images * each
    image = np.repeat(np.arange(images), each)
    common = rng.normal(size=(count, 1))
    factors = np.exp(0.6 * common + rng.normal(size=(count, len(FACTORS))))
    for name in ("light", "range", "noise"):
        factors[:, NAMES.index(name)] = rng.normal(size=images)[image]
    class_id = rng.integers(0, 4, count)
    ranks = stats.rankdata(factors, axis=0) / count - 0.5
    slopes = np.array([(effects or {}).get(name, 0) / 0.8 for name in NAMES])
    iou = 0.5 + 0.1 * class_id + ranks @ slopes + rng.normal(0, noise / 2, images)[image] + rng.normal(0, noise, count)
    return ComponentTable(iou, class_id, image, factors)


def effects_of(table, **options):
    rows = [("label", *row) for row in factor_effects(table, **options)]
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS)).set_index("factor")


def test_planted_effects_are_found_with_sign_and_size():
    found = effects_of(made(effects={"size": 0.3, "contrast": 0.15, "noise": -0.2}))
    assert set(found.index[found["reason"]]) == {"size", "contrast", "noise"}
    for name, effect in (("size", 0.3), ("contrast", 0.15), ("noise", -0.2), ("blur", 0)):
        assert found.loc[name, "effect"] == pytest.approx(effect, abs=0.06)
        assert found.loc[name, "effect_low"] < effect < found.loc[name, "effect_high"]
    # brightness goes with size, and alone seems to matter
    assert found.loc["brightness", "alone"] > 0.03 > abs(found.loc["brightness", "effect"])


def test_coefficients_are_those_of_least_squares():
    table = made(3, effects={"size": 0.3})
    count = len(table.iou)
    ranks = (stats.rankdata(table.factors, axis=0) - 0.5) / count - 0.5
    classes = np.eye(4)[table.class_id]
    spans = np.quantile(ranks, 0.9, axis=0) - np.quantile(ranks, 0.1, axis=0)
    looks = np.array([factor.stage == 1 for factor in FACTORS])
    assert np.array(NAMES)[looks].tolist() == ["brightness", "contrast", "saturation"]
    found = effects_of(table)["effect"].to_numpy()
    everything = LinearRegression(fit_intercept=False).fit(np.hstack([classes, ranks]), table.iou)
    assert found[looks] == pytest.approx((everything.coef_[4:] * spans)[looks], abs=1e-6)
    without = LinearRegression(fit_intercept=False).fit(np.hstack([classes, ranks[:, ~looks]]), table.iou)
    assert found[~looks] == pytest.approx(without.coef_[4:] * spans[~looks], abs=1e-6)


def test_the_distance_is_adjusted_for_all_and_takes_no_effect_from_others():
    table = made(4, effects={"light": 0.3})
    before = effects_of(table)
    # Dark images are far from training to the model: the distance says nothing beside the light.
    distance = -table.factors[:, NAMES.index("light")] + np.random.default_rng(0).normal(0, 0.3, 80)[table.image]
    factors = np.column_stack([table.factors, distance])
    after = effects_of(ComponentTable(table.iou, table.class_id, table.image, factors, of=(*FACTORS, DISTANCE)))
    assert after["effect"].to_numpy()[:-1] == pytest.approx(before["effect"].to_numpy())
    assert after.index[-1] == "distance" and not after.loc["distance", "reason"]
    assert after.loc["distance", "alone"] < -0.2 and after.loc["light", "reason"]


def test_equal_factors_are_rarely_called_a_reason():
    claims = [bool(row["reason"]) for seed in range(20) for _, row in effects_of(made(seed), resamples=200).iterrows()]
    assert np.mean(claims) <= 0.02


def test_components_of_one_image_do_not_count_as_many():
    # With 20 images an effect of the image cannot be told from chance however many components each has.
    rng = np.random.default_rng(5)
    claims = 0
    for seed in range(10):
        table = made(seed, images=20, each=40, noise=0.02)
        iou = table.iou + rng.normal(0, 0.2, 20)[table.image]
        found = effects_of(ComponentTable(iou, table.class_id, table.image, table.factors), resamples=200)
        claims += bool(found.loc["noise", "reason"])
    assert claims <= 1


@pytest.mark.parametrize(
    ("limit", "value"), [("LEAST_EFFECT", 0.4), ("STABLE_SHARE", 1.01), ("FAMILY_LEVEL", 1.0), ("LEAST_IMAGES", 81)]
)
def test_every_limit_decides_what_is_a_reason(monkeypatch, limit, value):
    table = made(effects={"size": 0.3})
    assert effects_of(table).loc["size", "reason"]
    monkeypatch.setattr(reasons, limit, value)
    found = effects_of(table)
    assert found.empty or not found["reason"].any()


def test_too_few_images_or_components_give_nothing():
    assert len(factor_effects(made(images=20, each=9))) == len(FACTORS)
    assert factor_effects(made(images=19, each=20)) == []
    assert factor_effects(made(images=30, each=4)) == []
    table = made()
    still = ComponentTable(table.iou, table.class_id, table.image, np.where(True, 1.0, table.factors))
    assert factor_effects(still) == []
    gaps = table.factors.copy()
    gaps[::3, 0] = np.nan
    assert np.isfinite(effects_of(ComponentTable(table.iou, table.class_id, table.image, gaps))["effect"]).all()


def test_frames_come_from_measured_images():
    names = ("background", "road", "car", "bus")
    kinds = kinds_by_name(names)
    rng = np.random.default_rng(0)
    truths = [
        scene(*((CAR, top, top + 6 + i % 5, 16 * i, 16 * i + 9) for i, top in enumerate(rng.integers(2, 40, 5))))
        for _ in range(40)
    ]
    images = [np.where(mask[..., None] > 0, rng.integers(60, 250, 3), 30).astype(np.uint8) for mask in truths]

    def of_image(place, image=True):
        prediction = np.where(rng.random(truths[place].shape) < 0.1, 0, truths[place]).astype(np.uint8)
        return measure_image(truths[place], [prediction], names, kinds, image=images[place] if image else None)

    splits = measure_split([f"i{place}" for place in range(40)], of_image, ["model"])
    tables = component_tables(splits)
    effects, curves = factor_frame(tables), curve_frame(tables)
    assert tuple(effects.columns) == EFFECT_COLUMNS and tuple(curves.columns) == CURVE_COLUMNS
    assert (effects["components"] == sum(len(one.components.iou) for one in splits["model"].images)).all()
    sizes = curves[curves["factor"] == "size"]
    assert sizes["components"].sum() == effects["components"].iloc[0]
    assert (curves["iou_low"] <= curves["iou"]).all() and (curves["iou"] <= curves["iou_high"]).all()
    mean = np.concatenate([one.components.iou for one in splits["model"].images]).mean()
    assert (sizes["iou"] * sizes["components"]).sum() / sizes["components"].sum() == pytest.approx(mean)
    (table,) = component_tables(splits, units=sampling_units([f"g{place // 4}" for place in range(40)])).values()
    assert table.image.tolist() == [place // 4 for place, one in enumerate(splits["model"].images)
                                    for _ in range(int(one.components.is_true.sum()))]  # fmt: skip
    assert factor_frame({"model": table}).empty, "10 groups are too few"
    far = TrainingImages(distances={"model": np.arange(40.0)})
    (table,) = component_tables(splits, far).values()
    assert table.factors[:, -1].tolist() == table.image.tolist() and table.of == (*FACTORS, DISTANCE)
    blind = measure_split(["i0"], lambda place: of_image(place, image=False), ["model"])
    assert component_tables(blind) == {} and factor_frame({}).empty and curve_frame({}).empty


def test_images_of_a_group_are_no_evidence_of_their_own() -> None:
    """Frames of one video are alike: what a factor that is the video's goes with is told by videos."""
    groups, images, components = 30, 16, 2
    false = {"images": 0, "groups": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(groups), images * components)
        light, quality = rng.random(groups), rng.normal(0, 0.1, groups)
        iou = np.clip(0.6 + quality[group] + rng.normal(0, 0.05, len(group)), 0, 1)
        for what, unit in (("images", np.repeat(np.arange(groups * images), components)), ("groups", group)):
            classes = np.zeros(len(group), np.int64)
            table = ComponentTable(iou, classes, unit, light[group][:, None], of=FACTORS[:1])
            (row,) = factor_effects(table, resamples=200, seed=seed)
            false[what] += bool(row[EFFECT_COLUMNS.index("reason") - 1])
    assert false["groups"] <= 4 < 10 <= false["images"]
