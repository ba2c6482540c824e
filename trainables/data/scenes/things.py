"""How each kind of object is drawn on the canvas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trainables.data.scenes.canvas import Canvas, Floats, Rgb
from trainables.data.scenes.spec import BICYCLE, BUILDING, CAR, PERSON, POLE, SIGN, VEGETATION, SceneObject

_GLASS = (52, 64, 78)
_RUBBER = (26, 26, 28)
_STEEL = (104, 106, 110)
_WINDOWS_UNTIL = 42.0
_FRAMES_UNTIL = 22.0
"""Metres beyond which a window, and its frame, would be less than a pixel."""


Flat = Floats | Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Drawer:
    """A kind's drawing function and the classes of the owners that it draws with, in order."""

    draw: Callable[[Canvas, SceneObject, int], None]
    classes: tuple[int, ...]
    shadow: Callable[[Canvas, SceneObject], Floats] | None = None


def _plane(thing: SceneObject, outline: Flat) -> Floats:
    """Points (across, up) of an upright plane through the object that faces the camera, in units of its size."""
    flat = np.asarray(outline, float)
    points = np.empty((len(flat), 3))
    points[:, 0] = thing.x + flat[:, 0] * thing.size
    points[:, 1] = flat[:, 1] * thing.size
    points[:, 2] = thing.z
    return points


@lru_cache(maxsize=16)
def _circle(count: int) -> Floats:
    angles = np.linspace(0, 2 * math.pi, count, endpoint=False)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def _disc(across: float, up: float, radius: float, count: int = 10, squeeze: float = 1.0) -> Floats:
    return _circle(count) * (radius * squeeze, radius) + (across, up)


def _bar(start: tuple[float, float], end: tuple[float, float], width: float) -> Floats:
    along, rise = end[0] - start[0], end[1] - start[1]
    factor = width / 2 / max(1e-6, math.hypot(along, rise))
    a, b = -rise * factor, along * factor
    return np.array([(start[0] + a, start[1] + b), (end[0] + a, end[1] + b), (end[0] - a, end[1] - b),
                     (start[0] - a, start[1] - b)])  # fmt: skip


def _shade(color: Rgb, factor: float) -> Rgb:
    return color[0] * factor, color[1] * factor, color[2] * factor


def _building(canvas: Canvas, thing: SceneObject, owner: int) -> None:
    rng = np.random.default_rng(thing.seed)
    out = math.copysign(1.0, thing.x)
    x, near, far, top = thing.x, thing.z, thing.z + thing.length, thing.height * thing.size
    side_light, front_light = canvas.light_on((-out, 0, 0)), canvas.light_on((0, 0, -1))
    depth = near + thing.length / 2
    deep = x + out * 14
    roof = canvas.lit(
        ((120, 62, 50), (74, 76, 84), (98, 84, 76))[int(rng.integers(3))], depth, canvas.light_on((0, 1, 0))
    )
    canvas.polygon(
        [(x, top, near), (x, top, far), (x + out * 3, top + 1.6, far), (x + out * 3, top + 1.6, near)], roof, owner
    )
    canvas.polygon([(x, 0, near), (deep, 0, near), (deep, top, near), (x + out * 3, top + 1.6, near), (x, top, near)],
                   canvas.lit(thing.color, near, front_light), owner)  # fmt: skip
    canvas.polygon([(x, 0, near), (x, 0, far), (x, top, far), (x, top, near)],
                   canvas.lit(thing.color, depth, side_light), owner)  # fmt: skip
    _windows(canvas, thing, rng, side_light)
    base = canvas.lit(_shade(thing.color, 0.72), depth, side_light)
    canvas.quads(np.array([[(x, 0, near), (x, 0, far), (x, 0.45, far), (x, 0.45, near)]]), [base])


def _windows(canvas: Canvas, thing: SceneObject, rng: np.random.Generator, light: float) -> None:
    """Rows of windows with light frames, and on the ground floor a door or shop windows under an awning."""
    x, top = thing.x, thing.height * thing.size
    if thing.z > _WINDOWS_UNTIL or not canvas.sees((thing.x, canvas.spec.camera.height, thing.z + thing.length)):
        return
    columns, floors = max(2, int(thing.length / rng.uniform(2.0, 3.0))), max(1, int(top / 3.1))
    step = thing.length / columns
    shop = rng.random() < 0.4
    awning = tuple(int(c) for c in rng.integers(50, 210, 3))
    lamps = rng.random((floors, columns)) < 0.12
    wide, tall = rng.uniform(0.45, 0.62), rng.uniform(1.3, 1.7)
    frame = _shade(thing.color, 1.18)
    quads: list[list[tuple[float, float, float]]] = []
    colors: list[Rgb] = []

    def add(z0: float, z1: float, y0: float, y1: float, color: Rgb) -> None:
        quads.append([(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)])
        colors.append(canvas.lit(color, z0, light if color[0] < 200 else 1.0))

    for column in range(columns):
        middle = thing.z + step * (column + 0.5)
        for floor in range(floors):
            y = floor * top / floors + 0.9
            half = step * wide / 2
            if floor == 0 and shop:
                add(middle - step * 0.42, middle + step * 0.42, 0.4, 2.3, (70, 84, 96))
                add(middle - step * 0.48, middle + step * 0.48, 2.3, 2.85, (awning[0], awning[1], awning[2]))
            elif floor == 0 and column == columns // 2:
                add(middle - 0.6, middle + 0.6, 0.0, 2.2, (84, 56, 40))
            else:
                pane: Rgb = (232, 206, 140) if lamps[floor, column] else (58, 72, 88)
                if thing.z < _FRAMES_UNTIL:
                    add(middle - half - 0.12, middle + half + 0.12, y - 0.15, y + tall + 0.12, frame)
                add(middle - half, middle + half, y, y + tall, pane)
    canvas.quads(np.array(quads), colors)


def _hedge(canvas: Canvas, thing: SceneObject, owner: int) -> None:
    rng = np.random.default_rng(thing.seed)
    out = math.copysign(1.0, thing.x)
    x, near, far, top = thing.x, thing.z, thing.z + thing.length, thing.height * thing.size
    depth = near + thing.length / 2
    canvas.polygon([(x, 0, near), (x + out * 9, 0, near), (x + out * 9, top, near), (x, top, near)],
                   canvas.lit(thing.color, near, canvas.light_on((0, 0, -1))), owner)  # fmt: skip
    side = canvas.light_on((-out, 0, 0))
    canvas.polygon(
        [(x, 0, near), (x, 0, far), (x, top, far), (x, top, near)], canvas.lit(thing.color, depth, side), owner
    )
    for z in np.linspace(far, near, 7):
        tone, across, up, radius = rng.uniform((0.8, 0.0, 0.8, 0.35), (1.25, 0.5, 1.05, 0.6)).tolist()
        disc = _disc(x + out * across, top * up, radius)
        color = canvas.lit(_shade(thing.color, tone), float(z), side)
        canvas.polygon(np.column_stack([disc, np.full(len(disc), z)]), color, owner)


def _tree(canvas: Canvas, thing: SceneObject, owner: int) -> None:
    rng = np.random.default_rng(thing.seed)
    trunk = canvas.lit((88, 68, 52), thing.z, canvas.light_on((0, 0, -1)))
    canvas.polygon(_plane(thing, _bar((0, 0), (rng.uniform(-0.2, 0.2), 3.0), 0.32)), trunk, owner)
    spread, rise = rng.uniform(1.2, 1.7), rng.uniform(1.2, 1.8)
    # The sun's side decides colours only, so that a scene under another light keeps its mask.
    sun = math.copysign(canvas.spec.light.sun, -canvas.shadow_offset()[0])
    for layer, count, factor in ((0.0, 12, 0.72), (0.22, 9, 0.95), (0.45, 6, 1.15)):
        for _ in range(count):
            angle, radius = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0, 1))
            across = spread * radius * math.cos(angle) * (1 - layer)
            up = 3.9 + rise * radius * math.sin(angle) * (1 - layer) + layer
            light = factor * (1 + 0.3 * sun * across / spread) * rng.uniform(0.88, 1.12)
            outline = _disc(across, up, rng.uniform(0.4, 0.75) * (1 - layer * 0.5), 9)
            canvas.polygon(_plane(thing, outline), canvas.lit(_shade(thing.color, light), thing.z), owner)


def _turned(thing: SceneObject, local: Floats) -> Floats:
    """Points (..., 3) given as (right, up, forward) of the object, in the street's metres."""
    angle = math.radians(thing.heading)
    cosine, sine = math.cos(angle) * thing.size, math.sin(angle) * thing.size
    turn = np.array([[cosine, 0.0, -sine], [0.0, thing.size, 0.0], [sine, 0.0, cosine]])
    return np.asarray(local @ turn + (thing.x, 0.0, thing.z))


def _frustum(low: float, high: float, bottom: tuple[float, float, float], top: tuple[float, float, float]) -> Floats:
    """Faces (5, 4, 3) of a box that narrows: left, right, rear, front, roof; outlines are (half width, rear, front)."""
    w0, r0, f0 = bottom
    w1, r1, f1 = top
    a, b, c, d = (-w0, low, r0), (w0, low, r0), (w0, low, f0), (-w0, low, f0)
    e, f, g, h = (-w1, high, r1), (w1, high, r1), (w1, high, f1), (-w1, high, f1)
    return np.array([[d, a, e, h], [b, c, g, f], [a, b, f, e], [c, d, h, g], [e, f, g, h]], float)


def _outward(faces: Floats) -> Floats:
    """Unit normals (N, 3) of the faces (N, 4, 3) of a convex solid."""
    u, v = (faces[:, 1] - faces[:, 0]).T, (faces[:, 3] - faces[:, 0]).T
    normals = np.column_stack([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]])
    normals /= np.maximum(1e-9, np.sqrt((normals**2).sum(axis=1)))[:, None]
    middles = faces.mean(axis=1)
    inward = ((middles - middles.mean(axis=0)) * normals).sum(axis=1) < 0
    return np.where(inward[:, None], -normals, normals)


def _car(canvas: Canvas, thing: SceneObject, owner: int) -> None:
    rng = np.random.default_rng(thing.seed)
    long, tall = rng.uniform(1.95, 2.25), rng.uniform(1.38, 1.6)
    estate = rng.random() < 0.4
    eye = np.array([0.0, canvas.spec.camera.height, 0.0])
    contact = _turned(
        thing, np.array([(-0.95, 0.02, -long), (0.95, 0.02, -long), (0.95, 0.02, long), (-0.95, 0.02, long)])
    )
    canvas.polygon(contact, (10, 10, 14), opacity=0.7)

    def solid(faces: Floats, color: Rgb) -> list[tuple[int, Floats, float]]:
        placed = _turned(thing, faces)
        normals = _outward(placed)
        faces_us = ((eye - placed[:, 0]) * normals).sum(axis=1) > 0
        seen = []
        for number in np.flatnonzero(faces_us).tolist():
            face, (nx, ny, nz) = placed[number], normals[number].tolist()
            light = canvas.light_on((nx, ny, nz))
            canvas.polygon(face, canvas.lit(color, thing.z, light), owner)
            seen.append((number, faces[number], light))
        return seen

    solid(_frustum(0.16, 0.4, (0.8, -long + 0.1, long - 0.1), (0.84, -long, long)), _shade(_RUBBER, 1.2))
    body = solid(_frustum(0.32, 0.92, (0.88, -long, long), (0.84, -long + 0.05, long - 0.12)), thing.color)
    rear = -long + (0.15 if estate else 0.65)
    cabin = solid(_frustum(0.9, tall, (0.82, rear, long - 1.05), (0.64, rear + 0.35, long - 1.75)), thing.color)
    for number, face, light in cabin:
        if number < 4:
            middle = face.mean(axis=0)
            canvas.quads(_turned(thing, middle + (face - middle) * 0.8)[None], [canvas.lit(_GLASS, thing.z, light)])
    for number, _face, light in body:
        if number < 2:
            _wheels(canvas, thing, -0.89 if number == 0 else 0.89, long, owner)
        else:
            _lamps(canvas, thing, -long - 0.01 if number == 2 else long + 0.01, light, number)


def _wheels(canvas: Canvas, thing: SceneObject, side: float, long: float, owner: int) -> None:
    for ahead in (-long + 0.8, long - 0.8):
        for radius, color, mark in ((0.34, _RUBBER, owner), (0.18, (150, 152, 156), None)):
            disc = _disc(ahead, 0.34, radius, 12)
            ring = np.column_stack([np.full(len(disc), side), disc[:, 1], disc[:, 0]])
            canvas.polygon(_turned(thing, ring), canvas.lit(color, thing.z, 0.9), mark)


def _lamps(canvas: Canvas, thing: SceneObject, ahead: float, light: float, number: int) -> None:
    color: Rgb = (214, 28, 26) if number == 2 else (252, 248, 222)
    quads = [
        [(s * 0.5, 0.62, ahead), (s * 0.8, 0.62, ahead), (s * 0.8, 0.8, ahead), (s * 0.5, 0.8, ahead)] for s in (-1, 1)
    ]
    quads.append([(-0.26, 0.46, ahead), (0.26, 0.46, ahead), (0.26, 0.6, ahead), (-0.26, 0.6, ahead)])
    tones = [canvas.lit(color, thing.z)] * 2 + [canvas.lit((230, 228, 210), thing.z, light)]
    canvas.quads(_turned(thing, np.array(quads)), tones)


def _bicycle(canvas: Canvas, thing: SceneObject, owner: int) -> None:
    rubber, paint = canvas.lit(_RUBBER, thing.z), canvas.lit(thing.color, thing.z, canvas.light_on((0, 0, -1)))

    def upright(outline: Floats) -> Floats:
        return _turned(thing, np.column_stack([np.zeros(len(outline)), outline[:, 1], outline[:, 0]]))

    for ahead in (-0.54, 0.54):
        rim = _disc(ahead, 0.36, 0.36, 14)
        hub = _disc(ahead, 0.36, 0.27, 14)
        canvas.polygon(upright(hub), _STEEL, owner, opacity=0.45)
        # One outline, out along the rim and back along the hub, leaves the wheel open.
        canvas.polygon(upright(np.concatenate([rim, rim[:1], hub[:1], hub[::-1]])), rubber, owner)
    tubes = (((-0.54, 0.36), (-0.18, 0.86)), ((-0.18, 0.86), (0.36, 0.88)), ((-0.1, 0.34), (0.36, 0.88)),
             ((-0.54, 0.36), (-0.1, 0.34)), ((-0.1, 0.34), (-0.2, 0.98)), ((0.54, 0.36), (0.36, 1.02)))  # fmt: skip
    for start, end in tubes:
        canvas.polygon(upright(_bar(start, end, 0.08)), paint, owner)
    for start, end in (((-0.36, 1.0), (-0.06, 1.0)), ((0.24, 1.04), (0.48, 1.02))):
        canvas.polygon(upright(_bar(start, end, 0.09)), rubber, owner)


def _person(canvas: Canvas, thing: SceneObject, owner: int) -> None:
    rng = np.random.default_rng(thing.seed)
    light = canvas.light_on((0, 0, -1))
    skin = canvas.lit(((226, 180, 150), (186, 132, 98), (120, 84, 62))[int(rng.integers(3))], thing.z, light)
    trousers = canvas.lit(
        ((44, 50, 78), (58, 54, 52), (98, 90, 76), (30, 30, 34))[int(rng.integers(4))], thing.z, light
    )
    hair = canvas.lit(((40, 30, 24), (104, 74, 44), (150, 144, 138))[int(rng.integers(3))], thing.z, light)
    coat, sleeve = canvas.lit(thing.color, thing.z, light), canvas.lit(_shade(thing.color, 0.82), thing.z, light)
    stride = rng.uniform(0.02, 0.26) * (0.4 + 0.6 * abs(math.sin(math.radians(thing.heading))))
    swing, broad = rng.uniform(0.02, 0.2), 0.17 + 0.07 * abs(math.cos(math.radians(thing.heading)))
    canvas.polygon(_plane(thing, _bar((-0.06, 0.86), (-0.06 - stride, 0.0), 0.17)), trousers, owner)
    canvas.polygon(_plane(thing, _bar((0.06, 0.86), (0.06 + stride, 0.0), 0.17)), _shade(trousers, 0.85), owner)
    for side in (-1, 1):
        arm = _bar((side * broad, 1.4), (side * (broad + swing), 0.82), 0.12)
        canvas.polygon(_plane(thing, arm), sleeve, owner)
    torso = [
        (-broad, 0.8),
        (broad, 0.8),
        (broad + 0.03, 1.38),
        (broad * 0.6, 1.5),
        (-broad * 0.6, 1.5),
        (-broad - 0.03, 1.38),
    ]
    canvas.polygon(_plane(thing, torso), coat, owner)
    canvas.polygon(_plane(thing, _disc(0, 1.63, 0.145, 10, 0.85)), skin, owner)
    cap = _disc(0, 1.65, 0.15, 12, 0.9)
    canvas.polygon(_plane(thing, cap[cap[:, 1] >= 1.66]), hair, owner)


def _lamp(canvas: Canvas, thing: SceneObject, owner: int) -> None:
    color = canvas.lit(thing.color, thing.z, canvas.light_on((0, 0, -1)))
    reach = 1.3 if thing.heading < 90 else -1.3
    canvas.polygon(_plane(thing, _bar((0, 0), (0, 5.6), 0.24)), color, owner)
    canvas.polygon(_plane(thing, _bar((0, 0), (0, 0.9), 0.34)), _shade(color, 0.9), owner)
    canvas.polygon(_plane(thing, _bar((0, 5.55), (reach, 5.9), 0.16)), color, owner)
    head = _bar((reach * 0.75, 5.86), (reach * 1.3, 5.9), 0.24)
    canvas.polygon(_plane(thing, head), _shade(color, 1.3), owner)


def _bollard(canvas: Canvas, thing: SceneObject, owner: int) -> None:
    color = canvas.lit(thing.color, thing.z, canvas.light_on((0, 0, -1)))
    canvas.polygon(_plane(thing, _bar((0, 0), (0, 1.0), 0.24)), color, owner)
    canvas.quads(_plane(thing, _bar((0, 0.74), (0, 0.88), 0.24))[None], [canvas.lit((226, 226, 220), thing.z)])


def _sign(canvas: Canvas, thing: SceneObject, owner: int) -> None:
    """A post (the first owner) and a plate (the second)."""
    rng = np.random.default_rng(thing.seed)
    light = canvas.light_on((0, 0, -1))
    post, plate = canvas.lit(_STEEL, thing.z, light), canvas.lit(thing.color, thing.z, light)
    white, up = canvas.lit((240, 240, 236), thing.z, light), 2.55
    canvas.polygon(_plane(thing, _bar((0, 0), (0, 2.4), 0.17)), post, owner)
    shape, radius = int(rng.integers(3)), rng.uniform(0.42, 0.52)
    if shape == 0:
        outline, inner = _disc(0, up, radius, 14), _disc(0, up, radius * 0.62, 14)
    elif shape == 1:
        outline = np.array([(-radius, up - radius * 0.8), (radius, up - radius * 0.8), (0, up + radius)])
        inner = outline * 0.55 + (0, up * 0.45 - radius * 0.09)
    else:
        outline, inner = (
            _bar((-radius, up), (radius, up), radius * 2),
            _bar((-radius * 0.6, up), (radius * 0.6, up), radius * 0.4),
        )
    canvas.polygon(_plane(thing, outline), plate, owner + 1)
    canvas.polygon(_plane(thing, inner), white)


def _cast(canvas: Canvas, thing: SceneObject, outline: Flat) -> Floats:
    """The shadow of an upright outline (across, up)."""
    dx, dz = canvas.shadow_offset()
    flat = np.asarray(outline, float) * thing.size
    return np.column_stack([thing.x + flat[:, 0] + flat[:, 1] * dx, np.zeros(len(flat)), thing.z + flat[:, 1] * dz])


def _building_shadow(canvas: Canvas, thing: SceneObject) -> Floats:
    dx, dz = canvas.shadow_offset()
    x, near, far, top = thing.x, thing.z, thing.z + thing.length, thing.height * thing.size
    reach = min(top, 9.0)
    return np.array(
        [(x, 0, near), (x, 0, far), (x + reach * dx, 0, far + reach * dz), (x + reach * dx, 0, near + reach * dz)]
    )


def _car_shadow(canvas: Canvas, thing: SceneObject) -> Floats:
    dx, dz = canvas.shadow_offset()
    base = _turned(thing, np.array([(-0.9, 0, -2.1), (0.9, 0, -2.1), (0.9, 0, 2.1), (-0.9, 0, 2.1)]))
    height = 0.7 * thing.size
    return np.asarray(base + np.array([dx * height, 0.0, dz * height]))


DRAWERS: dict[str, Drawer] = {
    "building": Drawer(_building, (BUILDING,), _building_shadow),
    "hedge": Drawer(_hedge, (VEGETATION,), _building_shadow),
    "tree": Drawer(_tree, (VEGETATION,), lambda c, t: _cast(c, t, _disc(0, 3.9, 1.6, 12))),
    "car": Drawer(_car, (CAR,), _car_shadow),
    "person": Drawer(_person, (PERSON,), lambda c, t: _cast(c, t, _bar((0, 0), (0, 1.7), 0.4))),
    "bicycle": Drawer(_bicycle, (BICYCLE,), lambda c, t: _cast(c, t, _bar((0, 0), (0, 0.7), 0.9))),
    "lamp": Drawer(_lamp, (POLE,), lambda c, t: _cast(c, t, _bar((0, 0), (0, 5.6), 0.17))),
    "bollard": Drawer(_bollard, (POLE,), lambda c, t: _cast(c, t, _bar((0, 0), (0, 1.0), 0.2))),
    "sign": Drawer(_sign, (POLE, SIGN), lambda c, t: _cast(c, t, _bar((0, 0), (0, 2.9), 0.14))),
}
