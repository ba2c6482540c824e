"""Any folder of images and masks: what it is is found out, described in a file, or asked."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from trainables.data.base import DATASETS, Color, Offender, Splits
from trainables.data.find import find
from trainables.data.layouts.describe import CURE, description_file
from trainables.data.layouts.finding import Finding, Pair, Question, UndecidedError
from trainables.data.layouts.lists import ids_of, lists_in
from trainables.data.reading.files import FileData, read_lines, require_root
from trainables.data.reading.names import check_ids
from trainables.data.reading.read import ImageReading, MaskReading, exif_orientation, stored_size
from trainables.data.reading.stored import color_of
from trainables.data.splits.complete import completed
from trainables.data.splits.groups import groups_by
from trainables.data.splits.stratified import FRACTIONS, draw, how_drawn
from trainables.errors import DataError
from trainables.words import counted, some_of

_LAYOUT = "images and masks (images/ and masks/ with the same names, split folders, or another common layout)"


class Folder(FileData):
    """Images and masks in a folder, classes from a description or from the masks, splits as laid out, listed or drawn.

    Masks hold ids, or, where they are RGB, the colours of the classes.
    """

    name = "folder"
    default_image_size = (256, 256)

    def __init__(self, root: Path, finding: Finding | None = None) -> None:
        self.root = root
        self.finding = find(root) if finding is None else finding
        meaning, pairing = self.finding.meaning, self.finding.pairing
        self.classes = meaning.classes
        self.assumed_void = meaning.assumed_void
        self.image_bits = self.finding.image_bits
        self.bands = self.finding.bands
        self.void_colors: tuple[Color, ...] = tuple(
            color_of(color) for color, place in meaning.colors.items() if place >= len(self.classes)
        )
        self._paths: Mapping[str, Pair] = pairing.pairs
        self._lists = self._read_lists()
        self._groups = self._read_groups()

    def ids(self) -> Sequence[str]:
        """The images that have a mask, sorted."""
        return sorted(self._paths)

    def paths(self, image_id: str) -> tuple[Path, Path]:
        """The files of an image and of its mask; where a list names an id that is not there, where they should be."""
        if image_id in self._paths:
            return self._paths[image_id].image, self._paths[image_id].mask
        said, pairing = self.finding.said, self.finding.pairing
        folders = [where if where and "*" not in where else name for where, name in
                   ((said.images, "images"), (said.masks, "masks"))]  # fmt: skip
        image = pairing.unlabelled.get(image_id, self.root / folders[0] / f"{image_id}.png")
        return image, self.root / folders[1] / f"{image_id}.png"

    def page(self, image_id: str) -> int:
        """Which page of its files an image is."""
        return self._paths[image_id].page if image_id in self._paths else 0

    def image_reading(self, image_id: str) -> ImageReading:
        """Depth, page and orientation."""
        how: ImageReading = {}
        if self.finding.image_bits is not None:
            how["bits"] = self.finding.image_bits
        if page := self.page(image_id):
            how["page"] = page
        if self.bands is not None:
            how["bands"] = self.bands
        elif self._turned(image_id):
            how["turned"] = True
        return how

    def mask_reading(self, image_id: str) -> MaskReading:
        """Page and use of the palette."""
        how: MaskReading = {}
        if page := self.page(image_id):
            how["page"] = page
        if self.finding.said.palette is not None:
            how["palette"] = self.finding.said.palette
        return how

    def decoding(self) -> str:
        """Depth, orientation and palettes, where they are not those of plain files."""
        found = self.finding
        bands = None if found.bands is None else json.dumps(found.bands.to_json())
        parts = {"bits": found.image_bits, "bands": bands, "exif": found.exif, "palette": found.said.palette}
        return " ".join(f"{key}={value}" for key, value in parts.items() if value is not None)

    def orientation_settled(self, image_id: str) -> bool:
        """Whether it is known on which picture the mask was drawn."""
        return self.finding.exif is not None or self._turned(image_id)

    def unlabelled(self) -> Collection[str]:
        """Images without a mask."""
        return self.finding.pairing.unlabelled.keys()

    def orphans(self) -> Sequence[Offender]:
        """Masks without an image."""
        lonely = self.finding.pairing.lonely
        return [
            Offender("mask without image", mask_id, path, f"no image named {path.stem}.*")
            for mask_id, path in lonely.items()
        ]

    def notes(self) -> Sequence[str]:
        """How the folder was read, which images have no mask, and which data set it may be."""
        known = self.finding.known
        of_name = [f"read as any folder, but it looks like {known}"] if known else []
        return [*self.finding.notes, *unlabelled_note(self.finding), *of_name]

    def stored_ids(self) -> Mapping[int, int]:
        """The ids in the masks, mapped to 0 .. C - 1 in ascending order."""
        return self.finding.meaning.ids

    def declared_values(self) -> Mapping[int, int]:
        """The ids, and the colours that somebody declared or that the masks hold; not those that we chose."""
        return {**self.finding.meaning.ids, **self.finding.meaning.colors}

    def group(self, image_id: str) -> str | None:
        """The group that the description gives to the image, if it defines groups; else the file whose page it is."""
        if self._groups:
            return self._groups.get(image_id)
        return self._paths[image_id].stack if image_id in self._paths else None

    def splits(self, *, seed: int = 0) -> Splits:
        """As lists or folders say, parts that they do not give drawn; otherwise drawn 60/20/20.

        Raises:
            UndecidedError: If lists and folders contradict each other.
        """
        ids = list(self.ids())
        by_folder = {part: tuple(i for i in ids if self._paths[i].part == part) for part in ("train", "val", "test")}
        if self._lists:
            self._check_lists(by_folder)
            names, place = [path.name for path in self._list_files.values()], self._list_place
            train, val, test = (self._lists.get(part, ()) for part in ("train", "val", "test"))
            return completed(self, Splits(train, val, test, origin=f"the lists {', '.join(names)} in {place}"), seed)
        if sum(map(bool, by_folder.values())) > 1:
            shown = ", ".join(part for part, members in by_folder.items() if members)
            train, val, test = by_folder.values()
            by = self.finding.pairing.parts_by
            origin = f"the folders of {shown} in {self.root}" if by == "folders" else f"{shown} by {by}"
            given = Splits(train, val, test, origin=origin)
            return completed(self, given, seed)
        groups = [self.group(image_id) for image_id in ids]
        together = ", groups kept together" if any(groups) else ""
        train, val, test = draw(self, ids, FRACTIONS, seed=seed, groups=groups if any(groups) else None)
        return Splits(train, val, test, origin=f"drawn 60/20/20, {how_drawn(seed)}{together}")

    def layout(self) -> str:
        """Where the splits come from, without drawing any."""
        parts = [(part, len(self._lists.get(part, ()))) for part in ("train", "val", "test")]
        where = f"lists in {self._list_place}"
        if not self._lists:
            laid_out = Counter(pair.part for pair in self._paths.values() if pair.part)
            parts, where = [(part, laid_out[part]) for part in ("train", "val", "test")], self.finding.pairing.parts_by
        given = [f"{part} {count}" for part, count in parts if count]
        if not self._lists and len(given) < 2:
            return "none given: drawn 60/20/20 from all images"
        drawn = [part for part, count in parts if not count]
        return f"{', '.join(given)} by {where}" + (f"; {' and '.join(drawn)} drawn" if drawn else "")

    def _turned(self, image_id: str) -> bool:
        """Whether the picture is turned by its EXIF orientation: in general, or as only then its mask fits."""
        if image_id not in self.finding.oriented:
            return False
        if self.finding.exif is not None:
            return self.finding.exif == "turned"
        image, mask = self.paths(image_id)
        if exif_orientation(image) < 5:
            return False
        stored, wanted = stored_size(image), stored_size(mask)
        return stored is not None and wanted is not None and stored != wanted and stored[::-1] == wanted

    def _common_folder(self) -> Path:
        """The deepest folder that holds all images and masks: `VOC2012`, where the root is the `VOCdevkit` above it."""
        files = [path.parent for pair in self._paths.values() for path in (pair.image, pair.mask)]
        return Path(os.path.commonpath(sorted(set(files)))) if files else self.root

    def _read_lists(self) -> dict[str, tuple[str, ...]]:
        self._list_files = lists_in(self.root) or lists_in(self._common_folder())
        self._list_place = next((path.parent for path in self._list_files.values()), self.root)
        pairing = self.finding.pairing
        images = {**pairing.unlabelled, **{image_id: pair.image for image_id, pair in pairing.pairs.items()}}
        stacks: dict[str, list[str]] = {}
        for image_id, pair in pairing.pairs.items():
            if pair.stack is not None:
                stacks.setdefault(pair.stack, []).append(image_id)
        known = {**images, **{stack: images[pages[0]] for stack, pages in stacks.items()}}
        found = {}
        for part, path in self._list_files.items():
            named = ids_of(read_lines(path), {i: p for i, p in known.items() if i in stacks or not _is_page(i, stacks)})
            check_ids(named, path)
            doubles = [image_id for image_id, count in sorted(Counter(named).items()) if count > 1]
            if doubles:
                raise DataError(f"{path}: ids named more than once: {', '.join(doubles)}")
            found[part] = tuple(page for image_id in named for page in stacks.get(image_id, [image_id]))
        return found

    def _check_lists(self, by_folder: Mapping[str, Sequence[str]]) -> None:
        laid_out = {image_id: part for part, members in by_folder.items() for image_id in members}
        if len(set(laid_out.values())) < 2:
            return
        torn = [
            f"{image_id} ({part}.txt, folder of {laid_out[image_id]})"
            for part, members in self._lists.items()
            for image_id in members
            if laid_out.get(image_id, part) != part
        ]
        if torn:
            text = f"lists and folders put {counted(len(torn), 'image')} into different splits: {some_of(torn, 3)}"
            raise UndecidedError(
                self.root, Question(text, (((), "when the lists are moved away, or put right; --splits decides, too"),))
            )

    def _read_groups(self) -> dict[str, str]:
        rule = self.finding.said.groups
        if rule is None:
            return {}
        source = description_file(self.root) or self.root / "classes.json"
        return groups_by(rule, self.ids(), source=str(source), folder=self.root)


def _is_page(image_id: str, stacks: Mapping[str, Sequence[str]]) -> bool:
    return image_id.rpartition("/")[0] in stacks


def unlabelled_note(finding: Finding) -> list[str]:
    """Images without a mask, told once."""
    unlabelled = finding.pairing.unlabelled
    if not unlabelled:
        return []
    verb = "is" if len(unlabelled) == 1 else "are"
    return [f"{counted(len(unlabelled), 'image')} without a mask {verb} left out: {some_of(sorted(unlabelled))}"]


@DATASETS.register("folder")
def folder(*, root: Path | None = None, download: bool = False) -> Folder:
    """Images and masks in a folder of any common layout, perhaps with a `classes.json`.

    Args:
        root: The folder that holds them.
        download: Not offered.

    Raises:
        DataError: If it is not there or cannot be read, or if something about it has to be said first.
    """
    if download:
        raise DataError(f"folder cannot be downloaded; give --data-root a folder with {_LAYOUT}")
    return Folder(require_root(root, "folder", _LAYOUT, CURE))
