"""Checkpoints: whole or not there, nothing pickled, of one configuration."""

from __future__ import annotations

import json
import pickletools
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file
from torch import nn

from trainables import checkpoint as checkpoints
from trainables.augmentations import PolicySpec
from trainables.checkpoint import (
    file_sha256,
    is_whole,
    latest_checkpoint,
    load_trial,
    publish,
    read_record,
    read_val_counts,
    rebuild_model,
)
from trainables.config import TrialConfig
from trainables.errors import CheckpointError
from trainables.execution import Execution, TrialData
from trainables.files import write_json
from trainables.metrics import summary
from trainables.trial import Trial

BASE = {"image_size": "24x32", "epochs": 4, "batch_size": 4}
FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "sha256.json")


def make_trial(data: TrialData, **flat: object) -> Trial:
    return Trial(TrialConfig.from_flat({**BASE, **flat}), data)


@pytest.fixture
def trained(mini_data: TrialData, tiny_model: None, tmp_path: Path) -> tuple[Trial, Path]:
    """A trial after one epoch, and its checkpoint."""
    trial = make_trial(mini_data)
    trial.run_epoch()
    return trial, trial.save(tmp_path / "checkpoints")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_checkpoint_holds_weights_optimizer_state_and_sums(trained: tuple[Trial, Path]) -> None:
    trial, checkpoint = trained
    assert checkpoint.name == "epoch-0001"
    assert sorted(bytes_of(checkpoint)) == sorted(FILES)
    assert is_whole(checkpoint)
    assert latest_checkpoint(checkpoint.parent) == checkpoint
    record = read_record(checkpoint)
    assert record.config == trial.config
    assert record.epochs == 1
    assert record.metrics == trial.history[-1]["metrics"]
    assert record.applied == json.loads(json.dumps(trial.applied))


def test_finished_trial_keeps_what_it_did_on_each_image_of_val(trained: tuple[Trial, Path]) -> None:
    trial, checkpoint = trained
    assert read_val_counts(checkpoint) is None
    while not trial.done:
        trial.run_epoch()
    last = trial.save(checkpoint.parent)
    kept = read_val_counts(last)
    assert kept is not None and is_whole(last) and (kept.images, kept.classes) == (5, 3)
    assert summary(kept.sum(axis=0)).items() <= trial.history[-1]["metrics"].items()
    truth = [np.bincount(mask[mask != 255], minlength=3) for mask in map(trial.data.data.mask, trial.data.val)]
    np.testing.assert_array_equal(kept.sum(axis=2), truth)


def test_only_the_newest_checkpoint_is_kept(trained: tuple[Trial, Path]) -> None:
    trial, checkpoint = trained
    trial.run_epoch()
    newer = trial.save(checkpoint.parent)
    assert [path.name for path in checkpoint.parent.iterdir()] == [newer.name] == ["epoch-0002"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "emptied"])
def test_damaged_checkpoint_is_passed_over_for_the_older_whole_one(
    trained: tuple[Trial, Path], name: str, damage: str
) -> None:
    _, older = trained
    newer = shutil.copytree(older, older.with_name("epoch-0002"))
    assert latest_checkpoint(older.parent) == newer
    victim = newer / name
    content = bytearray(victim.read_bytes())
    if damage == "truncated":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif damage == "emptied":
        victim.write_bytes(b"")
    else:
        victim.unlink()
    assert not is_whole(newer)
    assert latest_checkpoint(older.parent) == older


def test_sums_of_nothing_make_no_checkpoint(trained: tuple[Trial, Path]) -> None:
    _, checkpoint = trained
    for content in ("{}", "[]", "null", '"x"'):
        (checkpoint / "sha256.json").write_text(content)
        assert not is_whole(checkpoint), content
    assert latest_checkpoint(checkpoint.parent) is None
    assert latest_checkpoint(checkpoint.parent / "never") is None


def test_torn_checkpoint_is_neither_restored_nor_published(trained: tuple[Trial, Path], tmp_path: Path) -> None:
    trial, checkpoint = trained
    (checkpoint / "optimizer.safetensors").unlink()
    with pytest.raises(CheckpointError, match="torn or altered"):
        trial.restore(checkpoint)
    with pytest.raises(CheckpointError, match="torn or altered"):
        publish(checkpoint, tmp_path / "best" / "baseline", label="baseline")
    assert not (tmp_path / "best").exists()


class Killed(BaseException):
    """Stands for the death of the process."""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Killed(), RuntimeError("broken")])
@pytest.mark.parametrize("writes", [0, 1])
def test_failed_save_leaves_the_older_checkpoint_and_no_trace(
    trained: tuple[Trial, Path], monkeypatch: pytest.MonkeyPatch, error: BaseException, writes: int
) -> None:
    trial, older = trained
    before = bytes_of(older)
    trial.run_epoch()
    real, left = safetensors.torch.save_file, [writes]

    def fails_later(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if left[0] == 0:
            path.write_bytes(b"half")
            raise error
        left[0] -= 1
        real(tensors, path)

    monkeypatch.setattr(safetensors.torch, "save_file", fails_later)
    expected = CheckpointError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as told:
        trial.save(older.parent)
    if expected is CheckpointError:
        assert "No space left on device" in str(told.value)
        assert "free space" in str(told.value)
    assert list(older.parent.iterdir()) == [older]
    assert bytes_of(older) == before
    assert latest_checkpoint(older.parent) == older

    monkeypatch.setattr(safetensors.torch, "save_file", real)
    assert trial.save(older.parent).name == "epoch-0002"


def test_disk_full_while_the_sums_are_written_is_told_and_harmless(
    trained: tuple[Trial, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, older = trained
    trial.run_epoch()

    def full(path: Path, content: object) -> None:
        if path.name == "sha256.json":
            raise OSError(28, "No space left on device")
        write_json(path, content)

    monkeypatch.setattr(checkpoints, "write_json", full)
    with pytest.raises(CheckpointError, match="No space left"):
        trial.save(older.parent)
    assert list(older.parent.iterdir()) == [older]
    assert is_whole(older)


def test_folder_that_cannot_be_made_is_a_checkpoint_error(trained: tuple[Trial, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot write"):
        trained[0].save(tmp_path / "file" / "checkpoints")


def test_leftovers_of_a_killed_save_are_no_checkpoint_and_go_with_the_next(trained: tuple[Trial, Path]) -> None:
    trial, older = trained
    shutil.copytree(older, older.with_name(".epoch-0002.4711.tmp"))
    assert latest_checkpoint(older.parent) == older
    trial.run_epoch()
    trial.save(older.parent)
    assert [path.name for path in older.parent.iterdir()] == ["epoch-0002"]


def test_checkpoint_of_another_configuration_is_refused_with_the_difference(
    trained: tuple[Trial, Path], mini_data: TrialData
) -> None:
    other = make_trial(mini_data, **{"optimizer.lr": 0.01})
    before = {key: value.clone() for key, value in other.model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"optimizer\.lr is 0\.003 there and 0\.01 here"):
        other.restore(trained[1])
    assert all(torch.equal(value, before[key]) for key, value in other.model.state_dict().items())


def test_finished_trial_keeps_no_optimizer_state_and_cannot_be_resumed(
    mini_data: TrialData, tiny_model: None, tmp_path: Path
) -> None:
    trial = make_trial(mini_data, epochs=1)
    trial.run_epoch()
    checkpoint = trial.save(tmp_path)
    assert not (checkpoint / "optimizer.safetensors").exists()
    with pytest.raises(CheckpointError, match="finished trial"):
        make_trial(mini_data, epochs=1).restore(checkpoint)


def is_pickle(content: bytes) -> bool:
    """Whether `pickle` could read it: the magic of protocols 2 and up, or opcodes up to a STOP."""
    if content[:1] == b"\x80" or content[:2] == b"PK":
        return True
    try:
        return sum(1 for _ in pickletools.genops(content)) > 1
    except Exception:
        return False


def test_nothing_is_pickled_or_unpickled(
    trained: tuple[Trial, Path], mini_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object, **options: object) -> None:
        raise AssertionError("pickle must not be used")

    for name in ("torch.load", "torch.save", "pickle.load", "pickle.loads", "pickle.dump", "pickle.Unpickler"):
        monkeypatch.setattr(name, forbidden)
    _, checkpoint = trained
    publish(checkpoint, tmp_path / "best" / "flip", label="flip")
    rebuild_model(tmp_path / "best" / "flip")
    fresh = make_trial(mini_data)
    fresh.restore(checkpoint)
    fresh.run_epoch()
    fresh.save(tmp_path / "again")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} == {".safetensors", ".json"}
    assert not [path for path in written if is_pickle(path.read_bytes())]


def test_published_model_gives_equal_outputs_in_evaluation_mode(mini_data: TrialData, tmp_path: Path) -> None:
    # A published model is rebuilt with the usual memory layout, which rounds otherwise than channels last.
    config = TrialConfig.from_flat({**BASE, "epochs": 1})
    trial = Trial(config, mini_data, execution=Execution(channels_last=False))
    trial.run_epoch()
    record = publish(trial.save(tmp_path / "checkpoints"), tmp_path / "best" / "flip", label="flip")
    assert sorted(path.name for path in (tmp_path / "best" / "flip").iterdir()) == ["model.safetensors", "trial.json"]

    torch.manual_seed(99)
    model, loaded = rebuild_model(tmp_path / "best" / "flip")
    assert not model.training
    assert loaded == load_trial(tmp_path / "best" / "flip") == record
    assert (loaded.label, loaded.epochs, loaded.config) == ("flip", 1, trial.config)
    assert [c.name for c in loaded.classes] == ["sky", "ground", "ball"]
    images = torch.rand(2, 3, 24, 32)
    trial.model.eval()
    with torch.no_grad():
        assert torch.equal(model(images)["out"], trial.model(images)["out"])


def test_weights_of_a_model_that_is_built_otherwise_by_now_are_one_error(
    trained: tuple[Trial, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(trained[1], tmp_path / "best" / "flip", label="flip")
    name = "trainables.checkpoint.build_model"
    monkeypatch.setattr(name, lambda *_, **__: torch.nn.Conv2d(99, 99, 99))
    with pytest.raises(CheckpointError, match=r"does not fit \w+ as this project .* manifest.json"):
        rebuild_model(tmp_path / "best" / "flip")


@pytest.mark.parametrize("note", ["", "notes.txt", ".DS_Store"])
def test_publishing_again_replaces_the_model_and_nothing_else(
    trained: tuple[Trial, Path], tmp_path: Path, note: str
) -> None:
    trial, checkpoint = trained
    best = tmp_path / "best" / "flip"
    publish(checkpoint, best, label="flip")
    if note:
        (best / note).write_text("mine")
    trial.run_epoch()
    publish(trial.save(checkpoint.parent), best, label="flip")
    assert rebuild_model(best)[1].epochs == 2
    assert sorted(path.name for path in best.parent.iterdir()) == ["flip"]
    assert not note or (best / note).read_text() == "mine"


def test_publishing_leaves_a_folder_alone_that_is_not_ours(trained: tuple[Trial, Path], tmp_path: Path) -> None:
    own = tmp_path / "model"
    own.mkdir()
    (own / "model.py").write_text("mine")
    with pytest.raises(CheckpointError, match="not of a published model"):
        publish(trained[1], own, label="flip")
    link = tmp_path / "link"
    link.symlink_to(own)
    with pytest.raises(CheckpointError, match="a link"):
        publish(trained[1], link, label="flip")
    assert [path.name for path in own.iterdir()] == ["model.py"]
    assert not list(tmp_path.glob(".*.tmp"))


def test_saving_leaves_files_of_others_alone(trained: tuple[Trial, Path]) -> None:
    trial, checkpoint = trained
    (checkpoint / "notes.txt").write_text("mine")
    trial.run_epoch()
    trial.save(checkpoint.parent)
    assert (checkpoint / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["../../x", "/etc", "..", ".hidden", "a\nb", "a:b", "", 7, "x" * 300])
def test_names_of_a_record_that_are_no_names_of_folders_are_refused(
    trained: tuple[Trial, Path], tmp_path: Path, name: object
) -> None:
    best = tmp_path / "best" / "flip"
    publish(trained[1], best, label="flip")
    content = json.loads((best / "trial.json").read_text())
    (best / "trial.json").write_text(json.dumps({**content, "trial_id": name}))
    with pytest.raises(CheckpointError, match="its trial id"):
        load_trial(best)


def test_records_and_sums_that_are_nested_without_end_are_damaged(trained: tuple[Trial, Path], tmp_path: Path) -> None:
    (tmp_path / "trial.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"trial\.json is damaged"):
        load_trial(tmp_path)
    (trained[1] / "sha256.json").write_text("[" * 100_000)
    assert latest_checkpoint(trained[1].parent) is None


def test_sums_that_name_files_elsewhere_make_no_checkpoint(trained: tuple[Trial, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "secret"
    elsewhere.write_text("x")
    path = trained[1] / "sha256.json"
    sums = json.loads(path.read_text())
    path.write_text(json.dumps({**sums, str(elsewhere): file_sha256(elsewhere)}))
    assert latest_checkpoint(trained[1].parent) is None


def test_weights_that_are_not_the_named_ones_are_refused(trained: tuple[Trial, Path], tmp_path: Path) -> None:
    best = tmp_path / "best" / "flip"
    publish(trained[1], best, label="flip")
    content = bytearray((best / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (best / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not the file that trial\.json names"):
        rebuild_model(best)
    (best / "trial.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        rebuild_model(best)
    (best / "trial.json").unlink()
    with pytest.raises(CheckpointError, match="does not exist"):
        rebuild_model(best)


def test_channels_last_model_is_saved_and_restored(
    trained: tuple[Trial, Path], mini_data: TrialData, tmp_path: Path
) -> None:
    trial, _ = trained
    trial.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trial.run_epoch()
    strides = [p for p in trial.model.parameters() if p.dim() == 4 and not p.is_contiguous()]
    assert strides, "the model must really be channels-last"
    fresh = make_trial(mini_data)
    fresh.restore(trial.save(tmp_path / "last"))
    stored = dict(trial.model.named_parameters())
    assert all(torch.equal(value, stored[name]) for name, value in fresh.model.named_parameters())


def test_tied_weights_are_saved(trained: tuple[Trial, Path], tmp_path: Path) -> None:
    trial, _ = trained
    linear = nn.Linear(3, 3)
    tied = nn.ModuleDict({"a": linear, "b": linear})
    checkpoint = checkpoints.save_checkpoint(
        tmp_path / "tied", epoch=1, model=tied, updater=None, record=trial.record()
    )
    assert is_whole(checkpoint)


def test_policy_is_written_as_a_line_and_as_a_list_from_which_it_is_rebuilt(
    mini_data: TrialData, tiny_model: None, tmp_path: Path
) -> None:
    trial = make_trial(mini_data, epochs=1, **{"augment.policy": "geometric", "augment.rotate.magnitude": 0.7})
    trial.run_epoch()
    publish(trial.save(tmp_path / "checkpoints"), tmp_path / "best", label="geometric")
    policy = json.loads((tmp_path / "best" / "trial.json").read_text(encoding="utf-8"))["policy"]
    assert PolicySpec.from_list(policy["transforms"], family="geometric") == trial.config.augment
    assert policy["line"] == trial.config.augment.describe()
    assert "rotate p=0.50 m=0.70" in policy["line"]


def test_averaged_weights_are_what_is_published_and_trained_ones_are_what_goes_on(
    mini_data: TrialData, tiny_model: None, tmp_path: Path
) -> None:
    trial = make_trial(mini_data, epochs=2, **{"training.ema": 0.9})
    trial.run_epoch()
    checkpoint = trial.save(tmp_path)
    averaged, trained = (load_file(checkpoint / name) for name in ("model.safetensors", "trained.safetensors"))
    assert not torch.equal(averaged["head.weight"], trained["head.weight"])
    assert torch.equal(averaged["head.weight"], trial.updater.evaluated.state_dict()["head.weight"])
    assert torch.equal(trained["head.weight"], trial.model.state_dict()["head.weight"])
    trial.run_epoch()
    assert sorted(bytes_of(trial.save(tmp_path))) == [
        "model.safetensors",
        "sha256.json",
        "state.json",
        "val.safetensors",
    ]


def test_record_of_another_format_is_refused(trained: tuple[Trial, Path]) -> None:
    content = trained[0].record().to_json()
    with pytest.raises(CheckpointError, match="format 99, expected 1"):
        checkpoints.TrialRecord.from_json({**content, "format": 99})
