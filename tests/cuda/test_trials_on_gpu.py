"""A trial on a GPU: it learns in every precision, goes on where it ended, counts as the CPU does, tells its memory."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.cost import measure
from trainables.errors import MemoryExhaustedError
from trainables.execution import Execution, TrialData
from trainables.latency import measure_latency
from trainables.loops import evaluate
from trainables.memory import memory_is_enough_for
from trainables.metrics import ConfusionMatrix
from trainables.trial import Trial

pytestmark = pytest.mark.usefixtures("gpu")

BASE = {"image_size": "48x64", "epochs": 3, "batch_size": 4, "optimizer.lr": 3e-3, "schedule.name": "constant"}
PRECISIONS = ("fp32", "bf16", "fp16")


def config(**changes: Any) -> TrialConfig:
    return TrialConfig.from_flat({**BASE, **changes})


def make(data: TrialData, *, precision: str = "fp32", workers: int = 0, device: str = "cuda", **changes: Any) -> Trial:
    return Trial(config(**changes), data, execution=Execution(device=device, precision=precision, workers=workers))


def trained(trial: Trial) -> Trial:
    while not trial.done:
        trial.run_epoch()
    return trial


def losses(trial: Trial) -> list[float]:
    return [entry["metrics"]["train/loss"] for entry in trial.history]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_trial_learns_in_every_precision(mini_data: TrialData, precision: str) -> None:
    trial = trained(make(mini_data, precision=precision, epochs=6))
    assert (trial.applied["device"], trial.applied["precision"]) == ("cuda:0", precision)
    assert {parameter.dtype for parameter in trial.model.parameters()} == {torch.float32}
    told = losses(trial)
    print(precision, told)
    assert told[-1] < 0.7 * told[0]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_gpus_train_the_curve_of_one(mini_data: TrialData, precision: str) -> None:
    """With BatchNorm in training, which sees the whole batch."""
    one = trained(make(mini_data, precision=precision))
    with contextlib.closing(
        Trial(config(), mini_data, execution=Execution(device="cuda", precision=precision, ranks=2))
    ) as two:
        trained(two)
    print(precision, losses(one), losses(two))
    assert losses(two) == pytest.approx(losses(one), rel=0.02)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_resumed_trial_matches_an_undisturbed_one(
    mini_data: TrialData, tiny_model: None, tmp_path: Path, precision: str
) -> None:
    """To a thousandth: the GPU adds some sums in another order each time, so that no two trainings agree exactly."""
    options = {"augment.policy": "all", "training.ema": 0.9, "training.clip_norm": 1.0, "epochs": 4}
    undisturbed = trained(make(mini_data, precision=precision, **options))
    first = make(mini_data, precision=precision, **options)
    first.run_epoch(), first.run_epoch()
    checkpoint = first.save(tmp_path)
    resumed = make(mini_data, precision=precision, **options)
    resumed.restore(checkpoint)
    trained(resumed)
    other = trained(make(mini_data, precision=precision, seed=1, **options))
    print(precision, losses(undisturbed), losses(resumed), losses(other))
    assert [entry["epoch"] for entry in resumed.history] == [1, 2, 3, 4]
    assert losses(resumed) == pytest.approx(losses(undisturbed), rel=1e-3)
    assert losses(other) != pytest.approx(losses(undisturbed), rel=1e-2), "the tolerance tells trainings apart"
    miou = [trial.history[-1]["metrics"]["val/miou"] for trial in (undisturbed, resumed)]
    assert miou[1] == pytest.approx(miou[0], abs=0.01)


def confusion(trial: Trial, device: str) -> np.ndarray:
    model = trial.model.to(device)
    matrix = ConfusionMatrix(len(trial.data.data.classes))
    evaluate(model, trial.val_loader, [matrix], device=torch.device(device), precision="fp32")
    return np.asarray(matrix.value())


def moved(left: np.ndarray, right: np.ndarray) -> float:
    """Share of the pixels that are counted elsewhere."""
    assert left.sum() == right.sum() > 0
    return float(np.abs(left - right).sum()) / 2 / float(left.sum())


def test_evaluation_counts_as_on_the_cpu(mini_data: TrialData, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for a pixel in 200 with TF32, which is the default of cuDNN, and one in 10,000 without."""
    trial = trained(make(mini_data, device="cpu", epochs=12))
    on_cpu = confusion(trial, "cpu")
    assert np.count_nonzero(on_cpu.sum(0)) > 1, "more than one class is predicted"
    shares = {}
    for allowed, tolerance in ((True, 5e-3), (False, 1e-4)):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        shares[allowed] = moved(confusion(trial, "cuda"), on_cpu)
        assert shares[allowed] <= tolerance, shares
    print("pixels counted elsewhere, with TF32 and without:", shares)


def test_batch_that_does_not_fit_is_told_with_its_bytes_and_a_cure(mini_data: TrialData) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.5 * 2**30 / total)
    with pytest.raises(MemoryExhaustedError) as caught:
        trained(make(mini_data, image_size="768x1024", batch_size=14, epochs=1))
    told = str(caught.value)
    print(told)
    assert re.match(r"out of GPU memory \(\d[\d.]* [MG]iB asked for\): lower batch_size \(now 14\)", told)
    assert "image_size (now 768x1024)" in told and "--gpus-per-trial" in told
    del caught  # its frames still hold the model
    gc.collect()
    assert trained(make(mini_data, epochs=1)).done, "what fits is still trained"


def test_more_than_the_whole_gpu_is_told(mini_data: TrialData) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    told = r"out of GPU memory \([\d.]+ GiB asked for\)"
    with pytest.raises(MemoryExhaustedError, match=told), memory_is_enough_for(config()):
        torch.empty(2 * total, dtype=torch.uint8, device="cuda")


def test_measured_cost_is_the_memory_of_the_gpu(mini_data: TrialData) -> None:
    on_gpu = Execution(device="cuda")
    large = measure(config(image_size="256x256", batch_size=8).flat(), mini_data, on_gpu)
    small = measure(config(image_size="48x64", batch_size=4).flat(), mini_data, on_gpu)
    print("bytes", large.memory_bytes, small.memory_bytes)
    weights = large.checkpoint_bytes
    assert weights < small.memory_bytes < large.memory_bytes, "the first does not count for the second"
    assert large.memory_bytes < torch.cuda.get_device_properties(0).total_memory
    assert large.train_seconds > 0 and large.val_seconds > 0 and not large.fault


class Slow(nn.Module):
    """A forward pass that is called in no time and takes the GPU tens of milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(4096))

    def forward(self, images: Tensor) -> Tensor:
        product = self.matrix
        for _ in range(20):
            product = product @ self.matrix
        return product


def test_latency_is_the_time_of_the_gpu_and_not_of_the_call() -> None:
    model = Slow().cuda()
    image = torch.zeros(1, 3, 8, 8, device="cuda")
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.inference_mode():
        model(image)
        torch.cuda.synchronize()
        start.record()
        model(image)
        end.record()
        still_running = not end.query()
        end.synchronize()
    taken = start.elapsed_time(end)
    print("milliseconds", taken, measure_latency(model, (8, 8), device="cuda"))
    assert still_running, "a call that was not waited for would be measured shorter"
    assert measure_latency(model, (8, 8), device="cuda") == pytest.approx(taken, rel=0.5)


def test_workers_and_pinned_memory_bring_the_same_images(mini_data: TrialData) -> None:
    alone = make(mini_data, **{"augment.policy": "all"})
    helped = make(mini_data, workers=2, **{"augment.policy": "all"})
    for loader in ("train_loader", "val_loader"):
        count = 0
        for mine, theirs in zip(getattr(alone, loader), getattr(helped, loader), strict=True):
            assert mine.ids == theirs.ids and torch.equal(mine.images, theirs.images)
            assert mine.images.is_pinned() and theirs.images.is_pinned()
            for batch in (mine, theirs):
                assert all(mask.is_pinned() for mask in batch.masks)
            assert all(map(torch.equal, mine.masks, theirs.masks))
            count += 1
        assert count > 1 or loader == "val_loader"
    helped.run_epoch()
    assert np.isfinite(losses(helped)).all()


def test_gpu_trains_as_the_cpu_does(mini_data: TrialData, tiny_model: None, without_tf32: None) -> None:
    """The first epoch's loss to a thousandth; without dropout, which draws from another generator on a GPU."""
    few = dataclasses.replace(mini_data, val=mini_data.val[:2])
    told = []
    for device in ("cpu", "cuda"):
        trial = make(few, device=device, **{"augment.policy": "geometric"})
        for module in trial.model.modules():
            if isinstance(module, nn.Dropout2d):
                module.p = 0.0
        trial.run_epoch()
        told.append(losses(trial)[0])
    print("first epoch on the CPU and on the GPU", told)
    assert told[1] == pytest.approx(told[0], rel=1e-3)
