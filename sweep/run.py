"""`python -m sweep.run`: from a search space to labels trained to full budget, and the next command to type."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from search_spaces import SearchSpace, to_yaml
from sweep import progress
from sweep.conductor import Budget, Conductor
from sweep.config import SweepConfig, from_command_line
from sweep.journal import FILE_NAME as JOURNAL_FILE
from sweep.journal import Journal
from sweep.manifest import SweepManifest, count_openings, describe_hardware, package_versions
from sweep.preflight import Plan, plan_space, prepare, values_of
from sweep.schedulers import comparison_note
from sweep.search import FILE_NAME as STUDY_FILE
from sweep.search import mirror
from sweep.tracking import Tracker, resolve_mode
from sweep.trials import BEST
from sweep.trials import FILE_NAME as TRIALS_FILE
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint, publish
from trainables.config import parse_size
from trainables.data import DATASETS
from trainables.data.cache import DecodedCache
from trainables.data.splits import freeze_splits, load_split
from trainables.errors import SegsweepError, UsageError
from trainables.trial import Execution, TrialData

if TYPE_CHECKING:
    from sweep.runner import Resources

INTERRUPTED = 130
REFRESH_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a sweep.

    Returns:
        0 done; 1 something failed, said with the cure; 2 bad usage; 130 interrupted, with the resume command printed.
    """
    console = Console(highlight=False)
    try:
        config = from_command_line(sys.argv[1:] if arguments is None else arguments)
        if config.show:
            return _show(config, console)
        if config.resume or config.extend:
            return _go_on(config, console)
        return _start(config, console)
    except SegsweepError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]error[/bold red] {escape(str(error))}", soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted before the first trial; nothing was kept")
        return INTERRUPTED


def _show(config: SweepConfig, console: Console) -> int:
    # No data set is built: a space can be read where its images are not.
    space, base = plan_space(config, (96, 128))
    if config.as_yaml:
        print(to_yaml(space), end="")
        return 0
    note = comparison_note(config.scheduler, config.max_epochs)
    own_size = "image_size" in config.set_
    progress.show_space(console, space, base, trials=config.trials, own_size=own_size, note=note)
    return 0


def _start(config: SweepConfig, console: Console) -> int:
    run_dir = config.run_dir
    if run_dir.exists():
        raise UsageError(f"{run_dir} exists: go on with it (--resume --name {run_dir.name}) or give another --name")
    with console.status("checking the data") as status:
        plan = prepare(config, progress=lambda done, total: status.update(f"checking the data: {done}/{total} images"))
    from sweep.runner import available, plan_execution, plan_resources

    cpus, gpus = available(None)
    resources = plan_resources(
        cpus=cpus,
        gpus=gpus,
        cpus_per_trial=config.cpus_per_trial,
        gpus_per_trial=config.gpus_per_trial,
        concurrent=config.concurrent,
    )
    execution = plan_execution(
        resources,
        precision=config.precision,
        channels_last=config.channels_last,
        compile=config.compile,
        workers=config.workers,
        cache_bytes=config.cache_limit,
    )
    progress.show_plan(
        console,
        plan.space,
        plan.base,
        plan.data,
        plan.splits,
        trials=config.trials,
        max_epochs=config.max_epochs,
        how=f"{config.sampler}, {config.scheduler}, {resources.concurrent} at once",
        execution=execution,
        note=comparison_note(config.scheduler, config.max_epochs),
    )
    for offender in plan.checked.warnings:
        console.print(f"[yellow]warning[/yellow] {escape(str(offender))}", soft_wrap=True)
    if config.check:
        console.print("[green]checked[/green]: data, weights, space and resources; this sweep can start")
        return 0
    run_dir.mkdir(parents=True)
    try:
        hashes = freeze_splits(plan.data, plan.splits, run_dir, hashes=plan.checked.hashes)
        manifest = _manifest(config, plan, hashes, resources, execution)
        manifest.save(run_dir)
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    return _conduct(manifest, run_dir, config, console)


def _go_on(config: SweepConfig, console: Console) -> int:
    run_dir = config.run_dir if config.name else _latest_run(config.runs_dir)
    manifest = SweepManifest.load(run_dir)
    if config.extend:
        budget = {**manifest.budget, "trials": int(manifest.budget["trials"]) + config.extend}
        manifest = dataclasses.replace(manifest, budget=budget)
        manifest.save(run_dir)
    console.print(f"going on with [bold]{escape(str(run_dir))}[/bold]")
    return _conduct(manifest, run_dir, config, console)


def _conduct(manifest: SweepManifest, run_dir: Path, config: SweepConfig, console: Console) -> int:
    """Runs or goes on with the sweep that a manifest describes, then says what came out."""
    root = manifest.data["root"]
    data = DATASETS.get(manifest.data["name"])(root=Path(root) if root else None)
    trial_data = TrialData(data, load_split(run_dir, "train").ids, load_split(run_dir, "val").ids)
    warnings: list[str] = []
    with Journal(run_dir / JOURNAL_FILE) as journal:
        conductor = _conductor(manifest, journal)
        conductor.begin()
        if conductor.finished:
            console.print("every trial of this sweep has ended; --extend N tries more")
            _publish(conductor, run_dir)
            return _answer(manifest, conductor, run_dir, console)
        tracker = Tracker(
            run_dir,
            sweep=manifest.name,
            created=manifest.created,
            project=config.wandb_project or manifest.tracking["project"],
            mode=resolve_mode(config.wandb or manifest.tracking["wandb"], warn=warnings.append),
            warn=warnings.append,
        )
        journal.follow(tracker.take_in)
        try:
            stopped_by = _search(conductor, manifest, run_dir, config, console, trial_data, warnings)
        except OSError as error:
            raise SegsweepError(
                f"{error}\nnothing before this is lost: mend it (free disk space, permissions), then\n"
                f"  {_resume_command(run_dir)}"
            ) from error
        if stopped_by is not None:
            return _interrupted(run_dir, tracker, console)
        _publish(conductor, run_dir)
        if conductor.labels():
            _report_on_val(run_dir, console)
            tracker.report(run_dir / "report")
        tracker.close(timeout=30)
        for warning in warnings:
            console.print(warning, style="yellow", markup=False, soft_wrap=True)
        return _answer(manifest, conductor, run_dir, console)


def _search(
    conductor: Conductor,
    manifest: SweepManifest,
    run_dir: Path,
    config: SweepConfig,
    console: Console,
    data: TrialData,
    warnings: list[str],
) -> str | None:
    """Runs Ray until the conductor has no more; returns the signal that ended it early."""
    from sweep.runner import Interrupted, Resources, available, ray_session, run

    resources = Resources(
        manifest.resources["cpus_per_trial"], manifest.resources["gpus_per_trial"], manifest.resources["concurrent"]
    )
    execution = Execution(**manifest.execution)
    views = _Views(conductor, run_dir, resources.gpus_per_trial)
    stopped_by = None
    cpus, gpus = available(None)
    try:
        if config.address is None:
            _build_cache(manifest, data, execution, console)
        with ExitStack() as stack:
            session = ray_session(address=config.address, dashboard=config.dashboard, cpus=cpus, gpus=gpus)
            with console.status("starting Ray"):
                ray = stack.enter_context(session)
            if ray.url:
                told = f"Ray dashboard: {ray.url}  (it asks for a token: `ray get-auth-token` prints it)"
                console.print(told, soft_wrap=True)
            with progress.Progress(console, conductor, concurrent=resources.concurrent) as view:

                def tick() -> None:
                    views.refresh()
                    while warnings:
                        view.notice(warnings.pop(0))

                run(conductor, data=data, run_dir=run_dir, resources=resources, execution=execution, on_tick=tick)
    except (Interrupted, KeyboardInterrupt) as stop:
        stopped_by = str(stop) or "SIGINT"
        conductor.interrupted(stopped_by)
    views.write()
    return stopped_by


def _build_cache(manifest: SweepManifest, data: TrialData, execution: Execution, console: Console) -> None:
    """Decodes the images once, before Ray starts: all trials of this machine share them.

    On a cluster each node builds its own, at the first trial.
    """
    sizes = values_of(SearchSpace.from_dict(manifest.space), manifest.space["base"], "image_size")
    for size in map(str, sizes):
        cache = DecodedCache(data.data, parse_size(size), limit_bytes=execution.cache_bytes)
        console.print(str(cache.plan(data.train, data.val)), markup=False, soft_wrap=True)
        with console.status("decoding the images") as status:
            cache.build(
                data.train,
                data.val,
                progress=lambda done, total: status.update(f"decoding the images: {done}/{total}"),
            )


class _Views:
    """`trials.csv` and `study.db`, kept near the journal."""

    def __init__(self, conductor: Conductor, run_dir: Path, gpus_per_trial: float) -> None:
        self._conductor = conductor
        self._run_dir = run_dir
        self._gpus_per_trial = gpus_per_trial
        self._next = 0.0
        self._ended = -1

    def refresh(self) -> None:
        """Writes what has changed, at most every few seconds."""
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Writes both; the study only when a trial has ended since."""
        self._conductor.table.write_csv(self._run_dir / TRIALS_FILE, gpus_per_trial=self._gpus_per_trial)
        ended = len(self._conductor.journal.of("ended"))
        if ended != self._ended:
            mirror(self._conductor.study.study, self._run_dir / STUDY_FILE)
            self._ended = ended
        self._next = time.monotonic() + REFRESH_SECONDS


def _interrupted(run_dir: Path, tracker: Tracker, console: Console) -> int:
    flushed = tracker.close()
    console.print("\n[bold]interrupted[/bold]; all but the running epochs is kept. To go on:", soft_wrap=True)
    console.print(f"  {_resume_command(run_dir)}", markup=False, soft_wrap=True)
    if not flushed:
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # W&B's exit hook may wait half an hour for a server
    return INTERRUPTED


def _resume_command(run_dir: Path) -> str:
    elsewhere = "" if run_dir.parent == Path("runs") else f" --runs-dir {shlex.quote(str(run_dir.parent))}"
    return f"python -m sweep.run --resume --name {run_dir.name}{elsewhere}"


def _publish(conductor: Conductor, run_dir: Path) -> None:
    """Copies the model of every label to `best/LABEL`.

    Raises:
        SegsweepError: If a label's checkpoint is gone or was altered.
    """
    best = run_dir / "best"
    labels = conductor.labels()
    for label, trial in labels.items():
        checkpoint = latest_checkpoint(run_dir / CHECKPOINTS / trial.trial_id)
        if checkpoint is None:
            raise SegsweepError(
                f"{run_dir / CHECKPOINTS / trial.trial_id} holds no whole checkpoint of {label}: it was deleted or "
                "altered after training; restore it from a backup and run --resume again"
            )
        publish(checkpoint, best / label, label=label)
    for stale in [folder for folder in best.iterdir() if folder.name not in labels] if best.is_dir() else []:
        shutil.rmtree(stale)


def _report_on_val(run_dir: Path, console: Console) -> None:
    """Writes the report on val in a process of its own; a failure costs the report, not the sweep."""
    with console.status("writing the report on val"):
        done = subprocess.run(
            [sys.executable, "-m", "analysis.report", str(run_dir), "--split", "val"], capture_output=True, text=True
        )
    if done.returncode != 0:
        console.print(f"[yellow]the report on val failed[/yellow]: {escape(done.stderr.strip())}", soft_wrap=True)


def _answer(manifest: SweepManifest, conductor: Conductor, run_dir: Path, console: Console) -> int:
    labels = conductor.labels()
    failed = [trial for trial in conductor.table.trials.values() if trial.state == "failed"]
    if BEST not in labels:
        reasons = sorted({trial.reason for trial in conductor.table.trials.values() if trial.reason})
        told = "\n".join(f"  {reason}" for reason in reasons)
        raise SegsweepError(
            f"no trial reached its full budget:\n{told}\nsee {run_dir / 'logs'} and {run_dir / TRIALS_FILE}"
        )
    progress.show_answer(
        console,
        labels,
        objective=manifest.objective,
        run_dir=str(run_dir),
        openings=count_openings(run_dir.parent, manifest.data["splits"]["test"]["hash"]),
        failed=len(failed),
    )
    return 1 if failed else 0


def _conductor(manifest: SweepManifest, journal: Journal) -> Conductor:
    budget = manifest.budget
    return Conductor(
        journal,
        space=SearchSpace.from_dict(manifest.space),
        base=manifest.space["base"],
        budget=Budget(budget["trials"], budget["max_epochs"], budget["time_budget_s"], budget["gpu_hours"]),
        sampler=budget["sampler"],
        scheduler=budget["scheduler"],
        seed=manifest.seed,
        objective=manifest.objective,
        mode=manifest.mode,
        gpus_per_trial=manifest.resources["gpus_per_trial"],
    )


def _manifest(
    config: SweepConfig, plan: Plan, hashes: Mapping[str, str], resources: Resources, execution: Execution
) -> SweepManifest:
    splits = {name: {"images": len(getattr(plan.splits, name)), "hash": digest} for name, digest in hashes.items()}
    data: dict[str, Any] = {
        "name": plan.data.name,
        "root": str(config.data_root.resolve()) if config.data_root else None,
        "classes": [{"name": c.name, "color": list(c.color)} for c in plan.data.classes],
        "splits": splits,
        "origin": plan.splits.origin,
        "warnings": [*plan.splits.warnings, *map(str, plan.checked.warnings)],
    }
    return SweepManifest(
        name=config.run_dir.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=("python", "-m", "sweep.run", *sys.argv[1:]),
        seed=config.seed,
        data=data,
        space={**plan.space.to_dict(), "base": dict(plan.base)},
        budget={
            "trials": config.trials,
            "max_epochs": config.max_epochs,
            "time_budget_s": config.time_budget,
            "gpu_hours": config.gpu_hours,
            "sampler": config.sampler,
            "scheduler": config.scheduler,
            "concurrent": resources.concurrent,
        },
        objective=config.objective,
        mode="max",
        resources=dataclasses.asdict(resources),
        hardware=describe_hardware(),
        versions=package_versions(),
        execution=dataclasses.asdict(execution),
        tracking={"wandb": config.wandb or "offline", "project": config.wandb_project or "segsweep"},
    )


def _latest_run(runs_dir: Path) -> Path:
    runs = [path.parent for path in runs_dir.glob("*/manifest.json")] if runs_dir.is_dir() else []
    if not runs:
        raise UsageError(f"{runs_dir} holds no run to go on with: start one, or give --name and --runs-dir")
    return max(runs, key=lambda run: SweepManifest.load(run).created)


if __name__ == "__main__":
    sys.exit(main())
