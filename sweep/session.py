"""A sweep in its run folder: opened, verified, run on Ray until nothing is left, published, reported on val."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from sweep import answer, progress
from sweep.answering import say_answer
from sweep.concluding import conclude
from sweep.conductor import Conductor
from sweep.decoding import build_cache
from sweep.ended_early import end_halted, halted_text, say_interrupted, signals_as_interrupts
from sweep.heartbeat import heartbeat, spent_seconds
from sweep.journal import Journal
from sweep.latencies import of_model
from sweep.local_ray import LocalRay
from sweep.manifest import SweepManifest
from sweep.objectives import recorded_objectives
from sweep.publishing import publish_labels
from sweep.ray_view import show_ray
from sweep.refitting import refit_winner
from sweep.reporting import report_on_val
from sweep.resources import Machines
from sweep.shipping import shipped_code
from sweep.tracking import Followers, TrackedSweep
from sweep.tracking.base import chosen
from sweep.views import Views
from trainables import commands
from trainables.errors import MachineError, SegsweepError
from trainables.execution import TrialData
from trainables.run_folder import REPORT_FILE, report_folder

if TYPE_CHECKING:
    from sweep.ray_session import RaySession


@dataclass(frozen=True)
class Options:
    """What a command may choose again each time it resumes a sweep.

    Attributes:
        address: Of a Ray cluster; None starts Ray here.
        copy_data: Whether its nodes are given the images where they do not see them.
        dashboard: Whether to serve the Ray dashboard; None where Ray's token protects it.
        report: Whether to write the report on val at the end.
        pictures: Most pictures of failures in it.
    """

    address: str | None
    copy_data: bool
    dashboard: bool | None
    report: bool
    pictures: int


@dataclass
class Session:
    """An open run: its journal is locked by this process, its data are those that the sweep began with.

    Attributes:
        run_dir: The run.
        manifest: As it holds now, with what was changed since the start.
        journal: Open.
        data: Train and val.
        machines: Where trials run.
        options: Of this command.
        console: Where to say things.
        started: When the command started, on the monotonic clock.
        ray: Of this machine, started or not; unused on a cluster.
        extended: What the manifest becomes when Ray has started, where this command asks for more trials: one that
            fails before can be typed again.
        warnings: To be shown when there is room.
        trackers: Follow the journal while trials run.
        interrupted: Whether a signal ended the trials, and that is written down.
    """

    run_dir: Path
    manifest: SweepManifest
    journal: Journal
    data: TrialData
    machines: Machines
    options: Options
    console: Console
    started: float = field(default_factory=time.monotonic)
    ray: LocalRay | None = None
    extended: SweepManifest | None = None
    warnings: list[str] = field(default_factory=list)
    trackers: Followers | None = None
    interrupted: bool = False

    def conduct(self) -> int:
        """Runs the sweep until nothing is left and says what came out; returns the exit code."""
        conductor = self._conductor()
        unrecorded = max(0.0, spent_seconds(self.run_dir) - conductor.elapsed())
        conductor.start(before=time.monotonic() - self.started + unrecorded)
        try:
            with signals_as_interrupts(), heartbeat(self.run_dir, conductor.elapsed):
                return self._conduct(conductor)
        except KeyboardInterrupt:  # while the report is written, say
            return self._interrupted()

    def _conduct(self, conductor: Conductor) -> int:
        if conductor.finished:
            self.console.print("every trial of this sweep has ended; --extend N tries more")
            self._write_views(conductor)
            publish_labels(self.run_dir, self.manifest, conductor, warn=self._warn)
            conclude(self.run_dir, self.manifest, conductor)
            if self._refit(conductor):
                return self._interrupted()
            there = (report_folder(self.run_dir, "val") / REPORT_FILE).is_file() and self._was_closed()
            reported = there or not conductor.labels() or self._report()
            if not there:
                conductor.on_close()
            return self._answer(conductor, reported=reported)
        trackers = self.trackers = self._trackers()
        self.journal.follow(trackers.on_event)
        try:
            stopped_by = self._search(conductor)
        except OSError as error:
            raise SegsweepError(
                f"{error}\nnothing before this is lost: fix it (free disk space, permissions), then\n"
                f"  {commands.resume(self.run_dir)}"
            ) from error
        except SegsweepError:
            trackers.close(timeout=30)
            raise
        if stopped_by is not None:
            return self._interrupted()
        publish_labels(self.run_dir, self.manifest, conductor, warn=self._warn)
        conclude(self.run_dir, self.manifest, conductor)
        if self._refit(conductor):
            return self._interrupted()
        reported = not conductor.labels() or self._report()
        if self.options.report and conductor.labels():
            trackers.report(report_folder(self.run_dir, "val"))
        trackers.close(timeout=30)
        for warning in self.warnings:
            self._warn(warning)
        conductor.on_close()
        code = self._answer(conductor, reported=reported)
        if conductor.limit is not None and not conductor.confirm.was_asked_for:
            answer.show_time(self.console, conductor.limit.budget, took=conductor.elapsed())
        return code

    def _conductor(self) -> Conductor:
        manifest = self.manifest
        objective, *further = recorded_objectives(manifest)
        return Conductor(
            self.journal,
            space=manifest.space,
            base=manifest.base,
            budget=manifest.budget,
            sampler=manifest.search.sampler,
            scheduler=manifest.search.scheduler,
            seed=manifest.seed,
            objective=objective,
            further=further,
            of_model=lambda config: of_model(manifest.latencies, config),
            gpus=manifest.gpus_of,
            plan=manifest.plan,
            slots=manifest.resources.concurrent,
        )

    def _was_closed(self) -> bool:
        """Whether the command that trained the last trial, or the refit, came to its end, its report included."""
        trained = ("ended", "refitted", "refit_over")
        kinds = [event["event"] for event in self.journal.read() if event["event"] in ("closed", *trained)]
        return not kinds or kinds[-1] == "closed" or "closed" not in kinds

    def _trackers(self) -> Followers:
        manifest, record = self.manifest, self.manifest.tracking
        sweep = TrackedSweep(self.run_dir, manifest.name, manifest.created, record.project)
        return Followers(sweep, chosen(record.wandb, record.others), warn=self.warnings.append)

    def _search(self, conductor: Conductor) -> str | None:
        """Runs Ray until the conductor has no more; returns the signal that ended it early."""
        from sweep.tuner import Halted, Interrupted, run_trials

        resources, execution = self.manifest.resources, self.manifest.execution
        views = Views(conductor, self.run_dir, self.manifest.gpus_of)
        stopped_by = None
        try:
            if self.options.address is None:
                build_cache(self.data, self.manifest, self.console)
            with ExitStack() as stack:
                local = self.options.address is None
                with self.console.status("starting Ray" if local else "joining the cluster"):
                    ray = self._local_ray(stack) if local else self._joined_ray(stack)
                show_ray(self.console, url=ray.url, protected=ray.protected, token=ray.token, local=local)
                self.journal.append("ray", dashboard=ray.url)
                cluster = None
                if not local:
                    from sweep.cluster import joined

                    joining = joined(
                        self.run_dir, self.manifest, self.data, self.console, copy_data=self.options.copy_data
                    )
                    cluster = stack.enter_context(joining)
                    cluster.nodes.notice = self.warnings.append
                self.write_extension()
                with progress.LiveView(self.console, conductor, concurrent=resources.concurrent) as view:

                    def tick() -> None:
                        views.refresh()
                        while self.warnings:
                            view.notice(self.warnings.pop(0))

                    try:
                        run_trials(
                            conductor,
                            data=self.data,
                            run_dir=self.run_dir,
                            resources=resources,
                            gpus=self.manifest.gpus_of,
                            execution=execution,
                            watch=ray.watch,
                            on_tick=tick,
                            notice=self.warnings.append,
                            cluster=cluster,
                        )
                    except (Halted, Interrupted) as stop:  # written down before Ray is left, which may hang
                        self.interrupted = isinstance(stop, Interrupted)
                        with suppress(OSError):  # of a full disk, say
                            conductor.on_interrupt(str(stop))
                            views.write()
                        raise
        except (Interrupted, KeyboardInterrupt) as stop:
            stopped_by = str(stop) or "SIGINT"
            if not self.interrupted:
                conductor.on_interrupt(stopped_by)
        except Halted as fault:
            raise SegsweepError(halted_text(self.run_dir, str(fault))) from None
        views.write()
        return stopped_by

    def _local_ray(self, stack: ExitStack) -> RaySession:
        """Ray on this machine, which ends with the stack."""
        local = self.ray or LocalRay(self.machines, self.options.dashboard)
        local.on_stuck = self._end_stuck
        stack.callback(local.end)
        return local.start()

    def _joined_ray(self, stack: ExitStack) -> RaySession:
        """Ray of a cluster, which is left with the stack."""
        from sweep.ray_session import ray_session

        session = ray_session(
            address=self.options.address,
            dashboard=self.options.dashboard,
            machines=self.machines,
            on_stuck=self._end_stuck,
            runtime_env=stack.enter_context(shipped_code()),
        )
        return stack.enter_context(session)

    def write_extension(self) -> None:
        """Writes down that there are more trials to try, if this command asks for some."""
        if self.extended is not None:
            self.journal.append("extended", trials=self.extended.budget.trials)
            self.extended.save(self.run_dir)

    def _end_stuck(self, fault: str) -> None:
        """Ends this process, from another thread, where the main one waits for a Ray that has died."""
        if self.interrupted:
            say_interrupted(self.console, self.run_dir, flush=lambda: False)
        end_halted(self.run_dir, fault)

    def _refit(self, conductor: Conductor) -> bool:
        """Trains the winner again on train and val, if that is to be done; says whether it was interrupted."""
        views = Views(conductor, self.run_dir, self.manifest.gpus_of)
        try:
            refit_winner(self.run_dir, self.manifest, self.data, conductor, self.console, on_tick=views.refresh)
        except KeyboardInterrupt:
            conductor.on_interrupt("the refit was interrupted")
            return True
        except MachineError:
            if self.trackers is not None:
                self.trackers.close(timeout=30)
            raise
        return False

    def _warn(self, text: str) -> None:
        self.console.print(text, style="yellow", markup=False, soft_wrap=True)

    def _report(self) -> bool:
        """Writes the report on val, if it is wanted; says whether all went well."""
        return not self.options.report or report_on_val(self.run_dir, self.console, pictures=self.options.pictures)

    def _write_views(self, conductor: Conductor) -> None:
        Views(conductor, self.run_dir, self.manifest.gpus_of).write()

    def _answer(self, conductor: Conductor, *, reported: bool) -> int:
        return say_answer(self.run_dir, self.manifest, self.data, conductor, self.console, reported=reported)

    def _interrupted(self) -> int:
        return say_interrupted(self.console, self.run_dir, flush=self.trackers.close if self.trackers else None)
