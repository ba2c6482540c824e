"""From a scene's specification to its image, its mask and the difficulty of every object."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from trainables.data.base import VOID, Image, Mask
from trainables.data.scenes.canvas import SUPERSAMPLING, Canvas, Floats
from trainables.data.scenes.spec import BUILDING, CLASSES, FAR, PAVEMENT, ROAD, SKY, VEGETATION, SceneSpec
from trainables.data.scenes.things import DRAWERS

Floats32 = npt.NDArray[np.float32]

_GROUND = (SKY, VEGETATION, ROAD, PAVEMENT, BUILDING, VEGETATION)
"""Classes of the owners below the objects: sky, grass, road, pavements, the far buildings and the far trees."""

_GRASS, _ROAD, _PAVEMENT, _FAR_BUILDING, _FAR_TREE = range(1, 6)

_SOLID = np.array([8, 8, 8, 8, 8, 8, 7, 5, 6, 6]) / 9
"""A pixel belongs to the class that fills at least this share of it, otherwise to the void seam.

Thin classes keep more of themselves, or a pole would be all seam.
"""

_ROUGHNESS = np.array([0.012, 0.05, 0.05, 0.04, 0.17, 0.025, 0.05, 0.03, 0.02, 0.03])
"""Standard deviation of each class's surface texture, as a share of its brightness."""


@dataclass(frozen=True)
class Difficulty:
    """What makes an object hard to find; of one class, so a sign and its post are two."""

    kind: str
    class_name: str
    number: int
    """The object's place in `SceneSpec.objects`."""
    pixels: float
    """Visible size, in pixels."""
    occlusion: float
    """Share of what lies inside the frame that something nearer hides."""
    truncation: float
    """Share that lies outside the frame (looked for half a frame around it)."""
    contrast: float
    """Distance of its mean colour from that of the two pixels around it, 0..1."""
    light: float
    """Its mean brightness, 0..1."""
    blur: float
    """Standard deviation of the blur, in pixels."""
    box: tuple[int, int, int, int]
    """Top, left, bottom, right of the visible part, in pixels, half open."""


@dataclass(frozen=True)
class Scene:
    """A drawn scene."""

    image: Image
    """uint8 (H, W, 3), as it comes out of `jpeg`."""
    mask: Mask
    """uint8 (H, W)."""
    jpeg: bytes
    """The image's file."""
    objects: tuple[Difficulty, ...]
    """Those of which at least half a pixel can be seen."""


def draw_scene(spec: SceneSpec) -> Scene:
    """Draws a scene; equal specifications give equal bytes (with equal versions of NumPy and Pillow)."""
    canvas = Canvas(spec)
    classes = list(_GROUND)
    _draw_ground(canvas)
    canvas.shadow(
        [shadow(canvas, o) for o in spec.objects if (shadow := DRAWERS[o.kind].shadow) and _casts(spec, o.kind, o.x)]
    )
    _draw_distance(canvas)
    numbers: dict[int, int] = {}
    for number, thing in sorted(enumerate(spec.objects), key=lambda item: _order(item[1].kind, item[1].z)):
        drawer = DRAWERS[thing.kind]
        owner = len(classes)
        classes.extend(drawer.classes)
        numbers |= {owner + part: number for part in range(len(drawer.classes))}
        drawer.draw(canvas, thing, owner)
    canvas.flush()
    owners = np.asarray(canvas.owners)
    class_of = np.array(classes, np.uint8)
    mask, main = _mask(owners, class_of)
    image, jpeg = _develop(spec, np.asarray(canvas.colors.reduce(SUPERSAMPLING), np.float32), class_of[main])
    objects = tuple(_difficulties(canvas, image, main, class_of, numbers))
    return Scene(image, mask, jpeg, objects)


def _order(kind: str, z: float) -> tuple[bool, float]:
    """Far before near, and the street's edges, which stand outside, before what stands between them."""
    return kind not in ("building", "hedge"), -z


def _casts(spec: SceneSpec, kind: str, x: float) -> bool:
    return kind not in ("building", "hedge") or (x > 0) == (spec.light.sun_side > 0)


def _draw_ground(canvas: Canvas) -> None:
    spec = canvas.spec
    street, slopes = spec.street, canvas.slopes()
    rng = np.random.default_rng([spec.seed, 0])
    clouds = _smooth_noise(rng, slopes.shape, 5) * 0.6 + _smooth_noise(rng, slopes.shape, 11) * 0.4
    depth = spec.camera.height / np.maximum(slopes, 1e-3)
    colors = np.where((slopes < 0)[..., None], _sky(canvas, slopes, clouds), _grass(canvas, depth))
    canvas.fill(np.clip(colors, 0, 255).astype(np.uint8), _GRASS)

    light = canvas.light_on((0, 1, 0))
    asphalt = 96 + 14 * street.tint
    left, right = street.offset - street.road, street.offset + street.road

    def strip(
        x0: float, x1: float, color: tuple[float, float, float], owner: int | None, z0: float = 0.6, z1: float = FAR
    ) -> None:
        # In pieces, so that haze can grow with depth.
        stops = [z0, *(z for z in (3, 6, 10, 16, 25, 40, 60) if z0 < z < z1), z1]
        for near, far in pairwise(stops):
            tone = canvas.lit(color, (near + far) / 2, light)
            canvas.polygon([(x0, 0, near), (x1, 0, near), (x1, 0, far), (x0, 0, far)], tone, owner)

    strip(left, right, (asphalt, asphalt, asphalt + 5), _ROAD)
    for side in (-1, 1):
        kerb = street.offset + side * street.road
        strip(kerb, kerb + side * street.pavement, (164, 156, 148), _PAVEMENT)
        strip(kerb, kerb + side * 0.22, (190, 188, 184), None)
        for z in np.arange(2.0, 24.0, 1.6):
            strip(kerb, kerb + side * street.pavement, (142, 134, 128), None, float(z), float(z) + 0.07)
    for z in np.arange(1.5, 60, 4.5):
        strip(street.offset - 0.07, street.offset + 0.07, (214, 212, 204), None, float(z), float(z) + 2)
    if street.crossing:
        for x in np.arange(left + 0.4, right - 0.4, 0.95):
            strip(float(x), float(x) + 0.5, (218, 216, 210), None, street.crossing, street.crossing + 2.6)


def _sky(canvas: Canvas, slopes: Floats, clouds: Floats) -> Floats:
    sun = canvas.spec.light.sun
    height = np.clip(-slopes / 0.6, 0, 1)[..., None]
    zenith = np.array([96.0, 146.0, 206.0]) * sun + np.array([168.0, 174.0, 182.0]) * (1 - sun)
    veil = canvas.spec.light.haze * 0.5
    color = np.array(canvas.air) * (1 - height) + zenith * height
    cover = np.clip(clouds * 1.6 + 0.1, 0, 1)[..., None] * (0.35 + 0.4 * (1 - veil))
    return np.asarray(color * (1 - cover) + np.array([238.0, 240.0, 242.0]) * cover)


def _grass(canvas: Canvas, depth: Floats) -> Floats:
    air = (canvas.spec.light.haze * (1 - np.exp(-np.minimum(depth, 500) / 35.0)))[..., None]
    green = np.array([88.0, 118.0, 58.0]) * canvas.light_on((0, 1, 0))
    return np.asarray(green * (1 - air) + np.array(canvas.air) * air)


def _draw_distance(canvas: Canvas) -> None:
    """The end of the street: hazy house fronts and trees."""
    rng = np.random.default_rng([canvas.spec.seed, 1])
    light = canvas.light_on((0, 0, -1))
    x = -70.0
    while x < 70:
        wide, tall = rng.uniform(7, 16), rng.uniform(4, 13)
        if rng.random() < 0.55:
            tone = canvas.lit(tuple(rng.uniform(110, 190, 3)), FAR, light)
            canvas.polygon(
                [(x, 0, FAR), (x + wide, 0, FAR), (x + wide, tall, FAR), (x, tall, FAR)], tone, _FAR_BUILDING
            )
        else:
            tone = canvas.lit((72, 104, 58), FAR, light)
            tops = [(x + wide * t, tall * 0.6 * (1 + 0.25 * rng.uniform(-1, 1)), FAR) for t in np.linspace(0, 1, 7)]
            canvas.polygon([(x, 0, FAR), *tops, (x + wide, 0, FAR)], tone, _FAR_TREE)
        x += wide


def _mask(owners: Mask, class_of: Mask) -> tuple[Mask, Mask]:
    """The mask with void seams, and the owner that fills most of each pixel.

    Seams run between things and whatever is beside them, and between surfaces of different classes.
    """
    seam_of = np.where(class_of < 5, class_of, np.arange(len(class_of)) + 5).astype(np.uint8)
    step = SUPERSAMPLING
    height, width = owners.shape[0] // step, owners.shape[1] // step
    samples = owners.reshape(height, step, width, step).transpose(1, 3, 0, 2).reshape(step * step, height, width)
    seams = seam_of[samples]
    votes = np.zeros(samples.shape, np.uint8)
    for sample in seams:
        votes += seams == sample
    winner = votes.argmax(axis=0)
    share = np.take_along_axis(votes, winner[None], axis=0)[0] / (step * step)
    main = np.take_along_axis(samples, winner[None], axis=0)[0]
    solid = class_of[main]
    return np.where(share >= _SOLID[solid] - 1e-6, solid, VOID).astype(np.uint8), main


def _develop(spec: SceneSpec, colors: Floats32, solid: Mask) -> tuple[Image, bytes]:
    """Texture, light, lens, sensor and compression, in this order."""
    light, camera = spec.light, spec.camera
    height, width = solid.shape
    rng = np.random.default_rng([spec.seed, 2])
    grain = 0.75 * rng.standard_normal((height, width), np.float32) + 0.9 * _smooth_noise(rng, (height, width), 24)
    sensor = rng.standard_normal((height, width, 3), np.float32)
    down, across = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    vignette = 1 - 0.1 * (down**2 + across**2)
    tint = np.array([1 + 0.2 * light.warmth, 1.0 + 0.03 * light.warmth, 1 - 0.26 * light.warmth]) * light.exposure
    image = (
        colors * ((1 + _ROUGHNESS[solid] * grain) * vignette).astype(np.float32)[..., None] * tint.astype(np.float32)
    )
    # A shoulder instead of a hard clip keeps colour in bright skies.
    bright = image > 200
    image[bright] = 200 + 55 * np.tanh((image[bright] - 200) / 55)
    image = _blurred(image, camera.blur) + camera.noise * sensor
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=camera.jpeg)
    return np.asarray(PIL.Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")), buffer.getvalue()


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> Floats:
    """Noise of about unit range without detail finer than a cell; `cells` across the larger side."""
    small = rng.standard_normal((max(2, cells * shape[0] // max(shape)), max(2, cells * shape[1] // max(shape))))
    image = PIL.Image.fromarray(small.astype(np.float32)).resize((shape[1], shape[0]), PIL.Image.Resampling.BICUBIC)
    return np.asarray(image, np.float64)


def _blurred(image: Floats32, sigma: float) -> Floats32:
    if sigma < 0.05:
        return image
    radius = max(1, int(np.ceil(3 * sigma)))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        padded = np.pad(np.moveaxis(image, axis, 0), ((radius, radius), (0, 0), (0, 0)), mode="edge")
        length = image.shape[axis]
        image = np.moveaxis(
            sum((w * padded[i : i + length] for i, w in enumerate(weights)), np.zeros(1, np.float32)), 0, axis
        )
    return image


def _difficulties(
    canvas: Canvas, image: Image, main: Mask, class_of: Mask, numbers: dict[int, int]
) -> list[Difficulty]:
    import scipy.ndimage  # slow to load, and not needed to know of the data set

    owners = np.asarray(canvas.owners)
    area = SUPERSAMPLING**2
    visible = np.bincount(owners.ravel(), minlength=len(class_of))
    contrasts, lights = _contrasts(image, main, len(class_of))
    places = scipy.ndimage.find_objects(owners, max_label=len(class_of))
    found = []
    for owner, number in numbers.items():
        if visible[owner] * 2 < area:
            continue
        inside, total = _silhouette(canvas.outlines[owner], canvas.width, canvas.height)
        rows, columns = places[owner - 1]
        box = (
            rows.start // SUPERSAMPLING, columns.start // SUPERSAMPLING,
            (rows.stop - 1) // SUPERSAMPLING + 1, (columns.stop - 1) // SUPERSAMPLING + 1,
        )  # fmt: skip
        found.append(
            Difficulty(
                kind=canvas.spec.objects[number].kind,
                class_name=CLASSES[class_of[owner]].name,
                number=number,
                pixels=round(float(visible[owner]) / area, 2),
                occlusion=round(1 - float(visible[owner]) / max(inside, int(visible[owner])), 4),
                truncation=round(1 - inside / max(1, total), 4),
                contrast=round(float(contrasts[owner]), 4),
                light=round(float(lights[owner]), 4),
                blur=canvas.spec.camera.blur,
                box=box,
            )
        )
    return found


def _silhouette(polygons: list[Floats], width: int, height: int) -> tuple[int, int]:
    """Raster points of the whole outline inside the frame, and inside the frame and half a frame around it."""
    points = np.concatenate(polygons)
    left, top = (int(v) for v in np.maximum(np.floor(points.min(axis=0)), (-width // 2, -height // 2)))
    edge = (width + width // 2, height + height // 2)
    right, bottom = (int(v) for v in np.minimum(np.ceil(points.max(axis=0)) + 1, edge))
    if min(right, width) <= max(left, 0) or min(bottom, height) <= max(top, 0):
        return 0, 0
    alone = PIL.Image.new("L", (right - left, bottom - top))
    draw = PIL.ImageDraw.Draw(alone)
    start, points = 0, points - (left, top)
    for polygon in polygons:
        draw.polygon(points[start : start + len(polygon)].ravel().tolist(), fill=1)
        start += len(polygon)
    total = alone.histogram()[1]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return total, total
    inside = alone.crop((max(0, -left), max(0, -top), min(right, width) - left, min(bottom, height) - top))
    return inside.histogram()[1], total


def _contrasts(image: Image, main: Mask, count: int) -> tuple[Floats, Floats]:
    """For each owner the distance of its mean colour from its surroundings' (0..1), and its brightness (0..1).

    Its surroundings lie three pixels away in eight directions, beyond the pixels that it shares with them.
    """
    colors = image.reshape(-1, 3).T / 255.0
    flat = main.ravel()
    inner = _means(flat, colors, count)
    height, width = main.shape
    places = np.arange(main.size).reshape(main.shape)
    owners, around = [], []
    for dy, dx in ((-3, 0), (3, 0), (0, -3), (0, 3), (-2, -2), (-2, 2), (2, -2), (2, 2)):
        here = places[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)].ravel()
        there = here + dy * width + dx
        differ = flat[here] != flat[there]
        owners.append(flat[here[differ]])
        around.append(there[differ])
    outer = _means(np.concatenate(owners), colors[:, np.concatenate(around)], count)
    distance = np.sqrt(((inner - outer) ** 2).sum(axis=0) / 3)
    return np.nan_to_num(distance), np.nan_to_num(np.array([0.299, 0.587, 0.114]) @ inner)


def _means(owners: Mask, colors: Floats, count: int) -> Floats:
    """Mean colour (3, count) over the pixels of each owner; NaN where it has none."""
    pixels = np.bincount(owners, minlength=count)
    sums = np.stack([np.bincount(owners, weights=channel, minlength=count) for channel in colors])
    return np.asarray(np.where(pixels > 0, sums / np.maximum(pixels, 1), np.nan))
