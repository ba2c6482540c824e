"""Whether a space and splits that are named again, when a sweep goes on, are those that it began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search_spaces import SearchSpace, find_space
from search_spaces.core.space import shorter_space
from sweep.verify import load_run_split
from trainables.config import parse_size
from trainables.data import SegmentationData, Splits
from trainables.data.splits.complete import PARTS
from trainables.data.splits.frozen import TEST_SPLIT_FILE, Split
from trainables.data.splits.given import make_splits
from trainables.data.splits.stratified import like_before
from trainables.errors import DataError, SegsweepError


def space_fault(spec: str, then: SearchSpace, models: Sequence[str], weights: str, image_size: str) -> str:
    """Why a space is not the one of a sweep, in a few words; empty if it is.

    A registered one is known by its name, since changed versions of our code are no fault. The file of another is
    compiled and compared in all but its texts.

    Args:
        spec: What `--space` says.
        then: The space of the sweep, with the keys that `--set` held.
        models: The models of the sweep.
        weights: Its weights.
        image_size: That of its data set by default.
    """
    if then.name in (spec, shorter_space(spec)):
        return ""
    try:
        now = find_space(spec, image_size=parse_size(image_size))(models, weights)
        seeds = then.parameter("seed")
        if seeds is not None and seeds.kind == "choice" and now.parameter("seed") is None:
            now = now.with_seeds([int(seed) for seed in seeds.choices])
        same_name = now.name == then.name
        same = same_name and now.fix(then.held()).without_texts() == then.without_texts()
    except SegsweepError as error:
        return str(error)
    return "" if same else "it was another when the sweep began" if same_name else f"it is {then.name}"


def splits_fault(asked: Mapping[str, Any], data: SegmentationData, run_dir: Path) -> str:
    """What differs between the frozen splits of a run and those that flags make, in a few words; empty if nothing does.

    Args:
        asked: `splits` and `group_by`, as far as they are given.
        data: The data set, which is as it was.
        run_dir: The run.
    """
    # A test split that was removed is missed by a report on test, not here.
    there = [part for part in PARTS if part != "test" or (run_dir / TEST_SPLIT_FILE).is_file()]
    then = [load_run_split(run_dir, part) for part in there]
    try:
        now = like_before(lambda: make_splits(data, **asked), lambda drawn: not _splits_differ(then, drawn, data))
    except DataError as error:
        return str(error)
    return _splits_differ(then, now, data)


def _splits_differ(then: Sequence[Split], now: Splits, data: SegmentationData) -> str:
    for what, differing in (
        ("images", [split.name for split in then if {*split.ids} != {*getattr(now, split.name)}]),
        ("groups", [split.name for split in then if split.groups != tuple(now.group(data, i) for i in split.ids)]),
    ):
        if differing:
            return f"{' and '.join(differing)} of the run have other {what}"
    return ""
