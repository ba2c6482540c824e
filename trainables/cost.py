"""What a trial costs on this machine: measured with a few batches, before a sweep is planned around it."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.allocator import return_freed_memory
from trainables.data.cache.scan import image_sizes
from trainables.data.resizing import content_size
from trainables.data.tiles import counted_tiles, window_count
from trainables.execution import Execution, TrialData
from trainables.options import TILE, scale_of, way_of

if TYPE_CHECKING:
    from trainables.ranks import Ranks
    from trainables.trial import Trial

SECONDS = 1.5
"""For which batches are trained once the first of them has warmed up; one more batch at least. A first one that took
longer than this four times over, and with which nothing started up, is the measurement: it is not worth another."""
BATCHES = 12
"""Most different batches that are measured with."""
BYTES_PER_PARAMETER = 12
"""Of a checkpoint in training: weights and two moments of AdamW in float32."""


@dataclass(frozen=True)
class Cost:
    """What one configuration costs.

    Attributes:
        build_seconds: To build the trial; on a GPU or with loader processes what its first batches take longer, too.
        train_seconds: Of the training part of an epoch, without validation.
        val_seconds: Of validating once, all windows of all images where they slide.
        memory_bytes: The most that a process of the trial held: of the machine's memory, or of the GPU's on a GPU.
        checkpoint_bytes: Of a checkpoint in training.
        once_seconds: To run a frozen backbone over all images, once for all trials of the model and size.
        device_bytes: What a trial may take of the GPU's memory: all that no other process held; 0 on the CPU.
        fault: Why the configuration cannot be trained here; empty if it can.
    """

    build_seconds: float = 0.0
    train_seconds: float = 0.0
    val_seconds: float = 0.0
    memory_bytes: int = 0
    checkpoint_bytes: int = 0
    once_seconds: float = 0.0
    device_bytes: int = 0
    fault: str = ""

    @property
    def epoch_seconds(self) -> float:
        """Of an epoch with its validation."""
        return self.train_seconds + self.val_seconds


def measure(config: Mapping[str, Any], data: TrialData, execution: Execution) -> Cost:
    """Trains a few batches of a configuration, validates one, and says what whole epochs would take.

    Args:
        config: Flat configuration.
        data: Train and val of the sweep; only as many images are read as a few batches need.
        execution: As of the sweep's trials.

    Raises:
        SegsweepError: If it cannot be trained: it is not a valid configuration, does not fit into the memory, or
            diverges at once.
    """
    from trainables.config import TrialConfig
    from trainables.trial import Trial

    # More steps are taken than a short trial on few images has: the schedule must not end before.
    asked = TrialConfig.from_flat({**config, "epochs": max(int(config["epochs"]), 2 * BATCHES)})
    samples, val, some = len(data.train), len(data.val), data.val[: asked.batch_size]
    if way_of(asked.resize) == TILE:
        of_train, of_val = (
            [content_size(one, asked.image_size, asked.resize) for one in image_sizes(data.data, ids)]
            for ids in (data.train, data.val)
        )
        samples = counted_tiles(of_train, asked.image_size)
        val = sum(window_count(size, asked.image_size) for size in of_val)
        some = data.val[(widest := max(range(len(of_val)), key=lambda i: of_val[i][1])) : widest + 1] if of_val else ()
    part = TrialData(data.data, data.train[: asked.batch_size * BATCHES], tuple(some))
    _forget_peak()
    started = time.perf_counter()
    with contextlib.closing(Trial(asked, part, execution=execution)) as trial:
        build = time.perf_counter() - started

        def train(seconds: float) -> float:
            """Seconds per batch."""
            return max(trial.ranks.everywhere(_train, trial, seconds))

        def validate() -> tuple[float, int]:
            """Seconds, and of how many images, or of windows where they slide: those of the slowest rank."""
            return max(trial.ranks.everywhere(_validate, trial))

        first_batch, (first_images, seen) = train(0.0), validate()
        per_batch, images = first_batch, first_images
        if first_batch < 4 * SECONDS or _starts_up(execution):
            per_batch, (images, seen) = train(SECONDS), validate()
        if _starts_up(execution):
            build += max(0.0, first_batch - per_batch) + max(0.0, first_images - images)
        held = trial.ranks.everywhere(_held, trial)
        return Cost(
            build_seconds=build,
            train_seconds=per_batch * max(1, samples // asked.batch_size),
            val_seconds=images / seen * math.ceil(val / trial.ranks.size),
            memory_bytes=max(memory for memory, _ in held),
            checkpoint_bytes=sum(parameter.numel() for parameter in trial.model.parameters()) * BYTES_PER_PARAMETER,
            once_seconds=max(once for _, once in held) * (len(data.train) + len(data.val)),
            device_bytes=_device_bytes(trial),
        )


def _train(trial: Trial, seconds: float) -> float:
    """Trains for some seconds, a batch at least; seconds per batch."""
    from trainables.loops import train_one_epoch

    trained: list[float] = []
    began = time.perf_counter()
    train_one_epoch(
        trial.model,
        _for_a_while(trial.train_loader, seconds, trained, trial.ranks),
        loss=trial.loss,
        updater=trial.updater,
        aux_weight=trial.model.aux_weight,
        normalisation=trial.model.normalisation,
        device=trial.device,
    )
    _wait_for(trial)
    return (time.perf_counter() - began) / len(trained)


def _validate(trial: Trial) -> tuple[float, int]:
    """Validates once; seconds, and images or windows that this rank saw, one at least."""
    from trainables.loops import evaluate
    from trainables.metrics import ConfusionMatrix

    row = _OneRow(trial.val_loader) if way_of(trial.config.resize) == TILE else None
    loader: Any = row or trial.val_loader
    began = time.perf_counter()
    matrix = ConfusionMatrix(len(trial.data.data.classes))
    evaluate(trial.updater.evaluated, loader, [matrix], device=trial.device, precision=trial.precision)
    _wait_for(trial)
    seen = row.windows if row else len(range(len(trial.data.val))[trial.ranks.own])
    return time.perf_counter() - began, max(1, seen)


def _held(trial: Trial) -> tuple[int, float]:
    """The most memory that this process held, and the seconds per image that a frozen backbone took in it."""
    return _peak_bytes(trial), trial.features.seconds_per_image if trial.features else 0.0


class _OneRow:
    """The images of a loader of whole ones, cut to one row of windows: of all an evaluation would take long.

    Attributes:
        windows: Of all of them.
    """

    def __init__(self, loader: Any) -> None:
        self.normalisation, self.resize = loader.normalisation, loader.resize
        self.size, self.at_once = loader.size, loader.at_once
        self._batches = [
            dataclasses.replace(
                batch,
                images=[image[: self.size[0]] for image in batch.images],
                masks=[mask[: round(self.size[0] / scale_of(self.resize))] for mask in batch.masks],
            )
            for batch in loader
        ]
        shapes = [image.shape[:2] for batch in self._batches for image in batch.images]
        self.windows = sum(window_count(shape, self.size) for shape in shapes)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


def _starts_up(execution: Execution) -> bool:
    """Whether the first batch waits for what happens once in a trial: a GPU is set up, loader processes start."""
    return execution.workers > 0 or execution.device.startswith("cuda")


def _for_a_while(batches: Any, seconds: float, trained: list[float], ranks: Ranks) -> Iterator[Any]:
    """Batches until some seconds are over, one at least; notes when each began."""
    began = time.perf_counter()
    for batch in batches:
        if trained and ranks.agree(time.perf_counter() - began >= seconds):
            return
        trained.append(time.perf_counter())
        yield batch


def _wait_for(trial: Trial) -> None:
    if trial.device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def _forget_peak() -> None:
    """Makes the peak of this process's memory its present use, where the system can do that.

    What torch keeps of the GPU for a trial that was measured before goes back: it would count for the next one.
    """
    import torch

    gc.collect()
    return_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_bytes(trial: Trial) -> int:
    if trial.device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved())
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _device_bytes(trial: Trial) -> int:
    if trial.device.type != "cuda":
        return 0
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved())
