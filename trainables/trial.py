"""One trial without Ray: built from a configuration, trained epoch by epoch, saved and resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables import checkpoint as checkpoints
from trainables.augmentations import Policy, verify_applied
from trainables.checkpoint import TrialRecord
from trainables.config import TrialConfig, format_size
from trainables.data.base import SegmentationData
from trainables.data.cache import DecodedCache, class_pixels
from trainables.errors import CheckpointError, DivergedError, WiringError
from trainables.losses import LOSSES
from trainables.metrics import ConfusionMatrix, summary
from trainables.models import build_model
from trainables.optimizers import OPTIMIZERS, SCHEDULES, applied_optimizer
from trainables.training import (
    CACHE_BYTES,
    IMAGENET_NORMALISATION,
    derived_seed,
    evaluate,
    evaluation_loader,
    train_one_epoch,
    training_loader,
)


@dataclass(frozen=True)
class TrialData:
    """The data set and the image ids that a trial may see; test ids are never among them."""

    data: SegmentationData
    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True)
class Execution:
    """How a trial is run; none of it changes what is trained on CPU, except that digits depend on `threads`.

    Attributes:
        device: `cpu` or `cuda`.
        threads: Threads of torch on the CPU.
        workers: Loader processes; 0 loads in the training process.
    """

    device: str = "cpu"
    threads: int = 1
    workers: int = 0


class DataCaches:
    """Decoded images, kept between the trials of one process."""

    def __init__(self) -> None:
        self._caches: dict[tuple[int, tuple[int, int]], DecodedCache] = {}

    def get(self, data: SegmentationData, size: tuple[int, int]) -> DecodedCache:
        """The cache of a data set at a size; made when first asked for."""
        key = (id(data), size)
        if key not in self._caches:
            self._caches.clear()  # one size at a time: a sweep rarely mixes them, memory is finite
            self._caches[key] = DecodedCache(data, size, limit_bytes=CACHE_BYTES)
        return self._caches[key]


class Trial:
    """A model in training.

    Args:
        config: What to train.
        data: On what.
        trial_id: Identity in checkpoints.
        execution: How.
        caches: Decoded images of earlier trials in this process.

    Raises:
        WiringError: If what was built is not what the configuration asks for.
        WeightsError: If predefined weights cannot be had.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: TrialData,
        *,
        trial_id: str = "trial",
        execution: Execution | None = None,
        caches: DataCaches | None = None,
    ) -> None:
        execution = execution or Execution()
        self.config = config
        self.data = data
        self.trial_id = trial_id
        self.device = torch.device(execution.device)
        torch.set_num_threads(execution.threads)
        torch.manual_seed(derived_seed("model", config.seed))
        self.model = build_model(config.model.name, [c.name for c in data.data.classes], **config.model.params).to(
            self.device
        )
        self.optimizer = OPTIMIZERS.get(config.optimizer.name)(self.model.parameters(), **config.optimizer.params)
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.policy = Policy(config.augment, config.image_size)
        cache = (caches or DataCaches()).get(data.data, config.image_size)
        self.train_loader, self.batches = training_loader(
            cache,
            data.train,
            self.policy,
            batch_size=config.batch_size,
            seed=config.seed,
            workers=execution.workers,
        )
        self.val_loader = evaluation_loader(cache, data.val, size=config.image_size, batch_size=config.batch_size)
        self.schedule = SCHEDULES.get(config.schedule.name)(config.epochs * len(self.batches), **config.schedule.params)
        self.loss = LOSSES.get(config.loss.name)(
            lambda: torch.as_tensor(class_pixels(data.data, data.train)), **config.loss.params
        )
        self.history: list[dict[str, Any]] = []
        self.applied = self._read_back()
        verify(config, self.applied, self.policy)

    @property
    def epoch(self) -> int:
        """Epochs trained."""
        return int(self.history[-1]["epoch"]) if self.history else 0

    @property
    def done(self) -> bool:
        """Whether the full budget is trained."""
        return self.epoch >= self.config.epochs

    def run_epoch(self) -> dict[str, Any]:
        """Trains and validates one epoch.

        Returns:
            `epoch` (from 1), `seconds` and `metrics` (`train/...`, `val/...`).

        Raises:
            DivergedError: If loss, outputs or metrics are not finite.
        """
        started = time.perf_counter()
        epoch = self.epoch + 1
        torch.manual_seed(derived_seed("epoch", self.config.seed, epoch))
        self.batches.epoch = epoch
        trained = train_one_epoch(
            self.model,
            self.train_loader,
            loss=self.loss,
            aux_weight=float(self.config.model.params.get("aux_weight", 0.0)),
            optimizer=self.optimizer,
            schedule=self.schedule,
            first_step=(epoch - 1) * len(self.batches),
            normalisation=IMAGENET_NORMALISATION,
            device=self.device,
        )
        matrix = ConfusionMatrix(len(self.data.data.classes))
        evaluate(self.model, self.val_loader, [matrix], device=self.device)
        metrics = {**trained, **summary(matrix.value(), prefix="val/")}
        bad = [name for name, value in metrics.items() if not np.isfinite(value)]
        if bad:
            raise DivergedError(f"{', '.join(bad)} not finite after epoch {epoch}")
        entry = {"epoch": epoch, "seconds": time.perf_counter() - started, "metrics": metrics}
        self.history.append(entry)
        return entry

    def record(self, *, label: str = "") -> TrialRecord:
        """What the trial is and how far it came."""
        return TrialRecord(
            trial_id=self.trial_id,
            label=label,
            config=self.config,
            classes=tuple(self.data.data.classes),
            normalisation=IMAGENET_NORMALISATION,
            history=tuple(self.history),
            applied=self.applied,
            parameters=int(self.applied["model"]["parameters"]),
        )

    def save(self, folder: Path) -> Path:
        """Writes a checkpoint of the last epoch into `folder`; the optimizer's state only while there is more to do."""
        return checkpoints.save_checkpoint(
            folder,
            epoch=self.epoch,
            model=self.model,
            optimizer=None if self.done else self.optimizer,
            record=self.record(),
        )

    def restore(self, checkpoint: Path) -> None:
        """Goes on where a checkpoint of the same configuration ended.

        Raises:
            CheckpointError: If it is torn or of another configuration.
        """
        record = checkpoints.restore_checkpoint(
            checkpoint, config=self.config, model=self.model, optimizer=self.optimizer
        )
        if record.classes != tuple(self.data.data.classes):
            raise CheckpointError(f"{checkpoint} was trained on other classes")
        self.history = [dict(entry) for entry in record.history]

    def _read_back(self) -> dict[str, Any]:
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        return {
            "model": {
                "class": type(self.model).__name__,
                "parameters": trained,
                "outputs": _output_channels(self.model, self.config.image_size, self.device),
            },
            "optimizer": applied_optimizer(self.optimizer),
            "loss": self.config.loss.name,
            "schedule": {
                "name": self.config.schedule.name,
                "steps": self.config.epochs * len(self.batches),
                "peak": max(self.schedule(step) for step in _sampled(self.config.epochs * len(self.batches))),
            },
            "augment": self.policy.applied(),
            "batch_size": self.batches.batch_size,
            "steps_per_epoch": len(self.batches),
            "image_size": format_size(self.config.image_size),
            "train_images": len(self.data.train),
            "val_images": len(self.data.val),
            "precision": str(next(self.model.parameters()).dtype).removeprefix("torch."),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
        }


def verify(config: TrialConfig, applied: Mapping[str, Any], policy: Policy) -> None:
    """Compares what was built with what was asked for.

    Raises:
        WiringError: Listing every difference.
    """
    faults: list[str] = []
    built = applied["optimizer"]
    for key, wanted in config.optimizer.params.items():
        if key in built and built[key] != wanted:
            faults.append(f"optimizer.{key}: asked for {wanted}, built {built[key]}")
        if key not in built:
            faults.append(f"optimizer.{key}: asked for {wanted}, the optimizer knows no {key}")
    expected_batch = min(config.batch_size, applied["train_images"])
    if applied["batch_size"] != expected_batch:
        faults.append(f"batch_size: asked for {expected_batch}, built {applied['batch_size']}")
    try:
        verify_applied(config.augment, policy)
    except WiringError as error:
        faults.append(str(error))
    if faults:
        raise WiringError("the trial does not train what its configuration says:\n  " + "\n  ".join(faults))


def _sampled(steps: int) -> Sequence[int]:
    return sorted({int(step) for step in np.linspace(0, steps - 1, num=min(steps, 200))})


@torch.no_grad()
def _output_channels(model: torch.nn.Module, size: tuple[int, int], device: torch.device) -> int:
    training = model.training
    model.eval()
    channels = int(model(torch.zeros(1, 3, *size, device=device))["out"].shape[1])
    model.train(training)
    return channels
