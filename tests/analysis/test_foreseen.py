"""The plan beside the outcome, against numbers worked by hand."""

from __future__ import annotations

import dataclasses

import pandas as pd

from analysis.foreseen import COLUMNS, foreseen_frame, without_time
from sweep.plan import MeasuredCost, Plan
from trainables.cost import Cost

PLAN = Plan(
    trials=3, max_epochs=2, starting_points=2, compared="", search_epochs=5.0, finish_epochs=1.0, prepare_seconds=10.0,
    trials_seconds=60.0, report_seconds=20.0, labels=1, label_seconds=1.0, gpu_hours=0.0, memory_bytes=0, disk_bytes=0,
    confirm_top=1, confirm_seeds=1, confirm_epochs=4.0, confirm_seconds=40.0,
    costs=(MeasuredCost("a", "32x32", Cost(0, 9.0, 1.0)), MeasuredCost("b", "32x32", Cost(0, 90.0, 10.0))),
)  # fmt: skip
TRIALS = pd.DataFrame(
    {
        "trial_id": ["t000", "t001", "t001-finish", "t000-s1"],
        "phase": ["search", "search", "finish", "confirm"],
        "config/model.name": ["a"] * 4,
        "config/image_size": ["32x32"] * 4,
    }
)
CURVES = pd.DataFrame(
    {
        "trial_id": ["t000", "t000", "t001", "t001-finish", "t000-s1", "t000-s1"],
        "epoch": [1, 2, 1, 2, 1, 2],
        "seconds": [11.0, 13.0, 12.0, 16.0, 13.0, 13.0],
    }
)
EVENTS = [
    {"event": "skipped", "start": 1, "label": "b", "reason": "it would take 900 s, and 20 s are left"},
    {"event": "unfinished", "trial_id": "t002", "reason": "40 s to its last epoch, 20 s left"},
    {
        "event": "unfinished",
        "trial_id": "t003",
        "by": "baseline",
        "reason": "0.0500 at epoch 2 is below 0.1750, half of",
    },
    {"event": "closed", "spent_s": 123.4},
]


def test_plan_stands_beside_what_happened() -> None:
    frame = foreseen_frame(PLAN, TRIALS, CURVES, EVENTS)
    assert list(frame.columns) == list(COLUMNS)
    assert [tuple(row) for row in frame.itertuples(index=False)] == [
        ("trials of the search", "3", "2"),
        ("epochs of the search", "5", "3"),
        ("epochs that finish labels", "1", "1"),
        ("epochs with fresh seeds", "4", "2"),
        ("seconds of an epoch, a at 32x32", "10.00", "13.00"),
        ("seconds of an epoch, b at 32x32", "100.00", "-"),
        ("seconds of the whole command", "130", "123"),
    ]


def test_refit_stands_beside_the_time_that_was_kept_for_it() -> None:
    plan = dataclasses.replace(PLAN, refit_seconds=30.0)
    epochs = [{"event": "refit_epoch", "seconds": 12.0}, {"event": "refit_epoch", "seconds": 13.0}]

    def row(plan: Plan, events: list[dict[str, object]]) -> list[tuple[str, ...]]:
        frame = foreseen_frame(plan, TRIALS, CURVES, events)
        return [tuple(row) for row in frame.itertuples(index=False) if row.what == "seconds of the refit"]

    assert row(plan, [*epochs, *EVENTS]) == [("seconds of the refit", "30", "25")]
    assert row(plan, EVENTS) == [("seconds of the refit", "30", "-")]
    assert row(PLAN, epochs) == [("seconds of the refit", "0", "25")], "it was asked for afterwards"
    assert foreseen_frame(plan, TRIALS, CURVES, EVENTS)["foreseen"].iloc[-1] == "160"


def test_run_without_a_plan_has_nothing_to_compare_and_an_open_one_no_time() -> None:
    assert foreseen_frame(None, TRIALS, CURVES, EVENTS).empty
    assert foreseen_frame(PLAN, TRIALS, CURVES, [])["happened"].iloc[-1] == "-"


def test_what_was_left_undone_is_told_with_the_reason() -> None:
    assert without_time(EVENTS) == [
        "the starting point of b was not tried: it would take 900 s, and 20 s are left",
        "t002 was not trained to its last epoch: 40 s to its last epoch, 20 s left",
        "t003 was not trained to its last epoch: 0.0500 at epoch 2 is below 0.1750, half of",
    ]
