"""What a case of a folder layout is: it writes a folder and says what is right."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image

Array = np.ndarray
N = 10
"""Images of a case, unless it says otherwise."""


@dataclass(frozen=True)
class Loads:
    """The folder is read without a description."""

    masks: Mapping[str, Array]
    """Class ids and void, by image id."""
    images: Mapping[str, Array] = field(default_factory=dict)
    """RGB pixels, where the files keep them exactly."""
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    told: str = ""
    """Stands in the notes."""
    classes: Sequence[str] = ()
    """Names, where they are in the folder."""


@dataclass(frozen=True)
class Asks:
    """The folder leaves one thing open."""

    about: str
    """Stands in the question."""
    answers: Mapping[tuple[str, ...], Mapping[str, Array]]
    """Masks by image id, for each set of flags that the question offers."""


@dataclass(frozen=True)
class Refused:
    """The folder cannot be read; one line says why, and what to do."""

    why: str


Outcome = Loads | Asks | Refused
CASES: dict[str, Callable[[Path], Outcome]] = {}


def case(write: Callable[[Path], Outcome]) -> Callable[[Path], Outcome]:
    CASES[write.__name__] = write
    return write


def scene(number: int, height: int = 40, width: int = 56) -> tuple[Array, Array]:
    """A textured picture (H, W, 3), and its mask of the ids 0, 1 and 2."""
    rng = np.random.default_rng(number)
    mask = np.zeros((height, width), np.uint8)
    top, left = int(rng.integers(height - 12)), int(rng.integers(width - 24))
    mask[top : top + 12, left : left + 10] = 1
    mask[:, left + 14 : left + 22] = 2
    colors = np.array([[90, 90, 90], [200, 60, 40], [40, 60, 200]], float)
    image = colors[mask] + rng.normal(0, 20, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), mask


def save(path: Path, pixels: Array | PIL.Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, np.asarray(pixels))
        return
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(np.ascontiguousarray(pixels))
    image.save(path, **options)


def pairs(
    root: Path,
    image: str = "images/{}.png",
    mask: str = "masks/{}.png",
    names: Sequence[str] = (),
    ids: str = "{}",
    as_mask: Callable[[Array], Array | PIL.Image.Image] = lambda mask: mask,
    **options: object,
) -> Loads:
    """Writes pairs of files and says what they hold; `{}` is the name of each."""
    masks, images = {}, {}
    for name in names or [f"s{k:02d}" for k in range(N)]:
        pixels, truth = scene(zlib.crc32(ids.format(name).encode()))
        save(root / image.format(name), pixels)
        save(root / mask.format(name), as_mask(truth), **options)
        masks[ids.format(name)] = truth
        if not image.lower().endswith(("jpg", "jpeg")):
            images[ids.format(name)] = pixels
    return Loads(masks, images)


def merged(*parts: Loads, **more: object) -> Loads:
    masks = {key: value for part in parts for key, value in part.masks.items()}
    images = {key: value for part in parts for key, value in part.images.items()}
    return Loads(masks, images, **more)  # type: ignore[arg-type]


def numbered(first: int, last: int) -> list[str]:
    return [f"s{number:02d}" for number in range(first, last)]


PARTS = {"train": numbered(0, 6), "val": numbered(6, 8), "test": numbered(8, 10)}


def parted(root: Path, image: str, mask: str, parts: Mapping[str, str] | None = None) -> Loads:
    """Split folders; `{part}` and `{name}` stand in the patterns."""
    found, splits = [], {}
    for part, names in PARTS.items():
        word = (parts or {}).get(part, part)
        of_part = {
            "image": image.replace("{part}", word).replace("{name}", "{}"),
            "mask": mask.replace("{part}", word).replace("{name}", "{}"),
            "ids": f"{part}/{{}}",
        }
        found.append(pairs(root, names=names, **of_part))
        splits[part] = [f"{part}/{name}" for name in names]
    return merged(*found, splits=splits)
