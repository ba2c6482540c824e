"""The manifest of a new sweep: from what was asked for and what was measured to what is written down."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime

from sweep.config import SweepConfig
from sweep.latencies import MeasuredLatency
from sweep.manifest import Budget, ObjectiveRecord, SearchRecord, SweepManifest, TrackingRecord
from sweep.plan import Plan
from sweep.planning import Asked
from sweep.preflight import Prepared
from sweep.resources import Resources
from sweep.verify import describe_data
from sweep.versions import describe_hardware, package_versions
from trainables import plugins
from trainables.execution import Execution
from trainables.redact import redacted_words


@dataclass(frozen=True)
class MeasuredSweep:
    """A sweep with its plan, ready for its run folder."""

    config: SweepConfig
    ready: Prepared
    resources: Resources
    execution: Execution
    latencies: tuple[MeasuredLatency, ...]
    plan: Plan
    asked: Asked


def new_manifest(found: MeasuredSweep) -> SweepManifest:
    """What a new run folder says of its sweep; secrets of the command line are hidden."""
    config, ready, plan, asked = found.config, found.ready, found.plan, found.asked
    first, *further = ready.objectives
    return SweepManifest(
        name=config.run_dir.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=("python", "-m", "sweep.run", *redacted_words(sys.argv[1:])),
        seed=config.seed,
        data=describe_data(
            ready.data,
            config.data_root,
            config.run_dir,
            origin=ready.splits.origin,
            warnings=[*ready.splits.warnings, *(one.line for one in ready.checked.warning_paragraphs)],
        ),
        space=ready.space,
        base={**ready.base, "epochs": plan.max_epochs},
        budget=Budget(
            plan.trials,
            plan.max_epochs,
            time_budget=asked.time_budget,
            gpu_hours=config.gpu_hours,
            open_ended=asked.time_budget is not None and asked.trials is None,
            confirm_top=plan.confirm_top,
            confirm_seeds=plan.confirm_seeds,
            refit=plan.refit_seconds > 0 or bool(asked.refit),
        ),
        search=SearchRecord(config.sampler, config.scheduler),
        objective=first.key,
        direction=first.metric.direction,
        resources=found.resources,
        hardware=describe_hardware(),
        versions=package_versions(),
        execution=found.execution,
        tracking=TrackingRecord(
            config.wandb or TrackingRecord.wandb,
            config.wandb_project or TrackingRecord.project,
            config.track or {},
        ),
        plugins=tuple(plugin.record() for plugin in plugins.loaded()),
        plan=plan,
        further_objectives=tuple(ObjectiveRecord(one.key, one.metric.direction) for one in further),
        latencies=found.latencies,
    )
