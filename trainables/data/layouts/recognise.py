"""A folder read from one end to the other: files, pairs, pages, values, depth, orientation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainables.data.layouts.bands import bands_of, depth_of
from trainables.data.layouts.finding import (
    ExifUse,
    Finding,
    Meaning,
    Pair,
    Pairing,
    Question,
    Said,
    UndecidedError,
)
from trainables.data.layouts.heads import Head, heads
from trainables.data.layouts.meaning import meaning_of_masks, meaning_of_said
from trainables.data.layouts.pair_tables import pairs_in_tables
from trainables.data.layouts.pairs import find_pairs
from trainables.data.layouts.survey import looks_like_mask, survey
from trainables.data.layouts.tree import MediaFile
from trainables.data.reading.read import stored_size
from trainables.words import counted, some_of


def recognise(root: Path, files: Sequence[MediaFile], said: Said, *, described: bool) -> Finding:
    """Reads a folder.

    Args:
        root: The folder.
        files: What `media_files` found in it.
        said: What is known of it already.
        described: Whether somebody wrote a description; then `images` and `masks` are where it says so or where they
            always were, and what is above is not looked at.

    Raises:
        UndecidedError: If something cannot be known; with the question.
        DataError: If the folder cannot be read.
    """
    notes: list[str] = []
    if described and not said.pairs:
        files, said = _as_ever(files, said, notes)
    pairing, said = _paired(root, files, said, described=described)
    pages_are_bands = said.pages == "bands"
    known = heads(root, sorted({pair.image for pair in pairing.pairs.values()}), pages_are_bands=pages_are_bands)
    pairing = _with_pages(root, pairing, known)
    if said.complete:
        meaning = meaning_of_said(said)
    else:
        palette = said.palette or "ids"
        masks = [(pair.mask, pair.page) for pair in pairing.pairs.values()]
        meaning = meaning_of_masks(root, survey(root, masks, palette=palette), said)
        if said.classes is None:
            notes.append(f"{_numbered(meaning)}; segsweep init writes them down, and takes names with --classes")
    of_bands: list[str] = []
    bands = bands_of(root, known, said, of_bands)
    bits = depth_of(root, known, bands, said, notes if bands is None else of_bands)
    exif = said.exif or _exif(root, pairing, known, notes, ask=not described)
    oriented = frozenset(i for i, pair in pairing.pairs.items() if known[pair.image].orientation > 1)
    told = (*pairing.notes, *of_bands, *notes, *meaning.notes)
    return Finding(root, said, pairing, meaning, bits, exif, oriented, bands, told, tuple(of_bands))


def _paired(root: Path, files: Sequence[MediaFile], said: Said, *, described: bool) -> tuple[Pairing, Said]:
    """The pairs that tables name, else those that names of files tell; and which tables counted.

    Raises:
        UndecidedError: As `pairs_in_tables` and `find_pairs`.
        DataError: As they.
    """
    by_names = said.pairs == () or (said.pairs is None and (described or said.images or said.masks))
    found = None if by_names else pairs_in_tables(root, files, said)
    if found is None:
        return find_pairs(root, files, said, looks_like_mask), said
    pairing, tables = found
    return pairing, replace(said, pairs=tables)


def _as_ever(files: Sequence[MediaFile], said: Said, notes: list[str]) -> tuple[Sequence[MediaFile], Said]:
    """Where `images/` and `masks/` hold files of the same stems, these are the data set, without folders in them."""
    named = {"images": said.images or "images", "masks": said.masks or "masks"}
    if any("*" in where for where in named.values()):
        return files, said
    below = {side: tuple(part for part in where.split("/") if part not in ("", ".")) for side, where in named.items()}
    direct = {side: [file for file in files if file.below == folders] for side, folders in below.items()}
    if not {file.stem for file in direct["images"]} & {file.stem for file in direct["masks"]}:
        return files, said
    deeper = [f for f in files if any(len(f.below) > len(b) and f.below[: len(b)] == b for b in below.values())]
    taken = {*direct["images"], *direct["masks"]}
    deeper = [file for file in deeper if file not in taken]
    if deeper:
        places = some_of(sorted({"/".join(file.below) for file in deeper}), 3)
        notes.append(f"{counted(len(deeper), 'file')} in folders below are left out: {places}")
    return [*direct["images"], *direct["masks"]], replace(said, images=named["images"], masks=named["masks"])


def _numbered(meaning: Meaning) -> str:
    return f"nobody named the classes, so that they are {some_of([info.name for info in meaning.classes], 4)}"


def _with_pages(root: Path, pairing: Pairing, known: Mapping[Path, Head]) -> Pairing:
    """Pages of a file are images of their own where the mask has as many.

    Raises:
        UndecidedError: If only one of the two has pages.
    """
    paged = {image_id for image_id, pair in pairing.pairs.items() if known[pair.image].pages > 1}
    tiffs = [pair.mask for pair in pairing.pairs.values() if pair.mask.suffix.lower() in (".tif", ".tiff", ".gif")]
    of_masks = heads(root / "masks", tiffs) if tiffs else {}
    paged |= {i for i, pair in pairing.pairs.items() if of_masks.get(pair.mask, Head()).pages > 1}
    if not paged:
        return pairing
    pairs: dict[str, Pair] = {}
    for image_id, pair in pairing.pairs.items():
        pages, of_mask = known[pair.image].pages, of_masks.get(pair.mask, Head()).pages
        if image_id not in paged:
            pairs[image_id] = pair
            continue
        if pages != of_mask:
            raise UndecidedError(
                root,
                Question(
                    f"{pair.image.name} has {counted(pages, 'page')} and its mask {pair.mask.name} {of_mask}; pages "
                    "are read as images of their own, each with a page of the mask, so save one mask a page, or move "
                    "the files with pages away and look again",
                    _pages_answers(pages, of_mask),
                ),
            )
        width = len(str(pages))
        for page in range(pages):
            pairs[f"{image_id}/page-{page + 1:0{width}d}"] = replace(pair, page=page, stack=image_id)
    note = (
        f"pages are images of their own: {len(pairs)} in {counted(len(paged), 'file')}; those of a file stay together"
    )
    return replace(pairing, pairs=dict(sorted(pairs.items())), notes=(*pairing.notes, note))


def _pages_answers(of_image: int, of_mask: int) -> tuple[tuple[tuple[str, ...], str], ...]:
    done = ((), "when that is done")
    if of_mask > 1:
        return (done,)
    return (("--pages", "bands"), f"the {of_image} pages of an image are its bands"), done


def _exif(root: Path, pairing: Pairing, known: Mapping[Path, Head], notes: list[str], *, ask: bool) -> ExifUse | None:
    """Whether masks were drawn on turned pictures, by those whose sizes tell; None where they differ or do not tell.

    Raises:
        UndecidedError: If sizes do not tell, and nobody described the folder.
    """
    said: Counter[str] = Counter()
    for pair in pairing.pairs.values():
        head = known[pair.image]
        if head.orientation > 1 and head.size is not None:
            said[_drawn(head, stored_size(pair.mask, pair.page))] += 1
    total = sum(said.values())
    if not total:
        return None
    if said["turned"] and not said["stored"]:
        notes.append(f"{counted(total, 'image')} turned as EXIF says: masks of that size were drawn so")
        return "turned"
    if said["stored"] and not said["turned"]:
        notes.append(
            f"EXIF orientation of {counted(total, 'image')} not applied: masks have the size of the stored pixels"
        )
        return "stored"
    if said["unknown"] and ask:
        raise UndecidedError(
            root,
            Question(
                f"{counted(said['unknown'], 'image')} with an EXIF orientation, and the sizes of the masks do not tell "
                "whether they were drawn on the turned picture, as viewers show it, or on the stored pixels",
                ((("--exif", "turned"), "on the turned picture"), (("--exif", "stored"), "on the stored pixels")),
            ),
        )
    if said["turned"]:
        notes.append(f"{counted(said['turned'], 'image')} turned as EXIF says, where the mask has that size")
    return None


def _drawn(head: Head, mask: tuple[int, int] | None) -> str:
    """On which picture a mask was drawn, by its size: turned, stored or unknown."""
    if head.orientation < 5 or head.size is None or head.size[0] == head.size[1] or mask is None:
        return "unknown"
    return "turned" if mask == head.size[::-1] else "stored" if mask == head.size else "unknown"
