"""Files of single objects, and tables that name pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import PARTS, Array, Asks, Loads, N, Outcome, Refused, case, merged, numbered, pairs, save, scene


def blocks(name: str) -> list[Array]:
    """Objects of one image, 40x56; they may overlap."""
    rng = np.random.default_rng(list(name.encode()))
    masks = np.zeros((1 + int(rng.integers(3)), 40, 56), bool)
    for mask in masks:
        top, left = rng.integers(30), rng.integers(44)
        mask[top : top + 10, left : left + 12] = True
    return list(masks)


def objects(root: Path, mask: str, image: str = "{name}/images/{name}.png", count: int | None = None) -> Loads:
    """A file an object; `{name}` is that of the image, `{number}` that of the object."""
    found = {}
    for name in numbered(0, N):
        picture = scene(len(name))[0]
        save(root / image.format(name=name), picture)
        drawn = blocks(name) if count is None else (blocks(name) * count)[:count]
        for number, one in enumerate(drawn):
            save(root / mask.format(name=name, number=number), one * np.uint8(255))
        found[name] = np.any(drawn, axis=0).astype(np.uint8)
    return Loads(found)


@case
def one_mask_an_object(root: Path) -> Outcome:
    """As in the Data Science Bowl 2018: names of masks have nothing to do with that of the image."""
    found = objects(root, "{name}/masks/{number}f{name}e.png")
    ids = {f"{name}/{name}": mask for name, mask in found.masks.items()}
    return Asks("each object has a mask of its own", {(): ids})


@case
def a_folder_of_masks_for_each_image(root: Path) -> Outcome:
    found = objects(root, "masks/{name}/{number}.png", "images/{name}.jpg")
    return Asks("each object has a mask of its own", {(): found.masks})


@case
def objects_numbered_after_their_image(root: Path) -> Outcome:
    found = objects(root, "{name}/mask/{name}_{number}.png", "{name}/img/{name}.png")
    ids = {f"{name}/{name}": mask for name, mask in found.masks.items()}
    return Asks("each object has a mask of its own", {(): ids})


@case
def objects_numbered_in_one_folder(root: Path) -> Outcome:
    found = objects(root, "masks/{name}_{number}.png", "images/{name}.png")
    return Asks("each object has a mask of its own", {(): found.masks})


@case
def as_many_objects_in_each_image(root: Path) -> Outcome:
    """The same numbers everywhere may be kinds of masks, or two people's; in folders of their own they are objects."""
    found = objects(root, "masks/{name}/{name}_{number}.png", "images/{name}.png", count=2)
    return Asks("each object has a mask of its own", {(): found.masks})


@case
def two_numbered_masks_of_each_image(root: Path) -> Outcome:
    objects(root, "masks/{name}_{number}.png", "images/{name}.png", count=2)
    first = {name: blocks(name)[0].astype(np.uint8) for name in numbered(0, N)}
    second = {name: (blocks(name) * 2)[1].astype(np.uint8) for name in numbered(0, N)}
    return Asks(
        "if each is one object, put those of each image into a folder called as the image is",
        {("--masks", "masks/**/*_0.png"): first, ("--masks", "masks/**/*_1.png"): second},
    )


@case
def one_mask_a_class(root: Path) -> Outcome:
    """The names of masks recur; where classes overlap the later one counts."""
    by_class, together = {}, {}
    for number in range(N):
        picture, mask = scene(number)
        save(root / f"{number}" / "images" / "picture.png", picture)
        save(root / f"{number}" / "masks" / "bar.png", (mask == 2) * np.uint8(255))
        save(root / f"{number}" / "masks" / "block.png", (mask > 0) * np.uint8(255))
        by_class[f"{number}/picture"] = np.array([0, 2, 2], np.uint8)[mask]
        together[f"{number}/picture"] = (mask > 0).astype(np.uint8)
        if number % 2:
            (root / f"{number}" / "masks" / "block.png").unlink()
            by_class[f"{number}/picture"] = together[f"{number}/picture"] = (mask == 2).astype(np.uint8)
    return Asks(
        "called bar, block in several images",
        {("--classes", "background,bar,block"): by_class, ("--classes", "background,object"): together},
    )


@case
def kinds_of_masks_beside_one_image(root: Path) -> Outcome:
    """A folder an image as with objects, but each mask is named after it; the copy for the eye is left aside."""
    names = numbered(0, N)
    found = pairs(root, "{0}/images/{0}.png", "{0}/masks/{0}_mask.png", names, "{0}/{0}")
    pairs(root, "{0}/images/{0}.png", "{0}/masks/{0}_color.png", names, "{0}/{0}", lambda mask: mask * 90)
    return merged(found, told="_color.png left aside")


def table(root: Path, head: str, line: str, name: str = "pairs.csv", names: list[str] | None = None) -> None:
    lines = [line.format(name, other=f"m{name[::-1]}") for name in names or numbered(0, N)]
    (root / name).write_text("\n".join([head, *lines]) + "\n")


def unlike(root: Path, image: str, mask: str, ids: str) -> Loads:
    """Masks whose names have nothing in common with those of their images."""
    found = {}
    for name in numbered(0, N):
        picture, truth = scene(int(name[1:]))
        save(root / image.format(name), picture)
        save(root / mask.format(other=f"m{name[::-1]}"), truth)
        found[ids.format(name)] = truth
    return Loads(found)


@case
def table_of_pairs(root: Path) -> Outcome:
    found = unlike(root, "a/{}.png", "b/{other}.png", "a/{}")
    table(root, "image,mask", "a/{}.png,b/{other}.png")
    return merged(found, told="pairs are those of pairs.csv: images of column 'image', masks of 'mask'")


@case
def table_with_splits_and_other_columns(root: Path) -> Outcome:
    """As in DeepGlobe: names without files, splits, and an image whose mask is not named."""
    found = unlike(root, "images/{}.png", "masks/{other}.png", "{}")
    part_of = {name: part for part, names in PARTS.items() for name in names}
    lines = [f"{n};{part_of[n]};images/{n}.png;masks/m{n[::-1]}.png" for n in numbered(0, N)]
    save(root / "images" / "new.png", scene(77)[0])
    head = "image_id;split;sat_image_path;mask_path"
    (root / "metadata.csv").write_text("\n".join([head, *lines, "new;test;images/new.png;"]))
    return merged(found, splits=PARTS, told="1 image without a mask is left out: new")


@case
def tables_of_names_for_each_split(root: Path) -> Outcome:
    found = unlike(root, "images/{}.png", "masks/{other}.png", "{}")
    for part, names in PARTS.items():
        table(root, "filename,label", "{}.png,{other}.png", f"{part}.csv", names)
    return merged(found, splits=PARTS, told="files found by their names alone")


@case
def table_of_paths_on_another_machine(root: Path) -> Outcome:
    found = unlike(root, "images/{}.png", "masks/{other}.png", "{}")
    table(root, "image,mask", "C:\\data\\images\\{}.png,C:\\data\\masks\\{other}.png")
    return merged(found, told="paths without their first 2 folders")


@case
def table_against_names(root: Path) -> Outcome:
    """Files pair by their names, too; what is written counts."""
    found = pairs(root)
    lines = [f"images/s{k:02d}.png,masks/s{(k + 1) % N:02d}.png" for k in range(N)]
    (root / "pairs.csv").write_text("\n".join(["image,mask", *lines]))
    return Loads({f"s{k:02d}": found.masks[f"s{(k + 1) % N:02d}"] for k in range(N)}, told="pairs are those of")


@case
def two_tables(root: Path) -> Outcome:
    found = pairs(root)
    pairs(root, mask="second/{}.png", as_mask=lambda mask: mask[::-1])
    table(root, "image,mask", "images/{0}.png,masks/{0}.png", "anna.csv")
    table(root, "image,mask", "images/{0}.png,second/{0}.png", "ben.csv")
    flipped = {name: mask[::-1] for name, mask in found.masks.items()}
    return Asks(
        "several tables name pairs",
        {("--pairs", "anna.csv"): found.masks, ("--pairs", "ben.csv"): flipped},
    )


@case
def table_with_an_image_twice(root: Path) -> Outcome:
    pairs(root)
    table(root, "image,mask", "images/{0}.png,masks/{0}.png", names=[*numbered(0, N), "s03"])
    return Refused("images/s03.png is named more than once")


@case
def table_of_pictures_and_labels_that_are_no_files(root: Path) -> Outcome:
    """A table of classes of whole pictures says nothing of masks."""
    found = pairs(root)
    table(root, "filename,label", "{}.png,cat")
    return found
