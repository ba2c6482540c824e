"""What a scene consists of: explicit factors and objects, drawn at random once and then open to change.

Lengths are metres in a street that runs away from the camera along z; x grows to the right, y upwards from the ground.
A factor changed with `dataclasses.replace` changes nothing else, because every random draw happens here: objects carry
seeds of their own for their details, and the sensor noise has the scene's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainables.data.base import ClassInfo

SEED = 2026
COUNTS = {"train": 300, "val": 100, "test": 150}
SIZES = ((96, 128), (112, 128), (96, 144))
"""Heights and widths that scenes come in."""

CLASSES = (
    ClassInfo("sky", (70, 130, 180)),
    ClassInfo("building", (70, 70, 70)),
    ClassInfo("road", (128, 64, 128)),
    ClassInfo("pavement", (244, 35, 232)),
    ClassInfo("vegetation", (107, 142, 35)),
    ClassInfo("car", (0, 0, 142)),
    ClassInfo("person", (220, 20, 60)),
    ClassInfo("pole", (153, 153, 153)),
    ClassInfo("sign", (220, 220, 0)),
    ClassInfo("bicycle", (119, 11, 32)),
)
SKY, BUILDING, ROAD, PAVEMENT, VEGETATION, CAR, PERSON, POLE, SIGN, BICYCLE = range(len(CLASSES))

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Light:
    """Sun, air and exposure."""

    exposure: float = 1.0
    """Factor on all brightness; 1 is a well exposed day."""
    warmth: float = 0.0
    """Colour temperature, -1 (blue) to 1 (orange)."""
    sun: float = 0.7
    """Strength of direct light, 0 (overcast) to 1; shadows are as strong."""
    sun_side: int = 1
    """Where the sun stands: -1 left, 1 right."""
    sun_height: float = 45.0
    """Degrees over the horizon."""
    haze: float = 0.15
    """0 (clear) to 1 (fog)."""


@dataclass(frozen=True)
class Camera:
    """Pose, lens and sensor."""

    zoom: float = 1.0
    """Factor on the focal length."""
    horizon: float = 0.45
    """Height of the horizon, as a fraction of the image height from its top."""
    yaw: float = 0.0
    """Degrees to the right of the street's direction."""
    roll: float = 0.0
    """Degrees clockwise."""
    height: float = 1.6
    """Metres above the road."""
    blur: float = 0.0
    """Standard deviation of the blur, in pixels."""
    noise: float = 2.0
    """Standard deviation of the sensor noise, in grey levels."""
    jpeg: int = 92
    """Quality of the compression, 1..95."""


@dataclass(frozen=True)
class Street:
    """The ground."""

    road: float = 3.4
    """Half the width of the road."""
    pavement: float = 2.4
    """Width of each pavement."""
    offset: float = 0.0
    """x of the road's middle: where in the street the camera stands."""
    mirrored: bool = False
    """Left and right exchanged, sun included."""
    crossing: float = 0.0
    """z of a zebra crossing; 0 for none."""
    tint: float = 0.0
    """Brightness of the asphalt, about -1..1."""


@dataclass(frozen=True)
class SceneObject:
    """A thing, or a stretch of the street's edge (building, hedge)."""

    kind: str
    """building, hedge, tree, car, person, lamp, bollard, sign or bicycle."""
    x: float
    z: float
    size: float = 1.0
    """Factor on the usual size of its kind."""
    heading: float = 0.0
    """Degrees about the vertical; 0 looks along the street."""
    length: float = 0.0
    """Along the street, for buildings and hedges."""
    height: float = 0.0
    """For buildings and hedges."""
    color: Color = (128, 128, 128)
    seed: int = 0
    """Of its details."""


@dataclass(frozen=True)
class SceneSpec:
    """Everything that decides a scene's pixels."""

    split: str
    index: int
    height: int
    width: int
    light: Light
    camera: Camera
    street: Street
    objects: tuple[SceneObject, ...]
    seed: int
    """Of surface textures, clouds and sensor noise."""


@dataclass(frozen=True)
class _Span:
    """Ranges that a split's conditions are drawn from."""

    exposure: tuple[float, float]
    warmth: tuple[float, float]
    sun: tuple[float, float]
    sun_height: tuple[float, float]
    haze: tuple[float, float]
    zoom: tuple[float, float]
    horizon: tuple[float, float]
    yaw: tuple[float, float]
    roll: tuple[float, float]
    blur: tuple[float, float]
    noise: tuple[float, float]
    jpeg: tuple[int, int]
    offset: tuple[float, float]
    turns: float
    """Degrees by which cars deviate from the street's direction."""
    mirrors: bool


_NARROW = _Span(
    exposure=(0.92, 1.08), warmth=(-0.1, 0.1), sun=(0.6, 0.8), sun_height=(40, 50), haze=(0.05, 0.15),
    zoom=(0.95, 1.05), horizon=(0.43, 0.47), yaw=(-2, 2), roll=(0, 0), blur=(0, 0.3), noise=(1.5, 3), jpeg=(88, 95),
    offset=(-0.4, 0.4), turns=4, mirrors=False,
)  # fmt: skip
_WIDE = _Span(
    exposure=(0.45, 1.4), warmth=(-0.7, 0.7), sun=(0.0, 1.0), sun_height=(25, 65), haze=(0.0, 0.5), zoom=(0.75, 1.5),
    horizon=(0.36, 0.54), yaw=(-7, 7), roll=(-8, 8), blur=(0, 0.9), noise=(1.5, 9), jpeg=(55, 95), offset=(-1.2, 1.2),
    turns=12, mirrors=True,
)  # fmt: skip

_WALLS = ((178, 84, 66), (202, 168, 128), (190, 186, 178), (146, 108, 90), (214, 196, 160), (126, 132, 142),
          (168, 150, 134), (224, 214, 200), (196, 140, 104))  # fmt: skip
_PAINTS = ((190, 30, 34), (32, 62, 140), (226, 226, 228), (24, 26, 30), (152, 156, 162), (38, 92, 70), (220, 170, 40),
           (96, 102, 112), (110, 30, 44), (70, 130, 170))  # fmt: skip
_CLOTHES = ((204, 46, 50), (46, 74, 160), (236, 190, 60), (54, 54, 60), (228, 226, 222), (60, 130, 90), (176, 90, 160),
            (230, 120, 40))  # fmt: skip
_SIGNS = ((208, 28, 36), (28, 74, 184), (242, 196, 30))
_LEAVES = ((70, 112, 44), (92, 128, 52), (56, 96, 48), (110, 132, 58))
FAR = 60.0
"""Where the street ends."""


def scene_spec(split: str, index: int, *, seed: int = SEED) -> SceneSpec:
    """Draws the factors and objects of one scene.

    Train comes from narrow conditions, val and test from the same wide ones; what stands in the street has the same
    distribution everywhere.

    Args:
        split: train, val or test.
        index: The scene's place in its split, from 0.
        seed: Of the whole data set.

    Raises:
        ValueError: If there is no such split.
    """
    if split not in COUNTS:
        raise ValueError(f"split must be one of {', '.join(COUNTS)}, not {split!r}")
    rng = np.random.default_rng([seed, list(COUNTS).index(split), index])
    span = _NARROW if split == "train" else _WIDE
    height, width = SIZES[int(rng.integers(len(SIZES)))]
    light = Light(
        exposure=_between(rng, span.exposure), warmth=_between(rng, span.warmth), sun=_between(rng, span.sun),
        sun_height=_between(rng, span.sun_height), haze=_between(rng, span.haze),
    )  # fmt: skip
    camera = Camera(
        zoom=_between(rng, span.zoom), horizon=_between(rng, span.horizon), yaw=_between(rng, span.yaw),
        roll=_between(rng, span.roll), blur=_between(rng, span.blur), noise=_between(rng, span.noise),
        jpeg=int(rng.integers(span.jpeg[0], span.jpeg[1] + 1)),
    )  # fmt: skip
    street = Street(
        road=_between(rng, (3.0, 4.0)), pavement=_between(rng, (2.0, 3.0)), offset=_between(rng, span.offset),
        mirrored=bool(rng.random() < 0.5) and span.mirrors,
        crossing=_between(rng, (7, 16)) if rng.random() < 0.35 else 0.0, tint=_between(rng, (-1, 1)),
    )  # fmt: skip
    objects = (*_edges(rng, street), *_things(rng, street, span))
    return SceneSpec(split, index, height, width, light, camera, street, tuple(objects), seed=int(rng.integers(2**31)))


def _between(rng: np.random.Generator, span: tuple[float, float]) -> float:
    return float(rng.uniform(*span))


def _pick(rng: np.random.Generator, colors: tuple[Color, ...], spread: int = 14) -> Color:
    base = colors[int(rng.integers(len(colors)))]
    shift = rng.integers(-spread, spread + 1, 3).tolist()
    red, green, blue = (min(247, max(8, c + d)) for c, d in zip(base, shift, strict=True))
    return red, green, blue


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _edges(rng: np.random.Generator, street: Street) -> list[SceneObject]:
    """Buildings and hedges along both sides; the right side is built higher, so that a mirrored street looks new."""
    edges = []
    for side in (-1, 1):
        z, x = 3.0, street.offset + side * (street.road + street.pavement)
        while z < FAR:
            if rng.random() < (0.34 if side < 0 else 0.16):
                length, height = _between(rng, (5, 12)), _between(rng, (1.0, 2.2))
                edges.append(SceneObject("hedge", x, z, length=length, height=height, color=_pick(rng, _LEAVES),
                                         seed=_seed(rng)))  # fmt: skip
            else:
                length = _between(rng, (7, 15))
                height = _between(rng, (4.5, 9)) if side < 0 else _between(rng, (7, 16))
                edges.append(SceneObject("building", x, z, length=length, height=height, color=_pick(rng, _WALLS),
                                         seed=_seed(rng)))  # fmt: skip
            z += length
    return edges


def _things(rng: np.random.Generator, street: Street, span: _Span) -> list[SceneObject]:
    """Traffic on the right, parked cars and lamps on both sides, more trees on the left."""
    things: list[SceneObject] = []
    middle, kerb = street.offset, street.road

    def add(kind: str, x: float, z: float, colors: tuple[Color, ...], heading: float = 0.0, size: float = 1.0) -> None:
        things.append(SceneObject(kind, x, z, size * _between(rng, (0.9, 1.1)), heading, color=_pick(rng, colors),
                                  seed=_seed(rng)))  # fmt: skip

    for side in (-1, 1):
        z = _between(rng, (6.5, 16))
        while z < 36 and rng.random() < 0.75:
            turn = _between(rng, (-span.turns, span.turns))
            add("car", middle + side * (kerb - 1.1), z, _PAINTS, turn + (180 if side < 0 else 0))
            z += _between(rng, (5.5, 14))
    if rng.random() < 0.4:
        lane = 1 if rng.random() < 0.7 else -1
        turn = _between(rng, (-span.turns, span.turns))
        add("car", middle + lane * 1.1, _between(rng, (9, 30)), _PAINTS, turn + (0 if lane > 0 else 180))
    for _ in range(int(rng.integers(2, 7))):
        on_road = rng.random() < 0.35
        x = (
            _between(rng, (-kerb, kerb))
            if on_road
            else _side(rng) * (kerb + _between(rng, (0.3, street.pavement - 0.4)))
        )
        add(
            "person",
            middle + x,
            _between(rng, (4.5, 14)),
            _CLOTHES,
            _between(rng, (0, 360)),
            _between(rng, (0.75, 1.08)),
        )
    for _ in range(int(rng.integers(0, 4))):
        x = _side(rng) * (kerb + _between(rng, (0.3, 1.2))) if rng.random() < 0.7 else _between(rng, (-kerb, kerb))
        add("bicycle", middle + x, _between(rng, (4.5, 11)), _PAINTS, _between(rng, (35, 145)))
    for side, chance in ((-1, 0.9), (1, 0.5)):
        z = _between(rng, (5.5, 11))
        while z < 38 and rng.random() < chance:
            add("lamp", middle + side * (kerb + 0.35), z, ((92, 94, 98), (60, 66, 64)), 0 if side < 0 else 180)
            z += _between(rng, (9, 18))
    for _ in range(int(rng.integers(1, 5))):
        side = 1 if rng.random() < 0.65 else -1
        add("sign", middle + side * (kerb + _between(rng, (0.25, 0.6))), _between(rng, (5.5, 17)), _SIGNS)
    if rng.random() < 0.4:
        side, z = _side(rng), _between(rng, (5, 9))
        for step in range(int(rng.integers(2, 6))):
            add("bollard", middle + side * (kerb + 0.25), z + 1.7 * step, ((80, 82, 86), (150, 150, 148)))
    for side, chance in ((-1, 0.7), (1, 0.35)):
        z = _between(rng, (8, 18))
        while z < 40 and rng.random() < chance:
            add("tree", middle + side * (kerb + street.pavement * _between(rng, (0.45, 0.9))), z, _LEAVES)
            z += _between(rng, (6, 16))
    return things


def _side(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1
