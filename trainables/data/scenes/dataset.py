"""The scenes as a data set: drawn into the cache once, atomically, and read as VOC."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import stat
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

from trainables.data.base import DATASETS, VOID, Mask, Splits, recogniser
from trainables.data.reading.files import FileData, read_list
from trainables.data.reading.names import expanded, printable
from trainables.data.scenes.draw import draw_scene
from trainables.data.scenes.spec import CLASSES, COUNTS, SEED, scene_spec
from trainables.errors import DataError
from trainables.kept import foreign, tell_foreign
from trainables.machine import cores
from trainables.places import cache_root

MANIFEST = "manifest.json"
DIFFICULTY = "difficulty.json"
_LISTS = Path("ImageSets") / "Segmentation"
_DRAWN = re.compile(
    rf"JPEGImages/\w+\.jpg|SegmentationClass/\w+\.png|{_LISTS.as_posix()}/\w+\.txt|{re.escape(DIFFICULTY)}"
)
"""The files that a drawing consists of, besides its manifest."""

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
        return read_list(self.root / _list_name(split))


@DATASETS.register("scenes")
def scenes(*, root: Path | None = None, download: bool = False) -> Scenes:
    """Street-like scenes, drawn into the cache folder at first use.

    Args:
        root: A folder that holds whole drawn scenes, by whatever version of this project; nothing is written there.
        download: There is nothing to fetch.

    Raises:
        DataError: If `root` holds anything else, a download is asked for, or the cache folder cannot be written.
    """
    if download:
        raise DataError(
            "scenes are drawn by this project, there is nothing to download: leave --download out; to fetch a data set "
            "name it: --data voc2012 --data-root DIR --download"
        )
    if root is not None:
        return Scenes(_given(expanded(root).absolute()))
    place = cache_root() / f"scenes-{_drawing_version()}"
    if _foreign(place):
        place = place.with_name(f"{place.name}-of-{os.geteuid()}")
    try:
        if _foreign(place):
            raise OSError(f"{place} belongs to another user")
        if not _is_whole(place):
            _refuse_foreign(place)
            _build(place)
    except OSError as error:
        raise DataError(
            f"the scenes cannot be drawn into {place} ({error}); set SEGSWEEP_CACHE to a folder that can be written"
        ) from None
    return Scenes(place)


@recogniser("scenes")
def _are_scenes(root: Path) -> bool:
    return _listed(root) is not None


def _foreign(place: Path) -> bool:
    """Whether another user could have written a folder of scenes; it is told."""
    # Gone where another builder is just replacing it.
    with contextlib.suppress(FileNotFoundError):
        for path in (place, *place.rglob("*")) if place.exists() else ():
            status = path.lstat()
            own = status.st_uid in (os.geteuid(), 0)
            fault = foreign(status) if stat.S_ISREG(status.st_mode) else "" if own else "is another user's"
            if fault:
                tell_foreign(path, fault)
                return True
    return False


@lru_cache(maxsize=1)
def _drawing_version() -> str:
    """Names the drawing code, so that a cache drawn by other code is left alone."""
    digest = hashlib.sha256()
    for module in ("spec", "canvas", "things", "draw", "dataset"):
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    return digest.hexdigest()[:10]


def _given(place: Path) -> Path:
    """The folder, if it holds whole drawn scenes.

    Raises:
        DataError: If not: most likely the user has other images in mind.
    """
    listed = _listed(place)
    changed = [] if listed is None else _changed(place, listed)
    if listed is not None and not changed:
        return place
    if changed:
        more = f" and {len(changed) - 1} more are" if len(changed) > 1 else " is"
        fault = f"holds drawn scenes that are not whole: {changed[0]}{more} missing or changed"
    else:
        fault = "holds no drawn scenes" if place.exists() else "does not exist"
    raise DataError(
        f"data root {place} {fault}; scenes are drawn by this project and take no --data-root: leave it out; for your "
        f"own images: --data folder --data-root {place}"
    )


def _listed(place: Path, *, drawing: str | None = None) -> dict[str, str] | None:
    """The digest of each file below a place, as the manifest there lists them; None if that is not one of a drawing.

    Args:
        place: Perhaps a folder of drawn scenes.
        drawing: The version that must have drawn them; None: any.
    """
    try:
        manifest = json.loads((place / MANIFEST).read_bytes())
        files = manifest["files"]
        ours = drawing in (None, manifest["drawing"]) and all(map(_DRAWN.fullmatch, files))
        return files if ours and {_list_name(split) for split in COUNTS} <= files.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _changed(place: Path, listed: Mapping[str, str]) -> list[str]:
    """The files that are not there with the content they were written with."""

    def differs(name: str) -> bool:
        try:
            return _digest((place / name).read_bytes()) != listed[name]
        except OSError:
            return True

    return [name for name in listed if differs(name)]


def _is_whole(place: Path) -> bool:
    """Whether every file of this version's drawing is there with the content it was written with."""
    listed = _listed(place, drawing=_drawing_version())
    return listed is not None and not _changed(place, listed)


def _refuse_foreign(place: Path) -> None:
    """Raises rather than let anything be replaced but the files that a drawing of this version wrote and listed."""
    listed = _listed(place, drawing=_drawing_version())
    own = {place / name for name in (*listed, MANIFEST)} if listed else set()
    own |= {parent for path in own for parent in path.parents}
    foreign: list[str] = []
    # Gone where another builder is just replacing it.
    with contextlib.suppress(FileNotFoundError):
        foreign += sorted(path.name for path in place.rglob("*") if path not in own or path.is_symlink())
    if place.is_symlink() or place.is_file():
        fault = "it is a symbolic link or a file"
    elif MANIFEST in foreign:
        fault = f"its {MANIFEST}, which lists what may be replaced, cannot be read or is of something else"
    elif foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        fault = f"it holds what this project did not write: {', '.join(map(printable, foreign[:3]))}{more}"
    else:
        return
    raise DataError(
        f"the scenes in {place} are not whole and cannot be drawn again there: {fault}; move away what is yours and "
        "remove the rest (scenes can always be drawn again), or set SEGSWEEP_CACHE to another folder"
    )


def _build(place: Path, counts: Mapping[str, int] = COUNTS) -> None:
    """Draws beside the place and renames, so that a reader or a second builder never sees half a data set."""
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent))
    try:
        _write_all(work / "new", counts)
        if place.exists() and not _is_whole(place):
            _refuse_foreign(place)
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
        (place / _list_name(split)).write_text("".join(f"{_id(split, i)}\n" for i in range(count)))
    (place / DIFFICULTY).write_text(json.dumps(dict(sorted(records.items()))) + "\n")
    names = sorted(str(path.relative_to(place).as_posix()) for path in place.rglob("*") if path.is_file())
    files = {name: _digest((place / name).read_bytes()) for name in names}
    (place / MANIFEST).write_text(json.dumps({"drawing": _drawing_version(), "files": files}, indent=0) + "\n")


_HELPER = "from trainables.data.scenes import dataset; dataset.draw_share()"


def _draw_in_parallel(place: Path, jobs: list[_Job]) -> dict[str, Any]:
    """Shares the scenes out to one process per core.

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


def _list_name(split: str) -> str:
    return (_LISTS / f"{split}.txt").as_posix()


def _id(split: str, index: int) -> str:
    return f"{split}_{index:04d}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
