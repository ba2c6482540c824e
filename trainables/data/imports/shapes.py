"""Shapes as pixels, for the formats that do not say how theirs are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainables.words import counted

Points = Sequence[tuple[float, float]]
"""Corners (x, y) in pixels, the middle of the first pixel at (0, 0)."""
Pixels = npt.NDArray[np.bool_]
"""Shape (H, W)."""


def polygon(size: tuple[int, int], rings: Sequence[Points]) -> Pixels:
    """The pixels whose middle lies in a polygon: within an odd number of its rings.

    Args:
        size: Height and width of the image.
        rings: The outer one first, then holes.

    Raises:
        ValueError: If a ring has fewer than 3 corners.
    """
    from matplotlib.path import Path as Ring  # takes a second to load, and few data sets need it

    pixels = np.zeros(size, bool)
    for ring in rings:
        if len(ring) < 3:
            raise ValueError(f"{counted(len(ring), 'point')} make no polygon")
        corners = np.asarray(ring, float)
        first = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, (size[1], size[0]))
        last = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, (size[1], size[0]))
        rows, columns = np.mgrid[first[1] : last[1], first[0] : last[0]]
        inside = Ring(corners).contains_points(np.column_stack([columns.ravel(), rows.ravel()]))
        pixels[first[1] : last[1], first[0] : last[0]] ^= inside.reshape(rows.shape)
    return pixels


def turned_rectangle(
    size: tuple[int, int], box: tuple[float, float, float, float], about: tuple[float, float], degrees: float
) -> Pixels:
    """The pixels whose middle lies in a rectangle that was turned.

    Args:
        size: Height and width of the image.
        box: Left, top, right and bottom before it is turned.
        about: The point (x, y) that it is turned about.
        degrees: By which it is turned, clockwise as one sees it.
    """
    left, top, right, bottom = box
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    steps = [(x - about[0], y - about[1]) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]
    return polygon(size, [[(about[0] + x * cosine - y * sine, about[1] + x * sine + y * cosine) for x, y in steps]])


def rectangle(size: tuple[int, int], corner: tuple[float, float], opposite: tuple[float, float]) -> Pixels:
    """The pixels of a rectangle, both corners included."""
    (left, right), (top, bottom) = (
        sorted(round(value) for value in pair) for pair in zip(corner, opposite, strict=True)
    )
    pixels = np.zeros(size, bool)
    pixels[max(0, top) : max(0, bottom + 1), max(0, left) : max(0, right + 1)] = True
    return pixels


def ellipse(size: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float], degrees: float) -> Pixels:
    """The pixels whose middle lies in an ellipse.

    Args:
        size: Height and width of the image.
        centre: (x, y).
        radii: Along x and y before it is turned.
        degrees: By which it is turned, clockwise as one sees it.
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    angle = np.deg2rad(degrees)
    x, y = columns - centre[0], rows - centre[1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside: Pixels = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    return inside


def paste(pixels: Pixels, part: Pixels, left: int, top: int) -> None:
    """Puts the pixels of a part into an image; what lies outside is cut off."""
    height, width = pixels.shape
    rows = slice(max(0, top), min(height, top + part.shape[0]))
    columns = slice(max(0, left), min(width, left + part.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        pixels[rows, columns] |= part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
