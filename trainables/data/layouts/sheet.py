"""A contact sheet: some images with their masks, one over the other, and a legend."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from PIL.PngImagePlugin import PngInfo

from trainables.data.base import Image, Mask, SegmentationData
from trainables.data.reading.opening import DAMAGE
from trainables.errors import DataError
from trainables.limits import opened_image

SOFTWARE = "segsweep init"
"""Stands in the PNG, so that a sheet replaces sheets and nothing else."""

ROWS = 6
"""Images on a sheet, at most."""

_LEGEND = 60
"""Classes in its legend, at most; of more those that it shows."""

_CELL = 260
"""Width and height in pixels that a picture fits into."""

_GAP, _LINE, _TEXT, _KEY = 10, 22, 14, 24
_COLUMNS = 3
"""Of the legend, at most."""

_OPACITY = 0.5
"""Of a class's colour over the image; a black class leaves it as it is."""

Font = PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont

_VOID_COLOR = (255, 255, 255)
_HATCH = (120, 120, 120)
"""Void is hatched, as no colour is left for it."""

_INK, _PAPER = (20, 20, 20), (250, 250, 250)


def contact_sheet(data: SegmentationData, presence: npt.NDArray[np.bool_], captions: Sequence[str]) -> bytes:
    """A PNG of some images, chosen so that they show as many classes as there are.

    Args:
        data: The data set.
        presence: Which class occurs in which image, shape (N, C), in the order of `data.ids()`.
        captions: Of each class, for the legend; one more for void.
    """
    rows: list[tuple[str, tuple[int, int], list[PIL.Image.Image]]] = []
    seen: set[int] = set()
    colors = np.full((data.void + 1, 3), _VOID_COLOR, np.uint8)
    colors[: len(data.classes)] = [info.color for info in data.classes]
    for image_id in _chosen(list(data.ids()), presence):
        try:
            image, mask = data.picture(image_id), data.mask(image_id)
        except DataError:
            # The check says what is wrong with it.
            continue
        rows.append((image_id, (mask.shape[0], mask.shape[1]), _pictures(image, mask, colors)))
        seen |= set(np.unique(mask).tolist())
    told = _legend(captions, seen, len(data.classes))
    font = PIL.ImageFont.load_default(_TEXT)
    inside = 3 * _CELL + 2 * _GAP
    longest = max((font.getlength(captions[place]) for place in told), default=0)
    columns = max(1, min(_COLUMNS, inside // round(_KEY + longest + _GAP)))
    legend = -(-len(told) // columns)
    about = [] if data.bands is None else [f"{data.bands}; {data.bands.caption()}"]
    left_out = len(seen & set(range(len(data.classes))) - set(told))
    about += [f"and {left_out} more classes"] if left_out else []
    lines = legend + len(about)
    height = 2 * _GAP + sum(pictures[0].height + _LINE + _GAP for _, _, pictures in rows) + lines * _LINE
    sheet = PIL.Image.new("RGB", (3 * _CELL + 4 * _GAP, height), _PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    top = _GAP
    for image_id, size, pictures in rows:
        said = f"   {size[0]}x{size[1]}"
        draw.text((_GAP, top), _shortened(image_id, font, inside - font.getlength(said)) + said, _INK, font)
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (_GAP + column * (_CELL + _GAP), top + _LINE))
        top += pictures[0].height + _LINE + _GAP
    for number, place in enumerate(told):
        left, down = _GAP + number % columns * (inside // columns), top + number // columns * _LINE
        caption, is_class = captions[place], place < len(data.classes)
        color = data.classes[place].color if is_class else _VOID_COLOR
        draw.rectangle((left, down + 3, left + 16, down + 17), color, _HATCH)
        if not is_class:
            draw.line((left, down + 17, left + 16, down + 3), _HATCH)
        draw.text((left + _KEY, down + 2), _shortened(caption, font, inside // columns - _KEY), _INK, font)
    for line in about:
        draw.text((_GAP, top + legend * _LINE + 2), line, _INK, font)
    out = io.BytesIO()
    info = PngInfo()
    info.add_text("Software", SOFTWARE)
    # Of photographs: 7% more bytes than by default, in a third of the time.
    sheet.save(out, "PNG", pnginfo=info, compress_level=3)
    return out.getvalue()


def _shortened(text: str, font: Font, width: float) -> str:
    """A text without as much of its middle as does not fit into a width in pixels: both of its ends tell."""
    kept = len(text)
    shown = text
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = f"{text[: kept // 2]} … {text[len(text) - (kept - kept // 2) :]}"
    return shown


def is_sheet(content: bytes) -> bool:
    """Whether a file is a sheet of ours."""
    try:
        with opened_image(io.BytesIO(content), head=True) as image:
            return bool(image.info.get("Software") == SOFTWARE)
    except DAMAGE:
        return False


def _legend(captions: Sequence[str], seen: Collection[int], classes: int) -> list[int]:
    """The places of the captions that stand in the legend: of many classes some that are shown, and void."""
    places = range(len(captions))
    if len(captions) <= _LEGEND:
        return list(places)
    return [*[place for place in places if place in seen][:_LEGEND], *places[classes:]]


def _chosen(ids: Sequence[str], presence: npt.NDArray[np.bool_]) -> list[str]:
    """Images that together show many classes: each time the one with most that are not shown yet."""
    shown = np.zeros(presence.shape[1], bool)
    spread = list(range(0, len(ids), max(1, len(ids) // ROWS)))
    places: list[int] = []
    while len(places) < min(ROWS, len(ids)):
        new = (presence & ~shown).sum(axis=1)
        new[places] = -1
        best = int(new.argmax())
        if new[best] <= 0:
            best = next((place for place in [*spread, *range(len(ids))] if place not in places), best)
        places.append(best)
        shown |= presence[best]
    return [ids[place] for place in sorted(places)]


def _pictures(image: Image, mask: Mask, colors: npt.NDArray[np.uint8]) -> list[PIL.Image.Image]:
    """Image, mask and one over the other, each fitting a cell."""
    height, width = mask.shape
    scale = min(_CELL / width, _CELL / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shown = np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR))
    ids = np.asarray(PIL.Image.fromarray(mask).resize(size, PIL.Image.Resampling.NEAREST))
    painted = colors[ids].copy()
    void = ids == len(colors) - 1
    stripes = np.add.outer(np.arange(size[1]), np.arange(size[0])) % 6 == 0
    painted[void & stripes] = _HATCH
    opacity = np.where(colors.any(axis=1), _OPACITY, 0.0)[ids][..., None]
    over = np.rint((1 - opacity) * shown + opacity * painted).astype(np.uint8)
    return [PIL.Image.fromarray(picture) for picture in (shown, painted, over)]
