"""Whether a data set can be trained on: every fault of every file, found before the first second of training.

`python -m trainables.data.check --data NAME --data-root ROOT` prints it; exit code 0 (fit), 1 (faults), 2 (bad usage).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trainables.data.base import DATASETS, VOID, Offender, SegmentationData, Splits
from trainables.data.files import span
from trainables.data.scan import ImageRecord, pixels_by_class, scan
from trainables.data.scan import Progress as Report
from trainables.errors import DataError, SegsweepError

__all__ = ["CheckResult", "Offender", "check", "main"]

_CURE = "mend or remove these files, or take their ids out of the lists, then run the same command again"


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

    def raise_for_errors(self) -> None:
        """Returns if there are no errors.

        Raises:
            DataError: Lists every offender, one a line, with the cure.
        """
        if not self.errors:
            return
        lines = "\n".join(f"  {offender}" for offender in self.errors)
        faults = f"{len(self.errors)} fault{'s' if len(self.errors) > 1 else ''}"
        raise DataError(f"data set {self.name} in {self.root} has {faults}:\n{lines}\n{_CURE}")


def check(data: SegmentationData, splits: Splits, *, progress: Report | None = None) -> CheckResult:
    """Decodes every image and mask once, in parallel, and collects all faults.

    Errors: a missing file, an image without a mask or the reverse, an unreadable file, an image and a mask of different
    sizes, ids outside the class list, an id or an identical image in two splits, an empty split. Warnings: a class
    absent from a split, a mask of nothing but void, a group in two splits.

    What the files hold is remembered in the cache folder by path, size and modification time, so that a second check
    is quick.

    Args:
        data: The data set.
        splits: Its splits.
        progress: Called with (done, total) images.
    """
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    ids = sorted({*data.ids(), *(image_id for members in parts.values() for image_id in members)})
    records = scan(data, ids, progress=progress)
    orphans = list(data.orphans())
    known = {orphan.image_id for orphan in orphans}
    errors = [
        *orphans,
        *(fault for i in ids if i not in known for fault in _file_faults(data, i, records[i])),
        *_split_faults(data, parts),
        *_twins(data, parts, records),
    ]
    class_pixels, void_pixels = {}, {}
    for part, members in parts.items():
        counts = np.zeros(len(data.classes), np.int64)
        for image_id in members:
            counts += pixels_by_class(data, records[image_id])
        class_pixels[part] = counts
        void_pixels[part] = sum(_void(data, records[image_id]) for image_id in members)
    return CheckResult(
        name=data.name,
        root=data.root,
        errors=tuple(errors),
        warnings=(*_absent_classes(data, class_pixels), *_empty_masks(data, ids, records), *_torn_groups(data, parts)),
        hashes={i: (r.image.sha256, r.mask.sha256) for i, r in records.items() if r.image.sha256 and r.mask.sha256},
        class_pixels=class_pixels,
        void_pixels=void_pixels,
    )


def _file_faults(data: SegmentationData, image_id: str, record: ImageRecord) -> Iterator[Offender]:
    image_path, mask_path = data.paths(image_id)
    for what, path, file in (("image", image_path, record.image), ("mask", mask_path, record.mask)):
        if not file.exists:
            yield Offender(f"missing {what}", image_id, path)
        elif file.fault:
            yield Offender(f"unreadable {what}", image_id, path, file.fault)
    if record.image.size and record.mask.size and record.image.size != record.mask.size:
        sizes = f"image {_size(record.image.size)}, mask {_size(record.mask.size)} (HEIGHTxWIDTH)"
        yield Offender("size mismatch", image_id, mask_path, sizes)
    allowed = data.stored_ids()
    strange = {stored: pixels for stored, pixels in record.pixels.items() if stored not in allowed}
    if strange:
        found = ", ".join(f"{stored} ({pixels} pixels)" for stored, pixels in sorted(strange.items()))
        detail = f"{found}; allowed: {span(allowed)}"
        yield Offender("ids outside the class list", image_id, mask_path, detail)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


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
            digest = records[image_id].image.sha256
            if digest:
                owners[digest].setdefault(part, image_id)
    for by_part in owners.values():
        if len(set(by_part.values())) > 1:
            first, *others = by_part.items()
            same = ", ".join(f"{image_id} in {part}" for part, image_id in others)
            detail = f"{first[1]} in {first[0]} is the same file as {same}"
            yield Offender("identical images across splits", first[1], data.paths(first[1])[0], detail)


def _absent_classes(data: SegmentationData, class_pixels: Mapping[str, npt.NDArray[np.int64]]) -> Iterator[Offender]:
    for part, counts in class_pixels.items():
        for class_id in np.flatnonzero(counts == 0).tolist():
            detail = f"class {data.classes[class_id].name} has no pixel in {part}"
            yield Offender("class absent from a split", part, data.root, detail)


def _empty_masks(data: SegmentationData, ids: Sequence[str], records: Mapping[str, ImageRecord]) -> Iterator[Offender]:
    for image_id in ids:
        record = records[image_id]
        if record.pixels and sum(record.pixels.values()) == _void(data, record):
            yield Offender("mask of nothing but void", image_id, data.paths(image_id)[1])


def _torn_groups(data: SegmentationData, parts: Mapping[str, Sequence[str]]) -> Iterator[Offender]:
    homes: dict[str, set[str]] = defaultdict(set)
    for part, members in parts.items():
        for image_id in members:
            group = data.group(image_id)
            if group is not None:
                homes[group].add(part)
    for group, where in sorted(homes.items()):
        if len(where) > 1:
            yield Offender("group in two splits", group, data.root, " and ".join(p for p in parts if p in where))


def _void(data: SegmentationData, record: ImageRecord) -> int:
    allowed = data.stored_ids()
    return sum(pixels for stored, pixels in record.pixels.items() if allowed.get(stored) == VOID)


def as_json(data: SegmentationData, splits: Splits, result: CheckResult) -> dict[str, Any]:
    """The outcome as plain data."""
    return {
        "data": result.name,
        "root": str(result.root),
        "splits": {part: len(getattr(splits, part)) for part in ("train", "val", "test")},
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
    sizes = {part: len(getattr(splits, part)) for part in ("train", "val", "test")}
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
    for style, offenders in (("yellow", result.warnings), ("red", result.errors)):
        for offender in offenders:
            console.print(f"[{style}]{'warning' if style == 'yellow' else 'error'}[/] {escape(str(offender))}")
    if result.errors:
        console.print(f"[red]{len(result.errors)} errors[/]: {_CURE}")
    else:
        console.print(f"[green]fit to train on[/], {len(result.warnings)} warnings")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainables.data.check", description="Check a data set.")
    parser.add_argument("--data", default="scenes", help=f"one of {', '.join(DATASETS.names())}")
    parser.add_argument("--data-root", type=Path, help="where its files are")
    parser.add_argument("--download", action="store_true", help="fetch it first (voc2012)")
    parser.add_argument("--seed", type=int, default=0, help="of splits that have to be drawn")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    console = Console(stderr=True, soft_wrap=True)
    try:
        data = DATASETS.get(options.data)(root=options.data_root, download=options.download)
        splits = data.splits(seed=options.seed)
        columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("checking", total=None)
            result = check(data, splits, progress=lambda done, total: bar.update(task, completed=done, total=total))
    except SegsweepError as error:
        console.print(f"[red]error[/] {escape(str(error))}")
        return error.exit_code
    if options.json:
        print(json.dumps(as_json(data, splits, result), indent=1))
    else:
        _print(Console(soft_wrap=True), data, splits, result)
    return 1 if result.errors else 0


if __name__ == "__main__":
    sys.exit(main())
