"""Whether a data set can be trained on: every fault of every file, found before the first second of training.

`python -m trainables.data.check --data NAME --data-root ROOT` prints it; exit code 0 (fit), 1 (faults), 2 (bad usage).
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trainables import commands, plugins
from trainables.data.base import DATASETS, Offender, SegmentationData, Splits
from trainables.data.cache.scan import ImageRecord, pixels_by_class, scan
from trainables.data.faults import Paragraph, paragraphs, write_all
from trainables.data.flags import add_data_flags
from trainables.data.near_duplicates import near_duplicates
from trainables.data.presence import shown_faults
from trainables.data.reading.files import strange_kind, strange_text
from trainables.data.reading.stored import is_transparent, stored_text
from trainables.data.splits.complete import PARTS
from trainables.data.splits.given import NEAR_DUPLICATES, make_splits
from trainables.errors import DataError
from trainables.flags import command_parser, whole
from trainables.guarded import guarded
from trainables.places import OnProgress
from trainables.words import counted, some_of

__all__ = ["CheckResult", "Offender", "check", "main"]

NEAR_EMPTY = 0.01
"""A mask with a smaller share of pixels that are not void is near-empty."""

_TURN = "turn the pixels and drop the tag"
_MEND = "change what is named, then run the same command again"


@dataclass(frozen=True)
class CheckResult:
    """What `check` found."""

    name: str
    root: Path
    errors: tuple[Offender, ...]
    """Faults that stop a sweep."""
    warnings: tuple[Offender, ...]
    """What a reader of the report must know."""
    hashes: Mapping[str, tuple[str, str]]
    """SHA-256 of the image file and of the mask file, by image id; ids with a missing file are left out."""
    class_pixels: Mapping[str, npt.NDArray[np.int64]] = field(repr=False)
    """Pixels of each class, shape (C,), by split; void is left out."""
    void_pixels: Mapping[str, int] = field(repr=False)
    """Void pixels by split."""

    @property
    def error_paragraphs(self) -> list[Paragraph]:
        """The errors of each kind."""
        return paragraphs(self.errors, self.root, described=self.name == "folder")

    @property
    def warning_paragraphs(self) -> list[Paragraph]:
        """The warnings of each kind; none has a cure."""
        return paragraphs(self.warnings, self.root, described=False)

    def where_all_are(self, told: Sequence[Paragraph]) -> str:
        """Where the faults are that some paragraphs do not name; empty if they name all."""
        if not any(one.hidden for one in told):
            return ""
        place = write_all(self.name, self.root, self.errors, self.warnings)
        return f"all are in {place}" if place else f"{commands.command('trainables.data.check', '--json')} lists all"

    def raise_for_errors(self) -> None:
        """Returns if there are no errors.

        Raises:
            DataError: Tells the errors of each kind in a paragraph, with the cure, and where all are.
        """
        if not self.errors:
            return
        told = self.error_paragraphs
        lines = "\n".join(f"  {line}" for one in told for line in one.lines)
        faults = counted(len(self.errors), "fault")
        end = "; ".join(filter(None, [_MEND, self.where_all_are(told)]))
        raise DataError(f"data set {self.name} in {self.root} has {faults}:\n{lines}\n{end}")


def check(data: SegmentationData, splits: Splits, *, progress: OnProgress | None = None) -> CheckResult:
    """Reads every image and mask once, in parallel, and collects all faults.

    Errors: a missing file, an image without a mask or the reverse, an unreadable file, an image and a mask of different
    sizes, ids or colours outside the class list, an id or an identical picture in two splits (whatever the file), an
    empty split, a mask of nothing but void in val or test, where nothing can be scored; splits that do not show
    two classes, so that nothing can be learnt or measured, and an id that may be a class but is void by default (see
    `shown_faults`).

    Warnings: such a mask in train, where it teaches nothing; a mask less than 1% labelled (`NEAR_EMPTY`); a class
    absent from a split, or rare in it (`RARE_IMAGES`, `RARE_SHARE`); a group in two splits; pictures in two splits that
    are nearly the same (`near_duplicates`); an EXIF orientation.

    What the files hold is remembered in the cache folder (see `scan`), so that a second check is quick.

    Args:
        data: The data set.
        splits: Its splits.
        progress: Called with (done, total) images.
    """
    parts = {part: getattr(splits, part) for part in PARTS}
    ids = sorted({*data.ids(), *(image_id for members in parts.values() for image_id in members)})
    records = scan(data, ids, progress=progress)
    orphans = list(data.orphans())
    known = {orphan.image_id for orphan in orphans}
    pixels = {image_id: pixels_by_class(data, records[image_id]) for image_id in ids}
    part_of = {image_id: part for part, members in parts.items() for image_id in members}
    unscored, untaught = _void_masks(data, part_of, records)
    counts = {
        part: np.array([pixels[i] for i in members], np.int64).reshape(-1, len(data.classes))
        for part, members in parts.items()
    }
    # Which classes an unreadable mask shows is unknown.
    unknown = {image_id for image_id, record in records.items() if _unknown(data, record)}
    known_parts = {part for part, members in parts.items() if members and unknown.isdisjoint(members)}
    too_little, scarce = shown_faults(
        data,
        {part: counts[part] for part in PARTS if part in known_parts},
        None if unknown else _stored(records.values()),
        {part: [splits.group(data, image_id) for image_id in members] for part, members in parts.items()},
    )
    return CheckResult(
        name=data.name,
        root=data.root,
        errors=(
            *orphans,
            *(fault for i in ids if i not in known for fault in _file_faults(data, i, records[i])),
            *unscored,
            *_split_faults(data, parts),
            *_twins(data, parts, records),
            *too_little,
        ),
        warnings=(
            *scarce,
            *untaught,
            *_near_empty_masks(data, pixels, records),
            *_torn_groups(data, splits, parts),
            *_near_twins(data, parts, records),
            *_transparent(data, records),
            *_turned_images(data, records),
        ),
        hashes={i: (r.image.sha256, r.mask.sha256) for i, r in records.items() if r.image.sha256 and r.mask.sha256},
        class_pixels={part: of_images.sum(axis=0) for part, of_images in counts.items()},
        void_pixels={part: sum(_void(data, records[i]) for i in members) for part, members in parts.items()},
    )


def _file_faults(data: SegmentationData, image_id: str, record: ImageRecord) -> Iterator[Offender]:
    image_path, mask_path = data.paths(image_id)
    for what, path, file in (("image", image_path, record.image), ("mask", mask_path, record.mask)):
        if not file.exists:
            yield Offender(f"missing {what}", image_id, path)
        elif file.fault:
            yield Offender(f"unreadable {what}", image_id, path, file.fault)
    if record.image.size and record.mask.size and record.image.size != record.mask.size:
        detail = f"image {_size(record.image.size)}, mask {_size(record.mask.size)} (HEIGHTxWIDTH)"
        if record.orientation >= 5 and record.image.size == record.mask.size[::-1]:
            detail += f"; the mask fits the image turned by its EXIF orientation {record.orientation}: {_TURN}"
        yield Offender("size mismatch", image_id, mask_path, detail)
    allowed = data.stored_values()
    strange = {stored: pixels for stored, pixels in record.pixels.items() if stored not in allowed}
    if strange:
        yield Offender(strange_kind(strange), image_id, mask_path, strange_text(strange, allowed))


def _unknown(data: SegmentationData, record: ImageRecord) -> bool:
    return not record.mask.size or not record.pixels.keys() <= data.stored_values().keys()


def _stored(records: Iterable[ImageRecord]) -> dict[int, int]:
    """Pixels of each stored value over all masks."""
    total: Counter[int] = Counter()
    for record in records:
        total.update(record.pixels)
    return dict(total)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _void_masks(
    data: SegmentationData, part_of: Mapping[str, str], records: Mapping[str, ImageRecord]
) -> tuple[list[Offender], list[Offender]]:
    """The masks of nothing but void: those of val and test, and the others."""
    unscored: list[Offender] = []
    others: list[Offender] = []
    for image_id, record in records.items():
        void = _void(data, record)
        if void and void == sum(record.pixels.values()):
            part = part_of.get(image_id, "no split")
            offender = Offender("mask of nothing but void", image_id, data.paths(image_id)[1], f"in {part}")
            (unscored if part in ("val", "test") else others).append(offender)
    return unscored, others


def _near_empty_masks(
    data: SegmentationData, pixels: Mapping[str, npt.NDArray[np.int64]], records: Mapping[str, ImageRecord]
) -> Iterator[Offender]:
    for image_id, record in records.items():
        labelled, everything = int(pixels[image_id].sum()), sum(record.pixels.values())
        if 0 < labelled < NEAR_EMPTY * everything:
            detail = (
                f"{labelled} of {everything} pixels labelled ({labelled / everything:.2%}), less than {NEAR_EMPTY:.0%}"
            )
            yield Offender("near-empty mask", image_id, data.paths(image_id)[1], detail)


def _split_faults(data: SegmentationData, parts: Mapping[str, Sequence[str]]) -> Iterator[Offender]:
    homes: dict[str, list[str]] = defaultdict(list)
    for part, members in parts.items():
        if not members:
            yield Offender("empty split", part, data.root, "no image in it; add images or give the lists yourself")
        for image_id in members:
            homes[image_id].append(part)
    for image_id, where in sorted(homes.items()):
        if len(where) > 1:
            yield Offender("id in two splits", image_id, data.paths(image_id)[0], " and ".join(where))


def _twins(
    data: SegmentationData, parts: Mapping[str, Sequence[str]], records: Mapping[str, ImageRecord]
) -> Iterator[Offender]:
    owners: dict[str, dict[str, str]] = defaultdict(dict)
    for part, members in parts.items():
        for image_id in members:
            # What cannot be decoded is a fault of its own, and copies of it are no further ones.
            if content := records[image_id].content:
                owners[content].setdefault(part, image_id)
    for by_part in owners.values():
        if len(set(by_part.values())) > 1:
            first, *others = by_part.items()
            same = ", ".join(f"{image_id} in {part}" for part, image_id in others)
            files = {records[image_id].image.sha256 for image_id in by_part.values()}
            how = "is the same file as" if len(files) == 1 else "has the same pixels as"
            detail = f"{first[1]} in {first[0]} {how} {same}"
            yield Offender("identical images across splits", first[1], data.paths(first[1])[0], detail)


def _torn_groups(data: SegmentationData, splits: Splits, parts: Mapping[str, Sequence[str]]) -> Iterator[Offender]:
    homes: dict[str, set[str]] = defaultdict(set)
    for part, members in parts.items():
        for image_id in members:
            group = splits.group(data, image_id)
            if group is not None:
                homes[group].add(part)
    for group, where in sorted(homes.items()):
        if len(where) > 1:
            yield Offender("group in two splits", group, data.root, " and ".join(p for p in parts if p in where))


def _near_twins(
    data: SegmentationData, parts: Mapping[str, Sequence[str]], records: Mapping[str, ImageRecord]
) -> Iterator[Offender]:
    """Pictures that are nearly the same in two splits, told once, the most alike first."""
    part_of = {image_id: part for part, members in parts.items() for image_id in members}
    found: list[tuple[float, str, str]] = []
    for one, other, likeness in near_duplicates({image_id: records[image_id].thumbnail for image_id in part_of}):
        if part_of[one] != part_of[other] and records[one].content != records[other].content:
            first, second = sorted((one, other), key=lambda image_id: PARTS.index(part_of[image_id]))
            found.append((likeness, first, second))
    if found:
        found.sort(key=lambda pair: -pair[0])
        named = [f"{one} in {part_of[one]} and {other} in {part_of[other]}" for _, one, other in found]
        detail = f"{some_of(named)}. Where splits are drawn, --group-by {NEAR_DUPLICATES} keeps them together"
        what = counted(len(found), "pair")
        yield Offender("nearly the same picture in two splits", what, data.paths(found[0][1])[0], detail)


def _turned_images(data: SegmentationData, records: Mapping[str, ImageRecord]) -> Iterator[Offender]:
    for image_id, record in records.items():
        if record.orientation > 1 and not data.orientation_settled(image_id):
            detail = (
                f"orientation {record.orientation} is not applied, viewers do; if the mask was drawn turned: {_TURN}"
            )
            yield Offender("EXIF orientation", image_id, data.paths(image_id)[0], detail)


def _transparent(data: SegmentationData, records: Mapping[str, ImageRecord]) -> Iterator[Offender]:
    """What the transparent pixels of all masks were taken for, told once."""
    clear: Counter[int] = Counter()
    masks = [i for i, record in records.items() if any(is_transparent(value) for value in record.pixels)]
    for image_id in masks:
        clear.update({value: n for value, n in records[image_id].pixels.items() if is_transparent(value)})
    if clear:
        detail = some_of(
            [f"{stored_text(v)} ({counted(n, 'pixel')}) is {_class_name(data, v)}" for v, n in clear.items()]
        )
        yield Offender("transparent pixels", counted(len(masks), "mask"), data.paths(masks[0])[1], detail)


def _class_name(data: SegmentationData, value: int) -> str:
    class_id = data.stored_values().get(value)
    return "no class" if class_id is None else "void" if class_id == data.void else data.classes[class_id].name


def _void(data: SegmentationData, record: ImageRecord) -> int:
    allowed = data.stored_values()
    return sum(pixels for stored, pixels in record.pixels.items() if allowed.get(stored) == data.void)


def as_json(data: SegmentationData, splits: Splits, result: CheckResult) -> dict[str, Any]:
    """The outcome as plain data."""
    return {
        "data": result.name,
        "root": str(result.root),
        "splits": {part: len(getattr(splits, part)) for part in PARTS},
        "origin": splits.origin,
        "notes": list(splits.warnings),
        "errors": [{**asdict(offender), "path": str(offender.path)} for offender in result.errors],
        "warnings": [{**asdict(offender), "path": str(offender.path)} for offender in result.warnings],
        "class_pixels": {
            part: dict(zip([info.name for info in data.classes], counts.tolist(), strict=True))
            for part, counts in result.class_pixels.items()
        },
        "void_pixels": dict(result.void_pixels),
    }


def _print(console: Console, data: SegmentationData, splits: Splits, result: CheckResult) -> None:
    sizes = {part: len(getattr(splits, part)) for part in PARTS}
    console.print(f"[bold]{data.name}[/] in {escape(str(data.root))}")
    console.print(f"{', '.join(f'{part} {count}' for part, count in sizes.items())} images: {escape(splits.origin)}")
    table = Table("class", *(f"{part} %" for part in sizes), box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    shares = {part: counts / max(1, int(counts.sum())) for part, counts in result.class_pixels.items()}
    for class_id, info in enumerate(data.classes):
        color = "#{:02x}{:02x}{:02x}".format(*info.color)
        cells = [f"{100 * shares[part][class_id]:.2f}" for part in sizes]
        table.add_row(f"[{color}]■[/] {escape(info.name)}", *cells)
    voids = {part: result.void_pixels[part] / max(1, int(result.class_pixels[part].sum()) + result.void_pixels[part])
             for part in sizes}  # fmt: skip
    table.add_row("[dim]void (of all)[/]", *(f"[dim]{100 * voids[part]:.2f}[/]" for part in sizes))
    console.print(table)
    for note in splits.warnings:
        console.print(f"[yellow]note[/] {escape(note)}")
    errors, warnings = result.error_paragraphs, result.warning_paragraphs
    for style, what, told in (("yellow", "warning", warnings), ("red", "error", errors)):
        for one in told:
            first, *others = one.lines
            console.print(f"[{style}]{what}[/] {escape(first)}")
            for line in others:
                console.print(f"  {escape(line)}", highlight=False)
    all_are = f"; {where}" if (where := result.where_all_are([*errors, *warnings])) else ""
    if errors:
        console.print(f"[red]{counted(len(result.errors), 'error')}[/]: {_MEND}{escape(all_are)}")
    else:
        console.print(f"[green]fit to train on[/], {counted(len(result.warnings), 'warning')}{escape(all_are)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return guarded(lambda: _run(arguments), interrupted="interrupted; what was found of whole files is remembered")


def _run(arguments: Sequence[str] | None) -> int:
    plugins.load_given(arguments)
    parser = command_parser(
        "trainables.data.check",
        "Check a data set: every fault of every file, as every sweep does before its first trial.",
        epilog="Exit codes: 0 fit to train on, 1 faults, 2 bad usage.",
    )
    add_data_flags(parser)
    plugins.add_flag(parser)
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="seed of drawn splits (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    data = DATASETS.get(options.data)(root=options.data_root, download=options.download)
    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, soft_wrap=True), transient=True) as bar:
        task = bar.add_task("checking", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        splits = make_splits(data, splits=options.splits, group_by=options.group_by, seed=options.seed, progress=show)
        result = check(data, splits, progress=show)
    if options.json:
        print(json.dumps(as_json(data, splits, result), indent=1))
    else:
        _print(Console(soft_wrap=True), data, splits, result)
    return 1 if result.errors else 0


if __name__ == "__main__":
    sys.exit(main())
