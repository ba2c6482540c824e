"""The bridge to Ray Tune, and the only file here that imports Ray.

Durability does not rest on Tune: a trial writes its own whole-or-not-there checkpoints into the run folder and, when
it is started again, first repeats the results that are not in the sweep's journal. Tune's own save and load work too.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import shutil
import traceback
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from trainables.allocator import keep_freed_memory, return_freed_memory
from trainables.carried import Keeper, packed, unpacked
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint, read_record
from trainables.config import TrialConfig
from trainables.data.cache.decoded import DataCaches
from trainables.errors import DataError, DivergedError, InfeasibleError, ProcessDiedError, SegsweepError
from trainables.execution import Execution, TrialData
from trainables.machine_faults import machine_fault
from trainables.node import NodeOrder, place_when_ready
from trainables.places import cache_root
from trainables.redact import RedactingFormatter, redacted

if TYPE_CHECKING:
    from trainables.trial import Trial

LOGS = "logs"
_CACHE_LOG = logging.getLogger("segsweep.cache")
"""Of the decoded images; what it has to say goes to the trial that asked for them."""


class SegmentationTrainable(tune.Trainable):
    """One epoch a step.

    Tune's configuration of a trial holds `trial_id`, `config` (flat keys) and `reported` (epochs whose results the
    journal already has). A step's result holds `epoch`, `seconds` and `metrics`; or `infeasible` or `failed` with the
    reason, and then the trial is done; or `machine` with what is to be mended before it can go on. Only the death of
    the worker, or of a process that loads images or trains with it, is left to Tune, and then the trial is handed out
    again.
    """

    def setup(
        self,
        config: dict[str, Any],
        *,
        data: TrialData,
        run_dir: str,
        execution: Execution,
        order: NodeOrder | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """Builds the first trial of this actor.

        Args:
            config: See the class.
            data: What trials see.
            run_dir: Of the run, absolute.
            execution: Of every trial.
            order: On a cluster, what this node was to get ready.
            keeper: On a cluster, who writes into the run folder where this node does not see it.
        """
        self._data = data
        self._run_dir = Path(run_dir)
        self._execution = execution
        self._order, self._keeper = order, keeper
        self._told = 0  # bytes of the log that the keeper has
        self._caches = DataCaches()
        keep_freed_memory()
        if execution.device == "cuda":
            _cap_gpu_memory()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Reuses the actor for another trial; nothing of the last one stays but decoded images."""
        self._end()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Repeats a result that is not in the sweep's journal, or trains one epoch."""
        if self._died is not None:
            raise self._died
        if self._failure is not None:
            return {**self._failure, "done": True}
        if self._unreported:
            entry = self._unreported.popleft()
            return self._result(entry)
        if self._trial is None or self._trial.done:
            return {"failed": "nothing left to train", "epoch": self._epochs, "done": True}
        try:
            entry = self._trial.run_epoch()
            self._trial.save(self._folder)
            result = self._result(entry)
            self._bring()
        except ProcessDiedError:
            raise
        except Exception as error:
            return self._failed(error)
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the trial's checkpoint into Tune's folder."""
        if self._trial is not None:
            self._trial.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: str | None) -> None:
        """Goes on from Tune's folder."""
        whole = latest_checkpoint(Path(checkpoint)) if checkpoint else None
        if whole is not None and self._trial is not None:
            self._trial.restore(whole)
            self._unreported.clear()

    def cleanup(self) -> None:
        """Frees the trial."""
        self._end()

    def _begin(self, config: Mapping[str, Any]) -> None:
        from trainables.trial import Trial  # loads torch, which the sweep's driver has no use for

        self._trial: Trial | None = None
        self._died: ProcessDiedError | None = None
        self._failure: dict[str, Any] | None = None
        self._unreported: deque[dict[str, Any]] = deque()
        self._trial_id = str(config["trial_id"])
        self._log = _log_of(self._trial_id)
        self._epochs = 0
        try:
            self._settle()
            self._folder = self._run_dir / CHECKPOINTS / self._trial_id
            self._fetch()
            _write_to(self._log, self._log_file)
            asked = TrialConfig.from_flat(config["config"])
            self._epochs = asked.epochs
            checkpoint = latest_checkpoint(self._folder)
            if checkpoint is not None:
                history = read_record(checkpoint).history
                self._unreported.extend(dict(entry) for entry in history if entry["epoch"] > config["reported"])
                self._log.info("goes on after epoch %d", history[-1]["epoch"])
                if history[-1]["epoch"] >= asked.epochs:
                    return
            self._trial = Trial(
                asked, self._data, trial_id=self._trial_id, execution=self._execution, caches=self._caches
            )
            if checkpoint is not None:
                self._trial.restore(checkpoint)
            self._log.info("config %s", asked.flat())
            self._log.info("applied %s", self._trial.applied)
        except ProcessDiedError as error:
            self._died = error
        except Exception as error:
            self._failure = self._failed(error)

    def _settle(self) -> None:
        """On a cluster: takes data and folders as this node has them, once."""
        if self._order is None:
            return
        node = ray.get_runtime_context().get_node_id()
        self._data, own = place_when_ready(self._order, node, self._data)
        self._order, self._run_dir = None, own or self._run_dir
        self._keeper = None if own is None else self._keeper

    def _fetch(self) -> None:
        """Where the run folder is elsewhere: begins with the checkpoint that is there, whatever is left here."""
        self._told = 0
        if self._keeper is None:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._log_file.unlink(missing_ok=True)
        checkpoint = self._keeper.fetch(self._trial_id)
        if checkpoint is not None:
            unpacked(checkpoint, self._folder)

    def _bring(self) -> None:
        """Where the run folder is elsewhere: the new checkpoint is there before its result is told.

        Raises:
            DataError: If it cannot be brought there.
        """
        if self._keeper is None:
            return
        checkpoint = packed(self._folder)
        try:
            if checkpoint is not None:
                self._keeper.store(self._trial_id, checkpoint)
            self._bring_log()
        except Exception as error:
            told = f"the checkpoint of {self._trial_id} cannot be brought to the run folder"
            raise DataError(f"{told}: {' '.join(str(error).split())[-300:]}") from error

    def _bring_log(self) -> None:
        if self._keeper is not None and self._log_file.is_file():
            with self._log_file.open("rb") as file:
                file.seek(self._told)
                lines = file.read()
            self._keeper.log(self._trial_id, lines)
            self._told += len(lines)

    @property
    def _log_file(self) -> Path:
        return self._run_dir / LOGS / f"{self._trial_id}.log"

    def _end(self) -> None:
        self._close_trial()
        for handler in list(self._log.handlers):
            handler.close()
            for log in (self._log, _CACHE_LOG):
                log.removeHandler(handler)
        if self._keeper is not None and self._order is None:
            with contextlib.suppress(Exception):  # what the trial came to is told already
                self._bring_log()
            shutil.rmtree(self._run_dir / CHECKPOINTS / self._trial_id, ignore_errors=True)
        import torch

        gc.collect()
        return_freed_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _result(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        self._log.info("epoch %d: %s", entry["epoch"], {k: round(v, 5) for k, v in entry["metrics"].items()})
        done = entry["epoch"] >= self._epochs
        return {"epoch": entry["epoch"], "seconds": entry["seconds"], "metrics": entry["metrics"], "done": done}

    def _failed(self, error: Exception) -> dict[str, Any]:
        """What an error means: for the machine, for the configuration, or for nobody knows what."""
        if isinstance(error, InfeasibleError):
            return self._give_up("infeasible", _reason(error))
        fault = machine_fault(error, (self._data.data.root, self._run_dir, cache_root()))
        if fault:
            return self._give_up("machine", fault)
        if isinstance(error, SegsweepError):
            return self._give_up("failed", str(error))
        self._log.error("unexpected error:\n%s", "".join(traceback.format_exception(error)))
        return self._give_up("failed", f"{type(error).__name__}: {error}")

    def _give_up(self, state: str, reason: str) -> dict[str, Any]:
        epoch, reason = self._trial.epoch if self._trial is not None else 0, redacted(reason)
        self._log.error("%s: %s", state, reason)
        self._close_trial()  # what it holds of the memory may be what is missing
        return {state: reason, "epoch": epoch, "done": True}

    def _close_trial(self) -> None:
        if self._trial is not None:
            self._trial.close()
        self._trial = None


def _reason(error: InfeasibleError) -> str:
    return f"diverged: {error}" if isinstance(error, DivergedError) else str(error)


def _log_of(trial_id: str) -> logging.Logger:
    log = logging.getLogger(f"segsweep.trial.{trial_id}")
    log.setLevel(logging.INFO)
    log.propagate = False
    for old in list(log.handlers):
        log.removeHandler(old)
    return log


def _write_to(log: logging.Logger, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s"))
    for target in (log, _CACHE_LOG):
        target.addHandler(handler)


def _cap_gpu_memory() -> None:
    """Holds a trial to its share of a GPU: Ray's fractions are bookkeeping, not isolation."""
    import torch

    share = ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0)
    if 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(float(share))
