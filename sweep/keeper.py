"""Writes into the run folder for trials on machines that do not see it: an actor on the driver's own node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.carried import Carried, packed, unpacked
from trainables.checkpoint import CHECKPOINTS
from trainables.paths import check_name, within
from trainables.trainable import LOGS

ANSWER_SECONDS = 900.0
"""A trial that waits longer for a checkpoint to arrive gives up: the machine's fault."""


class RunFolder:
    """Checkpoints and logs of a run; the actor.

    Args:
        run_dir: Of the run.
    """

    def __init__(self, run_dir: str) -> None:
        self._run_dir = Path(run_dir)

    def fetch(self, trial_id: str) -> Carried | None:
        """See `trainables.carried.Keeper`."""
        return packed(within(self._run_dir, CHECKPOINTS, check_name(trial_id, "a trial")))

    def store(self, trial_id: str, checkpoint: Carried) -> None:
        """See `trainables.carried.Keeper`.

        Raises:
            CheckpointError: If it came torn, or cannot be written.
        """
        unpacked(checkpoint, within(self._run_dir, CHECKPOINTS, check_name(trial_id, "a trial")))

    def log(self, trial_id: str, lines: bytes) -> None:
        """See `trainables.carried.Keeper`."""
        path = within(self._run_dir, LOGS, f"{check_name(trial_id, 'a trial')}.log")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(lines)


class RemoteKeeper:
    """The actor as trials see it.

    Args:
        actor: Its handle.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    @classmethod
    def start(cls, run_dir: Path) -> RemoteKeeper:
        """Starts the actor on this machine, whose user must be able to write the run folder."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_restarts": 3, "max_task_retries": 3, "scheduling_strategy": here}
        return cls(ray.remote(RunFolder).options(**options).remote(str(run_dir)))

    def fetch(self, trial_id: str) -> Carried | None:
        """See `trainables.carried.Keeper`."""
        found: Carried | None = ray.get(self._actor.fetch.remote(trial_id), timeout=ANSWER_SECONDS)
        return found

    def store(self, trial_id: str, checkpoint: Carried) -> None:
        """See `trainables.carried.Keeper`."""
        ray.get(self._actor.store.remote(trial_id, checkpoint), timeout=ANSWER_SECONDS)

    def log(self, trial_id: str, lines: bytes) -> None:
        """See `trainables.carried.Keeper`."""
        ray.get(self._actor.log.remote(trial_id, lines), timeout=ANSWER_SECONDS)
