"""Kinds of masks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from .base import Array, Loads, Outcome, case, merged, pairs

# Masks -------------------------------------------------------------------------------------------------------------

COLORS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 64]], np.uint8)


def painted(mask: Array) -> Array:
    return COLORS[mask]


def of_colors(found: Loads, **more: object) -> Loads:
    """Colours are numbered in their order: black, (0, 128, 64), (128, 0, 0)."""
    place = np.array([0, 2, 1], np.uint8)
    return Loads({key: place[mask] for key, mask in found.masks.items()}, **more)  # type: ignore[arg-type]


@case
def masks_with_a_palette(root: Path) -> Outcome:
    def as_palette(mask: Array) -> PIL.Image.Image:
        image = PIL.Image.fromarray(mask)
        image.putpalette([*COLORS.ravel().tolist(), *range(256)][:768])
        return image

    return pairs(root, as_mask=as_palette, bits=4)


@case
def masks_of_one_bit(root: Path) -> Outcome:
    found = pairs(root, as_mask=lambda mask: mask == 1)
    return Loads({key: (mask == 1).astype(np.uint8) for key, mask in found.masks.items()})


@case
def masks_of_16_bits(root: Path) -> Outcome:
    return pairs(root, as_mask=lambda mask: mask.astype(np.uint16))


@case
def masks_of_16_bits_with_large_ids(root: Path) -> Outcome:
    return pairs(root, as_mask=lambda mask: np.array([7, 900, 33000], np.uint16)[mask])


def cells(mask: Array) -> Array:
    """300 ids, among them those that void has by custom, and void in a corner."""
    many = np.add.outer(np.arange(mask.shape[0]) // 10 * 90, np.arange(mask.shape[1]) // 2).astype(np.uint16)
    many[mask == 1], many[:3, :3] = 255, 65535
    return many


def with_many_classes(root: Path, **more: object) -> Loads:
    found = pairs(root, as_mask=cells)
    names = [f"kind {number}" for number in range(300)]
    return Loads({key: cells(mask) for key, mask in found.masks.items()}, found.images, classes=names, **more)


@case
def more_classes_than_bytes_with_ids(root: Path) -> Outcome:
    found = with_many_classes(root)
    entries = [{"id": number, "name": name} for number, name in enumerate(found.classes)]
    (root / "classes.json").write_text(json.dumps({"classes": entries}))
    return found


@case
def more_classes_than_bytes_with_names(root: Path) -> Outcome:
    found = with_many_classes(root, told="65535 is void, by custom")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in found.classes))
    return found


@case
def masks_of_32_bits_in_tiff(root: Path) -> Outcome:
    return pairs(root, mask="masks/{}.tif", as_mask=lambda mask: mask.astype(np.int32))


@case
def masks_of_floats_in_tiff(root: Path) -> Outcome:
    return pairs(root, mask="masks/{}.tiff", as_mask=lambda mask: mask.astype(np.float32))


@case
def masks_in_bmp(root: Path) -> Outcome:
    return pairs(root, mask="masks/{}.bmp")


@case
def masks_in_lossless_webp(root: Path) -> Outcome:
    return pairs(root, mask="masks/{}.webp", lossless=True)


@case
def masks_in_gif(root: Path) -> Outcome:
    return pairs(root, mask="masks/{}.gif", as_mask=lambda mask: mask * 9)


@case
def masks_in_npy(root: Path) -> Outcome:
    return pairs(root, mask="masks/{}.npy", as_mask=lambda mask: mask.astype(np.int64))


@case
def binary_masks_of_0_and_255(root: Path) -> Outcome:
    found = pairs(root, as_mask=lambda mask: (mask == 1) * np.uint8(255))
    masks = {key: (mask == 1).astype(np.uint8) for key, mask in found.masks.items()}
    return Loads(masks, told="0 and 255 are the two classes")


@case
def void_around_objects(root: Path) -> Outcome:
    def bordered(mask: Array) -> Array:
        wide = cv2.dilate(mask, np.ones((3, 3), np.uint8)) != cv2.erode(mask, np.ones((3, 3), np.uint8))
        return np.where(wide, 255, mask).astype(np.uint8)

    found = pairs(root, as_mask=bordered)
    return Loads({key: bordered(mask) for key, mask in found.masks.items()}, told="255 is void")


@case
def negative_ids_in_npy(root: Path) -> Outcome:
    found = pairs(root, mask="masks/{}.npy", as_mask=lambda mask: mask.astype(np.int32) - 1)
    place = np.array([255, 0, 1], np.uint8)
    return Loads({key: place[mask] for key, mask in found.masks.items()}, told="-1 is void")


@case
def masks_in_colours(root: Path) -> Outcome:
    return of_colors(pairs(root, as_mask=painted), told="each colour is a class")


@case
def opaque_masks_with_alpha(root: Path) -> Outcome:
    return of_colors(pairs(root, as_mask=lambda mask: np.dstack([painted(mask), np.full_like(mask, 255)])))


@case
def masks_in_colours_of_16_bits(root: Path) -> Outcome:
    found = pairs(root)
    for path in (root / "masks").iterdir():
        mask = np.array(PIL.Image.open(path))
        deep = np.dstack([painted(mask)[..., ::-1], np.full_like(mask, 255)]).astype(np.uint16) * 257
        cv2.imwrite(str(path), deep)
    return of_colors(found)


@case
def masks_with_a_transparent_ground(root: Path) -> Outcome:
    def cut_out(mask: Array) -> Array:
        return np.dstack([painted(mask), np.where(mask == 0, 0, 255).astype(np.uint8)])

    found = pairs(root, as_mask=cut_out)
    # (0, 128, 64) and (128, 0, 0) are left; nothing opaque is black.
    place = np.array([255, 1, 0], np.uint8)
    return Loads({key: place[mask] for key, mask in found.masks.items()}, told="transparent pixels")


@case
def masks_of_three_equal_channels(root: Path) -> Outcome:
    return pairs(root, as_mask=lambda mask: np.dstack([mask, mask, mask]))


@case
def masks_of_grey_and_alpha(root: Path) -> Outcome:
    return pairs(root, as_mask=lambda mask: PIL.Image.fromarray(np.dstack([mask, np.full_like(mask, 255)]), "LA"))


@case
def ids_from_one(root: Path) -> Outcome:
    return merged(pairs(root, as_mask=lambda mask: mask + 1), told="reduce_zero_label")
