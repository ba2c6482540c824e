"""What a reader of a format gives: images, and how the mask of each is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image

from trainables.data.base import Mask
from trainables.data.layouts.finding import Said, SaidClass
from trainables.data.layouts.sides import key_of
from trainables.data.layouts.tree import DRAWN_FOLDER, MediaFile
from trainables.data.reading.read import stored_size
from trainables.data.void import MOST_CLASSES, void_id
from trainables.errors import DataError
from trainables.limits import check_pixels
from trainables.words import counted, some_of

_MARK = "drawn.txt"
"""In that folder: what drew it, and of what; without it the folder is somebody else's."""

BACKGROUND = "background"


@dataclass(frozen=True)
class Import:
    """A data set in another format."""

    format: str
    """As users call it: "COCO JSON"."""
    sources: tuple[Path, ...]
    """The files that hold the annotations."""
    names: tuple[str, ...]
    """Of the classes 1, 2 ...; 0 is the background."""
    draw: Mapping[MediaFile, Callable[[], Mask]]
    """The mask of each image, shape (H, W), with `void` where nothing counts."""
    notes: tuple[str, ...] = ()
    parts: Mapping[MediaFile, str] = field(default_factory=dict)
    """train, val or test of images, where annotation files say so."""
    told: Callable[[], Sequence[str]] = list
    """More notes, once all masks are drawn."""

    @property
    def void(self) -> int:
        """In the drawn masks."""
        return void_id(len(self.names) + 1)

    def described(self, said: Said) -> Said:
        """What is said of a folder, with the classes of the format where none were named."""
        names = self.names if BACKGROUND in self.names else (BACKGROUND, *self.names)
        classes = tuple(SaidClass(name, number) for number, name in enumerate(names))
        if said.classes is None:
            said = replace(said, classes=classes, source=self.format)
        void = said.void if said.void is not None else (self.void,)
        return replace(said, void=void, masks=DRAWN_FOLDER, values="ids")


def write_masks(root: Path, found: Import) -> None:
    """Draws the masks into a folder of their own, in place of those that were drawn before.

    Raises:
        DataError: If the folder is somebody else's, cannot be written, or an annotation cannot be drawn.
    """
    folder = root / DRAWN_FOLDER
    mark = folder / _MARK
    if folder.exists() and not mark.is_file():
        raise DataError(f"{folder} was not written by this command, and is left alone: rename it")
    try:
        before = [root / line for line in mark.read_text("utf-8").splitlines()[2:]] if mark.is_file() else []
        written = []
        for image, draw in found.draw.items():
            place = Path(DRAWN_FOLDER, *key_of(image)).with_name(key_of(image)[-1] + ".png")
            (root / place.parent).mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(draw()).save(root / place)
            written.append(place.as_posix())
        for part in sorted(set(found.parts.values())) if len(set(found.parts.values())) > 1 else ():
            ids = ["/".join(key_of(image)) for image, of_image in found.parts.items() if of_image == part]
            (folder / f"{part}.txt").write_text("\n".join(ids) + "\n", "utf-8")
            written.append(f"{DRAWN_FOLDER}/{part}.txt")
        for path in set(before) - {root / place for place in written}:
            if path.parent.resolve().is_relative_to(folder.resolve()):
                path.unlink(missing_ok=True)
        head = [f"drawn by segsweep init from {found.format}", sources_hash(root, found.sources)]
        mark.write_text("\n".join([*head, *written]) + "\n", "utf-8")
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error}); free some space, or copy the data set") from None


def sources_hash(root: Path, sources: Iterable[Path]) -> str:
    """SHA-256 (hex) of the names and contents of annotation files."""
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def drawn_hash(root: Path) -> str | None:
    """The hash of the annotations that the masks of a folder were drawn from; None if none were."""
    try:
        lines = (root / DRAWN_FOLDER / _MARK).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return lines[1] if len(lines) > 1 else None


def numbered(labels: Iterable[str], limit: int = MOST_CLASSES) -> tuple[str, ...]:
    """Names of classes in alphabetical order, the background left out.

    Raises:
        DataError: If there are more than masks have room for.
    """
    names = tuple(sorted(set(labels) - {BACKGROUND, "_background_"}))
    if len(names) >= limit:
        raise DataError(
            f"{len(names)} classes ({some_of(names, 4)}), and {limit - 1} beside the background is the most"
        )
    return names


def places_of(names: Sequence[str]) -> dict[str, int]:
    """The number of each class in a mask, by its name and by what tools call the background."""
    return {name: number for number, name in enumerate(names, 1)} | dict.fromkeys((BACKGROUND, "_background_"), 0)


class Finder:
    """Finds the image that a path in an annotation means, wherever it was written.

    Args:
        files: The images.
    """

    def __init__(self, files: Sequence[MediaFile]) -> None:
        self._by_tail: dict[str, list[MediaFile]] = {}
        for file in files:
            pieces = file.relative.split("/")
            for length in range(1, len(pieces) + 1):
                self._by_tail.setdefault("/".join(pieces[-length:]), []).append(file)

    def find(self, name: str, near: Path | None = None) -> MediaFile | None:
        """The image of a name, perhaps with folders; of several the one below a folder; None if there is no such.

        Raises:
            DataError: If several images have the name.
        """
        pieces = [piece for piece in name.replace("\\", "/").split("/") if piece not in ("", ".", "..")]
        for length in range(len(pieces), 0, -1):
            found = self._by_tail.get("/".join(pieces[-length:]), [])
            if near is not None and len(found) > 1:
                found = [file for file in found if near in file.path.parents] or found
            if len(found) > 1:
                raise DataError(
                    f"{name} may be {some_of([file.relative for file in found], 3)}; give images other names"
                )
            if found:
                return found[0]
        return None


def absent_note(names: Sequence[str]) -> list[str]:
    """Images that are annotated and not there, told once."""
    return [f"{counted(len(names), 'annotated image')} not there: {some_of(sorted(names), 3)}"] if names else []


def thin_note(kinds: Sequence[str], what: str) -> list[str]:
    """Things that cover no pixels, such as points and lines, told once.

    Args:
        kinds: Of each.
        what: What the format calls one of them.
    """
    if not kinds:
        return []
    return [f"{counted(len(kinds), what)} without an area left out: {some_of(sorted(set(kinds)), 4)}"]


def mask_of(image: Path, largest: int) -> Mask:
    """A mask of background in the size of an image, for formats that do not tell it, with room for ids up to `largest`.

    Raises:
        DataError: If the image cannot be decoded.
    """
    size = stored_size(image)
    if size is None:
        raise DataError(f"{image}: image cannot be decoded; replace it by a whole copy")
    return empty_mask(*size, largest)


def empty_mask(height: int, width: int, largest: int) -> Mask:
    """A mask of background with room for ids up to `largest`.

    Raises:
        DataError: If an annotation asks for more pixels than the limit.
    """
    check_pixels(height, width, "an annotation", what="mask")
    return np.zeros((height, width), np.min_scalar_type(largest))
