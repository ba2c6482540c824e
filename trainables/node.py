"""What a node of a cluster does before its first trial: it looks at code, weights, data and run folder, and decodes.

A node may share nothing with the driver's machine: no working directory, no home, no cache, no data. What it found is
kept in its own cache folder, where its trials read it (`place_when_ready`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.config import parse_size
from trainables.data import DATASETS, SegmentationData
from trainables.data.cache.decoded import DecodedCache
from trainables.data.cache.scan import scan
from trainables.errors import DataError, SegsweepError, WeightsError
from trainables.execution import TrialData
from trainables.files import write_json
from trainables.models import FILE
from trainables.models.weight_files import path_of
from trainables.node_copies import copy_folder
from trainables.places import cache_root
from trainables.plugins import TakesPluginsAlong
from trainables.versions import code_version
from trainables.words import counted, some_of

NODES = "nodes"
"""In a node's cache folder: what it found for each command, and the checkpoints of trials that do not see the run."""
WAIT_SECONDS = 1800.0
"""A trial waits so long for its node to get ready: data may be copied to it first."""
KEPT_SECONDS = 7 * 86400.0
"""What a command that was killed left of a node is removed after that time."""


@dataclass(frozen=True)
class NodeOrder(TakesPluginsAlong):
    """What a node is to have before its first trial.

    Attributes:
        token: Of the command; unguessable.
        code: The driver's `code_version`.
        data: Name of the data set.
        root: Where the driver has it; None for an embedded one, which the node makes itself.
        train: Ids.
        val: Ids.
        hashes: SHA-256 of the image file and of the mask file of each of them.
        classes: Names of the classes.
        weights: Pairs of a model and its weights, as configurations name them.
        copy: Which copy of the data a node without them uses; empty where none is to be made.
        copy_bytes: Of that copy.
        run_dir: Of the run, absolute; empty before there is one.
        inputs: Pairs of an image size and a way of resizing, to decode images for.
        cache_bytes: Limit of the decoded cache.
    """

    token: str
    code: str
    data: str
    root: str | None
    train: tuple[str, ...]
    val: tuple[str, ...]
    hashes: Mapping[str, tuple[str, str]]
    classes: tuple[str, ...]
    weights: tuple[tuple[str, str], ...] = ()
    copy: str = ""
    copy_bytes: int = 0
    run_dir: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    cache_bytes: int = 0

    @property
    def proof(self) -> Path:
        """The file in the run folder by which a node that sees it knows it: the token."""
        return Path(self.run_dir) / ".nodes"


@dataclass(frozen=True)
class NodeReport:
    """What a node found.

    Attributes:
        root: Where it has the data.
        run_dir: Where its trials write; empty where they write into the run folder itself.
        wants: What it lacks and can be sent: values of weights that are files, and the `copy` of the order.
        faults: What is wrong with it, each with its cure.
        data_fault: Why its images are not the driver's; empty where they are.
        decoded: What its decoded cache holds, in words.
    """

    root: str | None = None
    run_dir: str = ""
    wants: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    data_fault: str = ""
    decoded: tuple[str, ...] = ()


def get_ready(order: NodeOrder, node: str) -> NodeReport:
    """Looks whether this node can run trials as the driver would, and makes what it can make itself.

    Args:
        order: Of the driver.
        node: This node's id.
    """
    if (code := code_version()) != order.code:
        why = f"it runs other code ({code}) than the driver began with ({order.code})"
        return NodeReport(faults=(f"{why}: the files changed meanwhile, or Ray did not bring them; run it again",))
    try:
        folder = _own_folder(order.token, node)
    except OSError as error:
        place = error.filename or cache_root()
        return NodeReport(faults=(f"{place} cannot be written there ({error.strerror}): set SEGSWEEP_CACHE there",))
    report = _with_weights(order, NodeReport())
    report, data = _with_data(order, report)
    if data is None or report.wants or report.faults:
        return report
    if order.run_dir:
        report = replace(report, run_dir="" if _shares(order) else str(folder), decoded=_decode(order, data))
        write_json(folder / "place.json", {"root": report.root, "run_dir": report.run_dir})
    return report


def place_when_ready(order: NodeOrder, node: str, data: TrialData) -> tuple[TrialData, Path | None]:
    """For a trial: its data as this node has them, and where it writes; waits for a node that joined late.

    Args:
        order: Of the driver.
        node: This node's id.
        data: As the driver has them.

    Returns:
        The data, and the folder instead of the run folder; None where the node sees that.

    Raises:
        DataError: If the node did not get ready in time.
    """
    path = cache_root() / NODES / f"{order.token}-{node}" / "place.json"
    deadline = time.monotonic() + WAIT_SECONDS
    while not path.is_file():
        if time.monotonic() > deadline:
            raise DataError(f"node {node} did not get ready for trials within {WAIT_SECONDS / 60:g} minutes")
        time.sleep(0.5)
    place = json.loads(path.read_text(encoding="utf-8"))
    if place["root"] != order.root or order.root is None:
        data = replace(data, data=_opened(order, place["root"]))
    return data, Path(place["run_dir"]) if place["run_dir"] else None


def leave(token: str, node: str) -> None:
    """Removes what a command left on this node beside data, weights and decoded images."""
    shutil.rmtree(cache_root() / NODES / f"{token}-{node}", ignore_errors=True)


def _own_folder(token: str, node: str) -> Path:
    """This node's folder for a command; those of commands long gone are removed.

    Raises:
        OSError: If the cache folder cannot be written.
    """
    nodes = cache_root() / NODES
    folder = nodes / f"{token}-{node}"
    folder.mkdir(parents=True, exist_ok=True)
    for other in nodes.iterdir():
        newest = max((path.stat().st_mtime for path in (other, *other.glob("*"), *other.glob("*/*"))), default=0.0)
        if other != folder and time.time() - newest > KEPT_SECONDS:
            shutil.rmtree(other, ignore_errors=True)
    tempfile.TemporaryFile(dir=folder).close()
    return folder


def _with_weights(order: NodeOrder, report: NodeReport) -> NodeReport:
    from trainables.models import ensure_weights

    wants, faults = list(report.wants), list(report.faults)
    for model, weights in order.weights:
        try:
            if weights.startswith(FILE):
                path_of(weights)
            else:
                ensure_weights(model, weights, order.classes)
        except WeightsError as error:
            if weights.startswith(FILE):
                wants.append(weights)
            else:
                faults.append(str(error))
    return replace(report, wants=tuple(dict.fromkeys(wants)), faults=tuple(dict.fromkeys(faults)))


def _with_data(order: NodeOrder, report: NodeReport) -> tuple[NodeReport, SegmentationData | None]:
    """Finds the data at the driver's place, or in this node's copy."""
    faults = []
    for root in dict.fromkeys([order.root, *([str(copy_folder(order.copy))] if order.copy else [])]):
        try:
            data = _opened(order, root)
        except SegsweepError as error:
            faults.append(f"data set {order.data}: {error}")
            continue
        differing = _differences(order, data)
        if not differing:
            return replace(report, root=None if root is None else str(data.root)), data
        faults.append(f"the images at {data.root} are not those that the driver has: {differing}")
    if not order.copy or copy_folder(order.copy).is_dir():
        return replace(report, data_fault=faults[-1]), None
    free = shutil.disk_usage(cache_root()).free
    if free < order.copy_bytes:
        told = f"the copy of the data takes {order.copy_bytes / 2**30:.1f} GiB, {cache_root()} there has"
        return replace(report, faults=(*report.faults, f"{told} {free / 2**30:.1f} GiB free")), None
    return replace(report, wants=(*report.wants, order.copy)), None


def _opened(order: NodeOrder, root: str | None) -> SegmentationData:
    """Opens the data set.

    Raises:
        SegsweepError: If it is not there.
    """
    if root is not None and not Path(root).is_dir():
        raise DataError(f"there is no folder {root}")
    data: SegmentationData = DATASETS.get(order.data)(root=None if root is None else Path(root))
    return data


def _differences(order: NodeOrder, data: SegmentationData) -> str:
    """What differs of the files of train and val, in words; empty where nothing does."""
    if tuple(info.name for info in data.classes) != order.classes:
        return f"the classes are {', '.join(info.name for info in data.classes)}"
    known = set(data.ids())
    ids = [*order.train, *order.val]
    records = scan(data, [one for one in ids if one in known])
    found = {one: (record.image.sha256, record.mask.sha256) for one, record in records.items()}
    gone = [one for one in ids if not all(found.get(one, ("", "")))]
    changed = [one for one in ids if one not in gone and found[one] != tuple(order.hashes[one])]
    told = [
        f"{counted(len(some), 'image')} of {len(ids)} {how} ({some_of(some)})"
        for some, how in ((gone, "missing or unreadable"), (changed, "changed"))
        if some
    ]
    return ", ".join(told)


def _shares(order: NodeOrder) -> bool:
    """Whether this node sees the run folder, and can write there."""
    try:
        if order.proof.read_text(encoding="ascii") != order.token:
            return False
        tempfile.TemporaryFile(dir=order.run_dir).close()
    except (OSError, ValueError):
        return False
    return True


def _decode(order: NodeOrder, data: SegmentationData) -> tuple[str, ...]:
    """Builds the decoded cache for every input of the sweep; says what it holds."""
    told = []
    for size, resize in order.inputs:
        cache = DecodedCache(data, parse_size(size), limit_bytes=order.cache_bytes, resize=resize)
        told.append(str(cache.plan(order.train, order.val)))
        cache.build(order.train, order.val)
    return tuple(told)


def hashes_of(data: SegmentationData, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """SHA-256 of the image file and of the mask file of each image, as `NodeOrder` has them."""
    return {one: (record.image.sha256, record.mask.sha256) for one, record in scan(data, ids).items()}
