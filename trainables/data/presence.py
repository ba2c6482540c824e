"""Which classes the splits show: what cannot be learnt or measured with them, and what depends on a few pixels."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trainables.data.base import Offender, SegmentationData
from trainables.data.reading.stored import stored_text
from trainables.data.splits.complete import PARTS
from trainables.words import counted, some_of

RARE_IMAGES = 5
"""A class in fewer images of a split is rare: with fewer, over 1% of bootstrap replicates have none of them (e^-5)."""

RARE_SHARE = 0.0005
"""A class with a smaller share of a split's labelled pixels is rare: 33 pixels of a 256x256 image on average."""

_UNLEARNABLE, _UNMEASURABLE, _UNDECIDED = "nothing to learn", "nothing to measure", "void or a class"
_EVERYWHERE = "train, val and test"

_NAMED = 8
"""How many classes or values a message names."""

Counts = Mapping[str, npt.NDArray[np.int64]]
"""Pixels of each class in each image, shape (images, classes), by split."""


def shown_faults(
    data: SegmentationData,
    counts: Counts,
    stored: Mapping[int, int] | None,
    groups: Mapping[str, Sequence[str | None]] | None = None,
) -> tuple[list[Offender], list[Offender]]:
    """Errors and warnings about the classes that the splits show; where there is an error, no warning repeats it.

    Errors: a list of one class; an id that is void by default only while a class has no pixel anywhere, so that it may
    be that class; less than two classes in all splits together, in train, or in val or test.

    Warnings: the same doubt about an id where several classes have no pixel; a class absent from a split, or rare in it
    (`RARE_IMAGES`, `RARE_SHARE`).

    Args:
        data: The data set.
        counts: Of the splits that have images and whose masks could all be read.
        stored: Pixels of each stored value over all masks; None if some could not be read.
        groups: The group of each image of the splits, in the order of `counts`; None where images are on their own.
    """
    if len(data.classes) == 1:
        return [_list_of_one(data, stored or {})], []
    doubt, grave = _doubtful_void(data, stored or {})
    if grave:
        return doubt, []
    totals = {part: of_images.sum(axis=0) for part, of_images in counts.items()}
    if len(totals) == 3 and np.count_nonzero(sum(totals.values())) < 2:
        return [_all_alike(data, _EVERYWHERE, _UNLEARNABLE, sum(totals.values()), stored)], []
    errors: list[Offender] = []
    told: set[str] = set()
    for part, total in totals.items():
        shown = np.count_nonzero(total)
        if shown > 1:
            continue
        told.add(part)
        # A split for scoring that shows nothing at all: each of its masks is reported as nothing but void.
        if part == "train" or shown:
            kind = _UNLEARNABLE if part == "train" else _UNMEASURABLE
            errors.append(_all_alike(data, part, kind, total, stored))
    return errors, [*doubt, *_scarce(data, counts, told, groups or {})]


def _list_of_one(data: SegmentationData, stored: Mapping[int, int]) -> Offender:
    meaning = data.stored_ids()
    taken = {info.color for info in data.classes}
    held = [value for value in sorted(stored) if meaning.get(value) == data.void]
    free = [value for value in range(data.void + 1) if value not in meaning]
    line = _line((held or free)[0], "background", (0, 0, 0) if (0, 0, 0) not in taken else (255, 255, 255))
    return Offender(
        _UNLEARNABLE,
        "class list",
        data.root,
        f"{data.classes[0].name} is its only class, so that every answer is right; declare what else the masks show as "
        f"a class, too, such as {line}",
    )


def _doubtful_void(data: SegmentationData, stored: Mapping[int, int]) -> tuple[list[Offender], bool]:
    """An id that may be a class, and whether to go on would be to guess.

    It would where less than two classes are left, or where exactly one class has no pixel. With several absent classes
    (few images of a long list) void is likely, and the question is a warning.
    """
    number = data.assumed_void
    ids = {class_id: value for value, class_id in data.stored_ids().items()}
    meaning = data.stored_values()
    shown = {meaning.get(value) for value in stored} - {data.void, None}
    absent = [class_id for class_id in range(len(data.classes)) if class_id not in shown]
    if number is None or not stored.get(number) or not absent:
        return [], False
    first = data.classes[absent[0]]
    line = _line(number, first.name, first.color)
    if len(absent) == 1:
        cure = f"if it is {first.name}, write {line} in place of the line with id {ids[absent[0]]}"
    else:
        cure = f"if it is one of them, give that one the id {number}, such as {line}"
    if len(shown) > 1:
        cure += f'; if it is void, add "void": {number}'
    names = some_of([f"{data.classes[class_id].name} (id {ids[class_id]})" for class_id in absent], _NAMED)
    detail = (
        f"the pixels of all masks are {_values(stored)}; {names} {'has' if len(absent) == 1 else 'have'} none of them, "
        f"and classes.json does not say what {number} is; {cure}"
    )
    return [Offender(_UNDECIDED, f"id {number}", data.root, detail)], len(shown) < 2 or len(absent) == 1


def _all_alike(
    data: SegmentationData, where: str, kind: str, total: npt.NDArray[np.int64], stored: Mapping[int, int] | None
) -> Offender:
    """Where at most one class has pixels."""
    absent = [info.name for info, pixels in zip(data.classes, total.tolist(), strict=True) if not pixels]
    only = next((info.name for info, pixels in zip(data.classes, total.tolist(), strict=True) if pixels), None)
    if only is None:
        detail = f"no class has a pixel in {where}"
    else:
        verb = "has" if len(absent) == 1 else "have"
        detail = f"{only} covers everything that is not void; {some_of(absent, _NAMED)} {verb} no pixel in {where}"
    if kind == _UNMEASURABLE:
        detail += f", so that always answering {only} would score 1"
    cure = "add images that show other classes, or give other --splits"
    if where == _EVERYWHERE:
        detail += f" (the pixels of all masks are {_values(stored)})" if stored else ""
        cure = "declare each class with the value that the masks hold, or add images that show other classes"
    return Offender(kind, where, data.root, f"{detail}; {cure}")


def _scarce(
    data: SegmentationData, counts: Counts, told: Collection[str], groups: Mapping[str, Sequence[str | None]]
) -> Iterator[Offender]:
    """Classes without a pixel in a split, and those with few; splits that an error tells of are left out."""
    for part, pixels in counts.items():
        if part in told:
            continue
        images, total, everything = (pixels > 0).sum(axis=0), pixels.sum(axis=0), max(1, int(pixels.sum()))
        shares = (total / everything).tolist()
        for class_id, (info, seen, share) in enumerate(zip(data.classes, images.tolist(), shares, strict=True)):
            if not seen:
                detail = f"class {info.name} has no pixel in {part}{_in_all(class_id, counts, groups)}"
                yield Offender("class absent from a split", part, data.root, detail)
            elif seen < RARE_IMAGES or share < RARE_SHARE:
                detail = (
                    f"class {info.name} in {part}: {counted(seen, 'image')}, {share:.3%} of labelled "
                    f"pixels (rare: fewer than {RARE_IMAGES} images, or less than {RARE_SHARE:.2%})"
                )
                yield Offender("rare class", part, data.root, detail)


def _in_all(class_id: int, counts: Counts, groups: Mapping[str, Sequence[str | None]]) -> str:
    """In how many images and groups of all splits a class is: with fewer than there are splits one has to lack it."""
    if len(counts) < len(PARTS):
        return ""
    seen = [(part, row) for part, pixels in counts.items() for row in np.flatnonzero(pixels[:, class_id]).tolist()]
    if not seen:
        return ", nor in any other split"
    units = {(groups[part][row] if part in groups else None) or (part, row) for part, row in seen}
    together = f" of {counted(len(units), 'group')}" if len(units) < len(seen) else ""
    few = f", too few for {len(PARTS)} splits" if len(units) < len(PARTS) else ""
    return f"; it is in {counted(len(seen), 'image')}{together} in all{few}"


def _line(number: int, name: str, color: Sequence[int]) -> str:
    """A class as `classes.json` declares it."""
    return json.dumps({"id": number, "name": name, "color": list(color)}, ensure_ascii=False)


def _values(stored: Mapping[int, int]) -> str:
    """Stored values with their share of all pixels."""
    everything = sum(stored.values())
    return some_of([f"{stored_text(value)} ({stored[value] / everything:.1%})" for value in sorted(stored)], _NAMED)
