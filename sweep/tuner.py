"""Runs a conductor's tasks on Ray Tune. Tune places trials and restarts dead workers; every decision is ours."""

from __future__ import annotations

import sweep.ray_environment  # noqa: F401

# isort: split
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweep.conductor import Conductor, Task
from sweep.keeper import RemoteKeeper
from sweep.kept_actors import actors_are_kept
from sweep.nodes import Nodes
from sweep.ray_session import Watch
from sweep.resources import Resources
from sweep.trials import GpusOf
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint
from trainables.execution import Execution, TrialData
from trainables.machine_faults import memory_kill, node_died, node_fault
from trainables.paths import within
from trainables.trainable import SegmentationTrainable


@dataclass(frozen=True)
class Cluster:
    """The cluster that trials run on: its nodes, ready, and who writes into the run folder for those apart from it."""

    nodes: Nodes
    keeper: RemoteKeeper


class Interrupted(BaseException):
    """The sweep was ended from outside; everything up to the running epochs is kept.

    No `Exception`: Tune would wait for the running epochs before letting it pass.
    """


class Halted(BaseException):
    """Something failed that is no configuration's fault; everything up to the running epochs is kept."""


def run_trials(
    conductor: Conductor,
    *,
    data: TrialData,
    run_dir: Path,
    resources: Resources,
    gpus: GpusOf,
    execution: Execution,
    watch: Watch,
    on_tick: Callable[[], None] = lambda: None,
    notice: Callable[[str], None] = lambda text: None,
    cluster: Cluster | None = None,
) -> None:
    """Runs every task that the conductor hands out, until it has no more.

    Args:
        conductor: Started.
        data: What trials see: train and val, never test.
        run_dir: The run's folder; trials write their checkpoints and logs there.
        resources: Per trial, and how many run at once.
        gpus: Of a trial, by its configuration.
        execution: Of every trial.
        watch: Over the Ray session.
        on_tick: Called often from the driver's loop; must be quick.
        notice: Says a line to the user; must be quick.
        cluster: Where trials run, unless on this machine alone.

    Raises:
        Interrupted: On SIGINT, SIGTERM or SIGHUP.
        Halted: Where the machine failed.
    """
    of_cluster = {} if cluster is None else {"order": cluster.nodes.order, "keeper": cluster.keeper}
    told = {"data": data, "run_dir": str(run_dir.resolve()), "execution": execution, **of_cluster}
    trainable = tune.with_resources(
        tune.with_parameters(SegmentationTrainable, **told),
        lambda config: {"CPU": resources.cpus_per_trial, "GPU": gpus(config["config"])},
    )
    signals = _Signals()
    queue = _Queue(gpus)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(conductor, run_dir, queue),
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
            callbacks=[_Callbacks(conductor, signals, watch, queue, on_tick, notice, cluster)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),  # the conductor hands such a trial out again,
            verbose=0,
        ),
    )
    with signals, actors_are_kept():
        tuner.fit()
    signals.check()
    if conductor.halted:
        raise Halted(conductor.halted)


class _Queue:
    """Keeps trials in turn that are given different parts of a GPU.

    Tune gives what a trial leaves of a GPU to the next one that fits, so that one that needs more would wait until
    no smaller one is left. No trial is handed out while one that needs more than the least has not begun.
    """

    def __init__(self, gpus: GpusOf) -> None:
        self._gpus = gpus
        self._least = math.inf
        self._waiting: set[str] = set()

    @property
    def is_held(self) -> bool:
        """Whether nothing is to be handed out now."""
        return bool(self._waiting)

    def add(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """A trial was handed out."""
        asked = self._gpus(config)
        self._least = min(self._least, asked)
        if asked > self._least:
            self._waiting.add(trial_id)

    def begun(self, trial_id: str) -> None:
        """A trial runs."""
        self._waiting.discard(trial_id)


class _Searcher(Searcher):
    """Hands the conductor's tasks to Tune."""

    def __init__(self, conductor: Conductor, run_dir: Path, queue: _Queue) -> None:
        super().__init__()
        self._conductor = conductor
        self._run_dir = run_dir
        self._queue = queue

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._queue.is_held:
            return None
        task = self._conductor.next()
        if task is None:
            return str(Searcher.FINISHED) if self._conductor.finished else None
        self._queue.add(task.trial_id, task.config)
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
    """Passes on last results, which Tune does not show to schedulers, and deaths of workers."""

    def __init__(
        self,
        conductor: Conductor,
        signals: _Signals,
        watch: Watch,
        queue: _Queue,
        on_tick: Callable[[], None],
        notice: Callable[[str], None],
        cluster: Cluster | None,
    ) -> None:
        self._cluster = cluster
        self._notice = notice
        self._conductor = conductor
        self._signals = signals
        self._watch = watch
        self._queue = queue
        self._on_tick = on_tick

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._signals.check()
        if (
            fault := self._conductor.halted
            or self._watch.told()
            or (self._cluster.nodes.look() if self._cluster else "")
        ):
            raise Halted(fault)
        self._on_tick()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get("done"):
            self._conductor.on_trial_result(trial.config["trial_id"], result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Tune's means of each metric, which nobody asks for, would be half of what a driver keeps of each trial.
        trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps = {}, {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._queue.begun(trial.config["trial_id"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial_id, text = trial.config["trial_id"], _error_text(trial)
        words = _last_words(text)
        self._queue.begun(trial_id)
        if (killed := memory_kill(text)) and not self._watch.told():
            self._conductor.on_memory_kill(trial_id, killed)
            if not self._conductor.halted:
                self._notice(f"{trial_id} was {killed}. It goes on after its last epoch.")
        elif self._cluster is not None and node_died(words) and not self._watch.told():
            self._conductor.on_node_death(trial_id, words)
        elif fault := self._watch.told() or node_fault(words):
            self._conductor.on_machine_fault(trial_id, fault)
        else:
            self._conductor.on_worker_death(trial_id, words)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Signals:
    """Remembers the first SIGINT, SIGTERM or SIGHUP, to be raised at the driver's next turn.

    Ray's compiled code cannot pass an exception on.

    After it, further ones are ignored: Ray is being taken down, which takes seconds and must not be cut short.
    """

    def __init__(self) -> None:
        self.caught: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            heard = [n for n in kinds if signal.getsignal(n) != signal.SIG_IGN]  # `nohup` ignores SIGHUP
            self._before = {n: signal.signal(n, self._catch) for n in heard}
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


def _error_text(trial: Any) -> str:
    """What Tune wrote down about a worker's death; empty where it wrote nothing."""
    try:
        return Path(trial.local_path, "error.txt").read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        return ""


def _last_words(text: str) -> str:
    """The last line about a worker's death."""
    return next((line.strip() for line in reversed(text.split("\n")) if line.strip()), "no reason known")[:300]


def _dirname(trial: Any) -> str:
    return str(trial.config["trial_id"])


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
