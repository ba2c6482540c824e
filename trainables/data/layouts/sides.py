"""Which files are images and which are masks: by what was said, by names of folders and files, by their pixels."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trainables.data.layouts.affixes import Key
from trainables.data.layouts.finding import Question, Said, UndecidedError
from trainables.data.layouts.tree import MediaFile
from trainables.data.layouts.words import MASK_AFFIX, FolderName, folder_name, normal
from trainables.errors import DataError
from trainables.words import counted, some_of

_LOOKED_AT = 6
"""How many files of a folder are looked at to tell masks from images."""

_MOST_FOLDERS = 40
"""Of which two are sought that hold images and masks."""

_MOST_NAMED = 3
"""Folders that a line names."""

LooksLikeMask = Callable[[Path], bool]


@dataclass(frozen=True)
class Sides:
    """The files of both kinds, and how their folders are compared."""

    images: Sequence[MediaFile]
    masks: Sequence[MediaFile]
    key: Callable[[MediaFile], Key]
    """Folders, without what says images or masks, and the stem."""
    images_where: str
    masks_where: str
    notes: tuple[str, ...] = ()


def sides_of(root: Path, files: Sequence[MediaFile], said: Said, looks_like_mask: LooksLikeMask) -> Sides:
    """Tells images from masks.

    Raises:
        UndecidedError: If neither names nor pixels tell.
        DataError: If there is nothing to tell.
    """
    if not files:
        raise DataError(
            f"{root}: no images in it or below it (jpg, png, tif, bmp, webp); give --data-root the folder that holds "
            "images and masks"
        )
    if said.images or said.masks:
        return _as_said(root, files, said)
    files = [file for file in files if not _has(file, "aside")]
    images, masks = [f for f in files if role_of(f) == "image"], [f for f in files if role_of(f) == "mask"]
    others = [file for file in files if not role_of(file)]
    if masks and (images or others):
        return _by_folders(root, images, masks, others)
    if not masks and images and others:
        # Folders of another name may hold the masks, if their pixels say so.
        if all(map(looks_like_mask, _sample([file.path for file in others]))):
            where = _where(others)
            return _sides(images, others, notes=(f"masks are in {where}, by their pixels",))
        return _in_one_folder(root, images, looks_like_mask) or _nothing(root, files)
    everything = masks or images or others
    return (
        _in_one_folder(root, everything, looks_like_mask)
        or _by_unknown_folders(root, everything, looks_like_mask)
        or _nothing(root, files)
    )


def key_of(file: MediaFile) -> Key:
    """Folders, without what says images or masks, and the stem."""
    return (*(folder.rest for folder in file.folders if folder.rest), file.stem)


def key_by_split(file: MediaFile) -> Key:
    """Like `key_of`, with nothing but the split of folders that say image or mask."""
    folders = ((folder.part or "") if folder.role else folder.rest for folder in file.folders)
    return (*(name for name in folders if name), file.stem)


def matching(pattern: str) -> Callable[[str], bool]:
    """Whether a path fits a pattern of `--images` and `--masks`: `*` is any part of a name, `**/` any folders.

    However the pattern is written, it takes time in proportion to the length of the path and the number of `**/`.

    Example:
        >>> matching("gt/**/*_ids.png")("gt/train/a_ids.png")
        True
    """
    folders = [None if part == "**" else _of_one_name(part) for part in normal(pattern).split("/")]

    def fits(path: str) -> bool:
        names = path.split("/")
        ends = {0}  # how many names the parts so far may have taken
        for place, part in enumerate(folders):
            if part is None and place + 1 < len(folders):
                ends = set(range(min(ends), len(names)))
            else:
                part = part or _of_one_name("*")
                ends = {end + 1 for end in ends if end < len(names) and part.fullmatch(names[end])}
            if not ends:
                return False
        return len(names) in ends

    return fits


@lru_cache
def _of_one_name(pattern: str) -> re.Pattern[str]:
    """A pattern of a name without slashes.

    What stands between two stars is taken where it first comes, for good: what is left for the rest is then longest.
    """
    first, *others = (re.escape(part) for part in re.split(r"\*+", pattern))
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    return re.compile("".join([first, *(f"(?>.*?{part})" for part in middle), ".*", last]), re.DOTALL)


def role_of(file: MediaFile) -> str:
    """`image`, `mask`, `aside` or nothing, by the deepest folder whose name says it."""
    return next((folder.role for folder in reversed(file.folders) if folder.role), "")


def _has(file: MediaFile, role: str) -> bool:
    return any(folder.role == role for folder in file.folders)


def _as_said(root: Path, files: Sequence[MediaFile], said: Said) -> Sides:
    taken: dict[str, list[MediaFile]] = {}
    cuts: dict[MediaFile, int] = {}
    for side, where in (("images", said.images), ("masks", said.masks)):
        if where is None:
            continue
        if "*" in where:
            fits = matching(where)
            taken[side] = [file for file in files if fits(file.relative)]
        else:
            folders = tuple(normal(part) for part in where.strip("/").split("/") if part != ".")
            taken[side] = [f for f in files if tuple(map(normal, f.below[: len(folders)])) == folders]
            cuts |= dict.fromkeys(taken[side], len(folders))
        if not taken[side]:
            raise DataError(
                f"{root}: no folder {where} with {side} ({some_of(sorted({_top(file) for file in files}))} is there)"
            )
    masks, images = taken.get("masks"), taken.get("images")
    if images is None:
        others = set(masks or ())
        rest = [file for file in files if file not in others]
        images = [file for file in rest if role_of(file) == "image"] or [f for f in rest if not role_of(f)]
    if masks is None:
        others = set(images)
        rest = [file for file in files if file not in others]
        masks = [file for file in rest if role_of(file) == "mask"] or [f for f in rest if not role_of(f)]
    both = set(images) & set(masks)
    images = [file for file in images if file not in both]

    def key(file: MediaFile) -> Key:
        if file in cuts:
            return (*(folder.rest for folder in file.folders[cuts[file] :]), file.stem)
        return key_of(file)

    return Sides(images, masks, key, said.images or _where(images), said.masks or _where(masks))


def _by_folders(
    root: Path, images: Sequence[MediaFile], masks: Sequence[MediaFile], others: Sequence[MediaFile]
) -> Sides:
    """Folders of masks beside folders of images, or beside images in folders of any name."""
    notes = []
    if images:
        aside = [file for file in others if file.below]
        if aside:
            notes.append(f"{counted(len(aside), 'picture')} in {_where(aside)} left aside: neither images nor masks")
        return _sides(images, masks, tuple(notes))
    masked = {key_of(file)[:-1] for file in masks}
    beside = [file for file in others if key_of(file)[:-1] in masked]
    return _sides(beside or others, masks)


def _in_one_folder(root: Path, files: Sequence[MediaFile], looks_like_mask: LooksLikeMask) -> Sides | None:
    """Images and masks in the same folders: told apart by what is added to the name, or by the extension."""
    names = {(*key_of(file)[:-1], name) for file in files for name in _cuts(file.stem)}
    masks = [file for file in files if (match := MASK_AFFIX.search(file.stem)) and _core_of(file, match) in names]
    masks = masks if len(masks) < len(files) else []
    if masks:
        named = set(masks)
        images = [file for file in files if file not in named]
        return _sides(images, masks, where_images="*", where_masks="*" + _added(masks))
    by_suffix = Counter(file.suffix for file in files)
    same = defaultdict(list)
    for file in files:
        same[key_of(file)].append(file)
    pairs = [pair for pair in same.values() if len(pair) == 2]
    for suffix in by_suffix:
        chosen = [file for pair in pairs for file in pair if file.suffix == suffix]
        partners = [file for pair in pairs for file in pair if file.suffix != suffix]
        if len(chosen) == len(pairs) > 0 and _all_masks(chosen, looks_like_mask):
            if _all_masks(partners, looks_like_mask):
                continue
            rest = {*chosen}
            images = [file for file in files if file not in rest]
            return _sides(images, chosen, where_images=_dotted(partners), where_masks=f"*{suffix}")
    return None


def _core_of(file: MediaFile, match: re.Match[str]) -> Key:
    """The key of a file without what names it a mask."""
    return (*key_of(file)[:-1], file.stem[: match.start()] + file.stem[match.end() :])


def _cuts(stem: str) -> set[str]:
    """A name, and what is left of it without what stands before or after a separator, unless that says mask."""
    if MASK_AFFIX.search(stem):
        return set()
    cuts = [match.start() for match in re.finditer(r"[_\-. ]", stem)]
    return {stem, *(stem[:place] for place in cuts), *(stem[place + 1 :] for place in cuts)}


def _by_unknown_folders(root: Path, files: Sequence[MediaFile], looks_like_mask: LooksLikeMask) -> Sides | None:
    """Two folders of any names with files of the same names, one of which holds masks by its pixels.

    Raises:
        UndecidedError: If the pixels do not tell which.
    """
    best: tuple[int, str, str, int] = (0, "", "", 0)
    for place in (0, -1):
        inside: dict[str, set[Key]] = defaultdict(set)
        for file in files:
            if len(file.below) >= 1:
                rest = list(file.below)
                name = rest.pop(place)
                inside[name].add((*rest, file.stem))
        names = sorted(inside)
        for a in names if len(names) <= _MOST_FOLDERS else ():
            for b in names[names.index(a) + 1 :]:
                if folder_name(a).part and folder_name(b).part:
                    continue
                shared = len(inside[a] & inside[b]) or len(
                    {key for key in inside[a] if any(key[-1] in other[-1] for other in inside[b])}
                    if len(inside[a]) < 200
                    else ()
                )
                best = max(best, (shared, a, b, place))
    shared, a, b, place = best
    if not shared:
        return None
    of = {name: [file for file in files if file.below and file.below[place] == name] for name in (a, b)}
    masked = [name for name in (a, b) if _all_masks(of[name], looks_like_mask)]
    if len(masked) != 1:
        raise UndecidedError(
            root,
            Question(
                f"{a} and {b} hold files of the same names, and their pixels do not tell which are the masks",
                (
                    (("--images", _pattern(place, a), "--masks", _pattern(place, b)), f"{b} are the masks"),
                    (("--images", _pattern(place, b), "--masks", _pattern(place, a)), f"{a} are the masks"),
                ),
            ),
        )
    masks = masked[0]
    images = b if masks == a else a

    def key(file: MediaFile) -> Key:
        names = [folder.rest for folder in file.folders]
        names.pop(place)
        return (*names, file.stem)

    note = f"{masks} holds the masks and {images} the images, by their pixels"
    return Sides(of[images], of[masks], key, images, masks, (note,))


def _pattern(place: int, name: str) -> str:
    return name if place == 0 else f"**/{name}/*"


def _nothing(root: Path, files: Sequence[MediaFile]) -> Sides:
    raise DataError(
        f"{root}: {counted(len(files), 'image')} ({some_of([file.relative for file in files], 3)}), and no masks among "
        "them: put masks into a folder masks/ beside images/, with the same names, or name the two folders with "
        "--images and --masks of segsweep init"
    )


def _sides(
    images: Sequence[MediaFile],
    masks: Sequence[MediaFile],
    notes: tuple[str, ...] = (),
    *,
    where_images: str = "",
    where_masks: str = "",
) -> Sides:
    return Sides(images, masks, key_of, where_images or _where(images), where_masks or _where(masks), notes)


def _where(files: Iterable[MediaFile]) -> str:
    """Folders as text; of many those that say a role or a split, with a star for the others."""
    places = {"/".join(file.below) + "/" if file.below else "./" for file in files}
    starred = {"/".join([*map(_starred, file.below, file.folders), ""]) for file in files}
    if len(places) > _MOST_NAMED and "*" not in {place.strip("*/") or "*" for place in starred}:
        places = starred
    return some_of(sorted(places), _MOST_NAMED)


def _starred(name: str, folder: FolderName) -> str:
    return name if folder.role or folder.part else "*"


def _added(masks: Sequence[MediaFile]) -> str:
    match = MASK_AFFIX.search(masks[0].stem)
    return f"{match[0]}{masks[0].suffix}" if match else masks[0].suffix


def _dotted(files: Sequence[MediaFile]) -> str:
    return some_of(sorted({f"*{file.suffix}" for file in files}), 3)


def _top(file: MediaFile) -> str:
    return file.below[0] + "/" if file.below else file.path.name


def _sample(paths: Sequence[Path]) -> Sequence[Path]:
    return paths[:: max(1, len(paths) // _LOOKED_AT)][:_LOOKED_AT]


def _all_masks(files: Sequence[MediaFile], looks_like_mask: LooksLikeMask) -> bool:
    return bool(files) and all(map(looks_like_mask, _sample([file.path for file in files])))
