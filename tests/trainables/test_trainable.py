"""SegmentationTrainable as Tune's workers drive it, without a cluster: set up, stepped, reused, started again."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from trainables import trial as trial_module
from trainables.checkpoint import is_whole, latest_checkpoint, read_record
from trainables.config import TrialConfig
from trainables.errors import CheckpointError, DataError, LoaderDiedError, RankDiedError, SegsweepError
from trainables.execution import Execution, TrialData
from trainables.machine_faults import machine_fault, node_died, node_fault
from trainables.trainable import CHECKPOINTS, SegmentationTrainable
from trainables.trial import Trial

BASE: dict[str, Any] = {"image_size": "24x32", "epochs": 3, "batch_size": 4, "augment.policy": "geometric"}


def asked(trial_id: str, *, reported: int = 0, **flat: object) -> dict[str, Any]:
    return {"trial_id": trial_id, "config": {**BASE, **flat}, "reported": reported}


def start(config: dict[str, Any], data: TrialData, run_dir: Path) -> SegmentationTrainable:
    """An actor's trainable right after its setup."""
    trainable: SegmentationTrainable = object.__new__(SegmentationTrainable)
    trainable.setup(config, data=data, run_dir=str(run_dir), execution=Execution())
    return trainable


def curve(trainable: SegmentationTrainable, steps: int = 10) -> list[dict[str, Any]]:
    """Results up to the one that says done."""
    results = []
    for _ in range(steps):
        results.append(trainable.step())
        if results[-1]["done"]:
            break
    return results


def metrics(results: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [result["metrics"] for result in results]


@pytest.fixture
def uninterrupted(mini_data: TrialData, tiny_model: None, tmp_path: Path) -> list[dict[str, Any]]:
    return curve(start(asked("t000"), mini_data, tmp_path / "uninterrupted"))


def test_a_step_is_an_epoch_and_the_last_one_says_done(uninterrupted: list[dict[str, Any]], tmp_path: Path) -> None:
    assert [(result["epoch"], result["done"]) for result in uninterrupted] == [(1, False), (2, False), (3, True)]
    assert all(result["seconds"] > 0 and "val/miou" in result["metrics"] for result in uninterrupted)
    checkpoint = latest_checkpoint(tmp_path / "uninterrupted" / CHECKPOINTS / "t000")
    assert checkpoint is not None
    assert is_whole(checkpoint)
    assert [dict(entry) for entry in read_record(checkpoint).history] == [
        {key: result[key] for key in ("epoch", "seconds", "metrics")} for result in uninterrupted
    ]


def test_reused_actor_trains_the_same_digits_as_a_fresh_one(
    uninterrupted: list[dict[str, Any]], mini_data: TrialData, tmp_path: Path
) -> None:
    trainable = start(asked("t001", **{"optimizer.name": "sgd", "image_size": "32x48"}), mini_data, tmp_path / "reused")
    curve(trainable, steps=2)  # stopped in the middle, as ASHA does
    assert trainable.reset_config(asked("t002")) is True
    assert metrics(curve(trainable)) == metrics(uninterrupted)


def test_reused_actor_of_a_real_model_trains_the_same_digits_as_a_fresh_one(
    mini_data: TrialData, tmp_path: Path
) -> None:
    fresh = start(asked("t000", epochs=1), mini_data, tmp_path / "fresh")
    reused = start(asked("t001", epochs=1, seed=5), mini_data, tmp_path / "reused")
    reused.step()
    reused.reset_config(asked("t002", epochs=1))
    assert metrics(curve(reused)) == metrics(curve(fresh))


@pytest.mark.parametrize(("trained", "heard"), [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0), (3, 2)])
def test_started_again_it_repeats_what_was_not_heard_and_goes_on_as_if_never_stopped(
    uninterrupted: list[dict[str, Any]], mini_data: TrialData, tmp_path: Path, trained: int, heard: int
) -> None:
    first = start(asked("t000"), mini_data, tmp_path / "again")
    before = [first.step() for _ in range(trained)]
    torch.manual_seed(11)
    again = curve(start(asked("t000", reported=heard), mini_data, tmp_path / "again"))
    assert [result["epoch"] for result in again] == list(range(heard + 1, 4))
    assert metrics(again) == metrics(uninterrupted[heard:])
    assert [r["seconds"] for r in again[: trained - heard]] == [r["seconds"] for r in before[heard:]], "repeated"
    assert again[-1]["done"]


def test_torn_checkpoint_costs_its_epoch_and_no_more(
    uninterrupted: list[dict[str, Any]], mini_data: TrialData, tmp_path: Path
) -> None:
    first = start(asked("t000"), mini_data, tmp_path / "torn")
    first.step()
    checkpoint = latest_checkpoint(tmp_path / "torn" / CHECKPOINTS / "t000")
    assert checkpoint is not None
    (checkpoint / "model.safetensors").write_bytes(b"torn")
    again = curve(start(asked("t000", reported=1), mini_data, tmp_path / "torn"))
    assert metrics(again) == metrics(uninterrupted)


@pytest.mark.parametrize("epoch", [1, 2])
def test_divergence_is_infeasible_with_its_reason(
    mini_data: TrialData, tiny_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    real = Trial.run_epoch

    def poisoned(self: Trial) -> dict[str, Any]:
        if self.epoch + 1 == epoch:
            with torch.no_grad():
                self.model.head.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
        return real(self)

    monkeypatch.setattr(Trial, "run_epoch", poisoned)
    results = curve(start(asked("t000"), mini_data, tmp_path))
    assert len(results) == epoch
    assert results[-1]["infeasible"].startswith("diverged: ")
    assert (results[-1]["epoch"], results[-1]["done"]) == (epoch - 1, True)
    assert "failed" not in results[-1]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total capacity of"),
            "out of GPU memory (3.00 GiB asked for): lower batch_size (now 4) or image_size (now 24x32)",
        ),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 40000 bytes."
            ),
            "out of the machine's memory (40000 bytes asked for): lower batch_size",
        ),
        (MemoryError("Unable to allocate 1.46 TiB for an array with shape (3, 4)"), "(1.46 TiB asked for)"),
        (MemoryError(), "out of the machine's memory: lower batch_size"),
        (RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"), "out of GPU memory: lower"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
            "out of GPU memory: lower",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out of GPU memory: lower"),
    ],
)
@pytest.mark.parametrize("when", ["while it is built", "while it trains"])
def test_out_of_memory_is_infeasible_with_the_bytes_asked_for_and_a_hint(
    uninterrupted: list[dict[str, Any]],
    mini_data: TrialData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    told: str,
    when: str,
) -> None:
    def exhausted(*_: Any, **__: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(trial_module, "build_model" if when == "while it is built" else "train_one_epoch", exhausted)
        trainable = start(asked("t000"), mini_data, tmp_path)
        result = trainable.step()
    assert told in result["infeasible"]
    assert ("--gpus-per-trial" in result["infeasible"]) == ("GPU" in told)
    assert (result["epoch"], result["done"]) == (0, True)
    trainable.reset_config(asked("t001"))
    assert metrics(curve(trainable)) == metrics(uninterrupted), "the actor is as good as new"


def test_runtime_errors_that_are_not_about_memory_are_failures(
    mini_data: TrialData, tiny_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(trial_module, "train_one_epoch", broken)
    result = start(asked("t000"), mini_data, tmp_path).step()
    assert "mat1 and mat2" in result["failed"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CheckpointError("cannot write the checkpoint: disk full"), "disk full"),
        (RuntimeError("broken"), "RuntimeError: broken"),
    ],
)
def test_other_errors_fail_the_trial_with_a_message_and_a_log(
    mini_data: TrialData, tiny_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fails(self: Trial, folder: Path) -> Path:
        raise error

    monkeypatch.setattr(Trial, "save", fails)
    result = start(asked("t000"), mini_data, tmp_path).step()
    assert told in result["failed"]
    assert result["done"]
    log = (tmp_path / "logs" / "t000.log").read_text(encoding="utf-8")
    assert told in log
    assert ("Traceback" in log) == (not isinstance(error, SegsweepError))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free disk space"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "free disk space"),
        (DataError("images/a.png: image is missing; restore the file"), "restore the file"),
        (RuntimeError("DataLoader worker died"), None),
        (FileNotFoundError(errno.ENOENT, "No such file", "/somewhere/else"), None),
    ],
)
def test_faults_of_the_machine_are_no_failures_of_the_trial(
    mini_data: TrialData, tiny_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: Exception, told: str | None,
) -> None:  # fmt: skip
    trainable = start(asked("t000"), mini_data, tmp_path)
    whole = Trial.save
    monkeypatch.setattr(Trial, "save", lambda *arguments: (_ for _ in ()).throw(error))
    result = trainable.step()
    assert result["done"] and set(result) == {"machine" if told else "failed", "epoch", "done"}
    if told is None:
        return
    assert told in result["machine"]
    monkeypatch.setattr(Trial, "save", whole)
    again = curve(start(asked("t000"), mini_data, tmp_path))
    assert [one["epoch"] for one in again] == [1, 2, 3], "the trial goes on where it was"


def test_killed_loader_process_is_a_dead_worker_and_no_failed_trial(
    mini_data: TrialData, tiny_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable = start(asked("t000"), mini_data, tmp_path)
    died = LoaderDiedError("DataLoader worker (pid(s) 7) exited unexpectedly")
    monkeypatch.setattr(Trial, "run_epoch", lambda self: (_ for _ in ()).throw(died))
    with pytest.raises(LoaderDiedError):
        trainable.step()


def test_process_that_dies_while_the_trial_is_built_is_a_dead_worker_too(
    mini_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = RankDiedError("the process of rank 1 of the trial was ended by SIGKILL")
    monkeypatch.setattr(trial_module, "Trial", lambda *arguments, **options: (_ for _ in ()).throw(died))
    with pytest.raises(RankDiedError):
        start(asked("t000"), mini_data, tmp_path).step()


def test_data_and_logs_that_are_away_are_the_machines_fault(
    mini_data: TrialData, tiny_model: None, tmp_path: Path
) -> None:
    (tmp_path / "logs").write_text("not a folder")
    result = start(asked("t000"), mini_data, tmp_path).step()
    assert "bring it back" in result["machine"]
    gone = FileNotFoundError(errno.ENOENT, "No such file", str(mini_data.data.root / "images" / "a.png"))
    assert "bring it back" in machine_fault(gone, (mini_data.data.root,)) and not machine_fault(gone)
    lost = DataError(f"{tmp_path / 'away' / 'a.png'}: image is missing; restore the file")
    assert machine_fault(lost, (tmp_path / "away",)).startswith(f"{tmp_path / 'away'} is not there any more; bring it")
    assert machine_fault(lost, (tmp_path, tmp_path / "cache")) == str(lost)
    wrapped = RuntimeError("Caught OSError in DataLoader worker process 0.")
    wrapped.__cause__ = OSError(errno.EIO, "Input/output error")
    assert "look after the disk" in machine_fault(wrapped)
    full = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out"
    assert "--shm-size" in machine_fault(RuntimeError(full))


@pytest.mark.parametrize(
    ("words", "is_node", "is_gone"),
    [
        ("The actor died because its node has died. Node Id: 12", True, True),
        ("The actor is dead because its owner has died. The raylet exited", True, False),
        ("Worker unexpectedly exits with a connection error code 2. End of file.", False, False),
    ],
)
def test_what_ray_says_of_a_node_is_the_machines_fault(words: str, is_node: bool, is_gone: bool) -> None:
    assert (bool(node_fault(words)), node_died(words)) == (is_node, is_gone)


def test_impossible_configuration_fails_its_first_step_and_leaves_the_actor_usable(
    uninterrupted: list[dict[str, Any]], mini_data: TrialData, tmp_path: Path
) -> None:
    trainable = start(asked("t000", **{"optimizer.lr": "fast", "loss.nme": 1}), mini_data, tmp_path)
    result = trainable.step()
    assert result["done"]
    assert "optimizer.lr=fast" in result["failed"]
    assert "loss.nme" in result["failed"]
    assert trainable.step()["failed"] == result["failed"]
    trainable.reset_config(asked("t001"))
    assert metrics(curve(trainable)) == metrics(uninterrupted)


def test_checkpoint_of_another_configuration_fails_the_trial(
    mini_data: TrialData, tiny_model: None, tmp_path: Path
) -> None:
    start(asked("t000"), mini_data, tmp_path).step()
    result = start(asked("t000", **{"optimizer.lr": 0.01}), mini_data, tmp_path).step()
    assert "another configuration" in result["failed"]


def test_every_trial_writes_a_log_of_its_own_and_closes_it(
    mini_data: TrialData, tiny_model: None, tmp_path: Path
) -> None:
    trainable = start(asked("t000"), mini_data, tmp_path)
    trainable.step()
    trainable.reset_config(asked("t001", **{"optimizer.lr": 0.00123}))
    trainable.step()
    trainable.cleanup()
    first = (tmp_path / "logs" / "t000.log").read_text(encoding="utf-8")
    second = (tmp_path / "logs" / "t001.log").read_text(encoding="utf-8")
    assert first.count("epoch 1:") == second.count("epoch 1:") == 1
    assert "0.00123" in second
    assert "0.00123" not in first
    assert "applied" in second
    assert not logging.getLogger("segsweep.trial.t000").handlers
    assert not logging.getLogger("segsweep.trial.t001").handlers


def test_tunes_own_save_and_load_go_on_with_equal_digits(
    uninterrupted: list[dict[str, Any]], mini_data: TrialData, tmp_path: Path
) -> None:
    first = start(asked("t000"), mini_data, tmp_path / "a")
    first.step()
    first.save_checkpoint(str(tmp_path / "tune"))
    other = start(asked("t000"), mini_data, tmp_path / "b")
    other.load_checkpoint(str(tmp_path / "tune"))
    assert metrics(curve(other)) == metrics(uninterrupted[1:])


def test_setup_needs_no_pickled_state(mini_data: TrialData, tiny_model: None, tmp_path: Path) -> None:
    """The checkpoint folder alone decides where a trial goes on: nothing of the actor is needed."""
    start(asked("t000"), mini_data, tmp_path).step()
    config = TrialConfig.from_flat(BASE)
    checkpoint = latest_checkpoint(tmp_path / CHECKPOINTS / "t000")
    assert checkpoint is not None
    trial = Trial(config, mini_data)
    trial.restore(checkpoint)
    assert trial.epoch == 1
