"""`python -m trainables.data.init FOLDER`: what a folder of images and masks is, as a picture and as a description.

It writes `dataset.yaml` and `contact_sheet.png` into the folder, and asks for what it cannot know by naming the flag.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape

from trainables import commands
from trainables.data.find import find
from trainables.data.folder import Folder, unlabelled_note
from trainables.data.imports.base import write_masks
from trainables.data.imports.detect import detect
from trainables.data.imports.hugging_face import tables, unpack
from trainables.data.layouts.describe import DATASET_FILE, as_yaml, is_ours
from trainables.data.layouts.finding import Finding, Said, SaidClass, UndecidedError
from trainables.data.layouts.sheet import contact_sheet, is_sheet
from trainables.data.layouts.survey import survey
from trainables.data.layouts.tree import SHEET_FILE
from trainables.data.presence import shown_faults
from trainables.data.reading.files import require_root, span
from trainables.data.reading.names import expanded, path_fault
from trainables.data.small_objects import lost_parts
from trainables.data.usual_size import usual_size
from trainables.errors import DataError, UsageError
from trainables.files import write_atomically
from trainables.flags import command_parser
from trainables.guarded import guarded
from trainables.options import CROP
from trainables.words import counted, some_of

_NAMED, _NOTES = 6, 3
"""How many classes a line names, and how many notes are printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parser().parse_args(arguments)
    return guarded(lambda: _run(options), interrupted="interrupted; the same command does it again")


def _run(options: argparse.Namespace) -> int:
    root = require_root(options.folder, "init", "images and masks", "name the folder that holds both")
    console = Console(soft_wrap=True)
    for line in initialise(root, _said(options)):
        name, _, rest = line.partition("  ")
        console.print(f"[bold]{name}[/]{' ' * max(1, 11 - len(name))}{escape(rest)}")
    return 0


def initialise(root: Path, extra: Said) -> list[str]:
    """Reads a folder, writes its description and a contact sheet, and says what was found, one line each.

    Args:
        root: The folder.
        extra: What is said of it; if anything, a `dataset.yaml` that this command wrote is written anew.

    Raises:
        UndecidedError: If something cannot be known; with the question.
        DataError: If the folder cannot be read or written, or its masks show less than two classes.
    """
    description = root / DATASET_FILE
    finding, drawn = _found(root, extra)
    if description.exists() and not is_ours(description):
        raise DataError(f"{description} was not written by this command, and is left alone: rename it")
    data = Folder(root, finding)
    pairing, meaning = finding.pairing, finding.meaning
    splits = data.layout()
    facts = survey(
        root, [(pair.mask, pair.page) for pair in pairing.pairs.values()], palette=finding.said.palette or "ids"
    )
    values = data.stored_values()
    pixels = np.zeros((len(facts), len(data.classes) + 1), np.int64)
    stored: Counter[int] = Counter()
    for row, fact in enumerate(facts):
        counts = data.stored_counts(fact.pixels)
        stored.update(counts)
        for value, count in counts.items():
            pixels[row, min(values.get(value, data.void), len(data.classes))] += count
    faults, _ = shown_faults(data, {}, None if any(fact.fault for fact in facts) else stored)
    if faults:
        raise DataError(f"{root}: {faults[0].detail}")
    presence = pixels[:, :-1] > 0
    shares = pixels.sum(axis=0) / max(1, int(pixels.sum()))
    captions = [f"{info.name}  {shares[place]:.1%}" for place, info in enumerate(data.classes)]
    void = [f"void  {shares[-1]:.1%}"] if shares[-1] else []
    _write(root / SHEET_FILE, contact_sheet(data, presence, [*captions, *void]))
    write_atomically(description, as_yaml(finding).encode())
    names = [f"{info.name} {shares[place]:.1%}" for place, info in enumerate(data.classes)]
    ids = sorted(number for number, place in meaning.ids.items() if place == data.void)
    lost = lost_parts(data, data.ids(), usual_size(data).size, CROP)
    notes = [*drawn, *(n for n in finding.notes if n not in finding.of_bands), *unlabelled_note(finding)]
    return [
        f"folder  {root}",
        f"images  {counted(len(pairing.pairs), 'image')} in {pairing.images}",
        *(f"bands  {note}" for note in finding.of_bands),
        f"masks  {meaning.kind or _kinds([fact.kind for fact in facts])} in {pairing.masks}",
        f"classes  {len(data.classes)}: {some_of(names, _NAMED)}",
        f"void  {span(ids) if ids else 'none'}: {shares[-1]:.1%} of pixels",
        f"splits  {splits}",
        *(f"note  {note}" for note in notes[:_NOTES]),
        *([f"note  {len(notes) - _NOTES} more in the check"] if len(notes) > _NOTES else []),
        *([f"tiles  {lost}"] if lost.much else []),
        *([f"known  looks like {finding.known}"] if finding.known else []),
        f"wrote  {description} and {SHEET_FILE}: look at it",
        f"next  {commands.check_data('folder', root)}",
    ]


def _found(root: Path, extra: Said) -> tuple[Finding, Sequence[str]]:
    """What is in a folder, and what is told of what was done first: tables unpacked, annotations drawn as masks."""
    if in_tables := tables(root):
        said, notes = unpack(root, in_tables, extra)
        return find(root, said), notes
    try:
        return find(root, None if extra == Said() else extra), ()
    except UndecidedError as error:
        annotations = detect(root, extra) if error.question.draws else None
        if annotations is None:
            raise
    write_masks(root, annotations)
    return find(root, annotations.described(extra)), (
        f"drawn from {annotations.format}",
        *annotations.notes,
        *annotations.told(),
    )


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = command_parser(
        "trainables.data.init",
        "Look at a folder of images and masks, write dataset.yaml and contact_sheet.png into it, or ask.",
        epilog="Exit codes: 0 written, 1 something has to be said or put right first, 2 bad usage.",
    )
    made.add_argument("folder", type=expanded, help="the folder that holds images and masks")
    made.add_argument(
        "--classes",
        metavar="NAMES",
        help="names with commas between, in the order of the ids in the masks; or ID:NAME, or #rrggbb:NAME for each",
    )
    made.add_argument("--void", metavar="IDS", help="the ids (or #rrggbb) that count nowhere, or none")
    made.add_argument("--first-id", type=int, metavar="N", help="the id of the first name; 1: 0 is void")
    made.add_argument(
        "--images", metavar="WHERE", help="the folder of the images, or a pattern such as 'x/**/*_rgb.png'"
    )
    made.add_argument(
        "--masks", metavar="WHERE", help="the folder of the masks, or a pattern such as 'gt/**/*_ids.png'"
    )
    made.add_argument(
        "--pairs",
        metavar="FILES",
        help="CSV files with columns of images and masks, with commas between; or none: pairs by the names of files",
    )
    made.add_argument("--exif", choices=("turned", "stored"), help="on which picture masks were drawn")
    made.add_argument("--palette", choices=("ids", "colours"), help="what masks with a palette say")
    made.add_argument(
        "--channels",
        metavar="BANDS",
        help="the bands of image files that a model sees, in its order, such as 4,3,2 (the first is 1), or all",
    )
    made.add_argument("--rgb", metavar="BANDS", help="the bands that are red, green and blue, such as 3,2,1")
    made.add_argument(
        "--range", metavar="LOW,HIGH", help="the values of images that become 0 and 255; write --range=-10,20"
    )
    made.add_argument("--pages", choices=("bands",), help="each page of an image file is a band of it")
    made.add_argument("--groups", metavar="RULE", help="what stays in one split, as in docs/DATA.md")
    return made


def _said(options: argparse.Namespace) -> Said:
    void, void_colors = _void(options.void)
    return Said(
        classes=None if options.classes is None else _classes(options.classes),
        void=void,
        void_colors=void_colors,
        first_id=options.first_id,
        images=options.images,
        masks=options.masks,
        pairs=None if options.pairs is None else _pairs(options.pairs),
        groups=options.groups,
        exif=options.exif,
        palette=options.palette,
        channels=None if options.channels is None else _channels(options.channels),
        rgb=None if options.rgb is None else _rgb(options.rgb),
        scale=None if options.range is None else _range(options.range),
        pages=options.pages,
        source=Said.source if options.classes is None else "--classes",
    )


def _classes(text: str) -> tuple[SaidClass, ...]:
    entries = [entry.strip() for entry in text.split(",")]
    found = []
    for entry in entries:
        match = re.fullmatch(r"(?:(#[0-9a-fA-F]{6}|-?\d+):)?(.+)", entry)
        if match is None:
            raise UsageError(f"--classes {text}: an empty name; give names with commas between")
        value, name = match[1], match[2].strip()
        if value is None:
            found.append(SaidClass(name))
        elif value.startswith("#"):
            found.append(SaidClass(name, color=_color(value)))
        else:
            found.append(SaidClass(name, int(value)))
    forms = {(entry.id is None, entry.color is None) for entry in found}
    names = {entry.name for entry in found}
    if len(forms) > 1 or len(names) < len(found):
        raise UsageError(f"--classes {text}: give all classes in one form, each with a name of its own")
    return tuple(found)


def _void(text: str | None) -> tuple[tuple[int, ...] | None, tuple[tuple[int, int, int], ...]]:
    if text is None:
        return None, ()
    if text.strip().lower() == "none":
        return (), ()
    entries = [entry.strip() for entry in text.split(",")]
    ids = tuple(int(entry) for entry in entries if re.fullmatch(r"-?\d+", entry))
    colors = tuple(_color(entry) for entry in entries if re.fullmatch(r"#[0-9a-fA-F]{6}", entry))
    if len(ids) + len(colors) < len(entries):
        raise UsageError(f"--void {text}: give ids or #rrggbb with commas between, or none")
    return (ids if ids else None), colors


def _channels(text: str) -> tuple[int, ...]:
    """None of them named means all."""
    return () if text.strip().lower() == "all" else _numbers("--channels", text)


def _pairs(text: str) -> tuple[str, ...]:
    names = () if text.strip().lower() == "none" else tuple(entry.strip() for entry in text.split(","))
    if not all(names) or any(map(path_fault, names)):
        raise UsageError(f"--pairs {text}: name CSV files below the folder, with commas between, or none")
    return names


def _rgb(text: str) -> tuple[int, int, int]:
    numbers = _numbers("--rgb", text)
    if len(numbers) != 3:
        raise UsageError(f"--rgb {text}: give the three bands that are red, green and blue, such as 3,2,1")
    return numbers[0], numbers[1], numbers[2]


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    entries = [entry.strip() for entry in text.split(",")]
    numbers = tuple(int(entry) for entry in entries if re.fullmatch(r"[1-9]\d{0,3}", entry))
    if len(numbers) < len(entries) or len(set(numbers)) < len(numbers):
        raise UsageError(f"{flag} {text}: give numbers of bands with commas between, each once; the first band is 1")
    return numbers


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(entry) for entry in text.split(","))
    except ValueError:
        low = high = 0.0
    if not -float("inf") < low < high < float("inf"):
        raise UsageError(f"--range {text}: give two numbers, the less one first, such as 0,3000")
    return low, high


def _color(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _kinds(kinds: Sequence[str]) -> str:
    return some_of(sorted({kind for kind in kinds if kind}), 3)


def _write(path: Path, content: bytes) -> None:
    """Writes the sheet, unless something else has its name.

    Raises:
        DataError: If it has, or if the folder cannot be written.
    """
    try:
        if path.exists() and not is_sheet(path.read_bytes()):
            raise DataError(f"{path} is no contact sheet of this command, and is left alone: rename it")
        write_atomically(path, content)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error}); make a folder of your own with links to the images and masks"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
