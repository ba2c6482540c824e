"""What was found in a folder, what somebody said of it, and what has to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainables import commands
from trainables.data.bands import Bands
from trainables.data.base import ClassInfo, Color
from trainables.data.reading.read import PaletteUse
from trainables.errors import DataError

ExifUse = Literal["turned", "stored"]
"""Whether masks were drawn on pictures as viewers show them, turned by their EXIF orientation, or on stored pixels."""


@dataclass(frozen=True)
class SaidClass:
    """A class as somebody named it; what was left out is None."""

    name: str
    id: int | None = None
    color: Color | None = None


@dataclass(frozen=True)
class Said:
    """What a description, a table of classes or a command line says of a folder; None: nothing."""

    classes: tuple[SaidClass, ...] | None = None
    void: tuple[int, ...] | None = None
    void_colors: tuple[Color, ...] = ()
    first_id: int | None = None
    """The id of the first of classes that are only named."""
    images: str | None = None
    """A folder below the root, or a pattern with `*` and `**/`."""
    masks: str | None = None
    pairs: tuple[str, ...] | None = None
    """Tables of pairs below the root; none of them: files are paired by their names."""
    groups: str | None = None
    exif: ExifUse | None = None
    palette: PaletteUse | None = None
    image_bits: int | None = None
    values: Literal["ids"] | None = None
    """Masks hold ids, so that the colours of classes are for pictures only."""
    channels: tuple[int, ...] | None = None
    """The bands of image files that a model sees, from 1; none of them named: all."""
    rgb: tuple[int, int, int] | None = None
    """The bands that are red, green and blue."""
    scale: tuple[float, float] | None = None
    """The values that become 0 and 255."""
    pages: Literal["bands"] | None = None
    """Each page of an image file is a band of it."""
    source: str = "classes.json"
    """Where the classes come from, for messages."""

    @property
    def complete(self) -> bool:
        """Whether every class has its id, so that no mask has to be looked at."""
        return self.classes is not None and all(said.id is not None for said in self.classes)


@dataclass(frozen=True)
class Question:
    """The one thing that the files do not tell."""

    text: str
    """What cannot be known, and why."""
    answers: tuple[tuple[tuple[str, ...], str], ...]
    """Flags of `segsweep init`, and what they mean."""
    draws: bool = False
    """Whether `segsweep init` answers it by itself: it draws masks from annotations in another format."""

    def cure(self, root: Path) -> str:
        """The commands that answer it."""
        ways = [
            f"{commands.command('trainables.data.init', root.as_posix(), *flags)} ({meaning})"
            for flags, meaning in self.answers
        ]
        return ", or ".join(ways)


class UndecidedError(DataError):
    """A folder leaves something open that nobody said."""

    def __init__(self, root: Path, question: Question, *, instead: str = "") -> None:
        more = f"; {instead}" if instead else ""
        super().__init__(f"{root}: {question.text}; say which: {question.cure(root)}{more}")
        self.question = question


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    image: Path
    mask: Path
    part: str | None = None
    """train, val or test, where folders say so."""
    page: int = 0
    """Which page of both files, from 0."""
    stack: str | None = None
    """The id of the file, where its pages are images of their own."""


@dataclass(frozen=True)
class Pairing:
    """Which files belong together."""

    pairs: Mapping[str, Pair]
    """By image id, sorted."""
    unlabelled: Mapping[str, Path]
    """Images without a mask."""
    lonely: Mapping[str, Path]
    """Masks without an image."""
    images: str
    """Where the images are, as text."""
    masks: str
    notes: tuple[str, ...] = ()
    parts_by: str = "folders"
    """What says which images are for train, val and test."""


@dataclass(frozen=True)
class Meaning:
    """What the values of the masks stand for."""

    classes: tuple[ClassInfo, ...]
    ids: Mapping[int, int]
    """The class (its place in `classes`) or void of each id in the mask files."""
    colors: Mapping[int, int] = field(default_factory=dict)
    """The class or void of each packed colour."""
    assumed_void: int | None = None
    """The id that is void by default, where nobody said what it is."""
    kind: str = ""
    """How the files hold them, as text."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A folder, read."""

    root: Path
    said: Said
    pairing: Pairing
    meaning: Meaning
    image_bits: int | None
    exif: ExifUse | None
    oriented: frozenset[str]
    """The images that carry an EXIF orientation."""
    bands: Bands | None
    """Which bands of the image files a model sees; None: red, green and blue as in ordinary pictures."""
    notes: tuple[str, ...]
    """How it was read where that is not a matter of course."""
    of_bands: tuple[str, ...] = ()
    """Those of the notes that are about the bands of images."""
    known: str = ""
    """Which data set of its own name it looks like, and how that is read; see `known_as`."""
