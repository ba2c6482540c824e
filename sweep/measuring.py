"""What the trials of a sweep cost here, measured before it starts: for its plan, and for `--check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from search_spaces.core.space import SearchSpace
from sweep.compiled import values_of
from sweep.plan import MeasuredCost
from sweep.preflight import Prepared
from sweep.resources import Resources
from trainables.cost import Cost, measure_apart
from trainables.errors import SegsweepError
from trainables.execution import Execution, TrialData
from trainables.registry import Scalar

AT_ONCE = 4
"""Most processes that measure at once; more trials than that hinder one another about as much."""
TOGETHER = "the most expensive of each, together"
"""The last row of the table of `--check`."""


def processes(resources: Resources) -> int:
    """How many measure at once: as many as trials will run, up to `AT_ONCE`; on GPUs one."""
    return 1 if resources.gpus_per_trial else min(AT_ONCE, resources.concurrent)


def measure_models(
    ready: Prepared, resources: Resources, execution: Execution, *, root: Path | None, console: Console
) -> tuple[MeasuredCost, ...]:
    """The cost of every model of a space at every image size, the rest as in the known-good point.

    Returns:
        Nothing where this machine has no such device as the trials will have: that of a cluster.

    Raises:
        SegsweepError: If a model cannot be trained here; names each with the reason.
    """
    if not _is_here(execution):
        return ()
    configs = probes(ready.space, ready.base)
    costs = _measured(configs, ready, resources, execution, root=root, console=console)
    faults = [
        f"  {config['model.name']} at {config['image_size']}: {cost.fault}"
        for config, cost in zip(configs, costs, strict=True)
        if cost.fault
    ]
    if faults:
        raise SegsweepError(
            "not every model of this sweep can be trained here:\n"
            + "\n".join(faults)
            + "\nleave it out (--models), or lower --set batch_size=N or --set image_size=HEIGHTxWIDTH"
        )
    return _with_models(configs, costs)


def measure_everything(
    ready: Prepared, resources: Resources, execution: Execution, *, root: Path | None, console: Console
) -> tuple[list[tuple[str, Cost]], tuple[MeasuredCost, ...]]:
    """Trains a few batches with every model, loss and policy of a space, and with the most expensive together.

    Returns:
        What was tried with what it costs, and the costs of the models among it; nothing of both where this machine has
        no such device as the trials will have.
    """
    if not _is_here(execution):
        return [], ()
    asked = variants(ready.space, ready.base)
    costs = _measured([config for _, config in asked], ready, resources, execution, root=root, console=console)
    rows = [(what, cost) for (what, _), cost in zip(asked, costs, strict=True)]
    models = probes(ready.space, ready.base)
    together = most_expensive([(config, cost) for (_, config), cost in zip(asked, costs, strict=True)])
    if together is not None and len(rows) > 1:
        (cost,) = _measured([together], ready, resources, execution, root=root, console=console)
        rows.append((TOGETHER, cost))
    return rows, _with_models(models, costs[: len(models)])


def probes(space: SearchSpace, base: Mapping[str, Scalar]) -> list[dict[str, Any]]:
    """The known-good point with every model at every image size, as flat configurations."""
    return [
        _with(space, base, {"model.name": model, "image_size": size})
        for model in values_of(space, base, "model.name")
        for size in values_of(space, base, "image_size")
    ]


def variants(space: SearchSpace, base: Mapping[str, Scalar]) -> list[tuple[str, dict[str, Any]]]:
    """What `--check` tries: every model at every size, then every loss and policy with the known-good rest.

    Returns:
        Pairs of a description and a flat configuration.
    """
    found = [(f"{one['model.name']} at {one['image_size']}", one) for one in probes(space, base)]
    for key in ("loss.name", "augment.policy"):
        parameter = space.parameter(key)
        for value in parameter.ends() if parameter is not None else ():
            found.append((f"{key} {value}", _with(space, base, {key: value}, always_on=True)))
    return found


def most_expensive(measured: Sequence[tuple[Mapping[str, Any], Cost]]) -> dict[str, Any] | None:
    """The configuration of the costliest model and size, loss and policy together; None if none could be trained."""
    sound = [(config, cost) for config, cost in measured if not cost.fault]
    if not sound:
        return None
    model, _ = max(sound, key=lambda pair: (pair[1].memory_bytes, pair[1].epoch_seconds))
    chosen = dict(model)
    for section in ("loss", "augment"):
        slowest = _slowest(section, sound)
        chosen = _without(section, chosen)
        chosen |= {key: value for key, value in slowest.items() if key.startswith(f"{section}.")}
    return chosen


def _with_models(configs: Sequence[Mapping[str, Any]], costs: Sequence[Cost]) -> tuple[MeasuredCost, ...]:
    return tuple(
        MeasuredCost(str(config["model.name"]), str(config["image_size"]), cost)
        for config, cost in zip(configs, costs, strict=True)
    )


def _slowest(section: str, measured: Sequence[tuple[Mapping[str, Any], Cost]]) -> Mapping[str, Any]:
    """The slowest of those that differ from the first in the section alone."""
    first = _without(section, measured[0][0])
    alike = [(config, cost) for config, cost in measured if _without(section, config) == first]
    return max(alike, key=lambda pair: pair[1].epoch_seconds)[0]


def _without(section: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith(f"{section}.")}


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


def _is_here(execution: Execution) -> bool:
    import torch

    return not execution.device.startswith("cuda") or torch.cuda.is_available()


def _measured(
    configs: Sequence[Mapping[str, Any]],
    ready: Prepared,
    resources: Resources,
    execution: Execution,
    *,
    root: Path | None,
    console: Console,
) -> list[Cost]:
    data = TrialData(ready.data, tuple(ready.splits.train), tuple(ready.splits.val))
    with console.status("measuring what an epoch costs") as status:
        return measure_apart(
            configs,
            data,
            execution,
            at_once=processes(resources),
            root=root,
            progress=lambda done, total: status.update(f"measuring what an epoch costs: {done}/{total}"),
        )
