"""Timing two ways of doing the same, in turn and in one process, so that a busy machine slows both alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import torch
import torchvision


def seconds(
    work: Callable[[], object], *, device: str = "cpu", clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of one call by a clock, the wall's by default; on a GPU until it has done the work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    started = clock()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return clock() - started


def compare(
    ours: Callable[[], object],
    rival: Callable[[], object],
    *,
    rounds: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float, float]:
    """Runs both in turn, after one unmeasured call each.

    Args:
        ours: What is measured.
        rival: What it is compared with.
        rounds: Calls of each that count.
        device: Where they work.
        clock: What seconds are counted by: `time.process_time` counts those that this process got of a busy machine.

    Returns:
        Median seconds of ours and of the rival, and the median over rounds of rival / ours (above 1: ours is faster).
    """
    ours(), rival()
    pairs = []
    for number in range(rounds):
        # Each goes first in every other round: what the first leaves in the caches helps the second.
        if number % 2:
            other = seconds(rival, device=device, clock=clock)
            pairs.append((seconds(ours, device=device, clock=clock), other))
        else:
            mine = seconds(ours, device=device, clock=clock)
            pairs.append((mine, seconds(rival, device=device, clock=clock)))
    own_median, other_median = (statistics.median(side) for side in zip(*pairs, strict=True))
    return own_median, other_median, statistics.median(other / own for own, other in pairs)


def machine(device: str = "cpu") -> str:
    """Where it was measured, in a line."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, {versions}, CUDA {torch.version.cuda}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s), {versions}"
