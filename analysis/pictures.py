"""What a failure looks like: image, truth, prediction and error map, as files and as small pictures for the page."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from analysis.colours import ELSEWHERE, HIT, INVENTED, MISSED, VOID_DARK, VOID_LIGHT, WRONG
from analysis.fonts import OWN, fonts_for
from trainables.data.base import ClassInfo, Color, Image, Mask
from trainables.data.void import MOST_IN_BYTES, void_of

PAGE_WIDTH = 1200
"""Width that a failure picture aims at, in pixels."""
GAP = 12
LEGEND_ROWS = 254
"""Classes in a column of a legend in a file of its own."""
LEGEND = 60
"""Classes that a picture's legend names, at most."""
PAPER, INK, QUIET = (255, 255, 255), (28, 33, 39), (95, 104, 115)
HATCH_PERIOD = 6
THUMBNAIL = 512
"""Longest side of a picture that is embedded in the page, in pixels."""
EXACT_COLORS = 128
"""At most this many of a file's 256 colours are kept exactly; the photo needs the others."""

_CODE = np.array([1 << 16, 1 << 8, 1], np.int32)
"""A colour times this is one number."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Caption:
    """One failure of a pictured image, as the picture names it."""

    class_name: str
    iou: float
    causes: str


def file_name(text: str, suffix: str = "") -> str:
    """A file name for any label or image id: itself where that is safe, else cleaned and made unique by a hash.

    Never contains a separator, never starts with a dot and never exceeds 120 characters before the suffix.

    Example:
        >>> file_name("0001TP_006690", ".png")
        '0001TP_006690.png'
        >>> file_name("../a b", ".png")
        'a_b-5dbb2f14.png'
    """
    safe = _UNSAFE.sub("_", text).strip("._")[:100]
    if safe != text or not safe:
        safe = f"{safe or 'item'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return safe + suffix


def colourise(mask: Mask, classes: Sequence[ClassInfo]) -> Image:
    """Class ids -> RGB in the classes' colours, void as a diagonal hatch of two greys.

    Args:
        mask: Shape (H, W), ids below `len(classes)` or void.
        classes: Class `i` of the mask is `classes[i]`.

    Returns:
        uint8 of shape (H, W, 3).

    Raises:
        ValueError: If the mask holds an id that is neither a class nor void.
    """
    _check_ids(mask, classes)
    table = np.zeros((void_of(mask) + 1, 3), np.uint8)
    table[: len(classes)] = [info.color for info in classes]
    return _hatch_void(table[mask], mask)


def error_map(image: Image, truth: Mask, prediction: Mask) -> Image:
    """Where the prediction is wrong: vermilion over the faded grey image, void hatched.

    Args:
        image: RGB, uint8 of shape (H, W, 3).
        truth: Class ids or void, of shape (H, W).
        prediction: Class ids, of shape (H, W).

    Returns:
        uint8 of shape (H, W, 3).
    """
    grey = image @ np.array([0.299, 0.587, 0.114])
    faded = np.repeat((grey * 0.35 + 255 * 0.65)[..., None], 3, axis=2).astype(np.uint8)
    faded[(prediction != truth) & (truth != void_of(truth))] = WRONG
    return _hatch_void(faded, truth)


def class_error_map(truth: Mask, prediction: Mask, class_id: int) -> Mask:
    """How one class was predicted: 0 elsewhere, 1 hit, 2 missed, 3 invented, 4 void; uint8 of shape (H, W)."""
    is_true, is_predicted = truth == class_id, prediction == class_id
    levels = np.zeros(truth.shape, np.uint8)
    levels[is_true & is_predicted] = 1
    levels[is_true & ~is_predicted] = 2
    levels[~is_true & is_predicted] = 3
    levels[truth == void_of(truth)] = 4
    return levels


def failure_picture(
    image: Image,
    truth: Mask,
    prediction: Mask,
    classes: Sequence[ClassInfo],
    *,
    title: str,
    captions: Sequence[Caption] = (),
    shown: str = "image",
) -> Pillow.Image:
    """Image, truth, prediction and error map side by side, with titles and a legend of the classes that are present.

    Small originals are enlarged by a whole factor (masks by nearest neighbour) to about `PAGE_WIDTH`; wide ones stand
    two by two.

    Args:
        image: RGB, uint8 of shape (H, W, 3).
        truth: Class ids or void, of shape (H, W).
        prediction: Class ids, of shape (H, W).
        classes: Class `i` of the masks is `classes[i]`.
        title: Heading, such as the label and the image id.
        captions: The failures of this image, told below the panels.
        shown: What stands over the image.
    """
    columns, size = _panel_layout(*truth.shape)
    page_width = max(columns * size[0] + (columns + 1) * GAP, 640)
    legend = _legend_rows(truth, prediction, classes, page_width - 2 * GAP)
    if size[0] < truth.shape[1]:
        # Smaller first: what is worked out on the pixels of a large photograph takes many times its memory.
        image = np.asarray(_resize(image, size, smooth=True))
        truth, prediction = (np.asarray(_resize(mask, size, smooth=False)) for mask in (truth, prediction))
    panels = {
        shown: _resize(image, size, smooth=True),
        "truth": _resize(colourise(truth, classes), size, smooth=False),
        "prediction": _resize(colourise(prediction, classes), size, smooth=False),
        "error map": _resize(error_map(image, truth, prediction), size, smooth=False),
    }
    row_height = size[1] + 24
    panels_bottom = 44 + (4 // columns) * (row_height + GAP)
    page_height = panels_bottom + 26 * len(legend) + 24 * len(captions) + GAP
    page = Pillow.new("RGB", (page_width, page_height), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((GAP, 12), _fit(title, page_width - 2 * GAP, 18), INK, _font(18, title))
    for place, (name, panel) in enumerate(panels.items()):
        left = GAP + (place % columns) * (size[0] + GAP)
        top = 44 + (place // columns) * (row_height + GAP)
        draw.text((left, top), _fit(name, size[0], 14), QUIET, _font(14, name))
        page.paste(panel, (left, top + 22))
    bottom = panels_bottom
    for row in legend:
        for left, item in row:
            page.paste(item.swatch, (GAP + left, bottom + 4))
            draw.text((GAP + left + 22, bottom + 3), item.text, INK, _font(14, item.text))
        bottom += 26
    for caption in captions:
        text = f"{caption.class_name}: IoU {caption.iou:.3f} - {caption.causes}"
        draw.text((GAP, bottom + 3), _fit(text, page_width - 2 * GAP, 14), INK, _font(14, text))
        bottom += 24
    return page


def legend(classes: Sequence[ClassInfo]) -> Pillow.Image:
    """The classes with their colours, one below the other, in as many columns as they need."""
    columns = -(-len(classes) // LEGEND_ROWS)
    page = Pillow.new("RGB", (320 * columns, 26 * min(len(classes), LEGEND_ROWS) + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for place, info in enumerate(classes):
        column, row = divmod(place, LEGEND_ROWS)
        left, top = 320 * column + GAP, GAP + 26 * row
        page.paste(_swatch(info.color), (left, top + 4))
        draw.text((left + 22, top + 3), _fit(info.name, 320 - 2 * GAP - 22, 14), INK, _font(14, info.name))
    return page


def save_picture(picture: Pillow.Image, path: Path, classes: Sequence[ClassInfo]) -> None:
    """Writes a failure picture with 256 colours, in about a quarter of the bytes that full colour takes.

    The classes' colours and the marks stay as they are; the photo gets the nearest of the other colours.
    """
    kept = (PAPER, INK, QUIET, WRONG, VOID_LIGHT, VOID_DARK, *(info.color for info in classes))
    codes = np.unique(np.array(kept) @ _CODE)
    pixels = np.asarray(picture).astype(np.int32) @ _CODE
    place = np.minimum(np.searchsorted(codes, pixels), len(codes) - 1)
    is_exact = codes[place] == pixels
    shown = np.bincount(place[is_exact], minlength=len(codes)) > 0
    exact, place_of = np.flatnonzero(shown), (np.cumsum(shown) - 1)[place[is_exact]]
    if len(exact) > EXACT_COLORS:
        picture.save(path, compress_level=6)
        return
    free = 256 - len(exact)
    reduced = picture.quantize(free, method=Pillow.Quantize.FASTOCTREE, dither=Pillow.Dither.NONE)
    smaller = np.array(reduced)
    smaller[is_exact] = free + place_of
    palette = np.zeros((256, 3), np.uint8)
    found = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)[:free]
    palette[: len(found)] = found
    palette[free:] = codes[exact, None] // _CODE % 256
    written = Pillow.fromarray(smaller, mode="P")
    written.putpalette(palette.tobytes())
    written.save(path, compress_level=6)


def photo_uri(image: Image) -> str:
    """The photo as a WebP data URI, at most `THUMBNAIL` pixels long."""
    picture = Pillow.fromarray(image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return _data_uri(picture, "webp", quality=80, method=2)


def mask_uri(mask: Mask, classes: Sequence[ClassInfo]) -> str:
    """The mask in the classes' colours as a PNG data URI, at most `THUMBNAIL` pixels long."""
    _check_ids(mask, classes)
    small = thumbnail(mask)
    if len(classes) > MOST_IN_BYTES:
        return _data_uri(Pillow.fromarray(colourise(small, classes)), "png", optimize=False, compress_level=9)
    return _palette_uri(small, [info.color for info in classes], void=void_of(mask))


def class_error_uri(truth: Mask, prediction: Mask, class_id: int) -> str:
    """`class_error_map` as a palette-PNG data URI, at most `THUMBNAIL` pixels long."""
    levels = class_error_map(thumbnail(truth), thumbnail(prediction), class_id)
    return _palette_uri(levels, [ELSEWHERE, HIT, MISSED, INVENTED], void=4)


def outlines_uri(mask: Mask) -> str:
    """Where the mask's values change, a white line beside a black one, as a transparent PNG data URI.

    Small masks are enlarged by a whole factor, so that the lines stay thin.

    Args:
        mask: A thumbnail, uint8 of shape (H, W).
    """
    factor = max(1, THUMBNAIL // max(mask.shape))
    mask = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    lines = np.zeros(mask.shape, np.uint8)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    lines[1:][down], lines[:, 1:][right] = 2, 2
    lines[:-1][down], lines[:, :-1][right] = 1, 1
    picture = Pillow.fromarray(lines, mode="P")
    picture.putpalette([0, 0, 0, 255, 255, 255, 0, 0, 0])
    return _data_uri(picture, "png", transparency=0, optimize=False, compress_level=9)


def thumbnail(mask: Mask) -> Mask:
    """The mask, at most `THUMBNAIL` pixels long: every n-th pixel of a larger one."""
    longest = max(mask.shape)
    if longest <= THUMBNAIL:
        return mask
    height, width = (max(1, round(side * THUMBNAIL / longest)) for side in mask.shape)
    return np.asarray(Pillow.fromarray(mask).resize((width, height), Pillow.Resampling.NEAREST))


def id_mask(prediction: Mask, classes: Sequence[ClassInfo], ids: Sequence[int]) -> Pillow.Image:
    """A prediction as an image whose pixel values are ids of a data set's own, shown in the classes' colours.

    Ids above 255 make it grey of 16 bits, as palettes end there.

    Args:
        prediction: Class ids, of shape (H, W).
        classes: Class `i` of the prediction is `classes[i]`.
        ids: The value in 0 .. 65535 that stands for each class.
    """
    _check_ids(prediction, classes)
    value_of = np.zeros(void_of(prediction) + 1, np.uint16)
    value_of[: len(ids)] = ids
    if max(ids) > 255:
        return Pillow.fromarray(value_of[prediction])
    colors: dict[int, Color] = {value: info.color for value, info in zip(ids, classes, strict=True)}
    picture = Pillow.fromarray(value_of[prediction].astype(np.uint8), mode="P")
    picture.putpalette([channel for value in range(max(ids) + 1) for channel in colors.get(value, (0, 0, 0))])
    return picture


def _palette_uri(ids: Mask, colors: Sequence[Color], *, void: int) -> str:
    is_void = ids == void
    shown = np.where(is_void, len(colors) + _stripes(ids.shape), ids).astype(np.uint8)
    picture = Pillow.fromarray(shown, mode="P")
    picture.putpalette([channel for color in (*colors, VOID_LIGHT, VOID_DARK) for channel in color])
    return _data_uri(picture, "png", optimize=False, compress_level=9)


def _data_uri(picture: Pillow.Image, kind: str, **options: int | bool) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _stripes(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The dark half of a diagonal hatch, bool of shape (H, W)."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows + columns) % HATCH_PERIOD < HATCH_PERIOD // 2)


def _hatch_void(picture: Image, mask: Mask) -> Image:
    is_void = mask == void_of(mask)
    if is_void.any():
        stripes = _stripes(mask.shape)
        picture[is_void & stripes] = VOID_DARK
        picture[is_void & ~stripes] = VOID_LIGHT
    return picture


def _check_ids(mask: Mask, classes: Sequence[ClassInfo]) -> None:
    void = void_of(mask)
    unknown = [int(value) for value in np.unique(mask) if value >= len(classes) and value != void]
    if unknown:
        raise ValueError(f"ids {unknown} are neither a class (0..{len(classes) - 1}) nor void ({void})")


def _panel_layout(height: int, width: int) -> tuple[int, tuple[int, int]]:
    """Panels per row, and a panel's (width, height), for an original of this size."""
    across = (PAGE_WIDTH - 5 * GAP) // 4
    if width <= across:
        factor = max(1, min(across // width, 2 * across // height))
        return 4, (width * factor, height * factor)
    scale = min(1.0, ((PAGE_WIDTH - 3 * GAP) // 2) / width, PAGE_WIDTH / height)
    return 2, (max(1, round(width * scale)), max(1, round(height * scale)))


def _resize(picture: Image | Mask, size: tuple[int, int], *, smooth: bool) -> Pillow.Image:
    panel = Pillow.fromarray(picture)
    if panel.size == size:
        return panel
    return panel.resize(size, Pillow.Resampling.BILINEAR if smooth else Pillow.Resampling.NEAREST)


@dataclass(frozen=True)
class _LegendItem:
    text: str
    swatch: Pillow.Image


def _legend_rows(
    truth: Mask, prediction: Mask, classes: Sequence[ClassInfo], width: int
) -> list[list[tuple[int, _LegendItem]]]:
    """Legend items with their left edges, broken into rows of at most `width` pixels."""
    present = np.union1d(np.unique(truth), np.unique(prediction))
    classes_shown = present[present < len(classes)]
    items = [
        _LegendItem(_fit(classes[index].name, width // 3, 14), _swatch(classes[index].color))
        for index in classes_shown[:LEGEND]
    ]
    if len(classes_shown) > LEGEND:
        items.append(_LegendItem(f"{len(classes_shown) - LEGEND} more classes", _swatch(PAPER)))
    if void_of(truth) in present:
        hatch = _hatch_void(np.zeros((16, 16, 3), np.uint8), np.full((16, 16), void_of(truth), truth.dtype))
        items.append(_LegendItem("void", Pillow.fromarray(hatch)))
    items.append(_LegendItem("wrong pixel", _swatch(WRONG)))
    rows: list[list[tuple[int, _LegendItem]]] = [[]]
    left = 0
    for item in items:
        length = 22 + round(_font(14, item.text).getlength(item.text)) + 20
        if rows[-1] and left + length > width:
            rows.append([])
            left = 0
        rows[-1].append((left, item))
        left += length
    return rows


def _swatch(color: tuple[int, int, int]) -> Pillow.Image:
    swatch = Pillow.new("RGB", (16, 16), QUIET)
    swatch.paste(color, (1, 1, 15, 15))
    return swatch


def _font(size: int, text: str) -> ImageFont.FreeTypeFont:
    """The font for a text: an installed one where our own does not have its letters."""
    others = fonts_for(text)
    return _opened(others[0][1] if others else OWN, size)


@functools.lru_cache(maxsize=64)
def _opened(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


@functools.lru_cache(maxsize=4096)
def _fit(text: str, width: int, size: int) -> str:
    """The text, cut with an ellipsis where it is longer than `width` pixels."""
    text = " ".join(text.split())
    font = _font(size, text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
