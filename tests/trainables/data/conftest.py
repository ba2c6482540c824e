"""Small data sets made by hand, and the real ones where they are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

_CLASSES = [
    {"id": 3, "name": "ground", "color": [128, 64, 128]},
    {"id": 7, "name": "wall", "color": [70, 70, 70]},
    {"id": 40, "name": "thing", "color": [220, 20, 60]},
]


def shared_data() -> Path:
    """Where the real images are, if they are."""
    chosen = os.environ.get("SEGSWEEP_SHARED_DATA")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.fixture
def voc_root() -> Path:
    root = shared_data() / "VOCdevkit"
    if not root.is_dir():
        pytest.skip("the VOC images are not beside the checkout (SEGSWEEP_SHARED_DATA)")
    return root


@pytest.fixture
def camvid_root() -> Path:
    root = shared_data() / "CamVid"
    if not root.is_dir():
        pytest.skip("the CamVid images are not beside the checkout (SEGSWEEP_SHARED_DATA)")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test remembers what it has read in a folder of its own."""
    place = tmp_path / "cache"
    monkeypatch.setenv("SEGSWEEP_CACHE", str(place))
    return place


def _write_pair(root: Path, stem: str, seed: int) -> None:
    """An image and its mask of random ids, 12x16."""
    size = (12, 16)
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "masks").mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / "images" / f"{stem}.png")
    PIL.Image.fromarray(rng.choice(np.array([3, 7, 40, 255], np.uint8), size)).save(root / "masks" / f"{stem}.png")


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a root of the `folder` data set: `count` images a00, a01 ... with the ids 3, 7, 40 and void 255."""

    def make(count: int = 10, **extra: object) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for number in range(count):
            _write_pair(root, f"a{number:02d}", number)
        (root / "classes.json").write_text(json.dumps({"classes": _CLASSES, "void": 255, **extra}))
        return root

    return make


@pytest.fixture
def write_pair() -> Callable[[Path, str, int], None]:
    """Writes images/STEM.png and masks/STEM.png under a root, from a seed."""
    return _write_pair
