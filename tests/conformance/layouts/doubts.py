"""Folders that leave one thing open, and folders that cannot be read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from .base import Array, Asks, Loads, Outcome, Refused, case, numbered, pairs, save, scene


def mapped(found: Loads, *places: int) -> dict[str, Array]:
    return {key: np.array(places, np.uint8)[mask] for key, mask in found.masks.items()}


@case
def greys_up_to_255(root: Path) -> Outcome:
    found = pairs(root, as_mask=lambda mask: np.array([0, 127, 255], np.uint8)[mask])
    return Asks(
        "the masks hold 0, 127 and 255",
        {("--void", "255"): mapped(found, 0, 1, 255), ("--void", "none"): mapped(found, 0, 1, 2)},
    )


@case
def some_masks_of_0_and_1_and_some_of_0_and_255(root: Path) -> Outcome:
    found = pairs(root, as_mask=lambda mask: (mask == 1).astype(np.uint8))
    for name in numbered(5, 10):
        save(root / "masks" / f"{name}.png", (found.masks[name] == 1) * np.uint8(255))
    half = {key: (mask == 1).astype(np.uint8) for key, mask in found.masks.items()}
    apart = {key: mask * (255 if key in numbered(5, 10) else 1) for key, mask in half.items()}
    as_class = {key: mask * (2 if key in numbered(5, 10) else 1) for key, mask in half.items()}
    return Asks("the masks hold 0..1 and 255", {("--void", "255"): apart, ("--void", "none"): as_class})


@case
def two_kinds_of_masks(root: Path) -> Outcome:
    first = pairs(root, "images/{}.png", "manual/{}_first.png")
    second = pairs(root, "images/{}.png", "manual/{}_second.png", as_mask=lambda mask: mask[::-1])
    flipped = {key: mask[::-1] for key, mask in second.masks.items()}
    return Asks(
        "several files could be the mask of one image",
        {
            ("--masks", "manual/**/*_first.png"): first.masks,
            ("--masks", "manual/**/*_second.png"): flipped,
        },
    )


@case
def masks_of_two_people(root: Path) -> Outcome:
    names = numbered(0, 8)
    first = pairs(root, mask="anna/masks/{}.png", names=names)
    second = pairs(root, mask="ben/masks/{}.png", names=names, as_mask=lambda mask: mask[:, ::-1])
    flipped = {key: mask[:, ::-1] for key, mask in second.masks.items()}
    return Asks(
        "several files could be the mask of one image",
        {
            ("--masks", "anna/masks/**/*.png"): first.masks,
            ("--masks", "ben/masks/**/*.png"): flipped,
        },
    )


@case
def fields_of_view_beside_drawings(root: Path) -> Outcome:
    """As DRIVE has it: `mask/` is where the camera saw anything, `1st_manual/` the vessels."""
    names = [str(number) for number in range(21, 31)]
    image, ids = "images/{}_training.png", "{}_training"
    drawn = pairs(root, image, "1st_manual/{}_manual1.gif", names, ids, lambda mask: (mask == 1) * np.uint8(255))
    seen = pairs(root, image, "mask/{}_training_mask.gif", names, ids, lambda mask: (mask == 2) * np.uint8(255))
    return Asks(
        "several files could be the mask of one image",
        {
            ("--masks", "1st_manual/**/*_manual1.gif"): mapped(drawn, 0, 1, 0),
            ("--masks", "mask/**/*_training_mask.gif"): mapped(seen, 0, 0, 1),
        },
    )


@case
def palettes_that_differ(root: Path) -> Outcome:
    """Every other file numbers the same three colours in another order."""
    colors = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)
    masks, by_color = {}, {}
    for number in range(10):
        name, (image, mask) = f"s{number:02d}", scene(number)
        order = np.array([0, 1, 2] if number % 2 else [2, 0, 1])
        stored = PIL.Image.fromarray(order[mask].astype(np.uint8))
        stored.putpalette(colors[np.argsort(order)].ravel().tolist())
        save(root / "images" / f"{name}.png", image)
        save(root / "masks" / f"{name}.png", stored)
        masks[name] = order[mask].astype(np.uint8)
        # In their order: black, blue, red.
        by_color[name] = np.array([0, 2, 1], np.uint8)[mask]
    return Asks("the palettes of the masks differ", {("--palette", "ids"): masks, ("--palette", "colours"): by_color})


@case
def square_photos_with_an_orientation(root: Path) -> Outcome:
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    masks = {}
    for number in range(10):
        image, mask = scene(number, 40, 40)
        save(root / "images" / f"{number}.png", image, exif=exif)
        save(root / "masks" / f"{number}.png", mask)
        masks[str(number)] = mask
    return Asks("EXIF orientation", {("--exif", "turned"): masks, ("--exif", "stored"): masks})


@case
def names_that_may_begin_at_0_or_1(root: Path) -> Outcome:
    found = pairs(root, as_mask=lambda mask: np.where(mask == 0, 1, mask))
    (root / "classes.txt").write_text("ground\nblock\nbar")
    return Asks(
        "may begin at 0 or at 1",
        {("--first-id", "0"): mapped(found, 1, 1, 2), ("--first-id", "1"): mapped(found, 0, 0, 1)},
    )


@case
def one_name_too_few(root: Path) -> Outcome:
    found = pairs(root)
    (root / "classes.txt").write_text("block\nbar")
    return Asks(
        "the masks hold 0..2, which 2 names (block, bar) of classes.txt do not fit",
        {
            ("--first-id", "1"): mapped(found, 255, 0, 1),
            ("--classes", "class 0,block,bar"): mapped(found, 0, 1, 2),
        },
    )


@case
def names_without_the_colours_of_the_masks(root: Path) -> Outcome:
    colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 64]], np.uint8)
    found = pairs(root, as_mask=lambda mask: colors[mask])
    (root / "classes.txt").write_text("ground\nbar\nblock")
    # The commonest colour first.
    flags = ("--classes", "#000000:ground,#008040:bar,#800000:block")
    return Asks("without saying which is which", {flags: mapped(found, 0, 2, 1)})


@case
def two_folders_of_flat_pictures(root: Path) -> Outcome:
    found = pairs(root, "A/{}.png", "B/{}.png")
    for name, mask in found.masks.items():
        save(root / "A" / f"{name}.png", mask * 50)
    swapped = ("--images", "B", "--masks", "A")
    return Asks(
        "their pixels do not tell which are the masks",
        {("--images", "A", "--masks", "B"): found.masks, swapped: found.masks},
    )


@case
def masks_saved_as_jpeg(root: Path) -> Outcome:
    pairs(root, mask="masks/{}.jpg", as_mask=lambda mask: mask * 100)
    return Refused("is a JPEG, which changes ids and colours; export it from its source as PNG")


@case
def masks_saved_as_lossy_webp(root: Path) -> Outcome:
    pairs(root, mask="masks/{}.webp", as_mask=lambda mask: mask * 100, quality=80)
    return Refused("is a lossy WebP, which changes ids and colours; export it from its source as PNG")


@case
def smoothed_masks(root: Path) -> Outcome:
    pairs(root, as_mask=lambda mask: cv2.GaussianBlur((mask == 1) * np.uint8(255), (5, 5), 1.5))
    return Refused("export them again as PNG without smoothing")


@case
def more_objects_than_classes(root: Path) -> Outcome:
    def objects(mask: Array) -> Array:
        blocks = np.add.outer(np.arange(mask.shape[0]) // 2 * 28, np.arange(mask.shape[1]) // 2)
        return blocks.astype(np.uint16)

    pairs(root, as_mask=objects)
    return Refused("without a list of classes 254 is the most; give each its id in classes.json")


@case
def masks_that_are_transparency_alone(root: Path) -> Outcome:
    pairs(root, as_mask=lambda mask: np.dstack([np.full((*mask.shape, 3), 255, np.uint8), np.minimum(mask, 1) * 255]))
    return Refused("save the alpha channel of each as its mask")


@case
def brush_pngs_of_label_studio(root: Path) -> Outcome:
    for number in range(10):
        pixels, mask = scene(number)
        save(root / "images" / f"{number:08x}-photo.jpg", pixels)
        for place, name in enumerate(("road", "car"), 1):
            stroke = ((mask == place) * 255).astype(np.uint8)
            save(root / "masks" / f"task-{number + 1}-annotation-{number + 5}-by-1-tag-{name}-0.png", stroke)
    return Refused("name a task of Label Studio and not its image: export as JSON there")


@case
def images_alone(root: Path) -> Outcome:
    for number in range(10):
        save(root / f"{number}.jpg", scene(number)[0])
    return Refused("no masks among them: put masks into a folder masks/ beside images/")


@case
def names_that_have_nothing_in_common(root: Path) -> Outcome:
    for number in range(10):
        save(root / "images" / f"{'abcdefghij'[number]}.jpg", scene(number)[0])
        save(root / "masks" / f"{'klmnopqrst'[number]}.png", scene(number)[1])
    return Refused("a mask has the name of its image")


@case
def stacks_with_one_mask(root: Path) -> Outcome:
    for number in range(5):
        pages = [PIL.Image.fromarray(scene(10 * number + page)[0]) for page in range(3)]
        save(root / "images" / f"{number}.tif", pages[0], save_all=True, append_images=pages[1:])
        save(root / "masks" / f"{number}.tif", scene(number)[1])
    return Refused("has 3 pages and its mask")
