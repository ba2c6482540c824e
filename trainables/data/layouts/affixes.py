"""What masks' names have beside the names of their images, found by what most of them have in common."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainables.data.layouts.tree import MediaFile
from trainables.data.layouts.words import COPY_WORDS, IMAGE_AFFIX, tokens

Key = tuple[str, ...]
"""Folders of an image, and its stem."""

_BY_NUMBER = ("0*", "")
"""In place of a prefix: names that are the same number, written with another number of zeros."""


@dataclass
class Family:
    """Masks that are named alike: in the same folder, with the same additions to the names of their images."""

    place: str
    """Their folder below the root."""
    prefix: str
    suffix: str
    """Before the last extension."""
    extension: str
    copy: bool
    """Whether they are drawn for the eye, or tell objects apart."""
    image: str = ""
    """What the names of the images have that those of the masks have not, as text; empty for nothing."""
    masks: dict[Key, MediaFile] = field(default_factory=dict)
    examples: tuple[str, str] = ("", "")
    """The names of an image and of its mask."""

    @property
    def exact(self) -> bool:
        """Whether masks are named as their images, but for the extension."""
        return not (self.prefix or self.suffix or self.image)

    @property
    def text(self) -> str:
        """Such as `masks/*_seg.png`."""
        place = f"{self.place}/" if self.place else ""
        return f"{place}{self.prefix}*{self.suffix}{self.extension}"

    @property
    def pattern(self) -> str:
        """What `--masks` takes."""
        place = f"{self.place}/**/" if self.place else "**/"
        return f"{place}{self.prefix}*{self.suffix}{self.extension}"

    @property
    def example(self) -> str:
        """Such as `a.jpg with a_mask.png`."""
        return f"{self.examples[0]} with {self.examples[1]}"


def families_of(
    images: Mapping[Key, Path], masks: Sequence[MediaFile], key_of: Callable[[MediaFile], Key]
) -> list[Family]:
    """Masks by how they are named after their images, each with the image that it belongs to.

    An image may be in several families; a mask is in one at most: the one with the most masks.

    Args:
        images: The files by folders and stem.
        masks: Files that may be masks.
        key_of: Folders and stem of a mask, without what names it a mask.
    """
    best: list[Family] = []
    for strip in _strips(images):
        found = _with_strip(images, masks, key_of, strip)
        if _paired(found) > _paired(best):
            best = found
        if _paired(best) == len(masks):
            break
    return best


def _paired(families: Iterable[Family]) -> int:
    return sum(len(family.masks) for family in families)


def _strips(images: Mapping[Key, Path]) -> Iterator[tuple[str, str]]:
    """Prefixes and suffixes that the names of all images may have beside what they share with their masks."""
    yield "", ""
    stems = [key[-1] for key in images]
    shared = _common(stems), _common([stem[::-1] for stem in stems])[::-1]
    if len(stems) < 2:
        shared = "", ""
    known = [match for match in (IMAGE_AFFIX.search(stem) for stem in stems[:1]) if match]
    for match in known:
        prefix, suffix = (match[0], "") if match.start() == 0 else ("", match[0])
        if all(stem.startswith(prefix) and stem.endswith(suffix) for stem in stems):
            yield prefix, suffix
    # As far as a separator, so that no digit of a number is cut off.
    cut = re.search(r"[_\-. ]", shared[1])
    suffix = shared[1][cut.start() :] if cut else ""
    prefix = re.sub(r"[^_\-. ]*$", "", shared[0])
    if suffix:
        yield "", suffix
    if prefix:
        yield prefix, ""
    if prefix and suffix:
        yield prefix, suffix


def _common(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    length = next(
        (place for place, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(map(len, (low, high)))
    )
    return low[:length]


def _with_strip(
    images: Mapping[Key, Path],
    masks: Sequence[MediaFile],
    key_of: Callable[[MediaFile], Key],
    strip: tuple[str, str],
    *,
    apart: bool = False,
) -> list[Family]:
    by_core = {(*key[:-1], _core(key[-1], strip)): key for key in images if len(_core(key[-1], strip))}
    anywhere: dict[str, Key | None] = {}
    for key in by_core:
        anywhere[key[-1]] = None if key[-1] in anywhere else key
    numbers = _numbers(by_core)
    lengths = [] if all(key_of(mask) in by_core for mask in masks) else sorted({len(c) for c in anywhere}, reverse=True)
    candidates = {mask.path: list(_candidates(key_of(mask), by_core, anywhere, lengths, numbers)) for mask in masks}
    homes = _places(masks, apart=apart)
    votes = Counter(
        (homes[mask.below], *affix) for mask in masks for affix in {affix for affix, _ in candidates[mask.path]}
    )
    families: dict[tuple[str, ...], Family] = {}
    for mask in masks:
        if not candidates[mask.path]:
            continue
        place = homes[mask.below]
        affix, core = max(candidates[mask.path], key=lambda c: (votes[(place, *c[0])], len(c[1][-1]), c[0] == ("", "")))
        prefix, suffix = affix
        identity = (place, prefix, suffix, mask.suffix)
        if identity not in families:
            copy = any(folder.copy for folder in mask.folders) or not COPY_WORDS.isdisjoint(tokens(prefix + suffix))
            families[identity] = Family(place, prefix, suffix, mask.suffix, copy, image="".join(strip))
        image = by_core[core]
        if image in families[identity].masks and not apart:
            # The same names in several folders: each is a family of its own.
            return _with_strip(images, masks, key_of, strip, apart=True)
        family = families[identity]
        if image in family.masks:
            continue
        family.masks[image] = mask
        if not family.examples[0]:
            family.examples = images[image].name, mask.path.name
    return list(families.values())


def _places(masks: Sequence[MediaFile], *, apart: bool) -> dict[tuple[str, ...], str]:
    """The folder that stands for all folders of one role: `gtFine` for `gtFine/train/aachen`, `gtFine/val/...`.

    Folders that differ in a split only (`trainannot`, `valannot`), or in what is above them (`p1/mask`, `p2/mask`),
    stand for one, too, but not `apart`.
    """
    paths: dict[tuple[str, ...], str] = {}
    names: dict[tuple[str, ...], str] = {}
    for below, folders in {mask.below: mask.folders for mask in masks}.items():
        role = next((place for place, folder in enumerate(folders) if folder.role == "mask"), None)
        if role is None:
            names[below] = paths[below] = ""
            continue
        own = "*" if folders[role].part else below[role]
        above = [name for name, folder in zip(below[:role], folders, strict=False) if not folder.part]
        names[below], paths[below] = own, "/".join([*above, own])
    homes: dict[str, set[str]] = defaultdict(set)
    for below, name in names.items():
        homes[name].add(paths[below])
    return {b: paths[b] if apart or len(homes[name]) == 1 else f"**/{name}" for b, name in names.items()}


def _core(stem: str, strip: tuple[str, str]) -> str:
    return stem.removeprefix(strip[0]).removesuffix(strip[1])


def _candidates(
    key: Key,
    by_core: Mapping[Key, Key],
    anywhere: Mapping[str, Key | None],
    lengths: Sequence[int],
    numbers: Mapping[Key, Key],
) -> Iterator[tuple[tuple[str, str], Key]]:
    """Additions to a name, and the image whose name is left without them."""
    folders, stem = key[:-1], key[-1]
    if key in by_core:
        yield ("", ""), key
    for length in lengths:
        for start in range(len(stem) - length + 1 if (length < len(stem) or key not in by_core) else 0):
            core = stem[start : start + length]
            affix = stem[:start], stem[start + length :]
            if core not in anywhere or not _whole(core, *affix):
                continue
            if (*folders, core) in by_core:
                yield affix, (*folders, core)
            elif (alone := anywhere[core]) is not None and _fits(folders, alone[:-1]):
                yield affix, alone
    number = numbers.get((*folders, str(int(stem)))) if stem.isdecimal() else None
    if number is not None and number != key:
        yield _BY_NUMBER, number


def _whole(core: str, before: str, after: str) -> bool:
    """Whether a name is not cut out of a longer number or word."""
    left, right = before[-1:], after[:1]
    for outer, inner in ((left, core[0]), (right, core[-1])):
        if (outer.isdecimal() and inner.isdecimal()) or (outer.isalpha() and inner.isalpha() and outer.islower()):
            return False
    return True


def _fits(folders: Key, of_image: Key) -> bool:
    """Whether folders of a mask may go with those of an image although they differ: one of them has some more."""
    return set(folders) <= set(of_image) or set(folders) >= set(of_image)


def _numbers(by_core: Mapping[Key, Key]) -> dict[Key, Key]:
    """Images whose names are numbers, by the number."""
    found: dict[Key, Key] = {}
    doubled: Counter[Key] = Counter()
    for key in by_core:
        if key[-1].isdecimal():
            number = (*key[:-1], str(int(key[-1])))
            doubled[number] += 1
            found[number] = key
    return {number: key for number, key in found.items() if doubled[number] == 1}
