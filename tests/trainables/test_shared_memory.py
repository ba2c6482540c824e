"""Batches of loader processes where shared memory is short."""

from __future__ import annotations

import os
import pickle
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trainables import shared_memory
from trainables.loaders import Batch


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))


@pytest.mark.parametrize("whole", [True, False], ids=["training", "evaluation"])
def test_batch_that_takes_the_pipe_carries_its_content_and_can_be_written_to(whole: bool) -> None:
    images = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).reshape(2, 4, 5, 3)
    masks = torch.ones(2, 4, 5, dtype=torch.uint8)
    sent = Batch(["a", "b"], images, masks if whole else [masks[0], masks[1, :2]], piped=True)
    content = bytes(ForkingPickler.dumps(sent))
    assert images.numpy().tobytes() in content, "in shared memory there would be a handle alone"
    assert images.numpy().tobytes() not in bytes(ForkingPickler.dumps(Batch(sent.ids, images, masks)))
    got = pickle.loads(content)
    assert got.ids == sent.ids and torch.equal(got.images, images)
    assert all(torch.equal(one, other) for one, other in zip(got.masks, sent.masks, strict=True))
    got.images[0] = 7


def test_batch_of_images_of_different_sizes_takes_the_pipe_too() -> None:
    images = [np.full((4, 5, 3), 7, np.uint8), np.full((2, 9, 3), 8, np.uint8)]
    masks = [torch.ones(4, 5, dtype=torch.uint8), torch.zeros(2, 9, dtype=torch.uint8)]
    got = pickle.loads(bytes(ForkingPickler.dumps(Batch(["a", "b"], images, masks, piped=True))))
    for place in (0, 1):
        np.testing.assert_array_equal(got.images[place], images[place])
        assert torch.equal(got.masks[place], masks[place])


@pytest.mark.parametrize("whole", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("fault", ["", "no room", "no open files"])
def test_batch_takes_the_pipe_once_another_program_has_filled_the_memory(
    whole: bool, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, masks = torch.ones(2, 4, 5, 3, dtype=torch.uint8), torch.ones(2, 4, 5, dtype=torch.uint8)
    batch = Batch(["a", "b"], images, masks if whole else [masks[0].clone(), masks[1, :2].clone()])
    assert not batch.sent().images.is_shared(), "nothing is sent without loader processes"
    monkeypatch.setattr("trainables.loaders.get_worker_info", object)
    with_free(monkeypatch, 4096 if fault == "no room" else 2**20)

    def refused(self: torch.Tensor) -> None:
        raise RuntimeError("unable to open shared memory object: Too many open files (24)")

    if fault == "no open files":
        monkeypatch.setattr(torch.Tensor, "share_memory_", refused)
    monkeypatch.setattr(shared_memory, "_TRIALS", 300 if fault == "no room" else 4)
    sent = batch.sent()
    assert sent.piped == bool(fault)
    shared = [sent.images, *([sent.masks] if whole else sent.masks)]
    assert all(one.is_shared() == (not fault) for one in shared)


def test_memory_is_short_below_a_gigabyte_or_four_times_what_a_trial_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 64 * 2**20)
    assert shared_memory.is_short()
    assert "has 64 MB free" in shared_memory.note(workers=4) and not shared_memory.note(workers=0)
    with_free(monkeypatch, 2**30)
    assert not shared_memory.is_short() and not shared_memory.note(workers=4)
    batch = 16 * 512 * 512 * 4
    assert shared_memory.is_short(batch, workers=4), "10 batches each of train and val hold 320 MB"
    with_free(monkeypatch, 2**31)
    assert not shared_memory.is_short(batch, workers=4)
    monkeypatch.delattr(os, "statvfs")
    assert not shared_memory.is_short(batch, workers=4), "another system"
