"""One trial without Ray: built from a configuration, trained epoch by epoch, saved and resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables import checkpoint as checkpoints
from trainables.applied import Built, read_back, verify
from trainables.augmentations import Policy
from trainables.config import TrialConfig
from trainables.data.cache.decoded import DataCaches, DecodedCache, class_pixels
from trainables.data.cache.scan import band_statistics, image_sizes
from trainables.data.resizing import content_size
from trainables.data.tiles import tiles_per_epoch
from trainables.errors import DivergedError, InfeasibleError
from trainables.execution import Execution, TrialData
from trainables.feature_sets import feature_sets
from trainables.features import FeaturesOnce
from trainables.followers import Leader
from trainables.loaders import EvaluationSet, TrainingSet, loader_of, training_loader
from trainables.loops import evaluate, train_one_epoch
from trainables.losses import LOSSES
from trainables.memory import memory_is_enough_for
from trainables.metrics import PARAMS, ConfusionMatrix, Counts, ImageCounts, PerImageConfusion, class_metrics, summary
from trainables.models import build_for_bands, build_model
from trainables.models.bands import normalisation_of
from trainables.optimizers import OPTIMIZERS, SCHEDULES
from trainables.options import TILE, way_of
from trainables.plugins import used_by
from trainables.ranks import ALONE, Ranks, with_shared_statistics
from trainables.record import TrialRecord
from trainables.seeds import derived_seed
from trainables.updates import Updater, freeze, parameter_groups


class Trial:
    """A model in training, by one process or by several at once (`trainables.ranks`).

    Args:
        config: What to train.
        data: On what.
        trial_id: Identity in checkpoints.
        execution: How.
        caches: Decoded images of earlier trials in this process.
        ranks: Which of the processes that train it this is; None: the first, which starts the others.

    Raises:
        InfeasibleError: If a batch has fewer images than there are processes.
        RankDiedError: If one of them dies.
        WiringError: If what was built is not what the configuration asks for.
        WeightsError: If predefined weights cannot be obtained.
        MemoryExhaustedError: If the model does not fit.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: TrialData,
        *,
        trial_id: str = "trial",
        execution: Execution | None = None,
        caches: DataCaches | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        execution = execution or Execution()
        if ranks is None and execution.ranks > 1:
            another = partial(Trial, config, data, trial_id=trial_id, execution=execution)
            ranks = Leader(execution.ranks, execution.device, another)
        self.ranks = ranks or ALONE
        self.config = config
        self.data = data
        self.trial_id = trial_id
        self.device = torch.device(execution.device)
        self.precision = execution.precision
        self.history: list[dict[str, Any]] = []
        self.val_counts: ImageCounts | None = None
        with self.ranks.together():
            self._build(execution, caches or DataCaches())

    def _build(self, execution: Execution, caches: DataCaches) -> None:
        config, data = self.config, self.data
        torch.set_num_threads(execution.threads)
        cache = caches.get(data.data, config.image_size, limit_bytes=execution.cache_bytes, resize=config.resize)
        cache.build(data.train, data.val)
        with memory_is_enough_for(config):
            self._build_model(torch.channels_last if execution.channels_last else torch.contiguous_format)
            self._build_data(cache, execution)
            self._build_updates()
            self.applied = read_back(self.built())
        verify(config, self.built(), self.applied)
        self.applied["features_once"] = self.features is not None
        if execution.compile:
            self.model.compile()
            self.applied["compile"] = True

    def _build_model(self, layout: torch.memory_format) -> None:
        config = self.config
        torch.manual_seed(derived_seed("model", config.seed))
        data = self.data.data
        classes = [info.name for info in data.classes]
        if data.bands is None:
            self.model = build_model(config.model.name, classes, **config.model.params).to(self.device)
        else:
            self.model = build_for_bands(config.model.name, classes, data.bands, **config.model.params).to(self.device)
            seen = band_statistics(data, self.data.train)
            self.model.normalisation = normalisation_of(self.model.normalisation, data.bands, seen)
        self.model.to(memory_format=layout)
        if self.ranks.size > 1 and self.device.type == "cuda":
            self.model = with_shared_statistics(self.model)
        self.ranks.take_first(self.model.state_dict().values())
        freeze(self.model, config.training.freeze)
        self.loss = LOSSES.get(config.loss.name)(self._class_pixels, **config.loss.params).to(self.device)

    def _build_data(self, cache: DecodedCache, execution: Execution) -> None:
        config = self.config
        on_gpu, ranks = self.device.type == "cuda", self.ranks
        means = [round(255 * mean) for mean in self.model.normalisation["mean"]]
        hidden = None if self.data.data.bands is None else means
        void = self.data.data.void
        policy = Policy(config.augment, config.image_size, resize=config.resize, hidden=hidden, void=void)
        self.samples = TrainingSet(
            cache,
            self.data.train,
            policy,
            seed=config.seed,
            tiles=self._tiles(),
            class_tiles=config.training.class_tiles,
        )
        images, workers = EvaluationSet(cache, self.data.val), execution.workers
        self.features: FeaturesOnce | None = None
        if config.training.freeze == "backbone":
            limit = execution.cache_bytes
            kept = feature_sets(self.samples, images, self.model, precision=self.precision, limit_bytes=limit)
            if kept is not None:
                (self.samples, images), self.features = kept, kept[0].features
                workers = 0  # a process would take longer to start than all reading does
        self.train_loader, self.batches = training_loader(
            self.samples, batch_size=config.batch_size, workers=workers, pin_memory=on_gpu, own=ranks.own
        )
        if self.batches.batch_size < ranks.size:
            raise InfeasibleError(
                f"a batch of {self.batches.batch_size} has no image for each of {ranks.size} GPUs: raise batch_size, "
                "or train on fewer"
            )
        self.val_loader = loader_of(
            images,
            batch_size=math.ceil(config.batch_size / ranks.size),
            normalisation=self.model.normalisation,
            workers=workers,
            pin_memory=on_gpu,
            own=ranks.own,
        )

    def _tiles(self) -> list[int]:
        """How many samples an epoch draws from each image of train; empty where it is one from each."""
        tile, resize = self.config.image_size, self.config.resize
        if way_of(resize) != TILE:
            return []
        sizes = image_sizes(self.data.data, self.data.train)
        return [tiles_per_epoch(content_size(size, tile, resize), tile) for size in sizes]

    def _build_updates(self) -> None:
        config = self.config
        self.steps_per_epoch = math.ceil(len(self.batches) / config.training.accumulate)
        schedule = SCHEDULES.get(config.schedule.name)(config.epochs * self.steps_per_epoch, **config.schedule.params)
        groups = parameter_groups(
            self.model,
            lr=float(config.optimizer.params["lr"]),
            weight_decay=float(config.optimizer.params["weight_decay"]),
            backbone_lr=config.training.backbone_lr,
            decay_norms=config.training.decay_norms,
        )
        optimizer = OPTIMIZERS.get(config.optimizer.name)(groups, **config.optimizer.params)
        self.updater = Updater(
            self.model, optimizer, schedule, config.training, precision=self.precision, ranks=self.ranks
        )

    def built(self) -> Built:
        """What the trial trains with, as it is now."""
        return Built(
            model=self.model,
            loss=self.loss,
            updater=self.updater,
            samples=self.samples,
            train_loader=self.train_loader,
            val_loader=self.val_loader,
            device=self.device,
            steps_per_epoch=self.steps_per_epoch,
        )

    def _class_pixels(self) -> torch.Tensor:
        return torch.as_tensor(class_pixels(self.data.data, self.data.train))

    @property
    def epoch(self) -> int:
        """Epochs trained."""
        return int(self.history[-1]["epoch"]) if self.history else 0

    @property
    def done(self) -> bool:
        """Whether the full budget is trained."""
        return self.epoch >= self.config.epochs

    def run_epoch(self) -> dict[str, Any]:
        """Trains and validates one epoch; without images of val it only trains.

        Returns:
            `epoch` (from 1), `seconds` and `metrics` (`train/...`, `val/...`).

        Raises:
            DivergedError: If loss, outputs or metrics are not finite.
            MemoryExhaustedError: If a step does not fit into memory.
            RankDiedError: If a process that trains with this one dies.
        """
        started = time.perf_counter()
        epoch = self.epoch + 1
        passes = self.ranks.everywhere(Trial._train_and_validate, self, epoch)
        trained, counted = passes[0][0], _of_all([counted for _, counted in passes])
        if isinstance(counted, ImageCounts):
            self.val_counts, counted = counted if self.data.val else None, counted.sum(axis=0)
        metrics = {**trained, **(self._reported(counted) if self.data.val else {})}
        bad = [name for name, value in metrics.items() if not np.isfinite(value)]
        if bad:
            raise DivergedError(f"{', '.join(bad)} not finite after epoch {epoch}")
        entry = {"epoch": epoch, "seconds": time.perf_counter() - started, "metrics": metrics}
        self.history.append(entry)
        return entry

    def _train_and_validate(self, epoch: int) -> tuple[dict[str, float], Counts | ImageCounts]:
        """What this rank does in an epoch: its part of each batch, and of the images of val.

        Returns:
            `train/...`, and what it counted on its images; in the last epoch, on each.
        """
        rank = self.ranks.rank
        torch.manual_seed(derived_seed("epoch", self.config.seed, epoch, *((rank,) if rank else ())))
        self.batches.epoch = epoch
        last = epoch >= self.config.epochs
        val = (PerImageConfusion if last else ConfusionMatrix)(len(self.data.data.classes))
        with memory_is_enough_for(self.config):
            trained = train_one_epoch(
                self.model,
                self.train_loader,
                loss=self.loss,
                updater=self.updater,
                aux_weight=self.model.aux_weight,
                normalisation=self.model.normalisation,
                device=self.device,
            )
            for module in dict.fromkeys((self.model, self.updater.evaluated)):
                self.ranks.take_first(module.state_dict().values())  # on a CPU, BatchNorm's statistics differ
            if self.data.val:
                evaluate(
                    self.updater.evaluated,
                    self.val_loader,
                    [val],
                    device=self.device,
                    precision=self.precision,
                )
        return trained, val.value()

    def _reported(self, matrix: Counts) -> dict[str, float]:
        """What a trial tells of its model as it is: on val by a confusion matrix of shape (C, C), and of its size."""
        asked = self.data.reported
        found = summary(matrix, class_metrics(asked, [info.name for info in self.data.data.classes]))
        return found | ({PARAMS.name: float(self.parameters)} if PARAMS.name in asked else {})

    @property
    def parameters(self) -> int:
        """Of the model, as it was built."""
        return int(self.applied["model"]["parameters"])

    def record(self, *, label: str = "") -> TrialRecord:
        """What the trial is and how far it came."""
        return TrialRecord(
            trial_id=self.trial_id,
            label=label,
            config=self.config,
            classes=tuple(self.data.data.classes),
            normalisation=self.model.normalisation,
            history=tuple(self.history),
            applied=self.applied,
            parameters=self.parameters,
            plugins=tuple(
                {"name": plugin.name, "sha256": plugin.sha256} for plugin in used_by(self.config.components())
            ),
        )

    def save(self, folder: Path) -> Path:
        """Writes a checkpoint of the last epoch into `folder`.

        The optimizer's state goes with it only while there is more to do, and what the model did on each image of val
        once there is not.
        """
        return checkpoints.save_checkpoint(
            folder,
            epoch=self.epoch,
            model=self.updater.evaluated,
            updater=None if self.done else self.updater,
            record=self.record(),
            val_counts=self.val_counts,
        )

    def restore(self, checkpoint: Path) -> None:
        """Goes on where a checkpoint of the same configuration and data ended.

        Raises:
            CheckpointError: If it is torn, or of another configuration or other data; a trial of one process is as it
                was.
        """
        self.ranks.everywhere(Trial._restore, self, checkpoint)

    def _restore(self, checkpoint: Path) -> None:
        record = checkpoints.restore_checkpoint(checkpoint, expected=self.record(), updater=self.updater)
        self.history = [dict(entry) for entry in record.history]

    def close(self) -> None:
        """Ends the processes that train with this one."""
        self.ranks.close()


def _of_all(parts: Sequence[Counts | ImageCounts]) -> Counts | ImageCounts:
    """What ranks counted on their images of val, as one would have counted it."""
    images = [part for part in parts if isinstance(part, ImageCounts)]
    return ImageCounts.dealt(images) if images else np.sum(parts, axis=0)
