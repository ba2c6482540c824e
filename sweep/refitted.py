"""What the journal of a run says of its refit: the winner, trained again on train and val together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sweep.journal import Event
from trainables import commands
from trainables.run_folder import REFIT
from trainables.words import counted

BY_TIME, BY_MACHINE, BY_ERROR = "time budget", "machine", "error"
"""Why a refit was given up (`by` of the event `refit_over`)."""
PROVENANCE = (
    "it is measured on nothing, for it learnt from val and the test split stays sealed: the scores are those of {of}, "
    "which learnt from train alone"
)
"""What must be known of a refitted model."""


def refit_id(trial_id: str) -> str:
    """The name of a trial's refit among the checkpoints."""
    return f"refit-{trial_id}"


def last_refit(events: Iterable[Event], of: str = "") -> Event | None:
    """The last event `refitted` or `refit_over`; None if there is none, or if it was given up and has more time since.

    Args:
        events: Of the journal.
        of: Only of this trial; of any by default.
    """
    found: Event | None = None
    for event in events:
        kind = event["event"]
        more_time = kind == "settings" and "time_budget" in event["changed"].get("budget", {})
        if kind in ("refitted", "refit_over") and of in ("", event["of"]):
            found = event
        elif more_time and found is not None and found["event"] == "refit_over":
            found = None
    return found


def refit_text(events: Sequence[Event], best: str, run_dir: Path) -> str:
    """What became of the refit, in one sentence without a full stop; empty where there was to be none.

    Args:
        events: Of the journal.
        best: Trial that is the best of the run now.
        run_dir: The run, for the command that does it later.
    """
    last = last_refit(events)
    if last is None:
        return ""
    command = commands.refit(run_dir)
    if last["event"] == "refit_over":
        return f"{last['of']} was not trained again on train and val: {last['reason']}; to do so: {command}"
    if last["of"] != best:
        return f"{REFIT}/ holds {last['of']}, not the best, trained again on train and val; for the best: {command}"
    images = f", {counted(last['images'], 'image')}" if "images" in last else ""
    told = PROVENANCE.format(of=last["of"])
    return f"{REFIT}/ holds {last['of']} trained again on train and val together{images}; {told}"
