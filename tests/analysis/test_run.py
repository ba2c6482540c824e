"""A run from Python is what its files say, and keyword arguments are the flags of the command line."""

from __future__ import annotations

import csv
import doctest
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import analysis.run
import segsweep
import sweep
from segsweep import load_run, run_sweep
from sweep.config import from_command_line
from sweep.from_python import words_of
from trainables import child, commands
from trainables.errors import DataError, SegsweepError, UsageError

from .small_run import made_once


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with made_once(tmp_path_factory) as (_, run_dir):
        yield run_dir


def test_run_is_what_its_files_say(small: Path) -> None:
    run = load_run(small)
    frame = run.trials
    with (small / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert frame["trial_id"].tolist() == [row["trial_id"] for row in rows]
    for key in ("epochs", "seconds", "val/miou", "config/optimizer.lr"):
        expected = [float(row[key]) if row[key] else np.nan for row in rows]
        np.testing.assert_array_equal(frame[key].astype(float), expected)
    assert run.verdict is None
    assert run.manifest.name == json.loads((small / "manifest.json").read_text())["name"]
    assert list(run.labels) == ["baseline", "best", "flip"]
    assert run.best.record.trial_id == json.loads((small / "best" / "best" / "trial.json").read_text())["trial_id"]
    state = run.best.load_model().model.state_dict()
    weights = load_file(small / "best" / "best" / "model.safetensors")
    assert weights and set(weights) <= set(state)
    assert all(np.array_equal(state[key].numpy(), value) for key, value in weights.items())


def test_examples_of_the_documentation_run(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small.parent.parent)
    for example in (segsweep.run_sweep, analysis.run.load_run):
        for test in doctest.DocTestFinder().find(example, example.__name__, globs={}):
            assert doctest.DocTestRunner().run(test).failed == 0


def test_report_is_written_where_there_is_none_or_an_old_one(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(analysis.run, "run_command", lambda *words, **options: asked.append(words))
    run = load_run(small)
    assert run.report() == small / "report" / "val" / "report.html"
    assert asked == [("analysis.report", [str(small), "--split", "val"])]
    page = small / "report" / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("mine")
    assert run.report("test") == page and len(asked) == 1
    os.utime(page, (0, 0))  # before the trials, as where the sweep was extended since
    assert run.report("test") == page and asked[1:] == [("analysis.report", [str(small), "--split", "test"])]
    page.unlink()


def test_folder_without_a_run_or_a_model_says_so(small: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        load_run(tmp_path)
    (tmp_path / "manifest.json").write_bytes((small / "manifest.json").read_bytes())
    run = load_run(tmp_path)
    assert run.labels == {}
    with pytest.raises(DataError, match="has published no model yet"):
        run.best.load_model()
    with pytest.raises(DataError, match=r"trials\.csv does not exist"):
        _ = run.trials


SETTINGS: dict[str, Any] = {
    "space": "loss", "models": ["fcn_resnet50", "lraspp_mobilenet_v3_large"], "time_budget": "30m", "trials": 8,
    "set": {"optimizer.lr": 0.01, "training.ema": True}, "report": False, "runs_dir": Path("elsewhere"), "name": "x",
    "objective": ("val/miou", "params"), "dashboard": None, "wandb": "disabled", "data_root": Path("~/images"),
}  # fmt: skip
FLAGS = [
    *("--space", "loss", "--models", "fcn_resnet50,lraspp_mobilenet_v3_large", "--time-budget", "30m", "--trials", "8"),
    *("--set", "optimizer.lr=0.01", "--set", "training.ema=true", "--no-report", "--runs-dir", "elsewhere"),
    *("--name", "x", "--objective", "val/miou", "--objective", "params", "--wandb", "disabled"),
    *("--data-root", "~/images"),
]


def test_keyword_arguments_make_the_same_sweep_as_flags(tmp_path: Path) -> None:
    words, config = words_of(SETTINGS)
    assert config == from_command_line(FLAGS)
    assert from_command_line(words) == config, "the words that the sweep is started with"
    (tmp_path / "sweep.yaml").write_text("space: loss\ntrials: 5\n")
    _, config = words_of({"config": tmp_path / "sweep.yaml", "trials": 6, "name": "x"})
    assert config == from_command_line(["--space", "loss", "--trials", "6", "--name", "x"])
    words, config = words_of({"resume": True, "name": "x", "concurrent": 2})
    assert config == from_command_line(["--resume", "--name", "x", "--concurrent", "2"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spase": "loss"}, "unknown key 'spase'; did you mean space"),
        ({"space": "lossy"}, "lossy"),
        ({"trials": 0, "time_budget": 30}, "trials: .*\n.*time_budget: "),
        ({"confirm": 1}, "--confirm 1: one seed cannot show"),
        ({"report": "yes"}, "report: must be true or false"),
        ({"show": True}, "show: belongs to the terminal"),
        ({"resume": True}, "give name"),
    ],
)
def test_wrong_settings_are_raised_before_anything_starts(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child.subprocess, "Popen", None)
    with pytest.raises(UsageError, match=message):
        run_sweep(**settings)


def started_as(monkeypatch: pytest.MonkeyPatch, program: str) -> list[tuple[str, ...]]:
    """In place of a command of ours a short program runs; gives the words that it was started with."""
    asked: list[tuple[str, ...]] = []

    def command(module: str, *words: str) -> list[str]:
        asked.append((module, *words))
        return [sys.executable, "-S", "-c", program]

    monkeypatch.setattr(commands, "subprocess_command", command)
    return asked


@pytest.mark.parametrize("in_thread", [False, True])
def test_sweep_is_run_by_the_command_and_its_lines_are_passed_on(
    small: Path, in_thread: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a Jupyter kernel does
    asked = started_as(monkeypatch, "import os; print('t000 baseline completed', 'FORCE_COLOR' in os.environ)")
    runs: list[analysis.run.Run] = []

    def call() -> None:
        runs.append(sweep.run_sweep(name=small.name, runs_dir=small.parent, trials=1))

    if in_thread:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    else:
        call()
    assert runs == [load_run(small)]
    assert asked[0][0] == "sweep.run" and from_command_line(asked[0][1:]).name == small.name
    assert capsys.readouterr().out == "t000 baseline completed False\n"


@pytest.mark.parametrize(
    ("program", "error", "message"),
    [
        (
            "import sys; print('error: no room\\n  free it', file=sys.stderr); sys.exit(1)",
            SegsweepError,
            "no room\n  free",
        ),
        ("import sys; print('error: runs/x exists', file=sys.stderr); sys.exit(2)", UsageError, "^runs/x exists$"),
        ("import os; os.kill(os.getpid(), 9)", SegsweepError, "ended by SIGKILL"),
        ("import sys; sys.exit(130)", SegsweepError, "was interrupted"),
    ],
)
def test_errors_of_the_sweep_are_raised(
    small: Path, program: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_as(monkeypatch, program)
    with pytest.raises(error, match=message) as raised:
        run_sweep(name=small.name, runs_dir=small.parent, progress=False)
    assert isinstance(raised.value, UsageError) == (error is UsageError)


def test_sweep_with_failed_trials_gives_its_run_and_a_warning(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started_as(monkeypatch, "import sys; sys.exit(1)")
    with pytest.warns(UserWarning, match="some trials failed"):
        assert run_sweep(name=small.name, runs_dir=small.parent) == load_run(small)


def test_interrupt_ends_the_sweep_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    program = f"import signal, time\nsignal.signal(2, lambda *_: (open({str(ended)!r}, 'w').close(), exit(130)))\n"
    started_as(monkeypatch, f"{program}print('ready', flush=True)\ntime.sleep(60)")
    wait = subprocess.Popen.wait

    def interrupted(process: subprocess.Popen[str], timeout: float | None = None) -> int:
        monkeypatch.setattr(subprocess.Popen, "wait", wait)
        signal.raise_signal(signal.SIGINT)
        return 0

    class Ready:
        def write(self, line: str) -> None:
            monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
            ready.set()

        def flush(self) -> None:
            """Nothing is kept."""

    ready = threading.Event()
    monkeypatch.setattr(subprocess.Popen, "wait", lambda process, timeout=None: ready.wait(30) and process.wait())
    monkeypatch.setattr(sys, "stdout", Ready())
    with pytest.raises(KeyboardInterrupt):
        child.run_command("sweep.run", [], progress=True)
    assert ended.is_file()
