"""Drawing splits: shares of every class close to those asked for, groups kept together.

Two rules: `pixels`, and `images` of splits that were drawn before there was the other; a run that began with one is
compared with what that one draws (`like_before`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trainables.data.base import SegmentationData
from trainables.data.cache.scan import pixels_by_image
from trainables.data.splits.balanced import exchanged, lacking, unit_shares

FRACTIONS = (0.6, 0.2, 0.2)
"""Shares of train, val and test where all three are drawn."""
VAL_SHARE = 0.2
"""Of an official train, where val is drawn from it."""
RULES = ("pixels", "images")
"""How parts are drawn; the first is that of new splits."""
LEAST_GROUPS = 8
"""Groups that test should have where there are three times as many: with fewer a report has no intervals."""
_STARTS = 10
"""Draws that exchanges begin from, at most: the next one where a part still lacks a class that all could have."""
_rule: ContextVar[str] = ContextVar("rule of drawn splits", default=RULES[0])
_T = TypeVar("_T")


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
    units, shares = _checked(presence, fractions, groups)
    part_of = _deal(_unit_counts(presence, units), np.array([len(unit) for unit in units]), shares, seed)
    return _parts(units, part_of, len(shares))


def balanced_split(
    pixels: npt.NDArray[np.int64],
    fractions: Sequence[float],
    *,
    seed: int,
    groups: Sequence[Hashable] | None = None,
) -> list[npt.NDArray[np.intp]]:
    """Cuts images into parts whose shares of every class's pixels and images come close to `fractions`.

    Begins with `stratified_split`, which knows which classes an image shows but not how large they are, then moves and
    swaps units as long as that lowers the sum of squares of relative deviations (pixels, images and groups of each
    class, images in all). That a part lacks a class which is in as many units as there are parts comes before all
    deviations, and another beginning is tried. Of three parts the last is test, which gets at least `LEAST_GROUPS`
    groups where there are three times as many.

    Where one unit holds a larger share of a class than a part should, it seldom gets into that part;
    `benchmarks/splits.py` shows how seldom, and what that does to the score of a fixed model.

    Args:
        pixels: Shape (N, C), pixels of class c in image n.
        fractions: Share of each part; each in (0, 1], together 1.
        seed: Of the beginning; equal inputs and seed give equal parts.
        groups: Length N; images with equal values stay together. None: each image on its own.

    Returns:
        One sorted array of image indices per part; together they are 0 .. N - 1, each once.

    Raises:
        ValueError: If the shapes or the fractions make no sense.
    """
    pixels = np.asarray(pixels, np.int64)
    units, shares = _checked(pixels, fractions, groups)
    counts, sizes = _unit_counts(pixels > 0, units), np.array([len(unit) for unit in units])
    shows = (counts > 0)[:, (counts > 0).sum(axis=0) >= len(shares)]
    quantities = unit_shares(pixels, units, counts)
    least = np.zeros(len(shares), np.int64)
    if groups is not None and len(shares) == len(FRACTIONS) and len(units) >= len(shares) * LEAST_GROUPS:
        least[-1] = LEAST_GROUPS
    drawn: list[npt.NDArray[np.intp]] = []
    for start in range(_STARTS):
        begun = _deal(counts, sizes, shares, [seed, start] if start else seed)
        drawn.append(exchanged(begun, quantities, shows, shares, least))
        if not lacking(drawn[-1], shows, len(shares)):
            break
    best = min(drawn, key=lambda part_of: lacking(part_of, shows, len(shares)))
    return _parts(units, best, len(shares))


def _checked(
    of_images: npt.NDArray[np.bool_] | npt.NDArray[np.int64],
    fractions: Sequence[float],
    groups: Sequence[Hashable] | None,
) -> tuple[list[list[int]], npt.NDArray[np.float64]]:
    """The units and the shares, if they make sense."""
    shares = np.asarray(fractions, float)
    if of_images.ndim != 2:
        raise ValueError(f"what images show must have shape (N, C), not {of_images.shape}")
    if shares.ndim != 1 or not len(shares) or (shares <= 0).any() or not np.isclose(shares.sum(), 1.0):
        raise ValueError(f"fractions must be positive and sum to 1, not {list(fractions)}")
    if groups is not None and len(groups) != len(of_images):
        raise ValueError(f"groups must have one entry per image: {len(groups)} entries, {len(of_images)} images")
    return _units(len(of_images), groups), shares


def _parts(units: list[list[int]], part_of: npt.NDArray[np.intp], count: int) -> list[npt.NDArray[np.intp]]:
    parts: list[list[int]] = [[] for _ in range(count)]
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
    counts: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float64],
    seed: int | Sequence[int],
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


def draw(
    data: SegmentationData,
    ids: Sequence[str],
    fractions: Sequence[float],
    *,
    seed: int,
    groups: Sequence[str | None] | None = None,
) -> list[tuple[str, ...]]:
    """Deals ids out by the rule in force; images of a group stay together.

    Args:
        data: The data set (its masks are read).
        ids: The images to deal out.
        fractions: The share of each part.
        seed: Of the draw.
        groups: The group of each image; None: each on its own.
    """
    units = None if groups is None else [i if group is None else (group,) for i, group in zip(ids, groups, strict=True)]
    pixels = pixels_by_image(data, ids)
    if _rule.get() == "images":
        parts = stratified_split(pixels > 0, fractions, seed=seed, groups=units)
    else:
        parts = balanced_split(pixels, fractions, seed=seed, groups=units)
    return [tuple(ids[index] for index in part) for part in parts]


def how_drawn(seed: int) -> str:
    """The rule in force, as the origin of splits tells it."""
    by = "class" if _rule.get() == "images" else "pixels and images of each class"
    return f"stratified by {by} with seed {seed}"


def like_before(draw_all: Callable[[], _T], same: Callable[[_T], bool]) -> _T:
    """What was drawn before, by whichever of the rules; what the present rule draws where it is none of them.

    Args:
        draw_all: Draws splits.
        same: Whether they are those of before.
    """
    first = draw_all()
    if same(first):
        return first
    for rule in RULES[1:]:
        with drawn_by(rule):
            found = draw_all()
        if same(found):
            return found
    return first


@contextmanager
def drawn_by(rule: str) -> Iterator[None]:
    """Splits are drawn by one of `RULES` inside.

    Args:
        rule: The one.
    """
    token = _rule.set(rule)
    try:
        yield
    finally:
        _rule.reset(token)
