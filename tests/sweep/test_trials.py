"""The table of trials as a view of events, and trials.csv."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sweep.objectives import objective_of
from sweep.trials import TrialTable, finish_id
from sweep.trials_file import TrialsFile
from trainables.paths import UnsafePathError

OBJECTIVE = "val/miou"
MAX = objective_of(OBJECTIVE)
MIN = dataclasses.replace(MAX, metric=dataclasses.replace(MAX.metric, direction="min"))


def suggested(
    trial_id: str,
    label: str,
    *,
    number: int = 0,
    phase: str = "search",
    config: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    config = {"epochs": 4, "seed": 3, "optimizer.lr": 0.01 * (1 + number), "augment.policy": label, **(config or {})}
    return {"event": "suggested", "trial_id": trial_id, "number": number, "label": label, "phase": phase,
            "config": config, "params": {"optimizer.lr": 0.01}, **more}  # fmt: skip


def result(trial_id: str, epoch: int, score: float) -> dict[str, Any]:
    return {"event": "result", "trial_id": trial_id, "epoch": epoch, "seconds": 2.0, "metrics": {OBJECTIVE: score}}


def ended(trial_id: str, state: str, reason: str = "") -> dict[str, Any]:
    return {"event": "ended", "trial_id": trial_id, "state": state, "reason": reason}


def table_of(*events: dict[str, Any]) -> TrialTable:
    table = TrialTable()
    for event in events:
        table.apply(event)
    return table


def whole(
    trial_id: str,
    label: str,
    score: float,
    *,
    number: int = 0,
    epochs: int = 4,
    state: str = "completed",
    config: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    curve = [result(trial_id, epoch, score) for epoch in range(1, epochs + 1)]
    return [suggested(trial_id, label, number=number, config=config), *curve, ended(trial_id, state)]


def seeded(scores: dict[str, list[float]]) -> TrialTable:
    """A sweep of models, each trained with several seeds; the first trial is the baseline."""
    table = TrialTable()
    number = 0
    for model, of_model in scores.items():
        for seed, score in enumerate(of_model):
            label = "baseline" if number == 0 else model
            config = {"seed": seed, "model.name": model, "optimizer.lr": 0.01, "augment.policy": "none"}
            for event in whole(f"t{number:03d}", label, score, number=number, config=config):
                table.apply(event)
            number += 1
    return table


def test_trial_counts_its_epochs_and_seconds_and_knows_whether_it_is_open() -> None:
    table = table_of(suggested("t000", "baseline"), result("t000", 1, 0.1), result("t000", 2, 0.2))
    trial = table.trials["t000"]
    assert (trial.epochs, trial.seconds, trial.metrics, trial.is_open) == (2, 4.0, {OBJECTIVE: 0.2}, True)
    table.apply(ended("t000", "infeasible", "diverged"))
    assert (trial.state, trial.reason, trial.is_open) == ("infeasible", "diverged", False)


def test_interruption_reaches_open_trials_only_and_a_resume_undoes_it() -> None:
    table = table_of(*whole("t000", "baseline", 0.5), suggested("t001", "flip", number=1))
    table.apply({"event": "interrupted", "reason": "SIGINT"})
    assert [t.state for t in table.trials.values()] == ["completed", "interrupted"]
    assert [t.trial_id for t in table.open()] == ["t001"]
    table.apply({"event": "resumed"})
    assert [(t.state, t.reason) for t in table.trials.values()] == [("completed", ""), ("running", "")]


def test_continuation_counts_from_its_parents_epochs_but_only_its_own_seconds() -> None:
    table = table_of(
        suggested("t001", "flip"),
        result("t001", 1, 0.3),
        ended("t001", "stopped"),
        suggested("t001-finish", "flip", phase="finish", parent="t001", first_epoch=1),
    )
    finish = table.trials[finish_id("t001")]
    assert (finish.epochs, finish.seconds, finish.parent) == (1, 0.0, "t001")
    table.apply(result("t001-finish", 2, 0.4))
    assert (finish.epochs, finish.seconds) == (2, 2.0)


def test_longer_training_speaks_before_a_better_early_score() -> None:
    table = table_of(
        *whole("t000", "baseline", 0.4),
        *whole("t001", "flip", 0.9, number=1, epochs=1, state="stopped"),
        *whole("t002", "flip", 0.5, number=2, epochs=3, state="stopped"),
        *whole("t003", "flip", 0.6, number=3, epochs=3, state="stopped"),
        *whole("t004", "flip", 0.6, number=4, epochs=3, state="stopped"),
        *whole("t005", "flip", 0.99, number=5, epochs=3, state="infeasible"),
        *whole("t006", "flip", 0.99, number=6, epochs=3, state="failed"),
    )
    chosen = table.representatives(MAX)
    assert {label: trial.trial_id for label, trial in chosen.items()} == {"baseline": "t000", "flip": "t003"}
    lowest = table.representatives(MIN)
    assert lowest["flip"].trial_id == "t002"


def test_labels_hold_only_trials_at_full_budget_with_the_winner_as_best() -> None:
    table = table_of(
        *whole("t000", "baseline", 0.4),
        *whole("t001", "flip", 0.3, number=1, epochs=1, state="stopped"),
        *whole("t002", "all", 0.2, number=2, epochs=1, state="stopped"),
        suggested("t001-finish", "flip", number=1, phase="finish", parent="t001", first_epoch=1),
        result("t001-finish", 4, 0.7),
        ended("t001-finish", "completed"),
        suggested("t002-finish", "all", number=2, phase="finish", parent="t002", first_epoch=1),
        ended("t002-finish", "failed", "disk"),
    )
    labels = table.labels(MAX)
    assert {label: trial.trial_id for label, trial in labels.items()} == {
        "baseline": "t000",
        "best": "t001-finish",
        "flip": "t001-finish",
    }
    assert list(labels)[:2] == ["baseline", "best"]
    assert table.labels(MIN)["best"].trial_id == "t000"
    assert table_of(suggested("t000", "baseline")).labels(MAX) == {}


def test_earlier_trial_is_best_among_equals() -> None:
    table = table_of(*whole("t000", "baseline", 0.5), *whole("t001", "flip", 0.5, number=1))
    assert table.labels(MAX)["best"].trial_id == "t000"


def test_csv_has_a_row_a_trial_with_the_documented_columns(tmp_path: Path) -> None:
    events = whole("t000", "baseline", 0.4)
    events[-2]["metrics"]["train/loss"] = 1.5
    table = table_of(*events, suggested("t001", "=1+2", number=1), ended("t001", "failed", 'a "b", c\nd'))
    TrialsFile(table, tmp_path / "trials.csv", gpus=lambda config: 0.5, objective=MAX).write()
    with (tmp_path / "trials.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[:10] == ["trial_id", "label", "phase", "seed", "state", "reason", "epochs", "seconds",
                                  "gpu_seconds", OBJECTIVE]  # fmt: skip
    assert rows[0]["seconds"] == "8.0"
    assert rows[0]["gpu_seconds"] == "4.0"
    assert rows[0][OBJECTIVE] == "0.4"
    assert rows[0]["config/optimizer.lr"] == "0.01"
    assert rows[0]["config/augment.policy"] == "baseline"
    assert (rows[1]["state"], rows[1]["reason"], rows[1][OBJECTIVE]) == ("failed", 'a "b", c\nd', "")
    assert (rows[1]["label"], rows[1]["config/augment.policy"]) == ("'=1+2", "'=1+2"), "no spreadsheet computes it"
    assert [path.name for path in tmp_path.iterdir()] == ["trials.csv"]


@pytest.mark.parametrize("objective", ["val/miou", "val/f1"])
def test_the_objective_is_the_first_metric_of_the_csv(tmp_path: Path, objective: str) -> None:
    events = whole("t000", "baseline", 0.4)
    events[-2]["metrics"] |= {"train/loss": 1.5, "val/f1": 0.2, "val/pixel_accuracy": 0.6}
    table = table_of(*events)
    TrialsFile(table, tmp_path / "trials.csv", gpus=lambda config: 0, objective=objective_of(objective)).write()
    columns = (tmp_path / "trials.csv").read_text().splitlines()[0].split(",")
    others = sorted({"train/loss", "val/miou", "val/f1", "val/pixel_accuracy"} - {objective})
    assert columns[9:13] == [objective, *others]
    own = ["config/epochs", "config/seed", "config/optimizer.lr", "config/augment.policy"]
    assert columns[13:] == ["config/resize", *own, "parent"], "of a time when every image was stretched"


def test_csv_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(*whole("t000", "baseline", 0.4))
    TrialsFile(table, tmp_path / "trials.csv", gpus=lambda config: 0, objective=MAX).write()
    before = (tmp_path / "trials.csv").read_text()

    def breaks(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerows", breaks)
    with pytest.raises(OSError, match="No space"):
        TrialsFile(table, tmp_path / "trials.csv", gpus=lambda config: 0, objective=MAX).write()
    assert (tmp_path / "trials.csv").read_text() == before


def test_configuration_trained_with_several_seeds_is_never_compared_with_itself() -> None:
    table = seeded({"fcn": [0.30, 0.50, 0.40], "deeplab": [0.35, 0.36, 0.37], "lraspp": [0.20, 0.90, 0.10]})
    labels = {label: trial.trial_id for label, trial in table.labels(MAX).items()}
    # By means fcn and lraspp are level at 0.40, fcn came first; it is the baseline's own configuration.
    assert labels == {"baseline": "t000", "best": "t000", "deeplab": "t003", "lraspp": "t006"}
    assert [t.metrics[OBJECTIVE] for t in table.seeds(table.trials["t001"], MAX)] == [0.30, 0.50, 0.40]


def test_luckiest_seed_does_not_win_over_the_better_mean() -> None:
    table = seeded({"fcn": [0.10, 0.20], "deeplab": [0.36, 0.37], "lraspp": [0.10, 0.60]})
    labels = {label: trial.trial_id for label, trial in table.labels(MAX).items()}
    assert labels == {"baseline": "t000", "best": "t002", "deeplab": "t002", "lraspp": "t004"}
    lowest = {label: trial.trial_id for label, trial in table.labels(MIN).items()}
    assert lowest["best"] == "t000"


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "a/b", "", ".hidden"])
def test_names_that_would_lead_out_of_the_run_folder_are_refused(name: str) -> None:
    with pytest.raises(UnsafePathError, match="label of trial t000"):
        table_of(suggested("t000", name))
    with pytest.raises(UnsafePathError, match="trial id"):
        table_of(suggested(name, "flip"))
