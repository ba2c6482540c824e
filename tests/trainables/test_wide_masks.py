"""More classes than masks of bytes have room for, and the border between the two widths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix as by_sklearn
from sklearn.metrics import jaccard_score

from tests import mini
from trainables.augmentations import TRANSFORMS, Policy, PolicySpec, preflight
from trainables.augmentations.magnitudes import MAGNITUDES
from trainables.config import TrialConfig
from trainables.data import DATASETS, SegmentationData
from trainables.data.cache.decoded import DecodedCache, class_pixels
from trainables.data.void import MOST_CLASSES, mask_type, void_id, void_of
from trainables.errors import DataError
from trainables.execution import TrialData
from trainables.loaders import evaluation_loader, mask_array, mask_tensor
from trainables.logits import predicted_class
from trainables.loops import evaluate
from trainables.losses import LOSSES
from trainables.metrics import (
    ConfusionMatrix,
    PerImageConfusion,
    ScoreHistogram,
    all_metrics,
    average_precision,
    registry,
)
from trainables.metrics.collectors import confusion_matrix
from trainables.metrics.one_class import class_metric
from trainables.metrics.registry import METRICS, ConfusionsAlone, Replicates
from trainables.trial import Trial

WIDE = 300


def opened(root: Path) -> SegmentationData:
    return DATASETS.get("folder")(root=root)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> SegmentationData:
    return opened(mini.write_wide(tmp_path_factory.mktemp("wide") / "data", WIDE))


def test_void_is_the_largest_number_of_the_type() -> None:
    for classes, void in ((1, 255), (254, 255), (255, 65535), (MOST_CLASSES, 65535)):
        assert void_id(classes) == void == void_of(np.zeros(1, mask_type(classes))) and classes <= void


@pytest.mark.parametrize("classes", [254, 255, WIDE])
@pytest.mark.parametrize("void", [(65535,), (), (3000, 65535, 40000)], ids=["one", "none", "several"])
def test_masks_hold_the_ids_of_their_files(tmp_path: Path, classes: int, void: Sequence[int]) -> None:
    data = opened(mini.write_wide(tmp_path / "data", classes, void=void, count=2))
    cache = DecodedCache(data, (24, 31), limit_bytes=10**8, folder=tmp_path / "cache")
    cache.build(data.ids(), data.ids())
    pixels = np.zeros(classes, np.int64)
    for image_id in data.ids():
        stored = np.asarray(Image.open(data.paths(image_id)[1]))
        right = np.where(np.isin(stored, void), data.void, stored).astype(mask_type(classes))
        np.testing.assert_array_equal(data.mask(image_id), right, strict=True)
        np.testing.assert_array_equal(cache.eval_arrays(image_id)[1], right, strict=True)
        again = DecodedCache(data, (24, 31), limit_bytes=0)
        np.testing.assert_array_equal(cache.train_arrays(image_id)[1], again.train_arrays(image_id)[1], strict=True)
        tensor = mask_tensor(right)
        assert tensor.dtype == (torch.uint8 if classes == 254 else torch.int32)
        np.testing.assert_array_equal(mask_array(tensor), right, strict=True)
        pixels += np.bincount(right[right < classes], minlength=classes)
    np.testing.assert_array_equal(class_pixels(data, data.ids()), pixels)


def test_more_classes_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"classes: must be a list of 1 to {MOST_CLASSES} classes"):
        opened(mini.write_wide(tmp_path / "data", MOST_CLASSES + 1, count=1))


def test_every_transformation_keeps_wide_masks_in_step_and_fills_them_with_their_void(wide: SegmentationData) -> None:
    everything = [
        PolicySpec.from_list([{"transform": name, "p": 1.0, **({"magnitude": 1.0} if name in MAGNITUDES else {})}])
        for name in TRANSFORMS
    ]
    preflight(everything, (48, 64), WIDE)
    image, mask = wide.image("im000"), wide.mask("im000")
    for spec in everything:
        changed = Policy(spec, (48, 64), void=wide.void)(image.copy(), mask.copy(), seed=3)[1]
        assert changed.dtype == np.uint16 and set(np.unique(changed)) <= set(np.unique(mask)) | {wide.void}


@pytest.mark.parametrize("name", ["cross_entropy", "weighted_cross_entropy", "focal", "ohem_cross_entropy", "dice",
                                  "tversky", "lovasz", "cross_entropy+dice"])  # fmt: skip
@pytest.mark.parametrize("classes", [254, 255, WIDE])
def test_losses_leave_void_out_at_every_width(name: str, classes: int) -> None:
    torch.manual_seed(0)
    target = torch.randint(0, classes, (1, 4, 8))
    target[0, 0, 0] = 255 if classes == WIDE else 0
    logits = torch.randn(1, classes, 4, 8)
    loss = LOSSES.get(name)(lambda: torch.arange(classes) + 1)
    padded = torch.nn.functional.pad(target, (0, 5), value=void_id(classes))
    beside = torch.cat([logits, 9 * torch.randn(1, classes, 4, 5)], dim=3).requires_grad_()
    value = loss(beside, padded)
    torch.testing.assert_close(value, loss(logits, target))
    value.backward()
    assert not beside.grad[..., 8:].any() and beside.grad[..., :8].any()


@pytest.mark.parametrize("classes", [254, 255, WIDE])
def test_counts_of_pairs_equal_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, classes, (2, 40, 50)).astype(mask_type(classes))
    truth[:4] = void_id(classes)
    matrix = confusion_matrix(mask_tensor(guess), mask_tensor(truth), classes)
    known = truth != void_id(classes)
    np.testing.assert_array_equal(matrix, by_sklearn(truth[known], guess[known], labels=range(classes)))
    for broken in (truth, guess):
        before, broken[0, 0] = broken[0, 0], classes
        with pytest.raises(ValueError, match=f"ids {classes}: expected 0 .. {classes - 1}"):
            confusion_matrix(mask_tensor(guess), mask_tensor(truth), classes)
        broken[0, 0] = before


def test_average_precision_of_classes_beyond_a_byte_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score

    torch.manual_seed(0)
    logits, truth = torch.randn(WIDE, 30, 40), torch.tensor([0, 255, 299, 65535])[torch.randint(0, 4, (30, 40))].int()
    scores = ScoreHistogram(WIDE)
    scores.process("one", logits, predicted_class(logits), truth)
    known = truth != 65535
    for class_id in (0, 255, 299):
        of_class = logits.softmax(dim=0)[class_id][known]
        right = average_precision_score((truth == class_id)[known], of_class)
        assert average_precision(scores.totals()[class_id]) == pytest.approx(right, abs=2e-3)


def test_replicates_in_blocks_have_the_values_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    collected = ConfusionsAlone(rng.integers(0, 9, (6, 5, 5)) * rng.integers(0, 2, (6, 5, 1)))
    replicates = Replicates(collected, rng.integers(0, 3, (7, 6)).astype(float))
    metrics = [one for one in all_metrics() if one.needs == {"confusion"}] + [
        class_metric(METRICS.get("iou"), "d", "abcde")
    ]
    whole = [metric(replicates) for metric in metrics]
    monkeypatch.setattr(registry, "MATRIX_VALUES", 2 * 25)
    for metric, values in zip(metrics, whole, strict=True):
        np.testing.assert_array_equal(metric(replicates), values)


def test_a_trial_learns_saves_and_is_measured(wide: SegmentationData, tiny_model: None, tmp_path: Path) -> None:
    ids = tuple(wide.ids())
    flat = {"image_size": "48x64", "epochs": 2, "batch_size": 4, "augment.policy": "all", "optimizer.lr": 0.03,
            "loss.name": "cross_entropy+dice"}  # fmt: skip
    config, split = TrialConfig.from_flat(flat), TrialData(wide, ids[:8], ids[8:])
    trial, again = Trial(config, split), Trial(config, split)
    trial.run_epoch()
    again.restore(trial.save(tmp_path))
    for one in (trial, again):
        one.run_epoch()
    losses = [entry["metrics"]["train/loss"] for entry in trial.history]
    assert losses[1] < losses[0]
    assert again.history[-1]["metrics"] == trial.history[-1]["metrics"] and trial.val_counts is not None
    counted, guesses = PerImageConfusion(WIDE), []

    class Kept:
        def process(self, image_id: str, logits: torch.Tensor, prediction: torch.Tensor, target: torch.Tensor) -> None:
            guesses.append(mask_array(prediction))

    loader = evaluation_loader(wide, ids[8:], size=(48, 64), batch_size=4, normalisation=again.model.normalisation)
    total = ConfusionMatrix(WIDE)
    evaluate(again.updater.evaluated, loader, [counted, total, Kept()])
    np.testing.assert_array_equal(counted.value().sum(axis=0), trial.val_counts.sum(axis=0))
    np.testing.assert_array_equal(total.value(), trial.val_counts.sum(axis=0))
    truth = np.concatenate([wide.mask(image_id).ravel() for image_id in ids[8:]])
    guess = np.concatenate([one.ravel() for one in guesses])
    known = truth != wide.void
    miou = jaccard_score(truth[known], guess[known], average="macro", zero_division=0)
    assert trial.history[-1]["metrics"]["val/miou"] == pytest.approx(miou, abs=1e-12)
