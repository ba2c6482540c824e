"""The scenes as a data set: drawn into the cache once, whole or not there, and read as VOC."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from trainables.data.base import DATASETS, VOID, Mask, Splits
from trainables.data.files import FileData, read_list
from trainables.data.places import cache_root, cores
from trainables.data.scenes.draw import draw_scene
from trainables.data.scenes.spec import CLASSES, COUNTS, SEED, scene_spec
from trainables.errors import DataError

MANIFEST = "manifest.json"
DIFFICULTY = "difficulty.json"
_LISTS = Path("ImageSets") / "Segmentation"
_VOID_COLOR = (224, 224, 192)
_Job = tuple[str, int]


class Scenes(FileData):
    """The drawn scenes, with the splits they were drawn for."""

    name = "scenes"
    classes = CLASSES
    default_image_size = (96, 128)

    def __init__(self, root: Path) -> None:
        self.root = root

    def ids(self) -> Sequence[str]:
        """`train_0000` and so on, sorted."""
        return sorted(image_id for split in COUNTS for image_id in self._list(split))

    def paths(self, image_id: str) -> tuple[Path, Path]:
        """`JPEGImages/ID.jpg` and `SegmentationClass/ID.png`."""
        return self.root / "JPEGImages" / f"{image_id}.jpg", self.root / "SegmentationClass" / f"{image_id}.png"

    def splits(self, *, seed: int = 0) -> Splits:
        """Train from narrow conditions, val and test from wide ones; the same for every seed."""
        return Splits(
            self._list("train"),
            self._list("val"),
            self._list("test"),
            origin=f"drawn by this project with seed {SEED}: train under narrower light, scale and pose than val and "
            "test",
        )

    def _list(self, split: str) -> tuple[str, ...]:
        return read_list(self.root / _LISTS / f"{split}.txt")


@DATASETS.register("scenes")
def scenes(*, root: Path | None = None, download: bool = False) -> Scenes:
    """Street-like scenes, drawn at first use.

    Args:
        root: Where to draw them; by default in the cache folder.
        download: There is nothing to fetch; has no effect.

    Raises:
        DataError: If `root` holds something else, or cannot be written.
    """
    place = Path(root).expanduser().absolute() if root is not None else cache_root() / f"scenes-{_drawing_version()}"
    try:
        if not _is_whole(place):
            _refuse_foreign(place)
            _build(place)
    except OSError as error:
        raise DataError(
            f"the scenes cannot be drawn into {place} ({error}); give --data-root a folder that can be written, or set "
            "SEGSWEEP_CACHE to one"
        ) from None
    return Scenes(place)


@lru_cache(maxsize=1)
def _drawing_version() -> str:
    """Names the drawing code, so that a cache drawn by other code is left alone."""
    digest = hashlib.sha256()
    for module in ("spec", "canvas", "things", "draw", "dataset"):
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    return digest.hexdigest()[:10]


def _is_whole(place: Path) -> bool:
    """Whether every file is there with the content it was written with."""
    try:
        manifest = json.loads((place / MANIFEST).read_bytes())
        if manifest["drawing"] != _drawing_version():
            return False
        return all(_digest((place / name).read_bytes()) == digest for name, digest in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _refuse_foreign(place: Path) -> None:
    """Raises rather than replace a folder that the scenes were never drawn into."""
    if place.is_dir() and any(place.iterdir()) and not (place / MANIFEST).exists():
        raise DataError(
            f"{place} is not empty and holds no drawn scenes; give --data-root an empty or new folder for data set "
            "scenes (or choose another --data to read your own images)"
        )


def _build(place: Path, counts: Mapping[str, int] = COUNTS) -> None:
    """Draws beside the place and renames, so that a reader or a second builder never sees half a data set."""
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent))
    try:
        _write_all(work / "new", counts)
        if place.exists() and not _is_whole(place):
            # Gone already where another builder found it torn, too.
            with contextlib.suppress(FileNotFoundError):
                place.rename(work / "old")
        try:
            (work / "new").rename(place)
        except OSError:
            # Another builder was faster; its scenes are the same if they are whole.
            if not _is_whole(place):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_all(place: Path, counts: Mapping[str, int]) -> None:
    for folder in ("JPEGImages", "SegmentationClass", str(_LISTS)):
        (place / folder).mkdir(parents=True)
    records = _draw_in_parallel(place, [(split, index) for split in counts for index in range(counts[split])])
    for split, count in counts.items():
        (place / _LISTS / f"{split}.txt").write_text("".join(f"{_id(split, i)}\n" for i in range(count)))
    (place / DIFFICULTY).write_text(json.dumps(dict(sorted(records.items()))) + "\n")
    names = sorted(str(path.relative_to(place).as_posix()) for path in place.rglob("*") if path.is_file())
    files = {name: _digest((place / name).read_bytes()) for name in names}
    (place / MANIFEST).write_text(json.dumps({"drawing": _drawing_version(), "files": files}, indent=0) + "\n")


_HELPER = "from trainables.data.scenes import dataset; dataset.draw_share()"


def _draw_in_parallel(place: Path, jobs: list[_Job]) -> dict[str, Any]:
    """Shares the scenes out to a process a core.

    Plain commands and not a process pool: a pool would import the caller's main module again.
    """
    count = min(4, cores(), 1 + len(jobs) // 50)
    roots = [str(Path(__file__).resolve().parents[3]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, roots))}
    helpers = []
    for k in range(1, count):
        order = place.with_name(f"order-{k}.json")
        order.write_text(json.dumps(jobs[k::count]))
        command = [sys.executable, "-c", _HELPER, str(place), str(order)]
        helpers.append((k, order, subprocess.Popen(command, env=environment)))
    try:
        records = _draw(place, jobs[0::count])
        for k, order, helper in helpers:
            if helper.wait() == 0:
                records |= json.loads(order.with_suffix(".done").read_bytes())
            else:
                records |= _draw(place, jobs[k::count])
    finally:
        for _, _, helper in helpers:
            if helper.poll() is None:
                helper.kill()
                helper.wait()
    return records


def draw_share() -> None:
    """Draws the scenes of an order, in a process of its own; arguments: the folder and the order's file."""
    place, order = Path(sys.argv[1]), Path(sys.argv[2])
    jobs = [(split, index) for split, index in json.loads(order.read_bytes())]
    order.with_suffix(".done").write_text(json.dumps(_draw(place, jobs)))


def _draw(place: Path, jobs: Sequence[_Job]) -> dict[str, Any]:
    records: dict[str, Any] = {}
    for split, index in jobs:
        spec = scene_spec(split, index)
        scene = draw_scene(spec)
        image_id = _id(split, index)
        (place / "JPEGImages" / f"{image_id}.jpg").write_bytes(scene.jpeg)
        (place / "SegmentationClass" / f"{image_id}.png").write_bytes(_palette_png(scene.mask))
        records[image_id] = {
            "light": asdict(spec.light),
            "camera": asdict(spec.camera),
            "street": asdict(spec.street),
            "objects": [asdict(item) for item in scene.objects],
        }
    return records


def _palette_png(mask: Mask) -> bytes:
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(CLASSES)] = [info.color for info in CLASSES]
    palette[VOID] = _VOID_COLOR
    image = PIL.Image.fromarray(mask)
    image.putpalette(palette.ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _id(split: str, index: int) -> str:
    return f"{split}_{index:04d}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
