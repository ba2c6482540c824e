"""The time per image: what is computed of the passes, when a model is timed again, and the process that times."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from trainables import latency
from trainables.latency import STEADY, TRIES, Latency, measure_latency, steadiest, time_models


def test_median_and_spread_are_those_of_the_timed_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = [4.0, 1.0, 2.0, 9.0, 3.0, 8.0, 5.0]
    clock = itertools.accumulate([value for one in passes for value in (100.0, one)])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(latency, "LATENCY_REPEATS", (len(passes), 30))
    seen = []

    class Spy(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append((tuple(image.shape), torch.get_num_threads(), self.training, torch.is_autocast_enabled("cpu")))
            return image

    found = measure_latency(Spy().train(), (24, 32))
    low, median, high = np.quantile(passes, (0.25, 0.5, 0.75))
    assert (found.ms, found.spread, found.device) == (median * 1000, (high - low) / median, "cpu")
    assert seen == [((1, 3, 24, 32), 1, False, False)] * (latency.LATENCY_WARM_UP + len(passes))


def test_pass_is_cast_to_the_precision() -> None:
    seen = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(image)
            seen.append(out.dtype)
            return out

    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        seen.clear()
        measure_latency(Spy(), (16, 16), precision=precision)
        assert set(seen) == {dtype}


@pytest.mark.parametrize(
    ("spreads", "measured", "kept"),
    [([0.1], 1, 0.1), ([STEADY], 1, STEADY), ([0.9, 0.1], 2, 0.1), ([0.5, 0.3, 0.4], TRIES, 0.3)],
)
def test_unsteady_time_is_measured_again_up_to_twice(spreads: list[float], measured: int, kept: float) -> None:
    found = [Latency(ms=10 * spread, spread=spread) for spread in spreads]
    waiting = list(found)
    assert steadiest(lambda: waiting.pop(0)) == next(one for one in found if one.spread == kept)
    assert len(found) - len(waiting) == measured


def test_models_are_timed_in_a_process_of_their_own_and_one_that_cannot_be_says_why() -> None:
    config = {
        "image_size": "32x48",
        "epochs": 1,
        "model.name": "lraspp_mobilenet_v3_small",
        "model.weights": "imagenet",
    }
    told: list[tuple[int, int]] = []
    sound, faulty = time_models(
        [config, {**config, "image_size": "1x1"}],
        3,
        device="cpu",
        precision="fp32",
        progress=lambda done, total: told.append((done, total)),
    )
    assert 0 < sound.ms < 5000 and sound.spread >= 0 and sound.device == "cpu" and not sound.fault
    assert math.isnan(faulty.ms) and "image_size" in faulty.fault
    assert told == [(1, 2), (2, 2)]


def test_process_that_dies_is_a_fault_of_every_model_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    program = ["python3", "-c", "import sys; sys.exit('no room')"]
    monkeypatch.setattr(latency.commands, "subprocess_command", lambda *what: program)
    assert [one.fault for one in time_models([{}, {}], 3, device="cpu", precision="fp32")] == ["no room"] * 2
