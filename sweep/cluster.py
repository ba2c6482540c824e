"""A cluster for one command: joined with the driver's code, its nodes made ready, measured on, left clean."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from search_spaces.core.space import SearchSpace
from sweep.compiled import values_of
from sweep.config import SweepConfig
from sweep.keeper import RemoteKeeper
from sweep.manifest import SweepManifest
from sweep.nodes import Nodes, on_node, result_of
from sweep.places import Here, Progress
from sweep.preflight import Prepared
from sweep.ray_session import RaySession, ray_session
from sweep.resources import Machines, Resources, fits_on
from sweep.shipping import shipped_code
from sweep.tuner import Cluster
from trainables.cost import Cost
from trainables.data.base import SegmentationData
from trainables.execution import Execution, TrialData
from trainables.flags import default_precision
from trainables.guarded import say_error
from trainables.latency import Latency
from trainables.node import NodeOrder, hashes_of
from trainables.node_copies import Listing, listing_of
from trainables.registry import Scalar
from trainables.versions import code_version


def order_for(
    data: TrialData,
    root: Path | None,
    space: SearchSpace,
    base: Mapping[str, Scalar],
    *,
    run_dir: Path | None = None,
    cache_bytes: int = 0,
) -> NodeOrder:
    """What every node of a sweep is to have.

    Args:
        data: What trials see.
        root: Where the data set was opened; None for an embedded one.
        space: Of the sweep.
        base: Keys that all trials share.
        run_dir: Of the run; None as long as there is none: then nothing is decoded either.
        cache_bytes: Limit of the decoded cache.
    """
    models, weights = (values_of(space, base, key) for key in ("model.name", "model.weights"))
    pairs = [(str(model), str(one)) for model, one in itertools.product(models, weights) if one != "none"]
    inputs = itertools.product(values_of(space, base, "image_size"), values_of(space, base, "resize"))
    return NodeOrder(
        token=secrets.token_hex(8),
        code=code_version(),
        data=data.data.name,
        root=None if root is None else str(root.expanduser().resolve()),
        train=data.train,
        val=data.val,
        hashes=hashes_of(data.data, [*data.train, *data.val]),
        classes=tuple(info.name for info in data.data.classes),
        weights=tuple(pairs),
        run_dir="" if run_dir is None else str(run_dir.resolve()),
        inputs=() if run_dir is None else tuple((str(size), str(resize)) for size, resize in inputs),
        cache_bytes=cache_bytes,
    )


def files_to_copy(data: SegmentationData, root: Path | None, *, wanted: bool) -> Listing | None:
    """What nodes without the images are sent, where the user wants that; embedded images are made there instead."""
    return listing_of(data.root) if wanted and root is not None else None


@contextlib.contextmanager
def ready_nodes(nodes: Nodes, console: Console) -> Iterator[Nodes]:
    """Makes all nodes ready for the body, and leaves nothing on them afterwards.

    Raises:
        SegsweepError: As `Nodes.prepare`.
    """
    try:
        with console.status("getting the nodes ready: code, weights, images"):
            nodes.prepare()
        yield nodes
    finally:
        with contextlib.suppress(Exception):  # of a cluster that is gone
            nodes.leave()


@contextlib.contextmanager
def joined(
    run_dir: Path, manifest: SweepManifest, data: TrialData, console: Console, *, copy_data: bool
) -> Iterator[Cluster]:
    """The cluster of this process's session, with all its nodes ready for the trials of a run.

    Args:
        run_dir: The run.
        manifest: Of the run.
        data: What its trials see.
        console: Where to say things.
        copy_data: Whether nodes that do not see the images are given a copy.

    Raises:
        SegsweepError: As `Nodes.prepare`.
    """
    root = None if manifest.data.root is None else Path(manifest.data.root)
    limit = manifest.execution.cache_bytes
    order = order_for(data, root, manifest.space, manifest.base, run_dir=run_dir, cache_bytes=limit)
    listing = files_to_copy(data.data, root, wanted=copy_data)
    nodes = Nodes(order, manifest.resources, listing=listing, notice=_saying(console))
    order.proof.write_text(order.token, encoding="ascii")
    try:
        with ready_nodes(nodes, console):
            yield Cluster(nodes, RemoteKeeper.start(run_dir.resolve()))
    finally:
        order.proof.unlink(missing_ok=True)


@contextlib.contextmanager
def ray_for(
    address: str | None,
    *,
    dashboard: bool | None,
    machines: Machines,
    on_stuck: Callable[[str], None],
    console: Console,
) -> Iterator[RaySession]:
    """Ray on this machine alone, or a session on a cluster whose workers run the driver's code.

    Raises:
        SegsweepError: As `sweep.ray_session.ray_session`, or if the code is too large to be brought there.
    """
    with contextlib.ExitStack() as stack:
        env = None if address is None else stack.enter_context(shipped_code())
        session = ray_session(
            address=address, dashboard=dashboard, machines=machines, on_stuck=on_stuck, runtime_env=env
        )
        with console.status("starting Ray" if address is None else "joining the cluster"):
            ray = stack.enter_context(session)
        yield ray


@contextlib.contextmanager
def measuring_place(
    config: SweepConfig, ready: Prepared, machines: Machines, resources: Resources, console: Console
) -> Iterator[OnNode]:
    """A node of the cluster to measure on, before there is a run; all nodes are looked at first.

    Raises:
        SegsweepError: Naming each node that cannot run the trials.
    """

    def stuck(fault: str) -> None:
        say_error(f"{fault}; nothing was started")
        sys.stderr.flush()
        os._exit(1)

    data = TrialData(ready.data, tuple(ready.splits.train), tuple(ready.splits.val))
    order = order_for(data, config.data_root, ready.space, ready.base)
    listing = files_to_copy(ready.data, config.data_root, wanted=config.copy_data)
    nodes = Nodes(order, resources, listing=listing, notice=_saying(console))
    session = ray_for(config.address, dashboard=None, machines=machines, on_stuck=stuck, console=console)
    with session, ready_nodes(nodes, console):
        yield OnNode(nodes, resources)


def _saying(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)


class OnNode:
    """A node of the cluster as the place where is measured (`sweep.places.Place`).

    Args:
        nodes: Ready.
        resources: Of a trial.
    """

    def __init__(self, nodes: Nodes, resources: Resources) -> None:
        self._nodes = nodes
        self._resources = resources

    def has(self, execution: Execution) -> bool:
        """Yes: `plan_resources` asked the cluster."""
        return True

    def precision(self, device: str) -> str:
        """See `Place`."""
        node, _ = self._nodes.first()
        return str(result_of(node, on_node(node, default_precision, device, **self._shares(1))))

    def at_once(self, trials: int) -> int:
        """See `Place`."""
        node, _ = self._nodes.first()
        return min(trials, fits_on(node.machine, self._resources))

    def costs(
        self,
        configs: Sequence[Mapping[str, Any]],
        data: TrialData,
        execution: Execution,
        *,
        at_once: int,
        root: Path | None,
        progress: Progress,
    ) -> list[Cost]:
        """See `Place`; the node tells no progress."""
        node, report = self._nodes.first()
        there = None if report.root is None or root is None else report.root
        reference = on_node(node, _costs, list(configs), data, execution, at_once, there, **self._shares(at_once))
        found: list[Cost] = result_of(node, reference)
        return found

    def latencies(
        self,
        configs: Sequence[Mapping[str, Any]],
        classes: int,
        execution: Execution,
        *,
        channels: int,
        progress: Progress,
    ) -> list[Latency]:
        """See `Place`; the node tells no progress."""
        node, _ = self._nodes.first()
        reference = on_node(node, _latencies, list(configs), classes, execution, channels, **self._shares(1))
        found: list[Latency] = result_of(node, reference)
        return found

    def _shares(self, at_once: int) -> dict[str, float]:
        """What is asked of the node: what so many trials take; a GPU is shared by them."""
        gpus = min(1.0, self._resources.gpus_per_trial) if at_once > 1 else self._resources.gpus_per_trial
        return {"cpus": self._resources.cpus_per_trial * at_once, "gpus": gpus}


def _costs(
    configs: Sequence[Mapping[str, Any]], data: TrialData, execution: Execution, at_once: int, root: str | None
) -> list[Cost]:
    place = None if root is None else Path(root)
    return Here().costs(configs, data, execution, at_once=at_once, root=place, progress=lambda done, total: None)


def _latencies(
    configs: Sequence[Mapping[str, Any]], classes: int, execution: Execution, channels: int
) -> list[Latency]:
    return Here().latencies(configs, classes, execution, channels=channels, progress=lambda done, total: None)
