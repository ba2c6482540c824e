"""Which classes are background, which are stuff, and which are things: what an error is called depends on it.

A thing that is predicted as the background or as the road around it is missed, not "confused with" them; and that sky
or road reach the image's border is no news. Stuff are regions without a shape of their own (Caesar et al.,
"COCO-Stuff", CVPR 2018); the background is what no class describes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from trainables.errors import UsageError
from trainables.words import NAMED, some_of

BACKGROUND_NAMES = frozenset(
    ("background", "_background_", "bg", "ground", "other", "others", "rest", "nothing", "none", "clutter", "unlabeled")
)
"""Names of classes that are background unless a user says otherwise, in lower case."""

STUFF_NAMES = frozenset(
    (
        *(
            "sky",
            "cloud",
            "clouds",
            "road",
            "street",
            "lane",
            "pavement",
            "sidewalk",
            "path",
            "terrain",
            "earth",
            "soil",
        ),
        *(
            "floor",
            "ceiling",
            "wall",
            "walls",
            "building",
            "buildings",
            "house",
            "houses",
            "vegetation",
            "tree",
            "trees",
        ),
        *("forest", "grass", "field", "bush", "hedge", "mountain", "hill", "rock", "sand", "snow", "water", "sea"),
        *(
            "river",
            "lake",
            "ocean",
            "fence",
            "railing",
            "bridge",
            "tunnel",
            "parking",
            "rail track",
            "runway",
            "tissue",
        ),
        *("impervious surfaces", "low vegetation", "bare soil", "barren", "agricultural", "agriculture"),
    )
)
"""Names of classes that are stuff unless a user says otherwise, in lower case."""

MAJORITY_SHARE = 0.5
"""Where no name is known, a class that holds this share of the true pixels is the background."""


class Kind(IntEnum):
    """What a class is; a class of a higher kind lies in front of those of lower ones."""

    BACKGROUND = 0
    STUFF = 1
    THING = 2


Kinds = npt.NDArray[np.int8]
"""`Kind` of each class, shape (C,)."""


def kinds_by_name(class_names: Sequence[str]) -> Kinds:
    """What the classes are by their names; those that no list knows are things."""
    return np.array([_kind_of(name) for name in class_names], np.int8)


def class_kinds(
    class_names: Sequence[str],
    truth_pixels: npt.NDArray[np.int64] | None = None,
    *,
    background: Collection[str] | None = None,
    stuff: Collection[str] | None = None,
) -> Kinds:
    """What the classes are.

    Args:
        class_names: By class id.
        truth_pixels: True pixels of each class, shape (C,). If no name is known and nothing is said, a class that holds
            at least `MAJORITY_SHARE` of them is the background.
        background: Classes that are background, said by the user; their names are then not looked up.
        stuff: Classes that are stuff, likewise.

    Raises:
        UsageError: If a class that the user names is not there, or is named as both.
    """
    said = {name: kind for kind, names in ((0, background), (1, stuff)) for name in names or ()}
    unknown = sorted(set(said) - set(class_names))
    twice = sorted(set(background or ()) & set(stuff or ()))
    if unknown or twice:
        fault = f"no class is called {', '.join(unknown)}" if unknown else f"{', '.join(twice)} cannot be both"
        raise UsageError(f"background and stuff: {fault}; the classes are {some_of(class_names, NAMED)}")
    kinds = kinds_by_name(class_names)
    for kind, names in ((Kind.BACKGROUND, background), (Kind.STUFF, stuff)):
        if names is not None:
            kinds[kinds == kind] = Kind.THING
    for place, name in enumerate(class_names):
        kinds[place] = said.get(name, kinds[place])
    nothing_said = background is None and stuff is None and (kinds == Kind.THING).all()
    if nothing_said and truth_pixels is not None and truth_pixels.sum():
        largest = int(truth_pixels.argmax())
        if truth_pixels[largest] >= MAJORITY_SHARE * truth_pixels.sum():
            kinds[largest] = Kind.BACKGROUND
    return kinds


def kinds_text(class_names: Sequence[str], kinds: Kinds) -> str:
    """What the classes are taken for, as a sentence for readers.

    Example:
        >>> kinds_text(("background", "sky", "cat"), kinds_by_name(("background", "sky", "cat")))
        'background: background; stuff: sky; all other classes are things'
    """
    told = []
    for kind, word in ((Kind.BACKGROUND, "background"), (Kind.STUFF, "stuff")):
        names = [name for name, own in zip(class_names, kinds, strict=True) if own == kind]
        if names:
            told.append(f"{word}: {some_of(names, NAMED)}")
    return "; ".join([*told, "all other classes are things" if told else "all classes are things"])


def _kind_of(name: str) -> Kind:
    plain = " ".join(name.lower().replace("-", " ").replace("_", " ").split()) or name
    if plain in BACKGROUND_NAMES or name.lower() in BACKGROUND_NAMES:
        return Kind.BACKGROUND
    return Kind.STUFF if plain in STUFF_NAMES else Kind.THING
