"""What a sweep's plan foresaw, beside what happened."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sweep.journal import Event
from sweep.phase_kinds import CONFIRM, EXPLORING, FINISH, SEARCH
from sweep.plan import NOT_DONE, Plan, not_done
from sweep.trials_csv import CONFIG

_OF_CONFIRMATION = ("confirm_over", "left_out")
"""Events that no longer hold once further seeds are trained."""
COLUMNS = ("what", "foreseen", "happened")


def foreseen_frame(
    plan: Plan | None, trials: pd.DataFrame, curves: pd.DataFrame, events: Sequence[Event]
) -> pd.DataFrame:
    """The plan beside the outcome: trials, epochs, seconds of an epoch of each model, time of the whole command.

    Args:
        plan: Of the sweep; None in runs that made none.
        trials: As in `trials.csv`.
        curves: One row per trial and epoch, with `seconds`.
        events: Of the journal.

    Returns:
        Columns `COLUMNS`, all text; empty without a plan. What is not known yet is `-`.
    """
    if plan is None:
        return pd.DataFrame(columns=list(COLUMNS))
    trained = curves["trial_id"].map(trials.set_index("trial_id")["phase"]).value_counts()
    searched = int(trials["phase"].isin(EXPLORING).sum())
    rows = [
        ("trials of the search", f"{plan.trials}", f"{searched}"),
        ("epochs of the search", f"{plan.search_epochs:.0f}", f"{trained.get(SEARCH.name, 0)}"),
        ("epochs that finish labels", f"{plan.finish_epochs:.0f}", f"{trained.get(FINISH.name, 0)}"),
        ("epochs with fresh seeds", f"{plan.confirm_epochs:.0f}", f"{trained.get(CONFIRM.name, 0)}"),
    ]
    seconds = curves.merge(trials, on="trial_id", suffixes=("", "_of_trial"))
    for one in plan.costs:
        own = pd.Series(True, index=seconds.index)
        for key, value in one.settings().items():
            told = seconds[f"{CONFIG}{key}"]
            own &= (pd.to_numeric(told, errors="coerce") if isinstance(value, int) else told) == value
        if own.any() or not (one.batch_size or one.freeze):  # of many combinations only those that were tried
            mean = seconds.loc[own, "seconds"].mean()
            shown = f"{mean:.2f}" if own.any() else "-"
            rows.append((f"seconds of an epoch, {one}", f"{one.cost.epoch_seconds:.2f}", shown))
    again = [event["seconds"] for event in events if event["event"] == "refit_epoch"]
    if plan.refit_seconds or again:
        rows.append(("seconds of the refit", f"{plan.refit_seconds:.0f}", f"{sum(again):.0f}" if again else "-"))
    closed = [event["spent_s"] for event in events if event["event"] == "closed"]
    happened = f"{closed[-1]:.0f}" if closed else "-"
    rows.append(("seconds of the whole command", f"{plan.seconds:.0f}", happened))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def without_time(events: Sequence[Event]) -> list[str]:
    """What was not tried or not trained to its end, and why, one sentence each (`sweep.plan.NOT_DONE`)."""
    seeds = [one["event"] == "suggested" and one["phase"] == CONFIRM.name for one in events]
    last = max((place for place, is_seed in enumerate(seeds) if is_seed), default=-1)
    told = [event for place, event in enumerate(events) if event["event"] not in _OF_CONFIRMATION or place > last]
    return [not_done(event) for event in told if event["event"] in NOT_DONE]
