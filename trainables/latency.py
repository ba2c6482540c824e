"""How long a model takes for one image, by a fixed protocol."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

LATENCY_WARM_UP = 2


LATENCY_REPEATS = (5, 30)


LATENCY_SECONDS = 1.0


def measure_latency(model: nn.Module, size: tuple[int, int], *, device: str = "cpu") -> float:
    """Median time of a forward pass in milliseconds.

    Protocol: one image of random numbers at the model's input size, float32, already on the device; one thread on the
    CPU; 2 passes to warm up; then at least 5 and at most 30 timed passes, until a second is over. On a GPU each pass
    is waited for.

    Args:
        model: Evaluated in evaluation mode.
        size: Height and width of the input.
        device: `cpu` or `cuda`; where the model is.
    """
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    wait: Callable[[], None] = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    seconds: list[float] = []
    model.eval()
    with one_thread(), torch.inference_mode():
        for _ in range(LATENCY_WARM_UP):
            model(image)
        least, most = LATENCY_REPEATS
        while len(seconds) < least or (len(seconds) < most and sum(seconds) < LATENCY_SECONDS):
            wait()
            start = time.perf_counter()
            model(image)
            wait()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch works on the CPU with one thread, and afterwards with as many as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
