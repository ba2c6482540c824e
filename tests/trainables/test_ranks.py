"""Trials that several processes train: the curve of one, and no rank waits for another that is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainables import plugins
from trainables.config import TrialConfig
from trainables.cost import measure
from trainables.errors import InfeasibleError, RankDiedError
from trainables.execution import Execution, TrialData
from trainables.followers import Leader
from trainables.loader_processes import start_method, without_main
from trainables.ranks import with_shared_statistics
from trainables.trainable import SegmentationTrainable
from trainables.trial import Trial

from .. import leader
from ..plugin import nothing_left_behind

PLUGIN = '''
import os, signal
from typing import Annotated

import torch
from torch import distributed, nn

from trainables.losses import LOSSES
from trainables.losses.cross_entropy import CrossEntropy
from trainables.models import MODELS, SegmentationModel
from trainables.models.base import AuxWeight, Weights
from trainables.registry import Choice


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images):
        maps = self.layers(images)
        return {"out": maps, "aux": maps}


@MODELS.register("small")
def small(class_names, *, weights: Weights = "none", aux_weight: AuxWeight = 0.0):
    """A layer with BatchNorm; its weights pass for ImageNet's where these are asked for."""
    heads = [nn.Conv2d(8, len(class_names), 3, padding=1) for _ in range(2)]
    normalisation = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    told = {"predefined": "" if weights == "none" else f"{weights}: nothing", "aux_weight": aux_weight}
    return SegmentationModel(Backbone(), *heads, name="small", normalisation=normalisation, **told)


@LOSSES.register("faulty")
class Faulty(CrossEntropy):
    """Cross-entropy that fails in rank 1.

    Args:
        class_pixels: Not used.
        fault: How.
    """

    def __init__(self, class_pixels, *, fault: Annotated[str, Choice(("nan", "memory", "error", "killed"))] = "nan"):
        super().__init__(class_pixels)
        self.fault = fault

    def applied(self):
        return {"fault": self.fault}

    def value(self, logits, target):
        if distributed.get_rank() == 1:
            if self.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if self.fault == "error":
                raise ZeroDivisionError("of my own")
            return super().value(logits, target) * float("nan")
        return super().value(logits, target)
'''
BASE: dict[str, Any] = {
    "model.name": "small", "image_size": "24x32", "resize": "stretch", "epochs": 2, "batch_size": 5,
    "augment.policy": "flip", "schedule.name": "constant", "schedule.warmup": 0.0, "optimizer.lr": 0.01,
}  # fmt: skip
FROZEN = {"model.weights": "imagenet", "training.freeze": "batch_norm"}


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("ranks")
    with nothing_left_behind(folder / "cache"):
        (folder / "small.py").write_text(PLUGIN, encoding="utf-8")
        plugins.load([folder / "small.py"])
        yield


def make(data: TrialData, ranks: int, **flat: Any) -> Trial:
    return Trial(TrialConfig.from_flat({**BASE, **flat}), data, execution=Execution(ranks=ranks))


def folders() -> set[Path]:
    """Those in which ranks meet, of this process and of those that it starts."""
    places = {tempfile.gettempdir(), os.environ["TMPDIR"]}
    return {folder for place in places for folder in Path(place).glob("segsweep-ranks-*")}


def followers_left() -> list[str]:
    return [child.name for child in multiprocessing.active_children() if child.name.startswith("rank ")]


def trained(data: TrialData, ranks: int, **flat: Any) -> Trial:
    with contextlib.closing(make(data, ranks, **flat)) as trial:
        while not trial.done:
            trial.run_epoch()
    return trial


def curve(trial: Trial) -> dict[str, list[float]]:
    return {key: [entry["metrics"][key] for entry in trial.history] for key in trial.history[0]["metrics"]}


@pytest.mark.parametrize(
    "flat",
    [
        FROZEN,
        {**FROZEN, "training.accumulate": 2, "training.clip_norm": 0.3, "training.ema": 0.9, "model.aux_weight": 0.4,
         "augment.policy": "mix", "augment.cutmix.p": 1.0},
        {"model.weights": "imagenet", "training.freeze": "backbone", "loss.name": "focal", "resize": "letterbox"},
        {**FROZEN, "resize": "crop", "training.loss_stride": 3, "optimizer.name": "sgd"},
    ],
    ids=["plain", "many options", "features", "crop"],
)  # fmt: skip
def test_two_ranks_train_the_curve_of_one(mini_data: TrialData, flat: dict[str, Any]) -> None:
    one, two = (trained(mini_data, ranks, **flat) for ranks in (1, 2))
    for key, values in curve(one).items():
        assert curve(two)[key] == pytest.approx(values, rel=1e-4, abs=1e-3 if key.startswith("val/") else 0), key
    for key, tensor in one.model.state_dict().items():
        torch.testing.assert_close(two.model.state_dict()[key], tensor, rtol=1e-3, atol=1e-4, msg=key)
    assert one.val_counts is not None and two.val_counts is not None
    first, second = (np.asarray(found) for found in (one.val_counts, two.val_counts))
    assert first.shape == second.shape and (first.sum((1, 2)) == second.sum((1, 2))).all()
    assert abs(first - second).sum() <= 1e-3 * first.sum(), "of each image, in the order of the split"
    assert one.applied == two.applied | {"ranks": 1}


def test_batchnorm_in_training_sees_its_ranks_images_alone_and_the_curve_stays_close(mini_data: TrialData) -> None:
    one, two = (trained(mini_data, ranks, epochs=4) for ranks in (1, 2))
    losses = [curve(trial)["train/loss"] for trial in (one, two)]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.1)


def test_resumed_ranks_train_the_digits_of_uninterrupted_ones(mini_data: TrialData, tmp_path: Path) -> None:
    flat = {"training.ema": 0.9, "epochs": 3}
    whole = trained(mini_data, 2, **flat)
    with contextlib.closing(make(mini_data, 2, **flat)) as begun:
        begun.run_epoch()
        checkpoint = begun.save(tmp_path)
    with contextlib.closing(make(mini_data, 2, **flat)) as resumed:
        resumed.restore(checkpoint)
        while not resumed.done:
            resumed.run_epoch()
    assert curve(resumed) == curve(whole)
    assert all(torch.equal(one, whole.model.state_dict()[key]) for key, one in resumed.model.state_dict().items())


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        ("nan", "infeasible", "diverged"),
        ("memory", "infeasible", "out of GPU memory (2.00 GiB asked for)"),
        ("error", "failed", "ZeroDivisionError: of my own"),
        ("killed", "", "rank 1 of the trial was ended by SIGKILL"),
    ],
)
def test_what_ends_another_rank_ends_the_trial_as_it_would_in_one_process(
    mini_data: TrialData, tmp_path: Path, fault: str, kind: str, told: str
) -> None:
    config = {**BASE, "loss.name": "faulty", "loss.fault": fault}
    trainable: SegmentationTrainable = object.__new__(SegmentationTrainable)
    asked = {"trial_id": "t000", "config": config, "reported": 0}
    trainable.setup(asked, data=mini_data, run_dir=str(tmp_path), execution=Execution(ranks=2))
    began = time.monotonic()
    if kind:
        assert told in trainable.step()[kind]
    else:
        with pytest.raises(RankDiedError, match=told):
            trainable.step()
    assert time.monotonic() - began < 30 and followers_left() == []


def test_batch_without_an_image_for_each_rank_is_infeasible_and_leaves_no_process(mini_data: TrialData) -> None:
    with pytest.raises(InfeasibleError, match="a batch of 1 has no image for each of 2 GPUs"):
        make(mini_data, 2, batch_size=1)
    assert followers_left() == []


def test_cost_of_a_trial_is_that_of_all_its_ranks_together(mini_data: TrialData) -> None:
    config = TrialConfig.from_flat({**BASE, **FROZEN}).flat()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainables.cost.SECONDS", 0.05)
        cost = measure(config, mini_data, Execution(ranks=2))
    assert cost.train_seconds > 0 and cost.val_seconds > 0 and cost.memory_bytes > 2**24
    assert followers_left() == []


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="reads what Linux tells of sockets")
def test_killed_first_rank_takes_the_others_with_it_and_none_listens_beyond_loopback() -> None:
    context: Any = multiprocessing.get_context(start_method())
    here, there = context.Pipe()
    before = folders()
    with without_main():
        process = context.Process(target=leader.lead, args=(there,))
        process.start()
    there.close()
    (_, first, _), (follower, second, settings) = here.recv()
    assert first and second and set(first + second) <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert settings == ["lo", "lo"], "also where the name of this machine leads elsewhere"
    made = folders() - before
    process.kill()
    process.join()
    gone = time.monotonic() + 20
    while Path(f"/proc/{follower}").exists() and time.monotonic() < gone:
        time.sleep(0.05)
    assert not Path(f"/proc/{follower}").exists()
    assert len(made) == 1 and folders() == before


@pytest.mark.parametrize(
    ("how", "error"), [("killed", "rank 1 of the trial was ended by SIGKILL"), ("raises", "no device")]
)
def test_rank_that_ends_before_it_meets_the_others_is_told_at_once(
    how: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.ranks.TIMEOUT", timedelta(seconds=60))
    before, started = folders(), time.monotonic()
    with monkeypatch.context() as patch:
        patch.setenv("UNMET", how)
        patch.setattr("trainables.followers.Ranks", leader.Unmet)
        patch.setattr("trainables.followers.start_method", lambda *more: "spawn")  # sees the variable
        with pytest.raises(RuntimeError if how == "raises" else RankDiedError, match=error):
            Leader(2, "cpu", leader.same)
    assert time.monotonic() - started < 50, "rank 0 would wait for half an hour"
    assert folders() == before and followers_left() == []
    following = Leader(2, "cpu", leader.same)  # of the next trial in the same process
    assert following.everywhere(leader.number, following) == [0, 1]
    following.close()


def test_leader_calls_every_rank_and_ends_all() -> None:
    first = Leader(3, "cpu", leader.same)
    assert first.everywhere(leader.number, first) == [0, 1, 2] and sorted(followers_left()) == ["rank 1", "rank 2"]
    deaf = next(child for child in multiprocessing.active_children() if child.name == "rank 2")
    os.kill(deaf.pid or 0, signal.SIGSTOP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainables.followers.SECONDS", 0.2)
        first.close()
    first.close()
    assert followers_left() == []


def test_synchronised_norms_keep_weights_names_and_activations() -> None:
    act = pytest.importorskip("timm.layers").BatchNormAct2d
    for norm in (nn.BatchNorm2d(4), act(4)):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Conv2d(4, 2, 1)).eval()
        before, images = dict(model.state_dict()), torch.randn(2, 3, 8, 8)
        wanted, weights = model(images), list(model.parameters())
        converted = with_shared_statistics(model)
        assert isinstance(converted[1], nn.SyncBatchNorm) and converted.state_dict().keys() == before.keys()
        assert all(one is other for one, other in zip(converted.parameters(), weights, strict=True))
        assert torch.equal(converted(images), wanted)
