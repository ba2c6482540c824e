"""Masks of test that may be wrong, by all checkpoints that were evaluated there, and pictures of the first of them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image as Pillow

from analysis.colours import WRONG
from analysis.failures.label_errors import COLUMNS, consensus_of, find_label_errors
from analysis.kept import Evaluation, OnStep
from analysis.pictures import colourise, photo_uri
from trainables.data.base import ClassInfo, Image, Mask, SegmentationData
from trainables.labels import MAJORITY

PICTURED = 12
"""Rows of the table that are pictured on the page: the first."""
PANEL, GAP = 164, 6
"""Longest side of the image, of the mask and of what the models say, and what is between them, in pixels."""
MARGIN = 0.6
"""What is shown around a component, as a share of its box; at least `LEAST_MARGIN` pixels."""
LEAST_MARGIN = 12


@dataclass(frozen=True)
class LabelErrors:
    """Components whose mask several checkpoints contradict.

    Attributes:
        frame: One row each, the most suspicious first; columns `failures.label_errors.COLUMNS`.
        pictures: Image, mask and what the models say, as data URIs, of the first rows.
    """

    frame: pd.DataFrame
    pictures: tuple[str, ...] = ()


def label_errors(
    evaluations: Mapping[str, Evaluation],
    data: SegmentationData,
    *,
    split: str,
    without: Collection[str] = (),
    progress: OnStep | None = None,
) -> LabelErrors:
    """The suspicious components of test; nothing on val, whose masks chose the checkpoints and may have trained them.

    Args:
        evaluations: By trial id, all on the same images: those of labels and of fresh seeds.
        data: Source of images and masks.
        split: Of the evaluations.
        without: Trials that have no say: those that learnt nothing.
        progress: Called with how many images are done.
    """
    voters = [one for trial_id, one in evaluations.items() if trial_id != MAJORITY and trial_id not in without]
    if split != "test" or not voters:
        return LabelErrors(pd.DataFrame(columns=list(COLUMNS)))

    def masks_of(image_id: str) -> tuple[Mask, Sequence[Mask]]:
        return data.mask(image_id), [one.prediction(image_id) for one in voters]

    names = [info.name for info in data.classes]
    told = progress and functools.partial(progress, "label errors")
    frame = find_label_errors(voters[0].image_ids, masks_of, names, progress=told)
    pictures = []
    for row in frame[:PICTURED].to_dict("records"):
        mask, predictions = masks_of(row["image_id"])
        said, _ = consensus_of(predictions, len(names))
        pictures.append(_picture(data.picture(row["image_id"]), mask, said, data.classes, row))
    return LabelErrors(frame, tuple(pictures))


def _picture(image: Image, mask: Mask, said: Mask, classes: Sequence[ClassInfo], row: Mapping[Any, Any]) -> str:
    """Image, mask and what the models say around a component, its box drawn into each; a data URI."""
    box = [int(row[side]) for side in ("top", "left", "bottom", "right")]
    margin = max(LEAST_MARGIN, round(MARGIN * max(box[2] - box[0], box[3] - box[1])))
    top, left = max(0, box[0] - margin), max(0, box[1] - margin)
    part = slice(top, box[2] + margin), slice(left, box[3] + margin)
    panels = []
    for picture in (image[part], colourise(mask[part], classes), colourise(said[part], classes)):
        scale = PANEL / max(picture.shape[:2])
        size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        panel = np.asarray(Pillow.fromarray(picture).resize(size, Pillow.Resampling.NEAREST)).copy()
        inner = [round((box[0] - top) * scale), round((box[1] - left) * scale)]
        outer = [round((box[2] - top) * scale) - 1, round((box[3] - left) * scale) - 1]
        rows, columns = slice(inner[0], outer[0] + 1), slice(inner[1], outer[1] + 1)
        panel[[inner[0], outer[0]], columns] = WRONG
        panel[rows, inner[1]] = panel[rows, outer[1]] = WRONG
        panels += [panel, np.full((panel.shape[0], GAP, 3), 255, np.uint8)]
    return photo_uri(np.concatenate(panels[:-1], axis=1))
