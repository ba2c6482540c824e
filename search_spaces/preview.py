"""`python -m search_spaces.preview`: what the augmentation policies of a space do to your images, before a sweep."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import PIL.Image

import search_spaces  # noqa: F401 - registers the spaces
from search_spaces.bands import without_colours
from search_spaces.core.find import find_space
from search_spaces.core.space import SearchSpace
from trainables import plugins
from trainables.augmentations import Policy, PolicySpec, resize
from trainables.config import format_size, parse_size
from trainables.data import DATASETS, ClassInfo, SegmentationData
from trainables.data.bands import Bands, picture_of
from trainables.data.base import Image, Mask
from trainables.data.flags import add_data_flags
from trainables.data.reading.names import expanded
from trainables.data.resizing import content_size, resize_image, resize_mask
from trainables.data.splits.given import make_splits
from trainables.data.usual_size import usual_size
from trainables.data.void import void_of
from trainables.errors import UsageError
from trainables.files import write_atomically
from trainables.flags import command_parser
from trainables.guarded import guarded
from trainables.options import CROP, TILE, parse_resize, way_of
from trainables.registry import Scalar
from trainables.seeds import derived_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIX = "augment."
SOFTWARE = "segsweep preview"
"""Stands in the PNG, so that a preview replaces previews and nothing else."""
OPACITY = 0.45
"""Of a class's colour over the image."""

LEGEND = 39
"""Classes that the legend names, at most: four rows with the note on the others."""

COLUMN, MARGIN, LINE, FOOT, GAP = 2.1, 2.75, 0.115, 0.45, 0.06
"""Inches: width of an image, width of the text beside it, height of a line of text, of title and legend, between."""

DPI = 150

HIDDEN = 128
"""What hidden pixels of bands are shown as: which value they are painted with depends on the training images."""

DRAWS = 100
"""Random draws for each policy asked for, after which a space is taken to hold no other."""


class RandomSuggester:
    """Answers a space as Optuna's `RandomSampler` would: uniformly, on a logarithmic scale where one is asked for.

    Args:
        generator: Source of randomness.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number in [low, high], on the grid of `step` from `low` if there is one."""
        if step is not None:
            return low + step * int(self.generator.integers(0, round((high - low) / step) + 1))
        return float(np.exp(self.generator.uniform(*np.log((low, high)))) if log else self.generator.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number in [low, high], on the grid of `step` from `low`."""
        if log:
            return round(self.suggest_float(name, low, high, log=True))
        return low + step * int(self.generator.integers(0, (high - low) // step + 1))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        return choices[int(self.generator.integers(len(choices)))]


@dataclass(frozen=True)
class Row:
    """One policy and what it made of every image."""

    title: str
    lines: Sequence[str]
    images: Sequence[Image]
    masks: Sequence[Mask]


def policies(space: SearchSpace, count: int, *, seed: int) -> list[tuple[str, PolicySpec]]:
    """Different policies of a space that change images: its known points first, then random ones.

    Args:
        space: The space.
        count: Most policies wanted; a small space may hold fewer.
        seed: Of the random ones.

    Returns:
        Where each comes from (`known point` or `drawn`), and the policy.

    Raises:
        UsageError: If the space varies no augmentation.
    """
    if not any(parameter.key.startswith(PREFIX) for parameter in space.parameters):
        raise UsageError(
            f"space {space.name!r} varies no augmentation (it has no parameter {PREFIX}...); there is nothing to "
            "preview: choose --space augment or full, or a space of your own with such parameters"
        )
    found: dict[tuple[Any, ...], tuple[str, PolicySpec]] = {}
    for origin, point in _points(space, count, seed):
        flat = {**space.fixed, **point}
        spec = PolicySpec.from_flat({k.removeprefix(PREFIX): v for k, v in flat.items() if k.startswith(PREFIX)})
        if spec.transforms:
            found.setdefault((spec.family, spec.transforms), (origin, spec))
        if len(found) == count:
            break
    return list(found.values())


def _points(space: SearchSpace, count: int, seed: int) -> Iterator[tuple[str, Mapping[str, Scalar]]]:
    yield from (("known point", point) for point in space.start)
    suggester = RandomSuggester(np.random.default_rng(seed))
    for _ in range(DRAWS * count):
        yield "drawn", space.suggest(suggester)


def rows(
    chosen: Sequence[tuple[str, PolicySpec]],
    samples: Sequence[tuple[Image, Mask]],
    size: tuple[int, int],
    *,
    seed: int,
    resize: str = CROP,
    bands: Bands | None = None,
) -> list[Row]:
    """The images as the model would see them without a policy, then with each; a row is one batch where one mixes.

    Args:
        chosen: Policies and where they come from.
        samples: Decoded images (h, w, C) and masks (h, w).
        size: Height and width of the results in pixels.
        seed: Decides every draw.
        resize: How images come to that size, one of `RESIZES` or `tile@SCALE`.
        bands: What the channels of images are; None: red, green and blue.
    """
    made = []
    samples = [_at_scale(image, mask, size, resize) for image, mask in samples]
    hidden = None if bands is None else (HIDDEN,) * bands.channels
    for origin, spec in [("", PolicySpec("none", ())), *chosen]:
        policy = Policy(spec, size, resize=resize, hidden=hidden, void=void_of(samples[0][1]))
        line = spec.describe()
        augmented = [
            policy(image, mask, seed=derived_seed("preview", seed, line, column))
            for column, (image, mask) in enumerate(samples)
        ]
        seeds = [derived_seed("preview mix", seed, line, column) for column in range(len(samples))]
        images, masks = (np.stack(arrays) for arrays in zip(*augmented, strict=True))
        images, masks = policy.mix(images, masks, seeds)
        title = f"{spec.family} · {origin}" if origin else "no policy"
        shown = [picture_of(image, bands, like=before) for image, (before, _) in zip(images, samples, strict=True)]
        made.append(Row(title, [item.describe() for item in spec.transforms], shown, list(masks)))
    return made


def overlay(image: Image, mask: Mask, classes: Sequence[ClassInfo]) -> Image:
    """The image in its classes' colours, edges drawn, void dark with light stripes.

    A black class, such as the background of Pascal VOC, is left as it is.

    Args:
        image: RGB of shape (H, W, 3).
        mask: Class ids or void, of shape (H, W).
        classes: Names and colours.
    """
    colors = np.zeros((void_of(mask) + 1, 3), np.float32)
    colors[: len(classes)] = [info.color for info in classes]
    opacity = np.where(colors.any(axis=1), OPACITY, 0.0)
    tint = opacity[mask][..., None]
    shown = image * (1 - tint) + colors[mask] * tint
    edges = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    shown[edges] = 255
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    period = max(6, mask.shape[1] // 24)
    stripes = np.where((x + y) % period < period // 3, 150, 45)[..., None]
    return np.where((mask == void_of(mask))[..., None], 0.25 * image + 0.75 * stripes, shown).round().astype(np.uint8)


def contact_sheet(table: Sequence[Row], classes: Sequence[ClassInfo], *, title: str) -> Figure:
    """Draws the rows: a policy's lines at the left, its images with their masks beside them, the classes below.

    Args:
        table: At least one row, all with equally many images.
        classes: Names and colours.
        title: Stands above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = table[0].masks[0].shape
    picture = COLUMN * height / width
    heights = [max(picture, LINE * (len(row.lines) + 2)) + GAP for row in table]
    figure = Figure(figsize=(MARGIN + len(table[0].images) * COLUMN + GAP, sum(heights) + 2 * FOOT), dpi=DPI)
    FigureCanvasAgg(figure)
    top = sum(heights) + FOOT
    _write(figure, 0.12, top + 0.3, title, fontsize=11, weight="bold")
    for row, tall in zip(table, heights, strict=True):
        _write(figure, 0.12, top - 0.03, row.title, fontsize=9, weight="bold")
        _write(figure, 0.12, top - 0.22, "\n".join(row.lines) or "images as they are", fontsize=6.5, color="0.25")
        for column, (image, mask) in enumerate(zip(row.images, row.masks, strict=True)):
            corner, size = (MARGIN + column * COLUMN, top - picture), (COLUMN - GAP, picture)
            axes = figure.add_axes(tuple(np.divide((*corner, *size), 2 * (*figure.get_size_inches(),))))
            axes.imshow(overlay(*_enlarged(image, mask), classes))
            axes.set_axis_off()
        top -= tall
    _draw_legend(figure, np.unique([row.masks for row in table]), classes)
    return figure


def _write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Text whose top left corner lies at (x, y) inches from the figure's lower left."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, va="top", **style)


def _draw_legend(figure: Figure, ids: Mask, classes: Sequence[ClassInfo]) -> None:
    from matplotlib.patches import Patch

    keys = [
        Patch(facecolor=np.divide(classes[index].color, 255), edgecolor="0.5", label=classes[index].name)
        for index in ids
        if index < len(classes)
    ]
    if len(keys) > LEGEND:
        keys = [*keys[:LEGEND], Patch(facecolor="none", label=f"and {len(keys) - LEGEND} more")]
    if void_of(ids) in ids:
        keys.append(Patch(facecolor="0.2", edgecolor="0.6", hatch="////", label="void: no loss is taken there"))
    figure.legend(handles=keys, loc="lower left", ncols=10, fontsize=7, frameon=False, bbox_to_anchor=(0, 0))


def _enlarged(image: Image, mask: Mask) -> tuple[Image, Mask]:
    """A small image at a whole multiple of its size, so that edges are drawn thin."""
    factor = max(1, round(COLUMN * DPI / mask.shape[1]))
    size = (mask.shape[0] * factor, mask.shape[1] * factor)
    return resize(image, mask, size)


def _samples(data: SegmentationData, ids: Sequence[str], count: int, seed: int) -> list[tuple[Image, Mask]]:
    if not ids:
        raise UsageError(f"the train split of {data.name} is empty; there is nothing to preview")
    chosen = np.random.default_rng(seed).choice(len(ids), min(count, len(ids)), replace=False)
    return [(data.image(ids[index]), data.mask(ids[index])) for index in sorted(chosen)]


def _at_scale(image: Image, mask: Mask, size: tuple[int, int], resize: str) -> tuple[Image, Mask]:
    """An image and its mask as policies are given them: at the scale of `tile@SCALE`, otherwise as they are."""
    if way_of(resize) != TILE:
        return image, mask
    content = content_size((mask.shape[0], mask.shape[1]), size, resize)
    return resize_image(image, content), resize_mask(mask, content)


def _way(text: str) -> str:
    """The `type` of `--resize`."""
    try:
        return parse_resize(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    """The flags."""
    p = command_parser(
        "search_spaces.preview",
        "Draw policies of a search space on training images: one PNG, masks laid over.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad usage.",
    )
    p.add_argument("--space", default="augment", metavar="NAME|FILE", help="as for a sweep (default: augment)")
    p.add_argument("--models", default="lraspp_mobilenet_v3_large", metavar="A,B", help="for spaces that depend on it")
    add_data_flags(p.add_argument_group("on which images"))
    plugins.add_flag(p)
    p.add_argument("--policies", type=int, default=6, metavar="N", help="rows (default: 6)")
    p.add_argument("--images", type=int, default=4, metavar="N", help="columns (default: 4)")
    p.add_argument("--image-size", metavar="HxW", help="what the model sees (default: the data set's)")
    p.add_argument(
        "--resize", type=_way, default=CROP, metavar="WAY", help="as for a sweep: crop, tile@0.5 ... (default: crop)"
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all draws (default: 0)")
    p.add_argument("--out", type=expanded, default=Path("preview.png"), metavar="FILE", help="default: preview.png")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the contact sheet and says where it is."""
    return guarded(lambda: _preview(arguments), interrupted="interrupted; nothing was written", elsewhere="--out FILE")


def _preview(arguments: Sequence[str] | None) -> int:
    plugins.load_given(arguments)
    asked = parser().parse_args(arguments)
    for flag in ("policies", "images"):
        if getattr(asked, flag) < 1:
            raise UsageError(f"--{flag} must be at least 1, not {getattr(asked, flag)}")
    _refuse_others(asked.out)
    if asked.out.suffix != ".png":
        raise UsageError(f"--out {asked.out}: previews are PNG files; give a name that ends in .png")
    factory = DATASETS.get(asked.data)
    space = find_space(asked.space)(asked.models.split(","), "none")
    chosen = policies(space, asked.policies, seed=asked.seed)  # faults of usage come before any file is read
    try:
        size = parse_size(asked.image_size) if asked.image_size else None
    except ValueError as error:
        raise UsageError(f"--image-size {error}") from error
    data = factory(root=asked.data_root, download=asked.download)
    size = size or usual_size(data).size
    ids = make_splits(data, splits=asked.splits, group_by=asked.group_by, seed=0).train
    title = f"Policies of space {space.name} on {data.name} at {format_size(size)}"
    if data.bands is not None:
        chosen = policies(without_colours(space)[0], asked.policies, seed=asked.seed)
        title = f"{title}; {data.bands.short_caption()}"
    samples = _samples(data, ids, asked.images, asked.seed)
    table = rows(chosen, samples, size, seed=asked.seed, resize=asked.resize, bands=data.bands)
    out: Path = asked.out
    picture = io.BytesIO()
    try:
        metadata = {"Software": SOFTWARE}
        contact_sheet(table, data.classes, title=title).savefig(picture, format="png", metadata=metadata)
        write_atomically(out, picture.getvalue())
    except (OSError, ValueError) as error:
        raise UsageError(f"--out {out} cannot be written: {error}") from error
    print(out)
    return 0


def _refuse_others(out: Path) -> None:
    """Refuses to write over a file that is not a preview.

    Raises:
        UsageError: If there is one.
    """
    if not os.path.lexists(out):
        return
    try:
        with PIL.Image.open(out) as picture:
            ours = not out.is_symlink() and picture.info.get("Software") == SOFTWARE
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise UsageError(f"--out {out} is there already and is not a preview: move it away, or give another --out")


if __name__ == "__main__":
    sys.exit(main())
