"""TensorBoard and MLflow: what the libraries' own readers find is what the journal says, once, whatever happened."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from sweep.flags import parser
from sweep.tracking import TRACKERS
from sweep.tracking import __main__ as command
from sweep.tracking.base import OF_ITS_OWN, Tracker
from sweep.tracking.flags import trackers_of
from sweep.tracking.tensorboard import MOST_COLUMNS, fitting
from trainables.errors import UsageError

from .followed import START, ended, followers, report_in, result, suggested

OTHERS = [name for name in TRACKERS if name != OF_ITS_OWN]
SECRET = "a-value-that-must-not-be-written-anywhere"
EVENTS = [
    suggested("t000"),
    *(result("t000", epoch, epoch / 10) for epoch in (1, 2)),
    ended("t000", "stopped", "asha: too low", epoch=2),
    suggested("t001"),
    result("t001", 1, 0.4, **{"val/iou[traffic light]": 0.25}),
    ended("t001", "failed", "broken", epoch=1),
    suggested("t000-finish", parent="t000", phase="finish"),
    result("t000-finish", 3, 0.35),
    ended("t000-finish"),
    {"event": "decision", "trial_id": "t000"},
]
CURVES = {"t000": [(1, 0.1), (2, 0.2)], "t001": [(1, 0.4)], "t000-finish": [(1, 0.1), (2, 0.2), (3, 0.35)]}
STATES = {"t000": "stopped", "t001": "failed", "t000-finish": "completed"}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)
    return path


@pytest.fixture
def places(database: Path, tmp_path: Path) -> dict[str, str]:
    """Where each tracker writes."""
    (tmp_path / "mlflow").mkdir()
    shutil.copy(database, tmp_path / "mlflow" / "mlflow.db")
    return {"tensorboard": "", "mlflow": f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def tell(run_dir: Path, name: str, place: str, events: list[dict[str, Any]], *, report: Path | None = None) -> None:
    """One session of a sweep, without a warning."""
    warnings: list[str] = []
    tracker = followers(run_dir, warnings, **{name: place})
    for event in events:
        tracker.on_event(event)
    if report is not None:
        tracker.report(report)
    assert tracker.close(timeout=60) and warnings == []


def read(run_dir: Path, name: str, place: str) -> dict[str, dict[str, Any]]:
    """What a tracker has, by trial: `state`, `config`, and `metrics` as lists of (epoch, value, seconds since 1970)."""
    return dict({"tensorboard": tensorboard_runs, "mlflow": mlflow_runs}[name](run_dir, place))


def tensorboard_runs(run_dir: Path, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in sorted(path for path in (run_dir / "tensorboard").iterdir() if path.is_dir()):
        found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        found.Reload()
        tags = found.Tags()["scalars"]
        metadata = found.summary_metadata.get("_hparams_/session_start_info")
        start = HParamsPluginData.FromString(metadata.plugin_data.content if metadata is not None else b"")
        hparams = start.session_start_info.hparams.items()
        config = {key: getattr(value, str(value.WhichOneof("kind"))) for key, value in hparams}
        yield (
            folder.name,
            {
                "config": config,
                "state": config.pop("state", None),
                "metrics": {tag: [(one.step, one.value, one.wall_time) for one in found.Scalars(tag)] for tag in tags},
                "text": found.Tags()["tensors"],
            },
        )


def mlflow_runs(run_dir: Path, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    client = MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name("segsweep")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        name = run.info.run_name.removeprefix("mine").lstrip("/") or "report"
        points = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        yield name, {
            "config": {key: _number(value) for key, value in run.data.params.items()},
            "state": run.data.tags.get("state"),
            "status": run.info.status,
            "parent": run.data.tags.get("mlflow.parentRunId"),
            "id": run.info.run_id,
            "tags": run.data.tags,
            "metrics": {
                key: [(one.step, one.value, one.timestamp / 1000) for one in of_key] for key, of_key in points.items()
            },
            "text": [one.path for one in client.list_artifacts(run.info.run_id, "report-test")],
        }  # fmt: skip


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def curves(found: Mapping[str, dict[str, Any]], metric: str = "val/miou") -> dict[str, list[tuple[int, float]]]:
    """The points of each trial that has some."""
    by_trial = {name: one["metrics"].get(metric, []) for name, one in found.items()}
    return {
        name: [(step, pytest.approx(value, abs=1e-6)) for step, value, _ in points]
        for name, points in by_trial.items()
        if points
    }


@pytest.mark.parametrize("name", OTHERS)
def test_reader_finds_what_the_journal_says(
    name: str, run_dir: Path, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    tell(run_dir, name, places[name], EVENTS, report=report_in(run_dir))
    found = read(run_dir, name, places[name])
    assert curves(found) == CURVES
    assert {trial: one["state"] for trial, one in found.items() if one["state"]} == STATES
    assert found["t001"]["metrics"]["val/iou/traffic_light"][0][:2] == (1, 0.25)
    times = [time for _, _, time in found["t000"]["metrics"]["val/miou"]]
    assert times == [START + 1, START + 2], "those of the journal, whenever it is written"
    config = found["t000"]["config"]
    assert (
        config.items() >= {"optimizer.lr": 0.01, "label": "flip", "policy": "flip: hflip p=0.50", "epochs": 3.0}.items()
    )
    assert any("comparison" in one or "report.html" in one for one in found["report"]["text"])
    files = [path for path in run_dir.parent.rglob("*") if path.is_file()]
    assert len(files) > 2 and not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_table_too_wide_for_tensorboards_page_is_turned() -> None:
    wide = pd.DataFrame({"label": ["a", "b"], **{f"m{place}": [place + 1 / 3, 2] for place in range(MOST_COLUMNS)}})
    turned = fitting(wide)
    assert list(turned.columns) == ["label", "a", "b"] and len(turned) == MOST_COLUMNS
    assert turned.iloc[1].tolist() == ["m1", "1.33333", "2"]
    narrow = wide.iloc[:, :MOST_COLUMNS]
    assert fitting(narrow) is narrow


def test_runs_of_mlflow_stand_below_that_of_the_sweep(run_dir: Path, places: dict[str, str]) -> None:
    tell(run_dir, "mlflow", places["mlflow"], EVENTS, report=report_in(run_dir))
    found = read(run_dir, "mlflow", places["mlflow"])
    sweep = found.pop("report")
    assert {one["parent"] for one in found.values()} == {sweep["id"]}
    assert {trial: one["status"] for trial, one in found.items()} == {
        "t000": "FINISHED", "t001": "FAILED", "t000-finish": "FINISHED",
    }  # fmt: skip
    assert sweep["tags"]["evidence"] == "candidate: one seed, chosen on val" and sweep["status"] == "FINISHED"


@pytest.mark.parametrize("cut", [2, 9])
@pytest.mark.parametrize("name", OTHERS)
def test_resumed_sweep_doubles_nothing_wherever_it_was_cut(
    name: str, cut: int, run_dir: Path, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[list[str]] = []
    log = TRACKERS.get(name).__dict__["log"]

    def counted(self: Tracker, trial_id: str, result: dict[str, Any]) -> None:
        sessions[-1].append(trial_id)
        log(self, trial_id, result)

    monkeypatch.setattr(TRACKERS.get(name), "log", counted)
    for events in (EVENTS[:cut], EVENTS):
        sessions.append([])
        tell(run_dir, name, places[name], events)
    assert ("t000" in sessions[1]) is (cut < 4), "a trial that is there to its end is not told again"
    found = read(run_dir, name, places[name])
    assert curves(found) == CURVES
    assert {trial: one["state"] for trial, one in found.items() if one["state"]} == STATES


def test_epochs_that_mlflow_has_are_not_sent_again(
    run_dir: Path, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its databases would drop them; not every server keeps its metrics in one of these."""
    tell(run_dir, "mlflow", places["mlflow"], EVENTS[:2])
    sent: list[int] = []
    log_batch = MlflowClient.log_batch

    def noted(self: MlflowClient, run_id: str, metrics: Sequence[Any] = (), **more: Any) -> Any:
        sent.extend(metric.step for metric in metrics)
        return log_batch(self, run_id, metrics=metrics, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", noted)
    tell(run_dir, "mlflow", places["mlflow"], EVENTS[:4])
    assert set(sent) == {2}


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("name", OTHERS)
def test_tracker_out_of_reach_costs_one_warning_with_the_command_that_writes_it_later(
    name: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (run_dir / "tensorboard").write_text("a file in the place of the folder")
    place = {"tensorboard": "", "mlflow": f"http://127.0.0.1:{closed_port()}"}[name]
    warnings: list[str] = []
    tracker = followers(run_dir, warnings, **{name: place})
    for event in EVENTS:
        tracker.on_event(event)
    assert tracker.close(timeout=30) is False
    (told,) = warnings
    assert told.startswith(f"{TRACKERS.get(name).title} is off for the rest of this sweep: ")
    assert f"{run_dir} --track {name}{'=' if place else ''}{place}" in told


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], None),
        (["none"], {}),
        (["tensorboard", "mlflow=http://head:5000"], {"tensorboard": "", "mlflow": "http://head:5000"}),
        (["mlflow=some where"], {"mlflow": f"sqlite:///{Path.cwd()}/some where/mlflow.db"}),
        (["wandb=online"], "W&B has a flag of its own, --wandb"),
        (["tensorbored"], "unknown tracker 'tensorbored'; did you mean tensorboard"),
        (["tensorboard=here"], "TensorBoard takes no place"),
        (["mlflow"], "say where"),
        (["mlflow=http://me:hunter2@head:5000"], "MLFLOW_TRACKING_PASSWORD"),
        (["tensorboard", "tensorboard"], "names tensorboard twice"),
    ],
)
def test_flag_names_trackers_and_their_places(words: list[str], found: dict[str, str] | str | None) -> None:
    pairs = parser().parse_args([f"--track={word}" for word in words]).track
    if isinstance(found, str):
        with pytest.raises(UsageError) as told:
            trackers_of(pairs)
        assert found in str(told.value) and "hunter2" not in str(told.value)
    else:
        assert trackers_of(pairs) == found


def test_tracker_that_is_not_installed_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"MLflow is not installed: pip install '\.\[mlflow\]'"):
        trackers_of([("mlflow", "http://head:5000")])


@pytest.mark.parametrize(("reached", "code"), [(True, 0), (False, 1)])
def test_command_says_where_it_has_written(
    reached: bool, code: int, run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"name": "mine", "created": "", "tracking": SimpleNamespace(project="p")}
    manifest = SimpleNamespace(**told, as_of=lambda *_: manifest)
    monkeypatch.setattr(command, "open_run", lambda path: manifest)
    monkeypatch.setattr(command.SweepManifest, "load", lambda path: manifest)
    monkeypatch.setattr(command.Followers, "close", lambda self, timeout: reached)
    assert command.main([str(run_dir), "--track", "tensorboard"]) == code
    expected = f"written to TensorBoard: {run_dir / 'tensorboard'}\n"
    assert capsys.readouterr().out == (expected if reached else "")
