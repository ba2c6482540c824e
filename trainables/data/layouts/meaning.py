"""What the values in masks stand for: classes and void, or one question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.data.base import ClassInfo, Color
from trainables.data.layouts.finding import Meaning, Question, Said, UndecidedError
from trainables.data.layouts.naming import named_ids
from trainables.data.layouts.palette import unused_colors
from trainables.data.layouts.survey import MaskFacts
from trainables.data.reading.files import span
from trainables.data.reading.stored import TRANSPARENT, color_of, is_color, pack_color, stored_text
from trainables.data.void import MOST_CLASSES, MOST_IN_BYTES, void_id
from trainables.errors import DataError
from trainables.words import counted, some_of

_DENSE_BELOW = 64
"""Ids below it are taken for numbers of classes; above it, they may be greys spread over 0..255."""

_VOID_IDS = (void_id(MOST_IN_BYTES), void_id(MOST_CLASSES))
"""The largest ids of 8 and of 16 bits, which stand for void by custom."""

_VOC_VOID = pack_color((224, 224, 192))
"""The border of objects in VOC's colours."""


@dataclass(frozen=True)
class _Values:
    """The values of all masks together."""

    pixels: Mapping[int, int]
    """Of each id or packed colour, transparent ones left out."""
    files: Sequence[frozenset[int]]
    """The values of each file."""
    clear: Mapping[int, int]
    """Pixels of what lies beneath transparent ones."""


def meaning_of_said(said: Said) -> Meaning:
    """What a description that gives every class its id says."""
    entries = sorted(said.classes or (), key=lambda entry: entry.id or 0)
    ids = {entry.id: place for place, entry in enumerate(entries) if entry.id is not None}
    usual = void_id(len(entries))
    void = [] if said.void is None and usual in ids else [usual] if said.void is None else list(said.void)
    colors = {pack_color(entry.color): place for place, entry in enumerate(entries) if entry.color is not None}
    colors = {**{pack_color(color): usual for color in said.void_colors}, **colors} if said.values is None else {}
    return Meaning(
        classes=with_colors([(entry.name, entry.color) for entry in entries]),
        ids={**ids, **dict.fromkeys(void, usual)},
        colors=colors,
        assumed_void=usual if void and said.void is None else None,
    )


def meaning_of_masks(root: Path, facts: Sequence[MaskFacts], said: Said) -> Meaning:
    """What the values of masks stand for where nobody gave every class its id.

    Raises:
        UndecidedError: If two readings are possible; the question names the flags that decide.
        DataError: If no mask can be read, or the values are not those of masks.
    """
    whole = [fact for fact in facts if not fact.fault]
    if not whole:
        raise DataError(f"{root}: none of {counted(len(facts), 'mask')} can be read; the first {_of_first(facts)}")
    _check_palettes(root, whole, said)
    values, of_colors = _values(root, whole)
    _check_values(root, whole, values, said)
    kinds = Counter(fact.kind for fact in whole)
    kind = ", ".join(name if len(kinds) == 1 else f"{name} ({count})" for name, count in kinds.most_common(4))
    meaning = _of_colors(root, values, said) if of_colors else _of_ids(root, values, whole, said)
    return replace(meaning, kind=kind, notes=(*meaning.notes, *_transparency(values, meaning)))


def with_colors(entries: Sequence[tuple[str, Color | None]]) -> tuple[ClassInfo, ...]:
    """Classes, with colours for those that have none."""
    free = unused_colors([color for _, color in entries if color is not None])
    return tuple(ClassInfo(name, next(free) if color is None else color) for name, color in entries)


def _of_first(facts: Sequence[MaskFacts]) -> str:
    fault = facts[0].fault if facts else "is missing"
    return fault.replace("mask ", "", 1) if fault.startswith("mask ") else fault


def _check_palettes(root: Path, facts: Sequence[MaskFacts], said: Said) -> None:
    """Palettes that differ may mean that ids were numbered anew in each file."""
    if said.palette is not None:
        return
    colors: dict[int, int] = {}
    for fact in facts:
        for number, color in fact.palette.items():
            if colors.setdefault(number, color) != color:
                raise UndecidedError(
                    root,
                    Question(
                        f"the palettes of the masks differ ({number} is {stored_text(color)} in one and "
                        f"{stored_text(colors[number])} in another), so that either the numbers or the colours are the "
                        "classes",
                        (
                            (("--palette", "ids"), "the numbers are"),
                            (("--palette", "colours"), "the colours are"),
                        ),
                    ),
                )


def _values(root: Path, facts: Sequence[MaskFacts]) -> tuple[_Values, bool]:
    """All values, and whether they are colours; three equal channels in all files are ids."""
    with_color = [fact for fact in facts if any(is_color(value) for value in fact.pixels)]
    grey = all(len(set(color_of(value))) == 1 for fact in with_color for value in fact.pixels)
    if with_color and not grey and len(with_color) < len(facts):
        palettes = all(fact.palette or fact in with_color for fact in facts)
        if palettes:
            raise UndecidedError(
                root,
                Question(
                    f"{len(with_color)} masks hold colours, {len(facts) - len(with_color)} numbers with a palette",
                    ((("--palette", "colours"), "the colours of the palettes are the classes"),),
                ),
            )
        raise DataError(
            f"{root}: {len(with_color)} masks hold colours, {len(facts) - len(with_color)} hold ids; give each class "
            'both in classes.json: {"classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}]}'
        )
    pixels: Counter[int] = Counter()
    clear: Counter[int] = Counter()
    files = []
    for fact in facts:
        here = set()
        for value, count in fact.pixels.items():
            base = value & ~TRANSPARENT if value >= TRANSPARENT else value
            base = base & 255 if grey and is_color(base) else base
            (clear if value >= TRANSPARENT else pixels)[base] += count
            here |= set() if value >= TRANSPARENT else {base}
        files.append(frozenset(here))
    return _Values(pixels, files, clear), bool(with_color) and not grey


def _check_values(root: Path, facts: Sequence[MaskFacts], values: _Values, said: Said) -> None:
    """Refuses values that come from smoothing or from lossy compression, and more than are taken for classes.

    The former stand along edges only, or gather around 0 and 255.
    """
    found = set(values.pixels)
    if len(found) == 1 and values.clear.keys() == found:
        raise DataError(
            f"{root}: the masks hold one value, {stored_text(*found)}, and nothing but transparency tells two regions "
            "apart: save the alpha channel of each as its mask (a PNG of 0 and 255)"
        )
    crowded = [fact for fact in facts if fact.distinct > len(fact.pixels)]
    solid = {value & 255 if is_color(value) and value not in found else value for fact in facts for value in fact.solid}
    thin = found - solid
    share = (values.pixels.get(0, 0) + values.pixels.get(255, 0)) / max(1, sum(values.pixels.values()))
    noisy = {0, 255} <= found and share > 0.8 and found & set(range(1, 16)) and found & set(range(240, 255))
    number = max(len(found), *(fact.distinct for fact in facts))
    if (len(thin) >= 3 and len(thin) > len(found & solid)) or noisy:
        main = sorted(sorted(values.pixels, key=lambda value: -values.pixels[value])[:4])
        raise DataError(
            f"{root}: the masks hold {number} different values (mostly {', '.join(map(stored_text, main))}), many of "
            "them along edges only: they were smoothed, or saved with loss, or are no masks; export them again as PNG "
            "without smoothing, or name every class with its value in classes.json"
        )
    most = MOST_IN_BYTES if said.classes is None else MOST_CLASSES
    if crowded or len(found) > most + 1:
        raise DataError(
            f"{root}: the masks hold {number} different values, and without a list of classes {MOST_IN_BYTES} is the "
            'most; give each its id in classes.json: {"classes": [{"id": 0, "name": "road"}, ...]}, or, if these are '
            "objects told apart, name the masks of classes with segsweep init --masks"
        )


def _of_ids(root: Path, values: _Values, facts: Sequence[MaskFacts], said: Said) -> Meaning:
    notes: list[str] = []
    found = sorted(values.pixels)
    void = list(said.void) if said.void is not None else _void_of(root, values, said, notes)
    named = named_ids(root, [value for value in found if value not in void], said, void, notes)
    palette: dict[int, int] = {}
    for fact in facts:
        palette |= fact.palette
    shown = [color_of(palette[number]) for number in named if number in palette]
    usable = len(shown) == len(named) == len(set(shown)) > 0
    entries = [
        (entry.name, entry.color or (color_of(palette[number]) if usable else None)) for number, entry in named.items()
    ]
    if len({color for _, color in entries if color}) < sum(color is not None for _, color in entries):
        entries = [(name, None) for name, _ in entries]
    void += [number for number in (0,) if said.first_id == 1 and number not in void]
    ids = {number: place for place, number in enumerate(named)}
    return Meaning(with_colors(entries), {**ids, **dict.fromkeys(void, void_id(len(named)))}, notes=tuple(notes))


def _void_of(root: Path, values: _Values, said: Said, notes: list[str]) -> list[int]:
    """The ids that are void by custom, where that is beyond doubt; they stand in notes.

    Raises:
        UndecidedError: If such an id may be a class.
    """
    below = sorted(number for number in values.pixels if number < 0)
    if below:
        notes.append(f"{span(below)} is void: ids of classes are not negative")
    return below + _largest_void(root, values, set(values.pixels) - set(below), said, notes)


def _largest_void(root: Path, values: _Values, found: set[int], said: Said, notes: list[str]) -> list[int]:
    usual = _VOID_IDS if len(said.classes or ()) <= MOST_IN_BYTES else _VOID_IDS[-1:]
    number = next((void for void in usual if void in found), None)
    if number is None or said.first_id == number:
        return []
    others = sorted(found - {number})
    names = None if said.classes is None else len(said.classes)
    if len(others) <= 1:
        if others:
            notes.append(f"{others[0]} and {number} are the two classes: nothing else is in the masks")
        return []
    if names is None:
        apart = not any(number in file and len(file) > 2 for file in values.files)
        dense = others[-1] < _DENSE_BELOW or len(others) > others[-1] / 2
        doubt = apart or not dense
    elif others[-1] < names:
        # Exactly one name that no other id has may be that of this one.
        doubt = len(others) == names - 1
    elif len(others) == names - 1:
        return []
    else:
        doubt = False
    if doubt:
        raise UndecidedError(
            root,
            Question(
                f"the masks hold {span(others)} and {number}, and nothing says whether {number} is void or a class",
                (
                    (("--void", str(number)), f"{number} is void: it counts in no loss and no metric"),
                    (("--void", "none"), f"{number} is a class"),
                ),
            ),
        )
    notes.append(f"{number} is void, by custom (--void none of segsweep init makes it a class)")
    return [number]


def _of_colors(root: Path, values: _Values, said: Said) -> Meaning:
    notes: list[str] = []
    found = dict(values.pixels)
    void = {pack_color(color) for color in said.void_colors}
    if said.classes is not None:
        if any(entry.color is None for entry in said.classes):
            raise UndecidedError(root, _which_colors(found, void, said))
        entries: list[tuple[str, Color | None]] = [(entry.name, entry.color) for entry in said.classes]
    else:
        if said.void is None and _VOC_VOID in found and len(found) > 2 and pack_color((0, 0, 0)) in found:
            void.add(_VOC_VOID)
            notes.append(f"{stored_text(_VOC_VOID)} is void: it is the border in the colours of VOC")
        shown = [color for color in sorted(found) if color not in void]
        # One class and what is transparent: the ground is the other class.
        if len(shown) == 1 and len(values.clear.keys() - found.keys()) == 1:
            shown = sorted({*shown, *values.clear})
        entries = [(f"class {place}", color_of(color)) for place, color in enumerate(shown)]
        notes.append(f"each colour is a class, numbered from dark to bright: {some_of([*map(stored_text, shown)], 4)}")
    colors = {pack_color(color): place for place, (_, color) in enumerate(entries) if color is not None}
    usual = void_id(len(entries))
    ids = {place: place for place in range(len(entries))} | {usual: usual}
    return Meaning(with_colors(entries), ids, {**dict.fromkeys(void, usual), **colors}, notes=tuple(notes))


def _which_colors(found: Mapping[int, int], void: set[int], said: Said) -> Question:
    colors = [color for color in sorted(found, key=lambda color: -found[color]) if color not in void]
    names = [entry.name for entry in said.classes or ()]
    example = ",".join(f"{_hex(color)}:{name}" for color, name in zip(colors, names, strict=False))
    return Question(
        f"the masks hold colours ({some_of([stored_text(color) for color in colors], 6)}), and {said.source} names "
        f"{some_of(names, 6)} without saying which is which",
        ((("--classes", example), "with the names put right"),),
    )


def _hex(color: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color_of(color))


def _transparency(values: _Values, meaning: Meaning) -> list[str]:
    """What transparent pixels were taken for."""
    known = {**meaning.ids, **meaning.colors}
    as_class = [value for value in values.clear if value in known]
    lost = [value for value in values.clear if value not in known]
    notes = []
    if as_class:
        shown = some_of([stored_text(value) for value in as_class], 4)
        notes.append(f"transparent pixels are read as the colour or id beneath ({shown})")
    if lost:
        notes.append("transparent pixels over a colour that is no class are void")
    return notes
