"""Running out of memory, told as one error with a cure."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from trainables.config import TrialConfig, format_size
from trainables.errors import MemoryExhaustedError

_CUDA_EXHAUSTED = re.compile(r"CUDA error: out of memory|(?:CUBLAS|CUDNN)_STATUS_ALLOC_FAILED")
"""How CUDA and its libraries report it outside torch's allocator, without a `torch.OutOfMemoryError`."""


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
