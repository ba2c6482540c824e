"""How and on which images a trial is run: what is neither its configuration nor its resources."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from trainables.config import TrialConfig, format_size
from trainables.data.base import SegmentationData
from trainables.data.cache.decoded import DecodedCache
from trainables.errors import MemoryExhaustedError, UsageError
from trainables.options import PRECISIONS
from trainables.places import DEFAULT_LIMIT_BYTES
from trainables.plugins import TakesPluginsAlong

_CUDA_EXHAUSTED = re.compile(r"CUDA error: out of memory|(?:CUBLAS|CUDNN)_STATUS_ALLOC_FAILED")
"""How CUDA and its libraries report it outside torch's allocator, without a `torch.OutOfMemoryError`."""


@dataclass(frozen=True)
class TrialData(TakesPluginsAlong):
    """The data set and the image ids that a trial may see; test ids are never among them."""

    data: SegmentationData
    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True)
class Execution:
    """How a trial is run, the same for all trials of a sweep.

    Attributes:
        device: `cpu` or `cuda`.
        threads: Threads of torch on the CPU, at least 1; the last digits depend on it.
        workers: Loader processes; 0 loads in the training process.
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
        if faults:
            raise UsageError("\n".join(faults))


class DataCaches:
    """Decoded images, kept between the trials of one process."""

    def __init__(self) -> None:
        self._caches: dict[tuple[int, tuple[int, int]], DecodedCache] = {}

    def get(self, data: SegmentationData, size: tuple[int, int], *, limit_bytes: int) -> DecodedCache:
        """The cache of a data set at a size; made when first asked for."""
        key = (id(data), size)
        if key not in self._caches:
            self._caches.clear()  # one size at a time: a sweep rarely mixes them
            self._caches[key] = DecodedCache(data, size, limit_bytes=limit_bytes)
        return self._caches[key]


@contextlib.contextmanager
def memory_is_enough_for(config: TrialConfig) -> Iterator[None]:
    """Turns running out of memory, on the GPU or the machine, into one error with the bytes asked for and a cure.

    Raises:
        MemoryExhaustedError: For torch's and NumPy's ways to say so.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        asked = _bytes_asked_for(error)
        if asked is None:
            raise
        on_gpu = isinstance(error, torch.OutOfMemoryError) or _CUDA_EXHAUSTED.search(str(error))
        where = "GPU" if on_gpu else "the machine's"
        share = ", or give each trial more of the GPU (--gpus-per-trial)" if where == "GPU" else ""
        raise MemoryExhaustedError(
            f"out of {where} memory{asked}: lower batch_size (now {config.batch_size}) or image_size (now "
            f"{format_size(config.image_size)}); training.accumulate=2 with half the batch_size takes as many images "
            f"per step{share}"
        ) from error


def _bytes_asked_for(error: BaseException) -> str | None:
    """The bytes that could not be allocated, as text to append (empty if unknown); None for another kind of error."""
    text = str(error)
    told = re.search(r"(?i)(?:tried|trying|unable) to allocate (\d[\d.]* ?(?:bytes|[KMGT]i?B))", text)
    if told:
        return f" ({told.group(1)} asked for)"
    untold = isinstance(error, torch.OutOfMemoryError | MemoryError) or _CUDA_EXHAUSTED.search(text)
    return "" if untold else None
