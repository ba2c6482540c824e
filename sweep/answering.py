"""The answer of a command in the terminal, read from the run whose trials it has ended, and its exit code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from sweep import answer
from sweep.candidate import chief_keys
from sweep.conductor import Conductor
from sweep.floor import why_dead
from sweep.latencies import MeasuredLatency, latency_of, unsteady_text
from sweep.manifest import SweepManifest
from sweep.objectives import SplitObjective, recorded_objective
from sweep.pareto import last_trade_off
from sweep.refitted import BY_ERROR, last_refit, refit_text
from sweep.trials import TrialTable, TrialView
from sweep.trials_csv import TRIALS_FILE
from sweep.verdict import current_ablation, last_verdict, why_unconfirmed
from trainables.data.cache.decoded import class_pixels
from trainables.data.splits.openings import openings_seen
from trainables.errors import SegsweepError
from trainables.execution import TrialData
from trainables.labels import BEST


def say_answer(
    run_dir: Path,
    manifest: SweepManifest,
    data: TrialData,
    conductor: Conductor,
    console: Console,
    *,
    reported: bool,
) -> int:
    """Says what came out of a run, and returns the exit code: 1 where something failed.

    Args:
        run_dir: The run.
        manifest: As it holds now.
        data: Train and val.
        conductor: With nothing left to do.
        console: Where to say it.
        reported: Whether the report on val is there, or nobody wanted it.

    Raises:
        SegsweepError: If no trial reached its full budget, with the reasons.
    """
    labels, events = conductor.labels(), conductor.journal.others
    failed = [trial for trial in conductor.table.trials.values() if trial.state == "failed"]
    if BEST not in labels:
        reasons = sorted({trial.reason for trial in conductor.table.trials.values() if trial.reason})
        told = "\n".join(f"  {reason}" for reason in reasons)
        raise SegsweepError(
            f"no trial reached its full budget:\n{told}\nsee {run_dir / 'logs'} and {run_dir / TRIALS_FILE}"
        )
    answer.show_answer(
        console,
        labels,
        seeds=conductor.table.seeds(labels[BEST], conductor.objective),
        candidates=conductor.table.candidates(conductor.objective),
        chief=chief_keys(manifest.space),
        verdict=last_verdict(events),
        trade_off=last_trade_off(events, conductor.objectives),
        further=conductor.objectives[1:],
        unsteady=_unsteady(manifest.latencies, conductor),
        ablation=current_ablation(events),
        unconfirmed=why_unconfirmed(conductor.journal.read()),
        dead=_dead(labels, conductor.table, recorded_objective(manifest), data),
        objective=conductor.objective,
        run_dir=run_dir,
        openings=openings_seen(run_dir, manifest.data.splits.test.hash),
        failed=len(failed),
        refit=refit_text(events, labels[BEST].trial_id, run_dir),
    )
    refit_failed = (last_refit(events, labels[BEST].trial_id) or {}).get("by") == BY_ERROR
    return 0 if reported and not failed and not refit_failed else 1


def _unsteady(latencies: tuple[MeasuredLatency, ...], conductor: Conductor) -> str:
    """Which times per image that the trade-off tells of are not to be relied on."""
    trade_off, trials = conductor.trade_off(), conductor.table.trials
    points = trade_off.in_set if trade_off is not None else []
    told = [latency_of(latencies, trials[point.trial_id].config) for point in points]
    return unsteady_text(one for one in latencies if one in told)


def _dead(
    labels: Mapping[str, TrialView], table: TrialTable, objective: SplitObjective, data: TrialData
) -> dict[str, str]:
    """Why each label that learnt nothing did not, by label."""
    train, val = (class_pixels(data.data, ids) for ids in (data.train, data.val))
    reasons = {
        label: why_dead(
            trial.metrics,
            losses=table.losses(trial),
            objective=objective,
            classes=[info.name for info in data.data.classes],
            train_pixels=train,
            val_pixels=val,
        )
        for label, trial in labels.items()
    }
    return {label: reason for label, reason in reasons.items() if reason}
