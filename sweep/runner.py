"""Runs a conductor's tasks on Ray Tune. Tune places trials and restarts dead workers; every decision is ours."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

# Read by Ray when it is imported or started.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ.setdefault("RAY_DEDUP_LOGS", "1")

import ray
from ray import tune
from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweep.conductor import Conductor, Task
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint
from trainables.errors import SegsweepError, UsageError
from trainables.flags import default_precision, default_workers
from trainables.trainable import SegmentationTrainable
from trainables.trial import Execution, TrialData

RESTARTS = 2
"""Times a trial is started again after its worker died (killed for memory, node lost)."""


@dataclass(frozen=True)
class Resources:
    """What each trial gets, and how many run at once."""

    cpus_per_trial: float
    gpus_per_trial: float
    concurrent: int


class Interrupted(BaseException):
    """The sweep was ended from outside; everything up to the running epochs is kept.

    No `Exception`: Tune would wait for the running epochs before letting it pass.
    """


@dataclass(frozen=True)
class Dashboard:
    """Where the Ray dashboard is, or why it is not."""

    url: str | None


@contextlib.contextmanager
def ray_session(*, address: str | None, dashboard: bool, cpus: int, gpus: int) -> Iterator[Dashboard]:
    """Starts Ray on this machine, or joins a cluster, and leaves nothing behind.

    Args:
        address: Of a running cluster; None starts Ray here, on loopback as far as Ray allows, its token on.
        dashboard: Whether to serve the Ray dashboard.
        cpus: Processors that a local Ray may use.
        gpus: GPUs that a local Ray may use.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address is None:
        options |= {
            "address": "local",
            "num_cpus": cpus,
            "num_gpus": gpus,
            "include_dashboard": dashboard,
            "dashboard_host": "127.0.0.1",
            "object_store_memory": 200 * 2**20,  # only paths and results travel
        }
        if os.environ.get("RAY_TMPDIR"):
            options["_temp_dir"] = os.environ["RAY_TMPDIR"]
    else:
        options["address"] = address
    for name in ("ray.tune", "ray.air", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the journal tells what they would
    try:
        context = ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"the cluster at {address} does not answer" if address else "Ray does not start on this machine"
        raise SegsweepError(f"{where}: {error}") from error
    try:
        url = context.dashboard_url
        yield Dashboard(f"http://{url}" if url else None)
    finally:
        ray.shutdown()


def available(address: str | None) -> tuple[int, int]:
    """Usable processors and GPUs: of this machine, or of the joined cluster.

    Args:
        address: None for this machine.
    """
    if address is not None:
        resources = ray.cluster_resources()
        return int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cpus, torch.cuda.device_count()


def plan_resources(
    *, cpus: int, gpus: int, cpus_per_trial: float | None, gpus_per_trial: float | None, concurrent: int | None
) -> Resources:
    """Fills in what was not asked for and refuses what the machine does not have.

    Raises:
        UsageError: If a trial asks for more than there is: Tune would wait for ever.
    """
    if gpus_per_trial is None:
        gpus_per_trial = 1.0 if gpus else 0.0
    by_gpu = int(gpus / gpus_per_trial) if gpus_per_trial else None
    if cpus_per_trial is None:
        cpus_per_trial = float(max(1, cpus // by_gpu)) if by_gpu else 1.0
    faults = []
    if cpus_per_trial <= 0:
        faults.append("--cpus-per-trial must be above 0")
    if gpus_per_trial < 0:
        faults.append("--gpus-per-trial cannot be negative")
    if cpus_per_trial > cpus:
        faults.append(f"a trial asks for {cpus_per_trial:g} CPUs, there are {cpus}: lower --cpus-per-trial")
    if gpus_per_trial > gpus:
        cure = "lower --gpus-per-trial" if gpus else "leave --gpus-per-trial out to train on the CPU"
        faults.append(f"a trial asks for {gpus_per_trial:g} GPUs, there are {gpus}: {cure}")
    if gpus_per_trial > 1 and not float(gpus_per_trial).is_integer():
        faults.append(f"--gpus-per-trial {gpus_per_trial:g}: above 1 only whole GPUs can be given")
    if concurrent is not None and concurrent < 1:
        faults.append("--concurrent must be at least 1")
    if faults:
        raise UsageError("\n".join(faults))
    fits = int(cpus / cpus_per_trial)
    if by_gpu is not None:
        fits = min(fits, by_gpu)
    return Resources(cpus_per_trial, gpus_per_trial, min(concurrent or fits, fits))


def plan_execution(
    resources: Resources,
    *,
    precision: str | None,
    channels_last: bool,
    compile: bool,
    workers: int | None,
    cache_bytes: int,
) -> Execution:
    """How every trial of a sweep is run; fills in what was not asked for.

    Loader processes beside the trial's own leave its torch the other processors.

    Args:
        resources: Of a trial.
        precision: None: the best that the device computes in.
        channels_last: Memory layout of images.
        compile: Whether models are compiled.
        workers: Loader processes of a trial; None: what suits the device and the processors of the trial.
        cache_bytes: Limit of the decoded cache.

    Raises:
        UsageError: If the device cannot do it.
    """
    device = "cuda" if resources.gpus_per_trial > 0 else "cpu"
    cpus = max(1, int(resources.cpus_per_trial))
    loaders = min(default_workers(device), cpus - 1) if workers is None else workers
    return Execution(
        device=device,
        threads=max(1, cpus - loaders),
        workers=loaders,
        precision=precision or default_precision(device),
        channels_last=channels_last,
        compile=compile,
        cache_bytes=cache_bytes,
    )


def run(
    conductor: Conductor,
    *,
    data: TrialData,
    run_dir: Path,
    resources: Resources,
    execution: Execution,
    on_tick: Callable[[], None] = lambda: None,
) -> None:
    """Runs every task that the conductor hands out, until it has no more.

    Args:
        conductor: Begun.
        data: What trials see: train and val, never test.
        run_dir: The run's folder; trials write their checkpoints and logs there.
        resources: Per trial.
        execution: Of every trial.
        on_tick: Called often from the driver's loop; must be quick.

    Raises:
        Interrupted: On SIGINT or SIGTERM.
    """
    trainable = tune.with_resources(
        tune.with_parameters(SegmentationTrainable, data=data, run_dir=str(run_dir.resolve()), execution=execution),
        {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial},
    )
    signals = _Signals()
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Tasks(conductor, run_dir),
            scheduler=_Ears(conductor),
            num_samples=-1,
            max_concurrent_trials=resources.concurrent,
            reuse_actors=True,
            trial_dirname_creator=_dirname,
            trial_name_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run_dir.resolve()),
            callbacks=[_Events(conductor, signals, on_tick)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
            verbose=0,
        ),
    )
    # What Tune keeps there is of no use after a restart: the journal is the truth.
    shutil.rmtree(run_dir / "tune", ignore_errors=True)
    with signals:
        tuner.fit()
    signals.check()


class _Tasks(Searcher):
    """Hands the conductor's tasks to Tune."""

    def __init__(self, conductor: Conductor, run_dir: Path) -> None:
        super().__init__()
        self._conductor = conductor
        self._run_dir = run_dir

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        task = self._conductor.next()
        if task is None:
            return str(Searcher.FINISHED) if self._conductor.finished else None
        return {"trial_id": task.trial_id, "config": dict(task.config), "reported": self._seed_checkpoint(task)}

    def _seed_checkpoint(self, task: Task) -> int:
        """Gives a continuation its parent's checkpoint; without a whole one it trains from the beginning."""
        if task.parent is None:
            return task.reported
        own = self._run_dir / CHECKPOINTS / task.trial_id
        inherited = latest_checkpoint(self._run_dir / CHECKPOINTS / task.parent)
        if latest_checkpoint(own) is None and inherited is not None:
            own.mkdir(parents=True, exist_ok=True)
            temporary = own / f".{inherited.name}.inherited.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(inherited, temporary, copy_function=_link)
            temporary.rename(own / inherited.name)
        return task.reported

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """The scheduler hears results."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The scheduler hears ends."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher every few seconds; open files and the study stay out of it


class _Ears(FIFOScheduler):
    """Passes results to the conductor and its verdicts to Tune."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        stop = self._conductor.heard(trial.config["trial_id"], _unflattened(result))
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Events(Callback):
    """Hears last results, which Tune does not show to schedulers, and restarts."""

    def __init__(self, conductor: Conductor, signals: _Signals, on_tick: Callable[[], None]) -> None:
        self._conductor = conductor
        self._signals = signals
        self._on_tick = on_tick

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._signals.check()
        self._on_tick()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get("done"):
            self._conductor.heard(trial.config["trial_id"], result)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._conductor.restarted(trial.config["trial_id"], _last_words(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._conductor.lost(
            trial.config["trial_id"],
            f"its worker died {RESTARTS + 1} times ({_last_words(trial)}); "
            "if memory was short, lower --concurrent or batch_size",
        )

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Signals:
    """Remembers the first SIGINT or SIGTERM; it is raised at the driver's next turn: Ray's code bears no exceptions.

    After it, further ones are ignored: Ray is being taken down, which takes seconds and must not be cut short.
    """

    def __init__(self) -> None:
        self.caught: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._catch) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if self.caught is None else signal.SIG_IGN)

    def check(self) -> None:
        """Raises `Interrupted` if a signal came."""
        if self.caught is not None:
            raise Interrupted(self.caught)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = self.caught or signal.Signals(number).name


def _unflattened(result: dict[str, Any]) -> dict[str, Any]:
    prefix = "metrics/"
    metrics = {key.removeprefix(prefix): value for key, value in result.items() if key.startswith(prefix)}
    return {**result, "metrics": metrics}


def _last_words(trial: Any) -> str:
    """The last line of what Tune wrote down about a worker's death."""
    try:
        lines = Path(trial.local_path, "error.txt").read_text(encoding="utf-8").split("\n")
    except (OSError, TypeError):
        return "no reason known"
    return next((line.strip() for line in reversed(lines) if line.strip()), "no reason known")[:300]


def _dirname(trial: Any) -> str:
    return str(trial.config["trial_id"])


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
