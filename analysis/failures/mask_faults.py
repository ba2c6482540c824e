"""What makes masks of any program unusable: a paragraph for each kind of fault, as a data set's are told."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from trainables.data.base import Offender
from trainables.data.faults import paragraphs, write_all
from trainables.data.reading.files import strange_text
from trainables.data.reading.stored import is_color
from trainables.errors import DataError
from trainables.limits import opened_image
from trainables.words import counted

_POSITIONS = "if they are the places 0, 1 ... of the classes, say --ids positions"
_NAMES = "names may differ by one prefix and one suffix that all files of a folder share"
CURES: Mapping[str, str] = {
    "prediction without truth": f"add its truth, or take it out of the folder; {_NAMES}",
    "truth without prediction": f"add the prediction, or take the truth out of the folder; {_NAMES}",
    "image without truth": f"add its truth, or take the image out of the folder; {_NAMES}",
    "truth without image": f"add the image, take the truth out of the folder, or leave out --images; {_NAMES}",
    "two files of one name": "keep one of them in the folder",
    "size mismatch": "predict it again at the size of its truth, or enlarge it there without smoothing",
    "image of another size": "give the image that the masks were drawn on, or leave out --images",
    "unreadable image": "replace it by a whole copy, or leave out --images",
    "ids outside the class list": 'give each id a class in the file of --classes, or add it to "void" there',
    "colours outside the class list": "give each colour a class in the file of --classes",
    "ids that are no class in a prediction": f"give each id a class in the file of --classes; {_POSITIONS}",
    "void in a prediction": f"let the model give every pixel a class; {_POSITIONS}",
}
"""What to do about each kind; the kinds that are not here say it themselves."""


class MaskFaults:
    """Faults of files of some folders, told together."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._root = Path(os.path.commonpath([folder.absolute() for folder in folders]))
        self._found: list[Offender] = []

    def add(self, kind: str, image_id: str, path: Path, detail: str = "") -> None:
        """Keeps one.

        Args:
            kind: What is wrong; one of `CURES`, or one whose details say what to do.
            image_id: Of the file.
            path: The file.
            detail: The measured facts.
        """
        self._found.append(Offender(kind, image_id, path.absolute(), detail))

    def raise_for_any(self) -> None:
        """Returns if there are none.

        Raises:
            DataError: Tells those of each kind in a paragraph, with the cure, and where all are.
        """
        if not self._found:
            return
        told = paragraphs(self._found, self._root, described=False, cures=CURES)
        lines = [f"  {line}" for one in told for line in one.lines]
        if any(one.hidden for one in told) and (place := write_all("masks", self._root, self._found, ())):
            lines.append(f"all are in {place}")
        raise DataError("\n".join([f"these masks cannot be compared, {counted(len(self._found), 'fault')}:", *lines]))

    def values(
        self,
        image_id: str,
        path: Path,
        meant: Mapping[int, int],
        known: Mapping[int, int],
        void: int,
        *,
        is_truth: bool,
    ) -> None:
        """Keeps values that stand for no class, and void in a prediction.

        Args:
            image_id: Of the mask.
            path: The mask.
            meant: Pixels of each value.
            known: The class or void of each value that has a meaning.
            void: What stands for void there.
            is_truth: Whether the mask may hold void.
        """
        strange = {value: count for value, count in meant.items() if value not in known}
        for colored in (False, True):
            of_kind = {value: count for value, count in strange.items() if is_color(value) == colored}
            kind = f"{'colours' if colored else 'ids'} outside the class list"
            if not (colored or is_truth):
                kind = "ids that are no class in a prediction"
            if of_kind:
                self.add(kind, image_id, path, f"holds {strange_text(of_kind, known)}")
        if not is_truth and (pixels := sum(count for value, count in meant.items() if known.get(value) == void)):
            self.add("void in a prediction", image_id, path, counted(pixels, "pixel"))

    def size(self, image_id: str, path: Path, size: tuple[int, int], truth: tuple[int, int] | None) -> None:
        """Keeps a mask of another size than its truth, whose size is None where it cannot be read."""
        if truth is not None and size != truth:
            self.add("size mismatch", image_id, path, _sizes(size, "its truth", truth))

    def image(self, image_id: str, path: Path, truth: tuple[int, int] | None) -> None:
        """Keeps an image that cannot be read, or has another size than its masks."""
        try:
            with opened_image(path, head=True) as image:
                size = (image.height, image.width)
        except (OSError, ValueError, SyntaxError) as error:
            self.add("unreadable image", image_id, path, f"cannot be decoded ({error})")
            return
        if truth is not None and size != truth:
            self.add("image of another size", image_id, path, _sizes(size, "its masks", truth))

    def partners(self, what: str, own: Mapping[str, Path], truth: Mapping[str, Path]) -> None:
        """Keeps files of two folders that have no partner.

        Args:
            what: `prediction` or `image`: what the files of the first folder are.
            own: Its files by name.
            truth: The true masks by image id.
        """
        for name in sorted(truth.keys() - own.keys()):
            self.add(f"truth without {what}", name, truth[name])
        for name in sorted(own.keys() - truth.keys()):
            self.add(f"{what} without truth", name, own[name])


def _sizes(size: tuple[int, int], other: str, expected: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}, {other} {expected[0]}x{expected[1]} (HEIGHTxWIDTH)"
