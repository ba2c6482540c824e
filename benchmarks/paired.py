"""Timing two ways of doing the same, in turn and in one process, so that a busy machine slows both alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import torch
import torchvision


def seconds(work: Callable[[], object], *, device: str = "cpu") -> float:
    """Wall-clock seconds of one call; on a GPU until it has done the work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def compare(
    ours: Callable[[], object], rival: Callable[[], object], *, rounds: int, device: str = "cpu"
) -> tuple[float, float, float]:
    """Runs both in turn, after one unmeasured call each.

    Returns:
        Median seconds of ours and of the rival, and the median over rounds of rival / ours (above 1: ours is faster).
    """
    ours(), rival()
    pairs = []
    for number in range(rounds):
        # Each goes first in every other round: what the first leaves in the caches helps the second.
        if number % 2:
            other = seconds(rival, device=device)
            pairs.append((seconds(ours, device=device), other))
        else:
            pairs.append((seconds(ours, device=device), seconds(rival, device=device)))
    mine, others = (statistics.median(side) for side in zip(*pairs, strict=True))
    return mine, others, statistics.median(other / own for own, other in pairs)


def machine(device: str = "cpu") -> str:
    """Where it was measured, in a line."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, {versions}, CUDA {torch.version.cuda}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s), {versions}"
