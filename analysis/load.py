"""A run's trials and curves as tidy frames, read from `trials.csv` and `journal.jsonl` alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.formulas import as_before
from sweep.journal import JOURNAL_FILE, Event, read_events
from sweep.trials_csv import COLUMNS, TEXTS, TRIALS_FILE
from trainables import commands
from trainables.errors import DataError
from trainables.limits import check_file
from trainables.paths import within

CURVE_COLUMNS = ("trial_id", "label", "phase", "epoch", "seconds")


def load_trials(run_dir: Path) -> pd.DataFrame:
    """Reads `trials.csv`, one row per trial.

    Ids stay text (`007` is not 7) and an empty label or reason is an empty text, not NaN.

    Raises:
        DataError: If it is missing or damaged.
    """
    path = within(run_dir, TRIALS_FILE)
    check_file(path, what="table of trials")
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=True)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; finish the sweep first: {commands.resume(run_dir)}") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); to write it again: {commands.resume(run_dir)}") from error
    absent = [column for column in COLUMNS if column not in frame]
    if absent:
        raise DataError(f"{path} lacks the columns {', '.join(absent)}; to write it again: {commands.resume(run_dir)}")
    text = [column for column in TEXTS if column in frame]
    frame[text] = frame[text].fillna("")
    frame = as_before(frame)
    return frame[[*COLUMNS, *(column for column in frame if column not in COLUMNS)]]


def load_events(run_dir: Path) -> list[Event]:
    """The events of a run's journal, in their order.

    Raises:
        DataError: If the journal is missing or was altered.
    """
    path = run_dir / JOURNAL_FILE
    if not path.is_file():
        raise DataError(f"{path} does not exist: give the folder of a run, such as runs/NAME")
    return list(read_events(path))


def count_given(events: Iterable[Event]) -> int:
    """How many trials of the search were starting points of the space; a sampler proposed the others.

    Args:
        events: Of the journal.
    """
    return sum(event["event"] == "suggested" and event.get("source") in ("known_good", "start") for event in events)


def curves_frame(events: Iterable[Event]) -> pd.DataFrame:
    """Metrics of every trial after every epoch.

    Args:
        events: Of the journal.

    Returns:
        Columns `trial_id`, `label`, `phase`, `epoch`, `seconds`, then one per metric; by trial in the order of their
        suggestion, then by epoch. An epoch reported twice (once before, once after a resume) keeps its last values.
    """
    suggested: dict[str, Event] = {}
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for event in events:
        kind, trial_id = event["event"], str(event.get("trial_id", ""))
        if kind == "suggested":
            suggested[trial_id] = event
        elif kind == "result":
            told = suggested.get(trial_id, {})
            rows[trial_id, int(event["epoch"])] = {
                "trial_id": trial_id,
                "label": str(told.get("label") or ""),
                "phase": str(told.get("phase") or ""),
                "epoch": int(event["epoch"]),
                "seconds": event.get("seconds"),
                **event.get("metrics", {}),
            }
    order = {trial_id: place for place, trial_id in enumerate(suggested)}
    ordered = sorted(rows, key=lambda key: (order.get(key[0], len(order)), *key))
    if not ordered:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.DataFrame([rows[key] for key in ordered])
