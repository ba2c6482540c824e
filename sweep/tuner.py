"""Runs a conductor's tasks on Ray Tune. Tune places trials and restarts dead workers; every decision is ours."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
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
from sweep.resources import Machines, Resources
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint
from trainables.commands import ROOT
from trainables.errors import SegsweepError
from trainables.execution import Execution, TrialData
from trainables.machine_faults import node_fault
from trainables.paths import within
from trainables.redact import redacted_words
from trainables.trainable import SegmentationTrainable

RESTARTS = 2
"""Times a trial is started again after its worker died (killed for memory, node lost)."""


class Interrupted(BaseException):
    """The sweep was ended from outside; everything up to the running epochs is kept.

    No `Exception`: Tune would wait for the running epochs before letting it pass.
    """


class Halted(BaseException):
    """Something failed that is no configuration's fault; everything up to the running epochs is kept."""


@dataclass(frozen=True)
class RaySession:
    """A Ray session.

    Attributes:
        url: Of the dashboard, or None.
        protected: Whether Ray asks for a token.
    """

    url: str | None
    protected: bool


@contextlib.contextmanager
def ray_session(*, address: str | None, dashboard: bool | None, machines: Machines) -> Iterator[RaySession]:
    """Starts Ray on this machine, or joins a cluster, and leaves nothing behind.

    Args:
        address: Of a running cluster; None starts Ray here, on loopback as far as Ray allows, its token on.
        dashboard: Whether to serve the Ray dashboard; None: where Ray's token protects it.
        machines: What a local Ray may use.

    Raises:
        SegsweepError: If Ray does not start or the cluster does not answer, or Ray is too old to be safe.
    """
    _refuse_old_ray(ray.__version__)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address is None:
        protected = token_asked_for(os.environ)
        options |= {
            "address": "local",
            "num_cpus": machines.cpus,
            "num_gpus": machines.gpus,
            "include_dashboard": protected if dashboard is None else dashboard,
            "dashboard_host": "127.0.0.1",
            "object_store_memory": 200 * 2**20,  # only paths and results travel
        }
        if os.environ.get("RAY_TMPDIR"):
            options["_temp_dir"] = os.environ["RAY_TMPDIR"]
    else:
        options["address"] = address
    for name in ("ray.tune", "ray.air", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the journal says what they would
    try:
        # Ray puts the current folder first on its workers' path, where a user's folder called `trainables`
        # would be imported in place of ours.
        with contextlib.chdir(ROOT), _command_line_without_secrets():
            context = ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"the cluster at {address} does not answer" if address else "Ray does not start on this machine"
        raise SegsweepError(f"{where}: {error}") from error
    try:
        url = f"http://{context.dashboard_url}" if context.dashboard_url else None
        if address is not None:
            protected = _asks_for_token(url)
            url = url if (protected if dashboard is None else dashboard) else None
        yield RaySession(url, protected)
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _command_line_without_secrets() -> Iterator[None]:
    """Ray tells its cluster the driver's command line, which the dashboard shows, and has no option for it."""
    entrypoint = ray._private.utils.get_entrypoint_name  # type: ignore[attr-defined]
    ray._private.utils.get_entrypoint_name = lambda: shlex.join(redacted_words(sys.argv))  # type: ignore[attr-defined]
    try:
        yield
    finally:
        ray._private.utils.get_entrypoint_name = entrypoint  # type: ignore[attr-defined]


def token_asked_for(environment: Mapping[str, str]) -> bool:
    """Whether a Ray that is started here asks for its token: yes, unless RAY_AUTH_MODE says otherwise."""
    return environment.get("RAY_AUTH_MODE", "token").lower() == "token"


def _asks_for_token(dashboard: str | None) -> bool:
    """Whether a cluster rejects clients without a token: its dashboard is asked without one.

    Without a dashboard to ask, a cluster that let this process in without a token does not ask for one.
    """
    if dashboard is not None:
        try:
            with urllib.request.urlopen(f"{dashboard}/api/version", timeout=5):
                return False
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                return True
        except OSError:
            pass
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def _refuse_old_ray(version: str) -> None:
    """Raises a SegsweepError for a Ray that lets anybody on the network run code: before 2.60 it asks for no token."""
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    if numbers < [2, 60]:
        raise SegsweepError(
            f"Ray {version} lets anybody who reaches this machine run code here: pip install --upgrade 'ray>=2.60'"
        )


def run_trials(
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
        conductor: Started.
        data: What trials see: train and val, never test.
        run_dir: The run's folder; trials write their checkpoints and logs there.
        resources: Per trial.
        execution: Of every trial.
        on_tick: Called often from the driver's loop; must be quick.

    Raises:
        Interrupted: On SIGINT or SIGTERM.
        Halted: Where the machine failed.
    """
    trainable = tune.with_resources(
        tune.with_parameters(SegmentationTrainable, data=data, run_dir=str(run_dir.resolve()), execution=execution),
        {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial},
    )
    signals = _Signals()
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(conductor, run_dir),
            scheduler=_Scheduler(conductor),
            num_samples=-1,
            max_concurrent_trials=resources.concurrent,
            reuse_actors=True,
            trial_dirname_creator=_dirname,
            trial_name_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            # A folder of its own for each start: what Tune kept before is of no use, the journal is the truth.
            name=f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}",
            storage_path=str(within(run_dir.resolve(), "tune")),
            callbacks=[_Callbacks(conductor, signals, on_tick)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
            verbose=0,
        ),
    )
    with signals:
        tuner.fit()
    signals.check()
    if conductor.halted:
        raise Halted(conductor.halted)


class _Searcher(Searcher):
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
        own = within(self._run_dir, CHECKPOINTS, task.trial_id)
        inherited = latest_checkpoint(self._run_dir / CHECKPOINTS / task.parent)
        if latest_checkpoint(own) is None and inherited is not None:
            own.mkdir(parents=True, exist_ok=True)
            temporary = own / f".{inherited.name}.{os.getpid()}.inherited.tmp"
            shutil.copytree(inherited, temporary, copy_function=_link)
            temporary.rename(own / inherited.name)
        return task.reported

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """The scheduler passes results on."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The scheduler passes ends on."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher every few seconds; open files and the study stay out of it


class _Scheduler(FIFOScheduler):
    """Passes results to the conductor and its verdicts to Tune."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        stop = self._conductor.on_trial_result(trial.config["trial_id"], _unflattened(result))
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Callbacks(Callback):
    """Passes on last results, which Tune does not show to schedulers, and restarts."""

    def __init__(self, conductor: Conductor, signals: _Signals, on_tick: Callable[[], None]) -> None:
        self._conductor = conductor
        self._signals = signals
        self._on_tick = on_tick

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._signals.check()
        if self._conductor.halted:
            raise Halted(self._conductor.halted)
        self._on_tick()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get("done"):
            self._conductor.on_trial_result(trial.config["trial_id"], result)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._conductor.on_trial_restart(trial.config["trial_id"], _last_words(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial_id, words = trial.config["trial_id"], _last_words(trial)
        if fault := node_fault(words):
            self._conductor.on_machine_fault(trial_id, fault)
            return
        self._conductor.on_trial_error(
            trial_id,
            f"its worker died {RESTARTS + 1} times ({words}); if memory was short, lower --concurrent or batch_size",
        )

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Signals:
    """Remembers the first SIGINT or SIGTERM, to be raised at the driver's next turn.

    Ray's compiled code cannot pass an exception on.

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
