"""Folders and names of files."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np

from .base import PARTS, Loads, Outcome, case, merged, numbered, pairs, parted, save, scene


@case
def images_beside_masks(root: Path) -> Outcome:
    return pairs(root)


@case
def jpeg_beside_upper_case_png(root: Path) -> Outcome:
    return pairs(root, "IMG/{}.JPG", "Annotations/{}.PNG")


@case
def voc(root: Path) -> Outcome:
    found = pairs(root, "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    pairs(root, "JPEGImages/{}.jpg", "SegmentationObject/{}.png", as_mask=lambda mask: 3 * mask)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for part, names in PARTS.items():
        (lists / f"{part}.txt").write_text("\n".join(names))
    return merged(found, splits=PARTS, told="SegmentationObject/*.png left aside")


@case
def voc_in_the_folder_around_it(root: Path) -> Outcome:
    found = voc(root / "VOC2012")
    assert isinstance(found, Loads)
    masks = {f"VOC2012/{key}": mask for key, mask in found.masks.items()}
    return Loads(masks, splits={part: [f"VOC2012/{name}" for name in names] for part, names in PARTS.items()})


@case
def split_folders_inside(root: Path) -> Outcome:
    return parted(root, "images/{part}/{name}.png", "masks/{part}/{name}.png")


@case
def split_folders_outside(root: Path) -> Outcome:
    words = {"train": "Training", "val": "valid"}
    return parted(root, "{part}/image/{name}.png", "{part}/label/{name}.png", words)


@case
def mmsegmentation(root: Path) -> Outcome:
    return parted(root, "img_dir/{part}/{name}.jpg", "ann_dir/{part}/{name}.png")


@case
def camvid_folders(root: Path) -> Outcome:
    return parted(root, "{part}/{name}.png", "{part}annot/{name}.png")


@case
def words_joined_with_splits(root: Path) -> Outcome:
    return parted(root, "{part}_images/{name}.png", "{part}_masks/{name}.png")


@case
def folders_that_say_more_than_their_role(root: Path) -> Outcome:
    """As in ISPRS Potsdam: what stands beside the role differs."""
    return pairs(root, "2_Ortho_RGB/top_{}_RGB.tif", "5_Labels_all/top_{}_label.tif", ids="top_{}_RGB")


@case
def splits_in_folders_that_say_more(root: Path) -> Outcome:
    """As in ISIC 2018."""
    words = {"train": "Training", "val": "Validation", "test": "Test"}
    image, mask = (
        "ISIC2018_Task1-2_{part}_Input/{name}.jpg",
        "ISIC2018_Task1_{part}_GroundTruth/{name}_segmentation.png",
    )
    return parted(root, image, mask, words)


@case
def cityscapes_names(root: Path) -> Outcome:
    """Suffixes on either side, a city between, and two copies of every mask."""
    names = [f"aachen/{k:06d}" for k in range(6)] + [f"ulm/{k:06d}" for k in range(4)]
    image, gt, ids = "leftImg8bit/train/{}_leftImg8bit.png", "gtFine/train/{}_gtFine_", "train/{}_leftImg8bit"
    found = pairs(root, image, gt + "labelIds.png", names, ids)
    pairs(root, image, gt + "instanceIds.png", names, ids, as_mask=lambda mask: mask.astype(np.uint16) * 1000)
    pairs(root, image, gt + "color.png", names, ids, as_mask=lambda mask: np.stack([mask * 9, mask, mask], -1))
    return merged(found, told="paired by their common part")


@case
def suffix_of_masks(root: Path) -> Outcome:
    return merged(pairs(root, "images/{}.jpg", "masks/{}_mask.png"), told="s00.jpg with s00_mask.png")


@case
def unknown_suffix_of_masks(root: Path) -> Outcome:
    return pairs(root, "images/{}.jpg", "labels/{}_expert2.png")


@case
def prefixes_on_both_sides(root: Path) -> Outcome:
    return pairs(root, "images/img_{}.png", "masks/mask_{}.png", ids="img_{}")


@case
def suffixes_on_both_sides_in_one_folder(root: Path) -> Outcome:
    return pairs(root, "{}_sat.jpg", "{}_mask.png", names=[str(k) for k in range(1, 13)], ids="{}_sat")


@case
def whole_name_of_image_in_mask(root: Path) -> Outcome:
    found = pairs(root, "images/{}.jpg", "masks/{}.jpg.png", names=numbered(0, 6))
    return merged(found, pairs(root, "images/{}.png", "masks/{}.png.png", names=numbered(6, 10)))


@case
def one_folder_with_a_suffix(root: Path) -> Outcome:
    return pairs(root, "{}.png", "{}_L.png")


@case
def one_folder_with_two_extensions(root: Path) -> Outcome:
    return pairs(root, "{}.jpg", "{}.png")


@case
def nested_folders_of_patients(root: Path) -> Outcome:
    names = [f"patient {p}/{k}" for p in range(3) for k in range(4)]
    return pairs(root, "images/{}.png", "masks/{}.png", names=names)


@case
def masks_within_each_patient(root: Path) -> Outcome:
    def of_patient(p: str) -> Loads:
        return pairs(root, f"{p}/img/{{}}.png", f"{p}/mask/{{}}.png", ids=f"{p}/{{}}", names=numbered(0, 2))

    return merged(*(of_patient(f"p{number}") for number in range(5)))


@case
def names_with_dots_spaces_and_brackets(root: Path) -> Outcome:
    return pairs(root, names=["a.b.c", "a b (1)", "v1.0", "x [2]", "é ü", "日本", "#7", "100%", "a'b", "t"])


@case
def unicode_forms_differ(root: Path) -> Outcome:
    masks = {}
    for number, name in enumerate(("é1", "ü2", "å3", "ñ4", "ô5")):
        image, mask = scene(number)
        save(root / "images" / f"{unicodedata.normalize('NFC', name)}.png", image)
        save(root / "masks" / f"{unicodedata.normalize('NFD', name)}.png", mask)
        masks[unicodedata.normalize("NFC", name)] = mask
    return Loads(masks)


@case
def numbers_with_other_zeros(root: Path) -> Outcome:
    masks = {}
    for number in range(1, 13):
        image, mask = scene(number)
        save(root / "images" / f"{number:04d}.png", image)
        save(root / "masks" / f"{number}.png", mask)
        masks[f"{number:04d}"] = mask
    return Loads(masks)


@case
def links_to_elsewhere(root: Path) -> Outcome:
    store = root.parent / "store"
    found = pairs(store, "a/{}.png", "b/{}.png")
    (root / "masks").mkdir(parents=True)
    (root / "images").symlink_to(store / "a")
    for path in (store / "b").iterdir():
        (root / "masks" / path.name).symlink_to(path)
    (root / "again").symlink_to(root)
    return found


@case
def folders_of_any_names(root: Path) -> Outcome:
    return merged(pairs(root, "A/{}.png", "B/{}.png"), told="B holds the masks and A the images, by their pixels")


@case
def pictures_that_are_neither(root: Path) -> Outcome:
    found = pairs(root)
    for name in ("overlays/s00.png", "logo.png", "predictions/s00.png", ".trash/images/s00.png"):
        save(root / name, scene(0)[0])
    return found


@case
def images_without_masks(root: Path) -> Outcome:
    found = pairs(root)
    for number in range(20):
        save(root / "images" / f"new{number:02d}.png", scene(100 + number)[0])
    return merged(found, told="20 images without a mask are left out: new00, new01, new02, new03, new04 and 15 more")


@case
def test_folder_without_masks(root: Path) -> Outcome:
    found = parted(root, "{part}/images/{name}.png", "{part}/masks/{name}.png")
    for name in PARTS["test"]:
        (root / "test" / "masks" / f"{name}.png").unlink()
    kept = {key: mask for key, mask in found.masks.items() if not key.startswith("test")}
    return Loads(kept, splits={"val": found.splits["val"]}, told="2 images without a mask are left out")


@case
def lists_with_extensions_marks_and_windows_ends(root: Path) -> Outcome:
    found = pairs(root, "images/{}.jpg", "masks/{}.png")
    for part, names in PARTS.items():
        text = "".join(f"{name}.jpg\r\n" for name in names)
        (root / f"{part}.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return merged(found, splits=PARTS)


@case
def lists_of_paths_with_masks_behind(root: Path) -> Outcome:
    found = pairs(root, "images/{}.png", "masks/{}.png")
    for part, names in PARTS.items():
        lines = [f"/home/me/data/images/{name}.png /home/me/data/masks/{name}.png" for name in names]
        (root / f"{part}.txt").write_text("\n".join(lines))
    return merged(found, splits=PARTS)


@case
def two_lists_of_three(root: Path) -> Outcome:
    found = pairs(root)
    for part in ("train", "val"):
        (root / f"{part}.txt").write_text("\n".join(PARTS[part]))
    return merged(found, splits={"val": PARTS["val"]})
