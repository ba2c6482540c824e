"""Both ways of counting agree where they are compared with each other, also where no report goes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from analysis.audit import effects, factors
from analysis.audit.components import find_parts
from analysis.audit.images import look_at
from analysis.audit.intervals import family, leave_out, units_of
from analysis.audit.pixels import Recount
from analysis.audit.regions import region_row
from analysis.failures.changes import type_changes
from analysis.failures.factors import FACTORS
from analysis.failures.measure import MEASURES, causes_text
from analysis.failures.split import measure_image
from analysis.scores import score_statistic
from analysis.statistics import confidence_interval, paired_family
from trainables.metrics import SCORE_CELLS, SCORE_LEVELS, all_metrics, sampling_units

from ..failures.test_changes import measured, some


@pytest.mark.parametrize("seed", range(4))
def test_masks_are_taken_apart_alike(seed):
    rng = np.random.default_rng(seed)
    for _ in range(8):
        classes, shape = int(rng.integers(2, 6)), tuple(rng.integers(3, 70, 2))
        kinds, names = rng.integers(0, 3, classes).astype(np.int8), [f"class {one}" for one in range(classes)]

        def blobs(classes=classes, shape=shape):
            width = rng.uniform(0.7, 5)
            return np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), width) for _ in range(classes)])

        scene = blobs()
        truth = scene.argmax(axis=0).astype(np.uint8)
        prediction = (scene + 2 * rng.uniform(0, 1) * scene.std() * blobs()).argmax(axis=0).astype(np.uint8)
        truth[np.abs(blobs()[0]) < rng.uniform(0, 0.02)] = 255
        image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
        theirs = measure_image(truth, [prediction], names, kinds, iou_limit=0.7, image=image)[0]
        ours = look_at(truth, find_parts(truth), prediction, kinds)
        assert (ours.pairs == theirs.confusion).all()
        assert sorted(map(tuple, ours.types.tolist())) == sorted(map(tuple, theirs.counts.tolist()))
        own = theirs.components
        assert [one.number for one in ours.components] == own.number.tolist()
        assert [list(one.box) for one in ours.components] == own.boxes.tolist()
        for place, one in enumerate(ours.components):
            assert one.iou == pytest.approx(own.iou[place]) and (one.types == own.type_pixels[place]).all()
        measured = factors.measure(image, truth, find_parts(truth), kinds)
        np.testing.assert_allclose(measured, theirs.factors, rtol=1e-5, atol=1e-5)
        for region in theirs.regions:
            other = "" if region.confused_with is None else names[region.confused_with]
            row = region_row(truth, prediction, region.class_id, ours.pairs, names, kinds, written=other)
            assert row["causes"] == causes_text(region.causes) and row["confused_with"] == other
            numbers = [name for name in MEASURES if name != "confused_with"]
            expected = [getattr(region, name) for name in numbers]
            np.testing.assert_allclose([row[name] for name in numbers], expected, rtol=1e-9)


def test_factors_have_the_same_names():
    assert tuple(factor.name for factor in FACTORS) == factors.NAMES
    assert {factor.name for factor in FACTORS if factor.stage == 1} == {"brightness", "contrast", "saturation"}


class _Kept:
    """What an evaluation keeps, made up: sharp scores of three classes in images of some pixels."""

    def __init__(self, images: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.confusions = rng.integers(0, 20, (images, 3, 3)) + 30 * np.eye(3, dtype=np.int64)
        self.confusions[rng.random(images) < 0.9, 2] = 0  # a rare class
        self.confidence = np.where(self.confusions.sum(axis=1) > 0, rng.random((images, 3)).round(2), np.nan)
        self.image_ids = tuple(map(str, range(images)))
        self._levels = np.zeros((3, images, 2, SCORE_LEVELS), np.int32)
        for class_id in range(3):
            own = self.confusions[:, class_id].sum(axis=1)
            for image in range(images):
                for side, pixels in enumerate((own[image], self.confusions[image].sum() - own[image])):
                    levels = np.clip(rng.normal(1000 + 40 * (1 - side), 30, pixels), 0, SCORE_LEVELS - 1).astype(int)
                    np.add.at(self._levels[class_id, image, side], levels, 1)

    def histograms(self, class_id):
        return self._levels[class_id]

    levels = histograms

    def histogram_blocks(self, class_id):
        return np.array_split(self.histograms(class_id), 3)

    def score_totals(self, class_id):
        totals = np.zeros((2, SCORE_CELLS), np.int64)
        totals[:, :: SCORE_CELLS // SCORE_LEVELS] = self._levels[class_id].sum(axis=0)
        return totals

    totals = score_totals


@pytest.mark.parametrize("groups", [None, 14], ids=["more images than blocks", "groups"])
def test_intervals_of_every_metric_and_of_several_differences_agree(groups):
    images = 420
    names = [None] * images if groups is None else [str(place % groups) for place in range(images)]
    first, second = _Kept(images, 0), _Kept(images, 1)
    units, theirs = units_of(names), sampling_units(names)
    ours = [leave_out(Recount(one.confusions), one, units) for one in (first, second)]
    interval = confidence_interval(score_statistic(first), theirs)
    metrics = [metric.name for metric in all_metrics()]
    assert len(metrics) == 7
    bounds = np.array([ours[0][name].interval() for name in metrics])
    np.testing.assert_allclose(bounds, np.stack([interval.low, interval.high], axis=1), rtol=1e-9)
    statistics = [score_statistic(one) for one in (first, second)]
    expected = paired_family(lambda weights: statistics[1](weights) - statistics[0](weights), theirs)
    found = family([ours[1][name] - ours[0][name] for name in metrics])
    for name in ("low", "high", "chance", "above"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-8, atol=1e-12)


def test_one_more_hit_moves_every_metric():
    kept = _Kept(24, 3)
    units = units_of([None] * 24)
    before = leave_out(Recount(kept.confusions), kept, units)
    moved = SimpleNamespace(confidence=kept.confidence, totals=kept.totals, levels=kept.levels)
    changed = kept.confusions.copy()
    changed[0] = np.diag(changed[0].sum(axis=1))
    after = leave_out(Recount(changed), moved, units)
    assert all(after[name].value > before[name].value for name in ("pixel_accuracy", "iou", "f1", "recall"))


def test_what_types_of_error_take_has_the_same_intervals():
    splits = [measured(some(seed, share, count=60)) for seed, share in ((0, 0.6), (1, 0.2))]
    groups = [None] * 60
    theirs = type_changes(*splits, sampling_units(groups)).set_index("type")
    wrong = [
        effects.wrong_pixels([one.counts for one in split.images], np.stack([one.confusion for one in split.images]))
        for split in splits
    ]
    ours = {str(row["type"]): row for row in effects.type_changes(*wrong, units_of(groups))}
    assert ours.keys() == set(theirs.index) and theirs["difference_low"].notna().sum() >= 2
    for kind, row in theirs.iterrows():
        np.testing.assert_allclose([ours[kind][column] for column in theirs.columns], row.to_numpy(float), rtol=1e-7)
