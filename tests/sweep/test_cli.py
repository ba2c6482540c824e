"""`python -m sweep.run` up to the point where Ray would start: what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep import run
from sweep.manifest import SweepManifest
from sweep.measuring import TOGETHER, measure_everything, measure_models
from sweep.plan import MeasuredCost
from trainables.cost import Cost, measure
from trainables.data.scenes import dataset as scenes
from trainables.errors import WiringError
from trainables.execution import Execution, TrialData

from ..mini import write


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str


class Command:
    """Runs the command in this process, in a folder of its own, and sees to it that Ray stays where it is."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.runs = folder / "runs"
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Outcome:
        """The exit code and the output of `python -m sweep.run ARGUMENTS`."""
        self._capsys.readouterr()
        try:
            code = run.main([*arguments, "--runs-dir", str(self.runs)])
        except SystemExit as stop:  # argparse
            code = int(str(stop.code))
        told = self._capsys.readouterr()
        assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
        return Outcome(code, told.out, told.err)


@pytest.fixture
def sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "400")

    def forbidden(*args: object, **options: object) -> None:
        raise AssertionError("Ray must not be started")

    import sweep.ray_session

    monkeypatch.setattr(sweep.ray_session, "ray_session", forbidden)
    monkeypatch.setattr("ray.init", forbidden)
    cost = Cost(0.3, 4.5, 0.5, 2**30, 2**25)
    costs = (MeasuredCost("lraspp_mobilenet_v3_large", "64x64", cost),)
    monkeypatch.setattr("sweep.start.measure_models", lambda *what, **how: costs)
    monkeypatch.setattr("sweep.start.measure_everything", lambda *what, **how: ([("the model", cost)], costs))
    return Command(tmp_path, capsys)


@pytest.mark.parametrize(
    ("arguments", "close"),
    [
        ("--space agument", "augment"),
        ("--models lraspp_mobilenet_v3", "lraspp_mobilenet_v3_large"),
        ("--data voc2021", "voc2012"),
        ("--set optimzer.lr=0.1", "optimizer.lr"),
        ("--set augment.policy=geometrc", "geometric"),
        ("--weights imagnet", "imagenet"),
        ("--objective val/mIoU", "val/miou"),
        ("--objective val/miou --objective param", "params"),
        ("--objective val/iuo[road]", "val/iou[road]"),
        ("--sampler tep", "tpe"),
        ("--scheduler ahsa", "asha"),
    ],
)
def test_unknown_name_is_bad_usage_and_the_close_ones_are_told(sweep: Command, arguments: str, close: str) -> None:
    outcome = sweep(*arguments.split())
    assert outcome.code == 2
    assert close in outcome.err
    assert len(outcome.err.strip().splitlines()) <= 2
    assert outcome.out == ""
    assert not sweep.runs.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--set optimizer.lr=fast", "optimizer.lr=fast: must be a number"),
        ("--set image_size=96", "HEIGHTxWIDTH"),
        ("--set batch_size=0", "batch_size=0: must be >= 1"),
        ("--set loss.gamma=2 --space lr", "cross_entropy has no gamma"),
        ("--trials 0", "--trials"),
        ("--time-budget soon", "--time-budget"),
        ("--name a/b", "--name"),
        ("--objective val/miou --objective val/miou", "--objective val/miou is given twice"),
        ("--objective params", "cannot come first"),
    ],
)
def test_impossible_value_is_bad_usage(sweep: Command, arguments: str, told: str) -> None:
    outcome = sweep(*arguments.split())
    assert outcome.code == 2
    assert told in outcome.err
    assert not sweep.runs.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--sampler gp", "gp cannot search the space augment: .*: use tpe, qmc or random, or hold augment.policy"),
        ("--sampler nsga2 --space lr", "nsga2 cannot search the space lr: not every trial has optimizer.momentum: use"),
        ("--sampler grid --space lr", "grid cannot search the space lr: optimizer.lr, .* give a step or choices"),
    ],
)
@pytest.mark.parametrize("mode", ["--show", "--check", "--no-report"])
def test_space_that_a_sampler_cannot_search_is_refused_before_anything_runs(
    sweep: Command, arguments: str, told: str, mode: str
) -> None:
    outcome = sweep(*arguments.split(), mode)
    assert outcome.code == 2
    assert re.search(told, " ".join(outcome.err.split())), outcome.err
    assert not sweep.runs.exists()


def test_sampler_can_search_a_space_whose_conditions_are_decided(sweep: Command) -> None:
    assert sweep("--sampler", "gp", "--space", "lr", "--set", "optimizer.name=sgd", "--show").code == 0


def test_data_root_that_does_not_exist_is_told_with_what_was_expected(sweep: Command, tmp_path: Path) -> None:
    for name in ("folder", "camvid", "voc2012"):
        outcome = sweep("--data", name, "--data-root", str(tmp_path / "nowhere"))
        assert outcome.code == 1
        assert str(tmp_path / "nowhere") in outcome.err
        assert not sweep.runs.exists()
    assert sweep("--data", "folder").code in (1, 2)


def test_every_offender_of_a_broken_data_set_is_listed_and_no_run_is_left(sweep: Command, tmp_path: Path) -> None:
    root = write(tmp_path / "bad [1]", count=20)  # a name that Rich would take for markup
    (root / "images" / "im005.png").unlink()
    image = root / "images" / "im008.png"
    image.write_bytes(image.read_bytes()[:200])
    mask = Image.open(root / "masks" / "im013.png").copy()
    mask.paste(99, (0, 0, 3, 3))
    mask.save(root / "masks" / "im013.png")
    outcome = sweep("--data", "folder", "--data-root", str(root))
    assert outcome.code == 1
    for expected in ("im005", "im008", "im013", "99 (9 pixels)", "3 faults", "bad [1]"):
        assert expected in outcome.err, expected
    assert "Traceback" not in outcome.err
    assert not sweep.runs.exists()


def test_existing_run_is_never_overwritten(sweep: Command, mini_root: Path) -> None:
    (sweep.runs / "mine").mkdir(parents=True)
    (sweep.runs / "mine" / "journal.jsonl").write_text("precious")
    outcome = sweep("--data", "folder", "--data-root", str(mini_root), "--name", "mine")
    assert outcome.code == 2
    assert "--resume --name mine" in outcome.err
    assert (sweep.runs / "mine" / "journal.jsonl").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [("--cpus-per-trial 4096", "asks for 4096 CPUs"), ("--gpus-per-trial 64", "asks for 64 GPUs"),
     ("--cpus-per-trial 0", "--cpus-per-trial must be above 0"), ("--concurrent 0", "--concurrent must be at least 1")],
)  # fmt: skip
def test_what_the_machine_does_not_have_is_refused(sweep: Command, mini_root: Path, arguments: str, told: str) -> None:
    outcome = sweep("--data", "folder", "--data-root", str(mini_root), *arguments.split())
    assert outcome.code == 2
    assert told in outcome.err
    assert not sweep.runs.exists()


def test_check_tries_everything_says_what_it_costs_and_leaves_nothing(
    sweep: Command, mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure_here(
        configs: Sequence[Mapping[str, Any]], data: TrialData, execution: Execution, **how: object
    ) -> list[Cost]:
        """In this process: one of its own is started in `test_cost.py`."""
        return [measure(config, data, execution) for config in configs]

    monkeypatch.setattr("sweep.start.measure_everything", measure_everything)
    monkeypatch.setattr("sweep.places.measure_apart", measure_here)
    monkeypatch.setattr("trainables.cost.SECONDS", 0.0)
    space = tmp_path / "mine.yaml"
    space.write_text(
        "name: mine\nlabel_by: loss.name\nparameters:\n"
        "  loss.name: {choices: [cross_entropy, dice], default: cross_entropy}\n"
        "  augment.policy: {choices: [none, flip], default: none}\n"
    )
    data = ("--data", "folder", "--data-root", str(mini_root), "--set", "image_size=32x32", "--set", "batch_size=2")
    outcome = sweep(*data, "--space", str(space), "--trials", "3", "--concurrent", "1", "--check")
    assert outcome.code == 0
    for expected in ("mine", "3 classes", "24 train", "sealed", "3 trials of up to 5 epochs", "can start"):
        assert expected in outcome.out, expected
    rows = [line for line in outcome.out.splitlines() if line.rstrip().endswith(" ok")]
    tried = [*(f"loss.name {name}" for name in ("cross_entropy", "dice")), "augment.policy none", "augment.policy flip"]
    for expected in ("lraspp_mobilenet_v3_large at 32x32", *tried, TOGETHER):
        assert sum(expected in f"{row} " for row in rows) >= 1, expected
    assert not sweep.runs.exists()


def test_more_at_once_than_the_memory_holds_is_refused_before_anything_starts(
    sweep: Command, mini_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = Cost(0.1, 1.0, 0.1, memory_bytes=3 * 2**29)
    monkeypatch.setattr("sweep.memory_room.memory_bytes", lambda: 2 * 2**30)
    monkeypatch.setattr("sweep.places.measure_apart", lambda configs, *what, **how: [large for _ in configs])
    data = ("--data", "folder", "--data-root", str(mini_root), "--max-epochs", "2", "--cpus-per-trial", "0.25")
    outcome = sweep(*data, "--concurrent", "2")
    assert outcome.code == 2 and "--concurrent 2: so many trials would hold 3 GiB" in outcome.err
    outcome = sweep(*data, "--check")
    assert "one trial after the other" in outcome.out and "1 at once" in outcome.out
    assert not sweep.runs.exists()


def test_what_cannot_be_trained_here_is_told_before_anything_starts(
    sweep: Command, mini_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = Cost(fault="out of the machine's memory: lower batch_size (now 8)")
    rows = [("the model", faulty), ("the loss", Cost(0.1, 1.0, 0.1))]
    monkeypatch.setattr("sweep.start.measure_everything", lambda *what, **how: (rows, ()))
    data = ("--data", "folder", "--data-root", str(mini_root), "--max-epochs", "2")
    outcome = sweep(*data, "--check")
    assert outcome.code == 1
    assert "out of the machine's memory" in outcome.out and "1 of 2 cannot be trained here" in outcome.out
    monkeypatch.setattr("sweep.start.measure_models", measure_models)
    monkeypatch.setattr("sweep.places.measure_apart", lambda configs, *what, **how: [faulty for _ in configs])
    outcome = sweep(*data)
    assert outcome.code == 1
    assert "lraspp_mobilenet_v3_large at 216x288: out of the machine's memory" in outcome.err
    assert not sweep.runs.exists()


def test_sweep_on_ones_own_data_is_asked_how_long_it_may_take(sweep: Command, mini_root: Path) -> None:
    data = ("--data", "folder", "--data-root", str(mini_root), "--space", "augment")
    outcome = sweep(*data)
    assert outcome.code == 2
    found = re.search(r"Proposed: --time-budget (\w+), which has room for about (\d+) trials", outcome.err)
    assert found and int(found[2]) >= 10 and "--accept-plan" in outcome.err
    assert not sweep.runs.exists()
    accepted = sweep(*data, "--check", "--accept-plan")
    assert accepted.code == 0 and f"of {found[1]}: " in accepted.out
    given = sweep(*data, "--check", "--time-budget", found[1])
    assert given.code == 0 and f"of {found[1]}: " in given.out
    short = sweep(*data, "--time-budget", "20s")
    assert short.code == 2 and "is too short" in short.err


def test_sweep_without_any_flag_plans_four_minutes_on_embedded_images(
    sweep: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"train": 24, "val": 12, "test": 12}
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scenes, "COUNTS", few)
    monkeypatch.setattr(scenes, "_build", partial(scenes._build, counts=few))
    outcome = sweep("--check")
    assert outcome.code == 0
    assert re.search(r"about \d+ trials of up to \d+ epochs", outcome.out) and "of 4m: " in outcome.out


def test_warnings_about_the_data_are_readable(sweep: Command, tmp_path: Path) -> None:
    root = write(tmp_path / "void", count=20)
    void = Image.new("L", (64, 48), 255)
    void.save(root / "masks" / "im004.png")
    outcome = sweep("--data", "folder", "--data-root", str(root), "--check")
    assert outcome.code == 0
    (line,) = [line for line in outcome.out.splitlines() if "im004" in line]
    assert line.startswith("warning mask of nothing but void: im004 (")
    assert "Offender(" not in outcome.out


@pytest.mark.parametrize("space", ["augment", "loss", "lr", "architecture", "baseline", "full"])
def test_show_prints_the_compiled_space_without_any_data(sweep: Command, tmp_path: Path, space: str) -> None:
    absent = ("--data", "folder", "--data-root", str(tmp_path / "nowhere"))
    outcome = sweep("--space", space, "--show", *absent, "--max-epochs", "5")
    assert outcome.code == 0
    assert "learning-rate schedules span all 5 epochs" in outcome.out
    assert "baseline: " in outcome.out
    assert ("Image sizes are for images that fill 256x256" in outcome.out) == (space == "full")
    held = sweep("--space", space, "--show", *absent, "--set", "image_size=64x80", "--set", "batch_size=2")
    rows = [line.split() for line in held.out.splitlines()]
    assert ["image_size", "fixed", "64x80"] in rows
    assert ["batch_size", "fixed", "2"] in rows
    assert ["epochs", "fixed", "from", "the", "time", "budget"] in rows


def test_space_is_written_as_yaml_edited_and_given_back(sweep: Command, tmp_path: Path) -> None:
    written = sweep("--space", "lr", "--show", "--as-yaml", "--set", "batch_size=4")
    assert written.code == 0
    path = tmp_path / "mine.yaml"
    path.write_text(written.out)
    again = sweep("--space", str(path), "--show", "--as-yaml")
    assert again.out == written.out
    path.write_text(
        written.out.replace("high: 0.1\n    log: true\n    default: 0.003", "high: 0.2\n    default: 0.005")
    )
    assert "0.0001 .. 0.2: peak rate" in sweep("--space", str(path), "--show").out
    path.write_text(written.out.replace("role: scientific", "role: scientifc"))
    outcome = sweep("--space", str(path), "--show")
    assert outcome.code == 2
    assert str(path) in outcome.err
    assert "optimizer.name: role must be one of scientific, nuisance, fixed" in outcome.err


def test_plan_says_how_trials_are_executed_and_compared(sweep: Command, mini_root: Path) -> None:
    data = ("--data", "folder", "--data-root", str(mini_root), "--gpus-per-trial", "0")
    how = ("--precision", "bf16", "--cache-limit", "1G", "--workers", "1")
    outcome = sweep(*data, "--check", "--max-epochs", "5", *how)
    assert "bf16 on cpu, channels last, 1 thread per trial, 1 loader process, decoded images up to 1 GiB" in outcome.out
    assert "asha compares trials at epoch 2" in outcome.out
    refused = sweep(*data, "--check", "--precision", "fp16")
    assert refused.code == 2
    assert "fp16 needs a GPU" in refused.err


def test_transformations_that_do_not_do_what_they_say_stop_a_sweep_before_it_starts(
    sweep: Command, mini_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(specs: object, size: tuple[int, int], classes: int, channels: int | None) -> None:
        raise WiringError(f"rotate: mask not in step at {size}, {classes} classes")

    monkeypatch.setattr("sweep.preflight.preflight", broken)
    outcome = sweep("--data", "folder", "--data-root", str(mini_root), "--set", "image_size=48x64")
    assert outcome.code == 1
    assert "rotate: mask not in step" in outcome.err and "at (48, 64), 3 classes" in outcome.err
    assert not sweep.runs.exists()


def test_yaml_configures_and_the_command_line_wins(sweep: Command, tmp_path: Path, mini_root: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"space: lr\ndata: folder\ndata-root: {mini_root}\ntrials: 20\nmax-epochs: 3\ncheck: true\n")
    outcome = sweep("--config", str(path), "--trials", "5")
    assert outcome.code == 0
    assert "5 trials of up to 3 epochs" in outcome.out
    path.write_text("spaec: lr\ntrails: 5\n")
    outcome = sweep("--config", str(path))
    assert outcome.code == 2
    assert "did you mean space" in outcome.err
    assert "did you mean trials" in outcome.err


def test_resuming_what_is_not_there_says_so(sweep: Command) -> None:
    outcome = sweep("--resume", "--name", "never")
    assert outcome.code in (1, 2)
    assert "never" in outcome.err
    assert "Traceback" not in outcome.err
    outcome = sweep("--resume")
    assert outcome.code == 2
    assert "no run to go on with" in outcome.err


def test_run_folder_is_removed_when_the_run_cannot_be_written_down(
    sweep: Command, mini_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: SweepManifest, run_dir: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SweepManifest, "save", fails)
    outcome = sweep("--data", "folder", "--data-root", str(mini_root), "--name", "mine", "--trials", "2")
    assert outcome.code == 130
    assert not (sweep.runs / "mine").exists()
