"""What is found wrong before the first second of training."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.config import SweepConfig, from_command_line
from sweep.preflight import check_disk, plan_space, prepare
from sweep.runner import plan_resources
from trainables.errors import ConfigError, DataError, UsageError, WeightsError

from ..mini import write


def config(*arguments: str) -> SweepConfig:
    return from_command_line(["--name", "x", *arguments])


def test_held_keys_reach_the_base_or_the_space() -> None:
    space, base = plan_space(
        config("--set", "image_size=64x80", "--set", "optimizer.lr=0.01", "--seed", "7", "--max-epochs", "6"), (96, 128)
    )
    merged = {**base, **space.fixed}
    assert (merged["image_size"], merged["optimizer.lr"], merged["seed"], merged["epochs"]) == ("64x80", 0.01, 7, 6)
    assert plan_space(config(), (96, 128))[1]["image_size"] == "96x128"


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ("optimzer.lr=0.1", "did you mean optimizer.lr"),
        ("optimizer.lr=fast", "must be a number"),
        ("optimizer.lr=99", "must be <= 10"),
        ("optimizer.momentum=0.9", "adamw has no momentum"),
        ("augment.policy=geometrc", "did you mean geometric"),
        ("loss.name=focl", "did you mean focal"),
        ("image_size=64", "HEIGHTxWIDTH"),
        ("batch_size=0", "must be >= 1"),
        ("epochs=3", "use --max-epochs"),
        ("model.name=fcn_resnet50", "use --models"),
        ("model.weights=imagenet", "use --weights"),
    ],
)
def test_impossible_keys_and_values_are_bad_usage(held: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        plan_space(config("--set", held), (96, 128))


def test_several_bad_values_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        plan_space(config("--set", "optimizer.lr=fast", "--set", "batch_size=many", "--set", "epochs=3"), (96, 128))
    for fault in ("optimizer.lr=fast", "batch_size=many", "use --max-epochs"):
        assert fault in str(error.value)


def test_good_data_set_becomes_a_plan(mini_root: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    runs = ("--runs-dir", str(tmp_path / "runs"))
    plan = prepare(
        config("--data", "folder", "--data-root", str(mini_root), *runs), progress=lambda *c: calls.append(c)
    )
    assert plan.checked.errors == ()
    assert set(plan.splits.train).isdisjoint(plan.splits.test)
    assert calls[-1] == (40, 40)
    assert not (tmp_path / "runs").exists()


def test_faults_of_usage_come_before_any_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"optimizer\.lr"):
        prepare(config("--data", "folder", "--data-root", str(tmp_path / "nowhere"), "--set", "optimizer.lr=fast"))


def test_every_offender_of_a_data_set_is_told_at_once(tmp_path: Path) -> None:
    root = write(tmp_path / "bad", count=20)
    (root / "masks" / "im003.png").unlink()
    (root / "images" / "im007.png").unlink()
    image = root / "images" / "im009.png"
    image.write_bytes(image.read_bytes()[:300])
    mask = Image.open(root / "masks" / "im011.png").copy()
    mask.paste(77, (0, 0, 5, 4))
    mask.save(root / "masks" / "im011.png")
    with pytest.raises(DataError) as error:
        prepare(config("--data", "folder", "--data-root", str(root)))
    told = str(error.value)
    assert "4 faults" in told
    for name in ("im003", "im007", "im009", "im011"):
        assert name in told
    assert "77 (20 pixels)" in told
    assert error.value.exit_code == 1


def test_predefined_weights_that_cannot_be_had_are_told(
    mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(model: str, weights: str) -> None:
        raise WeightsError(f"{model}: {weights} weights are not here")

    monkeypatch.setattr("sweep.preflight.ensure_weights", absent)
    with pytest.raises(WeightsError, match="imagenet weights are not here"):
        prepare(config("--data", "folder", "--data-root", str(mini_root), "--weights", "imagenet"))


def test_sweep_whose_checkpoints_cannot_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    asked = config("--models", "fcn_resnet50", "--trials", "10", "--runs-dir", str(tmp_path / "a" / "b"))
    # FCN-ResNet50: 35.3 million parameters, three numbers of 4 bytes each, ten times: 3.9 GiB.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5 * 2**30))
    check_disk(asked, asked.runs_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 3 * 2**30))
    with pytest.raises(DataError, match=r"3\.9 GiB .*has\s+3\.0 GiB free"):
        check_disk(asked, asked.runs_dir)


def resources(**changes: Any) -> Any:
    return plan_resources(
        **{"cpus": 8, "gpus": 0, "cpus_per_trial": None, "gpus_per_trial": None, "concurrent": None, **changes}
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (1.0, 0.0, 8)),
        ({"cpus_per_trial": 3}, (3, 0.0, 2)),
        ({"concurrent": 2}, (1.0, 0.0, 2)),
        ({"concurrent": 20}, (1.0, 0.0, 8)),
        ({"gpus": 2}, (4.0, 1.0, 2)),
        ({"gpus": 1, "gpus_per_trial": 0.25}, (2.0, 0.25, 4)),
        ({"gpus": 1, "gpus_per_trial": 0.0}, (1.0, 0.0, 8)),
    ],
)
def test_resources_are_shared_out(asked: dict[str, Any], expected: tuple[float, float, int]) -> None:
    planned = resources(**asked)
    assert (planned.cpus_per_trial, planned.gpus_per_trial, planned.concurrent) == expected


def test_what_the_machine_does_not_have_is_refused_all_at_once() -> None:
    with pytest.raises(UsageError) as error:
        resources(cpus_per_trial=9, gpus_per_trial=1, concurrent=0)
    told = str(error.value)
    for fault in (
        "asks for 9 CPUs, there are 8",
        "asks for 1 GPUs, there are 0",
        "leave --gpus-per-trial out",
        "--concurrent",
    ):
        assert fault in told
    for changes in ({"cpus_per_trial": 0}, {"gpus_per_trial": -1}, {"gpus": 4, "gpus_per_trial": 1.5}):
        with pytest.raises(UsageError):
            resources(**changes)


def test_classes_json_with_faults_is_a_data_error(tmp_path: Path) -> None:
    root = write(tmp_path / "bad", count=4)
    (root / "classes.json").write_text(json.dumps({"classes": []}))
    with pytest.raises(DataError, match=r"classes\.json is not valid"):
        prepare(config("--data", "folder", "--data-root", str(root)))
