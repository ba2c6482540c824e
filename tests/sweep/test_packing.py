"""How many trials share a GPU, and that each is given, counted and planned with what it was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sweep.packing import CONTEXT_BYTES, MARGIN, MOST, fitting, pack, share_of
from sweep.plan import MeasuredCost, gpus_of
from sweep.resources import Machines, plan_resources
from sweep.tuner import _Queue
from trainables.cost import Cost

GIB = 2**30


def measured(model: str, seconds: float, gib: float, *, device_gib: float = 80) -> MeasuredCost:
    cost = Cost(train_seconds=seconds, memory_bytes=round(gib * GIB), device_bytes=round(device_gib * GIB))
    return MeasuredCost(model, "64x64", cost)


def slower(*factors: tuple[int, float], seconds: float = 10) -> tuple[Any, list[int]]:
    """A measurement of a trial of so many seconds, which take so many times as long with so many at once."""
    asked: list[int] = []
    told = dict(factors)

    def measure(settings: Mapping[str, Any], at_once: int) -> Cost:
        asked.append(at_once)
        return Cost(train_seconds=seconds * told[at_once]) if at_once in told else Cost(fault="out of memory")

    return measure, asked


def test_parts_of_a_gpu_fit_as_ray_counts_them() -> None:
    for at_once in range(1, 17):
        assert at_once * round(share_of(at_once), 4) <= 1
        for gpus in range(1, 9):
            planned = plan_resources(Machines(cpus=200, gpus=gpus), gpus_per_trial=share_of(at_once))
            assert planned.concurrent == gpus * at_once, (gpus, at_once)


def test_as_many_fit_as_measured_memory_has_room_for() -> None:
    # 80 GiB over 1.25 times 10 GiB and 0.586 GiB of CUDA: 6.1.
    assert fitting(measured("a", 1, 10).cost) == 6 == int(80 * GIB / (10 * GIB * MARGIN + CONTEXT_BYTES))
    assert fitting(measured("a", 1, 79).cost) == 1


def test_trials_share_a_gpu_as_far_as_that_brings_epochs() -> None:
    measure, asked = slower((8, 6.0), (4, 2.0), (2, 1.5))
    packing = pack([measured("a", 10, 2)], room=16, measure=measure)
    # 8 at 6 times the time bring 1.33 times the epochs, 4 at twice the time 2, and 2 at 1.5 again 1.33: the last tried.
    assert (packing.at_once, asked) == (4, [8, 4, 2])
    assert packing.gain == pytest.approx(2.0, abs=1e-3)
    assert [one.gpus for one in packing.costs] == [0.25]
    assert packing.costs[0].cost.train_seconds == 20
    assert "4 trials share a GPU, 2.0 times the epochs per hour" in packing.text()


@pytest.mark.parametrize("factors", [((8, 8.0), (4, 4.0), (2, 2.0)), ((8, 9.0), (4, 5.0), (2, 2.5)), ()])
def test_trials_do_not_share_a_gpu_where_that_brings_nothing(factors: tuple[tuple[int, float], ...]) -> None:
    measure, asked = slower(*factors)
    costs = [measured("a", 10, 2)]
    packing = pack(costs, room=16, measure=measure)
    assert (packing.at_once, list(packing.costs), asked) == (1, costs, [8, 4, 2])
    assert "a GPU of its own" in packing.text()


def test_fewer_share_where_more_do_not_fit_after_all() -> None:
    measure, asked = slower((4, 1.0))
    assert pack([measured("a", 10, 2)], room=16, measure=measure).at_once == 4
    assert asked == [8, 4, 2]


def test_what_does_not_fit_has_a_gpu_of_its_own() -> None:
    small, large = measured("small", 10, 2), measured("large", 30, 30)
    measure, _ = slower((8, 2.0))
    packing = pack([small, large], room=8, measure=measure)
    assert [one.gpus for one in packing.costs] == [0.125, 1.0]
    assert [one.cost.train_seconds for one in packing.costs] == [20, 30]
    # One of each: 40 s of a GPU alone; together 20 s of an eighth and 30 s.
    assert packing.gain == pytest.approx(40 / 32.5)
    assert "alone on a GPU: large at 64x64" in packing.text()
    told = {"model.name": "large", "image_size": "64x64"}
    assert gpus_of(packing.costs, told, 0.125) == 1.0
    assert gpus_of(packing.costs, {**told, "model.name": "small"}, 0.125) == 0.125
    assert gpus_of([small, large], told, 0.5) == 0.5
    assert gpus_of([], told, 0.5) == 0.5


@pytest.mark.parametrize(("room", "gib", "why"), [(1, 2, "a processor for 1 trial"), (16, 70, "takes 70.0 GiB of")])
def test_why_nothing_is_shared_is_told_without_measuring(room: int, gib: float, why: str) -> None:
    measure, asked = slower((8, 1.0), (4, 1.0), (2, 1.0))
    packing = pack([measured("a", 10, gib)], room=room, measure=measure)
    assert packing.at_once == 1 and why in packing.text() and not asked


def test_no_more_than_processors_have_room_for() -> None:
    measure, asked = slower((3, 1.0))
    assert pack([measured("a", 10, 2)], room=3, measure=measure).at_once == 3
    assert asked == [3] and MOST > 3


def test_a_trial_that_needs_more_of_a_gpu_is_not_overtaken() -> None:
    queue = _Queue(lambda config: float(config["gpus"]))
    queue.add("t0", {"gpus": 0.25})
    assert not queue.is_held
    queue.add("t1", {"gpus": 1.0})
    assert queue.is_held
    queue.begun("t0")
    assert queue.is_held
    queue.begun("t1")
    assert not queue.is_held
