"""A data set that is learnt in seconds: a sky, a ground and a ball with a void ring around it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from torch import Tensor, nn

NAMES = ("sky", "ground", "ball")
COLORS = ((90, 140, 220), (110, 110, 110), (200, 60, 50))
VOID = 255


def draw(rng: np.random.Generator, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """One image (H, W, 3) and its mask (H, W)."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, np.uint8)
    mask[size[0] * 2 // 3 :] = 1
    centre = [rng.integers(12, side - 12) for side in size]
    radius = rng.integers(6, 12)
    distance = np.hypot(rows - centre[0], columns - centre[1])
    mask[distance <= radius + 1] = VOID
    mask[distance <= radius] = 2
    palette = np.array([*COLORS, (0, 0, 0)])
    image = palette[np.where(mask == VOID, 3, mask)] + rng.normal(0, 18, (*size, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def write(root: Path, *, count: int = 40, sizes: tuple[tuple[int, int], ...] = ((48, 64),), seed: int = 0) -> Path:
    """Makes a root of the `folder` data set with images im000, im001 ..., their sizes (height, width) in turn."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        image, mask = draw(rng, sizes[number % len(sizes)])
        Image.fromarray(image).save(root / "images" / f"im{number:03d}.png")
        Image.fromarray(mask).save(root / "masks" / f"im{number:03d}.png")
    classes = [{"id": i, "name": name, "color": list(COLORS[i])} for i, name in enumerate(NAMES)]
    (root / "classes.json").write_text(json.dumps({"classes": classes, "void": VOID}), encoding="utf-8")
    return root


def widen(mask: npt.NDArray[np.uint8], classes: int) -> npt.NDArray[np.uint16]:
    """A mask of `draw` with eight classes of sky, side by side, and the last two ids for ground and ball."""
    wide = np.broadcast_to(np.arange(mask.shape[1]) // 8, mask.shape).astype(np.uint16)
    wide[mask == 1], wide[mask == 2] = classes - 2, classes - 1
    wide[mask == VOID] = 65535
    return wide


def write_wide(root: Path, classes: int, *, void: Sequence[int] = (65535,), count: int = 12) -> Path:
    """The data set of `mini` with so many classes in masks of 16 bits; void pixels hold the ids of void in turn."""
    write(root, count=count)
    for path in sorted((root / "masks").glob("*.png")):
        wide = widen(np.asarray(Image.open(path)), classes)
        places = np.flatnonzero(wide.ravel() == 65535)
        wide.flat[places] = np.resize(void, len(places)) if void else 0
        Image.fromarray(wide).save(path)
    entries = [{"id": number, "name": f"class {number}"} for number in range(classes)]
    (root / "classes.json").write_text(json.dumps({"classes": entries, "void": list(void)}), encoding="utf-8")
    return root


def write_bands(root: Path, *, count: int = 12) -> Path:
    """The data set of `mini` as TIFFs of 5 bands of 12 bits: red, green, blue, noise, and the ball alone."""
    write(root, count=count)
    rng = np.random.default_rng(0)
    for path in sorted((root / "images").glob("*.png")):
        image = np.asarray(Image.open(path))
        mask = np.asarray(Image.open(root / "masks" / path.name))
        noise = rng.integers(0, 4096, mask.shape, np.uint16)
        ball = np.where(mask == 2, 3000, 300).astype(np.uint16)
        pixels = np.dstack([image.astype(np.uint16) * 8, noise, ball])
        tifffile.imwrite(path.with_suffix(".tif"), pixels, photometric="rgb", planarconfig="contig", compression="lzw")
        path.unlink()
    return root


class TinyNet(nn.Module):
    """A model of a few hundred weights with all that makes resuming hard: BatchNorm, dropout, two heads.

    It passes for the model of any name, since it tells of itself what it was asked for.
    """

    normalisation: ClassVar = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

    def __init__(self, classes: int, *, name: str = "tiny", weights: str = "none", aux_weight: float = 0.0) -> None:
        super().__init__()
        self.name = name
        self.predefined = "" if weights == "none" else f"{weights}: nothing"
        self.aux_weight = aux_weight
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2))
        self.head = nn.Conv2d(8, classes, 3, padding=1)
        self.aux = nn.Conv2d(8, classes, 1)

    def forward(self, images: Tensor, *, resize: bool = True) -> dict[str, Tensor]:
        """Logits at the images' size."""
        features = self.backbone(images)
        outputs = {"out": self.head(features)}
        return {**outputs, "aux": self.aux(features)} if self.training else outputs
