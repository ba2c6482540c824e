"""What a trial costs: measured apart from the sweep, extrapolated to whole epochs, and told where it cannot be."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trainables import commands, cost, cost_apart
from trainables.config import TrialConfig
from trainables.cost import BYTES_PER_PARAMETER, Cost, measure
from trainables.cost_apart import measure_apart
from trainables.execution import Execution, TrialData
from trainables.models import build_model
from trainables.optimizers import SCHEDULES


def config(**changes: Any) -> dict[str, Any]:
    return TrialConfig.from_flat({"image_size": "32x32", "epochs": 2, "batch_size": 2, **changes}).flat()


def test_epochs_are_extrapolated_from_batches_and_images(mini_data: TrialData, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0  # every look at the clock takes a second
        return now[0]

    monkeypatch.setattr(cost.time, "perf_counter", clock)
    found = measure(config(), mini_data, Execution())
    # Five looks at the clock for one batch (before, loop begun, batch begun, time over, after): four seconds. Two for
    # the validation of two images: one second.
    assert found.train_seconds == pytest.approx(4.0 * (len(mini_data.train) // 2))
    assert found.val_seconds == pytest.approx(1.0 / 2 * len(mini_data.val))
    assert found.epoch_seconds == found.train_seconds + found.val_seconds


def test_tiles_and_windows_are_extrapolated_from_one_row_of_windows(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(cost.time, "perf_counter", clock)
    found = measure(config(resize="tile"), mini_data, Execution())
    # Images of 48x64 are three tiles of 32x32 each, and two rows of three windows that overlap by a quarter.
    assert found.train_seconds == pytest.approx(4.0 * (3 * len(mini_data.train) // 2))
    assert found.val_seconds == pytest.approx(1.0 / 3 * 6 * len(mini_data.val))


def test_what_starts_once_in_a_trial_is_not_taken_for_an_epochs_cost(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the first batch waited 21 s for loader processes, and an epoch of 1 s was planned with 867 s."""
    monkeypatch.setattr(cost, "SECONDS", 0.01)  # so that a first batch is long without loader processes, too
    monkeypatch.setattr("trainables.loaders.start_method", lambda: "spawn")
    found = measure(config(), mini_data, Execution(workers=1))
    batches = len(mini_data.train) // 2
    assert found.train_seconds / batches < 1.0 < found.build_seconds, "a process that loads torch takes seconds"


def test_trial_of_a_single_step_can_be_measured(mini_data: TrialData) -> None:
    few = dataclasses.replace(mini_data, train=mini_data.train[:2], val=mini_data.val[:1])
    for schedule in SCHEDULES:
        found = measure(config(epochs=1, batch_size=2, **{"schedule.name": schedule}), few, Execution())
        assert found.epoch_seconds > 0


def test_memory_and_checkpoint_are_those_of_the_model(mini_data: TrialData) -> None:
    found = measure(config(), mini_data, Execution())
    names = [info.name for info in mini_data.data.classes]
    model = build_model("lraspp_mobilenet_v3_large", names, weights="none")
    assert found.checkpoint_bytes == BYTES_PER_PARAMETER * sum(p.numel() for p in model.parameters())
    assert found.memory_bytes > found.checkpoint_bytes and not found.fault
    assert 0 < found.build_seconds < 60


def test_measuring_apart_keeps_the_order_and_tells_what_cannot_be_trained(
    mini_data: TrialData, mini_root: Path
) -> None:
    asked = [config(), config(**{"model.name": "lraspp_mobilenet_v3_small"}), {**config(), "optimizer.lr": -1.0}]
    done: list[tuple[int, int]] = []
    large, small, wrong = measure_apart(
        asked, mini_data, Execution(), at_once=2, root=mini_root, progress=lambda *told: done.append(told)
    )
    assert large.checkpoint_bytes > small.checkpoint_bytes > 0
    assert large.epoch_seconds > 0 and small.epoch_seconds > 0
    assert "invalid configuration" in wrong.fault
    assert done[-1] == (6, 6)
    assert measure_apart([], mini_data, Execution()) == []


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9: most likely it ran out of memory"),
        ("import sys; sys.stderr.write('no such library\\n'); sys.exit(3)", "no such library"),
    ],
)
def test_process_that_ends_is_a_fault_of_what_it_measured(
    mini_data: TrialData, mini_root: Path, monkeypatch: pytest.MonkeyPatch, program: str, told: str
) -> None:
    monkeypatch.setattr(commands, "subprocess_command", lambda *words: [sys.executable, "-c", program])
    first, second = measure_apart([config(), config()], mini_data, Execution(), root=mini_root)
    assert told in first.fault
    assert "not measured" in second.fault


COPY_DIES = """
import os, signal, sys
from trainables import cost_apart
def measured(order, number):
    if number:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit("no such library")
cost_apart._measure_turn = measured
sys.exit(cost_apart.main())
"""


@pytest.mark.skipif(not cost_apart.COPIES, reason="elsewhere nothing is copied")
def test_copy_that_ends_is_a_fault_of_what_it_measured(
    mini_data: TrialData, mini_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "subprocess_command", lambda *words: [sys.executable, "-c", COPY_DIES])
    first, second = measure_apart([config(), config()], mini_data, Execution(), at_once=2, root=mini_root)
    assert "no such library" in first.fault
    assert "signal 9: most likely it ran out of memory" in second.fault


WITHOUT_TORCH = """
import sys, types
from pathlib import Path
from trainables import cost_apart
sys.modules |= {name: types.ModuleType(name) for name in ("trainables.loops", "trainables.trial")}
Path(sys.argv[1], "loaded").touch()
cost_apart._measure_turn = lambda order, number: Path(sys.argv[1], f"measured {number}").touch()
sys.exit(cost_apart.main())
"""


@pytest.mark.parametrize("at_once", [1, 2])
def test_nothing_is_measured_before_what_is_done_meanwhile_is_over(
    mini_data: TrialData, mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)]
    monkeypatch.setattr(commands, "subprocess_command", lambda *words: command)

    def meanwhile() -> None:
        while not (tmp_path / "loaded").exists():
            time.sleep(0.05)
        time.sleep(0.3)
        assert not list(tmp_path.glob("measured*"))

    measure_apart([config()], mini_data, Execution(), at_once=at_once, root=mini_root, meanwhile=meanwhile)
    assert len(list(tmp_path.glob("measured*"))) == at_once


def test_several_measurements_of_one_configuration_are_their_mean_and_largest_memory() -> None:
    one, other = Cost(1.0, 10.0, 2.0, 100, 7), Cost(3.0, 20.0, 4.0, 300, 7)
    assert cost_apart._together([one, other]) == Cost(2.0, 15.0, 3.0, 300, 7)
    assert cost_apart._together([one, Cost(fault="too large")]).fault == "too large"
