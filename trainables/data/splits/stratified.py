"""Drawing splits: shares of every class close to those asked for, groups kept together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from trainables.data.base import SegmentationData
from trainables.data.cache.scan import class_presence


def stratified_split(
    presence: npt.NDArray[np.bool_],
    fractions: Sequence[float],
    *,
    seed: int,
    groups: Sequence[Hashable] | None = None,
) -> list[npt.NDArray[np.intp]]:
    """Cuts images into parts whose shares of every class come close to `fractions`.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD
    2011): the class with the fewest images left is dealt out first, each unit to the part that lacks most of that
    class. A unit is an image, or all images of a group. Two additions: every part wants at least one image of every
    class, so that a class with as many units as there are parts reaches all of them; and among the units of a class
    the largest go first, while there is room to balance them.

    Args:
        presence: Shape (N, C), whether class c occurs in image n.
        fractions: Share of each part; each in (0, 1], together 1.
        seed: Ties are broken by it; equal inputs and seed give equal parts.
        groups: Length N; images with equal values stay together. None: each image on its own.

    Returns:
        One sorted array of image indices per part; together they are 0 .. N - 1, each once.

    Raises:
        ValueError: If the shapes or the fractions make no sense.
    """
    presence = np.asarray(presence, bool)
    shares = np.asarray(fractions, float)
    if presence.ndim != 2:
        raise ValueError(f"presence must have shape (N, C), not {presence.shape}")
    if shares.ndim != 1 or not len(shares) or (shares <= 0).any() or not np.isclose(shares.sum(), 1.0):
        raise ValueError(f"fractions must be positive and sum to 1, not {list(fractions)}")
    if groups is not None and len(groups) != len(presence):
        raise ValueError(f"groups must have one entry per image: {len(groups)} entries, {len(presence)} images")
    units = _units(len(presence), groups)
    part_of = _deal(_unit_counts(presence, units), np.array([len(unit) for unit in units]), shares, seed)
    parts: list[list[int]] = [[] for _ in shares]
    for unit, part in zip(units, part_of, strict=True):
        parts[part].extend(unit)
    return [np.array(sorted(part), np.intp) for part in parts]


def _units(count: int, groups: Sequence[Hashable] | None) -> list[list[int]]:
    if groups is None:
        return [[index] for index in range(count)]
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    return list(members.values())


def _unit_counts(presence: npt.NDArray[np.bool_], units: list[list[int]]) -> npt.NDArray[np.int64]:
    """Images of each unit that show each class, (U, C)."""
    counts = np.zeros((len(units), presence.shape[1]), np.int64)
    for row, unit in enumerate(units):
        counts[row] = presence[unit].sum(axis=0)
    return counts


def _deal(
    counts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.intp]:
    """The part of each unit, (U,)."""
    order = np.random.default_rng(seed).permutation(len(counts))
    part_of = np.full(len(counts), -1, np.intp)
    totals = counts.sum(axis=0)
    # (parts, C) and (parts,): what each part still wants.
    wanted = np.where(totals > 0, np.maximum(shares[:, None] * totals, 1.0), 0.0)
    room = shares * sizes.sum()
    while (part_of < 0).any():
        open_units = order[part_of[order] < 0]
        left = counts[open_units].sum(axis=0)
        if left.any():
            rarest = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
            candidates = open_units[counts[open_units, rarest] > 0]
            candidates = candidates[np.argsort(-counts[candidates, rarest], kind="stable")]
        else:
            rarest, candidates = -1, open_units
        for unit in candidates:
            lack = wanted[:, rarest] if rarest >= 0 else room
            part = int(np.lexsort((np.arange(len(shares)), -room, -lack))[0])
            part_of[unit] = part
            wanted[part] -= counts[unit]
            room[part] -= sizes[unit]
    return part_of


FRACTIONS = (0.6, 0.2, 0.2)
"""Shares of train, val and test where all three are drawn."""
VAL_SHARE = 0.2
"""Of an official train, where val is drawn from it."""


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
