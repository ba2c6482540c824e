"""Parts that hold the share asked for of each class's pixels, images and groups: exchanges until none is better."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STEPS = 1000
"""Exchanges at most."""
_CANDIDATES = 256
"""Units of a part that are tried in pairs with as many of another part: those that help most by themselves."""
_ABSENT = 1e6
"""Imbalance of a class that a part lacks: above what any deviation of shares comes to."""
_FEW = 1e4
"""Imbalance of a unit that a part has less than the least."""
_SIZE = 100
"""Units that are single images can be dealt out in the numbers asked for, so that is done."""
_GAIN = 1e-9


def unit_shares(pixels: npt.NDArray[np.int64], units: list[list[int]], shown: npt.NDArray[np.int64]) -> Floats:
    """What each unit has of every quantity that is balanced, shape (U, K); each column sums to 1.

    The quantities are the pixels of each class, the images that show it and, where a unit is several images, the
    units that show it; and last the number of images.

    Args:
        pixels: Of each class in each image, shape (N, C).
        units: The images of each unit.
        shown: Images of each unit that show each class, shape (U, C).
    """
    of_units = np.array([pixels[unit].sum(axis=0) for unit in units], float).reshape(shown.shape)
    columns = [of_units, shown.astype(float)]
    if any(len(unit) > 1 for unit in units):
        columns.append((shown > 0).astype(float))
    there = shown.any(axis=0)
    shares = np.hstack([column[:, there] / column[:, there].sum(axis=0) for column in columns])
    sizes = np.array([len(unit) for unit in units], float)[:, None] / max(1, len(pixels))
    return np.hstack([shares, sizes])


def lacking(part_of: npt.NDArray[np.intp], shows: npt.NDArray[np.bool_], parts: int) -> int:
    """How often a part lacks a class, over all parts and classes.

    Args:
        part_of: The part of each unit, shape (U,).
        shows: Whether a unit shows a class, shape (U, C).
        parts: Their number.
    """
    return sum(int((~shows[part_of == part].any(axis=0)).sum()) for part in range(parts))


def exchanged(
    part_of: npt.NDArray[np.intp],
    quantities: Floats,
    shows: npt.NDArray[np.bool_],
    shares: Floats,
    least: npt.NDArray[np.int64],
) -> npt.NDArray[np.intp]:
    """Moves one unit, or swaps two, as long as that lowers the imbalance; the best exchange first.

    Imbalance is the sum of squares of the relative deviations from the shares asked for (each quantity of a class has
    the weight 1, the number of images that of all classes together, times `_SIZE` where units are single images), and
    `_ABSENT` for each class that a part lacks, `_FEW` for each unit that it has less than the least.

    Args:
        part_of: Where to begin, shape (U,).
        quantities: `unit_shares`, shape (U, K).
        shows: Whether a unit shows a class that is in enough units for all parts, shape (U, C).
        shares: Of each part, shape (P,).
        least: Units that a part should have, shape (P,).

    Returns:
        The part of each unit. With more than `_CANDIDATES` units in a part the best swap may be among those not tried.
    """
    part_of = part_of.copy()
    scaled, has = quantities.copy(), shows.astype(float)
    alone = bool(np.ptp(quantities[:, -1]) == 0) if len(quantities) else True
    scaled[:, -1] *= np.sqrt(max(1, shows.shape[1]) * (_SIZE if alone else 1))
    goal = scaled.sum(axis=0)
    for _ in range(_STEPS):
        units = np.bincount(part_of, minlength=len(shares))
        moves = _moves(part_of, scaled, has, shares, goal)
        moves += _FEW * ((units <= least)[part_of][:, None] - (units < least).astype(float))
        unit, part = np.unravel_index(int(moves.argmin()), moves.shape) if moves.size else (0, 0)
        best, change = (float(moves[unit, part]) if moves.size else 0.0), {int(unit): int(part)}
        for one, other in combinations(range(len(shares)), 2):
            gain, swap = _best_swap(part_of, moves, scaled, has, shares, (one, other))
            gain -= _FEW * float((units == least)[[one, other]].sum())  # a swap leaves the numbers as they are
            if gain < best:
                best, change = gain, swap
        if best > -_GAIN:
            break
        for unit, part in change.items():
            part_of[unit] = part
    return part_of


def _moves(part_of: npt.NDArray[np.intp], scaled: Floats, has: Floats, shares: Floats, goal: Floats) -> Floats:
    """How imbalance changes if a unit moves to a part, shape (U, P); infinite for the part that it is in."""
    parts = range(len(shares))
    over = np.stack([scaled[part_of == part].sum(axis=0) - shares[part] * goal for part in parts])
    inner, squares = scaled @ over.T, (scaled**2).sum(axis=1, keepdims=True)
    count = np.stack([has[part_of == part].sum(axis=0) for part in parts])
    rows = np.arange(len(part_of))
    leaving = ((squares - 2 * inner) / shares**2 + _ABSENT * (has @ (count == 1).T))[rows, part_of]
    joining = (squares + 2 * inner) / shares**2 - _ABSENT * (has @ (count == 0).T)
    moves: Floats = leaving[:, None] + joining
    moves[rows, part_of] = np.inf
    return moves


def _best_swap(
    part_of: npt.NDArray[np.intp], moves: Floats, scaled: Floats, has: Floats, shares: Floats, between: tuple[int, int]
) -> tuple[float, dict[int, int]]:
    """The swap of two units of two parts that lowers imbalance most, and by how much."""
    one, other = between
    first, second = (
        members[np.argsort(moves[members, to], kind="stable")[:_CANDIDATES]]
        for members, to in ((np.flatnonzero(part_of == one), other), (np.flatnonzero(part_of == other), one))
    )
    if not (len(first) and len(second)):
        return np.inf, {}
    both = moves[first, other][:, None] + moves[second, one]
    both -= 2 * (scaled[first] @ scaled[second].T) * (1 / shares[one] ** 2 + 1 / shares[other] ** 2)
    # The last unit with a class does not leave it absent where the other brings it.
    last = np.stack([has[part_of == part].sum(axis=0) == 1 for part in between]).astype(float)
    both -= _ABSENT * ((has[first] * last.sum(axis=0)) @ has[second].T)
    row, column = np.unravel_index(int(both.argmin()), both.shape)
    return float(both[row, column]), {int(first[row]): other, int(second[column]): one}
