"""Resuming and extending: what cannot change is refused, what can is applied and kept, data that changed is found."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sweep.conductor import Conductor
from sweep.config import CHANGEABLE, GoOnConfig, from_command_line
from sweep.flags import parser
from sweep.heartbeat import SPENT_FILE
from sweep.journal import Journal
from sweep.manifest import SweepManifest, TrackingRecord
from sweep.objectives import recorded_objectives
from sweep.session import Session
from trainables.data import DATASETS
from trainables.data.splits.given import make_splits
from trainables.data.splits.stratified import drawn_by
from trainables.errors import SegsweepError
from trainables.latency import Latency

from ..mini import write
from .started import Stage, staged

CONDUCT = Session.conduct
"""As it is: a stage puts something else in its place."""


@pytest.fixture
def stage(
    tmp_path: Path, mini_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Stage:
    return staged(tmp_path, mini_root, capsys, monkeypatch)


@pytest.fixture
def own(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage on data that a test may change."""
    return staged(tmp_path, write(tmp_path / "data"), capsys, monkeypatch)


@pytest.mark.parametrize("how", ["--resume", "--extend 2"])
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--trials 99", "--trials 99 (it is 5)"),
        ("--max-epochs 50", "--max-epochs 50 (it is 5)"),
        ("--scheduler none", "--scheduler none (it is asha)"),
        ("--sampler random", "--sampler random (it is tpe)"),
        ("--seed 3", "--seed 3 (it is 0)"),
        ("--objective val/f1", "--objective val/f1 (it is val/miou)"),
        ("--objective val/miou --objective params", "--objective val/miou,params (it is val/miou)"),
        ("--space loss", "--space loss (it is lr)"),
        ("--set batch_size=4", "--set batch_size=4 (it is"),
        ("--set image_size=96x96", "--set image_size=96x96 (it is 48x64)"),
        ("--gpu-hours 3", "--gpu-hours 3.0 (it is not set)"),
        ("--models fcn_resnet50", "--models fcn_resnet50 (it is"),
        ("--check", "--check"),
        ("--splits x", "--splits x"),
    ],
)
def test_what_a_sweep_that_goes_on_cannot_change_is_refused(stage: Stage, how: str, flags: str, told: str) -> None:
    run_dir = stage.start()
    before = (run_dir / "manifest.json").read_bytes()
    code, errors = stage(*how.split(), "--name", "mine", *flags.split())
    assert code == 2
    assert told in errors
    assert "--extend 4 --name mine" in errors, "more trials are told how to get"
    assert "is another sweep" in errors
    assert len(stage.sessions) == 1, "nothing ran"
    assert (run_dir / "manifest.json").read_bytes() == before
    assert stage.events() == []


def test_all_that_cannot_change_is_told_at_once_and_what_holds_anyway_is_no_fault(stage: Stage) -> None:
    stage.start("--trials", "7")
    code, errors = stage.resume("--trials", "7", "--max-epochs", "9", "--seed", "1", "--data", "folder")
    assert code == 2
    assert "--max-epochs 9 (it is 5), --seed 1 (it is 0)" in errors and "--trials 7" not in errors
    same = ("--trials", "7", "--data", "folder", "--set", "image_size=48x64", "--space", "lr")
    same += ("--models", "lraspp_mobilenet_v3_large")
    assert stage.resume(*same) == (0, "")


def test_objectives_and_the_times_that_were_measured_stay(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def timed(configs: Sequence[Any], classes: int, **how: Any) -> list[Latency]:
        asked.append(len(configs))
        return [Latency(7.5, 0.05)] * len(configs)

    monkeypatch.setattr("sweep.places.time_models", timed)
    objectives = ("--objective", "val/f1", "--objective", "latency_ms", "--objective", "val/iou[sky]")
    stage.start(*objectives)
    first = stage.sessions[-1]
    assert [one.key for one in recorded_objectives(first.manifest)] == list(objectives[1::2])
    assert [one.ms for one in first.manifest.latencies] == [7.5]
    assert first.data.reported == objectives[1::2]
    assert stage.resume(*objectives) == (0, "")
    again = stage.sessions[-1]
    assert (again.manifest, again.data.reported) == (first.manifest, first.data.reported)
    assert asked == [1], "a sweep that goes on measures nothing again"


def test_refit_is_part_of_what_a_sweep_began_with(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("refit: true\n")
    stage.start("--config", str(path))
    assert stage.sessions[-1].manifest.budget.refit
    assert stage.resume("--config", str(path)) == (0, "") and stage.resume("--refit") == (0, "")
    code, errors = stage.resume("--no-refit")
    assert code == 2 and "cannot change: --no-refit (it is True)" in errors
    stage.start(name="without")
    assert not stage.sessions[-1].manifest.budget.refit
    assert stage.resume("--no-refit", name="without") == (0, "")
    code, errors = stage.resume("--refit", name="without")
    assert code == 2 and "cannot change: --refit (it is False)" in errors


def test_sweep_from_before_there_was_a_refit_goes_on_without_one(stage: Stage) -> None:
    run_dir = stage.start()
    content = json.loads((run_dir / "manifest.json").read_text())
    del content["budget"]["refit"]
    for key in ("refit_seconds", "train_images", "val_images"):
        del content["plan"][key]
    (run_dir / "manifest.json").write_text(json.dumps(content))
    assert stage.resume() == (0, "")
    manifest = stage.sessions[-1].manifest
    assert manifest.plan is not None and manifest.plan.refit_seconds == 0 and not manifest.budget.refit


def test_unknown_flag_is_bad_usage_in_every_mode(stage: Stage) -> None:
    stage.start()
    for how in (["--resume"], ["--extend", "1"], []):
        code, errors = stage(*how, "--name", "mine", "--nonsense")
        assert code == 2
        assert "--nonsense" in errors


def test_what_can_change_is_applied_and_kept_in_the_journal(stage: Stage) -> None:
    stage.start("--concurrent", "1")
    changes = ["--time-budget", "2h", "--wandb", "disabled", "--wandb-project", "other", "--workers", "1"]
    assert stage.resume(*changes, "--no-dashboard", "--no-report", "--pictures", "7") == (0, "")
    first = stage.sessions[-1]
    assert first.manifest.budget.time_budget == 7200
    assert first.manifest.tracking == TrackingRecord("disabled", "other")
    assert first.manifest.execution.workers == 1
    assert (first.options.dashboard, first.options.report, first.options.pictures) == (False, False, 7)
    (settings,) = [event for event in stage.events() if event["event"] == "settings"]
    assert settings["changed"]["budget"] == {"time_budget": 7200.0}
    (options,) = [event for event in stage.events() if event["event"] == "options"]
    assert options["dashboard"] is False and "address" not in options
    assert stage.resume() == (0, "")
    assert stage.sessions[-1].manifest == first.manifest, "it holds until it is changed again"
    assert len([event for event in stage.events() if event["event"] == "settings"]) == 1
    assert SweepManifest.load(stage.runs / "mine").tracking.wandb == "offline", "the head stays as it was written"


def test_more_processors_per_trial_change_threads_and_concurrency(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweep.resources import Machines

    monkeypatch.setattr("sweep.start.available", lambda address: Machines(8, 0))
    monkeypatch.setattr("sweep.go_on.available", lambda address: Machines(8, 0))
    stage.start()
    assert stage.sessions[-1].manifest.resources.concurrent == 8
    stage.resume("--cpus-per-trial", "4")
    manifest = stage.sessions[-1].manifest
    assert (manifest.resources.cpus_per_trial, manifest.resources.concurrent) == (4, 2)
    assert manifest.execution.threads == 4
    monkeypatch.setattr("sweep.go_on.available", lambda address: Machines(4, 0))
    stage.resume()
    assert stage.sessions[-1].manifest.resources.concurrent == 1, "on a smaller machine fewer fit"
    monkeypatch.setattr("sweep.go_on.available", lambda address: Machines(2, 0))
    code, errors = stage.resume()
    assert code == 2 and "asks for 4 CPUs, there are 2: lower --cpus-per-trial" in errors


def test_sweep_on_gpus_is_refused_where_there_are_none_before_anything_is_written(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweep.resources import Machines

    run_dir = stage.start()
    manifest = SweepManifest.load(run_dir)
    dataclasses.replace(manifest, resources=dataclasses.replace(manifest.resources, gpus_per_trial=1.0)).save(run_dir)
    code, errors = stage("--extend", "3", "--name", "mine")
    assert code == 2 and "trains on 1 GPU, and here are 0: go on where there are as many" in errors
    assert SweepManifest.load(run_dir).budget.trials == 5 and not stage.events()
    monkeypatch.setattr("sweep.go_on.available", lambda address: Machines(2, 1))
    assert stage.resume() == (0, "")


def test_extending_grows_the_budget_only_when_the_sweep_goes_on(stage: Stage) -> None:
    run_dir = stage.start()
    with Journal(run_dir / "journal.jsonl"):
        code, errors = stage("--extend", "3", "--name", "mine")
    assert code == 1 and "running already" in errors
    assert SweepManifest.load(run_dir).budget.trials == 5
    assert stage("--extend", "3", "--name", "mine") == (0, "")
    session = stage.sessions[-1]
    assert session.manifest.budget.trials == 8
    assert SweepManifest.load(run_dir).budget.trials == 5, "Ray has not started"
    assert not session.journal.of("extended")


@pytest.mark.parametrize("starts", [False, True])
def test_extension_whose_ray_does_not_start_can_be_typed_again(
    stage: Stage, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = stage.start("--cache-limit", "0")

    @contextlib.contextmanager
    def session(**how: Any) -> Iterator[Any]:
        if not starts:
            raise SegsweepError("Ray does not start on this machine")
        yield SimpleNamespace(url=None, protected=True, token="", watch=None)

    def runs(*what: Any, **how: Any) -> None:
        raise stop("the machine is tired")

    stop = type("Halted", (BaseException,), {})
    ray = SimpleNamespace(ray_session=session)
    tuner = SimpleNamespace(Halted=stop, Interrupted=type("Interrupted", (BaseException,), {}), run_trials=runs)
    monkeypatch.setitem(sys.modules, "sweep.ray_session", ray)
    monkeypatch.setitem(sys.modules, "sweep.tuner", tuner)
    monkeypatch.setattr(Session, "conduct", CONDUCT)
    for trials in (8,) if starts else (5, 5):
        code, errors = stage("--extend", "3", "--name", "mine", "--wandb", "disabled")
        assert code == 1 and ("tired" if starts else "does not start") in errors
        assert SweepManifest.load(run_dir).budget.trials == trials
        assert [e["trials"] for e in stage.events() if e["event"] == "extended"][-1:] == [trials][: int(starts)]


def test_configuration_file_of_the_start_can_be_given_again(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    lines = f"space: lr\ndata: folder\ndata-root: {stage.root}\ntrials: 6\nset:\n  image_size: 48x64\nname: mine\n"
    path.write_text(lines)
    assert stage("--config", str(path)) == (0, "")
    assert stage("--config", str(path), "--resume") == (0, "")
    path.write_text(lines.replace("trials: 6", "trials: 60"))
    code, errors = stage("--config", str(path), "--resume")
    assert code == 2 and "--trials 60 (it is 6)" in errors
    path.write_text("resume: true\nname: mine\nconcurrent: 1\n")
    assert stage("--config", str(path)) == (0, "")


SPACE = """\
label_by: optimizer.name
parameters:
  optimizer.name: {choices: [adamw, sgd], default: adamw, role: scientific}
  optimizer.lr: {low: 0.001, high: 0.1, log: true, default: 0.01, reason: as published}
  optimizer.momentum: {low: 0.5, high: 0.99, default: 0.9, when: {optimizer.name: sgd}}
  optimizer.weight_decay: 0.001
"""


def test_file_of_the_space_can_be_given_again_while_it_says_the_same(stage: Stage, tmp_path: Path) -> None:
    space, path = tmp_path / "mine.yaml", tmp_path / "sweep.yaml"
    space.write_text(SPACE)
    held = "{image_size: 48x64, optimizer.momentum: 0.8, optimizer.weight_decay: 0.01}"
    path.write_text(
        f"space: {space}\ndata: folder\ndata-root: {stage.root}\nset: {held}\nname: mine\n"
        "models: [fcn_resnet18, fcn_resnet50]\nweights: none\ntrials: 5\n"
    )
    assert stage("--config", str(path)) == (0, "")
    assert stage("--config", str(path), "--resume") == (0, "")
    assert stage.resume("--space", str(space), "--download") == (0, ""), "nothing is missing"
    space.write_text(SPACE.replace("as published", "as they say") + "description: of the same\n")
    assert stage("--config", str(path), "--resume") == (0, "")
    for before, after in (("high: 0.1", "high: 0.2"), ("0.001\n", "0.002\n"), ("[adamw, sgd]", "[sgd, adamw]")):
        space.write_text(SPACE.replace(before, after))
        code, errors = stage("--config", str(path), "--resume")
        if after == "0.002\n":
            assert code == 0, "--set holds this key, whatever the file says"
        else:
            assert code == 2 and f"--space {space} (it was another when the sweep began)" in errors
    space.write_text("name: yours\n" + SPACE)
    code, errors = stage("--config", str(path), "--resume")
    assert code == 2 and f"--space {space} (it is mine)" in errors
    space.unlink()
    code, errors = stage("--config", str(path), "--resume", "--seed", "4")
    assert code == 2 and "mine.yaml: no such file" in errors and "--seed 4 (it is 0)" in errors


def test_key_that_the_space_holds_cannot_be_edited(stage: Stage, tmp_path: Path) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text(SPACE)
    assert stage.start("--space", str(space)).is_dir()
    space.write_text(SPACE.replace("weight_decay: 0.001", "weight_decay: 0.002"))
    code, errors = stage.resume("--space", str(space))
    assert code == 2 and "it was another when the sweep began" in errors


def test_splits_and_groups_can_be_given_again_while_they_say_the_same(stage: Stage, tmp_path: Path) -> None:
    table, path = tmp_path / "splits.csv", tmp_path / "sweep.yaml"
    ids = [f"im{number:03d}" for number in range(40)]
    parts = ["train"] * 24 + ["val"] * 8 + ["test"] * 8
    lines = [f"{image_id},{part}\n" for image_id, part in zip(ids, parts, strict=True)]
    table.write_text("id,split\n" + "".join(lines))
    path.write_text(f"splits: {table}\ngroup-by: im(..).\n")
    stage.start("--config", str(path))
    assert stage.resume("--config", str(path)) == (0, "")
    path.write_text(f"splits: {table}\ngroup-by: im(.)..\n")
    code, errors = stage.resume("--config", str(path))
    told = f"--splits {table} --group-by im(.).. (train and val and test of the run have other groups)"
    assert code == 2 and told in errors
    path.write_text(f"splits: {table}\ngroup-by: im(..).\n")
    table.write_text("id,split\n" + "".join(reversed(lines)))
    assert stage.resume("--config", str(path)) == (0, ""), "the order of a table says nothing"
    table.write_text("id,split\n" + "".join([*lines[:-1], lines[-1].replace("test", "val")]))
    code, errors = stage.resume("--config", str(path))
    assert code == 2 and "(val and test of the run have other images)" in errors
    table.unlink()
    code, errors = stage.resume("--config", str(path))
    assert code == 2 and f"{table}: table of splits cannot be read" in errors
    assert len(stage.sessions) == 3 and stage.events() == []


def test_groups_over_which_splits_were_drawn_can_be_given_again(stage: Stage) -> None:
    run_dir = stage.start("--group-by", "im(..).")
    assert stage.resume("--group-by", "im(..).") == (0, "")
    code, errors = stage.resume("--group-by", "im(...)")
    assert code == 2 and "--group-by im(...) (" in errors and "of the run have other images" in errors
    (run_dir / "splits.test.json").unlink()
    assert stage.resume("--group-by", "im(..).") == (0, "")


def test_splits_that_were_drawn_by_the_rule_before_can_be_given_again(stage: Stage) -> None:
    with drawn_by("images"):
        run_dir = stage.start("--group-by", "im(...)")
    frozen = json.loads((run_dir / "splits.json").read_text())
    assert "stratified by class with seed" in frozen["origin"]
    now = make_splits(DATASETS.get("folder")(root=stage.root), group_by="im(...)")
    assert "stratified by pixels" in now.origin and {*now.val} != {*frozen["val"]["ids"]}
    assert stage.resume("--group-by", "im(...)") == (0, "")


def test_each_mode_has_a_parser_of_its_own() -> None:
    start, resume = (set(vars(parser(mode).parse_args([]))) for mode in ("start", "resume"))
    assert resume < start
    assert set(CHANGEABLE) <= resume
    assert not {"trials", "max_epochs", "space", "set_", "seed", "sampler"} & resume
    config = from_command_line(["--resume", "--data-root", "~/x"])
    assert isinstance(config, GoOnConfig) and config.changes == {}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_masks_repainted_since_the_start_are_refused_by_name(own: Stage, split: str) -> None:
    run_dir = own.start()
    file = run_dir / ("splits.test.json" if split == "test" else "splits.json")
    image_id = json.loads(file.read_text())[split]["ids"][0]
    path = own.root / "masks" / f"{image_id}.png"
    Image.fromarray(np.full_like(np.asarray(Image.open(path)), 1)).save(path)
    for how in (["--resume"], ["--extend", "1"]):
        code, errors = own(*how, "--name", "mine")
        assert code == 1
        assert f"{split}: 1 mask changed: {image_id}" in errors
    assert len(own.sessions) == 1 and own.events() == []
    assert SweepManifest.load(run_dir).budget.trials == 5


def test_image_that_is_gone_or_replaced_is_refused_by_name(own: Stage) -> None:
    run_dir = own.start()
    gone, replaced = json.loads((run_dir / "splits.json").read_text())["train"]["ids"][:2]
    (own.root / "images" / f"{gone}.png").unlink()
    Image.new("RGB", (64, 48)).save(own.root / "images" / f"{replaced}.png")
    code, errors = own.resume()
    assert code == 1
    assert f"train: 1 image missing or unreadable: {gone}" in errors
    assert f"train: 1 image changed: {replaced}" in errors


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda c: c["classes"].__setitem__(0, {**c["classes"][0], "name": "heaven"}),
            "sky, ground, ball then, heaven",
        ),
        (lambda c: c["classes"][0].update(id=1) or c["classes"][1].update(id=0), "ground, sky, ball now"),
        (lambda c: c.update(void=[255, 254]), "other values in the masks stand for them or for void"),
    ],
)
def test_classes_that_changed_are_refused(own: Stage, change: object, told: str) -> None:
    own.start()
    path = own.root / "classes.json"
    content = json.loads(path.read_text())
    change(content)  # type: ignore[operator]
    path.write_text(json.dumps(content))
    code, errors = own.resume()
    assert code == 1
    assert told in errors


def test_data_that_was_moved_is_found_by_its_content(own: Stage, tmp_path: Path) -> None:
    run_dir = own.start()
    moved = tmp_path / "elsewhere" / "data"
    moved.parent.mkdir()
    own.root.rename(moved)
    code, errors = own.resume()
    assert code == 1
    assert "--data-root" in errors and str(own.root) in errors
    assert "write classes.json" not in errors.splitlines()[-1]
    code, errors = own.resume("--data-root", str(write(tmp_path / "other", seed=1)))
    assert code == 1 and "is not what the sweep mine began with" in errors
    assert own.resume("--data-root", str(moved)) == (0, "")
    assert SweepManifest.load(run_dir).data.root == str(moved)
    assert own.resume() == (0, ""), "the new place is kept"


def test_manifest_of_which_no_trial_can_be_made_is_refused_before_anything_is_written(stage: Stage) -> None:
    run_dir = stage.start()
    content = json.loads((run_dir / "manifest.json").read_text())
    content["base"]["epochs"] = "many"
    (run_dir / "manifest.json").write_text(json.dumps(content))
    code, errors = stage.resume("--time-budget", "1h")
    assert code == 1
    assert f"{run_dir / 'manifest.json'} is damaged (its first trial: " in errors and "epochs" in errors
    assert len(stage.sessions) == 1 and stage.events() == []


def test_run_folder_that_was_moved_goes_on(own: Stage, tmp_path: Path) -> None:
    run_dir = own.start()
    shutil.move(run_dir, own.runs / "renamed")
    assert own.resume(name="renamed") == (0, "")


def test_versions_that_changed_are_told_and_kept(
    own: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = own.start()
    manifest = SweepManifest.load(run_dir)
    content = json.loads((run_dir / "manifest.json").read_text())
    content["versions"] = {**manifest.versions, "torch": "1.0", "code": "0" * 12}
    (run_dir / "manifest.json").write_text(json.dumps(content))
    capsys.readouterr()
    from sweep import run

    assert run.main(["--resume", "--name", "mine", "--runs-dir", str(own.runs)]) == 0
    told = capsys.readouterr().out
    assert "torch is" in told and "the sweep began with 1.0" in told
    (event,) = [event for event in own.events() if event["event"] == "versions"]
    assert set(event["changed"]) == {"torch", "code"}


@pytest.mark.parametrize("split", ["splits.json", "splits.test.json"])
def test_splits_that_were_replaced_are_refused(own: Stage, split: str) -> None:
    """A self-consistent file of another split does not pass for the one that the manifest names."""
    run_dir = own.start()
    train = json.loads((run_dir / "splits.json").read_text())
    if split == "splits.test.json":
        forged = {"format": 1, "data": "folder", "test": train["val"]}
    else:
        forged = {**train, "val": train["train"]}
    (run_dir / split).write_text(json.dumps(forged))
    code, errors = own.resume()
    assert code == 1
    assert f"the {'test' if 'test' in split else 'val'} split is not the one that the sweep began with" in errors


def test_groups_that_were_changed_are_refused(own: Stage) -> None:
    run_dir = own.start("--group-by", r"im(\d\d)")
    content = json.loads((run_dir / "splits.test.json").read_text())
    content["test"]["groups"] = [None] * len(content["test"]["ids"])
    (run_dir / "splits.test.json").write_text(json.dumps(content))
    code, errors = own.resume()
    assert code == 1
    assert "its groups are others than the manifest says" in errors


def test_run_of_the_version_before_goes_on(own: Stage) -> None:
    """Manifests of before hold no hash of groups and values, and no version of the code."""
    run_dir = own.start()
    content = json.loads((run_dir / "manifest.json").read_text())
    del content["data"]["values"], content["versions"]["code"]
    for split in content["data"]["splits"].values():
        del split["groups"]
    (run_dir / "manifest.json").write_text(json.dumps(content))
    assert own.resume() == (0, "")


def test_more_trials_of_a_sweep_bounded_by_time_need_more_time(stage: Stage) -> None:
    stage.start("--time-budget", "10m")
    code, errors = stage("--extend", "4", "--name", "mine")
    assert code == 2 and "time budget of 10m" in errors and "--time-budget 20m" in errors
    assert stage.resume() == (0, "")
    assert stage("--extend", "4", "--name", "mine", "--time-budget", "20m") == (0, "")
    assert stage.sessions[-1].manifest.budget.time_budget == 1200


@pytest.mark.parametrize(("written", "counted"), [("75.5", 75.5), ("12", 30.0), ("much", 30.0)])
def test_resumed_sweep_counts_on_from_the_last_second_that_was_written(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, written: str, counted: float
) -> None:
    run_dir = stage.start()
    (run_dir / SPENT_FILE).write_text(written)
    seen: list[float] = []

    def start(conductor: Conductor, *, before: float = 0.0) -> None:
        seen.append(conductor.elapsed() + before)
        raise KeyboardInterrupt

    monkeypatch.setattr(Conductor, "start", start)
    with Journal(run_dir / "journal.jsonl") as journal:
        journal.append("interrupted", reason="killed", spent_s=30.0)
        session = dataclasses.replace(stage.sessions[-1], journal=journal, started=time.monotonic())
        with pytest.raises(KeyboardInterrupt):
            CONDUCT(session)
    assert seen == [pytest.approx(counted, abs=1.0)]
