"""One trial: equal digits whenever the configuration and the seed are equal."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from trainables.config import TrialConfig
from trainables.data.base import ClassInfo
from trainables.data.cache.decoded import DataCaches
from trainables.errors import CheckpointError, DivergedError, UsageError
from trainables.execution import Execution, TrialData
from trainables.loops import evaluate
from trainables.optimizers import SCHEDULES
from trainables.trial import Trial

BASE = {"image_size": "24x32", "epochs": 3, "batch_size": 4, "augment.policy": "all"}
MANY_OPTIONS = {
    "training.ema": 0.9,
    "training.accumulate": 2,
    "training.clip_norm": 1.0,
    "training.backbone_lr": 0.3,
    "training.decay_norms": True,
}
SCHEDULE_NAMES = ("constant", "polynomial", "cosine", "one_cycle")


def make(data: TrialData, *, execution: Execution | None = None, **flat: object) -> Trial:
    return Trial(TrialConfig.from_flat({**BASE, **flat}), data, execution=execution)


def weights(trial: Trial) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in trial.model.state_dict().items()}


def assert_equal_digits(left: Trial, right: Trial) -> None:
    assert [entry["metrics"] for entry in left.history] == [entry["metrics"] for entry in right.history]
    for ours, theirs in ((left.model, right.model), (left.updater.evaluated, right.updater.evaluated)):
        assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_same_configuration_and_seed_give_the_same_digits(mini_data: TrialData, tiny_model: None) -> None:
    first = make(mini_data)
    first.run_epoch()
    torch.manual_seed(123)  # whatever happened before in the process
    np.random.seed(123)
    torch.rand(10)
    second = make(mini_data)
    torch.rand(10)
    second.run_epoch()
    assert_equal_digits(first, second)
    other = make(mini_data, seed=1)
    other.run_epoch()
    assert other.history[0]["metrics"] != first.history[0]["metrics"]


def test_same_configuration_gives_the_same_digits_with_a_real_model(mini_data: TrialData) -> None:
    trials = [make(mini_data, epochs=1) for _ in range(2)]
    for trial in trials:
        trial.run_epoch()
    assert_equal_digits(*trials)


@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("options", [{}, MANY_OPTIONS], ids=["plain", "many options"])
def test_resumed_trial_matches_uninterrupted_run(
    mini_data: TrialData,
    tiny_model: None,
    tmp_path: Path,
    optimizer: str,
    schedule: str,
    after: int,
    options: dict[str, object],
) -> None:
    flat = {"optimizer.name": optimizer, "schedule.name": schedule, "schedule.warmup": 0.3, **options}
    whole = make(mini_data, **flat)
    for _ in range(3):
        whole.run_epoch()
    begun = make(mini_data, **flat)
    for _ in range(after):
        begun.run_epoch()
    checkpoint = begun.save(tmp_path)
    torch.manual_seed(7)
    resumed = make(mini_data, **flat)
    resumed.restore(checkpoint)
    assert resumed.epoch == after
    while not resumed.done:
        resumed.run_epoch()
    assert_equal_digits(whole, resumed)


def test_resumed_trial_matches_uninterrupted_run_with_a_real_model(mini_data: TrialData, tmp_path: Path) -> None:
    whole = make(mini_data, epochs=2)
    whole.run_epoch()
    checkpoint = whole.save(tmp_path)
    whole.run_epoch()
    resumed = make(mini_data, epochs=2)
    resumed.restore(checkpoint)
    resumed.run_epoch()
    assert_equal_digits(whole, resumed)


def test_loader_processes_change_no_digit(
    mini_data: TrialData, tiny_model: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs: workers that live on must not leave dropout a different random state in the second.

    Batches of train go through shared memory, those of val through pipes.
    """
    alone = make(mini_data)
    short = iter([False, True])
    monkeypatch.setattr("trainables.shared_memory.is_short", lambda batch_bytes, workers: next(short))
    shared = make(mini_data, execution=Execution(workers=2))
    for _ in range(2):
        alone.run_epoch()
        shared.run_epoch()
    assert_equal_digits(alone, shared)


def test_training_learns_the_data_set_and_reports_what_scikit_learn_computes(
    mini_data: TrialData, tiny_model: None
) -> None:
    trial = make(mini_data, epochs=12, **{"augment.policy": "none", "optimizer.lr": 0.02})
    while not trial.done:
        entry = trial.run_epoch()
    losses = [e["metrics"]["train/loss"] for e in trial.history]
    assert losses[-1] < 0.6 * losses[0]
    assert entry["metrics"]["val/miou"] > 0.5

    seen: list[tuple[np.ndarray, np.ndarray]] = []

    class Spy:
        def process(self, image_id: str, logits: Any, prediction: Any, target: Any) -> None:
            truth = np.array(Image.open(mini_data.data.paths(image_id)[1]))
            seen.append((truth.ravel(), prediction.numpy().ravel()))

    evaluate(trial.model, trial.val_loader, [Spy()])
    truth, prediction = (np.concatenate(part) for part in zip(*seen, strict=True))
    known = truth != 255
    expected = jaccard_score(truth[known], prediction[known], average="macro")
    assert entry["metrics"]["val/miou"] == pytest.approx(expected, abs=1e-9)
    assert entry["metrics"]["val/pixel_accuracy"] == pytest.approx((truth == prediction)[known].mean(), abs=1e-9)


def test_what_is_asked_for_beside_the_metrics_is_reported(mini_data: TrialData, tiny_model: None) -> None:
    reported = ("val/miou", "val/iou[ball]", "params", "latency_ms")
    plain, asked = make(mini_data, epochs=1), make(dataclasses.replace(mini_data, reported=reported), epochs=1)
    before, metrics = plain.run_epoch()["metrics"], asked.run_epoch()["metrics"]
    assert metrics["params"] == sum(parameter.numel() for parameter in asked.model.parameters())
    assert asked.val_counts is not None
    matrix = asked.val_counts.sum(axis=0)
    assert metrics["val/iou[ball]"] == matrix[2, 2] / (matrix[2].sum() + matrix[:, 2].sum() - matrix[2, 2])
    assert {key: metrics[key] for key in before} == before
    assert metrics.keys() - before.keys() == {"val/iou[ball]", "params"}, "the time per image is not a trial's to tell"


def test_history_counts_epochs_and_says_when_the_budget_is_trained(mini_data: TrialData, tiny_model: None) -> None:
    trial = make(mini_data, epochs=2)
    assert (trial.epoch, trial.done) == (0, False)
    entry = trial.run_epoch()
    assert (entry["epoch"], trial.epoch, trial.done) == (1, 1, False)
    assert entry["seconds"] > 0
    trial.run_epoch()
    assert trial.done
    record = trial.record(label="x")
    assert record.train_seconds == pytest.approx(sum(e["seconds"] for e in trial.history))
    assert record.parameters == sum(p.numel() for p in trial.model.parameters())


def test_last_batch_of_one_image_never_reaches_deeplab(mini_data: TrialData) -> None:
    """DeepLabV3's pooled branch cannot normalise a batch of one: 5 images in batches of 2 are two steps, not three."""
    five = TrialData(mini_data.data, mini_data.train[:5], mini_data.val[:1])
    trial = make(five, **{"model.name": "deeplabv3_mobilenet_v3_large", "batch_size": 2, "image_size": "16x16"})
    entry = trial.run_epoch()
    assert trial.applied["steps_per_epoch"] == 2
    assert np.isfinite(entry["metrics"]["val/miou"])


def test_diverged_training_is_told_as_such(mini_data: TrialData, tiny_model: None) -> None:
    trial = make(mini_data, **{"optimizer.name": "sgd", "optimizer.lr": 10, "schedule.name": "constant"})
    with torch.no_grad():
        trial.model.head.weight.fill_(1e38)  # type: ignore[union-attr, operator]
    with pytest.raises(DivergedError):
        trial.run_epoch()
    assert trial.epoch == 0, "an epoch that diverged is not in the history"


def test_metric_that_is_not_finite_is_a_divergence(
    mini_data: TrialData, tiny_model: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.trial.summary", lambda matrix, further: {"val/miou": float("nan")})
    with pytest.raises(DivergedError, match="val/miou not finite after epoch 1"):
        make(mini_data).run_epoch()


def test_checkpoint_of_other_classes_is_refused(
    mini_data: TrialData, tiny_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make(mini_data)
    trial.run_epoch()
    checkpoint = trial.save(tmp_path)
    other = make(mini_data)
    monkeypatch.setattr(mini_data.data, "classes", tuple(reversed(mini_data.data.classes)))
    with pytest.raises(CheckpointError, match="other classes"):
        other.restore(checkpoint)


def test_decoded_images_are_shared_between_trials_and_change_nothing(mini_data: TrialData, tiny_model: None) -> None:
    caches = DataCaches()
    config = TrialConfig.from_flat(BASE)
    warm = Trial(config, mini_data, caches=caches)
    warm.run_epoch()
    again = Trial(config, mini_data, caches=caches)
    again.run_epoch()
    assert again.samples.cache is warm.samples.cache
    (image, _), (same, _) = (trial.samples.cache.train_arrays(mini_data.train[0]) for trial in (warm, again))
    assert np.shares_memory(image, same)
    assert_equal_digits(warm, again)


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_schedule_spans_the_whole_budget(mini_data: TrialData, tiny_model: None, name: str) -> None:
    trial = make(mini_data, **{"schedule.name": name, "schedule.warmup": 0.25, "optimizer.lr": 0.01})
    while not trial.done:
        trial.run_epoch()
    curve = SCHEDULES.get(name)(9, **trial.config.schedule.params)  # 3 epochs of 3 steps
    expected = [0.01 * curve(step) for step in (2, 5, 8)]
    assert [entry["metrics"]["train/lr"] for entry in trial.history] == pytest.approx(expected)


def test_rate_that_is_reported_is_the_heads(mini_data: TrialData, tiny_model: None) -> None:
    flat = {"schedule.name": "constant", "schedule.warmup": 0, "optimizer.lr": 0.01, "training.backbone_lr": 0.1}
    assert make(mini_data, **flat).run_epoch()["metrics"]["train/lr"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threads": 0}, "threads must be at least 1, not 0"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; known: fp32"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"ranks": 0}, "ranks must be at least 1, not 0"),
        ({"ranks": 2, "device": "cuda:1"}, "device cuda:1 is one GPU, and 2 processes are to train"),
    ],
)
def test_execution_that_is_impossible_is_bad_usage(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Execution(**options)


def test_checkpoint_of_more_classes_or_other_images_is_refused_before_anything_is_loaded(
    mini_data: TrialData, tiny_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make(mini_data)
    trial.run_epoch()
    checkpoint = trial.save(tmp_path)
    moved = TrialData(mini_data.data, mini_data.train, tuple(reversed(mini_data.val)))
    for data, told in ((moved, "other images"), (mini_data, "other classes: sky, ground, ball")):
        if data is mini_data:
            monkeypatch.setattr(data.data, "classes", (*data.data.classes, ClassInfo("car", (1, 2, 3))))
        other = make(data)
        before = weights(other)
        with pytest.raises(CheckpointError, match=f"{told}.*\n.*a folder of its own"):
            other.restore(checkpoint)
        assert all(torch.equal(value, before[key]) for key, value in weights(other).items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_restored_optimizer_state_has_the_memory_layout_of_its_weights(
    mini_data: TrialData, tiny_model: None, tmp_path: Path, optimizer: str
) -> None:
    trial = make(mini_data, **{"optimizer.name": optimizer})
    trial.run_epoch()
    resumed = make(mini_data, **{"optimizer.name": optimizer})
    resumed.restore(trial.save(tmp_path))
    states = [
        {name: {k: v.stride() for k, v in t.updater.optimizer.state[p].items() if isinstance(v, torch.Tensor)}
         for name, p in t.model.named_parameters()}
        for t in (trial, resumed)
    ]  # fmt: skip
    assert states[0] == states[1]


@pytest.mark.parametrize("begun_with_one", [True, False])
def test_loss_scale_goes_on_and_may_be_new_where_the_precision_is(
    mini_data: TrialData, tiny_model: None, tmp_path: Path, begun_with_one: bool
) -> None:
    trial, resumed = make(mini_data), make(mini_data)
    trial.updater.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2, enabled=begun_with_one)
    resumed.updater.scaler = torch.amp.GradScaler("cpu", init_scale=32.0)
    trial.run_epoch()  # three steps: the scale has doubled once
    resumed.restore(trial.save(tmp_path))
    assert resumed.updater.scaler.get_scale() == (16.0 if begun_with_one else 32.0)


def test_every_epoch_has_an_order_and_augmentations_of_its_own(
    mini_data: TrialData, tiny_model: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[dict[str, torch.Tensor]] = []

    def spy(model: object, loader: Any, **_: object) -> dict[str, float]:
        epochs.append({name: image for batch in loader for name, image in zip(batch.ids, batch.images, strict=True)})
        return {"train/loss": 1.0, "train/lr": 0.1}

    monkeypatch.setattr("trainables.trial.train_one_epoch", spy)
    trial = make(mini_data)
    for _ in range(2):
        trial.run_epoch()
    one, other = epochs
    assert list(one) != list(other)
    assert not any(torch.equal(one[name], other[name]) for name in {*one} & {*other})
