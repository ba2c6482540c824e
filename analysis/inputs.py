"""Images that a user points at: what is in a folder of any nesting, how it is read, and what its results are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.pictures import file_name
from trainables.data.bands import Bands
from trainables.data.base import Image
from trainables.data.layouts.heads import Head, heads
from trainables.data.layouts.tree import media_files
from trainables.data.reading.files import IMAGE_SUFFIXES
from trainables.data.reading.rasters import Raster, fitting_bits
from trainables.data.reading.read import DEEP_BITS, read_image
from trainables.errors import DataError, UsageError
from trainables.paths import LIST_FILE, UnsafePathError, check_name
from trainables.words import counted, some_of

SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
_PICTURES_OF_OTHERS = (
    ".heic",
    ".heif",
    ".avif",
    ".jp2",
    ".jxl",
    ".dng",
    ".cr2",
    ".nef",
    ".arw",
    ".svs",
    ".dcm",
    ".npy",
)
"""Pictures that are not read; files of other kinds are passed over without a word."""


@dataclass(frozen=True)
class Picture:
    """One image of a user's.

    Attributes:
        path: Its file.
        name: From the folder that was given, with slashes; of a page also which.
        place: Names of the folders and of the file that its results have below the output folder, without a suffix.
        page: Which page of the file.
        raster: What a file of several bands holds; None for an ordinary picture.
    """

    path: Path
    name: str
    place: tuple[str, ...]
    page: int = 0
    raster: Raster | None = None


@dataclass(frozen=True)
class Inputs:
    """The images that a user points at.

    Attributes:
        pictures: In the order of their names.
        bits: From which depth images deeper than 8 bits are scaled; None where there are none.
        turned: Whether pictures are turned as their EXIF orientation says.
        notes: What the user must know of how they are read.
        bands: Which bands of the files the model sees; None: red, green and blue.
    """

    pictures: tuple[Picture, ...]
    bits: int | None
    turned: bool
    notes: tuple[str, ...]
    bands: Bands | None = None

    def read(self, picture: Picture) -> Image:
        """An image as RGB, uint8 of shape (H, W, 3), or (H, W, C) with the bands of the model.

        Raises:
            DataError: If the file cannot be read.
        """
        if self.bands is None and picture.raster is not None and not picture.raster.rgb:
            raise DataError(
                f"{picture.path}: image has {counted(picture.raster.bands, 'band')}, and the model was trained on red, "
                "green and blue; save these as a picture"
            )
        bands = self.bands
        if bands is None and picture.raster is not None:
            bands = Bands((1, 2, 3), picture.raster.bands)
        return read_image(picture.path, bits=self.bits, page=picture.page, turned=self.turned, bands=bands)


def find_inputs(
    place: Path,
    *,
    out: Path,
    bits: int | None = None,
    trained_bits: int | None = None,
    turned: bool = True,
    bands: Bands | None = None,
) -> Inputs:
    """Finds the images at a place.

    Args:
        place: A folder, searched through all folders below it (links are followed, hidden ones passed over), or a file.
        out: Where results are written: nothing below it is an image.
        bits: From which depth images deeper than 8 bits are scaled; None: as the model's training images were, or,
            where there were none, from the least depth that holds all values.
        trained_bits: The depth of the model's training images, where they were deeper than 8 bits.
        turned: Whether to turn pictures as EXIF says.
        bands: Which bands of image files the model sees; None: red, green and blue.

    Raises:
        UsageError: If there is no image.
    """
    if not place.exists():
        raise UsageError(f"{place} does not exist: give a folder of images, or one image")
    files: list[tuple[Path, tuple[str, ...]]]
    if place.is_file():
        files, others = [(place, (place.name,))], Counter[str]()
    else:
        files, others = _files(place, out)
    if not files:
        seen = f" (only {_kinds(others)})" if others else ""
        raise UsageError(f"{place} holds no image{seen}: files that end with {', '.join(SUFFIXES)} are read")
    root, paths = place if place.is_dir() else place.parent, [path for path, _ in files]
    known = heads(root, paths, pages_are_bands=bands is not None and bands.pages)
    notes = [f"not read: {_kinds(others)}"] if others else []
    depth, told = (trained_bits, []) if bands and bands.scale else _depth(known, bits, trained_bits)
    oriented = sum(head.orientation > 1 for head in known.values())
    if oriented and turned:
        notes.append(f"{counted(oriented, 'image')} turned as EXIF says; masks and overlays are upright")
    return Inputs(tuple(_pictures(files, known)), depth, turned, (*notes, *told, *_of_bands(known, bands)), bands)


def _files(root: Path, out: Path) -> tuple[list[tuple[Path, tuple[str, ...]]], Counter[str]]:
    """Images with the names of their folders and their own, and how many pictures of other kinds there are."""
    own = out.resolve()
    inside = root.resolve() in own.parents
    files, others = [], Counter[str]()
    for path in (file.path for file in media_files(root)):
        if inside and own in path.resolve().parents:
            continue
        if path.suffix.lower() in SUFFIXES:
            files.append((path, path.relative_to(root).parts))
    for path in root.rglob("*"):
        if path.suffix.lower() in _PICTURES_OF_OTHERS and not path.name.startswith("."):
            others[path.suffix.lower()] += 1
    return files, others


def _kinds(others: Mapping[str, int]) -> str:
    return some_of([f"{counted(number, f'{suffix} file')}" for suffix, number in sorted(others.items())])


def _depth(known: Mapping[Path, Head], bits: int | None, trained: int | None) -> tuple[int | None, list[str]]:
    deep = [head.bits for head in known.values() if head.bits is not None]
    for raster in (head.raster for head in known.values() if head.raster is not None and head.raster.dtype != "uint8"):
        fitting = fitting_bits(raster.low, raster.high, raster.dtype)
        deep.append(max(DEEP_BITS) if fitting is None else fitting)  # the file is refused when it is read
    if not deep:
        return None, []
    depth, whose = max(deep), "the least depth that holds all values"
    if trained is not None:
        depth, whose = trained, "as in training"
    if bits is not None:
        depth, whose = bits, "as asked for"
    rule = "values of 0 .. 1 times 255" if depth == 0 else f"{depth} bits divided by {2 ** (depth - 8)}"
    return depth, [f"{counted(len(deep), 'image')} deeper than 8 bits: {rule} ({whose}; --bits says otherwise)"]


def _of_bands(known: Mapping[Path, Head], bands: Bands | None) -> list[str]:
    """What a user must know of the bands that are read."""
    if bands is None:
        more = sum(head.raster is not None and head.raster.rgb for head in known.values())
        told = f"{counted(more, 'image')} with more bands than red, green and blue: these three are read"
        return [told] if more else []
    strange = [head.bands for head in known.values() if head.bands and head.bands != bands.of]
    notes = [f"the model sees {bands}; {bands.caption()}"]
    if bands.scale is not None:
        notes.append(f"values from {bands.scale[0]:g} to {bands.scale[1]:g} become 0 to 255, as in training")
    if strange:
        numbers = some_of(sorted({str(number) for number in strange}), 4)
        notes.append(f"{counted(len(strange), 'image')} with {numbers} bands, not {bands.of} as in training: bands are "
                     "taken by their numbers")  # fmt: skip
    return notes


def _pictures(files: Sequence[tuple[Path, tuple[str, ...]]], known: Mapping[Path, Head]) -> list[Picture]:
    stems = Counter((*parts[:-1], Path(parts[-1]).stem.lower()) for _, parts in files)
    found: list[Picture] = []
    taken: set[tuple[str, ...]] = set()
    for path, parts in files:
        *folders, name = parts
        # a.jpg beside a.png: results are named after both whole names
        alone = stems[(*folders, Path(name).stem.lower())] == 1
        place = tuple(map(_safe, (*folders, Path(name).stem if alone else name)))
        pages = known[path].pages
        if pages == 1:
            found.append(Picture(path, "/".join(parts), _free(place, taken), raster=known[path].raster))
            continue
        width = len(str(pages))
        for page in range(pages):
            which = f"page-{page + 1:0{width}d}"  # as the data layer names them
            name, where = "/".join((*parts, which)), _free((*place, which), taken)
            found.append(Picture(path, name, where, page, known[path].raster))
    return found


def _free(place: tuple[str, ...], taken: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The place, or where another image has it one beside it."""
    number, free = 1, place
    while free in taken:
        number += 1
        free = (*place[:-1], f"{place[-1]}-{number}")
    taken.add(free)
    return free


def _safe(name: str) -> str:
    """A name that a file of ours may have: itself where it can, else cleaned and made unique."""
    try:
        return check_name(name, "a name") if name != LIST_FILE else file_name(name)
    except UnsafePathError:
        return file_name(name)
