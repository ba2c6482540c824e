"""What the trials of a sweep cost here, measured before it starts: for its plan, and for `--check`."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from search_spaces.core.space import SearchSpace
from sweep.compiled import values_of
from sweep.latencies import MeasuredLatency, models_to_time, settings_of
from sweep.places import HERE, Place
from sweep.plan import MeasuredCost
from sweep.preflight import Prepared
from sweep.resources import Resources
from trainables.cost import Cost
from trainables.errors import SegsweepError, UsageError
from trainables.execution import Execution, TrialData
from trainables.metrics import LATENCY
from trainables.registry import Scalar

AT_ONCE = 4
"""Most processes that measure at once; more trials than that hinder one another about as much."""
TIMES = 3
"""That each of several processes on a GPU measures the same."""
FACTORS = ("batch_size", "training.freeze")
"""Keys that change what an epoch costs by about the same factor for every model and image size."""
TOGETHER = "the most expensive of each, together"
"""The last row of the table of `--check`."""


def processes(resources: Resources, place: Place = HERE) -> int:
    """How many measure at once: as many as trials will run at the place, up to `AT_ONCE`; on GPUs one."""
    return 1 if resources.gpus_per_trial else place.at_once(min(AT_ONCE, resources.concurrent))


@dataclass(frozen=True)
class Meter:
    """Measures what configurations of a sweep cost.

    Attributes:
        ready: The sweep.
        resources: Of its trials.
        execution: Of its trials.
        root: Where the data set was opened; None for an embedded one.
        console: Shows that it measures.
        place: Where it does.
        known: What was measured, by configuration, execution and how many at once.
    """

    ready: Prepared
    resources: Resources
    execution: Execution
    root: Path | None
    console: Console
    place: Place = HERE
    known: dict[tuple[str, Execution, int], Cost] = field(default_factory=dict)

    @property
    def is_possible(self) -> bool:
        """Whether the place has the device of the trials."""
        return self.place.has(self.execution)

    def costs(self, configs: Sequence[Mapping[str, Any]]) -> list[Cost]:
        """Of each configuration, while `processes` are measured at once; none is measured twice."""
        at_once = processes(self.resources, self.place)
        keys = [(json.dumps(config, sort_keys=True), self.execution, at_once) for config in configs]
        new = {key: config for key, config in zip(keys, configs, strict=True) if key not in self.known}
        if new:
            self.known.update(zip(new, self.costs_now([*new.values()], at_once), strict=True))
        return [self.known[key] for key in keys]

    def costs_now(self, configs: Sequence[Mapping[str, Any]], at_once: int) -> list[Cost]:
        """Of each configuration, measured anew while so many are measured at once."""
        ready = self.ready
        data = TrialData(ready.data, tuple(ready.splits.train), tuple(ready.splits.val))
        with self.console.status("measuring what an epoch costs") as status:
            return self.place.costs(
                configs,
                data,
                self.execution,
                at_once=at_once,
                root=self.root,
                progress=lambda done, total: status.update(f"measuring what an epoch costs: {done}/{total}"),
            )


def measure_models(meter: Meter) -> tuple[MeasuredCost, ...]:
    """The cost of every model of a space at every image size, with every batch size and frozen part that it varies.

    Returns:
        One for each combination (see `combined`); nothing where this machine has no such device as the trials will
        have: that of a cluster.

    Raises:
        SegsweepError: If a model cannot be trained here; names each with the reason.
    """
    if not meter.is_possible:
        return ()
    asked = probes(meter.ready.space, meter.ready.base)
    costs = meter.costs([config for _, config in asked])
    faults = [f"  {name}: {cost.fault}" for (name, _), cost in zip(asked, costs, strict=True) if cost.fault]
    if faults:
        raise SegsweepError(
            "not every model of this sweep can be trained here:\n"
            + "\n".join(faults)
            + "\nleave it out (--models), or lower --set batch_size=N or --set image_size=HEIGHTxWIDTH"
        )
    return combined([config for _, config in asked], costs)


def measure_known(meter: Meter) -> MeasuredCost | None:
    """The cost of the known-good point; None where it cannot be measured here, or cannot be trained."""
    if not meter.is_possible:
        return None
    config = _with(meter.ready.space, meter.ready.base, {})
    (cost,) = meter.costs([config])
    return None if cost.fault else MeasuredCost(str(config["model.name"]), str(config["image_size"]), cost)


def measure_everything(meter: Meter) -> tuple[list[tuple[str, Cost]], tuple[MeasuredCost, ...]]:
    """Trains a few batches with every model, loss and policy of a space, and with the most expensive together.

    Returns:
        What was tried with what it costs, and the costs of the models among it; nothing of both where this machine has
        no such device as the trials will have.
    """
    if not meter.is_possible:
        return [], ()
    asked = variants(meter.ready.space, meter.ready.base)
    costs = meter.costs([config for _, config in asked])
    rows = [(what, cost) for (what, _), cost in zip(asked, costs, strict=True)]
    sized = len(probes(meter.ready.space, meter.ready.base))
    together = most_expensive([(config, cost) for (_, config), cost in zip(asked, costs, strict=True)])
    if together is not None and len(rows) > 1:
        (cost,) = meter.costs([together])
        rows.append((TOGETHER, cost))
    return rows, combined([config for _, config in asked[:sized]], costs[:sized])


def measure_sharing(meter: Meter, settings: Mapping[str, Any], at_once: int) -> Cost:
    """The cost of a configuration, by what decides it, while so many trials run it on one GPU.

    Each process measures several times: they do not begin at the same moment.
    """
    costs = meter.costs_now([_with(meter.ready.space, meter.ready.base, settings)] * TIMES, at_once)
    faulty = next((cost for cost in costs if cost.fault), None)
    return faulty or dataclasses.replace(
        costs[0],
        train_seconds=statistics.fmean(cost.train_seconds for cost in costs),
        val_seconds=statistics.fmean(cost.val_seconds for cost in costs),
    )


def measure_latencies(
    ready: Prepared, execution: Execution, *, console: Console, place: Place = HERE
) -> tuple[MeasuredLatency, ...]:
    """The time per image of every model and size that a space can reach, one after the other while nothing else runs.

    Returns:
        Nothing where it is no objective.

    Raises:
        UsageError: If this machine has no such device as the trials will have, or the models cannot be listed.
        SegsweepError: If a model cannot be timed here; names each with the reason.
    """
    if LATENCY.name not in [objective.key for objective in ready.objectives]:
        return ()
    configs = models_to_time(ready.space, ready.base)
    if not place.has(execution):
        raise UsageError(
            f"--objective {LATENCY.name} is measured on this machine before the search, which has no GPU as the trials "
            "will have: start the sweep where there is one, or leave the objective out"
        )
    with console.status("timing the models") as status:
        found = place.latencies(
            configs,
            len(ready.data.classes),
            execution,
            channels=ready.data.channels,
            progress=lambda done, total: status.update(f"timing the models: {done}/{total}"),
        )
    measured = [
        MeasuredLatency(settings_of(config), execution.precision, one.device, one.ms, one.spread)
        for config, one in zip(configs, found, strict=True)
    ]
    faults = [f"  {one.name}: {told.fault}" for one, told in zip(measured, found, strict=True) if told.fault]
    if faults:
        raise SegsweepError("not every model of this sweep can be timed here:\n" + "\n".join(faults))
    return tuple(measured)


def probes(space: SearchSpace, base: Mapping[str, Scalar]) -> list[tuple[str, dict[str, Any]]]:
    """What is measured for a plan: every model with every input, then what else changes the cost of an epoch.

    An input is a size, and how images come to it. Batch sizes and frozen parts that a space chooses from are measured
    with the known-good rest, one at a time.

    Returns:
        Pairs of a description and a flat configuration.
    """
    found = [
        _with(space, base, {"model.name": model, "image_size": size, "resize": way})
        for model in values_of(space, base, "model.name")
        for size in values_of(space, base, "image_size")
        for way in values_of(space, base, "resize")
    ]
    searched = {config["resize"] for config in found}
    known = _with(space, base, {})
    found.sort(key=lambda config: config != known)  # what only differs from it is measured beside it
    named = [
        (
            f"{config['model.name']} at {config['image_size']}{', ' + config['resize'] if len(searched) > 1 else ''}",
            config,
        )
        for config in found
    ]
    for key in FACTORS:
        parameter = space.parameter(key)
        for value in parameter.choices if parameter is not None else ():
            config = _with(space, base, {key: value})
            if config[key] == value != known[key]:
                named.append((f"{key} {value}", config))
    return named


def combined(configs: Sequence[Mapping[str, Any]], costs: Sequence[Cost]) -> tuple[MeasuredCost, ...]:
    """What each combination of model, input (its size, and how images come to it), batch size and frozen part costs.

    Batches and frozen parts were measured with one model at one size. For the others, their training time and memory
    are taken to change by the same factors; validation does not depend on either.

    Args:
        configs: Those of `probes`.
        costs: Of each.
    """
    measured = list(zip(configs, costs, strict=True))
    first = measured[0][0]
    sized = [(config, cost) for config, cost in measured if all(config[key] == first[key] for key in FACTORS)]
    effects = {key: _effects(key, measured, sized) for key in FACTORS}
    ways = {config["resize"] for config, _ in sized}
    return tuple(
        MeasuredCost(
            str(config["model.name"]),
            str(config["image_size"]),
            _scaled(cost, batches, frozen),
            batch_size=int(batch_size) if len(effects["batch_size"]) > 1 else 0,
            freeze=str(freeze) if len(effects["training.freeze"]) > 1 else "",
            resize=str(config["resize"]) if len(ways) > 1 else "",
        )
        for config, cost in sized
        for batch_size, batches in effects["batch_size"].items()
        for freeze, frozen in effects["training.freeze"].items()
    )


Factor = tuple[float, float]
"""Of training time and of memory."""


def _effects(
    key: str, measured: Sequence[tuple[Mapping[str, Any], Cost]], sized: Sequence[tuple[Mapping[str, Any], Cost]]
) -> dict[Scalar, Factor]:
    """What each value of a key multiplies the cost of the known-good value by."""
    usual = {(config["model.name"], config["image_size"], config["resize"]): cost for config, cost in sized}
    known = sized[0][0]
    effects: dict[Scalar, Factor] = {known[key]: (1.0, 1.0)}
    for config, cost in measured:
        if [other for other in FACTORS if config[other] != known[other]] == [key]:
            beside = usual[config["model.name"], config["image_size"], config["resize"]]
            time = cost.train_seconds / beside.train_seconds if beside.train_seconds else 1.0
            effects[config[key]] = (time, cost.memory_bytes / beside.memory_bytes if beside.memory_bytes else 1.0)
    return effects


def _scaled(cost: Cost, *factors: Factor) -> Cost:
    time, memory = (math.prod(column) for column in zip(*factors, strict=True))
    return dataclasses.replace(
        cost, train_seconds=cost.train_seconds * time, memory_bytes=round(cost.memory_bytes * memory)
    )


def variants(space: SearchSpace, base: Mapping[str, Scalar]) -> list[tuple[str, dict[str, Any]]]:
    """What `--check` tries: what `probes` measures, then every loss and policy with the known-good rest.

    Returns:
        Pairs of a description and a flat configuration.
    """
    found = probes(space, base)
    for key in ("loss.name", "augment.policy"):
        parameter = space.parameter(key)
        for value in parameter.ends() if parameter is not None else ():
            found.append((f"{key} {value}", _with(space, base, {key: value}, always_on=True)))
    return found


def most_expensive(measured: Sequence[tuple[Mapping[str, Any], Cost]]) -> dict[str, Any] | None:
    """The configuration of the costliest model and size, batches, frozen part, loss and policy together.

    Args:
        measured: Flat configurations that differ from the first in one of these, with their costs.

    Returns:
        None if none could be trained.
    """
    sound = [(config, cost) for config, cost in measured if not cost.fault]
    if not sound:
        return None
    chosen = dict(sound[0][0])
    for sections in (("model", "image_size", "resize"), ("batch_size",), ("training",)):
        chosen |= _worst(sections, sound, lambda cost: (cost.memory_bytes, cost.epoch_seconds))
    for section in ("loss", "augment"):
        worst = _worst((section,), sound, lambda cost: cost.epoch_seconds)
        chosen = {key: value for key, value in chosen.items() if not _in((section,), key)} | worst
    return chosen


def _worst(
    sections: Sequence[str], measured: Sequence[tuple[Mapping[str, Any], Cost]], by: Callable[[Cost], Any]
) -> dict[str, Any]:
    """The keys of some sections, of the costliest among those that differ from the first in these alone."""

    def rest(config: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in config.items() if not _in(sections, key)}

    alike = [(config, cost) for config, cost in measured if rest(config) == rest(measured[0][0])]
    worst, _ = max(alike, key=lambda pair: by(pair[1]))
    return {key: value for key, value in worst.items() if _in(sections, key)}


def _in(sections: Sequence[str], key: str) -> bool:
    return key.partition(".")[0] in sections


def _with(
    space: SearchSpace, base: Mapping[str, Scalar], values: Mapping[str, Scalar], *, always_on: bool = False
) -> dict[str, Any]:
    """The known-good point with other values; on request with every transformation of its policy always on."""
    first = space.start[0] if space.start else {}
    varied = {parameter.key for parameter in space.parameters}
    point = space.bend({**first, **{key: value for key, value in values.items() if key in varied}})
    if always_on:
        on = {key for key, value in point.items() if key.startswith("augment.") and key.endswith(".p") and value}
        point |= dict.fromkeys(on, 1.0)
    return space.trial_config(base, point).flat()
