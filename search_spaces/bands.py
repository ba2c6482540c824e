"""A space for images of other channels than red, green and blue: without the changes of colours that need these."""

from __future__ import annotations

import dataclasses

from search_spaces.augment import KEY
from search_spaces.core.parameter import Parameter, held_at
from search_spaces.core.space import SearchSpace
from trainables.augmentations import TRANSFORMS, family_transforms
from trainables.registry import Scalar
from trainables.words import some_of


def without_colours(space: SearchSpace) -> tuple[SearchSpace, str]:
    """The space without transformations that are only for red, green and blue, and what was left out, as a sentence.

    A family keeps its other transformations; one of which nothing is left but what another family has is left out. What
    a space or a user turned on by name stays, and is refused before the sweep (`trainables.augmentations.preflight`).
    """
    from trainables.augmentations.transforms import only_rgb  # loads Albumentations

    colours = [name for name in TRANSFORMS if only_rgb(name)]
    chosen = space.parameter(KEY)
    families = [str(family) for family in (chosen.choices if chosen else [space.fixed.get(KEY, "none")])]
    touched = [name for name in colours if any(name in family_transforms(family) for family in families)]
    held = {f"augment.{name}.p" for name in touched} & {*space.fixed}
    off = [name for name in touched if f"augment.{name}.p" not in held]
    if not off:
        return space, ""
    gone = _left_with_nothing(families, colours) if chosen else []
    kept = dataclasses.replace(
        space,
        parameters=tuple(_kept(space, off, gone)),
        start=(),
        fixed={**space.fixed, **({} if chosen else {f"augment.{name}.p": 0.0 for name in off})},
    )
    starts: list[dict[str, Scalar]] = []
    for point in space.start:
        bent = kept.bend(point)
        if point.get(KEY) not in gone and bent not in starts:
            starts.append(bent)
    told = f"left out, as images have other channels than red, green and blue: {some_of(off, len(off))}"
    if gone:
        told += f", and the {'policy' if len(gone) == 1 else 'policies'} {some_of(gone, len(gone))}"
    return dataclasses.replace(kept, start=tuple(starts)), told


def _left_with_nothing(families: list[str], colours: list[str]) -> list[str]:
    """Families that are, without changes of colours, another family."""
    whole = {family: set(family_transforms(family)) for family in families}
    flips = {"hflip"}
    others = [members for members in whole.values() if not members & set(colours)]
    rest = {family: members - set(colours) for family, members in whole.items() if members & set(colours)}
    return [family for family, members in rest.items() if members <= flips or members in others]


def _kept(space: SearchSpace, off: list[str], gone: list[str]) -> list[Parameter]:
    kept = []
    for parameter in space.parameters:
        if parameter.key == KEY:
            choices = tuple(choice for choice in parameter.choices if choice not in gone)
            default = parameter.default if parameter.default in choices else choices[0]
            kept.append(dataclasses.replace(parameter, choices=choices, default=default))
            continue
        when = tuple(
            dataclasses.replace(one, values=tuple(value for value in one.values if value not in gone))
            if one.key == KEY and one.values
            else one
            for one in parameter.when
        )
        if any(one.key == KEY and not one.values and one.above is None for one in when):
            continue  # of families that are gone
        name, _, option = parameter.key.removeprefix("augment.").partition(".")
        if parameter.key.startswith("augment.") and name in off:
            if option == "p":
                reason = "images have other channels than red, green and blue"
                kept.append(held_at(parameter.key, 0.0, when=when, reason=reason))
            continue
        kept.append(dataclasses.replace(parameter, when=when))
    return kept
