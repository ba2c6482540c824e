"""Trials on a node that does not see the run folder: what reaches it, and when."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.keeper import RunFolder
from trainables import trainable as module
from trainables.carried import Carried
from trainables.checkpoint import read_record
from trainables.execution import Execution, TrialData
from trainables.files import write_json
from trainables.node import NodeOrder
from trainables.trainable import CHECKPOINTS, LOGS, SegmentationTrainable

from .test_trainable import asked, curve, metrics, start


class Broken(RunFolder):
    """A run folder that cannot be reached."""

    def store(self, trial_id: str, checkpoint: Carried) -> None:
        raise OSError(28, "No space left on device")


@pytest.fixture
def node(mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a node that is ready and sees no run folder."""
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "nodes" / "t-n1"
    write_json(folder / "place.json", {"root": str(mini_root), "run_dir": str(folder)})
    context = SimpleNamespace(get_node_id=lambda: "n1")
    monkeypatch.setattr(module.ray, "get_runtime_context", lambda: context)
    return folder


def apart(config: dict[str, Any], data: TrialData, keeper: RunFolder) -> SegmentationTrainable:
    trainable: SegmentationTrainable = object.__new__(SegmentationTrainable)
    order = NodeOrder("t", "", data.data.name, str(data.data.root), data.train, data.val, {}, ())
    trainable.setup(config, data=data, run_dir="/not/there", execution=Execution(), order=order, keeper=keeper)
    return trainable


def test_each_epoch_is_in_the_run_folder_before_its_result_and_another_node_goes_on_from_there(
    node: Path, mini_data: TrialData, tiny_model: None, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    whole = metrics(curve(start(asked("t000"), mini_data, tmp_path / "whole")))
    first = apart(asked("t000"), mini_data, RunFolder(str(run_dir)))
    seen = []
    for _ in range(2):
        seen.append(first.step()["metrics"])
        (checkpoint,) = (run_dir / CHECKPOINTS / "t000").iterdir()
        assert [entry["metrics"] for entry in read_record(checkpoint).history] == seen
    shutil.rmtree(node / CHECKPOINTS)  # that node died
    second = apart(asked("t000", reported=2), mini_data, RunFolder(str(run_dir)))
    seen += metrics(curve(second))
    assert seen == whole
    second.cleanup()
    log = (run_dir / LOGS / "t000.log").read_text()
    assert [log.count(f"epoch {epoch}:") for epoch in (1, 2, 3)] == [1, 1, 1] and "goes on after epoch 2" in log
    assert not list((node / CHECKPOINTS).iterdir()), "nothing stays on the node"


def test_run_folder_that_cannot_be_reached_is_the_machines_fault(
    node: Path, mini_data: TrialData, tiny_model: None, tmp_path: Path
) -> None:
    result = apart(asked("t000"), mini_data, Broken(str(tmp_path / "run"))).step()
    assert "cannot be brought to the run folder: [Errno 28] No space left" in result["machine"]
