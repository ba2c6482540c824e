"""How long a model takes for one image, by a fixed protocol.

Models that are compared by it are timed one after the other in a process of their own, while nothing else of ours runs
(`time_models`): what runs beside it would be measured as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables import commands, plugins
from trainables.errors import SegsweepError

if TYPE_CHECKING:
    from torch import nn

LATENCY_WARM_UP = 2
LATENCY_REPEATS = (5, 30)
LATENCY_SECONDS = 1.0
STEADY = 0.2
"""A spread above this says that something else kept the machine busy: the model is timed again."""
TRIES = 3
"""How often a model is timed at most; the steadiest time counts."""


@dataclass(frozen=True)
class Latency:
    """The time of a forward pass.

    Attributes:
        ms: Median of the passes, in milliseconds.
        spread: Distance of their quartiles, as a share of the median.
        device: `cpu`, or the GPU's name.
        fault: Why the model cannot be timed here; empty if it can.
    """

    ms: float = float("nan")
    spread: float = 0.0
    device: str = "cpu"
    fault: str = ""


def measure_latency(
    model: nn.Module, size: tuple[int, int], *, device: str = "cpu", precision: str = "fp32"
) -> Latency:
    """Times the forward pass of one image.

    Protocol: one image of random numbers at the model's input size, already on the device; one thread on the CPU; 2
    passes to warm up; then at least 5 and at most 30 timed passes, until a second is over. On a GPU each pass is waited
    for.

    Args:
        model: Evaluated in evaluation mode.
        size: Height and width of the input.
        device: `cpu` or `cuda`; where the model is.
        precision: `fp32`; or what the pass is cast to, `bf16` or `fp16`.
    """
    import torch

    from trainables.models.bands import input_channels
    from trainables.updates import DTYPES, autocast

    image = torch.randn(1, input_channels(model), *size, generator=torch.Generator().manual_seed(0)).to(device)
    on_gpu = device.startswith("cuda")
    wait: Callable[[], None] = torch.cuda.synchronize if on_gpu else (lambda: None)
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    model.eval()
    with one_thread(), torch.inference_mode(), autocast("cuda" if on_gpu else "cpu", DTYPES[precision]):
        return dataclasses.replace(time_calls(lambda: model(image), wait=wait), device=name)


def time_calls(call: Callable[[], object], *, wait: Callable[[], None] = lambda: None) -> Latency:
    """Times a call by the protocol of `measure_latency`: warm-up, 5 to 30 passes, until a second is over.

    Args:
        call: One forward pass.
        wait: Returns when what was begun before is done.
    """
    for _ in range(LATENCY_WARM_UP):
        call()
    seconds: list[float] = []
    least, most = LATENCY_REPEATS
    while len(seconds) < least or (len(seconds) < most and sum(seconds) < LATENCY_SECONDS):
        wait()
        start = time.perf_counter()
        call()
        wait()
        seconds.append(time.perf_counter() - start)
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Latency(median * 1000, (high - low) / median)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch works on the CPU with one thread, and afterwards with as many as before."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def steadiest(measure: Callable[[], Latency]) -> Latency:
    """Measures until the spread is at most `STEADY`, `TRIES` times at most; the measurement with the least spread."""
    found: list[Latency] = []
    while len(found) < TRIES and not (found and found[-1].spread <= STEADY):
        found.append(measure())
    return min(found, key=lambda one: one.spread)


def time_models(
    configs: Sequence[Mapping[str, Any]],
    classes: int,
    *,
    device: str,
    precision: str,
    channels: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> list[Latency]:
    """Times the model of each configuration, with random weights, one after the other in a process of its own.

    Args:
        configs: Flat configurations.
        classes: Of the data set.
        device: `cpu` or `cuda`.
        precision: See `measure_latency`.
        channels: Of the images.
        progress: Called with how many are timed, and of how many.
    """
    order = {"configs": [dict(one) for one in configs], "classes": classes, "device": device}
    order |= {"precision": precision, "channels": channels}
    command = commands.subprocess_command("trainables.latency", *plugins.flags())
    found: list[Latency] = []
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile("w+") as errors:
        stdin.write(json.dumps(order))
        stdin.seek(0)
        with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=errors, text=True) as helper:
            try:
                for line in helper.stdout or ():
                    found.append(Latency(**json.loads(line)))
                    if progress:
                        progress(len(found), len(configs))
            except BaseException:
                helper.kill()
                raise
        if len(found) < len(configs):
            errors.seek(0)
            told = errors.read().strip().splitlines()
            why = told[-1] if told else f"the process that times it ended with exit code {helper.returncode}"
            found += [Latency(fault=why)] * (len(configs) - len(found))
    return found


def _time(config: Mapping[str, Any], order: Mapping[str, Any]) -> Latency:
    from trainables.config import TrialConfig
    from trainables.data.bands import any_bands
    from trainables.models import build_for_bands, build_model

    asked = TrialConfig.from_flat(config)
    params = {**asked.model.params, "weights": "none"}  # which they are makes no difference to the time
    name, names = asked.model.name, [str(number) for number in range(order["classes"])]
    bands = any_bands(int(order["channels"]))
    model = build_model(name, names, **params) if bands is None else build_for_bands(name, names, bands, **params)
    if bands is not None:
        model.normalisation = {"mean": (0.0,) * bands.channels, "std": (1.0,) * bands.channels}
    model = model.to(order["device"])
    return steadiest(
        lambda: measure_latency(model, asked.image_size, device=order["device"], precision=order["precision"])
    )


def main() -> int:
    """Times what an order on the standard input asks for; prints one line of JSON per configuration."""
    plugins.load_given(sys.argv[1:])
    order = json.load(sys.stdin)
    for config in order["configs"]:
        try:
            latency = _time(config, order)
        except SegsweepError as error:
            latency = Latency(fault=" ".join(str(error).split()))
        except Exception as error:
            latency = Latency(fault=f"{type(error).__name__}: {error}")
        print(json.dumps(dataclasses.asdict(latency)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
