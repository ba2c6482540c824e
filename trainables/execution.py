"""How and on which images a trial is run: what is neither its configuration nor its resources."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.data.base import SegmentationData
from trainables.errors import UsageError
from trainables.options import PRECISIONS
from trainables.places import DEFAULT_LIMIT_BYTES
from trainables.plugins import TakesPluginsAlong


@dataclass(frozen=True)
class TrialData(TakesPluginsAlong):
    """The data set and the image ids that a trial may see, and what it tells of them.

    Attributes:
        data: The data set.
        train: Ids to train on.
        val: Ids to validate on; test ids are never among them.
        reported: What trials report beside the metrics of all classes: `val/iou[person]`, `params`. Others are passed
            over.
    """

    data: SegmentationData
    train: tuple[str, ...]
    val: tuple[str, ...]
    reported: tuple[str, ...] = ()


@dataclass(frozen=True)
class Execution:
    """How a trial is run, the same for all trials of a sweep.

    Attributes:
        device: `cpu` or `cuda`.
        threads: Threads of torch on the CPU, at least 1; the last digits depend on it.
        workers: Loader processes; 0 loads in the training process.
        ranks: Processes that train a trial together, each on a GPU of its own; threads and workers are those of each.
        precision: `fp32`, `bf16`, or `fp16` with a loss scaler (CUDA only).
        channels_last: Whether convolutions work on images laid out channels last in memory; faster almost everywhere.
        compile: Whether `torch.compile` compiles the model.
        cache_bytes: Most that decoded images may take in the cache folder, in bytes.

    Raises:
        UsageError: Listing what is out of range or cannot be combined.
    """

    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    precision: str = "fp32"
    channels_last: bool = True
    compile: bool = False
    cache_bytes: int = DEFAULT_LIMIT_BYTES
    ranks: int = 1

    @property
    def is_possible_here(self) -> bool:
        """Whether this machine has such a device, and as many as a trial trains on."""
        if not self.device.startswith("cuda"):
            return True
        import torch

        return torch.cuda.device_count() >= self.ranks

    def __post_init__(self) -> None:
        faults = []
        if self.threads < 1:
            faults.append(f"threads must be at least 1, not {self.threads}")
        if self.workers < 0:
            faults.append(f"workers must be at least 0 (no loader processes), not {self.workers}")
        if self.precision not in PRECISIONS:
            faults.append(f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if self.precision == "fp16" and not self.device.startswith("cuda"):
            faults.append("precision fp16 needs a GPU: its small range needs a loss scaler; use bf16 or fp32")
        if self.ranks < 1:
            faults.append(f"ranks must be at least 1, not {self.ranks}")
        if self.ranks > 1 and self.device not in ("cpu", "cuda"):
            faults.append(f"device {self.device} is one GPU, and {self.ranks} processes are to train: take device cuda")
        if faults:
            raise UsageError("\n".join(faults))
