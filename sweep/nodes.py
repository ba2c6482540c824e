"""The nodes of a Ray cluster: made ready before the first trial, measured on, and watched while trials run."""

from __future__ import annotations

import sweep.ray_environment  # noqa: F401

# isort: split
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.resources import Machine, Resources, fits_on
from trainables.errors import SegsweepError
from trainables.models import FILE
from trainables.models.weight_files import keep_copy, path_of
from trainables.node import NodeOrder, NodeReport, get_ready, leave
from trainables.node_copies import Listing, finish_copy, parts_of, write_part
from trainables.words import counted

LOOK_SECONDS = 2.0
"""Between two looks at which nodes are there."""
CURE = "bring them there, or add --copy-data, which copies them once to each node"
"""Of images that a node does not see."""
LEAVE_SECONDS = 10.0
"""For nodes to clean up at the end of a command."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    Attributes:
        id: Ray's.
        address: Of its machine.
        machine: What it has.
    """

    id: str
    address: str
    machine: Machine

    def __str__(self) -> str:
        return f"{self.address} (node {self.id[:6]})"


def nodes_there() -> list[Node]:
    """The nodes that are alive and have processors for trials, by their addresses."""
    found = []
    for told in ray.nodes():
        has = told["Resources"]
        if told["Alive"] and has.get("CPU"):
            machine = Machine(int(has["CPU"]), int(has.get("GPU", 0)))
            found.append(Node(told["NodeID"], told["NodeManagerAddress"], machine))
    return sorted(found, key=lambda node: (node.address, node.id))


def on_node(node: Node, function: Callable[..., Any], *arguments: Any, cpus: float = 0, gpus: float = 0) -> Any:
    """Starts a function in a worker of a node; gives Ray's reference to what it will return."""
    here = NodeAffinitySchedulingStrategy(node.id, soft=False)
    options = {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": here, "max_retries": 0}
    return ray.remote(function).options(**options).remote(*arguments)


def result_of(node: Node, reference: Any) -> Any:
    """Waits for what `on_node` started.

    Raises:
        SegsweepError: With what the function raised, or why it could not be run there.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        told = str(cause) if isinstance(cause, SegsweepError) else f"{type(cause).__name__}: {cause}"
        raise SegsweepError(f"{node}: {told}") from error
    except RayError as error:
        raise SegsweepError(f"{node}: {' '.join(str(error).split())[:300]}") from error


class Nodes:
    """All nodes of a cluster, for one command.

    Args:
        order: What each is to have.
        resources: Of a trial.
        listing: The files of the data set, where nodes that lack them are given a copy.
        notice: Says a line to the user; may be set anew.
    """

    def __init__(
        self,
        order: NodeOrder,
        resources: Resources,
        *,
        listing: Listing | None = None,
        notice: Callable[[str], None],
    ) -> None:
        self._order = replace(order, copy=listing.copy, copy_bytes=listing.bytes) if listing else order
        self._resources = resources
        self._listing = listing
        self.notice = notice
        self._known: dict[str, Node] = {}
        self._reports: dict[str, NodeReport] = {}
        self._looked = 0.0
        self._fault = ""

    @property
    def order(self) -> NodeOrder:
        """What each node was to have."""
        return self._order

    def prepare(self) -> None:
        """Makes every node ready that is there.

        Raises:
            SegsweepError: Naming each node that cannot run the trials, with the reasons.
        """
        nodes = nodes_there()
        self._known |= {node.id: node for node in nodes}
        if not nodes:
            raise SegsweepError("no node of the cluster has processors for trials: add one (ray start --address=...)")
        self._make_ready(nodes)
        apart = sum(bool(self._reports[node.id].run_dir) for node in nodes)
        where = f", {apart} of them without the run folder: checkpoints and logs are brought there" if apart else ""
        self.notice(f"cluster: {counted(len(nodes), 'node')} with this code and these images{where}")

    def _make_ready(self, nodes: Sequence[Node]) -> None:
        reports = self._asked(nodes)
        lacking = {node: reports[node.id].wants for node in nodes if reports[node.id].wants}
        if lacking:
            self._send(lacking)
            reports |= self._asked(list(lacking))
        faults = [f"  {node}: {fault}" for node in nodes for fault in self._faults(reports[node.id])]
        if faults:
            raise SegsweepError("not every node of the cluster can run the trials:\n" + "\n".join(faults))
        self._reports |= reports

    def _faults(self, report: NodeReport) -> list[str]:
        faults = [*(f"it did not keep {one}" for one in report.wants), *report.faults]
        if report.data_fault:
            could_be_copied = self._order.root is not None and self._listing is None
            faults.append(report.data_fault + (f"; {CURE}" if could_be_copied else ""))
        return faults

    def _asked(self, nodes: Sequence[Node]) -> dict[str, NodeReport]:
        waiting = [(node, on_node(node, get_ready, self._order, node.id)) for node in nodes]
        reports = {}
        for node, reference in waiting:
            try:
                reports[node.id] = result_of(node, reference)
            except SegsweepError as error:
                reports[node.id] = NodeReport(faults=(str(error),))
        return reports

    def _send(self, lacking: Mapping[Node, Sequence[str]]) -> None:
        """Brings files of weights and images to the nodes that lack them."""
        for weights in dict.fromkeys(one for wants in lacking.values() for one in wants if one.startswith(FILE)):
            content = ray.put(path_of(weights).read_bytes())
            self._all(
                (node, on_node(node, keep_copy, weights, content))
                for node, wants in lacking.items()
                if weights in wants
            )
        targets = [node for node, wants in lacking.items() if self._listing and self._listing.copy in wants]
        if self._listing is None or not targets:
            return
        size = f"{counted(len(self._listing.files), 'file')}, {self._listing.bytes / 1e6:,.0f} MB"
        self.notice(f"copying the data ({size}) to {counted(len(targets), 'node')}, into their cache folders")
        for part in parts_of(self._listing):
            content = ray.put(part)
            self._all((node, on_node(node, write_part, self._order.copy, node.id, content)) for node in targets)
        self._all((node, on_node(node, finish_copy, self._order.copy, node.id)) for node in targets)

    def _all(self, started: Any) -> None:
        for node, reference in list(started):
            result_of(node, reference)

    def first(self) -> tuple[Node, NodeReport]:
        """The first node that has room for a trial, on which is measured."""
        node = next((one for one in self._known.values() if fits_on(one.machine, self._resources)), None)
        if node is None:
            raise SegsweepError("no node of the cluster has room for a trial any more")
        return node, self._reports[node.id]

    def look(self) -> str:
        """Sees which nodes are there, at most every `LOOK_SECONDS`: tells of those that died, gets new ones ready.

        Returns:
            Why no trial can run any more; empty as long as one can.
        """
        if time.monotonic() - self._looked < LOOK_SECONDS or self._fault:
            return self._fault
        self._looked = time.monotonic()
        there = {node.id: node for node in nodes_there()}
        for gone in [node for node in self._known.values() if node.id not in there]:
            del self._known[gone.id]
            self.notice(f"{gone} died: its trials go on elsewhere, each after its last epoch")
        for new in [node for node in there.values() if node.id not in self._known]:
            self._known[new.id] = new
            threading.Thread(target=self._welcome, args=(new,), name="new-node", daemon=True).start()
        if not any(fits_on(node.machine, self._resources) for node in there.values()):
            self._fault = "no node of the cluster that is left has room for a trial; start nodes again"
        return self._fault

    def _welcome(self, node: Node) -> None:
        try:
            self._make_ready([node])
            self.notice(f"{node} joined, with this code and these images")
        except SegsweepError as error:
            self._fault = f"a node joined, and {error}"

    def leave(self) -> None:
        """Removes what this command left on the nodes, beside data, weights and decoded images."""
        nodes = [node for node in nodes_there() if node.id in self._reports]
        references = [on_node(node, leave, self._order.token, node.id) for node in nodes]
        if references:
            ray.wait(references, num_returns=len(references), timeout=LEAVE_SECONDS)
