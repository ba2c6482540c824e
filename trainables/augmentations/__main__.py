"""What can be done to a training image, as Markdown: `python -m trainables.augmentations > docs/AUGMENTATION.md`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from trainables.augmentations import MAGNITUDES, POLICIES, TRANSFORMS, TRIVIAL, PolicySpec, family_transforms
from trainables.augmentations.transforms import only_rgb
from trainables.components import markdown_table, print_document

_INTRODUCTION = """# Augmentation

What a sweep may do to a training image and its mask. Written by `python -m trainables.augmentations` from the
registries and the one table of magnitudes; a test compares this file with them.

A policy is a list of (transformation, probability, magnitude). Its family, `augment.policy`, says which transformations
it may have; of those, `augment.NAME.p` is the probability (0 turns it off) and `augment.NAME.magnitude` (0 .. 1) how
far it may go. It prints as one readable line:

    {example}

Every draw comes from one seed made of the trial's seed, the epoch and the image, so that no two workers, epochs or
samples share a draw and any of them can be drawn again. `python -m search_spaces.preview --space augment` shows what
the policies of a space do to your own images. Before a sweep starts, each transformation that its space can reach is
tried on drawn images whose mask can be recomputed from them: mask and image must stay aligned, pixels beyond the
border must be void, no id may be invented, every seed must draw differently, and the library must not warn.
"""

_MAGNITUDES = """## Transformations and their magnitudes

In the order of application. A magnitude sets a limit in the transformation's own unit, linearly between its ends or
geometrically (by equal factors) where noted. A new strength is drawn for every image, uniformly (the zoom
log-uniformly) between no effect and the limit, in either direction where both exist. Pixels are those of the training
image.
"""

_VOID = f"""## What becomes void

Rotation, shift and zooming out show what lay beyond the border: the image continues by reflection, the mask is void
there. Coarse dropout's rectangles are void, too. Masks are resampled to the nearest pixel centre, so that no
class id appears that was not there. CutMix carries the donor's void with its rectangle; ClassMix takes classes only.

## TrivialAugment

Each image gets one of the following or nothing, all equally likely, at the magnitude `augment.trivial.magnitude`:
{", ".join(f"`{name}`" for name in TRIVIAL)}.

## Weather

Shadow, fog, rain and glare are this project's own. Those of Albumentations 2.0.8 were not used after a look at their
pictures: its fog blurs (slowly), its snow turns grass violet or bleaches by a threshold, its rain draws few thick bars.
There is no snow, because snow on the ground cannot be painted without knowing where the ground is.
"""


_BANDS = """## Images of other channels than red, green and blue

These are refused for other channels ([DATA.md](DATA.md#bands)), and spaces leave them out and say so; all others do the
same to every band. Of bands, `contrast` takes the mean of all for grey, and `dropout` paints what the model is
normalised with.
"""


def augmentation_markdown() -> str:
    """The whole document."""
    example = PolicySpec.from_flat({"policy": "geometric", "scale_crop.p": 0, "shift.p": 0}).describe()
    families = ((f"`{name}`", _summary(POLICIES.get(name)), _members(name)) for name in POLICIES)
    return "\n".join([
        _INTRODUCTION.format(example=example),
        "## Families\n\nWith the default probabilities.\n",
        markdown_table(("`augment.policy`", "what it is", "transformations"), families),
        _MAGNITUDES,
        markdown_table(
            ("name", "what it does", "limit", "at 0", "at 1", "default", "why not more"), map(_row, TRANSFORMS)
        ),
        _BANDS,
        markdown_table(("name", "why"), ((f"`{name}`", only_rgb(name)) for name in TRANSFORMS if only_rgb(name))),
        _VOID,
    ]).rstrip() + "\n"  # fmt: skip


def _members(family: str) -> str:
    probabilities = family_transforms(family)
    if family == "free":
        return "any, all off"
    return ", ".join(f"`{name}` {p:g}" for name, p in probabilities.items()) or "none"


def _row(name: str) -> tuple[str, ...]:
    told = (f"`{name}`", _summary(TRANSFORMS.get(name)))
    table = MAGNITUDES.get(name)
    if table is None:
        return (*told, "no magnitude", "", "", "", "")
    quantity = table.quantity + (" (geometric)" if table.scale == "geometric" else "")
    default = f"{table.default:g}: {table.describe(table.default)}"
    return (*told, quantity, table.describe(0), table.describe(1), default, table.reason)


def _summary(factory: Callable[..., Any]) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(factory) or "").split("\n\n")[0].split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the page."""
    description = "List every policy family and transformation with its magnitudes, as Markdown."
    return print_document("trainables.augmentations", description, augmentation_markdown, arguments)


if __name__ == "__main__":
    sys.exit(main())
