"""How many trials run at once where the memory does not hold them all; what is measured for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from search_spaces import SPACES
from sweep import memory_room
from sweep.config import SweepConfig, from_command_line
from sweep.measuring import Meter
from sweep.per_trial import per_trial
from sweep.resources import Machines, Resources
from trainables.cost import Cost
from trainables.errors import UsageError
from trainables.execution import Execution

GIB = 2**30
MODELS = ["lraspp_mobilenet_v3_large"]


def ready(size: str) -> Any:
    """A sweep of one model at one size, as far as it counts here."""
    base = {"image_size": size, "model.name": MODELS[0], "model.weights": "none", "epochs": 5, "seed": 0}
    splits = SimpleNamespace(train=["a"], val=["b"])
    return SimpleNamespace(space=SPACES.get("lr")(MODELS, "none"), base=base, data=None, splits=splits)


class Measured:
    """A place where each trial holds so many bytes; notes how many were measured at once."""

    def __init__(self, cost: Cost) -> None:
        self.cost = cost
        self.at_once_of: list[int] = []
        self.threads: list[int] = []

    def at_once(self, trials: int) -> int:
        """All."""
        return trials

    def costs(
        self, configs: Sequence[Mapping[str, Any]], data: object, execution: Execution, *, at_once: int, **how: object
    ) -> list[Cost]:
        """The same for each."""
        self.at_once_of.append(at_once)
        self.threads.append(execution.threads)
        return [self.cost] * len(configs)


def asked(
    monkeypatch: pytest.MonkeyPatch, place: Any, *, size: str = "960x1280", cpus: int = 4, **flags: Any
) -> tuple[Meter, str]:
    """What `within_memory` answers on a machine of 24 GiB, and what it says."""
    monkeypatch.setattr(memory_room, "memory_bytes", lambda: 24 * GIB)
    config, machines = from_command_line([]), Machines(cpus, 0)
    assert isinstance(config, SweepConfig)
    config = dataclasses.replace(config, **flags)
    resources, execution = per_trial(config, machines, None)
    console = Console(record=True, width=200)
    meter = Meter(ready(size), resources, execution, None, console, place)
    return memory_room.within_memory(config, machines, meter), console.export_text()


@pytest.mark.parametrize(
    ("gib", "flags", "concurrent", "threads", "told"),
    [
        (10, {}, 2, 2, "4 trials at once would hold 40 GiB (10.0 each), and this machine has 24 GiB: 2 trials at once"),
        (14, {}, 1, 4, "one trial after the other"),
        (30, {}, 1, 4, "one trial after the other"),
        (14, {"cpus_per_trial": 2.0}, 1, 2, "one trial after the other"),
        (5, {}, 4, 1, ""),
        (5.8, {"concurrent": 4}, 4, 1, ""),
    ],
)
def test_as_many_trials_run_at_once_as_the_memory_holds(
    monkeypatch: pytest.MonkeyPatch, gib: float, flags: dict[str, Any], concurrent: int, threads: int, told: str
) -> None:
    place = Measured(Cost(0.1, 1.0, 0.1, int(gib * GIB)))
    meter, output = asked(monkeypatch, place, **flags)
    assert (meter.resources.concurrent, meter.execution.threads) == (concurrent, threads)
    assert told in output and bool(output.strip()) == bool(told)
    assert place.at_once_of == [1], "nothing is measured beside others before it is known that all fit"
    meter.costs([config for _, config in memory_room.probes(meter.ready.space, meter.ready.base)])
    measured_alone = concurrent == 1 and threads == place.threads[0]
    assert place.at_once_of == ([1] if measured_alone else [1, concurrent]), "what was measured alone counts"


def test_more_at_once_than_the_memory_holds_is_refused_where_the_user_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Measured(Cost(0.1, 1.0, 0.1, 14 * GIB))
    with pytest.raises(
        UsageError, match=r"--concurrent 2: so many trials would hold 28 GiB \(14.0 each\).* --concurrent 1, or"
    ):
        asked(monkeypatch, place, concurrent=2)


@pytest.mark.parametrize(
    ("size", "flags"), [("48x64", {}), ("960x1280", {"concurrent": 1}), ("960x1280", {"address": "auto"})]
)
def test_nothing_is_measured_for_it_where_there_is_no_doubt_or_another_machine_trains(
    monkeypatch: pytest.MonkeyPatch, size: str, flags: dict[str, Any]
) -> None:
    place = Measured(Cost(fault="not to be asked"))
    meter, output = asked(monkeypatch, place, size=size, **flags)
    assert (place.at_once_of, output) == ([], "") and meter.resources.concurrent == flags.get("concurrent", 4)


def test_what_cannot_be_trained_alone_is_not_measured_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Measured(Cost(fault="out of the machine's memory"))
    meter, _ = asked(monkeypatch, place)
    costs = meter.costs([config for _, config in memory_room.probes(meter.ready.space, meter.ready.base)])
    assert place.at_once_of == [1] and {cost.fault for cost in costs} == {"out of the machine's memory"}


@pytest.mark.parametrize(
    ("gib", "gpus", "told"),
    [(2.0, 0.0, "--concurrent 2 is safe"), (1.0, 0.0, ""), (2.0, 1.0, ""), (9.0, 0.0, "--concurrent 1")],
)
def test_trials_that_may_not_fit_into_the_memory_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, gib: float, gpus: float, told: str
) -> None:
    monkeypatch.setattr(memory_room, "memory_bytes", lambda: 6 * GIB)
    plan: Any = SimpleNamespace(memory_bytes=int(4 * gib * GIB))
    warning = memory_room.memory_warning(plan, Resources(1.0, gpus, 4))
    assert told in warning and bool(warning) == bool(told)


@pytest.mark.parametrize(
    ("size", "at_once", "room"),
    [("48x64", 2, True), ("256x256", 2, True), ("960x1280", 2, False), ("256x256", 8, False)],
)
def test_ray_starts_while_trials_are_measured_only_where_memory_has_room_for_both(
    monkeypatch: pytest.MonkeyPatch, size: str, at_once: int, room: bool
) -> None:
    monkeypatch.setattr(memory_room, "memory_bytes", lambda: 24 * GIB)
    assert memory_room.leaves_room(ready(size), at_once) is room
    monkeypatch.setattr(memory_room, "memory_bytes", lambda: None)
    assert not memory_room.leaves_room(ready(size), at_once), "unknown"
