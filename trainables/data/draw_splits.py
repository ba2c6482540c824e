"""The three splits of a data set that comes without its own."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.data.base import SegmentationData
from trainables.data.scan import class_presence
from trainables.data.splits import stratified_split

FRACTIONS = (0.6, 0.2, 0.2)
"""Shares of train, val and test where all three are drawn."""


def draw(
    data: SegmentationData,
    ids: Sequence[str],
    fractions: Sequence[float],
    *,
    seed: int,
    groups: Sequence[str | None] | None = None,
) -> list[tuple[str, ...]]:
    """Deals ids out, stratified by the classes that their masks show; images of a group stay together.

    Args:
        data: The data set (its masks are read).
        ids: The images to deal out.
        fractions: The share of each part.
        seed: Breaks ties.
        groups: The group of each image; None: each on its own.
    """
    units = None if groups is None else [i if group is None else (group,) for i, group in zip(ids, groups, strict=True)]
    parts = stratified_split(class_presence(data, ids), fractions, seed=seed, groups=units)
    return [tuple(ids[index] for index in part) for part in parts]
