"""Measures folders of masks and writes what was found: tables, and pictures where there are images."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.failures.components import CONNECTIVITY
from analysis.failures.kinds import Kinds, class_kinds
from analysis.failures.masks import IDS, MaskFolders, open_masks
from analysis.failures.measure import cause_summary, causes_text, failures_frame
from analysis.failures.reasons import component_tables, curve_frame, factor_frame
from analysis.failures.slices import slice_frame
from analysis.failures.split import (
    ImageFailures,
    SplitFailures,
    class_type_frame,
    component_frame,
    image_type_frame,
    measure_image,
    measure_split,
    region_entries,
    type_frame,
)
from analysis.formulas import formula_safe
from analysis.outputs import Names, reserve
from trainables.data.base import ClassInfo
from trainables.data.layouts.finding import Meaning
from trainables.data.reading.names import expanded
from trainables.flags import share
from trainables.paths import WrittenFiles

PICTURES_FOLDER = "pictures"

Tables = Mapping[str, pd.DataFrame]
"""By name of the file, without its suffix."""


def add_mask_flags(parser: argparse.ArgumentParser, *, out: str) -> None:
    """The flags of commands that read masks of any program.

    Args:
        parser: Gets them.
        out: Folder that the command writes by default.
    """
    parser.add_argument("--truth", type=expanded, required=True, metavar="DIR", help="folder of true masks")
    parser.add_argument(
        "--predictions",
        type=expanded,
        required=True,
        metavar="DIR",
        help="folder of predicted masks; names may have a prefix or suffix, values may be the truth's ids, the places "
        "0..C-1 of the classes, or their colours",
    )
    parser.add_argument(
        "--classes",
        type=expanded,
        required=True,
        metavar="FILE",
        help='JSON: {"classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}, ...], "void": 255}; colours may '
        "be left out, and the dataset.yaml of segsweep init will do",
    )
    parser.add_argument(
        "--images", type=expanded, metavar="DIR", help="folder of the images: failures are drawn as well"
    )
    parser.add_argument("--iou", type=share, default=0.5, help="what has at most this IoU is a failure (default 0.5)")
    parser.add_argument(
        "--ids",
        choices=IDS,
        default="auto",
        help="what the values of predictions are: the truth's ids (stored) or the places of the classes (positions); "
        "auto takes the ids unless only the places fit",
    )
    parser.add_argument(
        "--background", type=_names, metavar="A,B", help="classes that are background (default: known by their names)"
    )
    parser.add_argument(
        "--stuff",
        type=_names,
        metavar="A,B",
        help="classes that are stuff, such as sky (default: known by their names)",
    )
    parser.add_argument(
        "--connectivity",
        type=int,
        choices=(4, 8),
        default=CONNECTIVITY,
        help=f"pixels that touch at a corner are one component (8) or not (4) (default {CONNECTIVITY})",
    )
    parser.add_argument(
        "--out",
        type=expanded,
        default=Path(out),
        metavar="DIR",
        help=f"folder for tables and pictures (default {out}/); what an earlier call wrote there is replaced, other "
        "files are left alone",
    )


def open_asked(
    options: argparse.Namespace, description: Meaning, predictions: Mapping[str, Path]
) -> tuple[MaskFolders, Kinds]:
    """The masks that flags of `add_mask_flags` ask for, and what kinds their classes are.

    Args:
        options: Parsed flags.
        description: The classes.
        predictions: Folders by label.

    Raises:
        UsageError: If a folder or a class does not exist.
        DataError: If the masks cannot be compared.
    """
    masks = open_masks(options.truth, predictions, description, images=options.images, ids=options.ids)
    names = [info.name for info in description.classes]
    return masks, class_kinds(names, masks.truth_pixels, background=options.background, stuff=options.stuff)


def measure_masks(
    masks: MaskFolders, class_names: Sequence[str], kinds: Kinds, *, iou_limit: float, connectivity: int
) -> dict[str, SplitFailures]:
    """What each folder of predictions did wrong, by label; the masks of a few images are in memory at a time.

    Args:
        masks: Truth and predictions.
        class_names: By class id.
        kinds: Of the classes.
        iou_limit: A region fails at or below it.
        connectivity: Of components, 4 or 8.
    """

    def of_image(place: int) -> list[ImageFailures]:
        image_id = masks.image_ids[place]
        return measure_image(
            masks.truth.mask(image_id),
            [folder.mask(image_id) for folder in masks.predictions.values()],
            class_names,
            kinds,
            iou_limit=iou_limit,
            connectivity=connectivity,
            image=None if masks.images is None else masks.image(image_id),
        )

    return measure_split(masks.image_ids, of_image, list(masks.predictions))


def failure_tables(splits: Mapping[str, SplitFailures], class_names: Sequence[str], *, iou_limit: float) -> Tables:
    """Every table of failures, by the name of its file; those of factors where the images were measured.

    Args:
        splits: By label.
        class_names: By class id.
        iou_limit: What has at most this IoU is a failure.
    """
    regions = failures_frame(region_entries(splits), class_names)
    tables = {
        "failures": regions,
        "causes": cause_summary(regions).reset_index(),
        "component_failures": component_frame(splits, class_names, iou_limit=iou_limit),
        "error_types": type_frame(splits),
        "error_types_per_class": class_type_frame(splits, class_names),
        "error_types_per_image": image_type_frame(splits),
    }
    if any(image.factors is not None for split in splits.values() for image in split.images):
        components = component_tables(splits)
        tables |= {
            "factors": factor_frame(components),
            "factor_curves": curve_frame(components),
            "slices": slice_frame(components, class_names),
        }
    return tables


def write_failures(
    tables: Tables,
    splits: Mapping[str, SplitFailures],
    masks: MaskFolders,
    classes: Sequence[ClassInfo],
    out: Path,
    *,
    more: Sequence[Names] = (),
) -> dict[tuple[str, str], Names]:
    """Writes tables and, where there are images, a picture of every image that fails; replaces an earlier call's files.

    Args:
        tables: Written as `out/NAME.csv`.
        splits: By label; where there are several, pictures are in a folder for each.
        masks: The masks that were measured.
        classes: By class id.
        out: The folder.
        more: Further files that the command may write there; an earlier call's are removed.

    Returns:
        Where the picture of each label and image is, below the folder.

    Raises:
        UnsafePathError: If a file that this project did not write is in one of the places.
        OSError: If the folder cannot be written.
    """
    from analysis.pictures import Caption, failure_picture, file_name, save_picture

    captions: dict[tuple[str, str], list[Caption]] = {}
    for label, image_id, region in region_entries(splits) if masks.images is not None else ():
        caption = Caption(classes[region.class_id].name, region.iou, causes_text(region.causes))
        captions.setdefault((label, image_id), []).append(caption)
    place = out.resolve()
    written = WrittenFiles(place.parent, place.name)
    written.clear()
    pictures: dict[tuple[str, str], Names] = {
        (label, image_id): (
            PICTURES_FOLDER,
            *((file_name(label),) if len(splits) > 1 else ()),
            file_name(image_id, ".png"),
        )
        for label, image_id in captions
    }
    files = reserve(written, [*((f"{name}.csv",) for name in tables), *pictures.values(), *more])
    for name, frame in tables.items():
        formula_safe(frame).to_csv(files[(f"{name}.csv",)], index=False)
    for (label, image_id), of_image in captions.items():
        truth, prediction = masks.truth.mask(image_id), masks.predictions[label].mask(image_id)
        title = f"{label}  ·  {image_id}" if len(splits) > 1 else image_id
        picture = failure_picture(masks.image(image_id), truth, prediction, classes, title=title, captions=of_image)
        save_picture(picture, files[pictures[label, image_id]], classes)
    return pictures


def type_lines(types: pd.DataFrame) -> list[str]:
    """The table `error_types` for a terminal: what each label loses to each type, the largest loss first."""
    lines = []
    for label, own in types.groupby("label", sort=False):
        lines.append(f"{label}: {own['lost_iou'].sum():.4f} of a perfect mIoU is lost, by type of error:")
        shown = own[own["pixels"] > 0].sort_values("lost_iou", ascending=False)
        lines += [f"  {row.lost_iou:.4f}  {row.share:4.0%}  {row.type}" for row in shown.itertuples()]
    return lines


def factor_lines(factors: pd.DataFrame) -> list[str]:
    """What of the table `factors` is called a reason, for a terminal: the largest effect of each label first."""
    lines = []
    for label, own in factors.groupby("label", sort=False):
        reasons = own[own["reason"].astype(bool)]
        reasons = reasons.iloc[np.argsort(-reasons["effect"].abs(), kind="stable")]
        for row in reasons.to_dict("records"):
            lines.append(
                f"{label}: {row['factor']} changes the IoU of components by {row['effect']:+.3f} "
                f"[{row['effect_low']:+.3f}, {row['effect_high']:+.3f}], class and other factors being equal"
            )
    return lines


def slice_lines(slices: pd.DataFrame) -> list[str]:
    """The table `slices` for a terminal."""
    lines = []
    for row in slices.to_dict("records"):
        what = " and ".join(f"{row[part]} {row[f'{part}_is']}" for part in ("first", "second") if row[part])
        lines.append(
            f"{row['label']}: {what}: {row['component_share']:.0%} of the components, {row['lost_share']:.0%} of the "
            f"lost IoU; mean IoU {row['mean_iou']:.2f}, others {row['others_iou']:.2f}"
        )
    return lines


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
