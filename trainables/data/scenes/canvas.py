"""A pinhole camera over two rasters: colours, and which object each pixel shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from trainables.data.scenes.spec import SceneSpec

SUPERSAMPLING = 3
"""Raster points per pixel, in each direction."""

_FOCAL = 115.0
"""Pixels at zoom 1: about 58 degrees across an image of 128."""

_NEAR = 0.4
_AMBIENT_LOSS = 0.42
_DIRECT = 0.78

Floats = npt.NDArray[np.float64]
Points = Floats | Sequence[tuple[float, float, float]]
Rgb = tuple[float, float, float] | tuple[int, int, int]
_Stroke = tuple[Floats, Rgb, float, int | None]


class Canvas:
    """Draws polygons of the street's space, lit and hazed, far ones first.

    `owner` is the number of the object that a polygon belongs to; details inside an object's outline need none.
    """

    def __init__(self, spec: SceneSpec) -> None:
        self.spec = spec
        self.height, self.width = spec.height * SUPERSAMPLING, spec.width * SUPERSAMPLING
        self.colors = PIL.Image.new("RGB", (self.width, self.height))
        self.owners = PIL.Image.new("L", (self.width, self.height))
        self.outlines: dict[int, list[Floats]] = {}
        self.air = tuple(channel * (0.75 + 0.25 * spec.light.sun) for channel in (206.0, 216.0, 226.0))
        self._focal = _FOCAL * spec.camera.zoom * SUPERSAMPLING
        self._yaw, self._roll = np.deg2rad([spec.camera.yaw, spec.camera.roll])
        self._sun = _sun_direction(spec)
        self._queue: list[_Stroke] = []

    def fill(self, colors: npt.NDArray[np.uint8], ground: int) -> None:
        """Replaces everything drawn so far.

        Args:
            colors: Shape (H, W, 3) in pixels, not raster points.
            ground: The owner of what lies below the horizon; above it is owner 0, the sky.
        """
        self._queue.clear()
        self.colors = PIL.Image.fromarray(colors).resize(self.colors.size, PIL.Image.Resampling.NEAREST)
        self.owners = PIL.Image.new("L", self.colors.size)
        along = np.array([np.cos(self._roll), np.sin(self._roll)]) * 4 * self.width
        down = np.array([-along[1], along[0]])
        middle = np.array([self.width / 2, self.height * self.spec.camera.horizon])
        corners = np.concatenate([middle - along, middle + along, middle + along + down, middle - along + down])
        PIL.ImageDraw.Draw(self.owners).polygon(corners.tolist(), fill=ground)

    def slopes(self) -> Floats:
        """How far the middle of each pixel looks down, as metres of descent per metre of depth; negative in the sky.

        Shape (H, W) in pixels.
        """
        x = np.arange(SUPERSAMPLING / 2, self.width, SUPERSAMPLING) - self.width / 2
        y = np.arange(SUPERSAMPLING / 2, self.height, SUPERSAMPLING)
        below = y - self.height * self.spec.camera.horizon
        return np.asarray((below[:, None] * np.cos(self._roll) - x[None] * np.sin(self._roll)) / self._focal)

    def project(self, points: Points) -> Floats:
        """Raster coordinates (N, 2), as (x, y), of points (N, 3) in metres."""
        x, y, z = np.asarray(points, float).reshape(-1, 3).T
        along = np.maximum(x * np.sin(self._yaw) + z * np.cos(self._yaw), _NEAR)
        across = (x * np.cos(self._yaw) - z * np.sin(self._yaw)) * (-1 if self.spec.street.mirrored else 1)
        u = self._focal * across / along
        v = self._focal * (self.spec.camera.height - y) / along
        px = self.width / 2 + u * np.cos(self._roll) - v * np.sin(self._roll)
        py = self.height * self.spec.camera.horizon + u * np.sin(self._roll) + v * np.cos(self._roll)
        return np.column_stack([px, py])

    def sees(self, point: tuple[float, float, float]) -> bool:
        """Whether a point lies between the left and right edge of the image, give or take a tenth of its width."""
        across = float(self.project([point])[0, 0]) / self.width
        return -0.1 < across < 1.1

    def polygon(self, points: Points, color: Rgb, owner: int | None = None, opacity: float = 1.0) -> None:
        """Draws a polygon of points (N, 3) in metres with a final colour (see `lit`); `opacity` 0..1."""
        self._queue.append((np.asarray(points, float), color, opacity, owner))

    def quads(self, points: Floats, colors: Sequence[Rgb]) -> None:
        """Draws details: quadrilaterals (N, 4, 3), each with its final colour."""
        for corners, color in zip(points, colors, strict=True):
            self.polygon(corners, color)

    def flush(self) -> None:
        """Brings the polygons given so far onto the rasters, all projected at once."""
        if not self._queue:
            return
        queue, self._queue = self._queue, []
        flat = self.project(np.concatenate([points for points, *_ in queue]))
        fills = (
            np.clip(np.rint([(*color, 255 * opacity) for _, color, opacity, _ in queue]), 0, 255).astype(int).tolist()
        )
        paint, glaze = PIL.ImageDraw.Draw(self.colors), PIL.ImageDraw.Draw(self.colors, "RGBA")
        number_owners = PIL.ImageDraw.Draw(self.owners)
        ends = np.cumsum([len(points) for points, *_ in queue])
        starts = ends - [len(points) for points, *_ in queue]
        low, high = np.minimum.reduceat(flat, starts, axis=0), np.maximum.reduceat(flat, starts, axis=0)
        seen = np.all((high >= 0) & (low <= (self.width, self.height)), axis=1)
        for number, (_, _, opacity, owner) in enumerate(queue):
            outline = flat[starts[number] : ends[number]]
            if owner is not None:
                self.outlines.setdefault(owner, []).append(outline)
            if not seen[number]:
                continue
            corners, fill = outline.ravel().tolist(), fills[number]
            if opacity == 1:
                paint.polygon(corners, fill=tuple(fill[:3]))
            else:
                glaze.polygon(corners, fill=tuple(fill))
            if owner is not None:
                number_owners.polygon(corners, fill=owner)

    def shadow(self, polygons: Sequence[Points]) -> None:
        """Takes the direct light off the ground drawn so far, inside the polygons."""
        self.flush()
        veil = PIL.Image.new("L", self.colors.size)
        draw = PIL.ImageDraw.Draw(veil)
        for points in polygons:
            draw.polygon(self.project(points).ravel().tolist(), fill=255)
        factor = self.light_on((0, 1, 0), shadowed=True) / self.light_on((0, 1, 0))
        table = [round(value * factor) for value in range(256)] * 3
        self.colors = PIL.Image.composite(self.colors.point(table), self.colors, veil)

    def light_on(self, normal: tuple[float, float, float], *, shadowed: bool = False) -> float:
        """Lambert's law: brightness of a surface by its unit normal."""
        sun = self.spec.light.sun
        direct = 0.0 if shadowed else max(0.0, float(np.dot(self._sun, normal)))
        return 1.0 - _AMBIENT_LOSS * sun + _DIRECT * sun * direct

    def shadow_offset(self) -> tuple[float, float]:
        """Metres along x and z by which a shadow moves away for each metre of height."""
        return float(-self._sun[0] / self._sun[1]), float(-self._sun[2] / self._sun[1])

    def lit(self, color: Rgb, z: float, brightness: float = 1.0) -> Rgb:
        """A surface's colour after light and haze at depth `z`."""
        air = self.spec.light.haze * (1 - math.exp(-max(z, 0.0) / 35.0))
        red, green, blue = (c * brightness * (1 - air) + a * air for c, a in zip(color, self.air, strict=True))
        return red, green, blue


def _sun_direction(spec: SceneSpec) -> Floats:
    height = np.deg2rad(spec.light.sun_height)
    direction = np.array([spec.light.sun_side * 0.8 * np.cos(height), np.sin(height), -0.6 * np.cos(height)])
    return np.asarray(direction / np.linalg.norm(direction))
