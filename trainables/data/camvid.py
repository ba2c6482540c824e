"""CamVid: frames of driving video with 11 classes, split by stretches of video."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from pathlib import Path

from trainables.data.base import DATASETS, VOID, ClassInfo, Offender, Splits, recogniser
from trainables.data.reading.files import FileData, files_by_stem, require_root, unpaired
from trainables.data.splits.stratified import FRACTIONS, draw, how_drawn
from trainables.errors import DataError

_CLASSES = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)
_UNLABELLED = 11
_PARTS = ("train", "val", "test")

_FRAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?\d+\.\w+")
"""Names of its frames: one of the four sequences, and a number."""

FRAME_RATE = 30
"""Frames per second: the numbers in CamVid's file names count frames of the video."""

BLOCK_SECONDS = 15.0
"""Longest stretch of one sequence that is dealt out as a whole."""

GAP_SECONDS = 3.0
"""Frames of different splits in one sequence are at least this far apart; those between are left out."""

_LAYOUT = "train, trainannot (and val, valannot, test, testannot) of the 480x360, 11-class form"
_CURE = "give --data-root the folder that holds train and trainannot"


class CamVid(FileData):
    """Frames of all parts, pooled by sequence and ordered in time.

    Neighbouring frames nearly repeat each other and the official val lies inside a training sequence, so the splits
    are drawn over blocks of video: a sequence is cut into blocks of at most `BLOCK_SECONDS`, blocks are dealt out
    stratified by class, and frames closer than `GAP_SECONDS` to another split are left out. A block is the group of its
    frames.
    """

    name = "camvid"
    classes = tuple(ClassInfo(name, color) for name, color in _CLASSES)
    default_image_size = (360, 480)

    def __init__(self, root: Path) -> None:
        self.root = root
        self._paths: dict[str, tuple[Path, Path]] = {}
        self._orphans: list[Offender] = []
        for part in _PARTS:
            if (root / part).is_dir() and (root / f"{part}annot").is_dir():
                self._add(files_by_stem(root / part), files_by_stem(root / f"{part}annot"))
        if not self._paths and not self._orphans:
            raise DataError(f"data root {root} has no frames; camvid expects a folder with {_LAYOUT}; {_CURE}")
        self._times = {image_id: _sequence_and_frame(image_id, self._paths[image_id][0]) for image_id in self._paths}
        self._blocks = _blocks(self._times)

    def _add(self, images: dict[str, Path], masks: dict[str, Path]) -> None:
        twice = sorted(self._paths.keys() & images.keys() & masks.keys())
        if twice:
            raise DataError(f"{self.root}: frames that are in two parts: {', '.join(twice)}; keep each in one")
        self._paths |= {stem: (path, masks[stem]) for stem, path in images.items() if stem in masks}
        self._orphans += unpaired(images, masks)

    def ids(self) -> Sequence[str]:
        """All frames that have a mask, sorted."""
        return sorted(self._paths)

    def paths(self, image_id: str) -> tuple[Path, Path]:
        """The files of a frame and of its mask."""
        return self._paths[image_id]

    def orphans(self) -> Sequence[Offender]:
        """Frames without a mask and masks without a frame."""
        return self._orphans

    def stored_ids(self) -> dict[int, int]:
        """0..10 are the classes; 11 (unlabelled) and 255 are void."""
        return {**{index: index for index in range(len(_CLASSES))}, _UNLABELLED: VOID, VOID: VOID}

    def group(self, image_id: str) -> str | None:
        """The block of video that the frame belongs to."""
        return self._blocks[image_id]

    def splits(self, *, seed: int = 0) -> Splits:
        """Blocks of video dealt out 60/20/20, with gaps."""
        ids = list(self.ids())
        parts = draw(self, ids, FRACTIONS, seed=seed, groups=[self._blocks[image_id] for image_id in ids])
        split_of = {image_id: part for part, members in enumerate(parts) for image_id in members}
        kept = self._with_gaps(split_of)
        train, val, test = (tuple(i for i in ids if kept.get(i) == part) for part in range(3))
        dropped = len(ids) - len(kept)
        return Splits(
            train,
            val,
            test,
            origin=f"blocks of at most {BLOCK_SECONDS:g} s of video dealt out 60/20/20, {how_drawn(seed)}; "
            f"{dropped} of {len(ids)} frames lie within {GAP_SECONDS:g} s of another split and are left out",
            warnings=(
                "the official CamVid split is not used: its val lies inside a training sequence, seconds away from "
                "training frames, so that its scores reward memory; numbers here do not compare with published ones",
            ),
        )

    def _with_gaps(self, split_of: dict[str, int]) -> dict[str, int]:
        """Drops frames until frames of different splits are `GAP_SECONDS` apart.

        Of two frames that are too close, the one whose split is train goes first, else the one of val.
        """
        kept = dict(split_of)
        for victim in (0, 1):
            for sequence in {sequence for sequence, _ in self._times.values()}:
                frames = [(self._times[i][1], i) for i in kept if self._times[i][0] == sequence]
                others = [frame for frame, i in frames if kept[i] > victim]
                for frame, image_id in frames:
                    near = any(abs(frame - other) < GAP_SECONDS * FRAME_RATE for other in others)
                    if kept[image_id] == victim and near:
                        del kept[image_id]
        return kept


def _sequence_and_frame(image_id: str, path: Path) -> tuple[str, int]:
    match = re.fullmatch(r"(.+?)_[a-zA-Z]*(\d+)", image_id)
    if match is None:
        raise DataError(f"{path}: frames must be named SEQUENCE_NUMBER (0016E5_07959) to be put in time order")
    return match[1], int(match[2])


def _blocks(times: dict[str, tuple[str, int]]) -> dict[str, str]:
    """The block of each frame: a new one after `BLOCK_SECONDS`, and where the spacing of frames changes tenfold.

    The second rule keeps densely labelled stretches apart: they weigh many frames in a few seconds.
    """
    blocks: dict[str, str] = {}
    for sequence in sorted({sequence for sequence, _ in times.values()}):
        frames = sorted((frame, i) for i, (name, frame) in times.items() if name == sequence)
        for number, block in enumerate(_cut(frames)):
            blocks |= {image_id: f"{sequence}/{number:02d}" for _, image_id in block}
    return blocks


def _cut(frames: Sequence[tuple[int, str]]) -> Iterable[list[tuple[int, str]]]:
    steps = [after[0] - before[0] for before, after in pairwise(frames)]
    block: list[tuple[int, str]] = []
    for index, frame in enumerate(frames):
        long = block and frame[0] - block[0][0] >= BLOCK_SECONDS * FRAME_RATE
        changes = len(block) > 1 and _ratio(steps[index - 1], steps[index - 2]) >= 10
        if long or changes:
            yield block
            block = []
        block.append(frame)
    if block:
        yield block


def _ratio(a: int, b: int) -> float:
    return max(a, b) / max(1, min(a, b))


@recogniser("camvid")
def _is_camvid(root: Path) -> bool:
    some = (islice((root / folder).glob("*"), 9) for folder in ("trainannot", "train"))
    return all(any(_FRAME.fullmatch(path.name) for path in paths) for paths in some)


@DATASETS.register("camvid")
def camvid(*, root: Path | None = None, download: bool = False) -> CamVid:
    """CamVid in its 480x360, 11-class form.

    Args:
        root: The folder with `train`, `trainannot` and so on.
        download: Not offered.

    Raises:
        DataError: If it is not there, or a download is asked for.
    """
    if download:
        raise DataError(f"camvid cannot be downloaded by this project; fetch it yourself and {_CURE}")
    return CamVid(require_root(root, "camvid", _LAYOUT, _CURE))
