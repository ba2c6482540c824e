"""Kinds of images, and tables of classes beside them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from .base import Loads, Outcome, case, merged, numbered, pairs, save, scene


@case
def images_of_12_bits_in_16(root: Path) -> Outcome:
    """Grey and colour, PNG and TIFF, integers and floats, among images of 8 bits."""
    found = pairs(root)
    images = dict(found.images)
    for number, name in enumerate(("s00", "s01", "s02", "s03", "s04")):
        deep = images[name].astype(np.uint16) * 16
        deep[0, 0] = 4095
        path = root / "images" / f"{name}.{'png' if number < 2 else 'tif'}"
        (root / "images" / f"{name}.png").unlink()
        if number in (0, 2):
            save(path, deep[..., 0])
        elif number == 3:
            save(path, deep[..., 0].astype(np.float32))
        else:
            cv2.imwrite(str(path), deep[..., ::-1])
        eight = deep // 16
        images[name] = (eight if number in (1, 4) else np.repeat(eight[..., :1], 3, -1)).astype(np.uint8)
    return Loads(found.masks, images, told="5 images deeper than 8 bits, with values up to 12 bits: read divided by 16")


@case
def grey_images(root: Path) -> Outcome:
    found = pairs(root)
    images = {}
    for name, pixels in found.images.items():
        save(root / "images" / f"{name}.png", pixels[..., 1])
        images[name] = np.repeat(pixels[..., 1:2], 3, -1)
    return Loads(found.masks, images)


@case
def images_with_a_palette_and_transparency(root: Path) -> Outcome:
    found = pairs(root)
    images = {}
    for name, pixels in found.images.items():
        image = PIL.Image.fromarray(pixels).quantize(32)
        image.save(root / "images" / f"{name}.png", transparency=bytes([0, 128, 255]))
        images[name] = np.array(image.convert("RGB"))
    return Loads(found.masks, images)


@case
def images_in_cmyk_and_lab(root: Path) -> Outcome:
    found = pairs(root, "images/{}.tif")
    images = dict(found.images)
    for name, pixels in found.images.items():
        inverse = np.dstack([255 - pixels, np.zeros(pixels.shape[:2], np.uint8)])
        save(root / "images" / f"{name}.tif", PIL.Image.fromarray(inverse, "CMYK"))
    # L* 128 of 255, a* and b* 0: a grey of 119 by CIE 1976 and the curve of sRGB.
    lab = np.dstack([np.full((40, 56), 128, np.uint8), *np.zeros((2, 40, 56), np.uint8)])
    PIL.Image.frombytes("LAB", (56, 40), lab.tobytes()).save(root / "images" / "s00.tif")
    return Loads(found.masks, {**images, "s00": np.full_like(images["s00"], 119)})


@case
def lying_photos_with_masks_drawn_upright(root: Path) -> Outcome:
    found = pairs(root)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for name, pixels in found.images.items():
        save(root / "images" / f"{name}.png", PIL.Image.fromarray(pixels).rotate(90, expand=True), exif=exif)
    return merged(found, told="10 images turned as EXIF says")


@case
def lying_photos_with_masks_of_the_stored_pixels(root: Path) -> Outcome:
    found = pairs(root)
    exif = PIL.Image.Exif()
    exif[0x0112] = 8
    for name, pixels in found.images.items():
        save(root / "images" / f"{name}.png", pixels, exif=exif)
    return merged(found, told="EXIF orientation of 10 images not applied")


@case
def stacks_of_pages(root: Path) -> Outcome:
    masks, images = {}, {}
    for stack in range(6):
        pages = [scene(10 * stack + page) for page in range(3)]
        for kind, side in (("images", 0), ("masks", 1)):
            first, *rest = (PIL.Image.fromarray(page[side]) for page in pages)
            save(root / kind / f"v{stack}.tif", first, save_all=True, append_images=rest)
        for page, (image, mask) in enumerate(pages, 1):
            images[f"v{stack}/page-{page}"], masks[f"v{stack}/page-{page}"] = image, mask
    return Loads(masks, images, told="pages are images of their own: 18 in 6 files")


@case
def names_in_a_text_file(root: Path) -> Outcome:
    found = pairs(root)
    (root / "classes.txt").write_text("ground\nblock\nbar\n")
    return merged(found, classes=["ground", "block", "bar"])


@case
def names_and_colours_in_a_table(root: Path) -> Outcome:
    colors = np.array([[64, 0, 128], [0, 128, 64], [9, 9, 9]], np.uint8)
    found = pairs(root, as_mask=lambda mask: colors[mask])
    rows = ["name,r,g,b", "Ground,64,0,128", "Block,0,128,64", "Bar,9,9,9", "Void,0,0,0"]
    (root / "class_dict.csv").write_text("\n".join(rows))
    for path in (root / "masks").iterdir():
        pixels = np.array(PIL.Image.open(path))
        pixels[0] = 0
        save(path, pixels)
    masks = {key: np.vstack([np.full_like(mask[:1], 255), mask[1:]]) for key, mask in found.masks.items()}
    return Loads(masks, found.images, classes=["Ground", "Block", "Bar"])


@case
def labelmap_of_cvat(root: Path) -> Outcome:
    colors = np.array([[0, 0, 0], [250, 50, 83], [36, 179, 83]], np.uint8)
    found = pairs(root, "JPEGImages/{}.jpg", "SegmentationClass/{}.png", as_mask=lambda mask: colors[mask])
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nblock:250,50,83::\nbar:36,179,83::\n"
    )
    return merged(found, classes=["background", "block", "bar"])


@case
def ade20k(root: Path) -> Outcome:
    """The release for scene parsing: 0 is void, and names stand in a table with synonyms."""
    found = []
    for part, name, names in (("training", "train", numbered(0, 7)), ("validation", "val", numbered(7, 10))):
        image, mask = (f"{folder}/{part}/ADE_{name}_{{}}" for folder in ("images", "annotations"))
        found.append(pairs(root, f"{image}.jpg", f"{mask}.png", names, f"{name}/ADE_{name}_{{}}"))
    rows = [
        "1\t0.2\t11\t2\t0\tscreen, door screen",
        "2\t0.1\t9\t1\t0\tscreen, silver screen",
        "3\t0\t1\t1\t0\tlamp, light",
    ]
    (root / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows]) + "\n")
    whole = merged(*found)
    ids = np.array([255, 0, 1], np.uint8)
    masks = {key: ids[mask] for key, mask in whole.masks.items()}
    splits = {"val": [key for key in masks if key.startswith("val")]}  # test is drawn from train
    names = ["screen, door screen", "screen, silver screen", "lamp"]
    return Loads(masks, whole.images, splits, classes=names)


@case
def roboflow(root: Path) -> Outcome:
    found = []
    for part, names in (("train", numbered(0, 6)), ("valid", numbered(6, 8)), ("test", numbered(8, 10))):
        ids = f"{part.replace('valid', 'val')}/{{}}_jpg.rf.0a1b"
        found.append(pairs(root, f"{part}/{{}}_jpg.rf.0a1b.jpg", f"{part}/{{}}_jpg.rf.0a1b_mask.png", names, ids))
        (root / part / "_classes.csv").write_text("Pixel Value, Class\n0, ground\n1, block\n2, bar\n")
    return merged(*found, classes=["ground", "block", "bar"])


@case
def list_of_names_in_utf_16(root: Path) -> Outcome:
    """As PowerShell writes a file; a description, but one without ids."""
    found = pairs(root)
    (root / "classes.json").write_bytes('["ground", "block", "bar"]'.encode("utf-16"))
    return merged(found, classes=["ground", "block", "bar"])


@case
def names_of_0_and_255(root: Path) -> Outcome:
    found = pairs(root, as_mask=lambda mask: (mask == 1) * np.uint8(255))
    (root / "classes.txt").write_text("background\ncrack")
    masks = {key: (mask == 1).astype(np.uint8) for key, mask in found.masks.items()}
    return Loads(masks, classes=["background", "crack"])
