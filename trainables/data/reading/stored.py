"""The values of mask files before they become class ids: ids, and colours packed into one number.

bits 0 to 23   an id, or red, green and blue
bit 24         it is a colour
bit 25         the pixel is transparent
bit 26         transparent, and what is beneath is nothing that the data set knows
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trainables.data.base import Color, StoredMask

_COLOR = 1 << 24
"""Set in a packed colour, so that no colour is taken for an id."""

LARGEST_ID = _COLOR - 1
"""The largest id, and with a minus the smallest, that a mask file may hold."""

TRANSPARENT = 1 << 25
"""Set in the value of a transparent pixel."""

NOTHING = 1 << 26
"""The value of a transparent pixel whose id or colour is neither a class nor void."""


def pack_color(color: Color) -> int:
    """The value of an RGB colour in a mask that `read_stored_mask` gives; no id equals it.

    Example:
        >>> hex(pack_color((128, 64, 1)))
        '0x1804001'
    """
    return _COLOR | color[0] << 16 | color[1] << 8 | color[2]


def pack_channels(channels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Packed colours of an array of shape (H, W, 3 or 4); the fourth channel is left out."""
    wide = channels.astype(np.int32)
    return np.asarray(_COLOR | wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], np.int32)


def color_of(value: int) -> Color:
    """The RGB colour of a packed one."""
    return (value >> 16 & 255, value >> 8 & 255, value & 255)


def is_color(value: int) -> bool:
    """Whether a stored value is a packed colour, not an id."""
    return value >= 0 and bool(value & _COLOR)


def is_transparent(value: int) -> bool:
    """Whether a stored value is that of a transparent pixel."""
    return value >= TRANSPARENT


def stored_text(value: int) -> str:
    """A stored value as users write it: the id, or the colour as (R, G, B).

    Example:
        >>> stored_text(7), stored_text(pack_color((128, 64, 1)))
        ('7', '(128, 64, 1)')
    """
    if value == NOTHING:
        return "transparent"
    clear = "transparent " if is_transparent(value) else ""
    return clear + (str(color_of(value)) if is_color(value) else str(value & ~TRANSPARENT if clear else value))


def count_stored(stored: StoredMask) -> dict[int, int]:
    """Pixels of each value in a mask that `read_stored_mask` gave."""
    if stored.dtype == np.uint8:
        # A tenth of the time that sorting takes.
        everything = np.bincount(stored.ravel(), minlength=256)
        return {int(value): int(everything[value]) for value in np.flatnonzero(everything)}
    values, counts = np.unique(stored, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def with_transparency(meanings: Mapping[int, int], void: int) -> dict[int, int]:
    """What the values of transparent pixels stand for, beside the others.

    That of an id or a colour that is declared, whether one can see it or not; void, where it is nothing declared.
    """
    clear = {value | TRANSPARENT: meaning for value, meaning in meanings.items() if value >= 0}
    return {**meanings, **clear, NOTHING: void}


def as_declared(stored: StoredMask, declared: Mapping[int, int]) -> StoredMask:
    """A mask as its file holds it, in values that a data set declares (see `declared_values_of`).

    Args:
        stored: Shape (H, W), as `read_stored_mask` gave it.
        declared: The class or void of each id and packed colour, without transparent ones.
    """
    if stored.dtype == np.uint8:
        return stored
    values, places = np.unique(stored, return_inverse=True)
    meant = declared_values_of(values.tolist(), declared)
    if meant == values.tolist():
        return stored
    found = np.array(meant, np.int32)[places].reshape(stored.shape)
    narrow = not meant or (min(meant) >= 0 and max(meant) <= 255)
    return found.astype(np.uint8) if narrow else found


def declared_values_of(values: Sequence[int], declared: Mapping[int, int]) -> list[int]:
    """What the values of one mask file are called in the values that a data set declares, where that is beyond doubt.

    Three equal channels (v, v, v) that are not all declared colours are the ids v, if all of these are declared, and no
    grey that is declared as a colour stands for another class than its id. Transparent pixels over something that is
    not declared become `NOTHING`.

    Args:
        values: All values of the file.
        declared: The class or void of each id and packed colour, without transparent ones.
    """
    base = {value: value & ~TRANSPARENT if value >= TRANSPARENT else value for value in values}
    if all(beneath in declared for beneath in base.values()):
        return list(values)
    seen = {value: beneath for value, beneath in base.items() if beneath in declared or value < TRANSPARENT}
    ids = _grey_ids(list(seen.values()))
    if ids and all(number in declared for number in ids) and not _greys_contradict(declared):
        base |= dict(zip(seen, ids, strict=True))
    meant = []
    for value in values:
        clear = value >= TRANSPARENT
        meant.append(NOTHING if clear and base[value] not in declared else base[value] | (TRANSPARENT if clear else 0))
    return meant


def _grey_ids(values: Sequence[int]) -> list[int]:
    """The ids in colours of three equal channels; empty if there is any other value."""
    if all(is_color(value) and len(set(color_of(value))) == 1 for value in values):
        return [value & 255 for value in values]
    return []


def _greys_contradict(declared: Mapping[int, int]) -> bool:
    """Whether a grey is declared as a colour whose number is the id of another class, so that it could be either."""
    greys = {value: value & 255 for value in declared if is_color(value) and len(set(color_of(value))) == 1}
    return any(declared.get(grey, declared[value]) != declared[value] for value, grey in greys.items())
