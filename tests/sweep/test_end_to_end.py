"""One real sweep, run from the notebook of the documentation and reported by `segsweep`, asserted from every side."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from analysis.report import __main__ as report
from sweep import refit, replay, tracking
from sweep.journal import Journal
from sweep.manifest import SweepManifest
from sweep.objectives import objective_of
from sweep.refitted import refit_text
from sweep.trials import TrialTable
from sweep.verdict import last_verdict, sentence
from sweep.verify import open_data
from trainables.applied import images_digest
from trainables.checkpoint import latest_checkpoint, load_trial, read_val_counts, rebuild_model
from trainables.data import DATASETS
from trainables.data.splits.frozen import load_split
from trainables.execution import TrialData
from trainables.metrics import summary
from trainables.trial import Trial

from ..command import RAY_TMPDIR, ray_processes, script
from ..notebooks import executed, printed

pytestmark = pytest.mark.ray
PLANTED = {"typed": "hf_" + "pLaNtEd0" * 4, "in the environment": "a-planted-key-of-the-environment"}
"""Secrets that the sweep is given; no file may hold them."""


SETTINGS = """
import analysis, search_spaces, sweep, trainables
from pathlib import Path

for name in ("trainables", "search_spaces", "sweep", "analysis"):
    Path(name).mkdir()
    (Path(name) / "__init__.py").write_text("raise RuntimeError('a package of the user, not of segsweep')")
settings = {settings!r}
"""
"""From here on the notebook's folder has packages with the names of ours, for every process that the sweep starts."""
AGAIN = """
import threading

again = []
thread = threading.Thread(target=lambda: again.append(run_sweep(name="e2e", resume=True)))
thread.start()
thread.join()
assert again == [run]
"""


@pytest.fixture(scope="module")
def notebook(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    """The folder of the notebook that ran the sweep, and the outputs of its cells."""
    folder = tmp_path_factory.mktemp("project")
    (folder / f"{PLANTED['typed']}.yaml").write_text("trials: 4\nmax-epochs: 6\n")
    settings = {
        "config": f"{PLANTED['typed']}.yaml", "space": "augment", "data": "folder", "data_root": str(mini_root),
        "set": {"image_size": "48x64"}, "refit": True, "objective": ["val/miou", "latency_ms"],
        "track": ["tensorboard"], "name": "e2e",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLANTED_API_KEY", PLANTED["in the environment"])
        return folder, executed(SETTINGS.format(settings=settings), AGAIN, cwd=folder)


@pytest.fixture(scope="module")
def sweep(notebook: tuple[Path, dict[str, list[Any]]]) -> tuple[Path, str, str]:
    """The run, what the sweep said, and what `segsweep report` said in the same folder."""
    folder, outputs = notebook
    reported = script("report", "runs/e2e", "--save-predictions", cwd=folder)
    assert reported.returncode == 0, reported.stdout + reported.stderr
    return folder / "runs" / "e2e", printed(outputs["run"]), reported.stdout + reported.stderr


def test_notebook_shows_the_trials_in_one_place_and_then_the_results(
    sweep: tuple[Path, str, str], notebook: tuple[Path, dict[str, list[Any]]]
) -> None:
    run, out, _ = sweep
    outputs = notebook[1]
    (view,) = (output.data for output in outputs["run"] if output.output_type == "display_data")
    ids = pd.read_csv(run / "trials.csv")["trial_id"].tolist()
    assert len(ids) >= 10
    for told in (view["text/html"], view["text/plain"]):
        assert all(f"{trial_id} " in told for trial_id in ids[-10:])
        assert ("earlier trials" in told) is (len(ids) > 10)
        assert "e2e: finished" in told and "confirm" in told
    assert "\x1b" not in out, "no spinner takes the output of a cell for a terminal"
    lines = out.splitlines()
    assert not [line for line in lines if line.startswith("t00")] and len(lines) < 60, "what is in the view"
    (table,) = (output.data["text/plain"] for output in outputs["results"])
    assert f"[{len(ids)} rows x 6 columns]" in table or all(trial_id in table for trial_id in ids)
    assert sentence_or_none(run) in printed(outputs["verdict"])
    assert {line.split()[0] for line in printed(outputs["labels"]).splitlines()} >= {"baseline", "best"}
    assert printed(outputs["model"]) == "['sky', 'ground', 'ball'] (1, 3, 48, 64)\n"
    assert "runs/e2e/report/val/report.html" in outputs["report"][0].data["text/html"]


def test_other_thread_of_the_notebook_goes_on_with_the_sweep(notebook: tuple[Path, dict[str, list[Any]]]) -> None:
    outputs = notebook[1]["more-0"]
    assert "every trial of this sweep has ended" in printed(outputs)
    (view,) = (output.data["text/plain"] for output in outputs if output.output_type == "display_data")
    assert "e2e: finished" in view


def sentence_or_none(run: Path) -> str:
    with Journal(run / "journal.jsonl") as journal:
        verdict = last_verdict(journal.events)
    return sentence(verdict, objective_of("val/miou")) if verdict is not None else "no fresh seeds"


def test_terminal_tells_plan_dashboard_answer_and_next_command(sweep: tuple[Path, str, str]) -> None:
    run, out, _ = sweep
    assert "4 trials of up to 6 epochs" in out
    assert "asha compares trials at epoch 2, each with others at the same epoch" in out
    assert "decoded cache: " in out and "fp32 on cpu, channels last" in out
    execution = json.loads((run / "manifest.json").read_text())["execution"]
    assert (execution["precision"], execution["channels_last"], execution["cache_bytes"]) == ("fp32", True, 8 * 2**30)
    assert "http://127.0.0.1:" in out and "get-auth-token" in out
    answer = [line for line in out.splitlines() if line.startswith(("best ", "val/miou", "run ", "next "))]
    assert len(answer) == 4
    assert "-m analysis.report runs/e2e" in out
    again = "-m analysis.report runs/e2e --split val" in out
    dead = "no label learnt anything" in out and again  # six epochs may not do
    assert dead or "opens the test split, opened 0 times so far" in out


def test_no_file_and_no_line_holds_a_secret_of_the_command_line_or_the_environment(
    sweep: tuple[Path, str, str],
) -> None:
    run, *told = sweep
    manifest = SweepManifest.load(run)
    assert manifest.command[:4] == ("python", "-m", "sweep.run", "--config=***.yaml")
    assert manifest.command[-1] == "--name=e2e"
    files = [path for place in (run.parent, Path(RAY_TMPDIR)) for path in place.rglob("*") if path.is_file()]
    assert {run / "journal.jsonl", run / "logs/t000.log", run / "report/report.html"} <= set(files)
    for secret in PLANTED.values():
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
        assert not any(secret in text for text in told)


def test_time_per_image_is_measured_before_the_sweep_and_told_with_the_score(sweep: tuple[Path, str, str]) -> None:
    run, out, reported = sweep
    manifest = SweepManifest.load(run)
    (latency,) = manifest.latencies
    assert latency.settings == {"model.name": "lraspp_mobilenet_v3_large", "image_size": "48x64"}
    assert (latency.precision, latency.device) == ("fp32", "cpu") and 0 < latency.ms < 5000
    assert f"lraspp_mobilenet_v3_large at 48x64 {objective_of('latency_ms').show(latency.ms)}" in out
    assert out.index("time per image") < out.index("Ray dashboard")
    trials = pd.read_csv(run / "trials.csv")
    assert set(trials["latency_ms"]) == {latency.ms}
    assert "best      by val/miou: " in out
    for told in (out, reported):  # six epochs may not do
        dead = "dead" in told
        assert dead or ") by mIoU or time per image" in told
    pareto = pd.read_csv(run / "report/tables/pareto.csv")
    assert list(pareto) == [
        *("label", "trial_id", "in_set", "seeds", "val/miou", "latency_ms", "latency_spread", "iou", "beside_best")
    ]
    comparison = pd.read_csv(run / "report/tables/comparison.csv").set_index("label")
    assert comparison.loc["best", "pareto"] == "in the set"
    assert set(comparison["latency_ms"].dropna()) == {latency.ms}


def test_journal_trials_and_study_agree(sweep: tuple[Path, str, str]) -> None:
    run, _, _ = sweep
    table = TrialTable()
    with Journal(run / "journal.jsonl") as journal:
        for event in journal.events:
            table.apply(event)
    rows = {row["trial_id"]: row for row in csv.DictReader((run / "trials.csv").open())}
    assert set(rows) == set(table.trials)
    assert len(table.of_phase("search")) == 4
    assert not table.open()
    baseline = table.trials["t000"]
    assert (baseline.label, baseline.state, baseline.epochs) == ("baseline", "completed", 6)
    for trial_id, row in rows.items():
        assert row["state"] == table.trials[trial_id].state
        assert float(row["val/miou"]) == table.trials[trial_id].metrics["val/miou"]
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run / 'study.db'}")
    told = {trial.user_attrs["trial_id"]: trial.state.name for trial in study.trials}
    expected = {t.trial_id: {"completed": "COMPLETE", "stopped": "PRUNED"}[t.state] for t in table.of_phase("search")}
    assert told == expected


def test_every_label_stands_at_full_budget_and_can_be_rebuilt(sweep: tuple[Path, str, str]) -> None:
    run, _, _ = sweep
    labels = {folder.name for folder in (run / "best").iterdir()}
    with (run / "trials.csv").open() as stream:
        wanted = {row["label"] for row in csv.DictReader(stream)} | {"best"}
    assert labels == wanted
    best_scores = {}
    for label in labels:
        model, record = rebuild_model(run / "best" / label)
        assert record.epochs == 6
        assert [entry["epoch"] for entry in record.history] == list(range(1, 7))
        assert not model.training
        best_scores[label] = record.metrics["val/miou"]
    assert best_scores["best"] == max(best_scores.values())


def test_tables_hold_what_scikit_learn_finds_in_the_saved_masks(sweep: tuple[Path, str, str], mini_root: Path) -> None:
    run, _, _ = sweep
    data = DATASETS.get("folder")(root=mini_root)
    test_ids = json.loads((run / "splits.test.json").read_text())["test"]["ids"]
    comparison = pd.read_csv(run / "report/tables/comparison.csv").set_index("label")
    per_class = pd.read_csv(run / "report/tables/per_class.csv").set_index(["label", "class"])
    for label in ("baseline", "best"):
        total = np.zeros((3, 3), dtype=np.int64)
        for image_id in test_ids:
            predicted = np.asarray(Image.open(run / f"report/predictions/{label}/{image_id}.png"))
            truth = data.mask(image_id)
            assert predicted.shape == truth.shape
            seen = truth != 255
            total += confusion_matrix(truth[seen], predicted[seen], labels=[0, 1, 2])
        iou = np.diag(total) / (total.sum(0) + total.sum(1) - np.diag(total))
        assert comparison.loc[label, "iou"] == pytest.approx(iou.mean(), abs=1e-6)
        for index, info in enumerate(data.classes):
            assert per_class.loc[(label, info.name), "iou"] == pytest.approx(iou[index], abs=1e-6)


def test_test_split_was_opened_once_however_often_the_report_is_written(sweep: tuple[Path, str, str]) -> None:
    run, _, _ = sweep
    openings = run.parent / "test_openings.jsonl"
    assert len(openings.read_text().splitlines()) == 1
    assert report.main([str(run), "--pictures", "0"]) == 0
    assert len(openings.read_text().splitlines()) == 1
    test_hash = json.loads((run / "manifest.json").read_text())["data"]["splits"]["test"]["hash"]
    assert json.loads(openings.read_text())["split_hash"] == test_hash


def test_trials_are_replayed_digit_for_digit_and_other_digits_are_told(
    sweep: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _, _ = sweep
    with (run / "trials.csv").open() as stream:
        stopped = [row["trial_id"] for row in csv.DictReader(stream) if row["parent"]]
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    for trial in ("baseline", *stopped[:1]):
        assert replay.main([str(run), trial]) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert "equal: every metric of" in told and "over 6 epochs, and so are its weights" in told
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before, "nothing is written"
    assert replay.main([str(run), "t999"]) == 2
    assert "has no trial 't999'; it has t000" in " ".join(capsys.readouterr().err.split())
    other = dataclasses.replace(SweepManifest.load(run), seed=0)
    with Journal(run / "journal.jsonl") as journal:
        table = TrialTable()
        for event in journal.events:
            table.apply(event)
    trial = table.trials["t000"]
    results = replay.history(table, trial)[:2]
    results[1] = {**results[1], "metrics": {**results[1]["metrics"], "val/miou": 0.5}}
    ids = {name: load_split(run, name).ids for name in ("train", "val")}
    seen = TrialData(open_data(run, other), ids["train"], ids["val"])
    found = replay.replay(run, trial, results, seen, other)
    assert not found.is_equal and found.same_weights is None
    assert [list(one.differing) for one in found.epochs] == [[], ["val/miou"]]


def test_trials_never_saw_a_test_image(sweep: tuple[Path, str, str]) -> None:
    run, _, _ = sweep
    seen = json.loads((run / "splits.json").read_text())
    test = set(json.loads((run / "splits.test.json").read_text())["test"]["ids"])
    assert not test & (set(seen["train"]["ids"]) | set(seen["val"]["ids"]))
    for log in (run / "logs").iterdir():
        assert not any(image_id in log.read_text() for image_id in test)


def test_trackers_have_a_run_for_every_trial_and_one_for_the_report(sweep: tuple[Path, str, str]) -> None:
    run, _, _ = sweep
    with (run / "trials.csv").open() as stream:
        trials = len(list(csv.DictReader(stream)))
    assert len(list((run / "wandb").glob("offline-run-*/run-*.wandb"))) == trials + 1
    assert len(list((run / "tensorboard").glob("*/events.out.tfevents.*"))) == trials + 1


def test_sweep_that_is_over_is_written_to_a_tracker_once_by_the_command(
    sweep: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, _, _ = sweep
    shutil.rmtree(run / "tensorboard")
    with Journal(run / "journal.jsonl"):
        assert tracking.main([str(run), "--track", "tensorboard"]) == 1
    assert "this sweep is running already" in capsys.readouterr().err
    assert not (run / "tensorboard").exists()
    for _ in range(2):
        assert tracking.main([str(run), "--track", "tensorboard"]) == 0
    for row in csv.DictReader((run / "trials.csv").open()):
        found = EventAccumulator(str(run / "tensorboard" / row["trial_id"]))
        found.Reload()
        points = found.Scalars("val/miou")
        assert [point.step for point in points] == list(range(1, int(row["epochs"]) + 1))
        assert points[-1].value == pytest.approx(float(row["val/miou"]), abs=1e-6)


def test_best_and_baseline_have_fresh_seeds_and_the_verdict_follows_from_what_they_did(
    sweep: tuple[Path, str, str],
) -> None:
    run, out, _ = sweep
    rows = [row for row in csv.DictReader((run / "trials.csv").open()) if row["phase"] == "confirm"]
    assert (
        len(rows) == 6 and len({row["seed"] for row in rows}) == 3 and {row["state"] for row in rows} == {"completed"}
    )
    with Journal(run / "journal.jsonl") as journal:
        verdict = last_verdict(journal.events)
    assert verdict is not None and verdict.configurations[0].label == "baseline"
    for one in verdict.configurations:
        for trial_id, score in zip(one.trials, one.scores, strict=True):
            checkpoint = latest_checkpoint(run / "checkpoints" / trial_id)
            counts = None if checkpoint is None else read_val_counts(checkpoint)
            assert counts is not None and summary(counts.sum(axis=0))["val/miou"] == score
    assert "no label learnt anything" in out or sentence(verdict, objective_of("val/miou")) in out
    table = pd.read_csv(run / "report" / "tables" / "confirmation.csv")
    assert table["label"].tolist() == [one.label for one in verdict.configurations] and table["seeds"].tolist() == [
        3,
        3,
    ]


def test_winner_is_refitted_on_train_and_val_together_once_the_last_trial_has_ended(
    sweep: tuple[Path, str, str],
) -> None:
    run, out, _ = sweep
    best = load_trial(run / "best" / "best")
    with Journal(run / "journal.jsonl") as journal:
        kinds = [event["event"] for event in journal.events]
        told = refit_text(journal.events, best.trial_id, Path("runs/e2e"))
    assert kinds.count("refit_epoch") == 6 and kinds.count("refitted") == 1
    last_trial = max(place for place, kind in enumerate(kinds) if kind == "ended")
    assert last_trial < kinds.index("refit_epoch") < kinds.index("refitted") < kinds.index("closed")
    assert f"refit     {told}" in out and "it is measured on nothing" in told
    report_page = (run / "report" / "report.html").read_text()
    assert told in report_page and "seconds of the refit" in report_page
    _, record = rebuild_model(run / "refit")
    train, val = (load_split(run, name).ids for name in ("train", "val"))
    assert record.applied["images"] == images_digest((*train, *val), ())
    assert set(record.metrics) == {"train/loss", "train/lr"} and record.epochs == 6
    assert record.data["refit"]["of"] == best.trial_id and record.config == best.config
    assert f"refit-{best.trial_id}" not in (run / "trials.csv").read_text(), "it is no trial"


def test_refit_of_its_own_goes_on_where_it_was_interrupted_and_makes_the_model_of_the_sweep(
    sweep: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _, _ = sweep
    before = load_trial(run / "refit")
    shutil.rmtree(run / "checkpoints" / before.trial_id)
    shutil.rmtree(run / "refit")
    epoch, trained = Trial.run_epoch, []

    def interrupted(self: Trial) -> dict[str, Any]:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(self.epoch)
        return epoch(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trial, "run_epoch", interrupted)
        assert refit.main([str(run)]) == 130
    assert refit.main([str(run)]) == 0
    said = capsys.readouterr().out
    assert "goes on after epoch 2" in said and "it is measured on nothing" in said
    assert load_trial(run / "refit").sha256 == before.sha256
    assert refit.main([str(run)]) == 0, "again changes nothing"
    with Journal(run / "journal.jsonl") as journal:
        assert [event["sha256"] for event in journal.of("refitted")] == [before.sha256]
    assert refit.main([str(run), "--label", "nobody"]) == 2


def test_secrets_and_processes_do_not_stay(sweep: tuple[Path, str, str]) -> None:
    run, _, _ = sweep
    token_file = Path.home() / ".ray" / "auth_token"
    if token_file.is_file():
        token = token_file.read_text().strip()
        for path in run.rglob("*"):
            if path.is_file() and path.suffix not in (".png", ".safetensors"):
                assert token.encode() not in path.read_bytes(), path
    deadline = time.monotonic() + 10
    while ray_processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not ray_processes()
